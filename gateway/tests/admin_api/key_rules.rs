//! What a bucket says about the keys in it.

use serde_json::{Value, json};

use crate::rig::{Rig, refusal, text};

#[test]
fn a_bucket_says_how_long_keys_live_and_how_many_there_are() {
    let rig = Rig::new();
    let rules = json!({
        "default_key_lifetime_seconds": 7_776_000, "max_key_lifetime_seconds": 31_536_000, "max_live_keys": 2,
        "unused_after_seconds": 7_776_000, "unused_action": "disable",
    });
    let mut wanted = rules.clone();
    wanted["name"] = "partners".into();
    let made = rig.made("/v1/buckets", &wanted);
    for (name, value) in rules.as_object().unwrap() {
        assert_eq!(made[name], *value, "{name}");
    }
    let plain = rig.made("/v1/buckets", &json!({ "name": "plain" }));
    assert_eq!(
        (
            &plain["max_key_lifetime_seconds"],
            &plain["max_live_keys"],
            &plain["unused_action"]
        ),
        (&Value::Null, &Value::Null, &json!("report"))
    );
    for patch in [
        json!({ "max_live_keys": 5 }),
        json!({ "default_key_lifetime_seconds": null, "unused_after_seconds": null, "unused_action": "report" }),
        json!({ "leak_policy": "revoke" }),
        rules.clone(),
    ] {
        let after = rig
            .call("PATCH", "/v1/buckets/partners", Some(&patch))
            .json();
        for (name, value) in patch.as_object().unwrap() {
            assert_eq!(after[name], *value, "{patch}");
        }
    }
    let audited = rig.shown("/v1/audit?subject_id=partners&limit=1");
    assert_eq!(audited["data"][0]["detail"]["max_live_keys"], 2);

    let create = |body: Value| rig.call("POST", "/v1/keys", Some(&body));
    let first = create(json!({ "consumer": "acme", "bucket": "partners" }));
    assert_eq!(first.status, 201, "{}", first.text());
    let first = first.json();
    assert!(
        first["expires_at"].is_string(),
        "the default lifetime: {first}"
    );
    let path = format!("/v1/keys/{}", text(&first, "id"));
    let exempt = json!({ "exempt_from_unused": true, "expires_at": "2020-01-01" });
    assert_eq!(rig.call("PATCH", &path, Some(&exempt)).status, 422);
    let exempt = rig
        .call("PATCH", &path, Some(&json!({ "exempt_from_unused": true })))
        .json();
    assert_eq!(
        (&first["exempt_from_unused"], &exempt["exempt_from_unused"]),
        (&json!(false), &json!(true))
    );
    for (method, path, body, status, code, pointer) in [
        (
            "POST",
            "/v1/keys",
            json!({ "consumer": "acme", "bucket": "partners", "expires_at": null }),
            422,
            "lifetime_too_long",
            Some("/expires_at"),
        ),
        (
            "POST",
            "/v1/keys",
            json!({ "consumer": "acme", "bucket": "partners", "expires_at": "2090-01-01" }),
            422,
            "lifetime_too_long",
            Some("/expires_at"),
        ),
        (
            "PATCH",
            &path,
            json!({ "expires_at": null }),
            422,
            "lifetime_too_long",
            Some("/expires_at"),
        ),
        (
            "PATCH",
            "/v1/buckets/partners",
            json!({ "default_key_lifetime_seconds": 31_536_001 }),
            422,
            "default_above_longest",
            Some("/default_key_lifetime_seconds"),
        ),
        (
            "PATCH",
            "/v1/buckets/partners",
            json!({ "max_live_keys": 0 }),
            400,
            "invalid_body",
            Some("/max_live_keys"),
        ),
        (
            "PATCH",
            "/v1/buckets/partners",
            json!({ "unused_action": "delete" }),
            400,
            "invalid_body",
            Some("/unused_action"),
        ),
        (
            "PATCH",
            "/v1/buckets/partners",
            json!({ "unused_after_seconds": "90d" }),
            400,
            "invalid_body",
            Some("/unused_after_seconds"),
        ),
    ] {
        let response = rig.call(method, path, Some(&body));
        assert_eq!(refusal(&response), (status, code.to_owned()), "{body}");
        assert_eq!(
            response.json()["errors"][0]["pointer"].as_str(),
            pointer,
            "{body}"
        );
    }
    assert_eq!(
        create(json!({ "consumer": "acme", "bucket": "partners" })).status,
        201
    );
    let third = create(json!({ "consumer": "acme", "bucket": "partners" }));
    assert_eq!(refusal(&third), (409, "too_many_keys".to_owned()));
    let never = create(json!({ "consumer": "acme", "bucket": "plain", "expires_at": null }));
    assert_eq!(
        (never.status, &never.json()["expires_at"]),
        (201, &Value::Null)
    );
}
