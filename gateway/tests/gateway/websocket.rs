//! WebSocket through the gateway: the same authentication, then the bytes of both sides as they are.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use crate::client::{Connection, DEADLINE, exchange};
use crate::origin::Origin;
use crate::rig::{Rig, SECRET};

/// An origin that agrees, says `welcome` in the same write, and sends back whatever it gets.
fn echo() -> Origin {
    Origin::answering(|request, socket| {
        let accept = request
            .one("sec-websocket-key")
            .unwrap_or_default()
            .to_owned();
        let _ = write!(
            socket,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: for-{accept}\r\nsec-websocket-protocol: chat\r\n\r\nwelcome"
        );
        let mut buffer = [0; 65536];
        while let Ok(read @ 1..) = socket.read(&mut buffer) {
            if socket.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
        let _ = socket.shutdown(Shutdown::Write);
    })
}

fn handshake(key: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nhost: h\r\n{key}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: abc\r\nsec-websocket-protocol: chat, other\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n"
    )
}

fn read_until(connection: &mut Connection, bytes: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < bytes {
        let more = connection.some_bytes();
        assert!(
            !more.is_empty(),
            "the tunnel ended after {} bytes",
            read.len()
        );
        read.extend(more);
    }
    read
}

#[test]
fn bytes_pass_in_both_directions_after_the_handshake() {
    let origin = echo();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let mut connection = Connection::open(rig.public);
    connection.send(handshake(&key.header()));
    let head = connection.head();
    assert_eq!(head.status, 101, "{head:?}");
    assert_eq!(
        (head.header("upgrade"), head.header("connection")),
        (Some("websocket"), Some("upgrade"))
    );
    assert_eq!(
        (
            head.header("sec-websocket-accept"),
            head.header("sec-websocket-protocol")
        ),
        (Some("for-abc"), Some("chat"))
    );
    assert_eq!(
        (
            head.header("transfer-encoding"),
            head.header("content-length")
        ),
        (None, None)
    );
    assert_eq!(read_until(&mut connection, 7), b"welcome");
    let bytes: Vec<u8> = (0..1_000_000_u32)
        .map(|number| number.to_le_bytes()[1])
        .collect();
    let mut sending = connection.socket().try_clone().unwrap();
    let sent = bytes.clone();
    let sender = std::thread::spawn(move || {
        sending.write_all(&sent).unwrap();
        sending
    });
    assert!(read_until(&mut connection, bytes.len()) == bytes);
    drop(sender.join().unwrap());

    let arrived = origin.only();
    assert_eq!(arrived.one("x-shared-secret"), Some(SECRET));
    assert_eq!(
        (arrived.one("upgrade"), arrived.one("authorization")),
        (Some("websocket"), None)
    );
    assert_eq!(
        arrived.one("connection").map(str::to_lowercase),
        Some("upgrade".to_owned())
    );
    for (name, value) in [
        ("sec-websocket-key", "abc"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat, other"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ] {
        assert_eq!(arrived.one(name), Some(value));
    }
}

#[test]
fn the_end_of_one_side_ends_the_other() {
    let origin = Origin::answering(|_, socket| {
        let _ = socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nbye");
        let _ = socket.shutdown(Shutdown::Both);
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let mut connection = Connection::open(rig.public);
    connection.send(handshake(&key.header()));
    assert_eq!(connection.head().status, 101);
    assert_eq!(read_until(&mut connection, 3), b"bye");
    assert!(connection.is_closed());
}

#[test]
fn without_a_key_there_is_no_handshake() {
    let origin = echo();
    let rig = Rig::before(&origin);
    assert_eq!(
        exchange(rig.public, handshake("x-none: 1")).code(),
        "api_key_missing"
    );
    assert!(origin.arrived().is_empty());
}

#[test]
fn an_origin_that_does_not_agree_is_passed_on_as_it_is() {
    let origin = Origin::answering(|_, socket| {
        let _ = socket.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let mut connection = Connection::open(rig.public);
    connection.send(handshake(&key.header()));
    let response = connection.response();
    assert_eq!(
        (
            response.status,
            response.text().as_str(),
            response.header("connection")
        ),
        (403, "no", Some("close"))
    );
    assert!(connection.is_closed());
}

#[test]
fn a_handshake_that_readers_understand_differently_is_refused() {
    let origin = echo();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    for (start, lines) in [
        ("GET", "upgrade: websocket\r\n"),
        (
            "GET",
            "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\n",
        ),
        ("POST", "connection: upgrade\r\nupgrade: websocket\r\n"),
    ] {
        let response = exchange(
            rig.public,
            format!("{start} /ws HTTP/1.1\r\nhost: h\r\n{key}\r\n{lines}\r\n"),
        );
        assert_eq!(
            (response.status, response.code().as_str()),
            (400, "bad_request"),
            "{start} {lines}"
        );
    }
    assert!(origin.arrived().is_empty());
}

#[test]
fn another_protocol_is_tunnelled_where_its_route_names_it() {
    let origin = Origin::answering(|_, socket| {
        let _ = socket.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: echo/1\r\n\r\n",
        );
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = socket.read(&mut buffer) {
            let _ = socket.write_all(&buffer[..read]);
        }
        let _ = socket.write_all(b"half closed");
        let _ = socket.shutdown(Shutdown::Both);
    });
    let file = "[[routes]]\nupgrades = [\"websocket\", \"Echo/1\"]\n";
    let rig = Rig::with(&origin.url(), file);
    let key = rig.key("acme", &[]).header();
    let mut connection = Connection::open(rig.public);
    connection.send(format!(
        "GET / HTTP/1.1\r\nhost: h\r\n{key}\r\nconnection: upgrade\r\nupgrade: echo/1\r\n\r\n"
    ));
    let head = connection.head();
    assert_eq!(
        (
            head.status,
            head.header("upgrade"),
            head.header("transfer-encoding")
        ),
        (101, Some("echo/1"), None)
    );
    connection.send("hello");
    assert_eq!(read_until(&mut connection, 5), b"hello");
    connection.socket().shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_until(&mut connection, 11), b"half closed");
}

#[test]
fn an_offer_that_no_route_names_is_ignored() {
    let origin = Origin::hello();
    let file = "[[routes]]\n[[routes]]\npath = \"/plain\"\nupgrades = []\n";
    let rig = Rig::with(&origin.url(), file);
    let key = rig.key("acme", &[]).header();
    for (path, protocol) in [
        ("/", "h2c-14"),
        ("/", "HTTP/2.0"),
        ("/", "TLS/1.2"),
        ("/", "connect-udp"),
        ("/", "echo/1"),
        ("/plain", "websocket"),
    ] {
        origin.forget();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: h\r\n{key}\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n"
        );
        let response = exchange(rig.public, request);
        let found = (response.status, response.header("upgrade"));
        assert_eq!(found, (200, None), "{path} {protocol}");
        assert_eq!(origin.only().one("upgrade"), None, "{path} {protocol}");
    }
}

#[test]
fn an_upgrade_to_http_2_is_left_out() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    let response = exchange(
        rig.public,
        format!(
            "GET / HTTP/1.1\r\nhost: h\r\n{key}\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: x\r\n\r\n"
        ),
    );
    assert_eq!(response.status, 200);
    assert_eq!(
        (
            origin.only().one("upgrade"),
            origin.only().one("http2-settings")
        ),
        (None, None)
    );
}

/// What a client says before there is agreement would be taken for a request by an origin that does not agree.
#[test]
fn nothing_that_follows_a_handshake_reaches_the_origin_before_it_has_agreed() {
    const EARLY: &str = "GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n";
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";
    let declined = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno";
    for (answer, status) in [(agreed, 101), (declined, 200)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let rig = Rig::with(&format!("http://{}", listener.local_addr().unwrap()), "");
        let key = rig.key("acme", &[]).header();
        let mut client = Connection::open(rig.public);
        client.send(format!("{}{EARLY}", handshake(&key)));
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        // Long enough for what was in the same packet.
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        assert!(
            socket
                .read(&mut [0; 1])
                .is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
            "{status}: it came early"
        );
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(answer.as_bytes()).unwrap();
        assert_eq!(client.head().status, status);
        let mut rest = vec![0; EARLY.len()];
        if status == 101 {
            socket.read_exact(&mut rest).unwrap();
            assert_eq!(rest, EARLY.as_bytes());
        } else {
            assert_eq!(
                socket.read(&mut rest).unwrap_or(0),
                0,
                "the connection is used again, or what follows came after all"
            );
        }
    }
}
