//! Where a body ends (RFC 9112, sections 6 and 7): one reading, or 400.

use std::net::Shutdown;

use super::{Bench, SMUGGLED, Wanted, check_table, open, statuses};
use Wanted::{Nothing, Passed, Refused, RefusedAs};

/// `POST /` with these lines and this body, after which a request stands that must not be one.
fn post(lines: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nhost: h\r\nKEY\r\n{lines}\r\n{body}")
}

#[test]
fn lengths_and_codings_that_contradict_or_are_none_are_refused() {
    let bench = Bench::new();
    let chunks = format!("0\r\n\r\n{SMUGGLED}");
    for lines in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        "content-length: 0\r\ntransfer-encoding: chunked\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: 3\r\ncontent-length: 3\r\n",
        "content-length: 3, 3\r\n",
        "content-length: 3,4\r\n",
        "content-length: +3\r\n",
        "content-length: -1\r\n",
        "content-length: -0\r\n",
        "content-length: 0x3\r\n",
        "content-length: 3 3\r\n",
        "content-length: 3.0\r\n",
        "content-length: 3;\r\n",
        "content-length: \"3\"\r\n",
        "content-length:\r\n",
        "content-length: \r\n",
        "content-length: \u{b}3\r\n",
        "content-length: 3\0\r\n",
        "content-length: 18446744073709551616\r\n",
        "content-length: 99999999999999999999999999\r\n",
        "content-length : 3\r\n",
        "content-length\t: 3\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked,\r\n",
        "transfer-encoding: ,chunked\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: 'chunked'\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding: chun ked\r\n",
        "transfer-encoding: \u{b}chunked\r\n",
        "transfer-encoding: chunked\u{c}\r\n",
        "transfer-encoding: chunked\0\r\n",
        "transfer-encoding:\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding\t: chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "x: y\r\n transfer-encoding: chunked\r\n",
        "x: y\rtransfer-encoding: chunked\r\n",
        "x: y\ntransfer-encoding: chunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "content-length: 3\r\n 0\r\n",
        "content-length\r\n: 3\r\n",
        "\0transfer-encoding: chunked\r\n",
        "transfer-encoding\0: chunked\r\n",
        "transfer\u{e9}-encoding: chunked\r\n",
    ] {
        bench.check(
            lines,
            post(lines, &chunks).as_bytes(),
            &RefusedAs(&[400, 501]),
        );
    }
    // HTTP/1.0 has no transfer codings: a body after one has no end that everybody sees.
    for lines in [
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\nconnection: keep-alive\r\n",
    ] {
        let bytes = format!("POST /p HTTP/1.0\r\nhost: h\r\nKEY\r\n{lines}\r\n{chunks}");
        bench.check("HTTP/1.0", bytes.as_bytes(), &Refused(400));
    }
    assert_eq!(bench.rig.get("/", &bench.key).status, 200);
}

#[test]
fn bodies_arrive_in_canonical_framing() {
    let bench = Bench::new();
    let line = "POST /p HTTP/1.1";
    let rows: Vec<(&str, String, Wanted)> = vec![
        (
            "a length",
            post("content-length: 3\r\n", "abc"),
            Passed(line, "abc"),
        ),
        (
            "zeros before it",
            post("content-length: 003\r\n", "abc"),
            Passed(line, "abc"),
        ),
        (
            "blanks around it",
            post("content-length:  \t 3 \t\r\n", "abc"),
            Passed(line, "abc"),
        ),
        ("no body", post("", ""), Passed(line, "")),
        ("zero", post("content-length: 0\r\n", ""), Passed(line, "")),
        (
            "chunks",
            post("transfer-encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            Passed(line, "abc"),
        ),
        (
            "capital letters",
            post("TRANSFER-ENCODING: CHUNKED\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            Passed(line, "abc"),
        ),
        (
            "hexadecimal digits",
            post(
                "transfer-encoding: chunked\r\n",
                "00A\r\nabcdefghij\r\n00\r\n\r\n",
            ),
            Passed(line, "abcdefghij"),
        ),
        (
            "an extension",
            post(
                "transfer-encoding: chunked\r\n",
                "3;a=\"b\"\r\nabc\r\n0;x\r\n\r\n",
            ),
            Passed(line, "abc"),
        ),
        (
            "a trailer",
            post(
                "transfer-encoding: chunked\r\ntrailer: x-a\r\n",
                "3\r\nabc\r\n0\r\nx-a: 1\r\n\r\n",
            ),
            Passed(line, "abc"),
        ),
        (
            "an upgrade nobody offers",
            post(
                "connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n",
                "abc",
            ),
            Passed(line, "abc"),
        ),
        (
            "an upgrade to TLS",
            post("upgrade: TLS/1.0\r\ncontent-length: 3\r\n", "abc"),
            Passed(line, "abc"),
        ),
    ];
    for (what, bytes, wanted) in &rows {
        bench.check(what, bytes.as_bytes(), wanted);
    }
}

#[test]
fn chunks_that_are_malformed_never_make_a_whole_request() {
    let bench = Bench::new();
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(8 * 1024));
    let many = format!("{}0\r\n\r\n", "1;0123456789abcdef\r\nx\r\n".repeat(1000));
    let trailers = format!("0\r\n{}\r\n", "x-a: 0123456789\r\n".repeat(2000));
    for chunks in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\rabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        ";x\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "3g\r\nabc\r\n0\r\n\r\n",
        "3\0\r\nabc\r\n0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "4\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabcXY0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nx-a: 1\nx-b: 2\r\n\r\n",
        "3\r\nabc\r\n0\r\ngarbage\r\n\r\n",
        "3\r\nabc\r\n0\r\n : x\r\n\r\n",
        "3\r\nabc\r\n0\r\nx-a: \0\r\n\r\n",
        &long,
        &many,
        &trailers,
    ] {
        let bytes = post(
            "transfer-encoding: chunked\r\n",
            &format!("{chunks}{SMUGGLED}"),
        );
        let shown: String = chunks.chars().take(60).collect();
        bench.check(&shown, bytes.as_bytes(), &RefusedAs(&[400, 413]));
    }
    assert_eq!(bench.rig.get("/", &bench.key).status, 200);
}

