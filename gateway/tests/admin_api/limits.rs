//! What has been used of limits, and how it is reset.

use serde_json::{Value, json};

use crate::client::{Response, get};
use crate::rig::{READER, Rig, refusal, text};

const LIMITS: &str = "[[rate_limits]]\nname = \"each\"\nby = \"key\"\nlimit = 3\nwindow = \"1d\"\n\
    [[rate_limits]]\nname = \"all\"\nby = \"consumer\"\nlimit = 5\nwindow = \"1d\"\n\
    [[rate_limits]]\nname = \"parts\"\nby = [\"key\", \"route\"]\nlimit = 100\nwindow = \"1d\"\n\
    [[rate_limits]]\nname = \"org\"\nby = \"tag:org\"\nlimit = 6\nwindow = \"1d\"\n\
    [[rate_limits]]\nname = \"office\"\nby = \"address\"\nlimit = 1000\nwindow = \"1d\"\n\
    [[routes]]\npath = \"/\"\n[[routes]]\npath = \"/other\"\n";

/// A consumer of an organisation, and a key of it.
fn party(rig: &Rig, attributes: &Value) -> (String, Value) {
    let mut consumer = json!({ "name": "acme", "tags": { "org": "umbrella" } });
    let all = consumer.as_object_mut().unwrap();
    all.extend(attributes.as_object().unwrap().clone());
    let consumer = rig.made("/v1/consumers", &consumer);
    let id = text(&consumer, "id").to_owned();
    let key = rig.made(&format!("/v1/consumers/{id}/keys"), &json!({}));
    (id, key)
}

fn ask(rig: &Rig, key: &Value) -> Response {
    let key = format!("authorization: Bearer {}", text(key, "key"));
    // The origin is one that answers nothing, but with a route that reaches it the request counts.
    get(rig.public, "/", &[&key])
}

/// Name, route, limit, used and remaining of each limit.
fn numbers(shown: &Value) -> Vec<(String, Option<String>, u64, u64, u64)> {
    let limits = shown["data"].as_array();
    let limits = limits.or(shown["limits"].as_array()).unwrap();
    let number = |limit: &Value, name: &str| limit[name].as_u64().unwrap();
    limits
        .iter()
        .map(|limit| {
            (
                text(limit, "name").to_owned(),
                limit["route"].as_str().map(str::to_owned),
                number(limit, "limit"),
                number(limit, "used"),
                number(limit, "remaining"),
            )
        })
        .collect()
}

fn row(name: &str, limit: u64, used: u64) -> (String, Option<String>, u64, u64, u64) {
    (name.to_owned(), None, limit, used, limit - used)
}

/// A gateway with limits before an origin that answers.
fn limited(file: &str) -> (Rig, std::net::TcpListener) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for socket in origin.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                while socket.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    let url = format!("http://{}", listener.local_addr().unwrap());
    let file = format!("[origin]\nurl = \"{url}\"\n{file}");
    (Rig::with_file(&file), listener)
}

#[test]
fn what_is_used_is_shown_and_forgotten_by_a_reset() {
    let (rig, _origin) = limited(LIMITS);
    let own = json!({ "limits": [{ "name": "night", "limit": 50, "window": "1h" }, { "name": "all", "limit": 4 }] });
    let (consumer, key) = party(&rig, &own);
    for _ in 0..2 {
        assert_eq!(ask(&rig, &key).status, 200);
    }
    let of_consumer = format!("/v1/consumers/{consumer}/limits");
    let of_key = format!("/v1/keys/{}/limits", text(&key, "id"));
    let shown = rig.shown(&of_consumer);
    assert_eq!(
        numbers(&shown),
        [row("all", 4, 2), row("night", 50, 2), row("org", 6, 2)]
    );
    let all = &shown["data"][0];
    assert_eq!(
        (&all["by"], &all["window"], &all["enforced"], &all["scope"]),
        (
            &json!(["consumer"]),
            &json!("1d"),
            &json!(true),
            &json!("gateway")
        )
    );
    assert!(text(all, "resets_at").starts_with("20"), "{all}");
    let mut parts = row("parts", 100, 0);
    parts.1 = Some("/other".to_owned());
    let mut used = row("parts", 100, 2);
    used.1 = Some("/".to_owned());
    assert_eq!(
        numbers(&rig.shown(&of_key)),
        [
            row("all", 4, 2),
            row("each", 3, 2),
            row("night", 50, 2),
            row("org", 6, 2),
            used,
            parts
        ]
    );

    assert_eq!(ask(&rig, &key).status, 200);
    assert_eq!(ask(&rig, &key).code(), "rate_limited");
    let reset = rig.call(
        "POST",
        &format!("{of_key}/reset"),
        Some(&json!({ "name": "each" })),
    );
    assert_eq!(reset.status, 200, "{}", reset.text());
    assert_eq!(numbers(&reset.json())[1], row("each", 3, 0));
    assert_eq!(ask(&rig, &key).status, 200);
    assert_eq!(ask(&rig, &key).code(), "rate_limited", "by `all` now");
    let reset = rig.call("POST", &format!("{of_consumer}/reset"), None);
    assert_eq!(reset.status, 200, "{}", reset.text());
    assert_eq!(
        numbers(&reset.json()),
        [row("all", 4, 0), row("night", 50, 0), row("org", 6, 0)]
    );
    assert_eq!(ask(&rig, &key).status, 200);

    let audit = rig.shown("/v1/audit");
    let audit = audit["data"].as_array().unwrap();
    for (action, limit) in [
        ("key.reset_limits", json!("each")),
        ("consumer.reset_limits", Value::Null),
    ] {
        let row = audit.iter().find(|row| row["action"] == action);
        let row = row.unwrap_or_else(|| panic!("{action} in {audit:?}"));
        assert_eq!(row["detail"]["limit"], limit, "{row}");
    }
}

