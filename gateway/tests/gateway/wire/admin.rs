//! The admin listener on the wire, plain and over TLS: what holds of the public listener holds of it.

use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::json;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use super::{converse, statuses};
use crate::certificates::{Authority, Relay};
use crate::client::{Connection, get};
use crate::origin::Origin;
use crate::rig::{Process, database};
use crate::running::eventually;

const TOKEN: &str = "admin-9f2c51d07be84a63";
const TLS: &str = "[[admin.tls]]\ncert_file = \"own.crt\"\nkey_file = \"own.key\"\n";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Runs `check` on an admin listener without TLS, and on one with it.
fn on_each_listener(check: impl Fn(SocketAddr)) {
    let (origin, authority) = (Origin::hello(), Authority::new());
    for file in ["", TLS] {
        let directory = tempfile::tempdir().unwrap();
        authority
            .issue(&["localhost"])
            .write(directory.path(), "own");
        std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
        let variables = [("ADMIN_TOKEN", TOKEN)];
        let process = Process::start_unready(directory, &origin.url(), &variables);
        let relay = Relay::tls_client(authority.client(), "localhost", process.admin);
        let address = match file {
            "" => process.admin,
            _ => relay.address,
        };
        eventually("the keys are loaded", || {
            get(address, "/readyz", &[]).status == 200
        });
        check(address);
        assert_eq!(get(address, "/healthz", &[]).status, 200, "it is hurt");
    }
}

/// A head with the token and these lines.
fn head(line: &str, lines: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n{lines}\r\n")
}

/// A request that makes a consumer.
fn creation(name: &str, lines: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let length = body.len();
    let lines = format!("content-type: application/json\r\ncontent-length: {length}\r\n{lines}");
    head("POST /v1/consumers", &lines) + &body
}

/// How many consumers there are.
fn consumers(address: SocketAddr) -> usize {
    let authorization = format!("authorization: Bearer {TOKEN}");
    let list = get(address, "/v1/consumers", &[&authorization]).json();
    list["data"].as_array().unwrap().len()
}

/// W3 of the issue: the rest of a body that an answer did not wait for hides no request.
#[test]
fn nothing_after_an_answer_of_the_admin_listener_that_closes_is_answered() {
    const CHUNKED: &str = "transfer-encoding: chunked\r\n";
    let stranger = format!("POST /v1/consumers HTTP/1.1\r\nhost: localhost\r\n{CHUNKED}\r\n");
    let elsewhere = format!("POST /v1/consumers HTTP/1.1\r\nhost: evil.test\r\n{CHUNKED}\r\n");
    on_each_listener(|address| {
        for (head, status) in [
            (&stranger, 401),
            (&elsewhere, 421),
            (&head("POST /v1/nothing", CHUNKED), 404),
            (&head("PUT /v1/consumers", CHUNKED), 405),
            (&head("GET /v1/consumers", CHUNKED), 200),
        ] {
            for rest in [&*format!("0\r\n\r\n{HEALTH}"), "no chunk\r\n", HEALTH] {
                let mut connection = Connection::open(address);
                connection.send(format!("{head}3\r\nabc\r\n"));
                let answer = connection.response();
                assert_eq!(
                    (answer.status, answer.header("connection")),
                    (status, Some("close")),
                    "{head}"
                );
                connection.try_send(rest);
                assert!(connection.is_closed(), "{head}{rest}");
            }
        }
    });
}

