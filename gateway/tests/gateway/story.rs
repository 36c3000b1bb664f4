//! The story: who gets in, who does not, and what each is told.

use crate::client::{exchange, get};
use crate::origin::Origin;
use crate::rig::{Rig, SECRET};
use crate::running::eventually;

#[test]
fn a_valid_key_reaches_the_origin_with_proof_and_identity_and_without_the_key() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    rig.done(&[
        "consumers",
        "create",
        "acme",
        "--custom-id",
        "crm-7",
        "--scope",
        "read",
        "--scope",
        "write",
    ]);
    let key = rig.key("acme", &[]);
    let before = origin.arrived().len();

    let response = get(
        rig.public,
        "/a/b?c=d&e",
        &[&key.header(), "accept: text/plain"],
    );

    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    let arrived = origin.arrived().split_off(before);
    let [arrived] = &arrived[..] else {
        panic!("{arrived:?}")
    };
    assert_eq!(arrived.line, "GET /a/b?c=d&e HTTP/1.1");
    assert_eq!(arrived.one("x-shared-secret"), Some(SECRET));
    assert_eq!(arrived.one("x-consumer-username"), Some("acme"));
    assert_eq!(arrived.one("x-consumer-custom-id"), Some("crm-7"));
    assert_eq!(arrived.one("x-consumer-groups"), Some("read,write"));
    assert!(arrived.one("x-consumer-id").unwrap().starts_with("csmr_"));
    assert_eq!(
        arrived.one("x-credential-identifier"),
        Some(key.id.as_str())
    );
    assert_eq!(arrived.one("x-anonymous-consumer"), None);
    assert_eq!(arrived.one("authorization"), None);
    assert_eq!(arrived.one("accept"), Some("text/plain"));
    assert_eq!(
        arrived.one("host"),
        Some(origin.address.to_string().as_str())
    );
    assert_eq!(arrived.one("x-request-id"), response.header("x-request-id"));
    assert!(
        !arrived
            .headers
            .iter()
            .any(|(_, value)| value.contains(&key.key)),
        "{arrived:?}"
    );
}

#[test]
fn every_bad_credential_is_refused_before_the_origin_hears_of_it() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let reached = origin.arrived().len();
    let changed = format!(
        "authorization: Bearer {}{}",
        &key.key[..key.key.len() - 1],
        if key.key.ends_with('a') { 'b' } else { 'a' }
    );
    let long = format!("authorization: Bearer {}", "a".repeat(10_000));
    let valid = key.header();
    for (lines, status, code, challenge) in [
        (
            &[][..],
            401,
            "api_key_missing",
            Some("Bearer realm=\"postern\""),
        ),
        (
            &["authorization: Basic dXNlcjpwYXNz"],
            401,
            "api_key_missing",
            Some("Bearer realm=\"postern\""),
        ),
        (
            &["authorization: Bearer"],
            401,
            "api_key_invalid",
            Some("error=\"invalid_token\""),
        ),
        (
            &["authorization: Bearer "],
            401,
            "api_key_invalid",
            Some("error=\"invalid_token\""),
        ),
        (
            &["authorization: Bearer wrong"],
            401,
            "api_key_invalid",
            Some("error=\"invalid_token\""),
        ),
        (
            &["authorization: Bearer caf\u{e9}"],
            401,
            "api_key_invalid",
            Some("error=\"invalid_token\""),
        ),
        (
            &[&changed],
            401,
            "api_key_invalid",
            Some("error=\"invalid_token\""),
        ),
        (
            &[&long],
            401,
            "api_key_invalid",
            Some("error=\"invalid_token\""),
        ),
        (
            &[&valid, &valid],
            400,
            "invalid_request",
            Some("error=\"invalid_request\""),
        ),
        (
            &[&valid, "authorization: Basic x"],
            400,
            "invalid_request",
            Some("error=\"invalid_request\""),
        ),
    ] {
        let response = get(rig.public, "/protected", lines);
        assert_eq!(
            (response.status, response.code().as_str()),
            (status, code),
            "{lines:?}"
        );
        let told = response.header("www-authenticate");
        assert!(
            challenge.is_none_or(|part| told.is_some_and(|told| told.contains(part))),
            "{lines:?}: {told:?}"
        );
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let problem = response.json();
        assert_eq!(problem["instance"], "/protected");
        assert_eq!(
            problem["request_id"].as_str(),
            response.header("x-request-id")
        );
        assert!(!response.text().contains(&key.key), "{}", response.text());
    }
    assert_eq!(
        origin.arrived().len(),
        reached,
        "the origin heard of a refused request"
    );
}

#[test]
fn the_scheme_is_read_in_any_case_and_after_any_number_of_spaces() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).key;
    for credential in [
        format!("bearer {key}"),
        format!("BEARER {key}"),
        format!("Bearer    {key}"),
        format!("Bearer {key}  "),
    ] {
        assert_eq!(
            get(rig.public, "/", &[&format!("Authorization: {credential}")]).status,
            200,
            "{credential:?}"
        );
    }
}

#[test]
fn a_key_that_is_revoked_disabled_or_expired_says_so_to_its_holder() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let revoked = rig.key("acme", &[]);
    let disabled = rig.key("acme", &[]);
    let expired = rig.key("acme", &["--expires", "1s"]);
    rig.done(&["keys", "revoke", &revoked.id]);
    rig.done(&["keys", "disable", &disabled.id]);
    eventually("its second has passed", || {
        rig.get("/", &expired).code_or_ok() == "api_key_expired"
    });
    for (key, code) in [
        (&revoked, "api_key_revoked"),
        (&disabled, "api_key_disabled"),
        (&expired, "api_key_expired"),
    ] {
        assert!(rig.get("/", key).code_or_ok() == code, "{code}");
        assert_eq!(rig.get("/", key).status, 401);
    }
    rig.done(&["keys", "enable", &disabled.id]);
    assert!(
        rig.get("/", &disabled).status == 200,
        "the enabled key works again"
    );
}

