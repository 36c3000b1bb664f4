//! `POST /v1/leaks`: reports of leaked keys, from a holder of a token or from GitHub's secret
//! scanning, whose signature replaces the token.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, Route, guard, web};
use utoipa::PartialSchema as _;

use crate::admin::Operations;
use crate::admin::body::{self, Body, Fields};
use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::member::PresentedKey;
use crate::admin::problem::{FieldError, Kind, Problem};
use crate::keys::{Description, KeyDigest, Prefix, check_shape};
use crate::leaks::github::{Feedback, Found, KEY_IDENTIFIER, Label, Proof, SIGNATURE};
use crate::leaks::notice;
use crate::leaks::place::{FoundKey, place};
use crate::leaks::public_keys::{GithubKeys, Unverified};
use crate::store::{Actor, Leak, LeakOutcome, Stamp, Store};
use crate::views::LeakView;

/// Path of the endpoint.
const PATH: &str = "/v1/leaks";
/// Maximum size of a report by GitHub, in bytes.
const MAX_REPORT_BYTES: usize = 1024 * 1024;
/// Deadline for receiving a report.
const REPORT_DEADLINE: Duration = Duration::from_secs(10);
/// Maximum length of the texts kept from a report by GitHub, in characters.
const MAX_LOCATION_CHARS: usize = 1024;

/// Describes the operation.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::write(Method::POST, PATH, report)
        .named("report_leak", "keys", "Report a leaked key")
        .described(
            "Applies the policy of the key's bucket, see `leak_policy`. Also accepts reports of GitHub's secret scanning partner program: an array with a signature instead of the token.",
        )
        .answers(200, "The result of the report.", "LeakOutcome", LeakView::schema())
        .alternative(Route::new().guard(guard::fn_guard(|context| is_signed(context.head().headers()))).method(Method::POST).to(from_github))
}

/// Returns whether a request is a report by GitHub, without a token: only [`from_github`] handles
/// it.
pub(super) fn is_report(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    method == Method::POST && path == PATH && is_signed(headers)
}

fn is_signed(headers: &HeaderMap) -> bool {
    headers.contains_key(SIGNATURE)
}

struct NewLeak {
    digest: Option<KeyDigest>,
    key: Option<PresentedKey>,
    url: Option<Description>,
    source: Option<Description>,
}

impl Body for NewLeak {
    const NAME: Option<&'static str> = Some("NewLeak");
    const KEYS: &'static [&'static str] = &["key"];

    fn read(fields: &mut Fields) -> Option<Self> {
        fields.either("sha256", "key", &[]);
        let digest = fields.optional(
            "sha256",
            "SHA-256 of the leaked key, in hexadecimal digits; alternative to `key`.",
        );
        let key = fields.optional(
            "key",
            "The leaked key, neither stored nor logged; alternative to `sha256`.",
        );
        let url = fields.optional("url", "URL of the leak.");
        let source = fields.optional("source", "Kind of the source, for example `commit`.");
        Some(Self {
            digest,
            key,
            url,
            source,
        })
    }
}

async fn report(call: Call<(), (), NewLeak>) -> Answered {
    let NewLeak {
        digest,
        key,
        url,
        source,
    } = call.body;
    let found = match (&key, digest) {
        (Some(key), _) => FoundKey::Plain(key.expose()),
        (None, Some(digest)) => FoundKey::Digest(digest),
        // Refused while reading the body.
        (None, None) => FoundKey::Plain(""),
    };
    let mut errors = Vec::new();
    let mut kept = |pointer: &str, text: Option<Description>| {
        let kept = place(text.as_ref()?.as_str(), found, &call.prefix);
        kept.map_err(|error| errors.push(FieldError::at(pointer, error.to_string())))
            .ok()
            .map(str::to_owned)
    };
    let (url, source) = (kept("/url", url), kept("/source", source));
    if !errors.is_empty() {
        return Err(Problem::new(
            Kind::InvalidBody,
            "The report of a key must not contain the key elsewhere; see errors.",
        )
        .with(errors));
    }
    // A text that cannot be a key matches no key.
    let outcome = match digest.or_else(|| key.and_then(|key| key.digest(&call.prefix))) {
        Some(digest) => {
            report_to(
                &call.store,
                &Leak {
                    digest,
                    url,
                    source,
                },
                &call.stamp,
            )
            .await?
        }
        None => None,
    };
    Ok(HttpResponse::Ok().json(LeakView::of(outcome.as_ref(), call.stamp.at)))
}

