//! Usage: what requests do is in the store within a second, and is exact.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;

use serde_json::Value;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::client::{Connection, DEADLINE, exchange, get};
use crate::metrics::Scrape;
use crate::origin::Origin;
use crate::rig::{Process, Rig, database, gateway, make_store};
use crate::running::eventually;

/// Requests, refusals and bytes.
type Counts = [u64; 4];

/// What `gateway usage` says with these arguments.
fn usage(directory: &Path, arguments: &[&str]) -> Value {
    let arguments = [&["usage", "--json"], arguments].concat();
    let output = gateway(
        directory,
        &[("DATABASE_URL", &database(directory))],
        &arguments,
    );
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn total(directory: &Path, arguments: &[&str]) -> Counts {
    let usage = usage(directory, arguments);
    ["requests", "refusals", "bytes_in", "bytes_out"]
        .map(|name| usage["total"][name].as_u64().unwrap())
}

/// Waits until so many requests are in the store, and tells all counts.
fn written(directory: &Path, requests: u64) -> Counts {
    let mut counts = [0; 4];
    eventually(
        &format!("the usage of {requests} requests is written"),
        || {
            counts = total(directory, &[]);
            counts[0] >= requests
        },
    );
    counts
}

/// `requests` times `GET /` with a key, on one connection.
fn send(public: SocketAddr, key: &str, requests: usize) {
    let mut connection = Connection::open(public);
    for _ in 0..requests {
        connection.send(format!("GET / HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
        assert_eq!(connection.response().status, 200);
    }
}

#[test]
fn requests_over_all_workers_add_up_exactly() {
    let origin = Origin::hello();
    let gateway = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[("GATEWAY__LISTEN__WORKERS", "4")],
    );
    let (key, other) = (gateway.key("acme"), gateway.key("other"));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| send(gateway.public, &key, 25));
        }
    });
    for _ in 0..3 {
        let post =
            format!("POST / HTTP/1.1\r\nhost: h\r\n{other}\r\ncontent-length: 7\r\n\r\nabcdefg");
        assert_eq!(exchange(gateway.public, post).status, 200);
    }
    // Nobody's: neither is a key that is known.
    assert_eq!(get(gateway.public, "/", &[]).status, 401);
    assert_eq!(
        get(gateway.public, "/", &["authorization: Bearer unknown"]).status,
        401
    );

    let directory = gateway.directory.path();
    let all = 400 + 3;
    assert_eq!(
        written(directory, all),
        [all, 0, 3 * 7, 403 * 5 + refusal_bytes(directory)]
    );
    assert_eq!(total(directory, &["--consumer", "acme"])[..3], [400, 0, 0]);
    assert_eq!(total(directory, &["--consumer", "other"])[..3], [3, 0, 21]);
    // No count comes twice.
    send(gateway.public, &key, 1);
    assert_eq!(written(directory, all + 1)[0], all + 1);

    let top = usage(directory, &["--top", "1"]);
    assert_eq!(
        (
            &top["top_keys"][0]["consumer"],
            top["top_keys"].as_array().unwrap().len()
        ),
        (&"acme".into(), 1)
    );
}

/// The bodies of refusals count as any other; how long they are is not this suite's business.
fn refusal_bytes(directory: &Path) -> u64 {
    let all = total(directory, &[]);
    all[3] - (all[0] - all[1]) * 5
}

