//! The head that is written as bytes against the same rules on a map of headers.

use std::net::IpAddr;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::auth::key_source::KeySource;
use crate::auth::key_sources::KeySources;
use crate::http::request_id::RequestIds;
use crate::keys::{AddressRange, PlainKey};

static PREFIX: LazyLock<Prefix> = LazyLock::new(Prefix::default);
static KEY: LazyLock<String> =
    LazyLock::new(|| PlainKey::generate(&PREFIX).unwrap().expose().to_owned());

static KEYS: LazyLock<KeyTable> = LazyLock::new(KeyTable::new);

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What the head is to have, by moving headers from map to map.
fn by_map(rules: &ForOrigin<'_>, mut client: HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut chain = Vec::new();
    rules.address.write_chain(&client, &mut chain);
    let presented = rules.credentials.of(rules.caller);
    let presented = PresentedKey::new(rules.prefix, rules.keys, presented.as_deref());
    let trusted = rules.address.through_trusted_proxy;
    let forwarded = |name: &HeaderName| client.get(name).filter(|_| trusted).cloned();
    let proto = forwarded(&FORWARDED_PROTO).filter(|proto| proto == "http" || proto == "https");
    let host = forwarded(&FORWARDED_HOST).filter(|host| !presented.is_in(&FORWARDED_HOST, host));
    let nominations: Vec<_> = client.get_all(header::CONNECTION).cloned().collect();
    for line in nominations.iter().filter_map(|line| line.to_str().ok()) {
        for name in line.split(',') {
            if let Ok(name) = HeaderName::try_from(name.trim()) {
                client.remove(name);
            }
        }
    }
    client.retain(|name, value| {
        let text = name.as_str();
        if is_hop_by_hop(text)
            || is_unsafe(text)
            || is_replaced(text)
            || rules.proxy_headers.blocks(text, trusted)
        {
            return false;
        }
        let Some(rest) = rules.credentials.sources.strip(name, value) else {
            return false;
        };
        *value = rest.into_owned();
        !presented.is_in(name, value)
    });
    // Which of them are well formed, another test says.
    let mut trace = TraceContext::default();
    let traced = client.clone();
    client.retain(|name, _| !matches!(name.as_str(), "traceparent" | "tracestate"));
    for (name, value) in &traced {
        trace.take(name, value);
    }
    for (name, value) in trace.well_formed() {
        client.append(name.clone(), value.clone());
    }
    if let Some(edits) = rules.edits {
        edits.apply(&mut client);
    }
    client.insert(header::HOST, rules.host.clone());
    if let Some(secret) = rules.secret {
        let secret = HeaderValue::from_bytes(secret).unwrap();
        client.insert(SHARED_SECRET.clone(), secret);
        client.insert(ANONYMOUS_CONSUMER.clone(), HeaderValue::from_static("true"));
    }
    client.insert(REQUEST_ID.clone(), rules.request_id.header_value());
    client.insert(
        FORWARDED_FOR.clone(),
        HeaderValue::from_bytes(&chain).unwrap(),
    );
    client.insert(
        FORWARDED_PROTO.clone(),
        proto.unwrap_or_else(|| rules.scheme.clone()),
    );
    if let Some(host) = host.or_else(|| rules.client_host.cloned()) {
        client.insert(FORWARDED_HOST.clone(), host);
    }
    if !rules.stripped.is_empty() {
        let stripped = HeaderValue::from_str(rules.stripped).unwrap();
        client.insert(FORWARDED_PREFIX.clone(), stripped);
    }
    client.append(header::VIA, HeaderValue::from_static(VIA));
    let lines = client.iter();
    let mut lines: Vec<_> = lines
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    lines
}

/// What the written head has, its lines of one name in order.
fn by_bytes(head: &OriginHead) -> (String, Vec<(String, Vec<u8>)>) {
    let text = head.bytes().strip_suffix(b"\r\n\r\n").unwrap();
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap().strip_suffix(b"\r").unwrap();
    let mut read: Vec<_> = lines
        .map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            let value = line[colon..].strip_prefix(b": ").unwrap();
            assert!(!value.contains(&b'\r'));
            (
                String::from_utf8(line[..colon].to_vec()).unwrap(),
                value.to_vec(),
            )
        })
        .collect();
    read.sort_by(|one, other| one.0.cmp(&other.0));
    (String::from_utf8(first.to_vec()).unwrap(), read)
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(
            &[
                "connection",
                "connection",
                "keep-alive",
                "te",
                "trailer",
                "transfer-encoding",
                "content-length",
                "upgrade",
                "expect",
                "http2-settings",
                "proxy-authorization",
                "host",
                "authorization",
                "x-request-id",
                "x-shared-secret",
                "x_shared_secret",
                "x.consumer.id",
                "x-consumer-role",
                "x-anonymous-consumer",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "x-forwarded-port",
                "forwarded",
                "x-real-ip",
                "cf-connecting-ip",
                "x-http-method-override",
                "via",
                "traceparent",
                "tracestate",
                "date",
                "cookie",
                "accept",
                "x-a",
                "x-b",
                "x_c",
            ][..]
        )
        .prop_map(str::to_owned),
        "[a-z!#$%&'*+.^_`|~-]{1,6}",
    ]
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "([Xx]-[ABab]|close|Keep-Alive| te|via|x-shared-secret|traceparent|tracestate|host|!|,| )(,[ \t]?(x-a|Cookie|accept|date)){0,3}"
            .prop_map(String::into_bytes),
        Just(PARENT.as_bytes().to_vec()),
        Just(b"a=b".to_vec()),
        Just(b"b=1; a=2;c".to_vec()),
        Just(b"https".to_vec()),
        Just(b"1.2.3.4, 10.0.0.1".to_vec()),
        Just(format!("Bearer {}", *KEY).into_bytes()),
        Just(format!("a={}", KEY.replace('_', "%5F")).into_bytes()),
        Just(b"Bearer foreign-key-0123456789".to_vec()),
        Just(b"x=foreign-key-0123456789;".to_vec()),
        // Tabs and bytes beyond ASCII are allowed within a value.
        proptest::collection::vec(
            prop_oneof![Just(b'\t'), 0x20_u8..0x7f, 0x80_u8..=0xff],
            0..12,
        ),
    ]
}

