//! Rolling keys over the API, and revocations that are waited for.

use serde_json::{Value, json};

use crate::rig::{ADMIN, Rig, refusal, text};

fn key_of(rig: &Rig, consumer: &Value) -> Value {
    rig.made(
        &format!("/v1/consumers/{}/keys", text(consumer, "id")),
        &json!({
            "scopes": ["a"], "description": "billing", "allowed_ips": ["127.0.0.0/8"],
            "allowed_methods": ["GET"], "allowed_routes": ["default"],
        }),
    )
}

#[test]
fn a_rolled_key_inherits_and_the_old_one_ends() {
    let rig = Rig::new();
    let consumer = rig.made(
        "/v1/consumers",
        &json!({ "name": "acme", "scopes": ["a", "b"] }),
    );
    let old = key_of(&rig, &consumer);
    let path = format!("/v1/keys/{}/roll", text(&old, "id"));
    let response = rig.call("POST", &path, Some(&json!({ "grace_seconds": 3600 })));
    assert_eq!(response.status, 201, "{}", response.text());
    let new = response.json();
    assert_eq!(
        response.header("location"),
        Some(format!("/v1/keys/{}", text(&new, "id")).as_str())
    );
    assert_eq!(
        (&new["scopes"], &new["description"], &new["key_shown"]),
        (&json!(["a"]), &json!("billing"), &json!(true))
    );
    for member in ["allowed_ips", "allowed_methods", "allowed_routes"] {
        assert_eq!(
            (&new[member], new[member].as_array().unwrap().len()),
            (&old[member], 1)
        );
    }
    let ending = &new["ending"][0];
    assert_eq!(
        (&ending["id"], &ending["successor"]),
        (&old["id"], &new["id"])
    );
    assert!(
        ending.get("key").is_none()
            && ending["expires_at"].is_string()
            && ending["deprecated_at"].is_string()
    );
    for key in [&old, &new] {
        let plain = text(key, "key").to_owned();
        assert!(rig.verdict(&plain) == "ok", "the gateway lets both in");
    }
    // A body may be missing, and with a grace of nothing the old one ends at once.
    assert_eq!(
        rig.call("POST", &format!("/v1/keys/{}/roll", text(&new, "id")), None)
            .status,
        201
    );
    let last = rig.made(
        &format!("/v1/consumers/{}/roll", text(&consumer, "id")),
        &json!({ "grace_seconds": 0 }),
    );
    assert_eq!(
        (
            last["ending"].as_array().unwrap().len(),
            &last["ending_count"]
        ),
        (3, &json!(3)),
        "{last}"
    );
    for key in [&old, &new] {
        let plain = text(key, "key").to_owned();
        assert!(rig.verdict(&plain) == "api_key_expired", "it has ended");
    }
    assert_eq!(
        refusal(&rig.call("POST", &path, None)),
        (409, "key_not_good".to_owned())
    );
}

#[test]
fn a_roll_that_is_sent_again_makes_one_key() {
    let rig = Rig::new();
    let consumer = rig.made("/v1/consumers", &json!({ "name": "acme", "scopes": ["a"] }));
    let path = format!("/v1/keys/{}/roll", text(&key_of(&rig, &consumer), "id"));
    let roll = || {
        rig.call_as(
            ADMIN,
            "POST",
            &path,
            &["idempotency-key: once"],
            Some(&json!({})),
        )
    };
    let (first, second) = (roll(), roll());
    assert_eq!(
        (first.status, second.status),
        (201, 201),
        "{}",
        second.text()
    );
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    let (first, second) = (first.json(), second.json());
    assert_eq!(
        (&second["id"], &second["key_shown"]),
        (&first["id"], &json!(false))
    );
    assert!(
        second.get("key").is_none() && second["ending"] == first["ending"],
        "{second}"
    );
    assert_eq!(rig.shown("/v1/keys")["data"].as_array().unwrap().len(), 2);
}

