//! Quotas, from outside.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, mpsc};

use crate::client::{Connection, DEADLINE, get};
use crate::metrics::Scrape;
use crate::origin::Origin;
use crate::rig::{Key, Process, Rig, database, gateway};
use crate::running::eventually;

mod operators;

/// A zone in which it is about noon: no test that takes less than hours sees the end of a day there.
fn midday() -> String {
    let hour = time::OffsetDateTime::now_utc().hour();
    // East of Greenwich has a minus in these names.
    format!("time_zone = \"Etc/GMT{:+}\"\n", i32::from(hour) - 12)
}

/// A quota that no test sees the end of.
fn yearly(limit: u64) -> String {
    format!(
        "[[quotas]]\nname = \"yearly\"\nby = \"consumer\"\nlimit = {limit}\nperiod = \"lifetime\"\n"
    )
}

/// An origin that answers with the status in the path.
fn origin() -> Origin {
    Origin::answering(|request, socket| {
        let path = request.line.split(' ').nth(1).unwrap_or_default();
        let status = path
            .trim_start_matches('/')
            .split('?')
            .next()
            .unwrap_or_default();
        let status = if status.is_empty() { "200" } else { status };
        if request.one("upgrade").is_some() {
            let _ = socket.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            );
            return;
        }
        let _ = write!(socket, "HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
    })
}

/// How many of `tries` requests pass before the first that is refused.
fn passes(rig: &Rig, key: &Key, tries: usize) -> usize {
    (0..tries)
        .take_while(|_| rig.get("/", key).status == 200)
        .count()
}

/// What the store has of quotas: subject and units.
fn stored(directory: &std::path::Path) -> Vec<(String, i64)> {
    let url = database(directory);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use sqlx::Connection as _;
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query_as("SELECT subject, units FROM quota_use ORDER BY subject")
            .fetch_all(&mut connection)
            .await
            .unwrap()
    })
}

#[test]
fn a_quota_is_used_up_by_a_consumer_with_all_its_keys() {
    let origin = origin();
    let daily = "[[quotas]]\nname = \"daily\"\nby = \"consumer\"\nlimit = 5\nperiod = \"day\"\n";
    let rig = Rig::with(&origin.url(), &format!("{daily}{}", midday()));
    let (one, two) = (rig.key("acme", &[]), rig.key("acme", &[]));
    let other = rig.key("other", &[]);
    assert_eq!(passes(&rig, &one, 3), 3);
    assert_eq!(passes(&rig, &two, 20), 2);
    let refused = rig.get("/", &one);
    assert_eq!(refused.code(), "quota_exceeded");
    assert_eq!(refused.json()["violated-policies"][0], "daily");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400 + 300).contains(&wait), "{wait}");
    assert_eq!(rig.get("/", &other).status, 200);
    assert_eq!(origin.arrived().len(), 6);
    // What never ends has no time.
    let rig = Rig::with(&origin.url(), &yearly(1));
    let one = rig.key("acme", &[]);
    assert_eq!(passes(&rig, &one, 3), 1);
    let refused = rig.get("/", &one);
    assert_eq!(refused.header("retry-after"), None);
}

#[test]
fn a_caller_is_told_of_the_two_tightest_of_its_limits_and_quotas() {
    let origin = origin();
    let of = |name: &str, limit, more: &str| {
        format!("[[quotas]]\nname = \"{name}\"\nby = \"consumer\"\nlimit = {limit}\n{more}\n")
    };
    let file = [
        "[[rate_limits]]\nname = \"burst\"\nby = \"key\"\nlimit = 5\nwindow = \"1d\"\n",
        &of("daily", 3, &format!("period = \"day\"\n{}", midday())),
        &of("trial", 100, "period = \"lifetime\""),
        &of("soft", 1, "period = \"lifetime\"\nenforce = false"),
    ]
    .concat();
    let rig = Rig::with(&origin.url(), &file);
    let key = rig.key("acme", &[]);
    // The items without their times. A day ends within a day; the limit has another unit within two.
    let untimed = |field: &str| {
        let items = field.split(", ").map(|item| {
            let (item, seconds) = item.split_once(";t=").unwrap_or((item, "1"));
            let seconds: u64 = seconds.parse().unwrap();
            let days = if item.contains("daily") { 1 } else { 2 };
            assert!((1..=days * 86_400).contains(&seconds), "{field}");
            item.to_owned()
        });
        items.collect::<Vec<_>>()
    };
    for left in [
        ["\"daily\";r=2", "\"burst\";r=4"],
        ["\"daily\";r=1", "\"burst\";r=3"],
        ["\"daily\";r=0", "\"burst\";r=2"],
    ] {
        let answer = rig.get("/", &key);
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"daily\";q=3, \"burst\";q=5;w=86400")
        );
        let told = answer.header("ratelimit").unwrap();
        assert_eq!(untimed(told), left);
        assert_eq!(told.matches(";t=").count(), 2, "{told}");
    }
    let refused = rig.get("/", &key);
    assert_eq!(refused.code(), "quota_exceeded");
    let told = refused.header("ratelimit").unwrap();
    assert_eq!(untimed(told), ["\"daily\";r=0", "\"trial\";r=97"]);
    // A quota that never ends has no time.
    let rig = Rig::with(&origin.url(), &of("trial", 100, "period = \"lifetime\""));
    let answer = rig.get("/", &rig.key("acme", &[]));
    assert_eq!(
        (
            answer.header("ratelimit-policy"),
            answer.header("ratelimit")
        ),
        (Some("\"trial\";q=100"), Some("\"trial\";r=99"))
    );
}

