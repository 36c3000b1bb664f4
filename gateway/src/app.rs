//! Wiring: the only file that knows every part. It binds, opens the store, and starts the two planes.

mod descriptors;
mod open_files;
mod parts;

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request};
use actix_rt::net::TcpStream;
use actix_server::Server;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use rustix::system::uname;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use crate::admin::metrics::MetricsPage;
use crate::admin::{self, Operations, Refused};
use crate::app::open_files::warn_of_open_files;
use crate::app::parts::{ADMIN_LIMITS, client_limits, policy, pool_settings, upstreams};
use crate::config::listen::ListenSettings;
use crate::config::settings::Settings;
use crate::control::{ControlError, ControlPlane, Duties};
use crate::front::certificates::{Certificates, ServerPair};
use crate::front::client_stream::{ClientFault, ClientGuard, ClientLimits, ClientStream};
use crate::front::proxy_protocol::{FaultLog, ProxyHeaderFault};
use crate::http::request_id::RequestIds;
use crate::keys::KeyTable;
use crate::leaks::public_keys::GithubKeys;
use crate::panics::kept_up;
use crate::pipeline::drain::Drain;
use crate::pipeline::in_flight::RequestsInFlight;
use crate::pipeline::open_streams::OpenStreams;
use crate::pipeline::{Policy, Worker, expect, serve, unread};
use crate::proxy::pool::{OriginPool, PoolSettings};
use crate::store::snapshot::SnapshotKey;
use crate::store::{FeedStatus, StoreHandle, StoreSizes};
use crate::telemetry::access_log::{AccessLog, Sink};
use crate::telemetry::log_writer::{LogName, LogWriter, finish, unlocked};
use crate::telemetry::metrics::{Metrics, WorkerMetrics};
use crate::telemetry::tally::Tally;
use crate::tls::socket::TlsSocket;
use crate::usage::ledger::Ledger;
use crate::usage::meter::{UsageMeter, UsageSender};

/// How long the last lines of the access log may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Connections that the kernel holds for us while every worker is busy.
const BACKLOG: i32 = 1024;

