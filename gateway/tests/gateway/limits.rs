//! Limits of docs/CONFIGURATION.md that no other test is about.

use std::io::Write as _;
use std::time::Duration;

use crate::client::{DEADLINE, exchange, get};
use crate::origin::Origin;
use crate::rig::Rig;
use crate::running::eventually;

#[test]
fn a_head_of_an_answer_beyond_the_limits_is_a_502() {
    for (setting, extra, status) in [
        (
            "max_head_bytes = 1000",
            format!("x-a: {}\r\n", "a".repeat(500)),
            200,
        ),
        (
            "max_head_bytes = 1000",
            format!("x-a: {}\r\n", "a".repeat(1000)),
            502,
        ),
        ("max_headers = 4", "x-a: a\r\n".repeat(3), 200),
        ("max_headers = 4", "x-a: a\r\n".repeat(4), 502),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n{extra}\r\nhello");
        let origin = Origin::answering_bytes(answer);
        let rig = Rig::with(&origin.url(), &format!("[origin]\n{setting}\n"));
        let key = rig.key("acme", &[]);
        let response = rig.get("/", &key);
        assert_eq!(response.status, status, "{setting}: {extra:?}");
        if status == 502 {
            assert_eq!(response.code(), "origin_bad_answer");
        }
    }
}

#[test]
fn a_connection_to_the_origin_that_was_idle_for_too_long_is_not_used_again() {
    let origin = Origin::answering(|_, socket| {
        let port = socket.peer_addr().unwrap().port();
        let _ = write!(
            socket,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{port:05}"
        );
    });
    let rig = Rig::with(&origin.url(), "[origin]\nkeep_alive = \"1s\"\n");
    let key = rig.key("acme", &[]);
    let connection = || get(rig.public, "/", &[&key.header()]).text();
    let mut first = connection();
    eventually("it is used again while it is fresh", || {
        let last = std::mem::replace(&mut first, connection());
        first == last
    });
    // Nothing announces that the time is over, and each request begins it anew: each try waits longer than the last.
    let mut idle = Duration::from_millis(1050);
    loop {
        std::thread::sleep(idle);
        if connection() != first {
            break;
        }
        idle *= 2;
        assert!(idle < DEADLINE, "used again after {:?}", idle / 2);
    }
}

#[test]
fn a_chunk_that_alone_is_too_large_is_refused_before_the_origin_is_asked() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), "listen.max_body_bytes = 1000\n");
    let key = rig.key("acme", &[]).header();
    for body in ["3e9\r\n", "3e9\r\nabc", "ffffffffffffffff\r\nabc"] {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{key}\r\ntransfer-encoding: chunked\r\n\r\n{body}"
        );
        let response = exchange(rig.public, request);
        assert_eq!(
            (response.status, response.code()),
            (413, "body_too_large".to_owned()),
            "{body:?}"
        );
    }
    assert_eq!(origin.arrived().len(), 0);
}
