//! `POST /v1/keys/verify`: whether a key is good, for other services.

use serde_json::{Value, json};

use crate::rig::{ADMIN, READER, Rig, refusal, text};
use crate::running::eventually;

fn verify(rig: &Rig, token: &str, body: &Value) -> Value {
    let response = rig.call_as(token, "POST", "/v1/keys/verify", &[], Some(body));
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

#[test]
fn it_tells_what_becomes_of_a_key() {
    let rig = Rig::new();
    let consumer = json!({ "name": "acme", "custom_id": "crm-42", "metadata": { "plan": "gold" }, "scopes": ["read", "write"],
        "allowed_ips": ["192.0.2.0/24"] });
    let consumer = rig.made("/v1/consumers", &consumer);
    let id = text(&consumer, "id");
    let made = rig.made(
        &format!("/v1/consumers/{id}/keys"),
        &json!({ "scopes": ["read"] }),
    );
    let (key, key_id) = (text(&made, "key"), text(&made, "id"));
    assert!(
        verify(&rig, ADMIN, &json!({ "key": key }))["valid"] == true,
        "the key is known"
    );

    let found = verify(
        &rig,
        READER,
        &json!({ "key": key, "scopes": ["read"], "address": "192.0.2.7" }),
    );
    assert_eq!(
        found,
        json!({ "valid": true, "code": "valid",
            "key": { "id": key_id, "scopes": ["read"], "expires_at": null, "deprecated_at": null },
            "consumer": { "id": id, "bucket": "default", "name": "acme", "custom_id": "crm-42", "metadata": { "plan": "gold" } },
            "limits": [] })
    );
    for (body, code) in [
        (
            json!({ "key": key, "scopes": ["write"] }),
            "insufficient_scope",
        ),
        (
            json!({ "key": key, "address": "198.51.100.1" }),
            "key_restricted",
        ),
        (json!({ "key": format!("{key}x") }), "api_key_invalid"),
        (json!({ "key": "" }), "api_key_invalid"),
        (
            json!({ "key": "a key, but none of ours" }),
            "api_key_invalid",
        ),
    ] {
        let found = verify(&rig, ADMIN, &body);
        assert_eq!(
            (&found["valid"], &found["code"]),
            (&json!(false), &json!(code)),
            "{body}"
        );
        assert_eq!(found["key"].is_null(), code == "api_key_invalid");
    }
    for (verb, code) in [
        ("disable", "api_key_disabled"),
        ("enable", "valid"),
        ("revoke", "api_key_revoked"),
    ] {
        assert_eq!(
            rig.call("POST", &format!("/v1/keys/{key_id}/{verb}"), None)
                .status,
            200
        );
        assert!(
            verify(&rig, ADMIN, &json!({ "key": key }))["code"] == code,
            "{code}"
        );
    }
}

#[test]
fn what_it_cannot_read_it_refuses_without_repeating_a_key() {
    let rig = Rig::new();
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let key = text(&key, "key");
    for (body, pointer) in [
        (json!({}), "/key"),
        (json!({ "key": 1 }), "/key"),
        (json!({ "key": key, "scopes": "read" }), "/scopes"),
        (json!({ "key": key, "scopes": [key] }), "/scopes/0"),
        (json!({ "key": key, "address": "here" }), "/address"),
        (json!({ "key": key, "bucket": "default" }), "/bucket"),
    ] {
        let response = rig.call("POST", "/v1/keys/verify", Some(&body));
        assert_eq!(
            refusal(&response),
            (400, "invalid_body".to_owned()),
            "{body}"
        );
        assert_eq!(
            response.json()["errors"][0]["pointer"],
            pointer,
            "{}",
            response.text()
        );
        assert!(!response.text().contains(key));
    }
    let unknown = rig.call_as(
        "not-a-token-but-long-enough",
        "POST",
        "/v1/keys/verify",
        &[],
        Some(&json!({ "key": key })),
    );
    assert_eq!(unknown.status, 401);
}

#[test]
fn a_token_that_may_only_read_may_ask_whether_a_key_is_good() {
    let rig = Rig::new();
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let asked = json!({ "key": text(&key, "key") });
    assert_eq!(verify(&rig, READER, &asked)["valid"], true);
    let written = rig.call_as(
        READER,
        "POST",
        "/v1/keys",
        &[],
        Some(&json!({ "consumer": "acme" })),
    );
    assert_eq!(
        (written.status, written.code().as_str()),
        (403, "insufficient_role")
    );
}

#[test]
fn a_token_that_may_only_read_takes_no_units_of_a_limit() {
    let rig = Rig::with_file(
        "[[rate_limits]]\nname = \"each\"\nby = \"key\"\nlimit = 3\nwindow = \"1h\"\n",
    );
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let costing = |cost: u64| json!({ "key": text(&key, "key"), "cost": cost });
    let used = |verified: &Value| verified["limits"][0]["used"].clone();
    for body in [costing(1), json!({ "key": "nobody's", "cost": 1 })] {
        let refused = rig.call_as(READER, "POST", "/v1/keys/verify", &[], Some(&body));
        assert_eq!(refusal(&refused), (403, "insufficient_role".to_owned()));
    }
    assert_eq!(used(&verify(&rig, READER, &costing(0))), 0);
    assert_eq!(used(&verify(&rig, ADMIN, &costing(1))), 1);
}

#[test]
fn a_key_over_its_quota_is_not_valid_and_takes_nothing_of_its_limits() {
    let rig = Rig::with_file(
        "[[rate_limits]]\nname = \"each\"\nby = \"key\"\nlimit = 10\nwindow = \"1h\"\n\
         [[quotas]]\nname = \"all\"\nby = \"consumer\"\nlimit = 5\nperiod = \"lifetime\"\n\
         [[quotas]]\nname = \"soft\"\nby = \"key\"\nlimit = 4\nperiod = \"lifetime\"\nenforce = false\n",
    );
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    for (cost, code, used) in [
        (0, "valid", 0),
        (4, "valid", 4),
        (0, "valid", 4),
        (2, "quota_exceeded", 4),
        (7, "rate_limited", 4),
        (1, "valid", 5),
        (0, "quota_exceeded", 5),
        (1, "quota_exceeded", 5),
    ] {
        let body = json!({ "key": text(&key, "key"), "cost": cost });
        let found = verify(&rig, ADMIN, &body);
        let expected = (json!(code == "valid"), json!(code), json!(used));
        let of_limit = &found["limits"][0]["used"];
        assert_eq!(
            (&found["valid"], &found["code"], of_limit),
            (&expected.0, &expected.1, &expected.2),
            "{body}"
        );
    }
    assert_eq!(rig.verdict(text(&key, "key")), "quota_exceeded");
    for line in [
        // Of both quotas: the soft one was at its end with the first four.
        "postern_quota_notices_total{share=\"80\"} 1",
        "postern_quota_notices_total{share=\"100\"} 2",
        "postern_quota_would_be_exceeded_total 1",
    ] {
        eventually(line, || {
            rig.call("GET", "/metrics", None).text().contains(line)
        });
    }
}
