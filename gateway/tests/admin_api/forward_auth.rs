//! `/v1/auth`: what the gateway says to requests that other proxies ask about. The proxies themselves run in
//! `make test-forward-auth`, with the texts that are made here.

mod texts;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_shared::headers::{PRIVILEGED, SHARED_SECRET, identity};
use serde_json::json;

use crate::client::{Response, get};
use crate::rig::{Rig, text};

const ROUTES: &str = "
[[routes]]
path = \"/orders\"
methods = [\"GET\", \"POST\"]
scopes = [\"orders:read\"]

[[routes]]
path = \"/public\"
on_missing_key = \"anonymous\"

[[routes]]
path = \"/admin\"
hosts = [\"admin.example\"]
";

/// A gateway with the routes, and a key of a consumer that may read orders.
fn rig() -> (Rig, String) {
    let rig = Rig::with_file(ROUTES);
    let consumer = rig.made(
        "/v1/consumers",
        &json!({ "name": "acme", "scopes": ["orders:read"] }),
    );
    let key = rig.made(
        &format!("/v1/consumers/{}/keys", text(&consumer, "id")),
        &json!({}),
    );
    let line = format!("authorization: Bearer {}", text(&key, "key"));
    assert!(
        auth(&rig, "/v1/auth", &[&line, "x-original-uri: /orders"]).status == 200,
        "the key is known"
    );
    (rig, line)
}

fn auth(rig: &Rig, path: &str, lines: &[&str]) -> Response {
    get(rig.admin, path, lines)
}

#[test]
fn the_request_is_named_as_each_proxy_names_it() {
    let (rig, key) = rig();
    // `STATUS CODE => PATH ⏎ HEADER…`
    let table = "
        200 => /v1/auth ⏎ x-original-uri: /orders/7?a=b
        403 method_not_allowed => /v1/auth ⏎ x-original-uri: /orders/7 ⏎ x-original-method: DELETE
        403 no_route => /v1/auth ⏎ x-original-uri: /elsewhere
        200 => /v1/auth ⏎ x-forwarded-uri: /orders/7 ⏎ x-forwarded-method: POST
        405 method_not_allowed => /v1/auth ⏎ x-forwarded-uri: /orders/7 ⏎ x-forwarded-method: DELETE
        200 => /v1/auth ⏎ x-forwarded-uri: /admin ⏎ x-forwarded-host: admin.example
        404 no_route => /v1/auth ⏎ x-forwarded-uri: /admin ⏎ x-forwarded-host: other.example
        400 ambiguous_path => /v1/auth ⏎ x-forwarded-uri: /orders/%2e%2e/admin
        400 ambiguous_path => /v1/auth ⏎ x-forwarded-uri: /;/orders/7
        400 ambiguous_path => /v1/auth ⏎ x-forwarded-uri: /%6frders
        200 => /v1/auth ⏎ x-forwarded-uri: /orders ⏎ x-forwarded-method: HEAD
        200 => /v1/auth ⏎ x-forwarded-uri: /admin ⏎ x-forwarded-host: ADMIN.example.:80
        400 ambiguous_path => /v1/auth/orders;x=1
        200 => /v1/auth/orders/7?a=b
        404 no_route => /v1/auth/elsewhere
        # What one origin unescapes, and another does not, falls under two routes.
        400 ambiguous_path => /v1/auth/%6frders/7
        400 ambiguous_path => /v1/auth/%256frders/7
        400 ambiguous_path => /v1/auth//orders
        400 ambiguous_path => /v1/auth/public/../orders
        403 ambiguous_path => /v1/auth ⏎ x-original-uri: /%256frders
        # By the path, too, the host is the one that the client asked for.
        404 no_route => /v1/auth/admin
        404 no_route => /v1/auth
        # A method in the words of one proxy, and the path in those of another.
        403 ambiguous_request => /v1/auth ⏎ x-forwarded-uri: /orders ⏎ x-original-method: DELETE
        403 ambiguous_request => /v1/auth ⏎ x-original-uri: /orders ⏎ x-forwarded-method: DELETE
        # What the client sent beside what the proxy says.
        403 ambiguous_request => /v1/auth ⏎ x-original-uri: /admin ⏎ x-forwarded-uri: /public
        403 ambiguous_request => /v1/auth ⏎ x-original-uri: /admin ⏎ x-original-uri: /public
        403 ambiguous_request => /v1/auth ⏎ x-forwarded-uri: /orders ⏎ x-forwarded-method: GET ⏎ x-forwarded-method: POST
        403 ambiguous_request => /v1/auth ⏎ x-forwarded-uri: /orders ⏎ x-forwarded-host: a ⏎ x-forwarded-host: b
        # A request that is named in part would be taken for another.
        403 ambiguous_request => /v1/auth ⏎ x-original-method: GET
        403 ambiguous_request => /v1/auth ⏎ x-forwarded-method: GET
        403 ambiguous_request => /v1/auth ⏎ x-original-url: http://a.example/orders ⏎ x-original-method: GET
        # The path names it already.
        403 ambiguous_request => /v1/auth/orders/7 ⏎ x-original-uri: /orders
        403 ambiguous_request => /v1/auth/orders/7 ⏎ x-forwarded-uri: /orders
        403 ambiguous_request => /v1/auth/orders/7 ⏎ x-forwarded-method: GET
        403 ambiguous_request => /v1/auth/orders/7 ⏎ x-original-method: GET
        403 ambiguous_request => /v1/auth ⏎ x-original-uri: a b
        403 ambiguous_request => /v1/auth ⏎ x-original-uri: /orders#b
        403 ambiguous_request => /v1/auth ⏎ x-forwarded-uri: /orders#b
    ";
    for row in table.trim().lines().map(str::trim) {
        let Some((wanted, request)) = row.split_once(" => ") else {
            assert!(row.starts_with('#'), "{row}");
            continue;
        };
        let mut lines: Vec<&str> = request.split(" ⏎ ").collect();
        let path = std::mem::replace(&mut lines[0], &key);
        let response = auth(&rig, path, &lines);
        let said = match response.status {
            200 => "200".to_owned(),
            status => format!("{status} {}", response.code()),
        };
        assert_eq!(said, wanted, "{request}: {}", response.text());
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn methods_are_judged_as_the_proxy_forwards_them() {
    let (rig, key) = rig();
    for (method, path, lines, status) in [
        ("GET", "/v1/auth/orders/7", &[key.as_str()][..], 200),
        ("POST", "/v1/auth/orders/7", &[&key], 200),
        ("DELETE", "/v1/auth/orders/7", &[&key], 405),
        ("HEAD", "/v1/auth/public", &[], 200),
        ("OPTIONS", "/v1/auth/orders", &[], 405),
        ("OPTIONS", "/v1/auth/public", &[], 200),
        ("TRACE", "/v1/auth/public", &[], 405),
        ("CONNECT", "/v1/auth/public", &[], 405),
        (
            "GET",
            "/v1/auth",
            &[
                &key,
                "x-original-uri: /orders",
                "x-original-method: CONNECT",
            ],
            403,
        ),
        (
            "GET",
            "/v1/auth",
            &[
                &key,
                "x-forwarded-uri: /orders",
                "x-forwarded-method: OPTIONS",
            ],
            405,
        ),
        (
            "GET",
            "/v1/auth",
            &[&key, "x-forwarded-uri: /orders", "x-forwarded-method: N T"],
            403,
        ),
    ] {
        let response = rig.raw(method, path, lines, b"");
        assert_eq!(
            response.status,
            status,
            "{method} {path} {lines:?}: {}",
            response.text()
        );
    }
    // A body that comes along is nobody's, and does no harm.
    let response = rig.raw("POST", "/v1/auth/orders", &[&key], b"0123456789");
    assert_eq!(response.status, 200, "{}", response.text());
}

#[test]
fn every_answer_has_every_identity_header_once() {
    let (rig, key) = rig();
    let said = [
        "x-consumer-id",
        "x-consumer-username",
        "x-consumer-groups",
        "x-credential-identifier",
    ];
    for (path, lines, filled) in [
        (
            "/v1/auth",
            &[key.as_str(), "x-original-uri: /orders"][..],
            &said[..],
        ),
        ("/v1/auth", &[&key, "x-forwarded-uri: /orders"], &said),
        ("/v1/auth/orders", &[&key], &said),
        (
            "/v1/auth",
            &["x-original-uri: /public"],
            &["x-anonymous-consumer"],
        ),
        ("/v1/auth/public", &[], &["x-anonymous-consumer"]),
    ] {
        // What the client sent under these names is in no answer.
        let forged: Vec<String> = PRIVILEGED
            .iter()
            .map(|name| format!("{name}: forged"))
            .collect();
        let forged = forged.iter().map(String::as_str);
        let lines: Vec<&str> = lines.iter().copied().chain(forged).collect();
        let response = auth(&rig, path, &lines);
        assert_eq!(
            response.status,
            200,
            "{path} {lines:?}: {}",
            response.text()
        );
        for name in identity() {
            let values: Vec<&str> = response
                .headers
                .iter()
                .filter(|(found, _)| found == name)
                .map(|(_, value)| value.as_str())
                .collect();
            let [value] = values[..] else {
                panic!("{path} {lines:?}: {name}: {values:?}");
            };
            assert_eq!(
                !value.is_empty(),
                filled.contains(&name),
                "{path}: {name}: {value}"
            );
            assert_ne!(value, "forged");
        }
        assert_eq!(response.header(SHARED_SECRET), None);
        let removed = response.header("x-envoy-auth-headers-to-remove");
        if path == "/v1/auth" {
            assert_eq!(removed, None);
        } else {
            let mut removed: Vec<&str> = removed.unwrap().split(',').collect();
            removed.sort_unstable();
            let mut wanted: Vec<&str> = identity().filter(|name| !filled.contains(name)).collect();
            wanted.extend(["authorization", SHARED_SECRET]);
            wanted.sort_unstable();
            assert_eq!(removed, wanted);
        }
    }
}

#[test]
fn what_a_proxy_could_not_take_back_is_refused() {
    let (rig, key) = rig();
    for canonical in PRIVILEGED {
        for mark in "!#$%&'*+.^_`|~".chars() {
            let mark = mark.to_string();
            for name in [
                canonical.replace('-', &mark),
                canonical.replacen('-', &mark, 1),
            ] {
                for name in [name.to_uppercase(), name] {
                    let line = format!("{name}: forged");
                    for (path, lines) in [
                        (
                            "/v1/auth",
                            &[key.as_str(), "x-original-uri: /orders", &line][..],
                        ),
                        ("/v1/auth", &["x-forwarded-uri: /public", &line]),
                        ("/v1/auth/orders", &[&key, &line]),
                    ] {
                        let response = auth(&rig, path, lines);
                        assert_eq!(
                            (response.status, response.code().as_str()),
                            (403, "ambiguous_request"),
                            "{path} {name}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_document_has_the_texts_that_are_made_from_the_header_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORWARD-AUTH.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let mut wanted = found.clone();
    for (mark, language, text) in texts::texts() {
        let (before, rest) = wanted
            .split_once(&format!("<!-- {mark} -->\n```"))
            .unwrap_or_else(|| panic!("docs/FORWARD-AUTH.md has no mark {mark}"));
        let (_, after) = rest.split_once("\n```\n").unwrap();
        wanted = format!("{before}<!-- {mark} -->\n```{language}\n{text}```\n{after}");
    }
    if std::env::var_os("WRITE_FORWARD_AUTH").is_some() {
        return std::fs::write(&path, &wanted).unwrap();
    }
    let differing = found
        .lines()
        .zip(wanted.lines())
        .find(|(found, wanted)| found != wanted);
    assert_eq!(
        (differing, found.lines().count()),
        (None, wanted.lines().count()),
        "docs/FORWARD-AUTH.md is not what the header table makes of it; WRITE_FORWARD_AUTH=1 writes it anew"
    );
    for name in identity() {
        assert!(
            wanted.contains(&format!("`{name}`")),
            "the table does not explain {name}"
        );
    }
}

#[test]
fn the_answer_says_who_is_calling_and_no_secret() {
    let (rig, key) = rig();
    let response = auth(
        &rig,
        "/v1/auth",
        &[
            &key,
            "x-original-uri: /orders",
            "x-request-id: mine-1",
            "x-consumer-id: forged",
        ],
    );
    assert_eq!(response.status, 200);
    assert_eq!(
        (
            response.header("x-consumer-username"),
            response.header("x-consumer-groups")
        ),
        (Some("acme"), Some("orders:read"))
    );
    assert!(
        response
            .header("x-consumer-id")
            .unwrap()
            .starts_with("csmr_")
    );
    assert!(
        response
            .header("x-credential-identifier")
            .unwrap()
            .starts_with("key_")
    );
    assert_eq!(
        (
            response.header("x-request-id"),
            response.header("x-shared-secret")
        ),
        (Some("mine-1"), None)
    );

    let anonymous = auth(
        &rig,
        "/v1/auth",
        &["x-original-uri: /public/x", "x-consumer-id: forged"],
    );
    assert_eq!(
        (anonymous.status, anonymous.header("x-anonymous-consumer")),
        (200, Some("true"))
    );
    assert_eq!(anonymous.header("x-consumer-id"), Some(""));
    let missing = auth(&rig, "/v1/auth", &["x-original-uri: /orders"]);
    assert_eq!(
        (missing.status, missing.code().as_str()),
        (401, "api_key_missing")
    );
    assert!(
        missing
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer realm=")
    );
}

#[test]
fn the_key_is_read_where_the_route_of_the_original_request_takes_it_from() {
    let rig = Rig::with_file(
        "
[[routes]]
path = \"/bearer\"

[[routes]]
path = \"/header\"
key_sources = [\"header:x-api-key\"]

[[routes]]
path = \"/basic\"
key_sources = [\"basic\"]

[[routes]]
path = \"/cookie\"
key_sources = [\"cookie:key\"]

[[routes]]
path = \"/query\"
key_sources = [\"query:key\"]
",
    );
    let consumer = rig.made("/v1/consumers", &json!({ "name": "acme" }));
    let path = format!("/v1/consumers/{}/keys", text(&consumer, "id"));
    let made = rig.made(&path, &json!({}));
    let key = text(&made, "key");
    let header = format!("x-api-key: {key}");
    let bearer = format!("authorization: Bearer {key}");
    let basic = format!(
        "authorization: Basic {}",
        STANDARD.encode(format!("{key}:"))
    );
    let cookie = format!("cookie: a=1; key={key}");
    let query = format!("/query?a=1&key={key}");
    let theirs = "authorization: Basic eDp5";
    for (target, lines, wanted, removed) in [
        ("/bearer", &[&*bearer][..], "ok", "authorization"),
        ("/header", &[&header], "ok", "x-api-key"),
        ("/header", &[&header, theirs], "ok", "x-api-key"),
        (
            "/header",
            &[&header, &bearer],
            "ok",
            "x-api-key authorization",
        ),
        (
            "/header",
            &[&header, &basic],
            "ok",
            "x-api-key authorization",
        ),
        ("/header", &[&bearer], "api_key_missing", ""),
        ("/basic", &[&basic], "ok", "authorization"),
        ("/cookie", &[&cookie], "ok", ""),
        ("/cookie", &[&cookie, theirs], "ok", ""),
        (&query, &[], "ok", ""),
        ("/query", &[&header], "api_key_missing", ""),
        (&query.replace("/query", "/bearer"), &[], "key_in_url", ""),
        (&format!("{query}&key=x"), &[], "invalid_request", ""),
    ] {
        let named = format!("x-forwarded-uri: {target}");
        let below = format!("/v1/auth{target}");
        for (path, lines) in [
            ("/v1/auth", [lines, &[&*named]].concat()),
            (&below, lines.to_vec()),
        ] {
            let response = auth(&rig, path, &lines);
            assert!(!format!("{response:?}").contains(key), "{response:?}");
            let code = match response.status {
                200 => "ok".to_owned(),
                _ => response.code(),
            };
            assert_eq!(code, wanted, "{path} {lines:?}");
            if wanted == "ok" {
                assert_eq!(
                    response.header("x-consumer-username"),
                    Some("acme"),
                    "{path}"
                );
            }
            if wanted == "ok" && path != "/v1/auth" {
                let told = response.header("x-envoy-auth-headers-to-remove").unwrap();
                let told: Vec<&str> = told
                    .split(',')
                    .filter(|name| !PRIVILEGED.contains(name))
                    .collect();
                assert_eq!(told.join(" "), removed, "{path} {lines:?}");
            }
        }
    }
    // Elsewhere on the listener, a key in a URL is what it was.
    for path in [
        format!("/v1/auth?key={key}"),
        format!("/v1/auth/query/{key}?key={key}"),
    ] {
        let refused = auth(&rig, &path, &["x-forwarded-uri: /query"]);
        assert_eq!(refused.code(), "key_in_url");
        assert!(!format!("{refused:?}").contains(key), "{refused:?}");
    }
}
