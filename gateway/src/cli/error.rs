//! [`CommandError`]: why a command failed, and what the shell is told.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::keys::allowed_ips::InvalidAllowedIps;
use crate::keys::id::InvalidId;
use crate::keys::scope::InvalidScope;
use crate::keys::tag::InvalidTag;
use crate::keys::{EntropyError, InvalidText, KeyId, MalformedKey, Prefix, token};
use crate::store::StoreError;

/// Why a command failed. Never repeats an argument that may be a key.
#[derive(Debug, Error)]
pub enum CommandError {
    /// Someone pasted a whole key, or something that holds one. It is in the shell's history now, so that is said too.
    #[error(
        "that holds a whole key; this command takes {wanted}. The key was not shown or stored, but your shell may remember it: \
         consider revoking it"
    )]
    KeyAsArgument {
        /// What belongs there.
        wanted: &'static str,
    },
    /// A key was given as an argument where none is needed.
    #[error(
        "a key is not taken as an argument: every process of this machine can read those, and your shell may remember it. Type it \
         when asked, or give it on standard input: `gateway keys … - < FILE`"
    )]
    KeyInProcessList,
    /// No key is like what somebody has.
    #[error("no key of this store is this, begins as it does, or has it as its digest")]
    NotFound,
    /// A consumer would be made whose name could be another's, mistyped.
    #[error(
        "there is no consumer `{wanted}`, but there is `{existing}`: name that one, or make the other with `gateway consumers create`"
    )]
    SpelledLike {
        /// The name that was asked for.
        wanted: String,
        /// The one that there is.
        existing: String,
    },
    /// Not an id.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// Not a name, a scope or a tag, or too many of them.
    #[error("{0}")]
    InvalidArgument(String),
    /// The expiry is over before the key is made, or beyond the calendar.
    #[error("a key must expire in the future, and before the year 10000")]
    InvalidExpiry,
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No key could be made.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The key is in the store, and nobody will ever know it.
    #[error(
        "key {id} was created but could not be printed ({source}); revoke it and create another"
    )]
    Unprinted {
        /// Which key.
        id: KeyId,
        /// Why.
        source: io::Error,
    },
    /// A change was made, and some gateways have not said that they go by it.
    #[error("it is done, but after {} these gateways have not confirmed it: {gateways}", humantime::format_duration(*waited))]
    Unconfirmed {
        /// How long they were waited for.
        waited: Duration,
        /// Their names.
        gateways: String,
    },
    /// The file to import could not be read.
    #[error("cannot read {file}: {source}; nothing was imported")]
    Unread {
        /// Which file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The file to export to could not be made.
    #[error("cannot write {file}: {source}")]
    Unwritten {
        /// Which file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// Neither the name of the file nor its beginning tells what it is.
    #[error(
        "what the file is cannot be told from its name or its beginning; say `--format csv`, `jsonl`, `kong` or `nginx-map`"
    )]
    UnknownFormat,
    /// Lines of an import are bad.
    #[error(
        "nothing was imported: {0} bad lines; correct them, or import the others with `--skip-bad`"
    )]
    BadLines(u64),
    /// Lines of an import contradict what was written meanwhile.
    #[error("the other lines were imported, but {0} lines contradict what someone wrote meanwhile")]
    BadLinesLeft(u64),
    /// The import was stopped between two batches.
    #[error(
        "stopped; what was added stays. Import the same file again to go on: what is there is passed over"
    )]
    Interrupted,
    /// The store failed between two batches.
    #[error(
        "{0}; what was added before stays. Import the same file again to go on: what is there is passed over"
    )]
    ImportStopped(#[source] StoreError),
    /// The form of this gateway's keys, with another checksum.
    #[error(
        "this has the form of a key of this gateway, but its checksum is wrong: it was mistyped, or cut and refilled"
    )]
    MistypedKey,
    /// A key, but not one that this gateway makes.
    #[error(
        "{hint}… does not have the form of this gateway's keys; it may be a key that was imported"
    )]
    ForeignKey {
        /// Its beginning.
        hint: String,
    },
    /// No key is like the one that was reported.
    #[error("no key is like this one")]
    UnknownLeak,
    /// No client could present it.
    #[error("this is no key: {0}")]
    NoKey(#[source] MalformedKey),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// What the process ends with: 2 when the arguments were wrong, 1 when anything else was.
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

    /// Whether the reader of the output went away, as `head` does: no failure of the command.
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

impl From<InvalidText> for CommandError {
    fn from(error: InvalidText) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}

/// Refuses `argument` when a key of this gateway stands in it, where `wanted` is expected.
pub(super) fn refuse_key(
    argument: &str,
    prefix: &Prefix,
    wanted: &'static str,
) -> Result<(), CommandError> {
    if token::contains_own_form(argument.as_bytes(), prefix) {
        Err(CommandError::KeyAsArgument { wanted })
    } else {
        Ok(())
    }
}

/// The same of texts that may not be given.
pub(super) fn refuse_keys<'t>(
    arguments: impl IntoIterator<Item = &'t str>,
    prefix: &Prefix,
    wanted: &'static str,
) -> Result<(), CommandError> {
    arguments
        .into_iter()
        .try_for_each(|argument| refuse_key(argument, prefix, wanted))
}
