//! The end of a gateway under load, as its clients see it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Connection, DEADLINE, get};
use crate::metrics::Scrape;
use crate::origin::Origin;
use crate::postgres::free_port;
use crate::rig::Process;
use crate::running::eventually;

/// What clients of one kind count.
#[derive(Default)]
struct Load {
    answered: AtomicUsize,
    announced: AtomicUsize,
    stopped: AtomicBool,
}

/// Why a request got no answer.
#[derive(Debug)]
enum Lost {
    /// The connection ended without one.
    Ended,
    /// It ended in the middle.
    Truncated,
}

/// A request on a connection, which has to be answered whole: whether the connection goes on.
fn ask(socket: &mut TcpStream, request: &str) -> Result<bool, Lost> {
    socket
        .write_all(request.as_bytes())
        .map_err(|_| Lost::Ended)?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"\r\n\r\nhello") {
        match socket.read(&mut buffer) {
            Ok(read @ 1..) => answer.extend_from_slice(&buffer[..read]),
            Ok(_) | Err(_) if answer.is_empty() => return Err(Lost::Ended),
            Ok(_) => return Err(Lost::Truncated),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&answer)),
        }
    }
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    Ok(!text.contains("connection: close\r\n"))
}

/// Sends request after request with `pause` between, on one connection until its end is announced, then on a new one; until no
/// new one is taken. Every request on a connection that was taken has to be answered, but for the first ones of those that wait
/// for the gateway, in the kernel, when it takes no more: nobody has taken them.
fn keep_asking(
    public: SocketAddr,
    request: &str,
    pause: Duration,
    load: &Load,
    still_taken: impl Fn() -> bool,
) {
    while let Ok(mut socket) = TcpStream::connect(public) {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut is_first = true;
        let mut asked_before = Instant::now();
        loop {
            let idle_since = std::mem::replace(&mut asked_before, Instant::now());
            match ask(&mut socket, request) {
                Ok(goes_on) => {
                    load.answered.fetch_add(1, Ordering::SeqCst);
                    if !goes_on {
                        assert!(
                            load.stopped.load(Ordering::SeqCst),
                            "a connection ends and nothing stops"
                        );
                        load.announced.fetch_add(1, Ordering::SeqCst);
                        break;
                    }
                }
                Err(Lost::Ended) if is_first && !still_taken() => return,
                // Idle connections are waited for half a second; a busy machine may take longer to ask again.
                Err(Lost::Ended)
                    if load.stopped.load(Ordering::SeqCst)
                        && idle_since.elapsed() > Duration::from_millis(400) =>
                {
                    break;
                }
                Err(lost) => panic!("a request was lost: {lost:?}, first: {is_first}"),
            }
            is_first = false;
            std::thread::sleep(pause);
        }
    }
}

