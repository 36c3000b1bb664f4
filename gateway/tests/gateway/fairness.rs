//! Nobody starves the others: crowds that ask nothing, greedy keys, requests that kill, and few descriptors.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Barrier, Mutex, mpsc};

use crate::certificates::{Authority, Relay};
use crate::client::{Connection, DEADLINE, get};
use crate::metrics::Scrape;
use crate::origin::Origin;
use crate::rig::{Process, Rig, SECRET, gateway};
use crate::running::eventually;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Who is silent is not ended for it before a test that waits for that fails.
const PATIENT: &str = "[listen]\nhead_timeout = \"5min\"\nkeep_alive = \"5min\"\n";
const KEYLESS: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

fn ask(address: SocketAddr, path: &str, lines: &str) -> Connection {
    let mut connection = Connection::open(address);
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: h\r\n{lines}\r\n"));
    connection
}

#[test]
fn whoever_connects_and_asks_nothing_makes_room_for_who_asks() {
    let origin = Origin::answering(|request, socket| {
        let _ = socket.write_all(if request.line.starts_with("GET /stream ") {
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun"
        } else {
            OK
        });
    });
    // What the crowd has sent when it falls silent.
    for said in ["", "GET / HTTP/1.1\r\nho", KEYLESS] {
        let rig = Rig::with(&origin.url(), &format!("{PATIENT}max_connections = 20\n"));
        let key = rig.key("acme", &[]).header();
        let mut stream = ask(rig.public, "/stream", &format!("{key}\r\n"));
        assert_eq!(stream.head().status, 200);
        let mut crowd: Vec<Connection> = (0..19)
            .map(|_| {
                let mut connection = Connection::open(rig.public);
                connection.send(said);
                if said == KEYLESS {
                    assert_eq!(connection.response().status, 401);
                }
                connection
            })
            .collect();
        let mut held = Vec::new();
        for _ in 0..10 {
            let mut connection = ask(rig.public, "/", &format!("{key}\r\n"));
            assert_eq!(connection.response().status, 200);
            held.push(connection);
        }
        assert!(crowd[0].is_closed(), "{said:?}: the longest idle one goes");
        stream.send("");
        assert_eq!(stream.some_bytes(), b"begun", "what runs goes on");
        let page = get(rig.admin, "/metrics", &[]).text();
        assert!(
            page.lines().any(|line| {
                line.starts_with("postern_client_faults_total{fault=\"made_room\"}")
                    && !line.ends_with(" 0")
            }),
            "{page}"
        );
    }
}

#[test]
fn one_place_alone_is_not_kept_by_who_asks_nothing() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), &format!("{PATIENT}max_connections = 1\n"));
    let key = rig.key("acme", &[]);
    let _silent = Connection::open(rig.public);
    assert_eq!(rig.get("/", &key).status, 200);
}

#[test]
fn a_greedy_key_has_its_share_and_gets_it_back() {
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = Mutex::new(may_answer);
    let origin = Origin::answering(move |request, socket| {
        if request.line.starts_with("GET /slow ") {
            let _ = may_answer.lock().unwrap().recv_timeout(DEADLINE);
        }
        let _ = socket.write_all(if request.one("upgrade").is_some() {
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
        } else if request.line.starts_with("GET /stream ") {
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun"
        } else {
            OK
        });
    });
    let file = "[listen]\nmax_requests_in_flight = 20\n[[routes]]\n[[routes]]\npath = \"/open\"\non_missing_key = \"anonymous\"\n\
                [[routes]]\npath = \"/open/slow\"\non_missing_key = \"anonymous\"\n";
    let rig = Rig::with(&origin.url(), file);
    let (greedy, other) = (rig.key("greedy", &[]), rig.key("other", &[]));
    let in_flight = || Scrape::of(rig.admin).value("postern_requests_in_flight", &[]);
    let lines = format!("{}\r\n", greedy.header());
    let refused = |connection: &mut Connection| {
        let response = connection.response();
        (
            response.status,
            response.code(),
            response.header("retry-after").map(str::to_owned),
        )
    };
    let too_many = (429, "too_many_requests".to_owned(), Some("1".to_owned()));
    let upgrade = format!("{lines}upgrade: websocket\r\nconnection: upgrade\r\n");
    for (path, lines) in [("/stream", &lines), ("/tunnel", &upgrade)] {
        let mut held: Vec<Connection> = (0..5).map(|_| ask(rig.public, path, lines)).collect();
        for connection in &mut held {
            assert!(connection.head().status < 300, "{path}");
        }
        for _ in 0..15 {
            assert_eq!(refused(&mut ask(rig.public, path, lines)), too_many);
            assert_eq!(rig.get("/", &other).status, 200);
        }
        drop(held);
        // All of it: one place would do for a request, and not for what follows.
        eventually("its share is free again", || in_flight() == 0.0);
    }
    // Those that wait for an answer are counted, and leave with their clients.
    let waiting: Vec<Connection> = (0..5).map(|_| ask(rig.public, "/slow", &lines)).collect();
    // Whoever asks meanwhile may take a place of theirs.
    eventually("they are under way", || in_flight() == 5.0);
    eventually("the sixth is refused", || {
        rig.get("/", &greedy).status == 429
    });
    assert_eq!(rig.get("/", &other).status, 200);
    drop(waiting);
    for _ in 0..5 {
        let _ = answer.send(());
    }
    eventually("there is room again", || {
        rig.get("/", &greedy).status == 200
    });
    // Those without a key have one share together.
    let mut open: Vec<Connection> = (0..5)
        .map(|_| {
            ask(
                rig.public,
                "/open/tunnel",
                "upgrade: websocket\r\nconnection: upgrade\r\n",
            )
        })
        .collect();
    for connection in &mut open {
        assert_eq!(connection.head().status, 101);
    }
    let sixth = refused(&mut ask(rig.public, "/open", ""));
    assert_eq!((sixth.0, sixth.1.as_str()), (503, "overloaded"));
    assert_eq!(rig.get("/open", &other).status, 200);
    drop(open);
    eventually("there is room again", || {
        get(rig.public, "/open", &[]).status == 200
    });
}

