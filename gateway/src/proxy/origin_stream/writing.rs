//! The writing side: a request that cannot be written on, because the origin answered early or takes nothing.

use std::{
    io,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{OriginFault, OriginStream, Phase};

impl<S: AsyncRead + AsyncWrite + Unpin> OriginStream<S> {
    /// The request cannot be written on. True if that is because the origin has answered already (RFC 9112 §9.5).
    pub(super) fn look_for_answer(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
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

    pub(super) fn poll_write_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.write_alarm.arm(self.limits().write_timeout);
        ready!(self.write_alarm.poll(cx));
        Poll::Ready(self.fail(OriginFault::WriteTimeout))
    }
}
