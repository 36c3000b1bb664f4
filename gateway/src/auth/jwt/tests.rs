use std::sync::Arc;
use std::time::Duration;

use actix_http::header::HeaderName;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::auth::jwt::key::SkippedKey;
use crate::auth::jwt::signer::{SECRET, Signer, encode};
use crate::auth::jwt::{
    Algorithm, Algorithms, Audiences, ClaimPath, Compact, InvalidKeySet, Issuer, IssuerRules,
    Issuers, KeyOrigin, KeySet, KeySource, KeyState, OnConfirmation, OnUnknownConsumer,
    RequiredClaim, TokenFault, TokenResult, VerifiedToken, is_token,
};
use crate::keys::UnixMillis;

/// 2027-01-15T08:00:00Z.
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const NOW_SECONDS: i64 = 1_800_000_000;

fn rules(signer: &Signer) -> IssuerRules {
    let set = KeySet::parse(signer.key_set().as_bytes()).unwrap().set;
    IssuerRules {
        name: "corp".into(),
        issuer: "https://login.example.com/".into(),
        audiences: Audiences::OneOf(vec!["https://api.example.com".into(), "second".into()]),
        algorithms: Algorithm::ALL
            .into_iter()
            .filter(|algorithm| !algorithm.is_symmetric())
            .collect(),
        clock_skew: Duration::from_mins(1),
        types: None,
        max_lifetime: None,
        on_confirmation: OnConfirmation::Reject,
        scopes_claim: None,
        consumer_claim: None,
        on_unknown_consumer: OnUnknownConsumer::Reject,
        required_claims: Vec::new(),
        forward_claims: Vec::new(),
        keys: KeySource::Fixed(Arc::new(set)),
        tls: None,
        refresh: Duration::from_hours(1),
        cooldown: Duration::from_secs(30),
        max_stale: Duration::from_hours(24),
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://login.example.com/",
        "aud": "https://api.example.com",
        "sub": "user-1",
        "exp": NOW_SECONDS + 600,
        "iat": NOW_SECONDS - 10,
        "scope": "orders:read orders:write",
    })
}

/// The usual claims, but for these; `null` removes one.
fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn verify(issuers: &Issuers, token: &str) -> Result<Arc<VerifiedToken>, TokenFault> {
    issuers.verify(token.as_bytes(), |_| true, NOW)
}

/// Fault of a token signed by the right key, with these claims and rules.
fn fault_of(rules: IssuerRules, signer: &Signer, claims: &Value) -> Option<TokenFault> {
    let issuers = Issuers::new(vec![rules], None);
    verify(&issuers, &signer.token(Algorithm::EdDsa, claims)).err()
}

#[test]
fn tokens_of_every_algorithm_are_verified() {
    let signer = Signer::new();
    let issuers = Issuers::new(vec![rules(&signer)], None);
    let secret = KeySet::of_secret(Zeroizing::new(SECRET.to_vec())).unwrap();
    let of_secret = IssuerRules {
        algorithms: Algorithms::of(&[Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512]),
        keys: KeySource::Fixed(Arc::new(secret)),
        ..rules(&signer)
    };
    let of_secret = Issuers::new(vec![of_secret], None);
    for algorithm in Algorithm::ALL {
        let token = signer.token(algorithm, &claims());
        let (right, wrong) = if algorithm.is_symmetric() {
            (&of_secret, &issuers)
        } else {
            (&issuers, &of_secret)
        };
        let verified = verify(right, &token).unwrap();
        assert_eq!(verified.issuer().name(), "corp");
        assert_eq!(verified.subject(), Some("user-1"));
        assert_eq!(verified.ends_at(), UnixMillis(NOW.0 + 660_000));
        let scopes: Vec<_> = verified.scopes().iter().collect();
        assert_eq!(scopes, ["orders:read", "orders:write"]);
        assert_eq!(verify(wrong, &token).err(), Some(TokenFault::Algorithm));
    }
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
        // A key that the issuer does not have, under the same id.
        let forged = Signer::new().token(algorithm, &claims());
        assert_eq!(verify(&issuers, &forged).err(), Some(TokenFault::Signature));
    }
}

