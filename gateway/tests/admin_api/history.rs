//! What was done: usage and audit.

use serde_json::{Value, json};

use crate::client::get;
use crate::rig::{CI, Rig, refusal, text};
use crate::running::eventually;

/// Has the holder of `key` send so many requests, which no origin answers.
fn send(rig: &Rig, key: &Value, requests: usize) {
    let plain = text(key, "key");
    assert!(rig.verdict(plain) == "ok", "the gateway knows the key");
    for _ in 1..requests {
        assert_eq!(
            get(
                rig.public,
                "/",
                &[&format!("authorization: Bearer {plain}")]
            )
            .status,
            502
        );
    }
}

#[test]
fn usage_is_told_of_whoever_is_asked_for() {
    let rig = Rig::new();
    rig.made("/v1/buckets", &json!({ "name": "second" }));
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let other = rig.made(
        "/v1/keys",
        &json!({ "consumer": "other", "bucket": "second" }),
    );
    send(&rig, &key, 5);
    send(&rig, &other, 2);
    let requests = |query: &str| {
        rig.shown(&format!("/v1/usage{query}"))["total"]["requests"]
            .as_u64()
            .unwrap()
    };
    eventually("usage is written", || requests("") >= 7);
    let (key_id, consumer_id) = (text(&key, "id"), text(&key, "consumer_id"));
    assert_eq!(requests(&format!("?key_id={key_id}")), 5);
    assert_eq!(requests(&format!("?consumer_id={consumer_id}&by=day")), 5);
    assert_eq!(requests("?bucket=second"), 2);
    assert_eq!(
        requests("?from=2000-01-01T00:00:00Z&to=2000-01-02T00:00:00Z"),
        0
    );
    let usage = rig.shown("/v1/usage?by=day&top=1");
    assert_eq!(
        (
            &usage["top_keys"][0]["key"],
            &usage["top_keys"][0]["consumer"]
        ),
        (&key["id"], &json!("acme"))
    );
    assert_eq!(usage["top_keys"].as_array().unwrap().len(), 1);
    assert!(
        (1..=2).contains(&usage["periods"].as_array().unwrap().len()),
        "a day is in two days at most"
    );
    assert_eq!(
        rig.shown("/v1/usage?from=2026-01-01T00:30:00Z&to=2026-01-01T02:00:00Z")["periods"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    for (query, status, code) in [
        (
            format!("?key_id={key_id}&tag.org=acme"),
            412,
            "tag_mismatch",
        ),
        (
            format!("?consumer_id={consumer_id}&tag.org=acme"),
            412,
            "tag_mismatch",
        ),
        ("?tag.org=acme".to_owned(), 422, "unfollowable_query"),
        (
            format!("?key_id={key_id}&consumer_id={consumer_id}"),
            422,
            "unfollowable_query",
        ),
        (
            "?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z".to_owned(),
            422,
            "unfollowable_query",
        ),
        (
            "?from=1990-01-01T00:00:00Z".to_owned(),
            422,
            "unfollowable_query",
        ),
        ("?by=week".to_owned(), 400, "invalid_parameter"),
        ("?key_id=x".to_owned(), 400, "invalid_parameter"),
        ("?top=0".to_owned(), 400, "invalid_parameter"),
    ] {
        assert_eq!(
            refusal(&rig.call("GET", &format!("/v1/usage{query}"), None)),
            (status, code.to_owned()),
            "{query}"
        );
    }
}

#[test]
fn times_and_words_of_queries_are_refused_with_what_is_accepted() {
    let rig = Rig::new();
    for (query, said) in [
        ("/v1/audit?since=yesterday", "such as `7d`"),
        ("/v1/audit?until=30", "midnight UTC"),
        ("/v1/usage?from=2030-02-30", "midnight UTC"),
        ("/v1/keys?ending_within=soon", "such as `7d`"),
        ("/v1/keys?unused_for=-1d", "such as `7d`"),
        (
            "/v1/keys?status=good",
            "active, expired, revoked and disabled",
        ),
        ("/v1/audit?action=key.revoked", "key.revoke, key.disable"),
    ] {
        let answer = rig.call("GET", query, None);
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(said), "{query}: {}", answer.text());
    }
}

#[test]
fn keys_are_listed_by_status_end_and_use() {
    let rig = Rig::new();
    let key = |body: Value| text(&rig.made("/v1/keys", &body), "id").to_owned();
    let ending = key(json!({ "consumer": "a", "expires_at": "2090-01-01" }));
    let lasting = key(json!({ "consumer": "a" }));
    rig.call("DELETE", &format!("/v1/keys/{lasting}"), None);
    let revoked = rig.shown(&format!("/v1/keys/{lasting}"));
    assert!(revoked["revoked_at"].is_string(), "{revoked}");
    assert!(
        text(&revoked, "revoked_by").starts_with("api:"),
        "{revoked}"
    );
    for (query, found) in [
        ("status=active", vec![&ending]),
        ("status=revoked", vec![&lasting]),
        ("ending_within=30d", vec![]),
        ("ending_within=2090-01-02", vec![&ending]),
        ("unused_for=90d", vec![]),
        ("created_since=1h&hint=pstn_", vec![&ending, &lasting]),
        ("created_until=1h", vec![]),
    ] {
        let page = rig.shown(&format!("/v1/keys?{query}"));
        let mut ids: Vec<&str> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| text(key, "id"))
            .collect();
        let mut wanted: Vec<&str> = found.into_iter().map(String::as_str).collect();
        ids.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(ids, wanted, "{query}");
    }
}

