//! A key asks about itself: what it is told, by which rules, and that it costs nothing of its limits.

use serde_json::json;

use crate::client::{Connection, exchange, get};
use crate::origin::Origin;
use crate::rig::Rig;

const ROUTES: &str = "[cors]\norigins = [\"https://app.example.com\"]\n\
    [[routes]]\npath = \"/v1\"\nname = \"v1\"\nscopes = [\"read\"]\nself_path = \"/v1/whoami\"\n\
    [[routes]]\npath = \"/open\"\nname = \"open\"\non_missing_key = \"anonymous\"\nself_path = \"/open/me\"\n\
    key_sources = [\"header:X-API-Key\"]\n\
    [[routes]]\npath = \"/seen\"\nname = \"seen\"\nauth = [\"observe\"]\nself_path = \"/seen/me\"\n\
    [[routes]]\npath = \"/\"\nname = \"rest\"\n";

const LIMITS: &str = "[[rate_limits]]\nname = \"burst\"\nby = \"key\"\nlimit = 2\nwindow = \"1day\"\n\
    [[rate_limits]]\nname = \"trial\"\nby = \"consumer\"\nlimit = 9\nwindow = \"1h\"\nenforce = false\n\
    [[rate_limits]]\nname = \"everybody\"\nby = \"gateway\"\nlimit = 900\nwindow = \"1h\"\n\
    [[rate_limits]]\nname = \"team\"\nby = \"tag:org\"\nlimit = 90\nwindow = \"1h\"\n\
    [[quotas]]\nname = \"yearly\"\nby = \"consumer\"\nlimit = 2\nperiod = \"year\"\n\
    [[quotas]]\nname = \"of-the-team\"\nby = \"tag:org\"\nlimit = 20\nperiod = \"year\"\n";

fn rig(origin: &Origin, limits: &str) -> Rig {
    let rig = Rig::with(&origin.url(), &format!("{ROUTES}{limits}"));
    let scopes = ["--scope", "read", "--scope", "write"];
    let rest = ["--custom-id", "crm-7", "--tag", "org=x"];
    rig.done(&[&["consumers", "create", "acme"], &scopes[..], &rest].concat());
    rig.done(&["consumers", "create", "bare"]);
    rig
}

#[test]
fn a_key_learns_of_itself_and_of_nobody_else_and_takes_nothing_of_its_limits() {
    let origin = Origin::hello();
    let rig = rig(&origin, LIMITS);
    let key = rig.key("acme", &["--scope", "read", "--expires", "30d"]);
    let ask = || {
        let told = rig.get("/v1/whoami", &key);
        assert_eq!(told.status, 200, "{told:?}");
        assert_eq!(told.header("content-type"), Some("application/json"));
        assert_eq!(told.header("cache-control"), Some("no-store"));
        assert_eq!(told.header("vary"), Some("authorization, origin"));
        assert!(told.header("x-request-id").is_some());
        assert!(!told.text().contains(&key.key), "{told:?}");
        told.json()
    };
    let left = |told: &serde_json::Value, list: &str| {
        let list = told[list].as_array().unwrap().iter();
        list.map(|one| {
            (
                one["name"].as_str().unwrap().to_owned(),
                one["remaining"].as_u64().unwrap(),
            )
        })
        .collect::<Vec<_>>()
    };
    for _ in 0..5 {
        ask();
    }
    let mut told = ask();
    assert_eq!(left(&told, "limits"), [("burst".to_owned(), 2)]);
    assert_eq!(left(&told, "quotas"), [("yearly".to_owned(), 2)]);
    let times = [
        told["consumer"]["id"].take(),
        told["key"]["expires_at"].take(),
        told["limits"][0]["resets_at"].take(),
        told["quotas"][0]["resets_at"].take(),
    ];
    assert!(times.iter().all(serde_json::Value::is_string), "{times:?}");
    assert_eq!(
        told,
        json!({
            "consumer": { "id": null, "name": "acme", "custom_id": "crm-7" },
            "key": { "id": key.id, "scopes": ["read"], "expires_at": null, "deprecated_at": null },
            "limits": [{
                "name": "burst", "limit": 2, "window": "1d", "remaining": 2, "resets_at": null,
            }],
            "quotas": [{ "name": "yearly", "limit": 2, "remaining": 2, "resets_at": null }],
        })
    );
    assert_eq!(origin.arrived().len(), 0);

    assert_eq!(rig.get("/v1/a", &key).status, 200);
    assert_eq!(left(&ask(), "limits"), [("burst".to_owned(), 1)]);
    assert_eq!(rig.get("/v1/a", &key).status, 200);
    assert_eq!(rig.get("/v1/a", &key).status, 429);
    // Who has used up everything still learns when there will be more.
    let told = ask();
    assert_eq!(left(&told, "limits"), [("burst".to_owned(), 0)]);
    assert_eq!(left(&told, "quotas"), [("yearly".to_owned(), 0)]);
    // A successor takes over, and the old key learns that it ends.
    let rolled = rig.command(&["keys", "roll", &key.id, "--json"]);
    assert!(rolled.status.success(), "{rolled:?}");
    let told = ask();
    assert!(told["key"]["deprecated_at"].is_string(), "{told}");
}

