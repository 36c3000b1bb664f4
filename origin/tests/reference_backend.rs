//! The reference backend from outside: the real binary, real sockets, signals and exit codes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on stops"
)]

#[path = "harness/origin_process.rs"]
mod origin_process;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::time::Instant;

use origin_process::{Answer, DEADLINE, OriginProcess, command, head, read_answer};
use serde_json::json;
use sha2::{Digest, Sha256};

const GOOD: &str = "current-9f2c51d07be84a63";
const PROOF: (&[u8], &[u8]) = (b"x-shared-secret", GOOD.as_bytes());
const MIB: u64 = 1024 * 1024;
/// More than the buffers between socket and handler need, and far less than any body of these
/// tests.
const SLACK_BYTES: u64 = 16 * MIB;

fn origin() -> OriginProcess {
    OriginProcess::start([("SHARED_SECRET", GOOD)])
}

fn get(origin: &OriginProcess, path: &str) -> Answer {
    origin.get(path, &[PROOF])
}

#[test]
fn every_route_needs_the_secret_but_the_health_check() {
    let origin = origin();
    for path in [
        "/protected",
        "/whoami",
        "/echo",
        "/echo/x",
        "/events",
        "/status/200",
        "/slow",
        "/bytes/1",
        "/ws",
        "/none",
        "/",
    ] {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let answer = origin.send(method, path, &[], b"");
            assert_eq!(
                (answer.status, answer.header("x-origin-guard")),
                (401, Some("missing")),
                "{method} {path}"
            );
        }
    }
    assert_eq!(origin.get("/healthz", &[]).status, 200);
}

#[test]
fn a_refusal_waits_for_no_body() {
    let answer = origin().send("PUT", "/echo", &[(b"content-length", b"1073741824")], b"");
    assert_eq!(
        (answer.status, answer.header("x-origin-guard")),
        (401, Some("missing"))
    );
}

#[test]
fn access_is_granted_with_the_secret() {
    let answer = get(&origin(), "/protected");
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, br#"{"message":"Access granted"}"#.as_slice())
    );
}

#[test]
fn whoami_shows_the_caller_that_the_gateway_forwarded() {
    let origin = origin();
    let lines: [(&[u8], &[u8]); 8] = [
        PROOF,
        (b"x-consumer-id", b"csmr_1"),
        (b"X-Consumer-Username", b"ada"),
        (b"x-consumer-custom-id", b"4711"),
        (b"x-consumer-groups", b"read,write"),
        (b"x-consumer-metadata", b"eyJwbGFuIjoicHJvIn0"),
        (b"x-credential-identifier", b"key_1"),
        (b"x-request-id", b"req-1"),
    ];
    let consumer = json!({
        "id": "csmr_1", "username": "ada", "custom_id": "4711", "scopes": ["read", "write"],
        "metadata": {"plan": "pro"}, "credential_id": "key_1",
    });
    let wanted = json!({"anonymous": false, "consumer": consumer, "request_id": "req-1"});
    assert_eq!(origin.get("/whoami", &lines).json(), wanted);

    let nobody = json!({"anonymous": true, "consumer": null, "request_id": null});
    assert_eq!(get(&origin, "/whoami").json(), nobody);
    assert_eq!(
        origin
            .get("/whoami", &[PROOF, (b"x-anonymous-consumer", b"true")])
            .json(),
        nobody
    );

    let doubled = origin.get(
        "/whoami",
        &[&lines[..], &[(b"x-consumer-id", b"csmr_2")]].concat(),
    );
    assert_eq!(
        (doubled.status, doubled.json()["code"].as_str()),
        (500, Some("caller_malformed"))
    );
}

