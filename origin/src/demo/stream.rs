//! Responses of any size from one small block of memory.

use std::convert::Infallible;

use actix_web::body::SizedStream;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;

/// A multiple of [`PERIOD`], so that the pattern continues from block to block.
const BLOCK_BYTES: usize = 256 * PERIOD;
/// A prime, so that a lost, doubled or moved block breaks the pattern.
const PERIOD: usize = 251;

/// `length` bytes with `Content-Length`; the byte at position `i` is `i` modulo 251.
pub(super) async fn bytes(length: web::Path<u64>) -> HttpResponse {
    let block: Bytes = (0..BLOCK_BYTES)
        .map(|position| (position % PERIOD) as u8)
        .collect::<Vec<_>>()
        .into();
    let blocks = stream::unfold(*length, move |left| {
        let size = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        let next =
            (size > 0).then(|| (Ok::<_, Infallible>(block.slice(..size)), left - size as u64));
        async { next }
    });
    HttpResponse::Ok()
        .content_type("application/octet-stream")
        .body(SizedStream::new(*length, blocks))
}
