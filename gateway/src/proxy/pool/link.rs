//! [`Link`]: a connection to an origin that awc opened, and one exchange after another on it.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_codec::{Decoder as _, Encoder as _};
use actix_http::{
    BoxedPayloadStream, Method, Payload, RequestHead, RequestHeadType, ResponseHead, ServiceConfig,
    StatusCode,
    body::BodySize,
    error::{ParseError, PayloadError},
    h1::{ClientCodec, ClientPayloadCodec, Message, MessageType},
};
use awc::error::{ConnectError, SendRequestError};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{links::Links, tunnel::TunnelAnswer};
use crate::{
    proxy::{
        origin_head::OriginHead,
        origin_stream::OriginControl,
        plain_answer::{PlainFn, PlainHead},
    },
    wire::{clock::now, room::with_spare, turn::OthersFirst},
};

/// How much of a long head is read at once, after its first piece.
const HEAD_READ_BYTES: usize = 4096;
/// How much of a body is read at once.
const BODY_READ_BYTES: usize = 32 * 1024;

/// A connection between two exchanges, or in one whose answer has not begun.
pub(super) struct Link<Io> {
    io: Io,
    control: Rc<OriginControl>,
    opened: Instant,
}

/// What came of a request.
pub(super) enum Asked<Io> {
    /// A whole answer, on the short way.
    Plain(Link<Io>, PlainHead, Bytes),
    /// Any answer.
    Parsed(ResponseHead, Answering<Io>),
}

