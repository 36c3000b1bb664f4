//! What is counted of the requests, for `/metrics`.
//!
//! Each worker counts in memory that no other thread writes; a scrape adds the workers up. Labels are of bounded sets only:
//! routes as they are configured, the refusal table, and closed lists. None is ever a path, a key, a consumer or an address
//! of a client.

pub(crate) mod number;
pub mod process;
pub mod text;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use crate::auth::cause::Cause;
use crate::front::client_stream::ClientFault;
use crate::http::refusal::Refusal;
use crate::telemetry::access_log::{Ending, Entry};
use crate::telemetry::metrics::number::{Counter, Gauge, Histogram, Observed};
use crate::telemetry::metrics::text::{Kind, Page};

/// The first digits of statuses, as they are written.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// A response that stays open on purpose, so that its duration says nothing of how fast the origin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// What began with `101 Switching Protocols`, such as a WebSocket.
    Upgrade,
    /// Server-sent events.
    EventStream,
}

impl StreamKind {
    const ALL: [Self; 2] = [Self::Upgrade, Self::EventStream];

    fn as_str(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::EventStream => "event_stream",
        }
    }
}

/// The counts of all workers.
#[derive(Debug)]
pub struct Metrics {
    started_at: SystemTime,
    /// Grown when a worker begins, or meets a route for the first time. Nobody waits for a scrape.
    workers: ArcSwap<Vec<Arc<WorkerCounts>>>,
    routes: ArcSwap<Vec<Arc<RouteCounts>>>,
}

/// The counts of one worker. They stay when it ends.
#[derive(Debug)]
#[repr(align(64))]
struct WorkerCounts {
    refusals: [Counter; Refusal::CODES.len()],
    faults: [Counter; ClientFault::NAMES.len()],
    causes: [Counter; Cause::NAMES.len()],
    client_gone: Counter,
    origin_truncated: Counter,
    time_limit: Counter,
    key_ended: Counter,
    panicked: Counter,
    secret_leaked: Counter,
    open_connections: Gauge,
    connections: Counter,
    open_streams: [Gauge; StreamKind::ALL.len()],
}

/// The counts of one worker and route.
#[derive(Debug)]
#[repr(align(64))]
struct RouteCounts {
    route: Arc<str>,
    requests: [Counter; CLASSES.len()],
    took: Histogram,
    waited: Histogram,
    bytes_in: Counter,
    bytes_out: Counter,
}

/// What one worker counts with; not for another thread.
#[derive(Clone, Debug)]
pub struct WorkerMetrics(Rc<Worker>);

#[derive(Debug)]
struct Worker {
    all: Arc<Metrics>,
    counts: Arc<WorkerCounts>,
    /// Beside their names, which are the routes' own.
    routes: RefCell<Vec<(Arc<str>, Arc<RouteCounts>)>>,
}

/// A connection, or a stream, that is open until this is dropped. On the worker's own thread.
#[derive(Debug)]
pub struct Open {
    worker: WorkerMetrics,
    stream: Option<StreamKind>,
}