/// J1, J2, J3, J4: what the header can say.
#[test]
fn headers_are_read_strictly() {
    let signer = Signer::new();
    let issuers = Issuers::new(vec![rules(&signer)], None);
    let body = claims().to_string();
    let jwk = signer.jwk(Algorithm::Es256);
    let kid_of = |length: usize| format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, "k".repeat(length));
    let long = format!(r#"{{"alg":"EdDSA","x":"{}"}}"#, "x".repeat(1024));
    for (header, wanted) in [
        (r#"{"alg":"EdDSA"}"#, None),
        (r#"{"alg":"EdDSA","kid":"kid-ed25519","typ":"JWT"}"#, None),
        (r#"{"alg":"EdDSA","typ":"at+jwt"}"#, None),
        (r#"{"alg":"EdDSA","typ":"application/AT+JWT"}"#, None),
        (r#"{"alg":"EdDSA","cty":"json"}"#, None),
        (r#"{"alg":"none"}"#, Some(TokenFault::UnknownAlgorithm)),
        (r#"{"alg":"None"}"#, Some(TokenFault::UnknownAlgorithm)),
        (r#"{"alg":"NONE"}"#, Some(TokenFault::UnknownAlgorithm)),
        (r#"{"alg":""}"#, Some(TokenFault::UnknownAlgorithm)),
        (r#"{"alg":"eddsa"}"#, Some(TokenFault::UnknownAlgorithm)),
        (r#"{"alg":["EdDSA"]}"#, Some(TokenFault::UnknownAlgorithm)),
        (
            r#"{"kid":"kid-ed25519"}"#,
            Some(TokenFault::UnknownAlgorithm),
        ),
        (r#"{"alg":"HS256"}"#, Some(TokenFault::Algorithm)),
        (r#"{"alg":"EdDSA","alg":"EdDSA"}"#, Some(TokenFault::Header)),
        (r#"["EdDSA"]"#, Some(TokenFault::Header)),
        ("EdDSA", Some(TokenFault::Header)),
        (&long, Some(TokenFault::HeaderTooLong)),
        (
            r#"{"alg":"EdDSA","crit":["x"]}"#,
            Some(TokenFault::Critical),
        ),
        (r#"{"alg":"EdDSA","crit":[]}"#, Some(TokenFault::Critical)),
        (r#"{"alg":"EdDSA","b64":true}"#, Some(TokenFault::Unencoded)),
        (
            r#"{"alg":"EdDSA","b64":false}"#,
            Some(TokenFault::Unencoded),
        ),
        (
            r#"{"alg":"EdDSA","zip":"DEF"}"#,
            Some(TokenFault::Encrypted),
        ),
        (
            r#"{"alg":"EdDSA","enc":"A128GCM"}"#,
            Some(TokenFault::Encrypted),
        ),
        (r#"{"alg":"EdDSA","cty":"JWT"}"#, Some(TokenFault::Nested)),
        (
            r#"{"alg":"EdDSA","cty":"application/jwt"}"#,
            Some(TokenFault::Nested),
        ),
        (r#"{"alg":"EdDSA","typ":1}"#, Some(TokenFault::TypeForm)),
        (
            r#"{"alg":"EdDSA","typ":"dpop+jwt"}"#,
            Some(TokenFault::Type),
        ),
        (
            r#"{"alg":"EdDSA","typ":"logout+jwt"}"#,
            Some(TokenFault::Type),
        ),
        (r#"{"alg":"EdDSA","kid":1}"#, Some(TokenFault::KeyId)),
        (r#"{"alg":"EdDSA","kid":""}"#, Some(TokenFault::KeyId)),
        (&kid_of(257), Some(TokenFault::KeyId)),
        (&kid_of(256), Some(TokenFault::KeyUnknown)),
        (
            r#"{"alg":"EdDSA","kid":"kid-p256"}"#,
            Some(TokenFault::KeyUnfit),
        ),
    ] {
        let token = signer.sealed(Algorithm::EdDsa, header, &body);
        let found = verify(&issuers, &token).err();
        assert_eq!(found, wanted, "{}", &header[..header.len().min(80)]);
    }
    // An attacker's key in the header is not used, an attacker's address not asked.
    let attacker = Signer::new();
    let own = attacker.jwk(Algorithm::Es256);
    for member in [
        json!({"jwk": own}),
        json!({"jku": "https://evil.example/keys"}),
        json!({"x5u": "https://evil.example/chain"}),
        json!({"x5c": ["MIIB"]}),
        json!({}),
    ] {
        let mut header = json!({"alg": "ES256", "kid": jwk["kid"]});
        for (name, value) in member.as_object().unwrap() {
            header[name] = value.clone();
        }
        let forged = attacker.sealed(Algorithm::Es256, &header.to_string(), &body);
        assert_eq!(verify(&issuers, &forged).err(), Some(TokenFault::Signature));
        let signed = signer.sealed(Algorithm::Es256, &header.to_string(), &body);
        assert!(verify(&issuers, &signed).is_ok(), "{member}");
    }
}

/// J2: a public key is never a secret.
#[test]
fn public_keys_verify_no_hmac() {
    let signer = Signer::new();
    let mut all = rules(&signer);
    all.algorithms = Algorithm::ALL.into_iter().collect();
    let issuers = Issuers::new(vec![all], None);
    for kid in ["kid-rsa", "kid-p256", "kid-ed25519"] {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        let token = signer.sealed(Algorithm::Hs256, &header, &claims().to_string());
        assert_eq!(verify(&issuers, &token).err(), Some(TokenFault::KeyUnfit));
    }
    let token = signer.sealed(
        Algorithm::Hs256,
        r#"{"alg":"HS256"}"#,
        &claims().to_string(),
    );
    assert_eq!(verify(&issuers, &token).err(), Some(TokenFault::KeyUnfit));
}

#[test]
fn the_form_of_a_token_is_read_strictly() {
    let signer = Signer::new();
    let issuers = Issuers::new(vec![rules(&signer)], None);
    let token = signer.token(Algorithm::EdDsa, &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let [header, body, signature] = parts[..] else {
        panic!("{token}")
    };
    let last_bits = format!("{}{}", &signature[..85], "B");
    let text = claims().to_string();
    let nested = format!("{}1{}", "{\"a\":".repeat(17), "}".repeat(17));
    let deep = signer.sealed(Algorithm::EdDsa, r#"{"alg":"EdDSA"}"#, &nested);
    let twice = text.replacen('{', "{\"sub\":\"other\",", 1);
    let twice = signer.sealed(Algorithm::EdDsa, r#"{"alg":"EdDSA"}"#, &twice);
    let long = signer.token(
        Algorithm::EdDsa,
        &claims_with(json!({"x": "x".repeat(6200)})),
    );
    assert!(long.len() > 8192);
    for (token, wanted) in [
        (format!("{header}.{body}"), TokenFault::Parts),
        (header.to_owned(), TokenFault::Parts),
        (String::new(), TokenFault::Parts),
        (format!("{token}."), TokenFault::Parts),
        (format!("{token}.a.b"), TokenFault::Parts),
        (format!(".{token}"), TokenFault::Parts),
        (format!("{header}.{body}."), TokenFault::Signature),
        (format!("{header}..{signature}"), TokenFault::Claims),
        (format!(".{body}.{signature}"), TokenFault::Header),
        (format!("{token}=="), TokenFault::Encoding),
        (format!("{header}.{body}.{last_bits}"), TokenFault::Encoding),
        (
            format!("{header}. {body}.{signature}"),
            TokenFault::Encoding,
        ),
        (
            format!("{header}.{body}.{signature}\n"),
            TokenFault::Encoding,
        ),
        (
            format!("{header}.{body}.+{}", &signature[1..]),
            TokenFault::Encoding,
        ),
        (
            format!("{header}.{body}.{}", &signature[..84]),
            TokenFault::Signature,
        ),
        (deep, TokenFault::Claims),
        (twice, TokenFault::Claims),
        (long, TokenFault::TooLong),
    ] {
        let found = verify(&issuers, &token).err();
        assert_eq!(found, Some(wanted), "{token}");
    }
    // The claims of another token.
    let other = signer.token(Algorithm::EdDsa, &claims_with(json!({"sub": "user-2"})));
    let swapped = other.replace(other.split('.').nth(2).unwrap(), signature);
    assert_eq!(
        verify(&issuers, &swapped).err(),
        Some(TokenFault::Signature)
    );
}

/// J5 and the rest of the times.
#[test]
fn times_are_numbers_and_are_compared_with_tolerance() {
    let signer = Signer::new();
    let lasting = IssuerRules {
        max_lifetime: Some(Duration::from_secs(600)),
        ..rules(&signer)
    };
    let at = |seconds: i64| NOW_SECONDS + seconds;
    for (changes, wanted) in [
        (json!({"exp": at(0)}), None),
        (json!({"exp": at(-59)}), None),
        (json!({"exp": (at(-60) as f64) + 0.5}), None),
        (json!({"exp": 1e300}), None),
        (json!({"exp": at(-60)}), Some(TokenFault::Expired)),
        (
            json!({"exp": (at(-61) as f64) + 0.999}),
            Some(TokenFault::Expired),
        ),
        (json!({"exp": 1.5e9}), Some(TokenFault::Expired)),
        (json!({"exp": 0}), Some(TokenFault::Expired)),
        (json!({"exp": "9999999999"}), Some(TokenFault::Expiry)),
        (json!({"exp": -1}), Some(TokenFault::Expiry)),
        (json!({"exp": -0.5}), Some(TokenFault::Expiry)),
        (json!({"exp": null}), Some(TokenFault::Expiry)),
        (json!({"exp": [at(600)]}), Some(TokenFault::Expiry)),
        (json!({"exp": true}), Some(TokenFault::Expiry)),
        (json!({"nbf": at(60)}), None),
        (json!({"nbf": at(61)}), Some(TokenFault::NotYetValid)),
        (json!({"nbf": "0"}), Some(TokenFault::NotBeforeForm)),
        (json!({"iat": null}), None),
        (json!({"iat": at(60)}), None),
        (json!({"iat": at(61)}), Some(TokenFault::IssuedInFuture)),
        (json!({"iat": "0"}), Some(TokenFault::IssuedAtForm)),
    ] {
        let found = fault_of(rules(&signer), &signer, &claims_with(changes.clone()));
        assert_eq!(found, wanted, "{changes}");
    }
    for (changes, wanted) in [
        (json!({"iat": at(0)}), None),
        (json!({"iat": at(-1)}), Some(TokenFault::Lifetime)),
        (json!({"iat": null}), Some(TokenFault::Lifetime)),
    ] {
        let found = fault_of(lasting.clone(), &signer, &claims_with(changes.clone()));
        assert_eq!(found, wanted, "{changes}");
    }
    // `null` as a value, and a number that no float holds.
    for (exp, wanted) in [("null", TokenFault::Expiry), ("1e400", TokenFault::Claims)] {
        let text = format!(r#"{{"iss":"https://login.example.com/","exp":{exp}}}"#);
        let token = signer.sealed(Algorithm::EdDsa, r#"{"alg":"EdDSA"}"#, &text);
        let issuers = Issuers::new(vec![rules(&signer)], None);
        assert_eq!(verify(&issuers, &token).err(), Some(wanted));
    }
}

/// J6, J7 and the other claims.
#[test]
fn claims_are_compared_exactly() {
    let signer = Signer::new();
    let long = "s".repeat(257);
    for (changes, wanted) in [
        (
            json!({"iss": ["https://login.example.com/"]}),
            Some(TokenFault::IssuerMissing),
        ),
        (json!({"iss": null}), Some(TokenFault::IssuerMissing)),
        (
            json!({"iss": "https://login.example.com"}),
            Some(TokenFault::IssuerUnknown),
        ),
        (
            json!({"iss": "https://login.example.com//"}),
            Some(TokenFault::IssuerUnknown),
        ),
        (
            json!({"iss": "https://LOGIN.example.com/"}),
            Some(TokenFault::IssuerUnknown),
        ),
        (json!({"aud": ["a", "https://api.example.com"]}), None),
        (json!({"aud": "second"}), None),
        (
            json!({"aud": "https://api.example.com/"}),
            Some(TokenFault::Audience),
        ),
        (
            json!({"aud": "https://api.example.co"}),
            Some(TokenFault::Audience),
        ),
        (
            json!({"aud": ["https://api.example.com", 1]}),
            Some(TokenFault::Audience),
        ),
        (json!({"aud": 1}), Some(TokenFault::Audience)),
        (json!({"aud": []}), Some(TokenFault::Audience)),
        (json!({"aud": null}), Some(TokenFault::Audience)),
        (json!({"aud": {"a": "second"}}), Some(TokenFault::Audience)),
        (json!({"sub": null}), None),
        (json!({"sub": 1}), Some(TokenFault::Subject)),
        (json!({"sub": ""}), Some(TokenFault::Subject)),
        (json!({"sub": long}), Some(TokenFault::Subject)),
        (json!({"cnf": {"jkt": "x"}}), Some(TokenFault::Confirmation)),
        (json!({"scope": ["a", 1, "b c", "d"]}), None),
        (json!({"scope": "s ".repeat(10)}), None),
    ] {
        let found = fault_of(rules(&signer), &signer, &claims_with(changes.clone()));
        assert_eq!(found, wanted, "{changes}");
    }
    let many: Vec<_> = (0..700).map(|number| format!("s{number}")).collect();
    let mut of_many = claims_with(json!({"scope": many.join(" ")}));
    assert_eq!(fault_of(rules(&signer), &signer, &of_many), None);
    of_many["scope"] = json!((0..45).map(|n| format!("{n:0>100}")).collect::<Vec<_>>());
    assert_eq!(
        fault_of(rules(&signer), &signer, &of_many),
        Some(TokenFault::Scopes)
    );
    let relaxed = IssuerRules {
        audiences: Audiences::Any,
        on_confirmation: OnConfirmation::Ignore,
        types: Some(vec!["application/at+jwt".into()]),
        ..rules(&signer)
    };
    let issuers = Issuers::new(vec![relaxed], None);
    let body = claims_with(json!({"aud": null, "cnf": {}})).to_string();
    for (header, wanted) in [
        (r#"{"alg":"EdDSA","typ":"AT+jwt"}"#, None),
        (r#"{"alg":"EdDSA","typ":"JWT"}"#, Some(TokenFault::Type)),
        (r#"{"alg":"EdDSA"}"#, Some(TokenFault::Type)),
    ] {
        let token = signer.sealed(Algorithm::EdDsa, header, &body);
        assert_eq!(verify(&issuers, &token).err(), wanted, "{header}");
    }
}

/// J6: an issuer's token is verified with its own keys only.
#[test]
fn issuers_do_not_share_keys() {
    let (ours, theirs) = (Signer::new(), Signer::new());
    let other = IssuerRules {
        name: "other".into(),
        issuer: "https://other.example".into(),
        ..rules(&theirs)
    };
    let issuers = Issuers::new(vec![rules(&ours), other], None);
    let of_other = claims_with(json!({"iss": "https://other.example"}));
    let forged = ours.token(Algorithm::Es256, &of_other);
    assert_eq!(verify(&issuers, &forged).err(), Some(TokenFault::Signature));
    let token = theirs.token(Algorithm::Es256, &of_other);
    let not_other = |issuer: &Issuer| issuer.name() != "other";
    for _ in 0..2 {
        // Before and after the token is known.
        let refused = issuers.verify(token.as_bytes(), not_other, NOW);
        assert_eq!(refused.err(), Some(TokenFault::IssuerNotAccepted));
        assert_eq!(verify(&issuers, &token).unwrap().issuer().name(), "other");
    }
}

/// J11, scopes and consumers.
#[test]
fn claims_become_the_identity_of_the_caller() {
    let signer = Signer::new();
    let name = HeaderName::from_static;
    let path = |names: &[&str]| ClaimPath::new(names.iter().map(|name| (*name).into())).unwrap();
    let rich = IssuerRules {
        scopes_claim: Some(path(&["realm_access", "roles"])),
        consumer_claim: Some("client_id".into()),
        required_claims: vec![
            RequiredClaim {
                claim: "tenant".into(),
                values: vec!["a".into(), "7".into(), "true".into()],
            },
            RequiredClaim {
                claim: path(&["realm_access", "roles"]),
                values: vec!["read".into()],
            },
        ],
        forward_claims: vec![
            (name("x-user-email"), "email".into()),
            (name("x-user-plan"), path(&["app", "plan"])),
            (name("x-user-groups"), "groups".into()),
        ],
        ..rules(&signer)
    };
    let issuers = Issuers::new(vec![rich], None);
    let names: Vec<_> = issuers
        .forwarded_names()
        .iter()
        .map(|n| n.as_str())
        .collect();
    assert_eq!(names, ["x-user-email", "x-user-groups", "x-user-plan"]);
    let base = json!({
        "tenant": "a", "client_id": "acme", "email": "é@example.com\r\nx-evil: 1%",
        "app": {"plan": 3}, "groups": ["a"], "scope": "not:these",
        "realm_access": {"roles": ["read", "uma authorization", "\"x\"", "write"]},
    });
    let token = signer.token(Algorithm::EdDsa, &claims_with(base.clone()));
    let verified = verify(&issuers, &token).unwrap();
    assert_eq!(verified.consumer(), Some("acme"));
    assert_eq!(
        verified.scopes().iter().collect::<Vec<_>>(),
        ["read", "write"]
    );
    let forwarded: Vec<_> = verified
        .forwarded()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        forwarded,
        [
            ("x-user-email", "%C3%A9@example.com%0D%0Ax-evil:%201%25"),
            ("x-user-plan", "3")
        ]
    );
    for (changes, fault, consumer) in [
        (json!({"tenant": ["b", "a"]}), None, Some("acme")),
        (json!({"tenant": 7}), None, Some("acme")),
        (json!({"tenant": true}), None, Some("acme")),
        (
            json!({"tenant": "b"}),
            Some(TokenFault::RequiredClaim),
            None,
        ),
        (
            json!({"tenant": null}),
            Some(TokenFault::RequiredClaim),
            None,
        ),
        (
            json!({"tenant": {"a": "a"}}),
            Some(TokenFault::RequiredClaim),
            None,
        ),
        (
            json!({"realm_access": {"roles": ["write"]}}),
            Some(TokenFault::RequiredClaim),
            None,
        ),
        (
            json!({"realm_access": {}, "roles": ["read"], "realm_access.roles": ["read"]}),
            Some(TokenFault::RequiredClaim),
            None,
        ),
        (json!({"client_id": 17}), None, Some("17")),
        (json!({"client_id": 1.5}), None, None),
        (json!({"client_id": null}), None, None),
        (json!({"client_id": ["acme"]}), None, None),
        (json!({"client_id": "a".repeat(257)}), None, None),
        (json!({"email": "e".repeat(1024)}), None, Some("acme")),
        (
            json!({"email": "e".repeat(1025)}),
            Some(TokenFault::ForwardedClaim),
            None,
        ),
    ] {
        let mut all = base.clone();
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
        let token = signer.token(Algorithm::EdDsa, &claims_with(all));
        let found = verify(&issuers, &token);
        assert_eq!(found.as_ref().err().copied(), fault, "{changes}");
        assert_eq!(
            found.ok().as_ref().and_then(|token| token.consumer()),
            consumer,
            "{changes}"
        );
    }
}

#[test]
fn tokens_are_told_from_keys() {
    let signer = Signer::new();
    let token = signer.token(Algorithm::EdDsa, &claims());
    let part = |text: &str| encode(text.as_bytes());
    for (credential, wanted) in [
        (token.clone(), true),
        (format!("{token}.x.y"), true),
        (format!("{}..", part(r#"{"alg":"none"}"#)), true),
        (format!("{}=.a.b", part(r#"{"alg":"none"}"#)), true),
        (format!("{}.a.b", part(r#"{"alg":"a","alg":1}"#)), true),
        (format!("{}.a.b", part(" {\"alg\":\"none\"}")), true),
        (format!("{}.a", part(r#"{"alg":"none"}"#)), false),
        (format!("{}.a.b", part(r#"{"alg":["none"]}"#)), false),
        (format!("{}.a.b", part(r#"{"typ":"JWT"}"#)), false),
        (format!("{}.a.b", part(r#""alg""#)), false),
        (format!("{}.a.b", part(r#"["HS256"]"#)), false),
        ("some.imported.key".to_owned(), false),
        ("..".to_owned(), false),
        (
            "pstn_00000000000000000000000000000000000000".to_owned(),
            false,
        ),
        (String::new(), false),
    ] {
        assert_eq!(is_token(credential.as_bytes()), wanted, "{credential}");
        let issuers = Issuers::new(vec![rules(&signer)], None);
        let verified = issuers.verify(credential.as_bytes(), |_| true, NOW);
        assert_eq!(verified.is_ok(), credential == token, "{credential}");
        // Only what was verified is found without a look at its form.
        let known = issuers.cached(credential.as_bytes(), |_| true, NOW);
        assert_eq!(known.is_some(), credential == token, "{credential}");
    }
}

#[test]
fn a_verified_token_outlives_no_change() {
    let signer = Signer::new();
    let published = IssuerRules {
        keys: KeySource::Url("https://login.example.com/keys".into()),
        ..rules(&signer)
    };
    let issuers = Issuers::new(vec![published.clone()], None);
    let token = signer.token(Algorithm::EdDsa, &claims());
    let check = |issuers: &Issuers, now: UnixMillis| {
        let verified = issuers.verify(token.as_bytes(), |_| true, now);
        verified.err()
    };
    let result =
        |issuers: &Issuers, result: TokenResult| issuers.by_name("corp").unwrap().tokens(result);
    assert_eq!(check(&issuers, NOW), Some(TokenFault::KeysUnavailable));
    let until = UnixMillis(NOW.0 + 86_400_000);
    let keys_of = |signer: &Signer| KeyState {
        set: KeySet::parse(signer.key_set().as_bytes()).unwrap().set,
        origin: KeyOrigin::Provider,
        fetched_at: NOW,
        due_at: None,
        good_until: Some(until),
    };
    let keys = Arc::clone(issuers.by_name("corp").unwrap().keys());
    keys.replace(keys_of(&signer));
    assert_eq!(check(&issuers, NOW), None);
    assert_eq!(check(&issuers, NOW), None);
    assert_eq!(result(&issuers, TokenResult::Verified), 1);
    assert_eq!(result(&issuers, TokenResult::Cached), 1);
    let cached = issuers.cached(token.as_bytes(), |_| true, NOW);
    assert!(cached.unwrap().is_ok());
    let other = signer.token(Algorithm::Es256, &claims());
    assert!(issuers.cached(other.as_bytes(), |_| true, NOW).is_none());
    let held = verify(&issuers, &token).unwrap();
    assert_eq!(issuers.still_admits(&held, NOW), Ok(()));
    // The same keys again, as at each refresh.
    keys.replace(keys_of(&signer));
    assert_eq!(issuers.still_admits(&held, NOW), Ok(()));
    // The same rules again, as at each reload.
    let again = Issuers::new(vec![published.clone()], Some(&issuers));
    assert_eq!(again.still_admits(&held, NOW), Ok(()));
    // Other rules, with the keys of the same source.
    let stricter = IssuerRules {
        audiences: Audiences::OneOf(vec!["second".into()]),
        ..published.clone()
    };
    let stricter = Issuers::new(vec![stricter], Some(&again));
    assert_eq!(
        stricter.still_admits(&held, NOW),
        Err(TokenFault::RulesChanged)
    );
    assert_eq!(check(&stricter, NOW), Some(TokenFault::Audience));
    // Its time.
    let last = UnixMillis(NOW.0 + 660_000 - 1);
    assert_eq!(check(&again, last), None);
    let over = UnixMillis(last.0 + 1);
    assert_eq!(check(&again, over), Some(TokenFault::Expired));
    assert_eq!(again.still_admits(&held, over), Err(TokenFault::Expired));
    assert_eq!(
        again.still_admits(&held, until),
        Err(TokenFault::KeysUnavailable)
    );
    // Its key.
    keys.replace(keys_of(&Signer::new()));
    assert_eq!(again.still_admits(&held, NOW), Err(TokenFault::KeyRemoved));
    assert_eq!(check(&again, NOW), Some(TokenFault::Signature));
    // Its issuer.
    let none = Issuers::new(Vec::new(), Some(&again));
    assert_eq!(none.still_admits(&held, NOW), Err(TokenFault::RulesChanged));
    assert_eq!(check(&none, NOW), Some(TokenFault::IssuerUnknown));
}

#[test]
fn keys_are_wanted_only_by_tokens_that_would_be_taken() {
    let signer = Signer::new();
    let published = IssuerRules {
        keys: KeySource::Discovery,
        ..rules(&signer)
    };
    let issuers = Issuers::new(vec![published], None);
    let keys = Arc::clone(issuers.by_name("corp").unwrap().keys());
    keys.replace(KeyState {
        set: KeySet::parse(signer.key_set().as_bytes()).unwrap().set,
        origin: KeyOrigin::Provider,
        fetched_at: NOW,
        due_at: None,
        good_until: None,
    });
    let is_wanted = || keys.wanted().now_or_never().is_some();
    let with_key = |changes: Value| {
        let header = r#"{"alg":"ES256","kid":"new"}"#;
        let token = signer.sealed(Algorithm::Es256, header, &claims_with(changes).to_string());
        assert_eq!(verify(&issuers, &token).err(), Some(TokenFault::KeyUnknown));
    };
    with_key(json!({"exp": NOW_SECONDS - 600}));
    with_key(json!({"aud": "another"}));
    assert!(!is_wanted());
    with_key(json!({}));
    with_key(json!({"sub": "another"}));
    assert!(is_wanted());
    assert!(!is_wanted());
}

#[test]
fn key_sets_are_read_strictly() {
    let signer = Signer::new();
    let key = |algorithm: Algorithm, changes: Value| {
        let mut key = signer.jwk(algorithm);
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    };
    let ec = |changes: Value| key(Algorithm::Es256, changes);
    let rsa = |changes: Value| key(Algorithm::Rs256, changes);
    let weak = encode(&[0xff; 128]);
    for (key, wanted) in [
        (
            ec(json!({"alg": "ES256", "use": "sig", "key_ops": ["verify"]})),
            None,
        ),
        (rsa(json!({"alg": "PS512"})), None),
        (ec(json!({"d": "AA"})), Some(SkippedKey::Secret)),
        (rsa(json!({"p": "AA"})), Some(SkippedKey::Secret)),
        (key(Algorithm::Hs256, json!({})), Some(SkippedKey::Secret)),
        (json!({"kty": "oct", "kid": "a"}), Some(SkippedKey::Secret)),
        (ec(json!({"use": "enc"})), Some(SkippedKey::Purpose)),
        (ec(json!({"use": 1})), Some(SkippedKey::Purpose)),
        (ec(json!({"key_ops": ["sign"]})), Some(SkippedKey::Purpose)),
        (ec(json!({"key_ops": "verify"})), Some(SkippedKey::Purpose)),
        (ec(json!({"alg": "ES384"})), Some(SkippedKey::Unsupported)),
        (ec(json!({"alg": "HS256"})), Some(SkippedKey::Unsupported)),
        (ec(json!({"alg": 1})), Some(SkippedKey::Unsupported)),
        (ec(json!({"kty": "AKP"})), Some(SkippedKey::Unsupported)),
        (ec(json!({"crv": "P-521"})), Some(SkippedKey::Unsupported)),
        (ec(json!({"crv": "P-384"})), Some(SkippedKey::Malformed)),
        (ec(json!({"kty": null})), Some(SkippedKey::Malformed)),
        (ec(json!({"kid": 1})), Some(SkippedKey::Malformed)),
        (ec(json!({"x": "AA"})), Some(SkippedKey::Malformed)),
        (ec(json!({"x": "A+"})), Some(SkippedKey::Malformed)),
        (rsa(json!({"n": null})), Some(SkippedKey::Malformed)),
        (rsa(json!({"n": weak})), Some(SkippedKey::Weak)),
        (
            rsa(json!({"n": encode(&[0xfe; 256])})),
            Some(SkippedKey::Weak),
        ),
        (
            rsa(json!({"n": encode(&[0xff; 1025])})),
            Some(SkippedKey::Weak),
        ),
        (rsa(json!({"e": "AQ"})), Some(SkippedKey::Weak)),
        (rsa(json!({"e": "Ag"})), Some(SkippedKey::Weak)),
        (rsa(json!({"e": ""})), Some(SkippedKey::Weak)),
    ] {
        let other = signer.jwk(Algorithm::EdDsa);
        let document = json!({"keys": [other, key], "also": "this"}).to_string();
        let parsed = KeySet::parse(document.as_bytes()).unwrap();
        let skipped: Vec<_> = parsed.skipped.into_iter().collect();
        let wanted: Vec<_> = wanted.map(|reason| (1, reason)).into_iter().collect();
        assert_eq!(skipped, wanted, "{key}");
        assert_eq!(parsed.set.iter().count(), 2 - wanted.len());
    }
    let twice = [ec(json!({})), Signer::new().jwk(Algorithm::Es256)];
    let same = [rsa(json!({"alg": "RS256"})), rsa(json!({"alg": "PS256"}))];
    let types = [ec(json!({"kid": "a"})), rsa(json!({"kid": "a"}))];
    let unnamed = [ec(json!({})), Signer::new().jwk(Algorithm::Es256)].map(|mut key| {
        key.as_object_mut().unwrap().remove("kid");
        key
    });
    let many: Vec<_> = (0..101)
        .map(|number| ec(json!({"kid": number.to_string()})))
        .collect();
    for (document, wanted) in [
        (
            json!({"keys": twice}).to_string(),
            Err(InvalidKeySet::SameId),
        ),
        (json!({"keys": same}).to_string(), Ok(1)),
        (json!({"keys": types}).to_string(), Ok(2)),
        (json!({"keys": unnamed}).to_string(), Ok(2)),
        (json!({"keys": many[..100]}).to_string(), Ok(100)),
        (
            json!({"keys": many}).to_string(),
            Err(InvalidKeySet::TooMany),
        ),
        (
            json!({"keys": []}).to_string(),
            Err(InvalidKeySet::Empty(None)),
        ),
        (
            json!({"keys": [ec(json!({"d": "AA"}))]}).to_string(),
            Err(InvalidKeySet::Empty(Some(SkippedKey::Secret))),
        ),
        (json!({"keys": ["a"]}).to_string(), Err(InvalidKeySet::Form)),
        (json!({"keys": {}}).to_string(), Err(InvalidKeySet::Form)),
        (ec(json!({})).to_string(), Err(InvalidKeySet::Form)),
        ("<html>".to_owned(), Err(InvalidKeySet::Form)),
        (String::new(), Err(InvalidKeySet::Form)),
    ] {
        let parsed = KeySet::parse(document.as_bytes());
        let parsed = parsed.map(|parsed| parsed.set.iter().count());
        assert_eq!(parsed, wanted, "{}", &document[..document.len().min(200)]);
    }
    for (bytes, wanted) in [
        (0, None),
        (31, None),
        (32, Some(vec![Algorithm::Hs256])),
        (48, Some(vec![Algorithm::Hs256, Algorithm::Hs384])),
        (
            64,
            Some(vec![Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512]),
        ),
    ] {
        let set = KeySet::of_secret(Zeroizing::new(vec![1; bytes])).ok();
        let algorithms = set.map(|set| set.iter().next().unwrap().algorithms().iter().collect());
        assert_eq!(algorithms, wanted, "{bytes}");
    }
}

#[test]
fn a_token_without_a_key_id_is_tried_with_five_keys() {
    let signer = Signer::new();
    let token = signer.sealed(
        Algorithm::Es256,
        r#"{"alg":"ES256"}"#,
        &claims().to_string(),
    );
    for (others, wanted) in [(4, None), (5, Some(TokenFault::KeyAmbiguous))] {
        let mut keys: Vec<_> = (0..others)
            .map(|number| {
                let mut key = Signer::new().jwk(Algorithm::Es256);
                key["kid"] = json!(number.to_string());
                key
            })
            .collect();
        keys.push(signer.jwk(Algorithm::Es256));
        let set = KeySet::parse(json!({"keys": keys}).to_string().as_bytes())
            .unwrap()
            .set;
        let many = IssuerRules {
            keys: KeySource::Fixed(Arc::new(set)),
            ..rules(&signer)
        };
        let issuers = Issuers::new(vec![many], None);
        assert_eq!(verify(&issuers, &token).err(), wanted);
    }
}

#[test]
fn nothing_shows_a_token_or_a_secret() {
    let signer = Signer::new();
    let secret = KeySet::of_secret(Zeroizing::new(
        b"a-secret-that-nobody-may-ever-see".to_vec(),
    ));
    let of_secret = IssuerRules {
        name: "by-secret".into(),
        issuer: "other".into(),
        keys: KeySource::Fixed(Arc::new(secret.unwrap())),
        ..rules(&signer)
    };
    let issuers = Issuers::new(vec![rules(&signer), of_secret], None);
    let token = signer.token(Algorithm::EdDsa, &claims());
    let verified = verify(&issuers, &token).unwrap();
    let shown = format!("{verified:?} {issuers:?}");
    for hidden in [
        "user-1",
        "orders:read",
        "nobody-may",
        "97, 45, 115",
        &token[..20],
    ] {
        assert!(!shown.contains(hidden), "{hidden}: {shown}");
    }
}

#[test]
fn every_fault_has_a_word_of_its_own() {
    let mut words: Vec<_> = TokenFault::ALL.iter().map(|fault| fault.word()).collect();
    assert_eq!(words, TokenFault::WORDS);
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), TokenFault::ALL.len());
}

proptest! {
    #[test]
    fn a_changed_byte_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let signer = Signer::new();
        let issuers = Issuers::new(vec![rules(&signer)], None);
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
            let mut token = signer.token(algorithm, &claims()).into_bytes();
            let at = at.index(token.len());
            let is_same = std::mem::replace(&mut token[at], byte) == byte;
            let verified = issuers.verify(&token, |_| true, NOW);
            prop_assert_eq!(verified.is_ok(), is_same);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let signer_free = Issuers::default();
        prop_assert!(signer_free.verify(&bytes, |_| true, NOW).is_err());
        let _ = (is_token(&bytes), Compact::parse(&bytes).is_ok(), KeySet::parse(&bytes).is_ok());
    }
}
