//! Data plane: the public listener and the state of its threads.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use actix_server::Server;
use futures_util::FutureExt as _;

use crate::app::listener::{Front, close_with};
use crate::app::shared::Shared;
use crate::config::listen::ListenSettings;
use crate::front::client_stream::{ClientFault, ClientGuard};
use crate::front::listener::{self, Versions};
use crate::front::proxy_protocol::{FaultLog, ProxyHeaderFault};
use crate::http::request_id::RequestIds;
use crate::panics::supervise;
use crate::pipeline::open_streams::OpenStreams;
use crate::pipeline::{Origins, Worker, unread};
use crate::proxy::pool::{OriginPool, PoolSettings};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log_writer::LogWriter;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::tally::Tally;
use crate::usage::meter::{UsageMeter, UsageSender};

/// Input for each worker.
#[derive(Clone)]
pub(super) struct DataPlane {
    shared: Shared,
    usage: UsageSender,
    access_log: Option<LogWriter>,
}

impl DataPlane {
    /// Creates the data plane with `usage` counters and an optional `access_log`.
    pub(super) fn new(shared: &Shared, usage: UsageSender, access_log: Option<LogWriter>) -> Self {
        Self {
            shared: shared.clone(),
            usage,
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
            // One above the limit is accepted, which closes the longest idle connection.
            .max_concurrent_connections(room.saturating_add(1))
            .shutdown_timeout(settings.drain_timeout.as_secs().max(1))
            .disable_signals();
        let draining = builder.graceful_shutdown_signal();
        let handshake_timeout = settings.tls_handshake_timeout;
        let versions = Versions {
            prior_knowledge: settings.http2_prior_knowledge,
            max_streams: u32::try_from(settings.http2_max_streams).unwrap_or(u32::MAX),
        };
        let is_announced = settings.proxy_protocol;
        // Runs once in each worker thread; the result belongs to that thread.
        let begin = move || {
            let worker = Rc::new(self.worker());
            let (faults, refusing) = (worker.tally.clone(), Rc::clone(&worker));
            let log = FaultLog::default();
            let policy = Arc::clone(&worker.policy);
            let guard = ClientGuard::new(policy.load().client_limits)
                .limited_by(move || policy.load().client_limits)
                .with_room_for(room);
            let policy = Arc::clone(&worker.policy);
            let guard = match is_announced {
                true => guard.announced_by(move || Arc::clone(&policy.load().trusted_proxies)),
                false => guard,
            };
            let guard = guard.observed_by(move |client, fault| {
                faults.fault(fault);
                match fault {
                    ClientFault::ProxyHeader(fault) => log.note(client.peer(), fault),
                    ClientFault::UnexpectedProxyHeader => {
                        log.note(client.peer(), ProxyHeaderFault::Unexpected);
                    }
                    _ => {}
                }
            });
            // Connections that never send a request get ordinary refusals.
            (
                worker,
                guard.refusing_by(move |refused| unread::refuse(&refusing, refused)),
            )
        };
        // One service per kind of socket, so that plain TCP costs nothing extra.
        let builder = match front {
            Front::Plain => builder.listen("public", listener, move || {
                let (worker, guard) = begin();
                close_with(&guard, &draining);
                listener::plain(guard, worker, versions)
            })?,
            Front::Tls(acceptor) => builder.listen("public", listener, move || {
                let (worker, guard) = begin();
                close_with(&guard, &draining);
                listener::tls(guard, acceptor.clone(), handshake_timeout, worker, versions)
            })?,
        };
        Ok(builder.run())
    }

    /// Creates the state of one thread, with its own connections to origins.
    pub(super) fn worker(&self) -> Worker {
        let policy = self.shared.policy.load_full();
        let tally = Tally::new(
            UsageMeter::new(self.usage.clone()),
            WorkerMetrics::new(&self.shared.metrics),
            self.shared.drain.clone(),
        );
        let streams = OpenStreams::new(Arc::clone(&self.shared.keys));
        let streams = Rc::new(streams.under(Arc::clone(&self.shared.policy)));
        let (watched, feed) = (Rc::clone(&streams), Arc::clone(&self.shared.feed));
        let generations = self.shared.reloads.generations();
        actix_rt::spawn(
            supervise("ending requests with their keys", async move || {
                watched.watch(&feed, generations.clone()).await
            })
            .map(|never| match never {}),
        );
        Worker {
            policy: Arc::clone(&self.shared.policy),
            keys: Arc::clone(&self.shared.keys),
            feed: Arc::clone(&self.shared.feed),
            in_flight: Arc::clone(&self.shared.in_flight),
            brake: Arc::clone(&self.shared.brake),
            adoption: Arc::clone(&self.shared.adoption),
            origins: Origins::new(
                Arc::clone(&policy.pool),
                OriginPool::new(PoolSettings::clone(&policy.pool)),
            ),
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