impl Metrics {
    /// Nothing is counted yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started_at: SystemTime::now(),
            workers: ArcSwap::default(),
            routes: ArcSwap::default(),
        })
    }

    /// Writes what was counted.
    pub fn write(&self, page: &mut Page) {
        self.write_routes(page);
        self.write_workers(page);
        let started = self
            .started_at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        process::write(page, started.as_secs_f64());
    }

    fn write_routes(&self, page: &mut Page) {
        let mut routes = BTreeMap::<Arc<str>, RouteSum>::new();
        for counts in self.routes.load().iter() {
            routes
                .entry(Arc::clone(&counts.route))
                .or_default()
                .add(counts);
        }
        let mut requests = page.family(
            "postern_requests_total",
            Kind::Counter,
            "Requests by route (empty where none was found) and class of the status; 499, the client left first, is 4xx.",
        );
        for (route, sum) in &routes {
            for (class, count) in CLASSES.iter().zip(sum.requests) {
                requests.sample(&[("route", route), ("status", class)], count);
            }
        }
        let mut bytes_in = page.family(
            "postern_request_bytes_total",
            Kind::Counter,
            "Bytes of request bodies that were read.",
        );
        for (route, sum) in &routes {
            bytes_in.sample(&[("route", route)], sum.bytes_in);
        }
        let mut bytes_out = page.family(
            "postern_response_bytes_total",
            Kind::Counter,
            "Bytes of response bodies that were sent.",
        );
        for (route, sum) in &routes {
            bytes_out.sample(&[("route", route)], sum.bytes_out);
        }
        let mut took = page.family(
            "postern_request_duration_seconds",
            Kind::Histogram,
            "From a request's head to the end of its response; without upgrades and event streams.",
        );
        for (route, sum) in &routes {
            took.histogram(&[("route", route)], &sum.took);
        }
        let mut waited = page.family(
            "postern_origin_duration_seconds",
            Kind::Histogram,
            "From sending a request to the head of the origin's answer, retries included.",
        );
        for (route, sum) in &routes {
            waited.histogram(&[("route", route)], &sum.waited);
        }
    }

    fn write_workers(&self, page: &mut Page) {
        let workers = self.workers.load();
        let sum = |count: &dyn Fn(&WorkerCounts) -> u64| {
            workers.iter().map(|worker| count(worker)).sum::<u64>()
        };
        let level = |gauge: &dyn Fn(&WorkerCounts) -> i64| {
            workers.iter().map(|worker| gauge(worker)).sum::<i64>()
        };
        let mut refusals = page.family(
            "postern_refusals_total",
            Kind::Counter,
            "Answers in the origin's place, by code.",
        );
        for (index, code) in Refusal::CODES.iter().enumerate() {
            refusals.sample(
                &[("code", code)],
                sum(&|worker| worker.refusals.get(index).map_or(0, Counter::value)),
            );
        }
        let mut faults = page.family(
            "postern_client_faults_total",
            Kind::Counter,
            "Connections that were ended for what the client sent or did not take, by the first fault.",
        );
        for (index, fault) in ClientFault::NAMES.iter().enumerate() {
            faults.sample(
                &[("fault", fault)],
                sum(&|worker| worker.faults.get(index).map_or(0, Counter::value)),
            );
        }
        let mut causes = page.family(
            "postern_credentials_refused_total",
            Kind::Counter,
            "Requests whose credential was refused, by the cause in the access log.",
        );
        for (index, cause) in Cause::NAMES.iter().enumerate() {
            causes.sample(
                &[("cause", cause)],
                sum(&|worker| worker.causes.get(index).map_or(0, Counter::value)),
            );
        }
        let mut broken = page.family(
            "postern_responses_broken_total",
            Kind::Counter,
            "Responses that did not reach their end, by the side that broke off.",
        );
        broken.sample(
            &[("by", "client")],
            sum(&|worker| worker.client_gone.value()),
        );
        broken.sample(
            &[("by", "origin")],
            sum(&|worker| worker.origin_truncated.value()),
        );
        broken.sample(
            &[("by", "time_limit")],
            sum(&|worker| worker.time_limit.value()),
        );
        broken.sample(&[("by", "key")], sum(&|worker| worker.key_ended.value()));
        broken.sample(&[("by", "gateway")], sum(&|worker| worker.panicked.value()));
        page.single(
            "postern_secret_leaked_total",
            Kind::Counter,
            "Answers in which the origin sent the shared secret back; it was removed.",
            sum(&|worker| worker.secret_leaked.value()),
        );
        let accepted = sum(&|worker| worker.connections.value());
        page.single(
            "postern_connections_total",
            Kind::Counter,
            "Connections of clients, after their handshake.",
            accepted,
        );
        let open = level(&|worker| worker.open_connections.value());
        page.single(
            "postern_open_connections",
            Kind::Gauge,
            "Connections of clients that are open.",
            open,
        );
        let mut streams = page.family(
            "postern_open_streams",
            Kind::Gauge,
            "Upgraded connections and event streams that are open.",
        );
        for (index, kind) in StreamKind::ALL.iter().enumerate() {
            let open = level(&|worker| worker.open_streams.get(index).map_or(0, Gauge::value));
            streams.sample(&[("kind", kind.as_str())], open);
        }
    }

    fn route(&self, route: &Arc<str>) -> Arc<RouteCounts> {
        let counts = Arc::new(RouteCounts::new(Arc::clone(route)));
        grow(&self.routes, &counts);
        counts
    }
}

/// Adds to a list that others read and add to at the same time.
fn grow<T>(list: &ArcSwap<Vec<Arc<T>>>, more: &Arc<T>) {
    list.rcu(|list| list.iter().chain([more]).cloned().collect::<Vec<_>>());
}

impl WorkerMetrics {
    /// The counts of a new worker, which begins with these routes at 0; others are added when they are met.
    #[must_use]
    pub fn new(all: &Arc<Metrics>, routes: impl IntoIterator<Item = Arc<str>>) -> Self {
        let counts = Arc::new(WorkerCounts::new());
        grow(&all.workers, &counts);
        let routes = routes
            .into_iter()
            .chain(["".into()])
            .map(|route| (Arc::clone(&route), all.route(&route)))
            .collect();
        Self(Rc::new(Worker {
            all: Arc::clone(all),
            counts,
            routes: RefCell::new(routes),
        }))
    }

