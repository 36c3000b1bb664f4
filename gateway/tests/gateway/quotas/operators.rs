//! Quotas as operators set, see and change them.

use super::*;

#[test]
fn the_command_line_shows_and_changes_what_is_used() {
    const TOKEN: &str = "quotas-71c9e05d3fa8b264";
    let origin = origin();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), yearly(5)).unwrap();
    let process = Process::start(directory, &origin.url(), &[("ADMIN_TOKEN", TOKEN)]);
    let key = process.key("acme");
    let passes = || {
        (0..20)
            .take_while(|_| get(process.public, "/", &[&key]).status == 200)
            .count()
    };
    assert_eq!(passes(), 5);
    eventually("the store has them", || {
        stored(process.directory.path())
            .first()
            .is_some_and(|row| row.1 == 5)
    });
    let url = format!("http://{}", process.admin);
    let store = database(process.directory.path());
    let run = |arguments: &str, more: &[&str]| {
        let variables = [
            ("ADMIN_TOKEN", TOKEN),
            ("ADMIN_URL", &*url),
            ("DATABASE_URL", &*store),
        ];
        let arguments: Vec<&str> = arguments.split(' ').chain(more.iter().copied()).collect();
        let output = gateway(process.directory.path(), &variables, &arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    // Used and left; the gateway follows a change within a second.
    for (arguments, used, left) in [
        ("show --consumer acme", "5", "0"),
        (
            "adjust --consumer acme --name yearly --by -2 --reason outage",
            "3",
            "2",
        ),
        ("reset --consumer acme --name yearly", "0", "5"),
        (
            "adjust --consumer acme --name yearly --by 4 --reason imported",
            "4",
            "1",
        ),
    ] {
        let (code, shown, refused) = run(&format!("quotas {arguments}"), &[]);
        assert_eq!(code, Some(0), "{arguments}: {refused}");
        let rows: Vec<Vec<&str>> = shown
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[0],
            ["NAME", "LIMIT", "USED", "LEFT", "SINCE", "UNTIL"],
            "{shown}"
        );
        assert_eq!(rows[1][..4], ["yearly", "5", used, left], "{shown}");
    }
    eventually("the gateway knows", || {
        let (_, shown, _) = run("quotas show --consumer acme --json", &[]);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        shown["data"][0]["used"] == 4
    });
    assert_eq!(passes(), 1);
    let (_, audit, _) = run("audit --json", &[]);
    for part in ["quota.adjust", "quota.reset", "outage", "imported"] {
        assert!(audit.contains(part), "{part}: {audit}");
    }
    let secret = key.rsplit(' ').next().unwrap();
    let change = "quotas adjust --consumer acme --by 1 --name";
    for (arguments, more, code, said) in [
        (
            "quotas show --consumer nobody",
            &[][..],
            1,
            "there is no consumer nobody",
        ),
        ("quotas show --consumer", &[secret], 1, "a whole key"),
        (
            change,
            &["other", "--reason", "x"],
            1,
            "The consumer has no quota `other`.",
        ),
        (change, &["yearly", "--reason", secret], 1, "a whole key"),
        (change, &["yearly"], 2, "--reason"),
        (change, &["Yearly", "--reason", "x"], 2, "lower-case"),
    ] {
        let (exit, _, refused) = run(arguments, more);
        assert_eq!(exit, Some(code), "{arguments} {more:?}: {refused}");
        assert!(refused.contains(said), "{arguments} {more:?}: {refused}");
        assert!(!refused.contains(secret), "{refused}");
    }
}

/// No quota is in the settings, and no request comes.
#[test]
fn a_quota_of_a_consumer_alone_follows_the_store_and_outlives_the_gateway() {
    const TOKEN: &str = "quotas-own-264b71c9e05d3fa8";
    let origin = origin();
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory, &origin.url(), &[("ADMIN_TOKEN", TOKEN)]);
    let key = process.key("acme");
    let quotas = |process: &Process, arguments: &[&str]| -> i64 {
        let url = format!("http://{}", process.admin);
        let store = database(process.directory.path());
        let variables = [
            ("ADMIN_TOKEN", TOKEN),
            ("ADMIN_URL", &*url),
            ("DATABASE_URL", &*store),
        ];
        let whose = ["--consumer", "acme", "--json"];
        let arguments = [&["quotas"], arguments, &whose].concat();
        let output = gateway(process.directory.path(), &variables, &arguments);
        assert!(output.status.success(), "{output:?}");
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let of_list = shown["data"][0]["used"].as_i64();
        of_list.or(shown["used"].as_i64()).unwrap()
    };
    let own = ["consumers", "update", "acme", "--quota", "mine=3/lifetime"];
    let store = database(process.directory.path());
    let updated = gateway(process.directory.path(), &[("DATABASE_URL", &store)], &own);
    assert!(updated.status.success(), "{updated:?}");
    let passes = |process: &Process| {
        (0..20)
            .take_while(|_| get(process.public, "/", &[&key]).status == 200)
            .count()
    };
    assert_eq!(passes(&process), 3);
    eventually("the store has them", || {
        stored(process.directory.path())
            .first()
            .is_some_and(|row| row.1 == 3)
    });
    let adjusted = ["adjust", "--name", "mine", "--by=-2", "--reason", "outage"];
    assert_eq!(quotas(&process, &adjusted), 1);
    eventually("the gateway follows", || quotas(&process, &["show"]) == 1);
    assert_eq!(passes(&process), 2);
    eventually("the store has these", || {
        stored(process.directory.path())
            .first()
            .is_some_and(|row| row.1 == 3)
    });
    let process = Process::start(process.kill(), &origin.url(), &[("ADMIN_TOKEN", TOKEN)]);
    assert_eq!(passes(&process), 0);
}

#[test]
fn bad_quotas_are_refused_all_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[[quotas]]\nname = \"Monthly\"\nby = \"address\"\nlimit = 0\nperiod = \"month\"\nanchor = 32\ntime_zone = \"Mars/Olympus\"\ncount_statuses = [\"200\"]\n\
                [[quotas]]\nname = \"a\"\nby = \"key\"\nlimit = 1\nperiod = \"week\"\nanchor = 3\n\
                [[quotas]]\nname = \"b\"\nby = \"key\"\nlimit = 1\nperiod = \"day\"\n\
                [[quotas]]\nname = \"b\"\nby = \"key\"\nlimit = 1\nperiod = \"day\"\n\
                [[quotas]]\nrequests_allowed = 5\n";
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let variables = [("SHARED_SECRET", crate::rig::SECRET)];
    let output = crate::rig::gateway(directory.path(), &variables, &["check"]);
    let told = String::from_utf8(output.stderr).unwrap();
    for (path, part) in [
        ("quotas[0].name", "lower-case"),
        ("quotas[0].by", "\"key\", \"consumer\", or \"tag:NAME\""),
        ("quotas[0].limit", "from 1 to"),
        ("quotas[0].anchor", "a day of the month from 1 to 31"),
        ("quotas[0].time_zone", "\"Europe/Berlin\""),
        ("quotas[0].count_statuses[0]", "a class of statuses"),
        ("quotas[1].anchor", "\"month\" only"),
        ("quotas[3].name", "another quota already"),
        ("quotas[4].name", "it is missing"),
        ("quotas[4].requests_allowed", "limit"),
    ] {
        let line = told
            .lines()
            .find(|line| line.trim_start().starts_with(path));
        let line = line.unwrap_or_else(|| panic!("{path}: {told}"));
        assert!(line.contains(part), "{line}");
    }
}
