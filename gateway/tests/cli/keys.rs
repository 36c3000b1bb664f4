//! `gateway keys …`: what is printed, where, and what is never repeated.

use crate::rig::{ClosedPipe, Shell, has_line};
use postern_gateway::cli::error::CommandError;
use postern_gateway::keys::{KeyDigest, Prefix, check_shape};
use serde_json::{Value, json};

#[tokio::test]
async fn a_key_is_printed_once_and_never_stored() {
    let shell = Shell::new().await;
    let created = shell.run("keys create --consumer demo --expires 30d").await;
    assert_eq!(created.code, 0, "{created:?}");
    // Alone on standard output, so that `KEY=$(gateway keys create …)` is a key.
    let key = created.out.strip_suffix('\n').unwrap();
    assert_eq!(check_shape(key.as_bytes(), &Prefix::default()), Ok(()));
    assert!(key.starts_with("pstn_"));
    assert!(!created.err.contains(key), "{}", created.err);
    for said in [
        "created consumer demo (csmr_",
        "of consumer demo; it expires 2023-12-14T22:13:20Z",
        "not be shown again",
    ] {
        assert!(created.err.contains(said), "{said:?} in {}", created.err);
    }

    let id = created
        .err
        .split_whitespace()
        .find(|word| word.starts_with("key_"))
        .unwrap();
    for command in [
        "keys list",
        "keys list --json",
        &format!("keys show {id}"),
        &format!("keys show {id} --json"),
        &format!("keys revoke {id}"),
    ] {
        let ended = shell.run(command).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended.out.contains(&key[..9]),
            "the hint is in {}",
            ended.out
        );
        assert!(
            !ended.out.contains(&key[9..]) && !ended.err.contains(&key[9..]),
            "{command:?}"
        );
    }
    assert!(
        shell.database_holds(KeyDigest::of(key.as_bytes()).as_bytes()),
        "else nothing was searched"
    );
    assert!(!shell.database_holds(key.as_bytes()));
    assert!(!shell.database_holds(&key.as_bytes()[9..]));
}

#[tokio::test]
async fn a_created_key_is_one_json_object_for_scripts() {
    let shell = Shell::new().await;
    let bare = shell.json("keys create --consumer demo").await;
    assert!(bare["id"].as_str().unwrap().starts_with("key_"));
    assert_eq!(
        check_shape(bare["key"].as_str().unwrap().as_bytes(), &Prefix::default()),
        Ok(())
    );
    assert_eq!(bare["consumer"], "demo");
    assert_eq!(bare["expires_at"], Value::Null);
    assert_eq!(bare["created_at"], "2023-11-14T22:13:20Z");
    assert_eq!(bare["hint"], bare["key"].as_str().unwrap()[..9]);

    let shown = shell
        .json(format!("keys show {}", bare["id"].as_str().unwrap()))
        .await;
    assert_eq!(shown.get("key"), None);

    let full = shell
        .json(
            "keys create --consumer other --expires 2030-01-31T12:00:00Z --description \
             'for CI' --scope write,read --scope read",
        )
        .await;
    assert_eq!(full["expires_at"], "2030-01-31T12:00:00Z");
    assert_eq!(full["description"], "for CI");
    assert_eq!(full["scopes"], json!(["read", "write"]));
    assert_eq!(full["status"], "active");
    assert_eq!(
        shell.json("consumers show other").await["scopes"],
        full["scopes"]
    );
}

