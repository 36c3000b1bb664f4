//! The guarded origin side: the byte stream that awc is given in place of a socket.
//!
//! awc takes any 1xx for the answer, a connection closed half way for the end of a body, and a response delimited by close for
//! an empty one. So it never sees such things: only a well-formed final response passes here, framed so that awc cannot
//! mistake its end, and every other course of events becomes an error that says what happened ([`OriginFault`]). A connection
//! that is not exactly at the start of the next response is never used again.

mod body;
mod control;
mod fault;
mod head;

use std::{
    fmt, io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_rt::net::{ActixStream, Ready};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::head::{Judged, RequestTraits};
pub use self::{
    control::{OriginControl, OriginRegistry},
    fault::OriginFault,
};
use crate::wire::{alarm::Alarm, body::Framing, head::HeadEnd};

/// What is read at once while the bytes cannot go straight to the reader.
const ASIDE_BYTES: usize = 4096;

/// How long an origin may take for what. Zero switches a limit off.
#[derive(Clone, Copy, Debug)]
pub struct OriginLimits {
    /// From the end of the request to the end of the head of the final response. Interim responses do not extend it.
    pub first_byte_timeout: Duration,
    /// The longest silence within a response body.
    pub idle_timeout: Duration,
    /// The longest time in which the origin takes no byte of the request.
    pub write_timeout: Duration,
    /// Largest head of a response, its interim responses included, in bytes.
    pub head_bytes: usize,
}

impl Default for OriginLimits {
    fn default() -> Self {
        Self {
            first_byte_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            head_bytes: 64 * 1024,
        }
    }
}

/// Where the connection stands.
#[derive(Debug)]
enum Phase {
    /// Between two exchanges: whatever comes now belongs to no request.
    Idle,
    /// A request is being written or was; the final response has not begun.
    Waiting,
    /// Within the body of the final response.
    Body(Framing),
    /// After 101: any bytes, both ways.
    Tunnel,
    /// Never to be used again.
    Spent,
}

/// A connection to an origin that lets only well-formed final responses through. See the module.
pub struct OriginStream<S> {
    /// Gone as soon as the connection is spent, so that a pool does not keep the socket of a dead connection open.
    io: Option<S>,
    limits: OriginLimits,
    control: Rc<OriginControl>,
    phase: Phase,
    request: RequestTraits,
    /// Whether a byte of a response has come in this exchange.
    answered: bool,
    /// Whether the connection ends with this exchange.
    closing: bool,
    /// Bytes of a head that is not complete, or not to be passed as it came.
    held: BytesMut,
    end: HeadEnd,
    /// Bytes of the interim responses of this exchange.
    interim_bytes: usize,
    /// Bytes that may pass and have not been fetched.
    ready: BytesMut,
    read_alarm: Alarm,
    write_alarm: Alarm,
}

impl<S> OriginStream<S> {
    /// Guards a fresh connection.
    pub fn new(io: S, limits: OriginLimits, control: OriginControl) -> Self {
        Self {
            io: Some(io),
            limits,
            control: Rc::new(control),
            phase: Phase::Idle,
            request: RequestTraits::default(),
            answered: false,
            closing: false,
            held: BytesMut::new(),
            end: HeadEnd::default(),
            interim_bytes: 0,
            ready: BytesMut::new(),
            read_alarm: Alarm::default(),
            write_alarm: Alarm::default(),
        }
    }

    /// The side of the connection that others hold.
    pub fn control(&self) -> Rc<OriginControl> {
        Rc::clone(&self.control)
    }

    /// Ends the use of the connection with an error.
    fn fail(&mut self, fault: OriginFault) -> io::Error {
        self.spend();
        fault.into()
    }

    fn spend(&mut self) {
        self.phase = Phase::Spent;
        self.io = None;
        self.read_alarm.disarm();
        self.write_alarm.disarm();
    }

    fn begin_exchange(&mut self, head: &[u8]) {
        self.control.count_exchange();
        self.request = RequestTraits::of(head);
        self.phase = Phase::Waiting;
        self.answered = false;
        self.closing = false;
        self.interim_bytes = 0;
        self.end = HeadEnd::default();
    }

    /// The response is complete. `leftover`: more came in the same read, which is an answer to nothing.
    fn end_exchange(&mut self, leftover: bool) {
        self.read_alarm.disarm();
        self.write_alarm.disarm();
        if leftover {
            log::debug!("origin sent bytes after its response; the connection is not used again");
        }
        if leftover || self.closing || self.control.is_retired() {
            self.spend();
        } else {
            self.phase = Phase::Idle;
        }
    }

    /// The connection ended, or broke, where a response was still owed.
    fn died(&self) -> OriginFault {
        match &self.phase {
            Phase::Waiting if !self.answered => OriginFault::DiedBeforeResponse { reused: self.control.exchanges() > 1 },
            Phase::Waiting => OriginFault::TruncatedHead,
            _ => OriginFault::TruncatedBody,
        }
    }

    /// Takes bytes that belong to the body or follow it, and says how many of them are the body's.
    fn advance_body(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Phase::Body(framing) = &mut self.phase else { return Ok(0) };
        match framing.advance(bytes) {
            Ok(Some(end)) => {
                self.end_exchange(end < bytes.len());
                Ok(end)
            }
            Ok(None) => Ok(bytes.len()),
            Err(fault) => Err(self.fail(OriginFault::BadChunk(fault))),
        }
    }

    /// Looks for a complete head in what is held. True: a final one was found and waits, with what followed it, in `ready`.
    fn judge_held(&mut self) -> io::Result<bool> {
        loop {
            let found = self.end.find(&self.held).map_err(|_| self.fail(OriginFault::BadFraming("bare LF in head")))?;
            let Some(len) = found else {
                if self.held.len().saturating_add(self.interim_bytes) > self.limits.head_bytes {
                    return Err(self.fail(OriginFault::HeadTooLarge));
                }
                return Ok(false);
            };
            if len.saturating_add(self.interim_bytes) > self.limits.head_bytes {
                return Err(self.fail(OriginFault::HeadTooLarge));
            }
            let head = self.held.split_to(len);
            self.end = HeadEnd::default();
            match head::judge(&head, self.request).map_err(|fault| self.fail(fault))? {
                Judged::Interim => self.interim_bytes = self.interim_bytes.saturating_add(len),
                Judged::Switching => {
                    self.phase = Phase::Tunnel;
                    self.ready = head;
                    self.ready.unsplit(self.held.split());
                    return Ok(true);
                }
                Judged::Final(verdict) => {
                    self.ready = if verdict.canonical { head } else { head::rewrite(&head, verdict) };
                    self.pass_rest(verdict)?;
                    return Ok(true);
                }
            }
        }
    }

    /// Moves what was held beyond the head into `ready`, as far as it belongs to the body.
    fn pass_rest(&mut self, verdict: head::Verdict) -> io::Result<()> {
        let rest = self.held.split();
        self.enter_body(verdict, !rest.is_empty());
        if matches!(self.phase, Phase::Body(Framing::UntilClose)) {
            body::append_chunk(&mut self.ready, &rest);
            return Ok(());
        }
        let used = self.advance_body(&rest)?;
        self.ready.extend_from_slice(rest.get(..used).unwrap_or_default());
        Ok(())
    }

    fn enter_body(&mut self, verdict: head::Verdict, more: bool) {
        self.read_alarm.disarm();
        self.closing |= verdict.close;
        match body::framing(verdict.length) {
            Some(framing) => self.phase = Phase::Body(framing),
            None => self.end_exchange(more),
        }
    }

    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.ready.len().min(buf.remaining());
        buf.put_slice(self.ready.get(..count).unwrap_or_default());
        self.ready.advance(count);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> OriginStream<S> {
    fn poll_inner_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => Pin::new(io).poll_read(cx, buf),
            None => Poll::Ready(Err(OriginFault::Retired.into())),
        }
    }

    /// Appends what the origin has sent to `held`.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); ASIDE_BYTES];
        let mut aside = ReadBuf::uninit(&mut space);
        ready!(self.poll_inner_read(cx, &mut aside))?;
        self.held.extend_from_slice(aside.filled());
        Poll::Ready(Ok(aside.filled().len()))
    }

    /// Between exchanges there is nothing to read: pending is the only good state. The bytes themselves never come out, for
    /// whoever reads here would take them for the answer to a request not yet made.
    fn poll_read_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.is_retired() {
            return Poll::Ready(Err(self.fail(OriginFault::Retired)));
        }
        let mut space = [0; 1];
        let mut probe = ReadBuf::new(&mut space);
        match self.poll_inner_read(cx, &mut probe) {
            Poll::Pending => {
                OriginControl::hand_out(&self.control);
                Poll::Pending
            }
            Poll::Ready(Ok(())) if probe.filled().is_empty() => Poll::Ready(Err(self.fail(OriginFault::ClosedWhileIdle))),
            Poll::Ready(Ok(())) => Poll::Ready(Err(self.fail(OriginFault::LeftOverBytes))),
            Poll::Ready(Err(_)) => Poll::Ready(Err(self.fail(OriginFault::ClosedWhileIdle))),
        }
    }

    fn poll_read_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            // The common case needs no copy: one read brings the whole head, in a form that awc reads as we do.
            if self.held.is_empty() {
                let start = buf.filled().len();
                match self.poll_inner_read(cx, buf) {
                    Poll::Pending => return self.poll_first_byte_timeout(cx),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(self.broke(&error))),
                    Poll::Ready(Ok(())) => {}
                }
                let fresh = buf.filled().get(start..).unwrap_or_default();
                if fresh.is_empty() {
                    return Poll::Ready(Err(self.died_now()));
                }
                self.answered = true;
                match self.pass_direct(fresh)? {
                    Some(passed) => {
                        buf.set_filled(start + passed);
                        return Poll::Ready(Ok(()));
                    }
                    None => {
                        self.held.extend_from_slice(fresh);
                        buf.set_filled(start);
                    }
                }
            } else {
                match self.poll_hold(cx) {
                    Poll::Pending => return self.poll_first_byte_timeout(cx),
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(self.died_now())),
                    Poll::Ready(Ok(_)) => {}
                }
            }
            if self.judge_held()? {
                self.deliver(buf);
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// How much of these bytes passes as it is; `None`: they have to be held, because the head is not complete or is not to be
    /// shown as it came.
    fn pass_direct(&mut self, fresh: &[u8]) -> io::Result<Option<usize>> {
        let Ok(Some(len)) = HeadEnd::default().find(fresh) else { return Ok(None) };
        let Some((head, rest)) = fresh.split_at_checked(len) else { return Ok(None) };
        if len > self.limits.head_bytes || self.interim_bytes > 0 {
            return Ok(None);
        }
        match head::judge(head, self.request) {
            Ok(Judged::Final(verdict)) if verdict.canonical => {
                self.enter_body(verdict, !rest.is_empty());
                Ok(Some(len + self.advance_body(rest)?))
            }
            Ok(_) => Ok(None),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    fn died_now(&mut self) -> io::Error {
        let fault = self.died();
        self.fail(fault)
    }

    /// As [`Self::died_now`], over an error. Only TLS calls data invalid, and on the first exchange it says why.
    fn broke(&mut self, error: &io::Error) -> io::Error {
        match self.died() {
            OriginFault::DiedBeforeResponse { reused: false } if error.kind() == io::ErrorKind::InvalidData => {
                self.fail(OriginFault::TlsRefused { cause: error.to_string() })
            }
            fault => self.fail(fault),
        }
    }

    fn poll_first_byte_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.read_alarm.arm(self.limits.first_byte_timeout);
        ready!(self.read_alarm.poll(cx));
        Poll::Ready(Err(self.fail(OriginFault::FirstByteTimeout)))
    }

    fn poll_read_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if matches!(self.phase, Phase::Body(Framing::UntilClose)) {
            return self.poll_read_until_close(cx, buf);
        }
        let start = buf.filled().len();
        match self.poll_inner_read(cx, buf) {
            Poll::Pending => return self.poll_idle_timeout(cx),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(self.died_now())),
            Poll::Ready(Ok(())) => {}
        }
        self.read_alarm.disarm();
        let fresh = buf.filled().get(start..).unwrap_or_default();
        if fresh.is_empty() {
            return Poll::Ready(Err(self.died_now()));
        }
        let passed = self.advance_body(fresh)?;
        buf.set_filled(start + passed);
        Poll::Ready(Ok(()))
    }

    /// Frames a body that only the end of the connection ends, as chunks.
    fn poll_read_until_close(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = match &mut self.io {
            None => Poll::Ready(Err(OriginFault::Retired.into())),
            Some(io) if buf.remaining() >= body::CHUNK_OVERHEAD + ASIDE_BYTES / 8 => body::poll_read_chunk(io, cx, buf),
            Some(io) => {
                let mut space = [0; ASIDE_BYTES];
                let mut aside = ReadBuf::new(&mut space);
                body::poll_read_chunk(io, cx, &mut aside).map_ok(|count| {
                    self.ready.extend_from_slice(aside.filled());
                    count
                })
            }
        };
        match read {
            Poll::Pending => return self.poll_idle_timeout(cx),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(self.died_now())),
            Poll::Ready(Ok(0)) => {
                self.ready.extend_from_slice(body::LAST_CHUNK);
                self.spend();
            }
            Poll::Ready(Ok(_)) => self.read_alarm.disarm(),
        }
        self.deliver(buf);
        Poll::Ready(Ok(()))
    }

    fn poll_idle_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.read_alarm.arm(self.limits.idle_timeout);
        ready!(self.read_alarm.poll(cx));
        Poll::Ready(Err(self.fail(OriginFault::IdleTimeout)))
    }

    /// The request cannot be written on. True if that is because the origin has answered already (RFC 9112 §9.5).
    fn look_for_answer(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        // Set first: an answer that is complete at once must end the connection.
        self.closing = true;
        loop {
            match self.poll_hold(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(self.died_now()),
                Poll::Ready(Err(error)) => return Err(self.broke(&error)),
                Poll::Ready(Ok(_)) => {}
            }
            self.answered = true;
            if self.judge_held()? {
                if matches!(self.phase, Phase::Tunnel) {
                    return Err(self.fail(OriginFault::BadFraming("101 within a request")));
                }
                self.closing = true;
                self.control.note_early_answer();
                return Ok(true);
            }
        }
        self.closing = false;
        Ok(false)
    }

    fn poll_write_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.write_alarm.arm(self.limits.write_timeout);
        ready!(self.write_alarm.poll(cx));
        Poll::Ready(self.fail(OriginFault::WriteTimeout))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for OriginStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ready.is_empty() {
            this.deliver(buf);
            return Poll::Ready(Ok(()));
        }
        match &this.phase {
            Phase::Idle => this.poll_read_idle(cx),
            Phase::Waiting => this.poll_read_head(cx, buf),
            Phase::Body(_) => this.poll_read_body(cx, buf),
            Phase::Tunnel => this.poll_inner_read(cx, buf),
            Phase::Spent => Poll::Ready(Err(OriginFault::Retired.into())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for OriginStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.control.answered_early() {
            return Poll::Ready(Ok(data.len()));
        }
        match &this.phase {
            Phase::Idle => this.begin_exchange(data),
            Phase::Waiting | Phase::Tunnel => {}
            // A request in the middle of a response: awc saw an end where there is none.
            Phase::Body(_) => return Poll::Ready(Err(this.fail(OriginFault::LeftOverBytes))),
            Phase::Spent => return Poll::Ready(Err(OriginFault::Retired.into())),
        }
        let Some(io) = &mut this.io else { return Poll::Ready(Err(OriginFault::Retired.into())) };
        let written = Pin::new(io).poll_write(cx, data);
        if matches!(this.phase, Phase::Tunnel) {
            return written;
        }
        match written {
            Poll::Ready(Ok(count)) => {
                this.write_alarm.disarm();
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(_)) => match this.look_for_answer(cx)? {
                true => Poll::Ready(Ok(data.len())),
                false => Poll::Ready(Err(this.died_now())),
            },
            Poll::Pending => match this.look_for_answer(cx)? {
                true => Poll::Ready(Ok(data.len())),
                false => this.poll_write_timeout(cx).map(Err),
            },
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut this.io {
            Some(io) if !this.control.answered_early() => Pin::new(io).poll_flush(cx),
            _ => return Poll::Ready(Ok(())),
        };
        // A plain socket has nothing to flush. TLS has, and then it is a write that waits like any other.
        if !matches!(this.phase, Phase::Waiting) || matches!(flushed, Poll::Ready(Ok(()))) {
            this.write_alarm.disarm();
            return flushed;
        }
        match (this.look_for_answer(cx)?, flushed) {
            (true, _) => Poll::Ready(Ok(())),
            (false, Poll::Ready(_)) => Poll::Ready(Err(this.died_now())),
            (false, Poll::Pending) => this.poll_write_timeout(cx).map(Err),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<S: ActixStream> ActixStream for OriginStream<S> {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.io {
            Some(io) => io.poll_read_ready(cx),
            None => Poll::Ready(Err(OriginFault::Retired.into())),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.io {
            Some(io) => io.poll_write_ready(cx),
            None => Poll::Ready(Err(OriginFault::Retired.into())),
        }
    }
}

impl<S> fmt::Debug for OriginStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginStream").field("phase", &self.phase).field("control", &self.control).finish_non_exhaustive()
    }
}