#[test]
fn a_revoked_key_is_refused_at_the_next_request() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    for _ in 0..20 {
        let key = rig.key("acme", &[]);
        assert_eq!(rig.get("/", &key).code_or_ok(), "ok");
        rig.done(&["keys", "revoke", &key.id]);
        assert_eq!(rig.get("/", &key).code_or_ok(), "api_key_revoked");
    }
}

#[test]
fn deleting_a_consumer_ends_its_keys_and_changing_it_changes_what_the_origin_sees() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    rig.done(&["consumers", "update", "acme", "--custom-id", "crm-8"]);
    assert!(
        {
            rig.get("/", &key);
            origin.arrived().last().unwrap().one("x-consumer-custom-id") == Some("crm-8")
        },
        "the origin sees the new custom id"
    );
    rig.done(&["consumers", "delete", "acme"]);
    assert!(rig.get("/", &key).status == 401, "its key is dead");
}

#[test]
fn routes_decide_by_scope_and_let_anonymous_callers_in_only_where_they_say_so() {
    let origin = Origin::hello();
    let rig = Rig::with(
        &origin.url(),
        r#"
        [[routes]]
        path = "/"
        [[routes]]
        path = "/orders"
        scopes = ["orders:read", "orders:write"]
        [[routes]]
        path = "/public"
        on_missing_key = "anonymous"
        methods = ["GET"]
        "#,
    );
    rig.done(&[
        "consumers",
        "create",
        "acme",
        "--scope",
        "orders:read",
        "--scope",
        "orders:write",
    ]);
    let full = rig.key("acme", &[]).header();
    let narrow = rig.key("acme", &["--scope", "orders:read"]).header();
    for (path, credential, wanted) in [
        ("/", Some(&narrow), "ok"),
        ("/orders", Some(&full), "ok"),
        ("/orders/7", Some(&full), "ok"),
        ("/orders", Some(&narrow), "insufficient_scope"),
        ("/orders/7;a=b", Some(&narrow), "insufficient_scope"),
        ("/orders/%37", Some(&narrow), "insufficient_scope"),
        ("/orders/%37;a=b", Some(&full), "ok"),
        ("/orders;a=b", Some(&full), "ambiguous_path"),
        ("/;/orders", Some(&full), "ambiguous_path"),
        ("/%6frders", Some(&full), "ambiguous_path"),
        ("/Orders", Some(&full), "ambiguous_path"),
        ("//orders", Some(&narrow), "ambiguous_path"),
        ("/public/../orders", Some(&narrow), "ambiguous_path"),
        ("/public/%2e%2e/orders", None, "ambiguous_path"),
        ("/public%2f..%2forders", None, "ambiguous_path"),
        ("/orders", None, "api_key_missing"),
        ("/public", None, "ok"),
        ("/public", Some(&full), "ok"),
        (
            "/public",
            Some(&"authorization: Bearer wrong".to_owned()),
            "api_key_invalid",
        ),
        ("/publicity", None, "api_key_missing"),
    ] {
        let lines: Vec<&str> = credential.into_iter().map(String::as_str).collect();
        assert_eq!(
            get(rig.public, path, &lines).code_or_ok(),
            wanted,
            "{path} with {credential:?}"
        );
    }
    let refused = get(rig.public, "/orders", &[&narrow]);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("error=\"insufficient_scope\", scope=\"orders:read orders:write\""),
        "{challenge}"
    );

    get(
        rig.public,
        "/public",
        &["x-anonymous-consumer: false", "x-consumer-id: csmr_forged"],
    );
    let anonymous = origin.arrived().pop().unwrap();
    assert_eq!(anonymous.one("x-anonymous-consumer"), Some("true"));
    assert_eq!(anonymous.one("x-consumer-id"), None);
    assert_eq!(anonymous.one("x-shared-secret"), Some(SECRET));
}

#[test]
fn methods_that_are_never_proxied_are_refused_with_those_that_are() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    let reached = origin.arrived().len();
    for method in ["TRACE", "TRACK", "get", "PROPFIND"] {
        let response = exchange(
            rig.public,
            format!("{method} /x HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"),
        );
        assert_eq!(
            (response.status, response.code().as_str()),
            (405, "method_not_allowed"),
            "{method}"
        );
        assert_eq!(
            response.header("allow"),
            Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
        );
    }
    assert_eq!(origin.arrived().len(), reached);
}

#[test]
fn the_public_listener_has_no_paths_of_its_own() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/keys",
        "/openapi.json",
    ] {
        assert_eq!(
            get(rig.public, path, &[]).code(),
            "api_key_missing",
            "{path}"
        );
    }
}

#[test]
fn the_admin_listener_answers_health_without_a_token_and_nothing_else() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    assert_eq!(get(rig.admin, "/healthz", &[]).status, 200);
    let ready = || get(rig.admin, "/readyz", &[]).json();
    let (status, keys) = (ready()["status"].clone(), ready()["keys"].clone());
    assert_eq!((status, keys), ("ready".into(), 0.into()));
    // The keys are loaded a moment before the age of the table is known.
    eventually("the age of the keys is known", || {
        let age = ready()["store_age_seconds"].as_f64();
        age.is_some_and(|age| age < 20.0)
    });
    let disabled = get(rig.admin, "/v1/keys", &["authorization: Bearer anything"]);
    assert_eq!(
        (disabled.status, disabled.code().as_str()),
        (503, "admin_disabled")
    );
}
