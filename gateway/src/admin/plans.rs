//! `/v1/plans`

use actix_web::HttpResponse;
use actix_web::http::Method;
use utoipa::PartialSchema as _;

use crate::admin::body::{Body, Fields};
use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::page::{self, Page};
use crate::admin::problem::{Kind, Problem};
use crate::admin::query::{Parameters, Query};
use crate::admin::{created, text};
use crate::keys::{Description, Lifetime, MaxInFlight, PlanName, Quotas, Rates, Scopes};
use crate::store::{NewPlan, PlanAttributes, PlanEdit, StoredAnswer, StoredPlan};
use crate::views::PlanView;

const TAG: &str = "plans";
const ORDER: &str =
    "The default lifetime is above the longest, or two limits or quotas have the same name.";

/// The operations on plans.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let plan = PlanView::schema;
    vec![
        Endpoint::get("/v1/plans", list)
            .named("list_plans", TAG, "List plans")
            .described("By name.")
            .answers(
                200,
                "A page of plans.",
                "PlanPage",
                page::schema("Plan", page::name_cursor_schema()),
            ),
        Endpoint::create("/v1/plans", create)
            .named("create_plan", TAG, "Create a plan")
            .answers(201, "The created plan.", "Plan", plan())
            .refuses(&[(422, ORDER)]),
        Endpoint::get("/v1/plans/{name}", show)
            .named("show_plan", TAG, "Show a plan")
            .answers(200, "The plan.", "Plan", plan()),
        Endpoint::write(Method::PATCH, "/v1/plans/{name}", update)
            .named("update_plan", TAG, "Change a plan")
            .described("A merge patch (RFC 7396). Effective at once for all consumers of the plan.")
            .answers(200, "The changed plan.", "Plan", plan())
            .refuses(&[(422, ORDER)]),
        Endpoint::write(Method::DELETE, "/v1/plans/{name}", delete)
            .named("delete_plan", TAG, "Delete a plan")
            .answers(200, "The deleted plan.", "Plan", plan())
            .refuses(&[(409, "Consumers have the plan.")]),
    ]
}

struct List {
    page: Page,
}

impl Query for List {
    fn read(parameters: &mut Parameters) -> Self {
        Self {
            page: parameters.page_by_name(),
        }
    }
}

impl Body for NewPlan {
    const NAME: Option<&'static str> = Some("NewPlan");

    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.required("name", "Name of the plan, immutable.");
        let edit = read_edit(fields);
        let mut attributes = PlanAttributes::default();
        edit.apply(&mut attributes);
        Some(Self {
            name: name?,
            attributes,
        })
    }
}

impl Body for PlanEdit {
    const NAME: Option<&'static str> = Some("PlanEdit");

    fn read(fields: &mut Fields) -> Option<Self> {
        Some(read_edit(fields))
    }
}

fn read_edit(fields: &mut Fields) -> PlanEdit {
    PlanEdit {
        description: fields.nullable::<Description>("description", "A note; null for none."),
        scopes: fields
            .nullable::<Scopes>(
                "scopes",
                "Scopes granted to every consumer of the plan, besides the consumer's own; null for none.",
            )
            .map(Option::unwrap_or_default),
        limits: fields
            .nullable::<Rates>(
                "limits",
                "Rates of every consumer of the plan, unless the consumer has its own of this name; null for none.",
            )
            .map(Option::unwrap_or_default),
        quotas: fields
            .nullable::<Quotas>("quotas", "Quotas of every consumer of the plan, likewise; null for none.")
            .map(Option::unwrap_or_default),
        max_in_flight: fields.nullable::<MaxInFlight>(
            "max_in_flight",
            "Requests of each consumer of the plan in flight at once; null for that of the configuration.",
        ),
        default_key_lifetime: fields.nullable::<Lifetime>(
            "default_key_lifetime_seconds",
            "Lifetime of a new key without an expiry of its own; null for that of the bucket.",
        ),
        max_key_lifetime: fields.nullable::<Lifetime>(
            "max_key_lifetime_seconds",
            "Longest lifetime of a key; null for that of the bucket.",
        ),
    }
}

async fn list(call: Call<(), List, ()>) -> Answered {
    let List { page } = &call.query;
    let found = call.store.plans(&page.after_name(), page.wanted()).await?;
    Ok(page.answer(&found, PlanView::of, |found| {
        page::name_cursor(found.name.as_str())
    }))
}

async fn create(call: Call<(), (), NewPlan>) -> Answered {
    let answer = |made: &StoredPlan| StoredAnswer {
        location: format!("/v1/plans/{}", made.name),
        body: text(&PlanView::of(made)),
    };
    let made = call
        .store
        .create_plan_once(call.body, call.creation.as_ref(), answer, &call.stamp)
        .await?;
    Ok(created(made, answer))
}

async fn show(call: Call<PlanName, (), ()>) -> Answered {
    let found = call.store.plan(&call.path).await?;
    let found = found.ok_or_else(|| Problem::new(Kind::NotFound, "There is no such plan."))?;
    Ok(HttpResponse::Ok().json(PlanView::of(&found)))
}

async fn update(call: Call<PlanName, (), PlanEdit>) -> Answered {
    let after = call
        .store
        .update_plan(&call.path, call.body, &call.stamp)
        .await?;
    Ok(HttpResponse::Ok().json(PlanView::of(&after)))
}

async fn delete(call: Call<PlanName, (), ()>) -> Answered {
    let gone = call.store.delete_plan(&call.path, &call.stamp).await?;
    Ok(HttpResponse::Ok().json(PlanView::of(&gone)))
}
