//! Time limits of a route, and the size of its bodies.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::client::{Connection, exchange, get};
use crate::origin::Origin;
use crate::rig::{Process, Rig};
use crate::running::eventually;

/// Routes whose time limits are far apart: what one route refuses, another still waits for.
const TIMEOUTS: &str = r#"
[origin]
first_byte_timeout = "2min"
idle_timeout = "2min"

[[routes]]
path = "/"
on_missing_key = "anonymous"

[[routes]]
path = "/fast"
on_missing_key = "anonymous"
first_byte_timeout = "100ms"

[[routes]]
path = "/flowing"
on_missing_key = "anonymous"
idle_timeout = "100ms"
"#;

#[test]
fn a_route_waits_for_its_origin_as_long_as_it_says_and_another_as_ever() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let origin = Origin::answering(move |request, socket| {
        let silent = request.line.contains("/silent");
        if !silent {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegun");
        }
        let _ = may_go_on
            .lock()
            .unwrap()
            .recv_timeout(Duration::from_secs(60));
        if silent {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        }
        let _ = socket.write_all(b"ended");
    });
    let rig = Rig::with(&origin.url(), TIMEOUTS);
    let begun = Instant::now();
    let answer = get(rig.public, "/fast/silent", &[]);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (504, "origin_timeout")
    );
    go_on.send(()).unwrap();
    let mut flowing = Connection::open(rig.public);
    flowing.send("GET /flowing/body HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(flowing.head().status, 200);
    let mut received = Vec::new();
    loop {
        let more = flowing.some_bytes();
        if more.is_empty() {
            break;
        }
        received.extend(more);
    }
    assert_eq!(received, b"begun", "the body breaks off");
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "of 2 minutes each"
    );
    go_on.send(()).unwrap();

    // Longer than the other routes wait, on the connections that they may have used.
    for path in ["/silent", "/body", "/flowing/silent", "/fast/body"] {
        let mut waiting = Connection::open(rig.public);
        let arrived = origin.arrived().len();
        waiting.send(format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"));
        eventually("it has arrived", || origin.arrived().len() > arrived);
        // Longer than the others wait: one of them gives up meanwhile.
        assert_eq!(get(rig.public, "/fast/silent", &[]).status, 504);
        // For both, in whatever order they wait.
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        let answer = waiting.response();
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text().ends_with("ended"), "{path}");
    }
}

const SIZES: &str = r#"
[listen]
max_body_bytes = 1000

[[routes]]
path = "/"
on_missing_key = "anonymous"

[[routes]]
path = "/small"
on_missing_key = "anonymous"
max_body_bytes = 10

[[routes]]
path = "/large"
on_missing_key = "anonymous"
max_body_bytes = 200000
"#;

fn sized(path: &str, bytes: usize) -> String {
    let body = "x".repeat(bytes);
    format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {bytes}\r\n\r\n{body}")
}

fn chunked(path: &str, bytes: usize) -> String {
    let body = "x".repeat(bytes);
    format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{body}\r\n0\r\n\r\n"
    )
}

#[test]
fn a_route_has_its_own_size_of_bodies_above_or_below_that_of_the_listener() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), SIZES);
    for (path, most) in [("/x", 1000), ("/small", 10), ("/large", 200_000)] {
        for form in [sized, chunked] {
            origin.forget();
            let answer = exchange(rig.public, form(path, most));
            assert_eq!(answer.status, 200, "{path} {answer:?}");
            assert_eq!(origin.only().body.len(), most, "{path}");
            let answer = exchange(rig.public, form(path, most + 1));
            assert_eq!(answer.code(), "body_too_large", "{path}");
            assert!(
                answer.text().contains(&most.to_string()),
                "{}",
                answer.text()
            );
        }
    }
    // Of an announced size that is too large, not a byte is waited for.
    let answer = exchange(
        rig.public,
        "POST /small HTTP/1.1\r\nhost: h\r\ncontent-length: 11\r\nexpect: 100-continue\r\n\r\n",
    );
    assert_eq!(answer.code(), "body_too_large");
}

#[test]
fn the_size_of_a_route_changes_in_a_running_gateway() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.toml");
    std::fs::write(&file, SIZES).unwrap();
    let gateway = Process::start(directory, &origin.url(), &[]);
    let status =
        |form: fn(&str, usize) -> String| exchange(gateway.public, form("/small", 5000)).status;
    assert_eq!([status(sized), status(chunked)], [413, 413]);
    std::fs::write(
        &file,
        SIZES.replace("max_body_bytes = 10\n", "max_body_bytes = 300000\n"),
    )
    .unwrap();
    eventually("the larger size is in force", || status(sized) == 200);
    assert_eq!(status(chunked), 200);
}
