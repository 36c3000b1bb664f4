//! [`Fault`]: classes of database failures by SQLSTATE and SQLite result code, with their
//! consequences in one table.

use sqlx::postgres::PgDatabaseError;

/// Class of a database failure. [`Fault::row`] defines its consequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No connection, a broken one, or a server that refuses connections at the moment.
    Unreachable,
    /// Another session holds a lock for longer than the lock timeout.
    Busy,
    /// Statement timeout.
    Slow,
    /// A read-only server: a standby, or a demoted primary.
    ReadOnlyServer,
    /// Disk full.
    Full,
    /// The file, its directory or its disk is not writable.
    Unwritable,
    /// The file is missing or was replaced.
    FileReplaced,
    /// The role lacks a privilege.
    Denied,
    /// Unknown user, password or database.
    Refused,
    /// Stored data is corrupt.
    Damaged,
    /// A pooler in transaction mode.
    TransactionPooler,
    /// The change was sent and its outcome is unknown.
    OutcomeUnknown,
    /// Limit of concurrent lists reached.
    TooManyReads,
    /// Any other failure.
    Other,
}

/// Consequences of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRow {
    /// Name in `/readyz` and in the documents.
    pub word: &'static str,
    /// Public text; the cause follows after a colon.
    pub text: &'static str,
    /// Whether a retry may succeed. A gateway that meets any other failure at its start exits.
    pub passes: bool,
}

impl Fault {
    /// All classes.
    pub const ALL: [Self; 14] = [
        Self::Unreachable,
        Self::Busy,
        Self::Slow,
        Self::ReadOnlyServer,
        Self::Full,
        Self::Unwritable,
        Self::FileReplaced,
        Self::Denied,
        Self::Refused,
        Self::Damaged,
        Self::TransactionPooler,
        Self::OutcomeUnknown,
        Self::TooManyReads,
        Self::Other,
    ];

    /// Returns the consequences.
    #[must_use]
    pub fn row(self) -> FaultRow {
        let (word, text, passes) = match self {
            Self::Unreachable => ("unreachable", "the database cannot be reached", true),
            Self::Busy => (
                "busy",
                "the database is busy: another session is writing to it",
                true,
            ),
            Self::Slow => (
                "slow",
                "the database did not finish a statement in time",
                true,
            ),
            Self::ReadOnlyServer => (
                "read_only_server",
                "the database server is read-only: a standby, or a demoted primary",
                true,
            ),
            Self::Full => (
                "full",
                "the database cannot be written: the disk is full",
                false,
            ),
            Self::Unwritable => ("unwritable", "the database cannot be written", false),
            Self::FileReplaced => (
                "file_replaced",
                "the database file is not the one that was opened",
                true,
            ),
            Self::Denied => (
                "denied",
                "the user of the database lacks a privilege",
                false,
            ),
            Self::Refused => ("refused", "the database server refuses the login", false),
            Self::Damaged => ("damaged", "the database is damaged, or is none", false),
            Self::TransactionPooler => (
                "transaction_pooler",
                "the database is reached through a pooler in transaction mode, which keeps no session: use its \
                 session mode (for pgbouncer `pool_mode = session`) or the server's own address",
                false,
            ),
            Self::OutcomeUnknown => (
                "outcome_unknown",
                "the outcome of the change is unknown",
                false,
            ),
            Self::TooManyReads => (
                "too_many_reads",
                "too many lists are being read from the database",
                true,
            ),
            Self::Other => ("failed", "the database failed", false),
        };
        FaultRow { word, text, passes }
    }

    /// Returns whether the connection must be discarded.
    #[must_use]
    pub fn ends_session(self) -> bool {
        match self {
            Self::Unreachable
            | Self::Slow
            | Self::ReadOnlyServer
            | Self::FileReplaced
            | Self::Refused
            | Self::TransactionPooler
            | Self::OutcomeUnknown => true,
            Self::Busy
            | Self::Full
            | Self::Unwritable
            | Self::Denied
            | Self::Damaged
            | Self::TooManyReads
            | Self::Other => false,
        }
    }

    /// Classifies an error of the driver or the database.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Self {
        use sqlx::Error::{
            Configuration, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed,
        };
        match error {
            Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed => {
                Self::Unreachable
            }
            Configuration(_) => Self::Refused,
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                // Not by the form of the code: `42501`, read as a number, ends in SQLite's code of
                // a busy file.
                if database.try_downcast_ref::<PgDatabaseError>().is_some() {
                    of_sqlstate(&code)
                } else {
                    of_sqlite(code.parse().unwrap_or_default())
                }
            }
            _ => Self::Other,
        }
    }
}

/// PostgreSQL codes and code classes,
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>. The first prefix of a code
/// wins.
pub const SQLSTATES: &[(&str, Fault)] = &[
    // idle_in_transaction_session_timeout and idle_session_timeout end the session.
    ("25P03", Fault::Unreachable),
    ("57P05", Fault::Unreachable),
    ("25006", Fault::ReadOnlyServer),
    ("08P01", Fault::Unreachable),
    ("08", Fault::Unreachable),
    ("53100", Fault::Full),
    ("53", Fault::Unreachable),
    ("57014", Fault::Slow),
    // The database was dropped; all others of the class are shutdowns.
    ("57P04", Fault::Refused),
    ("57", Fault::Unreachable),
    ("58", Fault::Unwritable),
    ("55P03", Fault::Busy),
    ("40", Fault::Busy),
    ("42501", Fault::Denied),
    ("28", Fault::Refused),
    ("3D000", Fault::Refused),
    ("26000", Fault::TransactionPooler),
    ("42P05", Fault::TransactionPooler),
    ("XX001", Fault::Damaged),
    ("XX002", Fault::Damaged),
];

