//! `gateway keys check` and `gateway keys pattern`: operations on key texts without a store.

use std::io::{self, BufRead as _, IsTerminal as _, Read};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cli::error::CommandError;
use crate::cli::output::Streams;
use crate::keys::token::MAX_TOKEN_BYTES;
use crate::keys::{ForeignKey, MalformedKey, Prefix, token};

/// Key to check.
#[derive(Debug, clap::Args)]
pub struct CheckKey {
    /// Only `-`, the default: reads the key from standard input, or prompts for it on a terminal.
    #[arg(value_name = "-", default_value = "-", hide_default_value = true)]
    key: PlainArgument,
}

/// Output options.
#[derive(Debug, clap::Args)]
pub struct PrintPattern {
    /// Print a rule for gitleaks, in TOML.
    #[arg(long)]
    gitleaks: bool,
}

/// An argument that may be a key: parses any text, so that no error quotes it, and has no readable
/// `Debug`.
#[derive(Clone)]
pub(super) struct PlainArgument(Zeroizing<String>);

impl PlainArgument {
    /// Returns the text, or reads standard input for `-`; trims white space.
    pub(super) fn read(self) -> io::Result<Zeroizing<String>> {
        let text = if self.0.as_str() == "-" {
            read_standard_input()?
        } else {
            self.0
        };
        Ok(Zeroizing::new(text.trim().to_owned()))
    }

    /// Reads standard input, on a terminal without echo. Refuses a text as argument, because other
    /// processes can read it.
    pub(super) fn read_hidden(
        self,
        streams: &mut Streams<'_>,
    ) -> Result<Zeroizing<String>, CommandError> {
        if self.0.as_str() != "-" {
            return Err(CommandError::KeyInProcessList);
        }
        if !io::stdin().is_terminal() {
            return Ok(self.read()?);
        }
        let line = unechoed(|| {
            let _ = write!(streams.err, "Key (not shown): ");
            let _ = streams.err.flush();
            let mut line = Zeroizing::new(String::with_capacity(MAX_TOKEN_BYTES * 2));
            io::stdin().lock().read_line(&mut line)?;
            Ok(line)
        });
        streams.remark(format_args!(""));
        Ok(Zeroizing::new(line?.trim().to_owned()))
    }
}

/// Runs `read` with the terminal's echo off.
fn unechoed<T>(read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let shown = tcgetattr(io::stdin())?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
    let read = read();
    tcsetattr(io::stdin(), OptionalActions::Now, &shown)?;
    read
}

impl CheckKey {
    /// Reports whether the text is a key of this gateway with the right checksum; such a key may
    /// still be unknown or revoked.
    pub fn run(self, prefix: &Prefix, streams: &mut Streams<'_>) -> Result<(), CommandError> {
        let text = self.key.read_hidden(streams)?;
        let is_own = token::is_key_shaped(text.as_bytes(), prefix);
        match ForeignKey::parse(text, prefix) {
            Ok(key) if is_own => {
                let hint = key.hint(prefix);
                writeln!(
                    streams.out,
                    "{hint}… has the form of a key of this gateway, and its checksum is right"
                )?;
                Ok(streams.out.flush()?)
            }
            Ok(key) => Err(CommandError::ForeignKey {
                hint: key.hint(prefix),
            }),
            Err(MalformedKey::Checksum) => Err(CommandError::MistypedKey),
            Err(error) => Err(CommandError::NoKey(error)),
        }
    }
}

impl PrintPattern {
    /// Prints the regular expression of this gateway's keys.
    pub fn run(&self, prefix: &Prefix, streams: &mut Streams<'_>) -> Result<(), CommandError> {
        let pattern = token::pattern(prefix);
        if self.gitleaks {
            writeln!(
                streams.out,
                "[[rules]]\nid = \"{prefix}-api-key\"\ndescription = \"API key that begins with {prefix}_\"\n\
                 regex = '''\\b({pattern})\\b'''\nkeywords = [\"{prefix}_\"]"
            )?;
        } else {
            writeln!(streams.out, "\\b{pattern}\\b")?;
        }
        Ok(streams.out.flush()?)
    }
}

impl std::str::FromStr for PlainArgument {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl std::fmt::Debug for PlainArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

fn read_standard_input() -> io::Result<Zeroizing<String>> {
    // More than the longest key and its line break: a longer input is refused as too long.
    let limit = MAX_TOKEN_BYTES * 2;
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    io::stdin().take(limit as u64).read_to_end(&mut bytes)?;
    // Invalid UTF-8 cannot be a key, and the replacement characters fail the check.
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}
