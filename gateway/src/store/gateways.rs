//! The gateways that follow this store, and how far each has come: what `revoke --wait` waits for.

use std::fmt;
use std::time::Duration;

use sqlx::Row;
use tokio::time::{Instant, sleep};

use crate::keys::{EntropyError, UnixMillis};
use crate::store::{Database, Store, StoreError, within};

/// How long a gateway that said nothing may still be running as if nothing had happened: several of its heartbeats.
const LIVE_FOR_MILLIS: i64 = 15_000;
/// After that it is listed as silent, for it may be stopped and go on; after this it is forgotten.
const FORGOTTEN_AFTER_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// How long the store may take for any of this: a gateway that waited longer would count as silent while it serves.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked whether the last gateway has confirmed.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One run of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayId(String);

/// What a gateway says of itself.
#[derive(Clone, Debug)]
pub struct Presence {
    /// Its id.
    pub id: GatewayId,
    /// What operators call it: its host and where it listens.
    pub name: String,
    /// When it was started.
    pub started_at: UnixMillis,
}

/// A gateway as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowingGateway {
    /// One run of it.
    pub id: String,
    /// What operators call it.
    pub name: String,
    /// When it was started.
    pub started_at: UnixMillis,
    /// When it last said something.
    pub seen_at: UnixMillis,
    /// The newest change that it answers requests by.
    pub revision: i64,
    /// Whether it said something lately. One that did not was killed, cut off or stopped.
    pub live: bool,
}

/// Which gateways go by a change.
#[derive(Clone, Debug, Default)]
pub struct Confirmation {
    /// Those that have said so.
    pub confirmed: Vec<FollowingGateway>,
    /// Those that run and have not said so in time.
    pub missing: Vec<FollowingGateway>,
    /// Those that fell silent before, and are not waited for: killed, cut off or stopped.
    pub silent: Vec<FollowingGateway>,
}

impl GatewayId {
    /// A new one.
    pub fn generate() -> Result<Self, EntropyError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        Ok(Self(format!("gw_{:016x}", u64::from_be_bytes(random))))
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Store {
    /// Notes that a gateway is there and answers requests by everything up to `revision`.
    pub async fn announce(&self, presence: &Presence, revision: i64) -> Result<(), StoreError> {
        within(ANSWER_TIMEOUT, self.note(presence, revision)).await
    }

    async fn note(&self, presence: &Presence, revision: i64) -> Result<(), StoreError> {
        let now = self.clock().await?;
        sqlx::query(
            "INSERT INTO gateways (id, name, started_at, seen_at, revision) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, revision = excluded.revision",
        )
        .bind(presence.id.0.as_str())
        .bind(presence.name.as_str())
        .bind(presence.started_at.0)
        .bind(now)
        .bind(revision)
        .execute(&self.pool)
        .await?;
        sqlx::query("DELETE FROM gateways WHERE seen_at < $1")
            .bind(now - FORGOTTEN_AFTER_MILLIS)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes that a gateway has stopped.
    pub async fn leave(&self, id: &GatewayId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM gateways WHERE id = $1")
            .bind(id.0.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// All gateways that follow this store, by name; those that have fallen silent too.
    pub async fn gateways(&self) -> Result<Vec<FollowingGateway>, StoreError> {
        let (now, rows) = within(ANSWER_TIMEOUT, async {
            let all =
                "SELECT id, name, started_at, seen_at, revision FROM gateways ORDER BY name, id";
            Ok((
                self.clock().await?,
                sqlx::query(all).fetch_all(&self.pool).await?,
            ))
        })
        .await?;
        rows.iter()
            .map(|row| {
                let seen_at: i64 = row.try_get("seen_at")?;
                Ok(FollowingGateway {
                    id: row.try_get("id")?,
                    name: row.try_get("name")?,
                    started_at: UnixMillis(row.try_get("started_at")?),
                    seen_at: UnixMillis(seen_at),
                    revision: row.try_get("revision")?,
                    live: now - seen_at <= LIVE_FOR_MILLIS,
                })
            })
            .collect()
    }

    /// Waits until every live gateway answers requests by all that the store holds now, for `patience` at most.
    pub async fn confirmed_by_all(&self, patience: Duration) -> Result<Confirmation, StoreError> {
        let wanted = self.newest_revision().await?;
        let deadline = Instant::now() + patience;
        loop {
            let mut confirmation = Confirmation::default();
            for gateway in self.gateways().await? {
                let group = match (gateway.revision >= wanted, gateway.live) {
                    (true, _) => &mut confirmation.confirmed,
                    (false, true) => &mut confirmation.missing,
                    (false, false) => &mut confirmation.silent,
                };
                group.push(gateway);
            }
            if confirmation.missing.is_empty() || Instant::now() >= deadline {
                return Ok(confirmation);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The newest change of the store; 0 when there was never any.
    pub async fn newest_revision(&self) -> Result<i64, StoreError> {
        within(ANSWER_TIMEOUT, async {
            let newest: Option<i64> = sqlx::query_scalar("SELECT max(revision) FROM changes")
                .fetch_one(&self.pool)
                .await?;
            Ok(newest.unwrap_or(0))
        })
        .await
    }

    /// The store's own name, which no other store has, not even one that was made anew at the same place.
    pub async fn identity(&self) -> Result<String, StoreError> {
        within(ANSWER_TIMEOUT, async {
            Ok(sqlx::query_scalar("SELECT id FROM store_identity")
                .fetch_one(&self.pool)
                .await?)
        })
        .await
    }

    /// The database's own clock in milliseconds: the clocks of gateways may differ.
    async fn clock(&self) -> Result<i64, StoreError> {
        let query = match &self.database {
            Database::Sqlite(_) => "SELECT CAST(unixepoch('subsec') * 1000 AS BIGINT)",
            Database::Postgres(_) => {
                "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
            }
        };
        Ok(sqlx::query_scalar(query).fetch_one(&self.pool).await?)
    }
}
