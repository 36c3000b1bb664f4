//! What an attacker tries beyond single requests: at the log, at responses, at uploads, and at many connections.

use std::io::Write;

use super::{Bench, open};
use crate::client::{Connection, exchange, get};
use crate::origin::Origin;
use crate::rig::{Process, Rig};
use crate::running::eventually;

#[test]
fn an_origins_own_address_stays_here_unless_the_route_says_otherwise() {
    let origin = Origin::answering(|request, socket| {
        let host = request.one("host").unwrap_or_default();
        let _ = write!(
            socket,
            "HTTP/1.1 302 Found\r\nlocation: http://{host}/there?a\r\ncontent-location: http://{host}//evil/\r\ncontent-length: 0\r\n\r\n"
        );
    });
    let rig = Rig::with(
        &origin.url(),
        "[[routes]]\n[[routes]]\npath = \"/as-it-is\"\nrewrite_location = false\n",
    );
    let key = rig.key("acme", &[]);
    let rewritten = rig.get("/", &key);
    assert_eq!(
        (
            rewritten.header("location"),
            rewritten.header("content-location")
        ),
        (Some("/there?a"), Some("/.//evil/"))
    );
    let left = rig.get("/as-it-is", &key);
    assert_eq!(
        left.header("location"),
        Some(format!("{}/there?a", origin.url()).as_str())
    );
}

#[test]
fn headers_of_an_origin_that_could_split_a_response_never_pass() {
    for line in [
        "x: a\rset-cookie: b=c",
        "x: a\nset-cookie: b=c",
        "x: \0",
        "x: \u{1b}[31m",
        "x y: z",
        " x: y",
        "x: a\r\n folded",
    ] {
        let origin = Origin::answering_bytes(format!(
            "HTTP/1.1 200 OK\r\n{line}\r\ncontent-length: 2\r\n\r\nok"
        ));
        let rig = Rig::before(&origin);
        let key = rig.key("acme", &[]);
        let response = rig.get("/", &key);
        assert_eq!(
            (response.status, response.code().as_str()),
            (502, "origin_bad_answer"),
            "{line:?}"
        );
        assert_eq!(response.header("set-cookie"), None, "{line:?}");
    }
}

#[test]
fn an_origins_early_answer_reaches_a_client_that_is_still_uploading() {
    let refusal =
        b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let rig = Rig::with(&format!("http://{address}"), "");
    let key = rig.key("acme", &[]).header();
    let origin = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = std::io::Read::read(&mut socket, &mut [0; 4096]);
        socket.write_all(refusal).unwrap();
        socket
    });
    let mut connection = Connection::open(rig.public);
    connection.send(format!(
        "POST /up HTTP/1.1\r\nhost: h\r\n{key}\r\ncontent-length: 50000000\r\n\r\n"
    ));
    let mut upload = connection.socket().try_clone().unwrap();
    // It goes on until nothing is taken any more.
    let uploading =
        std::thread::spawn(move || while upload.write_all(&[b'x'; 16 * 1024]).is_ok() {});
    let response = connection.response();
    assert_eq!((response.status, response.text().as_str()), (413, "big"));
    assert_eq!(
        response.header("connection"),
        Some("close"),
        "the rest of the body would be taken for requests"
    );
    drop((origin.join(), connection));
    drop(uploading.join());
}

#[test]
fn no_request_writes_more_than_its_own_line_into_the_log() {
    let origin = Origin::hello();
    let gateway = Process::before(&origin.url());
    let key = gateway.key("acme");
    let lines = [
        "/a\"},{\"x\":\"",
        "/%0d%0a{}",
        "/a\\u000a",
        "/\u{e9}\u{202e}",
        "/a\u{2028}b",
    ];
    for path in lines {
        let id = "x-request-id: a\"b\u{e9}{}";
        exchange(
            gateway.public,
            format!("GET {path} HTTP/1.1\r\nhost: h\r\n{key}\r\n{id}\r\nuser-agent: \"\\\r\n\r\n"),
        );
    }
    get(gateway.public, "/last", &[&key, "x-request-id: last"]);
    // Every line is parsed as JSON on the way.
    eventually("the last line", || {
        gateway
            .access_log()
            .iter()
            .any(|line| line["request_id"] == "last")
    });
    // What asked whether the key is known was POST.
    let written = gateway
        .access_log()
        .iter()
        .filter(|line| line["method"] == "GET")
        .count();
    assert!(
        written <= lines.len() + 1,
        "{written} lines for {} requests",
        lines.len() + 1
    );
}

#[test]
fn eight_hundred_idle_connections_leave_room_for_new_requests() {
    let bench = Bench::new();
    let idle: Vec<_> = (0..400)
        .map(|_| Connection::open(bench.rig.public))
        .collect();
    let halves = (0..400).map(|_| {
        let mut connection = Connection::open(bench.rig.public);
        connection.send("GET / HTTP/1.1\r\nhost: h\r\nx: ");
        connection
    });
    let halves: Vec<_> = halves.collect();
    for _ in 0..20 {
        assert_eq!(bench.rig.get("/", &bench.key).status, 200);
    }
    drop((idle, halves));
}

#[test]
fn a_second_request_that_only_drips_is_ended_on_time() {
    let bench = Bench::with("[listen]\nhead_timeout = \"2s\"\nbody_idle_timeout = \"2s\"\n");
    for slow in [
        "GET /slow HTTP/1.1\r\nhost:",
        "POST /slow HTTP/1.1\r\nhost: h\r\nKEY\r\ncontent-length: 9\r\n\r\nabc",
    ] {
        let mut connection = open(&bench, "GET / HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n");
        assert_eq!(connection.response().status, 200);
        connection.send(bench.fill_in(slow.as_bytes()));
        let response = connection.response();
        assert_eq!(
            (response.status, response.code().as_str()),
            (408, "request_timeout"),
            "{slow:?}"
        );
        assert!(connection.is_closed(), "{slow:?}");
    }
    assert!(
        !bench
            .origin
            .arrived()
            .iter()
            .any(|request| request.line.contains("/slow")),
        "half a request looked whole"
    );
}