#[test]
fn the_audit_is_told_page_by_page_and_by_filter() {
    let rig = Rig::new();
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let path = format!("/v1/keys/{}", text(&key, "id"));
    assert_eq!(
        rig.call_as(CI, "POST", &format!("{path}/disable"), &[], None)
            .status,
        200
    );
    assert_eq!(rig.call("DELETE", &path, None).status, 200);

    let all = rig.shown("/v1/audit");
    let actions: Vec<&str> = all["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| text(row, "action"))
        .collect();
    assert_eq!(
        actions,
        ["key.revoke", "key.disable", "key.create", "consumer.create"],
        "the newest first"
    );
    let row = &all["data"][1];
    assert_eq!(
        (
            &row["actor"],
            &row["source"],
            &row["subject"],
            &row["subject_id"]
        ),
        (
            &json!("api:ci"),
            &json!("127.0.0.1"),
            &json!("key"),
            &key["id"]
        )
    );
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = rig.shown(&format!("/v1/audit?limit=1{cursor}"));
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(Value::Array(paged), all["data"]);
    for (query, rows) in [
        (format!("?subject_id={}", text(&key, "id")), 3),
        (
            format!("?subject_id={}&action=key.revoke", text(&key, "id")),
            1,
        ),
        ("?actor=api:ci".to_owned(), 1),
        ("?actor=api:nobody".to_owned(), 0),
        ("?since=2100-01-01T00:00:00Z".to_owned(), 0),
        ("?since=2100-01-01".to_owned(), 0),
        ("?since=7d&until=2100-01-01".to_owned(), 4),
        ("?until=1h+30m".to_owned(), 0),
        ("?until=2000-01-01T00:00:00Z".to_owned(), 0),
    ] {
        assert_eq!(
            rig.shown(&format!("/v1/audit{query}"))["data"]
                .as_array()
                .unwrap()
                .len(),
            rows,
            "{query}"
        );
    }
    for query in [
        "?cursor=1",
        "?cursor=8000000000000000",
        "?actor=",
        "?actor=%00",
        "?since=yesterday",
        "?subject=key",
    ] {
        let response = rig.call("GET", &format!("/v1/audit{query}"), None);
        assert_eq!(
            refusal(&response),
            (400, "invalid_parameter".to_owned()),
            "{query}"
        );
    }
    let plain = text(&key, "key");
    assert!(!all.to_string().contains(plain), "no key is in the audit");
}
