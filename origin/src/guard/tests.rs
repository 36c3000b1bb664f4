//! Cases that the vectors over real sockets cannot cover: the setup from the environment, and the
//! request that a handler sees.

use std::cell::Cell;
use std::rc::Rc;

use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, HttpRequest, HttpResponse, web};

use super::*;

const GOOD: &str = "current-9f2c51d07be84a63";
const OTHER: &str = "previous-1d07be84a639f2c5";

/// Which secrets the guard accepts, or why there is no guard.
fn set_up(variables: &[(&str, &str)]) -> Result<[bool; 2], String> {
    RequireSharedSecret::from_sources(
        |name| {
            variables
                .iter()
                .find(|(variable, _)| *variable == name)
                .map(|(_, value)| OsString::from(value))
        },
        |path| match path {
            "/good" => Ok(format!("{GOOD}\n").into_bytes()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
    )
    .map(|guard| {
        [
            guard.accepted.matches(GOOD.as_bytes()),
            guard.accepted.matches(OTHER.as_bytes()),
        ]
    })
    .map_err(|error| error.to_string())
}

#[test]
fn secrets_come_from_variables_and_files() {
    for (variables, wanted) in [
        (&[][..], [false, false]),
        (&[("SHARED_SECRET", "")], [false, false]),
        (&[("SHARED_SECRET", GOOD)], [true, false]),
        (&[("SHARED_SECRET_FILE", "/good")], [true, false]),
        (
            &[
                ("SHARED_SECRET", OTHER),
                ("SHARED_SECRET_PREVIOUS_FILE", "/good"),
            ],
            [true, true],
        ),
        (&[("SHARED_SECRET_PREVIOUS", OTHER)], [false, false]),
    ] {
        assert_eq!(set_up(variables), Ok(wanted), "{variables:?}");
    }
}

#[test]
fn an_unusable_secret_is_an_error_that_names_the_variable_and_not_the_secret() {
    for (variables, start) in [
        (
            &[("SHARED_SECRET", "k8Zp3vQ9")][..],
            "SHARED_SECRET: the secret has 8 bytes",
        ),
        (
            &[("SHARED_SECRET", "changeme-changeme")],
            "SHARED_SECRET: the secret is a placeholder",
        ),
        (
            &[
                ("SHARED_SECRET", GOOD),
                ("SHARED_SECRET_PREVIOUS", "k8Zp3vQ9"),
            ],
            "SHARED_SECRET_PREVIOUS: the secret has 8 bytes",
        ),
        (
            &[("SHARED_SECRET_PREVIOUS", "k8Zp3vQ9")],
            "SHARED_SECRET_PREVIOUS: the secret has 8 bytes",
        ),
        (
            &[("SHARED_SECRET", GOOD), ("SHARED_SECRET_FILE", "/good")],
            "SHARED_SECRET and SHARED_SECRET_FILE are both set",
        ),
        (
            &[("SHARED_SECRET_FILE", "/absent")],
            "SHARED_SECRET_FILE names \"/absent\", which cannot be read",
        ),
    ] {
        let error = set_up(variables).unwrap_err();
        assert!(error.starts_with(start), "{error}");
        assert!(!error.contains("k8Zp") && !error.contains(GOOD), "{error}");
    }
}

fn guard() -> RequireSharedSecret {
    RequireSharedSecret::from_sources(
        |name| (name == CURRENT).then(|| GOOD.into()),
        |_| Ok(Vec::new()),
    )
    .unwrap()
}

#[test]
fn only_plain_paths_can_be_exempt() {
    for path in [
        "",
        "healthz",
        "/health%7a",
        "/healthz?x",
        "/a/../b",
        "/a;b",
        "/{any}",
    ] {
        assert!(guard().exempt(path).exempt.is_empty(), "{path}");
    }
    assert_eq!(
        guard().exempt("/healthz").exempt("/a/b-c_d").exempt,
        ["/healthz", "/a/b-c_d"]
    );
}

#[test]
fn debug_shows_no_secret() {
    assert!(!format!("{:?}", guard()).contains("9f2c51"));
}

/// Privileged header names that a handler finds.
async fn privileged_names(request: HttpRequest) -> HttpResponse {
    let mut names: Vec<_> = request
        .headers()
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| headers::is_privileged(name))
        .collect();
    names.sort_unstable();
    HttpResponse::Ok().body(names.join(" "))
}

#[actix_rt::test]
async fn handlers_see_no_secret_and_identity_only_where_it_is_proven() {
    let app = init_service(
        App::new()
            .route("/guarded", web::get().to(privileged_names))
            .route("/healthz", web::get().to(privileged_names))
            .wrap(guard().exempt("/healthz")),
    )
    .await;
    for (path, wanted) in [
        ("/guarded", "x-consumer-groups x-consumer-id"),
        ("/healthz", ""),
    ] {
        let request = TestRequest::get()
            .uri(path)
            .insert_header(("X-Shared-Secret", GOOD))
            .insert_header(("x_shared_secret", GOOD))
            .insert_header(("x.shared-secret", GOOD))
            .insert_header(("x-consumer-id", "csmr_1"))
            .insert_header(("x-consumer-groups", "read"))
            .insert_header(("x_consumer_groups", "admin"))
            .insert_header(("x-consumer-role", "admin"))
            .insert_header(("x_credential_scope", "all"))
            .to_request();
        let response = call_service(&app, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(actix_web::test::read_body(response).await, wanted, "{path}");
    }
}

#[actix_rt::test]
async fn a_refusal_is_an_answer_and_reaches_no_handler() {
    let called = Rc::new(Cell::new(false));
    let seen = Rc::clone(&called);
    let app = init_service(
        App::new()
            .default_service(web::to(move || {
                seen.set(true);
                async { HttpResponse::Ok().finish() }
            }))
            .wrap(guard()),
    )
    .await;
    // `call_service` panics on an `Err`.
    let response = call_service(
        &app,
        TestRequest::post().uri("/any?key=hidden").to_request(),
    )
    .await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        response.headers().get("www-authenticate").unwrap(),
        "SharedSecret realm=\"origin\""
    );
    let body = actix_web::test::read_body(response).await;
    assert_eq!(
        body,
        r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"No secret provided","instance":"/any","code":"shared_secret_missing"}"#
    );
    assert!(!called.get());
}

#[actix_rt::test]
async fn a_guard_without_secrets_refuses_even_an_empty_header() {
    let app =
        init_service(App::new().wrap(RequireSharedSecret::new(AcceptedSecrets::default()))).await;
    for value in ["", "anything"] {
        let request = TestRequest::get()
            .insert_header(("x-shared-secret", value))
            .to_request();
        let response = call_service(&app, request).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            response.headers().get("x-origin-guard").unwrap(),
            "unconfigured"
        );
        assert!(!response.headers().contains_key("www-authenticate"));
    }
}
