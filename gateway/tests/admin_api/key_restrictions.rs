//! Keys that may be used for less than their consumer.

use serde_json::json;

use crate::client::get;
use crate::rig::{Rig, refusal, text};

#[test]
fn restrictions_are_set_shown_changed_and_cleared() {
    let rig = Rig::with_file("[[routes]]\nname = \"orders\"\npath = \"/orders\"\n[[routes]]\n");
    let wanted = json!({
        "consumer": "acme", "allowed_ips": ["::1", "10.0.0.0/8"], "allowed_methods": ["POST", "GET", "GET"],
        "allowed_routes": ["orders", "later"],
    });
    let key = rig.made("/v1/keys", &wanted);
    let path = format!("/v1/keys/{}", text(&key, "id"));
    for key in [&key, &rig.shown(&path)] {
        assert_eq!(key["allowed_ips"], json!(["10.0.0.0/8", "::1"]));
        assert_eq!(key["allowed_methods"], json!(["GET", "POST"]));
        assert_eq!(key["allowed_routes"], json!(["later", "orders"]));
        assert_eq!(key["unknown_routes"], json!(["later"]));
    }
    for (patch, member, shown) in [
        (json!({}), "allowed_methods", json!(["GET", "POST"])),
        (
            json!({ "allowed_methods": ["DELETE"] }),
            "allowed_methods",
            json!(["DELETE"]),
        ),
        (
            json!({ "allowed_methods": [] }),
            "allowed_methods",
            json!([]),
        ),
        (json!({ "allowed_ips": null }), "allowed_ips", json!([])),
        (
            json!({ "allowed_routes": ["/"] }),
            "unknown_routes",
            json!(null),
        ),
        (
            json!({ "allowed_routes": null }),
            "allowed_routes",
            json!([]),
        ),
    ] {
        let after = rig.call("PATCH", &path, Some(&patch));
        assert_eq!(after.status, 200, "{patch}: {}", after.text());
        assert_eq!(after.json()[member], shown, "{patch}");
    }
    let plain = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    for member in ["allowed_ips", "allowed_methods", "allowed_routes"] {
        assert_eq!(plain[member], json!([]), "{member}");
    }
    assert!(plain.get("unknown_routes").is_none(), "{plain}");
}

#[test]
fn what_is_no_restriction_is_refused_with_what_is_accepted() {
    let rig = Rig::new();
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let path = format!("/v1/keys/{}", text(&key, "id"));
    let many: Vec<String> = (0..65).map(|number| format!("r{number}")).collect();
    for (member, value, pointer, said) in [
        (
            "allowed_methods",
            json!(["GET", "TRACE"]),
            "/allowed_methods/1",
            "GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS",
        ),
        (
            "allowed_methods",
            json!(["get"]),
            "/allowed_methods/0",
            "in upper case",
        ),
        (
            "allowed_methods",
            json!("GET"),
            "/allowed_methods",
            "an array",
        ),
        (
            "allowed_ips",
            json!(["10.0.0.0/33"]),
            "/allowed_ips/0",
            "an allowed range is",
        ),
        (
            "allowed_ips",
            json!([""]),
            "/allowed_ips/0",
            "an allowed range is",
        ),
        (
            "allowed_routes",
            json!([""]),
            "/allowed_routes/0",
            "the name of a route is",
        ),
        (
            "allowed_routes",
            json!(["a\"b"]),
            "/allowed_routes/0",
            "the name of a route is",
        ),
        (
            "allowed_routes",
            json!(many),
            "/allowed_routes",
            "at most 64",
        ),
        ("allowed_routes", json!({}), "/allowed_routes", "an array"),
    ] {
        for (method, path, mut body) in [
            ("PATCH", path.as_str(), json!({})),
            ("POST", "/v1/keys", json!({ "consumer": "acme" })),
        ] {
            body[member] = value.clone();
            let refused = rig.call(method, path, Some(&body));
            assert_eq!(
                refusal(&refused),
                (400, "invalid_body".to_owned()),
                "{body}"
            );
            let error = &refused.json()["errors"][0];
            assert_eq!(error["pointer"], pointer, "{error}");
            let error = error.to_string();
            assert!(error.contains(said), "{error}");
        }
    }
    let kept = rig.call(
        "POST",
        "/v1/keys",
        Some(&json!({ "consumer": "acme", "allowed_routes": [text(&key, "key")] })),
    );
    assert_eq!(kept.status, 400, "{}", kept.text());
    assert!(!kept.text().contains(text(&key, "key")));
}

#[test]
fn a_verification_and_a_proxy_are_told_of_restrictions() {
    let rig = Rig::with_file("[[routes]]\nname = \"orders\"\npath = \"/orders\"\n[[routes]]\n");
    let key = rig.made(
        "/v1/keys",
        &json!({ "consumer": "acme", "allowed_ips": ["127.0.0.1"], "allowed_methods": ["GET"], "allowed_routes": ["orders", "of others"] }),
    );
    let key = text(&key, "key");
    for (asked, code) in [
        (json!({}), "valid"),
        (
            json!({ "method": "GET", "route": "orders", "address": "127.0.0.1" }),
            "valid",
        ),
        (json!({ "method": "HEAD", "route": "of others" }), "valid"),
        (json!({ "method": "POST" }), "key_restricted"),
        (json!({ "route": "/" }), "key_restricted"),
        (json!({ "address": "127.0.0.2" }), "key_restricted"),
    ] {
        let mut body = asked.clone();
        body["key"] = json!(key);
        let verified = rig.call("POST", "/v1/keys/verify", Some(&body)).json();
        assert_eq!(verified["code"], code, "{asked}");
    }
    for (asked, pointer) in [
        (json!({ "method": "TRACE" }), "/method"),
        (json!({ "method": ["GET"] }), "/method"),
        (json!({ "route": "" }), "/route"),
    ] {
        let mut body = asked.clone();
        body["key"] = json!(key);
        let refused = rig.call("POST", "/v1/keys/verify", Some(&body));
        assert_eq!(
            refusal(&refused),
            (400, "invalid_body".to_owned()),
            "{asked}"
        );
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{asked}");
    }
    let bearer = format!("authorization: Bearer {key}");
    for (method, path, code) in [
        ("GET", "/orders", "ok"),
        ("POST", "/orders", "key_restricted"),
        ("GET", "/", "key_restricted"),
    ] {
        let lines = [
            bearer.as_str(),
            &format!("x-original-uri: {path}"),
            &format!("x-original-method: {method}"),
        ];
        let asked = get(rig.admin, "/v1/auth", &lines);
        assert_eq!(
            asked.status < 400,
            code == "ok",
            "{method} {path}: {}",
            asked.text()
        );
        if code != "ok" {
            assert_eq!(asked.code(), code);
        }
    }
}
