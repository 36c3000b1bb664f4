//! Answers that come while the request is still being sent: refusals, streams in both directions, and ends in the middle.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use crate::client::{Connection, DEADLINE};
use crate::rig::{Process, Rig};
use crate::running::eventually;

/// How a request tells where its body ends.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

impl Framing {
    fn header(self) -> String {
        match self {
            Self::Length(length) => format!("content-length: {length}"),
            Self::Chunked => "transfer-encoding: chunked".to_owned(),
        }
    }

    /// These bytes as the next of the body.
    fn frame(self, bytes: &str) -> String {
        match self {
            Self::Length(_) => bytes.to_owned(),
            Self::Chunked => format!("{:x}\r\n{bytes}\r\n", bytes.len()),
        }
    }

    /// What follows the last of them.
    fn end(self) -> &'static str {
        match self {
            Self::Length(_) => "",
            Self::Chunked => "0\r\n\r\n",
        }
    }
}

fn begin(rig: std::net::SocketAddr, key: &str, framing: Framing) -> Connection {
    let mut connection = Connection::open(rig);
    connection.send(format!(
        "POST /up HTTP/1.1\r\nhost: h\r\n{key}\r\n{}\r\n\r\n",
        framing.header()
    ));
    connection
}

/// An origin that does as it is told as soon as it has the head of a request; it closes afterwards. Says how often it was
/// connected to.
fn origin(script: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> (String, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (script, connections) = (Arc::new(script), Arc::new(Mutex::new(0)));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            *count.lock().unwrap() += 1;
            let (mut socket, script) = (socket.unwrap(), Arc::clone(&script));
            std::thread::spawn(move || {
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
                socket.set_nodelay(true).unwrap();
                while read_until(&mut socket, "\r\n\r\n") {
                    script(&mut socket);
                }
            });
        }
    });
    (url, connections)
}

/// Reads up to the end of `marker`; whether it came.
fn read_until(socket: &mut TcpStream, marker: &str) -> bool {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(marker.as_bytes()) {
        match socket.read(&mut byte) {
            Ok(1) => read.push(byte[0]),
            _ => return false,
        }
    }
    true
}

fn channel<T>() -> (Mutex<Sender<T>>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    (Mutex::new(sender), receiver)
}

#[test]
fn an_early_answer_reaches_a_client_that_pauses_in_its_body() {
    for (framing, answer) in [
        (Framing::Length(100), "content-length: 2\r\n\r\nno"),
        (
            Framing::Chunked,
            "transfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        ),
        (Framing::Chunked, "content-length: 0\r\n\r\n"),
    ] {
        let (url, connections) = origin(move |socket| {
            let _ = write!(socket, "HTTP/1.1 401 Unauthorized\r\n{answer}");
            // What follows is no request.
            let _ = socket.read_to_end(&mut Vec::new());
        });
        let process = Process::before(&url);
        let key = process.key("acme");
        let mut connection = begin(process.public, &key, framing);
        connection.send(framing.frame("half"));
        let response = connection.response();
        assert_eq!(
            (response.status, response.complete),
            (401, true),
            "{framing:?} {answer:?}"
        );
        assert_eq!(
            response.header("connection"),
            Some("close"),
            "{framing:?} {answer:?}"
        );
        assert!(connection.is_closed());
        eventually("a line", || {
            process
                .access_log()
                .iter()
                .any(|line| line["path"] == "/up" && line["status"] == 401)
        });
        let line = process
            .access_log()
            .into_iter()
            .find(|line| line["status"] == 401)
            .unwrap();
        assert_eq!(line["ending"], "complete", "{line}");
        assert_eq!(*connections.lock().unwrap(), 1);
    }
}

#[test]
fn a_connection_whose_request_was_cut_off_by_its_answer_serves_no_other() {
    let (url, connections) = origin(|socket| {
        let _ = socket.write_all(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\n\r\nno");
    });
    let rig = Rig::with(&url, "");
    let key = rig.key("acme", &[]).header();
    for request in 1..=3 {
        let mut connection = begin(rig.public, &key, Framing::Length(1 << 30));
        connection.send(vec![b'x'; 1 << 20]);
        let response = connection.response();
        assert_eq!((response.status, response.text().as_str()), (413, "no"));
        assert_eq!(*connections.lock().unwrap(), request);
    }
}

#[test]
fn an_upload_that_trickles_reaches_the_origin_byte_by_byte() {
    for framing in [Framing::Length(20), Framing::Chunked] {
        let (arrived, when_arrived) = channel();
        let (url, _) = origin(move |socket| {
            for _ in 0..20 {
                if matches!(framing, Framing::Chunked) {
                    assert!(read_until(socket, "1\r\n"));
                }
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                arrived.lock().unwrap().send(byte[0]).unwrap();
                if matches!(framing, Framing::Chunked) {
                    assert!(read_until(socket, "\r\n"));
                }
            }
            assert!(read_until(socket, framing.end()));
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        });
        let rig = Rig::with(&url, "");
        let mut connection = begin(rig.public, &rig.key("acme", &[]).header(), framing);
        for byte in b'a'..b'a' + 20 {
            connection.send(framing.frame(&char::from(byte).to_string()));
            // The next one is sent only once the origin has this one.
            assert_eq!(when_arrived.recv_timeout(DEADLINE), Ok(byte), "{framing:?}");
        }
        connection.send(framing.end());
        let response = connection.response();
        assert_eq!(
            (response.status, response.header("connection")),
            (200, None),
            "{framing:?}"
        );
    }
}

#[test]
fn request_and_answer_stream_at_the_same_time() {
    const ROUNDS: usize = 20;
    for framing in [Framing::Length(ROUNDS * 6), Framing::Chunked] {
        let (url, connections) = origin(move |socket| {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            for round in 0..ROUNDS {
                assert!(read_until(socket, &format!("ping{round:02}")));
                // In one piece: it is passed on as it comes, and so framed anew.
                let _ = socket.write_all(format!("6\r\npong{round:02}\r\n").as_bytes());
            }
            assert!(read_until(socket, framing.end()));
            let _ = socket.write_all(b"0\r\n\r\n");
        });
        let rig = Rig::with(&url, "");
        let key = rig.key("acme", &[]).header();
        for _ in 0..2 {
            let mut connection = begin(rig.public, &key, framing);
            assert_eq!(connection.head().status, 200);
            let mut seen = String::new();
            for round in 0..ROUNDS {
                connection.send(framing.frame(&format!("ping{round:02}")));
                while !seen.contains(&format!("pong{round:02}")) {
                    let more = connection.some_bytes();
                    assert!(
                        !more.is_empty(),
                        "{framing:?}: the answer ended in round {round} after {seen:?}"
                    );
                    seen.push_str(&String::from_utf8(more).unwrap());
                }
            }
            connection.send(framing.end());
            while !connection.is_closed() {
                seen.push_str(&String::from_utf8(connection.some_bytes()).unwrap());
            }
            assert!(seen.ends_with("0\r\n\r\n"), "{framing:?}: {seen:?}");
        }
        // Both messages were whole, so the connection to the origin served both.
        assert_eq!(*connections.lock().unwrap(), 1, "{framing:?}");
    }
}

#[test]
fn megabytes_pass_in_both_directions_at_once() {
    const TOTAL: usize = 16 << 20;
    let (url, _) = origin(|socket| {
        let _ = write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: {TOTAL}\r\n\r\n");
        let (mut from, mut to) = (socket.try_clone().unwrap().take(TOTAL as u64), &*socket);
        let _ = std::io::copy(&mut from, &mut to);
    });
    let rig = Rig::with(&url, "");
    let mut connection = begin(
        rig.public,
        &rig.key("acme", &[]).header(),
        Framing::Length(TOTAL),
    );
    let mut up = connection.socket().try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let body: Vec<u8> = (0..TOTAL)
            .map(|number| (number / 7).to_le_bytes()[0])
            .collect();
        up.write_all(&body).unwrap();
        body
    });
    let response = connection.response();
    assert!(response.complete && response.body == sending.join().unwrap());
}

