//! [`StoreError`]: what a caller of the store can act on.

use std::io;
use std::time::Duration;

use sqlx::error::DatabaseError;
use thiserror::Error;

use crate::keys::table::UnknownConsumer as UnknownConsumerOfKey;
use crate::keys::{EntropyError, KeyId};
use crate::store::fault::{Fault, missing_grant};
use crate::store::roll::InvalidRoll;

/// Why the store did not do what was asked. Nothing was changed, unless the text says otherwise. Holds no secret.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database failed in a way of which [`Fault::row`] says what follows. `reason` is what the system, the driver or
    /// the database said.
    #[error("{}: {reason}", fault.row().text)]
    Failed {
        /// Of what.
        fault: Fault,
        /// What was said.
        reason: String,
    },
    /// The database server cannot be reached, or does not take connections at the moment. Trying again helps.
    #[error("{}: {reason}", Fault::Unreachable.row().text)]
    Unreachable {
        /// What the system or the server said.
        reason: String,
    },
    /// The change was sent to the database, and whether it was made is not known.
    #[error(
        "{} ({reason}): look for {} before you do it again",
        Fault::OutcomeUnknown.row().text,
        subject.as_deref().unwrap_or("it with `gateway audit`")
    )]
    OutcomeUnknown {
        /// The id of what would have been made or changed, where there is one.
        subject: Option<String>,
        /// What went wrong.
        reason: String,
    },
    /// The file or its directory cannot be made, read or written.
    #[error("cannot open the database {location}: {reason}")]
    CannotOpen {
        /// The file.
        location: String,
        /// What the system said.
        reason: String,
    },
    /// There is no store there, and only the gateway itself and an import make one: a key in a store that no gateway reads
    /// would never let anyone in.
    #[error(
        "there is no store at {location}; is DATABASE_URL set as for the gateway? `gateway serve` and `gateway import` make one"
    )]
    NoStore {
        /// The file, or the server and the database.
        location: String,
    },
    /// The file is something else, or damaged.
    #[error("{location} is not an SQLite database, or it is damaged")]
    NotADatabase {
        /// The file.
        location: String,
    },
    /// A newer version of the gateway has changed the schema; this one could misread or spoil the data.
    #[error(
        "the database {location} has schema {found}, and this version knows schemas up to {known}: a newer version wrote it"
    )]
    NewerSchema {
        /// The database.
        location: String,
        /// The newest schema that was applied to it.
        found: i64,
        /// The newest schema that this version has.
        known: i64,
    },
    /// The schema was made by something else than this version, or one before it that was released.
    #[error(
        "schema {version} of the database {location} is not the one that this version has: another version made it. Export with \
         that version, and import into a new database with this one"
    )]
    OtherSchema {
        /// The database.
        location: String,
        /// Which step differs.
        version: i64,
    },
    /// Another session kept the database locked for too long. Trying again helps.
    #[error("{}{}", Fault::Busy.row().text, holder.as_deref().unwrap_or_default())]
    Busy {
        /// Who, where that can be known; begins with a separator.
        holder: Option<String>,
    },
    /// The disk is full, or the file system refuses to write.
    #[error("{}: {reason}", fault.row().text)]
    Unwritable {
        /// Which of the two.
        fault: Fault,
        /// What the system said.
        reason: String,
    },
    /// Another consumer or key has this already.
    #[error("{field} is already taken")]
    Duplicate {
        /// Which field, as the command line and the API call it.
        field: &'static str,
    },
    /// There is no such bucket.
    #[error("there is no bucket `{wanted}`")]
    UnknownBucket {
        /// The name that was asked for.
        wanted: String,
    },
    /// The key of a creation was used before, for another one.
    #[error("this idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// The audit has no row of such an actor.
    #[error("nothing was done by `{wanted}`; who did something: {known}")]
    UnknownActor {
        /// The name that was asked for.
        wanted: String,
        /// Who is in the audit.
        known: String,
    },
    /// There is no such consumer.
    #[error("there is no consumer `{wanted}`")]
    UnknownConsumer {
        /// The name or id that was asked for.
        wanted: String,
    },
    /// The consumer does not have the tags that were asked for.
    #[error("the consumer does not have the tags that were asked for; nothing was changed")]
    TagMismatch,
    /// There is no such key.
    #[error("there is no key {0}")]
    UnknownKey(KeyId),
    /// Revoking is final.
    #[error("key {0} is revoked, which is final; create a new key instead")]
    KeyRevoked(KeyId),
    /// A key that is to be replaced was to go on for longer.
    #[error(
        "key {0} is to be replaced, so its end can only be brought forward; create a new key instead"
    )]
    KeyEnding(KeyId),
    /// A key that is not good, or no key at all, was to be rolled.
    #[error(transparent)]
    InvalidRoll(#[from] InvalidRoll),
    /// A key cannot do more than its consumer.
    #[error("consumer `{consumer}` does not have the scope `{scope}`, so no key of it can")]
    ScopeNotGranted {
        /// The consumer's name.
        consumer: String,
        /// The first scope that it lacks.
        scope: String,
    },
    /// A row holds what no version of the gateway writes.
    #[error("the database holds a {what} that cannot be read: {reason}")]
    UnreadableRow {
        /// Which column.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A gateway that runs cannot be forgotten: it would come back with its next word.
    #[error(
        "gateway {0} runs: it was heard of a moment ago; stop it, and it is forgotten by itself"
    )]
    GatewayRuns(String),
    /// No randomness for an id.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The feed and the table disagree; loading the table anew puts it right.
    #[error(transparent)]
    OutOfStep(#[from] UnknownConsumerOfKey),
    /// Anything else that the database said.
    #[error("the database failed: {0}")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// What the database failed of; `None` where it did not.
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
            | Self::UnreadableRow { .. }
            | Self::Entropy(_)
            | Self::OutOfStep(_) => return None,
        })
    }

    /// Whether the store could not be asked, so that nothing is known of what it would have answered.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.fault() == Some(Fault::Unreachable)
    }

    /// Whether the same may succeed in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.fault().is_some_and(|fault| fault.row().passes)
    }

    /// The error of a change that was sent, when this went wrong before the answer came.
    pub(super) fn while_committing(self, subject: Option<&str>) -> Self {
        match self.fault() {
            // Only these leave it open: any other is the database's own word that nothing was done.
            Some(fault) if fault.ends_session() || fault == Fault::Other => Self::OutcomeUnknown {
                subject: subject.map(str::to_owned),
                reason: self.to_string(),
            },
            // Under deferred writes SQLite says so after the fact, and rolls back.
            _ => self,
        }
    }

    /// The same error with what helps where connecting is what failed.
    pub(super) fn while_connecting(self) -> Self {
        match self {
            // pgbouncer says so with the code of a broken protocol.
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

    /// The error of an answer that did not come in time.
    pub(super) fn no_answer(limit: Duration) -> Self {
        Self::Unreachable {
            reason: format!("no answer within {} s", limit.as_secs()),
        }
    }

    /// The error of a file that could not be opened or made.
    pub(super) fn cannot_open(location: &str, error: &io::Error) -> Self {
        Self::CannotOpen {
            location: location.to_owned(),
            reason: error.to_string(),
        }
    }

    /// The same error with the database's name, where opening it is what failed.
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

/// Which field a unique constraint is about. SQLite names the columns in its message, PostgreSQL the constraint, whose
/// name is made of theirs.
fn duplicate_field(error: &dyn DatabaseError) -> &'static str {
    let named = error.constraint().unwrap_or_else(|| error.message());
    // In this order: `custom_id` and `digest` are the second of two columns or stand alone.
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
