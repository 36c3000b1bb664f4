//! `[[jwt.issuers]]`: whose tokens are taken, and what they must say.

mod keys;

use std::time::Duration;

use actix_http::header::{self, HeaderName};
use postern_shared::headers::is_privileged;

use crate::auth::jwt::{
    Algorithm, Audiences, ClaimPath, IssuerRules, OnConfirmation, OnUnknownConsumer, RequiredClaim,
};
use crate::config::jwt::keys::{Keys, read_keys};
use crate::config::key_sources::is_meaningful;
use crate::config::reader::Reader;
use crate::config::value::{Setting, Span};
use crate::proxy::fetch::DocumentUrl;
use crate::proxy::headers::is_hop_by_hop;
use crate::proxy::proxy_headers::{InvalidProxyHeader, ProxyHeader};

/// Most tolerance for clocks: with more, tokens live on noticeably.
const MAX_CLOCK_SKEW: Duration = Duration::from_mins(5);
/// Most issuers, each of whose keys are kept current.
const MAX_ISSUERS: usize = 100;

/// Headers that carry keys here or at other gateways.
const CREDENTIAL_HEADERS: [&str; 5] = ["authorization", "cookie", "x-api-key", "api-key", "apikey"];

/// Words of other gateways.
const WORDS: &[(&str, &str)] = &[
    ("aud", "audiences"),
    ("audience", "audiences"),
    ("iss", "issuer"),
    ("jwks_uri", "jwks_url"),
    ("jwk_url", "jwks_url"),
    ("jwkUrl", "jwks_url"),
    ("remote_jwks", "jwks_url"),
    ("local_jwks", "jwks_file"),
    ("jwks", "jwks_url or jwks_file"),
    ("public_key", "jwks_file"),
    ("secret", "secret_file"),
    ("ca_cert", "ca_file"),
    ("ca_certs", "ca_file"),
    ("trusted_ca", "ca_file"),
    ("local_ca", "ca_file"),
    ("alg", "algorithms"),
    ("algorithm", "algorithms"),
    ("leeway", "clock_skew"),
    ("clockSkew", "clock_skew"),
    ("clock_skew_seconds", "clock_skew = \"1m\""),
    ("maximum_expiration", "max_lifetime"),
    (
        "claims_to_verify",
        "required_claims; exp, nbf and iat are always checked",
    ),
    ("require_expiration", "as nothing: exp is always required"),
    ("claim_to_headers", "forward_claims"),
    ("claims_to_headers", "forward_claims"),
    ("key_claim_name", "consumer_claim"),
    ("subPropertyName", "consumer_claim"),
    ("roles_key", "scopes_claim"),
];

/// Name of an issuer, for routes, logs and metrics.
struct IssuerName(String);

/// Any text that tokens may hold.
#[derive(Clone)]
struct ClaimText(String);

/// Tolerance for clocks; unlike other spans it may be zero.
struct Skew(Duration);

/// Longest life of a token.
struct MaxLifetime(Duration);

/// Reads `[[jwt.issuers]]`.
pub(super) fn read_issuers(reader: &mut Reader) -> Vec<IssuerRules> {
    reader.section("jwt", |section| {
        let issuers = section.sections("issuers", read_issuer);
        if issuers.len() > MAX_ISSUERS {
            let message = format!("there are at most {MAX_ISSUERS} issuers");
            section.problem("issuers", "the settings", message);
        }
        let issuers: Vec<(usize, IssuerRules)> = issuers
            .into_iter()
            .enumerate()
            .filter_map(|(index, issuer)| Some((index, issuer?)))
            .collect();
        for (at, (index, issuer)) in issuers.iter().enumerate() {
            let mut earlier = issuers.iter().take(at).map(|(_, earlier)| earlier);
            let repeated = if earlier.clone().any(|earlier| earlier.name == issuer.name) {
                "name"
            } else if earlier.any(|earlier| earlier.issuer == issuer.issuer) {
                "issuer"
            } else {
                continue;
            };
            let message = "another issuer has it, too".to_owned();
            section.problem(
                &format!("issuers[{index}].{repeated}"),
                "the settings",
                message,
            );
        }
        issuers.into_iter().map(|(_, issuer)| issuer).collect()
    })
}

