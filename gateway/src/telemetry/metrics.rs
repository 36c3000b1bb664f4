//! Request counters for `/metrics`.
//!
//! Each worker counts in memory that no other thread writes; a scrape sums the workers. Labels have
//! bounded values: configured routes, the refusal table, closed lists. No label is a path, a key, a
//! consumer or a client address.

pub(crate) mod counts;
pub mod process;
pub mod text;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use hashbrown::HashTable;

use crate::auth::cause::Cause;
use crate::front::client_stream::ClientFault;
use crate::hash::fnv;
use crate::http::refusal::Refusal;
use crate::telemetry::access_log::{Ending, Entry};
use crate::telemetry::metrics::counts::{BUCKETS, Counts, counts};
use crate::telemetry::metrics::text::{Kind, Label, Page};

/// Kind of long-lived response, whose duration says nothing about the origin's latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// `101 Switching Protocols`, such as a WebSocket.
    Upgrade,
    /// Server-sent events.
    EventStream,
}

impl StreamKind {
    /// Label values, in the order of the variants.
    const NAMES: [&str; 2] = ["upgrade", "event_stream"];
}

/// Codes of failures that the brake counts; `unchecked` where the key was not looked up.
const BRAKED: [&str; 5] = [
    "api_key_invalid",
    "api_key_expired",
    "api_key_revoked",
    "api_key_disabled",
    "unchecked",
];

counts! {
    /// Counters of one worker; they outlive it.
    WorkerCounts {
        refusals: Counter "postern_refusals_total" ["code": Refusal::CODES]
            "Responses of the gateway itself, by code.";
        faults: Counter "postern_client_faults_total" ["fault": ClientFault::NAMES]
            "Connections closed for a fault of the client, by the first fault.";
        causes: Counter "postern_credentials_refused_total" ["cause": Cause::NAMES]
            "Requests whose credential was refused, by the cause in the access log.";
        braked: Counter "postern_auth_braked_total" ["code": BRAKED]
            "Requests answered 429 too_many_failures, by the code that they would have had.";
        would_brake: Counter "postern_auth_would_be_braked_total" ["code": BRAKED]
            "Requests that would have been, were brake.enforce not false.";
        would_limit_in_flight: Counter "postern_in_flight_would_be_limited_total"
            "Requests over a limit of [[concurrency_limits]] that is not enforced.";
        quota_notices: Counter "postern_quota_notices_total" ["share": ["80", "100"]]
            "Quotas of which a subject has used this share, in percent; once in each period.";
        would_exceed_quota: Counter "postern_quota_would_be_exceeded_total"
            "Requests over a quota that is not enforced.";
        would_refuse: Counter "postern_auth_would_be_refused_total" ["cause": Cause::NAMES]
            "Requests that passed a route that only observes, by the cause for which it would have refused them.";
        broken: Counter "postern_responses_broken_total" ["by": ["client", "origin", "time_limit", "key", "gateway"]]
            "Truncated responses, by the side that broke off.";
        secret_leaked: Counter "postern_secret_leaked_total"
            "Responses in which the origin echoed the shared secret, which was removed.";
        connections: Counter "postern_connections_total"
            "Connections of clients, after their handshake.";
        open_connections: Gauge "postern_open_connections"
            "Open connections of clients.";
        open_streams: Gauge "postern_open_streams" ["kind": StreamKind::NAMES]
            "Open upgraded connections and event streams.";
    }
}

counts! {
    /// Counters of one worker and route.
    RouteCounts {
        requests: Counter "postern_requests_total" ["status": ["1xx", "2xx", "3xx", "4xx", "5xx"]]
            "Requests by route (empty where none was found) and class of the status; 499, the client left first, is 4xx.";
        bytes_in: Counter "postern_request_bytes_total"
            "Bytes of request bodies that were read.";
        bytes_out: Counter "postern_response_bytes_total"
            "Bytes of response bodies that were sent.";
        took: Histogram "postern_request_duration_seconds" ["le": BUCKETS]
            "From a request's head to the end of its response; without upgrades and event streams.";
        waited: Histogram "postern_origin_duration_seconds" ["le": BUCKETS]
            "From sending a request to the head of the origin's answer, retries included.";
    }
}

/// Counters of a route with its name.
type Named = (Arc<str>, Arc<RouteCounts>);

/// Counters of all workers.
#[derive(Debug)]
pub struct Metrics {
    started_at: SystemTime,
    /// Grows when a worker starts or first serves a route. A scrape blocks nobody.
    workers: ArcSwap<Vec<Arc<WorkerCounts>>>,
    routes: ArcSwap<Vec<Named>>,
    /// Counters of whoever is no worker; the lock makes it a single one that adds.
    beside: Mutex<Arc<WorkerCounts>>,
}

/// Counting handle of one worker; not `Send`.
#[derive(Clone, Debug)]
pub struct WorkerMetrics(Rc<Worker>);

#[derive(Debug)]
struct Worker {
    all: Arc<Metrics>,
    counts: Arc<WorkerCounts>,
    /// Routes that the worker has served, by name.
    routes: RefCell<HashTable<Named>>,
}

/// Open connection or stream; dropping it ends the count. Stays on the worker's thread.
#[derive(Debug)]
pub struct Open {
    worker: WorkerMetrics,
    stream: Option<StreamKind>,
}

