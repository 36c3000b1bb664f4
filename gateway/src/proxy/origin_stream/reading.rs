//! The reading side: from bytes of the origin to bytes that awc may see.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    OriginFault, OriginStream, Phase, body,
    head::{self, Judged, Length, Verdict},
};
use crate::wire::{body::Framing, head::HeadEnd};

/// What is read at once while the bytes cannot go straight to the reader.
const ASIDE_BYTES: usize = 4096;

impl<S> OriginStream<S> {
    /// Takes bytes that belong to the body or follow it, and says how many of them are the body's.
    pub(super) fn advance_body(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Phase::Body(framing) = &mut self.phase else {
            return Ok(0);
        };
        match framing.advance(bytes) {
            Ok(Some(end)) => {
                self.end_exchange(end < bytes.len());
                Ok(end)
            }
            Ok(None) => Ok(bytes.len()),
            Err(fault) => Err(self.fail(OriginFault::BadChunk(fault))),
        }
    }

    /// Looks for a complete head in what is held. True: a final one was found and waits, with what
    /// followed it, in `ready`.
    pub(super) fn judge_held(&mut self) -> io::Result<bool> {
        loop {
            let found = self
                .end
                .find(&self.held)
                .map_err(|_| self.fail(OriginFault::BadFraming("bare LF in head")))?;
            let Some(len) = found else {
                // Without waiting for an end that may never come.
                if let Some(fault) = OriginFault::of_no_http(&self.held) {
                    return Err(self.fail(fault));
                }
                if self.held.len().saturating_add(self.interim_bytes) > self.limits().head_bytes {
                    return Err(self.fail(OriginFault::HeadTooLarge));
                }
                return Ok(false);
            };
            if len.saturating_add(self.interim_bytes) > self.limits().head_bytes {
                return Err(self.fail(OriginFault::HeadTooLarge));
            }
            let head = self.held.split_to(len);
            self.end = HeadEnd::default();
            match head::judge(&head, self.request, self.limits().fields)
                .map_err(|fault| self.fail(fault))?
            {
                Judged::Interim => self.interim_bytes = self.interim_bytes.saturating_add(len),
                Judged::Switching => {
                    self.phase = Phase::Tunnel;
                    self.ready = head;
                    self.ready.unsplit(self.held.split());
                    return Ok(true);
                }
                Judged::Final(verdict) => {
                    self.ready = if verdict.canonical {
                        head
                    } else {
                        head::rewrite(&head, verdict)
                    };
                    self.pass_rest(verdict)?;
                    return Ok(true);
                }
            }
        }
    }

    /// Moves what was held beyond the head into `ready`, as far as it belongs to the body.
    pub(super) fn pass_rest(&mut self, verdict: Verdict) -> io::Result<()> {
        let rest = self.held.split();
        self.enter_body(verdict, !rest.is_empty());
        if matches!(self.phase, Phase::Body(Framing::UntilClose)) {
            body::append_chunk(&mut self.ready, &rest);
            return Ok(());
        }
        let used = self.advance_body(&rest)?;
        self.ready
            .extend_from_slice(rest.get(..used).unwrap_or_default());
        Ok(())
    }

    pub(super) fn enter_body(&mut self, verdict: Verdict, more: bool) {
        self.read_alarm.disarm();
        self.closing |= verdict.close;
        match body::framing(verdict.length) {
            Some(framing) => self.phase = Phase::Body(framing),
            None => self.end_exchange(more),
        }
    }

