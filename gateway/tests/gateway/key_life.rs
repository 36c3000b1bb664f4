//! What becomes of a key while it is used: it is restricted, rolled, revoked.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::client::{Connection, DEADLINE, get};
use crate::origin::Origin;
use crate::rig::Rig;
use crate::running::eventually;

/// Sends an event and then waits, with the response open, until the connection is closed from the other side.
fn endless() -> Origin {
    Origin::answering(|request, socket| {
        let head = if request.line.starts_with("GET /events") {
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
        } else if request.line.starts_with("GET /ws") {
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        };
        let _ = socket.write_all(head.as_bytes());
        if !head.ends_with("ok") {
            let _ = socket.set_read_timeout(Some(DEADLINE));
            let _ = socket.read(&mut [0; 64]);
        }
    })
}

#[test]
fn open_streams_end_with_their_key_and_others_go_on() {
    let origin = endless();
    for ending in [
        &["keys", "revoke", "KEY"][..],
        &["keys", "disable", "KEY"],
        &["consumers", "delete", "acme"],
        &["consumers", "update", "acme", "--allow-ip", "192.0.2.0/24"],
        &["consumers", "update", "acme", "--scope", "elsewhere"],
        &["keys", "update", "KEY", "--allow-ip", "192.0.2.0/24"],
        &["keys", "update", "KEY", "--allow-method", "POST"],
        &["keys", "update", "KEY", "--allow-route", "elsewhere"],
    ] {
        let rig = Rig::with(&origin.url(), "[[routes]]\nscopes = [\"here\"]\n");
        let (mine, other) = (
            rig.key("acme", &["--scope", "here"]),
            rig.key("other", &["--scope", "here"]),
        );
        let ending: Vec<&str> = ending
            .iter()
            .map(|word| {
                if *word == "KEY" {
                    mine.id.as_str()
                } else {
                    *word
                }
            })
            .collect();
        let open = |path: &str, key: &str| {
            let mut connection = Connection::open(rig.public);
            let upgrade = if path == "/ws" {
                "connection: upgrade\r\nupgrade: websocket\r\n"
            } else {
                ""
            };
            connection.send(format!(
                "GET {path} HTTP/1.1\r\nhost: h\r\n{key}\r\n{upgrade}\r\n"
            ));
            let status = connection.head().status;
            assert_eq!(status, if path == "/ws" { 101 } else { 200 }, "{path}");
            connection
        };
        let (mut events, mut tunnel) =
            (open("/events", &mine.header()), open("/ws", &mine.header()));
        let mut untouched = open("/events", &other.header());
        assert!(String::from_utf8_lossy(&events.some_bytes()).contains("data: 1"));
        assert!(String::from_utf8_lossy(&untouched.some_bytes()).contains("data: 1"));
        rig.done(&ending);
        // Nothing more is sent in any of them; they end all the same.
        for connection in [&mut events, &mut tunnel] {
            assert!(connection.is_closed(), "{ending:?}");
        }
        untouched
            .socket()
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let went_on = untouched.socket().read(&mut [0; 64]);
        assert!(went_on.is_err(), "{ending:?}: {went_on:?}");
    }
}

/// An origin that takes what comes and answers nothing. Tells what has come on a connection whenever there is more, and in the
/// end that it has ended.
fn silent() -> (String, mpsc::Receiver<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, arrived) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, told) = (socket.unwrap(), told.clone());
            std::thread::spawn(move || {
                let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(read @ 1..) = socket.read(&mut buffer) {
                    all.extend_from_slice(&buffer[..read]);
                    let _ = told.send(Some(String::from_utf8_lossy(&all).into_owned()));
                }
                let _ = told.send(None);
            });
        }
    });
    (url, arrived)
}