impl Metrics {
    /// Creates the counters, all zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let beside = Arc::new(WorkerCounts::new());
        Arc::new(Self {
            started_at: SystemTime::now(),
            workers: ArcSwap::from_pointee(vec![Arc::clone(&beside)]),
            routes: ArcSwap::default(),
            beside: Mutex::new(beside),
        })
    }

    /// Writes the metrics.
    pub fn write(&self, page: &mut Page) {
        let routes = self.routes.load();
        let mut by_name = BTreeMap::<&str, Vec<&RouteCounts>>::new();
        for (name, counts) in routes.iter() {
            by_name.entry(name).or_default().push(counts);
        }
        let by_name: Vec<_> = by_name
            .into_iter()
            .map(|(name, counts)| (Some(("route", name)), counts))
            .collect();
        RouteCounts::write(page, &by_name);
        let workers = self.workers.load();
        WorkerCounts::write(
            page,
            &[(None, workers.iter().map(|worker| &**worker).collect())],
        );
        let started = self
            .started_at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        process::write(page, started.as_secs_f64());
    }

    /// Counts beside the workers, such as for the admin API.
    pub(crate) fn beside(&self, count: impl FnOnce(&WorkerCounts)) {
        count(&self.beside.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn route(&self, name: Arc<str>) -> Named {
        let route = (name, Arc::new(RouteCounts::new()));
        grow(&self.routes, &route);
        route
    }
}

/// Appends to a list that other threads read and append to.
fn grow<T: Clone>(list: &ArcSwap<Vec<T>>, more: &T) {
    list.rcu(|list| list.iter().chain([more]).cloned().collect::<Vec<_>>());
}

impl WorkerMetrics {
    /// Creates the counters of a worker. A route is added when the worker first serves it: there
    /// may be thousands.
    #[must_use]
    pub fn new(all: &Arc<Metrics>) -> Self {
        let counts = Arc::new(WorkerCounts::new());
        grow(&all.workers, &counts);
        let worker = Self(Rc::new(Worker {
            all: Arc::clone(all),
            counts,
            routes: RefCell::default(),
        }));
        // Requests without a route, so that no family is missing.
        worker.on_route("", |_| {});
        worker
    }

    /// Counters of the worker that no route has.
    pub(crate) fn counts(&self) -> &WorkerCounts {
        &self.0.counts
    }

    /// Counts an ended request.
    pub fn ended(&self, entry: &Entry<'_>, stream: bool) {
        self.refused(entry);
        if let Some((_, cause)) = entry.would_refuse {
            self.counts().would_refuse.count(cause);
        }
        let broken_by = match entry.ending {
            Ending::Complete => None,
            Ending::ClientGone => Some("client"),
            Ending::OriginTruncated => Some("origin"),
            Ending::TimeLimit => Some("time_limit"),
            Ending::KeyEnded => Some("key"),
            Ending::Panicked => Some("gateway"),
        };
        if let Some(by) = broken_by {
            self.counts().broken.count(by);
        }
        self.on_route(entry.route.unwrap_or_default(), |route| {
            route.count(entry.status);
            route.bytes_in.add(entry.bytes_in);
            route.bytes_out.add(entry.bytes_out);
            if !stream {
                route.took.observe(entry.duration);
            }
            if let Some(wait) = entry.origin_wait {
                route.waited.observe(wait);
            }
        });
    }

    /// Counts a client that was refused before a request existed: with a status, without a
    /// duration.
    pub fn unread(&self, entry: &Entry<'_>) {
        self.refused(entry);
        self.on_route("", |route| route.count(entry.status));
    }

    fn refused(&self, entry: &Entry<'_>) {
        if let Some(code) = entry.code {
            let is_ours = Refusal::CODES.contains(&code);
            let label = if is_ours { code } else { Refusal::OWN_CODE };
            self.counts().refusals.count(label);
            self.counts().causes.count(entry.cause.unwrap_or_default());
        }
    }

    /// Counts a connection as open until the return value is dropped.
    #[must_use]
    pub fn connection(&self) -> Open {
        self.counts().connections.add(1);
        Open::new(self.clone(), None)
    }

    /// Counts a stream as open until the return value is dropped.
    #[must_use]
    pub fn stream(&self, kind: StreamKind) -> Open {
        Open::new(self.clone(), Some(kind))
    }

    fn on_route(&self, name: &str, count: impl FnOnce(&RouteCounts)) {
        let mut routes = self.0.routes.borrow_mut();
        let entry = routes.entry(
            fnv(name.bytes()),
            |(known, _)| **known == *name,
            |(known, _)| fnv(known.bytes()),
        );
        let entry = entry.or_insert_with(|| self.0.all.route(name.into()));
        count(&entry.get().1);
    }
}

impl Open {
    fn new(worker: WorkerMetrics, stream: Option<StreamKind>) -> Self {
        match stream {
            None => worker.counts().open_connections.add(1),
            Some(kind) => worker.counts().open_streams.add_at(kind as usize, 1),
        }
        Self { worker, stream }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let counts = self.worker.counts();
        match self.stream {
            None => counts.open_connections.take_at(0, 1),
            Some(kind) => counts.open_streams.take_at(kind as usize, 1),
        }
    }
}

impl RouteCounts {
    /// Counts a request by its status class.
    fn count(&self, status: u16) {
        self.requests
            .add_at(usize::from(status / 100).wrapping_sub(1), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access_log::tests::ended_as;

    #[test]
    fn every_response_that_breaks_is_counted_by_a_side() {
        let metrics = Metrics::new();
        let worker = WorkerMetrics::new(&metrics);
        let endings = [
            (Ending::ClientGone, "client"),
            (Ending::OriginTruncated, "origin"),
            (Ending::TimeLimit, "time_limit"),
            (Ending::KeyEnded, "key"),
            (Ending::Panicked, "gateway"),
        ];
        for (ending, by) in endings {
            worker.ended(&ended_as(ending), false);
            let mut page = Page::default();
            metrics.write(&mut page);
            let sample = format!("postern_responses_broken_total{{by=\"{by}\"}} 1\n");
            assert!(page.finish().contains(&sample), "{ending:?}");
        }
    }
}