#[tokio::test]
async fn a_consumer_is_made_for_a_key_only_when_there_is_none() {
    let shell = Shell::new().await;
    let first = shell.run("keys create --consumer demo").await;
    let second = shell.run("keys create --consumer demo").await;
    assert!(first.err.contains("created consumer demo"), "{first:?}");
    assert!(!second.err.contains("created consumer"), "{second:?}");
    let consumers = shell.json("consumers list").await;
    assert_eq!(consumers.as_array().unwrap().len(), 1);
    let by_id = shell
        .json(format!(
            "keys create --consumer {}",
            consumers[0]["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(by_id["consumer"], "demo");
    let unknown = shell
        .run("keys create --consumer csmr_00000000000000000000")
        .await;
    assert_eq!(
        (unknown.code, &*unknown.err),
        (1, "there is no consumer `csmr_00000000000000000000`\n")
    );
}

#[tokio::test]
async fn a_mistyped_consumer_is_not_made() {
    let shell = Shell::new().await;
    let create = "keys create --consumer";
    assert_eq!(shell.run(format!("{create} Acme")).await.code, 0);
    shell
        .refuses(
            "
        2: keys create --consumer acme => but there is `Acme`
        2: keys create --consumer ACME --existing-consumer => but there is `Acme`
        1: keys create --consumer acne --existing-consumer => there is no consumer `acne`
    ",
        )
        .await;
    let again = shell
        .run(format!("{create} Acme --existing-consumer"))
        .await;
    assert_eq!((again.code, again.out.is_empty()), (0, false), "{again:?}");
    assert!(again.err.contains("keep the key now"), "{again:?}");
    let consumers = shell.json("consumers list").await;
    assert_eq!(consumers.as_array().unwrap().len(), 1);
    // Who really wants both makes the other by its own command.
    assert_eq!(shell.run("consumers create acme").await.code, 0);
    assert_eq!(shell.run(format!("{create} acme")).await.code, 0);
}

#[tokio::test]
async fn a_whole_key_is_never_taken_nor_repeated() {
    let shell = Shell::new().await;
    let key = shell.run("keys create --consumer demo").await.out;
    let key = key.trim();
    for command in [
        "keys show",
        "keys revoke",
        "keys disable",
        "keys enable --json",
        "keys list --consumer",
        "keys create --consumer",
        "consumers create",
        "consumers update demo --name",
        "consumers delete",
    ] {
        let ended = shell.run(format!("{command} {key}")).await;
        assert_eq!(ended.code, 2, "{command:?}: {ended:?}");
        assert!(
            ended.err.contains("the argument contains a whole key"),
            "{command:?}: {ended:?}"
        );
        assert!(
            !ended.err.contains(&key[9..]) && !ended.out.contains(&key[9..]),
            "{command:?}: {ended:?}"
        );
    }
    let note = format!("old key {key}");
    let options = [
        format!("--description '{note}'"),
        format!("--scope {key}"),
        format!("--custom-id '{note}'"),
        format!(r#"--metadata '{{"a":"\u0070{}"}}'"#, &key[1..]),
        format!("--tag {key}=1"),
    ];
    shell.run("consumers create acme").await;
    for (command, options) in [
        ("consumers create other", &options[..]),
        ("consumers update acme", &options),
        ("keys create --consumer acme", &options[..2]),
    ] {
        for option in options {
            let ended = shell.run(format!("{command} {option}")).await;
            assert_eq!(ended.code, 2, "{command:?} {option}: {ended:?}");
            assert!(
                ended.err.starts_with("the argument contains a whole key")
                    && !ended.err.contains(&key[9..]),
                "{command:?} {option}: {ended:?}"
            );
        }
    }
    let named = shell.run(format!("buckets create '{note}'")).await;
    assert!(
        named.code == 2 && !named.err.contains(&key[9..]),
        "{named:?}"
    );
    assert!(!shell.database_holds(&key.as_bytes()[9..]));
    // Another gateway's key has another form, and is not repeated either.
    let foreign = shell.run("keys revoke sk-foreign-0123456789").await;
    assert_eq!(
        (foreign.code, &*foreign.err),
        (2, "a key id is `key_` and 20 letters and digits\n")
    );
}

#[tokio::test]
async fn a_key_is_disabled_enabled_and_finally_revoked() {
    let shell = Shell::new().await;
    let id = shell.json("keys create --consumer demo").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for (command, status) in [
        ("disable", "is disabled"),
        ("disable", "is already disabled"),
        ("enable", "is active"),
        ("revoke", "is revoked"),
        ("revoke", "is already revoked"),
    ] {
        let ended = shell.run(format!("keys {command} {id}")).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.out.trim_end().ends_with(status), "{ended:?}");
    }
    let enabled = shell.run(format!("keys enable {id}")).await;
    assert_eq!(enabled.code, 1);
    assert_eq!(
        enabled.err,
        format!("key {id} is revoked, which is final; create a new key instead\n")
    );
    assert_eq!(
        shell.json(format!("keys show {id}")).await["status"],
        "revoked"
    );

    let unknown = shell.run("keys revoke key_00000000000000000000").await;
    assert_eq!(
        (unknown.code, &*unknown.err),
        (1, "there is no key key_00000000000000000000\n")
    );
}

#[tokio::test]
async fn keys_are_listed_for_people_and_for_scripts() {
    let shell = Shell::new().await;
    let empty = shell.run("keys list").await;
    assert_eq!(
        empty.out,
        "ID  CONSUMER  HINT  STATUS  EXPIRES  LAST USED  CREATED  DESCRIPTION\n"
    );
    assert_eq!(shell.json("keys list").await, json!([]));
    for consumer in ["a", "a long name", "a"] {
        shell
            .run(format!("keys create --consumer '{consumer}'"))
            .await;
    }
    let listed = shell.run("keys list").await;
    let lines: Vec<&str> = listed.out.lines().collect();
    assert_eq!(lines.len(), 4);
    let column = lines[0].find("STATUS").unwrap();
    assert!(
        lines[1..]
            .iter()
            .all(|line| line[column..].starts_with("active")),
        "{}",
        listed.out
    );
    assert_eq!(
        shell
            .json("keys list --consumer a")
            .await
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let nobody = shell.run("keys list --consumer nobody").await;
    assert_eq!(
        (nobody.code, &*nobody.err),
        (1, "there is no consumer `nobody`\n")
    );
}

#[tokio::test]
async fn keys_are_listed_by_status_age_and_end() {
    let shell = Shell::new().await;
    let mut ids = Vec::new();
    for expires in ["1d", "60d", "2050-01-01"] {
        let key = shell
            .json(format!("keys create --consumer a --expires {expires}"))
            .await;
        ids.push(key["id"].as_str().unwrap().to_owned());
    }
    shell.run(format!("keys disable {}", ids[1])).await;
    let whole = shell.json("keys create --consumer b").await;
    ids.push(whole["id"].as_str().unwrap().to_owned());
    let hint = &whole["hint"].as_str().unwrap()[..9];
    for (options, found) in [
        ("--ending-within 30d", &[0][..]),
        ("--ending-within 90d", &[0, 1]),
        ("--ending-within 2050-01-02", &[0, 1, 2]),
        ("--status disabled", &[1]),
        ("--status active --consumer a", &[0, 2]),
        ("--unused-for 90d", &[]),
        ("--last-used-before 2030-01-01", &[0, 1, 2, 3]),
        ("--created-since 1d", &[0, 1, 2, 3]),
        ("--created-until 1d", &[]),
        (&format!("--hint {hint}"), &[3]),
    ] {
        let listed = shell.json(format!("keys list {options}")).await;
        let listed: Vec<&str> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["id"].as_str().unwrap())
            .collect();
        let mut wanted: Vec<&str> = found.iter().map(|index| &*ids[*index]).collect();
        let mut listed = listed;
        // All were made at the same moment.
        listed.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(listed, wanted, "{options}");
    }
    let plain = whole["key"].as_str().unwrap();
    for options in [
        &format!("--hint {plain}"),
        "--status good",
        "--ending-within soon",
    ] {
        let ended = shell.run(format!("keys list {options}")).await;
        assert!(
            ended.code == 2 && !ended.err.contains(plain),
            "{options}: {ended:?}"
        );
    }
}

#[tokio::test]
async fn a_closed_pipe_ends_a_list_quietly_but_not_the_making_of_a_key() {
    let shell = Shell::new().await;
    shell.run("keys create --consumer demo").await;
    let mut err = Vec::new();
    for command in ["keys list", "consumers list"] {
        shell
            .run_into(command, &mut ClosedPipe, &mut err)
            .await
            .unwrap();
    }
    match shell
        .run_into("keys create --consumer demo", &mut ClosedPipe, &mut err)
        .await
    {
        Err(error @ CommandError::Unprinted { .. }) => assert_eq!(error.exit_code(), 1),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_key_may_be_used_for_less_than_its_consumer() {
    let shell = Shell::new().await;
    let create = "keys create --consumer acme --allow-ip 10.0.0.0/8,::1 --allow-method \
        POST,GET --allow-method PUT --allow-route orders --allow-route \
        'of, two words'";
    let key = shell.json(create).await;
    let id = key["id"].as_str().unwrap();
    assert_eq!(key["allowed_ips"], json!(["10.0.0.0/8", "::1"]));
    assert_eq!(key["allowed_methods"], json!(["GET", "POST", "PUT"]));
    assert_eq!(key["allowed_routes"], json!(["of, two words", "orders"]));
    assert_eq!(key["unknown_routes"], json!(["of, two words"]));
    let ran = shell.run(format!("keys show {id}")).await;
    for line in [
        "allowed from 10.0.0.0/8 ::1",
        "methods GET POST PUT",
        "routes of, two words, orders",
    ] {
        assert!(has_line(&ran.out, line), "{line}: {}", ran.out);
    }
    assert!(
        ran.err
            .contains("no route of these settings is named: of, two words"),
        "{}",
        ran.err
    );
    let ran = shell
        .run(format!(
            "keys update {id} --allow-route orders --allow-any-method --allow-any-ip"
        ))
        .await;
    for line in [
        "allowed from any address of the consumer's",
        "methods any",
        "routes orders",
    ] {
        assert!(has_line(&ran.out, line), "{line}: {}", ran.out);
    }
    assert!(!ran.err.contains("no route"), "{}", ran.err);
    let free = shell
        .json(format!("keys update {id} --allow-any-route"))
        .await;
    assert_eq!(free["allowed_routes"], json!([]));
    assert!(free.get("unknown_routes").is_none(), "{free}");
    for (option, value, said) in [
        ("--allow-method", "TRACE", "an allowed method is GET, HEAD"),
        ("--allow-method", "get", "an allowed method is GET, HEAD"),
        ("--allow-method", "", "an allowed method is GET, HEAD"),
        ("--allow-ip", "", "an allowed range is"),
        ("--allow-ip", "10.0.0.0/33", "an allowed range is"),
        ("--allow-route", "", "the name of a route is"),
        ("--allow-route", " orders", "the name of a route is"),
        ("--allow-route", "a\"b", "the name of a route is"),
    ] {
        for command in ["keys create --consumer acme", &format!("keys update {id}")] {
            let ran = shell.run(format!("{command} {option} '{value}'")).await;
            assert_eq!(ran.code, 2, "{option} {value}");
            assert!(ran.err.contains(said), "{option} {value}: {}", ran.err);
        }
    }
}
