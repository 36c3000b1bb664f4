//! Pages of other origins: what a browser asks first, and what it lets a page read.

use std::io::Write as _;

use crate::client::{Response, exchange};
use crate::http2::{Client, request};
use crate::nowhere::nowhere;
use crate::origin::Origin;
use crate::rig::{Rig, SECRET, gateway};

const PAGE: &str = "origin: https://app.example.com";

fn routes(away: &str) -> String {
    format!(
        r#"
[listen]
http2_prior_knowledge = true

[cors]
origins = ["https://app.example.com", "http://localhost:5173"]
headers = ["Content-Type", "X-Page"]
exposed_headers = ["X-Total"]
credentials = true

[[rate_limits]]
name = "once"
by = "key"
limit = 1
window = "1h"
routes = ["limited"]

[[routes]]
path = "/"
hosts = ["h"]

[[routes]]
path = "/scoped"
scopes = ["orders"]

[[routes]]
name = "limited"
path = "/limited"

[[routes]]
path = "/away"
upstream = "http://{away}"

[[routes]]
path = "/key"
methods = ["POST"]
key_sources = ["header:X-API-Key"]

[[routes]]
path = "/public"
on_missing_key = "anonymous"
[routes.cors]
origins = ["*"]
credentials = false
methods = ["GET"]
headers = ["*"]
max_age = "1h"

[[routes]]
path = "/own"
on_missing_key = "anonymous"
cors = {{ origins = [] }}
"#
    )
}

/// An origin that has CORS of its own.
fn origin() -> Origin {
    Origin::answering(|_, socket| {
        let _ = socket.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\naccess-control-allow-origin: *\r\n\
              access-control-allow-credentials: true\r\naccess-control-expose-headers: x-theirs\r\n\
              access-control-max-age: 5\r\nx-total: 3\r\n\r\nhello",
        );
    })
}

fn rig(origin: &Origin) -> Rig {
    Rig::with(&origin.url(), &routes(&nowhere().to_string()))
}

fn send(rig: &Rig, start: &str, lines: &[&str]) -> Response {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    exchange(
        rig.public,
        format!("{start} HTTP/1.1\r\nhost: h\r\n{lines}\r\n"),
    )
}

/// The headers of the protocol in an answer, sorted, without their common beginning.
fn told(response: &Response) -> Vec<String> {
    let mut told: Vec<String> = response
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("access-control-")?, value)))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    told.sort_unstable();
    told
}

fn varies_by_origin(response: &Response) -> bool {
    let vary = response.header("vary").unwrap_or_default();
    vary.split(',')
        .any(|name| name.trim().eq_ignore_ascii_case("origin"))
}