    /// Counts a request that has ended.
    pub fn ended(&self, entry: &Entry<'_>, stream: bool) {
        let counts = &self.0.counts;
        self.refused(entry);
        match entry.ending {
            Ending::Complete => {}
            Ending::ClientGone => counts.client_gone.add(1),
            Ending::OriginTruncated => counts.origin_truncated.add(1),
            Ending::TimeLimit => counts.time_limit.add(1),
            Ending::KeyEnded => counts.key_ended.add(1),
            Ending::Panicked => counts.panicked.add(1),
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

    /// Counts a client that was refused before there was a request: it has a status and took no time.
    pub fn unread(&self, entry: &Entry<'_>) {
        self.refused(entry);
        self.on_route("", |route| route.count(entry.status));
    }

    fn refused(&self, entry: &Entry<'_>) {
        let Some(code) = entry.code else { return };
        let counts = &self.0.counts;
        let refusal = Refusal::CODES.iter().position(|known| *known == code);
        if let Some(count) = refusal.and_then(|refusal| counts.refusals.get(refusal)) {
            count.add(1);
        }
        let cause = entry
            .cause
            .and_then(|cause| Cause::NAMES.iter().position(|known| *known == cause));
        if let Some(count) = cause.and_then(|cause| counts.causes.get(cause)) {
            count.add(1);
        }
    }

    /// Counts an answer in which the origin sent the shared secret back.
    pub fn secret_leaked(&self) {
        self.0.counts.secret_leaked.add(1);
    }

    /// Counts a connection that is ended for a fault.
    pub fn fault(&self, fault: ClientFault) {
        let index = ClientFault::NAMES
            .iter()
            .position(|name| *name == fault.name());
        if let Some(count) = index.and_then(|index| self.0.counts.faults.get(index)) {
            count.add(1);
        }
    }

    /// Counts a connection as open until what is returned is dropped.
    #[must_use]
    pub fn connection(&self) -> Open {
        self.0.counts.connections.add(1);
        Open::new(self.clone(), None)
    }

    /// Counts a stream as open until what is returned is dropped.
    #[must_use]
    pub fn stream(&self, kind: StreamKind) -> Open {
        Open::new(self.clone(), Some(kind))
    }

    fn on_route(&self, name: &str, count: impl FnOnce(&RouteCounts)) {
        let mut routes = self.0.routes.borrow_mut();
        // By the place of its name first: there are few routes, and texts need not be compared.
        let known = routes.iter().position(|(known, _)| {
            std::ptr::eq(known.as_ptr(), name.as_ptr()) && known.len() == name.len()
        });
        let known = known.or_else(|| routes.iter().position(|(known, _)| **known == *name));
        if let Some((_, counts)) = known.and_then(|known| routes.get(known)) {
            return count(counts);
        }
        let name: Arc<str> = name.into();
        let counts = self.0.all.route(&name);
        count(&counts);
        routes.push((name, counts));
    }
}

impl Open {
    fn new(worker: WorkerMetrics, stream: Option<StreamKind>) -> Self {
        let open = Self { worker, stream };
        open.change(1);
        open
    }

    fn change(&self, by: i64) {
        let counts = &self.worker.0.counts;
        match self.stream {
            None => counts.open_connections.change(by),
            Some(kind) => {
                if let Some(open) = counts.open_streams.get(kind as usize) {
                    open.change(by);
                }
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.change(-1);
    }
}

impl WorkerCounts {
    fn new() -> Self {
        Self {
            refusals: std::array::from_fn(|_| Counter::default()),
            faults: Default::default(),
            causes: Default::default(),
            client_gone: Counter::default(),
            origin_truncated: Counter::default(),
            time_limit: Counter::default(),
            key_ended: Counter::default(),
            panicked: Counter::default(),
            secret_leaked: Counter::default(),
            open_connections: Gauge::default(),
            connections: Counter::default(),
            open_streams: Default::default(),
        }
    }
}

impl RouteCounts {
    fn count(&self, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(class) = self.requests.get(class) {
            class.add(1);
        }
    }

    fn new(route: Arc<str>) -> Self {
        Self {
            route,
            requests: Default::default(),
            took: Histogram::default(),
            waited: Histogram::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
        }
    }
}

/// What the workers counted of one route.
#[derive(Default)]
struct RouteSum {
    requests: [u64; CLASSES.len()],
    took: Observed,
    waited: Observed,
    bytes_in: u64,
    bytes_out: u64,
}

impl RouteSum {
    fn add(&mut self, counts: &RouteCounts) {
        for (sum, count) in self.requests.iter_mut().zip(&counts.requests) {
            *sum += count.value();
        }
        counts.took.add_to(&mut self.took);
        counts.waited.add_to(&mut self.waited);
        self.bytes_in += counts.bytes_in.value();
        self.bytes_out += counts.bytes_out.value();
    }
}
