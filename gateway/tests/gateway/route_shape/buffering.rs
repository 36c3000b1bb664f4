//! Uploads of unknown length that are read whole, for an origin that wants to know the length.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::client::{Connection, exchange};
use crate::metrics::Scrape;
use crate::origin::Origin;
use crate::rig::{Process, Rig};
use crate::running::eventually;

const ROUTES: &str = r#"
[listen]
max_buffered_bytes = 100000
body_idle_timeout = "20s"

[[routes]]
path = "/"
on_missing_key = "anonymous"

[[routes]]
path = "/whole"
on_missing_key = "anonymous"
max_body_bytes = 60000
buffer_request_body = true

[[routes]]
path = "/small"
on_missing_key = "anonymous"
buffer_request_body = 10
"#;

/// An origin that takes no chunks.
fn wants_length() -> Origin {
    Origin::answering(|request, socket| {
        let answer: &[u8] = match request.one("transfer-encoding") {
            Some(_) => b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\n\r\n",
            None => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        };
        let _ = socket.write_all(answer);
    })
}

fn head(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n")
}

fn chunks(pieces: &[usize]) -> String {
    let chunk = |bytes: &usize| format!("{bytes:x}\r\n{}\r\n", "x".repeat(*bytes));
    pieces.iter().map(chunk).collect()
}

fn upload(method: &str, path: &str, pieces: &[usize]) -> String {
    format!("{}\r\n{}0\r\n\r\n", head(method, path), chunks(pieces))
}

#[test]
fn an_upload_of_unknown_length_reaches_its_origin_with_its_length() {
    let origin = wants_length();
    let rig = Rig::with(&origin.url(), ROUTES);
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for pieces in [
            &[][..],
            &[1],
            &[5, 1, 4],
            &[16 * 1024],
            &[16 * 1024, 1],
            &[20_000, 20_000, 20_000],
        ] {
            origin.forget();
            let mut client = Connection::open(rig.public);
            client.send(upload(method, "/whole", pieces));
            assert_eq!(client.response().status, 200, "{method} {pieces:?}");
            let arrived = origin.only();
            let length: usize = pieces.iter().sum();
            let announced = length.to_string();
            assert_eq!(arrived.one("content-length"), Some(announced.as_str()));
            assert_eq!(arrived.one("transfer-encoding"), None);
            assert_eq!(arrived.body, "x".repeat(length).as_bytes());
            // The connection goes on.
            client.send("GET /whole HTTP/1.1\r\nhost: h\r\n\r\n");
            assert_eq!(client.response().status, 200);
        }
    }
    // Another route streams, and a body with a length does anyway.
    assert_eq!(exchange(rig.public, upload("POST", "/x", &[5])).status, 411);
    origin.forget();
    let sized = "POST /small HTTP/1.1\r\nhost: h\r\ncontent-length: 20\r\n\r\n01234567890123456789";
    assert_eq!(exchange(rig.public, sized).status, 200);
    assert_eq!(origin.only().one("content-length"), Some("20"));
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let origin = wants_length();
    let rig = Rig::with(&origin.url(), ROUTES);
    let mut client = Connection::open(rig.public);
    client.send(format!(
        "{}expect: 100-continue\r\n\r\n",
        head("POST", "/whole")
    ));
    assert_eq!(client.head().status, 100);
    client.send(format!("{}0\r\n\r\n", chunks(&[7])));
    assert_eq!(client.response().status, 200);
    assert_eq!(origin.only().body, b"xxxxxxx");
}

#[test]
fn what_is_too_large_or_too_slow_or_broken_never_reaches_the_origin() {
    let origin = wants_length();
    let file = ROUTES.replace("\"20s\"", "\"100ms\"");
    let rig = Rig::with(&origin.url(), &file);
    for (path, most) in [("/whole", 60_000), ("/small", 10)] {
        let answer = exchange(rig.public, upload("POST", path, &[most, 1]));
        assert_eq!(answer.code(), "body_too_large");
        assert!(
            answer.text().contains(&most.to_string()),
            "{}",
            answer.text()
        );
    }
    let mut slow = Connection::open(rig.public);
    slow.send(format!("{}\r\n{}", head("POST", "/whole"), chunks(&[5])));
    assert_eq!(slow.response().code(), "request_timeout");
    let broken = format!("{}\r\n{}nothing\r\n", head("POST", "/whole"), chunks(&[5]));
    assert_eq!(exchange(rig.public, broken).status, 400);
    assert!(origin.arrived().is_empty());
}

