//! The PostgreSQL server: connecting to it, and the settings of each connection.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Row};
use tokio::time::timeout;

use crate::store::database_url::PostgresUrl;
use crate::store::fault::Fault;
use crate::store::{StoreError, within};

/// Timeout before a silent server counts as unreachable.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Notification channel of the schema's trigger.
const CHANNEL: &str = "postern_changes";

/// First statement of a write transaction; returns whether the server is read-only. Holds an
/// advisory lock until the end, which serializes writers: feed revisions appear in order, and data
/// that a writer read is still current when it writes. The number spells `postern`. Not part of
/// `BEGIN`: the driver rolls back only transactions that it began.
pub(super) const TAKE_TURN: &str = "SELECT CAST(current_setting('transaction_read_only') AS TEXT) AS read_only \
    FROM pg_advisory_xact_lock(8101818091236519425)";
/// Describes the holder of the write lock, for a message.
const HOLDER: &str = "SELECT CAST('; session ' || a.pid || ' (' || a.application_name || ' of ' || a.usename \
    || COALESCE(' from ' || host(a.client_addr), '') || ', ' || COALESCE(a.state, 'state not shown') || ' for ' \
    || COALESCE(CAST(round(extract(epoch FROM clock_timestamp() - a.state_change)) AS TEXT), '?') || ' s) holds it' AS TEXT) \
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
    WHERE l.locktype = 'advisory' AND l.granted AND a.pid <> pg_backend_pid() AND l.database = a.datid \
    AND ((CAST(l.classid AS BIGINT) << 32) | CAST(l.objid AS BIGINT)) = 8101818091236519425 LIMIT 1";
/// Begins a read-only transaction with one snapshot. It may be long: loads and exports read
/// everything, and an export's reader may pause.
pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
/// Timeouts for migrations, which may be slow on a large table and wait for another gateway that
/// applies them.
pub(super) const PATIENT: &str = "SET statement_timeout = '30min'; SET lock_timeout = '30min'; \
    SET idle_in_transaction_session_timeout = '60s'";
/// Timeout for the long statements of an import's batch, within its transaction.
pub(super) const LONG_STATEMENTS: &str = "SET LOCAL statement_timeout = '60s'";
/// Returns whether the connection is outside any transaction (inside one, time stands still) and
/// its server writable (a demoted primary keeps its sessions). Simple query only: a prepared one
/// begins a transaction before its statement.
const IS_GOOD: &str =
    "SELECT now() = statement_timestamp() AND current_setting('transaction_read_only') = 'off'";
/// Returns whether the server is read-only.
const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on'";

/// Settings of every connection. A commit waits for the disk even if the server's default does not:
/// an acknowledged key survives a crash. A server setting beyond `on` (for its standbys) stays.
///
/// A stopped or disconnected writer blocks the others for less than their lock timeout.
const SETTINGS: &str = "SET statement_timeout = '10s'; SET lock_timeout = '6s'; \
    SET idle_in_transaction_session_timeout = '3s'; SET client_min_messages = 'warning'; \
    SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; \
    SELECT set_config('tcp_user_timeout', '10000', false); \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// A database on one server, or on several of which one is writable.
#[derive(Clone)]
pub(super) struct PostgresServer {
    location: Arc<str>,
    hosts: Arc<[AnyConnectOptions]>,
    /// Index of the host in use.
    host: Arc<AtomicUsize>,
    connect_timeout: Duration,
    wants_writes: bool,
}

impl PostgresServer {
    /// Parses the driver options of `url`.
    pub(super) fn new(url: &PostgresUrl) -> Result<Self, StoreError> {
        let unusable = |error: sqlx::Error| StoreError::from(error).while_opening(&url.shown);
        let hosts = url.hosts.iter().map(|host| {
            let options = host.parse::<AnyConnectOptions>().map_err(unusable)?;
            Ok(options.disable_statement_logging())
        });
        Ok(Self {
            location: url.shown.as_str().into(),
            hosts: hosts.collect::<Result<_, StoreError>>()?,
            host: Arc::default(),
            connect_timeout: url.connect_timeout,
            wants_writes: url.wants_writes,
        })
    }

    /// Returns server and database, without credentials.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// Returns the index of the host in use.
    pub(super) fn host(&self) -> usize {
        self.host.load(Ordering::Acquire)
    }

    /// Returns whether there is more than one host.
    pub(super) fn has_several_hosts(&self) -> bool {
        self.hosts.len() > 1
    }

