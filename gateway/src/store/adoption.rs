//! Who comes to routes that only observe, by day. Not a mutation of the model: no audit row, no
//! feed row.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use crate::keys::adoption::{AdoptionCounts, AdoptionKey, Day};
use crate::keys::{ConsumerId, UnixMillis};
use crate::store::columns::in_row;
use crate::store::{Store, StoreError};

/// Rows per statement.
const ROWS_PER_STATEMENT: usize = 200;
/// Columns of a row.
const COLUMNS: usize = 10;

/// Report of a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptionReport {
    /// First millisecond of the first day.
    pub from: UnixMillis,
    /// Routes with requests, by name.
    pub routes: Vec<AdoptionOfRoute>,
}

/// Requests on one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptionOfRoute {
    /// Name of the route.
    pub route: String,
    /// Requests with a good key.
    pub good: u64,
    /// Requests that would have been refused.
    pub refused: u64,
    /// Those who sent the latter, most requests first, as many as were asked for.
    pub callers: Vec<AdoptionCaller>,
    /// Number of those who sent the latter, listed or not.
    pub all_callers: u64,
}

/// Who came without a good key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptionCaller {
    /// Code that the refusal would have had.
    pub code: String,
    /// Its cause.
    pub cause: String,
    /// Consumer of the key, where the key was known.
    pub consumer: Option<ConsumerId>,
    /// Name of the consumer; `None` for a deleted one too.
    pub consumer_name: Option<String>,
    /// Range of the address.
    pub network: String,
    /// Class of the client.
    pub client: String,
    /// Requests.
    pub requests: u64,
    /// Arrival of the first.
    pub first_at: UnixMillis,
    /// Arrival of the last.
    pub last_at: UnixMillis,
}

impl AdoptionOfRoute {
    /// Returns the number of all requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.good.saturating_add(self.refused)
    }
}

