use actix_http::ConnectionType;
use actix_http::header::{self, HeaderName, HeaderValue};

use super::*;
use crate::auth::key_source::KeySource;
use crate::front::client_stream::ClientFault;

/// Documented form of an effect: a sentence, and a challenge.
fn documented(effect: Effect) -> (&'static str, String) {
    match effect {
        Effect::Challenge => ("", "`Bearer realm=\"…\"`".to_owned()),
        Effect::ChallengeError(error, _) => ("", format!("`error=\"{error}\"`")),
        Effect::ChallengeScope => ("", "`error=\"insufficient_scope\", scope=\"…\"`".to_owned()),
        Effect::Allow => ("", String::new()),
        Effect::RetryAfter => (" With `Retry-After`.", String::new()),
        Effect::Closes => (" The connection closes.", String::new()),
    }
}

fn protection(sources: &[KeySource]) -> Protection<'_> {
    Protection {
        realm: "r",
        sources,
        metadata: None,
    }
}

#[test]
fn the_document_has_the_table_that_is_made_from_the_rows() {
    let mut table = "| status | `code` | when | challenge |\n|---|---|---|---|\n".to_owned();
    for (code, when) in Refusal::CODES.iter().zip(Refusal::WHEN) {
        let of_code = |refusal: &Refusal| refusal.code() == *code;
        let refusal = Refusal::one_of_each().into_iter().find(of_code).unwrap();
        let row = refusal.row();
        let effects: Vec<_> = row.effects.iter().copied().map(documented).collect();
        let texts: String = effects.iter().map(|(text, _)| *text).collect();
        let challenge: String = effects
            .into_iter()
            .map(|(_, challenge)| challenge)
            .collect();
        let challenge = if challenge.is_empty() {
            "–"
        } else {
            &challenge
        };
        let status = row.status.as_u16();
        table += &format!("| {status} | `{code}` |{when}{texts} | {challenge} |\n");
    }
    crate::documents::assert_table("PROBLEMS.md", "refusals", &table);
}

#[test]
fn every_refusal_carries_what_its_status_demands() {
    let id = crate::http::request_id::RequestIds::new().make();
    let other = Refusal::KeyRestricted(Restriction::Use);
    for refusal in Refusal::one_of_each().into_iter().chain([other]) {
        let response = refusal.respond(&protection(KeySources::BEARER), "/x", &id, false);
        let status = response.status();
        let has = |name| response.headers().contains_key(name);
        assert_eq!(
            has(header::WWW_AUTHENTICATE),
            status == StatusCode::UNAUTHORIZED
                || matches!(
                    refusal,
                    Refusal::InsufficientScope(_) | Refusal::CredentialTwice
                ),
            "{refusal:?}"
        );
        assert_eq!(
            has(header::ALLOW),
            status == StatusCode::METHOD_NOT_ALLOWED,
            "{refusal:?}"
        );
        assert_eq!(
            has(header::RETRY_AFTER),
            matches!(
                status,
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
            ),
            "{refusal:?}"
        );
        assert_eq!(
            response.headers().get(header::CACHE_CONTROL),
            Some(&HeaderValue::from_static("no-store")),
            "{refusal:?}"
        );
    }
}

#[test]
fn a_code_has_one_row() {
    for code in Refusal::CODES {
        let rows = Refusal::CODES.iter().filter(|other| **other == code);
        assert_eq!(rows.count(), 1, "{code}");
    }
}

#[test]
fn an_unread_body_closes_the_connection() {
    let id = crate::http::request_id::RequestIds::new().make();
    for (refusal, unread, closes) in [
        (Refusal::KeyMissing(KeySources::default()), false, false),
        (Refusal::KeyMissing(KeySources::default()), true, true),
        (Refusal::BadRequest("x"), false, true),
    ] {
        let connection = refusal
            .respond(&protection(KeySources::BEARER), "/", &id, unread)
            .head()
            .connection_type();
        assert_eq!(connection == ConnectionType::Close, closes, "{refusal:?}");
    }
}

