//! JSON view of the audit log.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::keys::UnixMillis;
use crate::store::AuditRow;
use crate::views::schemas;

/// A row of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditView<'r> {
    /// Ascending number.
    #[schema(minimum = 1)]
    pub id: i64,
    /// Time of the action.
    #[schema(schema_with = schemas::moment)]
    pub at: UnixMillis,
    /// Actor: `cli:USER`, `api:NAME` of an admin token, `github`, `gateway`, or `retention`.
    pub actor: &'r str,
    /// Source address; null for the machine itself.
    #[schema(required)]
    pub source: Option<&'r str>,
    /// Action, for example `key.revoke`.
    pub action: &'r str,
    /// Kind of the subject: `consumer`, `key`, `bucket`, `plan` or `gateway`.
    pub subject: &'r str,
    /// Id of the subject.
    pub subject_id: &'r str,
    /// Details, without secrets.
    #[schema(value_type = Object)]
    pub detail: &'r Value,
}

impl<'r> AuditView<'r> {
    /// Builds the view of `row`.
    #[must_use]
    pub fn of(row: &'r AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor: &row.actor,
            source: row.source.as_deref(),
            action: &row.action,
            subject: &row.subject,
            subject_id: &row.subject_id,
            detail: &row.detail,
        }
    }
}
