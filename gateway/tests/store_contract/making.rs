//! Short ways to make what the cases need.

use std::time::Duration;

use postern_gateway::keys::{KeyDigest, UnixMillis};
use postern_gateway::store::{
    Actor, Answer, CreatedKey, DatabaseUrl, NewConsumer, NewKey, Owner, Stamp, Store,
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
        expires_at: None,
        scopes: None,
        description: None,
    }
}

/// The answer to a creation that is found at `location`.
pub(crate) fn answer(location: &str) -> Answer {
    Answer {
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
