//! The guarded client side below its dispatcher, with a client on a raw socket that misbehaves in every phase.
//!
//! Where actix-http alone has the fault, it is shown to have it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by stopping"
)]

#[path = "client_stream/bodies.rs"]
mod bodies;
#[path = "client_stream/endings.rs"]
mod endings;
#[path = "client_stream/rig.rs"]
mod rig;

use std::time::Duration;

use postern_gateway::front::client_stream::{ClientFault, ClientLimits};
use rig::{Client, HANG, SHORT, TestServer, get, limits, post, run, statuses};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Long enough to say that a connection stays open.
const OPEN: Duration = Duration::from_millis(1000);

#[test]
fn d10_every_head_has_a_deadline() {
    run(async {
        let server = TestServer::guarded(limits());
        for (name, before, part) in [
            ("nothing at all", 0, ""),
            ("part of the first head", 0, "GET / HT"),
            ("part of the second head", 1, "GET / HTTP/1.1\r\nHo"),
            ("part of the fifth head", 4, "G"),
            ("an empty line", 0, "\r\n"),
            ("an empty line before the second", 1, "\r\n"),
        ] {
            let mut client = server.connect().await;
            for _ in 0..before {
                client.send(get("/a")).await;
                assert_eq!(client.response().await, (200, "/a".to_owned()), "{name}");
            }
            client.send(part).await;
            let rest = client.rest().await;
            let expected: &[u16] = if part == "\r\n" && before > 0 {
                &[]
            } else {
                &[408]
            };
            assert_eq!(statuses(&rest), expected, "{name}: {rest}");
            assert!(client.age() >= SHORT, "{name}");
        }
        assert!(
            server
                .faults()
                .iter()
                .all(|fault| *fault == ClientFault::HeadTimeout)
        );

        let plain = TestServer::plain();
        let mut client = plain.connect().await;
        client.send(get("/a")).await;
        client.response().await;
        client.send("GET / HTTP/1.1\r\nHo").await;
        assert_eq!(
            client.rest_within(OPEN).await,
            None,
            "without the guard the connection stays open"
        );
    });
}

#[test]
fn d10_dripping_does_not_extend_the_deadline() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client.send(get("/a")).await;
        client.response().await;
        let (mut read, mut write) = client.io.split();
        let drip = async {
            for byte in "GET / HTTP/1.1\r\nHost: h\r\nX-Long: "
                .bytes()
                .chain(std::iter::repeat(b'x'))
            {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(SHORT / 20).await;
            }
        };
        let mut rest = String::new();
        tokio::select! {
            () = drip => {}
            read = tokio::time::timeout(HANG, read.read_to_string(&mut rest)) => { read.expect("closed in time").ok(); }
        }
        assert_eq!(statuses(&rest), [408], "{rest}");
    });
}

#[test]
fn idle_connections_are_closed_without_a_word() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client.send(get("/a")).await;
        client.response().await;
        assert_eq!(client.rest().await, "");
        assert!(client.age() >= 3 * SHORT);
        assert_eq!(server.faults(), []);
    });
}

