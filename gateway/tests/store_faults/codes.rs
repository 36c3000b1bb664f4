//! The table of codes: each row on the real database, or, where nothing provokes it at will, by the server's own `RAISE`.

use std::time::{Duration, Instant};

use postern_gateway::store::Fault;
use postern_gateway::store::fault::{SQLITE_CODES, SQLSTATES};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::postgres::new_database;

/// How long a session that idles may take to end.
const DEADLINE: Duration = Duration::from_secs(60);

/// Statements that make PostgreSQL answer with a code.
const PROVOKED: &[(&str, &[&str])] = &[
    ("25006", &["BEGIN READ ONLY", "CREATE TABLE t (a int)"]),
    (
        "57014",
        &["SET statement_timeout = '20ms'", "SELECT pg_sleep(5)"],
    ),
    ("42P05", &["PREPARE p AS SELECT 1", "PREPARE p AS SELECT 1"]),
    ("26000", &["EXECUTE nothing"]),
    ("57P01", &["SELECT pg_terminate_backend(pg_backend_pid())"]),
    (
        "42501",
        &[
            "CREATE ROLE nobody_much",
            "SET ROLE nobody_much",
            "CREATE TABLE public.t (a int)",
        ],
    ),
    (
        "55P03",
        &["SET lock_timeout = '20ms'", "SELECT pg_advisory_lock(4711)"],
    ),
];

#[tokio::test]
async fn every_sqlstate_of_the_table_has_its_fault() {
    let url = new_database().await;
    let mut holder = PgConnection::connect(&url).await.unwrap();
    holder
        .execute("SELECT pg_advisory_lock(4711)")
        .await
        .unwrap();
    for (code, statements) in PROVOKED {
        let mut raw = PgConnection::connect(&url).await.unwrap();
        let (last, before) = statements.split_last().unwrap();
        for statement in before {
            raw.execute(*statement).await.unwrap();
        }
        let error = raw.execute(*last).await.unwrap_err();
        let said = error.as_database_error().and_then(|error| error.code());
        assert_eq!(said.as_deref(), Some(*code), "{error}");
        let row = SQLSTATES.iter().find(|(start, _)| code.starts_with(start));
        assert_eq!(Fault::of(&error), row.unwrap().1, "{code}");
    }
    for (start, fault) in SQLSTATES {
        let code = format!("{start:0<5}");
        let raise =
            format!("DO $$ BEGIN RAISE EXCEPTION 'provoked' USING ERRCODE = '{code}'; END $$");
        let mut raw = PgConnection::connect(&url).await.unwrap();
        let error = raw.execute(AssertSqlSafe(raise)).await.unwrap_err();
        assert_eq!(Fault::of(&error), *fault, "{code}: {error}");
    }
}

#[tokio::test]
async fn a_login_that_is_refused_and_a_transaction_that_idles_have_their_faults() {
    let url = new_database().await;
    for wrong in [
        url.replace("hunter2-of", "not-the-password-of"),
        format!("{url}_that_is_not_there"),
    ] {
        let error = PgConnection::connect(&wrong).await.unwrap_err();
        assert_eq!(Fault::of(&error), Fault::Refused, "{error}");
    }
    let mut raw = PgConnection::connect(&url).await.unwrap();
    let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    raw.execute("SET idle_in_transaction_session_timeout = '20ms'; BEGIN")
        .await
        .unwrap();
    let mut watcher = PgConnection::connect(&url).await.unwrap();
    let begun = Instant::now();
    while sqlx::query("SELECT 1 FROM pg_stat_activity WHERE pid = $1")
        .bind(process)
        .fetch_optional(&mut watcher)
        .await
        .unwrap()
        .is_some()
    {
        assert!(begun.elapsed() < DEADLINE, "the session does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = raw.execute("SELECT 1").await.unwrap_err();
    assert_eq!(Fault::of(&error), Fault::Unreachable, "{error}");
}

#[tokio::test]
async fn sqlite_codes_that_can_be_provoked_have_their_faults() {
    let directory = tempfile::tempdir().unwrap();
    let open = async |name: &str| {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(directory.path().join(name))
            .create_if_missing(true)
            .busy_timeout(Duration::from_millis(20));
        SqliteConnection::connect_with(&options).await
    };
    let failing = async |raw: &mut SqliteConnection, statement: &'static str| {
        let error = raw.execute(statement).await.unwrap_err();
        let code: i32 = error
            .as_database_error()
            .and_then(|error| error.code())
            .unwrap()
            .parse()
            .unwrap();
        (code & 0xff, Fault::of(&error))
    };
    let mut raw = open("a.db").await.unwrap();
    raw.execute("CREATE TABLE t (a BLOB)").await.unwrap();
    let mut found = Vec::new();

    let mut other = open("a.db").await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    found.push(failing(&mut raw, "BEGIN IMMEDIATE").await);
    other.execute("ROLLBACK").await.unwrap();

    raw.execute("PRAGMA query_only = 1").await.unwrap();
    found.push(failing(&mut raw, "INSERT INTO t VALUES (1)").await);
    raw.execute("PRAGMA query_only = 0; PRAGMA max_page_count = 4")
        .await
        .unwrap();
    found.push(failing(&mut raw, "INSERT INTO t VALUES (zeroblob(1000000))").await);

    std::fs::write(directory.path().join("b.db"), "no database".repeat(500)).unwrap();
    let mut no_database = open("b.db").await.unwrap();
    found.push(failing(&mut no_database, "SELECT * FROM sqlite_schema").await);

    std::fs::create_dir(directory.path().join("c.db")).unwrap();
    let error = open("c.db").await.unwrap_err();
    found.push((14, Fault::of(&error)));

    let expected = [
        (5, Fault::Busy),
        (8, Fault::Unwritable),
        (13, Fault::Full),
        (26, Fault::Damaged),
        (14, Fault::Unwritable),
    ];
    assert_eq!(found, expected);
    for row in expected {
        assert!(SQLITE_CODES.contains(&row), "{row:?}");
    }
}
