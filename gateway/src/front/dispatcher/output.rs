//! What is on its way to the client, in room that a worker lends: a connection that waits holds
//! none.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_codec::Encoder as _;
use actix_http::{
    Response, StatusCode,
    body::BodySize,
    h1::{Codec, Message},
    header,
};
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::{Moved, ReadyLines};
use crate::{
    front::date::with_date,
    wire::room::{give_back, lend},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: BytesMut,
    /// How many of them are written.
    written: usize,
    /// Where the head of the last answer begins, as long as nothing of it is written.
    head_at: Option<usize>,
    /// What a head that was ready announces: where its answer ends, and its status.
    ready: Option<(usize, StatusCode)>,
    /// What was written may still wait beneath the stream, as TLS lets it.
    unflushed: bool,
}

impl Output {
    fn room(&mut self) -> &mut BytesMut {
        if self.bytes.is_empty() {
            self.bytes = lend();
        }
        &mut self.bytes
    }

    /// How much is gathered.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether all of it is with the client's system.
    pub(super) fn is_out(&self) -> bool {
        self.bytes.is_empty() && !self.unflushed
    }

    /// The interim answer by which a client goes on.
    pub(super) fn say_continue(&mut self) {
        self.room()
            .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    pub(super) fn head(
        &mut self,
        codec: &mut Codec,
        head: Response<()>,
        size: BodySize,
    ) -> io::Result<()> {
        self.ready = None;
        let room = self.room();
        let begins = room.len();
        codec.encode(Message::Item((head, size)), room)?;
        self.head_at = Some(begins);
        Ok(())
    }

    /// The head of an answer whose lines are ready; `closes`: the last of its connection.
    pub(super) fn ready_head(
        &mut self,
        head: &Response<()>,
        lines: &ReadyLines,
        length: u64,
        closes: bool,
    ) {
        let room = self.room();
        let (begins, status) = (room.len(), head.status());
        for part in ["HTTP/1.1 ", status.as_str(), " ", head.head().reason()] {
            room.extend_from_slice(part.as_bytes());
        }
        room.extend_from_slice(b"\r\ncontent-length: ");
        room.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        room.extend_from_slice(b"\r\n");
        if closes {
            room.extend_from_slice(b"connection: close\r\n");
        }
        lines.write(head.headers(), room);
        for (name, value) in head.headers() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                room.extend_from_slice(part);
            }
        }
        if !lines.has_date() && !head.headers().contains_key(header::DATE) {
            with_date(|date| {
                for part in ["date: ", date, "\r\n"] {
                    room.extend_from_slice(part.as_bytes());
                }
            });
        }
        room.extend_from_slice(b"\r\n");
        let ends = usize::try_from(length).map(|length| length.saturating_add(room.len()));
        self.ready = ends.ok().map(|ends| (ends, status));
        self.head_at = Some(begins);
    }

    /// Length and status, if all that is gathered is one answer that was ready, from its first byte
    /// to its last. Once for each.
    pub(super) fn whole_answer(&mut self) -> Option<(usize, StatusCode)> {
        let (ends, status) = self.ready?;
        if self.head_at != Some(0) || self.bytes.len() != ends {
            return None;
        }
        self.ready = None;
        Some((ends, status))
    }

    /// A piece of the body of such an answer.
    pub(super) fn ready_piece(&mut self, piece: &[u8]) {
        self.room().extend_from_slice(piece);
    }

    pub(super) fn piece(&mut self, codec: &mut Codec, piece: Bytes) -> io::Result<()> {
        codec.encode(Message::Chunk(Some(piece)), self.room())
    }

    pub(super) fn end(&mut self, codec: &mut Codec) -> io::Result<()> {
        codec.encode(Message::Chunk(None), self.room())
    }

    /// Whether nothing of the last answer is written.
    pub(super) fn holds_whole_head(&self) -> bool {
        self.head_at.is_some()
    }

    /// Drops what is not written.
    pub(super) fn forget(&mut self) {
        give_back(std::mem::take(&mut self.bytes));
        self.written = 0;
        self.head_at = None;
        self.ready = None;
        self.unflushed = false;
    }

    /// Takes the last answer back.
    pub(super) fn forget_head(&mut self) {
        self.ready = None;
        if let Some(begins) = self.head_at.take() {
            self.bytes.truncate(begins);
        }
    }

    /// Writes all that was gathered, and sees it off.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Moved>> {
        if self.is_out() {
            return Poll::Ready(Ok(Moved::No));
        }
        while let Some(rest @ [_, ..]) = self.bytes.get(self.written..) {
            let count = ready!(Pin::new(&mut *io).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.head_at = None;
            self.ready = None;
            self.unflushed = true;
            self.written += count;
        }
        if !self.bytes.is_empty() {
            self.written = 0;
            give_back(std::mem::take(&mut self.bytes));
        }
        ready!(Pin::new(io).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(Moved::Yes))
    }
}
