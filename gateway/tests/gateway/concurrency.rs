//! Limits on requests in flight, from outside: a request counts until it has ended, however that happens.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use crate::client::{Connection, get};
use crate::http2_frames::{PREFACE, RST_STREAM, frame, get_with};
use crate::metrics::Scrape;
use crate::origin::Origin;
use crate::rig::{Key, Rig};
use crate::running::eventually;

const ONE: &str = "[[concurrency_limits]]\nname = \"one\"\nby = \"consumer\"\nlimit = 1\n";

/// An origin whose answers begin and stay open, and what ends them: answering, breaking off.
fn origin() -> (Origin, mpsc::Sender<()>) {
    let (end, ended) = mpsc::channel();
    let ended = Arc::new(Mutex::new(ended));
    let wait = move |socket: &mut TcpStream| {
        // Either the test ends it, or the gateway goes.
        let _ = socket.set_read_timeout(Some(std::time::Duration::from_millis(20)));
        let mut buffer = [0; 1024];
        loop {
            if ended.lock().unwrap().try_recv().is_ok() {
                return;
            }
            match socket.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let origin = Origin::answering(move |request, socket| {
        let is = |path: &str| request.line.split(' ').nth(1) == Some(path);
        let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegun";
        if request.one("upgrade").is_some() {
            let _ = socket.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            );
            wait(socket);
        } else if is("/silent") {
            wait(socket);
        } else if is("/stream") {
            let _ = socket.write_all(begun);
            wait(socket);
            let _ = socket.write_all(b" ends");
        } else if is("/broken") {
            let _ = socket.write_all(begun);
            wait(socket);
            let _ = socket.shutdown(Shutdown::Both);
        } else {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    (origin, end)
}

/// Waits until no request is in flight: an answer may arrive before its request counts as ended.
fn until_idle(rig: &Rig) {
    eventually("no request is in flight", || {
        Scrape::of(rig.admin).value("postern_requests_in_flight", &[]) == 0.0
    });
}

/// A request that is under way.
fn ask(public: SocketAddr, method_and_path: &str, key: &Key, lines: &str) -> Connection {
    let mut connection = Connection::open(public);
    let key = key.header();
    connection.send(format!(
        "{method_and_path} HTTP/1.1\r\nhost: h\r\n{key}\r\n{lines}\r\n"
    ));
    connection
}

const UPGRADE: &str = "upgrade: websocket\r\nconnection: upgrade\r\n";

/// Each begins a request with the first key, and returns what ends it.
type Begin = for<'r> fn(&'r Rig, &'r Key, &'r mpsc::Sender<()>) -> Box<dyn FnOnce() + 'r>;

#[test]
fn a_request_counts_until_it_has_ended_however_it_ends() {
    let endings: [(&str, Begin); 12] = [
        ("the answer is whole", |rig, key, end| {
            let (mut asked, end) = (ask(rig.public, "GET /stream", key, ""), end.clone());
            assert_eq!(asked.head().status, 200);
            Box::new(move || {
                end.send(()).unwrap();
                assert_eq!(asked.some_bytes(), b"begun");
                drop(asked);
            })
        }),
        ("the client leaves before the answer", |rig, key, _| {
            let asked = ask(rig.public, "GET /silent", key, "");
            Box::new(move || drop(asked))
        }),
        ("the client leaves during the answer", |rig, key, _| {
            let mut asked = ask(rig.public, "GET /stream", key, "");
            assert_eq!(asked.head().status, 200);
            Box::new(move || drop(asked))
        }),
        ("the client leaves during its upload", |rig, key, _| {
            let asked = ask(rig.public, "POST /silent", key, "content-length: 10\r\n");
            Box::new(move || drop(asked))
        }),
        ("the origin goes before the answer", |rig, key, end| {
            let (mut asked, end) = (ask(rig.public, "POST /silent", key, ""), end.clone());
            Box::new(move || {
                end.send(()).unwrap();
                assert_eq!(asked.response().status, 502);
            })
        }),
        ("the origin goes during the answer", |rig, key, end| {
            let (mut asked, end) = (ask(rig.public, "GET /broken", key, ""), end.clone());
            assert_eq!(asked.head().status, 200);
            Box::new(move || {
                end.send(()).unwrap();
                while !asked.some_bytes().is_empty() {}
            })
        }),
        ("the key is revoked", |rig, key, _| {
            let mut asked = ask(rig.public, "GET /stream", key, "");
            assert_eq!(asked.head().status, 200);
            Box::new(move || {
                rig.done(&["keys", "revoke", &key.id]);
                while !asked.some_bytes().is_empty() {}
            })
        }),
        ("the client leaves its tunnel", |rig, key, _| {
            let mut asked = ask(rig.public, "GET /ws", key, UPGRADE);
            assert_eq!(asked.head().status, 101);
            Box::new(move || drop(asked))
        }),
        ("the origin leaves the tunnel", |rig, key, end| {
            let (mut asked, end) = (ask(rig.public, "GET /ws", key, UPGRADE), end.clone());
            assert_eq!(asked.head().status, 101);
            Box::new(move || {
                end.send(()).unwrap();
                assert!(asked.is_closed());
            })
        }),
        ("the body is refused on its way", |rig, key, _| {
            let chunked = "transfer-encoding: chunked\r\n";
            let mut asked = ask(rig.public, "POST /silent", key, chunked);
            asked.send("5\r\nhello\r\n");
            Box::new(move || {
                asked.try_send("zz\r\n");
                assert_eq!(asked.response().status, 400);
            })
        }),
        ("the client asks first, and leaves", |rig, key, _| {
            let lines = "expect: 100-continue\r\ncontent-length: 10\r\n";
            let mut asked = ask(rig.public, "POST /silent", key, lines);
            let told = asked.some_bytes();
            assert!(told.starts_with(b"HTTP/1.1 100 "), "{told:?}");
            Box::new(move || drop(asked))
        }),
        ("a stream of HTTP/2 is reset", |rig, key, _| {
            let mut socket = TcpStream::connect(rig.public).unwrap();
            let bearer = format!("Bearer {}", key.key);
            let fields = [("authorization", bearer.as_str()), ("x-path", "/stream")];
            let begin = [PREFACE, &frame(4, 0, 0, &[]), &get_with(&fields)].concat();
            socket.write_all(&begin).unwrap();
            Box::new(move || {
                socket
                    .write_all(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()))
                    .unwrap();
                // The connection stays.
                std::mem::forget(socket);
            })
        }),
    ];
    let (origin, end) = origin();
    let settings = format!(
        "[listen]\nhttp2_prior_knowledge = true\n[[routes]]\n[[routes]]\npath = \"/silent\"\n{ONE}"
    );
    let rig = Rig::with(&origin.url(), &settings);
    for (number, (ending, begin)) in endings.into_iter().enumerate() {
        let consumer = format!("consumer-{number}");
        let (first, second) = (rig.key(&consumer, &[]), rig.key(&consumer, &[]));
        let other = rig.key(&format!("other-{number}"), &[]);
        assert_eq!(rig.get("/", &second).status, 200, "{ending}");
        until_idle(&rig);
        let ends = begin(&rig, &first, &end);
        let is_http2 = ending.contains("HTTP/2");
        if !is_http2 {
            eventually(ending, || rig.get("/", &second).status == 429);
            let refused = rig.get("/", &second);
            assert_eq!(refused.code(), "too_many_in_flight", "{ending}");
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert_eq!(refused.json()["violated-policies"][0], "one");
        }
        assert_eq!(rig.get("/", &other).status, 200, "{ending}");
        ends();
        eventually(ending, || rig.get("/", &second).status == 200);
        until_idle(&rig);
        // And it counts once only.
        let again = ask(rig.public, "GET /silent", &second, "");
        eventually(ending, || rig.get("/", &second).status == 429);
        drop(again);
        eventually(ending, || rig.get("/", &second).status == 200);
    }
}

#[test]
fn numbers_of_keys_and_consumers_hold_beside_the_limits() {
    let (origin, _end) = origin();
    let rig = Rig::before(&origin);
    rig.done(&["consumers", "create", "acme", "--max-in-flight", "2"]);
    let narrow = rig.key("acme", &["--max-in-flight", "1"]);
    let wide = rig.key("acme", &[]);
    let in_flight = |number: f64| {
        eventually("they are in flight", || {
            Scrape::of(rig.admin).value("postern_requests_in_flight", &[]) == number
        });
    };
    let asked = ask(rig.public, "GET /silent", &narrow, "");
    in_flight(1.0);
    eventually("the key has its one", || {
        rig.get("/", &narrow).status == 429
    });
    let refused = rig.get("/", &narrow);
    assert_eq!(refused.code(), "too_many_in_flight");
    assert_eq!(refused.json()["violated-policies"][0], "max_in_flight");
    assert_eq!(rig.get("/", &wide).status, 200);
    in_flight(1.0);
    let _further = ask(rig.public, "GET /silent", &wide, "");
    eventually("the consumer has its two", || {
        rig.get("/", &wide).status == 429
    });
    drop(asked);
    eventually("one of them has ended", || {
        rig.get("/", &wide).status == 200
    });
    // In force at once when it changes.
    rig.done(&["consumers", "update", "acme", "--max-in-flight", "1"]);
    assert_eq!(rig.get("/", &wide).status, 429);
}

#[test]
fn what_is_not_enforced_is_let_through_and_counted() {
    let (origin, _end) = origin();
    let rig = Rig::with(&origin.url(), &format!("{ONE}enforce = false\n"));
    let key = rig.key("acme", &[]);
    let _asked = ask(rig.public, "GET /silent", &key, "");
    let sample = || {
        let page = get(rig.admin, "/metrics", &[]).text();
        let name = "postern_in_flight_would_be_limited_total ";
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse::<u64>().unwrap()
    };
    eventually("one would be refused", || {
        assert_eq!(rig.get("/", &key).status, 200);
        sample() > 0
    });
}

#[test]
fn a_burst_never_has_more_at_the_origin_than_the_limit() {
    let now = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (inside, seen) = (Arc::clone(&now), Arc::clone(&most));
    let origin = Origin::answering(move |_, socket| {
        use std::sync::atomic::Ordering::SeqCst;
        seen.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(5));
        inside.fetch_sub(1, SeqCst);
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let limit = "[[concurrency_limits]]\nname = \"five\"\nby = \"key\"\nlimit = 5\n";
    let rig = Rig::with(&origin.url(), limit);
    let key = rig.key("acme", &[]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..32)
            .map(|_| scope.spawn(|| [(); 10].map(|()| rig.get("/", &key).status)))
            .collect();
        threads
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect()
    });
    assert!(statuses.contains(&200) && statuses.iter().all(|status| [200, 429].contains(status)));
    assert!(most.load(std::sync::atomic::Ordering::SeqCst) <= 5);
    eventually("all have ended", || rig.get("/", &key).status == 200);
}