/// One example of each fault.
pub(crate) fn every_fault() -> [ClientFault; ClientFault::NAMES.len()] {
    use crate::front::client_stream::ChunkFault;
    use crate::front::proxy_protocol::ProxyHeaderFault;

    [
        ClientFault::MadeRoom,
        ClientFault::HeadTimeout,
        ClientFault::HeadTooLarge,
        ClientFault::TargetTooLong,
        ClientFault::TooManyFields,
        ClientFault::NoRequestLine,
        ClientFault::BadRequestLine,
        ClientFault::BadTarget,
        ClientFault::Version,
        ClientFault::BareLineFeed,
        ClientFault::Fragment,
        ClientFault::BadField,
        ClientFault::BadHost("why"),
        ClientFault::BadFraming("why"),
        ClientFault::TlsOnPlain,
        ClientFault::PlainOnTls,
        ClientFault::TlsHandshake,
        ClientFault::TlsTimeout,
        ClientFault::BadChunk(ChunkFault::Size),
        ClientFault::BodyTooLarge(1),
        ClientFault::BodyStalled,
        ClientFault::BodyTooSlow,
        ClientFault::WriteStalled,
        ClientFault::StrayResponse,
        ClientFault::Http2("PROTOCOL_ERROR"),
        ClientFault::Http2Flood,
        ClientFault::UnexpectedProxyHeader,
        ClientFault::ProxyHeader(ProxyHeaderFault::Missing),
    ]
}

#[test]
fn every_fault_that_has_a_status_has_a_refusal_with_it() {
    let id = crate::http::request_id::RequestIds::new().make();
    let faults = every_fault();
    assert_eq!(faults.map(ClientFault::name), ClientFault::NAMES);
    for fault in faults {
        let status = Refusal::of_fault(fault).map(|refusal| {
            let bytes = String::from_utf8(refusal.to_bytes("r", &id)).unwrap();
            assert!(bytes.contains("connection: close\r\n"), "{fault:?}");
            bytes["HTTP/1.1 ".len()..][..3].parse::<u16>().unwrap()
        });
        assert_eq!(status, fault.status(), "{fault:?}");
    }
}

#[test]
fn challenges_follow_the_places_of_the_route() {
    use KeySource::{Basic, Bearer, Cookie, Header, Query, Scheme, Subprotocol};

    let id = crate::http::request_id::RequestIds::new().make();
    let (scheme, name) = (
        || Scheme("ApiKey".to_owned()),
        HeaderName::from_static("x-api-key"),
    );
    let bearer = "Bearer realm=\"r\"";
    let revoked = "Bearer realm=\"r\", error=\"invalid_token\", error_description=\"The API key was revoked\"";
    let scopes = Refusal::InsufficientScope(vec!["a".to_owned(), "b".to_owned()]);
    let missing = Refusal::KeyMissing(KeySources::default());
    for (refusal, sources, wanted) in [
        (&missing, vec![Bearer], vec![bearer]),
        (&Refusal::KeyRevoked, vec![Bearer], vec![revoked]),
        (
            &missing,
            vec![scheme(), Basic, Bearer],
            vec![
                "ApiKey realm=\"r\"",
                "Basic realm=\"r\", charset=\"UTF-8\"",
                bearer,
            ],
        ),
        (
            &Refusal::KeyRevoked,
            vec![
                Header(name),
                Cookie("c".to_owned()),
                Query("q".to_owned()),
                Subprotocol,
            ],
            vec![
                "ApiKey realm=\"r\", in=\"header\", name=\"x-api-key\"",
                "ApiKey realm=\"r\", in=\"cookie\", name=\"c\"",
                "ApiKey realm=\"r\", in=\"query\", name=\"q\"",
                "ApiKey realm=\"r\", in=\"header\", name=\"sec-websocket-protocol\"",
            ],
        ),
        (
            &scopes,
            vec![Basic, Bearer],
            vec!["Bearer realm=\"r\", error=\"insufficient_scope\", scope=\"a b\""],
        ),
        (&scopes, vec![Basic, scheme()], vec![]),
        (&Refusal::NoRoute, vec![Bearer, Basic], vec![]),
    ] {
        let response = refusal.respond(&protection(&sources), "/x", &id, false);
        let found: Vec<_> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .map(|line| line.to_str().unwrap())
            .collect();
        assert_eq!(found, wanted, "{refusal:?} {sources:?}");
    }
}
