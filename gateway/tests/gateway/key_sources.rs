//! Where a key may come from: each place is found, and exactly it is taken out of what the origin sees.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::bad_input::refuses;
use crate::client::{Connection, Response, exchange};
use crate::http2::{Client, request};
use crate::origin::{Arrived, Origin};
use crate::rig::{Key, Process, Rig, SECRET, database, gateway};

const ROUTES: &str = r#"
[listen]
http2_prior_knowledge = true

[[routes]]
path = "/"

[[routes]]
path = "/scheme"
key_sources = ["scheme:ApiKey"]

[[routes]]
path = "/basic"
key_sources = ["basic"]

[[routes]]
path = "/header"
key_sources = ["header:X-API-Key"]

[[routes]]
path = "/cookie"
key_sources = ["cookie:api_key"]

[[routes]]
path = "/query"
methods = ["GET"]
key_sources = ["query:api_key"]

[[routes]]
path = "/subprotocol"
key_sources = ["subprotocol"]

[[routes]]
path = "/all"
key_sources = ["bearer", "scheme:ApiKey", "basic", "header:x-api-key", "cookie:api_key", "query:api_key", "subprotocol"]

[[routes]]
path = "/open"
on_missing_key = "anonymous"
key_sources = ["header:x-api-key", "query:api_key"]
"#;

/// A key of another system, with all that has to be escaped somewhere.
const FOREIGN: &str = "sk/live+51D07beQ84a639f2cXyZ~0.1==";

/// A way to present a key: what of the request has it, and what is left of that.
struct Way {
    path: &'static str,
    with: (String, Vec<String>),
    rest: (&'static str, Vec<&'static str>),
    vary: Option<&'static str>,
    challenge: &'static str,
}

fn basic(pair: &str) -> String {
    format!("authorization: Basic {}", STANDARD.encode(pair))
}

fn escaped(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b'/' | b'+' | b'=' | b'_' => format!("%{byte:02X}"),
            byte => char::from(byte).to_string(),
        })
        .collect()
}

/// Every place, in every form.
fn ways(key: &str) -> Vec<Way> {
    const AUTHORIZATION: Option<&str> = Some("authorization");
    const BASIC: &str = "Basic realm=\"postern\", charset=\"UTF-8\"";
    const BY_COOKIE: &str = "ApiKey realm=\"postern\", in=\"cookie\", name=\"api_key\"";
    const BY_QUERY: &str = "ApiKey realm=\"postern\", in=\"query\", name=\"api_key\"";
    const BY_PROTOCOL: &str =
        "ApiKey realm=\"postern\", in=\"header\", name=\"sec-websocket-protocol\"";
    const PROTOCOL: Option<&str> = Some("sec-websocket-protocol");
    let mut ways = Vec::new();
    let mut add =
        |path, query: String, lines: &[String], rest, left: &[&'static str], vary, challenge| {
            ways.push(Way {
                path,
                with: (query, lines.to_vec()),
                rest: (rest, left.to_vec()),
                vary,
                challenge,
            });
        };
    let none = String::new;
    let line = |name: &str, value: &str| format!("{name}: {value}");
    let mut in_authorization = |path, value: String, challenge| {
        let lines = [line("authorization", &value)];
        add(path, none(), &lines, "", &[], AUTHORIZATION, challenge);
    };
    in_authorization("/", format!("Bearer {key}"), "Bearer realm=\"postern\"");
    in_authorization(
        "/scheme",
        format!("apikey  {key}"),
        "ApiKey realm=\"postern\"",
    );
    for pair in [
        format!("{key}:"),
        format!(":{key}"),
        format!("api:{key}"),
        format!("{key}:X"),
    ] {
        in_authorization("/basic", format!("Basic {}", STANDARD.encode(pair)), BASIC);
    }
    add(
        "/header",
        none(),
        &[
            line("X-Api-Key", key),
            line("authorization", "Basic eDp5"),
            line("api-key", "theirs"),
        ],
        "",
        &["authorization: Basic eDp5", "api-key: theirs"],
        Some("x-api-key"),
        "ApiKey realm=\"postern\", in=\"header\", name=\"x-api-key\"",
    );
    add(
        "/cookie",
        "?api_key=1".to_owned(),
        &[
            line("cookie", &format!("a=1; api_key={key};  b=\"2\" ;c")),
            line("authorization", "Digest x=\"y\""),
        ],
        "?api_key=1",
        &["cookie: a=1;  b=\"2\" ;c", "authorization: Digest x=\"y\""],
        Some("cookie"),
        BY_COOKIE,
    );
    add(
        "/cookie",
        none(),
        &[line("cookie", &format!("api_key=\"{key}\""))],
        "",
        &[],
        Some("cookie"),
        BY_COOKIE,
    );
    add(
        "/cookie",
        none(),
        &[line("cookie", &format!("api_key={key}; Api_Key=no"))],
        "",
        &["cookie: Api_Key=no"],
        Some("cookie"),
        BY_COOKIE,
    );
    let theirs = "cookie: api_key=theirs";
    for (query, rest, lines) in [
        (
            format!("?a=%2f+&api_key={}&&b&c=[]", escaped(key)),
            "?a=%2f+&&b&c=[]",
            &[theirs][..],
        ),
        (format!("?api_key={}", escaped(key)), "", &[]),
        (format!("?%61pi_key={}&x", escaped(key)), "?x", &[]),
    ] {
        let sent: Vec<String> = lines.iter().map(ToString::to_string).collect();
        add("/query", query, &sent, rest, lines, None, BY_QUERY);
    }
    if !key.contains(['/', '=']) {
        add(
            "/subprotocol",
            none(),
            &[line(
                "sec-websocket-protocol",
                &format!("chat, postern.key.{key},other"),
            )],
            "",
            &["sec-websocket-protocol: chat,other"],
            PROTOCOL,
            BY_PROTOCOL,
        );
    }
    add(
        "/subprotocol",
        none(),
        &[line(
            "sec-websocket-protocol",
            &format!("postern, postern.key64.{}", URL_SAFE_NO_PAD.encode(key)),
        )],
        "",
        &[],
        PROTOCOL,
        BY_PROTOCOL,
    );
    ways
}

