//! Wiring, the only place that knows every part: binds, opens the store, and starts the two planes.

mod admin_listener;
mod data_plane;
mod descriptors;
mod error;
mod listener;
mod open_files;
mod parts;
mod reload;
mod shared;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_server::Server;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::admin::Operations;
use crate::app::admin_listener::serve_admin;
use crate::app::data_plane::DataPlane;
pub use crate::app::error::StartError;
use crate::app::listener::{Front, listen};
use crate::app::open_files::warn_of_open_files;
use crate::app::parts::policy;
use crate::app::reload::Reloader;
use crate::app::shared::Shared;
use crate::config::settings::Settings;
use crate::control::ControlPlane;
use crate::front::drain::Drain;
use crate::front::http2;
use crate::keys::KeyTable;
use crate::reload::Reloads;
use crate::store::FeedStatus;
use crate::telemetry::access_log::Sink;
use crate::telemetry::log_writer::{LogName, LogWriter, finish, unlocked};
use crate::tls::HTTP_1_1;
use crate::usage::ledger::Ledger;

/// Timeout for writing the last lines of the access log.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the first connections wait for the keys. Without keys, they are accepted then, and get
/// 503.
const KEYS_TIMEOUT: Duration = Duration::from_secs(5);

/// A bound and running gateway.
pub struct Gateway {
    public_address: SocketAddr,
    admin_address: SocketAddr,
    public: Server,
    admin: Server,
    operations: Operations,
    control: ControlPlane,
    access_log: Option<(LogWriter, JoinHandle<()>)>,
    keys: Arc<KeyTable>,
    feed: Arc<FeedStatus>,
    drain: Drain,
    drain_delay: Duration,
    drain_timeout: Duration,
    reloads: Arc<Reloads>,
    reloader: Reloader,
}

impl Gateway {
    /// Binds both listeners, opens the store and starts to load the keys. Must run inside an actix
    /// system.
    ///
    /// # Errors
    /// Why the gateway cannot start.
    pub async fn build(mut settings: Settings) -> Result<Self, StartError> {
        descriptors::fit(&mut settings);
        let public_listener = listen(settings.listen.address, "listen.address")?;
        let admin_listener = listen(settings.admin.address, "admin.address")?;
        let (public_address, admin_address) =
            (public_listener.local_addr()?, admin_listener.local_addr()?);

        let protocols = match settings.listen.http2 {
            true => &[http2::ALPN, HTTP_1_1][..],
            false => &[HTTP_1_1],
        };
        let (front, certificates) = Front::of(&settings.listen.certificates, protocols)?;
        let (admin_front, admin_certificates) =
            Front::of(&settings.admin.certificates, &[HTTP_1_1])?;
        let (scheme, admin_scheme) = (front.scheme(), admin_front.scheme());
        let policy = policy(&settings, scheme, None)?;
        let certificates = [certificates, admin_certificates];
        let shared = Shared::new(&settings, policy, certificates);

        let quotas = Arc::clone(shared.policy.load().quotas.memory());
        let (usage, ledger) = Ledger::keeping(quotas, Arc::clone(&shared.adoption));
        let ledger_status = ledger.status();
        let duties = shared.duties(&settings, public_address);
        let control = ControlPlane::start(ledger, duties).await?;
        warn_of_open_files(&settings);
        let access_log = start_access_log();
        let access_log = match settings.access_log {
            Sink::Stdout => Some(access_log?),
            // New settings may ask for it later.
            Sink::Off => access_log.ok(),
        };
        let writer = access_log.as_ref().map(|(writer, _)| writer);
        let page = shared.metrics_page(ledger_status, writer.map(LogWriter::lost));
        let operations = shared.operations(&settings, matches!(admin_front, Front::Tls(_)));
        let data_plane = DataPlane::new(&shared, usage, writer.cloned());
        let forward_auth = data_plane.clone();
        let public = data_plane.serve(public_listener, &settings.listen, front)?;
        let admin = serve_admin(
            admin_listener,
            &settings,
            admin_front,
            operations.clone(),
            page,
            forward_auth,
        )?;
        log::info!("listening on {scheme}://{public_address}");
        log::info!("admin listening on {admin_scheme}://{admin_address}");
        let (drain_delay, drain_timeout) =
            (settings.listen.drain_delay, settings.listen.drain_timeout);
        let reloader = Reloader::new(&shared, &operations, scheme, settings);
        Ok(Self {
            public_address,
            admin_address,
            public,
            admin,
            operations,
            control,
            access_log,
            keys: shared.keys,
            feed: shared.feed,
            drain: shared.drain,
            drain_delay,
            drain_timeout,
            reloads: shared.reloads,
            reloader,
        })
    }

    /// Address of the public listener.
    #[must_use]
    pub fn public_address(&self) -> SocketAddr {
        self.public_address
    }

    /// Address of the admin listener.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Readings of the settings.
    #[must_use]
    pub fn reloads(&self) -> Arc<Reloads> {
        Arc::clone(&self.reloads)
    }

    /// Serves until `stop` resolves, then drains connections as [`Drain::stop`] describes. Stops
    /// waiting once `stop_now` resolves.
    ///
    /// # Errors
    /// A listener failed.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        stop_now: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (public, admin) = (self.public.handle(), self.admin.handle());
        let (stopping, keys, feed) = (Rc::new(Notify::new()), self.keys, self.feed);
        let (stops, server) = (Rc::clone(&stopping), self.public);
        let mut public_task = actix_rt::spawn(async move {
            tokio::select! {
                () = keys_are_loaded(&keys, &feed) => {}
                () = stops.notified() => {}
            }
            // The listener is bound; accepts from here on.
            server.await
        });
        let admin_task = actix_rt::spawn(self.admin);
        let reloading = actix_rt::spawn(self.reloader.follow());
        tokio::select! {
            () = stop => {}
            ended = &mut public_task => return ended.unwrap_or_else(|error| Err(io::Error::other(error))),
        }
        log::info!("stopping: finishing the running requests");
        stopping.notify_one();
        self.operations.begin_stop();
        self.reloads.stop();
        reloading.abort();
        let draining = async {
            let (delay, timeout) = (self.drain_delay, self.drain_timeout);
            self.drain.stop(&public, delay, timeout).await;
            // Last, so that the drain can be watched.
            admin.stop(true).await;
        };
        tokio::select! {
            () = draining => {}
            () = stop_now => {
                log::warn!("stopping at once: aborting the running requests");
                return Ok(());
            }
        }
        let ended = public_task
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let admin_ended = admin_task
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        self.control.stop();
        if let Some((writer, thread)) = self.access_log {
            drop(writer);
            // The workers' senders are dropped, so the thread ends after the last line, unless the
            // reader has stalled.
            finish(&thread, LOG_FLUSH_TIMEOUT);
        }
        log::info!("stopped");
        ended.and(admin_ended)
    }
}

/// Waits until the keys are loaded, for [`KEYS_TIMEOUT`].
async fn keys_are_loaded(keys: &KeyTable, feed: &FeedStatus) {
    let mut reached = feed.reached();
    let loaded = async { while !keys.is_loaded() && reached.changed().await.is_ok() {} };
    if timeout(KEYS_TIMEOUT, loaded).await.is_err() && !keys.is_loaded() {
        log::warn!(
            "no keys after {KEYS_TIMEOUT:?}: accepting connections, whose requests get 503 until there are"
        );
    }
}

/// Starts the thread that writes the access log.
fn start_access_log() -> io::Result<(LogWriter, JoinHandle<()>)> {
    LogWriter::start(LogName::Access, unlocked(&io::stdout())?)
}
