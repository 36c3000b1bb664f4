//! [`StoreError`]: failures that a caller of the store can act on.

use std::io;
use std::time::Duration;

use sqlx::error::DatabaseError;
use thiserror::Error;

use crate::keys::allowance::NotGranted;
use crate::keys::table::UnknownConsumer as UnknownConsumerOfKey;
use crate::keys::{EntropyError, KeyId, Lifetime, MaxLiveKeys};
use crate::store::fault::{Fault, missing_grant};
use crate::store::roll::InvalidRoll;

/// Failure of an operation of the store. Nothing was changed unless the text states otherwise.
/// Holds no secret.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A failure of the database, classified by [`Fault::row`].
    #[error("{}: {reason}", fault.row().text)]
    Failed {
        /// Class of the failure.
        fault: Fault,
        /// Message of the system, the driver or the database.
        reason: String,
    },
    /// The database server is unreachable or refuses connections at the moment; worth a retry.
    #[error("{}: {reason}", Fault::Unreachable.row().text)]
    Unreachable {
        /// Message of the system or the server.
        reason: String,
    },
    /// The change was sent to the database and its outcome is unknown.
    #[error(
        "{} ({reason}): look for {} before you do it again",
        Fault::OutcomeUnknown.row().text,
        subject.as_deref().unwrap_or("it with `gateway audit`")
    )]
    OutcomeUnknown {
        /// Id of the created or changed item, if it has one.
        subject: Option<String>,
        /// Cause.
        reason: String,
    },
    /// The file or its directory cannot be created, read or written.
    #[error("cannot open the database {location}: {reason}")]
    CannotOpen {
        /// Path of the file.
        location: String,
        /// Message of the system.
        reason: String,
    },
    /// No store at this location. Only the gateway itself and an import create one: a key in a
    /// store without a gateway would never work.
    #[error(
        "there is no store at {location}; is DATABASE_URL set as for the gateway? `gateway serve` and `gateway import` make one"
    )]
    NoStore {
        /// The file, or the server and the database.
        location: String,
    },
    /// Not a database, or a damaged one.
    #[error("{location} is not an SQLite database, or it is damaged")]
    NotADatabase {
        /// Path of the file.
        location: String,
    },
    /// A newer version of the gateway migrated the schema; this version could misread or damage the
    /// data.
    #[error(
        "the database {location} has schema {found}, and this version supports schemas up to {known}: a newer version wrote it"
    )]
    NewerSchema {
        /// Location of the database.
        location: String,
        /// Newest schema applied to the database.
        found: i64,
        /// Newest schema of this version.
        known: i64,
    },
    /// The schema comes from another program, or from an unreleased version.
    #[error(
        "schema {version} of the database {location} is not the one that this version has: another version made it. Export with \
         that version, and import into a new database with this one"
    )]
    OtherSchema {
        /// Location of the database.
        location: String,
        /// Number of the differing migration.
        version: i64,
    },
    /// Another session held the database lock for too long; worth a retry.
    #[error("{}{}", Fault::Busy.row().text, holder.as_deref().unwrap_or_default())]
    Busy {
        /// Description of that session, if available; begins with a separator.
        holder: Option<String>,
    },
    /// The disk is full, or the file system refuses writes.
    #[error("{}: {reason}", fault.row().text)]
    Unwritable {
        /// Class of the failure.
        fault: Fault,
        /// Message of the system.
        reason: String,
    },
    /// The value is taken by another consumer or key.
    #[error("{field} is already taken")]
    Duplicate {
        /// Field name in the command line and the API.
        field: &'static str,
    },
    /// Unknown bucket.
    #[error("there is no bucket `{wanted}`")]
    UnknownBucket {
        /// Requested name.
        wanted: String,
    },
    /// The idempotency key was used before, for another request.
    #[error("this idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// The audit has no row of this actor.
    #[error("the audit has no action of `{wanted}`; known actors: {known}")]
    UnknownActor {
        /// Requested name.
        wanted: String,
        /// Actors in the audit.
        known: String,
    },
    /// Unknown consumer.
    #[error("there is no consumer `{wanted}`")]
    UnknownConsumer {
        /// Requested name or id.
        wanted: String,
    },
    /// The consumer fails the tag precondition.
    #[error("the consumer lacks a tag of the precondition; nothing was changed")]
    TagMismatch,
    /// Unknown key.
    #[error("there is no key {0}")]
    UnknownKey(KeyId),
    /// The key is revoked, which is final.
    #[error("key {0} is revoked, which is final; create a new key instead")]
    KeyRevoked(KeyId),
    /// An edit would extend a rolled key.
    #[error("key {0} was rolled, so its expiry can only be made earlier; create a new key instead")]
    KeyEnding(KeyId),
    /// The key cannot be rolled.
    #[error(transparent)]
    InvalidRoll(#[from] InvalidRoll),
    /// The key would exceed the scopes of its consumer.
    #[error("consumer `{consumer}` does not have the scope `{scope}`, so no key of it can")]
    ScopeNotGranted {
        /// Name of the consumer.
        consumer: String,
        /// First scope that the consumer lacks.
        scope: String,
    },
    /// No such plan.
    #[error("there is no plan `{wanted}`")]
    UnknownPlan {
        /// Name of the plan.
        wanted: String,
    },
    /// Consumers have the plan.
    #[error(
        "plan `{plan}` is in use by {consumers} {}; give them another plan, or none, before you delete it",
        if *.consumers == 1 { "consumer" } else { "consumers" }
    )]
    PlanInUse {
        /// Name of the plan.
        plan: String,
        /// Number of its consumers.
        consumers: u64,
    },
    /// An import has other attributes for a plan.
    #[error("plan `{plan}` is there with other attributes; nothing was imported")]
    PlanDiffers {
        /// Name of the plan.
        plan: String,
    },
    /// The key would live longer than its bucket or plan allows.
    #[error("a key of this consumer lives at most {longest}")]
    LifetimeTooLong {
        /// Longest lifetime.
        longest: Lifetime,
    },
    /// The consumer has as many live keys as its bucket allows.
    #[error(
        "consumer `{consumer}` has {most} live keys, the most that its bucket allows; revoke one, or roll one instead"
    )]
    TooManyKeys {
        /// Name of the consumer.
        consumer: String,
        /// Most live keys.
        most: MaxLiveKeys,
    },
    /// A default lifetime above the longest.
    #[error("the default lifetime of keys is above the longest")]
    DefaultAboveLongest,
    /// The key would have more than its consumer, or no bound at all.
    #[error("{what} of a key of consumer `{consumer}` is above the consumer's, or unlimited")]
    LimitNotGranted {
        /// Name of the consumer.
        consumer: String,
        /// The number.
        what: NotGranted,
    },
    /// A row holds a value that no version of the gateway writes.
    #[error("the database holds a {what} that cannot be read: {reason}")]
    UnreadableRow {
        /// Name of the column.
        what: &'static str,
        /// Reason.
        reason: String,
    },
    /// A running gateway cannot be forgotten: its next heartbeat would register it again.
    #[error(
        "gateway {0} is running: its last heartbeat is recent; stop it, and it deregisters by itself"
    )]
    GatewayRuns(String),
    /// No random bytes for an id.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Feed and table disagree; a reload of the table repairs it.
    #[error(transparent)]
    OutOfStep(#[from] UnknownConsumerOfKey),
    /// Any other database error.
    #[error("the database failed: {0}")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Returns the class of a database failure; `None` for other errors.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        Some(match self {
            Self::Failed { fault, .. } | Self::Unwritable { fault, .. } => *fault,
            Self::Unreachable { .. } => Fault::Unreachable,
            Self::OutcomeUnknown { .. } => Fault::OutcomeUnknown,
            Self::Busy { .. } => Fault::Busy,
            Self::CannotOpen { .. } => Fault::Unwritable,
            Self::NotADatabase { .. } => Fault::Damaged,
            Self::Database(_) => Fault::Other,
            Self::NoStore { .. }
            | Self::UnknownActor { .. }
            | Self::NewerSchema { .. }
            | Self::OtherSchema { .. }
            | Self::Duplicate { .. }
            | Self::UnknownBucket { .. }
            | Self::IdempotencyKeyReused
            | Self::UnknownConsumer { .. }
            | Self::TagMismatch
            | Self::UnknownKey(_)
            | Self::KeyRevoked(_)
            | Self::KeyEnding(_)
            | Self::GatewayRuns(_)
            | Self::InvalidRoll(_)
            | Self::ScopeNotGranted { .. }
            | Self::LimitNotGranted { .. }
            | Self::UnknownPlan { .. }
            | Self::PlanInUse { .. }
            | Self::DefaultAboveLongest
            | Self::LifetimeTooLong { .. }
            | Self::PlanDiffers { .. }
            | Self::TooManyKeys { .. }
            | Self::UnreadableRow { .. }
            | Self::Entropy(_)
            | Self::OutOfStep(_) => return None,
        })
    }

    /// Returns whether the store could not be queried, so its answer is unknown.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.fault() == Some(Fault::Unreachable)
    }

    /// Returns whether a retry may succeed.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.fault().is_some_and(|fault| fault.row().passes)
    }

    /// Converts an error between sending a commit and its answer into an unknown outcome.
    pub(super) fn while_committing(self, subject: Option<&str>) -> Self {
        match self.fault() {
            // Only these leave the outcome open: with any other, the database confirms the failure.
            Some(fault) if fault.ends_session() || fault == Fault::Other => Self::OutcomeUnknown {
                subject: subject.map(str::to_owned),
                reason: self.to_string(),
            },
            // SQLite reports a deferred constraint at commit, and rolls back.
            _ => self,
        }
    }

    /// Adds advice to an error of connecting.
    pub(super) fn while_connecting(self) -> Self {
        match self {
            // pgbouncer reports it with the code of a protocol violation.
            Self::Unreachable { reason } if reason.contains("unsupported startup parameter") => {
                Self::Failed {
                    fault: Fault::Refused,
                    reason: format!(
                        "{reason}; in pgbouncer, set `ignore_startup_parameters = extra_float_digits, options`"
                    ),
                }
            }
            Self::Unreachable { reason } if reason.contains("server does not support TLS") => {
                Self::Failed {
                    fault: Fault::Refused,
                    reason: format!(
                        "{reason}, and was sent no password; where the network is to be trusted with it, say so with \
                         `sslmode=prefer` or `sslmode=disable` in the URL"
                    ),
                }
            }
            other => other,
        }
    }

    /// Error for a missing answer.
    pub(super) fn no_answer(limit: Duration) -> Self {
        Self::Unreachable {
            reason: format!("no answer within {} s", limit.as_secs()),
        }
    }

    /// Error for a file that could not be opened or created.
    pub(super) fn cannot_open(location: &str, error: &io::Error) -> Self {
        Self::CannotOpen {
            location: location.to_owned(),
            reason: error.to_string(),
        }
    }

    /// Adds the location to an error of opening the database.
    pub(super) fn while_opening(self, location: &str) -> Self {
        let location = location.to_owned();
        match self {
            Self::Database(error) => Self::CannotOpen {
                location,
                reason: error.to_string(),
            },
            Self::Failed {
                fault: Fault::Damaged,
                ..
            } => Self::NotADatabase { location },
            Self::Failed {
                fault: Fault::Refused,
                reason,
            }
            | Self::Unwritable { reason, .. } => Self::CannotOpen { location, reason },
            other => other,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if let Some(database) = error.as_database_error()
            && database.is_unique_violation()
        {
            return Self::Duplicate {
                field: duplicate_field(database),
            };
        }
        let reason = error.to_string();
        match Fault::of(&error) {
            Fault::Unreachable => Self::Unreachable { reason },
            Fault::Busy => Self::Busy { holder: None },
            fault @ (Fault::Full | Fault::Unwritable) => Self::Unwritable { fault, reason },
            Fault::Denied => Self::Failed {
                fault: Fault::Denied,
                reason: format!("{reason}; {}", missing_grant(&reason)),
            },
            Fault::Other => Self::Database(error),
            fault => Self::Failed { fault, reason },
        }
    }
}

/// Returns the field of a unique constraint. SQLite names the columns in its message, PostgreSQL
/// the constraint, whose name contains them.
fn duplicate_field(error: &dyn DatabaseError) -> &'static str {
    let named = error.constraint().unwrap_or_else(|| error.message());
    // The order matters: `custom_id` and `digest` are the second of two columns, or alone.
    if named.contains("custom_id") {
        "the custom id"
    } else if named.contains("digest") {
        "the key"
    } else if named.contains("name") {
        "the name"
    } else {
        "the id"
    }
}