    /// Builds a pool of at most `most` connections; connects lazily.
    pub(super) fn pool(&self, most: u32) -> AnyPool {
        let wants_writes = self.wants_writes;
        let options = AnyPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(self.connect_timeout.max(ANSWER_TIMEOUT))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    connection.execute(SETTINGS).await?;
                    if wants_writes && is_read_only(connection).await? {
                        return Err(sqlx::Error::PoolTimedOut);
                    }
                    Ok(())
                })
            })
            // A cancelled operation may leave its transaction open, with locks that block others,
            // or its server may be unresponsive or demoted: such a connection is closed instead of
            // reused.
            .after_release(|connection, _| {
                Box::pin(async move {
                    match timeout(ANSWER_TIMEOUT, sqlx::raw_sql(IS_GOOD).fetch_one(connection))
                        .await
                    {
                        Ok(row) => row?.try_get(0),
                        Err(_) => Ok(false),
                    }
                })
            });
        options.connect_lazy_with(self.options().clone())
    }

    /// Returns whether the database holds a store.
    pub(super) async fn holds_store(&self) -> Result<bool, StoreError> {
        let failed = |error: StoreError| error.while_opening(&self.location);
        let mut connection = self.connect().await.map_err(failed)?;
        // Simple query: a pooler that breaks prepared statements is detected later and named.
        let found = sqlx::raw_sql("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut connection)
            .await;
        let _ = timeout(ANSWER_TIMEOUT, connection.close()).await;
        Ok(found?.try_get(0)?)
    }

    fn options(&self) -> &AnyConnectOptions {
        // Always within bounds.
        &self.hosts[self.host() % self.hosts.len()]
    }

    /// Opens a connection outside the pools, to the first suitable host; the last used host comes
    /// first.
    pub(super) async fn connect(&self) -> Result<AnyConnection, StoreError> {
        let (first, count) = (self.host(), self.hosts.len());
        let mut failure = None::<StoreError>;
        for host in (first..first + count).map(|host| host % count) {
            match self.connect_to(host).await {
                Ok(connection) => {
                    self.host.store(host, Ordering::Release);
                    return Ok(connection);
                }
                // A wrong password on one host says more than the absence of another.
                Err(error) if failure.as_ref().is_none_or(StoreError::may_pass) => {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(|| StoreError::no_answer(self.connect_timeout)))
    }

    async fn connect_to(&self, host: usize) -> Result<AnyConnection, StoreError> {
        within(self.connect_timeout, async {
            let mut connection = self.hosts[host].connect().await?;
            connection.execute(SETTINGS).await?;
            if self.wants_writes && is_read_only(&mut connection).await? {
                let _ = connection.close().await;
                return Err(read_only("no host accepts writes".to_owned()));
            }
            Ok(connection)
        })
        .await
        .map_err(|error| error.while_connecting())
    }

    /// Refuses a pooler in transaction mode, which mixes up prepared statements, settings and
    /// notifications. Proof: two open connections share one session.
    pub(super) async fn refuse_transaction_pooler(
        first: &mut AnyConnection,
        second: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        let mut sessions = Vec::new();
        for connection in [first, second] {
            let row = sqlx::raw_sql("SELECT pg_backend_pid()")
                .fetch_one(connection)
                .await?;
            sessions.push(row.try_get::<i32, _>(0)?);
        }
        if sessions[0] == sessions[1] {
            return Err(StoreError::Failed {
                fault: Fault::TransactionPooler,
                reason: format!("two connections have the session {}", sessions[0]),
            });
        }
        Ok(())
    }

    /// Describes the holder of the write lock, for a message.
    pub(super) async fn holder(&self) -> Option<String> {
        let asked = async {
            let mut connection = self.connect().await?;
            let holder: Option<String> = sqlx::query_scalar(HOLDER)
                .fetch_optional(&mut connection)
                .await?;
            let _ = connection.close().await;
            Ok(holder)
        };
        within(Duration::from_secs(2), asked).await.ok().flatten()
    }

    /// Listens for changes, on a connection of its own.
    pub(super) async fn listen(&self) -> Result<PgListener, StoreError> {
        within(ANSWER_TIMEOUT, async {
            let options = PgConnectOptions::try_from(self.options())?;
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .max_lifetime(None)
                .idle_timeout(None)
                .connect_with(options)
                .await?;
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.ignore_pool_close_event(true);
            // A lost connection may have lost notifications: the feed reconnects and checks for
            // itself.
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        })
        .await
    }
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options contain the password.
        f.debug_tuple("PostgresServer")
            .field(&self.location)
            .finish()
    }
}

/// Error for a read-only server.
pub(super) fn read_only(reason: String) -> StoreError {
    StoreError::Failed {
        fault: Fault::ReadOnlyServer,
        reason,
    }
}

async fn is_read_only(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    sqlx::raw_sql(IS_READ_ONLY)
        .fetch_one(connection)
        .await?
        .try_get(0)
}