/// Whether the key stands there, as it is or in one of the encodings above.
fn is_in(text: &str, key: &str) -> bool {
    let tail = &key[key.len() - 12..];
    let in_base64 = |text: &str| STANDARD.encode(text)[6..20].to_owned();
    [
        tail.to_owned(),
        escaped(tail),
        URL_SAFE_NO_PAD.encode(key)[6..20].to_owned(),
        in_base64(&format!(":{key}")),
        in_base64(&format!("api:{key}")),
    ]
    .iter()
    .any(|form| text.contains(form.as_str()))
}

fn ask(rig: &Rig, target: &str, lines: &[String]) -> Response {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("GET {target} HTTP/1.1\r\nhost: h\r\nx-mine: 1\r\n{lines}\r\n");
    exchange(rig.public, head)
}

/// A gateway with the routes, an own key and a foreign one.
fn rig(origin: &Origin) -> (Rig, [Key; 2]) {
    let rig = Rig::with(&origin.url(), ROUTES);
    let file = rig.directory.path().join("keys.csv");
    std::fs::write(&file, format!("consumer,key\nacme,{FOREIGN}\n")).unwrap();
    rig.done(&["import", file.to_str().unwrap()]);
    let foreign = Key {
        id: String::new(),
        key: FOREIGN.to_owned(),
    };
    let own = rig.key("acme", &[]);
    (rig, [own, foreign])
}

