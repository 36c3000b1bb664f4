//! Bodies on their way through: never collected, counted, and limited.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::Payload;
use actix_http::body::{BodySize, MessageBody};
use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_core::Stream as _;
use pin_project_lite::pin_project;
use thiserror::Error;

use crate::proxy::origin_stream::OriginFault;
use crate::proxy::upstream::InFlight;

/// An error of a body, as the libraries beneath pass it on.
pub type BoxError = Box<dyn std::error::Error>;

/// Why the client's body did not reach its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyFault {
    /// It has more bytes than are allowed.
    #[error("the body exceeds {0} bytes")]
    TooLarge(u64),
    /// The client left, or framed it badly.
    #[error("the body broke off or is badly framed")]
    Broken,
}

/// What is known of the client's body while it passes; shared with who forwards it.
#[derive(Debug, Default)]
pub struct BodyProgress {
    bytes: Cell<u64>,
    fault: Cell<Option<BodyFault>>,
    ended: Cell<bool>,
}

impl BodyProgress {
    /// That this many more bytes passed.
    pub(crate) fn passed(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    /// Bytes that passed so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Why it did not reach its end.
    #[must_use]
    pub fn fault(&self) -> Option<BodyFault> {
        self.fault.get()
    }

    /// Whether all of it passed.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended.get()
    }
}

pin_project! {
    /// The client's body, on its way to the origin.
    pub struct RequestBody {
        #[pin]
        payload: Payload,
        size: BodySize,
        limit: u64,
        progress: Rc<BodyProgress>,
    }
}

impl RequestBody {
    /// Passes `payload`, which announced `size`, up to `limit` bytes.
    #[must_use]
    pub fn new(payload: Payload, size: BodySize, limit: u64) -> Self {
        let progress = Rc::new(BodyProgress::default());
        if matches!(size, BodySize::None | BodySize::Sized(0)) {
            progress.ended.set(true);
        }
        Self {
            payload,
            size,
            limit,
            progress,
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Rc<BodyProgress> {
        Rc::clone(&self.progress)
    }
}

impl MessageBody for RequestBody {
    type Error = BoxError;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.project();
        let progress = this.progress;
        let fault = match std::task::ready!(this.payload.poll_next(cx)) {
            Some(Ok(chunk)) => {
                let bytes = progress.bytes.get() + chunk.len() as u64;
                progress.bytes.set(bytes);
                if bytes <= *this.limit {
                    return Poll::Ready(Some(Ok(chunk)));
                }
                BodyFault::TooLarge(*this.limit)
            }
            Some(Err(PayloadError::Overflow)) => BodyFault::TooLarge(*this.limit),
            Some(Err(_)) => BodyFault::Broken,
            None => {
                // A length was announced and less arrived: the origin must not take it for the whole.
                if matches!(this.size, BodySize::Sized(announced) if *announced != progress.bytes.get())
                {
                    BodyFault::Broken
                } else {
                    progress.ended.set(true);
                    return Poll::Ready(None);
                }
            }
        };
        progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault.into())))
    }
}

/// Why an origin's body did not reach its end, for the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct BrokenAnswer {
    /// A sentence that names the time limit, where it was one.
    pub cause: String,
    /// Whether the gateway ended it for its time, and the origin did not.
    pub is_time_limit: bool,
}

/// Nothing passed in a tunnel for too long, in either direction.
#[derive(Debug, Error)]
#[error("nothing was sent in either direction for origin.tunnel_idle_timeout")]
pub struct TunnelIdle;

impl BrokenAnswer {
    /// What an error of the body means; the libraries wrap it in errors of their own.
    #[must_use]
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(fault) = OriginFault::find(error) {
                return Self {
                    cause: fault.to_string(),
                    is_time_limit: fault.is_timeout(),
                };
            }
            let inner = match error.downcast_ref::<PayloadError>() {
                Some(PayloadError::Io(error) | PayloadError::Incomplete(Some(error))) => {
                    error.get_ref()
                }
                _ => None,
            };
            if let Some(idle) = inner.and_then(|inner| inner.downcast_ref::<TunnelIdle>()) {
                return Self {
                    cause: idle.to_string(),
                    is_time_limit: true,
                };
            }
            next = error.source();
        }
        Self {
            cause: "the origin ended the connection within its answer".to_owned(),
            is_time_limit: false,
        }
    }
}

