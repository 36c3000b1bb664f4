//! What the libraries beneath do wrong for a proxy, met with the whole gateway; the numbers are those of
//! `docs/LIBRARY-FAULTS.md`. What is met below the gateway as a whole is in `client_stream.rs` and `origin_stream.rs`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::certificates::{Authority, Relay};
use crate::client::{Connection, DEADLINE, exchange, get};
use crate::origin::Origin;
use crate::rig::{Process, Rig};
use crate::running::eventually;

/// An origin that refuses every `POST` once it has its head, and reads its body only then, as the RFC lets it: what it is not sent of
/// a body, it takes from the next request. Gives the heads that it made out.
fn early_refuser() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || refuse_early(socket.unwrap(), &seen));
        }
    });
    (address, heads)
}

fn refuse_early(mut socket: TcpStream, seen: &Mutex<Vec<String>>) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).ok()?;
        let path = head.split(' ').nth(1)?.to_owned();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        seen.lock().unwrap().push(head);
        let status = if length > 0 {
            "401 Unauthorized"
        } else {
            "200 OK"
        };
        write!(
            socket,
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{path}",
            path.len()
        )
        .ok()?;
        socket.read_exact(&mut vec![0; length]).ok()?;
    }
}

#[test]
fn d2_a_body_that_was_asked_about_first_never_swallows_the_next_request() {
    let (origin, heads) = early_refuser();
    let rig = Rig::with(&format!("http://{origin}"), "");
    let key = rig.key("acme", &[]).header();
    let body = "GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n";
    let head = format!(
        "HTTP/1.1\r\nhost: h\r\n{key}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    for round in 0..20 {
        for sends_it in [true, false] {
            let mut asking = Connection::open(rig.public);
            asking.send(format!("POST /asking{round} {head}"));
            assert_eq!(asking.head().status, 100);
            if sends_it {
                asking.try_send(body);
            }
            let refused = asking.response();
            assert_eq!(
                (refused.status, refused.text()),
                (401, format!("/asking{round}")),
                "sends it: {sends_it}"
            );
            let victim = get(rig.public, &format!("/victim{round}"), &[&key]);
            assert_eq!(
                (victim.status, victim.text()),
                (200, format!("/victim{round}")),
                "sends it: {sends_it}"
            );
        }
    }
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 80, "{heads:?}");
    assert!(
        heads
            .iter()
            .all(|head| !head.contains("expect") && !head.contains("/smuggled")),
        "{heads:?}"
    );
}

#[test]
fn d7_streams_that_are_open_leave_room_for_requests() {
    const STREAMS: usize = 250;
    let origin = Origin::answering(|request, socket| {
        let _ = socket.write_all(if request.line.starts_with("GET /events ") {
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 0\n\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
        });
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let streams = (0..STREAMS).map(|_| {
        let mut stream = Connection::open(rig.public);
        stream.send(format!(
            "GET /events HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
            key.header()
        ));
        assert_eq!(stream.head().status, 200);
        stream
    });
    let streams: Vec<Connection> = streams.collect();
    for _ in 0..20 {
        assert_eq!(rig.get("/", &key).status, 200);
    }
    drop(streams);
}

/// The protocol that the listener at `address` agrees to with a client that offers these.
pub(crate) fn agreed(
    authority: &Authority,
    address: SocketAddr,
    offered: &[&str],
) -> Result<Option<String>, String> {
    let mut config = authority.client();
    config.alpn_protocols = offered
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    let mut connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap())
            .unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    while connection.is_handshaking() {
        connection
            .complete_io(&mut socket)
            .map_err(|error| error.to_string())?;
    }
    Ok(connection
        .alpn_protocol()
        .map(|protocol| String::from_utf8_lossy(protocol).into_owned()))
}

/// A gateway with TLS on its listener before an origin at `https` that takes these protocols; both are of `authority`.
fn tls_on_both_sides(authority: &Authority, origin: &Origin, taken: &[&str]) -> Process {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    authority
        .issue(&["localhost"])
        .write(directory.path(), "own");
    let file = "[[listen.tls]]\ncert_file = \"own.crt\"\nkey_file = \"own.key\"\n[origin.tls]\nca_file = \"ca.pem\"\n\
                [[routes]]\non_missing_key = \"anonymous\"\n";
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let mut server = authority.issue(&["localhost"]).server();
    server.alpn_protocols = taken
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    let relay = Relay::tls_server(server, origin.address);
    Process::start(
        directory,
        &format!("https://localhost:{}", relay.address.port()),
        &[("GATEWAY__LISTEN__WORKERS", "2")],
    )
}

#[test]
fn d8_d9_the_h2_of_actix_and_awc_is_never_spoken() {
    let (authority, origin) = (Authority::new(), Origin::hello());
    for (taken, status) in [
        (&["h2", "http/1.1"][..], 200),
        (&["http/1.1"], 200),
        (&[], 200),
        (&["h2"], 502),
    ] {
        let process = tls_on_both_sides(&authority, &origin, taken);
        let client = Relay::tls_client(authority.client(), "localhost", process.public);
        assert_eq!(
            get(client.address, "/", &[]).status,
            status,
            "an origin that takes {taken:?}: {}",
            process.log()
        );
        for (offered, wanted) in [
            (&["h2", "http/1.1"][..], Ok(Some("h2".to_owned()))),
            (&["http/1.1"], Ok(Some("http/1.1".to_owned()))),
            (&[], Ok(None)),
        ] {
            assert_eq!(
                agreed(&authority, process.public, offered),
                wanted,
                "{offered:?}"
            );
        }
        // The public listener has a front of its own over another h2. The admin listener offers none.
    }
    // Without TLS: by prior knowledge, and by asking. The first is no HTTP/1.1, and the second is passed over.
    let rig = Rig::before(&origin);
    let preface = exchange(
        rig.public,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
    );
    assert_eq!(preface.status, 505);
    let key = rig.key("acme", &[]).header();
    let asked = get(
        rig.public,
        "/",
        &[
            &key,
            "connection: upgrade, http2-settings",
            "upgrade: h2c",
            "http2-settings: AAMAAABk",
        ],
    );
    assert_eq!((asked.status, asked.text().as_str()), (200, "hello"));
}

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// Its side of the connection ends; it could still read.
    Fin,
    /// The connection breaks.
    Reset,
}

