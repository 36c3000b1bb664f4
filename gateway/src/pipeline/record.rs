//! What is remembered of a request while it runs. It is written down when the request has ended, however it ended:
//! dropping the [`Exchange`] is what records it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use actix_http::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_http::{Method, Response};
use bytes::Bytes;
use pin_project_lite::pin_project;

use crate::auth::Caller;
use crate::front::client_stream::ClientControl;
use crate::http::client_address::ClientAddress;
use crate::http::refusal::Refusal;
use crate::http::request_id::RequestId;
use crate::http::shown_path::ShownPath;
use crate::keys::KnownKey;
use crate::panics::{Panicked, caught_in};
use crate::pipeline::in_flight::Permit;
use crate::pipeline::open_streams::{Admission, Looks, OpenStream, OpenStreams, Withdrawn};
use crate::proxy::body::{BodyProgress, BoxError, BrokenAnswer, OriginBody};
use crate::proxy::forward::{Failed, Failure};
use crate::proxy::upstream::attempts::FailedAttempt;
use crate::routes::Route;
use crate::telemetry::access_log::{AccessLog, Ending, Entry};
use crate::telemetry::metrics::Open;
use crate::telemetry::tally::{BodyBytes, Tally};

/// The status that is logged when the client left before there was a response; nothing is sent. nginx's number for it.
const CLIENT_LEFT: u16 = 499;

/// How often a body that is there at once is asked for more: for its one piece, and for its end.
const SHORT_BODY_POLLS: u32 = 2;

/// A request and its response, from the head to the last byte.
pub struct Exchange {
    log: AccessLog,
    tally: Tally,
    at: SystemTime,
    begun: Instant,
    request_id: RequestId,
    address: ClientAddress,
    method: Method,
    path: ShownPath,
    route: Option<Arc<Route>>,
    key: Option<KnownKey>,
    denied: Option<KnownKey>,
    client: Option<Rc<ClientControl>>,
    body: Option<Rc<BodyProgress>>,
    code: Option<&'static str>,
    cause: Option<String>,
    waits_since: Option<Instant>,
    origin_wait: Option<Duration>,
    status: u16,
    bytes_out: u64,
    ending: Ending,
    permit: Option<Permit>,
    polls: u32,
    streams: Option<(Rc<OpenStreams>, Looks)>,
    open: Option<OpenStream>,
    stream: Option<Open>,
    told: BodyBytes,
}

impl Exchange {
    /// A request whose head has arrived; `path` is what may be told of its target. In a box, for it is handed from stage to stage
    /// and into the response's body.
    #[must_use]
    pub fn begin(
        log: AccessLog,
        tally: Tally,
        request_id: RequestId,
        address: ClientAddress,
        method: Method,
        path: ShownPath,
    ) -> Box<Self> {
        Box::new(Self {
            log,
            tally,
            at: SystemTime::now(),
            begun: Instant::now(),
            request_id,
            address,
            method,
            path,
            route: None,
            key: None,
            denied: None,
            client: None,
            body: None,
            code: None,
            cause: None,
            waits_since: None,
            origin_wait: None,
            status: CLIENT_LEFT,
            bytes_out: 0,
            ending: Ending::ClientGone,
            permit: None,
            polls: 0,
            streams: None,
            open: None,
            stream: None,
            told: BodyBytes::default(),
        })
    }

    /// What may be told of its target.
    #[must_use]
    pub fn path(&self) -> &ShownPath {
        &self.path
    }

    /// When the request arrived.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// Who sent it.
    #[must_use]
    pub fn address(&self) -> ClientAddress {
        self.address
    }

