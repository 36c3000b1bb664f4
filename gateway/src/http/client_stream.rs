//! The guarded client side: the byte stream that actix-http is given in place of the accepted socket.
//!
//! actix-http limits the time of the first head of a connection only, and no body and no response; it takes a bare line feed for the
//! end of a line, and decodes the next request while a response is still owed, so that an error in the second takes the first
//! with it. Here every head is held until it is complete, judged, and passed on when the response before it is out; bodies and
//! responses must keep moving. It does not judge what actix-http refuses by itself.

mod control;
mod fault;
mod request;
mod response;
mod service;

use std::{
    fmt, io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_rt::net::TcpStream;
use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

pub use self::{
    control::ClientControl,
    fault::{ChunkFault, ClientFault},
    service::ClientGuard,
};
use self::{
    request::Request,
    response::{Event, Outgoing},
};
use crate::tls::socket::TlsSocket;
pub use crate::wire::alarm::Pace;
use crate::wire::{
    alarm::{Alarm, OutOfPace, PaceMeter},
    body::Framing,
    head::HeadEnd,
};

/// What is read at once while the bytes cannot go straight to the reader.
const ASIDE_BYTES: usize = 4096;
/// How much of the requests to come is taken in while a response is owed.
const READ_AHEAD_BYTES: usize = 16 * 1024;
/// Empty lines before a request, which RFC 9112 §2.2 asks to pass over.
const MAX_EMPTY_LINES: u8 = 2;
/// What is taken in at most after the connection has been given up, for the client to read its answer.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

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
    /// How long the rest of a request is taken in after its response, so that a client that is still sending can read it
    /// (RFC 9112 §9.6).
    pub linger: Duration,
    /// Largest head of a request, in bytes.
    pub head_bytes: usize,
    /// Most header fields of a request.
    pub fields: usize,
    /// Chunk extensions of one body, in bytes.
    pub extension_bytes: u32,
    /// Trailer section of one body, in bytes.
    pub trailer_bytes: u32,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(60),
            body: Pace { idle: Duration::from_secs(10), min_rate: 500 },
            write: Pace { idle: Duration::from_secs(30), min_rate: 100 },
            linger: Duration::from_secs(2),
            head_bytes: 16 * 1024,
            fields: 64,
            extension_bytes: 4 * 1024,
            trailer_bytes: 8 * 1024,
        }
    }
}

/// A socket that can be told to forget what it has not sent.
pub trait ClientSocket: AsyncRead + AsyncWrite + Unpin {
    /// Makes closing the connection reset it: what the client has not taken is dropped at once, where the system would keep it
    /// for minutes.
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
    accepted_at: Instant,
    incoming: Incoming,
    outgoing: Outgoing,
    /// A request was passed on and its final response is not out.
    owed: bool,
    /// The request that is being answered is `HEAD`.
    is_head: bool,
    /// Bytes not judged yet.
    held: BytesMut,
    end: HeadEnd,
    empty_lines: u8,
    /// Bytes that may pass and have not been fetched.
    ready: BytesMut,
    awaited: Awaited,
    read_alarm: Alarm,
    body_meter: PaceMeter,
    write_meter: PaceMeter,
    shut_down: bool,
    lingered_bytes: usize,
}

impl<S> ClientStream<S> {
    /// Guards a socket, accepted just now.
    pub fn new(io: S, limits: Rc<ClientLimits>, control: ClientControl) -> Self {
        Self {
            io,
            limits,
            control: Rc::new(control),
            accepted_at: Instant::now(),
            incoming: Incoming::Head,
            outgoing: Outgoing::Quiet,
            owed: false,
            is_head: false,
            held: BytesMut::new(),
            end: HeadEnd::default(),
            empty_lines: 0,
            ready: BytesMut::new(),
            awaited: Awaited::Nothing,
            read_alarm: Alarm::default(),
            body_meter: PaceMeter::default(),
            write_meter: PaceMeter::default(),
            shut_down: false,
            lingered_bytes: 0,
        }
    }

    /// The side of the connection that the handlers of its requests hold.
    pub fn control(&self) -> Rc<ClientControl> {
        Rc::clone(&self.control)
    }

    pub(crate) fn control_ref(&self) -> &ClientControl {
        &self.control
    }

