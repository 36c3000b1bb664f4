//! The brake on bad keys, from outside.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use postern_gateway::keys::{PlainKey, Prefix};

use crate::client::{Response, get};
use crate::origin::Origin;
use crate::rig::{Process, Rig, gateway};
use crate::running::eventually;

/// Twenty failures, of which none is forgiven within a test.
const SLOW: &str = "[brake]\nwindow = \"1day\"\n";

/// The header line of a well-formed key that no store has.
pub(crate) fn unknown_key() -> String {
    let key = PlainKey::generate(&Prefix::default()).unwrap();
    format!("authorization: Bearer {}", key.expose())
}

/// The statuses of `count` requests with another unknown key each, and these header lines.
fn fail(public: SocketAddr, count: usize, lines: &[&str]) -> Vec<u16> {
    (0..count)
        .map(|_| {
            let key = unknown_key();
            let lines: Vec<&str> = lines.iter().copied().chain([key.as_str()]).collect();
            get(public, "/", &lines).status
        })
        .collect()
}

/// How many of the statuses are 401, if all others come after them and are 429.
fn counted(statuses: &[u16]) -> usize {
    let counted = statuses.iter().take_while(|status| **status == 401).count();
    assert!(statuses[counted..].iter().all(|status| *status == 429));
    counted
}

/// The value of a sample of `/metrics`.
fn sample(admin: SocketAddr, name: &str) -> u64 {
    let page = get(admin, "/metrics", &[]).text();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name}: {page}"))
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn after_twenty_unknown_keys_failures_are_429_and_a_good_key_passes() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), SLOW);
    let good = rig.key("acme", &[]);
    let statuses = fail(rig.public, 1_000, &[]);
    assert_eq!(counted(&statuses), 20);
    assert_eq!(rig.get("/", &good).status, 200);
    let refused = get(rig.public, "/", &[&unknown_key()]);
    assert_eq!(refused.code(), "too_many_failures");
    // A day for twenty, so 72 minutes for one, less what the test has taken.
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((4_000..=4_320).contains(&wait), "{wait}");
    assert_eq!(refused.header("www-authenticate"), None);
    assert_eq!(origin.arrived().len(), 1);
    let braked = "postern_auth_braked_total{code=\"api_key_invalid\"}";
    eventually("they are counted", || sample(rig.admin, braked) == 981);
    assert_eq!(sample(rig.admin, "postern_auth_braked_subjects"), 1);
}

#[test]
fn a_good_key_between_bad_ones_forgives_nothing() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), SLOW);
    let good = rig.key("acme", &[]);
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.extend(fail(rig.public, 1, &[]));
        assert_eq!(rig.get("/", &good).status, 200);
    }
    assert_eq!(counted(&statuses), 20);
}

#[test]
fn failures_count_against_the_address_that_can_be_believed() {
    let origin = Origin::hello();
    let trusting = format!("listen.trusted_proxies = [\"127.0.0.1\"]\n{SLOW}");
    for (settings, forwarded, passing) in [
        // A client makes up a new address for each request.
        (SLOW, ["192.0.2.1", "192.0.2.2"], 0),
        // The one that the proxy saw is the last.
        (&trusting, ["192.0.2.1", "198.51.100.2"], 20),
        (
            &trusting,
            ["203.0.113.1, 192.0.2.1", "203.0.113.2, 192.0.2.1"],
            0,
        ),
        (
            &trusting,
            ["203.0.113.1, 192.0.2.1", "203.0.113.1, 198.51.100.2"],
            20,
        ),
        (&trusting, ["::ffff:192.0.2.1", "192.0.2.1"], 0),
        (&trusting, ["2001:db8::1", "2001:db8::ffff:1"], 0),
        (&trusting, ["2001:db8::1", "2001:db8:0:1::1"], 20),
    ] {
        let rig = Rig::with(&origin.url(), settings);
        let [first, second] = forwarded.map(|line| format!("x-forwarded-for: {line}"));
        assert_eq!(counted(&fail(rig.public, 25, &[&first])), 20, "{first}");
        let further = counted(&fail(rig.public, 25, &[&second]));
        assert_eq!(further, passing, "{second}");
    }
}

#[test]
fn what_cannot_be_a_key_never_counts() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), SLOW);
    let scoped = rig.key("acme", &[]);
    let whole = unknown_key();
    let (begin, last) = whole.split_at(whole.len() - 1);
    let typo = format!("{begin}{}", if last == "0" { "1" } else { "0" });
    for line in [
        "authorization: Bearer a-text-of-another-kind",
        "authorization: Bearer pstn_short",
        &typo,
        "authorization: Basic dXNlcjpwYXNz",
        "authorization: Bearer",
        "x-api-key: a",
        "accept: */*",
    ] {
        for _ in 0..30 {
            assert_eq!(get(rig.public, "/", &[line]).status, 401, "{line}");
        }
    }
    assert_eq!(rig.get("/", &scoped).status, 200);
    assert_eq!(counted(&fail(rig.public, 21, &[])), 20);
}