#[test]
fn a_share_beyond_all_requests_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (all, of_one, is_fine) in [("8", "8", true), ("8", "9", false), ("8", "0", false)] {
        let file = format!(
            "[listen]\nmax_requests_in_flight = {all}\nmax_requests_in_flight_per_key = {of_one}\n"
        );
        std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
        let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), is_fine, "{text}");
        assert!(
            is_fine || text.contains("listen.max_requests_in_flight_per_key"),
            "{text}"
        );
    }
}

#[test]
fn a_request_that_kills_takes_no_target_from_the_others_unless_several_send_it() {
    for upgrade in ["", "upgrade: websocket\r\nconnection: upgrade\r\n"] {
        let origins: [Origin; 3] = std::array::from_fn(|_| {
            Origin::answering(|request, socket| {
                if request.line.starts_with("GET /die ") {
                    let _ = socket.shutdown(Shutdown::Both);
                } else {
                    let _ = socket.write_all(OK);
                }
            })
        });
        let targets: Vec<String> = origins
            .iter()
            .map(|origin| format!("\"{}\"", origin.url()))
            .collect();
        let file = format!(
            "[[upstreams]]\nname = \"three\"\ntargets = [{}]\neject_after = 3\n[[routes]]\nupstream = \"three\"\n",
            targets.join(", ")
        );
        let rig = Rig::with("http://127.0.0.1:9", &file);
        let (one, another) = (rig.key("one", &[]), rig.key("another", &[]));
        let left_out = || {
            let page = get(rig.admin, "/readyz", &[]).json();
            let targets = page["upstreams"][1]["targets"].as_array().unwrap().clone();
            targets
                .iter()
                .filter(|target| target["state"] != "up")
                .count()
        };
        let die = |key: &str| {
            let lines = format!("{key}\r\n{upgrade}");
            assert_eq!(ask(rig.public, "/die", &lines).response().status, 502);
        };
        for _ in 0..12 {
            die(&one.header());
        }
        assert_eq!(left_out(), 0, "one key alone ({upgrade:?})");
        for _ in 0..12 {
            die(&one.header());
            die(&another.header());
        }
        // Who comes back after its time is left out again.
        eventually("several keys take a target out", || {
            die(&one.header());
            die(&another.header());
            left_out() > 0
        });
        assert_eq!(rig.get("/", &another).status, 200);
    }
}

/// A gateway that may have 256 files open, and no key.
fn with_few_files(origin: &Origin) -> Process {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), PATIENT).unwrap();
    Process::start_with_files(256, directory, &origin.url())
}

fn assert_well(gateway: &Process, key: &str) {
    assert_eq!(get(gateway.admin, "/healthz", &[]).status, 200);
    assert_eq!(get(gateway.public, "/", &[key]).status, 200);
}

#[test]
fn a_crowd_on_either_listener_stops_neither_when_files_are_few() {
    let origin = Origin::hello();
    let gateway = with_few_files(&origin);
    let key = gateway.key("acme");
    let log = gateway.log();
    assert!(
        log.contains("listen.max_connections is lowered from 25000 to"),
        "{log}"
    );
    let crowd_on = |address: SocketAddr, path: &str, count: usize| -> Vec<Connection> {
        (0..count)
            .map(|_| {
                // The second head is half sent, and never goes on.
                let mut connection = Connection::open(address);
                let _ = connection.try_send(format!(
                    "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\nGET {path} HTT"
                ));
                connection
            })
            .collect()
    };
    let on_public = crowd_on(gateway.public, "/", 400);
    assert_well(&gateway, &key);
    let on_admin = crowd_on(gateway.admin, "/healthz", 400);
    assert_well(&gateway, &key);
    let more = crowd_on(gateway.public, "/", 200);
    assert_well(&gateway, &key);
    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.id())).unwrap();
    assert!(open.count() < 256);
    assert!(
        !gateway.log().contains("Too many open files"),
        "{}",
        gateway.log()
    );
    drop((on_public, on_admin, more));
}

