//! `/v1/consumers`

use actix_web::HttpResponse;
use actix_web::http::Method;
use utoipa::PartialSchema as _;

use crate::admin::body::{Body, Fields};
use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::page::{self, Page};
use crate::admin::query::{Parameters, Query, require_bucket};
use crate::admin::{created, find, text};
use crate::keys::{
    AllowedIps, ConsumerId, ConsumerName, CustomId, Description, MaxInFlight, Metadata, PlanName,
    Quotas, Rates, Scopes, Tags,
};
use crate::store::{
    ConsumerAttributes, ConsumerEdit, ConsumerFilter, NewConsumer, StoredAnswer, StoredConsumer,
};
use crate::views::{ConsumerView, DeletedConsumerView};

const TAG: &str = "consumers";

/// The operations on consumers.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let consumer = ConsumerView::schema;
    vec![
        Endpoint::get("/v1/consumers", list)
            .named("list_consumers", TAG, "List consumers")
            .described("Oldest first; from all buckets unless `bucket` is given.")
            .answers(200, "A page of consumers.", "ConsumerPage", page::schema("Consumer", page::cursor_schema()))
            .refuses(&[(404, "There is no such bucket.")]),
        Endpoint::create("/v1/consumers", create)
            .named("create_consumer", TAG, "Create a consumer")
            .answers(201, "The created consumer.", "Consumer", consumer())
            .refuses(&[(404, "There is no such bucket or plan.")]),
        Endpoint::get("/v1/consumers/{id}", show)
            .named("show_consumer", TAG, "Show a consumer")
            .answers(200, "The consumer.", "Consumer", consumer()),
        Endpoint::write(Method::PATCH, "/v1/consumers/{id}", update)
            .named("update_consumer", TAG, "Change a consumer")
            .described("A merge patch (RFC 7396), except that `metadata` and `tags` are replaced as a whole. Effective for all keys of the consumer.")
            .answers(200, "The changed consumer.", "Consumer", consumer())
            .refuses(&[(404, "There is no such consumer or plan."), (409, "Another consumer has this name or custom id."), (422, "Two limits or quotas have the same name.")]),
        Endpoint::write(Method::DELETE, "/v1/consumers/{id}", delete)
            .named("delete_consumer", TAG, "Delete a consumer and all its keys")
            .described("Its keys are refused from their next request on.")
            .answers(200, "The deleted consumer.", "DeletedConsumer", DeletedConsumerView::schema()),
    ]
}

struct List {
    filter: ConsumerFilter,
    page: Page,
}

impl Query for List {
    fn read(parameters: &mut Parameters) -> Self {
        Self {
            filter: ConsumerFilter {
                bucket: parameters.optional("bucket", "Only consumers of this bucket."),
                name: parameters.optional(
                    "name",
                    "Only consumers with this name, at most one in each bucket.",
                ),
                custom_id: parameters.optional(
                    "custom_id",
                    "Only consumers with this custom id, at most one in each bucket.",
                ),
                plan: parameters.optional("plan", "Only consumers of this plan."),
                tags: parameters
                    .tags("Only consumers with all of these tags, each as `tag.NAME=VALUE`."),
            },
            page: parameters.page(),
        }
    }
}

impl Body for NewConsumer {
    const NAME: Option<&'static str> = Some("NewConsumer");

    fn read(fields: &mut Fields) -> Option<Self> {
        let bucket = fields
            .optional("bucket", "Bucket of the consumer; default: `default`.")
            .unwrap_or_default();
        let name = fields.required(
            "name",
            "Name, unique in the bucket and not in the form of an id. Sent to the origin.",
        );
        let custom_id = fields.nullable(
            "custom_id",
            "Id from your own system, unique in the bucket. Sent to the origin.",
        );
        let description = fields.nullable(
            "description",
            "Note for administrators; not sent to the origin.",
        );
        let metadata = fields.nullable(
            "metadata",
            "Metadata for the origin: at most 4096 bytes of JSON.",
        );
        let scopes = fields
            .optional("scopes", "Granted scopes: at most 4096 bytes in total.")
            .unwrap_or_default();
        let allowed_ips = fields
            .optional(
                "allowed_ips",
                "Addresses or ranges such as `192.0.2.0/24` that the keys may be used from; empty for any address.",
            )
            .unwrap_or_default();
        let plan = fields.nullable(
            "plan",
            "Plan, which grants scopes and numbers besides the consumer's own.",
        );
        let limits = fields
            .nullable("limits", "Rates of the consumer: those of a known name replace the number of the configuration, others are the consumer's own.")
            .flatten()
            .unwrap_or_default();
        let quotas = fields
            .nullable("quotas", "Quotas of the consumer, likewise.")
            .flatten()
            .unwrap_or_default();
        let max_in_flight = fields.nullable(
            "max_in_flight",
            "Requests of the consumer in flight at once; default: as configured.",
        );
        let tags = fields
            .optional("tags", "Tags for administrators; not sent to the origin.")
            .unwrap_or_default();
        Some(Self {
            bucket,
            name: name?,
            attributes: ConsumerAttributes {
                custom_id: custom_id.flatten(),
                description: description.flatten(),
                metadata: metadata.flatten(),
                scopes,
                allowed_ips,
                plan: plan.flatten(),
                limits,
                quotas,
                max_in_flight: max_in_flight.flatten(),
                tags,
            },
        })
    }
}

