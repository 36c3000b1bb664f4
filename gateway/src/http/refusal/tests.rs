use super::*;

/// One of each.
fn every_refusal() -> Vec<Refusal> {
    vec![
        Refusal::KeyMissing,
        Refusal::KeyInvalid,
        Refusal::KeyExpired,
        Refusal::KeyRevoked,
        Refusal::KeyDisabled,
        Refusal::CredentialTwice,
        Refusal::InsufficientScope(vec!["orders:read".to_owned()]),
        Refusal::KeyRestricted(Restriction::Address),
        Refusal::KeyRestricted(Restriction::Bucket),
        Refusal::BadRequest("why"),
        Refusal::KeyInUrl,
        Refusal::AmbiguousPath("why"),
        Refusal::MethodNotAllowed(vec![Method::GET]),
        Refusal::NoRoute,
        Refusal::HeadTimeout,
        Refusal::UriTooLong,
        Refusal::HeadTooLarge,
        Refusal::ExpectationFailed,
        Refusal::LoopDetected,
        Refusal::BodyTooLarge(1),
        Refusal::BodyTimeout,
        Refusal::BodyBroken,
        Refusal::OriginRejectedGateway,
        Refusal::OriginUnreachable,
        Refusal::OriginBadAnswer,
        Refusal::OriginTimeout,
        Refusal::NotReady,
        Refusal::Overloaded,
        Refusal::TooManyOfKey,
        Refusal::Internal,
        Refusal::VersionNotSupported,
    ]
}

#[test]
fn every_refusal_is_documented_and_carries_what_its_status_demands() {
    let document = include_str!("../../../../docs/PROBLEMS.md");
    let id = crate::http::request_id::RequestIds::new().make();
    for refusal in every_refusal() {
        let response = refusal.respond("r", "/x", &id, false);
        let status = response.status();
        let row = document.lines().find(|line| {
            line.contains(&format!("`{}`", refusal.code()))
                && line.starts_with(&format!("| {}", status.as_u16()))
        });
        let row =
            row.unwrap_or_else(|| panic!("{refusal:?} is not in docs/PROBLEMS.md with {status}"));
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
            row.contains("`Retry-After`"),
            "{refusal:?}: {row}"
        );
        assert_eq!(
            response.headers().get(header::CACHE_CONTROL),
            Some(&HeaderValue::from_static("no-store")),
            "{refusal:?}"
        );
    }
}

#[test]
fn every_code_is_in_the_list_of_codes_once() {
    let used: std::collections::BTreeSet<&str> =
        every_refusal().iter().map(Refusal::code).collect();
    let mut listed = CODES.to_vec();
    listed.sort_unstable();
    assert_eq!(listed, used.into_iter().collect::<Vec<_>>());
}

#[test]
fn an_unread_body_closes_the_connection() {
    let id = crate::http::request_id::RequestIds::new().make();
    for (refusal, unread, closes) in [
        (Refusal::KeyMissing, false, false),
        (Refusal::KeyMissing, true, true),
        (Refusal::BadRequest("x"), false, true),
    ] {
        let connection = refusal
            .respond("r", "/", &id, unread)
            .head()
            .connection_type();
        assert_eq!(connection == ConnectionType::Close, closes, "{refusal:?}");
    }
}

#[test]
fn every_fault_that_has_a_status_has_a_refusal_with_it() {
    use crate::front::client_stream::ChunkFault;
    use crate::front::proxy_protocol::ProxyHeaderFault;

    let id = crate::http::request_id::RequestIds::new().make();
    let faults = [
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
        ClientFault::BodyStalled,
        ClientFault::BodyTooSlow,
        ClientFault::WriteStalled,
        ClientFault::StrayResponse,
        ClientFault::Http2("PROTOCOL_ERROR"),
        ClientFault::Http2Flood,
        ClientFault::UnexpectedProxyHeader,
        ClientFault::ProxyHeader(ProxyHeaderFault::Missing),
    ];
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
