//! The OpenAPI document and the router say the same.

use std::collections::{BTreeMap, BTreeSet};

use postern_gateway::admin;
use serde_json::Value;

use crate::client::get;
use crate::rig::{Rig, refusal};

#[test]
fn every_route_is_documented_and_every_documented_route_is_there() {
    let rig = Rig::new();
    let document = get(rig.admin, "/openapi.json", &[]).json();
    assert_eq!(document["openapi"], "3.1.0");
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .keys()
                .map(|method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let registered: BTreeSet<(String, String)> = admin::endpoints()
        .iter()
        .map(|endpoint| (endpoint.path.to_owned(), endpoint.method.to_string()))
        .collect();
    assert_eq!(documented, registered);

    // Whatever answers on a documented path is documented too: what the router takes stands in `Allow`.
    let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, method) in &documented {
        methods.entry(path).or_default().insert(method);
    }
    for (path, mut methods) in methods {
        let real = path.replace("{id}", "x").replace("{name}", "x");
        let response = rig.call("BREW", &real, None);
        assert_eq!(refusal(&response).0, 405, "{path}");
        if methods.contains("GET") {
            methods.insert("HEAD");
        }
        assert_eq!(
            response
                .header("allow")
                .unwrap()
                .split(", ")
                .collect::<BTreeSet<_>>(),
            methods,
            "{path}"
        );
    }
}

#[test]
fn the_document_names_everything_and_shows_no_secret() {
    let rig = Rig::new();
    let text = get(rig.admin, "/openapi.json", &[]).text();
    assert!(
        !text.contains("pstn_") && !text.contains("\"example"),
        "no example, so no key in one"
    );
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(name), "{name} twice");
            assert!(
                operation["summary"].is_string() && operation["tags"].is_array(),
                "{method} {path}"
            );
            // There the caller's own key stands where a token would.
            let needs_token = path.starts_with("/v1/") && path != "/v1/auth";
            assert_eq!(
                operation["security"][0]
                    .as_object()
                    .unwrap()
                    .contains_key("token"),
                needs_token,
                "{method} {path}"
            );
            let statuses: BTreeSet<&str> = operation["responses"]
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            let expected: &[&str] = match (needs_token, method.as_str()) {
                (false, _) => &["200", "400"],
                (true, "get") => &["200", "400", "401", "503"],
                (true, _) if name == "verify_key" => &["200", "400", "401", "403", "503"],
                (true, _) => &["400", "401", "403", "503"],
            };
            assert!(
                expected.iter().all(|status| statuses.contains(status)),
                "{method} {path}: {statuses:?}"
            );
            assert_eq!(
                statuses.contains("415"),
                operation["requestBody"].is_object(),
                "{method} {path}"
            );
        }
    }
    // Every reference leads somewhere.
    for reference in text
        .split("\"$ref\":\"#")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[test]
fn the_page_fetches_nothing_from_elsewhere() {
    let rig = Rig::new();
    let page = get(rig.admin, "/docs", &[]);
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
        "{policy}"
    );
    let text = page.text();
    for elsewhere in [
        "http://",
        "https://",
        "//cdn",
        " src=",
        "@import",
        "innerHTML",
        "<link",
    ] {
        assert!(!text.contains(elsewhere), "{elsewhere}");
    }
}
