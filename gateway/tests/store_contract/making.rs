//! Short ways to make what the cases need.

use std::time::Duration;

use postern_gateway::keys::{KeyDigest, Tags, UnixMillis};
use postern_gateway::store::{
    Actor, ConsumerAttributes, CreatedKey, DatabaseUrl, KeyAttributes, NewConsumer, NewEnd, NewKey,
    Owner, Stamp, Store, StoredAnswer,
};

pub(crate) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

pub(crate) async fn open(url: &DatabaseUrl) -> Store {
    Store::open(url).await.unwrap()
}

pub(crate) fn stamp() -> Stamp {
    Stamp {
        at: NOW,
        ..Stamp::now(Actor::command_line(Some("tester")))
    }
}

pub(crate) fn later(seconds: u64) -> Stamp {
    Stamp {
        at: NOW.after(Duration::from_secs(seconds)),
        ..stamp()
    }
}

pub(crate) fn consumer(name: &str) -> NewConsumer {
    NewConsumer::named(name.parse().unwrap())
}

pub(crate) fn owner(name: &str) -> Owner {
    Owner::Named("default".parse().unwrap(), name.parse().unwrap())
}

/// A key whose text is `text`.
pub(crate) fn key(owner: Owner, text: &str) -> NewKey {
    NewKey {
        owner,
        digest: KeyDigest::of(text.as_bytes()),
        hint: "pstn_abcd".to_owned(),
        attributes: KeyAttributes::default(),
        end: NewEnd::Default,
    }
}

/// What can be said of a key, all of it, with the scope `read`.
pub(crate) fn full_key(expires_at: UnixMillis) -> KeyAttributes {
    KeyAttributes {
        description: Some("for the tests".parse().unwrap()),
        expires_at: Some(expires_at),
        scopes: Some("read".parse().unwrap()),
        limits: "burst=50/1m".parse().unwrap(),
        quotas: "monthly=500@15".parse().unwrap(),
        max_in_flight: Some("5".parse().unwrap()),
        allowed_ips: "192.0.2.0/24 2001:db8::/32".parse().unwrap(),
        allowed_methods: "GET POST".parse().unwrap(),
        allowed_routes: r#"["/v1","of two words"]"#.parse().unwrap(),
        exempt_from_unused: true,
    }
}

/// What can be said of a consumer, all of it, with the scopes `read` and `write`.
pub(crate) fn full_consumer() -> ConsumerAttributes {
    ConsumerAttributes {
        custom_id: Some("crm-42".parse().unwrap()),
        description: Some("für die Buchhaltung".parse().unwrap()),
        metadata: Some(r#"{"plan":"gold"}"#.parse().unwrap()),
        scopes: "read write".parse().unwrap(),
        allowed_ips: "192.0.2.0/24".parse().unwrap(),
        plan: None,
        limits: "burst=500/1m search=unlimited".parse().unwrap(),
        quotas: "monthly=5000/month@15".parse().unwrap(),
        max_in_flight: Some("20".parse().unwrap()),
        tags: Tags::new(["org=acme".parse().unwrap()]).unwrap(),
    }
}

/// The answer to a creation that is found at `location`.
pub(crate) fn answer(location: &str) -> StoredAnswer {
    StoredAnswer {
        location: location.to_owned(),
        body: "{}".to_owned(),
    }
}

pub(crate) async fn create_key(store: &Store, name: &str, text: &str) -> CreatedKey {
    store
        .create_key(key(owner(name), text), &stamp())
        .await
        .unwrap()
}
