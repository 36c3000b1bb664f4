//! The store: consumers, keys, audit and change feed in a database.
//!
//! For the control plane and the command line only; requests are answered from memory. Each
//! mutation is one transaction with its audit row and its feed row.

mod adoption;
mod attributes;
mod audit;
mod buckets;
mod bulk;
mod columns;
mod connections;
mod consumers;
mod database_url;
mod edit_key;
mod error;
mod export;
pub mod fault;
pub mod feed;
mod find;
mod gateways;
mod handle;
mod idempotency;
mod import;
mod journal;
mod key_rule;
mod keys;
mod leaks;
mod lifetimes;
mod limits;
mod listing;
mod plans;
mod postgres;
mod quotas;
mod retention;
mod roll;
mod rows;
mod schema;
pub mod snapshot;
mod sqlite;
mod transfer;
mod unused;
mod usage;
mod write;

pub use adoption::{AdoptionCaller, AdoptionOfRoute, AdoptionReport};
pub use attributes::{
    ConsumerAttributes, ConsumerEdit, KeyAttributes, KeyEdit, PlanAttributes, PlanEdit,
};
pub use audit::{AuditCursor, AuditFilter, AuditRow};
pub use buckets::{BucketEdit, LeakRule, NewBucket, StoredBucket};
pub use consumers::NewConsumer;
pub use database_url::{DatabaseUrl, InvalidDatabaseUrl};
pub use error::StoreError;
pub use export::Export;
pub use fault::Fault;
pub use feed::{FeedStatus, Followed, Reached, follow};
pub use gateways::{
    Confirmation, FollowingGateway, GatewayId, InvalidGatewayId, Presence, WaitFor,
};
pub use handle::StoreHandle;
pub use idempotency::{Creation, CreationKey, StoredAnswer};
pub use import::{ImportConflict, Imported, Verdict};
pub use journal::{ACTIONS, Actor, Stamp};
pub use key_rule::{InvalidUnusedAction, KeyRule, KeyRuleEdit, UnusedAction};
pub use keys::{CreatedKey, KeyStateChange, NewEnd, NewKey, Owner};
pub use leaks::{InvalidLeakPolicy, Leak, LeakAction, LeakOutcome, LeakPolicy};
pub use limits::{LimitParty, LimitReset};
pub use listing::{After, ConsumerFilter, KeyFilter};
pub use plans::{ImportedPlans, NewPlan, StoredPlan};
pub use quotas::{QuotaChanges, QuotaEdit, QuotaOwner};
pub use retention::{Keep, StoreSizes, TABLES};
pub use roll::{InvalidRoll, Roll, RollTarget, RolledKeys};
pub use rows::{Revocation, Rolled, StoredConsumer, StoredKey};
pub use transfer::{TransferConsumer, TransferKey, TransferRow};
pub use unused::{Unused, attend_unused};
pub use usage::{
    InvalidPeriod, InvalidRange, MAX_PERIODS, Period, PeriodUsage, TopKey, UsageBatch, UsageOf,
    UsageRange, UsageReport,
};
pub use write::Written;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::store::connections::Connections;
use crate::store::database_url::Target;
use crate::store::postgres::PostgresServer;
use crate::store::sqlite::SqliteFile;
use crate::store::write::Commits;

/// Maximum connections of one process in each of two pools: writes, heartbeats and look-ups; lists,
/// reports and exports. The change feed has its own.
const CONNECTIONS: u32 = 4;
const SCAN_CONNECTIONS: u32 = 3;
/// Limits of lists and reports: concurrent reads, queued reads, and the time in the queue.
const SCANS: usize = 2;
const WAITING_SCANS: usize = 6;
const SCAN_PATIENCE: Duration = Duration::from_secs(2);
/// Timeout of a write, its wait for the write lock included, and of a batch of an import.
pub(crate) const WRITE_LIMIT: Duration = Duration::from_secs(10);
const BATCH_LIMIT: Duration = Duration::from_secs(60);

