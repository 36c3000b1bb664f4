//! What crosses the gateway in headers, and what never does.

use std::io::Write;

use crate::client::{exchange, get};
use crate::origin::{Arrived, Origin};
use crate::rig::{Key, Rig, SECRET};

/// What arrives at the origin when a client with a key sends these lines.
fn arriving(rig: &Rig, origin: &Origin, key: &Key, lines: &[&str]) -> Arrived {
    let response = get(rig.public, "/", &[&[key.header().as_str()], lines].concat());
    assert_eq!(response.status, 200, "{lines:?}: {response:?}");
    origin.arrived().pop().unwrap()
}

#[test]
fn what_only_the_gateway_may_say_is_taken_from_clients_in_every_spelling() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let families = postern_shared::headers::PRIVILEGED_PREFIXES
        .iter()
        .flat_map(|prefix| ["custom", "role", ""].map(|rest| format!("{prefix}{rest}")));
    let names = postern_shared::headers::PRIVILEGED.map(str::to_owned);
    for name in names.into_iter().chain(families) {
        for separator in ["-", "_", ".", "!", "~"] {
            for spelling in [
                name.replace('-', separator),
                name.replace('-', separator).to_uppercase(),
            ] {
                let line = format!("{spelling}: forged");
                let arrived = arriving(&rig, &origin, &key, &[&line, &line]);
                let forged: Vec<_> = arrived
                    .headers
                    .iter()
                    .filter(|(_, value)| value.contains("forged"))
                    .collect();
                assert!(forged.is_empty(), "{spelling}: {forged:?}");
                assert_eq!(arrived.one("x-shared-secret"), Some(SECRET));
                assert_eq!(
                    arrived.one("x-credential-identifier"),
                    Some(key.id.as_str())
                );
            }
        }
    }
}

#[test]
fn connection_cannot_nominate_away_what_the_gateway_sets() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let nominate =
        "connection: keep-alive, X-Shared-Secret, x-consumer-id, host, x-request-id, X-Gone";
    let arrived = arriving(&rig, &origin, &key, &[nominate, "x-gone: 1", "x-stays: 1"]);
    assert_eq!(arrived.one("x-shared-secret"), Some(SECRET));
    assert!(arrived.one("x-consumer-id").is_some() && arrived.one("x-request-id").is_some());
    assert_eq!(
        arrived.one("host"),
        Some(origin.address.to_string().as_str())
    );
    assert_eq!(
        (arrived.one("x-gone"), arrived.one("x-stays")),
        (None, Some("1"))
    );
}

#[test]
fn headers_of_one_hop_and_unsafe_names_stay_here_and_others_pass_in_order() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let sent = [
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "proxy-authorization: Basic x",
        "te: trailers",
        "trailer: x",
        "upgrade: h2c",
        "http2-settings: x",
        "x_custom: 1",
        "forwarded: for=1.2.3.4",
        "x-real-ip: 1.2.3.4",
        "x-forwarded-prefix: /evil",
        "x-forwarded-for: 1.2.3.4",
        "x-forwarded-host: evil",
        "x-forwarded-proto: https",
        "cookie: a=1",
        "x-many: 1",
        "x-many: 2",
        "accept-encoding: br",
    ];
    let arrived = arriving(&rig, &origin, &key, &sent);
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "x_custom",
        "forwarded",
        "x-real-ip",
        "x-forwarded-prefix",
        "connection",
    ] {
        assert_eq!(arrived.one(name), None, "{name}");
    }
    assert_eq!(arrived.one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(arrived.one("x-forwarded-host"), Some("localhost"));
    assert_eq!(arrived.one("x-forwarded-proto"), Some("http"));
    assert_eq!(arrived.one("via"), Some("1.1 postern"));
    assert_eq!(arrived.one("cookie"), Some("a=1"));
    assert_eq!(arrived.all("x-many"), ["1", "2"]);
    assert_eq!(arrived.one("accept-encoding"), Some("br"));
}

#[test]
fn a_date_is_the_clients_or_none() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT";
    for _ in 0..2 {
        assert_eq!(arriving(&rig, &origin, &key, &[]).one("date"), None);
        assert_eq!(
            arriving(&rig, &origin, &key, &[date]).one("date"),
            Some("Sun, 06 Nov 1994 08:49:37 GMT")
        );
    }
    for line in ["x: y", date] {
        let sent = format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{}\r\n{line}\r\ncontent-length: 2\r\n\r\nhi",
            key.header()
        );
        assert_eq!(exchange(rig.public, sent).status, 200);
        let arrived = origin.arrived().pop().unwrap();
        assert_eq!(
            (arrived.one("date").is_some(), arrived.body.as_slice()),
            (line == date, &b"hi"[..])
        );
    }
}