#[test]
fn a_preflight_is_answered_without_a_key_and_without_the_origin() {
    const ALL: &str = "allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    const NAMED: &str = "allow-origin: https://app.example.com";
    let origin = origin();
    let rig = rig(&origin);
    let mut client = Client::open(rig.public);
    let asks = |method| format!("access-control-request-method: {method}");
    let sends = |names: &str| format!("access-control-request-headers: {names}");
    for (target, lines, wanted) in [
        (
            "/a",
            vec![
                PAGE.to_owned(),
                asks("DELETE"),
                sends("authorization,content-type"),
            ],
            Ok(vec![
                "allow-credentials: true",
                "allow-headers: authorization, content-type",
                ALL,
                NAMED,
                "max-age: 600",
            ]),
        ),
        (
            "/a",
            vec!["origin: http://localhost:5173".to_owned(), asks("GET")],
            Ok(vec![
                "allow-credentials: true",
                ALL,
                "allow-origin: http://localhost:5173",
                "max-age: 600",
            ]),
        ),
        // By the route of the request that it announces, and where that takes its key from.
        (
            "/key",
            vec![PAGE.to_owned(), asks("POST"), sends("x-api-key")],
            Ok(vec![
                "allow-credentials: true",
                "allow-headers: x-api-key",
                "allow-methods: POST",
                NAMED,
                "max-age: 600",
            ]),
        ),
        (
            "/public",
            vec![
                "origin: null".to_owned(),
                asks("GET"),
                sends("x-any, authorization"),
            ],
            Ok(vec![
                "allow-headers: x-any, authorization",
                "allow-methods: GET, HEAD",
                "allow-origin: *",
                "max-age: 3600",
            ]),
        ),
        (
            "/a",
            vec!["origin: https://evil.example".to_owned(), asks("GET")],
            Err("of this origin"),
        ),
        (
            "/a",
            vec!["origin: null".to_owned(), asks("GET")],
            Err("of this origin"),
        ),
        (
            "/a",
            vec!["origin: http://app.example.com".to_owned(), asks("GET")],
            Err("of this origin"),
        ),
        (
            "/a",
            vec![PAGE.to_owned(), asks("TRACE")],
            Err("this method"),
        ),
        (
            "/public",
            vec![PAGE.to_owned(), asks("PUT")],
            Err("this method"),
        ),
        (
            "/a",
            vec![PAGE.to_owned(), asks("GET"), sends("x-other")],
            Err("these headers"),
        ),
        (
            "/key",
            vec![PAGE.to_owned(), asks("POST"), sends("authorization")],
            Err("these headers"),
        ),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let response = send(&rig, &format!("OPTIONS {target}"), &lines);
        let answer = client.ask(
            request("OPTIONS", &format!("http://h{target}"), &lines),
            b"",
        );
        assert_eq!(answer.status, response.status, "{target} {lines:?}");
        assert!(varies_by_origin(&response), "{response:?}");
        match wanted {
            Ok(wanted) => {
                assert_eq!(
                    (response.status, response.body.len()),
                    (204, 0),
                    "{target} {lines:?}: {}",
                    response.text()
                );
                assert_eq!(told(&response), wanted, "{target} {lines:?}");
                assert!(
                    response
                        .header("vary")
                        .unwrap()
                        .contains("access-control-request-headers")
                );
                assert!(response.header("x-request-id").is_some());
                assert_eq!(
                    answer.header("access-control-max-age"),
                    response.header("access-control-max-age")
                );
            }
            Err(wanted) => {
                assert_eq!(
                    (response.status, response.code().as_str()),
                    (403, "cors_refused"),
                    "{target} {lines:?}"
                );
                let detail = response.json()["detail"].to_string();
                assert!(detail.contains(wanted), "{target} {lines:?}: {detail}");
            }
        }
    }
    assert!(origin.arrived().is_empty());
    // Where no route is known, [cors] decides, so that the page can read why.
    let asked = asks("GET");
    for (host, target) in [("other", "/a"), ("h", "/key"), ("h", "/a%2fb")] {
        let head =
            format!("OPTIONS {target} HTTP/1.1\r\nhost: {host}\r\n{PAGE}\r\n{asked}\r\n\r\n");
        assert_eq!(exchange(rig.public, head).status, 204, "{host} {target}");
    }
    // Other requests with OPTIONS are none, and need a key as ever.
    for lines in [&[PAGE][..], &["access-control-request-method: GET"], &[]] {
        let response = send(&rig, "OPTIONS /a", lines);
        assert_eq!(response.code(), "api_key_missing", "{lines:?}");
    }
    let method = asks("GET");
    let with_body = [PAGE, &method, "content-length: 1"];
    assert_eq!(
        send(&rig, "OPTIONS /a", &with_body).code(),
        "api_key_missing"
    );
    assert!(origin.arrived().is_empty());
}

#[test]
fn a_page_can_read_answers_and_refusals_alike() {
    const EXPOSED: &str = "expose-headers: x-request-id, retry-after, ratelimit, ratelimit-policy, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, deprecation, sunset, x-total";
    let origin = origin();
    let rig = rig(&origin);
    let key = rig.key("acme", &[]).header();
    assert_eq!(send(&rig, "GET /limited", &[&key]).status, 200);
    for (start, lines, status) in [
        ("GET /a", &[key.as_str()][..], 200),
        ("GET /a", &[], 401),
        ("GET /a", &["authorization: Bearer wrong"], 401),
        ("GET /a", &[&key, &key], 400),
        ("GET /scoped", &[&key], 403),
        ("GET /limited", &[&key], 429),
        ("GET /away", &[&key], 502),
        ("GET /a%2fb", &[&key], 400),
        ("POST /a", &[&key, "content-length: 99999999999"], 413),
    ] {
        let page = [lines, &[PAGE]].concat();
        let response = send(&rig, start, &page);
        assert_eq!(
            response.status,
            status,
            "{start} {lines:?}: {}",
            response.text()
        );
        let wanted = [
            "allow-credentials: true",
            "allow-origin: https://app.example.com",
            EXPOSED,
        ];
        assert_eq!(told(&response), wanted, "{start} {lines:?}");
        // Pages that may not call, and what is no page, are answered as ever; caches keep them apart.
        for other in [
            &["origin: https://evil.example"][..],
            &["origin: null"],
            &[PAGE, PAGE],
            &[],
        ] {
            let response = send(&rig, start, &[lines, other].concat());
            assert_eq!(response.status, status, "{start} {lines:?} {other:?}");
            assert_eq!(told(&response), [""; 0], "{start} {lines:?} {other:?}");
            assert!(varies_by_origin(&response), "{start} {lines:?} {other:?}");
        }
        assert!(varies_by_origin(&response), "{start} {lines:?}");
    }
    // Where no route is known, [cors] decides.
    let nowhere = exchange(
        rig.public,
        format!("GET / HTTP/1.1\r\nhost: other\r\n{PAGE}\r\n\r\n"),
    );
    assert_eq!((nowhere.status, told(&nowhere).len()), (404, 3));
    let public = send(&rig, "GET /public", &[PAGE]);
    assert_eq!(told(&public), ["allow-origin: *", EXPOSED]);
    let mut client = Client::open(rig.public);
    let answer = client.ask(request("GET", "http://h/a", &[PAGE]), b"");
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
}