/// An open database. Clones share its connection pools.
#[derive(Clone)]
pub struct Store {
    /// Pool for writes, heartbeats and look-ups by id. No scan uses it, so many readers cannot
    /// delay a revocation.
    pool: Connections,
    /// Pool for lists, reports and exports.
    scans: Connections,
    scan_turns: Arc<Semaphore>,
    waiting_scans: Arc<Semaphore>,
    database: Database,
    commits: Commits,
}

/// Differences between databases; the queries are the same.
#[derive(Clone, Debug)]
enum Database {
    Sqlite(SqliteFile),
    Postgres(PostgresServer),
}

impl Store {
    /// Opens the database, creates it if missing, and migrates its schema. Safe for several
    /// processes at once.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let store = match url.target() {
            Target::Sqlite(path) => {
                let file = SqliteFile::create(path)?;
                let pools = (
                    file.pool(CONNECTIONS).await?,
                    file.pool(SCAN_CONNECTIONS).await?,
                );
                Self::on(pools, Database::Sqlite(file))
            }
            Target::Postgres(url) => {
                let server = PostgresServer::new(url)?;
                // Verifies that the server answers, and finds the primary among several hosts.
                let failed = |error: StoreError| error.while_opening(server.location());
                let mut first = server.connect().await.map_err(failed)?;
                let pools = (server.pool(CONNECTIONS), server.pool(SCAN_CONNECTIONS));
                let store = Self::on(pools, Database::Postgres(server.clone()));
                let mut second = store.pool.acquire().await?;
                let pooled =
                    PostgresServer::refuse_transaction_pooler(&mut first, &mut second).await;
                let _ = timeout(CONNECTION_END, sqlx::Connection::close(first)).await;
                drop(second);
                if let Err(error) = pooled {
                    store.close().await;
                    return Err(error);
                }
                store
            }
        };
        match store.update_schema().await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Opens a database that already holds a store; never creates one.
    pub async fn open_existing(url: &DatabaseUrl) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let holds_store = match url.target() {
            Target::Sqlite(path) => SqliteFile::holds_store(path).await,
            Target::Postgres(url) => PostgresServer::new(url)?.holds_store().await?,
        };
        if !holds_store {
            return Err(StoreError::NoStore {
                location: url.absolute(),
            });
        }
        Self::open(url).await
    }

    fn on((pool, scans): (sqlx::AnyPool, sqlx::AnyPool), database: Database) -> Self {
        Self {
            pool: Connections::new(pool),
            scans: Connections::new(scans),
            scan_turns: Arc::new(Semaphore::new(SCANS)),
            waiting_scans: Arc::new(Semaphore::new(SCANS + WAITING_SCANS)),
            database,
            commits: Commits::new(),
        }
    }

    /// Closes all connections after a short wait for those in use. Acknowledged writes are durable
    /// without it.
    pub async fn close(&self) {
        tokio::join!(self.pool.close(), self.scans.close());
    }

    /// Returns the location without credentials.
    #[must_use]
    pub fn location(&self) -> &str {
        self.database.location()
    }

    /// Returns a number that changes when another file, or another of several servers, replaces the
    /// database.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.database.generation()
    }

    /// Switches to connections to the current primary.
    async fn find_the_primary(&self) -> Result<(), StoreError> {
        if let Database::Postgres(server) = &self.database {
            drop(server.connect().await?);
            self.pool.replace(server.pool(CONNECTIONS));
            self.scans.replace(server.pool(SCAN_CONNECTIONS));
        }
        Ok(())
    }

    /// Opens the file now at the path, if it is another one. Called by the change feed after it
    /// closed its own connection: a connection to the old file in this process would share locks
    /// with the new one.
    pub(crate) async fn reopen_if_replaced(&self) -> Result<(), StoreError> {
        let Database::Sqlite(file) = &self.database else {
            return Ok(());
        };
        let Err(replaced) = file.in_place() else {
            return Ok(());
        };
        // Only once: a log that appears later belongs to the new file.
        if file.leave() {
            // Checkpoint the log into its own file: SQLite would apply it to the new one.
            let emptied = match timeout(CONNECTION_END, self.pool.acquire()).await {
                Ok(Ok(mut connection)) => SqliteFile::empty_the_log(&mut connection).await,
                _ => Ok(false),
            };
            if !matches!(emptied, Ok(true)) {
                file.set_the_log_aside()
                    .map_err(|error| StoreError::cannot_open(file.location(), &error))?;
            }
        }
        if !(self.pool.close().await & self.scans.close().await) {
            return Err(replaced);
        }
        file.turn_to_the_new_one().await?;
        let opened = self.open_anew(file).await;
        if opened.is_err() {
            file.leave();
        }
        opened
    }

    async fn open_anew(&self, file: &SqliteFile) -> Result<(), StoreError> {
        self.pool.replace(file.pool(CONNECTIONS).await?);
        self.scans.replace(file.pool(SCAN_CONNECTIONS).await?);
        self.update_schema().await
    }

    /// Acquires a slot for a list, a report or an export. Slots are few, so that readers leave the
    /// database to writers.
    async fn scan(&self) -> Result<ScanSlot<'_>, StoreError> {
        let too_many = || StoreError::Failed {
            fault: Fault::TooManyReads,
            reason: format!("{SCANS} at once, {WAITING_SCANS} waiting"),
        };
        let waiting = self.waiting_scans.try_acquire().map_err(|_| too_many())?;
        match timeout(SCAN_PATIENCE, self.scan_turns.acquire()).await {
            Ok(Ok(turn)) => Ok(ScanSlot {
                _waiting: waiting,
                _turn: turn,
            }),
            _ => Err(too_many()),
        }
    }

    /// Checkpoints and truncates the log of an SQLite file: a large import leaves a log of its own
    /// size behind.
    pub async fn empty_the_log(&self) -> Result<(), StoreError> {
        if let Database::Sqlite(_) = &self.database {
            SqliteFile::empty_the_log(&mut *self.pool.acquire().await?).await?;
        }
        Ok(())
    }
}