#[test]
fn a_reset_is_for_admins_and_a_name_is_a_name() {
    let (rig, _origin) = limited(LIMITS);
    let (consumer, _) = party(&rig, &json!({}));
    let path = format!("/v1/consumers/{consumer}/limits/reset");
    let reader = rig.call_as(READER, "POST", &path, &[], Some(&json!({})));
    assert_eq!(refusal(&reader), (403, "insufficient_role".to_owned()));
    let bad = rig.call("POST", &path, Some(&json!({ "name": "A b" })));
    assert_eq!(refusal(&bad), (400, "invalid_body".to_owned()));
    assert_eq!(bad.json()["errors"][0]["pointer"], "/name");
    let guarded = rig.call("POST", &format!("{path}?tag.org=other"), Some(&json!({})));
    assert_eq!(guarded.status, 412);
    let nobody = rig.call("GET", "/v1/keys/key_00000000000000000000/limits", None);
    assert_eq!(nobody.status, 404);
}

#[test]
fn a_roll_resets_nothing() {
    let (rig, _origin) = limited(LIMITS);
    let (_, key) = party(&rig, &json!({}));
    for _ in 0..3 {
        assert_eq!(ask(&rig, &key).status, 200);
    }
    let rolled = rig.made(&format!("/v1/keys/{}/roll", text(&key, "id")), &json!({}));
    assert_eq!(ask(&rig, &rolled).code(), "rate_limited");
    let other = json!({ "consumer": "acme" });
    let other = rig.made("/v1/keys", &other);
    assert_eq!(ask(&rig, &other).status, 200, "another key has its own");
}

#[test]
fn numbers_that_change_are_in_force_at_the_next_request() {
    let (rig, _origin) = limited(LIMITS);
    let (consumer, key) = party(&rig, &json!({}));
    for _ in 0..3 {
        assert_eq!(ask(&rig, &key).status, 200);
    }
    assert_eq!(ask(&rig, &key).status, 429);
    let path = format!("/v1/consumers/{consumer}");
    for (limits, status) in [
        (json!([{ "name": "each", "limit": 4 }]), 200),
        (json!([{ "name": "each", "limit": 2 }]), 429),
        (json!([{ "name": "each", "limit": null }]), 200),
        (Value::Null, 429),
    ] {
        let changed = rig.call("PATCH", &path, Some(&json!({ "limits": limits })));
        assert_eq!(changed.status, 200, "{}", changed.text());
        let answer = ask(&rig, &key);
        assert_eq!(answer.status, status, "{limits}");
        if status == 429 {
            let told = answer.header("ratelimit").unwrap();
            assert!(told.contains("\"each\";r=0"), "{told}");
        }
    }
}

#[test]
fn a_verification_tells_of_limits_and_takes_what_it_is_told_to() {
    let (rig, _origin) = limited(LIMITS);
    let (_, key) = party(&rig, &json!({}));
    let verify = |body: Value| {
        let mut asked = json!({ "key": text(&key, "key") });
        let all = asked.as_object_mut().unwrap();
        all.extend(body.as_object().unwrap().clone());
        let response = rig.call("POST", "/v1/keys/verify", Some(&asked));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    };
    for _ in 0..5 {
        let peek = verify(json!({}));
        assert_eq!(peek["code"], "valid");
        assert_eq!(numbers(&peek)[1], row("each", 3, 0));
    }
    let taken = verify(json!({ "cost": 2 }));
    assert_eq!(
        (&taken["valid"], &taken["code"]),
        (&json!(true), &json!("valid"))
    );
    assert_eq!(numbers(&taken)[1], row("each", 3, 2));
    let denied = verify(json!({ "cost": 2 }));
    assert_eq!(
        (&denied["valid"], &denied["code"]),
        (&json!(false), &json!("rate_limited"))
    );
    assert_eq!(numbers(&denied)[1], row("each", 3, 2), "nothing was taken");
    assert_eq!(verify(json!({ "cost": 1 }))["code"], "valid");
    assert_eq!(ask(&rig, &key).code(), "rate_limited");
    let bad = json!({ "key": "x", "cost": -1 });
    let bad = rig.call("POST", "/v1/keys/verify", Some(&bad));
    assert_eq!(refusal(&bad), (400, "invalid_body".to_owned()));
}

#[test]
fn what_a_proxy_asks_for_counts() {
    let (rig, _origin) = limited(LIMITS);
    let (_, key) = party(&rig, &json!({}));
    let authorization = format!("authorization: Bearer {}", text(&key, "key"));
    let by_path = || rig.raw("GET", "/v1/auth/", &[&authorization], b"");
    for _ in 0..3 {
        let admitted = by_path();
        assert_eq!(admitted.status, 200, "{}", admitted.text());
        assert!(admitted.header("ratelimit").is_some());
    }
    let denied = by_path();
    assert_eq!((denied.status, &*denied.code()), (429, "rate_limited"));
    // nginx takes any other status for a failure of its own.
    let nginx = [
        "x-original-uri: /",
        "x-original-method: GET",
        &authorization,
    ];
    let denied = rig.raw("GET", "/v1/auth", &nginx, b"");
    assert_eq!((denied.status, &*denied.code()), (403, "rate_limited"));
    assert!(denied.header("retry-after").is_some());
    assert_eq!(ask(&rig, &key).code(), "rate_limited", "it is one count");
}
