//! The guarded origin side: the byte stream that awc is given in place of a socket.
//!
//! awc takes any 1xx for the answer, a connection closed half way for the end of a body, and a
//! response delimited by close for an empty one. So it never sees such things: only a well-formed
//! final response passes here, framed so that awc cannot mistake its end, and every other course of
//! events becomes an error that says what happened ([`OriginFault`]). A connection that is not
//! exactly at the start of the next response is never used again.
//!
//! It also sends the body of the request, which awc would send whole before it looks at the answer:
//! it is given the head alone, whoever gave it goes over to reading, and each read sends on what
//! there is of the body ([`OriginControl::carry`]). So an answer may come, and pass, at any time of
//! an upload.

mod body;
mod control;
mod fault;
mod head;
mod reading;
mod upload;
mod writing;

use std::{
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_rt::net::{ActixStream, Ready};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use self::{
    control::{OriginControl, OriginRegistry},
    fault::OriginFault,
    upload::Upload,
};
use self::{head::RequestTraits, writing::Sending};
use crate::wire::{alarm::Alarm, body::Framing, head::HeadEnd};

/// How long an origin may take for what. Zero switches a limit off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginLimits {
    /// From the end of the request to the end of the head of the final response. Interim responses
    /// do not extend it.
    pub first_byte_timeout: Duration,
    /// The longest silence within a response body, but for the time in which the client keeps the
    /// request waiting.
    pub idle_timeout: Duration,
    /// The longest time in which the origin takes no byte of the request and has not answered
    /// either.
    pub write_timeout: Duration,
    /// Largest head of a response, its interim responses included, in bytes.
    pub head_bytes: usize,
    /// Most header fields of a response.
    pub fields: usize,
}

