//! Ends of episodes, and the warning of a proxy that is not trusted.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::limits::brake::{Brake, OverSubject, lock};

/// Interval between looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Interval between warnings of a proxy that is not trusted.
const WARNING_INTERVAL: Duration = Duration::from_hours(1);

/// What ended since the last look.
#[derive(Debug, Default)]
pub struct Ended {
    /// Subjects that owe nothing any more.
    pub paid: Vec<OverSubject>,
    /// Requests refused to subjects that there was no room to tell of.
    pub untold: u64,
    /// Private peer that is not trusted and sent the address of a client.
    pub proxy: Option<IpAddr>,
}

impl Brake {
    /// Takes what ended until `now`.
    #[must_use]
    pub fn ended(&self, now: Instant) -> Ended {
        let now = self.nanos(now);
        let mut ended = Ended {
            untold: self.untold.swap(0, Ordering::Relaxed),
            proxy: lock(&self.proxy).take(),
            ..Ended::default()
        };
        self.proxy_seen.store(false, Ordering::Relaxed);
        for shard in &self.shards {
            let paid = lock(shard).episodes.take(|open| open.until <= now);
            ended.paid.extend(paid.iter().map(|paid| paid.told(now)));
        }
        ended
    }
}

/// Logs the ends of episodes for ever.
pub async fn watch(brake: &Brake) -> Infallible {
    let mut warned_at: Option<Instant> = None;
    loop {
        sleep(INTERVAL).await;
        let now = Instant::now();
        let ended = brake.ended(now);
        for paid in ended.paid {
            let refused = if paid.enforced {
                "were"
            } else {
                "would have been"
            };
            log::info!(
                "brake: {} owes nothing any more after {}: {} requests {refused} answered 429 too_many_failures",
                paid.subject,
                humantime::format_duration(Duration::from_secs(paid.since.as_secs())),
                paid.requests,
            );
        }
        if ended.untold > 0 {
            log::warn!(
                "brake: {} requests of further addresses were answered 429 too_many_failures: there are too many to name",
                ended.untold
            );
        }
        if let Some(peer) = ended.proxy
            && warned_at.is_none_or(|warned| now.duration_since(warned) >= WARNING_INTERVAL)
        {
            warned_at = Some(now);
            log::warn!(
                "brake.block is \"all\", and {peer}, which is not in listen.trusted_proxies, sends X-Forwarded-For: if it is a proxy, the failures of one of its clients block all of them"
            );
        }
    }
}
