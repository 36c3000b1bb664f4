//! Issuers of tokens that cannot be as they are written: each problem has its path and its reason.

use std::path::Path;

use crate::certificates::Authority;
use crate::rig::{SECRET, gateway};

const KEY: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;

/// What `gateway check` says of a file beside these others.
fn check(directory: &Path, file: &str) -> (bool, String) {
    std::fs::write(directory.join("gateway.toml"), file).unwrap();
    let output = gateway(directory, &[("SHARED_SECRET", SECRET)], &["check"]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let private = KEY.replace("\"x\"", "\"d\":\"AA\",\"x\"");
    let large = format!("{{\"keys\":[{KEY}],\"a\":\"{}\"}}", "a".repeat(300_000));
    let secret = "s3cret-that-nobody-may-see";
    for (name, content) in [
        ("ca.pem", Authority::new().pem()),
        ("keys", format!("{{\"keys\":[{KEY}]}}")),
        ("private", format!("{{\"keys\":[{private}]}}")),
        ("empty", "{\"keys\":[]}".to_owned()),
        ("html", "<html></html>".to_owned()),
        ("large", large),
        ("short", format!("{secret}\n")),
        ("secret", format!("{secret}{secret}\n")),
    ] {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

const GOOD: &str =
    "name = \"corp\"\nissuer = \"https://login.example.com/\"\naudiences = [\"api\"]\n";

#[test]
fn an_issuer_that_cannot_work_is_refused_and_words_of_others_are_answered_with_ours() {
    let directory = files();
    let with = |more: &str| format!("[[jwt.issuers]]\n{GOOD}{more}\n");
    let instead = |old: &str, new: &str| with("").replace(old, new);
    let twin = GOOD.replace("corp", "twin");
    let namesake = GOOD.replace("login", "other");
    let forward = |name: &str| with(&format!("forward_claims = {{ \"{name}\" = \"email\" }}"));
    for (file, path, part) in [
        (instead("name = \"corp\"\n", ""), "name", "it is missing"),
        (instead("\"corp\"", "\"Corp\""), "name", "lower-case"),
        (instead("\"corp\"", "\"\""), "name", "1 to 63"),
        (
            instead("issuer = \"https://login.example.com/\"\n", ""),
            "issuer",
            "it is missing",
        ),
        (
            instead("https://login", "http://login"),
            "issuer",
            "over https",
        ),
        (
            instead("https://login.example.com/", "https://login.example.com/?a"),
            "issuer",
            "no query",
        ),
        (
            instead("https://login.example.com/", "corp"),
            "issuer",
            "set jwks_url",
        ),
        (
            instead("audiences = [\"api\"]\n", ""),
            "audiences",
            "any_audience = true",
        ),
        (
            with("any_audience = true"),
            "any_audience",
            "leave one of them out",
        ),
        (instead("[\"api\"]", "[\"\"]"), "audiences[0]", "1 to 512"),
        (
            with("jwks_url = \"http://login.example.com/keys\""),
            "jwks_url",
            "over https",
        ),
        (with("jwks_url = \"keys\""), "jwks_url", "not an address"),
        (
            with("jwks_url = \"https://a/\"\njwks_file = \"keys\""),
            "jwks_file",
            "jwks_url is set",
        ),
        (with("jwks_file = \"/nowhere\""), "jwks_file", "/nowhere"),
        (
            with("jwks_file = \"private\""),
            "jwks_file",
            "no key that the gateway",
        ),
        (
            with("jwks_file = \"empty\""),
            "jwks_file",
            "no key that the gateway",
        ),
        (with("jwks_file = \"html\""), "jwks_file", "{\"keys\""),
        (with("jwks_file = \"large\""), "jwks_file", "262144 bytes"),
        (with("jwks_file = \".\""), "jwks_file", "no file"),
        (with("ca_file = \"/nowhere\""), "ca_file", "/nowhere"),
        (with("ca_file = \"html\""), "ca_file", "no certificate"),
        (
            with("jwks_file = \"keys\"\nca_file = \"ca.pem\""),
            "ca_file",
            "not fetched",
        ),
        (with("ca_certs = \"ca.pem\""), "ca_certs", "written ca_file"),
        (
            with("secret_file = \"short\""),
            "secret_file",
            "need 32 at least",
        ),
        (
            with("secret_file = \"secret\"\nalgorithms = [\"HS256\", \"HS512\"]"),
            "secret_file",
            "need 64 at least",
        ),
        (
            with("secret_file = \"secret\"\nalgorithms = [\"RS256\"]"),
            "algorithms",
            "instead of secret_file",
        ),
        (
            with("algorithms = [\"RS256\", \"HS256\"]"),
            "algorithms",
            "with secret_file",
        ),
        (with("algorithms = []"), "algorithms", "it is empty"),
        (with("algorithms = [\"none\"]"), "algorithms[0]", "ES256"),
        (with("algorithms = [\"rs256\"]"), "algorithms[0]", "RS256"),
        (with("clock_skew = \"6min\""), "clock_skew", "5min"),
        (with("clock_skew = 60"), "clock_skew", "0s to 5min"),
        (with("max_lifetime = \"0s\""), "max_lifetime", "1year"),
        (with("on_cnf = \"accept\""), "on_cnf", "\"ignore\""),
        (
            with("on_unknown_consumer = \"maybe\""),
            "on_unknown_consumer",
            "\"allow\"",
        ),
        (with("scopes_claim = []"), "scopes_claim", "it is empty"),
        (
            with("required_claims = \"tenant\""),
            "required_claims",
            "this is a table",
        ),
        (
            with("required_claims = { tenant = [] }"),
            "required_claims",
            "a text or a list",
        ),
        (
            with("required_claims = { tenant = { a = 1 } }"),
            "required_claims",
            "a text or a list",
        ),
        (
            with("required_claims = [\"tenant\"]"),
            "required_claims",
            "each in it is { claim = [\"text\"], values = [\"text\"] }",
        ),
        (
            with("required_claims = [{ claim = \"tenant\" }]"),
            "required_claims",
            "each in it is { claim",
        ),
        (
            with("required_claims = [{ claim = [], values = [\"a\"] }]"),
            "required_claims",
            "each in it is { claim",
        ),
        (
            with("required_claims = [{ claim = \"a\", values = \"a\", any = \"a\" }]"),
            "required_claims",
            "each in it is { claim",
        ),
        (
            forward("X-Consumer-Id"),
            "forward_claims",
            "only the gateway sets",
        ),
        (
            forward("x-shared-secret"),
            "forward_claims",
            "only the gateway sets",
        ),
        (forward("X_User"), "forward_claims", "letters, digits"),
        (forward("x user"), "forward_claims", "letters, digits"),
        (forward("Connection"), "forward_claims", "hop-by-hop"),
        (forward("Authorization"), "forward_claims", "credentials"),
        (forward("Cookie"), "forward_claims", "credentials"),
        (forward("X-API-Key"), "forward_claims", "credentials"),
        (
            forward("Content-Length"),
            "forward_claims",
            "another meaning",
        ),
        (forward("Host"), "forward_claims", "another meaning"),
        (forward("X-Request-Id"), "forward_claims", "another meaning"),
        (
            forward("X-Forwarded-For"),
            "forward_claims",
            "another meaning",
        ),
        (
            with("forward_claims = { \"X-A\" = \"a\", \"x-a\" = \"b\" }"),
            "forward_claims",
            "twice",
        ),
        (with("audience = \"api\""), "audience", "written audiences"),
        (with("jwkUrl = \"https://a\""), "jwkUrl", "written jwks_url"),
        (
            with("jwks_uri = \"https://a\""),
            "jwks_uri",
            "written jwks_url",
        ),
        (with("remote_jwks = {}"), "remote_jwks", "written jwks_url"),
        (with("secret = \"a\""), "secret", "written secret_file"),
        (
            with("claims_to_verify = [\"exp\"]"),
            "claims_to_verify",
            "always checked",
        ),
        (
            with("claim_to_headers = []"),
            "claim_to_headers",
            "written forward_claims",
        ),
        (with("nothing = 1"), "nothing", "here are: name, issuer"),
    ] {
        let (accepted, said) = check(directory.path(), &file);
        assert!(!accepted, "{file}");
        let line = said
            .lines()
            .find(|line| {
                line.trim_start()
                    .starts_with(&format!("jwt.issuers[0].{path} ("))
            })
            .unwrap_or_else(|| panic!("{path} is not in {said} of {file}"));
        assert!(line.contains(part), "{line}");
        assert_eq!(said.lines().count(), 2, "one problem: {said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    for (other, path) in [(twin, "issuer"), (namesake, "name")] {
        let file = format!("{}[[jwt.issuers]]\n{other}", with(""));
        let (accepted, said) = check(directory.path(), &file);
        let told = format!("jwt.issuers[1].{path} (from the settings): another issuer has it");
        assert!(!accepted && said.contains(&told), "{said}");
    }
}

#[test]
fn what_an_issuer_needs_is_little() {
    let directory = files();
    let named = |name: &str, keys: &str| {
        format!(
            "[[jwt.issuers]]\nname = \"{name}\"\nissuer = \"https://{name}\"\naudiences = \"api\"\n{keys}\n"
        )
    };
    let file = [
        named("found", ""),
        named("url", "jwks_url = \"https://a/keys?b=c\""),
        named(
            "here",
            "jwks_url = \"http://127.0.0.1:1/keys\"\nclock_skew = \"0s\"",
        ),
        named(
            "file",
            "jwks_file = \"keys\"\nscopes_claim = [\"realm_access\", \"roles\"]",
        ),
        named(
            "secret",
            "secret_file = \"secret\"\nalgorithms = [\"HS256\", \"HS384\"]",
        ),
        named(
            "claims",
            "required_claims = { tenant = \"a\", \"https://a.example/b\" = [\"1\", 2, true] }\nforward_claims = { X-User = [\"a\", \"b\"] }",
        ),
    ];
    let (accepted, said) = check(directory.path(), &file.concat());
    assert!(accepted, "{said}");
    for line in [
        "algorithms = [\"HS256\", \"HS384\"]",
        "algorithms = [\"RS256\", \"PS256\", \"ES256\", \"ES384\", \"EdDSA\"]",
        "scopes_claim = [\"realm_access\", \"roles\"]",
        "required_claims = { \"https://a.example/b\" = [\"1\", \"2\", \"true\"], \"tenant\" = [\"a\"] }",
        "forward_claims = { \"X-User\" = [\"a\", \"b\"] }",
        "clock_skew = \"0s\"",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("s3cret"), "{said}");
}
