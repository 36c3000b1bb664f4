//! `gateway plans …`

use std::fs;

use crate::rig::{Shell, has_line};
use serde_json::{Value, json};

#[tokio::test]
async fn a_plan_is_made_given_changed_and_deleted() {
    let shell = Shell::new().await;
    let gold = "plans create gold --description paying --scope read,write --limit \
        burst=500/1m --quota monthly=5000 --max-in-flight 20 --default-key-lifetime \
        90d --max-key-lifetime 365d";
    let plan = shell.json(gold).await;
    assert_eq!(plan["scopes"], json!(["read", "write"]));
    assert_eq!(plan["default_key_lifetime_seconds"], 90 * 86_400);
    shell.json("consumers create acme --plan gold").await;
    let shown = shell.run("plans show gold").await.out;
    for line in [
        "limits burst=500/1m",
        "keys live 90d",
        "at longest 365d",
        "consumers 1",
    ] {
        assert!(has_line(&shown, line), "{line}: {shown}");
    }
    let listed = shell.run("plans list").await.out;
    assert!(
        listed.contains("gold  read write  burst=500/1m"),
        "{listed}"
    );
    // The plan grants the scope to the key.
    shell
        .json("keys create --consumer acme --scope write")
        .await;
    let update = "plans update gold --no-scopes --no-limits --no-max-key-lifetime --description ''";
    let after = shell.json(update).await;
    assert_eq!(
        (&after["scopes"], &after["limits"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(
        (&after["max_key_lifetime_seconds"], &after["description"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(after["max_in_flight"], 20, "what is not named stays");
    shell
        .refuses(
            "
        1: plans create gold => already
        2: plans create 'a b' => the name of a plan is
        1: plans show none => there is no plan `none`
        1: plans update none --no-scopes => there is no plan `none`
        1: plans delete gold => in use by 1 consumer;
        1: plans update gold --max-key-lifetime 89d => above the longest
        2: plans update gold --max-key-lifetime 0s => a second to 36500 days
        1: consumers create b --plan none => there is no plan `none`
        1: keys create --consumer acme --scope write => does not have the scope `write`
    ",
        )
        .await;
    // What is listed is imported as it was, and a plan that differs is not changed.
    let listed = shell.run("plans list --json").await.out;
    let file = shell.directory.path().join("plans.json");
    fs::write(&file, &listed).unwrap();
    let file = file.to_str().unwrap();
    let other = Shell::new().await;
    let import = &format!("plans import {file}");
    assert_eq!(
        other.json(&import).await,
        json!({ "added": 1, "already": 0 })
    );
    let again = other.run(&import).await;
    assert_eq!(
        (again.code, again.out.as_str()),
        (0, "read 1 plans: added 0, 1 there already\n")
    );
    let plain = |mut plans: Value| {
        for plan in plans.as_array_mut().unwrap() {
            plan["created_at"] = json!(null);
            plan["updated_at"] = json!(null);
        }
        plans
    };
    let (here, there) = (
        shell.json("plans list").await,
        other.json("plans list").await,
    );
    assert_eq!(plain(here), plain(there));
    other.json("plans update gold --max-in-flight 21").await;
    let refused = other.run(&import).await;
    assert!(
        refused.code == 1
            && refused
                .err
                .contains("`gold` is there with other attributes"),
        "{refused:?}"
    );
    fs::write(
        file,
        r#"[{"name":"a","limits":[{"name":"b","limit":0}]},{"name":""}]"#,
    )
    .unwrap();
    let refused = other.run(&import).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.err.contains("plan 1: `limits/0/limit`") && refused.err.contains("plan 2: `name`"),
        "{refused:?}"
    );
    let missing = other.run("plans import /nowhere").await;
    assert!(
        missing.code != 0 && missing.err.contains("nothing was imported"),
        "{missing:?}"
    );
    let acme = shell.json("consumers update acme --plan ''").await;
    assert_eq!(acme["plan"], json!(null));
    let deleted = shell.run("plans delete gold").await;
    assert_eq!(
        (deleted.code, deleted.out.as_str()),
        (0, "deleted plan gold\n")
    );
    assert_eq!(shell.json("plans list").await, json!([]));
}
