//! The reading side: from bytes of the client to requests that the dispatcher may see.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf as _;
use tokio::io::ReadBuf;

use super::{
    ASIDE_BYTES, Awaited, ChunkFault, ClientFault, ClientSocket, ClientStream, Incoming, request,
};
use crate::wire::{alarm::OutOfPace, head::HeadEnd};

/// How much of the requests to come is taken in while a response is owed.
const READ_AHEAD_BYTES: usize = 16 * 1024;
/// Empty lines before a request, which RFC 9112 §2.2 asks to pass over.
const MAX_EMPTY_LINES: u8 = 2;
/// [`V2_SIGNATURE`](crate::front::proxy_protocol::header::V2_SIGNATURE) behind its two empty lines.
const AFTER_EMPTY_LINES: &[u8] = b"\0\r\nQUIT\n";

impl<S> ClientStream<S> {
    pub(super) fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.ready.len().min(buf.remaining());
        buf.put_slice(self.ready.get(..count).unwrap_or_default());
        self.ready.advance(count);
    }

    /// As [`Self::advance_body`] for bytes that came with the head: their fault is kept until the
    /// request is passed on, so that its handler answers it, as it does when they come later.
    fn begin_body(&mut self, bytes: &[u8]) -> usize {
        self.advance_body(bytes).unwrap_or_else(|fault| {
            self.fault_of_body = Some(fault);
            0
        })
    }

    /// Takes bytes that follow a head, and says how many belong to its body. What goes beyond is
    /// held.
    pub(super) fn advance_body(&mut self, bytes: &[u8]) -> Result<usize, ClientFault> {
        let used = match &mut self.incoming {
            Incoming::Body(framing) => {
                let limit = self.limits.body_bytes;
                match framing.advance(bytes).map_err(|fault| match fault {
                    ChunkFault::TooLarge => ClientFault::BodyTooLarge(limit),
                    fault => ClientFault::BadChunk(fault),
                })? {
                    Some(end) => {
                        self.end_request();
                        end
                    }
                    None => bytes.len(),
                }
            }
            _ => 0,
        };
        self.held
            .extend_from_slice(bytes.get(used..).unwrap_or_default());
        Ok(used)
    }

    /// Judges the bytes held. True: a head was complete and waits in `ready`, with what was there
    /// of its body.
    pub(super) fn judge_held(&mut self) -> Result<bool, ClientFault> {
        self.is_head = request::asks_for_head(&self.held);
        loop {
            // What is left of the signature of a PROXY protocol header once its empty lines are
            // passed over.
            if self.empty_lines == MAX_EMPTY_LINES && !self.held.is_empty() {
                if self.held.starts_with(AFTER_EMPTY_LINES) {
                    return Err(ClientFault::UnexpectedProxyHeader);
                }
                // It may come byte by byte.
                if AFTER_EMPTY_LINES.starts_with(&self.held) {
                    return Ok(false);
                }
            }
            let Some(len) = self
                .end
                .find(&self.held)
                .map_err(|_| ClientFault::BareLineFeed)?
            else {
                request::check_beginning(&self.held)?;
                return if self.held.len() > self.limits.head_bytes {
                    Err(request::too_large(&self.held, self.limits.head_bytes))
                } else {
                    Ok(false)
                };
            };
            if len > self.limits.head_bytes {
                return Err(request::too_large(&self.held, self.limits.head_bytes));
            }
            let head = self.held.split_to(len);
            self.end = HeadEnd::default();
            self.is_head = request::asks_for_head(&head);
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
            let used = self.begin_body(&rest);
            self.ready = head;
            self.ready
                .extend_from_slice(rest.get(..used).unwrap_or_default());
            return Ok(true);
        }
    }

    /// How many of these bytes pass as they are; `None`: they have to be held.
    pub(super) fn pass_direct(&mut self, fresh: &[u8]) -> Result<Option<usize>, ClientFault> {
        let Ok(Some(len)) = HeadEnd::default().find(fresh) else {
            return Ok(None);
        };
        let Some((head, rest)) = fresh.split_at_checked(len) else {
            return Ok(None);
        };
        if len == 2 || len > self.limits.head_bytes {
            return Ok(None);
        }
        self.is_head = request::asks_for_head(head);
        let request = request::read(head, &self.limits)?;
        self.begin_exchange(request);
        Ok(Some(len + self.begin_body(rest)))
    }
}

impl<S: ClientSocket> ClientStream<S> {
    /// Appends what the client has sent to `held`.
    pub(super) fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); ASIDE_BYTES];
        let mut aside = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut aside))?;
        self.held.extend_from_slice(aside.filled());
        Poll::Ready(Ok(aside.filled().len()))
    }

    pub(super) fn poll_read_head(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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

    pub(super) fn end_of_stream(&mut self) -> Poll<io::Result<()>> {
        self.control.note_left();
        self.close();
        Poll::Ready(Ok(()))
    }

    /// Nothing has come: a matter of the time that is left for a head, or for it to begin.
    pub(super) fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.place.poll_sent_away(cx).is_ready() {
            if !self.place.is_closed() {
                self.control.note_fault(ClientFault::MadeRoom);
            }
            // There is nothing that it could be told: whatever it asks next comes too late.
            self.held.clear();
            self.close();
            return Poll::Ready(Ok(()));
        }
        let first = self.control.requests() == 0;
        let awaited = if first || !self.held.is_empty() {
            Awaited::RestOfHead
        } else {
            Awaited::NextRequest
        };
        if self.awaited != awaited {
            self.awaited = awaited;
            self.read_alarm.disarm();
        }
        match awaited {
            Awaited::RestOfHead if first && !self.limits.head_timeout.is_zero() => {
                self.read_alarm
                    .arm_at(self.accepted_at + self.limits.head_timeout);
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

    pub(super) fn poll_read_body(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.owed && self.poll_linger_deadline(cx).is_ready() {
            self.close();
            return Poll::Ready(Ok(()));
        }
        if let Some(fault) = self.fault_of_body.take() {
            self.refuse(fault, cx);
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

    pub(super) fn poll_body_pace(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let fault = match ready!(self.body_meter.poll_out_of_pace(cx, self.limits.body)) {
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
    pub(super) fn poll_linger_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

    /// While a response is owed, only the end of the connection is of interest; what comes is kept
    /// for later.
    pub(super) fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.len() < READ_AHEAD_BYTES {
            if ready!(self.poll_hold(cx))? == 0 {
                return self.end_of_stream();
            }
        }
        // No reader is registered now: the end of the response wakes the task.
        Poll::Pending
    }

    /// After the upgrade: to whoever reads there.
    pub(super) fn poll_read_raw(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.control.diversion().is_active() {
            if self.ready.is_empty() {
                return Pin::new(&mut self.io).poll_read(cx, buf);
            }
            self.deliver(buf);
            return Poll::Ready(Ok(()));
        }
        let early = self.ready.split();
        if !early.is_empty() {
            self.control.diversion().push(&early);
        }
        while !self.control.client_left() {
            ready!(self.control.diversion().poll_room(cx));
            if ready!(self.poll_hold(cx))? == 0 {
                self.control.note_left();
                self.control.diversion().end();
            }
            let bytes = self.held.split();
            self.control.diversion().push(&bytes);
        }
        // Not the end of the stream: that would end the other direction too.
        Poll::Pending
    }
}
