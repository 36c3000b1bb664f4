//! From a consumer to a revoked key.

use serde_json::{Value, json};

use crate::rig::{Rig, refusal, text};

#[test]
fn a_key_lives_and_ends_and_the_gateway_follows() {
    let rig = Rig::new();
    let wanted = json!({
        "name": "acme", "custom_id": "crm-42", "description": "für die Buchhaltung", "metadata": { "plan": "gold" },
        "scopes": ["orders:write", "orders:read"], "tags": { "org": "acme" },
        "limits": [{ "name": "burst", "limit": 500, "window": "1m" }, { "name": "search", "limit": null }],
        "quotas": [{ "name": "monthly", "limit": 5_000_000, "anchor": 15 }], "max_in_flight": 20,
    });
    let response = rig.call("POST", "/v1/consumers", Some(&wanted));
    assert_eq!(response.status, 201);
    let consumer = response.json();
    let path = format!("/v1/consumers/{}", text(&consumer, "id"));
    assert_eq!(response.header("location"), Some(path.as_str()));
    assert_eq!(rig.shown(&path), consumer);
    for (name, value) in wanted.as_object().unwrap() {
        let expected = if name == "scopes" {
            json!(["orders:read", "orders:write"])
        } else {
            value.clone()
        };
        assert_eq!(consumer[name], expected, "{name}");
    }

    let key = rig.made(
        &format!("{path}/keys"),
        &json!({
            "description": "for tests", "scopes": ["orders:read"], "limits": [{ "name": "burst", "limit": 50, "window": "1m" }],
            "quotas": [{ "name": "monthly", "limit": 5 }], "max_in_flight": 2,
        }),
    );
    for (name, value) in [
        (
            "limits",
            json!([{ "name": "burst", "limit": 50, "window": "1m" }]),
        ),
        ("quotas", json!([{ "name": "monthly", "limit": 5 }])),
        ("max_in_flight", json!(2)),
    ] {
        assert_eq!(key[name], value);
    }
    assert_eq!(key["key_shown"], true);
    let plain = text(&key, "key").to_owned();
    assert!(rig.verdict(&plain) == "ok", "the gateway knows the key");
    let key_path = format!("/v1/keys/{}", text(&key, "id"));
    let shown = rig.shown(&key_path);
    assert!(
        shown.get("key").is_none() && shown.get("key_shown").is_none(),
        "{shown}"
    );
    assert_eq!(
        (text(&shown, "consumer"), text(&shown, "status")),
        ("acme", "active")
    );

    for (action, status, verdict) in [
        ("disable", "disabled", "api_key_disabled"),
        ("enable", "active", "ok"),
        ("revoke", "revoked", "api_key_revoked"),
    ] {
        let response = rig.call("POST", &format!("{key_path}/{action}"), None);
        assert_eq!(
            (response.status, text(&response.json(), "status")),
            (200, status),
            "{action}"
        );
        assert!(rig.verdict(&plain) == verdict, "{action}");
    }
    for (method, path, body, code) in [
        ("POST", format!("{key_path}/enable"), None, "key_revoked"),
        (
            "PATCH",
            key_path.clone(),
            Some(json!({ "description": "late" })),
            "key_revoked",
        ),
    ] {
        assert_eq!(
            refusal(&rig.call(method, &path, body.as_ref())),
            (409, code.to_owned()),
            "{method} {path}"
        );
    }
    assert_eq!(
        rig.call("DELETE", &key_path, None).status,
        200,
        "revoking twice is fine"
    );

    let second = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let plain = text(&second, "key").to_owned();
    assert!(
        rig.verdict(&plain) == "ok",
        "the gateway knows the second key"
    );
    let deleted = rig.call("DELETE", &path, None);
    assert_eq!(
        (deleted.status, deleted.json()["deleted_keys"].clone()),
        (200, json!(2))
    );
    assert!(
        rig.verdict(&plain) == "api_key_invalid",
        "the keys went with it"
    );
    for path in [path, key_path] {
        assert_eq!(
            refusal(&rig.call("GET", &path, None)),
            (404, "not_found".to_owned()),
            "{path}"
        );
    }
}