#[test]
fn bare_line_feeds_are_refused_wherever_they_stand() {
    run(async {
        let server = TestServer::guarded(limits());
        for (name, pieces) in [
            ("request line", &["GET / HTTP/1.1\nHost: h\r\n\r\n"][..]),
            ("field", &["GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n"]),
            (
                "smuggled field",
                &[
                    "POST / HTTP/1.1\r\nHost: h\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                ],
            ),
            ("empty line", &["GET / HTTP/1.1\r\nHost: h\r\n\n"]),
            (
                "before the request",
                &["\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"],
            ),
            (
                "after an empty line",
                &["\r\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"],
            ),
            (
                "alone in its piece",
                &["GET / HTTP/1.1\r\nHost: h", "\n", "\r\n"],
            ),
            (
                "split head",
                &["GET / HTTP/1.1\r\nHo", "st: h\nX: y\r\n\r\n"],
            ),
        ] {
            let mut client = server.connect().await;
            for piece in pieces {
                client.send(piece).await;
                tokio::time::sleep(SHORT / 20).await;
            }
            let rest = client.rest().await;
            assert_eq!(statuses(&rest), [400], "{name}: {rest}");
            assert!(rest.contains("\"code\":\"bad_request\""), "{rest}");
        }
        // A line feed split from its carriage return is none.
        let mut client = server.connect().await;
        for piece in ["GET /a HTTP/1.1\r", "\nHost: h\r\n\r", "\n"] {
            client.send(piece).await;
            tokio::time::sleep(SHORT / 20).await;
        }
        assert_eq!(client.response().await, (200, "/a".to_owned()));

        let plain = TestServer::plain();
        let mut client = plain.connect().await;
        client
            .send("GET /a HTTP/1.1\r\nHost: h\nX: y\r\n\r\n")
            .await;
        assert_eq!(
            client.response().await,
            (200, "/a".to_owned()),
            "without the guard it is accepted"
        );
    });
}

#[test]
fn fragments_are_refused() {
    run(async {
        let server = TestServer::guarded(limits());
        for target in ["/a#b", "/#", "http://h/a#b", "/a?b#c"] {
            let mut client = server.connect().await;
            client.send(get(target)).await;
            assert_eq!(statuses(&client.rest().await), [400], "{target}");
        }
        let plain = TestServer::plain();
        let mut client = plain.connect().await;
        client.send(get("/a#b")).await;
        assert_eq!(
            client.response().await,
            (200, "/a".to_owned()),
            "without the guard it is cut off"
        );
    });
}

#[test]
fn heads_have_a_size() {
    run(async {
        let server = TestServer::guarded(limits());
        let long = format!(
            "GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
            "x".repeat(5000)
        );
        let endless = format!("GET /{}", "x".repeat(200_000));
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(16));
        for (head, status) in [(long, 431), (endless, 414), (many, 431)] {
            let mut client = server.connect().await;
            client.send(get("/a")).await;
            client.response().await;
            client.send(&head).await;
            let rest = client.rest().await;
            assert_eq!(statuses(&rest), [status], "{rest}");
        }
        let mut client = server.connect().await;
        client
            .send(format!(
                "GET /a HTTP/1.1\r\nHost: h\r\n{}\r\n",
                "X: y\r\n".repeat(15)
            ))
            .await;
        assert_eq!(client.response().await, (200, "/a".to_owned()));
    });
}

#[test]
fn empty_lines_before_a_request_are_passed_over_but_not_for_ever() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client
            .send(format!("\r\n{}\r\n\r\n{}", get("/a"), get("/b")))
            .await;
        assert_eq!(client.response().await, (200, "/a".to_owned()));
        assert_eq!(client.response().await, (200, "/b".to_owned()));
        client.send("\r\n".repeat(3)).await;
        assert_eq!(statuses(&client.rest().await), [400]);
        assert_eq!(server.faults(), [ClientFault::NoRequestLine]);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        let body = post("/echo", "Content-Length: 5\r\n", "hello");
        let chunked = post(
            "/echo",
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
        );
        let head = "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n";
        client
            .send(
                [
                    get("/slow"),
                    body,
                    get("/b"),
                    head.to_owned(),
                    chunked,
                    get("/c"),
                ]
                .concat(),
            )
            .await;
        for (method, expected) in [
            ("GET", "/slow"),
            ("POST", "hello"),
            ("GET", "/b"),
            ("HEAD", ""),
            ("POST", "abc"),
            ("GET", "/c"),
        ] {
            assert_eq!(client.response_to(method).await, (200, expected.to_owned()));
        }
    });
}

