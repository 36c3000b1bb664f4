//! `/v1/consumers`

use actix_web::HttpResponse;
use actix_web::http::Method;
use utoipa::PartialSchema as _;

use crate::admin::body::{Body, Fields};
use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::page::{self, Page};
use crate::admin::problem::{Kind, Problem};
use crate::admin::query::{Parameters, Query, require_bucket};
use crate::admin::{created, text};
use crate::keys::{
    AllowedIps, ConsumerId, ConsumerName, CustomId, Description, Metadata, Scopes, Tags,
};
use crate::store::{
    ConsumerAttributes, ConsumerEdit, ConsumerFilter, NewConsumer, Store, StoredAnswer,
    StoredConsumer,
};
use crate::views::{ConsumerView, DeletedConsumerView};

const TAG: &str = "consumers";

/// The operations on consumers.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let consumer = ConsumerView::schema;
    vec![
        Endpoint::get("/v1/consumers", list)
            .named("list_consumers", TAG, "List consumers")
            .described("Oldest first, of all buckets unless one is named.")
            .answers(200, "A page of consumers.", "ConsumerPage", page::schema("Consumer", page::cursor_schema()))
            .refuses(&[(404, "There is no such bucket.")]),
        Endpoint::create("/v1/consumers", create)
            .named("create_consumer", TAG, "Make a consumer")
            .answers(201, "The consumer that was made.", "Consumer", consumer())
            .refuses(&[(404, "There is no such bucket.")]),
        Endpoint::get("/v1/consumers/{id}", show)
            .named("show_consumer", TAG, "Show a consumer")
            .answers(200, "The consumer.", "Consumer", consumer()),
        Endpoint::write(Method::PATCH, "/v1/consumers/{id}", update)
            .named("update_consumer", TAG, "Change a consumer")
            .described("A merge patch (RFC 7396), except that `metadata` and `tags` are replaced whole. The consumer's keys follow at once.")
            .answers(200, "The consumer as it is now.", "Consumer", consumer())
            .refuses(&[(409, "Another consumer has this name or custom id.")]),
        Endpoint::write(Method::DELETE, "/v1/consumers/{id}", delete)
            .named("delete_consumer", TAG, "Delete a consumer with all its keys")
            .described("Its keys are refused from then on.")
            .answers(200, "What was deleted.", "DeletedConsumer", DeletedConsumerView::schema()),
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
                    "Only consumers of this name: at most one in each bucket.",
                ),
                custom_id: parameters.optional(
                    "custom_id",
                    "Only consumers of this custom id: at most one in each bucket.",
                ),
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
            .optional(
                "bucket",
                "The bucket that it is made in; `default` when missing.",
            )
            .unwrap_or_default();
        let name = fields.required(
            "name",
            "Its name, unique in its bucket and not in the form of an id. The origin sees it.",
        );
        let custom_id = fields.nullable(
            "custom_id",
            "The id that your own system gave it, unique in its bucket. The origin sees it.",
        );
        let description = fields.nullable("description", "A note. The origin does not see it.");
        let metadata = fields.nullable(
            "metadata",
            "What the origin may learn about it: at most 4096 bytes of JSON.",
        );
        let scopes = fields
            .optional("scopes", "What it may do: at most 4096 bytes together.")
            .unwrap_or_default();
        let allowed_ips = fields
            .optional(
                "allowed_ips",
                "Where its keys may be used from: addresses, or ranges such as `192.0.2.0/24`; anywhere when empty.",
            )
            .unwrap_or_default();
        let tags = fields
            .optional(
                "tags",
                "What it is sorted by. The origin does not see them.",
            )
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
                tags,
            },
        })
    }
}

impl Body for ConsumerEdit {
    const NAME: Option<&'static str> = Some("ConsumerEdit");

    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            name: fields.optional::<ConsumerName>("name", "Its new name."),
            custom_id: fields
                .nullable::<CustomId>("custom_id", "Its new custom id; null removes it."),
            description: fields
                .nullable::<Description>("description", "Its new note; null removes it."),
            metadata: fields
                .nullable::<Metadata>("metadata", "Its new metadata, all of it; null removes it."),
            scopes: fields
                .nullable::<Scopes>("scopes", "All that it may do from now on; null is nothing.")
                .map(Option::unwrap_or_default),
            allowed_ips: fields
                .nullable::<AllowedIps>(
                    "allowed_ips",
                    "All that its keys may be used from, from now on; null or empty is anywhere.",
                )
                .map(Option::unwrap_or_default),
            tags: fields
                .nullable::<Tags>("tags", "All its tags from now on; null is none.")
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
    Ok(HttpResponse::Ok().json(ConsumerView::of(&find(&call.store, &call.path).await?)))
}

async fn update(call: Call<ConsumerId, (), ConsumerEdit>) -> Answered {
    find(&call.store, &call.path).await?;
    let after = call
        .store
        .update_consumer(&call.path, call.body, &call.stamp)
        .await?;
    Ok(HttpResponse::Ok().json(ConsumerView::of(&after)))
}

async fn delete(call: Call<ConsumerId, (), ()>) -> Answered {
    let gone = find(&call.store, &call.path).await?;
    let deleted_keys = call.store.delete_consumer(&call.path, &call.stamp).await?;
    let name = gone.name.as_str();
    Ok(HttpResponse::Ok().json(DeletedConsumerView {
        id: call.path,
        name,
        deleted_keys,
    }))
}

/// Loads a consumer, or 404.
pub(super) async fn find(store: &Store, id: &ConsumerId) -> Result<StoredConsumer, Problem> {
    let found = store.consumer(id).await?;
    found.ok_or_else(|| Problem::new(Kind::NotFound, format!("There is no consumer {id}.")))
}