impl Body for ConsumerEdit {
    const NAME: Option<&'static str> = Some("ConsumerEdit");

    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            name: fields.optional::<ConsumerName>("name", "New name."),
            custom_id: fields.nullable::<CustomId>("custom_id", "New custom id; null removes it."),
            description: fields
                .nullable::<Description>("description", "New note; null removes it."),
            metadata: fields.nullable::<Metadata>(
                "metadata",
                "New metadata, replaced as a whole; null removes it.",
            ),
            scopes: fields
                .nullable::<Scopes>("scopes", "New list of granted scopes; null for none.")
                .map(Option::unwrap_or_default),
            allowed_ips: fields
                .nullable::<AllowedIps>(
                    "allowed_ips",
                    "New list of allowed addresses; null or empty for any address.",
                )
                .map(Option::unwrap_or_default),
            plan: fields.nullable::<PlanName>("plan", "New plan; null for none."),
            limits: fields
                .nullable::<Rates>(
                    "limits",
                    "New list of rates, replaced as a whole; null for none.",
                )
                .map(Option::unwrap_or_default),
            quotas: fields
                .nullable::<Quotas>(
                    "quotas",
                    "New list of quotas, replaced as a whole; null for none.",
                )
                .map(Option::unwrap_or_default),
            max_in_flight: fields.nullable::<MaxInFlight>(
                "max_in_flight",
                "New number of requests in flight at once; null for that of the configuration.",
            ),
            tags: fields
                .nullable::<Tags>("tags", "New set of tags; null for none.")
                .map(Option::unwrap_or_default),
        })
    }
}

async fn list(call: Call<(), List, ()>) -> Answered {
    let List { filter, page } = &call.query;
    require_bucket(&call.store, filter.bucket.as_ref()).await?;
    let found = call
        .store
        .list_consumers(filter, page.after("csmr_").as_ref(), page.wanted())
        .await?;
    Ok(page.answer(&found, ConsumerView::of, |found| {
        page::cursor(found.created_at, found.id.as_str())
    }))
}

async fn create(call: Call<(), (), NewConsumer>) -> Answered {
    let answer = |made: &StoredConsumer| StoredAnswer {
        location: format!("/v1/consumers/{}", made.id),
        body: text(&ConsumerView::of(made)),
    };
    let made = call
        .store
        .create_consumer_once(call.body, call.creation.as_ref(), answer, &call.stamp)
        .await?;
    Ok(created(made, answer))
}

async fn show(call: Call<ConsumerId, (), ()>) -> Answered {
    Ok(HttpResponse::Ok().json(ConsumerView::of(
        &find::consumer(&call.store, &call.path).await?,
    )))
}

async fn update(call: Call<ConsumerId, (), ConsumerEdit>) -> Answered {
    find::consumer(&call.store, &call.path).await?;
    let after = call
        .store
        .update_consumer(&call.path, call.body, &call.stamp)
        .await?;
    Ok(HttpResponse::Ok().json(ConsumerView::of(&after)))
}

async fn delete(call: Call<ConsumerId, (), ()>) -> Answered {
    let gone = find::consumer(&call.store, &call.path).await?;
    let deleted_keys = call.store.delete_consumer(&call.path, &call.stamp).await?;
    let name = gone.name.as_str();
    Ok(HttpResponse::Ok().json(DeletedConsumerView {
        id: call.path,
        name,
        deleted_keys,
    }))
}
