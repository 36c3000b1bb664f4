//! [`Cache`]: verified tokens by their digest, so that a signature is verified once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::jwt::verified::VerifiedToken;
use crate::keys::{KeyDigest, UnixMillis};

/// Parts with a lock of their own.
const SHARDS: usize = 64;
/// Maximum tokens of a shard; about 32,000 in all, of about 500 bytes each.
const SHARD_TOKENS: usize = 512;

/// Tokens that were verified, and nothing else: forged ones take no room. What it returns must be
/// checked again, for issuers, keys and the time change.
pub(super) struct Cache([Mutex<Shard>; SHARDS]);

type Shard = HashMap<KeyDigest, Arc<VerifiedToken>>;

impl Cache {
    pub(super) fn get(&self, digest: &KeyDigest) -> Option<Arc<VerifiedToken>> {
        self.shard(digest).get(digest).map(Arc::clone)
    }

    /// Adds a token. A full shard loses what has expired, else the token that ends first.
    pub(super) fn insert(&self, token: &Arc<VerifiedToken>, now: UnixMillis) {
        let mut shard = self.shard(token.digest());
        if shard.len() >= SHARD_TOKENS && !shard.contains_key(token.digest()) {
            shard.retain(|_, known| known.ends_at() > now);
            if shard.len() >= SHARD_TOKENS {
                let first = shard.values().min_by_key(|known| known.ends_at());
                let first = first.map(|known| *known.digest());
                first.map(|first| shard.remove(&first));
            }
        }
        shard.insert(*token.digest(), Arc::clone(token));
    }

    pub(super) fn remove(&self, digest: &KeyDigest) {
        self.shard(digest).remove(digest);
    }

    pub(super) fn retain(&self, keep: impl Fn(&VerifiedToken) -> bool) {
        for shard in &self.0 {
            lock(shard).retain(|_, token| keep(token));
        }
    }

    fn shard(&self, digest: &KeyDigest) -> MutexGuard<'_, Shard> {
        let [first, ..] = digest.as_bytes();
        let [default, ..] = &self.0;
        // The remainder is less than the number of shards.
        lock(self.0.get(usize::from(*first) % SHARDS).unwrap_or(default))
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens: usize = self.0.iter().map(|shard| lock(shard).len()).sum();
        write!(f, "Cache({tokens} tokens)")
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