    fn is_raw(&self) -> bool {
        matches!(self.incoming, Incoming::Raw)
    }

    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.ready.len().min(buf.remaining());
        buf.put_slice(self.ready.get(..count).unwrap_or_default());
        self.ready.advance(count);
    }

    /// A head has passed.
    fn begin_exchange(&mut self, request: Request) {
        self.control.note_request();
        self.await_nothing();
        self.owed = true;
        self.is_head = request.is_head;
        self.end = HeadEnd::default();
        self.empty_lines = 0;
        self.body_meter.begin();
        self.write_meter.begin();
        self.incoming = match request.body {
            Some(framing) => Incoming::Body(framing),
            None => Incoming::Answering,
        };
    }

    fn end_request(&mut self) {
        self.incoming = if self.owed { Incoming::Answering } else { Incoming::Head };
    }

    /// Takes bytes that follow a head, and says how many belong to its body. What goes beyond is held.
    fn advance_body(&mut self, bytes: &[u8]) -> Result<usize, ClientFault> {
        let used = match &mut self.incoming {
            Incoming::Body(framing) => match framing.advance(bytes).map_err(ClientFault::BadChunk)? {
                Some(end) => {
                    self.end_request();
                    end
                }
                None => bytes.len(),
            },
            _ => 0,
        };
        self.held.extend_from_slice(bytes.get(used..).unwrap_or_default());
        Ok(used)
    }

    fn await_nothing(&mut self) {
        self.read_alarm.disarm();
        self.awaited = Awaited::Nothing;
    }

    /// Judges the bytes held. True: a head was complete and waits in `ready`, with what was there of its body.
    fn judge_held(&mut self) -> Result<bool, ClientFault> {
        loop {
            let Some(len) = self.end.find(&self.held).map_err(|_| ClientFault::BareLineFeed)? else {
                return if self.held.len() > self.limits.head_bytes { Err(ClientFault::HeadTooLarge) } else { Ok(false) };
            };
            if len > self.limits.head_bytes {
                return Err(ClientFault::HeadTooLarge);
            }
            let head = self.held.split_to(len);
            self.end = HeadEnd::default();
            if len == 2 && self.empty_lines < MAX_EMPTY_LINES {
                self.empty_lines += 1;
                if self.held.is_empty() {
                    return Ok(false);
                }
                continue;
            }
            let request = request::read(&head, &self.limits)?;
            self.begin_exchange(request);
            let rest = self.held.split();
            let used = self.advance_body(&rest)?;
            self.ready = head;
            self.ready.extend_from_slice(rest.get(..used).unwrap_or_default());
            return Ok(true);
        }
    }

    /// How many of these bytes pass as they are; `None`: they have to be held.
    fn pass_direct(&mut self, fresh: &[u8]) -> Result<Option<usize>, ClientFault> {
        let Ok(Some(len)) = HeadEnd::default().find(fresh) else { return Ok(None) };
        let Some((head, rest)) = fresh.split_at_checked(len) else { return Ok(None) };
        if len == 2 || len > self.limits.head_bytes {
            return Ok(None);
        }
        let request = request::read(head, &self.limits)?;
        self.begin_exchange(request);
        Ok(Some(len + self.advance_body(rest)?))
    }
}

