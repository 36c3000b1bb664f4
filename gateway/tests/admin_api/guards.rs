//! Who may do what: tokens, roles, and the tags that a call asks for.

use postern_gateway::admin;
use serde_json::json;

use crate::client::{exchange, get};
use crate::rig::{ADMIN, CI, READER, Rig, refusal, text};

#[test]
fn every_operation_asks_for_a_token_and_writing_for_the_role() {
    let rig = Rig::new();
    let open = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"];
    let mut seen = 0;
    for endpoint in admin::endpoints() {
        let (method, path) = (
            endpoint.method.as_str(),
            endpoint.path.replace("{id}", "x").replace("{name}", "x"),
        );
        let with = |token: &str| rig.call_as(token, method, &path, &[], None);
        if open.contains(&path.as_str()) {
            assert_eq!(rig.raw(method, &path, &[], b"").status, 200, "{path}");
            continue;
        }
        if path == "/v1/auth" {
            // What stands in `Authorization` there is an API key.
            let without = rig.raw(method, &path, &[], b"");
            assert_eq!(
                (without.status, without.code().as_str()),
                (401, "api_key_missing")
            );
            continue;
        }
        seen += 1;
        assert_eq!(
            refusal(&rig.raw(method, &path, &[], b"")),
            (401, "unauthorized".to_owned()),
            "{method} {path}"
        );
        assert_eq!(
            refusal(&with("wrong-9f2c51d07be84a63")),
            (401, "unauthorized".to_owned()),
            "{method} {path}"
        );
        let as_reader = with(READER);
        if path == "/v1/keys/verify" {
            // A question, which every role may ask; this one lacks its body.
            assert_eq!(
                refusal(&as_reader),
                (415, "unsupported_media_type".to_owned())
            );
        } else if method == "GET" {
            assert!(matches!(as_reader.status, 200 | 404), "{method} {path}");
        } else {
            assert_eq!(
                refusal(&as_reader),
                (403, "insufficient_role".to_owned()),
                "{method} {path}"
            );
        }
        for token in [ADMIN, CI] {
            assert!(!matches!(with(token).status, 401 | 403), "{method} {path}");
        }
    }
    assert!(seen >= 15, "{seen}");
    assert_eq!(
        rig.raw("GET", "/v1/nothing", &[], b"").status,
        401,
        "who may not know is not told what is there"
    );
}

