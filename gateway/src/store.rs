//! The store: where consumers and keys live, with the audit and the change feed of everything done to them.
//!
//! Only the control plane and the command line come here; requests are answered from memory. Each mutation is one
//! transaction together with its audit row and its feed row.

mod consumers;
mod database_url;
mod error;
pub mod feed;
mod journal;
mod keys;
mod rows;
mod schema;
mod sqlite;

pub use consumers::{ConsumerEdit, NewConsumer};
pub use database_url::{DatabaseUrl, InvalidDatabaseUrl};
pub use error::StoreError;
pub use feed::{FeedStatus, follow};
pub use journal::{Actor, Stamp};
pub use keys::{CreatedKey, KeyCursor, KeyStateChange, NewKey, Owner};
pub use rows::{StoredConsumer, StoredKey};

use std::fmt;

use sqlx::{Any, AnyPool, Transaction};

use crate::store::sqlite::SqliteFile;

/// An open database. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    database: Database,
}

/// What differs between databases. The queries do not.
#[derive(Clone, Debug)]
enum Database {
    Sqlite(SqliteFile),
}

impl Store {
    /// Opens the database, making it when there is none, and brings its schema up to date. Several processes may do so
    /// at once.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let path = url.sqlite_path().ok_or_else(|| StoreError::Unsupported { location: url.to_string() })?;
        let file = SqliteFile::create(path)?;
        let pool = file.pool().await?;
        let store = Self { pool, database: Database::Sqlite(file) };
        match store.update_schema().await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Closes all connections, waiting for those in use. What was acknowledged is safe without it.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a transaction that may write. Writers take turns from the beginning, so none fails halfway for another.
    async fn begin_write(&self) -> Result<Transaction<'static, Any>, StoreError> {
        match &self.database {
            // A plain BEGIN takes the write lock at the first write, and fails there when another took it since.
            Database::Sqlite(_) => Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.database).finish()
    }
}
