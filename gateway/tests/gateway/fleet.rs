//! Several gateways on one PostgreSQL server: a change reaches all of them, and none of them stops when it goes away.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use crate::client::{Response, get};
use crate::origin::Origin;
use crate::postgres::{self, Server};
use crate::rig::{Process, gateway};
use crate::running::eventually;

/// A database, and gateways on it.
struct Fleet {
    gateways: Vec<Process>,
    url: String,
    origin: Origin,
}

/// The same, and the server that it is alone on.
struct Alone {
    fleet: Fleet,
    server: Server,
}

impl Alone {
    fn of(gateways: usize, variables: &[(&str, &str)]) -> Self {
        let server = Server::start();
        let url = runtime().block_on(server.database());
        let fleet = Fleet::on(url, gateways, variables);
        Self { fleet, server }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

impl Fleet {
    fn of(gateways: usize, variables: &[(&str, &str)]) -> Self {
        Self::on(
            runtime().block_on(postgres::new_database()),
            gateways,
            variables,
        )
    }

    fn on(url: String, gateways: usize, variables: &[(&str, &str)]) -> Self {
        let mut fleet = Self {
            gateways: Vec::new(),
            url,
            origin: Origin::hello(),
        };
        for _ in 0..gateways {
            fleet.join(variables);
        }
        fleet
    }

    /// Starts one more.
    fn join(&mut self, variables: &[(&str, &str)]) {
        let variables = [
            &[
                ("DATABASE_URL", self.url.as_str()),
                ("GATEWAY__LISTEN__WORKERS", "1"),
            ],
            variables,
        ]
        .concat();
        let gateway = Process::start(tempfile::tempdir().unwrap(), &self.origin.url(), &variables);
        self.gateways.push(gateway);
    }

    /// Runs the command line on the store.
    fn command(&self, arguments: &[&str]) -> Output {
        gateway(
            self.gateways[0].directory.path(),
            &[("DATABASE_URL", &self.url)],
            arguments,
        )
    }

    /// Makes a key; returns its id and the header line that presents it. Every gateway knows it by then.
    fn key(&self, consumer: &str) -> (String, String) {
        let output = self.command(&["keys", "create", "--consumer", consumer, "--json"]);
        assert!(output.status.success(), "{output:?}");
        let created: Value = serde_json::from_slice(&output.stdout).unwrap();
        let line = format!("authorization: Bearer {}", created["key"].as_str().unwrap());
        (created["id"].as_str().unwrap().to_owned(), line)
    }

    /// Has the database think that its gateways have been silent for so much longer.
    fn grow_silent(&self, millis: i64) {
        self.sql(&format!(
            "UPDATE gateways SET seen_at = seen_at - {millis} RETURNING seen_at"
        ));
    }

    /// Runs a statement, which returns numbers.
    fn sql(&self, statement: &str) -> Vec<i64> {
        runtime().block_on(async {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            let statement = sqlx::AssertSqlSafe(statement.to_owned());
            sqlx::query_scalar(statement)
                .fetch_all(&mut connection)
                .await
                .unwrap()
        })
    }

    fn answers(&self, line: &str) -> Vec<String> {
        self.gateways
            .iter()
            .map(|gateway| get(gateway.public, "/", &[line]).code_or_ok())
            .collect()
    }
}

fn ready(gateway: &Process) -> (Response, Value) {
    let response = get(gateway.admin, "/readyz", &[]);
    let told = serde_json::from_str(&response.text()).unwrap();
    (response, told)
}

#[test]
fn a_revocation_that_was_waited_for_holds_on_every_gateway() {
    let fleet = Fleet::of(3, &[]);
    for round in 0..5 {
        let (id, line) = fleet.key("acme");
        let output = fleet.command(&["keys", "revoke", &id, "--wait"]);
        assert!(output.status.success(), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("confirmed by 3 gateways"),
            "{output:?}"
        );
        // The very next request, without any waiting.
        assert_eq!(
            fleet.answers(&line),
            ["api_key_revoked"; 3],
            "round {round}"
        );
    }
}

#[test]
fn a_gateway_that_does_not_confirm_is_named_and_catches_up() {
    let fleet = Fleet::of(2, &[]);
    let (id, line) = fleet.key("acme");
    fleet.gateways[1].signal("STOP");
    let output = fleet.command(&["keys", "revoke", &id, "--wait", "--timeout", "5s"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains(&format!(":{}", fleet.gateways[1].public.port())),
        "{told}"
    );
    assert!(
        !told.contains(&format!(":{}", fleet.gateways[0].public.port())),
        "{told}"
    );
    assert_eq!(
        get(fleet.gateways[0].public, "/", &[&line]).code_or_ok(),
        "api_key_revoked"
    );

    fleet.gateways[1].signal("CONT");
    eventually("it has caught up", || {
        get(fleet.gateways[1].public, "/", &[&line]).code_or_ok() == "api_key_revoked"
    });
    let again = fleet.command(&["keys", "revoke", &id, "--wait"]);
    assert!(again.status.success(), "{again:?}");
}

#[test]
fn gateways_that_fell_silent_with_the_database_speak_up_before_a_wait_is_over() {
    let fleet = Fleet::of(3, &[]);
    let (id, line) = fleet.key("acme");
    fleet.grow_silent(20_000);
    let output = fleet.command(&["keys", "revoke", &id, "--wait"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && told.contains("confirmed by 3 gateways"),
        "{told}"
    );
    assert_eq!(fleet.answers(&line), ["api_key_revoked"; 3]);
}

#[test]
fn a_gateway_that_is_cut_off_is_named_until_it_is_forgotten() {
    let fleet = Fleet::of(2, &[]);
    let (id, line) = fleet.key("acme");
    let (second, _) = fleet.key("acme");
    let (third, _) = fleet.key("acme");
    fleet.gateways[1].signal("STOP");
    fleet.grow_silent(25 * 3_600_000);
    let name = format!(":{}", fleet.gateways[1].public.port());

    // Nobody says that it is confirmed, and the other gateway goes by it all the same.
    let output = fleet.command(&["keys", "revoke", &id, "--wait", "--timeout", "5s"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains(&name) && told.contains("gateways forget gw_"),
        "{told}"
    );
    assert_eq!(
        get(fleet.gateways[0].public, "/", &[&line]).code_or_ok(),
        "api_key_revoked"
    );
    // A plain command names it, and does not fail for it.
    let output = fleet.command(&["keys", "revoke", &second]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains(&name), "{told}");
    let quiet = fleet.command(&["--no-wait", "keys", "disable", &third]);
    assert!(
        quiet.status.success() && quiet.stderr.is_empty(),
        "{quiet:?}"
    );
    let output = fleet.command(&[
        "keys",
        "revoke",
        &second,
        "--wait",
        "--timeout",
        "30s",
        "--ignore-silent",
    ]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && told.contains("confirmed by 1 gateway"),
        "{told}"
    );

    let listed = fleet.command(&["gateways", "--json"]);
    let gateways: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let gateways = gateways.as_array().unwrap();
    let of = |is_live: bool| {
        gateways
            .iter()
            .find(|gateway| gateway["live"] == is_live)
            .unwrap()
    };
    let running = fleet.command(&["gateways", "forget", of(true)["id"].as_str().unwrap()]);
    assert_eq!(running.status.code(), Some(1), "{running:?}");
    let forgotten = fleet.command(&["gateways", "forget", of(false)["id"].as_str().unwrap()]);
    assert!(forgotten.status.success(), "{forgotten:?}");
    let output = fleet.command(&["keys", "revoke", &id, "--wait"]);
    assert!(output.status.success(), "{output:?}");
    // It was forgotten by mistake: it comes back with its next word.
    fleet.gateways[1].signal("CONT");
    eventually("it is known again", || {
        let listed = fleet.command(&["gateways", "--json"]);
        let gateways: Value = serde_json::from_slice(&listed.stdout).unwrap();
        gateways.as_array().unwrap().len() == 2
    });
}

#[test]
fn a_gateway_that_was_killed_is_succeeded_by_the_next_one_at_its_address() {
    let mut fleet = Fleet::of(1, &[]);
    let address = format!("127.0.0.1:{}", postgres::free_port());
    let variables = [("GATEWAY__LISTEN__ADDRESS", address.as_str())];
    fleet.join(&variables);
    drop(fleet.gateways.pop().unwrap().kill());
    fleet.join(&variables);
    eventually("the one before is forgotten", || {
        let listed = fleet.command(&["gateways", "--json"]);
        let gateways: Value = serde_json::from_slice(&listed.stdout).unwrap();
        gateways.as_array().unwrap().len() == 2
    });
    let (id, line) = fleet.key("acme");
    let output = fleet.command(&["keys", "revoke", &id, "--wait"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fleet.answers(&line), ["api_key_revoked"; 2]);
}

#[test]
fn changes_that_nobody_waits_for_are_announced_with_the_heartbeat_only() {
    let fleet = Fleet::of(1, &[]);
    let row = || fleet.sql("SELECT revision FROM gateways")[0];
    let newest = || fleet.sql("SELECT max(revision) FROM changes")[0];
    let before = row();
    // For less than a heartbeat: most of the changes are told of by none.
    let begun = Instant::now();
    let mut told = std::collections::BTreeSet::new();
    while begun.elapsed() < Duration::from_secs(2) {
        assert!(
            fleet
                .command(&["--no-wait", "keys", "create", "--consumer", "a"])
                .status
                .success()
        );
        told.insert(row());
    }
    told.remove(&before);
    let heartbeats = 1 + begun.elapsed().as_secs() / 5;
    assert!(told.len() as u64 <= heartbeats, "{told:?} of {}", newest());
    // Somebody waits.
    assert!(
        fleet
            .command(&["keys", "create", "--consumer", "a"])
            .status
            .success()
    );
    assert_eq!(row(), newest());
}

#[test]
fn a_gateway_that_stops_is_waited_for_no_longer() {
    let mut fleet = Fleet::of(2, &[]);
    let mut leaver = fleet.gateways.pop().unwrap();
    leaver.signal("TERM");
    assert_eq!(leaver.ended(), Some(0));
    let listed = fleet.command(&["gateways", "--json"]);
    let gateways: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(gateways.as_array().unwrap().len(), 1, "{gateways}");
    assert_eq!(gateways[0]["live"], true);
}

#[test]
fn traffic_outlives_the_database_unless_the_table_may_not_get_old() {
    let Alone {
        mut fleet,
        mut server,
    } = Alone::of(1, &[]);
    fleet.join(&[("GATEWAY__STORE__MAX_STALENESS", "1500ms")]);
    let (id, line) = fleet.key("acme");
    server.stop();
    eventually("one has become stale", || {
        fleet.answers(&line) == ["ok", "not_ready"]
    });
    eventually("the other is ready with an old table", || {
        let (response, told) = ready(&fleet.gateways[0]);
        assert_eq!(
            (response.status, told["status"].as_str()),
            (200, Some("ready"))
        );
        told["store_age_seconds"].as_f64().unwrap() >= 1.0
    });
    let (response, told) = ready(&fleet.gateways[1]);
    assert_eq!(
        (response.status, told["status"].as_str()),
        (503, Some("stale"))
    );
    let refused = get(fleet.gateways[1].public, "/", &[&line]);
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    let failed = fleet.command(&["keys", "revoke", &id]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(
        !String::from_utf8_lossy(&failed.stderr).contains("of-the-tests"),
        "{failed:?}"
    );

    server.resume();
    eventually("both are current", || fleet.answers(&line) == ["ok", "ok"]);
    assert!(
        fleet
            .command(&["keys", "revoke", &id, "--wait"])
            .status
            .success()
    );
    assert_eq!(fleet.answers(&line), ["api_key_revoked", "api_key_revoked"]);
}

#[test]
fn a_gateway_starts_from_its_snapshot_while_the_database_is_away() {
    let Alone {
        mut fleet,
        mut server,
    } = Alone::of(1, &[]);
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("keys.snapshot");
    let variables = [("GATEWAY__STORE__SNAPSHOT", snapshot.to_str().unwrap())];
    let (revoked, revoked_line) = fleet.key("acme");
    let (_, good_line) = fleet.key("other");
    fleet.join(&variables);
    eventually("the snapshot is written", || snapshot.exists());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&snapshot).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let bytes = std::fs::read(&snapshot).unwrap();
    for secret in [&revoked_line, &good_line, "of-the-tests"] {
        let secret = secret.rsplit(' ').next().unwrap().as_bytes();
        assert!(
            !bytes.windows(secret.len()).any(|window| window == secret),
            "a secret is in the snapshot"
        );
    }
    drop(fleet.gateways.pop());
    assert!(
        fleet
            .command(&["keys", "revoke", &revoked])
            .status
            .success()
    );

    server.stop();
    fleet.join(&variables);
    assert_eq!(
        get(fleet.gateways[1].public, "/", &[&good_line]).code_or_ok(),
        "ok"
    );
    eventually("it says where the keys are from", || {
        let log = fleet.gateways[1].log();
        log.contains("starting with 2 keys from the snapshot")
    });
    server.resume();
    let of_the_restarted = |line: &str| get(fleet.gateways[1].public, "/", &[line]).code_or_ok();
    eventually("what was missed is there", || {
        of_the_restarted(&revoked_line) == "api_key_revoked"
    });
    // By the changes since the snapshot, not by loading everything.
    assert!(
        !fleet.gateways[1].log().contains("loaded "),
        "{}",
        fleet.gateways[1].log()
    );
}

#[test]
fn a_snapshot_that_is_damaged_or_of_another_database_is_not_used() {
    let Alone {
        mut fleet,
        mut server,
    } = Alone::of(1, &[]);
    let (_, line) = fleet.key("acme");
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("keys.snapshot");
    fleet.join(&[("GATEWAY__STORE__SNAPSHOT", snapshot.to_str().unwrap())]);
    eventually("the snapshot is written", || snapshot.exists());
    drop(fleet.gateways.pop());
    let whole = std::fs::read(&snapshot).unwrap();
    server.stop();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let elsewhere = fleet.url.replace("/test_", "/other_");
    for (bytes, url, why) in [
        (&flipped[..], &fleet.url, "the file is damaged"),
        (&whole[..whole.len() - 1], &fleet.url, "the file is damaged"),
        (b"", &fleet.url, "the file is damaged"),
        (&whole[..], &elsewhere, "the file belongs to the database"),
    ] {
        std::fs::write(&snapshot, bytes).unwrap();
        let variables = [
            ("DATABASE_URL", url.as_str()),
            ("GATEWAY__STORE__SNAPSHOT", snapshot.to_str().unwrap()),
        ];
        let gateway = Process::start_unready(
            tempfile::tempdir().unwrap(),
            &fleet.origin.url(),
            &variables,
        );
        eventually("the log says why", || gateway.log().contains(why));
        assert_eq!(
            get(gateway.public, "/", &[&line]).code_or_ok(),
            "not_ready",
            "{why}"
        );
        assert_eq!(ready(&gateway).0.status, 503);
    }
}
