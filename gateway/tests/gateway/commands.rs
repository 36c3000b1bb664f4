//! The commands that make secrets and keys, as scripts use them.

use crate::rig::{database, gateway, make_store};

#[test]
fn a_new_secret_is_fit_to_be_one_and_never_the_same() {
    let make = || {
        String::from_utf8(gateway(std::path::Path::new("/"), &[], &["secret", "new"]).stdout)
            .unwrap()
    };
    let (one, other) = (make(), make());
    assert_ne!(one, other);
    for secret in [one, other] {
        assert!(secret.ends_with('\n') && postern_shared::Secret::parse(secret.trim_end()).is_ok());
    }
}

#[test]
fn a_key_is_printed_once_as_one_object_and_stored_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let store = database(directory.path());
    make_store(directory.path());
    let run =
        |arguments: &[&str]| gateway(directory.path(), &[("DATABASE_URL", &store)], arguments);

    let output = run(&[
        "keys",
        "create",
        "--consumer",
        "acme",
        "--expires",
        "30d",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("created consumer"),
        "nothing says that the consumer was made: {output:?}"
    );
    let created: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let key = created["key"].as_str().unwrap();
    assert!(
        key.starts_with("pstn_") && key.len() == "pstn_".len() + 38,
        "{key}"
    );
    assert!(created["id"].as_str().unwrap().starts_with("key_"));
    assert_eq!(created["consumer"], "acme");
    assert!(created["expires_at"].as_str().unwrap().ends_with('Z'));

    let again = run(&["keys", "create", "--consumer", "acme", "--json"]);
    assert!(
        !String::from_utf8_lossy(&again.stderr).contains("created consumer"),
        "{again:?}"
    );
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&again.stdout).unwrap()["expires_at"],
        serde_json::Value::Null
    );

    for arguments in [
        &["keys", "list", "--json"][..],
        &["keys", "list"],
        &["keys", "show", created["id"].as_str().unwrap()],
    ] {
        let listed = run(arguments);
        assert!(listed.status.success(), "{listed:?}");
        let text = String::from_utf8(listed.stdout).unwrap();
        assert!(
            !text.contains(key) && text.contains(created["id"].as_str().unwrap()),
            "{arguments:?}: {text}"
        );
    }
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        let random = &key.as_bytes()["pstn_".len()..];
        assert!(
            !content.windows(random.len()).any(|window| window == random),
            "the key is on disk"
        );
    }
}

#[test]
fn the_prefix_of_new_keys_is_a_setting() {
    let directory = tempfile::tempdir().unwrap();
    let store = database(directory.path());
    make_store(directory.path());
    let output = gateway(
        directory.path(),
        &[("DATABASE_URL", &store), ("GATEWAY__KEYS__PREFIX", "acme")],
        &["keys", "create", "--consumer", "a"],
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("acme_"),
        "{output:?}"
    );
}

#[test]
fn what_is_not_there_is_exit_1_and_a_key_is_never_echoed() {
    let directory = tempfile::tempdir().unwrap();
    let store = database(directory.path());
    make_store(directory.path());
    let run =
        |arguments: &[&str]| gateway(directory.path(), &[("DATABASE_URL", &store)], arguments);
    for arguments in [
        &["keys", "show", "key_00000000000000000000"][..],
        &["keys", "revoke", "key_00000000000000000000"],
        &["consumers", "show", "nobody"],
        &["consumers", "delete", "nobody"],
    ] {
        let output = run(arguments);
        assert_eq!(
            (output.status.code(), output.stdout.is_empty()),
            (Some(1), true),
            "{arguments:?}: {output:?}"
        );
    }
    let created: serde_json::Value =
        serde_json::from_slice(&run(&["keys", "create", "--consumer", "a", "--json"]).stdout)
            .unwrap();
    let key = created["key"].as_str().unwrap();
    let output = run(&["keys", "revoke", key]);
    assert!(
        !output.status.success() && !String::from_utf8_lossy(&output.stderr).contains(key),
        "{output:?}"
    );
}

#[test]
fn a_leaked_key_is_logged_by_the_command_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = database(directory.path());
    make_store(directory.path());
    let run =
        |arguments: &[&str]| gateway(directory.path(), &[("DATABASE_URL", &store)], arguments);
    let created = run(&["keys", "create", "--consumer", "acme", "--json"]);
    let created: serde_json::Value = serde_json::from_slice(&created.stdout).unwrap();
    let (id, key) = (
        created["id"].as_str().unwrap(),
        created["key"].as_str().unwrap(),
    );
    let place = "https://example.org/commit/1";
    let reported = run(&["keys", "report-leak", key, "--url", place]);
    assert!(reported.status.success(), "{reported:?}");
    let log = String::from_utf8(reported.stderr).unwrap();
    for told in [
        "WARN",
        id,
        "\"acme\"",
        place,
        "no action, by the policy of its bucket",
    ] {
        assert!(log.contains(told), "{told} is not in {log}");
    }
    assert!(!log.contains(key), "{log}");
    let unknown = run(&["keys", "report-leak", "nobody's"]);
    assert!(
        !String::from_utf8_lossy(&unknown.stderr).contains("WARN"),
        "{unknown:?}"
    );
}