#[test]
fn a_refused_key_is_counted_and_not_used() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let last_used = || {
        serde_json::from_str::<Value>(&rig.done(&["keys", "show", "--json", &key.id])).unwrap()["last_used_at"].clone()
    };
    rig.done(&["keys", "disable", &key.id]);
    // Asked by a request that is refused in any case, for its size: it is no use either.
    let too_large = format!(
        "POST / HTTP/1.1\r\nhost: h\r\n{}\r\ncontent-length: {}\r\n\r\n",
        key.header(),
        u64::MAX
    );
    assert!(
        exchange(rig.public, &too_large).code() == "api_key_disabled",
        "it is refused"
    );
    let refused = |requests| {
        let mut counts = [0; 4];
        eventually("the refusals are written", || {
            counts = total(rig.directory.path(), &["--key", &key.id]);
            counts[1] >= requests
        });
        counts
    };
    let before = refused(1);
    assert_eq!(before[0], before[1], "a request was let through");
    assert_eq!(last_used(), Value::Null);

    rig.done(&["keys", "enable", &key.id]);
    assert!(rig.get("/", &key).status == 200, "it is let in");
    eventually("the use is written", || last_used() != Value::Null);
    assert!(last_used().as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_request_that_is_refused_before_its_key_is_looked_up_is_nobodys() {
    let origin = Origin::hello();
    let rig = Rig::with(
        &origin.url(),
        "[[routes]]\npath = \"/only\"\nmethods = [\"GET\"]\n",
    );
    let key = rig.key("acme", &[]);
    for (line, extra, status) in [
        ("GET /other", "", 404),
        ("PUT /only", "content-length: 0\r\n", 405),
        ("GET /only", "expect: something\r\n", 417),
        ("GET /only/%2f", "", 400),
    ] {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: h\r\n{}\r\n{extra}\r\n",
            key.header()
        );
        assert_eq!(exchange(rig.public, request).status, status, "{line}");
    }
    assert_eq!(rig.get("/only", &key).status, 200);
    assert_eq!(written(rig.directory.path(), 1)[..2], [1, 0]);
}

#[test]
fn a_drained_stop_writes_everything() {
    let origin = Origin::hello();
    for _ in 0..3 {
        let mut gateway = Process::start(
            tempfile::tempdir().unwrap(),
            &origin.url(),
            &[("GATEWAY__LISTEN__WORKERS", "2")],
        );
        let key = gateway.key("acme");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| send(gateway.public, &key, 20));
            }
        });
        gateway.signal("TERM");
        assert_eq!(gateway.ended(), Some(0));
        assert_eq!(
            total(gateway.directory.path(), &[])[..2],
            [80, 0],
            "{}",
            gateway.log()
        );
    }
}

#[test]
fn kill_9_loses_the_last_moments_at_most() {
    const OLD: u64 = 100;
    let origin = Origin::hello();
    let gateway = Process::before(&origin.url());
    let key = gateway.key("acme");
    let mut all = 0;
    // While requests go on, those before are written.
    eventually("the old ones are written", || {
        send(gateway.public, &key, 100);
        all += 100;
        total(gateway.directory.path(), &[])[0] >= OLD
    });
    let directory = gateway.kill();
    let requests = total(directory.path(), &[])[0];
    assert!((OLD..=all).contains(&requests), "{requests} of {all}");
}

#[test]
fn while_the_store_takes_no_writes_usage_adds_up_in_memory() {
    let origin = Origin::hello();
    let gateway = Process::before(&origin.url());
    let key = gateway.key("acme");
    let directory = gateway.directory.path();

    let (release, released) = mpsc::channel::<()>();
    let (locked, is_locked) = mpsc::channel();
    let url = database(directory);
    let holder = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            connection.execute("BEGIN EXCLUSIVE").await.unwrap();
            locked.send(()).unwrap();
            released.recv_timeout(2 * DEADLINE).unwrap();
            connection.execute("ROLLBACK").await.unwrap();
        });
    });
    is_locked.recv_timeout(DEADLINE).unwrap();
    send(gateway.public, &key, 10);
    eventually("a write fails", || {
        Scrape::of(gateway.admin).value("postern_usage_write_failures_total", &[]) >= 1.0
    });
    send(gateway.public, &key, 10);
    assert!(Scrape::of(gateway.admin).value("postern_usage_pending", &[]) >= 1.0);
    eventually("the log says so", || {
        gateway.log().contains("cannot write usage")
    });
    assert_eq!(total(directory, &[])[0], 0);

    release.send(()).unwrap();
    holder.join().unwrap();
    assert_eq!(written(directory, 20)[0], 20);
    eventually("nothing is pending", || {
        Scrape::of(gateway.admin).value("postern_usage_pending", &[]) == 0.0
    });
    eventually("it says so", || {
        gateway
            .log()
            .contains("usage is written to the store again")
    });
}

