//! What is remembered of a request while it runs. It is written down when the request has ended, however it ended:
//! dropping the [`Exchange`] is what records it.

pub mod body;

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use actix_http::Request;

use crate::auth::Caller;
use crate::auth::demand::Denial;
use crate::front::client_stream::{ClientControl, ClientFault};
use crate::http::client_address::ClientAddress;
use crate::http::refusal::Refusal;
use crate::http::request_id::RequestId;
use crate::http::shown_path::ShownPath;
use crate::keys::KnownKey;
use crate::panics::Panicked;
use crate::pipeline::arrival::Arrival;
use crate::pipeline::in_flight::Permit;
use crate::pipeline::open_streams::{Admission, Looks, OpenStreams, Watch};
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::body::BodyProgress;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::upstream::attempts::FailedAttempt;
use crate::routes::Route;
use crate::telemetry::access_log::{AccessLog, Ending, Entry};
use crate::telemetry::metrics::Open;
use crate::telemetry::tally::{BodyBytes, Tally};

/// The status that is logged when the client left before there was a response; nothing is sent. nginx's number for it.
const CLIENT_LEFT: u16 = 499;

/// A request and its response, from the head to the last byte.
pub struct Exchange {
    log: AccessLog,
    tally: Tally,
    arrival: Arrival,
    route: Option<Arc<Route>>,
    key: Option<KnownKey>,
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
    stream: Option<Open>,
    told: BodyBytes,
}

impl Exchange {
    /// A request whose head has arrived. In a box, for it is handed from stage to stage and into the response's body.
    #[must_use]
    pub fn begin(worker: &Worker, policy: &Policy, request: &Request) -> Box<Self> {
        let arrival = Arrival::of(request, worker, policy);
        Self::of(arrival, worker.access_log.clone(), worker.tally.clone())
    }

    fn of(arrival: Arrival, log: AccessLog, tally: Tally) -> Box<Self> {
        Box::new(Self {
            log,
            tally,
            arrival,
            route: None,
            key: None,
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
            stream: None,
            told: BodyBytes::default(),
        })
    }

    /// What may be told of its target.
    #[must_use]
    pub fn path(&self) -> &ShownPath {
        &self.arrival.path
    }

