//! Every way to be refused is seen: answered like any other, in one line of the access log, and counted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::certificates::Authority;
use crate::client::{Connection, DEADLINE, Response, exchange, get};
use crate::origin::Origin;
use crate::rig::{Process, Rig, gateway};
use crate::running::eventually;

/// The sample of `/metrics` that begins with this, or 0.
fn sample(admin: SocketAddr, name: &str) -> u64 {
    let page = get(admin, "/metrics", &[]).text();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// The only line of the access log with this id.
fn line_of(process: &Process, id: &str) -> serde_json::Value {
    let lines = || {
        process
            .access_log()
            .into_iter()
            .filter(|line| line["request_id"] == id)
            .collect::<Vec<_>>()
    };
    eventually("its line", || !lines().is_empty());
    let lines = lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.into_iter().next().unwrap()
}

fn id_of(response: &Response) -> String {
    response.header("x-request-id").unwrap().to_owned()
}

/// What the guard refuses before there is a request: status, code and fault.
fn unread() -> Vec<(Vec<u8>, u16, &'static str, &'static str)> {
    let get = |rest: &str| format!("GET / HTTP/1.1\r\n{rest}\r\n\r\n").into_bytes();
    let fields = get(&format!("host: h{}", "\r\na: b".repeat(80)));
    let large = get(&format!("a: {}", "b".repeat(20_000)));
    let long = format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "a".repeat(20_000));
    let twice = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na";
    let proxied = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n";
    let bad: [(&[u8], _); 11] = [
        (b"x\x01\r\n\r\n", "bad_request_line"),
        (proxied.as_bytes(), "unexpected_proxy_header"),
        (b"GET /a?q=\"x\" HTTP/1.1\r\nhost: h\r\n\r\n", "bad_target"),
        (&get("host: h\r\na : b"), "bad_field"),
        (&get("host: h\r\na: b\0"), "bad_field"),
        (b"GET / HTTP/1.1\r\n\r\n", "bad_host"),
        (twice.as_bytes(), "bad_framing"),
        (b"GET / HTTP/1.1\nhost: h\n\n", "bare_line_feed"),
        (b"GET /#a HTTP/1.1\r\nhost: h\r\n\r\n", "fragment"),
        (b"\r\n\r\n\r\n", "no_request_line"),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], "tls_on_plain"),
    ];
    let other: [(&[u8], _, _, _); 5] = [
        (
            b"GET / HTTP/1.2\r\nhost: h\r\n\r\n",
            505,
            "version_not_supported",
            "unsupported_version",
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            505,
            "version_not_supported",
            "unsupported_version",
        ),
        (long.as_bytes(), 414, "uri_too_long", "target_too_long"),
        (&large, 431, "request_header_too_large", "head_too_large"),
        (&fields, 431, "request_header_too_large", "too_many_fields"),
    ];
    let bad = bad.map(|(bytes, fault)| (bytes, 400, "bad_request", fault));
    let all = bad.into_iter().chain(other);
    all.map(|(bytes, status, code, fault)| (bytes.to_vec(), status, code, fault))
        .collect()
}

#[test]
fn what_is_no_request_is_refused_counted_and_logged_exactly_once() {
    let origin = Origin::hello();
    let process = Process::before(&origin.url());
    for (bytes, status, code, fault) in unread() {
        let what = bytes[..bytes.len().min(40)].escape_ascii().to_string();
        let counters = [
            format!("postern_client_faults_total{{fault=\"{fault}\"}}"),
            format!("postern_refusals_total{{code=\"{code}\"}}"),
            format!(
                "postern_requests_total{{route=\"\",status=\"{}xx\"}}",
                status / 100
            ),
        ];
        let counts = || counters.each_ref().map(|name| sample(process.admin, name));
        let before = counts();
        let mut connection = Connection::open(process.public);
        connection.try_send(&bytes);
        let response = connection.response();
        assert_eq!(
            (response.status, response.code().as_str()),
            (status, code),
            "{what}"
        );
        assert_eq!(response.header("connection"), Some("close"), "{what}");
        assert!(connection.is_closed(), "{what}");
        let id = id_of(&response);
        assert_eq!(response.json()["request_id"], id.as_str(), "{what}");
        let line = line_of(&process, &id);
        assert_eq!(
            (&line["status"], &line["code"]),
            (&status.into(), &code.into()),
            "{what}"
        );
        assert!(!line["cause"].as_str().unwrap().is_empty(), "{what}");
        eventually(&what, || counts() == before.map(|count| count + 1));
    }
    let log = process.log();
    assert!(
        !log.contains("ERROR") && !log.contains("actix_http"),
        "{log}"
    );
}

