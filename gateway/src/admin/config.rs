//! `/v1/config` and `/v1/reload`: the settings in force, and new ones. The settings themselves are
//! written in the files only: a second writer would contradict the first.

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::ETAG;
use utoipa::PartialSchema as _;

use crate::admin::endpoint::{Answered, Endpoint, Recall};
use crate::admin::problem::{FieldError, Kind, Problem};
use crate::admin::query::{Parameters, Query};
use crate::reload::view::{ConfigView, ReloadView};
use crate::reload::{Outcome, Reloads};

/// Returns the operations on settings.
pub(super) fn endpoints() -> [Endpoint; 2] {
    [
        Endpoint::recall(Method::GET, "/v1/config", show)
            .named("show_config", "operations", "Show the settings in force")
            .described(
                "Of the answering gateway, each with its source; secrets are redacted. `files` tells how the last reading of the files \
                 ended.",
            )
            .answers(200, "The settings.", "Config", ConfigView::schema())
            .made_of::<ConfigView<'_>>(),
        Endpoint::recall(Method::POST, "/v1/reload", reload)
            .named("reload", "operations", "Read the settings again and put them in force")
            .described(
                "The answering gateway reads its files now, and answers once the new settings are in force. Requests that come \
                 together share one reading. Nothing changes if the files are refused.",
            )
            .answers(200, "The files can be used.", "Reload", ReloadView::schema())
            .with_if_match("Hash that the settings in force must have, as `ETag` of `/v1/config` has it.")
            .refuses(&[
                (412, "The settings in force are not those of `If-Match`."),
                (422, "The files are refused; `errors` has every problem."),
            ]),
    ]
}

async fn show(call: Recall<()>) -> Answered {
    let reloads = reloads(&call)?;
    let (running, last) = (reloads.running(), reloads.last());
    let etag = format!("\"{}\"", running.hash);
    Ok(HttpResponse::Ok()
        .insert_header((ETAG, etag))
        .json(ConfigView::of(&running, &last)))
}

fn reloads<P, Q>(call: &Recall<P, Q>) -> Result<&Reloads, Problem> {
    let failed = || Problem::new(Kind::Internal, "The gateway failed.");
    call.operations.reloads().ok_or_else(failed)
}

struct ReloadQuery {
    dry_run: bool,
}

impl Query for ReloadQuery {
    fn read(parameters: &mut Parameters) -> Self {
        let meaning = "Whether to read and compare only; default: false.";
        Self {
            dry_run: parameters.optional("dry_run", meaning).unwrap_or_default(),
        }
    }
}

async fn reload(call: Recall<(), ReloadQuery>) -> Answered {
    let answer = reloads(&call)?
        .call(call.query.dry_run, call.expected.clone())
        .await;
    let stopping = || {
        let detail = "The gateway is stopping and reads no settings any more.";
        Problem::new(Kind::GatewayStopping, detail)
    };
    let answer = answer.ok_or_else(stopping)?;
    if let Some(view) = ReloadView::of(&answer) {
        return Ok(HttpResponse::Ok().json(view));
    }
    Err(match answer.outcome {
        Outcome::Refused(problems) => {
            let detail = "The settings in the files are refused; those in force stay.";
            let errors = problems.iter().map(|problem| FieldError {
                pointer: None,
                parameter: None,
                detail: problem.to_string(),
            });
            Problem::new(Kind::SettingsRefused, detail).with(errors.collect())
        }
        Outcome::Mismatch => Problem::new(
            Kind::SettingsChanged,
            format!("The hash of the settings in force is {}.", answer.hash),
        ),
        _ => stopping(),
    })
}
