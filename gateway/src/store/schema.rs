//! The schema and its migrations, one folder per database in `migrations/`.

use std::sync::LazyLock;

use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, Connection, Executor, SqlSafeStr};

use crate::store::{Database, Store, StoreError, postgres};

/// Migrations of a database by number and name. `sqlx::migrate!` would read the folder itself, but
/// compiles every driver a second time, for the proc macro.
macro_rules! steps {
    ($database:literal: $($number:literal $name:literal),+ $(,)?) => {
        LazyLock::new(|| {
            migrator([$((
                $name,
                include_str!(concat!("../../migrations/", $database, "/", $number, "_", $name, ".sql")),
            )),+])
        })
    };
}

static SQLITE: LazyLock<Migrator> = steps!("sqlite": "0001" "store");
static POSTGRES: LazyLock<Migrator> = steps!("postgres": "0001" "store");

fn migrator<const STEPS: usize>(steps: [(&'static str, &'static str); STEPS]) -> Migrator {
    let steps = steps.into_iter().zip(1..);
    let steps = steps.map(|((name, sql), version)| {
        let name = name.replace('_', " ").into();
        Migration::new(
            version,
            name,
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(steps.collect())
}

impl Store {
    /// Applies the missing migrations. Other processes may do the same at once.
    pub(super) async fn update_schema(&self) -> Result<(), StoreError> {
        let location = self.database.location();
        let failed = |error: sqlx::Error| StoreError::from(error).while_opening(location);
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        match &self.database {
            Database::Sqlite(_) => {
                if is_up_to_date(&mut connection, &SQLITE).await {
                    return Ok(());
                }
                refuse_other(&mut connection, &SQLITE, location).await?;
                // All migrations in one transaction that locks out other processes; otherwise each
                // would miss a migration that another is applying.
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
                refuse_other(&mut connection, &POSTGRES, location).await?;
                let mut connection = self.database.connect().await?;
                connection
                    .execute(postgres::PATIENT)
                    .await
                    .map_err(failed)?;
                // The migrator has its own lock on this database, and each migration is one
                // transaction.
                let applied = POSTGRES.run_direct(None, &mut connection, false).await;
                applied.map_err(|error| schema_error(location, &POSTGRES, error))?;
                connection.close().await.map_err(failed)
            }
        }
    }
}

/// Reads without a lock, so that a read-only command does not wait for a writer.
async fn is_up_to_date(connection: &mut AnyConnection, migrator: &Migrator) -> bool {
    let applied = applied(connection, migrator).await;
    applied.len() == migrator.iter().count()
        && migrator.iter().zip(&applied).all(|(step, applied)| {
            step.version == applied.version && step.checksum == applied.checksum
        })
}

/// Refuses a database with a migration that differs from this version's. The migrator would first
/// look for missing migrations, and mistake foreign ones for newer ones.
async fn refuse_other(
    connection: &mut AnyConnection,
    migrator: &Migrator,
    location: &str,
) -> Result<(), StoreError> {
    let applied = applied(connection, migrator).await;
    let other = applied.iter().find(|applied| {
        let step = migrator.iter().find(|step| step.version == applied.version);
        step.is_some_and(|step| step.checksum != applied.checksum)
    });
    other.map_or(Ok(()), |other| {
        Err(StoreError::OtherSchema {
            location: location.to_owned(),
            version: other.version,
        })
    })
}

/// Applied migrations. A failure here recurs, and is reported, when the migrations are applied.
async fn applied(connection: &mut AnyConnection, migrator: &Migrator) -> Vec<AppliedMigration> {
    let applied = connection.list_applied_migrations(&migrator.table_name);
    applied.await.unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::keys::{Consumer, KeyEntry};
    use crate::store::columns::names;

    #[test]
    fn every_file_of_a_step_is_listed_under_its_number() {
        for (database, migrator) in [("sqlite", &*SQLITE), ("postgres", &*POSTGRES)] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("migrations")
                .join(database);
            let files = std::fs::read_dir(folder).unwrap();
            let mut files: Vec<String> = files
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            let listed: Vec<String> = migrator
                .iter()
                .map(|step| {
                    let name = step.description.replace(' ', "_");
                    format!("{:04}_{name}.sql", step.version)
                })
                .collect();
            assert_eq!(files, listed, "{database}");
        }
    }

    #[test]
    fn a_change_of_whatever_gateways_hold_is_fed() {
        let set =
            |list: &str| -> BTreeSet<String> { list.split(", ").map(str::to_owned).collect() };
        for (migrator, table, held) in [
            (&*SQLITE, "keys", names::<KeyEntry>("")),
            (&*SQLITE, "consumers", names::<Consumer>("")),
            (&*POSTGRES, "keys", names::<KeyEntry>("")),
            (&*POSTGRES, "consumers", names::<Consumer>("")),
        ] {
            let schema: String = migrator.iter().map(|step| step.sql.as_str()).collect();
            let end = format!(" ON {table}");
            let mut fed = schema
                .split("AFTER UPDATE OF ")
                .skip(1)
                .filter_map(|rest| rest.lines().next()?.split_once(&end));
            assert!(
                fed.any(|(columns, _)| set(columns) == set(&held)),
                "{table}: {held}"
            );
        }
    }
}
