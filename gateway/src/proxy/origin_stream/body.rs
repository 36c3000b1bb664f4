//! The framing of response bodies, and how one that only the end of the connection ends gets one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use super::head::Length;
use crate::wire::{
    body::Framing,
    chunked::{ChunkLimits, ChunkScanner},
};

/// The same figures as on the client side; an origin has no reason for more either.
const LIMITS: ChunkLimits = ChunkLimits {
    body_bytes: u64::MAX,
    extension_bytes: 16 * 1024,
    trailer_bytes: 16 * 1024,
    padded_sizes: true,
};

/// Eight digits and two CRLF.
pub(super) const CHUNK_OVERHEAD: usize = SIZE_LINE + 2;
const SIZE_LINE: usize = 10;

pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The body that a length announces; `None` if there is none to come.
pub(super) fn framing(length: Length) -> Option<Framing> {
    match length {
        Length::NoBody => None,
        Length::Known(length) => Framing::length(length),
        Length::Chunked => Some(Framing::Chunked(ChunkScanner::new(LIMITS))),
        Length::UntilClose => Some(Framing::UntilClose),
    }
}

/// Appends `data` as one chunk, unless it is empty: an empty chunk would end the body.
pub(super) fn append_chunk(out: &mut BytesMut, data: &[u8]) {
    if !data.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads into the middle of `buf` and puts the framing around it, so that nothing is copied. Gives
/// the number of bytes read; with none, `buf` is as it was.
pub(super) fn poll_read_chunk<S: AsyncRead + Unpin>(
    io: &mut S,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<usize>> {
    let space = buf.initialize_unfilled();
    let Some((size_line, rest)) = space.split_at_mut_checked(SIZE_LINE) else {
        return Poll::Ready(Ok(0));
    };
    let room = rest.len().saturating_sub(2);
    let Some((data, _)) = rest.split_at_mut_checked(room) else {
        return Poll::Ready(Ok(0));
    };
    let mut data = ReadBuf::new(data);
    ready!(Pin::new(io).poll_read(cx, &mut data))?;
    let count = data.filled().len();
    if count > 0 {
        write_size_line(size_line, count);
        if let Some(end) = rest.get_mut(count..count + 2) {
            end.copy_from_slice(b"\r\n");
        }
        buf.advance(count + CHUNK_OVERHEAD);
    }
    Poll::Ready(Ok(count))
}

/// Eight hexadecimal digits, zeros in front, and CRLF. Eight digits hold any buffer.
fn write_size_line(line: &mut [u8], count: usize) {
    let mut rest = count;
    let (digits, end) = line.split_at_mut(line.len().saturating_sub(2));
    for digit in digits.iter_mut().rev() {
        let value = (rest & 0xf) as u8;
        *digit = if value < 10 {
            b'0' + value
        } else {
            b'a' + value - 10
        };
        rest >>= 4;
    }
    end.copy_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn bytes_until_close_become_chunks_in_place() {
        let mut io: &[u8] = b"hello, world";
        let mut space = [0u8; 64];
        let mut buf = ReadBuf::new(&mut space);
        assert_eq!(
            poll_fn(|cx| poll_read_chunk(&mut io, cx, &mut buf))
                .await
                .unwrap(),
            12
        );
        assert_eq!(buf.filled(), b"0000000c\r\nhello, world\r\n");
        assert_eq!(
            poll_fn(|cx| poll_read_chunk(&mut io, cx, &mut buf))
                .await
                .unwrap(),
            0
        );
        assert_eq!(buf.filled().len(), 24);
    }
}