/// Adds counts.
pub(super) async fn add(
    transaction: &mut AnyConnection,
    rows: &[(AdoptionKey, AdoptionCounts)],
) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        let text = format!(
            "INSERT INTO adoption (route, day, code, cause, consumer_id, network, client, requests, first_at, last_at) \
             VALUES {} ON CONFLICT (route, day, code, cause, consumer_id, network, client) DO UPDATE SET \
             requests = adoption.requests + excluded.requests, \
             first_at = CASE WHEN excluded.first_at < adoption.first_at THEN excluded.first_at ELSE adoption.first_at END, \
             last_at = CASE WHEN excluded.last_at > adoption.last_at THEN excluded.last_at ELSE adoption.last_at END",
            tuples(rows.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for (key, counts) in rows {
            let who = key.newcomer.as_ref();
            let consumer = who.and_then(|who| who.consumer);
            query = query
                .bind(key.route.to_string())
                .bind(key.day.start().0)
                .bind(who.map_or("", |who| &who.code).to_owned())
                .bind(who.map_or("", |who| &who.cause).to_owned())
                .bind(consumer.map_or_else(String::new, |id| id.to_string()))
                .bind(who.map_or("", |who| who.network.as_str()).to_owned())
                .bind(who.map_or("", |who| who.client.as_str()).to_owned())
                .bind(i64::try_from(counts.requests).unwrap_or(i64::MAX))
                .bind(counts.first_at.0)
                .bind(counts.last_at.0);
        }
        query.execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Builds `($1, …, $10), ($11, …)`, with the numbers cast: PostgreSQL types a free-standing
/// parameter as text.
fn tuples(count: usize) -> String {
    let tuple = |tuple: usize| {
        let parameter = |column: usize| {
            let number = tuple * COLUMNS + column + 1;
            match column {
                1 | 7.. => format!("CAST(${number} AS BIGINT)"),
                _ => format!("CAST(${number} AS TEXT)"),
            }
        };
        let parameters: Vec<String> = (0..COLUMNS).map(parameter).collect();
        format!("({})", parameters.join(", "))
    };
    let tuples: Vec<String> = (0..count).map(tuple).collect();
    tuples.join(", ")
}

impl Store {
    /// Reports who came to routes that only observe since the day of `since`, to the route of this
    /// name or to all. Lists at most `limit` callers of each route.
    ///
    /// # Errors
    /// The store fails.
    pub async fn adoption(
        &self,
        since: UnixMillis,
        route: Option<&str>,
        limit: u32,
    ) -> Result<AdoptionReport, StoreError> {
        let _turn = self.scan().await?;
        let from = Day::of(since).start();
        let whose = if route.is_some() {
            "AND a.route = $2"
        } else {
            ""
        };
        let totals = format!(
            "SELECT a.route, \
             CAST(SUM(CASE WHEN a.code = '' THEN a.requests ELSE 0 END) AS BIGINT) AS good, \
             CAST(SUM(CASE WHEN a.code = '' THEN 0 ELSE a.requests END) AS BIGINT) AS refused \
             FROM adoption a WHERE a.day >= $1 {whose} GROUP BY a.route ORDER BY a.route"
        );
        let mut query = sqlx::query(AssertSqlSafe(totals)).bind(from.0);
        if let Some(route) = route {
            query = query.bind(route.to_owned());
        }
        let mut routes = Vec::new();
        for row in query.fetch_all(&self.scans).await? {
            routes.push(AdoptionOfRoute {
                route: row.try_get("route")?,
                good: number(&row, "good")?,
                refused: number(&row, "refused")?,
                callers: Vec::new(),
                all_callers: 0,
            });
        }
        for of_route in &mut routes {
            let count = "SELECT count(*) FROM (SELECT DISTINCT a.code, a.cause, a.consumer_id, a.network, a.client \
                 FROM adoption a WHERE a.day >= $1 AND a.route = $2 AND a.code <> '') callers";
            let all: i64 = sqlx::query_scalar(count)
                .bind(from.0)
                .bind(of_route.route.clone())
                .fetch_one(&self.scans)
                .await?;
            of_route.all_callers = u64::try_from(all).unwrap_or_default();
            let text = format!(
                "SELECT t.code, t.cause, t.consumer_id, c.name, t.network, t.client, t.requests, t.first_at, t.last_at \
                 FROM (SELECT a.code, a.cause, a.consumer_id, a.network, a.client, \
                 CAST(SUM(a.requests) AS BIGINT) AS requests, MIN(a.first_at) AS first_at, MAX(a.last_at) AS last_at \
                 FROM adoption a WHERE a.day >= $1 AND a.route = $2 AND a.code <> '' \
                 GROUP BY a.code, a.cause, a.consumer_id, a.network, a.client \
                 ORDER BY requests DESC, last_at DESC, a.network, a.client, a.cause LIMIT {limit}) t \
                 LEFT JOIN consumers c ON c.id = t.consumer_id \
                 ORDER BY t.requests DESC, t.last_at DESC, t.network, t.client, t.cause"
            );
            let rows = sqlx::query(AssertSqlSafe(text))
                .bind(from.0)
                .bind(of_route.route.clone())
                .fetch_all(&self.scans)
                .await?;
            let callers: Result<Vec<_>, StoreError> = rows.iter().map(caller).collect();
            of_route.callers = callers?;
        }
        Ok(AdoptionReport { from, routes })
    }

    /// Deletes at most `rows` rows of days before `before`; returns their number.
    pub(super) async fn prune_adoption(&self, before: i64, rows: i64) -> Result<u64, StoreError> {
        let mut transaction = self.begin_write().await?;
        let oldest: Option<i64> = sqlx::query_scalar("SELECT MIN(day) FROM adoption")
            .fetch_one(&mut *transaction)
            .await?;
        let Some(oldest) = oldest.filter(|oldest| *oldest < before) else {
            return Ok(0);
        };
        let text = format!(
            "DELETE FROM adoption WHERE day = $1 AND (route, day, code, cause, consumer_id, network, client) IN \
             (SELECT route, day, code, cause, consumer_id, network, client FROM adoption WHERE day = $1 LIMIT {rows})"
        );
        let deleted = sqlx::query(AssertSqlSafe(text))
            .bind(oldest)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        transaction.commit().await?;
        Ok(deleted)
    }
}

fn caller(row: &AnyRow) -> Result<AdoptionCaller, StoreError> {
    let consumer: String = row.try_get("consumer_id")?;
    Ok(AdoptionCaller {
        code: row.try_get("code")?,
        cause: row.try_get("cause")?,
        consumer: consumer.parse().ok(),
        consumer_name: row.try_get("name")?,
        network: row.try_get("network")?,
        client: row.try_get("client")?,
        requests: number(row, "requests")?,
        first_at: in_row(row, "first_at")?,
        last_at: in_row(row, "last_at")?,
    })
}

fn number(row: &AnyRow, column: &str) -> Result<u64, StoreError> {
    let number: i64 = row.try_get(column)?;
    Ok(u64::try_from(number).unwrap_or_default())
}
