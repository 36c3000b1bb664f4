//! Gateways that follow this store, and the revision that each has confirmed: the basis of every
//! command's wait and of `revoke --wait`.
//!
//! A gateway stays registered until it deregisters, a successor listens at its address, or an
//! operator forgets it: while it may run, it may accept a revoked key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use tokio::time::{Instant, sleep, timeout_at};

use crate::keys::{EntropyError, UnixMillis};
use crate::store::journal::{self, Action, Subject};
use crate::store::{Database, Stamp, Store, StoreError, within};

/// Maximum silence of a live gateway: several heartbeats.
const LIVE_FOR_MILLIS: i64 = 15_000;
/// Maximum silence of a gateway that commands still wait for: the store may have been away.
const EXPECTED_FOR_MILLIS: i64 = 60_000;
/// Margin on `max_staleness` before a silent gateway counts as refusing, for clock skew.
const STALENESS_MARGIN_MILLIS: i64 = 1_000;

/// Time for a gateway that seems to refuse by age to report that it still uses an older table; it
/// reports as soon as asked.
const SPEAKS_UP_WITHIN: Duration = Duration::from_secs(2);

/// Timeout of these store calls: a gateway that waited longer would count as silent while it
/// serves.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Poll interval for confirmations: initial and maximum.
const LOOK_AFTER: Duration = Duration::from_millis(2);
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(50);

/// Id of one run of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayId(String);

/// The text is not a [`GatewayId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the id of a gateway is `gw_` and 16 hexadecimal digits")]
pub struct InvalidGatewayId;

/// Registration of a gateway.
#[derive(Clone, Debug)]
pub struct Presence {
    /// Id of the run.
    pub id: GatewayId,
    /// Display name: host and listening address.
    pub name: String,
    /// Start time.
    pub started_at: UnixMillis,
    /// Maximum age of the table before the gateway refuses every request; `None` for no limit.
    pub max_staleness: Option<Duration>,
    /// Machine, network and listening address, if known: unique among running gateways.
    pub listener: Option<String>,
    /// Hash of the settings in force, without secrets.
    pub config_hash: Arc<ArcSwap<String>>,
}

/// A registered gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowingGateway {
    /// Id of the run.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Start time.
    pub started_at: UnixMillis,
    /// Time of the last heartbeat.
    pub seen_at: UnixMillis,
    /// Newest revision in force.
    pub revision: i64,
    /// Hash of the settings in force, without secrets; `None` if it was never reported.
    pub config_hash: Option<String>,
    /// Whether a heartbeat came recently. Without one, the gateway was killed, cut off or stopped.
    pub live: bool,
    /// Whether the silence exceeds `max_staleness`: the gateway refuses every request until it has
    /// caught up.
    pub refusing: bool,
    /// Time since the last heartbeat.
    silent_for: Duration,
}

/// Confirmation of a change by gateways.
#[derive(Clone, Debug, Default)]
pub struct Confirmation {
    /// Gateways that confirmed the change.
    pub confirmed: Vec<FollowingGateway>,
    /// Live gateways that did not confirm in time.
    pub missing: Vec<FollowingGateway>,
    /// Gateways already silent that did not confirm in time: killed, cut off or stopped.
    pub silent: Vec<FollowingGateway>,
    /// Unconfirmed gateways that refuse every request until they catch up.
    pub refusing: Vec<FollowingGateway>,
}

/// Gateways to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Every gateway that may run.
    All,
    /// Live gateways, and those silent only recently: the store may have been away.
    Live,
}

impl Confirmation {
    /// Returns whether the change is in force everywhere. A silent gateway counts as gone only if
    /// `ignore_silent` is set and another gateway confirmed.
    #[must_use]
    pub fn is_whole(&self, ignore_silent: bool) -> bool {
        let silent_ones_pass =
            self.silent.is_empty() || (ignore_silent && !self.confirmed.is_empty());
        self.missing.is_empty() && silent_ones_pass
    }
}

impl FromStr for GatewayId {
    type Err = InvalidGatewayId;

    fn from_str(text: &str) -> Result<Self, InvalidGatewayId> {
        let digits = text.strip_prefix("gw_").ok_or(InvalidGatewayId)?;
        let is_one = digits.len() == 16
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_one
            .then(|| Self(text.to_owned()))
            .ok_or(InvalidGatewayId)
    }
}

