//! The store: where consumers and keys live, with the audit and the change feed of everything done to them.
//!
//! Only the control plane and the command line come here; requests are answered from memory. Each mutation is one
//! transaction together with its audit row and its feed row.

mod audit;
mod buckets;
mod bulk;
mod consumers;
mod database_url;
mod edit_key;
mod error;
mod export;
pub mod feed;
mod gateways;
mod handle;
mod idempotency;
mod import;
mod journal;
mod keys;
mod leaks;
mod listing;
mod postgres;
mod roll;
mod rows;
mod schema;
pub mod snapshot;
mod sqlite;
mod transfer;
mod usage;
mod write;

pub use audit::{AuditCursor, AuditFilter, AuditRow};
pub use buckets::{BucketEdit, LeakRule, NewBucket, StoredBucket};
pub use consumers::{ConsumerEdit, NewConsumer};
pub use database_url::{DatabaseUrl, InvalidDatabaseUrl};
pub use edit_key::KeyEdit;
pub use error::StoreError;
pub use export::Export;
pub use feed::{FeedStatus, follow};
pub use gateways::{
    Confirmation, FollowingGateway, GatewayId, InvalidGatewayId, Presence, WaitFor,
};
pub use handle::StoreHandle;
pub use idempotency::{Answer, Creation, CreationKey};
pub use import::{ImportConflict, Imported, Verdict};
pub use journal::{Actor, Stamp};
pub use keys::{CreatedKey, KeyStateChange, NewKey, Owner};
pub use leaks::{InvalidLeakPolicy, Leak, LeakAction, LeakOutcome, LeakPolicy};
pub use listing::{After, ConsumerFilter, KeyFilter};
pub use roll::{InvalidRoll, Roll, RolledKeys, Which};
pub use rows::{Rolled, StoredConsumer, StoredKey};
pub use transfer::{TransferConsumer, TransferKey, TransferRow};
pub use usage::{
    InvalidPeriod, InvalidRange, MOST_PERIODS, Period, PeriodUsage, TopKey, UsageOf, UsageRange,
    UsageReport,
};

use std::fmt;
use std::time::Duration;

use sqlx::{AnyConnection, AnyPool};
use tokio::time::timeout;

use crate::store::database_url::Place;
use crate::store::postgres::PostgresServer;
use crate::store::sqlite::SqliteFile;
use crate::store::write::Commits;

/// An open database. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    database: Database,
    commits: Commits,
}

/// What differs between databases. The queries do not.
#[derive(Clone, Debug)]
enum Database {
    Sqlite(SqliteFile),
    Postgres(PostgresServer),
}

impl Store {
    /// Opens the database, making it when there is none, and brings its schema up to date. Several processes may do so
    /// at once.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let (pool, database) = match url.place() {
            Place::Sqlite(path) => {
                let file = SqliteFile::create(path)?;
                (file.pool().await?, Database::Sqlite(file))
            }
            Place::Postgres(whole_url) => {
                let server = PostgresServer::new(whole_url, &url.to_string())?;
                (server.pool().await?, Database::Postgres(server))
            }
        };
        let store = Self {
            pool,
            database,
            commits: Commits::new(),
        };
        match store.update_schema().await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Opens a database that holds a store already; makes none.
    pub async fn open_existing(url: &DatabaseUrl) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let holds_store = match url.place() {
            Place::Sqlite(path) => SqliteFile::holds_store(path).await,
            Place::Postgres(_) => Self::holds_store_on_server(url).await?,
        };
        if !holds_store {
            return Err(StoreError::NoStore {
                location: url.absolute(),
            });
        }
        Self::open(url).await
    }

    async fn holds_store_on_server(url: &DatabaseUrl) -> Result<bool, StoreError> {
        let Place::Postgres(whole_url) = url.place() else {
            return Ok(false);
        };
        let server = PostgresServer::new(whole_url, &url.to_string())?;
        let failed = |error: StoreError| error.while_opening(server.location());
        let mut connection = server.connect().await.map_err(failed)?;
        let found = PostgresServer::holds_store(&mut connection).await;
        let _ = timeout(FAREWELL, sqlx::Connection::close(connection)).await;
        found
    }

    /// Closes all connections, waiting for those in use. What was acknowledged is safe without it.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Where it is, without credentials.
    #[must_use]
    pub fn location(&self) -> &str {
        self.database.location()
    }
}

/// How long a connection may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

impl Database {
    /// Where it is, without credentials.
    fn location(&self) -> &str {
        match self {
            Self::Sqlite(file) => file.location(),
            Self::Postgres(server) => server.location(),
        }
    }

    /// Opens a connection of its own, apart from the pool.
    async fn connect(&self) -> Result<AnyConnection, StoreError> {
        match self {
            Self::Sqlite(file) => file.connect().await,
            Self::Postgres(server) => server.connect().await,
        }
    }

    /// The statement that begins a transaction which only reads, and sees one moment of the database.
    fn begin_read(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN",
            Self::Postgres(_) => postgres::BEGIN_READ,
        }
    }
}

/// What `work` comes to, unless the database takes longer than `limit`: nothing else tells of a server that fell silent.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StoreError::Unreachable {
            reason: format!("no answer within {} s", limit.as_secs()),
        }),
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.database).finish()
    }
}