#[test]
fn a_malformed_first_chunk_is_the_same_with_its_head_and_after_it() {
    let origin = Origin::hello();
    let process = Process::before(&origin.url());
    let key = process.key("acme");
    let head = format!("POST / HTTP/1.1\r\nhost: h\r\n{key}\r\ntransfer-encoding: chunked\r\n\r\n");
    for key_is_sent in [true, false] {
        let head = if key_is_sent {
            head.clone()
        } else {
            head.replace(&format!("{key}\r\n"), "")
        };
        for in_one in [true, false] {
            let what = format!("with a key: {key_is_sent}, in one segment: {in_one}");
            let counter = "postern_client_faults_total{fault=\"bad_chunk\"}";
            let before = sample(process.admin, counter);
            let mut connection = Connection::open(process.public);
            if in_one {
                connection.send(format!("{head}zz\r\n"));
            } else {
                connection.send(&head);
                if key_is_sent {
                    std::thread::sleep(Duration::from_millis(100));
                }
                connection.try_send("zz\r\n");
            }
            let response = connection.response();
            let expected = if key_is_sent {
                (400, "bad_request")
            } else {
                (401, "api_key_missing")
            };
            assert_eq!(
                (response.status, response.code().as_str()),
                expected,
                "{what}"
            );
            assert!(connection.is_closed(), "more than one answer: {what}");
            let line = line_of(&process, &id_of(&response));
            assert_eq!(line["status"], expected.0, "{what}: {line}");
            assert_eq!(line["code"], expected.1, "{what}: {line}");
            assert_eq!(line["method"], "POST", "{what}: {line}");
            assert_eq!(line.get("key").is_some(), key_is_sent, "{what}: {line}");
            if key_is_sent {
                eventually(&what, || sample(process.admin, counter) == before + 1);
            }
        }
    }
    assert!(!process.log().contains("ERROR"), "{}", process.log());
}

#[test]
fn plain_http_to_a_port_of_tls_is_answered_in_clear_text() {
    let origin = Origin::hello();
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority
        .issue(&["gateway"])
        .write(directory.path(), "pair");
    std::fs::write(
        directory.path().join("gateway.toml"),
        "[[listen.tls]]\ncert_file = \"pair.crt\"\nkey_file = \"pair.key\"\n",
    )
    .unwrap();
    let process = Process::start(directory, &origin.url(), &[]);
    let response = get(process.public, "/", &[]);
    assert_eq!(
        (response.status, response.code().as_str()),
        (400, "bad_request")
    );
    assert!(response.text().contains("https://"), "{}", response.text());
    let line = line_of(&process, &id_of(&response));
    assert_eq!(
        (&line["status"], &line["method"]),
        (&400.into(), &"".into())
    );
    let counter = "postern_client_faults_total{fault=\"plain_on_tls\"}";
    eventually("it is counted", || sample(process.admin, counter) == 1);
    let mut broken = TcpStream::connect(process.public).unwrap();
    broken.write_all(&[0x16, 3, 1, 0, 4, 99, 0, 0, 0]).unwrap();
    broken.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = broken.read_to_end(&mut Vec::new());
    eventually("the handshake is counted", || {
        sample(
            process.admin,
            "postern_client_faults_total{fault=\"tls_handshake\"}",
        ) == 1
    });
}