/// The client's headers that arrived, in an order of their own.
fn of_client(arrived: &Arrived) -> Vec<String> {
    const OURS: [&str; 11] = [
        "host",
        "via",
        "x-shared-secret",
        "x-request-id",
        "x-consumer-id",
        "x-consumer-username",
        "x-credential-identifier",
        "x-anonymous-consumer",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    let mut lines: Vec<String> = arrived
        .headers
        .iter()
        .filter(|(name, _)| !OURS.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_key_is_taken_from_its_place_and_exactly_that_place_is_taken_out() {
    let origin = Origin::hello();
    let (rig, keys) = rig(&origin);
    for key in &keys {
        for Way {
            path,
            with: (query, lines),
            rest,
            vary,
            challenge,
        } in ways(&key.key)
        {
            origin.forget();
            let response = ask(&rig, &format!("{path}{query}"), &lines);
            assert_eq!(
                response.status,
                200,
                "{path}{query} {lines:?}: {}",
                response.text()
            );
            assert!(!is_in(&format!("{response:?}"), &key.key), "{response:?}");
            assert_eq!(response.header("vary"), vary, "{path}");
            let arrived = origin.only();
            assert_eq!(arrived.one("x-consumer-username"), Some("acme"), "{path}");
            assert_eq!(arrived.one("x-shared-secret"), Some(SECRET));
            assert_eq!(arrived.line, format!("GET {path}{} HTTP/1.1", rest.0));
            let mut wanted = [&["x-mine: 1"], &rest.1[..]].concat();
            wanted.sort_unstable();
            assert_eq!(of_client(&arrived), wanted, "{path}{query} {lines:?}");

            // The same place with a key that is none, with none, and on a route that takes all of them.
            origin.forget();
            let wrong = |text: &str| {
                text.replace(&key.key, "wrong-key")
                    .replace(&escaped(&key.key), "wrong-key")
            };
            if lines.iter().any(|line| line.contains(&key.key))
                || query.contains(&escaped(&key.key))
            {
                let lines: Vec<String> = lines.iter().map(|line| wrong(line)).collect();
                let refused = ask(&rig, &format!("{path}{}", wrong(&query)), &lines);
                assert_eq!(
                    (refused.status, refused.code().as_str()),
                    (401, "api_key_invalid"),
                    "{path}"
                );
                assert!(
                    refused
                        .header("www-authenticate")
                        .unwrap()
                        .starts_with(challenge),
                    "{refused:?}"
                );
            }
            let missing = ask(&rig, &format!("{path}{}", rest.0), &[]);
            assert_eq!(
                (missing.status, missing.code().as_str()),
                (401, "api_key_missing"),
                "{path}"
            );
            assert_eq!(missing.header("www-authenticate"), Some(challenge));
            assert!(origin.arrived().is_empty());
            let all = ask(&rig, &format!("/all{query}"), &lines);
            // Some of them leave another credential in a place that this route reads, too.
            let others = lines
                .iter()
                .any(|line| line.contains("theirs") && line.starts_with("cookie"))
                || lines.iter().any(|line| line == "authorization: Basic eDp5")
                || query == "?api_key=1";
            assert_eq!(
                all.status,
                if others { 400 } else { 200 },
                "{query} {lines:?}: {}",
                all.text()
            );
        }
    }
}

#[test]
fn a_request_with_keys_in_two_places_is_refused() {
    let origin = Origin::hello();
    let (rig, [own, _]) = rig(&origin);
    let places = [
        ("", format!("authorization: Bearer {}", own.key)),
        ("", basic(&format!("{}:", own.key))),
        ("", format!("x-api-key: {}", own.key)),
        ("", format!("cookie: api_key={}", own.key)),
        (
            "",
            format!("sec-websocket-protocol: postern.key.{}", own.key),
        ),
        ("?api_key=other", "x-other: 1".to_owned()),
    ];
    for (index, (query, line)) in places.iter().enumerate() {
        for (other_query, other) in &places[index..] {
            let query = match (query.is_empty(), other_query.is_empty()) {
                (false, false) => "?api_key=other&api_key=other",
                (true, true) => "",
                _ => "?api_key=other",
            };
            let refused = ask(
                &rig,
                &format!("/all{query}"),
                &[line.clone(), other.clone()],
            );
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (400, "invalid_request"),
                "{line} {other}"
            );
            assert!(!is_in(&format!("{refused:?}"), &own.key));
        }
    }
    let second = rig.key("acme", &[]);
    for pair in [
        format!("{}:{}", own.key, second.key),
        format!("{}:{}", own.key, own.key),
    ] {
        assert_eq!(
            ask(&rig, "/basic", &[basic(&pair)]).code(),
            "invalid_request"
        );
    }
    assert!(origin.arrived().is_empty());
}

#[test]
fn a_key_in_a_place_that_is_none_of_the_route_counts_for_nothing_and_goes_nowhere() {
    let origin = Origin::hello();
    let (rig, keys) = rig(&origin);
    for key in &keys {
        let key = &key.key;
        let places = [
            format!("authorization: Bearer {key}"),
            format!("authorization: ApiKey {key}"),
            basic(&format!("api:{key}")),
            basic(&format!("{key}:")),
            format!("api-key: {key}"),
            format!("cookie: a=1; key={key}"),
            format!("referer: https://example.com/?api_key={}", escaped(key)),
        ];
        for line in &places {
            // A route without a credential in `Authorization` lets that header pass, but never with a key.
            origin.forget();
            let response = ask(&rig, "/open", std::slice::from_ref(line));
            assert_eq!(response.status, 200, "{line}");
            let arrived = origin.only();
            assert_eq!(arrived.one("x-anonymous-consumer"), Some("true"), "{line}");
            assert_eq!(of_client(&arrived), ["x-mine: 1"], "{line}");
            // With a good key beside it, too.
            origin.forget();
            let good = format!("x-api-key: {key}");
            let response = ask(&rig, "/open", &[good, line.clone()]);
            assert_eq!(response.status, 200, "{line}");
            assert_eq!(of_client(&origin.only()), ["x-mine: 1"], "{line}");
            origin.forget();
            let refused = ask(&rig, "/header", std::slice::from_ref(line));
            assert_eq!(refused.code(), "api_key_missing", "{line}");
        }
        origin.forget();
        let response = ask(&rig, "/open", &["authorization: Basic eDp5".to_owned()]);
        assert_eq!(response.status, 200);
        assert_eq!(origin.only().one("authorization"), Some("Basic eDp5"));
        // A credential in the place of the route is checked, also where none is needed.
        for target in ["/open?api_key=wrong", "/open?api_key="] {
            assert_eq!(ask(&rig, target, &[]).code(), "api_key_invalid", "{target}");
        }
        let empty = "x-api-key:".to_owned();
        assert_eq!(ask(&rig, "/open", &[empty]).code(), "api_key_invalid");
    }
}

#[test]
fn a_key_in_a_url_is_refused_everywhere_but_in_the_parameter_of_the_route() {
    let origin = Origin::hello();
    let (rig, [own, _]) = rig(&origin);
    let (key, second) = (&own.key, rig.key("acme", &[]).key);
    for target in [
        format!("/?api_key={key}"),
        format!("/header?api_key={key}"),
        format!("/query?key={key}"),
        format!("/query?api_key={key}&next={second}"),
        format!("/query?api_key={key}&next=%2F%3Fkey%3D{}", escaped(&second)),
        format!("/query/{key}?api_key={key}"),
        format!("/query?a=1;api_key={key}"),
        format!("/query?api_key[]={key}"),
        // Another thing that is wrong does not hide it.
        format!("/query/%2e%2e/a?api_key={key}"),
        format!("/query%2fa?api_key={key}"),
    ] {
        let refused = ask(&rig, &target, &[]);
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "key_in_url"),
            "{target}"
        );
        assert!(!is_in(&format!("{refused:?}"), key), "{target}");
    }
    let posted = exchange(
        rig.public,
        format!("POST /query?api_key={key} HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n"),
    );
    assert_eq!(posted.code(), "key_in_url");
    assert!(origin.arrived().is_empty());
    let shown = ask(&rig, &format!("/query/a?api_key={key}x"), &[]);
    assert_eq!(shown.code(), "api_key_invalid");
    assert_eq!(shown.json()["instance"], "/query/a");
}

