//! Watches the certificate files every second, outside the data plane.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::front::certificates::Certificates;

/// Interval between checks. A change takes effect after two of them at the latest.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps `certificates` in step with the files. Reads the content each time: modification times are
/// too coarse or may come from an archive, and the files are small.
pub async fn follow(certificates: Arc<Certificates>) -> Infallible {
    let mut looks = interval(INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let certificates = Arc::clone(&certificates);
        // On a blocking thread: a hanging file system must not delay the updates of keys.
        let looked = tokio::task::spawn_blocking(move || certificates.refresh());
        if let Err(error) = looked.await {
            log::error!("cannot check the certificate files: {error}");
        }
    }
}