#[test]
fn a_refused_credential_has_its_cause_its_key_and_its_consumer() {
    let origin = Origin::hello();
    let process = Process::before(&origin.url());
    let database = crate::rig::database(process.directory.path());
    let run = |arguments: &[&str]| {
        let output = gateway(
            process.directory.path(),
            &[("DATABASE_URL", &database)],
            arguments,
        );
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let whole = process.key("acme");
    let key = whole.strip_prefix("authorization: Bearer ").unwrap();
    let bearer = |key: &str| format!("authorization: Bearer {key}");
    for (header, code, cause) in [
        ("x-a: b".to_owned(), "api_key_missing", "no_header"),
        (
            format!("x-api-key: {key}"),
            "api_key_missing",
            "other_header",
        ),
        (
            "authorization: Basic dXNlcjpwYXNz".to_owned(),
            "api_key_missing",
            "other_scheme",
        ),
        (
            format!("authorization: {key}"),
            "api_key_missing",
            "no_scheme",
        ),
        (bearer(&format!("\"{key}\"")), "api_key_invalid", "quoted"),
        (bearer(&key[..20]), "api_key_invalid", "cut_off"),
        (bearer("something-else"), "api_key_invalid", "unknown"),
    ] {
        let counter = format!("postern_credentials_refused_total{{cause=\"{cause}\"}}");
        let before = sample(process.admin, &counter);
        let response = get(process.public, "/", &[&header]);
        assert_eq!(response.code(), code, "{cause}");
        assert!(
            !response.text().contains(cause),
            "the client is told: {}",
            response.text()
        );
        let line = line_of(&process, &id_of(&response));
        assert_eq!(line["cause"], cause);
        assert_eq!((line.get("key"), line.get("consumer")), (None, None));
        eventually(cause, || sample(process.admin, &counter) == before + 1);
    }
    let seen = get(process.public, "/", &[&whole]);
    let good = line_of(&process, &id_of(&seen));
    let id = good["key"].as_str().unwrap().to_owned();
    run(&["keys", "disable", &id]);
    for (command, code, cause) in [
        ("disable", "api_key_disabled", "disabled"),
        ("revoke", "api_key_revoked", "revoked"),
    ] {
        run(&["keys", command, &id]);
        let mut response = get(process.public, "/", &[&whole]);
        eventually(code, || {
            response = get(process.public, "/", &[&whole]);
            response.status == 401 && response.code() == code
        });
        let line = line_of(&process, &id_of(&response));
        assert_eq!(
            (&line["key"], &line["consumer"], &line["cause"]),
            (&good["key"], &good["consumer"], &cause.into())
        );
    }
}

#[test]
fn an_origin_that_speaks_no_http_is_known_by_its_first_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
            // It waits for the other side's line, and goes on waiting.
            open.push(socket);
        }
    });
    // Every limit is longer than the client waits.
    let file = "[origin]\nfirst_byte_timeout = \"5min\"\nidle_timeout = \"5min\"\n";
    let rig = Rig::with(&format!("http://{address}"), file);
    let key = rig.key("acme", &[]);
    let response = rig.get("/", &key);
    assert_eq!(
        (response.status, response.code().as_str()),
        (502, "origin_bad_answer")
    );
}

