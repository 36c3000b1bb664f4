//! The audit: who did what, to what, when and from where. Rows are written by `journal` and never change.

use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row};

use crate::keys::UnixMillis;
use crate::store::{Store, StoreError};

/// One thing that was done.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// Its number; later things have higher ones.
    pub id: i64,
    /// When.
    pub at: UnixMillis,
    /// Who: `cli:USER`, or `api:NAME` of an admin token.
    pub actor: String,
    /// From which address; `null` is the machine itself.
    pub source: Option<String>,
    /// What, for example `key.revoke`.
    pub action: String,
    /// To what kind of thing: `consumer`, `key`, `bucket` or `gateway`.
    pub subject: String,
    /// To which.
    pub subject_id: String,
    /// More about it, without secrets.
    pub detail: Value,
}

/// Which rows; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only what was done to the thing with this id.
    pub subject_id: Option<String>,
    /// Only what was done by this actor.
    pub actor: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only from this moment on.
    pub since: Option<UnixMillis>,
    /// Only before this moment.
    pub until: Option<UnixMillis>,
}

/// Where a list goes on: at the row before the one with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCursor(pub i64);

impl Store {
    /// At most `limit` rows, the newest first, from the one before `before` on.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let _turn = self.scan().await?;
        // Only the conditions that are asked for, so that each combination finds its index. All of it is made of literals of
        // this file; what callers gave is bound.
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

/// Most actors that are named where one is not known.
const MOST_NAMED: u32 = 50;

impl Store {
    /// Whether the audit has a row of this actor; if it has none, who there is, at most fifty by name.
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
        let sql = format!("SELECT DISTINCT actor FROM audit ORDER BY actor LIMIT {MOST_NAMED}");
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
    /// Where a list that ended with this row goes on.
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
