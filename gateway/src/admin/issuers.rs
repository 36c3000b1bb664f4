//! `/v1/issuers`: issuers of tokens and their keys, as this gateway has them. Answered from its
//! memory.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::Method;
use serde::Serialize;
use utoipa::{PartialSchema as _, ToSchema};

use crate::admin::endpoint::{Answered, Endpoint, Recall};
use crate::admin::path::IssuerPath;
use crate::admin::problem::{Kind, Problem};
use crate::auth::jwt::{Issuer, KeyOrigin, KeySource};
use crate::control::issuer_keys::is_published;
use crate::keys::UnixMillis;
use crate::views::schemas;

/// Returns the operations on issuers.
pub(super) fn endpoints() -> [Endpoint; 2] {
    [
        Endpoint::recall(Method::GET, "/v1/issuers", list)
            .named("list_issuers", "operations", "List the issuers of tokens")
            .described("With their keys, as this gateway has them.")
            .answers(200, "The issuers.", "IssuerList", IssuerList::schema())
            .made_of::<IssuerList>(),
        Endpoint::recall(Method::POST, "/v1/issuers/{name}/refresh", refresh)
            .named("refresh_issuer", "operations", "Fetch the keys of an issuer now")
            .described(
                "This gateway fetches them, and answers once it has. Those that it had stay where that fails, and `problem` says why. \
                 Keys of a file follow their file.",
            )
            .answers(200, "The issuer.", "Issuer", IssuerView::schema()),
    ]
}

/// Issuers of tokens.
#[derive(Serialize, ToSchema)]
struct IssuerList {
    /// The issuers, in the order of the settings.
    data: Vec<IssuerView>,
}

/// An issuer of tokens, and its keys.
#[derive(Serialize, ToSchema)]
struct IssuerView {
    /// Name in the settings.
    #[schema(min_length = 1, max_length = 63)]
    name: String,
    /// `iss` of its tokens.
    #[schema(min_length = 1, max_length = 512)]
    issuer: String,
    /// Where the keys come from.
    source: Source,
    /// Algorithms that its tokens may be signed with.
    algorithms: Vec<&'static str>,
    /// Its keys; empty before they are fetched.
    #[schema(max_items = 100)]
    keys: Vec<KeyView>,
    /// Where the keys that serve were taken from; null without keys.
    #[schema(required)]
    keys_from: Option<KeysFrom>,
    /// When the keys were fetched, or read from their file; null before.
    #[schema(required, schema_with = schemas::moment_or_null)]
    fetched_at: Option<UnixMillis>,
    /// Until when they serve, if they cannot be fetched again; null for keys of a file.
    #[schema(required, schema_with = schemas::moment_or_null)]
    good_until: Option<UnixMillis>,
    /// Why the last fetch failed; null if it did not.
    #[schema(required)]
    problem: Option<String>,
}

/// Where keys come from.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// Discovery.
    Discovery,
    /// A URL.
    Url,
    /// A file with keys or a secret.
    File,
}

/// Where the keys that serve were taken from.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum KeysFrom {
    /// A file of the settings.
    File,
    /// The provider.
    Provider,
    /// The snapshot on disk, since the provider was not reached since the start.
    Snapshot,
}

/// A key of an issuer.
#[derive(Serialize, ToSchema)]
struct KeyView {
    /// Its `kid`.
    #[schema(required)]
    id: Option<String>,
    /// Its kind, such as `RSA-2048` or `P-256`.
    kind: String,
}

impl IssuerView {
    fn of(issuer: &Issuer) -> Self {
        let (rules, state) = (issuer.rules(), issuer.keys().state());
        let keys = state.iter().flat_map(|state| state.set.iter());
        Self {
            name: issuer.name().to_owned(),
            issuer: rules.issuer.to_string(),
            source: match &rules.keys {
                KeySource::Discovery => Source::Discovery,
                KeySource::Url(_) => Source::Url,
                KeySource::Fixed(_) => Source::File,
            },
            algorithms: rules
                .algorithms
                .iter()
                .map(|algorithm| algorithm.as_str())
                .collect(),
            keys: keys
                .map(|key| KeyView {
                    id: key.id().map(str::to_owned),
                    kind: key.kind(),
                })
                .collect(),
            keys_from: state.as_ref().map(|state| match state.origin {
                KeyOrigin::Settings => KeysFrom::File,
                KeyOrigin::Provider => KeysFrom::Provider,
                KeyOrigin::Snapshot => KeysFrom::Snapshot,
            }),
            fetched_at: state.as_ref().map(|state| state.fetched_at),
            good_until: state.as_ref().and_then(|state| state.good_until),
            problem: issuer
                .keys()
                .problem()
                .map(|problem| problem.message.clone()),
        }
    }
}

async fn list(recall: Recall<()>) -> Answered {
    let data = match recall.operations.policy() {
        Some(policy) => policy
            .issuers
            .iter()
            .map(|issuer| IssuerView::of(issuer))
            .collect(),
        None => Vec::new(),
    };
    Ok(HttpResponse::Ok().json(IssuerList { data }))
}

async fn refresh(recall: Recall<IssuerPath>) -> Answered {
    let IssuerPath(name) = &recall.path;
    let policy = recall.operations.policy();
    let issuer = policy.and_then(|policy| policy.issuers.by_name(name).map(Arc::clone));
    let issuer =
        issuer.ok_or_else(|| Problem::new(Kind::NotFound, "There is no issuer of this name."))?;
    if is_published(&issuer) {
        log::info!(
            "issuer {}: {} has its keys fetched",
            issuer.name(),
            recall.operator
        );
        // The view has the cause of a failure.
        let _ = issuer.keys().refresh().await;
    }
    Ok(HttpResponse::Ok().json(IssuerView::of(&issuer)))
}
