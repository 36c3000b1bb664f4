//! Bodies in transit: streamed, counted and limited; buffered whole only where a route says so.

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

use crate::front::dispatcher::ReadyLines;
use crate::proxy::origin_stream::OriginFault;
use crate::proxy::upstream::InFlight;
use crate::proxy::whole_body::WholeBody;

/// Body error, as the libraries pass it on.
pub type BoxError = Box<dyn std::error::Error>;

/// Why the client's body is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyFault {
    /// Larger than the limit in bytes.
    #[error("the body exceeds {0} bytes")]
    TooLarge(u64),
    /// The client left or sent bad framing.
    #[error("the body broke off or is badly framed")]
    Broken,
}

/// Progress of the client's body, shared with the forwarding code.
#[derive(Debug, Default)]
pub struct BodyProgress {
    bytes: Cell<u64>,
    fault: Cell<Option<BodyFault>>,
    ended: Cell<bool>,
}

impl BodyProgress {
    /// Counts more bytes.
    pub(crate) fn passed(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Why the body is incomplete.
    #[must_use]
    pub fn fault(&self) -> Option<BodyFault> {
        self.fault.get()
    }

    /// Whether the whole body passed.
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
        // All of it, where it was buffered.
        whole: Option<WholeBody>,
        is_sent: bool,
    }
}

impl RequestBody {
    /// Wraps `payload` of the announced `size` and allows up to `limit` bytes.
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
            whole: None,
            is_sent: false,
        }
    }

    /// A body that was buffered: it has a length, and can be sent again.
    #[must_use]
    pub fn buffered(whole: WholeBody) -> Self {
        let length = whole.bytes().len() as u64;
        let mut body = Self::new(Payload::None, BodySize::Sized(length), length);
        // The client has sent all of it.
        body.progress.ended.set(true);
        body.whole = Some(whole);
        body
    }

    /// What can be sent again.
    #[must_use]
    pub fn whole(&self) -> Option<&WholeBody> {
        self.whole.as_ref()
    }

    /// Progress of this body.
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
        if let Some(whole) = this.whole {
            let rest = !std::mem::replace(this.is_sent, true) && !whole.bytes().is_empty();
            return Poll::Ready(rest.then(|| Ok(whole.bytes().clone())));
        }
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
                // Shorter than announced: the origin must not take it for complete.
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

/// Why an origin's body is incomplete, for the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct BrokenAnswer {
    /// A sentence; names the time limit if one expired.
    pub cause: String,
    /// Whether a time limit of the gateway ended it, and not the origin.
    pub is_time_limit: bool,
}

/// Neither side of a tunnel sent anything within the idle time.
#[derive(Debug, Error)]
#[error("nothing was sent in either direction for origin.tunnel_idle_timeout")]
pub struct TunnelIdle;

impl BrokenAnswer {
    /// Classifies a body error; the libraries wrap it in their own.
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
        // All of it, where it is here, and the lines of its head that are ready for the client.
        whole: Option<Bytes>,
        lines: Option<ReadyLines>,
        size: BodySize,
        remaining: Option<u64>,
        in_flight: Option<InFlight>,
    }
}

impl OriginBody {
    /// Wraps `payload` of known or unknown `length`. With `head_only`, for `HEAD`, the length is
    /// announced and no byte follows.
    #[must_use]
    pub fn new(payload: Payload, length: Option<u64>, head_only: bool) -> Self {
        let (payload, remaining, unknown) = match head_only {
            true => (Payload::None, None, BodySize::None),
            false => (payload, length, BodySize::Stream),
        };
        Self {
            payload,
            size: length.map_or(unknown, BodySize::Sized),
            remaining,
            ..Self::none()
        }
    }

    /// Wraps a body that is whole, behind a head whose lines are ready.
    #[must_use]
    pub fn plain(lines: ReadyLines, body: Bytes) -> Self {
        Self {
            size: BodySize::Sized(body.len() as u64),
            whole: Some(body),
            lines: Some(lines),
            ..Self::none()
        }
    }

    /// No body, as after 204 and 304.
    #[must_use]
    pub fn none() -> Self {
        Self {
            payload: Payload::None,
            whole: None,
            lines: None,
            size: BodySize::None,
            remaining: None,
            in_flight: None,
        }
    }

    /// Whether the lines of the head are ready for the client.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line to those that are ready.
    #[must_use]
    pub fn with_line(mut self, name: &str, value: &[u8]) -> Self {
        self.add_line(name, value);
        self
    }

    /// Adds a line to those that are ready.
    pub fn add_line(&mut self, name: &str, value: &[u8]) {
        if let Some(lines) = &mut self.lines {
            lines.push(name.as_bytes(), value);
        }
    }

    /// Takes the lines of the head that are ready for the client.
    pub fn take_lines(&mut self) -> Option<ReadyLines> {
        self.lines.take()
    }

    /// Holds the in-flight count of the target until the body is dropped.
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
        if let Some(whole) = this.whole.take() {
            return Poll::Ready(Some(Ok(whole)));
        }
        let next = std::task::ready!(this.payload.poll_next(cx));
        match (&next, this.remaining.as_mut()) {
            (Some(Ok(chunk)), Some(remaining)) => {
                *remaining = remaining.saturating_sub(chunk.len() as u64)
            }
            // Shorter than announced: the client must not take it for complete.
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
