//! `gateway keys report-leak`: reports a leaked key.

use crate::cli::Context;
use crate::cli::error::CommandError;
use crate::cli::key_text::PlainArgument;
use crate::cli::output::moment_or;
use crate::keys::{Description, KeyDigest};
use crate::leaks::notice;
use crate::leaks::place::{FoundKey, place};
use crate::store::{Leak, LeakAction};
use crate::views::LeakView;

/// Leaked key and its location.
#[derive(Debug, clap::Args)]
pub struct ReportLeak {
    /// The key, its SHA-256 as `sha256:…`, or `-` to read either from standard input, out of the
    /// shell's history.
    #[arg(value_name = "KEY|-", default_value = "-", hide_default_value = true)]
    key: PlainArgument,
    /// URL of the leak.
    #[arg(long, value_name = "TEXT")]
    url: Option<Description>,
    /// Kind of the source, for example `commit`.
    #[arg(long, value_name = "TEXT")]
    source: Option<Description>,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

impl ReportLeak {
    /// Applies the policy of the key's bucket.
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let key = self.key.read()?;
        let (digest, found) = match key.get(..7) {
            Some(scheme) if scheme.eq_ignore_ascii_case("sha256:") => {
                let digest = KeyDigest::parse(&key)
                    .map_err(|error| CommandError::InvalidArgument(error.to_string()))?;
                (digest, FoundKey::Digest(digest))
            }
            _ => (KeyDigest::of(key.as_bytes()), FoundKey::Plain(&key)),
        };
        let kept = |text: Option<Description>| {
            let kept = text
                .as_ref()
                .map(|text| place(text.as_str(), found, context.prefix).map(str::to_owned))
                .transpose();
            kept.map_err(|_| CommandError::KeyAsArgument {
                wanted: "where the key was found, without the key",
            })
        };
        let (url, source) = (kept(self.url)?, kept(self.source)?);
        let leak = Leak {
            digest,
            url,
            source,
        };
        let outcome = context.store.report_leak(&leak, context.stamp).await?;
        if let Some(outcome) = &outcome {
            notice::log(&leak, outcome, &context.stamp.actor);
        }
        if self.json {
            return Ok(context
                .streams
                .json(&LeakView::of(outcome.as_ref(), context.stamp.at))?);
        }
        let Some(outcome) = outcome else {
            return Err(CommandError::UnknownLeak);
        };
        let key = &outcome.key;
        let done = match outcome.action {
            LeakAction::Notified => "no action, by the policy of its bucket".to_owned(),
            LeakAction::Ending => format!(
                "it ends at {}",
                moment_or(key.attributes.expires_at, "never")
            ),
            LeakAction::Revoked => "it is revoked".to_owned(),
            LeakAction::AlreadyRefused => "it was refused already".to_owned(),
        };
        Ok(writeln!(
            context.streams.out,
            "key {} ({}…, consumer {}): {done}",
            key.id, key.hint, key.consumer_name
        )?)
    }
}
