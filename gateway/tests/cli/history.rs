//! Keys that were rolled, revoked or leaked, and `gateway audit`.

use crate::rig::Shell;
use postern_gateway::keys::{KeyDigest, Prefix, check_shape};

#[tokio::test]
async fn rolling_prints_the_new_key_alone_and_says_when_the_old_ones_end() {
    let shell = Shell::new().await;
    let old = shell
        .json("keys create --consumer demo --description billing")
        .await;
    let id = old["id"].as_str().unwrap();
    let rolled = shell.run(format!("keys roll {id} --grace 1h")).await;
    assert_eq!(rolled.code, 0, "{rolled:?}");
    let key = rolled.out.strip_suffix('\n').unwrap();
    assert_eq!(check_shape(key.as_bytes(), &Prefix::default()), Ok(()));
    assert!(!rolled.err.contains(key), "{}", rolled.err);
    assert!(
        rolled.err.contains(&format!("key {id}"))
            && rolled.err.contains("ends at 2023-11-14T23:13:20Z"),
        "{}",
        rolled.err
    );
    assert!(!shell.database_holds(key.as_bytes()));

    let shown = shell.json(format!("keys show {id}")).await;
    assert_eq!(shown["deprecated_at"], "2023-11-14T22:13:20Z");
    let successor = shown["successor"].as_str().unwrap().to_owned();
    assert_eq!(
        shell.json(format!("keys show {successor}")).await["description"],
        "billing"
    );

    let of_consumer = shell.json("keys roll --consumer demo --grace 0s").await;
    assert!(of_consumer["key"].is_string(), "{of_consumer}");
    let ended: Vec<&str> = of_consumer["ending"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["status"].as_str().unwrap())
        .collect();
    assert_eq!(ended, ["expired", "expired"]);
}

#[tokio::test]
async fn what_cannot_be_rolled_is_refused_with_a_reason() {
    let shell = Shell::new().await;
    let key = shell.json("keys create --consumer demo").await;
    let (id, plain) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
    shell.json(format!("keys disable {id}")).await;
    let messages = shell
        .refuses(&format!(
            "
        2: keys roll => <ID>
        2: keys roll {plain} => the argument contains a whole key
        1: keys roll key_0123456789abcdefghij => there is no key
        1: keys roll {id} => is disabled, and only an active key can be rolled
        1: keys roll --consumer demo => has no active key
        1: keys roll --consumer nobody => there is no consumer `nobody`
        2: keys roll {id} --grace soon => --grace
    "
        ))
        .await;
    assert!(!messages.contains(plain), "{messages}");
}

#[tokio::test]
async fn a_revoked_key_says_when_and_by_whom() {
    let shell = Shell::new().await;
    let key = shell.json("keys create --consumer demo").await;
    let id = key["id"].as_str().unwrap();
    let before = shell.json(format!("keys show {id}")).await;
    assert!(before["revoked_at"].is_null() && before["revoked_by"].is_null());
    let revoked = shell.json(format!("keys revoke {id}")).await;
    for key in [revoked, shell.json(format!("keys show {id}")).await] {
        assert_eq!(key["revoked_at"], "2023-11-14T22:13:20Z");
        assert_eq!(key["revoked_by"], "cli");
    }
    let shown = shell.run(format!("keys show {id}")).await;
    assert!(
        shown.out.contains("2023-11-14T22:13:20Z by cli\n"),
        "{shown:?}"
    );

    let leaked = shell.json("keys create --consumer demo").await;
    shell
        .run("buckets update default --leak-policy revoke")
        .await;
    let plain = leaked["key"].as_str().unwrap();
    shell.run(format!("keys report-leak {plain}")).await;
    let shown = shell
        .json(format!("keys show {}", leaked["id"].as_str().unwrap()))
        .await;
    assert_eq!(shown["revoked_by"], "cli");
}