#[cfg(test)]
impl Default for OriginLimits {
    fn default() -> Self {
        Self {
            first_byte_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            head_bytes: 64 * 1024,
            fields: 96,
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
    /// The final response is here, to its last byte; of the request something is missing.
    Answered,
    /// After 101: any bytes, both ways.
    Tunnel,
    /// Never to be used again.
    Spent,
}

/// A connection to an origin that lets only well-formed final responses through. See the module.
pub struct OriginStream<S> {
    /// Gone as soon as the connection is spent, so that a pool does not keep the socket of a dead
    /// connection open.
    io: Option<S>,
    limits: OriginLimits,
    control: Rc<OriginControl>,
    phase: Phase,
    request: RequestTraits,
    /// The rest of the request.
    upload: Option<Upload>,
    sending: Sending,
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
            upload: None,
            sending: Sending::Done,
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

    /// The limits of the present exchange.
    fn limits(&self) -> OriginLimits {
        self.control.limits(self.limits)
    }

    fn spend(&mut self) {
        self.phase = Phase::Spent;
        self.io = None;
        self.upload = None;
        self.read_alarm.disarm();
        self.write_alarm.disarm();
    }

    fn begin_exchange(&mut self, head: &[u8]) {
        self.control.count_exchange();
        self.request = RequestTraits::of(head);
        self.phase = Phase::Waiting;
        self.upload = self.control.take_upload();
        self.sending = Sending::Done;
        self.answered = false;
        self.closing = false;
        self.interim_bytes = 0;
        self.end = HeadEnd::default();
    }

    /// The response is complete. `leftover`: more came in the same read, which is an answer to
    /// nothing.
    fn end_exchange(&mut self, leftover: bool) {
        self.read_alarm.disarm();
        if leftover {
            log::debug!("origin sent bytes after its response; the connection is not used again");
            self.closing = true;
        }
        if self.upload.is_some() && !self.closing {
            self.phase = Phase::Answered;
        } else {
            self.leave_exchange();
        }
    }

    /// Nothing more is to come in this exchange, in either direction.
    fn leave_exchange(&mut self) {
        self.read_alarm.disarm();
        self.write_alarm.disarm();
        self.control.end_exchange();
        if self.closing || self.control.is_retired() {
            self.spend();
        } else {
            self.phase = Phase::Idle;
        }
    }

    /// The connection ended, or broke, where a response was still owed.
    fn died(&self) -> OriginFault {
        match &self.phase {
            Phase::Waiting if !self.answered => OriginFault::DiedBeforeResponse {
                reused: self.control.exchanges() > 1,
            },
            Phase::Waiting => OriginFault::TruncatedHead,
            _ => OriginFault::TruncatedBody,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for OriginStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // First, so that a request that can be completed is before its answer ends the exchange.
        this.send_on(cx);
        if !this.ready.is_empty() && !matches!(this.phase, Phase::Answered) {
            this.deliver(buf);
            return Poll::Ready(Ok(()));
        }
        let start = buf.filled().len();
        let read = match &this.phase {
            Phase::Idle => this.poll_read_idle(cx),
            Phase::Waiting => this.poll_read_head(cx, buf),
            Phase::Body(_) => this.poll_read_body(cx, buf),
            Phase::Answered => return this.poll_late_end(cx, buf),
            Phase::Tunnel => this.poll_inner_read(cx, buf),
            Phase::Spent => Poll::Ready(Err(OriginFault::Retired.into())),
        };
        if matches!(this.phase, Phase::Answered) && matches!(read, Poll::Ready(Ok(()))) {
            this.take_back(buf, start);
            return this.poll_late_end(cx, buf);
        }
        read
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
        f.debug_struct("OriginStream")
            .field("phase", &self.phase)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::poll_fn};

    use proptest::prelude::*;

    use super::*;

    /// An origin that sends these pieces and closes.
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let rest = piece.split_off(piece.len().min(buf.remaining()));
                buf.put_slice(&piece);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Pieces {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// All that passes in one exchange. The end is always an error, never an end of stream.
    fn passed(pieces: VecDeque<Vec<u8>>, room: usize) -> Vec<u8> {
        let reading = async {
            let mut stream = OriginStream::new(
                Pieces(pieces),
                OriginLimits::default(),
                OriginControl::default(),
            );
            poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"GET / HTTP/1.1\r\n\r\n"))
                .await
                .unwrap();
            let mut passed = Vec::new();
            loop {
                let mut space = vec![0; room];
                let mut buf = ReadBuf::new(&mut space);
                match poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buf)).await {
                    Ok(()) => assert!(!buf.filled().is_empty(), "a plain end of stream"),
                    Err(error) => {
                        assert!(OriginFault::find(&error).is_some(), "{error:?}");
                        return passed;
                    }
                }
                passed.extend_from_slice(buf.filled());
            }
        };
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(reading)
    }

    proptest! {
        #[test]
        fn what_passes_does_not_depend_on_how_it_arrives(
            response in "(HTTP/1\\.1 103 H\r\n\r\n){0,2}HTTP/1\\.1 (200|304) ?\r\n(X: y\r\n)?(Content-Length: [0-9]|Transfer-Encoding: chunked)\r\n\r\n(([0-3]\r\n)?[a-c]{0,3}\r\n){0,4}",
            sizes in proptest::collection::vec(1usize..9, 1..5),
            room in 1usize..200,
        ) {
            let bytes = response.as_bytes();
            let (mut at, mut pieces) = (0, VecDeque::new());
            for size in sizes.iter().cycle() {
                let end = (at + size).min(bytes.len());
                if at == end {
                    break;
                }
                pieces.push_back(bytes[at..end].to_vec());
                at = end;
            }
            // In one piece a fault takes what came before it along.
            let (split, whole) = (passed(pieces, room), passed(VecDeque::from([bytes.to_vec()]), 4096));
            prop_assert!(split.starts_with(&whole), "{:?} {:?}", split, whole);
            if split != whole {
                prop_assert!(whole.is_empty(), "{:?} {:?}", split, whole);
            }
        }

        #[test]
        fn any_bytes_end_in_a_fault(response in proptest::collection::vec(any::<u8>(), 0..200), room in 1usize..100) {
            passed(VecDeque::from([response.clone()]), room);
            passed(VecDeque::from([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), response.clone()]), room);
            passed(VecDeque::from([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), response]), room);
        }
    }
}