#[test]
fn a_key_in_either_part_of_basic_counts() {
    let own = || PlainKey::generate(&Prefix::default()).unwrap();
    for (user, password) in [
        ("pstn_00000000000000000000000000000000000000", None),
        ("pstn_ab", None),
        ("", None),
        ("a b", None),
        ("", Some("a b")),
        ("", Some("x")),
    ] {
        let origin = Origin::hello();
        let rig = Rig::with(
            &origin.url(),
            &format!("{SLOW}[auth]\nkey_sources = [\"basic\"]\n"),
        );
        let statuses: Vec<u16> = (0..30)
            .map(|_| {
                let key = own();
                let pair = match password {
                    None => format!("{user}:{}", key.expose()),
                    Some(password) => format!("{}:{password}", key.expose()),
                };
                let line = format!("authorization: Basic {}", BASE64_STANDARD.encode(pair));
                get(rig.public, "/", &[&line]).status
            })
            .collect();
        assert_eq!(counted(&statuses), 20, "{user:?} {password:?}");
    }
}

#[test]
fn keys_of_other_systems_count_once_there_are_any() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), SLOW);
    let lines = rig.directory.path().join("keys.jsonl");
    std::fs::write(
        &lines,
        "{\"consumer\":\"acme\",\"key\":\"foreign-0123456789abcdef\"}\n",
    )
    .unwrap();
    rig.done(&["import", "--format", "jsonl", lines.to_str().unwrap()]);
    let known = "authorization: Bearer foreign-0123456789abcdef";
    eventually("it is known", || {
        get(rig.public, "/", &[known]).status == 200
    });
    let statuses: Vec<u16> = (0..25)
        .map(|number| {
            let line = format!("authorization: Bearer foreign-{number}");
            get(rig.public, "/", &[&line]).status
        })
        .collect();
    assert!(counted(&statuses) <= 20);
    assert_eq!(get(rig.public, "/", &[known]).status, 200);
}

#[test]
fn a_dead_key_is_braked_alone_and_answered_like_an_unknown_one() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), SLOW);
    let ended = ["revoke", "disable"].map(|end| {
        let key = rig.key("acme", &[]);
        rig.done(&["keys", end, &key.id]);
        key
    });
    let mut answers: Vec<Response> = Vec::new();
    for key in &ended {
        let statuses: Vec<u16> = (0..30).map(|_| rig.get("/", key).status).collect();
        assert_eq!(counted(&statuses), 20);
        answers.push(rig.get("/", key));
    }
    // Colleagues behind the same address have all of theirs.
    assert_eq!(counted(&fail(rig.public, 30, &[])), 20);
    answers.push(get(rig.public, "/", &[&unknown_key()]));
    let told = answers.into_iter().map(|answer| {
        let id = answer.header("x-request-id").unwrap().to_owned();
        let lines: Vec<String> = answer
            .headers
            .iter()
            .filter(|(name, _)| name != "date")
            .map(|(name, value)| format!("{name}: {}", value.replace(&id, "ID")))
            .collect();
        (answer.status, lines, answer.text().replace(&id, "ID"))
    });
    let mut told: Vec<_> = told.collect();
    told.dedup();
    // The wait is to the second, and the counting took some.
    let without_wait = |lines: &[String]| -> Vec<String> {
        let kept = lines.iter().filter(|line| !line.starts_with("retry-after"));
        kept.cloned().collect()
    };
    let first = &told[0];
    for other in &told {
        assert_eq!(
            (other.0, without_wait(&other.1), &other.2),
            (429, without_wait(&first.1), &first.2)
        );
    }
}

#[test]
fn all_of_a_blocked_address_is_refused_where_that_is_asked_for() {
    let origin = Origin::hello();
    let settings =
        "listen.trusted_proxies = [\"127.0.0.1\"]\n[brake]\nwindow = \"1day\"\nblock = \"all\"\n";
    let rig = Rig::with(&origin.url(), settings);
    let good = rig.key("acme", &[]).header();
    let [blocked, other] =
        ["192.0.2.1", "198.51.100.1"].map(|address| format!("x-forwarded-for: {address}"));
    assert_eq!(counted(&fail(rig.public, 22, &[&blocked])), 20);
    let refused = get(rig.public, "/", &[&blocked, &good]);
    assert_eq!(refused.code(), "too_many_failures");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((80_000..=86_400).contains(&wait), "{wait}");
    assert_eq!(get(rig.public, "/", &[&other, &good]).status, 200);
    let unchecked = "postern_auth_braked_total{code=\"unchecked\"}";
    eventually("they are counted", || sample(rig.admin, unchecked) == 2);
}