#[test]
fn each_time_limit_names_its_setting_and_whose_it_was() {
    let origin = Origin::answering(|request, socket| {
        let _ = match request.line.split(' ').nth(1).unwrap() {
            "/silent" => Ok(()),
            "/paused" => socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"),
            "/tunnel" => socket.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            ),
            "/large" => {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";
                let _ = socket.write_all(head);
                (0..1000).try_for_each(|_| socket.write_all(&[b'x'; 100_000]))
            }
            _ => socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        };
    });
    let short = [
        ("GATEWAY__LISTEN__HEAD_TIMEOUT", "3s"),
        ("GATEWAY__LISTEN__BODY_IDLE_TIMEOUT", "300ms"),
        ("GATEWAY__LISTEN__WRITE_IDLE_TIMEOUT", "300ms"),
        ("GATEWAY__ORIGIN__FIRST_BYTE_TIMEOUT", "3s"),
        ("GATEWAY__ORIGIN__IDLE_TIMEOUT", "3s"),
        ("GATEWAY__ORIGIN__TUNNEL_IDLE_TIMEOUT", "300ms"),
    ];
    let process = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &short);
    let key = process.key("acme");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\n{key}\r\n");
    for (request, setting, status, ending) in [
        (
            "GET / HT".to_owned(),
            "listen.head_timeout",
            408,
            "complete",
        ),
        (
            format!("{}\r\n", get("/silent")),
            "origin.first_byte_timeout",
            504,
            "complete",
        ),
        (
            format!("{}\r\n", get("/paused")),
            "origin.idle_timeout",
            200,
            "time_limit",
        ),
        (
            format!("POST / HTTP/1.1\r\nhost: h\r\n{key}\r\ncontent-length: 5\r\n\r\na"),
            "listen.body_idle_timeout",
            408,
            "complete",
        ),
        (
            format!(
                "{}connection: upgrade\r\nupgrade: websocket\r\n\r\n",
                get("/tunnel")
            ),
            "origin.tunnel_idle_timeout",
            101,
            "time_limit",
        ),
        (
            format!("{}\r\n", get("/large")),
            "listen.write_idle_timeout",
            200,
            "client_gone",
        ),
    ] {
        let mut socket = TcpStream::connect(process.public).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let found = || {
            process.access_log().into_iter().find(|line| {
                line["cause"]
                    .as_str()
                    .is_some_and(|cause| cause.contains(setting))
            })
        };
        eventually(setting, || found().is_some());
        let line = found().unwrap();
        assert_eq!(
            (&line["status"], &line["ending"]),
            (&status.into(), &ending.into()),
            "{line}"
        );
        let cause = line["cause"].as_str().unwrap();
        assert!(
            !cause.contains("Custom {") && !cause.contains("Timeout"),
            "{cause}"
        );
    }
    let by = |by: &str| {
        sample(
            process.admin,
            &format!("postern_responses_broken_total{{by=\"{by}\"}}"),
        )
    };
    eventually("two answers are counted as cut off", || {
        (by("time_limit"), by("origin")) == (2, 0)
    });
}