#[test]
fn uploads_share_their_memory_and_give_it_back_also_where_a_client_leaves() {
    let origin = wants_length();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), ROUTES).unwrap();
    let gateway = Process::start(directory, &origin.url(), &[]);
    let status = || {
        let answer = exchange(gateway.public, upload("POST", "/whole", &[55_000]));
        (answer.status, answer.code_or_ok())
    };
    let none_is_held = || {
        eventually("no memory is held", || {
            let page = Scrape::of(gateway.admin);
            page.value("postern_request_buffer_bytes", &[]) == 0.0
        });
    };
    // A body claims memory as it grows, so a second upload too early would take it from the first.
    let begun = || {
        let mut upload = Connection::open(gateway.public);
        let start = format!("{}\r\n{}", head("POST", "/whole"), chunks(&[55_000]));
        upload.send(start);
        eventually("the upload has its memory", || {
            let page = Scrape::of(gateway.admin);
            page.value("postern_request_buffer_bytes", &[]) >= 55_000.0
        });
        upload
    };
    let ok = (200, "ok".to_owned());
    let full = (503, "overloaded".to_owned());
    assert_eq!(status(), ok);
    none_is_held();
    let mut held = begun();
    assert_eq!(status(), full, "no room is left for a second one");
    eventually("the log says why", || {
        let lines = gateway.access_log();
        lines.iter().any(|line| {
            let cause = line["cause"].as_str().unwrap_or_default();
            cause.contains("listen.max_buffered_bytes")
        })
    });
    // Without buffering, memory is no matter.
    assert_eq!(
        exchange(gateway.public, upload("POST", "/x", &[55_000])).status,
        411
    );
    held.send("0\r\n\r\n");
    assert_eq!(held.response().status, 200);
    none_is_held();
    assert_eq!(status(), ok, "there is room again");
    none_is_held();
    let leaving = begun();
    assert_eq!(status(), full, "no room is left");
    drop(leaving);
    none_is_held();
    assert_eq!(status(), ok, "what it had claimed is free");
}

#[test]
fn a_buffered_body_is_sent_again_where_the_method_allows_it() {
    let died = std::sync::Arc::new(AtomicUsize::new(0));
    let dies = |died: &std::sync::Arc<AtomicUsize>| {
        let died = std::sync::Arc::clone(died);
        Origin::answering(move |_, socket| {
            died.fetch_add(1, Ordering::SeqCst);
            let _ = socket.shutdown(std::net::Shutdown::Both);
        })
    };
    let (dying, living) = (dies(&died), wants_length());
    let file = format!(
        "[[upstreams]]\nname = \"pair\"\ntargets = [\"{}\", \"{}\"]\neject_after = 1000\n\
         [[routes]]\nupstream = \"pair\"\non_missing_key = \"anonymous\"\nbuffer_request_body = 1000\n",
        dying.url(),
        living.url()
    );
    let rig = Rig::with("http://127.0.0.1:9", &file);
    let statuses = |method: &str| {
        let ask = |_| exchange(rig.public, upload(method, "/", &[5, 5])).status;
        let mut statuses = [0, 1].map(ask);
        statuses.sort_unstable();
        statuses
    };
    assert_eq!(statuses("PUT"), [200, 200]);
    assert_eq!(died.load(Ordering::SeqCst), 1);
    let arrived = living.arrived();
    assert_eq!(arrived.len(), 2);
    assert!(arrived.iter().all(|request| request.body == b"xxxxxxxxxx"));
    assert_eq!(statuses("POST"), [200, 502]);
}
