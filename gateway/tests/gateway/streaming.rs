//! Bodies of any size, in both directions, as they come.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use crate::client::{Connection, DEADLINE, exchange};
use crate::origin::Origin;
use crate::rig::Rig;

const CHUNK: usize = 64 * 1024;

#[test]
fn request_bodies_arrive_byte_for_byte_with_a_length_or_in_chunks() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    let body: Vec<u8> = (0..300_000_u32)
        .map(|number| number.to_le_bytes()[0])
        .collect();
    let with_length = [
        format!(
            "POST /up HTTP/1.1\r\nhost: h\r\n{key}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes(),
        body.clone(),
    ]
    .concat();
    assert_eq!(exchange(rig.public, with_length).status, 200);
    let arrived = origin.arrived().pop().unwrap();
    assert_eq!(
        (
            arrived.one("content-length"),
            arrived.one("transfer-encoding")
        ),
        (Some("300000"), None)
    );
    assert!(arrived.body == body);

    let mut chunked =
        format!("PUT /up HTTP/1.1\r\nhost: h\r\n{key}\r\ntransfer-encoding: chunked\r\n\r\n")
            .into_bytes();
    for chunk in body.chunks(7777) {
        chunked.extend(
            format!("{:x}\r\n", chunk.len())
                .bytes()
                .chain(chunk.iter().copied())
                .chain(*b"\r\n"),
        );
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(exchange(rig.public, chunked).status, 200);
    let arrived = origin.arrived().pop().unwrap();
    assert_eq!(
        (
            arrived.one("content-length"),
            arrived.one("transfer-encoding")
        ),
        (None, Some("chunked"))
    );
    assert!(arrived.body == body);
}

#[test]
fn encoded_bodies_pass_as_they_are_and_no_encoding_is_asked_for_that_the_client_did_not() {
    // Begins like gzip and is none: whoever undid it would stumble.
    let body = b"\x1f\x8b\x08\x00 and no more of gzip";
    let origin = Origin::answering(move |_, socket| {
        let _ = write!(
            socket,
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let _ = socket.write_all(body);
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    for accepted in [None, Some("gzip, br;q=0.5")] {
        let line = accepted
            .map(|accepted| format!("accept-encoding: {accepted}\r\n"))
            .unwrap_or_default();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{key}\r\n{line}content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let response = exchange(rig.public, [head.as_bytes(), body].concat());
        assert_eq!(
            (
                response.header("content-encoding"),
                response.body.as_slice()
            ),
            (Some("gzip"), &body[..])
        );
        let arrived = origin.arrived().pop().unwrap();
        assert_eq!(
            (
                arrived.one("accept-encoding"),
                arrived.one("content-encoding")
            ),
            (accepted, Some("gzip"))
        );
        assert_eq!(arrived.body, body);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_whether_its_length_is_told_or_not() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), "[listen]\nmax_body_bytes = 1000\n");
    let key = rig.key("acme", &[]).header();
    let told = exchange(
        rig.public,
        format!("POST / HTTP/1.1\r\nhost: h\r\n{key}\r\ncontent-length: 1001\r\n\r\n"),
    );
    assert_eq!(
        (told.status, told.code().as_str(), told.header("connection")),
        (413, "body_too_large", Some("close"))
    );
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let untold = exchange(
        rig.public,
        format!("POST / HTTP/1.1\r\nhost: h\r\n{key}\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"),
    );
    assert_eq!(
        (untold.status, untold.code().as_str()),
        (413, "body_too_large")
    );
    let fits = exchange(
        rig.public,
        format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{key}\r\ncontent-length: 1000\r\n\r\n{}",
            "x".repeat(1000)
        ),
    );
    assert_eq!(fits.status, 200);
}

#[test]
fn a_request_without_a_key_is_refused_before_its_body_is_sent() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let refused = exchange(
        rig.public,
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n",
    );
    assert_eq!(
        (refused.code().as_str(), refused.header("connection")),
        ("api_key_missing", Some("close"))
    );
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on_and_the_origin_hears_nothing_of_it() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    let mut connection = Connection::open(rig.public);
    connection.send(format!(
        "POST / HTTP/1.1\r\nhost: h\r\n{key}\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    ));
    assert_eq!(connection.head().status, 100);
    connection.send("hi");
    assert_eq!(connection.response().status, 200);
    let arrived = origin.arrived().pop().unwrap();
    assert_eq!(
        (arrived.one("expect"), arrived.body.as_slice()),
        (None, &b"hi"[..])
    );
    let mut refused = Connection::open(rig.public);
    refused.send("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(
        refused.response().code(),
        "api_key_missing",
        "the body of a refused request was asked for"
    );
    let other = exchange(
        rig.public,
        format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{key}\r\nexpect: 200-ok\r\ncontent-length: 0\r\n\r\n"
        ),
    );
    assert_eq!(
        (other.status, other.code().as_str()),
        (417, "expectation_failed")
    );
}

#[test]
fn events_reach_the_client_one_by_one_while_the_origin_is_still_sending() {
    let (next, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::answering(move |_, socket| {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        for number in 0..3 {
            let event = format!("data: {number}\n\n");
            let _ = write!(socket, "{:x}\r\n{event}\r\n", event.len());
            // The next one is sent only once the client has read this one.
            if wait.lock().unwrap().recv_timeout(DEADLINE).is_err() {
                return;
            }
        }
        let _ = socket.write_all(b"0\r\n\r\n");
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    let mut connection = Connection::open(rig.public);
    connection.send(format!("GET /events HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
    assert_eq!(
        connection.head().header("content-type"),
        Some("text/event-stream")
    );
    for number in 0..3 {
        let mut seen = String::new();
        while !seen.contains(&format!("data: {number}")) {
            let more = connection.some_bytes();
            assert!(!more.is_empty(), "the stream ended after {seen:?}");
            seen.push_str(&String::from_utf8(more).unwrap());
        }
        next.send(()).unwrap();
    }
}

#[test]
fn when_the_client_leaves_the_origins_connection_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let rig = Rig::with(&format!("http://{address}"), "");
    let (arrived, when_arrived) = mpsc::channel();
    let (closed, when_closed) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut buffer = [0; 4096];
        arrived.send(socket.read(&mut buffer).unwrap() > 0).unwrap();
        closed
            .send(matches!(socket.read(&mut buffer), Ok(0)))
            .unwrap();
    });
    let key = rig.key("acme", &[]).header();
    let mut connection = Connection::open(rig.public);
    connection.send(format!("GET /wait HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
    assert!(when_arrived.recv_timeout(DEADLINE).unwrap());
    drop(connection);
    assert!(
        when_closed.recv_timeout(DEADLINE).unwrap(),
        "the origin's connection stayed open"
    );
}

#[test]
fn memory_stays_flat_for_a_gigabyte_in_each_direction() {
    const TOTAL: usize = 1024 * 1024 * 1024;
    let origin = std::thread::spawn(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                std::thread::spawn(move || stream_a_gigabyte(socket.unwrap(), TOTAL));
            }
        });
        address
    });
    let origin = origin.join().unwrap();
    let rig = crate::rig::Process::before(&format!("http://{origin}"));
    let key = rig.key("acme");
    let idle = rig.resident_bytes();

    let mut connection = Connection::open(rig.public);
    connection.send(format!("GET /down HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
    assert_eq!(
        connection.head().header("content-length"),
        Some(TOTAL.to_string().as_str())
    );
    let (mut received, mut most) = (0, 0);
    while received < TOTAL {
        let more = connection.some_bytes().len();
        assert!(more > 0, "the download ended after {received} bytes");
        received += more;
        if received % (64 * CHUNK) < more {
            most = most.max(rig.resident_bytes());
        }
    }

    let mut connection = Connection::open(rig.public);
    connection.send(format!(
        "POST /up HTTP/1.1\r\nhost: h\r\n{key}\r\ncontent-length: {TOTAL}\r\n\r\n"
    ));
    let chunk = vec![b'x'; CHUNK];
    for index in 0..TOTAL / CHUNK {
        connection.send(&chunk);
        if index % 256 == 0 {
            most = most.max(rig.resident_bytes());
        }
    }
    assert_eq!(connection.response().text(), TOTAL.to_string());
    assert!(
        most < 64 * 1024 * 1024,
        "resident: {idle} bytes when idle, {most} at most"
    );
}

/// Answers `GET` with `total` bytes, and anything else with the number of bytes it read.
fn stream_a_gigabyte(mut socket: std::net::TcpStream, total: usize) {
    let mut buffer = vec![0; CHUNK];
    let mut head = Vec::new();
    let end = loop {
        let read = socket.read(&mut buffer).unwrap_or(0);
        if read == 0 {
            return;
        }
        head.extend_from_slice(&buffer[..read]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    if head.starts_with(b"GET /down") {
        let _ = write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n");
        for _ in 0..total / CHUNK {
            if socket.write_all(&buffer).is_err() {
                return;
            }
        }
    } else {
        let expected = if head.starts_with(b"POST /up") {
            total
        } else {
            0
        };
        let mut body = head.len() - end;
        while body < expected {
            match socket.read(&mut buffer) {
                Ok(read) if read > 0 => body += read,
                _ => return,
            }
        }
        let text = body.to_string();
        let _ = write!(
            socket,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
    }
}

#[test]
fn a_client_that_stops_in_the_middle_of_its_body_is_told_so_and_the_origin_never_takes_it_for_whole()
 {
    let (ended, when_ended) = mpsc::channel();
    let origin = std::thread::spawn(move || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut arrived = Vec::new();
            let _ = socket.read_to_end(&mut arrived);
            ended.send(String::from_utf8(arrived).unwrap()).unwrap();
        });
        address
    });
    let origin = origin.join().unwrap();
    let rig = Rig::with(
        &format!("http://{origin}"),
        "[listen]\nbody_idle_timeout = \"300ms\"\n",
    );
    let key = rig.key("acme", &[]).header();
    let mut connection = Connection::open(rig.public);
    connection.send(format!(
        "POST / HTTP/1.1\r\nhost: h\r\n{key}\r\ntransfer-encoding: chunked\r\n\r\n10000\r\n{}\r\n",
        "x".repeat(0x10000)
    ));
    let response = connection.response();
    assert_eq!(
        (response.status, response.code().as_str()),
        (408, "request_timeout")
    );
    assert!(connection.is_closed());
    let arrived = when_ended.recv_timeout(DEADLINE).unwrap();
    assert!(
        arrived.contains("xxx") && !arrived.ends_with("0\r\n\r\n"),
        "{arrived}"
    );
}

#[test]
fn an_answer_that_breaks_off_is_502_or_seen_to_be_cut_and_never_nothing() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcd",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n",
    ] {
        let origin = Origin::answering_bytes(answer);
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]).header();
        for _ in 0..30 {
            let mut client = std::net::TcpStream::connect(rig.public).unwrap();
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            write!(
                client,
                "GET / HTTP/1.1\r\nhost: h\r\n{key}\r\nconnection: close\r\n\r\n"
            )
            .unwrap();
            let mut told = String::new();
            let _ = client.read_to_string(&mut told);
            let (head, rest) = told.split_once("\r\n\r\n").expect("an answer");
            if head.starts_with("HTTP/1.1 502") {
                assert!(rest.contains("origin_bad_answer"), "{told}");
            } else {
                assert!(head.starts_with("HTTP/1.1 200"), "{told}");
                assert!(
                    rest.contains("abcd") && !rest.contains("0\r\n\r\n"),
                    "{told}"
                );
            }
            drop(client);
        }
    }
}
