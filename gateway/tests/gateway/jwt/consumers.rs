//! The consumer that a token names: its scopes, addresses, limits and quotas hold for the token.

use serde_json::json;

use super::{Rig, bearer, of_corp};
use crate::client::get;

const ROUTES: &str = r#"
[[routes]]
path = "/orders"
auth = ["key", "jwt"]
scopes = ["orders:read"]

[[routes]]
path = "/any"
auth = ["key", "jwt"]

[[routes]]
path = "/partners"
auth = ["key", "jwt"]
buckets = ["partners"]
"#;

const BY_AZP: &str = "consumer_claim = \"azp\"\n";

fn token(of: &str) -> String {
    of_corp(&json!({ "azp": of, "scope": "orders:read orders:write other" }))
}

#[test]
fn a_change_of_the_consumer_is_in_force_for_its_tokens_at_the_next_request() {
    let rig = Rig::with(ROUTES, BY_AZP);
    let acme = token("ext-42");
    let at = |path: &str| rig.answer(path, &acme).1;
    assert_eq!(at("/any"), "consumer_unknown");
    rig.done(&["consumers", "create", "acme", "--custom-id", "ext-42"]);
    assert_eq!(
        (at("/any"), at("/orders")),
        ("ok".to_owned(), "insufficient_scope".to_owned())
    );
    let update = |arguments: &[&str]| {
        rig.done(&[&["consumers", "update", "acme"], arguments].concat());
    };
    update(&["--scope", "orders:read,reports"]);
    assert_eq!(at("/orders"), "ok");
    rig.origin.forget();
    assert_eq!(at("/orders"), "ok");
    let arrived = rig.origin.only();
    assert_eq!(arrived.one("x-consumer-username"), Some("acme"));
    assert_eq!(arrived.one("x-consumer-custom-id"), Some("ext-42"));
    assert!(arrived.one("x-consumer-id").unwrap().starts_with("csmr_"));
    assert_eq!(arrived.one("x-credential-identifier"), Some("jwt:corp"));
    assert_eq!(
        arrived.one("x-consumer-groups"),
        Some("orders:read"),
        "what both have"
    );
    update(&["--allow-ip", "192.0.2.0/24"]);
    assert_eq!(at("/any"), "key_restricted");
    update(&["--allow-any-ip"]);
    assert_eq!(at("/any"), "ok");
    // A plan gives scopes, too.
    rig.done(&["plans", "create", "gold", "--scope", "orders:read"]);
    update(&["--scope", "reports"]);
    assert_eq!(at("/orders"), "insufficient_scope");
    update(&["--plan", "gold"]);
    assert_eq!(at("/orders"), "ok");
    // A token without the scope does not get it from its consumer.
    let narrow = of_corp(&json!({ "azp": "ext-42", "scope": "other" }));
    assert_eq!(rig.answer("/orders", &narrow).1, "insufficient_scope");
    update(&["--custom-id", "ext-43"]);
    assert_eq!(at("/any"), "consumer_unknown");
    assert_eq!(rig.answer("/any", &token("ext-43")).1, "ok");
    rig.done(&["consumers", "delete", "acme"]);
    assert_eq!(rig.answer("/any", &token("ext-43")).1, "consumer_unknown");
    let lines = || rig.process.access_log();
    crate::running::eventually("the last one is logged", || {
        lines()
            .last()
            .is_some_and(|line| line["cause"] == "consumer_unknown")
    });
    assert!(lines().iter().any(|line| {
        line["consumer"]
            .as_str()
            .is_some_and(|id| id.starts_with("csmr_"))
            && line["issuer"] == "corp"
    }));
}

#[test]
fn a_token_without_a_known_consumer_passes_only_where_the_issuer_is_allowed_to() {
    for (more, wanted) in [
        (BY_AZP.to_owned(), "consumer_unknown"),
        (format!("{BY_AZP}on_unknown_consumer = \"allow\"\n"), "ok"),
    ] {
        let rig = Rig::with(ROUTES, &more);
        for claims in [
            json!({ "azp": "nobody" }),
            json!({}),
            json!({ "azp": ["a"] }),
            json!({ "azp": "" }),
        ] {
            rig.origin.forget();
            assert_eq!(rig.answer("/any", &of_corp(&claims)).1, wanted, "{claims}");
            if wanted == "ok" {
                let arrived = rig.origin.only();
                assert_eq!(
                    arrived.one("x-consumer-username"),
                    Some("alice"),
                    "{claims}"
                );
                assert_eq!(arrived.one("x-consumer-id"), None, "{claims}");
            }
        }
        // It is of no bucket.
        let at_partners = rig.answer("/partners", &token("nobody")).1;
        assert_eq!(
            at_partners,
            if wanted == "ok" {
                "key_restricted"
            } else {
                wanted
            }
        );
    }
}