fn read_issuer(section: &mut Reader) -> Option<IssuerRules> {
    section.expect_words(WORDS);
    let name = section.required::<IssuerName>(
        "name",
        "it is missing: routes, logs and metrics name the issuer by it",
    );
    let issuer = section.required::<ClaimText>(
        "issuer",
        "it is missing: write the `iss` of its tokens, such as \"https://login.example.com/\"",
    );
    let audiences = read_audiences(section);
    let keys = read_keys(section, issuer.as_ref());
    let clock_skew = section.take("clock_skew", Skew(Duration::from_mins(1))).0;
    let types = section.take_optional_list::<ClaimText>("typ");
    let max_lifetime = section.take_optional::<MaxLifetime>("max_lifetime");
    let on_confirmation = section.take("on_cnf", OnConfirmation::Reject);
    let scopes_claim = read_path(section, "scopes_claim");
    let consumer_claim = read_path(section, "consumer_claim");
    let on_unknown_consumer = section.take("on_unknown_consumer", OnUnknownConsumer::Reject);
    let required_claims = read_required(section);
    let forward_claims = read_forwarded(section);
    let (refresh, cooldown, max_stale) = (
        section.span("refresh", 3600),
        section.span("cooldown", 30),
        section.span("max_stale", 24 * 3600),
    );
    let Keys {
        algorithms,
        source,
        tls,
    } = keys?;
    Some(IssuerRules {
        name: name?.0.into(),
        issuer: issuer?.0.into(),
        audiences: audiences?,
        algorithms,
        clock_skew,
        types: types.map(|types| types.into_iter().map(|text| text.0.into()).collect()),
        max_lifetime: max_lifetime.map(|most| most.0),
        on_confirmation,
        scopes_claim,
        consumer_claim,
        on_unknown_consumer,
        required_claims,
        forward_claims,
        keys: source,
        tls,
        refresh,
        cooldown,
        max_stale,
    })
}

fn read_audiences(section: &mut Reader) -> Option<Audiences> {
    let problems_before = section.problems().len();
    let listed: Vec<ClaimText> = section.take_list("audiences");
    let any = section.take("any_audience", false);
    if section.problems().len() > problems_before {
        return None;
    }
    match (any, listed.is_empty()) {
        (true, true) => Some(Audiences::Any),
        (false, false) => {
            let texts = listed.into_iter().map(|text| text.0.into());
            Some(Audiences::OneOf(texts.collect()))
        }
        (true, false) => {
            let message = "audiences are listed, too: leave one of them out".to_owned();
            section.problem("any_audience", "the settings", message);
            None
        }
        (false, true) => {
            let message = "it is missing: without the `aud` of this API, tokens that the issuer made for others would be taken; any_audience = true wants that".to_owned();
            section.problem("audiences", "the settings", message);
            None
        }
    }
}

/// Reads the way to a claim: one name, or the list of the names on the way.
fn read_path(section: &mut Reader, key: &str) -> Option<ClaimPath> {
    let names = section.take_optional_list::<ClaimText>(key)?;
    let path = ClaimPath::new(names.into_iter().map(|name| name.0.into()));
    if path.is_none() {
        let message = "it is empty: write the name of a claim, or the names on the way to it";
        section.problem(key, "the settings", message.to_owned());
    }
    path
}

