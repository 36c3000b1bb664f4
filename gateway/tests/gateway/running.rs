//! A gateway on a thread of its own, built as production builds it, and the wait for what happens there.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postern_gateway::app::Gateway;
use postern_gateway::config::settings::Settings;
use tokio::sync::oneshot;

use crate::client::{DEADLINE, get};

/// A gateway that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// What it waits for: it stops when this is gone.
    _stop: oneshot::Sender<()>,
}

impl Running {
    /// Starts one, and returns when it has loaded its keys.
    pub(crate) fn start(settings: Settings) -> Self {
        let (started, addresses) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let gateway = Gateway::build(settings).await.unwrap();
                started
                    .send((gateway.public_address(), gateway.admin_address()))
                    .unwrap();
                gateway
                    .run(async { drop(stopped.await) }, std::future::pending())
                    .await
            })
        });
        let (public, admin) = addresses.recv_timeout(DEADLINE).unwrap();
        eventually("the keys are loaded", || {
            get(admin, "/readyz", &[]).status == 200
        });
        Self {
            public,
            admin,
            _stop: stop,
        }
    }
}

/// Waits until `holds`, up to the deadline.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < DEADLINE,
            "not within {DEADLINE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
