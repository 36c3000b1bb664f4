//! What is remembered of a request while it runs. It is written down when the request has ended, however it ended:
//! dropping the [`Exchange`] is what records it.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use actix_http::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_http::{Method, RequestHead, Response};
use bytes::Bytes;
use pin_project_lite::pin_project;

use crate::auth::Caller;
use crate::http::client_address::ClientAddress;
use crate::http::refusal::Refusal;
use crate::http::request_id::RequestId;
use crate::in_flight::Permit;
use crate::keys::KnownKey;
use crate::proxy::body::{BodyProgress, BoxError, OriginBody};
use crate::proxy::forward::Failed;
use crate::proxy::upstream::attempts::FailedAttempt;
use crate::routes::Route;
use crate::telemetry::access_log::{AccessLog, Ending, Entry};

/// The status that is logged when the client left before there was a response; nothing is sent. nginx's number for it.
const CLIENT_LEFT: u16 = 499;

/// A request and its response, from the head to the last byte.
pub struct Exchange {
    log: AccessLog,
    at: SystemTime,
    begun: Instant,
    request_id: RequestId,
    address: ClientAddress,
    method: Method,
    path: String,
    route: Option<Arc<str>>,
    key: Option<KnownKey>,
    body: Option<Rc<BodyProgress>>,
    code: Option<&'static str>,
    cause: Option<String>,
    origin_wait: Option<Duration>,
    status: u16,
    bytes_out: u64,
    ending: Ending,
    permit: Option<Permit>,
}

impl Exchange {
    /// A request whose head has arrived.
    #[must_use]
    pub fn begin(log: AccessLog, request_id: RequestId, address: ClientAddress, head: &RequestHead) -> Self {
        Self {
            log,
            at: SystemTime::now(),
            begun: Instant::now(),
            request_id,
            address,
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            route: None,
            key: None,
            body: None,
            code: None,
            cause: None,
            origin_wait: None,
            status: CLIENT_LEFT,
            bytes_out: 0,
            ending: Ending::ClientGone,
            permit: None,
        }
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

    /// Which route it falls under.
    pub fn routed(&mut self, route: &Route) {
        self.route = Some(Arc::clone(&route.name));
    }

    /// Who is calling.
    pub fn called_by(&mut self, caller: &Caller) {
        if let Caller::Key(key) = caller {
            self.key = Some(key.clone());
        }
    }

    /// That its body is being read; `progress` says how far.
    pub fn reads(&mut self, progress: Rc<BodyProgress>) -> Rc<BodyProgress> {
        self.body = Some(Rc::clone(&progress));
        progress
    }

    /// That the origin answered, after `wait`.
    pub fn answered(&mut self, wait: Duration) {
        self.origin_wait = Some(wait);
    }

    /// Ends here without a line: the same request comes again with its body.
    pub fn goes_on(mut self) {
        self.log = AccessLog::off();
    }

    /// Answers in the origin's place. A body of `size` that was not read to its end closes the connection.
    pub fn refuse(mut self, refusal: &Refusal, realm: &str, size: BodySize) -> Response<RecordedBody> {
        self.code = Some(refusal.code());
        let body_was_read =
            matches!(size, BodySize::None | BodySize::Sized(0)) || self.body.as_ref().is_some_and(|body| body.ended());
        let response = refusal.respond(realm, &self.path, &self.request_id, !body_was_read);
        self.record(response.map_body(|_, body| EitherBody::right(body)))
    }

    /// That these attempts failed; whether another succeeded is another matter.
    pub fn attempted(&self, route: &Route, attempts: &[FailedAttempt]) {
        let (request_id, path, upstream) = (self.request_id.as_str(), &self.path, route.upstream.name());
        for attempt in attempts {
            log::warn!("request {request_id} for {path:?}: route {:?}, upstream {upstream:?}: {attempt}", route.name);
        }
    }

    /// That the request could not be forwarded, and why.
    pub fn failed(&mut self, route: &Route, failed: &Failed) {
        self.attempted(route, &failed.attempts);
        let cause = failed.failure.cause();
        // Attempts that failed have said so; an answer that cannot be passed on has not.
        if failed.attempts.last().is_none_or(|last| !last.is_because(&cause)) {
            let (request_id, path, upstream) = (self.request_id.as_str(), &self.path, route.upstream.name());
            log::warn!("request {request_id} for {path:?}: route {:?}, upstream {upstream:?}: {cause}", route.name);
        }
        self.cause = Some(cause);
    }

    /// Follows the response to its end.
    pub fn record(mut self, response: Response<EitherBody<OriginBody, BoxBody>>) -> Response<RecordedBody> {
        self.status = response.status().as_u16();
        response.map_body(|_, body| {
            // What has no bytes has ended before it begins: nothing asks for its end.
            if matches!(body.size(), BodySize::None | BodySize::Sized(0)) || self.method == Method::HEAD {
                self.ending = Ending::Complete;
            }
            RecordedBody { body, exchange: self }
        })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.log.record(&Entry {
            at: self.at,
            request_id: self.request_id.as_str(),
            client: self.address.client,
            method: self.method.as_str(),
            path: &self.path,
            status: self.status,
            code: self.code,
            cause: self.cause.as_deref(),
            route: self.route.as_deref(),
            consumer: self.key.as_ref().map(|key| key.consumer().id.as_str()),
            key: self.key.as_ref().map(|key| key.id().as_str()),
            bytes_in: self.body.as_ref().map_or(0, |body| body.bytes()),
            bytes_out: self.bytes_out,
            duration: self.begun.elapsed(),
            origin_wait: self.origin_wait,
            ending: self.ending,
        });
    }
}

pin_project! {
    /// A response body that notes its bytes and its end.
    pub struct RecordedBody {
        #[pin]
        body: EitherBody<OriginBody, BoxBody>,
        exchange: Exchange,
    }
}

impl MessageBody for RecordedBody {
    type Error = BoxError;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.project();
        let exchange = this.exchange;
        let next = std::task::ready!(this.body.poll_next(cx));
        Poll::Ready(match next {
            Some(Ok(chunk)) => {
                exchange.bytes_out += chunk.len() as u64;
                Some(Ok(chunk))
            }
            None => {
                exchange.ending = Ending::Complete;
                None
            }
            Some(Err(error)) => {
                let error: BoxError = error.into();
                let request_id = exchange.request_id.as_str();
                log::warn!("request {request_id} for {:?}: the origin broke off: {error}", exchange.path);
                exchange.ending = Ending::OriginTruncated;
                exchange.cause = Some(error.to_string());
                Some(Err(error))
            }
        })
    }
}