#[test]
fn what_the_end_of_the_gateway_cuts_off_names_the_time_for_it() {
    let origin = Origin::answering(|request, socket| {
        if !request.line.contains("/silent") {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mut process = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[
            ("GATEWAY__LISTEN__DRAIN_DELAY", "1ms"),
            ("GATEWAY__LISTEN__DRAIN_TIMEOUT", "1s"),
        ],
    );
    let key = process.key("acme");
    let mut silent = Connection::open(process.public);
    silent.send(format!("GET /silent HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
    eventually("the origin has it", || {
        origin
            .arrived()
            .iter()
            .any(|arrived| arrived.line.contains("/silent"))
    });
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0));
    eventually("its line", || {
        process.access_log().iter().any(|line| {
            line["path"] == "/silent"
                && line["ending"] == "time_limit"
                && line["cause"]
                    .as_str()
                    .is_some_and(|cause| cause.contains("listen.drain_timeout"))
        })
    });
}

#[test]
fn requests_that_are_never_answered_are_in_the_histogram_of_waits() {
    let origin = Origin::answering(|request, socket| {
        if !request.line.contains("/silent") {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let rig = Rig::with(&origin.url(), "[origin]\nfirst_byte_timeout = \"3s\"\n");
    let key = rig.key("acme", &[]);
    let waits = || {
        sample(
            rig.admin,
            "postern_origin_duration_seconds_count{route=\"default\"}",
        )
    };
    let failed = |phase: &str| {
        sample(
            rig.admin,
            &format!(
                "postern_upstream_attempts_failed_total{{upstream=\"default\",phase=\"{phase}\"}}"
            ),
        )
    };
    let before = waits();
    assert_eq!(rig.get("/silent", &key).status, 504);
    eventually("504", || waits() == before + 1);
    assert_eq!(failed("waiting"), 1);
    let mut leaving = Connection::open(rig.public);
    leaving.send(format!(
        "GET /silent HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
        key.header()
    ));
    eventually("the origin has it", || origin.arrived().len() >= 2);
    drop(leaving);
    eventually("499", || waits() == before + 2);
    // A client's own broken upload is neither a wait nor a failed attempt.
    let broken = exchange(
        rig.public,
        format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{}\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n",
            key.header()
        ),
    );
    assert_eq!(broken.status, 400);
    assert_eq!(
        (waits(), failed("sending"), failed("waiting")),
        (before + 2, 0, 1)
    );
}

#[test]
fn the_admin_listener_counts_what_it_refuses_and_tells_once_a_second() {
    const TOKEN: &str = "refusals-9f2c51d07be84a63";
    let origin = Origin::hello();
    let process = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[("ADMIN_TOKEN", TOKEN)],
    );
    let count = |code: &str| {
        sample(
            process.admin,
            &format!("postern_admin_refusals_total{{code=\"{code}\"}}"),
        )
    };
    let wrong = "authorization: Bearer wrong-token-51d07be84a63";
    for _ in 0..50 {
        assert_eq!(get(process.admin, "/v1/keys", &[wrong]).status, 401);
    }
    let page = format!("authorization: Bearer {TOKEN}");
    let origin_of_page = "origin: http://evil.example";
    assert_eq!(
        get(process.admin, "/v1/keys", &[&page, origin_of_page]).status,
        403
    );
    let other = exchange(
        process.admin,
        format!("GET /v1/keys HTTP/1.1\r\nhost: evil.example\r\n{page}\r\n\r\n"),
    );
    assert_eq!(other.status, 421);
    assert_eq!(get(process.admin, "/v1/nothing", &[&page]).status, 404);
    eventually("they are counted", || {
        let codes = [
            "unauthorized",
            "cross_origin",
            "misdirected_request",
            "not_found",
        ];
        codes.map(count) == [50, 1, 1, 1]
    });
    eventually("the rest is told", || {
        get(process.admin, "/v1/keys", &[wrong]);
        process.log().contains("more before it were not logged")
    });
    let log = process.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("admin API:"))
        .collect();
    assert!(
        lines[0].contains("401 unauthorized for GET /v1/keys from 127.0.0.1:"),
        "{log}"
    );
    assert!(lines.len() < 20, "{log}");
    assert!(
        !log.contains("wrong-token") && !log.contains(TOKEN),
        "{log}"
    );
}

#[test]
fn limits_of_heads_beyond_what_can_be_read_are_no_settings() {
    let directory = tempfile::tempdir().unwrap();
    for (variable, value, accepted) in [
        ("GATEWAY__LISTEN__MAX_HEADERS", "97", "1 to 96"),
        ("GATEWAY__LISTEN__MAX_HEAD_BYTES", "131073", "1 to 131072"),
        ("GATEWAY__ORIGIN__MAX_HEADERS", "0", "1 to 96"),
        ("GATEWAY__ORIGIN__MAX_HEAD_BYTES", "1000000", "1 to 131072"),
    ] {
        let variables = [("SHARED_SECRET", crate::rig::SECRET), (variable, value)];
        let output = gateway(directory.path(), &variables, &["check"]);
        assert_eq!(output.status.code(), Some(2), "{variable}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(accepted) && told.contains(value), "{told}");
    }
    let origin = Origin::hello();
    let rig = Rig::with(
        &origin.url(),
        "[listen]\nmax_headers = 96\nmax_head_bytes = 131072\n",
    );
    let key = rig.key("acme", &[]);
    let fields = |count: usize| {
        let rest = count - 2;
        format!(
            "GET / HTTP/1.1\r\nhost: h\r\n{}\r\n{}\r\n",
            key.header(),
            "a: b\r\n".repeat(rest)
        )
    };
    assert_eq!(exchange(rig.public, fields(96)).status, 200);
    assert_eq!(
        exchange(rig.public, fields(97)).code(),
        "request_header_too_large"
    );
    let sized = |bytes: usize| {
        let head = format!("GET / HTTP/1.1\r\nhost: h\r\n{}\r\na: ", key.header());
        let rest = bytes - head.len() - 4;
        format!("{head}{}\r\n\r\n", "b".repeat(rest))
    };
    assert_eq!(exchange(rig.public, sized(131_072)).status, 200);
    assert_eq!(
        exchange(rig.public, sized(131_073)).code(),
        "request_header_too_large"
    );
}

#[test]
fn what_is_set_to_nothing_is_not_set() {
    let origin = Origin::hello();
    let process = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[
            ("RUST_LOG", ""),
            ("RUST_LOG_STYLE", ""),
            ("GATEWAY__LISTEN__WORKERS", ""),
            ("GATEWAY__LISTEN__TRUSTED_PROXIES", ""),
            ("GATEWAY__STORE__MAX_STALENESS", ""),
        ],
    );
    assert!(process.log().contains("listening on"), "{}", process.log());
}
