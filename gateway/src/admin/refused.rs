//! What the admin listener refuses: counted by code, and told in the log, one line a second at most.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::admin::problem::Kind;
use crate::front::client_stream::Refused as ClientRefused;
use crate::http::refusal::Refusal;
use crate::http::request_id::RequestIds;
use crate::telemetry::metrics::text::{Kind as Family, Page};
use crate::telemetry::process_log::AtMost;

/// The refusals of the admin listener.
#[derive(Debug)]
pub struct Refused {
    by_kind: [AtomicU64; Kind::ALL.len()],
    lines: AtMost,
}

impl Default for Refused {
    fn default() -> Self {
        Self {
            by_kind: std::array::from_fn(|_| AtomicU64::new(0)),
            lines: AtMost::new(1),
        }
    }
}

impl Refused {
    /// Counts a refusal.
    pub(super) fn count(&self, kind: Kind) {
        if let Some(count) = self.by_kind.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Words the answer to a client that never came to a request, counts it and tells of it.
    pub fn refuse(&self, client: &ClientRefused<'_>, ids: &RequestIds) -> Option<Vec<u8>> {
        let answer = Refusal::of_fault(client.fault)?.to_bytes("", &ids.make());
        // What its handler is to answer is counted there.
        if !client.within_request {
            self.count(Kind::BadRequest);
            self.tell(Kind::BadRequest, "UNKNOWN", "", client.client.peer());
        }
        Some(answer)
    }

    /// Tells of a request that was turned away before anything was done for it. `path` is what may be shown; nothing else that was
    /// sent is.
    pub(super) fn tell(&self, kind: Kind, method: &str, path: &str, from: Option<SocketAddr>) {
        let Some(more) = self.lines.admit(Instant::now()) else {
            return;
        };
        let from = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
        let (status, code) = (kind.status(), kind.code());
        let more = match more {
            0 => String::new(),
            more => format!(" ({more} more before it were not logged)"),
        };
        let path = path.escape_debug();
        log::warn!("admin API: {status} {code} for {method} {path} from {from}{more}");
    }

    /// Writes the counts.
    pub(super) fn write(&self, page: &mut Page) {
        let mut refused = page.family(
            "postern_admin_refusals_total",
            Family::Counter,
            "Answers of the admin listener that refuse a request, by code.",
        );
        // Two kinds may have one code.
        for (index, kind) in Kind::ALL.iter().enumerate() {
            let is_first = |other: &&Kind| other.code() == kind.code();
            if Kind::ALL.iter().position(|other| is_first(&other)) != Some(index) {
                continue;
            }
            let count: u64 = Kind::ALL
                .iter()
                .zip(&self.by_kind)
                .filter(|(other, _)| other.code() == kind.code())
                .map(|(_, count)| count.load(Ordering::Relaxed))
                .sum();
            refused.sample(&[("code", kind.code())], count);
        }
    }
}