#[test]
fn an_upload_and_a_wait_for_an_answer_end_with_their_key() {
    let (url, arrived) = silent();
    let upload =
        "POST /up HTTP/1.1\r\nhost: h\r\nKEY\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let wait = "GET /slow HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n";
    let websocket =
        "GET /ws HTTP/1.1\r\nhost: h\r\nKEY\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    for (request, last, ending, code) in [
        (
            upload,
            "first\r\n",
            &["keys", "revoke", "KEY"][..],
            "api_key_revoked",
        ),
        (
            upload,
            "first\r\n",
            &["keys", "disable", "KEY"],
            "api_key_disabled",
        ),
        (upload, "first\r\n", &[], "api_key_expired"),
        (
            upload,
            "first\r\n",
            &["consumers", "delete", "acme"],
            "api_key_invalid",
        ),
        (
            upload,
            "first\r\n",
            &["consumers", "update", "acme", "--allow-ip", "192.0.2.0/24"],
            "key_restricted",
        ),
        (
            wait,
            "\r\n\r\n",
            &["keys", "revoke", "KEY"],
            "api_key_revoked",
        ),
        (wait, "\r\n\r\n", &[], "api_key_expired"),
        (
            websocket,
            "\r\n\r\n",
            &["keys", "revoke", "KEY"],
            "api_key_revoked",
        ),
    ] {
        // Every other limit is longer than the client waits.
        let file =
            "[listen]\nbody_idle_timeout = \"5min\"\n[origin]\nfirst_byte_timeout = \"5min\"\n";
        let rig = Rig::with(&url, file);
        let key = rig.key(
            "acme",
            if ending.is_empty() {
                &["--expires", "8s"]
            } else {
                &[]
            },
        );
        let mut connection = Connection::open(rig.public);
        connection.send(request.replace("KEY", &key.header()));
        while !arrived
            .recv_timeout(DEADLINE)
            .unwrap()
            .is_some_and(|bytes| bytes.ends_with(last))
        {}
        if !ending.is_empty() {
            rig.done(
                &ending
                    .iter()
                    .map(|word| {
                        if *word == "KEY" {
                            key.id.as_str()
                        } else {
                            *word
                        }
                    })
                    .collect::<Vec<_>>(),
            );
        }
        let response = connection.response();
        assert_eq!(response.code(), code, "{request} {ending:?}");
        connection.try_send("5\r\nagain\r\n");
        assert_eq!(
            arrived.recv_timeout(DEADLINE).unwrap(),
            None,
            "{request} {ending:?}: the origin gets more"
        );
        if request == upload {
            assert_eq!(response.header("connection"), Some("close"), "{ending:?}");
        }
    }
}

#[test]
fn a_stream_ends_when_the_time_of_its_key_is_over() {
    let origin = endless();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &["--expires", "8s"]);
    let mut events = Connection::open(rig.public);
    events.send(format!(
        "GET /events HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
        key.header()
    ));
    assert_eq!(events.head().status, 200);
    assert!(String::from_utf8_lossy(&events.some_bytes()).contains("data: 1"));
    assert!(events.is_closed());
}

