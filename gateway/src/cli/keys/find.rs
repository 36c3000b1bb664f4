//! `gateway keys find`: finds the consumer and the status of a given key. Does not count as a use.

use zeroize::Zeroizing;

use crate::cli::Context;
use crate::cli::error::CommandError;
use crate::cli::key_text::PlainArgument;
use crate::cli::keys::list::KeyListing;
use crate::cli::keys::print_key;
use crate::keys::{ForeignKey, KeyDigest, MalformedKey};
use crate::store::StoredKey;

/// Minimum number of characters to search for, and maximum number of keys shown.
const SHORTEST: usize = 4;
const MAX_SHOWN: u32 = 100;

/// Text to search for.
#[derive(Debug, clap::Args)]
pub struct FindKey {
    /// Only `-`, the default: reads a key, its first characters or its SHA-256 from standard input,
    /// or prompts for it on a terminal.
    #[arg(value_name = "-", default_value = "-", hide_default_value = true)]
    text: PlainArgument,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

impl FindKey {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let given = self.text.read_hidden(&mut context.streams)?;
        let text = bare(&given);
        if text.len() < given.len() {
            context.streams.remark(format_args!(
                "ignored the text around the key: quotes, spaces, or `Bearer`"
            ));
        }
        let found = match look(text, context).await? {
            found if found.is_empty() => return Err(CommandError::NotFound),
            found => found,
        };
        if let [key] = &*found
            && !self.json
        {
            return Ok(print_key(key, context.stamp.at, &mut context.streams)?);
        }
        let mut listing = KeyListing::new(self.json);
        for key in &found {
            listing.key(context.streams.out, key, context.stamp.at)?;
        }
        Ok(listing.0.finish(context.streams.out)?)
    }
}

/// Returns the keys that match `text`; prints remarks about it.
async fn look(text: &str, context: &mut Context<'_>) -> Result<Vec<StoredKey>, CommandError> {
    let parsed = ForeignKey::parse(Zeroizing::new(text.to_owned()), context.prefix);
    if let Ok(key) = &parsed
        && let Some(found) = context.store.key_with(&key.digest()).await?
    {
        return Ok(vec![found]);
    }
    if let Ok(digest) = KeyDigest::parse(text)
        && let Some(found) = context.store.key_with(&digest).await?
    {
        return Ok(vec![found]);
    }
    let is_mistyped = matches!(parsed, Err(MalformedKey::Checksum));
    if text.len() < SHORTEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Vec::new());
    }
    let like = context.store.keys_like(text, MAX_SHOWN).await?;
    if !like.is_empty() {
        let shown = like.len();
        let why = if is_mistyped {
            "it was mistyped: its checksum is wrong"
        } else {
            "no key equals this text"
        };
        context
            .streams
            .remark(format_args!("{why}; {shown} begin like it"));
    }
    Ok(like)
}

/// Strips white space, quotes and the like around a key.
fn bare(text: &str) -> &str {
    let mut text = text;
    loop {
        let trimmed = text.trim();
        let unquoted = ['"', '\'', '`']
            .iter()
            .find_map(|quote| trimmed.strip_prefix(*quote)?.strip_suffix(*quote));
        let bare = match (unquoted, trimmed.split_once(' ')) {
            (Some(inner), _) => inner,
            (None, Some((scheme, rest))) if is_scheme(scheme) => rest,
            (None, _) => trimmed,
        };
        if bare.len() == text.len() {
            return text;
        }
        text = bare;
    }
}

fn is_scheme(word: &str) -> bool {
    ["bearer", "authorization:", "x-api-key:"]
        .iter()
        .any(|scheme| word.eq_ignore_ascii_case(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_a_key_is_taken_off() {
        for text in [
            "abc",
            " abc\n",
            "\"abc\"",
            "'abc'",
            "Bearer abc",
            "Authorization: Bearer abc",
            "\"authorization: bearer 'abc'\"",
            "X-Api-Key: abc",
        ] {
            assert_eq!(bare(text), "abc", "{text}");
        }
        for text in ["", "\"", "a b", "\"abc", "Basic abc"] {
            assert_eq!(bare(text), text);
        }
    }
}