#[test]
fn a_long_stream_is_counted_while_it_runs() {
    const SENT: usize = 3 * 1024 * 1024;
    let (finish, may_finish) = mpsc::channel::<()>();
    let may_finish = std::sync::Mutex::new(may_finish);
    let origin = Origin::answering(move |request, socket| {
        if request.line.starts_with("GET /stream") {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
            let _ = socket.write_all(format!("{SENT:x}\r\n{}\r\n", "x".repeat(SENT)).as_bytes());
            may_finish
                .lock()
                .unwrap()
                .recv_timeout(2 * DEADLINE)
                .unwrap();
            let _ = socket.write_all(b"0\r\n\r\n");
        }
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let mut stream = Connection::open(rig.public);
    stream.send(format!(
        "GET /stream HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
        key.header()
    ));
    stream.head();
    let mut read = 0;
    while read < SENT {
        read += stream.some_bytes().len();
    }
    eventually("the bytes so far are written", || {
        total(rig.directory.path(), &[])[3] >= SENT as u64 / 2
    });
    assert_eq!(
        total(rig.directory.path(), &[])[0],
        0,
        "a request is counted when it has ended"
    );
    assert_eq!(
        Scrape::of(rig.admin).value("postern_open_streams", &[("kind", "event_stream")]),
        1.0
    );
    finish.send(()).unwrap();
    let sent = || {
        let all = total(rig.directory.path(), &[]);
        (all[0] == 1).then_some(all[3])
    };
    eventually("its end is written", || sent().is_some());
    assert!(
        (SENT as u64..SENT as u64 + 1_000).contains(&sent().unwrap()),
        "{:?}",
        sent()
    );
    eventually("it is closed", || {
        Scrape::of(rig.admin).value("postern_open_streams", &[("kind", "event_stream")]) == 0.0
    });
}

#[test]
fn the_command_draws_a_chart_and_refuses_what_it_cannot_answer() {
    let directory = tempfile::tempdir().unwrap();
    let store = database(directory.path());
    make_store(directory.path());
    let run = |language: &str, arguments: &[&str]| {
        let arguments = [&["usage"], arguments].concat();
        gateway(
            directory.path(),
            &[
                ("DATABASE_URL", &store),
                ("LANG", language),
                ("COLUMNS", "100"),
            ],
            &arguments,
        )
    };
    let output = run("C", &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // A day is 24 hours and begins and ends within one, besides the heading and the total.
    assert!(
        (26..=27).contains(&lines.len()) && lines[0].starts_with("BEGINNING"),
        "{text}"
    );
    assert!(
        lines.last().unwrap().starts_with("total") && text.is_ascii(),
        "{text}"
    );

    let whole_key = "pstn_0123456789abcdefghijklmnopqrstuvABCDEF";
    for arguments in [
        &["--since", "yesterday"][..],
        &["--since", "1h", "--from", "2030-01-01T00:00:00Z"],
        &["--since", "1h", "--until", "2h"],
        &[
            "--from",
            "2030-01-02T00:00:00Z",
            "--to",
            "2030-01-01T00:00:00Z",
        ],
        &["--from", "tomorrow"],
        &["--since", "9000d"],
        &["--since", "9000d", "--by", "week"],
        &["--key", "acme"],
        &["--key", whole_key],
        &["--key", "key_0123456789abcdefghij", "--consumer", "acme"],
        &["--top", "0"],
    ] {
        let output = run("C", arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains(whole_key),
            "{output:?}"
        );
    }
    assert_eq!(run("C", &["--consumer", "nobody"]).status.code(), Some(1));
    assert_eq!(
        run("C", &["--since", "9000d", "--by", "day"]).status.code(),
        Some(0)
    );
}