#[test]
fn first_answer_survives_an_error_in_the_second_request() {
    run(async {
        let server = TestServer::guarded(limits());
        for (second, status) in [
            ("GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
            ("bad bad bad\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTT", 408),
            ("GET /#a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ] {
            let mut client = server.connect().await;
            client.send(format!("{}{second}", get("/slow"))).await;
            assert_eq!(
                client.response().await,
                (200, "/slow".to_owned()),
                "{second:?}"
            );
            assert_eq!(statuses(&client.rest().await), [status], "{second:?}");
        }

        let plain = TestServer::plain();
        let mut client = plain.connect().await;
        client
            .send(format!("{}bad bad bad\r\n\r\n", get("/slow")))
            .await;
        assert!(
            !client.rest().await.contains("/slow"),
            "without the guard the first is lost"
        );
    });
}

#[test]
fn nothing_after_a_refused_request_is_looked_at() {
    run(async {
        let server = TestServer::guarded(limits());
        for bad in [
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\rb\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\0b\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/9.1\r\n\r\n",
        ] {
            let mut client = server.connect().await;
            client.send(format!("{bad}{}", get("/evil"))).await;
            let rest = client.rest().await;
            let status = if bad.contains("HTTP/9.1") { 505 } else { 400 };
            assert_eq!(statuses(&rest), [status], "{bad:?}: {rest}");
        }
        assert_eq!(
            server.seen.called.load(std::sync::atomic::Ordering::SeqCst),
            0
        );
    });
}

#[test]
fn requests_are_read_alike_however_they_are_cut() {
    run(async {
        let server = TestServer::guarded(ClientLimits {
            head_timeout: HANG,
            ..limits()
        });
        let stream = [
            get("/a"),
            post("/echo", "Content-Length: 5\r\n", "hello"),
            post(
                "/echo",
                "Transfer-Encoding: chunked\r\n",
                "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n",
            ),
            get("/chunks"),
            get("/b"),
        ]
        .concat();
        for step in [1, 2, 3, 5, 17, 64] {
            let mut client = server.connect().await;
            client.io.set_nodelay(true).unwrap();
            let (mut read, mut write) = client.io.split();
            let send = async {
                for piece in stream.as_bytes().chunks(step) {
                    write.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                std::future::pending::<()>().await;
            };
            let mut got = String::new();
            tokio::select! {
                () = send => {}
                _ = read.read_to_string(&mut got) => {}
            }
            let bodies: Vec<_> = got
                .split("\r\n\r\n")
                .skip(1)
                .filter_map(|part| part.split("HTTP/1.1").next())
                .collect();
            assert_eq!(
                bodies,
                [
                    "/a",
                    "hello",
                    "abcde",
                    "6\r\nhello \r\n5\r\nworld\r\n0",
                    "",
                    "/b"
                ],
                "steps of {step}: {got}"
            );
        }
    });
}

#[test]
fn d11_client_that_leaves_ends_its_request() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client.send(get("/never")).await;
        assert!(server.wait_for_running(1, HANG).await);
        client.io.shutdown().await.unwrap();
        assert!(
            server.wait_for_running(0, HANG).await,
            "the handler runs on"
        );

        let client = {
            let mut client = server.connect().await;
            client.send(get("/never")).await;
            assert!(server.wait_for_running(1, HANG).await);
            client
        };
        drop::<Client>(client);
        assert!(
            server.wait_for_running(0, HANG).await,
            "the handler runs on"
        );
    });
}

#[test]
fn d12_nothing_is_written_after_a_bodyless_response() {
    run(async {
        let plain = TestServer::plain();
        let mut client = plain.connect().await;
        client.send(get("/stray")).await;
        client.send(get("/a")).await;
        assert!(
            client
                .rest()
                .await
                .contains("\r\n\r\n0\r\n\r\nHTTP/1.1 200"),
            "without the guard they go out"
        );

        let ours = TestServer::guarded(limits());
        let mut client = ours.connect().await;
        client.send(get("/stray")).await;
        assert_eq!(client.response().await.0, 204);
        client.send(get("/a")).await;
        assert_eq!(client.response().await, (200, "/a".to_owned()));
    });
}
