//! Plans.

use serde_json::{Value, json};

use crate::rig::{READER, Rig, refusal, text};

fn gold() -> Value {
    json!({
        "name": "gold", "description": "for paying customers", "scopes": ["orders:read", "orders:write"],
        "limits": [{ "name": "burst", "limit": 500, "window": "1m" }, { "name": "search", "limit": null }],
        "quotas": [{ "name": "monthly", "limit": 5_000_000, "period": "month", "anchor": 15 }], "max_in_flight": 20,
        "default_key_lifetime_seconds": 7_776_000, "max_key_lifetime_seconds": 31_536_000,
    })
}

#[test]
fn a_plan_is_made_shown_changed_and_deleted() {
    let rig = Rig::new();
    let response = rig.call("POST", "/v1/plans", Some(&gold()));
    assert_eq!(response.status, 201, "{}", response.text());
    let mut plan = response.json();
    assert_eq!(response.header("location"), Some("/v1/plans/gold"));
    for (name, value) in gold().as_object().unwrap() {
        assert_eq!(plan[name], *value, "{name}");
    }
    assert_eq!(rig.shown("/v1/plans/gold"), plan);
    rig.made("/v1/plans", &json!({ "name": "free" }));
    let names = |path: &str| -> Vec<String> {
        let list = rig.shown(path);
        let data = list["data"].as_array().unwrap().iter();
        data.map(|one| text(one, "name").to_owned()).collect()
    };
    assert_eq!(names("/v1/plans"), ["free", "gold"]);
    assert_eq!(names("/v1/plans?limit=1"), ["free"]);
    for patch in [
        json!({}),
        json!({ "description": null, "scopes": ["orders:read"] }),
        json!({ "limits": [], "quotas": [], "max_in_flight": null }),
        json!({ "default_key_lifetime_seconds": null, "max_key_lifetime_seconds": 86_400 }),
    ] {
        let after = rig.call("PATCH", "/v1/plans/gold", Some(&patch));
        assert_eq!(after.status, 200, "{patch}: {}", after.text());
        for (name, value) in patch.as_object().unwrap() {
            plan[name] = value.clone();
        }
        let mut after = after.json();
        after["updated_at"] = plan["updated_at"].clone();
        assert_eq!(after, plan, "{patch}");
    }
    let by_reader = rig.call_as(READER, "DELETE", "/v1/plans/gold", &[], None);
    assert_eq!(refusal(&by_reader), (403, "insufficient_role".to_owned()));
    assert_eq!(rig.call("DELETE", "/v1/plans/gold", None).status, 200);
    let gone = rig.call("GET", "/v1/plans/gold", None);
    assert_eq!(refusal(&gone), (404, "not_found".to_owned()));
    let actions: Vec<Value> = rig.shown("/v1/audit?subject_id=gold")["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["action"].clone())
        .collect();
    assert_eq!(
        actions,
        [
            "plan.delete",
            "plan.update",
            "plan.update",
            "plan.update",
            "plan.create"
        ]
    );
}

#[test]
fn a_plan_decides_from_the_next_request_on() {
    let rig =
        Rig::with_file("[[routes]]\nname = \"orders\"\npath = \"/\"\nscopes = [\"orders:read\"]\n");
    rig.made("/v1/plans", &gold());
    let acme = rig.made("/v1/consumers", &json!({ "name": "acme", "plan": "gold" }));
    assert_eq!(acme["plan"], "gold");
    let path = format!("/v1/consumers/{}", text(&acme, "id"));
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let plain = text(&key, "key");
    let narrow = json!({ "consumer": "acme", "scopes": ["orders:write"] });
    let narrow = rig.made("/v1/keys", &narrow);
    let change = |path: &str, patch: Value| {
        let after = rig.call("PATCH", path, Some(&patch));
        assert_eq!(after.status, 200, "{}", after.text());
    };
    assert!(rig.verdict(plain) == "ok", "the plan grants the scope");
    assert!(
        rig.verdict(text(&narrow, "key")) == "insufficient_scope",
        "a key narrows it"
    );
    change("/v1/plans/gold", json!({ "scopes": ["orders:write"] }));
    assert!(
        rig.verdict(plain) == "insufficient_scope",
        "the plan grants it no more"
    );
    change(&path, json!({ "scopes": ["orders:read"] }));
    assert!(
        rig.verdict(plain) == "ok",
        "the consumer's own scopes are granted besides"
    );
    change(&path, json!({ "scopes": null }));
    change("/v1/plans/gold", json!({ "scopes": ["orders:read"] }));
    assert!(rig.verdict(plain) == "ok", "the plan grants it again");
    change(&path, json!({ "plan": null }));
    assert!(rig.verdict(plain) == "insufficient_scope", "without a plan");
}

#[test]
fn what_cannot_be_of_a_plan_is_told_with_its_field() {
    let rig = Rig::new();
    rig.made("/v1/plans", &gold());
    let acme = rig.made("/v1/consumers", &json!({ "name": "acme", "plan": "gold" }));
    let acme = format!("/v1/consumers/{}", text(&acme, "id"));
    let plan = "/v1/plans/gold";
    for (method, path, body, status, code, pointer) in [
        (
            "POST",
            "/v1/plans",
            json!({ "name": "gold" }),
            409,
            "duplicate",
            Some("/name"),
        ),
        (
            "POST",
            "/v1/plans",
            json!({ "name": "a b" }),
            400,
            "invalid_body",
            Some("/name"),
        ),
        (
            "POST",
            "/v1/plans",
            json!({ "name": ".." }),
            400,
            "invalid_body",
            Some("/name"),
        ),
        (
            "POST",
            "/v1/plans",
            json!({ "name": "a", "limits": [{ "name": "b", "limit": 0 }] }),
            400,
            "invalid_body",
            Some("/limits/0/limit"),
        ),
        (
            "POST",
            "/v1/plans",
            json!({ "name": "a", "max_key_lifetime_seconds": 0 }),
            400,
            "invalid_body",
            Some("/max_key_lifetime_seconds"),
        ),
        (
            "POST",
            "/v1/plans",
            json!({ "name": "a", "default_key_lifetime_seconds": 9, "max_key_lifetime_seconds": 8 }),
            422,
            "default_above_longest",
            Some("/default_key_lifetime_seconds"),
        ),
        (
            "PATCH",
            plan,
            json!({ "default_key_lifetime_seconds": 31_536_001 }),
            422,
            "default_above_longest",
            Some("/default_key_lifetime_seconds"),
        ),
        (
            "PATCH",
            plan,
            json!({ "name": "silver" }),
            400,
            "invalid_body",
            Some("/name"),
        ),
        (
            "PATCH",
            "/v1/plans/none",
            json!({}),
            404,
            "not_found",
            Some("/plan"),
        ),
        (
            "DELETE",
            "/v1/plans/none",
            Value::Null,
            404,
            "not_found",
            Some("/plan"),
        ),
        (
            "DELETE",
            "/v1/plans/a%20b",
            Value::Null,
            404,
            "not_found",
            None,
        ),
        ("DELETE", plan, Value::Null, 409, "plan_in_use", None),
        (
            "POST",
            "/v1/consumers",
            json!({ "name": "b", "plan": "none" }),
            404,
            "not_found",
            Some("/plan"),
        ),
        (
            "PATCH",
            &acme,
            json!({ "plan": "none" }),
            404,
            "not_found",
            Some("/plan"),
        ),
        (
            "PATCH",
            &acme,
            json!({ "plan": "" }),
            400,
            "invalid_body",
            Some("/plan"),
        ),
        (
            "POST",
            "/v1/keys",
            json!({ "consumer": "acme", "scopes": ["admin"] }),
            422,
            "scope_not_granted",
            Some("/scopes"),
        ),
        (
            "POST",
            "/v1/keys",
            json!({ "consumer": "acme", "max_in_flight": 21 }),
            422,
            "limit_not_granted",
            Some("/max_in_flight"),
        ),
    ] {
        let response = rig.call(method, path, Some(&body).filter(|body| !body.is_null()));
        assert_eq!(
            refusal(&response),
            (status, code.to_owned()),
            "{method} {path} {body}"
        );
        let told = response.json();
        assert_eq!(
            told["errors"][0]["pointer"].as_str(),
            pointer,
            "{method} {path} {body}: {told}"
        );
    }
    let key = "same-plan";
    let headers = format!("idempotency-key: {key}");
    let bronze = json!({ "name": "bronze" });
    let make = || {
        rig.call_as(
            crate::rig::ADMIN,
            "POST",
            "/v1/plans",
            &[&headers],
            Some(&bronze),
        )
    };
    assert_eq!(
        (make().status, make().status),
        (201, 201),
        "made once, answered twice"
    );
    let found = rig.shown("/v1/consumers?plan=gold");
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    assert_eq!(rig.shown("/v1/consumers?plan=bronze")["data"], json!([]));
}
