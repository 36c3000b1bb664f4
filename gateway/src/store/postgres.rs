//! The PostgreSQL server: how it is reached, and how each connection to it is set.

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

/// How long a server may take to answer before it counts as away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The channel that the schema's trigger tells changes on.
const CHANNEL: &str = "postern_changes";

/// The first statement of a transaction that may write; says whether the server takes no writes. Its lock is held to the
/// end: writers take turns, so that revisions of the feed appear in the order of their numbers, and what a writer read is
/// still so when it writes. The number spells `postern`. Not part of `BEGIN`: the driver rolls back only what it knows to
/// have begun.
pub(super) const TAKE_TURN: &str = "SELECT CAST(current_setting('transaction_read_only') AS TEXT) AS read_only \
    FROM pg_advisory_xact_lock(8101818091236519425)";
/// Who has the turn, for a message.
const HOLDER: &str = "SELECT CAST('; session ' || a.pid || ' (' || a.application_name || ' of ' || a.usename \
    || COALESCE(' from ' || host(a.client_addr), '') || ', ' || COALESCE(a.state, 'state not shown') || ' for ' \
    || COALESCE(CAST(round(extract(epoch FROM clock_timestamp() - a.state_change)) AS TEXT), '?') || ' s) holds it' AS TEXT) \
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
    WHERE l.locktype = 'advisory' AND l.granted AND a.pid <> pg_backend_pid() AND l.database = a.datid \
    AND ((CAST(l.classid AS BIGINT) << 32) | CAST(l.objid AS BIGINT)) = 8101818091236519425 LIMIT 1";
/// Begins a transaction that sees one moment of the database. It may last: loads and exports read everything, and whoever
/// reads an export may pause.
pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
/// Set for the steps of the schema, which may take long on a large table, and wait for another gateway that applies them.
pub(super) const PATIENT: &str = "SET statement_timeout = '30min'; SET lock_timeout = '30min'; \
    SET idle_in_transaction_session_timeout = '60s'";
/// Set within the transaction of a batch of an import, whose statements are long.
pub(super) const LONG_STATEMENTS: &str = "SET LOCAL statement_timeout = '60s'";
/// Whether a connection is out of all transactions: within one, time stands still. And whether its server takes writes: a
/// primary that became a standby keeps its sessions. Only as a simple query: a prepared one begins before its statement does.
const IS_GOOD: &str =
    "SELECT now() = statement_timestamp() AND current_setting('transaction_read_only') = 'off'";
/// Whether the server takes no writes.
const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on'";

/// Set on every connection. A commit waits for the disk even where the server's default is not to: a key that was
/// acknowledged is there after a crash. What the server has set beyond `on` (for its standbys) stays.
///
/// A writer that vanishes, be it stopped or cut off, keeps the others waiting for less than they wait for their turn.
const SETTINGS: &str = "SET statement_timeout = '10s'; SET lock_timeout = '6s'; \
    SET idle_in_transaction_session_timeout = '3s'; SET client_min_messages = 'warning'; \
    SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; \
    SELECT set_config('tcp_user_timeout', '10000', false); \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// A server and a database on it, or several servers of which one takes writes.
#[derive(Clone)]
pub(super) struct PostgresServer {
    location: Arc<str>,
    hosts: Arc<[AnyConnectOptions]>,
    /// Which of the hosts is used.
    host: Arc<AtomicUsize>,
    connect_timeout: Duration,
    wants_writes: bool,
}

impl PostgresServer {
    /// The database that `url` names.
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

    /// The server and the database, without credentials.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// Which of several servers is used.
    pub(super) fn host(&self) -> usize {
        self.host.load(Ordering::Acquire)
    }

    /// Whether there is more than one.
    pub(super) fn has_several_hosts(&self) -> bool {
        self.hosts.len() > 1
    }

    /// The connections for one purpose, at most `most`. None is made yet.
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
            // What was dropped half-way may still be in a transaction, with locks that others wait for, or on a server that
            // fell silent or became a standby: such a connection is closed, and not used again.
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

    /// Whether the database holds a store.
    pub(super) async fn holds_store(&self) -> Result<bool, StoreError> {
        let failed = |error: StoreError| error.while_opening(&self.location);
        let mut connection = self.connect().await.map_err(failed)?;
        // As a simple query: a pooler that cannot keep a prepared one is told of later, by its name.
        let found = sqlx::raw_sql("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut connection)
            .await;
        let _ = timeout(ANSWER_TIMEOUT, connection.close()).await;
        Ok(found?.try_get(0)?)
    }

    fn options(&self) -> &AnyConnectOptions {
        // The number is that of a host.
        &self.hosts[self.host() % self.hosts.len()]
    }

    /// Opens a connection of its own, to the first of the hosts that fits; the one that was used last is asked first.
    pub(super) async fn connect(&self) -> Result<AnyConnection, StoreError> {
        let (first, count) = (self.host(), self.hosts.len());
        let mut failure = None::<StoreError>;
        for host in (first..first + count).map(|host| host % count) {
            match self.connect_to(host).await {
                Ok(connection) => {
                    self.host.store(host, Ordering::Release);
                    return Ok(connection);
                }
                // A password that is wrong at one says more than another one's being away.
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
                return Err(read_only("no host of several takes writes".to_owned()));
            }
            Ok(connection)
        })
        .await
        .map_err(|error| error.while_connecting())
    }

    /// Refuses a pooler that gives each transaction another session: statements that were prepared, settings and what is
    /// listened for would be somebody else's. Two connections that are open at once and have the same session prove it.
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

    /// Who has the writers' turn, for a message.
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
            // A connection that was lost may have lost notifications: the feed opens another and looks for itself.
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        })
        .await
    }
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.debug_tuple("PostgresServer")
            .field(&self.location)
            .finish()
    }
}

/// The error of a server that takes no writes.
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