/// SQLite result codes, <https://www.sqlite.org/rescode.html>: extended codes before their primary
/// code.
pub const SQLITE_CODES: &[(i32, Fault)] = &[
    // READONLY_DBMOVED: the file is no longer at its path.
    (1032, Fault::FileReplaced),
    (3, Fault::Unwritable),
    (5, Fault::Busy),
    (6, Fault::Busy),
    (8, Fault::Unwritable),
    (9, Fault::Slow),
    (10, Fault::Unwritable),
    (11, Fault::Damaged),
    (13, Fault::Full),
    (14, Fault::Unwritable),
    (26, Fault::Damaged),
];

/// Classifies a SQLSTATE.
#[must_use]
pub fn of_sqlstate(code: &str) -> Fault {
    let row = SQLSTATES.iter().find(|(start, _)| code.starts_with(start));
    row.map_or(Fault::Other, |(_, fault)| *fault)
}

/// Classifies an extended SQLite result code, whose low byte is the primary code.
#[must_use]
pub fn of_sqlite(code: i32) -> Fault {
    let find = |code| SQLITE_CODES.iter().find(|(known, _)| *known == code);
    find(code)
        .or_else(|| find(code & 0xff))
        .map_or(Fault::Other, |(_, fault)| *fault)
}

/// Returns the missing grant, parsed from the server's message: `permission denied for schema
/// public`.
#[must_use]
pub fn missing_grant(said: &str) -> String {
    let user = "TO the user of `store.url`";
    let mut words = said
        .split_once("permission denied for ")
        .map_or("", |(_, what)| what)
        .split_whitespace();
    let (kind, name) = (words.next(), words.next().unwrap_or("public"));
    match kind {
        Some("schema") => format!("GRANT USAGE, CREATE ON SCHEMA {name} {user}"),
        Some("database") => format!("GRANT CONNECT, CREATE ON DATABASE {name} {user}"),
        Some("sequence") => {
            format!("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public {user}")
        }
        Some("function") => format!("GRANT EXECUTE ON FUNCTION {name} {user}"),
        _ if said.contains("must be owner") => {
            "make the user of `store.url` the owner of the tables".to_owned()
        }
        _ => {
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public {user}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_word_and_a_row_in_the_documents() {
        let document = include_str!("../../../docs/SCALING.md");
        let mut words = std::collections::HashSet::new();
        for fault in Fault::ALL {
            let row = fault.row();
            assert!(words.insert(row.word), "{}", row.word);
            let stands = document
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", row.word)))
                .unwrap_or_else(|| panic!("{} is not in docs/SCALING.md", row.word));
            let passes = if row.passes { "yes" } else { "no" };
            assert!(stands.ends_with(&format!("| {passes} |")), "{stands}");
            let codes = SQLSTATES
                .iter()
                .filter(|(_, of)| *of == fault)
                .map(|(code, _)| (*code).to_owned())
                .chain(
                    SQLITE_CODES
                        .iter()
                        .filter(|(_, of)| *of == fault)
                        .map(|(code, _)| code.to_string()),
                );
            for code in codes {
                assert!(stands.contains(&format!("`{code}`")), "{code}: {stands}");
            }
        }
    }

    #[test]
    fn no_code_of_one_database_is_read_as_one_of_the_other() {
        // 42501 & 0xff is 5, SQLite's SQLITE_BUSY.
        assert_eq!(of_sqlstate("42501"), Fault::Denied);
        assert_eq!(of_sqlite(5), Fault::Busy);
        for (code, fault) in [
            ("57P01", Fault::Unreachable),
            ("57P02", Fault::Unreachable),
            ("57P03", Fault::Unreachable),
            ("57P04", Fault::Refused),
            ("08006", Fault::Unreachable),
            ("53300", Fault::Unreachable),
            ("53100", Fault::Full),
            ("25006", Fault::ReadOnlyServer),
            ("28P01", Fault::Refused),
            ("23505", Fault::Other),
            ("", Fault::Other),
        ] {
            assert_eq!(of_sqlstate(code), fault, "{code}");
        }
        for (code, fault) in [
            (517, Fault::Busy),
            (776, Fault::Unwritable),
            (1032, Fault::FileReplaced),
            (266, Fault::Unwritable),
            (267, Fault::Damaged),
            (0, Fault::Other),
        ] {
            assert_eq!(of_sqlite(code), fault, "{code}");
        }
    }

    #[test]
    fn the_missing_grant_is_named() {
        for (said, granted) in [
            (
                "permission denied for schema public",
                "GRANT USAGE, CREATE ON SCHEMA public",
            ),
            (
                "permission denied for database keys",
                "GRANT CONNECT, CREATE ON DATABASE keys",
            ),
            (
                "permission denied for table keys",
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public",
            ),
            (
                "permission denied for sequence changes_revision_seq",
                "GRANT USAGE, SELECT ON ALL SEQUENCES",
            ),
            ("must be owner of table keys", "the owner of the tables"),
        ] {
            assert!(missing_grant(said).contains(granted), "{said}");
        }
    }
}
