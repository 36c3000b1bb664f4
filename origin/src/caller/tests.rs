//! Tests of the identity headers, and that none are read without the guard.

use actix_web::body::to_bytes;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, HttpResponse, web};
use serde_json::json;

use super::*;
use crate::{AcceptedSecrets, RequireSharedSecret, Secret};

const GOOD: &str = "current-9f2c51d07be84a63";

fn parsed(lines: &[(&'static str, &str)]) -> Result<Caller, CallerError> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    Caller::parse(&headers)
}

#[test]
fn every_identity_header_reaches_the_handler() {
    let metadata = json!({"plan": "pro", "name": "Zoë"});
    let caller = parsed(&[
        ("x-consumer-id", "csmr_1"),
        ("x-consumer-username", "Zoë"),
        ("x-consumer-custom-id", "4711"),
        ("x-consumer-groups", "read, write,,admin"),
        (
            "x-consumer-metadata",
            &URL_SAFE_NO_PAD.encode(metadata.to_string()),
        ),
        ("x-credential-identifier", "key_1"),
        ("x-request-id", "req-1"),
    ])
    .unwrap();
    let consumer = Consumer {
        id: "csmr_1".to_owned(),
        username: Some("Zoë".to_owned()),
        custom_id: Some("4711".to_owned()),
        scopes: vec!["read".to_owned(), "write".to_owned(), "admin".to_owned()],
        metadata: Some(metadata),
        credential_id: Some("key_1".to_owned()),
    };
    assert_eq!(caller.consumer(), Some(&consumer));
    assert_eq!(caller.request_id(), Some("req-1"));
    assert!(!caller.is_anonymous());
    assert!(
        consumer.has_scope("write")
            && !consumer.has_scope("writ")
            && !consumer.has_scope("read, write")
    );
}

#[test]
fn a_consumer_needs_no_more_than_an_id() {
    for groups in [&[][..], &[("x-consumer-groups", "")]] {
        let caller = parsed(&[&[("x-consumer-id", "csmr_1")], groups].concat()).unwrap();
        let consumer = caller.consumer().unwrap();
        assert_eq!((consumer.id.as_str(), consumer.scopes.len()), ("csmr_1", 0));
        assert_eq!((&consumer.username, &consumer.metadata), (&None, &None));
    }
}

#[test]
fn a_request_without_identity_is_anonymous() {
    for lines in [&[][..], &[("x-anonymous-consumer", "true")]] {
        let caller = parsed(lines).unwrap();
        assert!(caller.is_anonymous());
        assert_eq!((caller.consumer(), caller.request_id()), (None, None));
    }
}

/// Forward-auth proxies copy the gateway's empty headers.
#[test]
fn headers_that_say_nothing_count_for_none() {
    let rest = [
        ("x-consumer-custom-id", ""),
        ("x-consumer-groups", ""),
        ("x-consumer-metadata", ""),
    ];
    let nobody = [
        ("x-consumer-id", ""),
        ("x-consumer-username", ""),
        ("x-credential-identifier", ""),
        ("x-anonymous-consumer", "true"),
    ];
    assert!(
        parsed(&[&nobody[..], &rest].concat())
            .unwrap()
            .is_anonymous()
    );
    let somebody = [
        ("x-consumer-id", "csmr_1"),
        ("x-consumer-username", "acme"),
        ("x-anonymous-consumer", ""),
    ];
    let caller = parsed(&[&somebody[..], &rest].concat()).unwrap();
    let consumer = caller.consumer().unwrap();
    assert_eq!(
        (
            consumer.username.as_deref(),
            &consumer.custom_id,
            &consumer.metadata,
            consumer.scopes.len()
        ),
        (Some("acme"), &None, &None, 0)
    );
}

#[test]
fn identity_that_the_gateway_would_not_send_is_refused() {
    let id = ("x-consumer-id", "csmr_1");
    for (lines, name, fault) in [
        (&[id, id][..], "x-consumer-id", "came more than once"),
        (
            &[id, ("x-consumer-id", "csmr_2")],
            "x-consumer-id",
            "came more than once",
        ),
        (
            &[
                id,
                ("x-consumer-username", "a"),
                ("x-consumer-username", "b"),
            ],
            "x-consumer-username",
            "came more than once",
        ),
        (
            &[
                id,
                ("x-consumer-groups", "read"),
                ("x-consumer-groups", "admin"),
            ],
            "x-consumer-groups",
            "came more than once",
        ),
        (&[("x-consumer-id", "")], "x-consumer-id", "is empty"),
        (
            &[
                ("x-consumer-id", ""),
                ("x-anonymous-consumer", "true"),
                ("x-consumer-groups", "admin"),
            ],
            "x-consumer-groups",
            "came without x-consumer-id",
        ),
        (
            &[("x-consumer-username", "ada")],
            "x-consumer-username",
            "came without x-consumer-id",
        ),
        (
            &[("x-consumer-groups", "admin")],
            "x-consumer-groups",
            "came without x-consumer-id",
        ),
        (
            &[("x-credential-identifier", "key_1")],
            "x-credential-identifier",
            "came without x-consumer-id",
        ),
        (
            &[("x-anonymous-consumer", "false")],
            "x-anonymous-consumer",
            "is neither absent nor `true`",
        ),
        (
            &[id, ("x-anonymous-consumer", "true")],
            "x-anonymous-consumer",
            "came together with x-consumer-id",
        ),
        (
            &[id, ("x-consumer-metadata", "{}")],
            "x-consumer-metadata",
            "is not base64url without padding",
        ),
        (
            &[id, ("x-consumer-metadata", "e30=")],
            "x-consumer-metadata",
            "is not base64url without padding",
        ),
        (
            &[id, ("x-consumer-metadata", "e3")],
            "x-consumer-metadata",
            "is not base64url without padding",
        ),
        (
            &[id, ("x-consumer-metadata", "e30x")],
            "x-consumer-metadata",
            "holds no JSON",
        ),
    ] {
        assert_eq!(
            parsed(lines),
            Err(CallerError::Malformed { name, fault }),
            "{lines:?}"
        );
    }
}

#[test]
fn a_name_that_is_not_utf8_is_refused() {
    let mut headers = HeaderMap::new();
    headers.insert(
        HeaderName::from_static(CONSUMER_ID),
        HeaderValue::from_bytes(b"csmr_\xff").unwrap(),
    );
    assert_eq!(
        Caller::parse(&headers),
        Err(CallerError::Malformed {
            name: CONSUMER_ID,
            fault: "is not UTF-8"
        })
    );
}

#[test]
fn a_request_id_that_cannot_be_logged_is_left_out() {
    assert_eq!(
        parsed(&[("x-request-id", "a"), ("x-request-id", "b")])
            .unwrap()
            .request_id(),
        None
    );
    assert_eq!(parsed(&[("x-request-id", "ë")]).unwrap().request_id(), None);
}

async fn whoami(caller: Caller) -> HttpResponse {
    HttpResponse::Ok().json(caller)
}

fn guard() -> RequireSharedSecret {
    RequireSharedSecret::new(AcceptedSecrets::new(&[Secret::parse(GOOD).unwrap()]))
}

fn from_the_gateway(path: &str) -> TestRequest {
    TestRequest::with_uri(path)
        .insert_header(("x-shared-secret", GOOD))
        .insert_header(("x-consumer-id", "csmr_1"))
}

#[actix_rt::test]
async fn without_the_guard_there_is_no_caller() {
    let unguarded = init_service(App::new().route("/whoami", web::get().to(whoami))).await;
    let response = call_service(&unguarded, from_the_gateway("/whoami").to_request()).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        response.headers().get("content-type").unwrap(),
        "application/problem+json"
    );
    assert_eq!(
        to_bytes(response.into_body()).await.unwrap(),
        r#"{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"Server configuration error","instance":"/whoami","code":"caller_unproven"}"#
    );
}

#[actix_rt::test]
async fn on_an_exempt_path_there_is_no_caller() {
    let app = init_service(
        App::new()
            .route("/whoami", web::get().to(whoami))
            .wrap(guard().exempt("/whoami")),
    )
    .await;
    let response = call_service(&app, from_the_gateway("/whoami").to_request()).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[actix_rt::test]
async fn the_proof_ends_with_its_request() {
    let app = init_service(
        App::new()
            .service(
                web::scope("/guarded")
                    .route("/whoami", web::get().to(whoami))
                    .wrap(guard()),
            )
            .route("/open", web::get().to(whoami)),
    )
    .await;
    for _ in 0..3 {
        let proven = call_service(&app, from_the_gateway("/guarded/whoami").to_request()).await;
        assert_eq!(proven.status(), StatusCode::OK);
        drop(proven);
        // actix reuses the memory of the request before.
        let unproven = call_service(&app, from_the_gateway("/open").to_request()).await;
        assert_eq!(unproven.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}

#[actix_rt::test]
async fn malformed_identity_is_answered_and_names_nothing() {
    let app = init_service(
        App::new()
            .route("/whoami", web::get().to(whoami))
            .wrap(guard()),
    )
    .await;
    let request = from_the_gateway("/whoami")
        .append_header(("x-consumer-id", "csmr_2"))
        .to_request();
    let response = call_service(&app, request).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = to_bytes(response.into_body()).await.unwrap();
    assert!(body.ends_with(
        br#""detail":"Server configuration error","instance":"/whoami","code":"caller_malformed"}"#
    ));
}