#[tokio::test]
async fn a_leaked_key_gets_what_its_bucket_says() {
    let shell = Shell::new().await;
    for (policy, said) in [
        ("notify", "no action"),
        ("roll", "it ends at 2023-11-15T22:13:20Z"),
        ("revoke", "it is revoked"),
    ] {
        shell
            .json(format!("buckets update default --leak-policy {policy}"))
            .await;
        let key = shell.json("keys create --consumer demo").await;
        let plain = key["key"].as_str().unwrap();
        let ended = shell
            .run(format!(
                "keys report-leak {plain} --url https://example.org/1"
            ))
            .await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended.out.contains(said) && !ended.out.contains(plain),
            "{}",
            ended.out
        );
        let digest = format!("sha256:{}", KeyDigest::of(plain.as_bytes()).to_hex());
        assert_eq!(
            shell.json(format!("keys report-leak {digest}")).await["key"]["id"],
            key["id"]
        );
        let with_key = shell
            .run(format!("keys report-leak {plain} --url {plain}"))
            .await;
        assert!(
            with_key.code == 2 && !with_key.err.contains(plain),
            "{with_key:?}"
        );
        assert!(!shell.database_holds(plain.as_bytes()));
    }
    let (foreign, escaped) = (
        "sk_live/0123456789+abcdef==",
        "https://a/?sk_live%2F0123456789%2Babcdef%3d%3D",
    );
    let digest = format!("sha256:{}", KeyDigest::of(foreign.as_bytes()).to_hex());
    for key in [foreign, &digest] {
        for (option, text) in [("--url", foreign), ("--source", escaped)] {
            let ended = shell
                .run(format!("keys report-leak {key} {option} {text}"))
                .await;
            assert_eq!(ended.code, 2, "{ended:?}");
            assert!(
                ended.err.contains("without the key") && !ended.err.contains("0123456789"),
                "{ended:?}"
            );
        }
    }
    let unknown = shell.run("keys report-leak nobody's").await;
    assert_eq!(
        (unknown.code, unknown.err.as_str()),
        (1, "no matching key\n")
    );
}

#[tokio::test]
async fn the_audit_is_listed_newest_first_and_never_repeats_a_key() {
    let shell = Shell::new().await;
    let key = shell.json("keys create --consumer demo").await;
    let (id, plain) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
    shell.json(format!("keys revoke {id}")).await;
    let all = shell.json("audit").await;
    let actions: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["key.revoke", "key.create", "consumer.create"]);
    assert!(!all.to_string().contains(plain));
    assert_eq!(
        shell
            .json(format!("audit --of {id} --limit 1"))
            .await
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let table = shell.run("audit --action key.revoke").await;
    assert!(
        table.out.starts_with("NUMBER  AT")
            && table.out.contains(id)
            && table.out.lines().count() == 2,
        "{}",
        table.out
    );
    let pasted = shell.run(format!("audit --of {plain}")).await;
    assert!(
        pasted.code == 2 && !pasted.err.contains(plain),
        "{pasted:?}"
    );
}

#[tokio::test]
async fn the_audit_says_what_it_leaves_out_and_who_there_is() {
    let shell = Shell::new().await;
    let key = shell.json("keys create --consumer demo").await;
    let id = key["id"].as_str().unwrap();
    for _ in 0..30 {
        shell.run(format!("keys disable {id}")).await;
        shell.run(format!("keys enable {id}")).await;
    }
    // A consumer, a key and sixty changes.
    let first = shell.run("audit").await;
    assert_eq!(first.out.lines().count(), 51);
    let before = first.err.split_once("--before ").unwrap().1;
    let before = before.split_once('`').unwrap().0;
    assert!(first.err.contains("there are older rows"), "{first:?}");
    let rest = shell.run(format!("audit --before {before}")).await;
    assert_eq!((rest.out.lines().count(), &*rest.err), (13, ""));
    let all = shell.run("audit --all").await;
    assert_eq!((all.out.lines().count(), &*all.err), (63, ""));
    assert_eq!(
        shell.json("audit --all").await.as_array().unwrap().len(),
        62
    );
    let exact = shell.run("audit --limit 62").await;
    assert_eq!((exact.out.lines().count(), &*exact.err), (63, ""));

    shell
        .refuses(
            "
        1: audit --actor ann => known actors: cli
        2: audit --action key.revoked => key.revoke, 
        2: audit --since 1999 => such as `7d`
        2: audit --all --limit 1 => cannot be used with
    ",
        )
        .await;
    for (options, said) in [
        (
            "--of key_00000000000000000000",
            "no matching row in the audit",
        ),
        ("--since 2100-01-01", "no matching row in the audit"),
        ("--until 7d", "no matching row in the audit"),
        ("--since 7d --until 2030-01-01 --all", ""),
    ] {
        let ended = shell.run(format!("audit {options}")).await;
        assert_eq!(ended.code, 0, "{options}: {ended:?}");
        assert!(ended.err.contains(said), "{options}: {ended:?}");
    }
}
