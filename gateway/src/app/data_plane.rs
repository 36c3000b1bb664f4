//! The data plane: the public listener, and what each of its threads serves with.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request};
use actix_rt::net::TcpStream;
use actix_server::Server;
use actix_service::{ServiceFactoryExt as _, fn_service};
use arc_swap::ArcSwap;
use futures_util::FutureExt as _;

use crate::app::listener::{DISCONNECT_TIMEOUT, Front};
use crate::app::parts::{client_limits, pool_settings};
use crate::app::shared::Shared;
use crate::config::listen::ListenSettings;
use crate::config::settings::Settings;
use crate::front::client_stream::{ClientFault, ClientGuard, ClientLimits, ClientStream};
use crate::front::proxy_protocol::{FaultLog, ProxyHeaderFault};
use crate::http::request_id::RequestIds;
use crate::panics::kept_up;
use crate::pipeline::open_streams::OpenStreams;
use crate::pipeline::{Policy, Worker, expect, serve, unread};
use crate::proxy::pool::{OriginPool, PoolSettings};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log_writer::LogWriter;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::tally::Tally;
use crate::tls::socket::TlsSocket;
use crate::usage::meter::{UsageMeter, UsageSender};

/// What each worker is made from.
#[derive(Clone)]
pub(super) struct DataPlane {
    shared: Shared,
    policy: Arc<ArcSwap<Policy>>,
    usage: UsageSender,
    pool: PoolSettings,
    limits: ClientLimits,
    access_log: Option<LogWriter>,
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
    /// Serves by `policy`, counts with `usage`, and writes to `access_log` where there is one.
    pub(super) fn new(
        shared: &Shared,
        settings: &Settings,
        policy: Policy,
        usage: UsageSender,
        access_log: Option<LogWriter>,
    ) -> Self {
        Self {
            shared: shared.clone(),
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            usage,
            pool: pool_settings(&settings.origin),
            limits: client_limits(&settings.listen),
            access_log,
        }
    }

    /// Serves clients.
    pub(super) fn serve(
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
    pub(super) fn worker(&self) -> Worker {
        let routes = self
            .policy
            .load()
            .routes
            .iter()
            .map(|route| Arc::clone(&route.name))
            .collect::<Vec<_>>();
        let tally = Tally::new(
            UsageMeter::new(self.usage.clone()),
            WorkerMetrics::new(&self.shared.metrics, routes),
            self.shared.drain.clone(),
        );
        let streams = Rc::new(OpenStreams::new(Arc::clone(&self.shared.keys)));
        let (watched, feed) = (Rc::clone(&streams), Arc::clone(&self.shared.feed));
        actix_rt::spawn(
            kept_up("ending requests with their keys", async move || {
                watched.watch(&feed).await
            })
            .map(|never| match never {}),
        );
        Worker {
            policy: Arc::clone(&self.policy),
            keys: Arc::clone(&self.shared.keys),
            feed: Arc::clone(&self.shared.feed),
            in_flight: Arc::clone(&self.shared.in_flight),
            origins: OriginPool::new(self.pool.clone()),
            access_log: self
                .access_log
                .clone()
                .map_or_else(AccessLog::off, AccessLog::new),
            tally,
            streams,
            request_ids: RequestIds::new(),
            drain: self.shared.drain.clone(),
        }
    }
}
