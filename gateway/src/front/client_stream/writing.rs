//! The writing side: responses followed to their end, clients that do not take them, and the end of
//! the connection.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::ReadBuf;

use super::{
    ASIDE_BYTES, ClientFault, ClientSocket, ClientStream, Incoming, fault,
    response::{Event, Outgoing},
};

impl<S: ClientSocket> ClientStream<S> {
    /// Only ever between two responses, so that it can interrupt none.
    pub(super) fn write_refusal(&mut self, cx: &mut Context<'_>) {
        if let Some(response) = self.control.refusal(self.owed) {
            if self.owed {
                self.control.note_refused_request();
            }
            let response = fault::dated(&response, self.is_head);
            // A few hundred bytes on a connection that owes nothing: the socket takes them, or it
            // is not worth waiting for.
            if let Poll::Ready(Ok(count)) = Pin::new(&mut self.io).poll_write(cx, &response) {
                self.control.note_sent(count);
            }
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
    }

    /// Follows what was written. An error if it was no part of a response.
    pub(super) fn follow(
        &mut self,
        offered: &[u8],
        taken: usize,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        let mut at = 0;
        while at < taken {
            if self.is_raw() {
                return Ok(());
            }
            let rest = offered.get(at..).unwrap_or_default();
            if self.outgoing.is_quiet() {
                self.ended_badly = Outgoing::is_error(rest);
            }
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
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        ClientFault::StrayResponse,
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn end_response(&mut self, cx: &mut Context<'_>) {
        self.owed = false;
        match self.incoming {
            // The wish to leave HTTP was not granted. What follows is not to be taken for requests.
            Incoming::Answering if self.endless => {
                self.close();
                cx.waker().wake_by_ref();
            }
            Incoming::Answering => {
                self.await_request();
                // Nobody may poll the reading side before the next byte, so the deadline for that
                // byte is set here.
                if !self.held.is_empty() || self.poll_head_deadline(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            Incoming::Body(_) => {
                let _ = self.poll_linger_deadline(cx);
            }
            Incoming::Head | Incoming::Raw | Incoming::Closed => {}
        }
    }

    pub(super) fn poll_write_pace(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.write_meter.poll_out_of_pace(cx, self.limits.write));
        self.control.note_fault(ClientFault::WriteStalled);
        self.io.reset_on_close();
        Poll::Ready(io::Error::new(
            io::ErrorKind::TimedOut,
            ClientFault::WriteStalled,
        ))
    }

    /// Whether the client may still be sending: closing the socket then would reset the connection,
    /// and with it drop the answer that the client has not read yet.
    pub(super) fn must_linger(&self) -> bool {
        !self.is_raw()
            && !self.control.client_left()
            // One that made room has nothing more to read, and its place is wanted.
            && self.control.fault() != Some(ClientFault::MadeRoom)
            && (self.endless
                || self.ended_badly
                || self.control.fault().is_some()
                || matches!(self.incoming, Incoming::Body(_))
                || !self.held.is_empty())
    }

    /// Takes in what the client still sends, for its time and whatever it is: a reset would take
    /// the answer along.
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [MaybeUninit::uninit(); 4 * ASIDE_BYTES];
        while self.poll_linger_deadline(cx).is_pending()
            && self.place.poll_sent_away(cx).is_pending()
        {
            let mut aside = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut aside)) {
                Ok(()) if !aside.filled().is_empty() => {}
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::front::client_stream::{ClientGuard, ClientLimits};

    impl ClientSocket for DuplexStream {
        fn reset_on_close(&self) {}
    }

    /// D12, whoever writes them.
    #[actix_rt::test]
    async fn bytes_outside_a_response_end_the_connection() {
        let faults = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&faults);
        let guard = ClientGuard::new(ClientLimits::UNLIMITED)
            .observed_by(move |_, fault| seen.borrow_mut().push(fault));
        let (_client, socket) = duplex(64);
        let written = guard.wrap(socket, None).write(b"0\r\n\r\n").await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(*faults.borrow(), [ClientFault::StrayResponse]);
    }
}
