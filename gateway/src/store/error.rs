//! [`StoreError`]: what a caller of the store can act on.

use std::io;

use sqlx::error::DatabaseError;
use thiserror::Error;

use crate::keys::table::UnknownConsumer as UnknownConsumerOfKey;
use crate::keys::{EntropyError, KeyId};
use crate::store::roll::InvalidRoll;

/// Why the store did not do what was asked. Nothing was changed, unless the text says otherwise. Holds no secret.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database server cannot be reached, or does not take connections at the moment. Trying again helps.
    #[error("the database cannot be reached: {reason}")]
    Unreachable {
        /// What the system or the server said.
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
    /// The schema was made by something else than this project's releases.
    #[error("schema {version} of the database {location} is not the one that this version has")]
    OtherSchema {
        /// The database.
        location: String,
        /// Which step differs.
        version: i64,
    },
    /// Another process kept the database locked for too long. Trying again helps.
    #[error("the database is busy: another process is writing to it")]
    Busy,
    /// The disk is full, or the file system refuses to write.
    #[error("the database cannot be written: {reason}")]
    Unwritable {
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

/// SQLite's primary result codes, <https://www.sqlite.org/rescode.html>.
mod sqlite_code {
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
}

/// PostgreSQL's codes, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
mod postgres_code {
    pub(super) const TOO_MANY_CONNECTIONS: &str = "53300";
    pub(super) const QUERY_CANCELED: &str = "57014";
    pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";
    pub(super) const DEADLOCK: &str = "40P01";
    pub(super) const SERIALIZATION_FAILURE: &str = "40001";
    pub(super) const READ_ONLY_TRANSACTION: &str = "25006";
    pub(super) const DISK_FULL: &str = "53100";
    pub(super) const IO_ERROR: &str = "58030";
    pub(super) const ADMIN_SHUTDOWN: &str = "57P01";
    pub(super) const CRASH_SHUTDOWN: &str = "57P02";
    pub(super) const CANNOT_CONNECT_NOW: &str = "57P03";
}

impl StoreError {
    /// Whether the store could not be asked, so that nothing is known of what it would have answered.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether the same may succeed in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.is_unreachable() || matches!(self, Self::Busy)
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
            Self::Database(error) => match sqlite_primary_code(&error) {
                Some(sqlite_code::NOTADB | sqlite_code::CORRUPT) => Self::NotADatabase { location },
                _ => Self::CannotOpen {
                    location,
                    reason: error.to_string(),
                },
            },
            Self::Unwritable { reason } => Self::CannotOpen { location, reason },
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
        if let Some(error) = of_connection(&error).or_else(|| of_postgres(&error)) {
            return error;
        }
        match sqlite_primary_code(&error) {
            Some(sqlite_code::BUSY) => Self::Busy,
            Some(
                sqlite_code::READONLY
                | sqlite_code::FULL
                | sqlite_code::IOERR
                | sqlite_code::CANTOPEN
                | sqlite_code::PERM,
            ) => Self::Unwritable {
                reason: error.to_string(),
            },
            _ => Self::Database(error),
        }
    }
}

/// The error of a connection that could not be made, or broke.
fn of_connection(error: &sqlx::Error) -> Option<StoreError> {
    use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
    match error {
        Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed => {
            Some(StoreError::Unreachable {
                reason: error.to_string(),
            })
        }
        _ => None,
    }
}

/// The error of a server that said which one it is.
fn of_postgres(error: &sqlx::Error) -> Option<StoreError> {
    use postgres_code as is;
    let code = error.as_database_error()?.code()?;
    // SQLite's codes are numbers of up to four digits.
    if code.len() != 5 {
        return None;
    }
    match code.as_ref() {
        is::LOCK_NOT_AVAILABLE | is::DEADLOCK | is::SERIALIZATION_FAILURE | is::QUERY_CANCELED => {
            Some(StoreError::Busy)
        }
        is::READ_ONLY_TRANSACTION | is::DISK_FULL | is::IO_ERROR => Some(StoreError::Unwritable {
            reason: error.to_string(),
        }),
        is::TOO_MANY_CONNECTIONS
        | is::ADMIN_SHUTDOWN
        | is::CRASH_SHUTDOWN
        | is::CANNOT_CONNECT_NOW => Some(StoreError::Unreachable {
            reason: error.to_string(),
        }),
        _ => None,
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

fn sqlite_primary_code(error: &sqlx::Error) -> Option<i32> {
    // The low byte of the extended code. PostgreSQL's codes have five characters and are all above it.
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