#[test]
fn d11_a_client_that_leaves_takes_its_request_to_the_origin_along() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The next case is served only once the one before is over for the gateway too.
    let rig = Rig::with(
        &format!("http://{address}"),
        "[listen]\nmax_requests_in_flight = 1\nbody_idle_timeout = \"5min\"\n\
         [origin]\nfirst_byte_timeout = \"5min\"\nidle_timeout = \"5min\"\n",
    );
    let key = rig.key("acme", &[]).header();
    let events = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 0\n\n\r\n";
    let download = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun";
    for (what, request, answer) in [
        (
            "a request that waits",
            "GET /wait HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n",
            "",
        ),
        (
            "an event stream that is silent",
            "GET /events HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n",
            events,
        ),
        (
            "a download that pauses",
            "GET /down HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n",
            download,
        ),
        (
            "an upload with a length",
            "POST /up HTTP/1.1\r\nhost: h\r\nKEY\r\ncontent-length: 1000\r\n\r\nbegun",
            "",
        ),
        (
            "an upload in chunks",
            "POST /up HTTP/1.1\r\nhost: h\r\nKEY\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n",
            "",
        ),
        (
            "an upload whose answer streams",
            "POST /both HTTP/1.1\r\nhost: h\r\nKEY\r\ncontent-length: 1000\r\n\r\nbegun",
            events,
        ),
    ] {
        for leaving in [Leaving::Fin, Leaving::Reset] {
            let mut client = Connection::open(rig.public);
            client.send(request.replace("KEY", &key));
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut arrived = Vec::new();
            while !arrived.ends_with(b"\r\n\r\n")
                && !arrived.windows(5).any(|window| window == b"begun")
            {
                let mut buffer = [0; 4096];
                let read = socket.read(&mut buffer).unwrap();
                arrived.extend_from_slice(&buffer[..read]);
            }
            if !answer.is_empty() {
                socket.write_all(answer.as_bytes()).unwrap();
                assert_eq!(client.head().status, 200, "{what}");
                assert!(!client.some_bytes().is_empty(), "{what}");
            }
            match leaving {
                Leaving::Fin => client.socket().shutdown(Shutdown::Write).unwrap(),
                Leaving::Reset => {
                    socket2::SockRef::from(&*client.socket())
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                }
            }
            let stays = matches!(leaving, Leaving::Fin).then_some(client);
            // Every limit is longer than the origin waits here.
            let rest = read_to_the_end(&mut socket);
            assert!(
                !rest.ends_with(b"0\r\n\r\n"),
                "{what}, {leaving:?}: half of a request looks whole"
            );
            drop(stays);
            eventually("the gateway is done with it", || {
                get(rig.public, "/", &["authorization: Bearer none"]).code() == "api_key_invalid"
            });
        }
    }
}

fn read_to_the_end(socket: &mut TcpStream) -> Vec<u8> {
    let (mut rest, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return rest,
            Ok(read) => rest.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return rest,
            Err(error) => panic!("the connection stayed open: {error}"),
        }
    }
}

#[test]
fn d13_it_starts_with_tls_on_both_sides() {
    let (authority, origin) = (Authority::new(), Origin::hello());
    let process = tls_on_both_sides(&authority, &origin, &["http/1.1"]);
    let client = Relay::tls_client(authority.client(), "localhost", process.public);
    let (sender, answers) = mpsc::channel();
    // More connections than workers: each of them has made what it serves with.
    for _ in 0..8 {
        let (sender, address) = (sender.clone(), client.address);
        std::thread::spawn(move || sender.send(get(address, "/", &[]).text()));
    }
    drop(sender);
    assert_eq!(
        answers.iter().filter(|text| text == "hello").count(),
        8,
        "{}",
        process.log()
    );
    assert_eq!(client.handshakes(), 8);
    assert!(!process.log().contains("panic"), "{}", process.log());
}
