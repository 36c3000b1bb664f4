//! Wrong tokens: each is refused as what it is, and none reaches the origin.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    CORP, CORP_SECRET, PARTNER, Rig, bearer, now, of_corp, raw, signed_with, unsigned, with,
};
use crate::client::get;

const BOTH: &str = "[brake]\nenabled = false\n[[routes]]\nauth = [\"key\", \"jwt\"]\n";

/// Signed by `corp` as it does, whatever header and claims are.
fn corp(header: &str, claims: &str) -> String {
    signed_with(CORP_SECRET.as_bytes(), &raw(header, claims))
}

/// Wrong tokens of `corp`, each with what is wrong and the code of the answer.
fn of_wrong_headers() -> Vec<(String, String, &'static str)> {
    let claims = with(CORP, &json!({})).to_string();
    let mut all = Vec::new();
    let mut add = |what: &str, header: &str, code| {
        all.push((what.to_owned(), corp(header, &claims), code));
    };
    for algorithm in [
        "none", "None", "NONE", "nOnE", "", "hs256", "Hs256", "HS257", "HS384", "HS512", "RS256",
        "ES256", "PS256", "EdDSA", "HS256 ", "A128KW", "dir",
    ] {
        add(
            "alg",
            &json!({ "alg": algorithm }).to_string(),
            "token_invalid",
        );
    }
    // Without a text in `alg` it is no token, and what is no token is a key.
    for header in [
        "{}",
        r#"{"typ":"JWT"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":null}"#,
        r#"{"alg":1}"#,
        r#"{"alg":{}}"#,
        r#""HS256""#,
        "null",
        "",
        "{",
        r#"{"alg":"HS256""#,
    ] {
        add("no alg", header, "api_key_invalid");
    }
    for (what, member) in [
        ("crit", r#""crit":["x"]"#),
        ("crit", r#""crit":["exp"],"exp":1"#),
        ("crit", r#""crit":[]"#),
        ("b64", r#""b64":false,"crit":["b64"]"#),
        ("b64", r#""b64":false"#),
        ("b64", r#""b64":true"#),
        ("zip", r#""zip":"DEF""#),
        ("enc", r#""enc":"A128GCM""#),
        ("cty", r#""cty":"JWT""#),
        ("cty", r#""cty":"jwt""#),
        ("kid", r#""kid":1"#),
        ("kid", r#""kid":null"#),
        ("kid", r#""kid":["one"]"#),
        ("typ", r#""typ":"dpop+jwt""#),
        ("typ", r#""typ":"logout+jwt""#),
        ("typ", r#""typ":"secevent+jwt""#),
        ("typ", r#""typ":1"#),
        ("typ", r#""typ":"""#),
        ("twice", r#""alg":"HS256""#),
        ("twice", r#""typ":"JWT","typ":"JWT""#),
    ] {
        add(
            what,
            &format!(r#"{{"alg":"HS256",{member}}}"#),
            "token_invalid",
        );
    }
    add(
        "long",
        &json!({ "alg": "HS256", "x": "a".repeat(1100) }).to_string(),
        "token_invalid",
    );
    all
}

fn of_wrong_claims() -> Vec<(String, String, &'static str)> {
    const HEADER: &str = r#"{"alg":"HS256"}"#;
    let mut all = Vec::new();
    let mut add = |what: &str, claims: &Value, code| {
        let token = of_corp(claims);
        all.push((format!("{what}: {claims}"), token, code));
    };
    let now = now();
    for exp in [
        json!("9999999999"),
        json!(-1),
        json!(null),
        json!([now + 600]),
        json!({}),
        json!(true),
        json!(""),
    ] {
        add("exp", &json!({ "exp": exp }), "token_invalid");
    }
    for exp in [
        json!(0),
        json!(1),
        json!(1.5e9),
        json!(1_500_000_000.25),
        json!(now - 120),
    ] {
        add("exp", &json!({ "exp": exp }), "token_expired");
    }
    for (claim, value) in [
        ("nbf", json!(now + 600)),
        ("nbf", json!("1")),
        ("nbf", json!([])),
        ("iat", json!(now + 600)),
        ("iat", json!("1")),
        ("iss", json!(null)),
        ("iss", json!("")),
        ("iss", json!([CORP])),
        ("iss", json!([CORP, "https://evil.example"])),
        ("iss", json!({ "is": CORP })),
        ("iss", json!("https://corp.example")),
        ("iss", json!("https://corp.example//")),
        ("iss", json!("http://corp.example/")),
        ("iss", json!("https://CORP.example/")),
        ("iss", json!("https://corp.example/ ")),
        ("iss", json!("https://corp.example/\u{0}")),
        ("iss", json!("https://evil.example/")),
        ("iss", json!("corp")),
        ("iss", json!(PARTNER)),
        ("aud", json!(null)),
        ("aud", json!("")),
        ("aud", json!("ap")),
        ("aud", json!("apis")),
        ("aud", json!("API")),
        ("aud", json!("api ")),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("aud", json!(["other", "apis"])),
        ("aud", json!([["api"]])),
        ("aud", json!(["api", 1])),
        ("aud", json!(1)),
        ("aud", json!({ "api": true })),
        ("sub", json!(1)),
        ("sub", json!("")),
        ("sub", json!("s".repeat(300))),
        (
            "cnf",
            json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }),
        ),
        (
            "cnf",
            json!({ "x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2" }),
        ),
    ] {
        add(claim, &json!({ claim: value }), "token_invalid");
    }
    for claims in [
        "",
        "null",
        "[]",
        "\"a\"",
        "1",
        "{",
        "{}",
        "{\"iss\":\"https://corp.example/\"}",
    ] {
        all.push((claims.to_owned(), corp(HEADER, claims), "token_invalid"));
    }
    let good = with(CORP, &json!({})).to_string();
    for (what, more) in [
        ("exp twice", format!(r#""exp":{},"#, now + 60)),
        ("iss twice", format!(r#""iss":"{CORP}","#)),
        ("aud twice", r#""aud":"api","#.to_owned()),
        ("a number that is none", r#""exp":1e400,"#.to_owned()),
        (
            "deep",
            format!(r#""x":{}{},"#, "[".repeat(40), "]".repeat(40)),
        ),
    ] {
        let claims = good.replacen('{', &format!("{{{more}"), 1);
        all.push((what.to_owned(), corp(HEADER, &claims), "token_invalid"));
    }
    all
}

fn of_wrong_forms(rig: &Rig) -> Vec<(String, String, &'static str)> {
    let good = of_corp(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("{good}");
    };
    let mut all: Vec<(String, String, &'static str)> = Vec::new();
    let mut add = |what: &str, token: String, code| all.push((what.to_owned(), token, code));
    add(
        "no signature",
        format!("{header}.{claims}."),
        "token_invalid",
    );
    add(
        "no claims",
        format!("{header}..{signature}"),
        "token_invalid",
    );
    add(
        "five parts",
        format!("{header}.{claims}.{signature}.{claims}.{signature}"),
        "token_invalid",
    );
    add("four parts", format!("{good}."), "token_invalid");
    add("six parts", format!("{good}.a.b.c"), "token_invalid");
    add(
        "padded",
        format!("{header}.{claims}.{signature}="),
        "token_invalid",
    );
    add(
        "padded claims",
        format!("{header}.{claims}=.{signature}"),
        "token_invalid",
    );
    add("twice", format!("{good}{good}"), "token_invalid");
    add(
        "too long",
        format!("{header}.{}.{signature}", "a".repeat(9000)),
        "token_invalid",
    );
    // A key, since a token has two dots.
    add("two parts", format!("{header}.{claims}"), "api_key_invalid");
    add("one part", header.to_owned(), "api_key_invalid");
    add(
        "no header",
        format!(".{claims}.{signature}"),
        "api_key_invalid",
    );
    // Each character of the signature changed, then some of the claims.
    let turned = |text: &str, at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'Q' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    for at in 0..signature.len() {
        add(
            "signature",
            format!("{header}.{claims}.{}", turned(signature, at)),
            "token_invalid",
        );
    }
    for at in (0..claims.len()).step_by(7) {
        add(
            "claims",
            format!("{header}.{}.{signature}", turned(claims, at)),
            "token_invalid",
        );
    }
    for end in 1..signature.len().min(8) {
        add(
            "short",
            format!("{header}.{claims}.{}", &signature[..signature.len() - end]),
            "token_invalid",
        );
    }
    let standard = STANDARD.encode(URL_SAFE_NO_PAD.decode(signature).unwrap());
    if standard != signature {
        add(
            "the other alphabet",
            format!("{header}.{claims}.{standard}"),
            "token_invalid",
        );
    }
    let signed = unsigned(&json!({ "alg": "HS256" }), &with(CORP, &json!({})));
    for secret in ["", "0", "0123456789abcdef0123456789abcdef0123456789abcdeX"] {
        add(
            "another secret",
            signed_with(secret.as_bytes(), &signed),
            "token_invalid",
        );
    }
    // The public key of the other issuer as a secret, and its signature for what is not its own.
    let set = std::fs::read(rig.directory().path().join("partner.json")).unwrap();
    let as_partner = with(PARTNER, &json!({}));
    for (header, secret) in [
        (json!({ "alg": "HS256" }), &set[..]),
        (json!({ "alg": "HS256", "kid": "one" }), &set[..]),
        (
            json!({ "alg": "HS256", "kid": "one" }),
            CORP_SECRET.as_bytes(),
        ),
        (
            json!({ "alg": "ES256", "kid": "one" }),
            CORP_SECRET.as_bytes(),
        ),
    ] {
        let signed = unsigned(&header, &as_partner);
        add("confused", signed_with(secret, &signed), "token_invalid");
    }
    let key = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode("mine") });
    for (name, value) in [
        ("jwk", key),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/cert")),
    ] {
        let signed = unsigned(
            &json!({ "alg": "HS256", name: value }),
            &with(CORP, &json!({})),
        );
        add(name, signed_with(b"mine", &signed), "token_invalid");
    }
    let es = |header: &Value, claims: &Value| rig.signed_by_partner(header, claims);
    let one = json!({ "alg": "ES256", "kid": "one" });
    add(
        "A's key for B",
        es(&one, &with(CORP, &json!({}))),
        "token_invalid",
    );
    let other = json!({ "alg": "ES256", "kid": "two" });
    add("unknown kid", es(&other, &as_partner), "token_invalid");
    for algorithm in ["HS256", "RS256", "ES384", "none", "es256"] {
        let header = json!({ "alg": algorithm, "kid": "one" });
        add(
            "another algorithm",
            es(&header, &as_partner),
            "token_invalid",
        );
    }
    all
}

#[test]
fn every_wrong_token_is_refused_as_what_it_is_and_none_reaches_the_origin() {
    let rig = Rig::with(BOTH, "");
    let all = [of_wrong_headers(), of_wrong_claims(), of_wrong_forms(&rig)].concat();
    assert!(all.len() > 180, "{}", all.len());
    for (what, token, code) in &all {
        for _ in 0..2 {
            let answer = rig.get("/", &[&bearer(token)]);
            assert_eq!(
                (answer.status, &*answer.code()),
                (401, *code),
                "{what}: {token}"
            );
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(
                challenge.starts_with("Bearer realm=\"postern\", error=\"invalid_token\""),
                "{challenge}"
            );
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }
    assert_eq!(rig.origin.arrived().len(), 0);
    // The same gateway takes good ones.
    assert_eq!(rig.answer("/", &of_corp(&json!({}))).0, 200);
    assert_eq!(rig.answer("/", &rig.of_partner(&json!({}))).0, 200);
}

#[test]
fn tokens_at_the_edge_of_what_is_accepted_pass() {
    let rig = Rig::with(BOTH, "");
    let now = now();
    for claims in [
        json!({ "exp": now }),
        json!({ "exp": now - 30 }),
        json!({ "exp": now + 60 }),
        json!({ "exp": (now + 60) as f64 + 0.5 }),
        json!({ "aud": ["other", "api"] }),
        json!({ "aud": ["api"] }),
        json!({ "nbf": now + 30, "iat": now + 30 }),
        json!({ "sub": null }),
        json!({ "jti": "one", "azp": "app", "anything": { "deep": [1, 2, { "er": null }] } }),
    ] {
        for token in [of_corp(&claims), rig.of_partner(&claims)] {
            assert_eq!(rig.answer("/", &token).0, 200, "{claims}");
        }
    }
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
        let signed = unsigned(
            &json!({ "alg": "HS256", "typ": typ }),
            &with(CORP, &json!({})),
        );
        let token = signed_with(CORP_SECRET.as_bytes(), &signed);
        assert_eq!(rig.answer("/", &token).0, 200, "{typ}");
    }
}

#[test]
fn neither_tokens_nor_subjects_are_told_in_logs_and_answers() {
    let rig = Rig::with(BOTH, "");
    let good = of_corp(&json!({ "sub": "alice-7f3a" }));
    let forged = signed_with(b"another", good.rsplit_once('.').unwrap().0);
    let mut told = String::new();
    for token in [&good, &forged] {
        told += &rig.get("/", &[&bearer(token)]).text();
        told += &get(rig.process.admin, "/metrics", &[]).text();
    }
    crate::running::eventually("both are logged", || rig.process.access_log().len() == 2);
    let lines = rig.process.access_log();
    assert_eq!(lines[0]["issuer"], "corp");
    assert!(lines[0].get("key").is_none() && lines[0].get("consumer").is_none());
    assert_eq!(
        (&lines[1]["cause"], &lines[1]["code"]),
        (&json!("token_signature"), &json!("token_invalid"))
    );
    told += &format!("{lines:?}{}", rig.process.log());
    for secret in [
        &good[good.len() - 20..],
        &forged[forged.len() - 20..],
        "alice-7f3a",
        "eyJ",
    ] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

#[test]
fn forged_tokens_count_double_and_a_known_token_passes_a_braked_address() {
    let rig = Rig::with(
        "[brake]\nfailures = 20\nwindow = \"1day\"\n[[routes]]\nauth = [\"key\", \"jwt\"]\n",
        "",
    );
    let known = of_corp(&json!({}));
    assert_eq!(rig.answer("/", &known).0, 200);
    let forged = |number: u32| {
        let signed = unsigned(
            &json!({ "alg": "HS256" }),
            &with(CORP, &json!({ "jti": number })),
        );
        signed_with(b"another", &signed)
    };
    let answers: Vec<u16> = (0..40)
        .map(|number| rig.answer("/", &forged(number)).0)
        .collect();
    let refused = answers.iter().take_while(|status| **status == 401).count();
    assert_eq!(refused, 10, "{answers:?}");
    assert!(
        answers[10..].iter().all(|status| *status == 429),
        "{answers:?}"
    );
    assert_eq!(
        rig.answer("/", &known).0,
        200,
        "a token that was verified before"
    );
    // A good one that is new takes one of the ten signatures of a second.
    crate::running::eventually("a new token passes", || {
        rig.answer("/", &of_corp(&json!({ "jti": "new" }))).0 == 200
    });
    // Tokens that are no good for another reason cost no signature, and are not counted.
    let expired = rig.answer("/", &of_corp(&json!({ "aud": "else" })));
    assert_ne!(expired.1, "ok");
}
