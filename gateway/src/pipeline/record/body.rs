//! The end of every answered request: a response body that is followed to its last byte.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_http::{Method, Response};
use bytes::Bytes;
use pin_project_lite::pin_project;

use crate::auth::key_sources::KeySources;
use crate::front::dispatcher::ReadyLines;
use crate::http::refusal::{Protection, Refusal};
use crate::panics::catch_panic_sync;
use crate::pipeline::open_streams::Withdrawal;
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::proxy::body::{BoxError, BrokenAnswer, OriginBody};
use crate::proxy::vary;
use crate::telemetry::access_log::Ending;

/// Polls of a body that is available at once: one for its chunk, one for its end. A watch of the
/// key does not pay off for it.
const SHORT_BODY_POLLS: u32 = 2;

impl Exchange {
    /// Builds the refusal. A request body of `size` that was not read to its end closes the
    /// connection.
    pub fn refuse(
        mut self: Box<Self>,
        refused: Refused,
        realm: &str,
        size: BodySize,
    ) -> Response<RecordedBody> {
        let Refused { refusal, cause } = refused;
        self.code = Some(refusal.code());
        self.cause = cause.or_else(|| self.cause.take());
        self.cause.get_or_insert_with(|| refusal.detail());
        let body_was_read = matches!(size, BodySize::None | BodySize::Sized(0))
            || self.body.as_ref().is_some_and(|body| body.ended());
        let route = self.route.as_deref();
        let sources = route.map_or(KeySources::BEARER, |route| route.key_sources.as_slice());
        let protection = Protection {
            realm,
            sources,
            metadata: self.resource_metadata.as_deref(),
        };
        let mut response = refusal.respond(
            &protection,
            self.arrival.path.as_instance(),
            &self.arrival.request_id,
            !body_was_read,
        );
        if matches!(refusal, Refusal::RateLimited(_) | Refusal::QuotaExceeded(_)) {
            self.told.add_to(response.headers_mut());
        }
        self.record(response.map_body(|_, body| EitherBody::right(body)))
    }

    /// Follows the response to its end.
    pub fn record(
        mut self: Box<Self>,
        mut response: Response<EitherBody<OriginBody, BoxBody>>,
    ) -> Response<RecordedBody> {
        // Here every answer passes, refusals too: a page could read none of them otherwise.
        if let Some(page) = &self.page {
            let headers = response.headers_mut();
            page.write(headers);
            vary::add(headers, page.vary());
        }
        self.status = response.status().as_u16();
        if self.stream.is_none() {
            self.note_stream(response.head());
        }
        if self.stream.is_some() {
            self.follow_routes();
        }
        response.map_body(|_, body| {
            // An empty body ends now: nothing polls it.
            if matches!(body.size(), BodySize::None | BodySize::Sized(0))
                || self.arrival.method == Method::HEAD
            {
                self.ending = Ending::Complete;
            }
            RecordedBody {
                body,
                polls: 0,
                exchange: self,
            }
        })
    }

    /// Ends the response because the admission of the caller was withdrawn.
    fn end_as(&mut self, withdrawal: Withdrawal) -> BoxError {
        self.ending = Ending::KeyEnded;
        let cause = withdrawal.to_string();
        self.cause = Some(cause.clone().into());
        cause.into()
    }

    /// Records a truncated response that the client did not cause.
    fn record_truncation(&mut self, broken: BrokenAnswer) {
        log::warn!(
            "request {} for {:?}: the response broke off: {}",
            self.request_id().as_str(),
            self.path().in_log(),
            broken.cause
        );
        self.ending = if broken.is_time_limit {
            Ending::TimeLimit
        } else {
            Ending::OriginTruncated
        };
        self.cause = Some(broken.cause.into());
    }
}

pin_project! {
    /// Response body that records its bytes and its end.
    pub struct RecordedBody {
        #[pin]
        body: EitherBody<OriginBody, BoxBody>,
        polls: u32,
        exchange: Box<Exchange>,
    }
}

impl RecordedBody {
    /// Lines of the head that are ready for the client.
    pub(in crate::pipeline) fn ready_lines(&mut self) -> Option<ReadyLines> {
        match &mut self.body {
            EitherBody::Left { body } => body.take_lines(),
            EitherBody::Right { .. } => None,
        }
    }

    /// Ready once the caller may not go on; recorded as the end of the response.
    pub(in crate::pipeline) fn poll_end_of_admission(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.exchange.withdrawn(cx) {
            Some(denial) => {
                self.exchange.end_as(denial);
                Poll::Ready(())
            }
            None => Poll::Pending,
        }
    }

    /// Returns the refusal to send instead of a response that failed before its first byte; `None`
    /// when the partial response is to be sent.
    pub(in crate::pipeline) fn refuse_instead(self) -> Option<Response<Self>> {
        let Self {
            body, mut exchange, ..
        } = self;
        drop(body);
        let refusal = match exchange.ending {
            Ending::OriginTruncated => Refusal::OriginBadAnswer,
            Ending::Panicked => Refusal::Internal,
            _ => return None,
        };
        exchange.bytes_out = 0;
        exchange.ending = Ending::ClientGone;
        // The realm appears only in challenges, and this refusal has none.
        Some(exchange.refuse(refusal.into(), "", BodySize::Stream))
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
        *this.polls = this.polls.saturating_add(1);
        if *this.polls > SHORT_BODY_POLLS
            && let Some(withdrawn) = exchange.withdrawn(cx)
        {
            return Poll::Ready(Some(Err(exchange.end_as(withdrawn))));
        }
        let polled = match catch_panic_sync(|| this.body.poll_next(cx)) {
            Ok(polled) => polled,
            Err(panicked) => {
                exchange.cause = exchange.panicked(&panicked).cause;
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
                exchange.count_progress();
                Some(Ok(chunk))
            }
            None => {
                exchange.ending = Ending::Complete;
                None
            }
            Some(Err(error)) => {
                let error: BoxError = error.into();
                // A failing upload can also break the response; the origin is not at fault.
                if let Some(fault) = exchange.body.as_ref().and_then(|body| body.fault()) {
                    let seen = exchange
                        .arrival
                        .client
                        .as_ref()
                        .and_then(|client| client.fault());
                    let cause = seen.map_or_else(|| fault.to_string(), |seen| seen.to_string());
                    exchange.cause = Some(cause.into());
                } else {
                    exchange.record_truncation(BrokenAnswer::of(&*error));
                }
                Some(Err(error))
            }
        })
    }
}
