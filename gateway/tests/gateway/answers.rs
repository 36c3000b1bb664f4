//! What an origin answers, and what a client gets of it, whichever way it asked: with a plain request, for the head alone, or to
//! leave HTTP.

use std::io::Write as _;
use std::net::Shutdown;

use crate::client::{Connection, Response};
use crate::origin::Origin;
use crate::rig::{Key, Rig, SECRET};
use crate::running::eventually;

/// A request of each kind.
fn ways(key: &Key) -> [(&'static str, String); 3] {
    let key = key.header();
    let request =
        |start: &str, more: &str| format!("{start} /a HTTP/1.1\r\nhost: h\r\n{key}\r\n{more}\r\n");
    [
        ("plain", request("GET", "")),
        ("head", request("HEAD", "")),
        (
            "upgrade",
            request("GET", "connection: upgrade\r\nupgrade: websocket\r\n"),
        ),
    ]
}

/// The head of the answer to each.
fn heads(rig: &Rig, key: &Key) -> Vec<(&'static str, Response)> {
    ways(key)
        .into_iter()
        .map(|(way, request)| {
            let mut connection = Connection::open(rig.public);
            connection.send(request);
            let head = if way == "head" {
                connection.head()
            } else if way == "upgrade" {
                let mut head = connection.head();
                if head.status != 101 {
                    head.body = connection.some_bytes();
                }
                head
            } else {
                connection.response()
            };
            (way, head)
        })
        .collect()
}

/// A number of the metrics page.
fn metric(rig: &Rig, name: &str) -> u64 {
    let page = crate::client::get(rig.admin, "/metrics", &[]).text();
    let line = page.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{name} is not in {page}"))
}

#[test]
fn a_guard_that_does_not_accept_the_gateway_is_502_whatever_was_asked_for() {
    for (answer, mark) in [
        ("401 Unauthorized", "invalid"),
        ("401 Unauthorized", "missing"),
        ("500 Internal Server Error", "unconfigured"),
        ("200 OK", "invalid"),
        ("401 Unauthorized", "something-else"),
        ("401 Unauthorized", ""),
    ] {
        for name in ["x-origin-guard", "X_Origin_Guard"] {
            let origin = Origin::answering_bytes(format!(
                "HTTP/1.1 {answer}\r\n{name}: {mark}\r\nwww-authenticate: SharedSecret realm=\"origin\"\r\ncontent-length: 0\r\n\r\n"
            ));
            let rig = Rig::before(&origin);
            let key = rig.key("acme", &[]);
            for (way, head) in heads(&rig, &key) {
                assert_eq!(head.status, 502, "{way} {name}: {mark}: {head:?}");
                assert_eq!(head.header("www-authenticate"), None, "{way}");
                if way != "head" {
                    assert_eq!(head.code(), "origin_rejected_gateway", "{way} {mark}");
                }
            }
            let refused = "postern_refusals_total{code=\"origin_rejected_gateway\"}";
            eventually("all three are counted", || metric(&rig, refused) == 3);
        }
    }
}

#[test]
fn a_status_that_is_none_or_not_final_is_502_whatever_was_asked_for() {
    for status in ["000", "099", "600", "777", "999", "20", "2000", "abc"] {
        let origin = Origin::answering_bytes(format!(
            "HTTP/1.1 {status} What\r\ncontent-length: 0\r\n\r\n"
        ));
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]);
        for (way, head) in heads(&rig, &key) {
            assert_eq!(head.status, 502, "{way} {status}: {head:?}");
        }
    }
    // An interim answer is none, and then the connection ends; 101 is one only where it was asked for.
    for status in [100, 102, 103, 199] {
        let origin = Origin::answering_bytes(format!("HTTP/1.1 {status} What\r\n\r\n"));
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]);
        for (way, head) in heads(&rig, &key) {
            assert_eq!(head.status, 502, "{way} {status}: {head:?}");
        }
    }
    let origin = Origin::answering_bytes(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    );
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let statuses: Vec<u16> = heads(&rig, &key)
        .iter()
        .map(|(_, head)| head.status)
        .collect();
    assert_eq!(statuses, [502, 502, 101]);
    for status in ["200 OK", "204 No Content", "404 Not Found", "599 What"] {
        let origin =
            Origin::answering_bytes(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]);
        for (way, head) in heads(&rig, &key) {
            assert!(
                status.starts_with(&head.status.to_string()),
                "{way} {status}"
            );
        }
    }
}

#[test]
fn the_secret_reaches_no_client_in_any_header_of_any_answer() {
    // In the ways in which an origin may come to say it: as it is, as part of something, escaped, in base64.
    let basic = "cmlnLTlmMmM1MWQwN2JlODRhNjMtc2hhcmVkOnB3";
    let lines = format!(
        "X-Echo: {SECRET}\r\nSet-Cookie: a=1\r\nSet-Cookie: secret={SECRET}; Path=/\r\nSet-Cookie: b=2\r\n\
         Location: https://example.com/?next=1&secret={escaped}\r\nX-Upper: {upper}\r\nX-Basic: Basic {basic}\r\n\
         Server: debug [{SECRET}]\r\nVary: accept, {SECRET}\r\nETag: \"{SECRET}\"\r\n{SECRET}: 1\r\nX-{upper}-Y: 1\r\n\
         X_Shared_Secret: other\r\nX-Fine: rig-9f2c51d07be84a63\r\n",
        escaped = SECRET.replace('-', "%2d"),
        upper = SECRET.to_uppercase(),
    );
    for (status, more, followed) in [
        ("200 OK", "content-length: 5\r\n", "hello"),
        ("302 Found", "content-length: 0\r\n", ""),
        ("304 Not Modified", "", ""),
        ("204 No Content", "", ""),
        (
            "101 Switching Protocols",
            "connection: upgrade\r\nupgrade: websocket\r\n",
            "",
        ),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n{lines}{more}\r\n");
        let origin = Origin::answering(move |request, socket| {
            let body = if request.line.starts_with("HEAD") {
                ""
            } else {
                followed
            };
            let _ = write!(socket, "{answer}{body}");
            let _ = socket.shutdown(Shutdown::Both);
        });
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]);
        let mut answers = 0;
        for (way, head) in heads(&rig, &key) {
            if status.starts_with("101") != (way == "upgrade") && status.starts_with("101") {
                continue;
            }
            answers += 1;
            assert!(
                status.starts_with(&head.status.to_string()),
                "{way} {status}: {head:?}"
            );
            let told = format!("{:?}", head.headers).to_lowercase();
            assert!(
                !told.contains(SECRET)
                    && !told.contains("%2d")
                    && !told.contains(&basic.to_lowercase()),
                "{way} {status}: {head:?}"
            );
            let all = |name: &str| -> Vec<&str> {
                let found = head.headers.iter().filter(|(found, _)| found == name);
                found.map(|(_, value)| value.as_str()).collect()
            };
            assert_eq!(all("set-cookie"), ["a=1", "b=2"], "{way} {status}");
            assert_eq!(all("x-fine"), ["rig-9f2c51d07be84a63"], "{way} {status}");
            assert_eq!(all("vary"), ["authorization"], "{way} {status}");
        }
        assert!(answers > 0);
        eventually("each of them is counted", || {
            metric(&rig, "postern_secret_leaked_total") == answers
        });
    }
}