#[test]
fn a_patch_changes_what_it_names_and_null_clears() {
    let rig = Rig::new();
    let full = json!({
        "name": "acme", "custom_id": "42", "description": "d", "metadata": { "a": 1 }, "scopes": ["a", "b"], "tags": { "t": "v" },
    });
    let mut expected = rig.made("/v1/consumers", &full);
    let path = format!("/v1/consumers/{}", text(&expected, "id"));
    for patch in [
        json!({}),
        json!({ "name": "other" }),
        json!({ "custom_id": null, "metadata": { "b": 2 } }),
        json!({ "description": null, "metadata": null, "tags": { "u": "w" } }),
        json!({ "scopes": [], "tags": null }),
        json!({ "limits": [{ "name": "a", "limit": 5, "window": "1h" }], "max_in_flight": 5 }),
        json!({ "quotas": [{ "name": "a", "limit": 5, "period": "day", "anchor": "created" }] }),
        json!({ "limits": [{ "name": "b", "limit": null }] }),
        json!({ "limits": null, "quotas": null, "max_in_flight": null }),
    ] {
        let after = rig.call("PATCH", &path, Some(&patch));
        assert_eq!(after.status, 200, "{patch}: {}", after.text());
        for (name, value) in patch.as_object().unwrap() {
            expected[name] = match name.as_str() {
                "tags" if value.is_null() => json!({}),
                "limits" | "quotas" if value.is_null() => json!([]),
                _ => value.clone(),
            };
        }
        let mut after = after.json();
        after["updated_at"] = expected["updated_at"].clone();
        assert_eq!(after, expected, "{patch}");
    }

    let granted = rig.made(
        "/v1/consumers",
        &json!({ "name": "granted", "scopes": ["a", "b"] }),
    );
    let key = rig.made("/v1/keys", &json!({ "consumer_id": granted["id"] }));
    let path = format!("/v1/keys/{}", text(&key, "id"));
    let plain = text(&key, "key");
    for (patch, status) in [
        (
            json!({ "description": "d", "scopes": ["a"], "expires_at": "2090-01-01T00:00:00Z" }),
            "active",
        ),
        (
            json!({ "description": null, "scopes": null, "expires_at": null, "disabled": true }),
            "disabled",
        ),
        (
            json!({ "limits": [{ "name": "a", "limit": 5, "window": "1h" }], "quotas": [], "max_in_flight": 5 }),
            "disabled",
        ),
        (
            json!({ "limits": [], "max_in_flight": null, "disabled": false }),
            "active",
        ),
    ] {
        let after = rig.call("PATCH", &path, Some(&patch)).json();
        assert_eq!(text(&after, "status"), status, "{patch}");
        for (name, value) in patch
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "disabled")
        {
            assert_eq!(after[name], *value, "{patch}: {name}");
        }
        let verdict = if status == "active" {
            "ok"
        } else {
            "api_key_disabled"
        };
        assert!(rig.verdict(plain) == verdict, "the gateway follows");
    }
}