#[test]
fn a_client_that_leaves_early_never_looks_complete() {
    let bench = Bench::new();
    for (lines, body) in [
        ("content-length: 10\r\n", "abc"),
        ("content-length: 10\r\n", ""),
        ("content-length: 18446744073709551615\r\n", "abc"),
        ("transfer-encoding: chunked\r\n", ""),
        ("transfer-encoding: chunked\r\n", "3\r\nab"),
        ("transfer-encoding: chunked\r\n", "3\r\nabc\r\n"),
        ("transfer-encoding: chunked\r\n", "3\r\nabc\r\n0\r\n"),
        ("transfer-encoding: chunked\r\n", "ffffffffffffffff\r\nabc"),
        ("transfer-encoding: chunked\r\n", "7fffffffffffffff\r\nabc"),
    ] {
        for reset in [false, true] {
            let mut connection = open(&bench, &post(lines, body));
            if reset {
                drop(connection);
            } else {
                connection.socket().shutdown(Shutdown::Write).unwrap();
                while !connection.some_bytes().is_empty() {}
            }
        }
    }
    assert_eq!(bench.rig.get("/after", &bench.key).status, 200);
    // The recording origin counts a request once its body is whole.
    let lines: Vec<_> = bench
        .origin
        .arrived()
        .into_iter()
        .map(|request| request.line)
        .filter(|line| !line.contains("/known"))
        .collect();
    assert_eq!(lines, ["GET /after HTTP/1.1"]);
}

#[test]
fn a_confused_wish_to_leave_http_is_refused_with_its_body() {
    let bench = Bench::new();
    let upgrade = |method: &str, lines: &str| {
        format!(
            "{method} /w HTTP/1.1\r\nhost: h\r\nKEY\r\n{lines}sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n{SMUGGLED}"
        )
    };
    for (method, lines) in [
        ("GET", "upgrade: websocket\r\n"),
        ("GET", "connection: close\r\nupgrade: websocket\r\n"),
        ("POST", "connection: upgrade\r\nupgrade: websocket\r\n"),
        (
            "POST",
            "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\n",
        ),
        (
            "GET",
            "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\n",
        ),
        (
            "GET",
            "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n",
        ),
        (
            "GET",
            "connection: upgrade\r\nupgrade: websocket\r\ntransfer-encoding: chunked\r\n",
        ),
        ("GET", "connection: upgrade\r\nupgrade: websocket, h2c\r\n"),
        (
            "GET",
            "connection: upgrade\r\nupgrade: h2c\r\nupgrade: websocket\r\n",
        ),
    ] {
        bench.check(lines, upgrade(method, lines).as_bytes(), &Refused(400));
    }
}

#[test]
fn after_a_bad_request_on_a_connection_nothing_is_answered() {
    let bench = Bench::new();
    let good = bench.fill_in(b"GET /good HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n");
    for bad in [
        "GET /bad HTTP/1.1\r\nhost: h\r\nhost: h\r\n\r\n",
        "GET /bad HTTP/1.1\r\n\r\n",
        "GET /bad HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET /bad HTTP/1.1\r\nhost: h\nx: y\r\n\r\n",
        "GET /bad HTTP/3.7\r\nhost: h\r\n\r\n",
        "GET /bad#f HTTP/1.1\r\nhost: h\r\n\r\n",
        "POST /bad HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\n",
        "garbage\r\n\r\n",
    ] {
        let before = bench.origin.arrived().len();
        let answer = bench.send(&[&good, bad.as_bytes(), &good].concat());
        let text = String::from_utf8_lossy(&answer);
        let status = if bad.contains("HTTP/3.7") { 505 } else { 400 };
        assert_eq!(statuses(&answer), [200, status], "{bad:?}: {text:?}");
        assert!(
            text.contains(&format!("\r\n\r\nhelloHTTP/1.1 {status}")),
            "{bad:?}: the first answer is not whole: {text:?}"
        );
        assert_eq!(bench.origin.arrived().len() - before, 1, "{bad:?}");
    }
}

#[test]
fn a_request_with_a_length_beyond_the_limit_is_told_so() {
    let bench = Bench::with("[listen]\nmax_body_bytes = 10\n");
    let rows = [
        (
            "a length",
            post("content-length: 11\r\n", "abcdefghijk"),
            Refused(413),
        ),
        (
            "chunks",
            post(
                "transfer-encoding: chunked\r\n",
                &format!("b\r\nabcdefghijk\r\n0\r\n\r\n{SMUGGLED}"),
            ),
            Refused(413),
        ),
        (
            "announced only",
            post("content-length: 18446744073709551615\r\n", SMUGGLED),
            Refused(413),
        ),
        (
            "half a chunk size",
            post(
                "transfer-encoding: chunked\r\n",
                &format!("ffffffffffffffff\r\n{SMUGGLED}"),
            ),
            Nothing,
        ),
    ];
    let rows: Vec<(&str, &str, Wanted)> = rows
        .iter()
        .map(|(what, bytes, wanted)| (*what, bytes.as_str(), wanted.clone()))
        .collect();
    check_table(&bench, &rows);
}
