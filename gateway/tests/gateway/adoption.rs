//! Who comes to a route that only observes, and what `gateway adoption report` says of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::{Connection, exchange, get};
use crate::origin::Origin;
use crate::rig::Process;
use crate::running::eventually;

const TOKEN: &str = "adoption-7c4e91d2-admin-token";

const FILE: &str = "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n\
    [[routes]]\nname = \"orders\"\npath = \"/orders\"\nauth = [\"observe\"]\nscopes = [\"here\"]\n\
    [[routes]]\nname = \"ready\"\npath = \"/ready\"\nauth = [\"observe\"]\n\
    [[routes]]\nname = \"strict\"\npath = \"/\"\n";

fn started(directory: tempfile::TempDir, origin: &Origin) -> Process {
    std::fs::write(directory.path().join("gateway.toml"), FILE).unwrap();
    Process::start(directory, &origin.url(), &[("ADMIN_TOKEN", TOKEN)])
}

/// What the report says, once it has so many requests of its routes, in their order.
fn report(process: &Process, requests: &[u64]) -> Value {
    let mut report = Value::Null;
    eventually("the counts are written", || {
        let printed = process.done(&["adoption", "report", "--json"]);
        report = serde_json::from_str(&printed).unwrap();
        let routes = report["routes"].as_array().unwrap().iter();
        let found: Vec<u64> = routes
            .map(|one| one["requests"].as_u64().unwrap())
            .collect();
        found == requests
    });
    report
}

/// Requests of a route by cause, consumer, network and client.
fn callers(of_route: &Value) -> BTreeMap<String, u64> {
    let callers = of_route["callers"].as_array().unwrap().iter();
    callers
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap_or("-").to_owned();
            let who = ["code", "cause", "consumer", "network", "client"].map(text);
            (who.join(" "), one["requests"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn the_report_names_who_comes_without_a_good_key_and_no_secret() {
    let origin = Origin::hello();
    let process = started(tempfile::tempdir().unwrap(), &origin);
    let good = process.key_with("acme", &["--scope", "here"]);
    let narrow = process.key_with("narrow", &["--scope", "elsewhere"]);
    let ask = |path: &str, address: &str, agent: &str, credential: &str| {
        let lines = [
            format!("x-forwarded-for: {address}"),
            format!("user-agent: {agent}"),
            credential.to_owned(),
        ];
        let lines: Vec<&str> = lines
            .iter()
            .map(String::as_str)
            .filter(|line| !line.is_empty())
            .collect();
        get(process.public, path, &lines).status
    };
    let key = good.rsplit(' ').next().unwrap();
    for (times, address, agent, credential) in [
        (3, "192.0.2.10", "curl/8.5.0", ""),
        (1, "192.0.2.99", "CURL/7", ""),
        (
            2,
            "198.51.100.7",
            "Mozilla/5.0 (X11)",
            "authorization: Basic bWU6c2VjcmV0",
        ),
        (
            1,
            "2001:db8:1:2::9",
            key,
            "authorization: Bearer of-the-backend",
        ),
        (2, "203.0.113.5", "python-requests/2.31", &narrow),
        (4, "203.0.113.5", "python-requests/2.31", &good),
    ] {
        for _ in 0..times {
            assert_eq!(ask("/orders", address, agent, credential), 200);
        }
    }
    assert_eq!(ask("/ready", "192.0.2.10", "curl/8", &good), 200);
    assert_eq!(ask("/", "192.0.2.10", "curl/8", ""), 401);
    let found = report(&process, &[13, 1]);
    let routes = found["routes"].as_array().unwrap();
    let names: Vec<&str> = routes
        .iter()
        .map(|one| one["route"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["orders", "ready"],
        "the strict route refuses by itself"
    );
    let expected = [
        ("api_key_missing no_header - 192.0.2.0/24 curl", 4),
        ("api_key_missing other_scheme - 198.51.100.0/24 mozilla", 2),
        ("api_key_invalid unknown - 2001:db8:1:2::/64 other", 1),
        (
            "insufficient_scope scope narrow 203.0.113.0/24 python-requests",
            2,
        ),
    ];
    let expected: BTreeMap<String, u64> = expected
        .map(|(who, requests)| (who.to_owned(), requests))
        .into();
    assert_eq!(callers(&routes[0]), expected);
    assert_eq!(
        (
            &routes[0]["good"],
            &routes[0]["would_be_refused"],
            &routes[0]["caller_count"]
        ),
        (&json!(4), &json!(9), &json!(4))
    );
    assert_eq!(
        (&routes[1]["good"], &routes[1]["would_be_refused"]),
        (&json!(1), &json!(0))
    );

    let shown = process.done(&["adoption", "report"]);
    for line in [
        "route orders: 13 requests, 4 with a good credential, 9 without",
        "  orders: 9 of 13 requests (69.3 %) would be refused, were `auth = [\"key\"]` in force",
        "  ready: none of 1 request would be refused",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let one = process.done(&[
        "adoption", "report", "--route", "orders", "--top", "1", "--since", "1d",
    ]);
    assert!(
        one.contains("and 3 more; `--top` lists more") && !one.contains("route ready"),
        "{one}"
    );
    let none = process.done(&["adoption", "report", "--route", "nowhere"]);
    assert!(
        none.starts_with("no request came to a route that only observes since "),
        "{none}"
    );

    let api = |query: &str| {
        let request = format!(
            "GET /v1/adoption{query} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        );
        exchange(process.admin, request)
    };
    assert_eq!(api("").json()["routes"], found["routes"]);
    assert_eq!(
        api("?route=ready&since=1d&top=1").json()["routes"],
        json!([routes[1]])
    );
    assert_eq!(api("?route=%22").status, 400);
    assert_eq!(api("?top=0").status, 400);

    for text in [shown, found.to_string(), api("").text(), process.log()] {
        for secret in [
            key,
            narrow.rsplit(' ').next().unwrap(),
            "of-the-backend",
            "bWU6c2VjcmV0",
        ] {
            assert!(!text.contains(secret), "{text}");
        }
        for detail in [
            "192.0.2.10",
            "203.0.113.5",
            "2001:db8:1:2::9",
            "8.5.0",
            "X11",
        ] {
            assert!(!text.contains(detail), "{detail}: {text}");
        }
    }
}

#[test]
fn counts_outlive_the_gateway_and_gateways_add_up() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let url = crate::rig::database(directory.path());
    let mut first = started(directory, &origin);
    let beside = tempfile::tempdir().unwrap();
    std::fs::write(beside.path().join("gateway.toml"), FILE).unwrap();
    let second = Process::start(beside, &origin.url(), &[("DATABASE_URL", &url)]);
    for (gateway, times) in [(&first, 2), (&second, 3)] {
        for _ in 0..times {
            assert_eq!(get(gateway.public, "/orders", &[]).status, 200);
        }
    }
    // Asking whether to send a body is no request of its own.
    let mut connection = Connection::open(first.public);
    connection.send(
        "POST /orders HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n",
    );
    assert_eq!(connection.head().status, 100);
    connection.send("x");
    assert_eq!(connection.response().status, 200);
    // The last counts are written at the stop.
    first.signal("TERM");
    assert_eq!(first.ended(), Some(0));
    let again = started(first.kill(), &origin);
    assert_eq!(get(again.public, "/orders", &[]).status, 200);
    let found = report(&again, &[7]);
    assert_eq!(found["routes"][0]["callers"].as_array().unwrap().len(), 1);
}
