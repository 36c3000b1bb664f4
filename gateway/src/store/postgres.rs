//! The PostgreSQL server: how it is reached, and how each connection to it is set.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Executor, Row};
use tokio::time::timeout;

use crate::store::{StoreError, within};

/// Most connections of one process besides the change feed's two.
const MAX_CONNECTIONS: u32 = 8;
/// How long a server may take to answer before it counts as away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The channel that the schema's trigger tells changes on.
const CHANNEL: &str = "postern_changes";

/// The first statement of a transaction that may write. Its lock is held to the end: writers take turns, so that revisions of
/// the feed appear in the order of their numbers, and what a writer read is still so when it writes. The number spells
/// `postern`. Not part of `BEGIN`: the driver rolls back only what it knows to have begun.
pub(super) const TAKE_TURN: &str = "SELECT pg_advisory_xact_lock(8101818091236519425)";
/// Begins a transaction that sees one moment of the database. It may last: loads and exports read everything, and whoever
/// reads an export may pause.
pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
/// Set for the steps of the schema, which may take long on a large table, and wait for another gateway that applies them.
pub(super) const PATIENT: &str = "SET statement_timeout = '30min'; SET lock_timeout = '30min'";
/// Whether a connection is out of all transactions: within one, time stands still. Only as a simple query: a prepared one
/// begins before its statement does.
const IS_IDLE: &str = "SELECT now() = statement_timestamp()";

/// Set on every connection. A commit waits for the disk even where the server's default is not to: a key that was
/// acknowledged is there after a crash. What the server has set beyond `on` (for its standbys) stays.
const SETTINGS: &str = "SET statement_timeout = '60s'; SET lock_timeout = '5s'; \
    SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = 'warning'; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// A server and a database on it.
#[derive(Clone)]
pub(super) struct PostgresServer {
    location: Arc<str>,
    options: AnyConnectOptions,
}

impl PostgresServer {
    /// The database that `url` names; `location` is what may be shown of it.
    pub(super) fn new(url: &str, location: &str) -> Result<Self, StoreError> {
        let unusable = |error: sqlx::Error| StoreError::from(error).while_opening(location);
        let mut options = url
            .parse::<AnyConnectOptions>()
            .map_err(unusable)?
            .disable_statement_logging();
        if options
            .database_url
            .query_pairs()
            .all(|(name, _)| name != "application_name")
        {
            options
                .database_url
                .query_pairs_mut()
                .append_pair("application_name", "postern");
        }
        Ok(Self {
            location: location.into(),
            options,
        })
    }

    /// The server and the database, without credentials.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// Opens the connections that all but the change feed use; proves that the server answers.
    pub(super) async fn pool(&self) -> Result<AnyPool, StoreError> {
        let pool = AnyPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ANSWER_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(SETTINGS).await?;
                    Ok(())
                })
            })
            // What was dropped half-way may still be in a transaction, with locks that others wait for, or on a server that
            // fell silent: such a connection is closed, and not used again.
            .after_release(|connection, _| {
                Box::pin(async move {
                    match timeout(ANSWER_TIMEOUT, sqlx::raw_sql(IS_IDLE).fetch_one(connection))
                        .await
                    {
                        Ok(row) => row?.try_get(0),
                        Err(_) => Ok(false),
                    }
                })
            })
            .connect_with(self.options.clone())
            .await;
        pool.map_err(|error| StoreError::from(error).while_opening(&self.location))
    }

    /// Whether the database that is connected to holds a store.
    pub(super) async fn holds_store(connection: &mut AnyConnection) -> Result<bool, StoreError> {
        let table = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
        Ok(sqlx::query_scalar(table).fetch_one(connection).await?)
    }

    /// Opens a connection of its own.
    pub(super) async fn connect(&self) -> Result<AnyConnection, StoreError> {
        within(ANSWER_TIMEOUT, async {
            let mut connection = self.options.connect().await?;
            connection.execute(SETTINGS).await?;
            Ok(connection)
        })
        .await
    }

    /// Listens for changes, on a connection of its own.
    pub(super) async fn listen(&self) -> Result<PgListener, StoreError> {
        within(ANSWER_TIMEOUT, async {
            let options = PgConnectOptions::try_from(&self.options)?;
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