/// What an option takes is said in one way: `--help` has the words with which a wrong value is refused.
#[test]
fn help_says_what_is_accepted_in_the_words_of_the_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let store = database(directory.path());
    make_store(directory.path());
    let run = |arguments: &[&str]| {
        let output = gateway(directory.path(), &[("DATABASE_URL", &store)], arguments);
        let text = [output.stdout, output.stderr].concat();
        // Words alone: neither how they are quoted nor where their lines end.
        let text = String::from_utf8(text).unwrap().replace('`', "");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let long = "x".repeat(2000);
    for (command, arguments, before) in [
        (["consumers", "create"], &["é"][..], "a consumer name is "),
        (["buckets", "create"], &["é"], "a bucket name is "),
        (
            ["consumers", "create"],
            &["a", "--custom-id", "é"],
            "a custom id is ",
        ),
        (
            ["consumers", "create"],
            &["a", "--description", &long],
            "a description has ",
        ),
        (
            ["consumers", "create"],
            &["a", "--metadata", "[]"],
            "metadata is ",
        ),
        (
            ["consumers", "create"],
            &["a", "--scope", "é"],
            "a scope is ",
        ),
        (
            ["consumers", "create"],
            &["a", "--allow-ip", "é"],
            "an allowed range is ",
        ),
        (["consumers", "create"], &["a", "--tag", "é"], "a tag is "),
        (
            ["keys", "create"],
            &["--consumer", "a", "--description", &long],
            "a description has ",
        ),
        (
            ["keys", "create"],
            &["--consumer", "a", "--scope", "é"],
            "a scope is ",
        ),
        (
            ["keys", "create"],
            &["--consumer", "a", "--expires", "soon"],
            "write ",
        ),
        (["keys", "roll"], &["key_", "--grace", "soon"], "write "),
        (
            ["keys", "revoke"],
            &["key_", "--wait", "--timeout", "soon"],
            "write ",
        ),
        (
            ["buckets", "create"],
            &["a", "--leak-grace", "soon"],
            "write ",
        ),
    ] {
        let help = run(&[&command[..], &["--help"]].concat());
        let refused = run(&[&command[..], arguments].concat());
        let accepted = refused
            .split_once(before)
            .unwrap_or_else(|| panic!("{refused}"))
            .1;
        let accepted = accepted
            .split(" For more information")
            .next()
            .unwrap()
            .trim();
        assert!(
            help.to_lowercase().contains(&accepted.to_lowercase()),
            "{command:?} {before:?}: {accepted:?} is not in the help: {help}"
        );
    }
}

#[test]
fn only_the_gateway_and_an_import_make_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data/gateway.db");
    let run = |arguments: &[&str]| gateway(directory.path(), &[], arguments);
    let id = "key_00000000000000000000";
    let commands = [
        &["keys", "create", "--consumer", "demo"][..],
        &["keys", "list"],
        &["keys", "show", id],
        &["keys", "revoke", id],
        &["keys", "roll", id],
        &["keys", "disable", id],
        &["keys", "enable", id],
        &["keys", "report-leak"],
        &["consumers", "create", "demo"],
        &["consumers", "list"],
        &["buckets", "create", "partners"],
        &["buckets", "list"],
        &["audit"],
        &["gateways"],
        &["usage"],
        &["export"],
    ];
    let refused = |because: &str| {
        for arguments in commands {
            let output = run(arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.code() == Some(1)
                    && output.stdout.is_empty()
                    && said.contains(&file.display().to_string())
                    && said.contains("is DATABASE_URL set as for the gateway?"),
                "{because}: {arguments:?}: {output:?}"
            );
        }
    };
    refused("there is no folder");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    std::fs::create_dir(directory.path().join("data")).unwrap();
    refused("there is no file");
    std::fs::write(&file, "").unwrap();
    refused("the file is empty");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 0);

    assert!(
        run(&["import", "--format", "jsonl", "/dev/null"])
            .status
            .success()
    );
    assert!(
        run(&["keys", "create", "--consumer", "demo"])
            .status
            .success()
    );
}
