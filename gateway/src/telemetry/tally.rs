//! Counters of a worker's requests: metrics for the operator, usage for the owner of each key.

use std::rc::Rc;

use actix_http::header::CONTENT_TYPE;
use actix_http::{ResponseHead, StatusCode};

use crate::front::client_stream::ClientFault;
use crate::front::drain::Drain;
use crate::keys::{Hour, KeyId, KeyUsage, UnixMillis, UsageCounts};
use crate::telemetry::access_log::Entry;
use crate::telemetry::metrics::{Open, StreamKind, WorkerMetrics};
use crate::usage::meter::UsageMeter;

/// Bytes after which a running response is counted again.
const PROGRESS_THRESHOLD: u64 = 1024 * 1024;

/// Counts the requests of one worker.
#[derive(Clone, Debug)]
pub struct Tally(Option<Rc<(UsageMeter, WorkerMetrics, Drain)>>);

/// Bytes of both bodies so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyBytes {
    /// Request body bytes read.
    pub read: u64,
    /// Response body bytes that the connection took.
    pub sent: u64,
}

impl BodyBytes {
    /// Whether enough bytes came since `before` to count them now.
    #[must_use]
    pub fn exceed_threshold(self, before: Self) -> bool {
        (self.read + self.sent).saturating_sub(before.read + before.sent) >= PROGRESS_THRESHOLD
    }

    fn beyond(self, before: Self) -> UsageCounts {
        let (bytes_in, bytes_out) = (
            self.read.saturating_sub(before.read),
            self.sent.saturating_sub(before.sent),
        );
        UsageCounts {
            bytes_in,
            bytes_out,
            ..UsageCounts::default()
        }
    }
}

impl Tally {
    /// Creates a tally; `drain` reports whether the shutdown cuts requests off.
    #[must_use]
    pub fn new(usage: UsageMeter, metrics: WorkerMetrics, drain: Drain) -> Self {
        Self(Some(Rc::new((usage, metrics, drain))))
    }

    /// Whether the shutdown cuts off requests that end now.
    #[must_use]
    pub fn cuts_off(&self) -> bool {
        self.0
            .as_deref()
            .is_some_and(|(_, _, drain)| drain.is_over())
    }

    /// Counts nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Counts an ended request with the credential `key`; `counted` of its body bytes are counted
    /// already.
    pub fn ended(&self, key: Option<KeyId>, entry: &Entry<'_>, counted: BodyBytes, stream: bool) {
        let Some((usage, metrics, _)) = self.0.as_deref() else {
            return;
        };
        metrics.ended(entry, stream);
        let Some(key) = key else { return };
        let refused = entry.code.is_some() && (400..500).contains(&entry.status);
        let at = entry.at.after(entry.duration);
        let bodies = BodyBytes {
            read: entry.bytes_in,
            sent: entry.bytes_out,
        };
        let counts = UsageCounts {
            requests: 1,
            refusals: u64::from(refused),
            ..bodies.beyond(counted)
        };
        let last_used_at = (!refused).then_some(at);
        usage.count(&KeyUsage {
            key,
            hour: Hour::of(at),
            counts,
            last_used_at,
        });
    }

    /// Metrics of the worker, if enabled.
    #[must_use]
    pub fn metrics(&self) -> Option<&WorkerMetrics> {
        self.0.as_deref().map(|(_, metrics, _)| metrics)
    }

    /// Counts a connection that ends for a fault.
    pub fn fault(&self, fault: ClientFault) {
        if let Some(metrics) = self.metrics() {
            metrics.counts().faults.count(fault.name());
        }
    }

    /// Counts a connection as open until the return value is dropped.
    #[must_use]
    pub fn connection(&self) -> Option<Open> {
        self.metrics().map(WorkerMetrics::connection)
    }

    /// Counts bytes of a running request.
    pub fn count_progress(&self, key: KeyId, now: BodyBytes, counted: BodyBytes) {
        if let Some((usage, _, _)) = self.0.as_deref() {
            let at = UnixMillis::now();
            usage.count(&KeyUsage {
                key,
                hour: Hour::of(at),
                counts: now.beyond(counted),
                last_used_at: Some(at),
            });
        }
    }

    /// Counts a long-lived response until the return value is dropped; `None` for any other
    /// response.
    #[must_use]
    pub fn stream(&self, response: &ResponseHead) -> Option<Open> {
        let metrics = self.metrics()?;
        let is_events = || {
            let media_type = response.headers.get(CONTENT_TYPE)?.as_bytes();
            media_type
                .split(|byte| *byte == b';')
                .next()
                .map(|name| name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
        };
        let kind = match response.status {
            StatusCode::SWITCHING_PROTOCOLS => StreamKind::Upgrade,
            _ if is_events() == Some(true) => StreamKind::EventStream,
            _ => return None,
        };
        Some(metrics.stream(kind))
    }
}
