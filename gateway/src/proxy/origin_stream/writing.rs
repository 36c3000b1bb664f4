//! The writing side: the head of a request as awc writes it, and the body on its way while the answer may be on its own.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{OriginFault, OriginStream, Phase};
use crate::wire::alarm::Alarm;

/// How often in a row there may be more to send before the answer is looked at.
const ROUNDS: usize = 8;

/// How long the end of an answer waits for the end of its request, when that is on its way: a connection whose request was cut
/// off is lost, and there are origins that answer short requests before they have read them.
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
    /// The origin takes no more of the request. What it has answered before that counts (RFC 9112 §9.5), and if there is none,
    /// reading says what became of the connection.
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
            let lines = match split_date(data).filter(|_| this.dateless) {
                Some((lines, _)) => Some(lines),
                None => data
                    .ends_with(END_OF_HEAD)
                    .then(|| data.strip_suffix(END))
                    .flatten(),
            };
            let Some(lines) = lines else {
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
        let written = match split_date(data).filter(|_| this.dateless) {
            Some((head, date)) => poll_write_without(io, cx, head, date),
            None => Pin::new(io).poll_write(cx, data),
        };
        match written {
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
        // A plain socket has nothing to flush. TLS has, and then it is a write that waits like any other.
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

/// What awc ends a head with that has no `Date`; the digits are zeros here.
const DATE_AND_END: &[u8] = b"date: Thu, 00 Jan 0000 00:00:00 GMT\r\n\r\n";

/// Heads up to this size are put together before they are written.
const ONE_PIECE_BYTES: usize = 2048;

/// What ends it without.
const END: &[u8] = b"\r\n";

/// What ends every head.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A head, or the rest of one, as what comes before its last line, a `Date`, and that line with the end of the head.
pub(super) fn split_date(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, date) = data.split_at_checked(data.len().checked_sub(DATE_AND_END.len())?)?;
    // The write before may have ended within the CRLF of the line before.
    let found = date.starts_with(b"date: ")
        && date.ends_with(b"\r\n\r\n")
        && (head.is_empty() || head.ends_with(b"\n"));
    found.then_some((head, date))
}

/// Writes `head` and its end without `date`; counts as if that had been written too.
pub(super) fn poll_write_without<S: AsyncWrite + Unpin>(
    io: &mut S,
    cx: &mut Context<'_>,
    head: &[u8],
    date: &[u8],
) -> Poll<io::Result<usize>> {
    // One piece costs the system less than two.
    let mut space = [MaybeUninit::uninit(); ONE_PIECE_BYTES];
    let mut one = ReadBuf::uninit(&mut space);
    let written = if head.len() + END.len() <= one.capacity() {
        one.put_slice(head);
        one.put_slice(END);
        Pin::new(io).poll_write(cx, one.filled())
    } else {
        Pin::new(io).poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(END)])
    };
    let count = ready!(written)?;
    let skipped = if count > head.len() {
        date.len().saturating_sub(END.len())
    } else {
        0
    };
    Poll::Ready(Ok(count + skipped))
}

/// Sets the alarm unless it is set; ready when it rings.
fn ring(alarm: &mut Alarm, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
    alarm.arm(limit);
    alarm.poll(cx)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Takes so many bytes at a time.
    struct Narrow(usize, Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = data.len().min(self.0);
            self.1.extend_from_slice(&data[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            data: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = data
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect();
            self.as_mut().poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn only_a_date_at_the_end_is_left_out_however_little_the_socket_takes() {
        let date = "date: Tue, 24 Nov 2026 08:22:33 GMT\r\n";
        assert_eq!(
            split_date(format!("GET / HTTP/1.1\r\nx-{date}\r\n").as_bytes()),
            None
        );
        for (head, expected) in [
            (
                format!("GET / HTTP/1.1\r\nhost: h\r\n{date}\r\n"),
                "GET / HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(),
            ),
            (
                format!("GET / HTTP/1.1\r\n{date}host: h\r\n\r\n"),
                format!("GET / HTTP/1.1\r\n{date}host: h\r\n\r\n"),
            ),
        ] {
            for most in 1..head.len() {
                let (mut io, mut rest) = (Narrow(most, Vec::new()), head.as_bytes());
                while !rest.is_empty() {
                    let written = poll_fn(|cx| match split_date(rest) {
                        Some((head, date)) => poll_write_without(&mut io, cx, head, date),
                        None => Pin::new(&mut io).poll_write(cx, rest),
                    });
                    rest = &rest[written.await.unwrap()..];
                }
                assert_eq!(
                    String::from_utf8_lossy(&io.1),
                    expected,
                    "{most} bytes at a time"
                );
            }
        }
    }
}
