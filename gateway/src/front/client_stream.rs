//! The guarded client side: the byte stream that the dispatcher is given in place of the accepted
//! socket.
//!
//! Every head is held until it is complete, judged, and passed on when the response before it is
//! out; bodies and responses must keep moving. The codec of actix-http takes what passes: it has no
//! head to refuse by itself.

mod control;
mod crowd;
mod fault;
mod raw;
mod reading;
mod request;
mod response;
mod service;
mod writing;

use std::{
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_http::StatusCode;
use actix_rt::net::TcpStream;
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

pub use self::crowd::Place;
pub(crate) use self::service::Taken;
pub use self::{
    control::{ClientControl, Refused},
    fault::{ChunkFault, ClientFault},
    raw::RawInput,
    service::ClientGuard,
};
use self::{request::Request, response::Outgoing};
use crate::tls::socket::TlsSocket;
pub use crate::wire::alarm::Pace;
use crate::wire::{
    alarm::{Alarm, PaceMeter},
    body::Framing,
    head::HeadEnd,
};

/// What is read at once while the bytes cannot go straight to the reader.
const ASIDE_BYTES: usize = 4096;

/// What a client may take, in time and in bytes. A time of zero means: no limit.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// For each head of a request: from its first byte, of the first one from the accept.
    pub head_timeout: Duration,
    /// From the end of a response to the first byte of the next request.
    pub keep_alive: Duration,
    /// For the body of a request.
    pub body: Pace,
    /// For the response.
    pub write: Pace,
    /// How long the rest of a request is taken in after its response, so that a client that is
    /// still sending can read it (RFC 9112 §9.6).
    pub linger: Duration,
    /// Largest head of a request, in bytes.
    pub head_bytes: usize,
    /// Most header fields of a request.
    pub fields: usize,
    /// Data of one body in chunks, in bytes. What announces a length is for its handler to judge.
    pub body_bytes: u64,
    /// Chunk extensions of one body, in bytes.
    pub extension_bytes: u32,
    /// Trailer section of one body, in bytes.
    pub trailer_bytes: u32,
}

#[cfg(test)]
impl ClientLimits {
    /// Limits nothing.
    pub const UNLIMITED: Self = Self {
        head_timeout: Duration::ZERO,
        keep_alive: Duration::ZERO,
        body: Pace::UNLIMITED,
        write: Pace::UNLIMITED,
        linger: Duration::ZERO,
        head_bytes: usize::MAX,
        fields: usize::MAX,
        body_bytes: u64::MAX,
        extension_bytes: u32::MAX,
        trailer_bytes: u32::MAX,
    };
}

#[cfg(test)]
impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(60),
            body: Pace {
                idle: Duration::from_secs(10),
                min_rate: 500,
            },
            write: Pace {
                idle: Duration::from_secs(30),
                min_rate: 100,
            },
            linger: Duration::from_secs(2),
            head_bytes: 16 * 1024,
            fields: 64,
            body_bytes: u64::MAX,
            extension_bytes: 4 * 1024,
            trailer_bytes: 8 * 1024,
        }
    }
}

/// A socket that can be told to forget what it has not sent.
pub trait ClientSocket: AsyncRead + AsyncWrite + Unpin {
    /// Makes closing the connection reset it: what the client has not taken is dropped at once,
    /// where the system would keep it for minutes.
    fn reset_on_close(&self);
}

impl ClientSocket for TcpStream {
    fn reset_on_close(&self) {
        if let Err(error) = self.set_zero_linger() {
            log::debug!("cannot set SO_LINGER: {error}");
        }
    }
}

impl ClientSocket for TlsSocket {
    fn reset_on_close(&self) {
        self.tcp().reset_on_close();
    }
}

/// Where the incoming side stands.
#[derive(Debug)]
enum Incoming {
    /// Before or within the head of a request.
    Head,
    Body(Framing),
    /// The request is complete and its response is not.
    Answering,
    /// No HTTP any more.
    Raw,
    /// Nothing more is taken.
    Closed,
}

/// What the read alarm is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Nothing,
    NextRequest,
    RestOfHead,
    EndOfLinger,
}

/// A client connection that keeps to its limits. See the module.
pub struct ClientStream<S> {
    io: S,
    limits: Rc<ClientLimits>,
    control: Rc<ClientControl>,
    place: Place,
    accepted_at: Instant,
    incoming: Incoming,
    outgoing: Outgoing,
    /// A request was passed on and its final response is not out.
    owed: bool,
    /// The request that is being answered, or has begun to come, is `HEAD`.
    is_head: bool,
    /// The request that is being answered has the rest of the connection for a body: it must not be
    /// taken for requests.
    endless: bool,
    /// Bytes not judged yet.
    held: BytesMut,
    end: HeadEnd,
    empty_lines: u8,
    /// Bytes that may pass and have not been fetched.
    ready: BytesMut,
    awaited: Awaited,
    read_alarm: Alarm,
    /// What was wrong with bytes of the body that came with the head.
    fault_of_body: Option<ClientFault>,
    body_meter: PaceMeter,
    write_meter: PaceMeter,
    /// The last response was an error: what the client sends on may not have been read.
    ended_badly: bool,
    shut_down: bool,
}

