//! The gateways that follow this store, and how far each has come: what every command and `revoke --wait` wait for.
//!
//! A gateway is known until it says goodbye, its successor listens in its place, or an operator says that it is gone: as
//! long as it may run, it may let in what was revoked.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use tokio::time::{Instant, sleep, timeout_at};

use crate::keys::{EntropyError, UnixMillis};
use crate::store::journal::{self, Action, Subject};
use crate::store::{Database, Stamp, Store, StoreError, within};

/// How long a gateway that said nothing may still be running as if nothing had happened: several of its heartbeats.
const LIVE_FOR_MILLIS: i64 = 15_000;
/// How long a command waits for one that fell silent as it does for one that did not: the store may have been away.
const EXPECTED_FOR_MILLIS: i64 = 60_000;
/// Added to `max_staleness` before a silent gateway counts as refusing: clocks do not run alike.
const STALENESS_MARGIN_MILLIS: i64 = 1_000;

/// How long one that seems to refuse by its age has to say that it goes by an older table: it says so at once when asked.
const SPEAKS_UP_WITHIN: Duration = Duration::from_secs(2);

/// How long the store may take for any of this: a gateway that waited longer would count as silent while it serves.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked whether the last gateway has confirmed: at first, and at most.
const LOOK_AFTER: Duration = Duration::from_millis(2);
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(50);

/// One run of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayId(String);

/// Why a text is no [`GatewayId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the id of a gateway is `gw_` and 16 hexadecimal digits")]
pub struct InvalidGatewayId;

/// What a gateway says of itself.
#[derive(Clone, Debug)]
pub struct Presence {
    /// Its id.
    pub id: GatewayId,
    /// What operators call it: its host and where it listens.
    pub name: String,
    /// When it was started.
    pub started_at: UnixMillis,
    /// How old its table may get before it refuses every request; `None` is for ever.
    pub max_staleness: Option<Duration>,
    /// The machine, the network and the address that it listens on, where they are known: two cannot listen there.
    pub listener: Option<String>,
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
    /// Whether it was silent for longer than its `max_staleness`: it refuses every request until it has caught up.
    pub refusing: bool,
    /// For how long it was silent.
    silent_for: Duration,
}

/// Which gateways go by a change.
#[derive(Clone, Debug, Default)]
pub struct Confirmation {
    /// Those that have said so.
    pub confirmed: Vec<FollowingGateway>,
    /// Those that run and have not said so in time.
    pub missing: Vec<FollowingGateway>,
    /// Those that fell silent before and have not said so in time: killed, cut off or stopped.
    pub silent: Vec<FollowingGateway>,
    /// Those that have not said so, and refuse every request as long as they do not.
    pub refusing: Vec<FollowingGateway>,
}

/// For which gateways to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// All that may run.
    All,
    /// Those that run; those that fell silent lately are given the time too, for the store may have been away.
    Live,
}

impl Confirmation {
    /// Whether no gateway may go by what was before. One that fell silent may, and counts only as gone where the operator
    /// says so and another one has confirmed.
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
    /// The id as it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

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

/// `SELECT` of everything that [`gateway`] reads.
macro_rules! select_gateway {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, started_at, seen_at, revision, max_staleness_ms FROM gateways ",
            $rest
        )
    };
}

impl Store {
    /// Notes that a gateway is there and answers requests by everything up to `revision`.
    pub async fn announce(&self, presence: &Presence, revision: i64) -> Result<(), StoreError> {
        within(ANSWER_TIMEOUT, self.note(presence, revision)).await
    }

    async fn note(&self, presence: &Presence, revision: i64) -> Result<(), StoreError> {
        let now = self.clock().await?;
        sqlx::query(
            "INSERT INTO gateways (id, name, started_at, seen_at, revision, max_staleness_ms, listener) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, revision = excluded.revision",
        )
        .bind(presence.id.0.as_str())
        .bind(presence.name.as_str())
        .bind(presence.started_at.0)
        .bind(now)
        .bind(revision)
        .bind(presence.max_staleness.map(millis))
        .bind(presence.listener.as_deref())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Removes those that listened where this gateway listens now: they were killed, for two cannot.
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

    /// Notes that a gateway has stopped.
    pub async fn leave(&self, id: &GatewayId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM gateways WHERE id = $1")
            .bind(id.0.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forgets a gateway that an operator knows to be gone; nobody waits for it any more. `None` where there is none. One
    /// that runs would come back with its next word, so it is refused.
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

    /// All gateways that follow this store, by name; those that have fallen silent too.
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

    /// Waits until the gateways answer requests by all that the store holds now, for `patience` at most. Those that are told
    /// of by `wait_for` are waited for, and all are told of.
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
            // How long it is silent goes by the database's clock, which may just have been set forward.
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
                // Another writer may hold the database for longer than there is time.
                let asked = timeout_at(deadline, self.ask_for(wanted)).await;
                asked.unwrap_or(Ok(()))?;
                asked_at = Some(Instant::now());
            }
            sleep(look_after).await;
            look_after = (look_after * 2).min(LOOK_AT_LEAST_EVERY);
        }
    }

    /// Has every gateway say at once that it goes by `revision`, when it does.
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
    pub(super) async fn clock(&self) -> Result<i64, StoreError> {
        self.clock_of(&mut *self.pool.acquire().await?).await
    }

    /// The same within a transaction.
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

/// Reads what `select_gateway!` selects; `now` is the database's clock.
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

    /// Announces one that has said nothing for so long and is at `revision`.
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
        // What it has, how long it was silent, its max_staleness; whether all is well, and whether it is when silent ones are
        // to be passed over and another one has confirmed.
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
            // A refusal is sure once a gateway that runs had the time to speak up.
            let patience = match most {
                Some(_) => SPEAKS_UP_WITHIN + Duration::from_secs(1),
                None => Duration::from_millis(20),
            };
            let alone = store.confirmed_by(WaitFor::All, patience).await.unwrap();
            let case = format!("{revision} {silent_for} {most:?}");
            assert_eq!(alone.is_whole(false), is_whole, "{case}");
            // Confirmed by nobody although one may run is no success.
            assert_eq!(alone.is_whole(true), is_whole, "{case}");
            gateway(&store, 1, 0, None).await;
            let beside = store.confirmed_by(WaitFor::All, patience).await.unwrap();
            assert_eq!(beside.is_whole(false), is_whole, "{case}");
            assert_eq!(beside.is_whole(true), when_ignored, "{case}");
            // It is known until somebody says that it is gone.
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