#[test]
fn what_does_not_count_is_given_back() {
    let origin = origin();
    let successes = format!("{}count_statuses = [\"2xx\", \"3xx\"]\n", yearly(3));
    let all = yearly(3);
    let away = "[[routes]]\n[[routes]]\npath = \"/away\"\nupstream = \"http://127.0.0.1:1\"\n";
    for (settings, path, left) in [
        (&successes, "/500", 3),
        (&successes, "/404", 3),
        (&successes, "/304", 0),
        (&all, "/500", 0),
        (&all, "/away", 3),
        (&all, "/a%2fb", 3),
    ] {
        let rig = Rig::with(&origin.url(), &format!("{away}{settings}"));
        let key = rig.key("acme", &[]);
        for _ in 0..3 {
            assert_ne!(rig.get(path, &key).status, 429, "{path}");
        }
        // An answer that was not read to its end is settled a moment later.
        let mut passed = 0;
        eventually(path, || {
            passed += passes(&rig, &key, 10);
            passed >= left
        });
        passed += passes(&rig, &key, 10);
        assert_eq!(passed, left, "{path} {settings}");
    }
}

#[test]
fn a_websocket_counts_at_its_101_and_a_client_that_leaves_early_counts_too() {
    let (speak, silence) = mpsc::channel();
    let silence = Mutex::new(silence);
    let origin = Origin::answering(move |request, socket| {
        if request.one("upgrade").is_some() {
            let _ = socket.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            );
        } else if request.line.contains("/silent") {
            let _ = silence.lock().unwrap().recv_timeout(DEADLINE);
        }
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let rig = Rig::with(&origin.url(), &yearly(2));
    let key = rig.key("acme", &[]);
    let mut tunnel = Connection::open(rig.public);
    let line = key.header();
    tunnel.send(format!(
        "GET /ws HTTP/1.1\r\nhost: h\r\n{line}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    ));
    assert_eq!(tunnel.head().status, 101);
    let mut early = Connection::open(rig.public);
    early.send(format!("GET /silent HTTP/1.1\r\nhost: h\r\n{line}\r\n\r\n"));
    eventually("it is at the origin", || origin.arrived().len() == 2);
    drop(early);
    eventually("only the tunnel is left", || {
        Scrape::of(rig.admin).value("postern_requests_in_flight", &[]) == 1.0
    });
    assert_eq!(rig.get("/", &key).code(), "quota_exceeded");
    speak.send(()).unwrap();
    drop(tunnel);
    assert_eq!(rig.get("/", &key).code(), "quota_exceeded");
}

#[test]
fn a_body_that_breaks_off_once_it_is_forwarded_counts() {
    // Sends what has come of a body to the test, as the origin has it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (arrives, arrived) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, arrives) = (socket.unwrap(), arrives.clone());
            std::thread::spawn(move || {
                let (mut seen, mut bytes) = (Vec::new(), [0; 1024]);
                while let Ok(read @ 1..) = socket.read(&mut bytes) {
                    seen.extend_from_slice(&bytes[..read]);
                    if seen.windows(5).any(|text| text == b"first") {
                        let _ = arrives.send(());
                        seen.clear();
                    }
                }
            });
        }
    });
    for (rest, status, idle) in [
        ("zz\r\n", 400, "5min"),
        ("8\r\ntoo much\r\n", 413, "5min"),
        ("", 408, "300ms"),
    ] {
        let listen = format!("[listen]\nmax_body_bytes = 10\nbody_idle_timeout = \"{idle}\"\n");
        let file = format!("{listen}{}", yearly(1));
        let rig = Rig::with(&format!("http://{address}"), &file);
        let key = rig.key("acme", &[]);
        let mut upload = Connection::open(rig.public);
        let line = key.header();
        upload.send(format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{line}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        ));
        arrived.recv_timeout(DEADLINE).unwrap();
        upload.send(rest);
        assert_eq!(upload.response().status, status);
        assert_eq!(rig.get("/", &key).code(), "quota_exceeded", "{status}");
    }
}

