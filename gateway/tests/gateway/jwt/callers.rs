//! Whom the origin sees, and which kinds of credentials a route takes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Rig, bearer, of_corp};
use crate::client::{exchange, get};
use crate::origin::Arrived;

const KINDS: &str = r#"
[[routes]]
path = "/keys"

[[routes]]
path = "/tokens"
auth = ["jwt"]

[[routes]]
path = "/partner"
auth = "jwt:partner"

[[routes]]
path = "/both"
auth = ["key", "jwt:corp"]

[[routes]]
path = "/open"
auth = ["key", "jwt"]
on_missing_key = "anonymous"

[[routes]]
path = "/apart"
auth = ["key", "jwt"]
key_sources = ["header:x-api-key"]

[[routes]]
path = "/theirs"
key_sources = ["header:x-api-key"]
"#;

/// The identity headers that arrived, and those of claims.
fn identity(arrived: &Arrived) -> BTreeMap<String, String> {
    let is_identity = |name: &str| {
        name.starts_with("x-consumer-")
            || name.starts_with("x-cred")
            || name.starts_with("x-claim-")
            || name == "x-anonymous-consumer"
    };
    let lines = arrived.headers.iter();
    let lines = lines.filter(|(name, _)| is_identity(&name.to_ascii_lowercase()));
    lines
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .collect()
}

