//! Who may say what, and which policy holds: spoofed headers and odd spellings of paths, hosts and methods.

use std::net::TcpListener;

use postern_shared::headers::PRIVILEGED;

use super::{Bench, SMUGGLED, Wanted, statuses};
use crate::rig::SECRET;
use Wanted::{Passed, Refused, RefusedAs};

#[test]
fn privileged_names_are_the_gateways_alone_wherever_a_client_puts_them() {
    let bench = Bench::new();
    for name in PRIVILEGED {
        let line = format!("{name}: forged");
        for (lines, body, passes) in [
            (
                format!("connection: {name}\r\n{line}\r\n"),
                String::new(),
                true,
            ),
            (
                format!(
                    "connection: close, {name}, {}\r\n{line}\r\n{line}\r\n",
                    name.to_uppercase()
                ),
                String::new(),
                true,
            ),
            (
                format!("transfer-encoding: chunked\r\ntrailer: {name}\r\n"),
                format!("1\r\na\r\n0\r\n{line}\r\n\r\n"),
                true,
            ),
            (format!("{name} : forged\r\n"), String::new(), false),
            (format!("x: y\r\n {line}\r\n"), String::new(), false),
            (format!("x: y\n{line}\r\n"), String::new(), false),
            (format!("x: y\r{line}\r\n"), String::new(), false),
            (format!("{name}\0: forged\r\n"), String::new(), false),
        ] {
            let before = bench.origin.arrived().len();
            let answer = bench.send(
                format!("POST /a HTTP/1.1\r\nhost: h\r\nKEY\r\n{lines}\r\n{body}").as_bytes(),
            );
            let arrived = bench.origin.arrived().split_off(before);
            assert_eq!(
                statuses(&answer),
                [if passes { 200 } else { 400 }],
                "{lines:?}"
            );
            assert_eq!(arrived.len(), usize::from(passes), "{lines:?}");
            for request in arrived {
                let forged = request
                    .headers
                    .iter()
                    .any(|(_, value)| value.contains("forged"));
                assert!(
                    !forged && request.all("x-shared-secret") == [SECRET],
                    "{lines:?}: {request:?}"
                );
                assert_eq!(
                    request.all("x-credential-identifier"),
                    [bench.key.id.as_str()],
                    "{lines:?}"
                );
            }
        }
    }
}

#[test]
fn no_spelling_of_a_path_walks_around_its_policy() {
    let bench = Bench::with(
        "[[routes]]\npath = \"/public\"\non_missing_key = \"anonymous\"\n\
         [[routes]]\npath = \"/admin\"\nscopes = [\"admin\"]\n\
         [[routes]]\npath = \"/read\"\nmethods = [\"GET\"]\n\
         [[routes]]\npath = \"/known\"\n",
    );
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\nKEY\r\nconnection: close\r\n\r\n");
    for path in [
        "/admin",
        "/admin/",
        "/admin/x",
        "/admin;x=1",
        "/;/admin",
        "/publi%63/x",
        "/public/%252e%252e/admin",
        "/admin?x",
        "/%61dmin",
        "/%61%64%6d%69%6e/x",
        "/admin%2fx",
        "/admin%00",
        "/admin%5cx",
        "/ADMIN",
        "//admin",
        "/./admin",
        "/%2e/admin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/%2E./admin",
        "/public/.%2e/admin",
        "/public/..;/admin",
        "/public/..;x=1/admin",
        "/public;/../admin",
        "/public/..%2fadmin",
        "/public/..%5cadmin",
        "/public\\..\\admin",
        "/public/%252e%252e/../admin",
        "/public//../admin",
        "/public/x/../../admin",
        "/public/%",
        "/public/%zz",
        "/public/\u{e9}",
        "http://h/admin",
        "http://h/public/../admin",
    ] {
        bench.check(path, get(path).as_bytes(), &RefusedAs(&[400, 403, 404]));
    }
    for (path, line) in [
        ("/public/x", "GET /public/x HTTP/1.1"),
        ("/public/a%20b", "GET /public/a%20b HTTP/1.1"),
        ("/public/%63/x;a=b", "GET /public/%63/x;a=b HTTP/1.1"),
        ("/public/%2561", "GET /public/%2561 HTTP/1.1"),
        ("/public/a//b", "GET /public/a//b HTTP/1.1"),
        ("/public/...", "GET /public/... HTTP/1.1"),
        ("/public?../admin", "GET /public?../admin HTTP/1.1"),
    ] {
        bench.check(path, get(path).as_bytes(), &Passed(line, ""));
    }
    let with = |method: &str| {
        format!(
            "{method} /read HTTP/1.1\r\nhost: h\r\nKEY\r\nconnection: close\r\nx-http-method-override: GET\r\n\r\n"
        )
    };
    for method in ["POST", "DELETE", "get", "TRACE", "CONNECT"] {
        bench.check(method, with(method).as_bytes(), &RefusedAs(&[400, 405]));
    }
}

#[test]
fn a_host_decides_only_by_its_own_name() {
    let bench =
        Bench::with("[[routes]]\nhosts = [\"api.example.com\"]\n[[routes]]\npath = \"/known\"\n");
    let get = |host: &str| {
        format!("GET /a HTTP/1.1\r\nhost: {host}\r\nKEY\r\nconnection: close\r\n\r\n{SMUGGLED}")
    };
    for host in ["api.example.com", "API.example.com", "api.example.com:8080"] {
        bench.check(host, get(host).as_bytes(), &Passed("GET /a HTTP/1.1", ""));
    }
    for host in [
        "example.com",
        "api.example.com.evil",
        "xapi.example.com",
        "evil",
        "127.0.0.1",
        "[::1]",
    ] {
        bench.check(host, get(host).as_bytes(), &Refused(404));
    }
    for host in [
        "api.example.com@evil",
        "api.example.com/..",
        "evil, api.example.com",
        "api.example.com\0",
    ] {
        bench.check(host, get(host).as_bytes(), &Refused(400));
    }
}

#[test]
fn no_request_decides_where_the_gateway_connects_to() {
    let bench = Bench::new();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = elsewhere.local_addr().unwrap();
    for bytes in [
        format!("GET http://{address}/ HTTP/1.1\r\nhost: {address}\r\nKEY\r\n\r\n"),
        format!("GET http://{address}/ HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: {address}\r\nKEY\r\nx-forwarded-host: {address}\r\n\r\n"),
        format!("GET @{address}/ HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n"),
        format!("GET //{address}/ HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n"),
        format!("GET /@{address}/ HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n"),
        format!("CONNECT {address} HTTP/1.1\r\nhost: {address}\r\nKEY\r\n\r\n"),
        format!("GET {address} HTTP/1.1\r\nhost: {address}\r\nKEY\r\n\r\n"),
    ] {
        let answer = statuses(&bench.send(bytes.as_bytes()));
        assert!(
            matches!(&*answer, [200 | 400 | 405]),
            "{bytes:?}: {answer:?}"
        );
    }
    elsewhere.set_nonblocking(true).unwrap();
    assert!(
        elsewhere.accept().is_err(),
        "the gateway connected to where a client said"
    );
}
