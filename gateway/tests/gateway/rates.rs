//! Limits on the rate of requests, from outside.

use std::time::Duration;

use crate::client::{Connection, Response, exchange, get};
use crate::nowhere::nowhere;
use crate::origin::Origin;
use crate::rig::{Key, Process, Rig, database, gateway};
use crate::running::eventually;

/// A limit in a file of settings.
fn limit(name: &str, by: &str, limit: u32, more: &str) -> String {
    format!(
        "[[rate_limits]]\nname = \"{name}\"\nby = {by}\nlimit = {limit}\nwindow = \"1d\"\n{more}\n"
    )
}

/// A gateway with these limits.
fn limited(origin: &Origin, file: &str) -> Rig {
    Rig::with(&origin.url(), file)
}

/// A key that the gateway knows already, without a request for it that counts.
fn known(rig: &Rig, consumer: &str) -> Key {
    // A command returns once every running gateway has applied the change.
    rig.key(consumer, &[])
}

/// How many of `attempts` requests pass.
fn passing(attempts: usize, mut ask: impl FnMut() -> Response) -> usize {
    (0..attempts).filter(|_| ask().status == 200).count()
}

#[test]
fn a_key_gets_as_many_requests_as_its_limit_and_then_429() {
    let origin = Origin::hello();
    let rig = limited(&origin, &limit("burst", "\"key\"", 3, ""));
    let (one, other) = (known(&rig, "acme"), known(&rig, "acme"));
    assert_eq!(passing(5, || rig.get("/", &one)), 3);
    let before = origin.arrived().len();
    let denied = rig.get("/", &one);
    assert_eq!((denied.status, &*denied.code()), (429, "rate_limited"));
    assert_eq!(
        origin.arrived().len(),
        before,
        "the origin hears nothing of it"
    );
    let problem = denied.json();
    assert_eq!(problem["violated-policies"], serde_json::json!(["burst"]));
    let seconds: u64 = denied.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2 * 86_400).contains(&seconds), "{seconds}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("{seconds} s")), "{detail}");
    assert_eq!(
        passing(5, || rig.get("/", &other)),
        3,
        "another key has its own"
    );
}

#[test]
fn subjects_count_together_as_the_limit_says() {
    let origin = Origin::hello();
    let routes = "[[routes]]\npath = \"/\"\non_missing_key = \"anonymous\"\n\
                  [[routes]]\npath = \"/other\"\non_missing_key = \"anonymous\"\n";
    // Requests of two keys of one consumer, a key of another one, and nobody, on two routes.
    for (by, wanted) in [
        ("\"key\"", [2, 2, 2, 10]),
        ("\"consumer\"", [2, 0, 2, 10]),
        ("\"anonymous\"", [10, 10, 10, 2]),
        ("\"address\"", [2, 0, 0, 0]),
        ("\"gateway\"", [2, 0, 0, 0]),
        ("\"route\"", [4, 0, 0, 0]),
        ("[\"key\", \"route\"]", [4, 4, 4, 10]),
        ("[\"address\", \"anonymous\"]", [10, 10, 10, 2]),
    ] {
        let rig = limited(&origin, &format!("{}{routes}", limit("one", by, 2, "")));
        let keys = [known(&rig, "a"), known(&rig, "a"), known(&rig, "b")];
        let keys = keys.map(|key| key.header());
        let passed = |headers: &[&str]| -> usize {
            ["/", "/other"]
                .map(|path| passing(5, || get(rig.public, path, headers)))
                .iter()
                .sum()
        };
        let passed = [
            passed(&[&keys[0]]),
            passed(&[&keys[1]]),
            passed(&[&keys[2]]),
            passed(&[]),
        ];
        assert_eq!(passed, wanted, "{by}");
    }
}

#[test]
fn a_refused_credential_takes_nothing() {
    let origin = Origin::hello();
    let rig = limited(&origin, &limit("all", "\"gateway\"", 2, ""));
    let key = known(&rig, "acme");
    for _ in 0..5 {
        assert_eq!(get(rig.public, "/", &[]).status, 401);
        let unknown = get(rig.public, "/", &["authorization: Bearer unknown"]);
        assert_eq!(unknown.status, 401);
    }
    assert_eq!(passing(5, || rig.get("/", &key)), 2);
}

