//! [`Link`]: a connection to an origin that awc opened, and one exchange after another on it.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_codec::{Framed, FramedParts};
use actix_http::{
    BoxedPayloadStream, Payload, RequestHeadType, ResponseHead, ServiceConfig,
    body::BodySize,
    error::PayloadError,
    h1::{ClientCodec, ClientPayloadCodec, Message, MessageType},
};
use awc::error::{ConnectError, SendRequestError};
use bytes::Bytes;
use futures_core::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::links::Links;
use crate::{proxy::origin_stream::OriginControl, wire::clock::now};

/// What a codec is made for: a request without a body, whose framing the stream beneath writes.
type Asked = Message<(RequestHeadType, BodySize)>;

/// A connection between two exchanges, or in one whose answer has not begun.
pub(super) struct Link<Io> {
    framed: Framed<Io, ClientCodec>,
    control: Rc<OriginControl>,
    opened: Instant,
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> Link<Io> {
    /// Takes over a connection on which the head of the first answer was read.
    pub(super) fn adopt(framed: Framed<Io, ClientCodec>, control: Rc<OriginControl>) -> Self {
        Self {
            framed,
            control,
            opened: now(),
        }
    }

    /// What the stream beneath is told by.
    pub(super) fn control(&self) -> &OriginControl {
        &self.control
    }

    /// When it was opened.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Sends the head of a request and gives that of its answer. What there is of a body, the stream beneath carries.
    pub(super) async fn ask(
        &mut self,
        head: RequestHeadType,
    ) -> Result<ResponseHead, SendRequestError> {
        let mut framed = Pin::new(&mut self.framed);
        framed
            .as_mut()
            .write::<Asked>(Message::Item((head, BodySize::None)))?;
        poll_fn(|cx| framed.as_mut().flush::<Asked>(cx)).await?;
        let answered = poll_fn(|cx| framed.as_mut().next_item(cx)).await;
        Ok(answered.ok_or(ConnectError::Disconnected)??)
    }

    /// The body of the answer whose head was read last. The connection goes back to `home` with its end.
    pub(super) fn into_payload(self, home: &Rc<Links<Io>>, slot: usize) -> Payload {
        if self.framed.codec_ref().message_type() == MessageType::None {
            home.put(slot, self);
            return Payload::None;
        }
        let payload: BoxedPayloadStream = Box::pin(Answer {
            framed: Some(self.framed.into_map_codec(ClientCodec::into_payload_codec)),
            control: self.control,
            opened: self.opened,
            home: Rc::clone(home),
            slot,
        });
        Payload::Stream { payload }
    }

    /// A new codec for the next exchange: that of the last one knows what was special about its answer, and that of awc renews
    /// a `Date` of its own that is never sent.
    pub(super) fn refresh(self, config: &ServiceConfig) -> Self {
        let parts = self.framed.into_parts();
        let codec = ClientCodec::new(config.clone());
        // Not `replace_codec`: the frame would try to take an answer from its empty buffer before it reads one.
        let mut fresh = FramedParts::with_read_buf(parts.io, codec, parts.read_buf);
        fresh.write_buf = parts.write_buf;
        Self {
            framed: Framed::from_parts(fresh),
            ..self
        }
    }

    /// Whether nothing is left of the exchange before, nothing has come since and the connection stands. If so, and only then,
    /// the task is woken when that changes.
    pub(super) fn is_at_rest(&mut self, cx: &mut Context<'_>) -> bool {
        let mut space = [0; 1];
        let mut probe = ReadBuf::new(&mut space);
        self.framed.is_read_buf_empty()
            && self.framed.is_write_buf_empty()
            && Pin::new(self.framed.io_mut())
                .poll_read(cx, &mut probe)
                .is_pending()
    }

    /// Closes it, and says so to the other side where that can be said at once.
    pub(super) fn close(mut self) {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let _ = Pin::new(self.framed.io_mut()).poll_shutdown(cx);
    }
}

/// The body of an answer. Dropped before its end, it closes the connection.
struct Answer<Io: AsyncRead + AsyncWrite + Unpin + 'static> {
    framed: Option<Framed<Io, ClientPayloadCodec>>,
    control: Rc<OriginControl>,
    opened: Instant,
    home: Rc<Links<Io>>,
    slot: usize,
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> Stream for Answer<Io> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(framed) = &mut this.framed else {
            return Poll::Ready(None);
        };
        match ready!(Pin::new(framed).next_item(cx)) {
            Some(Ok(Some(piece))) => Poll::Ready(Some(Ok(piece))),
            Some(Ok(None)) => {
                if let Some(framed) = this.framed.take() {
                    let link = Link {
                        framed: framed.into_map_codec(ClientPayloadCodec::into_message_codec),
                        control: Rc::clone(&this.control),
                        opened: this.opened,
                    };
                    this.home.put(this.slot, link);
                }
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                this.framed = None;
                Poll::Ready(Some(Err(error)))
            }
            // The stream beneath makes an error of the end of the connection.
            None => {
                this.framed = None;
                Poll::Ready(Some(Err(PayloadError::Incomplete(None))))
            }
        }
    }
}
