//! Audit rows of mutations. Database triggers write the feed rows, see the schema.

use std::fmt;
use std::net::IpAddr;

use serde_json::Value;
use sqlx::AnyConnection;

use crate::keys::{BucketName, ConsumerId, KeyId, PlanName, Tags, UnixMillis};
use crate::store::{GatewayId, Revocation, StoreError, bulk};

/// Number of feed rows kept. A gateway further behind reloads the table.
pub(super) const KEPT_CHANGES: i64 = 100_000;

/// Actor in the audit: the command line with its user, or the name of an admin token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

/// Actor, time, source and precondition of a mutation.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Actor.
    pub actor: Actor,
    /// Time.
    pub at: UnixMillis,
    /// Source address; `None` for this machine.
    pub source: Option<IpAddr>,
    /// Tag precondition: the mutation fails if the consumer lacks one of the tags.
    pub guard: Tags,
}

/// Single list of actions and their names in the audit.
macro_rules! actions {
    ($($action:ident: $word:literal),* $(,)?) => {
        /// Action of a mutation. The names are part of the audit's contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Action {
            $($action),*
        }

        impl Action {
            pub(super) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$action => $word),*
                }
            }
        }

        /// Names of all actions in the audit.
        pub const ACTIONS: &[&str] = &[$($word),*];
    };
}

actions! {
    BucketCreate: "bucket.create",
    ConsumerCreate: "consumer.create",
    ConsumerUpdate: "consumer.update",
    ConsumerDelete: "consumer.delete",
    KeyCreate: "key.create",
    KeyUpdate: "key.update",
    KeyRevoke: "key.revoke",
    KeyDisable: "key.disable",
    KeyEnable: "key.enable",
    KeyRoll: "key.roll",
    KeyLeak: "key.leak",
    KeyResetLimits: "key.reset_limits",
    ConsumerResetLimits: "consumer.reset_limits",
    BucketUpdate: "bucket.update",
    PlanCreate: "plan.create",
    PlanUpdate: "plan.update",
    PlanDelete: "plan.delete",
    QuotaAdjust: "quota.adjust",
    QuotaReset: "quota.reset",
    GatewayForget: "gateway.forget",
    AuditPrune: "audit.prune",
}

/// Subject of a mutation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'s> {
    Bucket(&'s BucketName),
    Plan(&'s PlanName),
    Consumer(&'s ConsumerId),
    Key(&'s KeyId),
    Gateway(&'s GatewayId),
}

/// One of several mutations recorded together.
#[derive(Debug)]
pub(super) struct Mutation<'m> {
    pub(super) action: Action,
    pub(super) subject: Subject<'m>,
    /// Details, an object without secrets.
    pub(super) detail: Value,
}

impl Actor {
    /// Returns the actor for the command line, run by `user` if known.
    #[must_use]
    pub fn command_line(user: Option<&str>) -> Self {
        match user {
            Some(user) => Self(format!("cli:{user}")),
            None => Self("cli".to_owned()),
        }
    }

    /// Returns the actor for the admin token of this name.
    #[must_use]
    pub fn api(token: &str) -> Self {
        Self(format!("api:{token}"))
    }

    /// Returns the actor for the control plane's retention.
    #[must_use]
    pub fn retention() -> Self {
        Self("retention".to_owned())
    }

    /// Returns the actor for what a gateway does by a rule of a bucket.
    #[must_use]
    pub fn gateway() -> Self {
        Self("gateway".to_owned())
    }

    /// Returns the actor for GitHub's secret scanning.
    #[must_use]
    pub fn github() -> Self {
        Self("github".to_owned())
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Stamp {
    /// Stamps `actor` with the current time.
    #[must_use]
    pub fn now(actor: Actor) -> Self {
        Self {
            actor,
            at: UnixMillis::now(),
            source: None,
            guard: Tags::default(),
        }
    }

    /// Returns the revocation that this stamp makes.
    pub(super) fn revocation(&self) -> Revocation {
        Revocation {
            at: self.at,
            by: self.actor.0.clone(),
        }
    }
}

impl<'s> Subject<'s> {
    /// Returns the stored id.
    pub(super) fn id(self) -> &'s str {
        self.columns().1
    }

    /// Returns the stored kind and id.
    fn columns(self) -> (&'static str, &'s str) {
        match self {
            Self::Bucket(name) => ("bucket", name.as_str()),
            Self::Plan(name) => ("plan", name.as_str()),
            Self::Consumer(id) => ("consumer", id.as_str()),
            Self::Key(id) => ("key", id.as_str()),
            Self::Gateway(id) => ("gateway", id.as_str()),
        }
    }
}

/// Writes the audit row of a mutation inside its transaction. `detail` is an object without
/// secrets.
pub(super) async fn record(
    transaction: &mut AnyConnection,
    stamp: &Stamp,
    action: Action,
    subject: Subject<'_>,
    detail: &Value,
) -> Result<(), StoreError> {
    let (kind, id) = subject.columns();
    audit(transaction, stamp, action, (kind, id), detail).await
}

/// Records the pruning of the audit before a moment, and thereby permits it.
pub(super) async fn record_pruning(
    transaction: &mut AnyConnection,
    stamp: &Stamp,
    before: i64,
    detail: &Value,
) -> Result<(), StoreError> {
    let subject = ("store", before.to_string());
    audit(
        transaction,
        stamp,
        Action::AuditPrune,
        (subject.0, &subject.1),
        detail,
    )
    .await
}

async fn audit(
    transaction: &mut AnyConnection,
    stamp: &Stamp,
    action: Action,
    (kind, id): (&str, &str),
    detail: &Value,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO audit (at, actor, source, action, subject, subject_id, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(stamp.at.0)
        .bind(stamp.actor.0.as_str())
        .bind(stamp.source.map(|address| address.to_string()))
        .bind(action.as_str())
        .bind(kind)
        .bind(id)
        .bind(detail.to_string())
        .execute(transaction)
        .await?;
    Ok(())
}

/// Writes the audit rows of several mutations, in order, inside their transaction.
pub(super) async fn record_many(
    transaction: &mut AnyConnection,
    stamp: &Stamp,
    mutations: &[Mutation<'_>],
) -> Result<(), StoreError> {
    if mutations.is_empty() {
        return Ok(());
    }
    let source = stamp.source.map(|address| address.to_string());
    let audit = "audit (at, actor, source, action, subject, subject_id, detail)";
    bulk::insert(transaction, audit, 7, mutations, |query, mutation| {
        let (kind, id) = mutation.subject.columns();
        let query = query
            .bind(stamp.at.0)
            .bind(stamp.actor.0.as_str())
            .bind(source.as_deref())
            .bind(mutation.action.as_str());
        query.bind(kind).bind(id).bind(mutation.detail.to_string())
    })
    .await?;
    Ok(())
}
