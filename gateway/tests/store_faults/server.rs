//! PostgreSQL that takes no writes, gives no rights, speaks TLS or does not.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use postern_gateway::store::{Fault, Store, StoreError};
use sqlx::{Connection, Executor, PgConnection};

use crate::making::{create_key, key, open, owner, stamp};
use crate::postgres::{Server, new_database};

#[tokio::test]
async fn a_role_without_rights_is_told_the_grant_and_does_not_pass() {
    let url = new_database().await;
    let mut raw = PgConnection::connect(&url).await.unwrap();
    raw.execute("CREATE ROLE may_little LOGIN PASSWORD 'hunter2-of-the-tests'")
        .await
        .unwrap();
    let little = url.replace("postern:", "may_little:");
    let denied = |error: StoreError, grant: &str| {
        let said = error.to_string();
        assert_eq!(error.fault(), Some(Fault::Denied), "{said}");
        assert!(!error.may_pass());
        assert!(said.contains(grant) && !said.contains("busy"), "{said}");
    };
    // Without CREATE on the schema there is no schema to be made.
    let error = Store::open(&little.parse().unwrap()).await.unwrap_err();
    denied(error, "GRANT USAGE, CREATE ON SCHEMA public");
    // With a schema that somebody else made.
    open(&url.parse().unwrap()).await;
    let error = Store::open(&little.parse().unwrap()).await.unwrap_err();
    denied(error, "GRANT ");
    raw.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO may_little")
        .await
        .unwrap();
    let store = open(&little.parse().unwrap()).await;
    let error = store
        .create_key(key(owner("acme"), "one"), &stamp())
        .await
        .unwrap_err();
    denied(error, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES");
}

async fn set_read_only(url: &str, on: bool) {
    let mut raw = PgConnection::connect(url).await.unwrap();
    let value = if on { "on" } else { "off" };
    let set = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
    // Not within a transaction, and not as one that reads only.
    raw.execute("SET default_transaction_read_only = off")
        .await
        .unwrap();
    raw.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
    raw.execute("SELECT pg_reload_conf()").await.unwrap();
    loop {
        let mut new = PgConnection::connect(url).await.unwrap();
        let is: String = sqlx::query_scalar("SHOW default_transaction_read_only")
            .fetch_one(&mut new)
            .await
            .unwrap();
        if is == value {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn writes_go_to_the_server_that_takes_them() {
    let start = || tokio::task::spawn_blocking(Server::start);
    let (one, two) = tokio::join!(start(), start());
    let (one, mut two) = (one.unwrap(), two.unwrap());
    let (first, second) = (one.database().await, two.database().await);
    // The names of databases are numbers that all servers share.
    let name = |url: &str| url.rsplit_once('/').unwrap().1.to_owned();
    let mut raw = PgConnection::connect(&second).await.unwrap();
    let make = format!("CREATE DATABASE {}", name(&first));
    raw.execute(sqlx::AssertSqlSafe(make)).await.unwrap();
    let second = second.replace(&name(&second), &name(&first));
    for url in [&first, &second] {
        open(&url.parse().unwrap()).await.close().await;
    }
    let host = |url: &str| {
        let (_, place) = url.rsplit_once('@').unwrap();
        place.split_once('/').unwrap().0.to_owned()
    };
    let both = first.replace(
        &host(&first),
        &format!("{},{}", host(&first), host(&second)),
    );

    // A session that was made while the server took writes meets one that does not.
    let alone = open(&first.parse().unwrap()).await;
    create_key(&alone, "acme", "before").await;
    set_read_only(&first, true).await;
    let error = alone
        .create_key(key(owner("acme"), "meanwhile"), &stamp())
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Some(Fault::ReadOnlyServer), "{error}");
    assert!(error.may_pass());
    let strict = format!("{first}?target_session_attrs=read-write");
    let error = Store::open(&strict.parse().unwrap()).await.unwrap_err();
    assert_eq!(error.fault(), Some(Fault::ReadOnlyServer), "{error}");

    // Of both, the one that takes writes.
    let store = open(&both.parse().unwrap()).await;
    create_key(&store, "acme", "on the second").await;
    let keys = async |url: &str| -> i64 {
        let mut raw = PgConnection::connect(url).await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM keys")
            .fetch_one(&mut raw)
            .await
            .unwrap()
    };
    assert_eq!((keys(&first).await, keys(&second).await), (1, 1));

    // The second fails and the first takes over.
    set_read_only(&first, false).await;
    two.stop();
    let mut tries = 0;
    while store
        .create_key(key(owner("acme"), "on the first"), &stamp())
        .await
        .is_err()
    {
        tries += 1;
        assert!(tries < 8, "the first is never found");
    }
    assert_eq!(keys(&first).await, 2);
    create_key(&alone, "acme", "after").await;
    assert_eq!(keys(&first).await, 3);
    drop(one);
}

#[tokio::test]
async fn tls_is_spoken_as_the_url_says() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let plain = server.database().await;
    let mut raw = PgConnection::connect(&plain).await.unwrap();
    let data: String = sqlx::query_scalar("SHOW data_directory")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    let opens = async |parameters: &str, host: &str| {
        let url = format!("{}?{parameters}", plain.replace("127.0.0.1", host));
        match Store::open(&url.parse().unwrap()).await {
            Ok(store) => {
                store.close().await;
                None
            }
            Err(error) => Some(error),
        }
    };
    // Without TLS.
    assert!(opens("sslmode=prefer", "127.0.0.1").await.is_none());
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = opens(&format!("sslmode={mode}"), "127.0.0.1")
            .await
            .unwrap();
        assert!(
            error.to_string().contains("sent no password"),
            "{mode}: {error}"
        );
        assert!(!error.may_pass(), "{mode}");
    }

    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(format!("{data}/server.crt"), certified.cert.pem()).unwrap();
    fs::write(
        format!("{data}/server.key"),
        certified.signing_key.serialize_pem(),
    )
    .unwrap();
    for program in [["chmod", "600"], ["chown", "--reference"]] {
        let key = format!("{data}/server.key");
        let with = if program[0] == "chown" {
            format!("{}={data}", program[1])
        } else {
            program[1].to_owned()
        };
        let done = Command::new(program[0])
            .args([&with, &key])
            .status()
            .unwrap();
        assert!(done.success());
    }
    raw.execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    raw.execute("SELECT pg_reload_conf()").await.unwrap();
    while opens("sslmode=require", "127.0.0.1").await.is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("ca.pem");
    fs::write(&authority, certified.cert.pem()).unwrap();
    let authority = authority.display();
    for (parameters, host, takes) in [
        ("sslmode=require".to_owned(), "127.0.0.1", true),
        ("sslmode=verify-full".to_owned(), "localhost", false),
        (
            format!("sslmode=verify-full&sslrootcert={authority}"),
            "localhost",
            true,
        ),
        (
            format!("sslmode=verify-full&sslrootcert={authority}"),
            "127.0.0.1",
            false,
        ),
        (
            format!("sslmode=verify-ca&sslrootcert={authority}"),
            "127.0.0.1",
            true,
        ),
        (
            format!("sslmode=require&sslrootcert={authority}"),
            "127.0.0.1",
            true,
        ),
    ] {
        let error = opens(&parameters, host).await;
        assert_eq!(error.is_none(), takes, "{parameters} {host}: {error:?}");
    }
}

#[tokio::test]
async fn a_false_server_that_speaks_no_tls_is_sent_no_password() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = [0; 8];
        client.read_exact(&mut request).unwrap();
        // No TLS here; then it would ask for the password in clear.
        client.write_all(b"N").unwrap();
        let mut more = Vec::new();
        let _ = client.read_to_end(&mut more);
        more
    });
    // An address that is no loopback address, and leads to this machine all the same.
    let url = format!("postgres://postern:hunter2-of-the-tests@0.0.0.0:{port}/keys");
    let error = Store::open(&url.parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("sent no password"), "{error}");
    assert_eq!(server.join().unwrap(), b"");
}