impl<S> ClientStream<S> {
    /// Guards a connection.
    fn new(taken: Taken<S>, limits: Rc<ClientLimits>, control: ClientControl) -> Self {
        Self {
            io: taken.io,
            limits,
            control: Rc::new(control),
            place: taken.place,
            accepted_at: taken.since,
            incoming: Incoming::Head,
            outgoing: Outgoing::Quiet,
            owed: false,
            is_head: false,
            endless: false,
            held: BytesMut::new(),
            end: HeadEnd::default(),
            empty_lines: 0,
            ready: BytesMut::new(),
            awaited: Awaited::Nothing,
            read_alarm: Alarm::default(),
            fault_of_body: None,
            body_meter: PaceMeter::default(),
            write_meter: PaceMeter::default(),
            ended_badly: false,
            shut_down: false,
        }
    }

    /// The side of the connection that the handlers of its requests hold.
    pub fn control(&self) -> Rc<ClientControl> {
        Rc::clone(&self.control)
    }

    /// Whether a request was passed on whose answer is not out to its last byte.
    pub(super) fn owes(&self) -> bool {
        self.owed
    }

    fn is_raw(&self) -> bool {
        matches!(self.incoming, Incoming::Raw)
    }

    /// A head has passed.
    fn begin_exchange(&mut self, request: Request) {
        self.control.note_request();
        self.place.busy();
        self.await_nothing();
        self.owed = true;
        self.ended_badly = false;
        self.end = HeadEnd::default();
        self.empty_lines = 0;
        self.body_meter.begin();
        self.write_meter.begin();
        self.endless = matches!(request.body, Some(Framing::UntilClose));
        self.incoming = match request.body {
            // What follows a wish to leave HTTP is held until the wish is granted.
            None | Some(Framing::UntilClose) => Incoming::Answering,
            Some(framing) => Incoming::Body(framing),
        };
    }

    fn end_request(&mut self) {
        if self.owed {
            self.incoming = Incoming::Answering;
        } else {
            self.await_request();
        }
    }

    fn await_request(&mut self) {
        self.incoming = Incoming::Head;
        self.place.idle();
    }

    fn await_nothing(&mut self) {
        self.read_alarm.disarm();
        self.awaited = Awaited::Nothing;
    }
}

impl<S: ClientSocket> ClientStream<S> {
    fn close(&mut self) {
        self.incoming = Incoming::Closed;
        self.await_nothing();
    }

    /// Answers a request whose client is at fault and whose handler has not begun to. Nothing more
    /// is owed then.
    pub(super) fn answer_for_handler(&mut self, cx: &mut Context<'_>) {
        if self.owed && self.outgoing.is_quiet() && self.control.fault().is_some() {
            self.write_refusal(cx);
            self.owed = false;
        }
    }

    /// Says that the next bytes to be written, so many, are a whole answer with this status: they
    /// need not be looked at.
    pub(super) fn expect_answer(&mut self, length: usize, status: StatusCode) {
        if self.owed && self.outgoing.is_quiet() && length > 0 && !status.is_informational() {
            self.ended_badly = status.is_client_error() || status.is_server_error();
            self.outgoing = Outgoing::Whole { left: length };
        }
    }

    /// Has the connection reset when it is dropped: what the client has not taken is not delivered.
    pub(super) fn abort(&mut self) {
        self.io.reset_on_close();
    }

    /// Ends the connection over something the client did. To the dispatcher it is the end
    /// of the stream.
    fn refuse(&mut self, fault: ClientFault, cx: &mut Context<'_>) {
        // The request of a body was answered, or its handler is to answer: it learns of the fault
        // through its payload. If it does not, the shutdown does.
        let is_between = matches!(self.incoming, Incoming::Head) && !self.owed;
        self.control.note_fault(fault);
        self.close();
        if is_between {
            self.write_refusal(cx);
        }
    }

    /// The connection leaves HTTP; what came after the request is the first that the other protocol
    /// says.
    fn switch(&mut self, cx: &mut Context<'_>) {
        self.await_nothing();
        self.incoming = Incoming::Raw;
        self.ready.unsplit(self.held.split());
        cx.waker().wake_by_ref();
    }
}

impl<S: ClientSocket> AsyncRead for ClientStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ready.is_empty() && !this.is_raw() {
            this.deliver(buf);
            return Poll::Ready(Ok(()));
        }
        if this.control.is_upgraded() && !this.is_raw() {
            this.switch(cx);
        }
        match &this.incoming {
            Incoming::Head => this.poll_read_head(cx, buf),
            Incoming::Body(_) => this.poll_read_body(cx, buf),
            Incoming::Answering => this.poll_read_ahead(cx),
            Incoming::Raw => this.poll_read_raw(cx, buf),
            Incoming::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl<S: ClientSocket> AsyncWrite for ClientStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Poll::Ready(taken) = Pin::new(&mut this.io).poll_write(cx, data)? else {
            return this.poll_write_pace(cx).map(Err);
        };
        this.control.note_sent(taken);
        this.write_meter.moved(taken);
        if !this.is_raw() {
            this.follow(data, taken, cx)?;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_flush(cx) {
            Poll::Pending => this.poll_write_pace(cx).map(Err),
            flushed => {
                this.write_meter.moved(0);
                flushed
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.answer_for_handler(cx);
        if !this.shut_down {
            if Pin::new(&mut this.io).poll_shutdown(cx)?.is_pending() {
                return this.poll_write_pace(cx).map(Err);
            }
            this.shut_down = true;
            // Nothing more is owed to it, so that it may make room.
            this.place.idle();
        }
        if this.must_linger() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Drop for ClientStream<S> {
    fn drop(&mut self) {
        self.control.diversion().end();
    }
}

impl<S> fmt::Debug for ClientStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream")
            .field("incoming", &self.incoming)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}
