//! `gateway buckets …`, and the option `--bucket`.

use crate::rig::{NOW, Shell, has_line};
use postern_gateway::keys::UnixMillis;
use serde_json::{Value, json};

#[tokio::test]
async fn a_bucket_says_how_long_keys_live_and_a_key_is_changed_within() {
    let shell = Shell::new().await;
    let create = "buckets create partners --default-key-lifetime 90d --max-key-lifetime 365d \
        --max-live-keys 1 --unused-after 60d --unused-action disable";
    let bucket = shell.json(create).await;
    assert_eq!(
        (
            &bucket["default_key_lifetime_seconds"],
            &bucket["max_live_keys"],
            &bucket["unused_action"]
        ),
        (&json!(90 * 86_400), &json!(1), &json!("disable"))
    );
    let shown = shell.run("buckets show partners").await.out;
    for line in [
        "keys live 90d",
        "at longest 365d",
        "most live keys 1",
        "unused keys disable after 60d",
    ] {
        assert!(has_line(&shown, line), "{line}: {shown}");
    }
    let new = "keys create --consumer acme --bucket partners --exempt-from-unused";
    let key = shell.json(new).await;
    assert_eq!(
        key["expires_at"],
        UnixMillis(NOW.0 + 90 * 86_400_000).to_string()
    );
    assert_eq!(key["exempt_from_unused"], true);
    let id = key["id"].as_str().unwrap();
    let changed = shell
        .json(format!(
            "keys update {id} --expires 365d --description billing --limit burst=5/1m \
             --exempt-from-unused false"
        ))
        .await;
    assert_eq!(
        changed["expires_at"],
        UnixMillis(NOW.0 + 365 * 86_400_000).to_string()
    );
    assert_eq!(
        (&changed["description"], &changed["exempt_from_unused"]),
        (&json!("billing"), &json!(false))
    );
    assert_eq!(
        changed["limits"],
        json!([{ "name": "burst", "limit": 5, "window": "1m" }])
    );
    let shown = shell
        .run(format!(
            "keys update {id} --no-limits --description '' --exempt-from-unused"
        ))
        .await
        .out;
    assert!(
        shown.contains("for any time") && !shown.contains("billing"),
        "{shown}"
    );
    shell
        .refuses(&format!(
            "
        1: keys update {id} --expires 366d => lives at most 365d
        1: keys update {id} --expires never => lives at most 365d
        2: keys update {id} --expires soon => write a duration
        1: keys update {id} --scope admin => does not have the scope
        1: keys create --consumer acme --bucket partners => has 1 live keys, the most
        1: keys create --consumer b --bucket partners --expires never => lives at most 365d
        1: buckets update partners --max-key-lifetime 89d => above the longest
        2: buckets update partners --unused-action delete => `report` or `disable`
        2: buckets update partners --max-live-keys 0 => from 1 to 100000
    "
        ))
        .await;
    let free = "buckets update partners --no-default-key-lifetime --no-max-key-lifetime \
        --no-max-live-keys --no-unused-after";
    let bucket = shell.json(free).await;
    assert_eq!(
        (
            &bucket["max_key_lifetime_seconds"],
            &bucket["unused_after_seconds"]
        ),
        (&json!(null), &json!(null))
    );
    assert_eq!(
        bucket["unused_action"], "disable",
        "what is not named stays"
    );
    let never = "keys create --consumer acme --bucket partners --expires never";
    assert_eq!(shell.json(never).await["expires_at"], json!(null));
}

#[tokio::test]
async fn a_name_is_meant_in_its_bucket() {
    let shell = Shell::new().await;
    let made = shell
        .json("buckets create second --leak-policy roll --leak-grace 2h")
        .await;
    assert_eq!(
        (&made["leak_policy"], &made["leak_grace_seconds"]),
        (&"roll".into(), &7_200.into())
    );
    let listed = shell.json("buckets list").await;
    let names: Vec<&Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|bucket| &bucket["name"])
        .collect();
    assert_eq!(names, ["default", "second"]);
    let here = shell.json("consumers create acme").await;
    let there = shell.json("consumers create acme --bucket second").await;
    let key = shell
        .json("keys create --consumer acme --bucket second")
        .await;
    assert_eq!(
        (&key["consumer_id"], &key["bucket"]),
        (&there["id"], &"second".into())
    );
    assert_eq!(shell.json("keys list --consumer acme").await, json!([]));
    assert_eq!(
        shell
            .json("keys list --consumer acme --bucket second")
            .await[0]["id"],
        key["id"]
    );
    assert_eq!(
        shell.json("consumers list --bucket second").await,
        json!([there])
    );
    assert_eq!(shell.json("consumers delete acme").await["id"], here["id"]);
    let rolled = shell
        .json("keys roll --consumer acme --bucket second")
        .await;
    assert_eq!(rolled["ending"][0]["id"], key["id"]);
    for (arguments, err) in [
        (
            "consumers list --bucket third",
            "there is no bucket `third`\n",
        ),
        ("buckets show third", "there is no bucket `third`\n"),
        (
            "buckets update third --leak-policy revoke",
            "there is no bucket `third`\n",
        ),
        ("buckets create second", "the name is already taken\n"),
    ] {
        let ended = shell.run(arguments).await;
        assert_eq!((ended.code, ended.err.as_str()), (1, err), "{arguments:?}");
    }
    let plain = key["key"].as_str().unwrap();
    for arguments in [
        &format!("buckets create {plain}"),
        &format!("consumers list --bucket {plain}"),
    ] {
        let ended = shell.run(arguments).await;
        assert_eq!(ended.code, 2);
        assert!(
            ended.err.starts_with("the argument contains a whole key;")
                && !ended.err.contains(plain),
            "{}",
            ended.err
        );
    }
}
