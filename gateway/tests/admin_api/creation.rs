//! Creations that are sent again.

use std::thread;

use serde_json::{Value, json};

use crate::client::Response;
use crate::rig::{ADMIN, CI, Rig, refusal, text};

pub(crate) fn create(rig: &Rig, token: &str, path: &str, key: &str, body: &Value) -> Response {
    rig.call_as(
        token,
        "POST",
        path,
        &[&format!("idempotency-key: {key}")],
        Some(body),
    )
}

#[test]
fn the_same_creation_is_answered_again_and_made_once() {
    let rig = Rig::new();
    for (path, key, body) in [
        ("/v1/consumers", "one", json!({ "name": "acme" })),
        ("/v1/buckets", "two", json!({ "name": "second" })),
    ] {
        let first = create(&rig, ADMIN, path, key, &body);
        assert_eq!(
            (first.status, first.header("idempotency-replayed")),
            (201, None),
            "{path}"
        );
        let second = create(&rig, ADMIN, path, key, &body);
        assert_eq!(
            (second.status, second.header("idempotency-replayed")),
            (201, Some("true")),
            "{path}"
        );
        assert_eq!(second.text(), first.text(), "{path}");
        assert_eq!(
            second.header("location"),
            first.header("location"),
            "{path}"
        );
    }
}

#[test]
fn a_key_is_shown_the_first_time_only() {
    let rig = Rig::new();
    let body = json!({ "consumer": "acme" });
    let first = create(&rig, ADMIN, "/v1/keys", "one", &body);
    let mut expected = first.json();
    let plain = text(&expected, "key").to_owned();
    expected.as_object_mut().unwrap().remove("key");
    expected["key_shown"] = json!(false);
    let second = create(&rig, ADMIN, "/v1/keys", "one", &body);
    assert_eq!(
        (second.status, second.header("idempotency-replayed")),
        (201, Some("true"))
    );
    assert_eq!(second.json(), expected);
    assert_eq!(rig.shown("/v1/keys")["data"].as_array().unwrap().len(), 1);
    // Neither the key nor the idempotency key is in any file of the store.
    let chosen = "chosen-by-the-client-4711";
    create(&rig, ADMIN, "/v1/keys", chosen, &body);
    for file in std::fs::read_dir(rig.directory.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in [&plain, chosen] {
            assert!(
                !bytes
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes()),
                "{secret}"
            );
        }
    }
}

#[test]
fn a_key_is_its_tokens_and_for_one_request() {
    let rig = Rig::new();
    let acme = json!({ "name": "acme" });
    let first = create(&rig, ADMIN, "/v1/consumers", "one", &acme);
    assert_eq!(first.status, 201);
    for (path, body) in [
        ("/v1/consumers", json!({ "name": "other" })),
        ("/v1/keys", json!({ "consumer": "acme" })),
    ] {
        let reused = create(&rig, ADMIN, path, "one", &body);
        assert_eq!(
            refusal(&reused),
            (422, "idempotency_key_reused".to_owned()),
            "{path}"
        );
    }
    assert_eq!(
        create(
            &rig,
            CI,
            "/v1/consumers",
            "one",
            &json!({ "name": "other" })
        )
        .status,
        201,
        "another holder's key"
    );
    // What was refused was not made, so it may be tried again under the same key.
    assert_eq!(
        refusal(&create(&rig, ADMIN, "/v1/consumers", "two", &acme)),
        (409, "duplicate".to_owned())
    );
    let id = text(&first.json(), "id").to_owned();
    assert_eq!(
        rig.call("DELETE", &format!("/v1/consumers/{id}"), None)
            .status,
        200
    );
    assert_eq!(
        create(&rig, ADMIN, "/v1/consumers", "two", &acme).status,
        201
    );
}

#[test]
fn many_at_once_make_one_thing() {
    let rig = Rig::new();
    for round in 0..5 {
        let body = json!({ "consumer": format!("consumer-{round}") });
        let key = format!("round-{round}");
        let answers: Vec<Response> = thread::scope(|scope| {
            let senders: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| create(&rig, ADMIN, "/v1/keys", &key, &body)))
                .collect();
            senders
                .into_iter()
                .map(|sender| sender.join().unwrap())
                .collect()
        });
        let shown = answers
            .iter()
            .filter(|answer| answer.status == 201 && answer.json()["key_shown"] == true)
            .count();
        assert_eq!(shown, 1, "{answers:?}");
        for answer in &answers {
            match answer.status {
                201 => assert_eq!(
                    answer.json()["key_shown"] == false,
                    answer.header("idempotency-replayed") == Some("true")
                ),
                _ => {
                    assert_eq!(refusal(answer), (409, "idempotency_key_in_use".to_owned()));
                    assert_eq!(answer.header("retry-after"), Some("1"));
                }
            }
        }
    }
    assert_eq!(rig.shown("/v1/keys")["data"].as_array().unwrap().len(), 5);
}

#[test]
fn a_repeated_creation_is_answered_also_when_it_would_be_refused_by_now() {
    let rig = Rig::new();
    let consumer = rig.made(
        "/v1/consumers",
        &json!({ "name": "acme", "tags": { "org": "a" } }),
    );
    let path = format!("/v1/consumers/{}", text(&consumer, "id"));
    let create = || {
        rig.call_as(
            ADMIN,
            "POST",
            &format!("{path}/keys?tag.org=a"),
            &["idempotency-key: k"],
            Some(&json!({})),
        )
    };
    let first = create();
    assert_eq!(first.status, 201);
    // The consumer is someone else's, and then gone.
    assert_eq!(
        rig.call("PATCH", &path, Some(&json!({ "tags": { "org": "b" } })))
            .status,
        200
    );
    for _ in 0..2 {
        let again = create();
        assert_eq!(
            (again.status, again.header("idempotency-replayed")),
            (201, Some("true")),
            "{}",
            again.text()
        );
        assert_eq!(again.json()["id"], first.json()["id"]);
        rig.call("DELETE", &path, None);
    }
    let other = rig.call_as(
        ADMIN,
        "POST",
        &format!("{path}/keys"),
        &["idempotency-key: k"],
        Some(&json!({})),
    );
    assert_eq!(refusal(&other), (422, "idempotency_key_reused".to_owned()));
}