#[test]
fn a_malformed_request_to_the_admin_listener_is_refused_and_nothing_after_it_is_read() {
    let many = head("GET /v1/keys", &"x: y\r\n".repeat(200));
    let large = head("GET /v1/keys", &format!("x: {}\r\n", "y".repeat(40_000)));
    let long = head(&format!("GET /{}", "y".repeat(40_000)), "");
    let twice = |lines| head("POST /v1/consumers", lines);
    on_each_listener(|address| {
        for (request, status) in [
            (&twice("content-length: 3\r\ncontent-length: 4\r\n"), 400),
            (
                &twice("content-length: 3\r\ntransfer-encoding: chunked\r\n"),
                400,
            ),
            (&twice("content-length: +3\r\n"), 400),
            (&twice("transfer-encoding: gzip, chunked\r\n"), 400),
            (&twice("transfer-encoding : chunked\r\n"), 400),
            (&twice("host: localhost\r\n"), 400),
            (&twice("x: a\r\n folded\r\n"), 400),
            (
                &"GET /healthz HTTP/1.1\nhost: localhost\r\n\r\n".to_owned(),
                400,
            ),
            (&"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
            (&many, 431),
            (&large, 431),
            (&long, 414),
        ] {
            let came = converse(address, format!("{request}{HEALTH}").as_bytes(), false);
            assert_eq!(statuses(&came), [status], "{request:.200}");
        }
        assert_eq!(consumers(address), 0);
    });
}

#[test]
fn every_head_of_the_admin_listener_has_a_deadline() {
    on_each_listener(|address| {
        let mut waiting: Vec<Connection> = ["", HEALTH]
            .map(|before| {
                let mut connection = Connection::open(address);
                connection.send(before);
                if !before.is_empty() {
                    assert_eq!(connection.response().status, 200);
                }
                connection.send("GET /healthz HT");
                connection
            })
            .into();
        for connection in &mut waiting {
            assert_eq!(connection.response().code(), "request_timeout");
            assert!(connection.is_closed());
        }
    });
}

#[test]
fn pipelined_requests_to_the_admin_listener_are_answered_in_order() {
    on_each_listener(|address| {
        let requests = [
            HEALTH.to_owned(),
            HEALTH.replace("GET", "HEAD"),
            creation("acme", ""),
            head("GET /v1/nothing", ""),
            creation("acme", ""),
            head("GET /v1/consumers", "connection: close\r\n"),
            HEALTH.to_owned(),
        ];
        let came = converse(address, requests.concat().as_bytes(), false);
        assert_eq!(statuses(&came), [200, 200, 201, 404, 409, 200]);
    });
}

#[test]
fn a_client_that_has_ended_its_side_gets_the_answer_of_the_admin_listener() {
    on_each_listener(|address| {
        let ask = |request: &str| {
            let mut connection = Connection::open(address);
            connection.send(request);
            connection.socket().shutdown(Shutdown::Write).unwrap();
            let answer = connection.response();
            assert!(connection.is_closed());
            answer
        };
        assert_eq!(ask(HEALTH).status, 200);
        assert_eq!(ask(&creation("acme", "")).status, 201);
        let whole = creation("other", "");
        let broken = ask(&whole[..whole.len() - 2]);
        assert_eq!(
            (broken.status, broken.code()),
            (400, "bad_request".to_owned())
        );
        assert_eq!(consumers(address), 1);
    });
}

#[test]
fn an_offer_to_leave_http_costs_the_admin_listener_nothing() {
    on_each_listener(|address| {
        let offers = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\n";
        let mut connection = Connection::open(address);
        for request in [creation("acme", offers), head("GET /v1/keys", offers)] {
            connection.send(request);
            let answer = connection.response();
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            assert_eq!(answer.header("connection"), None);
        }
        // One without a length: what follows is no body that could be waited for.
        let offers =
            "connection: upgrade\r\nupgrade: websocket\r\ncontent-type: application/json\r\n";
        let mut connection = Connection::open(address);
        connection.send(head("POST /v1/consumers", offers));
        assert_eq!(connection.response().code(), "invalid_body");
        assert!(connection.is_closed());
        // One with a length: the stream holds back whatever follows an offer of WebSocket.
        let offer = creation("other", "connection: upgrade\r\nupgrade: websocket\r\n");
        let came = converse(address, offer.as_bytes(), false);
        assert_eq!(statuses(&came), [400]);
        assert_eq!(consumers(address), 1);
    });
}

#[test]
fn the_admin_listener_decides_before_it_asks_for_a_body() {
    on_each_listener(|address| {
        let asked = creation("acme", "expect: 100-continue\r\n");
        let (head, body) = asked.split_once("\r\n\r\n").unwrap();
        let mut stranger = Connection::open(address);
        stranger.send(head.replace(TOKEN, "wrong-9f2c51d07be84a63") + "\r\n\r\n");
        assert_eq!(stranger.response().code(), "unauthorized");
        let mut connection = Connection::open(address);
        connection.send(format!("{head}\r\n\r\n"));
        assert_eq!(connection.head().status, 100);
        connection.send(body);
        assert_eq!(connection.response().status, 201);
    });
}

/// A change waits for the database while the gateway stops.
#[test]
fn a_request_that_the_admin_listener_has_is_answered_before_the_gateway_is_gone() {
    let variables = [
        ("ADMIN_TOKEN", TOKEN),
        ("GATEWAY__LISTEN__DRAIN_DELAY", "500ms"),
    ];
    let origin = Origin::hello();
    let mut gateway = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &variables);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut holder = runtime
        .block_on(SqliteConnection::connect(&database(
            gateway.directory.path(),
        )))
        .unwrap();
    let mut hold = |text: &'static str| runtime.block_on(holder.execute(text)).unwrap();
    hold("BEGIN IMMEDIATE");
    let request = creation("acme", "idempotency-key: once\r\n");
    let (mut changing, mut watching) = (
        Connection::open(gateway.admin),
        Connection::open(gateway.admin),
    );
    changing.send(&request);
    watching.send(&request);
    assert_eq!(watching.response().code(), "idempotency_key_in_use");
    gateway.signal("TERM");
    eventually("it is not ready", || {
        watching.send(head("GET /readyz", ""));
        let answer = watching.response();
        assert_eq!(
            answer.header("connection"),
            (answer.status == 503).then_some("close"),
            "the end is announced"
        );
        answer.status == 503
    });
    assert!(watching.is_closed());
    eventually("the admin listener is closed", || {
        TcpStream::connect(gateway.admin).is_err()
    });
    hold("COMMIT");
    let answer = changing.response();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (201, Some("close"))
    );
    assert!(changing.is_closed());
    assert_eq!(gateway.ended(), Some(0));
}
