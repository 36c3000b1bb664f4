//! Origins that fail, in every phase, and what the client is told.

use std::collections::HashSet;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::client::{Connection, DEADLINE, get};
use crate::nowhere::{Nowhere, nowhere};
use crate::origin::Origin;
use crate::rig::Rig;
use crate::running::eventually;

/// Deadlines short enough to wait for.
const SHORT: &str = "[origin]\nconnect_timeout = \"300ms\"\nfirst_byte_timeout = \"300ms\"\nidle_timeout = \"300ms\"\n";

#[test]
fn an_origin_that_is_down_is_a_502_and_the_gateway_stays_healthy() {
    let address = nowhere();
    let rig = Rig::with(&format!("http://{address}"), "");
    let key = rig.key("acme", &[]);
    let response = rig.get("/", &key);
    assert_eq!(
        (response.status, response.code().as_str()),
        (502, "origin_unreachable")
    );
    assert!(
        !response.text().contains(&address.to_string()),
        "the answer names the origin: {}",
        response.text()
    );
    assert_eq!(get(rig.admin, "/readyz", &[]).status, 200);
}

#[test]
fn a_name_that_does_not_resolve_is_a_502() {
    let rig = Rig::with("http://origin.invalid:9000", "");
    let key = rig.key("acme", &[]);
    assert_eq!(rig.get("/", &key).code(), "origin_unreachable");
}

#[test]
fn an_origin_that_comes_back_is_used_at_once() {
    let away = Nowhere::new();
    let file = "[origin]\nconnect_timeout = \"5min\"\nfirst_byte_timeout = \"5min\"\n";
    let rig = Rig::with(&format!("http://{}", away.address), file);
    let key = rig.key("acme", &[]);
    for _ in 0..10 {
        assert_eq!(rig.get("/", &key).status, 502, "without waiting");
    }
    let origin = away.listen();
    std::thread::spawn(move || {
        let (mut socket, _) = origin.accept().unwrap();
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback");
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    assert_eq!(rig.get("/", &key).text(), "back");
}

#[test]
fn an_origin_that_says_nothing_is_a_504_and_its_connection_is_closed() {
    let (closed, when_closed) = mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        closed
            .send(std::io::copy(&mut socket, &mut std::io::sink()).is_ok())
            .unwrap();
    });
    let rig = Rig::with(&format!("http://{address}"), SHORT);
    let key = rig.key("acme", &[]);
    let response = rig.get("/", &key);
    assert_eq!(
        (response.status, response.code().as_str()),
        (504, "origin_timeout")
    );
    when_closed.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn an_origin_that_takes_no_connection_is_a_504_in_the_time_that_connecting_has() {
    // Its queue is full, so that further connections are neither taken nor refused.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let fillers = (0..4).map(|_| {
        let filler =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address);
        filler
    });
    let _fillers: Vec<_> = fillers.collect();
    // The other limits are longer than the client waits.
    let file = "[origin]\nconnect_timeout = \"300ms\"\nfirst_byte_timeout = \"5min\"\nidle_timeout = \"5min\"\n";
    let rig = Rig::with(&format!("http://{}", address.as_socket().unwrap()), file);
    let key = rig.key("acme", &[]);
    let response = rig.get("/", &key);
    assert_eq!(
        (response.status, response.code().as_str()),
        (504, "origin_timeout")
    );
}

#[test]
fn a_body_that_is_reset_never_looks_complete() {
    for head in [
        "content-length: 100000",
        "transfer-encoding: chunked",
        "connection: close",
    ] {
        let (read, was_read) = mpsc::channel::<()>();
        let was_read = std::sync::Mutex::new(was_read);
        let origin = Origin::answering(move |_, socket| {
            let _ = write!(socket, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nbegun\r\n");
            was_read.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            socket2::SockRef::from(&*socket)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            // The last of the handles to it is closed once the script is over.
            let _ = socket.shutdown(Shutdown::Read);
        });
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]).header();
        let mut connection = Connection::open(rig.public);
        connection.send(format!("GET / HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
        assert_eq!(connection.head().status, 200);
        let mut body = connection.some_bytes();
        read.send(()).unwrap();
        loop {
            let more = connection.some_bytes();
            if more.is_empty() {
                break;
            }
            body.extend(more);
        }
        let text = String::from_utf8_lossy(&body);
        assert!(
            text.contains("begun") && !text.ends_with("0\r\n\r\n"),
            "{head}: {text:?}"
        );
        let counted = "postern_responses_broken_total{by=\"origin\"} 1\n";
        eventually("the origin is counted as the one to blame", || {
            get(rig.admin, "/metrics", &[]).text().contains(counted)
        });
    }
}

#[test]
fn answers_that_are_not_well_formed_never_pass() {
    for answer in [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
    ] {
        let origin = Origin::answering_bytes(answer);
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]);
        let response = rig.get("/", &key);
        assert_eq!(
            (response.status, response.code().as_str()),
            (502, "origin_bad_answer"),
            "{answer:?}"
        );
    }
}