/// Reads `{ CLAIM = VALUES }`, or a list of `{ claim = PATH, values = VALUES }`.
fn read_required(section: &mut Reader) -> Vec<RequiredClaim> {
    let key = "required_claims";
    let claims: Vec<(Vec<String>, Vec<String>)> = if section.is_list(key) {
        let rows = section.take_rows(key, ["claim", "values"]);
        rows.into_iter()
            .map(|[claim, values]| (claim, values))
            .collect()
    } else {
        let names = section.take_names(key);
        names
            .into_iter()
            .map(|(name, values)| (vec![name], values))
            .collect()
    };
    let boxed = |texts: Vec<String>| texts.into_iter().map(String::into_boxed_str);
    let claims = claims.into_iter().filter_map(|(claim, values)| {
        // No reader takes an empty list.
        let claim = ClaimPath::new(boxed(claim))?;
        let values = boxed(values).collect();
        Some(RequiredClaim { claim, values })
    });
    claims.collect()
}

fn read_forwarded(section: &mut Reader) -> Vec<(HeaderName, ClaimPath)> {
    let mut headers: Vec<(HeaderName, ClaimPath)> = Vec::new();
    for (name, claim) in section.take_names("forward_claims") {
        let header = header_of_claim(&name).and_then(|header| {
            let is_there = headers.iter().any(|(known, _)| *known == header);
            (!is_there).then_some(header).ok_or("it is there twice")
        });
        match (header, ClaimPath::new(claim.into_iter().map(Into::into))) {
            (Ok(header), Some(claim)) => headers.push((header, claim)),
            // `take_names` refuses an empty list.
            (Ok(_), None) => {}
            (Err(why), _) => {
                let message = format!("the header {name:?} cannot carry a claim: {why}");
                section.problem("forward_claims", "the settings", message);
            }
        }
    }
    headers
}

/// The header `name`, if it can carry a claim to the origin.
fn header_of_claim(name: &str) -> Result<HeaderName, &'static str> {
    let well_formed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let header = HeaderName::try_from(name.to_ascii_lowercase());
    let header = header
        .ok()
        .filter(|header| header.as_str().bytes().all(well_formed))
        .ok_or("a name has letters, digits and \"-\"")?;
    let text = header.as_str();
    if is_privileged(text) {
        Err("only the gateway sets this header, or one like it")
    } else if is_hop_by_hop(text) {
        Err("hop-by-hop headers are not forwarded")
    } else if CREDENTIAL_HEADERS.contains(&text) || header == header::SEC_WEBSOCKET_PROTOCOL {
        Err("it carries credentials")
    } else if is_meaningful(text) || ProxyHeader::parse(text) == Err(InvalidProxyHeader::Written) {
        Err("it has another meaning: take one that is for the claim alone, such as X-User-Email")
    } else {
        Ok(header)
    }
}

impl Setting for IssuerName {
    const ACCEPTED: &'static str =
        "1 to 63 lower-case letters, digits, \"-\" and \"_\", such as \"corp\"";

    fn parse(text: &str) -> Result<Self, String> {
        let accepted = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
        };
        ((1..=63).contains(&text.len()) && text.bytes().all(accepted))
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl Setting for ClaimText {
    const ACCEPTED: &'static str = "a text of 1 to 512 bytes without control characters";

    fn parse(text: &str) -> Result<Self, String> {
        ((1..=512).contains(&text.len()) && !text.chars().any(char::is_control))
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| format!("this is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl Setting for DocumentUrl {
    const ACCEPTED: &'static str =
        "an address at https, such as \"https://login.example.com/keys\"";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for Algorithm {
    const ACCEPTED: &'static str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA; with secret_file HS256, HS384, HS512";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
            .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for Skew {
    const ACCEPTED: &'static str = "a span of time from 0s to 5min, such as \"30s\"";

    fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .ok()
            .filter(|skew| *skew <= MAX_CLOCK_SKEW)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        Span(self.0).show()
    }
}

impl Setting for MaxLifetime {
    const ACCEPTED: &'static str = "a span of time from 1s to 1year, such as \"1day\"";

    fn parse(text: &str) -> Result<Self, String> {
        let accepted = Duration::from_secs(1)..=Duration::from_hours(24 * 366);
        humantime::parse_duration(text)
            .ok()
            .filter(|span| accepted.contains(span))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        Span(self.0).show()
    }
}
