//! [`WholeBody`]: a request body in memory, and the memory that all of them share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Memory that buffered bodies have claimed, over all workers.
#[derive(Debug, Default)]
pub struct BufferRoom {
    claimed: AtomicU64,
}

/// What one body has claimed; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Claim {
    room: Arc<BufferRoom>,
    bytes: u64,
}

/// A body in memory; clones share it and its claim.
#[derive(Debug, Clone)]
pub struct WholeBody {
    bytes: Bytes,
    _claim: Arc<Claim>,
}

impl BufferRoom {
    /// Bytes that are claimed now.
    #[must_use]
    pub fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }
}

impl Claim {
    /// Claims nothing yet.
    pub(super) fn on(room: &Arc<BufferRoom>) -> Self {
        Self {
            room: Arc::clone(room),
            bytes: 0,
        }
    }

    /// Claims up to `bytes` in all. Returns whether there was room.
    pub(super) fn grow(&mut self, bytes: u64, most: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let before = self.room.claimed.fetch_add(more, Ordering::Relaxed);
        let fits = before.saturating_add(more) <= most;
        if fits {
            self.bytes += more;
        } else {
            self.room.claimed.fetch_sub(more, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.room.claimed.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl WholeBody {
    /// A body in memory that is claimed.
    pub(super) fn new(bytes: Vec<u8>, claim: Claim) -> Self {
        Self {
            bytes: bytes.into(),
            _claim: Arc::new(claim),
        }
    }

    /// The body.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