#[test]
fn of_several_consumers_with_one_id_the_one_in_the_bucket_of_the_route_counts() {
    let rig = Rig::with(
        ROUTES,
        &format!("{BY_AZP}on_unknown_consumer = \"allow\"\n"),
    );
    for bucket in ["default", "partners"] {
        if bucket != "default" {
            rig.done(&["buckets", "create", bucket]);
        }
        rig.done(&[
            "consumers",
            "create",
            "acme",
            "--bucket",
            bucket,
            "--custom-id",
            "ext-42",
        ]);
    }
    let both = token("ext-42");
    assert_eq!(
        rig.answer("/any", &both).1,
        "consumer_unknown",
        "not even with `allow`"
    );
    assert_eq!(rig.answer("/partners", &both).1, "ok");
    let delete = |bucket: &str| {
        rig.done(&["consumers", "delete", "acme", "--bucket", bucket]);
    };
    delete("partners");
    assert_eq!(rig.answer("/any", &both).1, "ok");
    assert_eq!(
        rig.answer("/partners", &both).1,
        "key_restricted",
        "a consumer of another bucket"
    );
}

#[test]
fn keys_and_tokens_of_a_consumer_share_its_limits_and_quotas() {
    let limit = |name: &str, by: &str, routes: &str| {
        format!(
            "[[rate_limits]]\nname = \"{name}\"\nby = \"{by}\"\nlimit = 3\nwindow = \"1day\"\nroutes = [\"{routes}\"]\n"
        )
    };
    let route = |name: &str| {
        format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\nauth = [\"key\", \"jwt\"]\n")
    };
    let routes: String = ["consumer", "key", "plan", "tag", "anonymous", "quota"]
        .into_iter()
        .map(route)
        .collect();
    let limits = limit("a", "consumer", "consumer")
        + &limit("b", "key", "key")
        + &limit("c", "plan", "plan")
        + &limit("d", "tag:org", "tag")
        + &limit("e", "anonymous", "anonymous");
    let rig = Rig::with(
        &format!("{routes}{limits}"),
        &format!("{BY_AZP}on_unknown_consumer = \"allow\"\n"),
    );
    rig.done(&["plans", "create", "gold"]);
    rig.done(&[
        "consumers",
        "create",
        "acme",
        "--custom-id",
        "ext-42",
        "--plan",
        "gold",
        "--tag",
        "org=one",
    ]);
    let key = rig.process.key("acme");
    // Each token is another one.
    let mut number = 0;
    let mut fresh = |azp: &str, sub: &str| {
        number += 1;
        bearer(&of_corp(&json!({ "azp": azp, "sub": sub, "jti": number })))
    };
    for (path, first, second, shared) in [
        ("/consumer", key.clone(), fresh("ext-42", "alice"), true),
        (
            "/consumer",
            fresh("nobody", "alice"),
            fresh("nobody", "bob"),
            false,
        ),
        (
            "/plan",
            fresh("ext-42", "alice"),
            fresh("ext-42", "bob"),
            true,
        ),
        (
            "/plan",
            fresh("nobody", "alice"),
            fresh("nobody", "alice"),
            false,
        ),
        (
            "/tag",
            fresh("ext-42", "alice"),
            fresh("ext-42", "bob"),
            true,
        ),
        (
            "/key",
            fresh("ext-42", "alice"),
            fresh("ext-42", "alice"),
            true,
        ),
        ("/key", key.clone(), fresh("ext-42", "bob"), false),
        (
            "/key",
            fresh("nobody", "carol"),
            fresh("nobody", "carol"),
            true,
        ),
        (
            "/anonymous",
            fresh("ext-42", "alice"),
            fresh("nobody", "alice"),
            false,
        ),
    ] {
        for _ in 0..3 {
            assert_eq!(rig.get(path, &[&first]).status, 200, "{path} {first}");
        }
        let answer = rig.get(path, &[&second]);
        let wanted = if shared { "rate_limited" } else { "ok" };
        assert_eq!(answer.code_or_ok(), wanted, "{path}: {first} then {second}");
    }
    // The subject of another issuer is another one.
    assert_eq!(
        rig.answer("/key", &rig.of_partner(&json!({ "sub": "alice" })))
            .0,
        200
    );
}

#[test]
fn quotas_count_the_consumer_of_a_token_and_nobody_else() {
    let quotas = "[[routes]]\nauth = [\"key\", \"jwt\"]\n\
        [[quotas]]\nname = \"yearly\"\nby = \"consumer\"\nlimit = 3\nperiod = \"lifetime\"\n";
    let rig = Rig::with(
        quotas,
        &format!("{BY_AZP}on_unknown_consumer = \"allow\"\n"),
    );
    rig.done(&["consumers", "create", "acme", "--custom-id", "ext-42"]);
    let key = rig.process.key("acme");
    let named = bearer(&token("ext-42"));
    for line in [&named, &key, &named] {
        assert_eq!(rig.get("/", &[line]).status, 200);
    }
    for line in [&named, &key] {
        assert_eq!(rig.get("/", &[line]).code(), "quota_exceeded");
    }
    let unnamed = bearer(&token("nobody"));
    for _ in 0..5 {
        assert_eq!(rig.get("/", &[&unnamed]).status, 200);
    }
    // Usage is told by key, and a token has none.
    let metrics = get(rig.process.admin, "/metrics", &[]);
    assert_eq!(metrics.status, 200);
}
