//! The reference backend: small routes behind the guard that show, also to tests, what arrives at
//! an origin.

mod echo;
mod events;
mod healthcheck;
mod stream;
mod websocket;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::middleware::Logger;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Resource, Responder, guard, web};
use futures_util::future::{Either, join, select};
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;

pub use healthcheck::healthcheck;

use crate::caller::Caller;
use crate::demo::events::Stopping;
use crate::guard::RequireSharedSecret;
use crate::problem::Problem;

/// Default listening address of the reference backend.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9000";
/// The one path that needs no secret.
pub const HEALTH_PATH: &str = "/healthz";

/// Longer than any client keeps an idle connection, so that the gateway closes it and never writes
/// into one that the origin is closing.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time that responses may take after the stop. Below the ten seconds after which container
/// runtimes kill.
const DRAIN_SECONDS: u64 = 8;
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// `ORIGIN_LISTEN` is not an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "ORIGIN_LISTEN is {0:?}: an IP address with a port is needed, such as {DEFAULT_LISTEN} or [::1]:9000"
)]
pub struct ListenError(String);

/// Parses `ORIGIN_LISTEN`; unset or empty means [`DEFAULT_LISTEN`]. Port 0 takes any free port.
///
/// # Errors
/// The text is not an IP address with a port.
pub fn parse_listen(text: Option<&str>) -> Result<SocketAddr, ListenError> {
    let text = text
        .filter(|text| !text.is_empty())
        .unwrap_or(DEFAULT_LISTEN);
    text.parse().map_err(|_| ListenError(text.to_owned()))
}

/// Serves the reference backend on `listener` behind `guard` until `stop` is ready. Then accepts no
/// more connections, ends event streams, and waits at most eight seconds for running responses.
///
/// Logs `listening on http://…` with the bound address.
///
/// # Errors
/// The listener cannot be used.
pub async fn run(
    listener: TcpListener,
    guard: RequireSharedSecret,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let guard = guard.exempt(HEALTH_PATH);
    let (stopper, stopping) = Stopping::channel();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(stopping.clone()))
            .configure(routes)
            .default_service(web::to(no_such_path))
            .wrap(access_log())
            .wrap(guard.clone())
    })
    .keep_alive(KEEP_ALIVE)
    // Otherwise a stream continues for a client that has left.
    .h1_allow_half_closed(false)
    .shutdown_timeout(DRAIN_SECONDS)
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    log::info!("listening on http://{address}");
    match select(pin!(server), pin!(stop)).await {
        Either::Left((ended, _)) => ended,
        Either::Right(((), server)) => {
            log::info!("stopping");
            stopper.stop();
            join(server, handle.stop(true)).await.0
        }
    }
}

/// One line per admitted request. Omits the query: people put secrets there.
fn access_log() -> Logger {
    Logger::new("%a %{method}xi %U %s %b bytes %D ms %{x-request-id}i")
        .custom_request_replace("method", |request| request.method().to_string())
        .log_target("origin::access")
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .service(read("/protected", protected))
        .service(read("/whoami", whoami))
        .service(read(HEALTH_PATH, healthy))
        .service(read("/events", events::events))
        .service(read("/slow", slow))
        .service(read("/bytes/{length}", stream::bytes))
        .service(web::resource("/status/{code}").to(status))
        .service(web::resource(["/echo", "/echo/{rest:.*}"]).to(echo::echo))
        .service(web::resource("/ws").route(web::get().to(websocket::echo)));
}

/// A resource for GET and HEAD.
fn read<F, Args>(path: &str, handler: F) -> Resource
where
    F: actix_web::Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path).route(
        web::route()
            .guard(guard::Any(guard::Get()).or(guard::Head()))
            .to(handler),
    )
}

async fn protected() -> impl Responder {
    web::Json(json!({"message": "Access granted"}))
}

async fn whoami(caller: Caller) -> impl Responder {
    web::Json(json!({
        "anonymous": caller.is_anonymous(),
        "consumer": caller.consumer(),
        "request_id": caller.request_id(),
    }))
}

async fn healthy() -> impl Responder {
    web::Json(json!({"status": "ok"}))
}

#[derive(Deserialize)]
struct Pause {
    #[serde(default)]
    ms: u64,
}

async fn slow(pause: web::Query<Pause>) -> HttpResponse {
    let pause = Duration::from_millis(pause.ms);
    if pause > LONGEST_PAUSE {
        return bad_request("/slow", "ms is at most 600000");
    }
    actix_rt::time::sleep(pause).await;
    HttpResponse::Ok().json(json!({"slept_ms": pause.as_millis()}))
}

async fn status(request: HttpRequest, code: web::Path<u16>) -> HttpResponse {
    // A status below 200 is not final: a client would wait for another response.
    match StatusCode::from_u16(*code) {
        Ok(status) if (200..600).contains(&*code) => match status {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => {
                HttpResponse::build(status).finish()
            }
            _ => HttpResponse::build(status).json(json!({"status": *code})),
        },
        _ => bad_request(request.path(), "the status is between 200 and 599"),
    }
}

async fn no_such_path(request: HttpRequest) -> HttpResponse {
    Problem {
        status: StatusCode::NOT_FOUND,
        code: "not_found",
        detail: "No such path",
    }
    .respond(request.path())
}

fn bad_request(path: &str, detail: &'static str) -> HttpResponse {
    Problem {
        status: StatusCode::BAD_REQUEST,
        code: "bad_request",
        detail,
    }
    .respond(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listen_address_is_an_ip_address_with_a_port() {
        for (text, wanted) in [
            (None, Some("127.0.0.1:9000")),
            (Some(""), Some("127.0.0.1:9000")),
            (Some("0.0.0.0:80"), Some("0.0.0.0:80")),
            (Some("[::1]:0"), Some("[::1]:0")),
            (Some("9000"), None),
            (Some("localhost"), None),
            (Some("127.0.0.1"), None),
            (Some("127.0.0.1:65536"), None),
            (Some("http://127.0.0.1:9000"), None),
        ] {
            assert_eq!(
                parse_listen(text).ok(),
                wanted.and_then(|wanted| wanted.parse().ok()),
                "{text:?}"
            );
        }
    }
}