fn map(lines: &[(&str, &str)]) -> BTreeMap<String, String> {
    let lines = lines.iter();
    lines
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

const CLAIMS: &str = "forward_claims = { \"x-claim-email\" = \"email\", \"x-claim-level\" = \"level\", \"x-claim-org\" = [\"org\", \"name\"] }\n";

#[test]
fn the_origin_sees_the_subject_and_the_claims_of_a_token_and_never_the_token() {
    let rig = Rig::with(KINDS, CLAIMS);
    let token = of_corp(&json!({
        "sub": "auth0|é %\r\n7", "scope": "orders:read orders:write", "email": "a@b.example", "level": 3,
        "org": { "name": "Ünïted" },
    }));
    // The second time it is known.
    for _ in 0..2 {
        let cookie = format!("cookie: theme=dark; copy={token}");
        let copy = format!("x-copy: before {token} after");
        let lines = [&*bearer(&token), &cookie, &copy, "x-kept: 1"];
        assert_eq!(rig.get("/tokens", &lines).status, 200);
        let arrived = rig.origin.only();
        rig.origin.forget();
        let wanted = map(&[
            ("x-consumer-username", "auth0|%C3%A9%20%25%0D%0A7"),
            ("x-credential-identifier", "jwt:corp"),
            ("x-consumer-groups", "orders:read,orders:write"),
            ("x-claim-email", "a@b.example"),
            ("x-claim-level", "3"),
            ("x-claim-org", "%C3%9Cn%C3%AFted"),
        ]);
        assert_eq!(identity(&arrived), wanted);
        assert_eq!(arrived.one("x-kept"), Some("1"));
        let all = format!("{} {:?}", arrived.line, arrived.headers);
        assert!(
            !all.contains(&token) && arrived.one("authorization").is_none(),
            "{all}"
        );
    }
    // Without a subject there is no name.
    assert_eq!(
        rig.answer("/tokens", &of_corp(&json!({ "sub": null }))).0,
        200
    );
    assert_eq!(
        identity(&rig.origin.only()),
        map(&[("x-credential-identifier", "jwt:corp")])
    );
    let long = of_corp(&json!({ "email": "a".repeat(1200) }));
    assert_eq!(rig.answer("/tokens", &long).1, "token_invalid");
}

#[test]
fn headers_of_claims_are_taken_from_every_client_with_a_key_a_token_or_nothing() {
    let rig = Rig::with(KINDS, CLAIMS);
    let key = rig.process.key("acme");
    let token = of_corp(&json!({}));
    for credential in [key, bearer(&token), "x-nothing: 1".to_owned()] {
        let lines = [
            &*credential,
            "X-Claim-Email: forged@evil.example",
            "x-claim-org: evil",
            "x_claim_email: evil",
            "x-claim-else: mine",
        ];
        assert_eq!(rig.get("/open", &lines).status, 200, "{credential}");
        let arrived = rig.origin.only();
        rig.origin.forget();
        let told = format!("{:?}", arrived.headers);
        assert!(!told.contains("evil"), "{credential}: {told}");
        assert_eq!(arrived.one("x-claim-else"), Some("mine"));
        // Another proxy copies them by their names.
        let asked = [&*credential, "x-original-uri: /open"];
        let answer = get(rig.process.admin, "/v1/auth", &asked);
        assert_eq!(
            (answer.status, answer.header("x-claim-email")),
            (200, Some("")),
            "{credential}"
        );
    }
    let told = of_corp(&json!({ "email": "a@b.example" }));
    let asked = [&*bearer(&told), "x-original-uri: /open"];
    let answer = get(rig.process.admin, "/v1/auth", &asked);
    assert_eq!(answer.header("x-claim-email"), Some("a@b.example"));
    assert_eq!(answer.header("x-consumer-username"), Some("alice"));
    assert_eq!(answer.header("x-consumer-id"), Some(""));
    let expired = [
        &*bearer(&of_corp(&json!({ "exp": 1 }))),
        "x-original-uri: /open",
    ];
    assert_eq!(
        get(rig.process.admin, "/v1/auth", &expired).code(),
        "token_expired"
    );
}

#[test]
fn a_route_takes_the_kinds_that_it_names_and_one_that_fails_is_never_taken_for_another() {
    let rig = Rig::with(KINDS, "");
    let key = rig.process.key("acme");
    let api_key = key.replace("authorization: Bearer", "x-api-key:");
    let corp = bearer(&of_corp(&json!({})));
    let partner = bearer(&rig.of_partner(&json!({})));
    let expired = bearer(&of_corp(&json!({ "exp": 1 })));
    let forged = bearer(&super::signed_with(
        b"x",
        &super::unsigned(
            &json!({"alg": "HS256"}),
            &super::with(super::CORP, &json!({})),
        ),
    ));
    let unknown = format!("{}x", &key[..key.len() - 1]);
    let basic = format!("authorization: Basic {}", STANDARD.encode("a:b"));
    for (path, answers) in [
        (
            "/keys",
            [
                "ok",
                "credential_not_accepted",
                "credential_not_accepted",
                "credential_not_accepted",
                "credential_not_accepted",
                "api_key_invalid",
                "api_key_missing",
                "api_key_missing",
            ],
        ),
        (
            "/tokens",
            [
                "credential_not_accepted",
                "ok",
                "ok",
                "token_expired",
                "token_invalid",
                "credential_not_accepted",
                "token_missing",
                "token_missing",
            ],
        ),
        (
            "/partner",
            [
                "credential_not_accepted",
                "credential_not_accepted",
                "ok",
                "credential_not_accepted",
                "credential_not_accepted",
                "credential_not_accepted",
                "token_missing",
                "token_missing",
            ],
        ),
        (
            "/both",
            [
                "ok",
                "ok",
                "credential_not_accepted",
                "token_expired",
                "token_invalid",
                "api_key_invalid",
                "api_key_missing",
                "api_key_missing",
            ],
        ),
        (
            "/open",
            [
                "ok",
                "ok",
                "ok",
                "token_expired",
                "token_invalid",
                "api_key_invalid",
                "ok",
                "ok",
            ],
        ),
        (
            "/apart",
            [
                "credential_not_accepted",
                "ok",
                "ok",
                "token_expired",
                "token_invalid",
                "credential_not_accepted",
                "api_key_missing",
                "api_key_missing",
            ],
        ),
        ("/theirs", ["api_key_missing"; 8]),
    ] {
        let lines = [
            &key,
            &corp,
            &partner,
            &expired,
            &forged,
            &unknown,
            "x-nothing: 1",
            &basic,
        ];
        for (line, wanted) in lines.into_iter().zip(answers) {
            rig.origin.forget();
            let answer = rig.get(path, &[line]);
            assert_eq!(answer.code_or_ok(), wanted, "{path} {line}");
            let is_anonymous = wanted == "ok" && (line == "x-nothing: 1" || line == basic);
            if wanted == "ok" {
                let arrived = rig.origin.only();
                assert_eq!(
                    arrived.one("x-anonymous-consumer").is_some(),
                    is_anonymous,
                    "{path} {line}"
                );
                assert_eq!(arrived.one("authorization"), None, "{path} {line}");
            }
            if answer.status == 401 && path != "/theirs" {
                let challenge = answer.header("www-authenticate").unwrap();
                assert!(
                    !challenge.contains("ApiKey") || path == "/apart",
                    "{path}: {challenge}"
                );
            }
        }
    }
    // A credential that fails beside a good one is not overlooked, nor are two of them.
    for (path, lines, wanted) in [
        ("/apart", vec![&*api_key], "ok"),
        ("/apart", vec![&api_key, &corp], "invalid_request"),
        ("/apart", vec![&api_key, &expired], "invalid_request"),
        (
            "/apart",
            vec![&api_key, "authorization: Bearer opaque"],
            "invalid_request",
        ),
        ("/both", vec![&corp, &corp], "invalid_request"),
        ("/both", vec![&corp, &key], "invalid_request"),
        ("/both", vec![&corp, &basic], "invalid_request"),
        ("/open", vec![&expired, &key], "invalid_request"),
        ("/theirs", vec![&api_key, &corp], "ok"),
    ] {
        assert_eq!(
            rig.get(path, &lines).code_or_ok(),
            wanted,
            "{path} {lines:?}"
        );
    }
    // Where no credential of the route stands there, the header is the origin's own.
    rig.origin.forget();
    assert_eq!(rig.get("/theirs", &[&api_key, &corp]).status, 200);
    let arrived = rig.origin.only();
    assert_eq!(
        Some(arrived.one("authorization").unwrap()),
        corp.split_once(": ").map(|(_, value)| value)
    );
}

#[test]
fn a_token_is_taken_from_its_header_alone() {
    let rig = Rig::with(KINDS, "");
    let token = of_corp(&json!({}));
    let public = rig.process.public;
    for (path, line) in [
        (
            format!("/tokens?access_token={token}"),
            "x-nothing: 1".to_owned(),
        ),
        (format!("/tokens?token={token}"), "x-nothing: 1".to_owned()),
        (
            "/tokens".to_owned(),
            format!("cookie: access_token={token}"),
        ),
        ("/tokens".to_owned(), format!("x-access-token: {token}")),
        ("/tokens".to_owned(), format!("authorization: {token}")),
        ("/tokens".to_owned(), format!("authorization: JWT {token}")),
        ("/tokens".to_owned(), format!("authorization: DPoP {token}")),
        (
            "/tokens".to_owned(),
            format!(
                "authorization: Basic {}",
                STANDARD.encode(format!("{token}:"))
            ),
        ),
    ] {
        assert_eq!(
            get(public, &path, &[&line]).code_or_ok(),
            "token_missing",
            "{line}"
        );
    }
    // The token itself in the URL, which others log.
    for path in [
        format!("/tokens/{token}"),
        format!("/tokens?a={token}"),
        format!("/tokens?a={}", token.replace('.', "%2E")),
    ] {
        let answer = get(public, &path, &[&bearer(&token)]);
        assert_eq!(
            (answer.status, answer.code()),
            (400, "key_in_url".to_owned()),
            "{path}"
        );
        assert!(!answer.text().contains(&token[..40]));
    }
    assert_eq!(rig.origin.arrived().len(), 0);
    crate::running::eventually("they are logged", || rig.process.access_log().len() == 11);
    let told = format!("{:?}{}", &rig.process.access_log()[8..], rig.process.log());
    assert!(!told.contains(token.rsplit_once('.').unwrap().1), "{told}");
    // The scheme has no case.
    let line = format!("authorization: bEaReR {token}");
    assert_eq!(get(public, "/tokens", &[&line]).status, 200);
    // And a browser's page learns of the header that the answer depends on.
    let answer = get(public, "/tokens", &[&line]);
    assert_eq!(
        answer.header("vary").map(str::to_ascii_lowercase),
        Some("authorization".to_owned())
    );
}

#[test]
fn services_that_verify_keys_are_told_that_a_token_is_none() {
    let rig = Rig::with(KINDS, "");
    let admin = rig.process.admin;
    let body = json!({ "key": of_corp(&json!({})) }).to_string();
    let request = format!(
        "POST /v1/keys/verify HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        super::ADMIN_TOKEN,
        body.len()
    );
    let answer: Value = exchange(admin, request).json();
    assert_eq!(
        (&answer["valid"], &answer["code"]),
        (&json!(false), &json!("credential_not_accepted"))
    );
}

#[test]
fn check_says_what_each_route_requires() {
    let more = "[[routes]]\npath = \"/scoped\"\nauth = \"jwt\"\nscopes = [\"a\", \"b\"]\nbuckets = [\"partners\"]\n\
        [[routes]]\npath = \"/watched\"\nauth = [\"key\", \"observe\"]\n";
    let rig = Rig::with(&format!("{KINDS}{more}"), "");
    let variables = [("SHARED_SECRET", crate::rig::SECRET)];
    let output = crate::rig::gateway(rig.directory().path(), &variables, &["check"]);
    let said = String::from_utf8(output.stdout).unwrap();
    for line in [
        "# route \"/keys\": a key",
        "# route \"/tokens\": a token of any issuer",
        "# route \"/partner\": a token of partner",
        "# route \"/both\": a key or a token of corp",
        "# route \"/open\": a key or a token of any issuer or no credential",
        "# route \"/scoped\": a token of any issuer, with the scopes a b, of the buckets partners",
        "# route \"/watched\": a key; it only observes, and refuses nobody",
    ] {
        assert!(said.lines().any(|found| found == line), "{line} in {said}");
    }
}
