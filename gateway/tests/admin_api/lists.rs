//! Lists: every thing once, whatever the size of the page.

use std::collections::BTreeSet;

use serde_json::json;

use crate::rig::{Rig, text};

/// All names or ids of a list, page by page.
fn walk(rig: &Rig, path: &str, member: &str) -> Vec<String> {
    walk_from(rig, path, String::new(), member)
}

/// The same, from a cursor on.
fn walk_from(rig: &Rig, path: &str, mut cursor: String, member: &str) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let page = rig.shown(&format!("{path}{cursor}"));
        all.extend(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| text(one, member).to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[test]
fn pages_of_any_size_show_everything_once_and_in_order() {
    let rig = Rig::new();
    let names: Vec<String> = (0..23).map(|number| format!("consumer-{number}")).collect();
    for name in &names {
        rig.made("/v1/consumers", &json!({ "name": name }));
        rig.made("/v1/keys", &json!({ "consumer": name }));
    }
    let in_order = walk(&rig, "/v1/consumers?limit=1000", "name");
    assert_eq!(
        in_order.iter().collect::<BTreeSet<_>>(),
        names.iter().collect::<BTreeSet<_>>()
    );
    let keys = walk(&rig, "/v1/keys?limit=1000", "id");
    assert_eq!(keys.len(), names.len());
    for limit in [1, 2, 7, 22, 23, 24] {
        assert_eq!(
            walk(&rig, &format!("/v1/consumers?limit={limit}"), "name"),
            in_order,
            "limit {limit}"
        );
        assert_eq!(
            walk(&rig, &format!("/v1/keys?limit={limit}"), "id"),
            keys,
            "limit {limit}"
        );
    }
    for name in ["b", "a", "c d", "c"] {
        rig.made("/v1/buckets", &json!({ "name": name }));
    }
    for limit in 1..7 {
        let found = walk(&rig, &format!("/v1/buckets?limit={limit}"), "name");
        assert_eq!(found, ["a", "b", "c", "c d", "default"], "limit {limit}");
    }
    // What is deleted while someone reads takes nothing else along.
    let first = rig.shown("/v1/consumers?limit=5");
    let last = text(&first["data"][4], "id").to_owned();
    assert_eq!(
        rig.call("DELETE", &format!("/v1/consumers/{last}"), None)
            .status,
        200
    );
    let cursor = format!("&cursor={}", text(&first, "next_cursor"));
    let rest = walk_from(&rig, "/v1/consumers?limit=5", cursor, "name");
    assert_eq!(rest, in_order[5..]);
}

#[test]
fn filters_show_what_they_name_and_nothing_else() {
    let rig = Rig::new();
    rig.made("/v1/buckets", &json!({ "name": "eu" }));
    for (name, bucket, tags) in [
        ("a", "default", json!({ "org": "acme" })),
        ("b", "default", json!({ "org": "acme", "plan": "gold" })),
        ("c", "eu", json!({ "org": "Acme" })),
        (
            "d",
            "eu",
            json!({ "xorg": "acme", "note": "x\",\"org\":\"acme" }),
        ),
        ("e", "eu", json!({ "org": "100%_\\" })),
    ] {
        let made = rig
            .made("/v1/consumers", &json!({ "name": name, "bucket": bucket, "tags": tags, "custom_id": format!("id-{name}") }));
        rig.made("/v1/keys", &json!({ "consumer_id": made["id"] }));
    }
    for (query, names) in [
        ("", "abcde"),
        ("bucket=eu", "cde"),
        ("name=b", "b"),
        ("name=b&bucket=eu", ""),
        ("custom_id=id-c", "c"),
        ("tag.org=acme", "ab"),
        ("tag.org=Acme", "c"),
        ("tag.org=acme&tag.plan=gold", "b"),
        ("tag.org=acme&bucket=eu", ""),
        ("tag.org=100%25_%5C", "e"),
        ("tag.org=10", ""),
        ("tag.note=x%22,%22org%22:%22acme", "d"),
    ] {
        let found = walk(&rig, &format!("/v1/consumers?limit=2&{query}"), "name");
        assert_eq!(found.concat(), names, "{query}");
        if !query.contains("name") && !query.contains("custom_id") {
            let found = walk(&rig, &format!("/v1/keys?limit=2&{query}"), "consumer");
            assert_eq!(found.concat(), names, "keys, {query}");
        }
    }
}