#[test]
fn what_cannot_be_followed_is_told_with_its_field() {
    let rig = Rig::new();
    let consumer = rig.made(
        "/v1/consumers",
        &json!({
            "name": "acme", "custom_id": "42", "scopes": ["a"], "limits": [{ "name": "burst", "limit": 5, "window": "1m" }], "max_in_flight": 3,
        }),
    );
    let other = rig.made("/v1/consumers", &json!({ "name": "other" }));
    let other = format!("/v1/consumers/{}", text(&other, "id"));
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let key = format!("/v1/keys/{}", text(&key, "id"));
    let nobody = "csmr_00000000000000000000";
    rig.made("/v1/buckets", &json!({ "name": "second bucket/eu" }));
    for (method, path, body, status, code, pointer) in [
        (
            "POST",
            "/v1/consumers",
            json!({ "name": "acme" }),
            409,
            "duplicate",
            Some("/name"),
        ),
        (
            "POST",
            "/v1/consumers",
            json!({ "name": "x", "custom_id": "42" }),
            409,
            "duplicate",
            Some("/custom_id"),
        ),
        (
            "PATCH",
            &other,
            json!({ "name": "acme" }),
            409,
            "duplicate",
            Some("/name"),
        ),
        (
            "PATCH",
            &other,
            json!({ "custom_id": "42" }),
            409,
            "duplicate",
            Some("/custom_id"),
        ),
        (
            "POST",
            "/v1/buckets",
            json!({ "name": "default" }),
            409,
            "duplicate",
            Some("/name"),
        ),
        (
            "POST",
            "/v1/consumers",
            json!({ "name": "x", "bucket": "none" }),
            404,
            "not_found",
            Some("/bucket"),
        ),
        (
            "POST",
            "/v1/keys",
            json!({ "consumer": "x", "bucket": "none" }),
            404,
            "not_found",
            Some("/bucket"),
        ),
        (
            "POST",
            "/v1/keys",
            json!({ "consumer_id": nobody }),
            404,
            "not_found",
            None,
        ),
        (
            "POST",
            "/v1/keys",
            json!({ "consumer": "acme", "scopes": ["a", "b"] }),
            422,
            "scope_not_granted",
            Some("/scopes"),
        ),
        (
            "PATCH",
            &key,
            json!({ "scopes": ["b"] }),
            422,
            "scope_not_granted",
            Some("/scopes"),
        ),
        (
            "PATCH",
            &key,
            json!({ "limits": [{ "name": "other", "limit": 6 }, { "name": "burst", "limit": 6, "window": "1m" }] }),
            422,
            "limit_not_granted",
            Some("/limits/1"),
        ),
        (
            "POST",
            "/v1/keys",
            json!({ "consumer": "acme", "quotas": [{ "name": "monthly", "limit": null }] }),
            422,
            "limit_not_granted",
            Some("/quotas/0"),
        ),
        (
            "POST",
            "/v1/keys",
            json!({ "consumer": "acme", "max_in_flight": 4 }),
            422,
            "limit_not_granted",
            Some("/max_in_flight"),
        ),
        (
            "PATCH",
            &key,
            json!({ "limits": [{ "name": "burst", "limit": 0, "minute": 5 }], "max_in_flight": 0 }),
            400,
            "invalid_body",
            Some("/limits/0/minute"),
        ),
        (
            "PATCH",
            &key,
            json!({ "expires_at": "2020-01-01T00:00:00Z" }),
            422,
            "expiry_in_the_past",
            Some("/expires_at"),
        ),
        (
            "POST",
            "/v1/keys",
            json!({ "consumer": "acme", "expires_at": "2020-01-01T00:00:00Z" }),
            422,
            "expiry_in_the_past",
            Some("/expires_at"),
        ),
    ] {
        let response = rig.call(method, path, Some(&body));
        assert_eq!(
            refusal(&response),
            (status, code.to_owned()),
            "{method} {path} {body}"
        );
        assert_eq!(
            response.json()["errors"][0]["pointer"].as_str(),
            pointer,
            "{method} {path} {body}"
        );
    }
    // Nothing of that left a trace.
    assert_eq!(
        rig.shown("/v1/consumers")["data"].as_array().unwrap().len(),
        2
    );
    assert_eq!(
        rig.shown(&format!("/v1/consumers/{}/keys", text(&consumer, "id")))["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn buckets_keep_names_apart() {
    let rig = Rig::new();
    let response = rig.call("POST", "/v1/buckets", Some(&json!({ "name": "eu/.. 1" })));
    let location = response.header("location").unwrap().to_owned();
    assert_eq!(location, "/v1/buckets/eu%2F%2E%2E%201");
    assert_eq!(rig.shown(&location), response.json());
    let names = |list: &Value| {
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| text(one, "name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&rig.shown("/v1/buckets")), ["default", "eu/.. 1"]);
    rig.made("/v1/consumers", &json!({ "name": "acme" }));
    rig.made(
        "/v1/consumers",
        &json!({ "name": "acme", "bucket": "eu/.. 1" }),
    );
    let key = rig.made(
        "/v1/keys",
        &json!({ "consumer": "new", "bucket": "eu/.. 1", "scopes": ["a"] }),
    );
    assert_eq!(text(&key, "bucket"), "eu/.. 1");
    assert_eq!(
        names(&rig.shown("/v1/consumers?bucket=eu/..%201")),
        ["acme", "new"]
    );
    assert_eq!(rig.shown("/v1/keys?bucket=default")["data"], json!([]));
    assert_eq!(
        rig.shown("/v1/keys?bucket=eu/..+1")["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
