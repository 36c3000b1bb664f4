//! Plans in the store. They belong to no bucket: one plan is changed in one place for every
//! consumer that has it.

use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::keys::{PlanName, UnixMillis};
use crate::store::bulk;
use crate::store::columns::{self, columns, names, of_row};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::lifetimes::require_order;
use crate::store::{PlanAttributes, PlanEdit, Stamp, Store, StoreError, WRITE_LIMIT};

/// A stored plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPlan {
    /// Immutable name.
    pub name: PlanName,
    /// Attributes.
    pub attributes: PlanAttributes,
    /// Time of creation.
    pub created_at: UnixMillis,
    /// Time of the last change.
    pub updated_at: UnixMillis,
}

columns!(StoredPlan {
    name,
    attributes,
    created_at,
    updated_at
});

/// A plan to create.
#[derive(Clone, Debug)]
pub struct NewPlan {
    /// Name.
    pub name: PlanName,
    /// Attributes.
    pub attributes: PlanAttributes,
}

/// Result of an import of plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportedPlans {
    /// Number of plans created.
    pub added: u64,
    /// Number of plans that were there already, with the same attributes.
    pub already: u64,
}

/// Mutable columns of `plans`.
struct Changed {
    attributes: PlanAttributes,
    updated_at: UnixMillis,
}

columns!(Changed {
    attributes,
    updated_at
});

impl Store {
    /// Creates a plan.
    pub async fn create_plan(&self, new: NewPlan, stamp: &Stamp) -> Result<StoredPlan, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let created = create(&mut transaction, new, stamp).await?;
            transaction.commit_of(Some(created.name.as_str())).await?;
            Ok(created)
        })
        .await
    }

    /// Creates the plans that are missing, all or none. It changes no plan.
    ///
    /// # Errors
    /// A plan that is there with other attributes, or a failure of the store.
    pub async fn import_plans(
        &self,
        plans: Vec<NewPlan>,
        stamp: &Stamp,
    ) -> Result<ImportedPlans, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let mut imported = ImportedPlans::default();
            for new in plans {
                match by_name(&mut transaction, &new.name).await? {
                    Some(there) if there.attributes == new.attributes => imported.already += 1,
                    Some(there) => {
                        return Err(StoreError::PlanDiffers {
                            plan: there.name.to_string(),
                        });
                    }
                    None => {
                        create(&mut transaction, new, stamp).await?;
                        imported.added += 1;
                    }
                }
            }
            transaction.commit().await?;
            Ok(imported)
        })
        .await
    }

    /// Finds a plan.
    pub async fn plan(&self, name: &PlanName) -> Result<Option<StoredPlan>, StoreError> {
        by_name(&mut *self.pool.acquire().await?, name).await
    }

    /// Returns at most `limit` plans after the name `after`, sorted by name.
    pub async fn plans(&self, after: &str, limit: u32) -> Result<Vec<StoredPlan>, StoreError> {
        let select = select_plan("WHERE p.name > $1 ORDER BY p.name LIMIT $2");
        let rows = sqlx::query(AssertSqlSafe(select))
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(of_row).collect()
    }

    /// Changes a plan, effective for all its consumers. An edit without effect writes nothing.
    pub async fn update_plan(
        &self,
        name: &PlanName,
        edit: PlanEdit,
        stamp: &Stamp,
    ) -> Result<StoredPlan, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let mut plan = require(&mut transaction, name).await?;
            let changed = edit.apply(&mut plan.attributes);
            if changed.is_empty() {
                return Ok(plan);
            }
            let PlanAttributes {
                default_key_lifetime,
                max_key_lifetime,
                ..
            } = plan.attributes;
            require_order(default_key_lifetime, max_key_lifetime)?;
            plan.updated_at = stamp.at;
            let new = Changed {
                attributes: plan.attributes.clone(),
                updated_at: plan.updated_at,
            };
            let update = columns::update_by::<Changed>("plans", "name");
            let query = sqlx::query(AssertSqlSafe(update));
            columns::bind(query.bind(name.as_str()), &new)
                .execute(&mut *transaction)
                .await?;
            let subject = Subject::Plan(name);
            let detail = json!({ "changed": changed, "scopes": plan.attributes.scopes });
            journal::record(
                &mut transaction,
                stamp,
                Action::PlanUpdate,
                subject,
                &detail,
            )
            .await?;
            transaction.commit_of(Some(name.as_str())).await?;
            Ok(plan)
        })
        .await
    }

    /// Deletes a plan that no consumer has.
    ///
    /// # Errors
    /// An unknown plan, one in use, or a failure of the store.
    pub async fn delete_plan(
        &self,
        name: &PlanName,
        stamp: &Stamp,
    ) -> Result<StoredPlan, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let gone = require(&mut transaction, name).await?;
            let consumers = count_consumers(&mut transaction, name).await?;
            if consumers > 0 {
                return Err(StoreError::PlanInUse {
                    plan: name.to_string(),
                    consumers,
                });
            }
            sqlx::query("DELETE FROM plans WHERE name = $1")
                .bind(name.as_str())
                .execute(&mut *transaction)
                .await?;
            let (subject, detail) = (Subject::Plan(name), json!({}));
            journal::record(
                &mut transaction,
                stamp,
                Action::PlanDelete,
                subject,
                &detail,
            )
            .await?;
            transaction.commit_of(Some(name.as_str())).await?;
            Ok(gone)
        })
        .await
    }

    /// Returns the number of consumers that have the plan.
    pub async fn count_consumers_of(&self, name: &PlanName) -> Result<u64, StoreError> {
        count_consumers(&mut *self.pool.acquire().await?, name).await
    }
}