pin_project! {
    /// The origin's body, on its way to the client.
    pub struct OriginBody {
        #[pin]
        payload: Payload,
        size: BodySize,
        remaining: Option<u64>,
        in_flight: Option<InFlight>,
    }
}

impl OriginBody {
    /// Passes `payload`, whose length is known or not. With `head_only`, as in the answer to a `HEAD` request, the
    /// length is told and no byte follows.
    #[must_use]
    pub fn new(payload: Payload, length: Option<u64>, head_only: bool) -> Self {
        if head_only {
            return Self {
                payload: Payload::None,
                size: length.map_or(BodySize::None, BodySize::Sized),
                remaining: None,
                in_flight: None,
            };
        }
        let size = length.map_or(BodySize::Stream, BodySize::Sized);
        Self {
            payload,
            size,
            remaining: length,
            in_flight: None,
        }
    }

    /// No body at all, as after 204 and 304.
    #[must_use]
    pub fn none() -> Self {
        Self {
            payload: Payload::None,
            size: BodySize::None,
            remaining: None,
            in_flight: None,
        }
    }

    /// Counts its request as in flight until the body is dropped.
    #[must_use]
    pub fn counted(mut self, in_flight: Option<InFlight>) -> Self {
        self.in_flight = in_flight;
        self
    }
}

impl MessageBody for OriginBody {
    type Error = PayloadError;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.project();
        let next = std::task::ready!(this.payload.poll_next(cx));
        match (&next, this.remaining.as_mut()) {
            (Some(Ok(chunk)), Some(remaining)) => {
                *remaining = remaining.saturating_sub(chunk.len() as u64)
            }
            // The client was promised more than came: it must not take it for the whole.
            (None, Some(remaining)) if *remaining > 0 => {
                return Poll::Ready(Some(Err(PayloadError::Incomplete(None))));
            }
            _ => {}
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use super::*;

    async fn drain(body: impl MessageBody<Error: std::fmt::Debug>) -> Result<usize, String> {
        let mut body = pin!(body);
        let mut bytes = 0;
        while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            bytes += chunk.map_err(|error| format!("{error:?}"))?.len();
        }
        Ok(bytes)
    }

    #[actix_rt::test]
    async fn a_request_body_passes_up_to_its_limit_and_never_ends_early() {
        for (length, size, limit, fault) in [
            (10_usize, BodySize::Sized(10), 10, None),
            (10, BodySize::Stream, 10, None),
            (0, BodySize::None, 0, None),
            (11, BodySize::Stream, 10, Some(BodyFault::TooLarge(10))),
            (9, BodySize::Sized(10), 10, Some(BodyFault::Broken)),
        ] {
            let body = RequestBody::new(Payload::from(vec![b'x'; length]), size, limit);
            let progress = body.progress();
            assert_eq!(
                drain(body).await.is_err(),
                fault.is_some(),
                "{length} {size:?}"
            );
            assert_eq!(
                (progress.fault(), progress.ended()),
                (fault, fault.is_none()),
                "{length} {size:?}"
            );
        }
    }

    #[actix_rt::test]
    async fn an_origins_body_that_is_shorter_than_promised_is_an_error() {
        let payload = || Payload::from(vec![b'x'; 10]);
        assert_eq!(
            drain(OriginBody::new(payload(), Some(10), false)).await,
            Ok(10)
        );
        assert_eq!(drain(OriginBody::new(payload(), None, false)).await, Ok(10));
        assert!(
            drain(OriginBody::new(payload(), Some(11), false))
                .await
                .is_err()
        );
        let head_only = OriginBody::new(payload(), Some(10), true);
        assert_eq!(
            (head_only.size(), drain(head_only).await),
            (BodySize::Sized(10), Ok(0))
        );
    }
}