#[test]
fn the_places_are_the_same_over_http_2() {
    let origin = Origin::hello();
    let (rig, keys) = rig(&origin);
    let mut client = Client::open(rig.public);
    for key in &keys {
        for Way {
            path,
            with: (query, lines),
            rest,
            ..
        } in ways(&key.key)
        {
            origin.forget();
            // Names are in lower case there, and a browser sends one field for each cookie.
            let lines: Vec<String> = lines
                .iter()
                .map(|line| line.replace("X-Api-Key", "x-api-key"))
                .flat_map(|line| match line.strip_prefix("cookie: ") {
                    Some(pairs) if !pairs.contains("  ") => pairs
                        .split("; ")
                        .map(|pair| format!("cookie: {pair}"))
                        .collect(),
                    _ => vec![line],
                })
                .collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let uri = format!("http://h{path}{query}");
            let answer = client.ask(request("GET", &uri, &lines), b"");
            assert_eq!(answer.status, 200, "{uri} {lines:?}");
            let arrived = origin.only();
            assert_eq!(arrived.one("x-consumer-username"), Some("acme"));
            assert_eq!(arrived.line, format!("GET {path}{} HTTP/1.1", rest.0));
            let mut wanted = rest.1.clone();
            wanted.sort_unstable();
            assert_eq!(of_client(&arrived), wanted, "{uri} {lines:?}");
            let twice = [
                &lines[..],
                &[
                    "x-api-key: k",
                    "authorization: Bearer k",
                    "cookie: api_key=k",
                ],
            ]
            .concat();
            let answer = client.ask(request("GET", &format!("http://h/all{query}"), &twice), b"");
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "invalid_request")
            );
        }
    }
}