/// How long a connection that is being closed may take to do so.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a TLS handshake with the admin listener may take.
const ADMIN_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({setting}): {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The shared secret does not fit a header; its type rules this out.
    #[error("the shared secret does not fit a header")]
    Secret,
    /// TLS cannot be set up.
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
    /// The system has no thread or no randomness to give.
    #[error("the system refused what every process needs: {0}")]
    System(#[from] io::Error),
}

/// A gateway that is bound and runs.
pub struct Gateway {
    public_address: SocketAddr,
    admin_address: SocketAddr,
    public: Server,
    admin: Server,
    operations: Operations,
    control: ControlPlane,
    access_log: Option<(LogWriter, JoinHandle<()>)>,
    drain: Drain,
    drain_delay: Duration,
    drain_timeout: Duration,
}

impl Gateway {
    /// Binds both listeners, opens the store and starts to load the keys. Must run inside an actix system.
    ///
    /// # Errors
    /// What is missing to start.
    pub async fn build(mut settings: Settings) -> Result<Self, StartError> {
        descriptors::fit(&mut settings);
        let public_listener = listen(settings.listen.address, "listen.address")?;
        let admin_listener = listen(settings.admin.address, "admin.address")?;
        let (public_address, admin_address) =
            (public_listener.local_addr()?, admin_listener.local_addr()?);

        let keys = Arc::new(KeyTable::new());
        keys.own_keys_begin_with(&settings.store.prefix);
        let upstreams = upstreams(&settings);
        let feed = Arc::new(FeedStatus::new());
        let (front, certificates) = Front::of(&settings.listen.certificates)?;
        let (admin_front, admin_certificates) = Front::of(&settings.admin.certificates)?;
        let (scheme, admin_scheme) = (front.scheme(), admin_front.scheme());
        let watched: Vec<_> = [
            (certificates, settings.listen.certificates.clone()),
            (admin_certificates, settings.admin.certificates.clone()),
        ]
        .into_iter()
        .filter_map(|(served, pairs)| Some((served?, pairs)))
        .collect();
        let certificates = watched
            .iter()
            .map(|(served, _)| Arc::clone(served))
            .collect();
        let store = StoreHandle::default();
        let sizes = Arc::<StoreSizes>::default();
        let (usage, ledger) = Ledger::new();
        let ledger_status = ledger.status();
        let control = ControlPlane::start(
            ledger,
            Duties {
                settings: settings.store.clone(),
                store: store.clone(),
                snapshot_key: SnapshotKey::of(settings.origin.shared_secret.expose()),
                sizes: Arc::clone(&sizes),
                keys: Arc::clone(&keys),
                status: Arc::clone(&feed),
                name: name(public_address),
                listener: listener(public_address),
                certificates: watched,
                upstreams: upstreams.clone(),
                origin_tls: settings.origin.tls.clone(),
            },
        )
        .await?;
        warn_of_open_files(&settings);
        let operations = Operations::new(
            Arc::clone(&keys),
            Arc::clone(&feed),
            settings.store.max_staleness,
            upstreams.clone(),
            &settings.admin.tokens,
            settings.store.prefix.clone(),
            store,
        )
        .answering_to(settings.admin.hosts.iter().map(|host| host.0.as_str()))
        .reached(
            matches!(admin_front, Front::Tls(_)),
            settings.admin.public_url.as_ref(),
        );
        let access_log = match settings.access_log {
            Sink::Stdout => Some(LogWriter::start(LogName::Access, unlocked(&io::stdout())?)?),
            Sink::Off => None,
        };
        let policy = policy(&settings, scheme, &upstreams)?;
        let in_flight = Arc::new(RequestsInFlight::shared(
            settings.listen.max_requests_in_flight,
            settings.listen.share_of_a_key(),
        ));
        let metrics = Metrics::new();
        let refused = Arc::new(Refused::default());
        let page = MetricsPage {
            metrics: Arc::clone(&metrics),
            keys: Arc::clone(&keys),
            feed: Arc::clone(&feed),
            upstreams: policy
                .routes
                .iter()
                .map(|route| Arc::clone(&route.upstream))
                .chain(upstreams)
                .collect(),
            in_flight: Arc::clone(&in_flight),
            usage: ledger_status,
            sizes,
            certificates,
            access_log: access_log.as_ref().map(|(writer, _)| writer.lost()),
            refused,
        };
        let (drain, drain_delay) = (Drain::default(), settings.listen.drain_delay);
        let data_plane = DataPlane {
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            keys,
            feed,
            in_flight,
            metrics,
            usage,
            pool: pool_settings(&settings.origin),
            limits: client_limits(&settings.listen),
            access_log: access_log.as_ref().map(|(writer, _)| writer.clone()),
            drain: drain.clone(),
        };
        let judge = data_plane.clone();
        let public = data_plane.serve(public_listener, &settings.listen, front)?;
        let admin = serve_admin(
            admin_listener,
            &settings,
            admin_front,
            operations.clone(),
            page,
            judge,
        )?;
        log::info!("listening on {scheme}://{public_address}");
        log::info!("admin listening on {admin_scheme}://{admin_address}");
        Ok(Self {
            public_address,
            admin_address,
            public,
            admin,
            operations,
            control,
            access_log,
            drain,
            drain_delay,
            drain_timeout: settings.listen.drain_timeout,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn public_address(&self) -> SocketAddr {
        self.public_address
    }

    /// Where operators connect.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Serves until `stop` resolves; then lets connections come to their end, as [`Drain::stop`] says, and returns. Once
    /// `stop_now` resolves it waits no longer.
    ///
    /// # Errors
    /// A listener failed.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        stop_now: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (public, admin) = (self.public.handle(), self.admin.handle());
        let (mut public_task, admin_task) =
            (actix_rt::spawn(self.public), actix_rt::spawn(self.admin));
        tokio::select! {
            () = stop => {}
            ended = &mut public_task => return ended.unwrap_or_else(|error| Err(io::Error::other(error))),
        }
        log::info!("stopping: finishing the requests that run");
        self.operations.begin_stop();
        tokio::select! {
            () = self.drain.stop(&public, self.drain_delay, self.drain_timeout) => {}
            () = stop_now => {
                log::warn!("stopping at once: requests that run are broken off");
                return Ok(());
            }
        }
        admin.stop(false).await;
        let ended = public_task
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let admin_ended = admin_task
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        self.control.stop();
        if let Some((writer, thread)) = self.access_log {
            drop(writer);
            // The workers' ends of the queue are gone with them, so the thread ends once all is written; unless nobody reads.
            finish(&thread, LAST_LINES);
        }
        log::info!("stopped");
        ended.and(admin_ended)
    }
}

/// What a listener speaks beneath HTTP.
#[derive(Clone)]
enum Front {
    Plain,
    Tls(TlsAcceptor),
}

impl Front {
    /// TLS with these certificates, or nothing where there are none.
    fn of(pairs: &[ServerPair]) -> Result<(Self, Option<Arc<Certificates>>), StartError> {
        let Some(certificates) = Certificates::new(pairs) else {
            return Ok((Self::Plain, None));
        };
        let acceptor = TlsAcceptor::from(Arc::new(certificates.server_config()?));
        Ok((Self::Tls(acceptor), Some(certificates)))
    }

    fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls(_) => "https",
        }
    }
}

/// What each worker is made from.
#[derive(Clone)]
struct DataPlane {
    policy: Arc<ArcSwap<Policy>>,
    keys: Arc<KeyTable>,
    feed: Arc<FeedStatus>,
    in_flight: Arc<RequestsInFlight>,
    metrics: Arc<Metrics>,
    usage: UsageSender,
    pool: PoolSettings,
    limits: ClientLimits,
    access_log: Option<LogWriter>,
    drain: Drain,
}

/// HTTP over guarded streams of one kind of socket. No function: the type of what it makes cannot be written down.
macro_rules! http_service {
    ($worker:ident, $draining:ident, $socket:ty) => {{
        let (worker, connected) = (Rc::clone(&$worker), $worker.tally.clone());
        let (serving, draining) = (Rc::clone(&worker), $draining.clone());
        HttpService::build()
            // The guarded stream keeps the deadlines of every head and of idle connections.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            // A client that closes has left: its request to the origin is dropped.
            .h1_allow_half_closed(false)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .graceful_shutdown_signal(move || {
                let draining = draining.clone();
                async move { draining.notified().await }
            })
            .on_connect_ext(move |client: &ClientStream<$socket>, data| {
                data.insert(client.control());
                data.insert(connected.connection());
            })
            .expect(fn_service(move |request: Request| {
                ready(expect(&worker, request))
            }))
            // In a box: a connection has room for the future of its request also while it is idle.
            .finish(fn_service(move |request: Request| {
                Box::pin(serve(Rc::clone(&serving), request)).map(Ok::<_, Infallible>)
            }))
    }};
}

impl DataPlane {
    fn serve(
        self,
        listener: TcpListener,
        settings: &ListenSettings,
        front: Front,
    ) -> io::Result<Server> {
        let room = settings.max_connections.div_ceil(settings.workers);
        let builder = Server::build()
            .workers(settings.workers)
            // One more is let in, for which the longest idle one goes.
            .max_concurrent_connections(room.saturating_add(1))
            .shutdown_timeout(settings.drain_timeout.as_secs().max(1))
            .disable_signals();
        let draining = builder.graceful_shutdown_signal();
        let handshake_timeout = settings.tls_handshake_timeout;
        let announcers = settings
            .proxy_protocol
            .then(|| settings.trusted_proxies.clone());
        // Called once in each worker thread: what it makes is that thread's own.
        let begin = move || {
            let worker = Rc::new(self.worker());
            let (faults, refusing) = (worker.tally.clone(), Rc::clone(&worker));
            let log = FaultLog::default();
            let guard = ClientGuard::new(self.limits)
                .with_room_for(room)
                .announced_by(announcers.clone())
                .observed_by(move |client, fault| {
                    faults.fault(fault);
                    match fault {
                        ClientFault::ProxyHeader(fault) => log.note(client.peer(), fault),
                        ClientFault::UnexpectedProxyHeader => {
                            log.note(client.peer(), ProxyHeaderFault::Unexpected);
                        }
                        _ => {}
                    }
                });
            // Those that never come to a request are refused as all others are.
            (
                worker,
                guard.refusing_by(move |refused| unread::refuse(&refusing, refused)),
            )
        };
        // A service for each kind of socket, so that a plain one pays nothing for the other.
        let builder = match front {
            Front::Plain => builder.listen("public", listener, move || {
                let (worker, guard) = begin();
                guard
                    .accept()
                    .and_then(http_service!(worker, draining, TcpStream))
            })?,
            Front::Tls(acceptor) => builder.listen("public", listener, move || {
                let (worker, guard) = begin();
                let accept = guard.accept_tls(acceptor.clone(), handshake_timeout);
                accept.and_then(http_service!(worker, draining, TlsSocket))
            })?,
        };
        Ok(builder.run())
    }

    /// What one thread serves with; connections to origins are its own.
    fn worker(&self) -> Worker {
        let routes = self
            .policy
            .load()
            .routes
            .iter()
            .map(|route| Arc::clone(&route.name))
            .collect::<Vec<_>>();
        let tally = Tally::new(
            UsageMeter::new(self.usage.clone()),
            WorkerMetrics::new(&self.metrics, routes),
            self.drain.clone(),
        );
        let streams = Rc::new(OpenStreams::new(Arc::clone(&self.keys)));
        let (watched, feed) = (Rc::clone(&streams), Arc::clone(&self.feed));
        actix_rt::spawn(
            kept_up("ending requests with their keys", async move || {
                watched.watch(&feed).await
            })
            .map(|never| match never {}),
        );
        Worker {
            policy: Arc::clone(&self.policy),
            keys: Arc::clone(&self.keys),
            feed: Arc::clone(&self.feed),
            in_flight: Arc::clone(&self.in_flight),
            origins: OriginPool::new(self.pool.clone()),
            access_log: self
                .access_log
                .clone()
                .map_or_else(AccessLog::off, AccessLog::new),
            tally,
            streams,
            request_ids: RequestIds::new(),
            drain: self.drain.clone(),
        }
    }
}

/// The admin API over guarded streams of one kind of socket.
macro_rules! admin_service {
    ($app:ident, $socket:ty) => {
        HttpService::build()
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .on_connect_ext(|client: &ClientStream<$socket>, data| {
                data.insert(client.control());
            })
            .finish(map_config(
                $app()
                    .into_factory()
                    .map_err(|error: actix_web::Error| error.error_response()),
                |()| AppConfig::default(),
            ))
    };
}

/// Serves operators; `judge` is what requests are judged with that other proxies ask about.
fn serve_admin(
    listener: TcpListener,
    settings: &Settings,
    front: Front,
    operations: Operations,
    page: MetricsPage,
    judge: DataPlane,
) -> io::Result<Server> {
    let refused = web::Data::from(Arc::clone(&page.refused));
    let (faults, github_keys) = (Arc::clone(&page.refused), settings.github_keys.clone());
    let (operations, page) = (web::Data::new(operations), web::Data::new(page));
    let app = move || {
        App::new()
            .app_data(Rc::new(judge.worker()))
            .app_data(Rc::new(GithubKeys::new(github_keys.clone())))
            .app_data(operations.clone())
            .app_data(page.clone())
            .app_data(refused.clone())
            .wrap(from_fn(admin::gate))
            .configure(admin::routes)
    };
    let room = settings.admin.max_connections;
    let guard = move || {
        let (faults, ids) = (Arc::clone(&faults), RequestIds::new());
        ClientGuard::new(ADMIN_LIMITS)
            .with_room_for(room)
            .refusing_by(move |refused| faults.refuse(refused, &ids))
    };
    let builder = Server::build()
        .workers(1)
        .max_concurrent_connections(room.saturating_add(1))
        .disable_signals();
    let builder = match front {
        Front::Plain => builder.listen("admin", listener, move || {
            guard().accept().and_then(admin_service!(app, TcpStream))
        })?,
        Front::Tls(acceptor) => builder.listen("admin", listener, move || {
            let accept = guard().accept_tls(acceptor.clone(), ADMIN_HANDSHAKE_TIMEOUT);
            accept.and_then(admin_service!(app, TlsSocket))
        })?,
    };
    Ok(builder.run())
}

/// What other gateways and the command line know this one by: its host, and where it listens.
fn name(address: SocketAddr) -> String {
    format!(
        "{}:{}",
        uname().nodename().to_string_lossy(),
        address.port()
    )
}

/// What tells two gateways apart that listen, of which only one can: the boot of the machine, its network namespace, and the
/// address. `None` where the system does not say.
fn listener(address: SocketAddr) -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let network = std::fs::read_link("/proc/self/ns/net").ok()?;
    Some(format!("{} {} {address}", boot.trim(), network.display()))
}

fn listen(address: SocketAddr, setting: &'static str) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    };
    bind().map_err(|cause| StartError::Listen {
        address,
        setting,
        cause,
    })
}