    /// That it is counted as in flight, until it has ended.
    pub fn counts(&mut self, permit: Permit) {
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

    /// Which route it falls under.
    pub fn routed(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }

    /// Who is calling; `since` are the looks of `streams` before the key was looked up.
    pub fn called_by(&mut self, caller: &Caller, streams: &Rc<OpenStreams>, since: Looks) {
        if let Caller::Key(key) = caller {
            self.key = Some(key.clone());
            self.streams = Some((Rc::clone(streams), since));
        }
    }

    /// Whether the body has come so far that it is no short one. Those are over before it pays to look after their keys.
    fn goes_on_for_long(&mut self) -> bool {
        self.polls = self.polls.saturating_add(1);
        self.polls > SHORT_BODY_POLLS
    }

    /// Runs `future` to its end, but no longer than the caller may go on.
    ///
    /// # Errors
    /// Why not. The future is dropped then.
    pub async fn while_admitted<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> Result<T, Withdrawn> {
        let mut future = pin!(future);
        let done = poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self
                .withdrawn(cx)
                .map_or(Poll::Pending, |withdrawn| Poll::Ready(Err(withdrawn))),
        });
        let done = done.await;
        if let Err(withdrawn) = &done {
            self.cause = Some(withdrawn.to_string());
        }
        done
    }

    /// Ends the response, because the caller may not go on.
    fn end_as(&mut self, withdrawn: Withdrawn) -> BoxError {
        self.ending = Ending::KeyEnded;
        let cause = withdrawn.to_string();
        self.cause = Some(cause.clone());
        cause.into()
    }

    /// Why the caller may not go on, if that is so. Otherwise the task is woken when it is.
    fn withdrawn(&mut self, cx: &Context<'_>) -> Option<Withdrawn> {
        if self.open.is_none() {
            let ((streams, since), key, route) = (
                self.streams.as_ref()?,
                self.key.as_ref()?,
                self.route.as_ref()?,
            );
            let admission = Admission {
                key: *key.digest(),
                address: self.address.client,
                route: Arc::clone(route),
            };
            self.open = Some(streams.enter(admission, *since, cx.waker().clone()));
        }
        self.open.as_ref()?.withdrawn(cx.waker())
    }

    /// The connection that it came on.
    pub fn came_by(&mut self, client: Rc<ClientControl>) {
        client.begin_request(&self.request_id);
        self.client = Some(client);
    }

    /// That the holder of this key was turned away.
    pub fn denied(&mut self, key: KnownKey) {
        self.denied = Some(key);
    }

    /// Why it is refused, for the operator alone.
    pub fn because(&mut self, cause: impl Into<String>) {
        self.cause = Some(cause.into());
    }

    /// That the origin's answer had the shared secret in it.
    pub fn leaked_secret(&self) {
        if let Some(metrics) = self.tally.metrics() {
            metrics.counts().secret_leaked.add(1);
        }
    }

    /// That its body is being read; `progress` says how far.
    pub fn reads(&mut self, progress: Rc<BodyProgress>) -> Rc<BodyProgress> {
        self.body = Some(Rc::clone(&progress));
        progress
    }

    /// That the request is on its way to an origin.
    pub fn waits(&mut self) {
        self.waits_since = Some(Instant::now());
    }

    /// That the origin answered, after `wait`.
    pub fn answered(&mut self, wait: Duration) {
        self.origin_wait = Some(wait);
    }

    /// The wait that ended in nothing, where it was one for the origin and not for the client.
    fn waited_in_vain(&self) -> Option<Duration> {
        let is_sent = self.body.as_ref().is_none_or(|body| body.ended());
        self.waits_since
            .filter(|_| is_sent)
            .map(|since| since.elapsed())
    }

    /// Ends here without a line: the same request comes again with its body.
    pub fn goes_on(mut self) {
        self.log = AccessLog::off();
        self.tally = Tally::off();
    }

    /// That it is counted, and has no line in the log.
    pub fn is_not_logged(&mut self) {
        self.log = AccessLog::off();
    }

    /// Answers in the origin's place. A body of `size` that was not read to its end closes the connection.
    pub fn refuse(
        mut self: Box<Self>,
        refusal: &Refusal,
        realm: &str,
        size: BodySize,
    ) -> Response<RecordedBody> {
        self.code = Some(refusal.code());
        if self.cause.is_none() {
            self.cause = Some(refusal.detail().into_owned());
        }
        let body_was_read = matches!(size, BodySize::None | BodySize::Sized(0))
            || self.body.as_ref().is_some_and(|body| body.ended());
        let response = refusal.respond(
            realm,
            self.path.as_instance(),
            &self.request_id,
            !body_was_read,
        );
        self.record(response.map_body(|_, body| EitherBody::right(body)))
    }

    /// That these attempts failed; whether another succeeded is another matter.
    pub fn attempted(&self, route: &Route, attempts: &[FailedAttempt]) {
        let (request_id, path, upstream) = (
            self.request_id.as_str(),
            self.path.in_log(),
            route.upstream.name(),
        );
        for attempt in attempts {
            log::warn!(
                "request {request_id} for {path:?}: route {:?}, upstream {upstream:?}: {attempt}",
                route.name
            );
        }
    }

    /// That the request could not be forwarded, and why.
    pub fn failed(&mut self, route: &Route, failed: &Failed) {
        self.attempted(route, &failed.attempts);
        let cause = failed.failure.cause();
        if failed.failure.is_the_targets() {
            self.origin_wait = self.waited_in_vain();
        } else {
            self.waits_since = None;
        }
        if matches!(failed.failure, Failure::ClientBody(_)) {
            // Any client can cause it, and its line in the access log says so.
            self.cause = Some(cause);
            return;
        }
        // Attempts that failed have said so; an answer that cannot be passed on has not.
        if failed
            .attempts
            .last()
            .is_none_or(|last| !last.is_because(&cause))
        {
            let (request_id, path, upstream) = (
                self.request_id.as_str(),
                self.path.in_log(),
                route.upstream.name(),
            );
            log::warn!(
                "request {request_id} for {path:?}: route {:?}, upstream {upstream:?}: {cause}",
                route.name
            );
        }
        self.cause = Some(cause);
    }

    /// That the answer did not come to its end, and no client is to blame.
    fn broke_off(&mut self, broken: BrokenAnswer) {
        let request_id = self.request_id.as_str();
        log::warn!(
            "request {request_id} for {:?}: the answer broke off: {}",
            self.path.in_log(),
            broken.cause
        );
        self.ending = if broken.is_time_limit {
            Ending::TimeLimit
        } else {
            Ending::OriginTruncated
        };
        self.cause = Some(broken.cause);
    }

    /// That serving it ended in a panic; gives what is answered.
    pub fn panicked(&mut self, panicked: &Panicked) -> Refusal {
        log::error!(
            "request {} for {:?} ended in {panicked}",
            self.request_id.as_str(),
            self.path.in_log()
        );
        self.cause = Some(panicked.to_string());
        Refusal::Internal
    }

    /// Follows the response to its end.
    pub fn record(
        mut self: Box<Self>,
        response: Response<EitherBody<OriginBody, BoxBody>>,
    ) -> Response<RecordedBody> {
        self.status = response.status().as_u16();
        self.stream = self.tally.stream(response.head());
        response.map_body(|_, body| {
            // What has no bytes has ended before it begins: nothing asks for its end.
            if matches!(body.size(), BodySize::None | BodySize::Sized(0))
                || self.method == Method::HEAD
            {
                self.ending = Ending::Complete;
            }
            RecordedBody {
                body,
                exchange: self,
            }
        })
    }
}

