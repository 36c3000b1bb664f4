//! `gateway consumers …`, and arguments that are refused.

use crate::rig::{Shell, has_line};
use serde_json::{Value, json};

#[tokio::test]
async fn a_consumer_is_made_shown_changed_and_deleted() {
    let shell = Shell::new().await;
    let made = shell
        .json(
            "consumers create acme --custom-id 42 --description 'a note' --metadata \
             '{\"plan\": \"gold\"}' --scope read --tag org=acme",
        )
        .await;
    assert_eq!(made["metadata"], json!({"plan": "gold"}));
    assert_eq!(made["tags"], json!({"org": "acme"}));
    let id = made["id"].as_str().unwrap();
    for which in ["acme", id] {
        assert_eq!(shell.json(format!("consumers show {which}")).await, made);
    }
    let shown = shell.run("consumers show acme").await;
    for (label, value) in [
        ("custom id", "42"),
        ("allowed from", "anywhere"),
        ("keys", "0"),
    ] {
        let line = shown
            .out
            .lines()
            .find_map(|line| line.strip_prefix(label))
            .unwrap_or_else(|| panic!("{label}: {}", shown.out));
        assert_eq!(line.trim_start(), value, "{label}");
    }

    let changed = shell
        .json("consumers update acme --name 'acme 2' --custom-id '' --no-scopes --tag a=b")
        .await;
    assert_eq!(changed["name"], "acme 2");
    assert_eq!(changed["custom_id"], Value::Null);
    assert_eq!(changed["scopes"], json!([]));
    assert_eq!(changed["tags"], json!({"a": "b"}));
    assert_eq!(changed["description"], "a note");

    shell.run("keys create --consumer 'acme 2'").await;
    let deleted = shell.run("consumers delete 'acme 2'").await;
    assert_eq!(
        deleted.out,
        format!("deleted consumer acme 2 ({id}) and its 1 key\n")
    );
    assert_eq!(shell.json("keys list").await, json!([]));
    assert_eq!(shell.run("consumers delete 'acme 2'").await.code, 1);
}

#[tokio::test]
async fn numbers_of_consumers_and_keys_are_given_shown_and_removed() {
    let shell = Shell::new().await;
    let acme = "consumers create acme --limit burst=500/1m --limit search=unlimited --quota \
        monthly=5000000/month@15 --max-in-flight 20";
    let consumer = shell.json(acme).await;
    assert_eq!(
        consumer["limits"],
        json!([{ "name": "burst", "limit": 500, "window": "1m" }, { "name": "search", "limit": null }])
    );
    assert_eq!(
        consumer["quotas"],
        json!([{ "name": "monthly", "limit": 5_000_000, "period": "month", "anchor": 15 }])
    );
    assert_eq!(consumer["max_in_flight"], 20);
    let shown = shell.run("consumers show acme").await.out;
    for line in [
        "limits burst=500/1m search=unlimited",
        "quotas monthly=5000000/month@15",
        "in flight 20",
    ] {
        assert!(has_line(&shown, line), "{line}: {shown}");
    }
    let narrow =
        "keys create --consumer acme --limit burst=50/1m --quota monthly=50 --max-in-flight 2";
    let key = shell.json(narrow).await;
    assert_eq!(key["max_in_flight"], 2);
    let id = key["id"].as_str().unwrap();
    let shown = shell.run(format!("keys show {id}")).await.out;
    assert!(has_line(&shown, "limits burst=50/1m"), "{shown}");
    shell
        .refuses(
            "
        1: keys create --consumer acme --limit burst=501/1m => `burst` in `limits`
        1: keys create --consumer acme --max-in-flight 21 => `max_in_flight`
        2: keys create --consumer acme --limit burst=0/1m => from 1 to
        2: keys create --consumer acme --limit burst=5/2d => from `1s` to `1d`
        2: keys create --consumer acme --quota monthly=5/minute => a period is one of
        2: keys create --consumer acme --max-in-flight 0 => from 1 to
    ",
        )
        .await;
    let twice = "consumers update acme --limit a=1 --limit a=2";
    let ended = shell.run(twice).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    let after = shell.json("consumers update acme --limit burst=9/1s").await;
    assert_eq!(
        after["limits"],
        json!([{ "name": "burst", "limit": 9, "window": "1s" }])
    );
    assert_eq!(after["max_in_flight"], 20, "what is not named stays");
    let removed = "consumers update acme --no-limits --no-quotas --no-max-in-flight";
    let after = shell.json(removed).await;
    assert_eq!(
        (&after["limits"], &after["quotas"], &after["max_in_flight"]),
        (&json!([]), &json!([]), &json!(null))
    );
}

#[tokio::test]
async fn bad_arguments_end_with_2_and_refusals_with_1() {
    let shell = Shell::new().await;
    shell
        .run("consumers create acme --custom-id 42 --scope read")
        .await;
    let lines = shell.run("consumers create 'two\nlines'").await;
    assert_eq!(lines.code, 2, "{lines:?}");
    assert!(lines.err.contains("consumer name"), "{lines:?}");
    let long = "x".repeat(129);
    shell
        .refuses(&format!(
            "
        2: consumers create '' => consumer name
        2: consumers create {long} => consumer name
        2: consumers create b --metadata [] => JSON object
        2: consumers create b --scope 'a b' => a scope is
        2: consumers create b --tag plan => a tag is
        1: consumers create acme => the name is already taken
        1: consumers create b --custom-id 42 => the custom id is already taken
        2: keys create => --consumer
        2: keys create --consumer acme --expires soon => such as `7d`
        2: keys create --consumer acme --expires 2001-01-01T00:00:00Z => in the future
        2: keys create --consumer acme --expires 9999-12-31T23:59:59-23:59 => before the year 10000
        2: keys roll --consumer acme --grace 10000y => before the year 10000
        1: keys create --consumer acme --scope admin => does not have the scope `admin`
    "
        ))
        .await;
    assert_eq!(shell.json("keys list").await, json!([]));
}
