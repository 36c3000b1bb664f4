//! Issuers of tokens that cannot be as they are written: each problem has its path and its reason.

use std::path::Path;

use crate::bad_input::{one_problem_each, refuses_in};
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
    let good = format!("[[jwt.issuers]]\n{GOOD}");
    let said = refuses_in(
        directory.path(),
        &good,
        r#"
            name = "corp" -> => jwt.issuers[0].name => it is missing
            "corp" -> "Corp" => jwt.issuers[0].name => lower-case
            "corp" -> "" => jwt.issuers[0].name => 1 to 63
            issuer = "https://login.example.com/" -> => jwt.issuers[0].issuer => it is missing
            https://login -> http://login => jwt.issuers[0].issuer => over https
            https://login.example.com/ -> https://login.example.com/?a => jwt.issuers[0].issuer => no query
            https://login.example.com/ -> corp => jwt.issuers[0].issuer => set jwks_url
            audiences = ["api"] -> => jwt.issuers[0].audiences => any_audience = true
            any_audience = true => jwt.issuers[0].any_audience => leave one of them out
            ["api"] -> [""] => jwt.issuers[0].audiences[0] => 1 to 512
            jwks_url = "http://login.example.com/keys" => jwt.issuers[0].jwks_url => over https
            jwks_url = "keys" => jwt.issuers[0].jwks_url => not an address
            jwks_url = "https://a/" ⏎ jwks_file = "keys" => jwt.issuers[0].jwks_file => jwks_url is set
            jwks_file = "/nowhere" => jwt.issuers[0].jwks_file => /nowhere
            jwks_file = "private" => jwt.issuers[0].jwks_file => no key that the gateway
            jwks_file = "empty" => jwt.issuers[0].jwks_file => no key that the gateway
            jwks_file = "html" => jwt.issuers[0].jwks_file => {"keys"
            jwks_file = "large" => jwt.issuers[0].jwks_file => 262144 bytes
            jwks_file = "." => jwt.issuers[0].jwks_file => no file
            ca_file = "/nowhere" => jwt.issuers[0].ca_file => /nowhere
            ca_file = "html" => jwt.issuers[0].ca_file => no certificate
            jwks_file = "keys" ⏎ ca_file = "ca.pem" => jwt.issuers[0].ca_file => not fetched
            ca_certs = "ca.pem" => jwt.issuers[0].ca_certs => written ca_file
            secret_file = "short" => jwt.issuers[0].secret_file => need 32 at least
            secret_file = "secret" ⏎ algorithms = ["HS256", "HS512"] => jwt.issuers[0].secret_file => need 64 at least
            secret_file = "secret" ⏎ algorithms = ["RS256"] => jwt.issuers[0].algorithms => instead of secret_file
            algorithms = ["RS256", "HS256"] => jwt.issuers[0].algorithms => with secret_file
            algorithms = [] => jwt.issuers[0].algorithms => it is empty
            algorithms = ["none"] => jwt.issuers[0].algorithms[0] => ES256
            algorithms = ["rs256"] => jwt.issuers[0].algorithms[0] => RS256
            clock_skew = "6min" => jwt.issuers[0].clock_skew => 5min
            clock_skew = 60 => jwt.issuers[0].clock_skew => 0s to 5min
            max_lifetime = "0s" => jwt.issuers[0].max_lifetime => 1year
            on_cnf = "accept" => jwt.issuers[0].on_cnf => "ignore"
            on_unknown_consumer = "maybe" => jwt.issuers[0].on_unknown_consumer => "allow"
            scopes_claim = [] => jwt.issuers[0].scopes_claim => it is empty
            required_claims = "tenant" => jwt.issuers[0].required_claims => this is a table
            required_claims = { tenant = [] } => jwt.issuers[0].required_claims => a text or a list
            required_claims = { tenant = { a = 1 } } => jwt.issuers[0].required_claims => a text or a list
            required_claims = ["tenant"] => jwt.issuers[0].required_claims => each in it is { claim = ["text"], values = ["text"] }
            required_claims = [{ claim = "tenant" }] => jwt.issuers[0].required_claims => each in it is { claim
            required_claims = [{ claim = [], values = ["a"] }] => jwt.issuers[0].required_claims => each in it is { claim
            required_claims = [{ claim = "a", values = "a", any = "a" }] => jwt.issuers[0].required_claims => each in it is { claim
            forward_claims = { "X-Consumer-Id" = "email" } => jwt.issuers[0].forward_claims => only the gateway sets
            forward_claims = { "x-shared-secret" = "email" } => jwt.issuers[0].forward_claims => only the gateway sets
            forward_claims = { "X_User" = "email" } => jwt.issuers[0].forward_claims => letters, digits
            forward_claims = { "x user" = "email" } => jwt.issuers[0].forward_claims => letters, digits
            forward_claims = { "Connection" = "email" } => jwt.issuers[0].forward_claims => hop-by-hop
            forward_claims = { "Authorization" = "email" } => jwt.issuers[0].forward_claims => credentials
            forward_claims = { "Cookie" = "email" } => jwt.issuers[0].forward_claims => credentials
            forward_claims = { "X-API-Key" = "email" } => jwt.issuers[0].forward_claims => credentials
            forward_claims = { "Content-Length" = "email" } => jwt.issuers[0].forward_claims => another meaning
            forward_claims = { "Host" = "email" } => jwt.issuers[0].forward_claims => another meaning
            forward_claims = { "X-Request-Id" = "email" } => jwt.issuers[0].forward_claims => another meaning
            forward_claims = { "X-Forwarded-For" = "email" } => jwt.issuers[0].forward_claims => another meaning
            forward_claims = { "X-A" = "a", "x-a" = "b" } => jwt.issuers[0].forward_claims => twice
            audience = "api" => jwt.issuers[0].audience => written audiences
            jwkUrl = "https://a" => jwt.issuers[0].jwkUrl => written jwks_url
            jwks_uri = "https://a" => jwt.issuers[0].jwks_uri => written jwks_url
            remote_jwks = {} => jwt.issuers[0].remote_jwks => written jwks_url
            secret = "a" => jwt.issuers[0].secret => written secret_file
            claims_to_verify = ["exp"] => jwt.issuers[0].claims_to_verify => always checked
            claim_to_headers = [] => jwt.issuers[0].claim_to_headers => written forward_claims
            nothing = 1 => jwt.issuers[0].nothing => here are: name, issuer
        "#,
    );
    one_problem_each(&said);
    assert!(!said.concat().contains("s3cret"), "{said:?}");
    for (other, path) in [
        (GOOD.replace("corp", "twin"), "issuer"),
        (GOOD.replace("login", "other"), "name"),
    ] {
        let file = format!("{good}[[jwt.issuers]]\n{other}");
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