    /// When the request arrived.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.arrival.at
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.arrival.request_id
    }

    /// Who sent it.
    #[must_use]
    pub fn address(&self) -> ClientAddress {
        self.arrival.address
    }

    /// The guarded stream beneath it.
    #[must_use]
    pub fn client(&self) -> Option<Rc<ClientControl>> {
        self.arrival.client.clone()
    }

    /// What the guarded stream found wrong with the client's bytes.
    #[must_use]
    pub fn client_fault(&self) -> Option<ClientFault> {
        self.arrival
            .client
            .as_ref()
            .and_then(|client| client.fault())
    }

    /// Holds its place among the requests in flight until it has ended.
    pub fn hold_permit(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Counts it in the share of its caller, until it has ended; whether there was room for it there.
    #[must_use]
    pub fn charge(&mut self, caller: &Caller) -> bool {
        let key = match caller {
            Caller::Key(key) => Some(key.digest()),
            Caller::Anonymous => None,
        };
        self.permit.as_mut().is_none_or(|permit| permit.charge(key))
    }

    /// Notes which route it falls under.
    pub fn set_route(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }

    /// Notes which key was presented, be it good or not.
    pub fn set_key(&mut self, key: &KnownKey) {
        self.key = Some(key.clone());
    }

    /// Has it end when `caller` is not let in any more; `since` are the looks of `streams` before the key was looked up.
    pub fn watch(&mut self, caller: &Caller, streams: &Rc<OpenStreams>, since: Looks) {
        if let Caller::Key(_) = caller {
            self.watch = Some(Watch::new(streams, since));
        }
    }

    /// Runs `future` to its end, but no longer than the caller may go on.
    ///
    /// # Errors
    /// Why not. The future is dropped then.
    pub async fn while_admitted<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> Result<T, Denial> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self
                .withdrawn(cx)
                .map_or(Poll::Pending, |withdrawn| Poll::Ready(Err(withdrawn))),
        })
        .await
    }

    /// Why the caller may not go on, if that is so. Otherwise the task is woken when it is.
    fn withdrawn(&mut self, cx: &Context<'_>) -> Option<Denial> {
        let (watch, key, route) = (
            self.watch.as_mut()?,
            self.key.as_ref()?,
            self.route.as_ref()?,
        );
        let admission = || Admission {
            key: *key.digest(),
            address: self.arrival.address.client,
            route: Arc::clone(route),
        };
        watch.withdrawn(admission, cx.waker())
    }

    /// Follows the body of the request, which is about to be read.
    pub fn track_body(&mut self, progress: Rc<BodyProgress>) {
        self.body = Some(progress);
    }

    /// Measures from here how long the origin takes.
    pub fn begin_origin_wait(&mut self) {
        self.waits_since = Some(Instant::now());
    }

    /// Notes that the origin answered, after `wait`.
    pub fn end_origin_wait(&mut self, wait: Duration) {
        self.origin_wait = Some(wait);
    }

    /// Notes that no answer came; the wait counts where it was one for the origin.
    pub fn fail_origin_wait(&mut self, failure: &Failure) {
        if failure.is_the_targets() {
            self.origin_wait = self.waited_in_vain();
        } else {
            self.waits_since = None;
        }
    }

    /// The wait that ended in nothing, where it was one for the origin and not for the client.
    fn waited_in_vain(&self) -> Option<Duration> {
        let is_sent = self.body.as_ref().is_none_or(|body| body.ended());
        self.waits_since
            .filter(|_| is_sent)
            .map(|since| since.elapsed())
    }

    /// Ends here without a line or a count: the same request comes again with its body.
    pub fn discard(mut self) {
        self.log = AccessLog::off();
        self.tally = Tally::off();
    }

    /// Leaves no line in the log; it is counted all the same.
    pub fn skip_log(&mut self) {
        self.log = AccessLog::off();
    }

    /// Logs the attempts that failed; whether another succeeded is another matter.
    pub fn log_attempts(&self, route: &Route, attempts: &[FailedAttempt]) {
        for attempt in attempts {
            self.warn(route, attempt);
        }
    }

    /// Logs why the request could not be forwarded. What any client can cause its line in the access log says alone.
    pub fn log_failure(&self, route: &Route, failed: &Failed) {
        self.log_attempts(route, &failed.attempts);
        let cause = failed.failure.cause();
        let last = failed.attempts.last();
        // Attempts that failed have said so; an answer that cannot be passed on has not.
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

    /// Logs that serving it ended in a panic; gives what is answered.
    #[must_use]
    pub fn panicked(&self, panicked: &Panicked) -> Refused {
        log::error!(
            "request {} for {:?} ended in {panicked}",
            self.arrival.request_id.as_str(),
            self.arrival.path.in_log()
        );
        Refused::panicked(panicked)
    }

    /// Takes over the answer that the guard of the connection gave, or the fault for which it let the client go.
    fn take_over_fault(&mut self) {
        let Some(client) = &self.arrival.client else {
            return;
        };
        if self.status == CLIENT_LEFT
            && self.code.is_none()
            && let Some(fault) = client.refused_request()
            && let Some(refusal) = Refusal::of_fault(fault)
        {
            self.waits_since = None;
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

    /// Counts what a long response has passed so far: a stream of days must not be counted at its end alone.
    fn tell_progress(&mut self) {
        let now = self.body_bytes();
        if let (Some(key), true) = (&self.key, now.are_worth_telling(self.told)) {
            self.tally.goes_on(*key.id(), now, self.told);
            self.told = now;
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
                .get_or_insert_with(|| "it ran for longer than listen.drain_timeout".into());
        }
        if self.status == CLIENT_LEFT && self.origin_wait.is_none() {
            self.origin_wait = self.waited_in_vain();
        }
        let key = self.key.as_ref();
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
            consumer: key.map(|key| key.consumer().id.as_str()),
            key: key.map(|key| key.id().as_str()),
            bytes_in: self.body.as_ref().map_or(0, |body| body.bytes()),
            bytes_out: self.bytes_out,
            duration: self.arrival.begun.elapsed(),
            origin_wait: self.origin_wait,
            ending: self.ending,
        };
        self.tally.ended(
            key.map(|key| *key.id()),
            &entry,
            self.told,
            self.stream.is_some(),
        );
        self.log.record(&entry);
    }
}

#[cfg(test)]
mod tests;
