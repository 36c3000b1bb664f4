//! The body of a request as the stream sends it: framed as it was announced, and never ended before
//! its end.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncWrite;

use super::{
    OriginFault,
    body::{LAST_CHUNK, append_chunk},
};

/// How much is gathered for one write, unless a piece of the body is larger.
const GATHERED_BYTES: usize = 32 * 1024;

/// A body that awc knows nothing of. See [`OriginControl::carry`](super::OriginControl::carry).
pub struct Upload {
    body: BoxBody,
    framing: UploadFraming,
    /// Framed bytes that the socket has not taken; at first the head of the request, which leaves
    /// with the first of the body.
    out: BytesMut,
    /// Whether the last byte of the body was framed.
    ended: bool,
    /// Whether what was written may still wait beneath the socket, as TLS lets it.
    unflushed: bool,
}

/// How the end of the body is told (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug)]
enum UploadFraming {
    /// By `Content-Length`; so many bytes are missing.
    Length(u64),
    /// By `Transfer-Encoding: chunked`.
    Chunked,
}

impl Upload {
    /// The body, unless it is none. The stream announces it in the head of the request.
    pub fn new(body: BoxBody) -> Option<Self> {
        let framing = match body.size() {
            BodySize::None | BodySize::Sized(0) => return None,
            BodySize::Sized(length) => UploadFraming::Length(length),
            BodySize::Stream => UploadFraming::Chunked,
        };
        Some(Self {
            body,
            framing,
            out: BytesMut::new(),
            ended: false,
            unflushed: false,
        })
    }

    /// Puts the head of the request before the body: these lines, that of the framing, and the end.
    pub(super) fn lead_with(&mut self, lines: &[u8]) {
        self.out.extend_from_slice(lines);
        match self.framing {
            UploadFraming::Length(length) => {
                self.out.extend_from_slice(b"content-length: ");
                self.out
                    .extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            }
            UploadFraming::Chunked => self.out.extend_from_slice(b"transfer-encoding: chunked"),
        }
        self.out.extend_from_slice(b"\r\n\r\n");
    }

    /// Whether all of it is out.
    pub(super) fn is_out(&self) -> bool {
        self.ended && self.out.is_empty() && !self.unflushed
    }

    /// Gathers what there is of the body. Pending: it goes on and there is nothing now.
    pub(super) fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OriginFault>> {
        while !self.ended && self.out.len() < GATHERED_BYTES {
            match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(piece)) => self.frame(&piece)?,
                Some(Err(error)) => {
                    return Poll::Ready(Err(OriginFault::BrokenRequest {
                        cause: error.to_string(),
                    }));
                }
                None => self.end()?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn frame(&mut self, piece: &[u8]) -> Result<(), OriginFault> {
        match &mut self.framing {
            UploadFraming::Length(left) => {
                *left = left
                    .checked_sub(piece.len() as u64)
                    .ok_or_else(not_as_long)?;
                self.out.extend_from_slice(piece);
            }
            UploadFraming::Chunked => append_chunk(&mut self.out, piece),
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), OriginFault> {
        match self.framing {
            UploadFraming::Length(0) => {}
            UploadFraming::Length(_) => return Err(not_as_long()),
            UploadFraming::Chunked => self.out.extend_from_slice(LAST_CHUNK),
        }
        self.ended = true;
        Ok(())
    }

    /// Writes what was gathered; gives how many bytes the socket took, and whether it took all.
    pub(super) fn poll_write_out<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> (usize, Poll<std::io::Result<()>>) {
        let mut taken = 0;
        while !self.out.is_empty() {
            match Pin::new(&mut *io).poll_write(cx, &self.out) {
                Poll::Ready(Ok(0)) => {
                    return (
                        taken,
                        Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                    );
                }
                Poll::Ready(Ok(count)) => {
                    self.out.advance(count);
                    self.unflushed = true;
                    taken += count;
                }
                Poll::Ready(Err(error)) => return (taken, Poll::Ready(Err(error))),
                Poll::Pending => return (taken, Poll::Pending),
            }
        }
        if self.unflushed {
            match Pin::new(io).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                waiting => return (taken, waiting),
            }
        }
        (taken, Poll::Ready(Ok(())))
    }
}

fn not_as_long() -> OriginFault {
    OriginFault::BrokenRequest {
        cause: "body is not as long as announced".to_owned(),
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("framing", &self.framing)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