/// The subprotocol that the client is told, for what it offers and what the origin chooses.
#[test]
fn a_websocket_brings_its_key_as_a_subprotocol_and_is_told_the_one_that_was_chosen() {
    for (chosen, offer, arrives, told) in [
        ("", "postern, postern.key.KEY", None, Some("postern")),
        ("", "postern.key.KEY,postern", None, Some("postern")),
        (
            "",
            "chat, postern.key.KEY, postern",
            Some("chat"),
            Some("postern"),
        ),
        (
            "chat",
            "chat, postern, postern.key.KEY",
            Some("chat"),
            Some("chat"),
        ),
        ("chat", "chat, postern.key.KEY", Some("chat"), Some("chat")),
        ("", "chat, postern.key.KEY", Some("chat"), None),
        ("", "postern.key.KEY", None, None),
    ] {
        let origin = Origin::answering(move |_, socket| {
            let line = if chosen.is_empty() {
                String::new()
            } else {
                format!("sec-websocket-protocol: {chosen}\r\n")
            };
            let _ = write!(
                socket,
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n{line}\r\n"
            );
            let mut buffer = [0; 64];
            while let Ok(read @ 1..) = socket.read(&mut buffer) {
                let _ = socket.write_all(&buffer[..read]);
            }
        });
        let (rig, [own, _]) = rig(&origin);
        let mut connection = Connection::open(rig.public);
        let offer = offer.replace("KEY", &own.key);
        connection.send(format!(
            "GET /subprotocol HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: abc\r\nsec-websocket-protocol: {offer}\r\n\r\n"
        ));
        let head = connection.head();
        assert_eq!(head.status, 101, "{offer}: {head:?}");
        assert_eq!(head.header("sec-websocket-protocol"), told, "{offer}");
        assert_eq!(
            origin.only().one("sec-websocket-protocol"),
            arrives,
            "{offer}"
        );
        connection.send("ping");
        assert_eq!(connection.some_bytes(), b"ping");
    }
}

#[test]
fn no_place_is_shown_in_a_log() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), ROUTES).unwrap();
    let keys = directory.path().join("keys.csv");
    std::fs::write(&keys, format!("consumer,key\nacme,{FOREIGN}\n")).unwrap();
    let url = database(directory.path());
    let import = ["import", keys.to_str().unwrap()];
    let output = gateway(directory.path(), &[("DATABASE_URL", &url)], &import);
    assert!(output.status.success(), "{output:?}");
    let process = Process::start(directory, &origin.url(), &[("RUST_LOG", "trace")]);
    let own = process.key("acme");
    let own = own.rsplit(' ').next().unwrap();
    let mut asked = 0;
    for key in [own, FOREIGN] {
        let ended = format!("{}x", &key[..key.len() - 1]);
        for presented in [key, &ended] {
            for Way {
                path,
                with: (query, lines),
                ..
            } in ways(presented)
            {
                let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
                let head = format!("GET {path}{query} HTTP/1.1\r\nhost: h\r\n{lines}\r\n");
                let _ = exchange(process.public, head);
                asked += 1;
            }
        }
    }
    crate::running::eventually("the access log has them all", || {
        process.access_log().len() >= asked
    });
    let lines = process.access_log();
    assert!(
        lines
            .iter()
            .any(|line| line["path"] == "/query" && line["status"] == 200),
        "{lines:?}"
    );
    let log = process.log();
    assert!(log.contains("takes keys from the URL"), "{log}");
    let access_log: String = lines.iter().map(ToString::to_string).collect();
    for key in [own, FOREIGN] {
        for text in [&log, &access_log] {
            let line = text.lines().find(|line| is_in(line, key));
            assert!(line.is_none(), "{line:?}");
        }
    }
}

