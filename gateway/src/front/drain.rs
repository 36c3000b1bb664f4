//! The end of a gateway, so that no request is lost by it: what is answered announces the end of its connection first, and
//! connections close only once they have had the time to say what they were about to.
//!
//! Left to themselves, actix-http reads nothing more from a connection once the server stops, and actix-server drops the
//! connections that no worker has taken up yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_http::{ConnectionType, Response, StatusCode};
use actix_server::ServerHandle;

/// How long connections may still begin a request once no more of them are taken.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

/// Whether the gateway is about to stop; shared by all threads.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_begun: AtomicBool,
    is_over: AtomicBool,
}

impl Drain {
    /// Stops `server` in three steps, the first of which takes `delay`: every answer closes its connection, new ones are still
    /// taken; no more connections are taken; what is idle is closed, and what runs is finished, for `timeout`, as the server is told.
    ///
    /// Dropping the future leaves the server in the step where it is.
    pub async fn stop(&self, server: &ServerHandle, delay: Duration, timeout: Duration) {
        self.0.is_begun.store(true, Ordering::Relaxed);
        tokio::time::sleep(delay).await;
        server.pause().await;
        log::info!("stopping: no more connections are taken");
        tokio::time::sleep(LAST_REQUESTS).await;
        let time_out = async {
            // Well before the server cuts off what still runs: what it ends then has not come to an end of its own.
            tokio::time::sleep(timeout / 2).await;
            self.0.is_over.store(true, Ordering::Relaxed);
        };
        let stopped = server.stop(true);
        tokio::select! {
            () = stopped => {}
            () = async { time_out.await; std::future::pending().await } => {}
        }
    }

    /// Whether the time in which requests can finish is nearly over: one that ends in the middle is cut off.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }

    /// Whether the gateway is about to stop.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.0.is_begun.load(Ordering::Relaxed)
    }

    /// Makes `response` the last one of its connection if the gateway is about to stop. One that leaves HTTP stays as it is.
    pub fn announce<B>(&self, response: &mut Response<B>) {
        if self.is_begun() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response
                .head_mut()
                .set_connection_type(ConnectionType::Close);
        }
    }
}