#[test]
fn a_trusted_proxy_is_believed_about_the_client() {
    let origin = Origin::hello();
    let rig = Rig::with(
        &origin.url(),
        "[listen]\ntrusted_proxies = [\"127.0.0.0/8\"]\n",
    );
    let key = rig.key("acme", &[]);
    let sent = [
        "x-forwarded-for: 203.0.113.9, 127.0.0.2",
        "x-forwarded-proto: https",
        "x-forwarded-host: api.example.com",
    ];
    let arrived = arriving(&rig, &origin, &key, &sent);
    assert_eq!(
        arrived.one("x-forwarded-for"),
        Some("203.0.113.9, 127.0.0.2, 127.0.0.1")
    );
    assert_eq!(arrived.one("x-forwarded-proto"), Some("https"));
    assert_eq!(arrived.one("x-forwarded-host"), Some("api.example.com"));
}

#[test]
fn the_request_id_of_a_client_is_kept_when_it_is_one() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    for (given, kept) in [
        ("abc-1.2_3~4", true),
        ("a b", false),
        ("{\"a\":1}", false),
        ("a;b", false),
    ] {
        let response = get(
            rig.public,
            "/",
            &[&key.header(), &format!("x-request-id: {given}")],
        );
        let id = response.header("x-request-id").unwrap().to_owned();
        assert_eq!(id == given, kept, "{given}");
        assert_eq!(
            origin.arrived().pop().unwrap().one("x-request-id"),
            Some(id.as_str())
        );
    }
}

#[test]
fn metadata_is_forwarded_only_where_a_route_asks_for_it() {
    let origin = Origin::hello();
    let rig = Rig::with(
        &origin.url(),
        "[[routes]]\npath = \"/with\"\nforward_metadata = true\npreserve_host = true\n[[routes]]\npath = \"/\"\n",
    );
    rig.done(&[
        "consumers",
        "create",
        "acme",
        "--metadata",
        r#"{"plan":"gold"}"#,
    ]);
    let key = rig.key("acme", &[]);
    rig.get("/with", &key);
    let with = origin.arrived().pop().unwrap();
    rig.get("/", &key);
    let without = origin.arrived().pop().unwrap();
    // {"plan":"gold"} in base64url without padding (RFC 4648, section 5).
    assert_eq!(
        with.one("x-consumer-metadata"),
        Some("eyJwbGFuIjoiZ29sZCJ9")
    );
    assert_eq!(without.one("x-consumer-metadata"), None);
    assert_eq!(with.one("host"), Some("localhost"));
}

#[test]
fn the_secret_and_the_guards_mark_never_reach_a_client() {
    let origin = Origin::answering(|request, socket| {
        let echoed: String = request
            .all("x-shared-secret")
            .iter()
            .map(|secret| format!("x-shared-secret: {secret}\r\nX_Shared_Secret: {secret}\r\n"))
            .collect();
        let _ = write!(
            socket,
            "HTTP/1.1 200 OK\r\n{echoed}set-cookie: a=1\r\nset-cookie: b=2\r\nconnection: x-internal\r\nx-internal: 1\r\nkeep-alive: x\r\ncontent-length: 0\r\n\r\n"
        );
    });
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let response = rig.get("/", &key);
    assert_eq!(response.status, 200);
    assert!(
        !response
            .headers
            .iter()
            .any(|(name, value)| name.contains("secret") || value.contains(SECRET)),
        "{response:?}"
    );
    assert_eq!(
        (response.header("x-internal"), response.header("keep-alive")),
        (None, None)
    );
    let cookies: Vec<_> = response
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(response.header("vary"), Some("authorization"));
}

#[test]
fn an_origin_that_does_not_accept_the_gateway_is_not_the_clients_fault() {
    for (status, mark) in [
        ("401 Unauthorized", "missing"),
        ("401 Unauthorized", "invalid"),
        ("500 Internal Server Error", "unconfigured"),
    ] {
        let origin = Origin::answering_bytes(format!(
            "HTTP/1.1 {status}\r\nx-origin-guard: {mark}\r\nwww-authenticate: SharedSecret\r\ncontent-length: 0\r\n\r\n"
        ));
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]);
        let response = rig.get("/", &key);
        assert_eq!(
            (response.status, response.code().as_str()),
            (502, "origin_rejected_gateway"),
            "{mark}"
        );
        assert_eq!(
            (
                response.header("x-origin-guard"),
                response.header("www-authenticate")
            ),
            (None, None)
        );
    }
}

#[test]
fn an_origins_own_401_passes_as_it_is() {
    let origin = Origin::answering_bytes(
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"x\"\r\ncontent-length: 2\r\n\r\nno",
    );
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    let response = exchange(
        rig.public,
        format!("GET / HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"),
    );
    assert_eq!((response.status, response.text().as_str()), (401, "no"));
    assert_eq!(
        response.header("www-authenticate"),
        Some("Basic realm=\"x\"")
    );
}
