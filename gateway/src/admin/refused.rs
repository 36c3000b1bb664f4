//! Refusals of the admin listener: counted by code and logged, at most one line a second.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::admin::problem::Kind;
use crate::front::client_stream::Refused as ClientRefused;
use crate::http::refusal::Refusal;
use crate::http::request_id::RequestIds;
use crate::telemetry::metrics::text::{Kind as Family, Page};
use crate::telemetry::process_log::AtMost;

/// Counters of refusals.
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

    /// Builds the response to a client that no handler answers, counts it and logs it.
    pub fn refuse(&self, client: &ClientRefused<'_>, ids: &RequestIds) -> Option<Vec<u8>> {
        let refusal = Refusal::of_fault(client.fault)?;
        let kind = kind_of(&refusal);
        self.count(kind);
        self.tell(kind, "UNKNOWN", "", client.client.peer());
        let begun = client.client.request_id().filter(|_| client.within_request);
        Some(refusal.to_bytes("", &begun.unwrap_or_else(|| ids.make())))
    }

    /// Logs an early refusal. `path` must be safe to log; nothing else of the request is logged.
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

    /// Returns how many refusals of a kind were counted.
    #[cfg(test)]
    pub(super) fn counted(&self, kind: Kind) -> u64 {
        self.by_kind
            .get(kind as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Writes the counters.
    pub(super) fn write(&self, page: &mut Page) {
        let counts = self
            .by_kind
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        page.by(
            "postern_admin_refusals_total",
            Family::Counter,
            "Refusals of the admin listener, by code.",
            "code",
            Kind::ALL.map(Kind::code).into_iter().zip(counts),
        );
    }
}

/// Returns the kind with the code of a refusal by the guarded stream.
fn kind_of(refusal: &Refusal) -> Kind {
    Kind::named(refusal.code()).unwrap_or(Kind::BadRequest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::refusal::tests::every_fault;

    #[test]
    fn a_fault_is_counted_by_the_code_and_the_status_of_its_answer() {
        for fault in every_fault() {
            let Some(refusal) = Refusal::of_fault(fault) else {
                continue;
            };
            let kind = kind_of(&refusal);
            assert_eq!(
                (kind.code(), Some(kind.status())),
                (refusal.code(), fault.status()),
                "{fault:?}"
            );
        }
    }
}