impl Exchange {
    /// The key that was presented, whether it was admitted or not.
    fn presented(&self) -> Option<&KnownKey> {
        self.key.as_ref().or(self.denied.as_ref())
    }

    /// Takes over the answer that the guard of the connection gave, or the fault for which it let the client go.
    fn take_over_fault(&mut self) {
        let Some(client) = &self.client else { return };
        if self.status == CLIENT_LEFT
            && self.code.is_none()
            && let Some(fault) = client.refused_request()
            && let Some(refusal) = Refusal::of_fault(fault)
        {
            self.waits_since = None;
            self.status = fault.status().unwrap_or(CLIENT_LEFT);
            self.code = Some(refusal.code());
            self.ending = Ending::Complete;
            self.cause = Some(fault.to_string());
        } else if self.ending == Ending::ClientGone
            && let Some(fault) = client.fault()
        {
            self.cause.get_or_insert_with(|| fault.to_string());
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
            .client
            .as_ref()
            .is_some_and(|client| client.client_left() || client.fault().is_some());
        if self.ending == Ending::ClientGone && !is_the_clients && self.tally.cuts_off() {
            self.ending = Ending::TimeLimit;
            self.cause
                .get_or_insert_with(|| "it ran for longer than listen.drain_timeout".to_owned());
        }
        if self.status == CLIENT_LEFT && self.origin_wait.is_none() {
            self.origin_wait = self.waited_in_vain();
        }
        let key = self.presented();
        let entry = Entry {
            at: self.at,
            request_id: self.request_id.as_str(),
            client: self.address.client,
            method: self.method.as_str(),
            path: self.path.in_log(),
            status: self.status,
            code: self.code,
            cause: self.cause.as_deref(),
            route: self.route.as_deref().map(|route| &*route.name),
            consumer: key.map(|key| key.consumer().id.as_str()),
            key: key.map(|key| key.id().as_str()),
            bytes_in: self.body.as_ref().map_or(0, |body| body.bytes()),
            bytes_out: self.bytes_out,
            duration: self.begun.elapsed(),
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

pin_project! {
    /// A response body that notes its bytes and its end.
    pub struct RecordedBody {
        #[pin]
        body: EitherBody<OriginBody, BoxBody>,
        exchange: Box<Exchange>,
    }
}

impl MessageBody for RecordedBody {
    type Error = BoxError;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.project();
        let exchange = this.exchange;
        if exchange.goes_on_for_long()
            && let Some(withdrawn) = exchange.withdrawn(cx)
        {
            return Poll::Ready(Some(Err(exchange.end_as(withdrawn))));
        }
        let polled = match caught_in(|| this.body.poll_next(cx)) {
            Ok(polled) => polled,
            Err(panicked) => {
                exchange.panicked(&panicked);
                exchange.ending = Ending::Panicked;
                return Poll::Ready(Some(Err(panicked.to_string().into())));
            }
        };
        let Poll::Ready(next) = polled else {
            return match exchange.withdrawn(cx) {
                Some(withdrawn) => Poll::Ready(Some(Err(exchange.end_as(withdrawn)))),
                None => Poll::Pending,
            };
        };
        Poll::Ready(match next {
            Some(Ok(chunk)) => {
                exchange.bytes_out += chunk.len() as u64;
                exchange.tell_progress();
                Some(Ok(chunk))
            }
            None => {
                exchange.ending = Ending::Complete;
                None
            }
            Some(Err(error)) => {
                let error: BoxError = error.into();
                // A request that breaks off within its answer takes that along, and no origin is to blame.
                if let Some(fault) = exchange.body.as_ref().and_then(|body| body.fault()) {
                    let seen = exchange.client.as_ref().and_then(|client| client.fault());
                    let cause = seen.map_or_else(|| fault.to_string(), |seen| seen.to_string());
                    exchange.cause = Some(cause);
                } else {
                    exchange.broke_off(BrokenAnswer::of(&*error));
                }
                Some(Err(error))
            }
        })
    }
}

#[cfg(test)]
mod tests;
