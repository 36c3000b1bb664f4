//! Graceful shutdown without lost requests: responses first announce the end of their connection,
//! and connections close only after a grace period for requests already under way.
//!
//! Otherwise actix-http stops reading from connections once the server stops, and actix-server
//! drops the connections that no worker has picked up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_http::{ConnectionType, Response, StatusCode};
use actix_server::ServerHandle;

/// Grace period for further requests on open connections after the listener has closed.
const GRACE_PERIOD: Duration = Duration::from_millis(500);

/// Shutdown state, shared by all threads.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_begun: AtomicBool,
    is_over: AtomicBool,
}

impl Drain {
    /// Stops `server` in three steps. For `delay`, every response closes its connection and new
    /// ones are accepted. Then the listener closes. Then idle connections close and running
    /// requests finish within `timeout`, the server's own shutdown timeout.
    ///
    /// Dropping the future leaves the server in its current step.
    pub async fn stop(&self, server: &ServerHandle, delay: Duration, timeout: Duration) {
        self.0.is_begun.store(true, Ordering::Relaxed);
        tokio::time::sleep(delay).await;
        server.pause().await;
        log::info!("stopping: no more connections are accepted");
        tokio::time::sleep(GRACE_PERIOD).await;
        let time_out = async {
            // Well before the server cuts off what still runs, so that such an end is not taken for
            // a regular one.
            tokio::time::sleep(timeout / 2).await;
            self.0.is_over.store(true, Ordering::Relaxed);
        };
        let stopped = server.stop(true);
        tokio::select! {
            () = stopped => {}
            () = async { time_out.await; std::future::pending().await } => {}
        }
    }

    /// Whether the time for finishing is nearly over: a response that breaks off now was cut off.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }

    /// Whether the shutdown has begun.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.0.is_begun.load(Ordering::Relaxed)
    }

    /// Makes `response` the last of its connection once the shutdown has begun. Leaves upgrades as
    /// they are.
    pub fn announce<B>(&self, response: &mut Response<B>) {
        if self.is_begun() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response
                .head_mut()
                .set_connection_type(ConnectionType::Close);
        }
    }
}
