//! The record of one request. Dropping the [`Exchange`] writes it, however the request ended.

mod admission;
pub mod body;
mod ending;
pub mod observed;

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::Request;
use actix_http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::{Caller, Proven};
use crate::front::client_stream::{ClientControl, ClientFault};
use crate::http::client_address::ClientAddress;
use crate::http::cors::{Cors, CorsAnswer};
use crate::http::rate_limit_fields::Told;
use crate::http::request_id::RequestId;
use crate::http::shown_path::ShownPath;
use crate::keys::{KnownKey, UnixMillis};
use crate::limits::concurrency::Held;
use crate::limits::quota::Reserved;
use crate::limits::{Charge, Standing};
use crate::panics::Panicked;
use crate::pipeline::arrival::Arrival;
use crate::pipeline::in_flight::Permit;
use crate::pipeline::open_streams::Watch;
use crate::pipeline::record::observed::Observed;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::body::BodyProgress;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::upstream::attempts::FailedAttempt;
use crate::routes::Route;
use crate::telemetry::access_log::{AccessLog, Ending};
use crate::telemetry::metrics::Open;
use crate::telemetry::tally::{BodyBytes, Tally};
use crate::wire::clock::now;

/// Logged status of a client that left before the response (nginx's number); never sent.
const CLIENT_LEFT: u16 = 499;

/// One request and its response, from the head to the last byte.
pub struct Exchange {
    log: AccessLog,
    tally: Tally,
    arrival: Arrival,
    route: Option<Arc<Route>>,
    host: Option<HeaderValue>,
    /// Holder of the presented credential.
    proven: Option<Proven>,
    /// Number of the place that the credential came from, among those of the route.
    key_place: Option<usize>,
    body: Option<Rc<BodyProgress>>,
    code: Option<&'static str>,
    cause: Option<Cow<'static, str>>,
    waits_since: Option<Instant>,
    origin_wait: Option<Duration>,
    status: u16,
    bytes_out: u64,
    ending: Ending,
    permit: Option<Permit>,
    watch: Option<Watch>,
    charge: Option<Charge>,
    held: Option<Held>,
    reserved: Option<Reserved>,
    /// Whether the client's body ended the request while it was forwarded.
    broke_off: bool,
    page: Option<Box<CorsAnswer>>,
    resource_metadata: Option<Box<str>>,
    told: Told,
    limit: Option<Arc<str>>,
    shadow_limit: Option<Arc<str>>,
    // A pointer: only routes that observe have any.
    observed: Option<Box<Observed>>,
    stream: Option<Open>,
    counted: BodyBytes,
    /// What rules of one's own set for the origin.
    own_headers: Vec<(HeaderName, HeaderValue)>,
}

impl Exchange {
    /// Starts the record of a request whose head has arrived. Boxed, because it moves from stage to
    /// stage and into the response body.
    #[must_use]
    pub fn begin(
        worker: &Worker,
        policy: &Policy,
        request: &Request,
        client: Option<&Rc<ClientControl>>,
    ) -> Box<Self> {
        let arrival = Arrival::of(request, worker, policy, client);
        Self::of(arrival, worker.access_log(policy), worker.tally.clone())
    }

    /// Starts the record of a malformed request.
    #[must_use]
    pub fn malformed(worker: &Worker, policy: &Policy, client: &ClientControl) -> Box<Self> {
        let arrival = Arrival::malformed(client, worker);
        Self::of(arrival, worker.access_log(policy), worker.tally.clone())
    }

    fn of(arrival: Arrival, log: AccessLog, tally: Tally) -> Box<Self> {
        Box::new(Self {
            log,
            tally,
            arrival,
            route: None,
            host: None,
            proven: None,
            key_place: None,
            body: None,
            code: None,
            cause: None,
            waits_since: None,
            origin_wait: None,
            status: CLIENT_LEFT,
            bytes_out: 0,
            ending: Ending::ClientGone,
            permit: None,
            watch: None,
            charge: None,
            held: None,
            reserved: None,
            broke_off: false,
            page: None,
            resource_metadata: None,
            told: Told::default(),
            limit: None,
            shadow_limit: None,
            observed: None,
            stream: None,
            counted: BodyBytes::default(),
            own_headers: Vec::new(),
        })
    }

    /// Path as logs may show it.
    #[must_use]
    pub fn path(&self) -> &ShownPath {
        &self.arrival.path
    }