#[test]
fn a_grace_is_whole_seconds_up_to_ten_years() {
    let rig = Rig::new();
    let consumer = rig.made("/v1/consumers", &json!({ "name": "acme", "scopes": ["a"] }));
    for (grace, status) in [
        (json!(0), 201),
        (json!(60.0), 201),
        (json!(315_360_000), 201),
        (json!(315_360_001), 400),
        (json!(-1), 400),
        (json!(0.5), 400),
        (json!("60"), 400),
        (json!(null), 400),
        (json!(1e300), 400),
    ] {
        let path = format!("/v1/keys/{}/roll", text(&key_of(&rig, &consumer), "id"));
        let response = rig.call("POST", &path, Some(&json!({ "grace_seconds": grace })));
        assert_eq!(response.status, status, "{grace}: {}", response.text());
        if status == 400 {
            assert_eq!(
                response.json()["errors"][0]["pointer"],
                "/grace_seconds",
                "{grace}"
            );
        }
    }
}

#[test]
fn a_revocation_that_is_waited_for_names_the_gateways() {
    let rig = Rig::new();
    let consumer = rig.made("/v1/consumers", &json!({ "name": "acme", "scopes": ["a"] }));
    for method in ["POST", "DELETE"] {
        let key = key_of(&rig, &consumer);
        let plain = text(&key, "key");
        assert!(rig.verdict(plain) == "ok", "the gateway knows the key");
        let action = if method == "POST" { "/revoke" } else { "" };
        let path = format!("/v1/keys/{}{action}?wait_seconds=10", text(&key, "id"));
        let response = rig.call(method, &path, None);
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(rig.verdict(plain), "api_key_revoked", "it was waited for");
        let revoked = response.json();
        assert_eq!(text(&revoked, "status"), "revoked");
        let names: Vec<&str> = revoked["gateways"]["confirmed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|gateway| text(gateway, "name"))
            .collect();
        assert_eq!(names.len(), 1, "{revoked}");
        assert!(
            names[0].ends_with(&format!(":{}", rig.public.port())),
            "{names:?}"
        );
        assert_eq!(
            (
                &revoked["gateways"]["missing"],
                &revoked["gateways"]["silent"]
            ),
            (&json!([]), &json!([]))
        );
    }
    let gateways = rig.shown("/v1/gateways");
    assert_eq!(
        (
            &gateways["data"][0]["live"],
            &gateways["data"][0]["revision"]
        ),
        (&json!(true), &gateways["revision"])
    );
}

#[test]
fn a_gateway_that_does_not_confirm_is_named() {
    let rig = Rig::new();
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    // Another gateway that said that it is there, and then says no more.
    let database = format!("sqlite://{}/gateway.db", rig.directory.path().display());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&database).await.unwrap();
        sqlx::query(
            "INSERT INTO gateways (id, name, started_at, seen_at, revision) \
             VALUES ('gw_0000000000000001', 'elsewhere:8080', 0, CAST(unixepoch('subsec') * 1000 AS BIGINT), 1)",
        )
        .execute(&pool)
        .await
        .unwrap();
    });
    let path = format!("/v1/keys/{}/revoke?wait_seconds=1", text(&key, "id"));
    let response = rig.call("POST", &path, None);
    assert_eq!(response.status, 202, "{}", response.text());
    let missing = &response.json()["gateways"]["missing"];
    assert_eq!(
        (missing.as_array().unwrap().len(), text(&missing[0], "name")),
        (1, "elsewhere:8080")
    );
    for wait in ["0", "61", "-1", "1.5", "x", ""] {
        let path = format!("/v1/keys/{}/revoke?wait_seconds={wait}", text(&key, "id"));
        assert_eq!(
            refusal(&rig.call("POST", &path, None)),
            (400, "invalid_parameter".to_owned()),
            "{wait}"
        );
    }
}
