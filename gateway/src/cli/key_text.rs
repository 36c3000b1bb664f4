//! `gateway keys check` and `gateway keys pattern`: what the text of a key tells without any store.

use std::io::{self, Read};

use zeroize::Zeroizing;

use crate::cli::error::CommandError;
use crate::cli::output::Streams;
use crate::keys::token::MAX_TOKEN_BYTES;
use crate::keys::{ForeignKey, MalformedKey, Prefix, token};

/// Which text.
#[derive(Debug, clap::Args)]
pub struct CheckKey {
    /// The key, or `-` to read it from standard input, where no shell remembers it.
    #[arg(value_name = "KEY|-", default_value = "-", hide_default_value = true)]
    key: PlainArgument,
}

/// What to print.
#[derive(Debug, clap::Args)]
pub struct PrintPattern {
    /// Print a rule for gitleaks, in TOML.
    #[arg(long)]
    gitleaks: bool,
}

/// An argument that may be a key: parsed from any text, so that no error repeats it, and shown by no `Debug`.
#[derive(Clone)]
pub(super) struct PlainArgument(Zeroizing<String>);

impl PlainArgument {
    /// The text itself, or what standard input says in its place; without spaces around it.
    pub(super) fn read(self) -> io::Result<Zeroizing<String>> {
        let text = if self.0.as_str() == "-" {
            read_standard_input()?
        } else {
            self.0
        };
        Ok(Zeroizing::new(text.trim().to_owned()))
    }
}

impl CheckKey {
    /// Says whether the text is a key of this gateway, with the right checksum. That does not make it a key that is let in.
    pub fn run(self, prefix: &Prefix, streams: &mut Streams<'_>) -> Result<(), CommandError> {
        let text = self.key.read()?;
        let is_own = token::has_own_form(text.as_bytes(), prefix);
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
    // More than any key has, with the line break: what is longer is refused as too long.
    let limit = MAX_TOKEN_BYTES * 2;
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    io::stdin().take(limit as u64).read_to_end(&mut bytes)?;
    // What is not UTF-8 is no key, and the replacement says so.
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}