    /// Shows the path: the key in the URL stands in a part that is never shown.
    pub fn show_path(&mut self, path: ShownPath) {
        self.arrival.path = path;
    }

    /// Arrival time.
    #[must_use]
    pub fn at(&self) -> UnixMillis {
        self.arrival.at
    }

    /// Method of the request.
    #[must_use]
    pub fn method(&self) -> &actix_http::Method {
        &self.arrival.method
    }

    /// Request id.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.arrival.request_id
    }

    /// Client and peer address.
    #[must_use]
    pub fn address(&self) -> ClientAddress {
        self.arrival.address
    }

    /// Guarded stream of the connection.
    #[must_use]
    pub fn client(&self) -> Option<Rc<ClientControl>> {
        self.arrival.client.clone()
    }

    /// Fault that the guarded stream found in the client's bytes.
    #[must_use]
    pub fn client_fault(&self) -> Option<ClientFault> {
        self.arrival
            .client
            .as_ref()
            .and_then(|client| client.fault())
    }

    /// Keeps the in-flight permit until the response ends.
    pub fn hold_permit(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Charges the request to the share of its caller until it ends. Returns whether there was
    /// room.
    #[must_use]
    pub fn charge(&mut self, caller: &Caller) -> bool {
        let bits = match caller {
            Caller::Key(_) | Caller::Token(_) => caller.bits(),
            // On a route that observes, their share would refuse those without a key.
            Caller::Anonymous if self.observed.is_some() => return true,
            Caller::Anonymous => None,
        };
        self.permit
            .as_mut()
            .is_none_or(|permit| permit.charge(bits))
    }

    /// Remembers what the request took of its limits.
    pub fn set_charge(&mut self, charge: Option<Charge>) {
        self.charge = charge;
    }

    /// Remembers what the limits said: what the caller is told, and which of them denied the
    /// request or would have.
    pub fn set_limits(&mut self, told: Told, limit: Option<Arc<str>>, shadow: Option<Arc<str>>) {
        self.told = told;
        self.limit = limit;
        self.shadow_limit = shadow;
    }

    /// Has the caller told of these `standings` alone.
    pub fn tell_only(&mut self, standings: [Option<Standing>; 2]) {
        self.told.standings = standings;
    }

    /// Adds `standings` to what the caller is told, where less is left of them.
    pub fn tell_also(&mut self, standings: [Option<Standing>; 2]) {
        for standing in standings.into_iter().flatten() {
            let (name, left) = (Arc::clone(&standing.name), standing.remaining);
            Standing::note(&mut self.told.standings, &name, left, || standing);
        }
    }

    /// What the caller is told of its limits and quotas.
    #[must_use]
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Remembers what rules of one's own set for the origin.
    pub fn set_own_headers(&mut self, lines: Vec<(HeaderName, HeaderValue)>) {
        self.own_headers = lines;
    }

    /// What rules of one's own set for the origin.
    #[must_use]
    pub fn own_headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.own_headers
    }

    /// Forgets what the request took of its limits, and returns it.
    pub fn take_charge(&mut self) -> Option<Charge> {
        self.charge.take()
    }

    /// Answers a page as `cors` says, if the request comes from one.
    pub fn answer_page(&mut self, cors: Option<&Arc<Cors>>, headers: &HeaderMap) {
        self.page = cors.map(|cors| Box::new(cors.answer(headers)));
    }

    /// Names the metadata of the resource in a challenge.
    pub fn set_resource_metadata(&mut self, url: Option<Box<str>>) {
        self.resource_metadata = url;
    }

    /// Answers a page so.
    pub fn set_page(&mut self, answer: CorsAnswer) {
        self.page = Some(Box::new(answer));
    }

    /// Records the route, and the host that led there.
    pub fn set_route(&mut self, route: &Arc<Route>, host: Option<&HeaderValue>) {
        self.route = Some(Arc::clone(route));
        self.host = host.cloned();
    }

    /// Records the holder of the presented credential, admitted or not.
    pub fn set_proven(&mut self, proven: &Proven) {
        self.proven = Some(proven.clone());
    }

    /// Whether the holder of a credential is known.
    #[must_use]
    pub fn has_proven(&self) -> bool {
        self.proven.is_some()
    }

    /// Forgets the holder of the presented credential, which proves nothing, and returns it.
    pub fn take_proven(&mut self) -> Option<Proven> {
        self.proven.take()
    }

    /// Records what would have become of the request on a route that does not observe.
    pub fn set_observed(&mut self, observed: Observed) {
        self.observed = Some(Box::new(observed));
    }

    /// What would have become of the request on a route that does not observe, if it has no good
    /// credential.
    #[must_use]
    pub fn observed(&self) -> Option<&Observed> {
        self.observed.as_deref()
    }

    /// Whether the credential of the request is none of ours and reaches the origin.
    #[must_use]
    pub fn passes_credential(&self) -> bool {
        self.observed
            .as_ref()
            .is_some_and(|observed| !observed.is_ours)
    }

    /// Records which place of the route the credential came from.
    pub fn set_key_place(&mut self, place: Option<usize>) {
        self.key_place = place;
    }

    /// Keeps the counts of the limits on requests in flight until the response ends.
    pub fn hold(&mut self, held: Option<Held>) {
        self.held = held;
    }

    /// Keeps what was reserved of quotas, until the request has ended.
    pub fn reserve(&mut self, reserved: Option<Reserved>) {
        self.reserved = reserved;
    }

    /// The presented key, valid or not.
    #[must_use]
    pub fn key(&self) -> Option<&KnownKey> {
        match &self.proven {
            Some(Proven::Key(key)) => Some(key),
            Some(Proven::Token(_)) | None => None,
        }
    }

    /// Tracks the request body, which is about to be read.
    pub fn track_body(&mut self, progress: Rc<BodyProgress>) {
        self.body = Some(progress);
    }

    /// Starts the measurement of the origin's response time.
    pub fn begin_origin_wait(&mut self) {
        self.waits_since = Some(now().into_std());
    }

    /// Records the origin's response time.
    pub fn end_origin_wait(&mut self, wait: Duration) {
        self.origin_wait = Some(wait);
    }

    /// Records a failed forward; counts the wait if it was for the origin.
    pub fn fail_origin_wait(&mut self, failure: &Failure) {
        if failure.counts_against_target() {
            self.origin_wait = self.failed_origin_wait();
        } else {
            self.broke_off = matches!(failure, Failure::ClientBody(_));
            self.waits_since = None;
        }
    }

    /// Drops the record without a log line or a count: the same request returns with its body.
    pub fn discard(mut self) {
        self.log = AccessLog::off();
        self.tally = Tally::off();
    }

    /// Suppresses the log line; the request still counts.
    pub fn skip_log(&mut self) {
        self.log = AccessLog::off();
    }

    /// Logs failed attempts, even when a later one succeeded.
    pub fn log_attempts(&self, route: &Route, attempts: &[FailedAttempt]) {
        for attempt in attempts {
            self.warn(route, attempt);
        }
    }

    /// Logs why forwarding failed. Failures that any client can cause appear in the access log
    /// only.
    pub fn log_failure(&self, route: &Route, failed: &Failed) {
        self.log_attempts(route, &failed.attempts);
        let cause = failed.failure.cause();
        let last = failed.attempts.last();
        // Failed attempts are logged already; a response that cannot be passed on is not.
        if !matches!(failed.failure, Failure::ClientBody(_))
            && last.is_none_or(|last| !last.is_because(&cause))
        {
            self.warn(route, &cause);
        }
    }

    fn warn(&self, route: &Route, what: &dyn fmt::Display) {
        log::warn!(
            "request {} for {:?}: route {:?}, upstream {:?}: {what}",
            self.arrival.request_id.as_str(),
            self.arrival.path.in_log(),
            route.name,
            route.upstream.name(),
        );
    }

    /// Logs a panic while serving and returns its refusal.
    #[must_use]
    pub fn panicked(&self, panicked: &Panicked) -> Refused {
        log::error!(
            "request {} for {:?} ended in {panicked}",
            self.arrival.request_id.as_str(),
            self.arrival.path.in_log()
        );
        Refused::panicked(panicked)
    }

    fn body_bytes(&self) -> BodyBytes {
        BodyBytes {
            read: self.body.as_ref().map_or(0, |body| body.bytes()),
            sent: self.bytes_out,
        }
    }

    /// Counts the bytes of a long response so far: a stream of days must not be counted only at its
    /// end.
    fn count_progress(&mut self) {
        let now = self.body_bytes();
        let key = self.key().map(|key| *key.id());
        if let (Some(key), true) = (key, now.exceed_threshold(self.counted)) {
            self.tally.count_progress(key, now, self.counted);
            self.counted = now;
        }
    }
}

#[cfg(test)]
mod tests;
