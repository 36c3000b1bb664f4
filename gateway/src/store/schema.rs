//! The schema and its steps, one folder a database in `migrations/`.

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{AnyConnection, Connection, Executor};

use crate::store::{Database, Store, StoreError, postgres};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

impl Store {
    /// Applies the steps that are missing. Other processes may be about to do the same.
    pub(super) async fn update_schema(&self) -> Result<(), StoreError> {
        let location = self.database.location();
        let failed = |error: sqlx::Error| StoreError::from(error).while_opening(location);
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        match &self.database {
            Database::Sqlite(_) => {
                if is_up_to_date(&mut connection, &SQLITE).await {
                    return Ok(());
                }
                // All steps in one transaction that other processes wait for: each would otherwise find a step missing
                // that another is just applying.
                let mut transaction = connection
                    .begin_with("BEGIN IMMEDIATE")
                    .await
                    .map_err(failed)?;
                SQLITE
                    .run_direct(None, &mut *transaction, false)
                    .await
                    .map_err(|error| schema_error(location, &SQLITE, error))?;
                transaction.commit().await.map_err(failed)
            }
            Database::Postgres(_) => {
                if is_up_to_date(&mut connection, &POSTGRES).await {
                    return Ok(());
                }
                let mut connection = self.database.connect().await?;
                connection
                    .execute(postgres::PATIENT)
                    .await
                    .map_err(failed)?;
                // The migrator has a lock of its own on this database, and each step is one transaction.
                let applied = POSTGRES.run_direct(None, &mut connection, false).await;
                applied.map_err(|error| schema_error(location, &POSTGRES, error))?;
                connection.close().await.map_err(failed)
            }
        }
    }
}

/// Looks without a lock, so that a command that only reads does not wait for a writer.
async fn is_up_to_date(connection: &mut AnyConnection, migrator: &Migrator) -> bool {
    // Any failure here comes back, and is told, when the steps are applied.
    let applied = connection
        .list_applied_migrations(&migrator.table_name)
        .await
        .unwrap_or_default();
    applied.len() == migrator.iter().count()
        && migrator.iter().zip(&applied).all(|(step, applied)| {
            step.version == applied.version && step.checksum == applied.checksum
        })
}

fn schema_error(location: &str, migrator: &Migrator, error: MigrateError) -> StoreError {
    let location = location.to_owned();
    let known = migrator
        .iter()
        .map(|step| step.version)
        .max()
        .unwrap_or_default();
    match error {
        MigrateError::VersionMissing(found) if found > known => StoreError::NewerSchema {
            location,
            found,
            known,
        },
        MigrateError::VersionMissing(version)
        | MigrateError::VersionMismatch(version)
        | MigrateError::Dirty(version) => StoreError::OtherSchema { location, version },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            StoreError::from(error).while_opening(&location)
        }
        other => StoreError::CannotOpen {
            location,
            reason: other.to_string(),
        },
    }
}