#[test]
fn a_key_asks_by_the_rules_of_its_route_with_get_alone() {
    let origin = Origin::hello();
    let rig = rig(&origin, "");
    let (key, bare) = (rig.key("acme", &[]), rig.key("bare", &[]));
    let ended = rig.key("acme", &[]);
    rig.done(&["keys", "revoke", &ended.id]);
    let send = |line: &str, lines: &str| {
        exchange(
            rig.public,
            format!("{line} HTTP/1.1\r\nhost: h\r\n{lines}\r\n"),
        )
    };
    let line = |key: &str| format!("authorization: Bearer {key}\r\n");
    let (key, bare, ended) = (&key.key, &bare.key, &ended.key);
    for (request, lines, code) in [
        ("GET /v1/whoami", line(key), "ok"),
        ("GET /v1/whoami?a=b", line(key), "ok"),
        ("GET /v1/whoami", String::new(), "api_key_missing"),
        ("GET /v1/whoami", line(bare), "insufficient_scope"),
        ("GET /v1/whoami", line(ended), "api_key_revoked"),
        ("GET /v1/whoami", line("x"), "api_key_invalid"),
        ("POST /v1/whoami", line(key), "method_not_allowed"),
        ("DELETE /v1/whoami", String::new(), "api_key_missing"),
        (
            "GET /v1/whoami",
            line(key) + "content-length: 5\r\n",
            "bad_request",
        ),
        // Where a route lets anybody in, this path still needs a key, from where that route takes it.
        ("GET /open/me", format!("x-api-key: {bare}\r\n"), "ok"),
        ("GET /open/me", String::new(), "api_key_missing"),
        (
            "GET /open/me",
            "x-api-key: x\r\n".to_owned(),
            "api_key_invalid",
        ),
        // So it does where a route only observes.
        ("GET /seen/me", line(bare), "ok"),
        ("GET /seen/me", String::new(), "api_key_missing"),
        ("GET /seen/me", line(ended), "api_key_revoked"),
    ] {
        let told = send(request, &lines);
        assert_eq!(told.code_or_ok(), code, "{request} {lines}: {told:?}");
        if code == "method_not_allowed" {
            assert_eq!(told.header("allow"), Some("GET, HEAD"));
        }
    }
    assert_eq!(origin.arrived().len(), 0);
    let mut head = Connection::open(rig.public);
    head.send(format!(
        "HEAD /v1/whoami HTTP/1.1\r\nhost: h\r\n{}\r\n",
        line(key)
    ));
    assert_eq!(head.head().status, 200);
    // A page may read it, as the route says.
    let page = line(key) + "origin: https://app.example.com\r\n";
    let told = send("GET /v1/whoami", &page);
    assert_eq!(
        told.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    // Every other path is the origin's, other spellings of this one included.
    for path in [
        "/v1/whoami/",
        "/v1/whoam%69",
        "/v1/Whoami",
        "/whoami",
        "/v1/whoami/a",
    ] {
        let before = origin.arrived().len();
        assert_eq!(
            send(&format!("GET {path}"), &line(key)).status,
            200,
            "{path}"
        );
        assert_eq!(origin.arrived().len(), before + 1, "{path}");
    }
    let page = get(rig.admin, "/metrics", &[]).text();
    assert!(
        page.contains("postern_requests_total{route=\"v1\",status=\"2xx\"}"),
        "{page}"
    );
}