async fn from_github(request: HttpRequest, payload: web::Payload) -> Answered {
    let failed = || Problem::new(Kind::Internal, "The gateway failed.");
    let operations = request
        .app_data::<web::Data<Operations>>()
        .ok_or_else(failed)?;
    let keys = request.app_data::<Rc<GithubKeys>>().ok_or_else(failed)?;
    // Anyone can send this. Nothing is buffered before a public key is known, and little, briefly,
    // before the signature is verified.
    let (identifier, signature) = (one(&request, KEY_IDENTIFIER)?, one(&request, SIGNATURE)?);
    let proof = Proof::parse(identifier, signature).map_err(|error| refuse(error.into()))?;
    let turn = keys.begin(&proof).await.map_err(refuse)?;
    let reading = body::collect_within(REPORT_DEADLINE, MAX_REPORT_BYTES, &request, payload);
    let text = turn.read(reading).await.map_err(refuse)??;
    turn.verify(&proof, &text)
        .map_err(|error| refuse(error.into()))?;
    let found: Vec<Found> = serde_json::from_slice(&text).map_err(|_| {
        let errors = vec![FieldError::at(
            "",
            "a report is an array of objects, each with a `token`",
        )];
        Problem::new(Kind::InvalidBody, "The body is not what GitHub sends.").with(errors)
    })?;
    operations
        .with_store(async |store| {
            let stamp = stamp(request.peer_addr().map(|address| address.ip()));
            let mut feedback = Vec::with_capacity(found.len());
            for found in found {
                let digest = KeyDigest::of(found.token.as_bytes());
                let is_key = check_shape(found.token.as_bytes(), operations.prefix()).is_ok();
                let outcome = if is_key {
                    report_to(&store, &found.leak(digest, operations.prefix()), &stamp).await?
                } else {
                    None
                };
                let label = if outcome.is_some() {
                    Label::TruePositive
                } else {
                    Label::FalsePositive
                };
                feedback.push(Feedback {
                    token_hash: digest.to_hex(),
                    token_type: found.kind,
                    label,
                });
            }
            Ok(HttpResponse::Ok().json(feedback))
        })
        .await
}

/// Applies the bucket's policy, and logs the leak.
async fn report_to(
    store: &Store,
    leak: &Leak,
    stamp: &Stamp,
) -> Result<Option<LeakOutcome>, Problem> {
    let outcome = store.report_leak(leak, stamp).await?;
    if let Some(outcome) = &outcome {
        notice::log(leak, outcome, &stamp.actor);
    }
    Ok(outcome)
}

fn stamp(address: Option<IpAddr>) -> Stamp {
    Stamp {
        source: address,
        ..Stamp::now(Actor::github())
    }
}

fn refuse(error: Unverified) -> Problem {
    match error {
        Unverified::NotConfigured | Unverified::NotFromGithub(_) => {
            log::warn!("a report of leaked keys was refused: {error}");
            Problem::new(
                Kind::SignatureInvalid,
                "The signature of the report is not GitHub's.",
            )
        }
        Unverified::Busy => {
            log::warn!("a report of leaked keys was postponed: {error}");
            Problem::new(
                Kind::TooManyReports,
                "Other reports arrived while this one did. Try again shortly.",
            )
        }
        Unverified::Unavailable(_) => {
            log::error!("a report of leaked keys cannot be verified: {error}");
            Problem::new(
                Kind::PublicKeysUnavailable,
                "The public keys for the signature are unavailable at the moment.",
            )
        }
    }
}

fn one<'r>(request: &'r HttpRequest, name: &'static str) -> Result<&'r str, Problem> {
    let mut values = request.headers().get_all(HeaderName::from_static(name));
    let value = match (values.next().map(HeaderValue::to_str), values.next()) {
        (Some(Ok(value)), None) => Some(value),
        _ => None,
    };
    value.ok_or_else(|| {
        Problem::new(
            Kind::SignatureInvalid,
            format!("The header {name} has to be there once."),
        )
    })
}

impl Found {
    fn leak(&self, digest: KeyDigest, prefix: &Prefix) -> Leak {
        let kept = |text: &str| {
            let shown: String = text
                .chars()
                .filter(|char| !char.is_control())
                .take(MAX_LOCATION_CHARS)
                .collect();
            // A dropped part could have separated two pieces of a key, and the cut could split one.
            let has_none = |text| place(text, FoundKey::Plain(&self.token), prefix).is_ok();
            let is_kept = !shown.is_empty() && has_none(text) && has_none(&shown);
            is_kept.then_some(shown)
        };
        Leak {
            digest,
            url: kept(&self.url),
            source: kept(&self.source),
        }
    }
}