/// Slot of a running scan.
struct ScanSlot<'s> {
    _turn: SemaphorePermit<'s>,
    _waiting: SemaphorePermit<'s>,
}

/// Timeout for closing a single connection.
const CONNECTION_END: Duration = Duration::from_secs(1);

impl Database {
    /// Location without credentials.
    fn location(&self) -> &str {
        match self {
            Self::Sqlite(file) => file.location(),
            Self::Postgres(server) => server.location(),
        }
    }

    /// Verifies that the database is still where it was opened.
    fn in_place(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(file) => file.in_place(),
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Number that changes when another file, or another of several servers, replaces the database.
    fn generation(&self) -> u64 {
        match self {
            Self::Sqlite(file) => file.generation(),
            Self::Postgres(server) => server.host() as u64,
        }
    }

    /// Describes the session that blocks writers, for a message.
    async fn holder(&self) -> Option<String> {
        match self {
            Self::Sqlite(file) => file.holder(),
            Self::Postgres(server) => server.holder().await,
        }
    }

    /// SQL expression of the database's clock in milliseconds.
    fn clock(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SELECT CAST(unixepoch('subsec') * 1000 AS BIGINT)",
            Self::Postgres(_) => {
                "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
            }
        }
    }

    /// Opens a connection outside the pools.
    async fn connect(&self) -> Result<AnyConnection, StoreError> {
        match self {
            Self::Sqlite(file) => file.connect().await,
            Self::Postgres(server) => server.connect().await,
        }
    }

    /// Statement that begins a read-only transaction with one snapshot.
    fn begin_read(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN",
            Self::Postgres(_) => postgres::BEGIN_READ,
        }
    }
}

/// Runs `work` with the timeout `limit`: nothing else detects an unresponsive server.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StoreError::no_answer(limit)),
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.database).finish()
    }
}
