//! What every mutation leaves behind: who did what, and what gateways must look at again.

use std::fmt;

use serde_json::Value;
use sqlx::AnyConnection;

use crate::keys::{ConsumerId, KeyDigest, KeyId, UnixMillis};
use crate::store::StoreError;

/// How many feed rows are kept. A gateway that is further behind loads everything.
const KEPT_CHANGES: i64 = 100_000;
/// How many revisions pass between two clean-ups, so that not every mutation pays for one.
const CLEAN_UP_EVERY: i64 = 1_000;

/// Who did something, for the audit: the command line with the user that ran it, or the name of an admin token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

/// Who does something, and when.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Who.
    pub actor: Actor,
    /// When.
    pub at: UnixMillis,
}

/// What a mutation did. The names are part of the audit's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    ConsumerCreate,
    ConsumerUpdate,
    ConsumerDelete,
    KeyCreate,
    KeyRevoke,
    KeyDisable,
    KeyEnable,
}

/// What was changed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'s> {
    Consumer(&'s ConsumerId),
    Key(&'s KeyId, &'s KeyDigest),
}

impl Actor {
    /// The command line, run by the operating system's `user` if that is known.
    #[must_use]
    pub fn command_line(user: Option<&str>) -> Self {
        match user {
            Some(user) => Self(format!("cli:{user}")),
            None => Self("cli".to_owned()),
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Stamp {
    /// `actor`, now.
    #[must_use]
    pub fn now(actor: Actor) -> Self {
        Self { actor, at: UnixMillis::now() }
    }
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::ConsumerCreate => "consumer.create",
            Self::ConsumerUpdate => "consumer.update",
            Self::ConsumerDelete => "consumer.delete",
            Self::KeyCreate => "key.create",
            Self::KeyRevoke => "key.revoke",
            Self::KeyDisable => "key.disable",
            Self::KeyEnable => "key.enable",
        }
    }
}

/// Writes the audit row and the feed row of one mutation, inside its transaction. `detail` is an object without
/// secrets.
pub(super) async fn record(
    transaction: &mut AnyConnection,
    stamp: &Stamp,
    action: Action,
    subject: Subject<'_>,
    detail: &Value,
) -> Result<(), StoreError> {
    let (kind, id, digest) = match subject {
        Subject::Consumer(id) => ("consumer", id.as_str(), None),
        Subject::Key(id, digest) => ("key", id.as_str(), Some(digest.as_bytes().as_slice())),
    };
    sqlx::query("INSERT INTO audit (at, actor, action, subject, subject_id, detail) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(stamp.at.0)
        .bind(stamp.actor.0.as_str())
        .bind(action.as_str())
        .bind(kind)
        .bind(id)
        .bind(detail.to_string())
        .execute(&mut *transaction)
        .await?;
    let revision: i64 =
        sqlx::query_scalar("INSERT INTO changes (subject, subject_id, digest) VALUES ($1, $2, $3) RETURNING revision")
            .bind(kind)
            .bind(id)
            .bind(digest)
            .fetch_one(&mut *transaction)
            .await?;
    if revision % CLEAN_UP_EVERY == 0 {
        sqlx::query("DELETE FROM changes WHERE revision <= $1").bind(revision - KEPT_CHANGES).execute(transaction).await?;
    }
    Ok(())
}
