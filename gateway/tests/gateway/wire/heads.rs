//! Request lines, hosts and header lines (RFC 9112, sections 2, 3 and 5): well formed, or refused.

use super::{Bench, SMUGGLED, Wanted, check_table};
use Wanted::{Declined, Passed, Refused, RefusedAs};

use crate::client::Connection;
use crate::origin::Origin;
use crate::rig::Process;
use crate::running::eventually;

#[test]
fn request_lines_are_what_the_grammar_says() {
    let bench = Bench::new();
    let rest = format!("host: h\r\nKEY\r\n\r\n{SMUGGLED}");
    for line in [
        "GET /", // HTTP/0.9
        "GET",
        "GET /a HTTP/1.2",
        "GET /a HTTP/2.0",
        "GET /a HTTP/2",
        "GET /a HTTP/0.9",
        "GET /a HTTP/1.10",
        "GET /a HTTP/11",
        "GET /a HTTP/1,1",
        "GET /a http/1.1",
        "GET /a HTTP /1.1",
        "GET /a HTTP/1.1 x",
        "GET /a  HTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET\t/a HTTP/1.1",
        "GET /a\tHTTP/1.1",
        "GET /a b HTTP/1.1",
        " GET /a HTTP/1.1",
        "\tGET /a HTTP/1.1",
        "GET /a HTTP/1.1\r",
        "GET /a\0 HTTP/1.1",
        "GET /a\u{7f} HTTP/1.1",
        "GET /a\u{b} HTTP/1.1",
        "G\0T /a HTTP/1.1",
        "G(T /a HTTP/1.1",
        "GET\u{e9} /a HTTP/1.1",
        "/a GET HTTP/1.1",
        "GET /a#fragment HTTP/1.1",
        "GET /#  HTTP/1.1",
        "GET # HTTP/1.1",
        "GET x:80 HTTP/1.1",
        "GET h HTTP/1.1",
        "GET a/b HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET @evil/ HTTP/1.1",
        "GET http:/h/a HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://other/a HTTP/1.1",
        "GET http://169.254.169.254/ HTTP/1.1",
        "GET http://h@other/a HTTP/1.1",
        "GET http://user@h/a HTTP/1.1",
        "GET http://h:8080/a HTTP/1.1",
        "GET https://h:80/a HTTP/1.1",
        "GET http://h#f HTTP/1.1",
        "GET ftp://h/a HTTP/1.1",
        "GET file:///etc/passwd HTTP/1.1",
        "GET javascript:alert HTTP/1.1",
    ] {
        bench.check(
            line,
            format!("{line}\r\n{rest}").as_bytes(),
            &RefusedAs(&[400, 505]),
        );
    }
    // Line ends that are none, or that are too many.
    for bytes in [
        format!("GET /a HTTP/1.1\n{rest}"),
        format!("GET /a HTTP/1.1\r\r\n{rest}"),
        format!("\nGET /a HTTP/1.1\r\n{rest}"),
        format!("\r\n\r\n\r\n\r\nGET /a HTTP/1.1\r\n{rest}"),
        format!("GET /a HTTP/1.1\r\nhost: h\r\n\n{SMUGGLED}"),
        format!("GET /a HTTP/1.1\r\nhost: h\n\r\n{SMUGGLED}"),
        format!("GET /a HTTP/1.1\r\nhost: h\n\n{SMUGGLED}"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(),
        "<xml>\r\n\r\n".to_owned(),
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(),
    ] {
        bench.check("line ends", bytes.as_bytes(), &RefusedAs(&[400, 505]));
    }
    assert_eq!(bench.rig.get("/", &bench.key).status, 200);
}

#[test]
fn methods_are_those_that_are_proxied() {
    let bench = Bench::new();
    for method in [
        "CONNECT", "TRACE", "TRACK", "DEBUG", "PROPFIND", "get", "Get", "GETT", "PURGE", "GET!",
        "M-SEARCH",
    ] {
        let bytes = format!(
            "{method} /a HTTP/1.1\r\nhost: h\r\nKEY\r\nconnection: close\r\n\r\n{SMUGGLED}"
        );
        bench.check(method, bytes.as_bytes(), &RefusedAs(&[405, 400, 501]));
    }
    for target in ["h:80", "h", "/a", "http://h/"] {
        let bytes = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nKEY\r\n\r\n{SMUGGLED}");
        bench.check(target, bytes.as_bytes(), &RefusedAs(&[400, 405]));
    }
    let plain = |line: &str| {
        format!(
            "{line}\r\nhost: h\r\nKEY\r\nx-http-method-override: DELETE\r\nx-method-override: TRACE\r\n\r\n"
        )
    };
    bench.check(
        "no override",
        plain("POST /a HTTP/1.1").as_bytes(),
        &Passed("POST /a HTTP/1.1", ""),
    );
    bench.check(
        "not allowed",
        plain("TRACE /a HTTP/1.1").as_bytes(),
        &Declined(405),
    );
    let answer = bench.send(plain("TRACE /a HTTP/1.1").as_bytes());
    assert!(
        String::from_utf8_lossy(&answer).contains("allow: GET, "),
        "405 without Allow"
    );
}

#[test]
fn targets_that_pass_arrive_as_they_were() {
    let bench = Bench::new();
    let get = |line: &str| format!("{line}\r\nhost: h\r\nKEY\r\n\r\n");
    for (sent, line) in [
        ("GET / HTTP/1.1", "GET / HTTP/1.1"),
        ("GET /a?b=c&d HTTP/1.1", "GET /a?b=c&d HTTP/1.1"),
        ("GET /a? HTTP/1.1", "GET /a? HTTP/1.1"),
        ("GET /a?http://x/y HTTP/1.1", "GET /a?http://x/y HTTP/1.1"),
        ("GET /a%20b HTTP/1.1", "GET /a%20b HTTP/1.1"),
        ("GET //evil/a HTTP/1.1", "GET //evil/a HTTP/1.1"),
        ("GET /@evil HTTP/1.1", "GET /@evil HTTP/1.1"),
        ("GET /a:80 HTTP/1.1", "GET /a:80 HTTP/1.1"),
        ("GET http://h/a HTTP/1.1", "GET /a HTTP/1.1"),
        ("GET http://h HTTP/1.1", "GET / HTTP/1.1"),
        ("GET http://h?a HTTP/1.1", "GET /?a HTTP/1.1"),
        ("GET http://h:80/a HTTP/1.1", "GET /a HTTP/1.1"),
        ("OPTIONS /a HTTP/1.1", "OPTIONS /a HTTP/1.1"),
        ("GET /a HTTP/1.0", "GET /a HTTP/1.1"),
        ("\r\nGET /a HTTP/1.1", "GET /a HTTP/1.1"),
    ] {
        bench.check(sent, get(sent).as_bytes(), &Passed(line, ""));
    }
}

#[test]
fn there_is_one_host_and_it_is_one() {
    let bench = Bench::new();
    let with = |lines: &str| format!("GET /a HTTP/1.1\r\n{lines}KEY\r\n\r\n{SMUGGLED}");
    for lines in [
        "",
        "host: h\r\nhost: h\r\n",
        "host: h\r\nHost: other\r\n",
        "host: h\r\nx: y\r\nHOST: h\r\n",
        "host:\r\n",
        "host: \r\n",
        "host: a b\r\n",
        "host: a/b\r\n",
        "host: a@b\r\n",
        "host: a b/c@d\r\n",
        "host: a,b\r\n",
        "host: a#b\r\n",
        "host: a?b\r\n",
        "host: a\\b\r\n",
        "host: a%00b\r\n",
        "host: \"a\"\r\n",
        "host: http://h\r\n",
        "host: h:80:80\r\n",
        "host: h:x\r\n",
        "host: h:-1\r\n",
        "host: h:99999\r\n",
        "host: :80\r\n",
        "host: [::1\r\n",
        "host: [evil]\r\n",
        "host: [::1]x\r\n",
        "host: h\u{e9}\r\n",
        "host: h\u{1}\r\n",
        "host : h\r\n",
        " host: h\r\n",
        "host: h\r\n other\r\n",
    ] {
        bench.check(lines, with(lines).as_bytes(), &Refused(400));
    }
    bench.check(
        "1.0 twice",
        b"GET /a HTTP/1.0\r\nhost: h\r\nhost: h\r\nKEY\r\n\r\n",
        &Refused(400),
    );
    bench.check(
        "1.0 none",
        b"GET /a HTTP/1.0\r\nKEY\r\n\r\n",
        &Passed("GET /a HTTP/1.1", ""),
    );
    // The default port (RFC 3986, section 3.2.3).
    bench.check(
        "an empty port",
        b"GET /a HTTP/1.1\r\nhost: h:\r\nKEY\r\n\r\n",
        &Passed("GET /a HTTP/1.1", ""),
    );
}

#[test]
fn header_lines_are_what_the_grammar_says() {
    let bench = Bench::new();
    let with = |lines: &[u8]| {
        [
            b"GET /a HTTP/1.1\r\nhost: h\r\nKEY\r\n",
            lines,
            b"\r\n",
            SMUGGLED.as_bytes(),
        ]
        .concat()
    };
    for lines in [
        &b"x y: z\r\n"[..],
        b"x : y\r\n",
        b"x\t: y\r\n",
        b" x: y\r\n",
        b"x: y\r\n z\r\n",
        b"x: y\r\n\tz\r\n",
        b": y\r\n",
        b"xy\r\n",
        b"x\0: y\r\n",
        b"x: \0\r\n",
        b"x: a\rb\r\n",
        b"x: a\r\r\n",
        b"x: a\nb: c\r\n",
        b"x: a\n",
        b"x: \x01\r\n",
        b"x: \x1b[31m\r\n",
        b"x: \x7f\r\n",
        b"\xe9: y\r\n",
        b"x(y): z\r\n",
        b"x/y: z\r\n",
        b"x\"y: z\r\n",
        b"x@y: z\r\n",
        b"{x}: z\r\n",
    ] {
        bench.check("a header line", &with(lines), &Refused(400));
    }
    for expectation in [
        "200-ok",
        "100-continue, 200-ok",
        "100-continue; x",
        "100-continued",
        "x=100-continue",
    ] {
        let lines = format!("expect: {expectation}\r\n");
        bench.check(&lines, &with(lines.as_bytes()), &Refused(417));
    }
    let high =
        b"GET /a HTTP/1.1\r\nhost: h\r\nKEY\r\nx-high: \xe9\xff\r\nx-empty:\r\nx-tab: a\tb\r\n\r\n";
    bench.check("high bytes", high, &Passed("GET /a HTTP/1.1", ""));
}

#[test]
fn heads_have_limits() {
    let bench = Bench::new();
    let many = format!(
        "GET /a HTTP/1.1\r\nhost: h\r\nKEY\r\n{}\r\n",
        "x: y\r\n".repeat(200)
    );
    let large = format!(
        "GET /a HTTP/1.1\r\nhost: h\r\nKEY\r\nx: {}\r\n\r\n",
        "y".repeat(64 * 1024)
    );
    let huge = format!(
        "GET /{} HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n",
        "a".repeat(70_000)
    );
    let endless = "x".repeat(100_000);
    let name = format!(
        "GET /a HTTP/1.1\r\nhost: h\r\nKEY\r\n{}: y\r\n\r\n",
        "x".repeat(20_000)
    );
    check_table(
        &bench,
        &[
            ("many fields", &many, Refused(431)),
            ("a large field", &large, Refused(431)),
            ("a huge target", &huge, RefusedAs(&[414, 431, 400])),
            ("no end of a line", &endless, Refused(431)),
            ("a large name", &name, Refused(431)),
        ],
    );
}

#[test]
fn what_never_becomes_a_request_is_refused_and_recorded_like_any_other() {
    let origin = Origin::hello();
    let process = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[("GATEWAY__LISTEN__HEAD_TIMEOUT", "2s")],
    );
    let good = format!(
        "GET / HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
        process.key("acme")
    );
    let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    for (bytes, status, code) in [
        ("GET / HTTP/1.1\r\nhost:", 408, "request_timeout"),
        ("", 408, "request_timeout"),
        ("GET / HTTP/1.1\nhost: h\r\n\r\n", 400, "bad_request"),
        ("GET /#a HTTP/1.1\r\nhost: h\r\n\r\n", 400, "bad_request"),
        ("\r\n\r\n\r\n", 400, "bad_request"),
        (&large, 431, "request_header_too_large"),
    ] {
        for after in [false, true] {
            if after && bytes.is_empty() {
                continue;
            }
            let what = format!(
                "{:?}, after another: {after}",
                bytes.get(..30).unwrap_or(bytes)
            );
            let mut connection = Connection::open(process.public);
            if after {
                connection.send(&good);
                assert_eq!(connection.response().status, 200, "{what}");
            }
            connection.send(bytes);
            let response = connection.response();
            assert_eq!(
                (response.status, response.code().as_str()),
                (status, code),
                "{what}"
            );
            assert_eq!(
                (
                    response.header("cache-control"),
                    response.header("connection")
                ),
                (Some("no-store"), Some("close")),
                "{what}"
            );
            let problem = response.json();
            assert_eq!(
                problem["type"],
                format!("urn:postern:problem:{code}"),
                "{what}"
            );
            let id = response.header("x-request-id").unwrap().to_owned();
            assert_eq!(
                (&problem["request_id"], problem.get("instance")),
                (&id.as_str().into(), None),
                "{what}"
            );
            assert!(connection.is_closed(), "{what}");
            eventually("its line", || {
                process
                    .access_log()
                    .iter()
                    .any(|line| line["request_id"] == id.as_str())
            });
            let lines: Vec<_> = process
                .access_log()
                .into_iter()
                .filter(|line| line["request_id"] == id.as_str())
                .collect();
            assert_eq!(lines.len(), 1, "{what}");
            assert_eq!(
                (&lines[0]["status"], &lines[0]["code"]),
                (&status.into(), &code.into()),
                "{what}"
            );
            assert_eq!(
                (&lines[0]["method"], &lines[0]["path"], &lines[0]["client"]),
                (&"".into(), &"".into(), &"127.0.0.1".into()),
                "{what}"
            );
        }
    }
}