#[test]
fn a_credential_is_one_bearer_token() {
    let rig = Rig::new();
    let good = format!("authorization: Bearer {ADMIN}");
    for (lines, status) in [
        (vec![good.clone()], 200),
        (vec![format!("authorization: bEARER {ADMIN}")], 200),
        (vec![format!("authorization: Basic {ADMIN}")], 401),
        (vec![format!("authorization: {ADMIN}")], 401),
        (vec!["authorization: Bearer ".to_owned()], 401),
        (vec![good.clone(), good.clone()], 401),
        (vec![format!("authorization: Bearer {ADMIN}x")], 401),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let response = get(rig.admin, "/v1/keys", &lines);
        assert_eq!(response.status, status, "{lines:?}");
        assert_eq!(
            response.header("www-authenticate").is_some(),
            status == 401,
            "{lines:?}"
        );
    }
    let head = exchange_head(&rig, &good);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

/// A `HEAD` has no body, so the connection is read to its end.
fn exchange_head(rig: &Rig, good: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(rig.admin).unwrap();
    write!(
        socket,
        "HEAD /v1/keys HTTP/1.1\r\nhost: localhost\r\n{good}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut head = String::new();
    socket.read_to_string(&mut head).unwrap();
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    head
}

#[test]
fn only_a_request_for_this_host_and_from_its_own_pages_is_answered() {
    let rig = Rig::with_file("[admin]\nhosts = [\"gateway\"]\n");
    let token = format!("authorization: Bearer {ADMIN}");
    let (address, port) = (rig.admin.to_string(), rig.admin.port());
    let ask = |path: &str, host: &str, origin: Option<&str>| {
        let origin = origin
            .map(|origin| format!("origin: {origin}\r\n"))
            .unwrap_or_default();
        let response = exchange(
            rig.admin,
            format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{token}\r\n{origin}\r\n"),
        );
        if response.status < 400 {
            (response.status, String::new())
        } else {
            refusal(&response)
        }
    };
    let (ok, misdirected, cross) = (
        (200, String::new()),
        (421, "misdirected_request".to_owned()),
        (403, "cross_origin".to_owned()),
    );
    for path in [
        "/v1/keys",
        "/readyz",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/healthz",
    ] {
        for host in [
            &address,
            "localhost",
            &format!("localhost:{port}"),
            "gateway:8081",
            "[::1]:80",
        ] {
            assert_eq!(ask(path, host, None), ok, "{path} {host}");
            assert_eq!(
                ask(path, host, Some(&format!("http://{host}"))),
                ok,
                "{path} {host}"
            );
            for origin in [
                "http://evil.example",
                "null",
                &format!("https://{host}"),
                "http://localhost.evil.example",
            ] {
                assert_eq!(
                    ask(path, host, Some(origin)),
                    cross,
                    "{path} {host} {origin}"
                );
            }
        }
        for host in [
            "evil.example",
            &format!("evil.example:{port}"),
            "127.0.0.1.evil.example",
        ] {
            let wanted = if path == "/healthz" {
                &ok
            } else {
                &misdirected
            };
            assert_eq!(ask(path, host, None), *wanted, "{path} {host}");
            // That of the page that has its own name lead here.
            assert_eq!(
                ask(path, host, Some(&format!("http://{host}"))),
                *wanted,
                "{path} {host}"
            );
        }
    }
    // Other proxies pass on what their clients sent: it is about their hosts.
    for path in ["/v1/auth", "/v1/auth/a"] {
        let lines = format!("host: api.example\r\norigin: https://app.example\r\n{token}");
        let response = exchange(rig.admin, format!("GET {path} HTTP/1.1\r\n{lines}\r\n\r\n"));
        assert_eq!(
            (response.status, response.code().as_str()),
            (401, "api_key_invalid"),
            "{path}"
        );
    }
}

#[test]
fn without_tokens_the_api_is_off_and_the_operations_paths_are_not() {
    let rig = Rig::with(&[]);
    let response = get(
        rig.admin,
        "/v1/keys",
        &[&format!("authorization: Bearer {ADMIN}")],
    );
    assert_eq!(refusal(&response), (503, "admin_disabled".to_owned()));
    // It stays so until somebody sets a token.
    assert_eq!(response.header("retry-after"), None);
    assert_eq!(get(rig.admin, "/readyz", &[]).status, 200);
}

#[test]
fn a_database_that_another_process_holds_is_told_as_such_and_comes_back() {
    let rig = Rig::new();
    let database = format!("sqlite://{}/gateway.db", rig.directory.path().display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut holder = runtime.block_on(async {
        sqlx::any::install_default_drivers();
        let mut holder = <sqlx::AnyConnection as sqlx::Connection>::connect(&database)
            .await
            .unwrap();
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut holder)
            .await
            .unwrap();
        holder
    });
    let response = rig.call("POST", "/v1/consumers", Some(&json!({ "name": "acme" })));
    assert_eq!(refusal(&response), (503, "store_unavailable".to_owned()));
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(
        rig.shown("/v1/consumers")["data"],
        json!([]),
        "reading goes on"
    );
    runtime
        .block_on(sqlx::query("COMMIT").execute(&mut holder))
        .unwrap();
    rig.made("/v1/consumers", &json!({ "name": "acme" }));
}

#[test]
fn a_call_that_asks_for_other_tags_touches_nothing() {
    let rig = Rig::new();
    let consumer = rig.made(
        "/v1/consumers",
        &json!({ "name": "acme", "tags": { "org": "acme", "plan": "gold" } }),
    );
    let path = format!("/v1/consumers/{}", text(&consumer, "id"));
    let key = rig.made(&format!("{path}/keys"), &json!({}));
    let key_path = format!("/v1/keys/{}", text(&key, "id"));
    let before = (rig.shown(&path), rig.shown(&key_path));
    let calls = [
        ("GET", path.clone(), None),
        ("PATCH", path.clone(), Some(json!({ "name": "taken over" }))),
        ("GET", format!("{path}/keys"), None),
        ("POST", format!("{path}/keys"), Some(json!({}))),
        ("GET", key_path.clone(), None),
        (
            "PATCH",
            key_path.clone(),
            Some(json!({ "description": "changed" })),
        ),
        ("POST", format!("{key_path}/disable"), None),
        ("POST", format!("{key_path}/enable"), None),
        ("POST", format!("{key_path}/roll"), Some(json!({}))),
        ("POST", format!("{path}/roll"), Some(json!({}))),
        ("POST", format!("{key_path}/revoke"), None),
        ("DELETE", key_path.clone(), None),
        ("DELETE", path.clone(), None),
    ];
    for (method, path, body) in &calls {
        for tags in [
            "tag.org=other",
            "tag.org=Acme",
            "tag.org=",
            "tag.org=acme&tag.plan=iron",
            "tag.none=acme",
        ] {
            let response = rig.call(method, &format!("{path}?{tags}"), body.as_ref());
            assert_eq!(
                refusal(&response),
                (412, "tag_mismatch".to_owned()),
                "{method} {path} {tags}"
            );
        }
    }
    assert_eq!((rig.shown(&path), rig.shown(&key_path)), before);
    assert_eq!(
        rig.shown(&format!("{path}/keys"))["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    for (method, path, body) in &calls {
        let response = rig.call(
            method,
            &format!("{path}?tag.org=acme&tag.plan=gold"),
            body.as_ref(),
        );
        // The revoked key is enabled no more, and changed no more: the order above sees to it that nothing else fails.
        assert!(
            matches!(response.status, 200 | 201),
            "{method} {path}: {}",
            response.text()
        );
    }
}

#[test]
fn the_audit_names_the_token() {
    let rig = Rig::new();
    rig.call_as(
        CI,
        "POST",
        "/v1/consumers",
        &[],
        Some(&json!({ "name": "by-ci" })),
    );
    rig.made("/v1/buckets", &json!({ "name": "by-admin" }));
    let database = format!("sqlite://{}/gateway.db", rig.directory.path().display());
    let rows: Vec<(String, String)> = tokio::runtime::Runtime::new().unwrap().block_on(async {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&database).await.unwrap();
        sqlx::query_as("SELECT actor, action FROM audit ORDER BY id")
            .fetch_all(&pool)
            .await
            .unwrap()
    });
    let expected = [
        ("api:ci", "consumer.create"),
        ("api:admin", "bucket.create"),
    ];
    assert_eq!(
        rows,
        expected.map(|(actor, action)| (actor.to_owned(), action.to_owned()))
    );
}

#[test]
fn no_operation_takes_a_parameter_that_there_is_not() {
    let rig = Rig::new();
    for endpoint in admin::endpoints() {
        let (method, path) = (
            endpoint.method.as_str(),
            endpoint
                .path
                .replace("{id}", "key_0123456789abcdefghij")
                .replace("{name}", "default"),
        );
        let path = if path.starts_with("/v1/consumers/") {
            path.replace("key_", "csmr_")
        } else if path.starts_with("/v1/gateways/") {
            path.replace("key_0123456789abcdefghij", "gw_0123456789abcdef")
        } else {
            path
        };
        if path == "/v1/auth" {
            // Its query is that of the request in question.
            continue;
        }
        let response = rig.call(method, &format!("{path}?colour=red"), None);
        assert_eq!(
            refusal(&response),
            (400, "invalid_parameter".to_owned()),
            "{method} {path}: {}",
            response.text()
        );
        assert_eq!(
            response.json()["errors"][0]["parameter"],
            "colour",
            "{method} {path}"
        );
    }
}

#[test]
fn every_call_that_names_a_consumer_or_a_key_holds_to_the_tags() {
    let rig = Rig::new();
    let acme = rig.made(
        "/v1/consumers",
        &json!({ "name": "acme", "tags": { "org": "acme" } }),
    );
    let id = text(&acme, "id").to_owned();
    let made = rig.made("/v1/keys", &json!({ "consumer_id": id }));
    let (key, plain) = (text(&made, "id").to_owned(), text(&made, "key").to_owned());
    let before = rig.call("GET", &format!("/v1/keys/{key}"), None).text();
    let mut guarded = 0;
    for endpoint in admin::endpoints() {
        let path = match endpoint.path {
            path if path.starts_with("/v1/consumers/{id}") => path.replace("{id}", &id),
            path if path.starts_with("/v1/keys/{id}") => path.replace("{id}", &key),
            _ => continue,
        };
        guarded += 1;
        let body = match path.rsplit('/').next() {
            _ if endpoint.method == "PATCH" => Some(json!({})),
            Some("adjust") => Some(json!({ "name": "monthly", "by": 1 })),
            Some("reset") => Some(json!({ "name": "monthly" })),
            _ => None,
        };
        let other = rig.call(
            endpoint.method.as_str(),
            &format!("{path}?tag.org=other"),
            body.as_ref(),
        );
        assert_eq!(
            refusal(&other),
            (412, "tag_mismatch".to_owned()),
            "{} {path}: {}",
            endpoint.method,
            other.text()
        );
    }
    assert!(guarded >= 12, "{guarded}");
    assert_eq!(
        rig.call("GET", &format!("/v1/keys/{key}?tag.org=acme"), None)
            .text(),
        before
    );
    for (path, body, status) in [
        ("/v1/keys/verify", json!({ "key": plain }), 200),
        ("/v1/keys", json!({ "consumer_id": id }), 201),
        ("/v1/keys", json!({ "consumer": "acme" }), 201),
    ] {
        let ask = |query: &str| rig.call("POST", &format!("{path}{query}"), Some(&body));
        assert_eq!(
            refusal(&ask("?tag.org=other")),
            (412, "tag_mismatch".to_owned()),
            "{body}"
        );
        assert_eq!(ask("?tag.org=acme").status, status, "{body}");
        assert_eq!(ask("").status, status, "{body}");
    }
    // One that would be made has no tags; a key that nobody has is nobody's.
    let new = rig.call(
        "POST",
        "/v1/keys?tag.org=acme",
        Some(&json!({ "consumer": "new" })),
    );
    assert_eq!(refusal(&new), (412, "tag_mismatch".to_owned()));
    assert_eq!(
        rig.call("GET", "/v1/consumers?name=new", None).json()["data"],
        json!([])
    );
    let unknown = rig.call(
        "POST",
        "/v1/keys/verify?tag.org=acme",
        Some(&json!({ "key": "nobody's" })),
    );
    assert_eq!(unknown.json()["code"], "api_key_invalid");
}

#[test]
fn a_bucket_that_is_not_there_is_not_found() {
    let rig = Rig::new();
    for path in ["/v1/consumers", "/v1/keys", "/v1/usage"] {
        let response = rig.call("GET", &format!("{path}?bucket=nope"), None);
        assert_eq!(refusal(&response), (404, "not_found".to_owned()), "{path}");
        assert_eq!(
            response.json()["errors"][0]["parameter"],
            "bucket",
            "{path}"
        );
        assert_eq!(
            rig.call("GET", &format!("{path}?bucket=default"), None)
                .status,
            200,
            "{path}"
        );
    }
}
