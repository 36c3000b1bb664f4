//! Request bodies of unknown length that are read whole before they are sent, for origins that want
//! to know the length.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use actix_http::body::MessageBody as _;

use crate::proxy::body::{BodyFault, RequestBody};
use crate::proxy::failure::Failure;
use crate::proxy::whole_body::{BufferRoom, Claim, WholeBody};

/// Memory that a body claims at first.
const FIRST_BYTES: usize = 16 * 1024;

/// How a body is buffered.
#[derive(Debug, Clone)]
pub struct Buffering {
    /// Memory for all bodies.
    pub room: Arc<BufferRoom>,
    /// Maximum bytes of it.
    pub most: u64,
    /// Maximum bytes of this body.
    pub body: u64,
}

/// Reads `body`, which has its own limit, to its end.
///
/// # Errors
/// The body is incomplete or too large, or there is no memory left for it.
pub async fn buffered(body: RequestBody, buffering: &Buffering) -> Result<WholeBody, Failure> {
    let progress = body.progress();
    let mut body = pin!(body);
    let mut claim = Claim::on(&buffering.room);
    let mut bytes = Vec::new();
    while let Some(piece) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
        let Ok(piece) = piece else {
            let fault = progress.fault().unwrap_or(BodyFault::Broken);
            return Err(Failure::ClientBody(fault));
        };
        let needed = bytes.len() + piece.len();
        if needed > bytes.capacity() {
            let most = usize::try_from(buffering.body).unwrap_or(usize::MAX);
            let doubled = (bytes.capacity() * 2).max(FIRST_BYTES).min(most);
            let capacity = doubled.max(needed);
            if !claim.grow(capacity as u64, buffering.most) {
                return Err(Failure::NoRoomForBody);
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(WholeBody::new(bytes, claim))
}

#[cfg(test)]
mod tests {
    use actix_http::Payload;
    use actix_http::body::BodySize;

    use super::*;

    async fn read(length: usize, body: u64, buffering: &Buffering) -> Result<WholeBody, String> {
        let payload = Payload::from(vec![b'x'; length]);
        let body = RequestBody::new(payload, BodySize::Stream, body);
        let read = buffered(body, buffering).await;
        read.map_err(|failure| failure.cause())
    }

    #[actix_rt::test]
    async fn bodies_share_their_memory_and_give_it_back() {
        let room = Arc::new(BufferRoom::default());
        let buffering = Buffering {
            room: Arc::clone(&room),
            most: 100_000,
            body: 60_000,
        };
        let first = read(60_000, 60_000, &buffering).await.unwrap();
        assert_eq!((first.bytes().len(), room.claimed()), (60_000, 60_000));
        let full = read(60_000, 60_000, &buffering).await.unwrap_err();
        assert!(full.contains("max_buffered_bytes"), "{full}");
        let small = read(10, 60_000, &buffering).await.unwrap();
        assert_eq!(room.claimed(), 60_000 + FIRST_BYTES as u64);
        let again = first.clone();
        drop(first);
        assert_eq!(room.claimed(), 60_000 + FIRST_BYTES as u64);
        drop((again, small));
        assert_eq!(room.claimed(), 0);
        let too_large = read(60_001, 60_000, &buffering).await.unwrap_err();
        assert!(too_large.contains("60000"), "{too_large}");
        assert_eq!(room.claimed(), 0);
        let empty = read(0, 60_000, &buffering).await.unwrap();
        assert_eq!((empty.bytes().len(), room.claimed()), (0, 0));
    }
}