#[test]
fn d14_a_stop_under_load_loses_no_request() {
    const DELAY: Duration = Duration::from_millis(700);
    let address = format!("127.0.0.1:{}", free_port());
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("GATEWAY__LISTEN__ADDRESS", address.as_str()),
        ("GATEWAY__LISTEN__DRAIN_DELAY", "700ms"),
        ("GATEWAY__LISTEN__WORKERS", "2"),
    ];
    let mut gateway = Process::start(directory, &origin.url(), &variables);
    let request = format!(
        "GET / HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
        gateway.key("acme")
    );
    let load = Arc::new(Load::default());
    let begun = Instant::now();
    let stopped_after = Arc::new(std::sync::OnceLock::new());
    // Without a pause, and with such that a connection is idle most of the time.
    let pauses = [0, 0, 1, 3, 10, 30, 100, 300].map(Duration::from_millis);
    let threads: Vec<_> = (0..64)
        .map(|index| {
            let (request, load, public) = (request.clone(), Arc::clone(&load), gateway.public);
            let stopped_after = Arc::clone(&stopped_after);
            std::thread::spawn(move || {
                let still_taken = || {
                    stopped_after
                        .get()
                        .is_none_or(|at: &Duration| begun.elapsed() < *at + DELAY)
                };
                keep_asking(
                    public,
                    &request,
                    pauses[index % pauses.len()],
                    &load,
                    still_taken,
                );
            })
        })
        .collect();
    eventually("the load runs", || {
        load.answered.load(Ordering::SeqCst) > 2000
    });
    let mut stream = Connection::open(gateway.public);
    stream.send("GET /readyz-of-nobody HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(stream.response().code(), "api_key_missing");
    load.stopped.store(true, Ordering::SeqCst);
    stopped_after.set(begun.elapsed()).unwrap();
    gateway.signal("TERM");
    eventually("it is not ready", || {
        get(gateway.admin, "/readyz", &[]).status == 503
    });
    for thread in threads {
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    assert!(
        load.announced.load(Ordering::SeqCst) >= 64,
        "every connection is told of its end"
    );
    assert_eq!(gateway.ended(), Some(0));
    assert!(
        TcpStream::connect(gateway.public)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    );
}

/// Connections that are taken last have sent nothing yet when the gateway stops taking more.
#[test]
fn a_connection_that_was_just_taken_may_still_send_its_request() {
    let origin = Origin::hello();
    eventually(
        "the requests are sent in the half of a second that they have",
        || {
            let mut gateway = Process::start(
                tempfile::tempdir().unwrap(),
                &origin.url(),
                &[("GATEWAY__LISTEN__DRAIN_DELAY", "100ms")],
            );
            let key = gateway.key("acme");
            let mut fresh: Vec<Connection> =
                (0..20).map(|_| Connection::open(gateway.public)).collect();
            eventually("they are taken", || {
                let open = Scrape::of(gateway.admin).value("postern_open_connections", &[]);
                open >= fresh.len() as f64
            });
            let begun = Instant::now();
            gateway.signal("TERM");
            eventually("it takes no more", || {
                gateway.log().contains("no more connections are accepted")
            });
            for connection in &mut fresh {
                connection.try_send(format!("GET / HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
            }
            // A busy machine may be too late.
            if begun.elapsed() > Duration::from_millis(500) {
                return false;
            }
            for mut connection in fresh {
                let response = connection.response();
                assert_eq!(
                    (response.status, response.header("connection")),
                    (200, Some("close"))
                );
                assert!(connection.is_closed());
            }
            assert_eq!(gateway.ended(), Some(0));
            true
        },
    );
}

/// What has no end of its own ends with the time that there is for stopping, and does not look as if it were whole.
#[test]
fn streams_end_at_the_deadline_and_the_exit_is_clean() {
    let origin = Origin::answering(|request, socket| {
        let answer: &[u8] = match request.line.split(' ').nth(1) {
            Some("/events") => {
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"
            }
            Some("/socket") => b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi",
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        };
        let _ = socket.write_all(answer);
    });
    let variables = [
        ("GATEWAY__LISTEN__DRAIN_DELAY", "4s"),
        ("GATEWAY__LISTEN__DRAIN_TIMEOUT", "1s"),
    ];
    let mut gateway = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &variables);
    let key = gateway.key("acme");
    let open = |path: &str, lines: &str| {
        let mut stream = Connection::open(gateway.public);
        stream.send(format!(
            "GET {path} HTTP/1.1\r\nhost: h\r\n{key}\r\n{lines}\r\n"
        ));
        let head = stream.head();
        assert!(
            head.status == 200
                || head.status == 101 && head.header("connection") == Some("upgrade"),
            "{path}: {head:?}"
        );
        assert!(
            String::from_utf8(stream.some_bytes())
                .unwrap()
                .contains("hi"),
            "{path}"
        );
        stream
    };
    let (mut events, mut socket) = (
        open("/events", ""),
        open("/socket", "connection: upgrade\r\nupgrade: websocket\r\n"),
    );
    let begun = Instant::now();
    gateway.signal("TERM");
    eventually("it says that it stops", || {
        gateway.log().contains("stopping")
    });
    // A stream may also begin in the meantime, and an upgrade stays one.
    let late = open("/socket", "connection: upgrade\r\nupgrade: websocket\r\n");
    assert_eq!(
        get(gateway.public, "/", &[&key]).header("connection"),
        Some("close")
    );
    assert_eq!(gateway.ended(), Some(0));
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "the streams had no time: {:?}",
        begun.elapsed()
    );
    let rest = events.some_bytes();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "half a stream looks whole");
    assert!(socket.is_closed());
    drop(late);
}
