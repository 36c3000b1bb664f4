//! The writing side: the head of a request as it is given, and the body on its way while the answer
//! may be on its own.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{OriginFault, OriginStream, Phase};
use crate::wire::alarm::Alarm;

/// How often in a row there may be more to send before the answer is looked at.
const ROUNDS: usize = 8;

/// How long the end of an answer waits for the end of its request, when that is on its way: a
/// connection whose request was cut off is lost, and there are origins that answer short requests
/// before they have read them.
const LATE_END: Duration = Duration::from_millis(10);

/// Whose turn it is in the sending of a request.
#[derive(Debug, Default)]
pub(super) enum Sending {
    /// The request is out, or the origin takes no more of it.
    #[default]
    Done,
    /// The body goes on, and its next bytes are not here.
    AwaitsClient,
    /// The origin has not taken what it was sent.
    AwaitsOrigin,
    /// The body did not come to its end.
    Failed(OriginFault),
}

impl<S> OriginStream<S> {
    /// The origin takes no more of the request. What it has answered before that counts (RFC 9112
    /// §9.5), and if there is none, reading says what became of the connection.
    pub(super) fn stop_sending(&mut self, sending: Sending) {
        self.sending = sending;
        self.upload = None;
        self.closing = true;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for OriginStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match &this.phase {
            Phase::Idle => this.begin_exchange(data),
            Phase::Waiting | Phase::Tunnel => {}
            // A request in the middle of a response: awc saw an end where there is none.
            Phase::Body(_) | Phase::Answered => {
                return Poll::Ready(Err(this.fail(OriginFault::LeftOverBytes)));
            }
            Phase::Spent => return Poll::Ready(Err(OriginFault::Retired.into())),
        }
        if let Some(upload) = &mut this.upload {
            // Whoever writes the head says nothing of the body.
            let lines = data.strip_suffix(END);
            let Some(lines) = lines.filter(|lines| lines.ends_with(END)) else {
                let cause = "its head was not written in one piece".to_owned();
                return Poll::Ready(Err(this.fail(OriginFault::BrokenRequest { cause })));
            };
            upload.lead_with(lines);
            return Poll::Ready(Ok(data.len()));
        }
        let Some(io) = &mut this.io else {
            return Poll::Ready(Err(OriginFault::Retired.into()));
        };
        if matches!(this.phase, Phase::Tunnel) {
            return Pin::new(io).poll_write(cx, data);
        }
        if this.closing {
            return Poll::Ready(Ok(data.len()));
        }
        match Pin::new(io).poll_write(cx, data) {
            Poll::Ready(Ok(count)) => {
                this.write_alarm.disarm();
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(_)) => {
                this.stop_sending(Sending::Done);
                Poll::Ready(Ok(data.len()))
            }
            Poll::Pending => this.poll_write_timeout(cx).map(Err),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sending = matches!(this.phase, Phase::Waiting);
        let flushed = match &mut this.io {
            // A request with a body goes out with the reads that follow.
            Some(io) if this.upload.is_none() && !(sending && this.closing) => {
                Pin::new(io).poll_flush(cx)
            }
            _ => return Poll::Ready(Ok(())),
        };
        // A plain socket has nothing to flush. TLS has, and then it is a write that waits like any
        // other.
        match flushed {
            Poll::Pending if sending => this.poll_write_timeout(cx).map(Err),
            Poll::Ready(Err(_)) if sending => {
                this.stop_sending(Sending::Done);
                Poll::Ready(Ok(()))
            }
            flushed => {
                this.write_alarm.disarm();
                flushed
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> OriginStream<S> {
    /// Sends on what there is of the body.
    pub(super) fn send_on(&mut self, cx: &mut Context<'_>) {
        for _ in 0..ROUNDS {
            let (Some(upload), Some(io)) = (&mut self.upload, &mut self.io) else {
                return;
            };
            let gathered = match upload.poll_gather(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(()),
                Poll::Ready(Err(fault)) => return self.stop_sending(Sending::Failed(fault)),
                Poll::Pending => Poll::Pending,
            };
            let (taken, written) = upload.poll_write_out(io, cx);
            if taken > 0 {
                self.write_alarm.disarm();
                // A whole answer does not wait longer because there is more to send.
                if !matches!(self.phase, Phase::Answered) {
                    self.read_alarm.disarm();
                }
            }
            match written {
                Poll::Ready(Err(_)) => return self.stop_sending(Sending::Done),
                Poll::Pending => {
                    self.sending = Sending::AwaitsOrigin;
                    return;
                }
                Poll::Ready(Ok(())) if upload.is_out() => {
                    self.sending = Sending::Done;
                    self.upload = None;
                    return;
                }
                Poll::Ready(Ok(())) => self.sending = Sending::AwaitsClient,
            }
            if gathered.is_pending() {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }

    /// The origin sends nothing. Whether it is too late for that depends on whose turn it is.
    pub(super) fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let answering = matches!(self.phase, Phase::Body(_));
        match &self.sending {
            // The client has deadlines of its own.
            Sending::AwaitsClient => return Poll::Pending,
            Sending::AwaitsOrigin if !answering => return self.poll_write_timeout(cx).map(Err),
            Sending::AwaitsOrigin | Sending::Done | Sending::Failed(_) => {}
        }
        if let Sending::Failed(fault) = std::mem::take(&mut self.sending) {
            return Poll::Ready(Err(self.fail(fault)));
        }
        let limits = self.limits();
        let (limit, fault) = match answering {
            true => (limits.idle_timeout, OriginFault::IdleTimeout),
            false => (limits.first_byte_timeout, OriginFault::FirstByteTimeout),
        };
        ready!(ring(&mut self.read_alarm, limit, cx));
        Poll::Ready(Err(self.fail(fault)))
    }

    pub(super) fn poll_write_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.limits().write_timeout;
        ready!(ring(&mut self.write_alarm, limit, cx));
        Poll::Ready(self.fail(OriginFault::WriteTimeout))
    }

    /// The answer is whole in `ready` and the request is not out: gives it a moment.
    pub(super) fn poll_late_end(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.upload.is_some() {
            ready!(ring(&mut self.read_alarm, LATE_END, cx));
            self.stop_sending(Sending::Done);
        }
        self.leave_exchange();
        self.deliver(buf);
        Poll::Ready(Ok(()))
    }
}

/// What ends a line, and after the last one the head.
const END: &[u8] = b"\r\n";

/// Sets the alarm unless it is set; ready when it rings.
fn ring(alarm: &mut Alarm, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
    alarm.arm(limit);
    alarm.poll(cx)
}