/// A connection whose answer has begun.
pub(super) struct Answering<Io> {
    link: Link<Io>,
    codec: ClientCodec,
    /// What has come after the head.
    rest: BytesMut,
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> Link<Io> {
    /// Takes over a connection that was opened just now.
    pub(super) fn new(io: Io, control: Rc<OriginControl>) -> Self {
        Self {
            io,
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

    /// Sends the head of a request and gives that of its answer. What there is of a body, the
    /// stream beneath carries. A whole answer that `plain` takes is given as it makes it.
    pub(super) async fn ask(
        mut self,
        head: &OriginHead,
        config: &ServiceConfig,
        plain: &PlainFn<'_>,
    ) -> Result<Asked<Io>, SendRequestError> {
        OthersFirst::default().await;
        let mut unsent = head.bytes();
        poll_fn(|cx| poll_send(&mut self.io, &mut unsent, cx))
            .await
            .map_err(SendRequestError::Send)?;
        let mut input = BytesMut::new();
        if let Some((head, body)) = poll_fn(|cx| self.poll_plain(&mut input, plain, cx)).await? {
            return Ok(Asked::Plain(self, head, body));
        }
        let mut codec = codec_for(head, config);
        loop {
            let answer = codec
                .decode(&mut input)
                .map_err(SendRequestError::Response)?;
            if let Some(answer) = answer {
                let answering = Answering {
                    link: self,
                    codec,
                    rest: input,
                };
                return Ok(Asked::Parsed(answer, answering));
            }
            input.reserve(HEAD_READ_BYTES);
            poll_fn(|cx| self.poll_read(&mut input, cx)).await?;
        }
    }

    /// Reads the first of an answer: all of it, if it is plain; otherwise what there is, into
    /// `input`. So that no connection holds room while it waits, it is read into what the worker
    /// lends.
    fn poll_plain(
        &mut self,
        input: &mut BytesMut,
        plain: &PlainFn<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<(PlainHead, Bytes)>, SendRequestError>> {
        with_spare(|spare| {
            ready!(self.poll_read(spare, cx))?;
            let whole = self.control.take_whole_head();
            if let Some((head, body)) = whole.and_then(|length| spare.split_at_checked(length))
                && let Some(head) = plain(head)
            {
                return Poll::Ready(Ok(Some((head, Bytes::copy_from_slice(body)))));
            }
            input.extend_from_slice(spare);
            Poll::Ready(Ok(None))
        })
    }

    /// Reads more of a head, which is not complete.
    fn poll_read(
        &mut self,
        input: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendRequestError>> {
        let read = ready!(poll_read_into(&mut self.io, input, cx));
        let count = read.map_err(|error| SendRequestError::Response(ParseError::Io(error)))?;
        match count {
            0 => Poll::Ready(Err(ConnectError::Disconnected.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Whether nothing has come since the exchange before and the connection stands. If so, and
    /// only then, the task is woken when that changes.
    pub(super) fn is_at_rest(&mut self, cx: &mut Context<'_>) -> bool {
        let mut space = [0; 1];
        let mut probe = ReadBuf::new(&mut space);
        Pin::new(&mut self.io)
            .poll_read(cx, &mut probe)
            .is_pending()
    }

    /// Closes it, and says so to the other side where that can be said at once.
    pub(super) fn close(mut self) {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> Answering<Io> {
    /// The body of the answer. The connection goes back to `home` with its end.
    pub(super) fn into_payload(self, home: &Rc<Links<Io>>, slot: usize) -> Payload {
        let back = Some((Rc::clone(home), slot));
        match self.codec.message_type() {
            MessageType::None => {
                if self.rest.is_empty() {
                    home.put(slot, self.link);
                }
                Payload::None
            }
            MessageType::Payload | MessageType::Stream => self.into_stream(back),
        }
    }

    /// What came of a request to leave HTTP. Its connection serves no other.
    pub(super) fn into_tunnel(self, head: ResponseHead) -> TunnelAnswer {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return TunnelAnswer::Open {
                head,
                io: Box::new(self.link.io),
                first: self.rest.freeze(),
            };
        }
        let payload = match self.codec.message_type() {
            MessageType::None => Payload::None,
            MessageType::Payload | MessageType::Stream => self.into_stream(None),
        };
        TunnelAnswer::Refused(head, payload)
    }

    fn into_stream(self, home: Option<(Rc<Links<Io>>, usize)>) -> Payload {
        let payload: BoxedPayloadStream = Box::pin(Answer {
            link: Some(self.link),
            codec: self.codec.into_payload_codec(),
            input: self.rest,
            home,
        });
        Payload::Stream { payload }
    }
}

/// A codec for the answer to `head`. Each exchange has its own: it would remember what was special
/// about the last answer.
fn codec_for(head: &OriginHead, config: &ServiceConfig) -> ClientCodec {
    let mut codec = ClientCodec::new(config.clone());
    if *head.method() == Method::HEAD {
        // It learns from the request that it writes that no body follows.
        let mut asked = RequestHead::default();
        asked.method = Method::HEAD;
        let asked = Message::Item((RequestHeadType::from(asked), BodySize::None));
        let _ = codec.encode(asked, &mut BytesMut::new());
    }
    codec
}

fn poll_send<Io: AsyncWrite + Unpin>(
    io: &mut Io,
    unsent: &mut &[u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !unsent.is_empty() {
        let count = ready!(Pin::new(&mut *io).poll_write(cx, unsent))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *unsent = unsent.get(count..).unwrap_or_default();
    }
    Pin::new(io).poll_flush(cx)
}

/// Appends what has come to `input`.
fn poll_read_into<Io: AsyncRead + Unpin>(
    io: &mut Io,
    input: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    pin!(io.read_buf(input)).poll(cx)
}

/// The body of an answer. Dropped before its end, it closes the connection.
struct Answer<Io: AsyncRead + AsyncWrite + Unpin + 'static> {
    link: Option<Link<Io>>,
    codec: ClientPayloadCodec,
    input: BytesMut,
    /// Where the connection goes with the end.
    home: Option<(Rc<Links<Io>>, usize)>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> Answer<Io> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, PayloadError>> {
        loop {
            if let Some(piece) = self.codec.decode(&mut self.input)? {
                return Poll::Ready(Ok(piece));
            }
            let Some(link) = &mut self.link else {
                return Poll::Ready(Ok(None));
            };
            self.input.reserve(BODY_READ_BYTES);
            // The stream beneath makes an error of the end of the connection.
            if ready!(poll_read_into(&mut link.io, &mut self.input, cx))? == 0 {
                return Poll::Ready(Err(PayloadError::Incomplete(None)));
            }
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> Stream for Answer<Io> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.link.is_none() {
            return Poll::Ready(None);
        }
        match ready!(this.poll_piece(cx)) {
            Ok(Some(piece)) => Poll::Ready(Some(Ok(piece))),
            Ok(None) => {
                if let (Some(link), Some((home, slot)), true) =
                    (this.link.take(), this.home.take(), this.input.is_empty())
                {
                    home.put(slot, link);
                }
                Poll::Ready(None)
            }
            Err(error) => {
                this.link = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}
