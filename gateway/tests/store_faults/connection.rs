//! Connections that break, and packets that vanish.

use std::time::{Duration, Instant};

use postern_gateway::keys::KeyState;
use postern_gateway::store::{Creation, CreationKey, Fault, Store, StoreError};
use sqlx::{Connection, Executor, PgConnection};

use crate::making::{answer, create_key, key, later, open, owner, stamp};
use crate::postgres::new_database;
use crate::store_faults::proxy::Network;

/// A store behind a network, and the URL past it.
async fn behind_a_network() -> (Store, Network, String) {
    let url = new_database().await;
    let (before, rest) = url.rsplit_once(':').unwrap();
    let (port, name) = rest.split_once('/').unwrap();
    let network = Network::before(port.parse().unwrap()).await;
    let store = open(&format!("{before}:{}/{name}", network.port).parse().unwrap()).await;
    create_key(&store, "acme", "first").await;
    (store, network, url)
}

async fn keys(url: &str) -> i64 {
    let mut raw = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM keys")
        .fetch_one(&mut raw)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_names_what_may_have_been_made() {
    let (store, network, url) = behind_a_network().await;
    network.cuts_after_the_next_commit();
    let made = store
        .create_key(key(owner("acme"), "second"), &stamp())
        .await;
    let Err(StoreError::OutcomeUnknown {
        subject: Some(subject),
        ..
    }) = &made
    else {
        panic!("{made:?}")
    };
    let said = made.as_ref().unwrap_err().to_string();
    assert!(
        said.contains(subject) && !said.contains("again shortly"),
        "{said}"
    );
    network.passes_everything();
    let found = store.key(&subject.parse().unwrap()).await.unwrap();
    assert!(found.is_some(), "it was made, and is found by the id");
    assert_eq!(keys(&url).await, 2);
}

#[tokio::test]
async fn a_creation_with_an_idempotency_key_is_done_once_though_its_answer_is_lost() {
    let (store, network, url) = behind_a_network().await;
    let once = CreationKey::new("ci", b"chosen", [b"POST", b"/v1/keys", b"{}"]);
    let create = async || {
        let new = key(owner("acme"), "second");
        store
            .create_key_once(new, Some(&once), |_| answer("/v1/keys/it"), &stamp())
            .await
    };
    network.cuts_after_the_next_commit();
    let first = create().await;
    assert!(
        matches!(&first, Err(StoreError::OutcomeUnknown { subject: Some(place), .. }) if place == "/v1/keys/it"),
        "{first:?}"
    );
    network.passes_everything();
    assert!(matches!(create().await.unwrap(), Creation::Repeated(_)));
    assert_eq!(keys(&url).await, 2);
}

#[tokio::test]
async fn a_writer_that_vanishes_before_its_commit_keeps_nobody_waiting_for_long() {
    let (store, network, url) = behind_a_network().await;
    network.loses_everything_from_the_next_commit_on();
    let vanishing = tokio::spawn(async move {
        store
            .create_key(key(owner("acme"), "second"), &stamp())
            .await
    });
    network.until_the_commit().await;
    let begun = Instant::now();
    let other = open(&url.parse().unwrap()).await;
    let made = create_key(&other, "acme", "third").await.key;
    other
        .set_key_state(&made.id, KeyState::Revoked, &later(1))
        .await
        .unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    let outcome = vanishing.await.unwrap();
    assert!(
        matches!(outcome, Err(StoreError::OutcomeUnknown { .. })),
        "{outcome:?}"
    );
    assert_eq!(keys(&url).await, 2, "the commit never arrived");
}

#[tokio::test]
async fn a_write_ends_though_packets_vanish() {
    let (store, network, url) = behind_a_network().await;
    network.loses_everything();
    let begun = Instant::now();
    let error = store
        .create_key(key(owner("acme"), "second"), &stamp())
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Unreachable), "{error:?}");
    store.close().await;
    assert!(
        begun.elapsed() < Duration::from_secs(40),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(keys(&url).await, 1);
}

#[tokio::test]
async fn the_session_that_holds_the_turn_is_named() {
    let url = new_database().await;
    let store = open(&url.parse().unwrap()).await;
    let mut holder = PgConnection::connect(&url).await.unwrap();
    let take = "SET application_name = 'the one that stopped'; BEGIN; SELECT pg_advisory_xact_lock(8101818091236519425)";
    holder.execute(take).await.unwrap();
    let error = store
        .create_key(key(owner("acme"), "one"), &stamp())
        .await
        .unwrap_err();
    let said = error.to_string();
    for part in ["session ", "the one that stopped", "idle in transaction"] {
        assert!(said.contains(part), "{said}");
    }
}