#[test]
fn echo_shows_what_arrived_byte_for_byte() {
    let lines: [(&[u8], &[u8]); 4] = [
        PROOF,
        (b"Accept", b"text/a"),
        (b"accept", b"text/b"),
        (b"content-length", b"5"),
    ];
    let answer = origin()
        .send("PATCH", "/echo/a%2Fb//c?x=%20&y", &lines, b"hello")
        .json();
    assert_eq!(answer["method"], "PATCH");
    assert_eq!(answer["path"], "/echo/a%2Fb//c");
    assert_eq!(answer["query"], "x=%20&y");
    assert_eq!(answer["headers"]["accept"], json!(["text/a", "text/b"]));
    assert_eq!(answer["headers"]["host"], json!(["origin.test"]));
    assert_eq!(answer["headers"]["x-shared-secret"], json!(null));
    assert_eq!(answer["body_length"], 5);
    assert_eq!(
        answer["body_sha256"],
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
}

#[test]
fn a_big_upload_is_digested_without_being_kept() {
    const BLOCKS: usize = 64;
    let origin = origin();
    let before = origin.peak_memory_bytes();
    let block: Vec<u8> = (0..MIB).map(|position| (position % 253) as u8).collect();
    let mut digest = Sha256::new();
    let mut stream = origin.connect();
    stream
        .write_all(&head(
            "PUT",
            "/echo",
            &[PROOF, (b"transfer-encoding", b"chunked")],
            "close",
        ))
        .unwrap();
    for _ in 0..BLOCKS {
        digest.update(&block);
        stream
            .write_all(format!("{:x}\r\n", block.len()).as_bytes())
            .unwrap();
        stream.write_all(&block).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let answer = read_answer(&mut stream).json();
    assert_eq!(answer["body_length"], BLOCKS as u64 * MIB);
    assert_eq!(answer["body_sha256"], format!("{:x}", digest.finalize()));
    let grown = origin.peak_memory_bytes() - before;
    assert!(
        grown < SLACK_BYTES,
        "{grown} bytes more for a body of {BLOCKS} MiB"
    );
}

#[test]
fn an_upload_that_breaks_off_is_not_taken_for_a_whole_one() {
    let origin = origin();
    let mut stream = origin.connect();
    stream
        .write_all(&head(
            "PUT",
            "/echo",
            &[PROOF, (b"transfer-encoding", b"chunked")],
            "close",
        ))
        .unwrap();
    stream.write_all(b"5\r\nhello\r\nno size\r\n").unwrap();
    assert_eq!(read_answer(&mut stream).status, 400);
}

#[test]
fn a_big_download_has_its_length_and_its_pattern_and_is_never_held() {
    const LENGTH: u64 = 64 * MIB + 7;
    let origin = origin();
    let before = origin.peak_memory_bytes();
    let answer = get(&origin, &format!("/bytes/{LENGTH}"));
    assert_eq!(
        answer.header("content-length"),
        Some(LENGTH.to_string().as_str())
    );
    assert_eq!(answer.body.len() as u64, LENGTH);
    assert_eq!(
        answer
            .body
            .iter()
            .enumerate()
            .find(|(position, byte)| **byte as usize != position % 251),
        None
    );
    let grown = origin.peak_memory_bytes() - before;
    assert!(
        grown < SLACK_BYTES,
        "{grown} bytes more for an answer of {LENGTH}"
    );
}

#[test]
fn downloads_of_every_size_are_announced() {
    let origin = origin();
    assert_eq!(get(&origin, "/bytes/0").body, b"");
    assert_eq!(get(&origin, "/bytes/3").body, [0, 1, 2]);
    let huge = origin.send("HEAD", "/bytes/1099511627776", &[PROOF], b"");
    assert_eq!(
        (huge.status, huge.header("content-length"), huge.body.len()),
        (200, Some("1099511627776"), 0)
    );
    assert_eq!(get(&origin, "/bytes/-1").status, 404);
}

#[test]
fn a_status_is_answered_as_it_was_asked_for() {
    let origin = origin();
    for code in [200, 204, 304, 401, 429, 500, 503, 599] {
        let answer = get(&origin, &format!("/status/{code}"));
        assert_eq!(
            (answer.status, answer.header("x-origin-guard")),
            (code, None)
        );
        assert_eq!(answer.body.is_empty(), matches!(code, 204 | 304), "{code}");
    }
    for code in ["100", "101", "199", "600", "1000"] {
        assert_eq!(
            get(&origin, &format!("/status/{code}")).status,
            400,
            "{code}"
        );
    }
    assert_eq!(get(&origin, "/none").json()["code"], "not_found");
    assert_eq!(
        origin.send("DELETE", "/protected", &[PROOF], b"").status,
        405
    );
}

#[test]
fn a_slow_answer_takes_as_long_as_it_was_asked_to() {
    let origin = origin();
    let started = Instant::now();
    assert_eq!(
        get(&origin, "/slow?ms=150").json(),
        json!({"slept_ms": 150})
    );
    assert!(started.elapsed().as_millis() >= 150);
    assert_eq!(get(&origin, "/slow?ms=600001").status, 400);
}

#[test]
fn the_first_event_comes_at_once_and_a_stop_ends_the_stream() {
    let mut origin = origin();
    let started = Instant::now();
    let mut stream = origin.connect();
    stream
        .write_all(&head("GET", "/events", &[PROOF], "keep-alive"))
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "content-type: text/event-stream"));
    assert!(lines.any(|line| line == r#"data: {"number":1}"#));
    assert!(
        started.elapsed().as_millis() < 1000,
        "the first event waited for the first second"
    );
    assert!(lines.any(|line| line == r#"data: {"number":2}"#));

    let stopped = Instant::now();
    origin.terminate();
    assert!(
        lines.any(|line| line == "0"),
        "the stream was cut instead of ended"
    );
    origin.wait_for_log("stopping");
    let (status, _) = origin.ended();
    assert_eq!(status.code(), Some(0));
    assert!(
        stopped.elapsed() < DEADLINE / 4,
        "an endless answer held the stop up"
    );
}

#[test]
fn a_stop_lets_an_answer_finish() {
    // More than all buffers hold, so that most of it is unsent when the stop comes.
    const LENGTH: usize = 64 * 1024 * 1024;
    let mut origin = origin();
    let mut stream = origin.connect();
    stream
        .write_all(&head(
            "GET",
            &format!("/bytes/{LENGTH}"),
            &[PROOF],
            "keep-alive",
        ))
        .unwrap();
    let mut started = vec![0; 1024];
    stream.read_exact(&mut started).unwrap();
    origin.terminate();
    origin.wait_for_log("stopping");
    let answer = read_answer(&mut started.as_slice().chain(stream));
    assert_eq!((answer.status, answer.body.len()), (200, LENGTH));
    assert_eq!(origin.ended().0.code(), Some(0));
}

#[test]
fn no_signal_but_those_that_stop_ends_it() {
    let mut origin = origin();
    for (signal, told) in [
        ("HUP", "SIGHUP is ignored"),
        ("USR1", "SIGUSR1: the log goes to"),
        ("USR2", "SIGUSR2 is ignored"),
        ("ALRM", "SIGALRM is ignored"),
        ("PWR", "SIGPWR is ignored"),
        ("PIPE", ""),
        ("WINCH", ""),
    ] {
        origin.signal(signal);
        origin.wait_for_log(told);
        assert_eq!(get(&origin, "/protected").status, 200, "{signal}");
    }
    origin.signal("QUIT");
    let (status, log) = origin.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopping"), "{log}");
}

#[test]
fn a_websocket_sends_frames_back_and_closes_on_a_stop() {
    let upgrade: [(&[u8], &[u8]); 4] = [
        PROOF,
        (b"upgrade", b"websocket"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let origin = origin();
    let mut stream = origin.connect();
    stream
        .write_all(&head("GET", "/ws", &upgrade[1..], "upgrade"))
        .unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 401", "an upgrade without the secret");

    let stream = origin.connect();
    (&stream)
        .write_all(&head("GET", "/ws", &upgrade, "upgrade"))
        .unwrap();
    let mut reader = BufReader::new(&stream);
    let answer: Vec<String> = reader
        .by_ref()
        .lines()
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty())
        .collect();
    assert!(answer[0].starts_with("HTTP/1.1 101"), "{answer:?}");
    // RFC 6455, section 1.3 pairs this response with this key.
    assert!(
        answer.contains(&"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()),
        "{answer:?}"
    );
    // "Hello", masked as in RFC 6455, section 5.7, and echoed unmasked.
    (&stream)
        .write_all(&[
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ])
        .unwrap();
    let mut frame = [0; 7];
    reader.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x81\x05Hello");

    origin.terminate();
    let mut close = [0; 4];
    reader.read_exact(&mut close).unwrap();
    assert_eq!(close, [0x88, 2, 3, 0xe9], "closed with 1001");
    drop(stream);
    assert_eq!(origin.ended().0.code(), Some(0));
}

#[test]
fn no_log_at_any_level_holds_the_secret() {
    const WRONG: &str = "wrong-5e1d7be84a639f2c";
    let origin = OriginProcess::start([("SHARED_SECRET", GOOD), ("RUST_LOG", "trace")]);
    assert_eq!(
        origin
            .get(&format!("/protected?key={GOOD}"), &[PROOF])
            .status,
        200
    );
    assert_eq!(
        origin.get(&format!("/protected?key={GOOD}"), &[]).status,
        401
    );
    assert_eq!(
        origin
            .get(
                "/whoami",
                &[
                    PROOF,
                    (b"x_shared_secret", GOOD.as_bytes()),
                    (b"x-consumer-id", b"")
                ]
            )
            .status,
        500
    );
    assert_eq!(
        origin
            .get("/protected", &[(b"x-shared-secret", WRONG.as_bytes())])
            .status,
        401
    );
    assert_eq!(origin.get("/protected", &[PROOF, PROOF]).status, 401);
    origin.terminate();
    let (_, log) = origin.ended();
    assert!(log.contains("TRACE"), "nothing was traced");
    assert!(log.contains("shared secret invalid"), "{log}");
    assert!(
        log.contains("origin::access] 127.0.0.1 GET /protected 200 28 bytes "),
        "{log}"
    );
    for secret in [GOOD, WRONG] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_start_without_a_secret_is_loud_and_serves_only_health() {
    let mut origin = OriginProcess::start([]);
    origin.wait_for_log("no shared secret is configured");
    assert_eq!(get(&origin, "/protected").status, 500);
    assert_eq!(origin.get("/healthz", &[]).status, 200);
}

/// Exit code, stdout and stderr of a command that ends by itself.
fn outcome(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = command()
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), stdout, stderr)
}

#[test]
fn bad_usage_and_bad_configuration_exit_with_2_and_say_what_is_wrong() {
    for (arguments, environment, wanted) in [
        (&["--port"][..], &[][..], "unknown arguments [\"--port\"]"),
        (
            &["healthcheck", "now"],
            &[],
            "unknown arguments [\"healthcheck\", \"now\"]",
        ),
        (
            &[],
            &[("ORIGIN_LISTEN", "9000")],
            "ORIGIN_LISTEN is \"9000\": an IP address with a port is needed",
        ),
        (
            &["healthcheck"],
            &[("ORIGIN_LISTEN", "localhost")],
            "ORIGIN_LISTEN is \"localhost\"",
        ),
        (
            &["healthcheck"],
            &[("ORIGIN_LISTEN", "127.0.0.1:0")],
            "the health check needs an ORIGIN_LISTEN with the port",
        ),
        (
            &[],
            &[("SHARED_SECRET", "k8Zp3vQ9")],
            "SHARED_SECRET: the secret has 8 bytes, and at least 16 are needed",
        ),
    ] {
        // A failed start is reported even with the log off.
        let environment = [&[("RUST_LOG", "off")], environment].concat();
        let (code, stdout, stderr) = outcome(arguments, &environment);
        assert_eq!(
            (code, stdout.as_str()),
            (Some(2), ""),
            "{arguments:?} {environment:?}: {stderr}"
        );
        assert!(stderr.starts_with(&format!("origin: {wanted}")), "{stderr}");
    }
}

#[test]
fn a_taken_address_is_named_and_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) = outcome(&[], &[("SHARED_SECRET", GOOD), ("ORIGIN_LISTEN", &address)]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains(&format!(
            "cannot listen on {address}: Address already in use"
        )),
        "{stderr}"
    );
}

#[test]
fn the_health_check_tells_a_running_origin_from_none() {
    let origin = origin();
    let address = origin.address.to_string();
    for listen in [
        address.clone(),
        format!("0.0.0.0:{}", origin.address.port()),
    ] {
        let (code, _, stderr) = outcome(&["healthcheck"], &[("ORIGIN_LISTEN", &listen)]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{listen}");
    }
    drop(origin);
    let (code, _, stderr) = outcome(&["healthcheck"], &[("ORIGIN_LISTEN", &address)]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.starts_with(&format!("origin: no health on {address}: ")),
        "{stderr}"
    );
}

#[test]
fn help_and_version_are_printed() {
    for flag in ["-h", "--help"] {
        let (code, stdout, stderr) = outcome(&[flag], &[]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        for name in [
            "SHARED_SECRET",
            "SHARED_SECRET_PREVIOUS",
            "SHARED_SECRET_FILE",
            "ORIGIN_LISTEN",
            "healthcheck",
        ] {
            assert!(stdout.contains(name), "{name}");
        }
    }
    let version = format!("origin {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        outcome(&["--version"], &[]),
        (Some(0), version, String::new())
    );
}