#[test]
fn a_body_that_breaks_off_never_looks_complete() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nab",
    ] {
        let origin = Origin::answering_bytes(answer);
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]);
        let mut connection = Connection::open(rig.public);
        connection.send(format!(
            "GET / HTTP/1.1\r\nhost: h\r\n{}\r\nconnection: close\r\n\r\n",
            key.header()
        ));
        // Either the head went out before the end was known, or there was still time for a refusal.
        let mut bytes = Vec::new();
        loop {
            let more = connection.some_bytes();
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.starts_with("HTTP/1.1 502")
                || !text.ends_with("0\r\n\r\n") && !text.contains("content-length: 3\r\n"),
            "{answer:?}: {text:?}"
        );
        assert!(
            !text.starts_with("HTTP/1.1 200")
                || text.contains("content-length: 100000")
                || text.contains("chunked"),
            "{text:?}"
        );
    }
}

#[test]
fn bodyless_answers_keep_the_connection_in_step() {
    let origin = Origin::answering(|request, socket| {
        let answer: &[u8] = match request.line.split(' ').nth(1) {
            Some("/204") => b"HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\n",
            Some("/304") => b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 7\r\n\r\n",
            Some("/early") => b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfinal",
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext",
        };
        let _ = socket.write_all(answer);
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let mut connection = Connection::open(rig.public);
    let mut ask = |path: &str| {
        connection.send(format!(
            "GET {path} HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
            key.header()
        ));
        let response = connection.response();
        (response.status, response.text())
    };
    for (path, status, body) in [
        ("/204", 204, ""),
        ("/304", 304, ""),
        ("/early", 200, "final"),
        ("/204", 204, ""),
    ] {
        assert_eq!(ask(path), (status, body.to_owned()), "{path}");
        assert_eq!(ask("/after"), (200, "next".to_owned()), "after {path}");
    }
}

#[test]
fn a_body_that_ends_with_the_connection_arrives_whole() {
    for version in ["1.0", "1.1"] {
        let origin = Origin::answering_bytes(format!("HTTP/{version} 200 OK\r\n\r\nuntil the end"));
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]);
        let response = rig.get("/", &key);
        assert_eq!(
            (response.status, response.text().as_str(), response.complete),
            (200, "until the end", true),
            "HTTP/{version}"
        );
    }
}

#[test]
fn a_head_request_gets_the_length_and_no_body() {
    let origin = Origin::answering(|_, socket| {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n");
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let mut connection = Connection::open(rig.public);
    for _ in 0..2 {
        connection.send(format!(
            "HEAD / HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
            key.header()
        ));
        let head = connection.head();
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some("1234"))
        );
    }
}

#[test]
fn a_connection_that_the_origin_closed_while_idle_is_never_a_502() {
    let (served, answered) = (Mutex::new(HashSet::new()), AtomicUsize::new(0));
    let origin = Origin::answering(move |_, socket| {
        // The second request on a connection finds it dying; every third connection ends right after its first answer.
        // Each connection has a thread of its own; its port may have been another's before.
        let is_second = !served.lock().unwrap().insert(std::thread::current().id());
        if !is_second {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
        if is_second || answered.fetch_add(1, Ordering::SeqCst) % 3 == 0 {
            let _ = socket.shutdown(Shutdown::Both);
        }
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    let request = format!("GET / HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n");
    let mut connection = Connection::open(rig.public);
    for index in 0..1000 {
        connection.send(&request);
        let response = connection.response();
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "ok"),
            "request {index}"
        );
    }
}

#[test]
fn a_post_is_sent_once_even_when_the_connection_dies() {
    let posts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&posts);
    let origin = Origin::answering(move |request, socket| {
        if request.line.starts_with("POST") {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = socket.shutdown(Shutdown::Both);
        } else {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let mut connection = Connection::open(rig.public);
    connection.send(format!(
        "POST / HTTP/1.1\r\nhost: h\r\n{}\r\ncontent-length: 2\r\n\r\nhi",
        key.header()
    ));
    assert_eq!(connection.response().code(), "origin_unreachable");
    assert_eq!(posts.load(Ordering::SeqCst), 1);
}