#[test]
fn a_limit_holds_for_its_routes_and_a_route_chooses_and_costs() {
    let origin = Origin::hello();
    let file = [
        limit("all", "\"key\"", 10, ""),
        limit("narrow", "\"consumer\"", 2, "routes = [\"/narrow\"]"),
        "[[routes]]\npath = \"/\"\n".to_owned(),
        "[[routes]]\npath = \"/narrow\"\n".to_owned(),
        "[[routes]]\npath = \"/dear\"\ncost = 4\n".to_owned(),
        "[[routes]]\npath = \"/free\"\ncost = 0\n".to_owned(),
        "[[routes]]\npath = \"/none\"\nlimits = []\n".to_owned(),
    ]
    .concat();
    let rig = limited(&origin, &file);
    let key = known(&rig, "acme");
    let asked = |path: &str, attempts| passing(attempts, || rig.get(path, &key));
    assert_eq!(asked("/none", 20), 20);
    assert_eq!(asked("/free", 20), 20);
    assert_eq!(asked("/narrow", 5), 2, "of `all`, 8 are left");
    assert_eq!(asked("/dear", 5), 2, "of `all`, none is left");
    assert_eq!(asked("/", 5), 0);
    assert_eq!(asked("/free", 5), 0, "what costs nothing needs a free unit");
    assert_eq!(asked("/none", 5), 5);
}

/// The fields that tell of limits, sorted.
fn told(response: &Response) -> Vec<String> {
    let lines = response.headers.iter();
    let lines = lines.filter(|(name, _)| name.contains("ratelimit"));
    let mut lines: Vec<String> = lines
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_caller_is_told_of_its_tightest_limits_and_the_origins_own_fields_survive() {
    let origin = Origin::answering(|_, socket| {
        use std::io::Write as _;
        let _ = socket
            .write_all(b"HTTP/1.1 200 OK\r\nratelimit: \"own\";r=1\r\ncontent-length: 0\r\n\r\n");
    });
    let file = [
        limit("wide", "\"key\"", 1000, ""),
        limit("tight", "\"consumer\"", 2, ""),
        limit("middle", "\"key\"", 500, ""),
        limit("office", "\"address\"", 3, ""),
        limit("whole", "\"gateway\"", 3, ""),
        limit("path", "\"route\"", 3, ""),
        limit("trial", "\"key\"", 1, "enforce = false"),
    ]
    .concat();
    let rig = limited(&origin, &file);
    let key = known(&rig, "acme");
    let without_times = |response: &Response| -> Vec<String> {
        let times = regex::Regex::new(";t=[0-9]+").unwrap();
        let lines = told(response);
        lines
            .iter()
            .map(|line| times.replace_all(line, ";t").into_owned())
            .collect()
    };
    assert_eq!(
        without_times(&rig.get("/", &key)),
        [
            "ratelimit-policy: \"tight\";q=2;w=86400, \"middle\";q=500;w=86400",
            "ratelimit: \"own\";r=1",
            "ratelimit: \"tight\";r=1;t, \"middle\";r=499;t",
        ]
    );
    assert_eq!(rig.get("/", &key).status, 200);
    let denied = rig.get("/", &key);
    assert_eq!(denied.status, 429);
    assert_eq!(
        without_times(&denied),
        [
            "ratelimit-policy: \"tight\";q=2;w=86400, \"middle\";q=500;w=86400",
            "ratelimit: \"tight\";r=0;t, \"middle\";r=498;t",
        ]
    );
    let retry: u64 = denied.header("retry-after").unwrap().parse().unwrap();
    let more = told(&denied)[1].clone();
    let more: u64 = more
        .split_once(";t=")
        .and_then(|(_, rest)| rest.split_once(','))
        .map(|(seconds, _)| seconds.parse().unwrap())
        .unwrap();
    assert!(more <= retry, "{more} {retry}");

    for (form, names) in [
        (
            "x-ratelimit",
            &[
                "x-ratelimit-limit",
                "x-ratelimit-remaining",
                "x-ratelimit-reset",
            ][..],
        ),
        ("off", &[]),
    ] {
        let origin = Origin::hello();
        let file = format!("[limits]\nheaders = \"{form}\"\n{file}");
        let rig = limited(&origin, &file);
        let key = known(&rig, "acme");
        let found = told(&rig.get("/", &key));
        let found: Vec<&str> = found
            .iter()
            .map(|line| line.split_once(':').unwrap().0)
            .collect();
        assert_eq!(found, names, "{form}");
    }
}

#[test]
fn metrics_and_the_access_log_name_the_limit() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let file = [
        limit("hard", "\"key\"", 2, ""),
        limit("trial", "\"key\"", 1, "enforce = false"),
    ]
    .concat();
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let process = Process::start(directory, &origin.url(), &[]);
    let key = process.key("acme");
    for status in [200, 200, 429] {
        assert_eq!(get(process.public, "/", &[&key]).status, status);
    }
    let metrics = get(process.admin, "/metrics", &[]).text();
    for (policy, decision, enforced, count) in [
        ("hard", "allowed", "true", 2),
        ("hard", "denied", "true", 1),
        ("hard", "denied", "false", 0),
        ("trial", "allowed", "false", 1),
        ("trial", "denied", "false", 2),
        ("trial", "denied", "true", 0),
    ] {
        let sample = format!(
            "postern_rate_limit_decisions_total{{policy=\"{policy}\",decision=\"{decision}\",enforced=\"{enforced}\"}} {count}\n"
        );
        assert!(metrics.contains(&sample), "{sample} is not in {metrics}");
    }
    for policy in ["hard", "trial"] {
        let sample = format!("postern_rate_limit_subjects{{policy=\"{policy}\"}} 1\n");
        assert!(metrics.contains(&sample), "{sample}");
    }
    let mut lines = Vec::new();
    eventually("the lines are there", || {
        lines = process.access_log();
        lines.len() == 3
    });
    let mut named: Vec<[Option<&str>; 2]> = lines
        .iter()
        .map(|line| ["limit", "shadow_limit"].map(|name| line[name].as_str()))
        .collect();
    // Workers hand their lines over in any order.
    named.sort();
    assert_eq!(
        named,
        [
            [None, None],
            [None, Some("trial")],
            [Some("hard"), Some("trial")]
        ]
    );
}