pub(super) async fn create(
    transaction: &mut AnyConnection,
    new: NewPlan,
    stamp: &Stamp,
) -> Result<StoredPlan, StoreError> {
    let NewPlan { name, attributes } = new;
    // The write lock prevents a concurrent creation.
    if by_name(transaction, &name).await?.is_some() {
        return Err(StoreError::Duplicate { field: "the name" });
    }
    require_order(attributes.default_key_lifetime, attributes.max_key_lifetime)?;
    let created = StoredPlan {
        name,
        attributes,
        created_at: stamp.at,
        updated_at: stamp.at,
    };
    bulk::insert_all(transaction, "plans", std::slice::from_ref(&created)).await?;
    let subject = Subject::Plan(&created.name);
    let detail = json!({ "scopes": created.attributes.scopes });
    journal::record(transaction, stamp, Action::PlanCreate, subject, &detail).await?;
    Ok(created)
}

/// Refuses an unknown plan.
pub(super) async fn require(
    connection: &mut AnyConnection,
    name: &PlanName,
) -> Result<StoredPlan, StoreError> {
    by_name(connection, name)
        .await?
        .ok_or_else(|| StoreError::UnknownPlan {
            wanted: name.to_string(),
        })
}

/// Returns the plan that a consumer has, if any.
pub(super) async fn of(
    connection: &mut AnyConnection,
    name: Option<&PlanName>,
) -> Result<Option<StoredPlan>, StoreError> {
    match name {
        None => Ok(None),
        Some(name) => require(connection, name).await.map(Some),
    }
}

async fn by_name(
    connection: &mut AnyConnection,
    name: &PlanName,
) -> Result<Option<StoredPlan>, StoreError> {
    let row = sqlx::query(AssertSqlSafe(select_plan("WHERE p.name = $1")))
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(of_row).transpose()
}

async fn count_consumers(
    connection: &mut AnyConnection,
    name: &PlanName,
) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM consumers WHERE plan = $1")
        .bind(name.as_str())
        .fetch_one(connection)
        .await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

fn select_plan(rest: &str) -> String {
    format!("SELECT {} FROM plans p {rest}", names::<StoredPlan>("p."))
}