impl GatewayId {
    /// Returns the text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Generates an id.
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

/// `SELECT` of the columns that [`gateway`] reads.
macro_rules! select_gateway {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, started_at, seen_at, revision, max_staleness_ms, config_hash FROM gateways ",
            $rest
        )
    };
}

impl Store {
    /// Registers a gateway, or its heartbeat, with the confirmed `revision`.
    pub async fn announce(&self, presence: &Presence, revision: i64) -> Result<(), StoreError> {
        within(ANSWER_TIMEOUT, self.note(presence, revision)).await
    }

    async fn note(&self, presence: &Presence, revision: i64) -> Result<(), StoreError> {
        let now = self.clock().await?;
        sqlx::query(
            "INSERT INTO gateways (id, name, started_at, seen_at, revision, max_staleness_ms, listener, config_hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, revision = excluded.revision, \
             config_hash = excluded.config_hash",
        )
        .bind(presence.id.0.as_str())
        .bind(presence.name.as_str())
        .bind(presence.started_at.0)
        .bind(now)
        .bind(revision)
        .bind(presence.max_staleness.map(millis))
        .bind(presence.listener.as_deref())
        .bind(Some(presence.config_hash.load().as_str()).filter(|hash| !hash.is_empty()))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Removes the registrations with this gateway's listening address: those runs were killed,
    /// because two cannot share an address.
    pub async fn succeed(&self, presence: &Presence) -> Result<(), StoreError> {
        let Some(listener) = &presence.listener else {
            return Ok(());
        };
        sqlx::query("DELETE FROM gateways WHERE listener = $1 AND id <> $2")
            .bind(listener.as_str())
            .bind(presence.id.0.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Deregisters a gateway.
    pub async fn leave(&self, id: &GatewayId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM gateways WHERE id = $1")
            .bind(id.0.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Removes a gateway that an operator declares gone; `None` if unknown. Refuses a running one,
    /// whose next heartbeat would register it again.
    pub async fn forget_gateway(
        &self,
        id: &GatewayId,
        stamp: &Stamp,
    ) -> Result<Option<FollowingGateway>, StoreError> {
        let mut transaction = self.begin_write().await?;
        let now = self.clock_of(&mut transaction).await?;
        let row = sqlx::query(select_gateway!("WHERE id = $1"))
            .bind(id.0.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(gateway) = row.map(|row| gateway(&row, now)).transpose()? else {
            return Ok(None);
        };
        if gateway.live {
            return Err(StoreError::GatewayRuns(gateway.name));
        }
        sqlx::query("DELETE FROM gateways WHERE id = $1")
            .bind(id.0.as_str())
            .execute(&mut *transaction)
            .await?;
        let detail = json!({ "name": gateway.name, "seen_at": gateway.seen_at });
        let subject = Subject::Gateway(id);
        journal::record(
            &mut transaction,
            stamp,
            Action::GatewayForget,
            subject,
            &detail,
        )
        .await?;
        transaction.commit().await?;
        Ok(Some(gateway))
    }

    /// Returns all registered gateways by name, including silent ones.
    pub async fn gateways(&self) -> Result<Vec<FollowingGateway>, StoreError> {
        let (now, rows) = within(ANSWER_TIMEOUT, async {
            Ok((
                self.clock().await?,
                sqlx::query(select_gateway!("ORDER BY name, id"))
                    .fetch_all(&self.pool)
                    .await?,
            ))
        })
        .await?;
        rows.iter().map(|row| gateway(row, now)).collect()
    }

    /// Waits up to `patience` until the gateways selected by `wait_for` confirm the current
    /// revision. Reports on all gateways.
    pub async fn confirmed_by(
        &self,
        wait_for: WaitFor,
        patience: Duration,
    ) -> Result<Confirmation, StoreError> {
        let wanted = self.newest_revision().await?;
        let deadline = Instant::now() + patience;
        let mut look_after = LOOK_AFTER;
        let mut asked_at = None;
        loop {
            let mut confirmation = Confirmation::of(self.gateways().await?, wanted);
            let is_awaited = |gateway: &FollowingGateway| {
                wait_for == WaitFor::All || millis(gateway.silent_for) <= EXPECTED_FOR_MILLIS
            };
            // Silence is measured by the database's clock, which may have jumped forward.
            let had_time = asked_at.is_some_and(|at: Instant| at.elapsed() >= SPEAKS_UP_WITHIN);
            let is_refusal_sure =
                wait_for != WaitFor::All || confirmation.refusing.is_empty() || had_time;
            let is_over = confirmation.missing.is_empty()
                && !confirmation.silent.iter().any(is_awaited)
                && is_refusal_sure;
            if is_over || Instant::now() >= deadline {
                if !is_refusal_sure {
                    confirmation.silent.append(&mut confirmation.refusing);
                }
                return Ok(confirmation);
            }
            if asked_at.is_none() {
                // Another writer may hold the lock until after the deadline.
                let asked = timeout_at(deadline, self.ask_for(wanted)).await;
                asked.unwrap_or(Ok(()))?;
                asked_at = Some(Instant::now());
            }
            sleep(look_after).await;
            look_after = (look_after * 2).min(LOOK_AT_LEAST_EVERY);
        }
    }

    /// Asks every gateway to confirm `revision` as soon as it is in force.
    async fn ask_for(&self, revision: i64) -> Result<(), StoreError> {
        within(ANSWER_TIMEOUT, async {
            sqlx::query("UPDATE awaited SET revision = $1 WHERE revision < $2")
                .bind(revision)
                .bind(revision)
                .execute(&self.pool)
                .await?;
            Ok(())
        })
        .await
    }

    /// Returns the newest revision of the store; 0 for an empty feed.
    pub async fn newest_revision(&self) -> Result<i64, StoreError> {
        within(ANSWER_TIMEOUT, async {
            let newest: Option<i64> = sqlx::query_scalar("SELECT max(revision) FROM changes")
                .fetch_one(&self.pool)
                .await?;
            Ok(newest.unwrap_or(0))
        })
        .await
    }

    /// Returns the unique identity of the store; a store created anew at the same location has
    /// another one.
    pub async fn identity(&self) -> Result<String, StoreError> {
        within(ANSWER_TIMEOUT, async {
            Ok(sqlx::query_scalar("SELECT id FROM store_identity")
                .fetch_one(&self.pool)
                .await?)
        })
        .await
    }

    /// Returns the database's clock in milliseconds: the clocks of gateways may differ.
    pub(super) async fn clock(&self) -> Result<i64, StoreError> {
        self.clock_of(&mut *self.pool.acquire().await?).await
    }

    /// Like `clock`, within a transaction.
    pub(super) async fn clock_of(&self, connection: &mut AnyConnection) -> Result<i64, StoreError> {
        let query = match &self.database {
            Database::Sqlite(_) => "SELECT CAST(unixepoch('subsec') * 1000 AS BIGINT)",
            Database::Postgres(_) => {
                "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
            }
        };
        Ok(sqlx::query_scalar(query).fetch_one(connection).await?)
    }
}

impl Confirmation {
    fn of(gateways: Vec<FollowingGateway>, wanted: i64) -> Self {
        let mut confirmation = Self::default();
        for gateway in gateways {
            let group = if gateway.revision >= wanted {
                &mut confirmation.confirmed
            } else if gateway.refusing {
                &mut confirmation.refusing
            } else if gateway.live {
                &mut confirmation.missing
            } else {
                &mut confirmation.silent
            };
            group.push(gateway);
        }
        confirmation
    }
}

/// Reads the columns of `select_gateway!`; `now` is the database's clock.
fn gateway(row: &AnyRow, now: i64) -> Result<FollowingGateway, StoreError> {
    let seen_at: i64 = row.try_get("seen_at")?;
    let max_staleness: Option<i64> = row.try_get("max_staleness_ms")?;
    let silent_for = now.saturating_sub(seen_at);
    let is_refusing = |most: i64| silent_for > most.saturating_add(STALENESS_MARGIN_MILLIS);
    Ok(FollowingGateway {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        started_at: UnixMillis(row.try_get("started_at")?),
        seen_at: UnixMillis(seen_at),
        revision: row.try_get("revision")?,
        config_hash: row.try_get("config_hash")?,
        live: silent_for <= LIVE_FOR_MILLIS,
        refusing: max_staleness.is_some_and(is_refusing),
        silent_for: Duration::from_millis(u64::try_from(silent_for).unwrap_or(0)),
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Actor, AuditFilter, DatabaseUrl, NewConsumer};

    const HOUR_MILLIS: i64 = 3_600_000;

    async fn store(directory: &tempfile::TempDir) -> Store {
        let url: DatabaseUrl = format!("sqlite://{}/gateway.db", directory.path().display())
            .parse()
            .unwrap();
        let store = Store::open(&url).await.unwrap();
        let new = NewConsumer::named("acme".parse().unwrap());
        store.create_consumer(new, &stamp()).await.unwrap();
        store
    }

    fn stamp() -> Stamp {
        Stamp::now(Actor::command_line(None))
    }

    /// Registers a gateway with this silence and `revision`.
    async fn gateway(
        store: &Store,
        revision: i64,
        silent_for: i64,
        most: Option<u64>,
    ) -> GatewayId {
        let presence = Presence {
            id: GatewayId::generate().unwrap(),
            name: format!("silent for {silent_for}"),
            started_at: UnixMillis(0),
            max_staleness: most.map(Duration::from_millis),
            listener: None,
            config_hash: Arc::default(),
        };
        store.announce(&presence, revision).await.unwrap();
        sqlx::query("UPDATE gateways SET seen_at = seen_at - $1 WHERE id = $2")
            .bind(silent_for)
            .bind(presence.id.as_str())
            .execute(&store.pool)
            .await
            .unwrap();
        presence.id
    }

    #[tokio::test]
    async fn not_confirmed_is_not_success_however_long_a_gateway_was_silent() {
        // Revision, silence, max_staleness; expected result without and with `ignore_silent`
        // (another gateway has confirmed).
        for (revision, silent_for, most, is_whole, when_ignored) in [
            (1, 0, None, true, true),
            (0, 0, None, false, false),
            (0, 16_000, None, false, true),
            (0, 25 * HOUR_MILLIS, None, false, true),
            (0, 1_000 * HOUR_MILLIS, None, false, true),
            (0, 16_000, Some(60_000), false, true),
            (0, 62_000, Some(60_000), true, true),
            (0, 5_000, Some(1_000), true, true),
            (1, 25 * HOUR_MILLIS, None, true, true),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let store = store(&directory).await;
            let id = gateway(&store, revision, silent_for, most).await;
            // A refusal is certain once a running gateway had time to report.
            let patience = match most {
                Some(_) => SPEAKS_UP_WITHIN + Duration::from_secs(1),
                None => Duration::from_millis(20),
            };
            let alone = store.confirmed_by(WaitFor::All, patience).await.unwrap();
            let case = format!("{revision} {silent_for} {most:?}");
            assert_eq!(alone.is_whole(false), is_whole, "{case}");
            // A change that no gateway confirmed, while one may run, is no success.
            assert_eq!(alone.is_whole(true), is_whole, "{case}");
            gateway(&store, 1, 0, None).await;
            let beside = store.confirmed_by(WaitFor::All, patience).await.unwrap();
            assert_eq!(beside.is_whole(false), is_whole, "{case}");
            assert_eq!(beside.is_whole(true), when_ignored, "{case}");
            // Registered until someone declares it gone.
            assert_eq!(store.gateways().await.unwrap().len(), 2, "{case}");
            match store.forget_gateway(&id, &stamp()).await {
                Ok(Some(forgotten)) => assert!(silent_for > 15_000, "{forgotten:?}"),
                Err(StoreError::GatewayRuns(_)) => assert!(silent_for < 15_000, "{case}"),
                other => panic!("{case}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_gateway_without_the_time_to_speak_up_is_not_taken_to_refuse() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        gateway(&store, 0, 62_000, Some(60_000)).await;
        let patience = Duration::from_millis(20);
        let hurried = store.confirmed_by(WaitFor::All, patience).await.unwrap();
        assert!(!hurried.is_whole(false));
        assert_eq!((hurried.silent.len(), hurried.refusing.len()), (1, 0));
    }

    #[tokio::test]
    async fn forgetting_a_gateway_is_in_the_audit_and_done_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        let id = gateway(&store, 0, 20_000, None).await;
        assert!(store.forget_gateway(&id, &stamp()).await.unwrap().is_some());
        assert!(store.forget_gateway(&id, &stamp()).await.unwrap().is_none());
        assert!(store.gateways().await.unwrap().is_empty());
        let rows = store.audit(&AuditFilter::default(), None, 1).await.unwrap();
        assert_eq!(rows[0].action, "gateway.forget");
        assert_eq!(rows[0].subject_id, id.as_str());
    }

    #[test]
    fn an_id_reads_back_as_itself_and_other_texts_do_not() {
        let id = GatewayId::generate().unwrap();
        assert_eq!(id.as_str().parse(), Ok(id));
        for text in [
            "",
            "gw_",
            "gw_0123456789abcde",
            "gw_0123456789ABCDEF",
            "key_0123456789abcdef",
        ] {
            assert_eq!(text.parse::<GatewayId>(), Err(InvalidGatewayId), "{text:?}");
        }
    }
}
