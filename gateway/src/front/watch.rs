//! Looks at the files of certificates every second, beside the data plane.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::front::certificates::{Certificates, ServerPair};

/// A change is in force after two looks at the latest.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps `certificates` as the files say. It reads them each time: a file system's times are too coarse, or those of an
/// archive, and the files are small.
pub async fn follow(certificates: Arc<Certificates>, mut pairs: Vec<ServerPair>) -> Infallible {
    let mut looks = interval(INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let certificates = Arc::clone(&certificates);
        // On a thread of its own: a file system that hangs must not keep the changes of keys away.
        let mut looked_at = pairs.clone();
        let looked = tokio::task::spawn_blocking(move || {
            certificates.refresh(&mut looked_at);
            looked_at
        });
        match looked.await {
            Ok(looked_at) => pairs = looked_at,
            Err(error) => log::error!("certificates could not be looked at: {error}"),
        }
    }
}