#[test]
fn a_download_that_never_pauses_ends_too() {
    let (stop, stopped) = mpsc::channel::<()>();
    let stopped = Mutex::new(stopped);
    let origin = Origin::answering(move |request, socket| {
        if !request.line.starts_with("GET /download") {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            return;
        }
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n");
        let stopped = stopped.lock().unwrap();
        while stopped.try_recv().is_err() && socket.write_all(&[b'x'; 65_536]).is_ok() {}
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let mut download = Connection::open(rig.public);
    download.send(format!(
        "GET /download HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
        key.header()
    ));
    assert_eq!(download.head().status, 200);
    rig.done(&["keys", "revoke", &key.id]);
    let mut buffer = vec![0; 1 << 20];
    let begun = std::time::Instant::now();
    while matches!(download.socket().read(&mut buffer), Ok(1..)) {
        assert!(begun.elapsed() < DEADLINE, "the download goes on");
    }
    drop(stop);
}

#[test]
fn a_rolled_key_says_until_when_it_is_good() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let before = rig.get("/", &key);
    assert_eq!(
        (before.header("deprecation"), before.header("sunset")),
        (None, None)
    );
    let new = rig.done(&["keys", "roll", &key.id, "--grace", "1h"]);
    assert!(
        rig.get("/", &key).header("sunset").is_some(),
        "the key is known to be ending"
    );
    let ending = rig.get("/", &key);
    assert_eq!(ending.status, 200);
    let since = ending
        .header("deprecation")
        .unwrap()
        .strip_prefix('@')
        .unwrap()
        .parse::<i64>()
        .unwrap();
    let sunset = ending.header("sunset").unwrap();
    let until = time::OffsetDateTime::parse(sunset, &time::format_description::well_known::Rfc2822);
    let until = until
        .unwrap_or_else(|error| panic!("{sunset:?}: {error}"))
        .unix_timestamp();
    assert!(
        (3_599..=3_601).contains(&(until - since)),
        "{since} {until}"
    );
    let successor = format!("authorization: Bearer {}", new.trim());
    let response = get(rig.public, "/", &[&successor]);
    assert_eq!(
        (response.status, response.header("deprecation")),
        (200, None)
    );
}

#[test]
fn a_key_is_good_only_where_its_consumer_may_call_from() {
    let origin = Origin::hello();
    let rig = Rig::with(
        &origin.url(),
        "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n",
    );
    let key = rig.key("acme", &[]);
    let from = |address: &str| {
        get(
            rig.public,
            "/",
            &[&key.header(), &format!("x-forwarded-for: {address}")],
        )
        .code_or_ok()
    };
    assert_eq!(from("203.0.113.9"), "ok");
    rig.done(&[
        "consumers",
        "update",
        "acme",
        "--allow-ip",
        "192.0.2.0/24,2001:db8::/32",
    ]);
    assert!(from("203.0.113.9") == "key_restricted", "it is restricted");
    for (address, code) in [
        ("192.0.2.255", "ok"),
        ("192.0.3.0", "key_restricted"),
        ("2001:db8::1", "ok"),
        ("2001:db9::1", "key_restricted"),
        ("::ffff:192.0.2.1", "ok"),
    ] {
        assert_eq!(from(address), code, "{address}");
    }
    rig.done(&["consumers", "update", "acme", "--allow-any-ip"]);
    assert!(from("203.0.113.9") == "ok", "it is free again");
    for refused in [
        &["--allow-ip", ""][..],
        &["--allow-ip", "10.0.0.0/33"],
        &["--allow-ip", "somewhere"],
    ] {
        let output = rig.command(&[&["consumers", "update", "acme"], refused].concat());
        assert_eq!(output.status.code(), Some(2), "{refused:?}: {output:?}");
    }
}

/// An origin that sends without end on every path. Counts what its connection takes, and says when that has ended.
pub(crate) fn flood() -> (Origin, Arc<AtomicU64>, Arc<AtomicBool>) {
    let (sent, ended) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (count, end) = (Arc::clone(&sent), Arc::clone(&ended));
    let origin = Origin::answering(move |request, socket| {
        let head: &[u8] = if request.one("upgrade").is_some() {
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-length: 100000000000\r\n\r\n"
        };
        let mut written = socket.write_all(head);
        while written.is_ok() {
            written = socket.write_all(&[b'x'; 16_384]);
            count.fetch_add(16_384, Ordering::SeqCst);
        }
        end.store(true, Ordering::SeqCst);
    });
    (origin, sent, ended)
}

#[test]
fn a_stream_whose_client_reads_nothing_ends_with_its_key() {
    for upgrade in ["", "connection: upgrade\r\nupgrade: websocket\r\n"] {
        let (origin, sent, ended) = flood();
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]);
        let mut connection = Connection::open(rig.public);
        connection.send(format!(
            "GET / HTTP/1.1\r\nhost: h\r\n{}\r\n{upgrade}\r\n",
            key.header()
        ));
        let mut before = 0;
        eventually("nothing moves any more", || {
            let now = sent.load(Ordering::SeqCst);
            std::mem::replace(&mut before, now) == now && now > 1_000_000
        });
        rig.done(&["keys", "revoke", &key.id]);
        eventually("the origin's connection has ended", || {
            ended.load(Ordering::SeqCst)
        });
    }
}