impl<S: ClientSocket> ClientStream<S> {
    /// Appends what the client has sent to `held`.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); ASIDE_BYTES];
        let mut aside = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut aside))?;
        self.held.extend_from_slice(aside.filled());
        Poll::Ready(Ok(aside.filled().len()))
    }

    fn close(&mut self) {
        self.incoming = Incoming::Closed;
        self.await_nothing();
    }

    /// Ends the connection over something the client did. To actix-http it is the end of the stream.
    fn refuse(&mut self, fault: ClientFault, cx: &mut Context<'_>) {
        self.control.note_fault(fault);
        self.close();
        // With a response owed, its handler is to answer: it learns of the fault through its payload. If it does not, the
        // shutdown does.
        if !self.owed {
            self.write_refusal(cx);
        }
    }

    /// Only ever between two responses, so that it can interrupt none, and actix-http has nothing left to write.
    fn write_refusal(&mut self, cx: &mut Context<'_>) {
        if let Some(response) = self.control.fault().and_then(ClientFault::response) {
            // A few hundred bytes on a connection that owes nothing: the socket takes them, or it is not worth waiting for.
            if let Poll::Ready(Ok(count)) = Pin::new(&mut self.io).poll_write(cx, response.as_bytes()) {
                self.control.note_sent(count);
            }
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
    }

    fn poll_read_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            // The common case needs no copy: one read brings the whole head.
            if self.held.is_empty() {
                let start = buf.filled().len();
                if Pin::new(&mut self.io).poll_read(cx, buf)?.is_pending() {
                    return self.poll_head_deadline(cx);
                }
                let fresh = buf.filled().get(start..).unwrap_or_default();
                if fresh.is_empty() {
                    return self.end_of_stream();
                }
                match self.pass_direct(fresh) {
                    Ok(Some(passed)) => {
                        buf.set_filled(start + passed);
                        return Poll::Ready(Ok(()));
                    }
                    Ok(None) => {
                        self.held.extend_from_slice(fresh);
                        buf.set_filled(start);
                    }
                    Err(fault) => {
                        buf.set_filled(start);
                        self.refuse(fault, cx);
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            match self.judge_held() {
                Ok(true) => {
                    self.deliver(buf);
                    return Poll::Ready(Ok(()));
                }
                Ok(false) => {}
                Err(fault) => {
                    self.refuse(fault, cx);
                    return Poll::Ready(Ok(()));
                }
            }
            if !self.held.is_empty() {
                match self.poll_hold(cx)? {
                    Poll::Pending => return self.poll_head_deadline(cx),
                    Poll::Ready(0) => return self.end_of_stream(),
                    Poll::Ready(_) => {}
                }
            }
        }
    }

    fn end_of_stream(&mut self) -> Poll<io::Result<()>> {
        self.control.note_left();
        self.close();
        Poll::Ready(Ok(()))
    }

    /// Nothing has come: a matter of the time that is left for a head, or for it to begin.
    fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let first = self.control.requests() == 0;
        let awaited = if first || !self.held.is_empty() { Awaited::RestOfHead } else { Awaited::NextRequest };
        if self.awaited != awaited {
            self.awaited = awaited;
            self.read_alarm.disarm();
        }
        match awaited {
            Awaited::RestOfHead if first && !self.limits.head_timeout.is_zero() => {
                self.read_alarm.arm_at(self.accepted_at + self.limits.head_timeout);
            }
            Awaited::RestOfHead => self.read_alarm.arm(self.limits.head_timeout),
            _ => self.read_alarm.arm(self.limits.keep_alive),
        }
        ready!(self.read_alarm.poll(cx));
        match awaited {
            Awaited::RestOfHead => self.refuse(ClientFault::HeadTimeout, cx),
            _ => self.close(),
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.owed && self.poll_linger_deadline(cx).is_ready() {
            self.close();
            return Poll::Ready(Ok(()));
        }
        let start = buf.filled().len();
        if Pin::new(&mut self.io).poll_read(cx, buf)?.is_pending() {
            return self.poll_body_pace(cx);
        }
        let fresh = buf.filled().get(start..).unwrap_or_default();
        if fresh.is_empty() {
            return self.end_of_stream();
        }
        self.body_meter.moved(fresh.len());
        match self.advance_body(fresh) {
            Ok(used) => buf.set_filled(start + used),
            Err(fault) => {
                buf.set_filled(start);
                self.refuse(fault, cx);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_body_pace(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The end of such a body is the end of the connection: how long it may be silent is for those who talk there to say.
        if matches!(self.incoming, Incoming::Body(Framing::UntilClose)) && self.owed {
            return Poll::Pending;
        }
        let pace = self.control.body_pace(self.limits.body);
        let fault = match ready!(self.body_meter.poll_out_of_pace(cx, pace)) {
            OutOfPace::Idle => ClientFault::BodyStalled,
            OutOfPace::TooSlow => ClientFault::BodyTooSlow,
        };
        if self.owed {
            self.refuse(fault, cx);
        } else {
            self.close();
        }
        Poll::Ready(Ok(()))
    }

    /// The response is out and the body is not in: it will not be read for ever.
    fn poll_linger_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.awaited != Awaited::EndOfLinger {
            self.awaited = Awaited::EndOfLinger;
            self.read_alarm.disarm();
        }
        if self.limits.linger.is_zero() {
            return Poll::Ready(());
        }
        self.read_alarm.arm(self.limits.linger);
        self.read_alarm.poll(cx)
    }

    /// While a response is owed, only the end of the connection is of interest; what comes is kept for later.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.len() < READ_AHEAD_BYTES {
            if ready!(self.poll_hold(cx))? == 0 {
                return self.end_of_stream();
            }
        }
        // No reader is registered now: the end of the response wakes the task.
        Poll::Pending
    }

    /// Follows what was written. An error if it was no part of a response.
    fn follow(&mut self, offered: &[u8], taken: usize, cx: &mut Context<'_>) -> io::Result<()> {
        let mut at = 0;
        while at < taken {
            if self.is_raw() {
                return Ok(());
            }
            let rest = offered.get(at..).unwrap_or_default();
            let (followed, event) = match self.owed {
                true => self.outgoing.follow(rest, taken - at, self.is_head),
                false => (0, Some(Event::Stray)),
            };
            at += followed;
            match event {
                None => {}
                Some(Event::Complete) => self.end_response(cx),
                Some(Event::Switched) => self.switch(cx),
                Some(Event::Stray) => {
                    self.control.note_fault(ClientFault::StrayResponse);
                    self.io.reset_on_close();
                    return Err(io::Error::new(io::ErrorKind::InvalidData, ClientFault::StrayResponse));
                }
            }
        }
        Ok(())
    }

    fn end_response(&mut self, cx: &mut Context<'_>) {
        self.owed = false;
        self.control.end_exchange();
        match self.incoming {
            Incoming::Answering => {
                self.incoming = Incoming::Head;
                if self.held.is_empty() {
                    // Nobody may poll the reading side before the next byte, so the deadline for that byte is set here.
                    let _ = self.poll_head_deadline(cx);
                } else {
                    cx.waker().wake_by_ref();
                }
            }
            Incoming::Body(_) => {
                let _ = self.poll_linger_deadline(cx);
            }
            Incoming::Head | Incoming::Raw | Incoming::Closed => {}
        }
    }

    /// The connection leaves HTTP; what came after the request is the first that the other protocol says.
    fn switch(&mut self, cx: &mut Context<'_>) {
        self.await_nothing();
        self.incoming = Incoming::Raw;
        if !self.held.is_empty() {
            self.ready.unsplit(self.held.split());
            cx.waker().wake_by_ref();
        }
    }

    fn poll_write_pace(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let pace = self.control.write_pace(self.limits.write);
        ready!(self.write_meter.poll_out_of_pace(cx, pace));
        self.control.note_fault(ClientFault::WriteStalled);
        self.io.reset_on_close();
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, ClientFault::WriteStalled))
    }

    /// Whether the client may still be sending: closing the socket then would reset the connection, and with it drop the answer
    /// that the client has not read yet.
    fn must_linger(&self) -> bool {
        !self.is_raw()
            && !self.control.client_left()
            && (self.control.fault().is_some() || matches!(self.incoming, Incoming::Body(_)) || !self.held.is_empty())
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [MaybeUninit::uninit(); ASIDE_BYTES];
        while self.poll_linger_deadline(cx).is_pending() && self.lingered_bytes < MAX_LINGER_BYTES {
            let mut aside = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut aside)) {
                Ok(()) if !aside.filled().is_empty() => self.lingered_bytes += aside.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: ClientSocket> AsyncRead for ClientStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ready.is_empty() {
            this.deliver(buf);
            return Poll::Ready(Ok(()));
        }
        if this.control.is_upgraded() && !this.is_raw() {
            this.switch(cx);
            if !this.ready.is_empty() {
                this.deliver(buf);
                return Poll::Ready(Ok(()));
            }
        }
        match &this.incoming {
            Incoming::Head => this.poll_read_head(cx, buf),
            Incoming::Body(_) => this.poll_read_body(cx, buf),
            Incoming::Answering => this.poll_read_ahead(cx),
            Incoming::Raw => Pin::new(&mut this.io).poll_read(cx, buf),
            Incoming::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl<S: ClientSocket> AsyncWrite for ClientStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Poll::Ready(taken) = Pin::new(&mut this.io).poll_write(cx, data)? else {
            return if this.is_raw() { Poll::Pending } else { this.poll_write_pace(cx).map(Err) };
        };
        this.control.note_sent(taken);
        if !this.is_raw() {
            this.write_meter.moved(taken);
            this.follow(data, taken, cx)?;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx)?;
        // A plain socket has nothing to flush; with TLS, what it has taken may wait for the client all the same.
        if flushed.is_pending() && !this.is_raw() { this.poll_write_pace(cx).map(Err) } else { flushed.map(Ok) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.owed && this.outgoing.is_quiet() && this.control.fault().is_some() {
            this.write_refusal(cx);
            this.owed = false;
        }
        if !this.shut_down {
            if Pin::new(&mut this.io).poll_shutdown(cx)?.is_pending() {
                return this.poll_write_pace(cx).map(Err);
            }
            this.shut_down = true;
        }
        if this.must_linger() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> fmt::Debug for ClientStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream").field("incoming", &self.incoming).field("control", &self.control).finish_non_exhaustive()
    }
}