#[test]
fn a_route_can_leave_it_to_its_origin() {
    let origin = origin();
    let rig = rig(&origin);
    let theirs = [
        "allow-credentials: true",
        "allow-origin: *",
        "expose-headers: x-theirs",
        "max-age: 5",
    ];
    let preflight = [PAGE, "access-control-request-method: GET"];
    for (start, lines) in [("GET /own", &[PAGE][..]), ("OPTIONS /own", &preflight)] {
        origin.forget();
        let response = send(&rig, start, lines);
        assert_eq!(
            (response.status, told(&response)),
            (200, theirs.map(str::to_owned).to_vec()),
            "{start}"
        );
        assert_eq!(response.header("vary"), Some("authorization"));
        assert_eq!(origin.only().one("origin"), Some("https://app.example.com"));
    }
    // Without settings, so do all.
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    let response = send(
        &rig,
        "OPTIONS /",
        &[&[key.as_str()][..], &preflight].concat(),
    );
    assert_eq!(told(&response), theirs);
    assert_eq!(
        send(&rig, "OPTIONS /", &preflight).code(),
        "api_key_missing"
    );
}

#[test]
fn settings_that_browsers_would_not_follow_are_refused() {
    let check = |file: &str| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
        let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"]);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    for (settings, path, wanted) in [
        (r#"origins = ["null"]"#, "origins[0]", "sandboxed"),
        (
            r#"origins = ["https://a.example/"]"#,
            "origins[0]",
            "leave out the path",
        ),
        (
            r#"origins = ["https://a.example/b"]"#,
            "origins[0]",
            "leave out the path",
        ),
        (
            r#"origins = ["http://a.example", "a.example"]"#,
            "origins[1]",
            "https://app.example.com",
        ),
        (
            r#"origins = ["https://*.a.example"]"#,
            "origins[0]",
            "for every one",
        ),
        (
            r#"origins = ["https://a.example:443"]"#,
            "origins[0]",
            "leave it out",
        ),
        (
            r#"origins = ["*", "https://a.example"]"#,
            "origins",
            "alone",
        ),
        (
            "origins = [\"*\"]\ncredentials = true",
            "credentials",
            "list the origins",
        ),
        (r#"methods = ["FETCH"]"#, "methods[0]", "GET, HEAD"),
        (r#"headers = ["x page"]"#, "headers[0]", "X-Page"),
        (
            "credentials = true\nexposed_headers = [\"*\"]",
            "exposed_headers",
            "list the headers",
        ),
        (r#"max_age = "2days""#, "max_age", "1day"),
        (r#"origin = "*""#, "origin", "no such setting"),
    ] {
        for (table, section) in [
            ("[cors]\n", "cors"),
            ("[[routes]]\n[routes.cors]\n", "routes[0].cors"),
        ] {
            let (code, _, said) = check(&format!("{table}{settings}\n"));
            assert_eq!(code, 2, "{settings}: {said}");
            let begin = format!("{section}.{path} (from");
            let line = said
                .lines()
                .find(|line| line.trim_start().starts_with(&begin));
            assert!(
                line.is_some_and(|line| line.contains(wanted)),
                "{settings}: {said}"
            );
        }
    }
    // A route has the settings of [cors] that its own table leaves out, and `check` prints TOML.
    let file = "[cors]\norigins = [\"HTTPS://App.Example.com\"]\nmax_age = \"5m\"\n[[routes]]\n[routes.cors]\ncredentials = true\n[[routes]]\npath = \"/a\"\n";
    let (code, shown, said) = check(file);
    assert_eq!(code, 0, "{said}");
    let (_, of_route) = shown.split_once("\n[routes.cors]\n").unwrap();
    let of_route = of_route.split_once("\n[").unwrap().0;
    for line in [
        "origins = [\"https://app.example.com\"]  # default",
        "credentials = true  # gateway.toml",
        "max_age = \"5m\"  # default",
    ] {
        assert!(of_route.contains(line), "{of_route}");
    }
    let lines: Vec<&str> = shown.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(
        lines.iter().filter(|line| **line == "[[routes]]").count(),
        2,
        "{lines:?}"
    );
}
