//! Headers that a route sets and removes.

use std::io::Write;

use crate::client::{exchange, get};
use crate::origin::Origin;
use crate::rig::{Process, Rig, SECRET, gateway};
use crate::running::eventually;

const EDITS: &str = r#"
[[routes]]
path = "/"
key_sources = ["header:x-api-key"]

[[routes]]
path = "/shaped"
key_sources = ["header:x-api-key"]
set_request_headers = { Authorization = "Bearer of-the-backend", X-Env = "production, \"blue\"", X-Forwarded-Port = "443" }
remove_request_headers = ["Cookie", "user-agent", "traceparent"]
set_response_headers = { Cache-Control = "no-store", Strict-Transport-Security = "max-age=63072000" }
remove_response_headers = ["Server", "X-Powered-By"]
"#;

fn origin() -> Origin {
    Origin::answering(|_, socket| {
        let _ = socket.write_all(
            b"HTTP/1.1 200 OK\r\nserver: a/1\r\nX-Powered-By: b\r\ncache-control: public\r\nCache-Control: max-age=5\r\nx-kept: c\r\ncontent-length: 2\r\n\r\nok",
        );
    })
}

const LINES: &str = "cookie: a=b\r\ncookie: c=d\r\nuser-agent: agent\r\nx-env: forged\r\nX-ENV: forged\r\nx-forwarded-port: 1\r\nauthorization: Basic forged\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nx-kept: e\r\n";

#[test]
fn a_route_sets_and_removes_headers_of_requests_and_answers_and_another_none() {
    let origin = origin();
    let rig = Rig::with(&origin.url(), EDITS);
    let key = format!("x-api-key: {}", rig.key("acme", &[]).key);
    let asked = |path: &str| {
        exchange(
            rig.public,
            format!("GET {path} HTTP/1.1\r\nhost: h\r\n{key}\r\n{LINES}\r\n"),
        )
    };
    let answer = asked("/shaped");
    let arrived = origin.only();
    for (name, wanted) in [
        ("authorization", &["Bearer of-the-backend"][..]),
        ("x-env", &["production, \"blue\""]),
        ("x-forwarded-port", &["443"]),
        ("cookie", &[]),
        ("user-agent", &[]),
        ("traceparent", &[]),
        ("x-kept", &["e"]),
        ("x-api-key", &[]),
        ("x-shared-secret", &[SECRET]),
    ] {
        assert_eq!(arrived.all(name), wanted, "{name}");
    }
    for (name, wanted) in [
        ("cache-control", Some("no-store")),
        ("strict-transport-security", Some("max-age=63072000")),
        ("server", None),
        ("x-powered-by", None),
        ("x-kept", Some("c")),
        ("vary", Some("x-api-key")),
    ] {
        assert_eq!(answer.header(name), wanted, "{name}");
    }
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));

    origin.forget();
    let answer = asked("/other");
    let arrived = origin.only();
    assert_eq!(arrived.all("cookie"), ["a=b", "c=d"]);
    assert_eq!(arrived.one("user-agent"), Some("agent"));
    assert_eq!(arrived.all("x-env"), ["forged", "forged"]);
    assert_eq!(arrived.one("x-forwarded-port"), None);
    assert_eq!(arrived.one("authorization"), Some("Basic forged"));
    assert_eq!(answer.header("server"), Some("a/1"));
    assert_eq!(answer.header("strict-transport-security"), None);
}

#[test]
fn a_refusal_stays_as_it_is() {
    let rig = Rig::with(&origin().url(), EDITS);
    let answer = get(rig.public, "/shaped", &[]);
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("strict-transport-security"), None);
}

#[test]
fn edits_change_in_a_running_gateway_and_values_that_may_be_credentials_are_not_shown() {
    let origin = origin();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.toml");
    std::fs::write(&file, EDITS).unwrap();
    let gateway_process = Process::start(directory, &origin.url(), &[]);
    let key = gateway_process
        .key("acme")
        .replace("authorization: Bearer ", "x-api-key: ");
    let sent = || {
        assert_eq!(get(gateway_process.public, "/shaped", &[&key]).status, 200);
        let arrived = origin.arrived().pop().unwrap();
        arrived.one("authorization").map(str::to_owned)
    };
    assert_eq!(sent().as_deref(), Some("Bearer of-the-backend"));
    std::fs::write(&file, EDITS.replace("of-the-backend", "another-one")).unwrap();
    eventually("the new value is sent", || {
        sent().as_deref() == Some("Bearer another-one")
    });
    eventually("it is told", || {
        gateway_process
            .log()
            .contains("routes[/shaped].set_request_headers")
    });
    assert!(!gateway_process.log().contains("another-one"));
    let output = gateway(
        gateway_process.directory.path(),
        &[("SHARED_SECRET", SECRET)],
        &["check"],
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!said.contains("another-one"), "{said}");
    for shown in [
        r#"set_request_headers = { authorization = "[redacted]", x-env = "production, \"blue\"", x-forwarded-port = "443" }"#,
        r#"remove_response_headers = ["server", "x-powered-by"]"#,
    ] {
        assert!(said.contains(shown), "{said}");
    }
}
