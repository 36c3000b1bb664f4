//! `/v1/brake`: the brake on bad keys of this gateway. Answered from its memory.

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::Method;
use serde::Serialize;
use utoipa::{PartialSchema as _, ToSchema};

use crate::admin::endpoint::{Answered, Endpoint, Recall};
use crate::admin::path::AddressPath;
use crate::admin::problem::{Kind, Problem};
use crate::keys::{CallerAddress, KeyId, UnixMillis};
use crate::limits::brake::OverSubject;
use crate::views::schemas;

/// Most subjects of a list.
const MAX_LISTED: usize = 100;

/// Returns the operations on the brake.
pub(super) fn endpoints() -> [Endpoint; 2] {
    [
        Endpoint::recall(Method::GET, "/v1/brake", list)
            .named("list_braked", "brake", "List who is braked for bad keys")
            .described(
                "Addresses, and ended keys at an address, that are over their allowance of failures on this gateway: up to 100, \
                 those with the most refused requests first.",
            )
            .answers(200, "The subjects.", "BrakedList", BrakedList::schema())
            .made_of::<BrakedList>(),
        Endpoint::recall(Method::DELETE, "/v1/brake/{address}", clear)
            .named("clear_brake", "brake", "Forgive an address its failures")
            .described(
                "Those of the address, of its network, and of ended keys used from it, on this gateway. `unknown` is the subject of \
                 requests without a known address.",
            )
            .answers(200, "The subjects that were braked.", "BrakedList", BrakedList::schema()),
    ]
}

/// Subjects that are braked.
#[derive(Serialize, ToSchema)]
struct BrakedList {
    /// The subjects.
    data: Vec<BrakedSubject>,
}

/// An address, or an ended key at an address, that is over its allowance of failures.
#[derive(Serialize, ToSchema)]
struct BrakedSubject {
    /// Address or network; `unknown` for requests without a known address.
    #[schema(min_length = 2, max_length = 49)]
    address: String,
    /// The ended key that alone is braked; null where unknown keys are.
    #[schema(required, schema_with = schemas::key_id_or_null)]
    key_id: Option<KeyId>,
    /// Time of the first refused request.
    #[schema(schema_with = schemas::moment)]
    since: UnixMillis,
    /// Time at which everything is forgiven, if nothing more fails.
    #[schema(schema_with = schemas::moment)]
    until: UnixMillis,
    /// Refused requests since then.
    requests: u64,
    /// False if the requests were only counted, since `brake.enforce` is false.
    enforced: bool,
}

impl BrakedList {
    fn of(over: Vec<OverSubject>) -> Self {
        let now = UnixMillis::now();
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let data = over.into_iter().map(|over| BrakedSubject {
            address: match over.subject.network {
                Some(network) => network.to_string(),
                None => AddressPath::UNKNOWN.to_owned(),
            },
            key_id: over.subject.key,
            since: UnixMillis(now.0.saturating_sub(millis(over.since))),
            until: UnixMillis(now.0.saturating_add(millis(over.left))),
            requests: over.requests,
            enforced: over.enforced,
        });
        Self {
            data: data.collect(),
        }
    }
}

async fn list(recall: Recall<()>) -> Answered {
    let over = recall.operations.brake().over(MAX_LISTED, Instant::now());
    Ok(HttpResponse::Ok().json(BrakedList::of(over)))
}

async fn clear(recall: Recall<AddressPath>) -> Answered {
    let AddressPath(address) = recall.path;
    let brake = recall.operations.brake();
    let (over, any) = brake.forgive(address, Instant::now());
    if !any {
        return Err(Problem::new(
            Kind::NotFound,
            "Nothing is counted against this address.",
        ));
    }
    let shown = match address {
        CallerAddress::Known(address) => address.to_string(),
        CallerAddress::Unknown => AddressPath::UNKNOWN.to_owned(),
    };
    log::info!("brake: {} forgave the failures of {shown}", recall.operator);
    Ok(HttpResponse::Ok().json(BrakedList::of(over)))
}
