//! `/v1/consumers/{id}/quotas`: what a consumer has used of its quotas, and changes of it by an
//! operator.

use actix_web::HttpResponse;
use actix_web::http::Method;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema as _, ToSchema};

use crate::admin::body::{Body, Fields};
use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::find;
use crate::admin::member::{Errors, Member};
use crate::admin::problem::{FieldError, Kind, Problem};
use crate::keys::{ConsumerId, Description, LimitName, UnixMillis};
use crate::limits::quota::QuotaState;
use crate::store::{QuotaEdit, QuotaOwner};
use crate::views::schemas;

const TAG: &str = "quotas";

/// Returns the operations on quotas.
pub(super) fn endpoints() -> [Endpoint; 3] {
    [
        Endpoint::get("/v1/consumers/{id}/quotas", list)
            .named("list_quotas", TAG, "Show what a consumer has used of its quotas")
            .described(
                "Quotas by consumer and those of the consumer alone, in the present period. `used` is that of all gateways, as the \
                 answering gateway knows it: at most a second old.",
            )
            .answers(200, "The quotas.", "QuotaList", QuotaList::schema())
            .made_of::<QuotaList>(),
        Endpoint::write(Method::POST, "/v1/consumers/{id}/quotas/adjust", adjust)
            .named("adjust_quota", TAG, "Add to what a consumer has used, or give some back")
            .described("In the present period. Gateways follow within a second.")
            .answers(200, "The quota as the database has it.", "Quota", QuotaView::schema())
            .refuses(&[(404, "There is no such consumer, or it has no such quota.")]),
        Endpoint::write(Method::POST, "/v1/consumers/{id}/quotas/reset", reset)
            .named("reset_quota", TAG, "Give back all that a consumer has used")
            .described("In the present period. Gateways follow within a second.")
            .answers(200, "The quota as the database has it.", "Quota", QuotaView::schema())
            .refuses(&[(404, "There is no such consumer, or it has no such quota.")]),
    ]
}

/// Quotas of a consumer.
#[derive(Serialize, ToSchema)]
struct QuotaList {
    /// The quotas.
    data: Vec<QuotaView>,
}

/// Use of a quota in the present period.
#[derive(Serialize, ToSchema)]
#[schema(as = Quota)]
struct QuotaView {
    /// Name.
    #[schema(schema_with = schemas::limit_name)]
    name: String,
    /// Units of a period.
    limit: u64,
    /// Units used; negative if some were given back beyond 0.
    used: i64,
    /// Units left, at least 0.
    remaining: u64,
    /// Beginning of the period.
    #[schema(schema_with = schemas::moment)]
    period_start: UnixMillis,
    /// End of the period; null if it has none.
    #[schema(required, schema_with = schemas::moment_or_null)]
    resets_at: Option<UnixMillis>,
    /// Whether requests beyond are refused.
    enforced: bool,
}

impl QuotaView {
    fn of(state: &QuotaState, used: i64) -> Self {
        let limit = i64::try_from(state.limit).unwrap_or(i64::MAX);
        Self {
            name: state.cell.quota.to_string(),
            limit: state.limit,
            used,
            remaining: u64::try_from(limit.saturating_sub(used)).unwrap_or(0),
            period_start: state.level.period.start,
            resets_at: state.level.period.end,
            enforced: state.enforced,
        }
    }
}

/// Units to add; negative to give back.
struct Units(i64);

struct Adjustment {
    name: LimitName,
    by: Units,
    reason: Option<Description>,
}

struct Reset {
    name: LimitName,
    reason: Option<Description>,
}

/// Most units of one adjustment.
const MAX_UNITS: i64 = 1_000_000_000_000_000;

impl Member for Units {
    fn schema() -> Schema {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(-1_000_000_000_000_000_i64))
            .maximum(Some(MAX_UNITS))
            .into()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        // As JSON Schema has it, `1.0` is a whole number too.
        let whole = |number: f64| (number.fract() == 0.0).then(|| format!("{number:.0}"));
        let read = value
            .as_i64()
            .or_else(|| value.as_f64().and_then(whole)?.parse().ok());
        let read = read.filter(|units| (-MAX_UNITS..=MAX_UNITS).contains(units));
        if read.is_none() {
            let message = "a whole number belongs here, negative to give units back";
            errors.list.push(FieldError::at(pointer, message));
        }
        read.map(Self)
    }
}

const NAME: &str = "Name of the quota.";
const REASON: &str = "Reason, for the audit.";

impl Body for Adjustment {
    const NAME: Option<&'static str> = Some("AdjustQuota");

    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.required("name", NAME);
        let by = fields.required("by", "Units to add to what is used; negative to give back.");
        let reason = fields.optional("reason", REASON);
        Some(Self {
            name: name?,
            by: by?,
            reason,
        })
    }
}

impl Body for Reset {
    const NAME: Option<&'static str> = Some("ResetQuota");

    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.required("name", NAME);
        let reason = fields.optional("reason", REASON);
        Some(Self {
            name: name?,
            reason,
        })
    }
}

async fn list(call: Call<ConsumerId, (), ()>) -> Answered {
    let states = states(&call).await?;
    let data = states.iter();
    let data = data
        .map(|state| QuotaView::of(state, state.level.used))
        .collect();
    Ok(HttpResponse::Ok().json(QuotaList { data }))
}

async fn adjust(call: Call<ConsumerId, (), Adjustment>) -> Answered {
    let Adjustment { name, by, reason } = &call.body;
    edit(&call, name, QuotaEdit::By(by.0), reason.as_ref()).await
}

async fn reset(call: Call<ConsumerId, (), Reset>) -> Answered {
    let Reset { name, reason } = &call.body;
    edit(&call, name, QuotaEdit::Reset, reason.as_ref()).await
}

async fn edit<B>(
    call: &Call<ConsumerId, (), B>,
    name: &LimitName,
    edit: QuotaEdit,
    reason: Option<&Description>,
) -> Answered {
    let states = states(call).await?;
    let state = states
        .iter()
        .find(|state| *state.cell.quota == *name.as_str());
    let state = state.ok_or_else(|| {
        Problem::new(
            Kind::NotFound,
            format!("The consumer has no quota `{name}`."),
        )
    })?;
    let owner = QuotaOwner::Consumer(&call.path);
    let (cell, period) = (&state.cell, state.level.period);
    let reason = reason.map(Description::as_str);
    let edited = call
        .store
        .edit_quota(owner, cell, period, edit, reason, &call.stamp)
        .await?;
    Ok(HttpResponse::Ok().json(QuotaView::of(state, edited.units)))
}

/// Every quota that counts the consumer.
async fn states<B>(call: &Call<ConsumerId, (), B>) -> Result<Vec<QuotaState>, Problem> {
    let consumer = find::consumer(&call.store, &call.path).await?;
    let plan = match &consumer.attributes.plan {
        Some(name) => call.store.plan(name).await?,
        None => None,
    };
    let of_plan = plan.as_ref().map(|plan| &plan.attributes.quotas);
    let own = &consumer.attributes.quotas;
    let policy = call.operations.policy();
    let policy = policy.ok_or_else(Problem::store_unavailable)?;
    let created = consumer.created_at;
    Ok(policy
        .quotas
        .of_consumer(&call.path, own, of_plan, created, call.now()))
}