    pub(super) fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.ready.len().min(buf.remaining());
        buf.put_slice(self.ready.get(..count).unwrap_or_default());
        self.ready.advance(count);
    }

    /// Moves what was read into `buf` since `start` back to the front of `ready`.
    pub(super) fn take_back(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let mut all = BytesMut::from(buf.filled().get(start..).unwrap_or_default());
        all.extend_from_slice(&self.ready);
        self.ready = all;
        buf.set_filled(start);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> OriginStream<S> {
    pub(super) fn poll_inner_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => Pin::new(io).poll_read(cx, buf),
            None => Poll::Ready(Err(OriginFault::Retired.into())),
        }
    }

    /// Appends what the origin has sent to `held`.
    pub(super) fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); ASIDE_BYTES];
        let mut aside = ReadBuf::uninit(&mut space);
        ready!(self.poll_inner_read(cx, &mut aside))?;
        self.held.extend_from_slice(aside.filled());
        Poll::Ready(Ok(aside.filled().len()))
    }

    /// Between exchanges there is nothing to read: pending is the only good state. The bytes
    /// themselves never come out, for whoever reads here would take them for the answer to a
    /// request not yet made.
    pub(super) fn poll_read_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.is_retired() {
            return Poll::Ready(Err(self.fail(OriginFault::Retired)));
        }
        let mut space = [0; 1];
        let mut probe = ReadBuf::new(&mut space);
        match self.poll_inner_read(cx, &mut probe) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) if probe.filled().is_empty() => {
                Poll::Ready(Err(self.fail(OriginFault::ClosedWhileIdle)))
            }
            Poll::Ready(Ok(())) => Poll::Ready(Err(self.fail(OriginFault::LeftOverBytes))),
            Poll::Ready(Err(_)) => Poll::Ready(Err(self.fail(OriginFault::ClosedWhileIdle))),
        }
    }

    pub(super) fn poll_read_head(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            // The common case needs no copy: one read brings the whole head, in a form that awc
            // reads as we do.
            if self.held.is_empty() {
                let start = buf.filled().len();
                match self.poll_inner_read(cx, buf) {
                    Poll::Pending => return self.poll_silence(cx),
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
                    Poll::Pending => return self.poll_silence(cx),
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

    /// How much of these bytes passes as it is; `None`: they have to be held, because the head is
    /// not complete or is not to be shown as it came.
    pub(super) fn pass_direct(&mut self, fresh: &[u8]) -> io::Result<Option<usize>> {
        let Ok(Some(len)) = HeadEnd::default().find(fresh) else {
            return Ok(None);
        };
        let Some((head, rest)) = fresh.split_at_checked(len) else {
            return Ok(None);
        };
        if len > self.limits().head_bytes || self.interim_bytes > 0 {
            return Ok(None);
        }
        match head::judge(head, self.request, self.limits().fields) {
            Ok(Judged::Final(verdict)) if verdict.canonical => {
                self.enter_body(verdict, !rest.is_empty());
                let used = self.advance_body(rest)?;
                if matches!(verdict.length, Length::Known(_)) && matches!(self.phase, Phase::Idle) {
                    self.control.note_whole_head(len);
                }
                Ok(Some(len + used))
            }
            Ok(_) => Ok(None),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    pub(super) fn died_now(&mut self) -> io::Error {
        let fault = self.died();
        self.fail(fault)
    }

    /// As [`Self::died_now`], over an error. Only TLS calls data invalid, and on the first exchange
    /// it says why.
    pub(super) fn broke(&mut self, error: &io::Error) -> io::Error {
        match self.died() {
            OriginFault::DiedBeforeResponse { reused: false }
                if error.kind() == io::ErrorKind::InvalidData =>
            {
                self.fail(OriginFault::TlsRefused {
                    cause: error.to_string(),
                })
            }
            fault => self.fail(fault),
        }
    }

    pub(super) fn poll_read_body(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.phase, Phase::Body(Framing::UntilClose)) {
            return self.poll_read_until_close(cx, buf);
        }
        let start = buf.filled().len();
        match self.poll_inner_read(cx, buf) {
            Poll::Pending => return self.poll_silence(cx),
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
    pub(super) fn poll_read_until_close(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match &mut self.io {
            None => Poll::Ready(Err(OriginFault::Retired.into())),
            Some(io) if buf.remaining() >= body::CHUNK_OVERHEAD + ASIDE_BYTES / 8 => {
                body::poll_read_chunk(io, cx, buf)
            }
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
            Poll::Pending => return self.poll_silence(cx),
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
}