/// An origin that begins its answer, and then says how the request ended.
fn beginning() -> (String, Receiver<String>) {
    let (ended, when_ended) = channel();
    let (url, _) = origin(move |socket| {
        let _ = socket
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n");
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        ended
            .lock()
            .unwrap()
            .send(String::from_utf8(rest).unwrap())
            .unwrap();
    });
    (url, when_ended)
}

#[test]
fn a_body_that_ends_badly_within_its_answer_ends_both_and_is_whole_to_nobody() {
    for framing in [Framing::Length(100), Framing::Chunked] {
        for how in ["leaves", "stalls", "breaks its framing", "sends too much"] {
            if matches!(framing, Framing::Length(_)) && !matches!(how, "leaves" | "stalls") {
                continue;
            }
            // Short where the client stalls, and never over before a busy machine has sent the rest.
            let idle = if how == "stalls" { "1s" } else { "30s" };
            let limits = [
                ("GATEWAY__LISTEN__BODY_IDLE_TIMEOUT", idle),
                ("GATEWAY__LISTEN__MAX_BODY_BYTES", "100"),
            ];
            let (url, when_ended) = beginning();
            let process = Process::start(tempfile::tempdir().unwrap(), &url, &limits);
            let key = process.key("acme");
            let mut connection = begin(process.public, &key, framing);
            connection.send(framing.frame("hello"));
            assert_eq!(connection.head().status, 200);
            match how {
                "leaves" => connection.socket().shutdown(Shutdown::Write).unwrap(),
                "stalls" => {}
                "sends too much" => connection.send(framing.frame(&"x".repeat(200))),
                _ => connection.send("no size\r\n"),
            }
            let mut rest = Vec::new();
            while !connection.is_closed() {
                rest.extend(connection.some_bytes());
            }
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{framing:?}, client {how}");
            let arrived = when_ended.recv_timeout(DEADLINE).unwrap();
            assert!(
                arrived.contains("hello") && !arrived.ends_with("0\r\n\r\n"),
                "{framing:?}, client {how}: {arrived:?}"
            );
            eventually("a line", || {
                process
                    .access_log()
                    .iter()
                    .any(|line| line["path"] == "/up")
            });
            let line = process
                .access_log()
                .into_iter()
                .find(|line| line["path"] == "/up")
                .unwrap();
            assert_eq!(
                (&line["status"], &line["ending"]),
                (&200.into(), &"client_gone".into()),
                "{framing:?}, client {how}"
            );
        }
    }
}
