//! The record of one request. Dropping the [`Exchange`] writes it, however the request ended.

pub mod body;
pub mod observed;

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_http::{Request, ResponseHead};
use pin_project_lite::pin_project;

use crate::auth::key_source::KeySource;
use crate::auth::{Caller, Proven};
use crate::front::client_stream::{ClientControl, ClientFault};
use crate::http::client_address::ClientAddress;
use crate::http::cors::{Cors, CorsAnswer};
use crate::http::rate_limit_fields::Told;
use crate::http::refusal::Refusal;
use crate::http::request_id::RequestId;
use crate::http::shown_path::ShownPath;
use crate::keys::{ConsumerId, KnownKey, UnixMillis};
use crate::limits::concurrency::Held;
use crate::limits::quota::{Counted, Outcome, Reserved};
use crate::limits::{Charge, Standing};
use crate::panics::Panicked;
use crate::pipeline::arrival::Arrival;
use crate::pipeline::in_flight::Permit;
use crate::pipeline::open_streams::{
    Admission, Admitted, Generation, OpenStreams, Routing, Watch, Withdrawal,
};
use crate::pipeline::record::observed::Observed;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::body::BodyProgress;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::upstream::attempts::FailedAttempt;
use crate::routes::Route;
use crate::telemetry::access_log::{AccessLog, Ending, Entry};
use crate::telemetry::metrics::Open;
use crate::telemetry::tally::{BodyBytes, Tally};
use crate::wire::clock::{now, since};

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

    /// How the request ended, for quotas.
    fn outcome(&self) -> Outcome {
        match (self.status, self.code) {
            _ if self.broke_off => Outcome::ClientLeft,
            // After it was sent, or while it was.
            (CLIENT_LEFT, None) if self.waits_since.is_some() => Outcome::ClientLeft,
            (CLIENT_LEFT, _) | (_, Some(_)) => Outcome::NotAnswered,
            (status, None) => Outcome::Answered(status),
        }
    }

    /// The presented key, valid or not.
    #[must_use]
    pub fn key(&self) -> Option<&KnownKey> {
        match &self.proven {
            Some(Proven::Key(key)) => Some(key),
            Some(Proven::Token(_)) | None => None,
        }
    }

    /// Ends the request once its caller is no longer admitted; `since` is the generation of
    /// `streams` before authentication.
    pub fn watch(&mut self, streams: &Rc<OpenStreams>, since: Generation) {
        self.watch = Some(Watch::new(streams, since));
    }

    /// Counts the response as a stream if it is one by its head.
    pub fn note_stream(&mut self, response: &ResponseHead) {
        self.stream = self.tally.stream(response);
    }

    /// Makes the request a stream, which new settings may end.
    fn follow_routes(&mut self) {
        let host = self.host.as_ref().and_then(|host| host.to_str().ok());
        let routing = Routing {
            method: self.arrival.method.clone(),
            host: host.unwrap_or_default().to_owned(),
            path: self.arrival.path.to_route().to_owned(),
            key_source: self.key_source(),
        };
        if let Some(watch) = &mut self.watch {
            watch.follow(routing);
        }
    }

    /// The place that the credential came from.
    fn key_source(&self) -> Option<KeySource> {
        let sources = self.route.as_ref()?.key_sources.as_slice();
        sources.get(self.key_place?).cloned()
    }

    /// Runs `future` until it completes or the admission of the caller is withdrawn.
    ///
    /// # Errors
    /// Why the admission was withdrawn; the future is dropped.
    pub fn while_admitted<F: Future>(&mut self, future: F) -> WhileAdmitted<'_, F> {
        WhileAdmitted {
            exchange: self,
            future,
        }
    }

    /// Returns why the admission was withdrawn. While it stands, the task is woken once it is not.
    fn withdrawn(&mut self, cx: &Context<'_>) -> Option<Withdrawal> {
        let (watch, route) = (self.watch.as_mut()?, self.route.as_ref()?);
        let proven = self.proven.as_ref();
        // Nothing but new settings ends an anonymous request, and these end streams only.
        if proven.is_none() && self.stream.is_none() {
            return None;
        }
        let observed = self.observed.as_deref();
        let admission = || Admission {
            caller: match proven.or_else(|| observed?.proven.as_ref()) {
                Some(Proven::Key(key)) => Admitted::Key(*key.digest()),
                Some(Proven::Token(holder)) => Admitted::Token(Arc::clone(holder.token())),
                None => Admitted::Anonymous,
            },
            observed: observed.map(|observed| observed.denial),
            address: self.arrival.address.client,
            method: self.arrival.method.clone(),
            route: Arc::clone(route),
            routing: None,
        };
        watch.withdrawn(admission, cx.waker())
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

    /// Time spent waiting for the origin without an answer; `None` where the client was waited for.
    fn failed_origin_wait(&self) -> Option<Duration> {
        let is_sent = self.body.as_ref().is_none_or(|body| body.ended());
        self.waits_since.filter(|_| is_sent).map(since)
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

    /// Adopts the response that the connection guard sent, or the fault for which it closed the
    /// connection.
    fn take_over_fault(&mut self) {
        let Some(client) = &self.arrival.client else {
            return;
        };
        if self.status == CLIENT_LEFT
            && self.code.is_none()
            && let Some(fault) = client.refused_request()
            && let Some(refusal) = Refusal::of_fault(fault)
        {
            self.broke_off = self.waits_since.take().is_some();
            self.status = fault.status().unwrap_or(CLIENT_LEFT);
            self.code = Some(refusal.code());
            self.ending = Ending::Complete;
            self.cause = Some(fault.to_string().into());
        } else if self.ending == Ending::ClientGone
            && let Some(fault) = client.fault()
        {
            self.cause.get_or_insert_with(|| fault.to_string().into());
        }
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

/// What the access log shows of the holder of a credential.
#[derive(Default)]
struct Shown<'p> {
    consumer: Option<&'p str>,
    issuer: Option<&'p str>,
    key: Option<&'p str>,
}

impl<'p> Shown<'p> {
    fn of(proven: Option<&'p Proven>) -> Self {
        let consumer = proven.and_then(Proven::consumer).map(ConsumerId::as_str);
        match proven {
            None => Self::default(),
            Some(Proven::Key(key)) => Self {
                consumer,
                issuer: None,
                key: Some(key.id().as_str()),
            },
            Some(Proven::Token(holder)) => Self {
                consumer,
                issuer: Some(holder.token().issuer().name()),
                key: None,
            },
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.take_over_fault();
        let is_the_clients = self
            .arrival
            .client
            .as_ref()
            .is_some_and(|client| client.client_left() || client.fault().is_some());
        if self.ending == Ending::ClientGone && !is_the_clients && self.tally.cuts_off() {
            self.ending = Ending::TimeLimit;
            self.cause
                .get_or_insert_with(|| "it took longer than listen.drain_timeout".into());
        }
        if self.status == CLIENT_LEFT && self.origin_wait.is_none() {
            self.origin_wait = self.failed_origin_wait();
        }
        let counted = match &self.proven {
            Some(Proven::Key(key)) => Some(Counted::Key(key)),
            Some(Proven::Token(holder)) => holder.consumer().map(Counted::Consumer),
            None => None,
        };
        if let (Some(reserved), Some(counted)) = (&self.reserved, counted) {
            reserved.settle(counted, self.outcome());
        }
        let observed = self.observed.as_deref();
        let proven = self.proven.as_ref();
        let shown = Shown::of(proven.or_else(|| observed?.proven.as_ref()));
        let key = self.key().map(|key| *key.id());
        let entry = Entry {
            at: self.arrival.at,
            request_id: self.arrival.request_id.as_str(),
            client: self.arrival.address.client,
            method: self.arrival.method.as_str(),
            path: self.arrival.path.in_log(),
            status: self.status,
            code: self.code,
            cause: self.cause.as_deref(),
            route: self.route.as_deref().map(|route| &*route.name),
            consumer: shown.consumer,
            issuer: shown.issuer,
            key: shown.key,
            would_refuse: observed.map(|observed| (observed.code, &*observed.cause)),
            limit: self.limit.as_deref(),
            shadow_limit: self.shadow_limit.as_deref(),
            bytes_in: self.body.as_ref().map_or(0, |body| body.bytes()),
            bytes_out: self.bytes_out,
            duration: since(self.arrival.begun),
            origin_wait: self.origin_wait,
            ending: self.ending,
        };
        self.tally
            .ended(key, &entry, self.counted, self.stream.is_some());
        self.log.record(&entry);
    }
}

pin_project! {
    /// Future of [`Exchange::while_admitted`]. No `async fn`, which would store the future twice.
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct WhileAdmitted<'a, F> {
        exchange: &'a mut Exchange,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for WhileAdmitted<'_, F> {
    type Output = Result<F::Output, Withdrawal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(done) = this.future.poll(cx) {
            return Poll::Ready(Ok(done));
        }
        this.exchange
            .withdrawn(cx)
            .map_or(Poll::Pending, |withdrawn| Poll::Ready(Err(withdrawn)))
    }
}

#[cfg(test)]
mod tests;
