//! The audit log: actor, action, subject, time and source of every mutation. `journal` writes the
//! rows; they never change.

use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row};

use crate::keys::UnixMillis;
use crate::store::{Store, StoreError};

/// A row of the audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// Ascending number.
    pub id: i64,
    /// Time of the action.
    pub at: UnixMillis,
    /// Actor: `cli:USER`, `api:NAME` of an admin token, `github`, `gateway` or `retention`.
    pub actor: String,
    /// Source address; `null` for this machine.
    pub source: Option<String>,
    /// Action, for example `key.revoke`.
    pub action: String,
    /// Kind of the subject: `consumer`, `key`, `bucket`, `plan` or `gateway`.
    pub subject: String,
    /// Id of the subject.
    pub subject_id: String,
    /// Details, without secrets.
    pub detail: Value,
}

/// Filter for audit rows; `None` matches everything.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Id of the subject.
    pub subject_id: Option<String>,
    /// Actor.
    pub actor: Option<String>,
    /// Action.
    pub action: Option<String>,
    /// Start of the time range.
    pub since: Option<UnixMillis>,
    /// End of the time range, exclusive.
    pub until: Option<UnixMillis>,
}

/// Cursor of an audit list: the number of the last row returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCursor(pub i64);

impl Store {
    /// Returns at most `limit` rows older than `before`, newest first.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let _turn = self.scan().await?;
        // Only the requested conditions, so that each combination uses its index. The text consists
        // of literals of this file; values are bound.
        let texts = [
            ("subject_id", &filter.subject_id),
            ("actor", &filter.actor),
            ("action", &filter.action),
        ];
        let texts: Vec<(&str, &str)> = texts
            .into_iter()
            .filter_map(|(column, text)| Some((column, text.as_deref()?)))
            .collect();
        let mut sql =
            "SELECT id, at, actor, source, action, subject, subject_id, detail FROM audit \
             WHERE id < $1 AND at >= $2 AND at < $3"
                .to_owned();
        for (index, (column, _)) in texts.iter().enumerate() {
            sql.push_str(&format!(" AND {column} = ${}", index + 4));
        }
        sql.push_str(&format!(" ORDER BY id DESC LIMIT ${}", texts.len() + 4));
        let query = sqlx::query::<Any>(AssertSqlSafe(sql))
            .bind(before.map_or(i64::MAX, |cursor| cursor.0))
            .bind(filter.since.map_or(i64::MIN, |since| since.0))
            .bind(filter.until.map_or(i64::MAX, |until| until.0));
        let query = texts
            .into_iter()
            .fold(query, |query, (_, text)| query.bind(text.to_owned()));
        let rows = query.bind(i64::from(limit)).fetch_all(&self.scans).await?;
        rows.iter().map(read).collect()
    }
}

/// Maximum number of known actors in an error.
const MAX_NAMED: u32 = 50;

impl Store {
    /// Verifies that the audit has a row of this actor; the error lists at most fifty known actors.
    pub async fn require_actor(&self, actor: &str) -> Result<(), StoreError> {
        let _turn = self.scan().await?;
        let known: Option<i64> =
            sqlx::query_scalar("SELECT id FROM audit WHERE actor = $1 LIMIT 1")
                .bind(actor)
                .fetch_optional(&self.scans)
                .await?;
        if known.is_some() {
            return Ok(());
        }
        let sql = format!("SELECT DISTINCT actor FROM audit ORDER BY actor LIMIT {MAX_NAMED}");
        let known: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&self.scans)
            .await?;
        Err(StoreError::UnknownActor {
            wanted: actor.to_owned(),
            known: known.join(", "),
        })
    }
}

impl AuditRow {
    /// Returns the cursor after this row.
    #[must_use]
    pub fn cursor(&self) -> AuditCursor {
        AuditCursor(self.id)
    }
}

fn read(row: &AnyRow) -> Result<AuditRow, StoreError> {
    let detail: &str = row.try_get("detail")?;
    Ok(AuditRow {
        id: row.try_get("id")?,
        at: UnixMillis(row.try_get("at")?),
        actor: row.try_get("actor")?,
        source: row.try_get("source")?,
        action: row.try_get("action")?,
        subject: row.try_get("subject")?,
        subject_id: row.try_get("subject_id")?,
        detail: serde_json::from_str(detail).map_err(|error| StoreError::UnreadableRow {
            what: "detail",
            reason: error.to_string(),
        })?,
    })
}