#[test]
fn places_that_are_none_are_refused_with_what_is_accepted() {
    let check = |file: &str, variables: &[(&str, &str)]| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
        let variables = [&[("SHARED_SECRET", SECRET)], variables].concat();
        let output = gateway(directory.path(), &variables, &["check"]);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    refuses(
        "[auth]\n",
        r#"
            key_sources = [] => auth.key_sources => one place at least
            key_sources = ["bearer", "bearer"] => auth.key_sources[1] => already
            key_sources = ["scheme:A", "basic", "scheme:a"] => auth.key_sources[2] => already
            key_sources = ["header:X-Key", "header:x-key"] => auth.key_sources[1] => already
            key_sources = ["token"] => auth.key_sources[0] => "scheme:NAME"
            key_sources = ["header:"] => auth.key_sources[0] => a header name
            key_sources = ["header:X_Key"] => auth.key_sources[0] => a header name
            key_sources = ["header:authorization"] => auth.key_sources[0] => write "bearer"
            key_sources = ["header:cookie"] => auth.key_sources[0] => write "cookie:NAME"
            key_sources = ["header:sec-websocket-protocol"] => auth.key_sources[0] => "subprotocol"
            key_sources = ["header:x-consumer-id"] => auth.key_sources[0] => only the gateway
            key_sources = ["header:X-Shared-Secret"] => auth.key_sources[0] => only the gateway
            key_sources = ["header:connection"] => auth.key_sources[0] => hop-by-hop
            key_sources = ["header:proxy-authorization"] => auth.key_sources[0] => hop-by-hop
            key_sources = ["header:upgrade"] => auth.key_sources[0] => hop-by-hop
            key_sources = ["header:host"] => auth.key_sources[0] => another meaning
            key_sources = ["header:Content-Type"] => auth.key_sources[0] => another meaning
            key_sources = ["header:x-request-id"] => auth.key_sources[0] => another meaning
            key_sources = ["header:origin"] => auth.key_sources[0] => another meaning
            key_sources = ["header:x-forwarded-for"] => auth.key_sources[0] => proxies set
            key_sources = ["header:forwarded"] => auth.key_sources[0] => proxies set
            key_sources = ["header:cf-connecting-ip"] => auth.key_sources[0] => proxies set
            key_sources = ["scheme:Bearer"] => auth.key_sources[0] => "bearer"
            key_sources = ["scheme:a b"] => auth.key_sources[0] => an authentication scheme
            key_sources = ["cookie:a;b"] => auth.key_sources[0] => a cookie
            key_sources = ["query:a&b"] => auth.key_sources[0] => a parameter
        "#,
    );
    // All problems at once, and those of a route with its own path.
    let file =
        "[auth]\nkey_sources = [\"a\", \"b\"]\n[[routes]]\nkey_sources = [\"c\", \"header:te\"]\n";
    let (_, _, said) = check(file, &[]);
    for path in [
        "auth.key_sources[0]",
        "auth.key_sources[1]",
        "routes[0].key_sources[0]",
        "routes[0].key_sources[1]",
    ] {
        assert!(said.contains(path), "{said}");
    }
    // A route has those of [auth] unless it has its own; the environment has them with commas.
    let file = "[[routes]]\n[[routes]]\npath = \"/a\"\nkey_sources = [\"query:key\"]\n";
    let (code, said, warned) = check(
        file,
        &[("GATEWAY__AUTH__KEY_SOURCES", "basic, header:X-API-Key")],
    );
    assert_eq!(code, 0, "{warned}");
    assert!(
        said.contains("key_sources = [\"basic\", \"header:x-api-key\"]  # default"),
        "{said}"
    );
    assert!(said.contains("key_sources = [\"query:key\"]"), "{said}");
    assert!(
        format!("{said}{warned}").contains("routes[1] (\"/a\") takes keys from the URL"),
        "{said}{warned}"
    );
    let (_, said, warned) = check("[auth]\nkey_sources = [\"query:key\"]\n", &[]);
    assert!(
        format!("{said}{warned}").contains("auth.key_sources takes keys from the URL"),
        "{said}{warned}"
    );
}