#[test]
fn idle_connections_to_other_origins_make_room_when_files_are_few() {
    /// Requests at once to one origin, each on a connection of its own.
    const CROWD: usize = 25;
    let origins: Vec<Origin> = (0..9)
        .map(|_| {
            let all_are_here = Barrier::new(CROWD);
            Origin::answering(move |_, socket| {
                all_are_here.wait();
                let _ = socket.write_all(OK);
            })
        })
        .collect();
    let mut file = format!(
        "[listen]\nworkers = 1\nmax_requests_in_flight = {CROWD}\nmax_requests_in_flight_per_key = {CROWD}\n[origin]\nkeep_alive = \"1h\"\n"
    );
    for (number, origin) in origins.iter().enumerate() {
        file += &format!(
            "[[routes]]\npath = \"/{number}\"\nupstream = \"{}\"\n",
            origin.url()
        );
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let gateway = Process::start_with_files(256, directory, &origins[0].url());
    let key = format!("{}\r\n", gateway.key("acme"));
    for number in 0..origins.len() {
        let mut crowd: Vec<Connection> = (0..CROWD)
            .map(|_| ask(gateway.public, &format!("/{number}"), &key))
            .collect();
        for connection in &mut crowd {
            let response = connection.response();
            assert_eq!(response.status, 200, "origin {number}: {}", response.text());
        }
    }
}

#[test]
fn a_half_sent_second_head_on_the_admin_listener_is_closed_in_time() {
    let rig = Rig::before(&Origin::hello());
    let mut connection = Connection::open(rig.admin);
    connection.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(connection.response().status, 200);
    connection.send("GET /healthz HTTP/1.1\r\nhos");
    let response = connection.response();
    assert_eq!(
        (response.status, response.code().as_str()),
        (408, "request_timeout")
    );
    assert!(response.header("x-request-id").is_some());
    assert!(connection.is_closed());
}

#[test]
fn the_admin_listener_speaks_tls_and_the_healthcheck_knows_its_certificate() {
    let (authority, origin) = (Authority::new(), Origin::hello());
    let directory = tempfile::tempdir().unwrap();
    authority
        .issue(&["admin.example"])
        .write(directory.path(), "pair");
    let file = "[admin]\npublic_url = \"https://admin.example\"\n[[admin.tls]]\ncert_file = \"pair.crt\"\nkey_file = \"pair.key\"\n";
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let process = Process::start_unready(directory, &origin.url(), &[]);
    assert!(
        process
            .log()
            .contains(&format!("admin listening on https://{}", process.admin))
    );
    let relay = Relay::tls_client(authority.client(), "admin.example", process.admin);
    eventually("the keys are loaded", || {
        get(relay.address, "/readyz", &[]).status == 200
    });
    let document = get(relay.address, "/openapi.json", &[]).json();
    assert_eq!(document["servers"][0]["url"], "https://admin.example");
    for (origin, status) in [
        ("https://admin.example", 200),
        ("http://admin.example", 403),
        ("https://evil.example", 403),
    ] {
        let lines =
            format!("GET /readyz HTTP/1.1\r\nhost: admin.example\r\norigin: {origin}\r\n\r\n");
        let mut connection = Connection::open(relay.address);
        connection.send(lines);
        assert_eq!(connection.response().status, status, "{origin}");
    }
    // Plain HTTP to a port of TLS is told so.
    assert_eq!(get(process.admin, "/healthz", &[]).status, 400);
    let check = |directory: &std::path::Path| {
        let address = process.admin.to_string();
        gateway(
            directory,
            &[("GATEWAY__ADMIN__ADDRESS", &address)],
            &["healthcheck"],
        )
    };
    let output = check(process.directory.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // Somebody else's certificate is not that of this gateway.
    let elsewhere = tempfile::tempdir().unwrap();
    Authority::new()
        .issue(&["admin.example"])
        .write(elsewhere.path(), "pair");
    std::fs::write(elsewhere.path().join("gateway.toml"), file).unwrap();
    assert_eq!(check(elsewhere.path()).status.code(), Some(1));
    // A new certificate is served once its files stand still.
    let renewed = Authority::new();
    renewed
        .issue(&["admin.example"])
        .write(process.directory.path(), "pair");
    eventually("the new certificate is served", || {
        check(process.directory.path()).status.code() == Some(0)
    });
    let relay = Relay::tls_client(renewed.client(), "admin.example", process.admin);
    assert_eq!(get(relay.address, "/healthz", &[]).status, 200);
}