/// Lines of clients; those that decide on others come often.
fn lines() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let fixed = |name: &str, value: &str| Just((name.to_owned(), value.as_bytes().to_vec()));
    let nominating = proptest::collection::vec(names(), 1..3);
    let line = prop_oneof![
        6 => (names(), values()),
        1 => nominating.prop_map(|names| ("connection".to_owned(), names.join(" ,").into_bytes())),
        1 => fixed("authorization", "Bearer foreign-key-0123456789"),
        1 => fixed("authorization", &format!("Bearer {}", *KEY)),
        1 => fixed("traceparent", PARENT),
        1 => fixed("tracestate", "a=b"),
        1 => fixed("x-forwarded-host", "forwarded.test"),
    ];
    proptest::collection::vec(line, 0..14)
}

proptest! {
    #[test]
    fn the_written_head_is_what_the_rules_make_of_a_map(
        lines in lines(),
        through_trusted_proxy in any::<bool>(),
        has_client_host in any::<bool>(),
        sends_secret in any::<bool>(),
        is_shaped in any::<bool>(),
        stripped in proptest::sample::select(&["", "/orders"][..]),
        sources in proptest::sample::select(&["bearer", "header:x-a", "cookie:a", "basic"][..]),
    ) {
        let mut client = HeaderMap::new();
        for (name, value) in &lines {
            client.append(
                HeaderName::try_from(name.as_str()).unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        let trusted: Vec<AddressRange> = match through_trusted_proxy {
            true => vec!["10.0.0.0/8".parse().unwrap()],
            false => Vec::new(),
        };
        let client_host = HeaderValue::from_static("client.test");
        let header = |name| crate::proxy::proxy_headers::ProxyHeader::parse(name).unwrap();
        let sources = KeySources::new(vec![KeySource::parse(sources).unwrap()]).unwrap();
        let edits = HeaderEdits {
            set: vec![(HeaderName::from_static("x-b"), HeaderValue::from_static("set"))],
            remove: vec![HeaderName::from_static("cookie")],
        };
        let rules = ForOrigin {
            credentials: Credentials {
                sources: &sources,
                headers: &client,
                query: None,
            },
            secret: sends_secret.then_some(&b"the-secret"[..]),
            caller: &Caller::Anonymous,
            forward_metadata: true,
            host: &HeaderValue::from_static("origin:80"),
            client_host: has_client_host.then_some(&client_host),
            stripped,
            edits: is_shaped.then_some(&edits),
            scheme: &HeaderValue::from_static("http"),
            address: ClientAddress::identify(
                Some((IpAddr::from([10, 0, 0, 9]), 1).into()),
                &client,
                &trusted,
            ),
            proxy_headers: &ProxyHeaders {
                from_trusted: vec![header("cf-connecting-ip")],
                from_anyone: vec![header("x-http-method-override")],
            },
            own_headers: &[],
            claims: &[],
            prefix: &PREFIX,
            keys: &KEYS,
            request_id: &RequestIds::new().make(),
        };
        let head = rules.write(&Method::GET, "/a?b", &client, &[], None);
        let (line, read) = by_bytes(&head);
        prop_assert_eq!(line, "GET /a?b HTTP/1.1");
        prop_assert_eq!(&read, &by_map(&rules, client.clone()));
        // A rule of one's own sees of a header what reaches the origin, where the gateway writes
        // none of that name.
        let is_ours = |name: &str| {
            names::is_privileged(name)
                || name.starts_with("x-forwarded-")
                || name.starts_with("trace")
                || matches!(name, "via" | "host" | "x-request-id")
                || is_shaped && edits.set.iter().any(|(set, _)| set.as_str() == name)
        };
        for name in client.keys().filter(|name| !is_ours(name.as_str())) {
            let seen: Vec<_> = rules.of_client(&client, name).map(Cow::into_owned).collect();
            let of_name = read.iter().filter(|(written, _)| written == name.as_str());
            let arrived: Vec<_> = of_name.map(|(_, value)| value.clone()).collect();
            prop_assert_eq!(seen, arrived, "{}", name);
        }
    }
}