#[test]
fn a_client_that_asks_first_is_charged_once() {
    let origin = origin();
    let rig = Rig::with(&origin.url(), &yearly(2));
    let line = rig.key("acme", &[]).header();
    let ask = || {
        let mut asking = Connection::open(rig.public);
        asking.send(format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{line}\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        ));
        asking
    };
    for _ in 0..2 {
        let mut asking = ask();
        let told = asking.some_bytes();
        assert!(told.starts_with(b"HTTP/1.1 100 "), "{told:?}");
        asking.send("ab");
        assert_eq!(asking.response().status, 200);
    }
    assert_eq!(ask().response().code(), "quota_exceeded");
}

#[test]
fn counts_outlive_the_gateway_and_kill_9_loses_at_most_a_moment() {
    let origin = origin();
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("gateway.toml");
    std::fs::write(&settings, yearly(1_000_000)).unwrap();
    let process = Process::start(directory, &origin.url(), &[]);
    let key = process.key("acme");
    let send = |public: SocketAddr| get(public, "/", &[&key]).status;
    let written_in = |directory: &std::path::Path| stored(directory).first().map_or(0, |row| row.1);
    // While requests go on, those before are written.
    let (old, mut all) = (100, 0);
    eventually("the old ones are written", || {
        for _ in 0..old {
            assert_eq!(send(process.public), 200);
            all += 1;
        }
        written_in(process.directory.path()) >= old
    });
    let directory = process.kill();
    let written = written_in(directory.path());
    assert!((old..=all).contains(&written), "{written} of {all}");
    // The next run goes on from there: in the favour of the customer, never against.
    std::fs::write(
        directory.path().join("gateway.toml"),
        yearly(u64::try_from(written).unwrap() + 2),
    )
    .unwrap();
    let process = Process::start_unready(directory, &origin.url(), &[]);
    let mut passed = 0;
    eventually("it refuses by what was used before", || {
        match send(process.public) {
            200 => passed += 1,
            429 => return true,
            // It has not read its keys.
            status => assert_eq!(status, 503),
        }
        false
    });
    assert_eq!(passed, 2);
}

#[test]
fn gateways_on_one_store_share_a_quota() {
    const TOKEN: &str = "quotas-fleet-3fa8b26471c9e05d";
    let origin = origin();
    let one = Rig::with(&origin.url(), &yearly(20));
    let key = one.key("acme", &[]);
    let url = database(one.directory.path());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), yearly(20)).unwrap();
    let variables = [("DATABASE_URL", &*url), ("ADMIN_TOKEN", TOKEN)];
    let other = Process::start(directory, &origin.url(), &variables);
    assert_eq!(passes(&one, &key, 15), 15);
    let line = key.header();
    // The other learns of them within a second, and then has five.
    eventually("the store has them", || {
        stored(one.directory.path())
            .first()
            .is_some_and(|row| row.1 == 15)
    });
    let admin = format!("http://{}", other.admin);
    let variables = [&variables[..], &[("ADMIN_URL", &*admin)]].concat();
    eventually("the other has read them", || {
        let arguments = ["quotas", "show", "--consumer", "acme"];
        let shown = gateway(other.directory.path(), &variables, &arguments).stdout;
        let shown = String::from_utf8(shown).unwrap();
        shown.split_whitespace().any(|word| word == "15")
    });
    let passed = (0..20)
        .take_while(|_| get(other.public, "/", &[&line]).status == 200)
        .count();
    assert_eq!(passed, 5);
    eventually("the first learns of those", || {
        one.get("/", &key).status == 429
    });
}

#[test]
fn shares_are_told_in_the_log_and_soft_quotas_let_pass() {
    let origin = origin();
    let directory = tempfile::tempdir().unwrap();
    let soft = format!("{}enforce = false\n", yearly(10));
    std::fs::write(directory.path().join("gateway.toml"), soft).unwrap();
    let process = Process::start(directory, &origin.url(), &[]);
    let key = process.key("acme");
    for _ in 0..15 {
        assert_eq!(get(process.public, "/", &[&key]).status, 200);
    }
    for share in ["80 % of 10", "100 % of 10"] {
        eventually(share, || process.log().contains(share));
        assert_eq!(process.log().matches(share).count(), 1, "{share}");
    }
    let page = get(process.admin, "/metrics", &[]).text();
    for sample in [
        "postern_quota_notices_total{share=\"80\"} 1",
        "postern_quota_notices_total{share=\"100\"} 1",
        "postern_quota_would_be_exceeded_total 5",
    ] {
        assert!(page.contains(sample), "{sample}: {page}");
    }
}
