//! [`CommandError`]: failures of commands, with message and exit code.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::keys::allowance::InvalidEntries;
use crate::keys::allowed_ips::InvalidAllowedIps;
use crate::keys::id::InvalidId;
use crate::keys::plan::InvalidPlanName;
use crate::keys::scope::InvalidScope;
use crate::keys::tag::InvalidTag;
use crate::keys::{
    EntropyError, InvalidAllowedRoutes, InvalidText, KeyId, MalformedKey, Prefix, token,
};
use crate::store::StoreError;

/// Failure of a command. Never quotes an argument that may be a key.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The argument contains a key, now in the shell's history; the message warns about it.
    #[error(
        "the argument contains a whole key; this command takes {wanted}. The key was not shown or stored, but may be in your shell's history: consider revoking it"
    )]
    KeyAsArgument {
        /// Expected argument.
        wanted: &'static str,
    },
    /// The key was given as an argument instead of on standard input.
    #[error(
        "a key is not accepted as an argument: every process of this machine can read arguments, and your shell may store them in its history. Type it at the prompt, or give it on standard input: `gateway keys … - < FILE`"
    )]
    KeyInProcessList,
    /// No matching key.
    #[error("no key of this store matches: not as a whole, by its beginning or by its digest")]
    NotFound,
    /// The new consumer's name differs from an existing one in case only.
    #[error(
        "there is no consumer `{wanted}`, but there is `{existing}`: use that one, or create the other with `gateway consumers create`"
    )]
    SpelledLike {
        /// Requested name.
        wanted: String,
        /// Existing name.
        existing: String,
    },
    /// Not an id.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// Invalid name, scope or tag, or too many of them.
    #[error("{0}")]
    InvalidArgument(String),
    /// The expiry is in the past, or beyond the calendar.
    #[error("a key must expire in the future, and before the year 10000")]
    InvalidExpiry,
    /// The store refused the change or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No random bytes for a key.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The key was stored but not printed, so nobody can use it.
    #[error(
        "key {id} was created but could not be printed ({source}); revoke it and create another"
    )]
    Unprinted {
        /// Id of the key.
        id: KeyId,
        /// Cause.
        source: io::Error,
    },
    /// The change was made, but some gateways did not confirm it.
    #[error("the change is made, but these gateways have not confirmed it within {}: {gateways}", humantime::format_duration(*waited))]
    Unconfirmed {
        /// Time waited.
        waited: Duration,
        /// Names of the gateways.
        gateways: String,
    },
    /// The import file could not be read.
    #[error("cannot read {file}: {source}; nothing was imported")]
    Unread {
        /// Path of the file.
        file: String,
        /// Cause.
        source: io::Error,
    },
    /// The export file could not be created.
    #[error("cannot write {file}: {source}")]
    Unwritten {
        /// Path of the file.
        file: String,
        /// Cause.
        source: io::Error,
    },
    /// Neither name nor beginning of the file reveals its format.
    #[error(
        "the format of the file is not clear from its name or its beginning; give `--format csv`, `jsonl`, `kong` or `nginx-map`"
    )]
    UnknownFormat,
    /// The import has bad lines.
    #[error(
        "nothing was imported: {0} bad lines; correct them, or import the others with `--skip-bad`"
    )]
    BadLines(u64),
    /// Lines of the import conflict with concurrent changes.
    #[error("the other lines were imported, but {0} lines conflict with concurrent changes")]
    BadLinesLeft(u64),
    /// The import was interrupted between two batches.
    #[error(
        "stopped; the rows added so far stay. Import the same file again to continue: existing rows are skipped"
    )]
    Interrupted,
    /// The store failed between two batches.
    #[error(
        "{0}; the rows added so far stay. Import the same file again to continue: existing rows are skipped"
    )]
    ImportStopped(#[source] StoreError),
    /// Key-shaped with a wrong checksum.
    #[error(
        "this has the form of a key of this gateway, but its checksum is wrong: it was mistyped or altered"
    )]
    MistypedKey,
    /// A key of another system.
    #[error(
        "{hint}… does not have the form of this gateway's keys; it may be a key that was imported"
    )]
    ForeignKey {
        /// First characters of the key.
        hint: String,
    },
    /// The reported key is unknown.
    #[error("no matching key")]
    UnknownLeak,
    /// No client could present this key.
    #[error("this is no key: {0}")]
    NoKey(#[source] MalformedKey),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// Returns the exit code: 2 for invalid arguments, 1 for other failures.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::KeyAsArgument { .. }
            | Self::KeyInProcessList
            | Self::SpelledLike { .. }
            | Self::InvalidId(_)
            | Self::InvalidArgument(_)
            | Self::InvalidExpiry
            | Self::UnknownFormat => 2,
            Self::Store(_)
            | Self::Entropy(_)
            | Self::Unprinted { .. }
            | Self::Unconfirmed { .. }
            | Self::Unread { .. }
            | Self::Unwritten { .. }
            | Self::BadLines(_)
            | Self::BadLinesLeft(_)
            | Self::Interrupted
            | Self::ImportStopped(_)
            | Self::MistypedKey
            | Self::ForeignKey { .. }
            | Self::UnknownLeak
            | Self::NotFound
            | Self::NoKey(_)
            | Self::Output(_) => 1,
        }
    }

    /// Returns whether the reader closed the pipe, as `head` does; not a failure of the command.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<InvalidScope> for CommandError {
    fn from(error: InvalidScope) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}

impl From<InvalidTag> for CommandError {
    fn from(error: InvalidTag) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}

impl From<InvalidAllowedIps> for CommandError {
    fn from(error: InvalidAllowedIps) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}

impl From<InvalidAllowedRoutes> for CommandError {
    fn from(error: InvalidAllowedRoutes) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}

impl From<InvalidEntries> for CommandError {
    fn from(error: InvalidEntries) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}

impl From<InvalidPlanName> for CommandError {
    fn from(error: InvalidPlanName) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}

impl From<InvalidText> for CommandError {
    fn from(error: InvalidText) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}

/// Refuses an `argument` that contains a key of this gateway, where `wanted` is expected.
pub(super) fn refuse_key(
    argument: &str,
    prefix: &Prefix,
    wanted: &'static str,
) -> Result<(), CommandError> {
    if token::contains_key(argument.as_bytes(), prefix) {
        Err(CommandError::KeyAsArgument { wanted })
    } else {
        Ok(())
    }
}

/// Like [`refuse_key`], for optional texts.
pub(super) fn refuse_keys<'t>(
    arguments: impl IntoIterator<Item = &'t str>,
    prefix: &Prefix,
    wanted: &'static str,
) -> Result<(), CommandError> {
    arguments
        .into_iter()
        .try_for_each(|argument| refuse_key(argument, prefix, wanted))
}
