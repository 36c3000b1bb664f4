//! What is seen of the audit.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::keys::UnixMillis;
use crate::store::AuditRow;
use crate::views::schemas;

/// One thing that was done.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditView<'r> {
    /// Its number; later things have higher ones.
    #[schema(minimum = 1)]
    pub id: i64,
    /// When.
    #[schema(schema_with = schemas::moment)]
    pub at: UnixMillis,
    /// Who: `cli:USER`, `api:NAME` of an admin token, `github`, or `retention`.
    pub actor: &'r str,
    /// From which address; null is the machine itself.
    #[schema(required)]
    pub source: Option<&'r str>,
    /// What, for example `key.revoke`.
    pub action: &'r str,
    /// To what kind of thing: `consumer`, `key` or `bucket`.
    pub subject: &'r str,
    /// To which.
    pub subject_id: &'r str,
    /// More about it, without secrets.
    #[schema(value_type = Object)]
    pub detail: &'r Value,
}

impl<'r> AuditView<'r> {
    /// What is seen of `row`.
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
