//! Several targets, overload, and which requests are tried again.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use crate::client::{Connection, DEADLINE, get};
use crate::nowhere::{Nowhere, nowhere};
use crate::origin::Origin;
use crate::rig::{Rig, SECRET, gateway};
use crate::running::eventually;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A gateway with the upstream `pair` of these targets.
fn before(targets: &[SocketAddr], settings: &str) -> Rig {
    let targets: Vec<String> = targets
        .iter()
        .map(|target| format!("\"http://{target}\""))
        .collect();
    let targets = targets.join(", ");
    Rig::with(
        "http://127.0.0.1:9",
        &format!(
            "[[upstreams]]\nname = \"pair\"\ntargets = [{targets}]\n{settings}\n[[routes]]\nupstream = \"pair\"\n"
        ),
    )
}

/// The state of a target as `/readyz` tells it.
fn state(rig: &Rig, target: usize) -> String {
    get(rig.admin, "/readyz", &[]).json()["upstreams"][1]["targets"][target]["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn turns_are_shared_exactly_and_each_target_is_sent_its_own_host() {
    let origins = [Origin::hello(), Origin::hello(), Origin::hello()];
    let rig = before(&origins.each_ref().map(|origin| origin.address), "");
    let key = rig.key("acme", &[]);
    for _ in 0..30 {
        assert_eq!(rig.get("/", &key).status, 200);
    }
    for origin in &origins {
        let arrived = origin.arrived();
        assert_eq!(arrived.len(), 10);
        assert!(
            arrived
                .iter()
                .all(|request| request.one("host") == Some(origin.address.to_string().as_str()))
        );
    }
}

#[test]
fn the_idle_target_is_preferred_while_a_body_runs_on_the_other() {
    let streaming = || {
        Origin::answering(|request, socket| {
            if request.line.starts_with("GET /stream ") {
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun");
            } else {
                let _ = socket.write_all(OK);
            }
        })
    };
    let origins = [streaming(), streaming()];
    let rig = before(
        &origins.each_ref().map(|origin| origin.address),
        "balance = \"least_connections\"",
    );
    let key = rig.key("acme", &[]);
    let mut stream = Connection::open(rig.public);
    stream.send(format!(
        "GET /stream HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
        key.header()
    ));
    assert_eq!(stream.head().status, 200);
    for _ in 0..10 {
        assert_eq!(rig.get("/", &key).status, 200);
    }
    let mut counts = origins.each_ref().map(|origin| origin.arrived().len());
    counts.sort_unstable();
    assert_eq!(counts, [1, 10]);
}

#[test]
fn a_dead_target_is_passed_over_and_left_out_and_comes_back() {
    let (alive, dead) = (Origin::hello(), Nowhere::new());
    let rig = before(
        &[dead.address, alive.address],
        "eject_after = 2\neject_for = \"3s\"",
    );
    let key = rig.key("acme", &[]);
    eventually("the dead one is left out", || {
        assert_eq!(rig.get("/", &key).status, 200);
        state(&rig, 0) == "ejected"
    });
    let revived = dead.listen();
    let served = std::thread::spawn(move || {
        let (mut socket, _) = revived.accept().unwrap();
        let _ = socket.write_all(OK);
        let _ = socket.shutdown(Shutdown::Write);
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    eventually("it comes back", || {
        assert_eq!(rig.get("/", &key).status, 200);
        served.is_finished()
    });
}

#[test]
fn a_post_moves_on_when_nothing_was_sent_and_never_after() {
    let posts = Arc::new(AtomicUsize::new(0));
    let dying = || {
        let counted = Arc::clone(&posts);
        Origin::answering(move |request, socket| {
            counted.fetch_add(usize::from(request.body == b"hi"), Ordering::SeqCst);
            let _ = socket.shutdown(Shutdown::Both);
        })
    };
    let post = |rig: &Rig, key: &str| {
        let mut connection = Connection::open(rig.public);
        connection.send(format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{key}\r\ncontent-length: 2\r\n\r\nhi"
        ));
        connection.response().status
    };
    let alive = Origin::hello();
    let rig = before(&[nowhere(), alive.address], "eject_after = 100");
    let key = rig.key("acme", &[]).header();
    for _ in 0..4 {
        assert_eq!(post(&rig, &key), 200);
    }
    assert!(alive.arrived().iter().all(|request| request.body == b"hi"));

    let origins = [dying(), dying()];
    let rig = before(&origins.each_ref().map(|origin| origin.address), "");
    let key = rig.key("acme", &[]).header();
    assert_eq!(post(&rig, &key), 502);
    assert_eq!(posts.load(Ordering::SeqCst), 1, "it was sent twice");
}

#[test]
fn no_get_is_lost_when_one_of_two_targets_dies() {
    let dead = Arc::new(AtomicBool::new(false));
    let killed = Arc::clone(&dead);
    let mortal = Origin::answering(move |_, socket| {
        if killed.load(Ordering::SeqCst) {
            let _ = socket.shutdown(Shutdown::Both);
        } else {
            let _ = socket.write_all(OK);
        }
    });
    let alive = Origin::hello();
    let rig = before(&[mortal.address, alive.address], "");
    // The requests of one alone could be what kills.
    let keys = [rig.key("acme", &[]), rig.key("globex", &[])];
    for index in 0..200 {
        dead.store(index >= 100, Ordering::SeqCst);
        let key = &keys[index / 2 % 2];
        assert_eq!(rig.get("/", key).status, 200, "request {index}");
    }
    let mut index = 0;
    eventually("the dead one is left out", || {
        index += 1;
        assert_eq!(rig.get("/", &keys[index / 2 % 2]).status, 200);
        state(&rig, 0) == "ejected"
    });
}

#[test]
fn health_checks_take_a_target_out_and_in_and_carry_no_secret() {
    let well = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&well);
    let moody = Origin::answering(move |request, socket| {
        let sick = request.line.starts_with("GET /healthz ") && !asked.load(Ordering::SeqCst);
        let _ = socket.write_all(if sick {
            b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"
        } else {
            OK
        });
        if request.line.starts_with("GET /healthz ") {
            let _ = socket.shutdown(Shutdown::Both);
        }
    });
    let steady = Origin::answering_bytes(OK);
    let rig = before(
        &[moody.address, steady.address],
        "health_path = \"/healthz\"\nhealth_interval = \"20ms\"",
    );
    let key = rig.key("acme", &[]);
    well.store(false, Ordering::SeqCst);
    eventually("it is taken out", || state(&rig, 0) == "unhealthy");
    let requests = || {
        moody
            .arrived()
            .iter()
            .filter(|request| !request.line.contains("/healthz"))
            .count()
    };
    let before = requests();
    for _ in 0..4 {
        assert_eq!(rig.get("/", &key).status, 200);
    }
    assert_eq!(requests(), before);
    assert_eq!(get(rig.admin, "/readyz", &[]).status, 200);
    well.store(true, Ordering::SeqCst);
    eventually("it is back", || state(&rig, 0) == "up");
    let checks = moody.arrived();
    assert!(
        checks
            .iter()
            .filter(|request| request.line.contains("/healthz"))
            .all(|check| check.one("x-shared-secret").is_none())
    );
}

#[test]
fn what_is_too_much_is_refused_at_once_and_only_then() {
    let origin = Origin::answering(|request, socket| {
        let _ = socket.write_all(if request.line.starts_with("GET /stream ") {
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun"
        } else {
            OK
        });
    });
    let listen = Rig::with(&origin.url(), "[listen]\nmax_requests_in_flight = 1\n");
    for rig in [listen, before(&[origin.address], "max_in_flight = 1")] {
        let key = rig.key("acme", &[]);
        let mut stream = Connection::open(rig.public);
        stream.send(format!(
            "GET /stream HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
            key.header()
        ));
        assert_eq!(stream.head().status, 200);
        let refused = rig.get("/", &key);
        assert_eq!(
            (
                refused.status,
                refused.code().as_str(),
                refused.header("retry-after")
            ),
            (503, "overloaded", Some("1"))
        );
        drop(stream);
        eventually("there is room again", || rig.get("/", &key).status == 200);
    }
}

/// Twice as many requests as a slow origin may have: half are refused before the others are answered, and those of another
/// origin notice nothing.
#[test]
fn a_slow_origin_gets_what_it_may_have_and_the_rest_is_refused_fast() {
    const MAY_HAVE: usize = 50;
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = Mutex::new(may_answer);
    let slow = Origin::answering(move |_, socket| {
        may_answer.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        let _ = socket.write_all(OK);
    });
    let quick = Origin::hello();
    let file = format!(
        "[[upstreams]]\nname = \"slow\"\ntargets = [\"{}\"]\nmax_in_flight = {MAY_HAVE}\n\
         [[routes]]\npath = \"/slow\"\nupstream = \"slow\"\n[[routes]]\n",
        slow.url()
    );
    let rig = Rig::with(&quick.url(), &file);
    let key = rig.key("acme", &[]);
    let ask = |_| {
        let mut connection = Connection::open(rig.public);
        connection.send(format!(
            "GET /slow HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
            key.header()
        ));
        connection
    };
    let taken: Vec<Connection> = (0..MAY_HAVE).map(ask).collect();
    eventually("the slow origin has its share", || {
        slow.arrived().len() == MAY_HAVE
    });
    let begun = Instant::now();
    for mut connection in (0..MAY_HAVE).map(ask) {
        assert_eq!(connection.response().code(), "overloaded");
        assert_eq!(rig.get("/", &key).status, 200);
    }
    assert!(
        // Who waited for the origin would wait for longer.
        begun.elapsed() < DEADLINE / 2,
        "{:?}",
        begun.elapsed()
    );
    for _ in &taken {
        answer.send(()).unwrap();
    }
    for mut connection in taken {
        assert_eq!(connection.response().status, 200);
    }
    assert_eq!(slow.arrived().len(), MAY_HAVE);
}

#[test]
fn an_upstream_that_is_not_there_is_named_with_those_that_are() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[[upstreams]]\nname = \"orders\"\ntargets = [\"http://127.0.0.1:1\"]\n[[routes]]\nupstream = \"oders\"\n";
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("routes[0].upstream")
            && text.contains("\"oders\"")
            && text.contains("\"orders\""),
        "{text}"
    );
}
