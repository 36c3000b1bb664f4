//! Metadata of protected resources (RFC 9728): clients find the issuers of a route.

use serde_json::json;

use super::{CORP, PARTNER, Rig, bearer, of_corp};

const ROUTES: &str = r#"
[[routes]]
path = "/orders"
auth = ["key", "jwt"]
scopes = ["orders:read"]
methods = ["GET", "POST"]

[[routes]]
path = "/partner"
auth = "jwt:partner"
[routes.cors]
origins = ["https://app.example.com"]

[[routes]]
path = "/keys"
"#;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

#[test]
fn a_client_finds_the_issuers_of_a_route_by_its_challenge() {
    let rig = Rig::with(ROUTES, "");
    let host = "host: api.example.com:8443";
    let get = |path: &str, more: &str| {
        let request = format!("GET {path} HTTP/1.1\r\n{host}\r\n{more}\r\n\r\n");
        crate::client::exchange(rig.process.public, request)
    };
    for (path, servers, scopes) in [
        ("/orders", vec![CORP, PARTNER], Some(["orders:read"])),
        ("/orders/7", vec![CORP, PARTNER], Some(["orders:read"])),
        ("/partner", vec![PARTNER], None),
    ] {
        let refused = get(path, "x-nothing: 1");
        let challenge = refused.header("www-authenticate").unwrap();
        let url = format!("http://api.example.com:8443{WELL_KNOWN}{path}");
        assert_eq!(
            challenge,
            format!("Bearer realm=\"postern\", resource_metadata=\"{url}\"")
        );
        let answer = get(&format!("{WELL_KNOWN}{path}"), "x-nothing: 1");
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let mut wanted = json!({
            "resource": format!("http://api.example.com:8443{path}"),
            "authorization_servers": servers,
            "bearer_methods_supported": ["header"],
        });
        if let Some(scopes) = scopes {
            wanted["scopes_supported"] = json!(scopes);
        }
        assert_eq!(answer.json(), wanted, "{path}");
    }
    let token = of_corp(&json!({ "scope": "else" }));
    let refused = get("/orders", &bearer(&token));
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("error=\"insufficient_scope\"")
            && challenge.contains("resource_metadata="),
        "{challenge}"
    );
    // Pages may read it as they may read the answers of the route.
    let of_page = get(
        &format!("{WELL_KNOWN}/partner"),
        "origin: https://app.example.com",
    );
    assert_eq!(
        of_page.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert_eq!(rig.origin.arrived().len(), 0);
}

#[test]
fn only_the_paths_of_routes_that_take_tokens_are_answered() {
    let rig = Rig::with(
        &format!("{ROUTES}[[routes]]\npath = \"/.well-known\"\non_missing_key = \"anonymous\"\n"),
        "",
    );
    for (method, path, by_origin) in [
        ("GET", format!("{WELL_KNOWN}/orders"), false),
        ("HEAD", format!("{WELL_KNOWN}/orders"), false),
        ("POST", format!("{WELL_KNOWN}/orders"), true),
        ("GET", WELL_KNOWN.to_owned(), true),
        ("GET", format!("{WELL_KNOWN}/"), true),
        ("GET", format!("{WELL_KNOWN}/keys"), true),
        ("GET", format!("{WELL_KNOWN}-else/orders"), true),
        ("GET", format!("{WELL_KNOWN}orders"), true),
        (
            "GET",
            "/.well-known/oauth-authorization-server".to_owned(),
            true,
        ),
    ] {
        rig.origin.forget();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let mut connection = crate::client::Connection::open(rig.process.public);
        connection.send(request);
        assert_eq!(connection.head().status, 200, "{method} {path}");
        assert_eq!(
            rig.origin.arrived().len(),
            usize::from(by_origin),
            "{method} {path}"
        );
    }
    let of_keys = rig.get("/keys", &[]);
    assert_eq!(
        of_keys.header("www-authenticate"),
        Some("Bearer realm=\"postern\"")
    );
}

#[test]
fn the_public_url_of_the_settings_is_what_clients_are_told() {
    let rig = Rig::with(
        &format!("[listen]\npublic_url = \"https://api.example.com\"\n{ROUTES}"),
        "",
    );
    let answer = rig.get(&format!("{WELL_KNOWN}/orders"), &[]);
    assert_eq!(answer.json()["resource"], "https://api.example.com/orders");
    let refused = rig.get("/orders", &["x-forwarded-host: evil.example"]);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.ends_with(&format!(
            "resource_metadata=\"https://api.example.com{WELL_KNOWN}/orders\""
        )),
        "{challenge}"
    );
}
