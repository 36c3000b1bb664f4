//! `/v1/brake`: who is braked, and forgiveness.

use postern_gateway::keys::{PlainKey, Prefix};
use serde_json::json;

use crate::client::get;
use crate::rig::{READER, Rig, text};

const SETTINGS: &str =
    "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n[brake]\nfailures = 2\nwindow = \"1day\"\n";

/// The status of a request with a key from an address.
fn status(rig: &Rig, key: &str, address: &str) -> u16 {
    let key = format!("authorization: Bearer {key}");
    let address = format!("x-forwarded-for: {address}");
    get(rig.public, "/", &[&key, &address]).status
}

#[test]
fn who_is_braked_is_listed_and_forgiven() {
    let rig = Rig::with_file(SETTINGS);
    assert_eq!(rig.shown("/v1/brake"), json!({ "data": [] }));
    let unknown = PlainKey::generate(&Prefix::default()).unwrap();
    rig.made("/v1/consumers", &json!({ "name": "acme" }));
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let id = text(&key, "id");
    let revoke = format!("/v1/keys/{id}/revoke");
    assert_eq!(rig.call("POST", &revoke, None).status, 200);
    for address in ["192.0.2.1", "2001:db8::1"] {
        for wanted in [401, 401, 429, 429] {
            assert_eq!(status(&rig, unknown.expose(), address), wanted);
        }
    }
    for wanted in [401, 401, 429] {
        assert_eq!(status(&rig, text(&key, "key"), "192.0.2.1"), wanted);
    }
    assert_eq!(status(&rig, unknown.expose(), "198.51.100.1"), 401);

    let listed = rig.shown("/v1/brake");
    let mut subjects: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            assert!(text(one, "since") < text(one, "until"), "{one}");
            assert_eq!(one["enforced"], true);
            let key = one["key_id"].as_str().map(str::to_owned);
            (
                text(one, "address").to_owned(),
                key,
                one["requests"].as_u64(),
            )
        })
        .collect();
    subjects.sort();
    let subject = |address: &str, key: Option<&str>, requests| {
        (address.to_owned(), key.map(str::to_owned), Some(requests))
    };
    assert_eq!(
        subjects,
        [
            subject("192.0.2.1", None, 2),
            subject("192.0.2.1", Some(id), 1),
            subject("2001:db8::/64", None, 2),
        ]
    );

    let forgive = |address: &str| rig.call("DELETE", &format!("/v1/brake/{address}"), None);
    let forgiven = forgive("192.0.2.1");
    assert_eq!(forgiven.status, 200, "{}", forgiven.text());
    assert_eq!(forgiven.json()["data"].as_array().unwrap().len(), 2);
    assert_eq!(status(&rig, unknown.expose(), "192.0.2.1"), 401);
    assert_eq!(status(&rig, text(&key, "key"), "192.0.2.1"), 401);
    assert_eq!(status(&rig, unknown.expose(), "2001:db8::2"), 429);
    assert_eq!(forgive("2001:db8::").status, 200);
    assert_eq!(status(&rig, unknown.expose(), "2001:db8::2"), 401);
    // One failure is counted, and nothing braked.
    let forgiven = forgive("198.51.100.1");
    assert_eq!(forgiven.json(), json!({ "data": [] }));
    for nothing in [
        "198.51.100.1",
        "unknown",
        "10.0.0.1%2f8",
        "acme",
        "010.0.0.1",
    ] {
        let refused = forgive(nothing);
        assert_eq!(
            (refused.status, refused.code()),
            (404, "not_found".to_owned())
        );
    }
}

#[test]
fn the_brake_is_the_business_of_operators() {
    let rig = Rig::with_file(SETTINGS);
    let call = |token, method, path| rig.call_as(token, method, path, &[], None);
    assert_eq!(call(READER, "GET", "/v1/brake").status, 200);
    let refused = call(READER, "DELETE", "/v1/brake/192.0.2.1");
    assert_eq!(refused.code(), "insufficient_role");
    assert_eq!(call("wrong", "GET", "/v1/brake").status, 401);
    let unknown = rig.call("GET", "/v1/brake?top=1", None);
    assert_eq!(unknown.code(), "invalid_parameter");
    assert_eq!(rig.call("POST", "/v1/brake", None).status, 405);
}