#[test]
fn nothing_is_braked_where_the_settings_say_so() {
    let origin = Origin::hello();
    for settings in [
        "[brake]\nenabled = false\n",
        "[brake]\nblock = \"off\"\n",
        "[brake]\nenforce = false\n",
        "[brake]\nenforce = false\nblock = \"all\"\n",
        "[brake]\nexempt = [\"127.0.0.0/8\"]\n",
    ] {
        let settings = format!("{settings}window = \"1day\"\n");
        let rig = Rig::with(&origin.url(), &settings);
        let good = rig.key("acme", &[]);
        assert_eq!(counted(&fail(rig.public, 30, &[])), 30, "{settings}");
        assert_eq!(rig.get("/", &good).status, 200);
        let braked = "postern_auth_braked_total{code=\"api_key_invalid\"}";
        assert_eq!(sample(rig.admin, braked), 0);
        let would = |code| format!("postern_auth_would_be_braked_total{{code=\"{code}\"}}");
        let wanted = match (settings.contains("enforce"), settings.contains("all")) {
            (false, _) => [0, 0],
            (true, false) => [10, 0],
            // The good one would have been refused as well.
            (true, true) => [1, 10],
        };
        eventually(settings.as_str(), || {
            ["api_key_invalid", "unchecked"].map(|code| sample(rig.admin, &would(code))) == wanted
        });
    }
}

#[test]
fn forward_auth_and_the_public_listener_have_one_brake() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), SLOW);
    assert_eq!(counted(&fail(rig.public, 15, &[])), 15);
    let statuses: Vec<u16> = (0..10)
        .map(|_| get(rig.admin, "/v1/auth", &[&unknown_key()]).status)
        .collect();
    assert_eq!(counted(&statuses), 5);
    assert_eq!(counted(&fail(rig.public, 5, &[])), 0);
    let good = rig.key("acme", &[]).header();
    assert_eq!(get(rig.admin, "/v1/auth", &[&good]).status, 200);
}

#[test]
fn the_command_line_lists_and_forgives() {
    const TOKEN: &str = "brake-4b7d1f96c02ea358";
    let origin = Origin::hello();
    let variables = [("ADMIN_TOKEN", TOKEN), ("GATEWAY__BRAKE__WINDOW", "1day")];
    let process = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &variables);
    assert_eq!(counted(&fail(process.public, 25, &[])), 20);
    let url = format!("http://{}", process.admin);
    let run = |arguments: &[&str]| {
        let variables = [("ADMIN_TOKEN", TOKEN), ("ADMIN_URL", &*url)];
        let output = gateway(process.directory.path(), &variables, arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    for arguments in [&["brake", "list"][..], &["brake", "clear", "127.0.0.1"]] {
        let (code, shown, _) = run(arguments);
        let rows: Vec<Vec<&str>> = shown
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!((code, rows.len()), (Some(0), 2), "{shown}");
        assert_eq!(rows[0], ["ADDRESS", "KEY", "REFUSED", "SINCE", "UNTIL"]);
        assert_eq!(rows[1][..3], ["127.0.0.1", "-", "5"], "{shown}");
    }
    let (_, listed, _) = run(&["brake", "list", "--json"]);
    assert_eq!(listed.trim(), r#"{"data":[]}"#);
    assert_eq!(counted(&fail(process.public, 25, &[])), 20);
    for (address, code, said) in [
        ("192.0.2.7", 1, "Nothing is counted against this address."),
        ("unknown", 1, "Nothing is counted against this address."),
        ("nobody", 2, "write an IP address"),
    ] {
        let (exit, _, refused) = run(&["brake", "clear", address]);
        assert_eq!(exit, Some(code), "{address}: {refused}");
        assert!(refused.contains(said), "{address}: {refused}");
    }
}

#[test]
fn an_episode_has_two_lines_in_the_log_and_its_requests_none() {
    let origin = Origin::hello();
    let variables = [
        ("GATEWAY__BRAKE__WINDOW", "6s"),
        ("GATEWAY__BRAKE__FAILURES", "2"),
    ];
    let process = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &variables);
    let statuses = fail(process.public, 50, &[]);
    let answered = |status| statuses.iter().filter(|found| **found == status).count();
    assert!(answered(429) > 10, "{statuses:?}");
    eventually("it ends", || {
        process.log().contains("owes nothing any more")
    });
    let log = process.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("brake:")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains("127.0.0.1 had more than 2 failed requests in 6s"));
    let counted = format!("{} requests were answered 429", answered(429));
    assert!(lines[1].contains(&counted), "{lines:?}");
    eventually("the others have their lines", || {
        process.access_log().len() == answered(401)
    });
    assert!(
        process
            .access_log()
            .iter()
            .all(|line| line["status"] == 401)
    );
}

#[test]
fn a_proxy_that_is_not_trusted_is_warned_of_where_it_hurts() {
    let origin = Origin::hello();
    let variables = [("GATEWAY__BRAKE__BLOCK", "all")];
    let process = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &variables);
    assert!(
        process
            .log()
            .contains("there are no listen.trusted_proxies")
    );
    for _ in 0..3 {
        get(process.public, "/", &["x-forwarded-for: 192.0.2.1"]);
    }
    let warning = "127.0.0.1, which is not in listen.trusted_proxies, sends X-Forwarded-For";
    eventually("it is warned of", || process.log().contains(warning));
    assert_eq!(process.log().matches(warning).count(), 1);
}