#[test]
fn a_limit_that_is_not_enforced_lets_everybody_through() {
    let origin = Origin::hello();
    let rig = limited(&origin, &limit("trial", "\"key\"", 1, "enforce = false"));
    let key = known(&rig, "acme");
    assert_eq!(passing(10, || rig.get("/", &key)), 10);
}

#[test]
fn a_request_that_the_origin_did_nothing_for_costs_nothing() {
    let origin = Origin::answering(|request, socket| {
        use std::io::Write as _;
        if !request.line.starts_with("GET /silent ") {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let away = nowhere();
    let file = format!(
        "{}[origin]\nfirst_byte_timeout = \"3s\"\n[[routes]]\npath = \"/\"\n\
         [[routes]]\npath = \"/away\"\nupstream = \"http://{away}\"\n",
        limit("all", "\"key\"", 3, "")
    );
    let rig = limited(&origin, &file);
    let key = known(&rig, "acme");
    for _ in 0..5 {
        assert_eq!(rig.get("/away", &key).status, 502);
    }
    // An origin that was asked and said nothing has worked for it.
    assert_eq!(rig.get("/silent", &key).status, 504);
    assert_eq!(passing(5, || rig.get("/", &key)), 2);
}

#[test]
fn a_request_that_asks_before_it_sends_its_body_counts_once() {
    let origin = Origin::hello();
    let rig = limited(&origin, &limit("all", "\"key\"", 3, ""));
    let key = known(&rig, "acme").header();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: h\r\n{key}\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    );
    for _ in 0..3 {
        let mut connection = Connection::open(rig.public);
        connection.send(&head);
        assert_eq!(connection.head().status, 100);
        connection.send("ab");
        assert_eq!(connection.response().status, 200);
    }
    let denied = exchange(rig.public, &head);
    assert_eq!(denied.code(), "rate_limited", "without a 100 before it");
}

#[test]
fn a_bucket_refills_at_its_rate() {
    let origin = Origin::hello();
    let file = "[[rate_limits]]\nname = \"steady\"\nby = \"key\"\nlimit = 60\nwindow = \"1m\"\nburst = 3\n";
    let rig = limited(&origin, file);
    let key = known(&rig, "acme");
    let mut last = rig.get("/", &key);
    eventually("the burst is spent", || {
        last = rig.get("/", &key);
        last.status == 429
    });
    assert_eq!(last.header("retry-after"), Some("1"));
    eventually("a unit is back", || rig.get("/", &key).status == 200);
}

#[test]
fn the_time_that_a_client_is_told_is_enough() {
    let origin = Origin::hello();
    let file = "[[rate_limits]]\nname = \"second\"\nby = \"key\"\nlimit = 2\nwindow = \"2s\"\n";
    let rig = limited(&origin, file);
    let key = known(&rig, "acme");
    for _ in 0..3 {
        let mut denied = rig.get("/", &key);
        eventually("the limit is reached", || {
            denied = rig.get("/", &key);
            denied.status == 429
        });
        let seconds = denied.header("retry-after").unwrap().parse().unwrap();
        std::thread::sleep(Duration::from_secs(seconds));
        assert_eq!(rig.get("/", &key).status, 200, "after {seconds} s");
    }
}

#[test]
fn gateways_with_one_store_split_a_limit() {
    let origin = Origin::hello();
    let store = tempfile::tempdir().unwrap();
    let url = database(store.path());
    let file = format!(
        "{}[[routes]]\npath = \"/\"\n[[routes]]\npath = \"/free\"\ncost = 0\n",
        limit("all", "\"key\"", 10, "")
    );
    let fleet: Vec<Process> = (0..2)
        .map(|_| {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("gateway.toml"), &file).unwrap();
            Process::start(directory, &origin.url(), &[("DATABASE_URL", &url)])
        })
        .collect();
    let create = ["keys", "create", "--consumer", "acme", "--json"];
    let output = gateway(store.path(), &[("DATABASE_URL", &url)], &create);
    let created: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let key = format!("authorization: Bearer {}", created["key"].as_str().unwrap());
    for process in &fleet {
        eventually("the gateways know of each other", || {
            let free = get(process.public, "/free", &[&key]);
            free.header("ratelimit") == Some("\"all\";r=5")
        });
    }
    let passed = fleet
        .iter()
        .map(|process| passing(20, || get(process.public, "/", &[&key])));
    assert_eq!(passed.collect::<Vec<_>>(), [5, 5]);
    for process in &fleet {
        assert!(!process.log().contains("limits.mode"), "{}", process.log());
    }
}

#[test]
fn gateways_that_count_for_themselves_warn_when_they_meet() {
    let origin = Origin::hello();
    let store = tempfile::tempdir().unwrap();
    let url = database(store.path());
    let start = || {
        let directory = tempfile::tempdir().unwrap();
        let file = "[limits]\nmode = \"local\"\n";
        std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
        Process::start(directory, &origin.url(), &[("DATABASE_URL", &url)])
    };
    let said = "limits.mode is \"local\" and 2 gateways are live";
    let first = start();
    assert!(!first.log().contains("limits.mode"), "{}", first.log());
    let second = start();
    for process in [&first, &second] {
        eventually("it warns", || process.log().contains(said));
    }
}

#[test]
fn the_command_line_shows_and_resets_what_is_used() {
    const TOKEN: &str = "limits-9f2c51d07be84a63";
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let file = limit("all", "\"consumer\"", 2, "");
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let process = Process::start(directory, &origin.url(), &[("ADMIN_TOKEN", TOKEN)]);
    let key = process.key("acme");
    assert_eq!(passing(3, || get(process.public, "/", &[&key])), 2);
    let url = format!("http://{}", process.admin);
    let run = |arguments: &[&str]| {
        let variables = [("ADMIN_TOKEN", TOKEN), ("ADMIN_URL", &*url)];
        gateway(process.directory.path(), &variables, arguments)
    };
    let shown = run(&["limits", "show", "--consumer", "acme"]);
    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).unwrap();
    let rows: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..3], ["NAME", "BY", "ROUTE"], "{shown}");
    assert_eq!(
        rows[1][..7],
        ["all", "consumer", "-", "2", "1d", "2", "0"],
        "{shown}"
    );
    for (name, used) in [
        (&["--name", "other"][..], 2),
        (&["--name", "all"], 0),
        (&[], 0),
    ] {
        let reset = ["limits", "reset", "--consumer", "acme", "--json"];
        let reset = run(&[&reset, name].concat());
        assert!(reset.status.success(), "{reset:?}");
        let reset: serde_json::Value = serde_json::from_slice(&reset.stdout).unwrap();
        assert_eq!(reset["data"][0]["used"], used, "{name:?} {reset}");
        let passed = passing(3, || get(process.public, "/", &[&key]));
        assert_eq!(passed, 2 - used, "{name:?}");
    }
    for (arguments, said) in [
        (["--consumer", "nobody"], "there is no consumer nobody"),
        (["--key", "key_00000000000000000000"], "There is no key"),
    ] {
        let refused = run(&[&["limits", "show"][..], &arguments].concat());
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(text.contains(said), "{text}");
    }
}
