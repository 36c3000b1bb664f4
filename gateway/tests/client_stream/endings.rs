//! How connections end, and when they do not: answers that announce it, offers that are passed over, refusals.

use std::{sync::atomic::Ordering, time::Instant};

use postern_gateway::front::client_stream::ClientLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{Client, HANG, SHORT, TestServer, get, limits, post, run, statuses};

#[test]
fn an_offer_to_leave_http_that_is_passed_over_costs_no_connection() {
    run(async {
        let server = TestServer::guarded(limits());
        let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n";
        for (method, path, offer, body, answer) in [
            ("GET", "/a", h2c, "", "/a"),
            ("HEAD", "/a", h2c, "", ""),
            ("GET", "/a", "Connection: upgrade\r\n", "", "/a"),
            (
                "GET",
                "/a",
                "Connection: upgrade\r\nUpgrade: irc\r\n",
                "",
                "/a",
            ),
            (
                "POST",
                "/echo",
                "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n",
                "abc",
                "abc",
            ),
            (
                "POST",
                "/echo",
                "Connection: upgrade\r\nTransfer-Encoding: chunked\r\n",
                "3\r\nabc\r\n0\r\n\r\n",
                "abc",
            ),
        ] {
            for pipelined in [true, false] {
                let mut client = server.connect().await;
                let first = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{offer}\r\n{body}");
                if pipelined {
                    client.send(first + &get("/b")).await;
                } else {
                    client.send(first).await;
                }
                let (head, told) = client.head_and_body(method).await;
                assert!(head.starts_with("HTTP/1.1 200"), "{offer:?}: {head}");
                assert!(!head.contains("connection:"), "{offer:?}: {head}");
                assert_eq!(told, answer, "{offer:?}");
                if !pipelined {
                    client.send(get("/b")).await;
                }
                assert_eq!(client.response().await, (200, "/b".to_owned()), "{offer:?}");
            }
        }
    });
}

#[test]
fn nothing_after_an_answer_that_closes_is_answered() {
    run(async {
        let server = TestServer::guarded(limits());
        for (name, first, then) in [
            (
                "the end of a chunked body and a request in one segment",
                "3\r\nabc\r\n",
                format!("0\r\n\r\n{}", get("/evil")),
            ),
            (
                "a bad chunk",
                "3\r\nabc\r\n",
                format!("zz\r\n{}", get("/evil")),
            ),
            ("all at once", "", format!("0\r\n\r\n{}", get("/evil"))),
        ] {
            let called = server.seen.called.load(Ordering::SeqCst);
            let mut client = server.connect().await;
            let request = post("/ignore", "Transfer-Encoding: chunked\r\n", first);
            if first.is_empty() {
                client.send(request + &then).await;
                assert_eq!(client.response().await.0, 413, "{name}");
            } else {
                client.send(request).await;
                assert_eq!(client.response().await.0, 413, "{name}");
                client.send(then).await;
            }
            // An answer to a body that was there whole may leave the connection open, and then the request is one.
            let rest = client.rest().await;
            let expected: &[u16] = if first.is_empty() { &[200] } else { &[] };
            assert_eq!(statuses(&rest), expected, "{name}: {rest}");
            let calls = server.seen.called.load(Ordering::SeqCst) - called;
            assert_eq!(calls, 1 + expected.len(), "{name}");
        }
    });
}

#[test]
fn the_end_is_told_at_once_and_the_rest_of_an_upload_is_taken_in_after_it() {
    run(async {
        // Far longer than the end may take.
        let server = TestServer::guarded(ClientLimits {
            linger: HANG,
            ..limits()
        });
        for request in [
            post("/ignore", "Content-Length: 3000000\r\n", "begun"),
            "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n".to_owned(),
        ] {
            let mut client = server.connect().await;
            client.send(request).await;
            let begun = Instant::now();
            assert!(!statuses(&client.rest().await).is_empty());
            assert!(begun.elapsed() < HANG * 2 / 3, "{:?}", begun.elapsed());
            // Nobody resets a client that still sends.
            for _ in 0..30 {
                client.io.write_all(&[b'x'; 50_000]).await.unwrap();
            }
        }
    });
}

#[test]
fn an_answer_of_the_guard_has_a_date_and_no_content_for_those_who_asked_for_the_head() {
    run(async {
        let server = TestServer::guarded(limits());
        for (request, has_content) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("HEAD / HTTP/1.1\r\n\r\n", false),
            ("HEAD / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", false),
            ("HEAD / HTTP/1.1\r\nHo", false),
        ] {
            let mut client = server.connect().await;
            client.send(request).await;
            let answer = client.rest().await;
            let (head, content) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("\r\ndate: "), "{request:?}: {head}");
            assert!(head.contains("\r\ncontent-length: "), "{head}");
            assert_eq!(!content.is_empty(), has_content, "{request:?}: {content}");
        }
    });
}

#[test]
fn a_client_of_http_1_0_is_answered_in_it_and_let_go() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client
            .send("GET /a HTTP/1.0\r\n\r\nGET /evil HTTP/1.0\r\n\r\n")
            .await;
        let rest = client.rest().await;
        assert!(
            rest.starts_with("HTTP/1.0 200") && rest.ends_with("/a"),
            "{rest}"
        );
        let mut client = server.connect().await;
        let kept = "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        for _ in 0..2 {
            client.send(kept).await;
            let (head, body) = client.head_and_body("GET").await;
            assert!(head.contains("connection: keep-alive"), "{head}");
            assert_eq!(body, "/a");
        }
    });
}

#[test]
fn a_client_that_sends_its_body_before_it_reads_is_answered() {
    run(async {
        let server = TestServer::guarded(ClientLimits {
            linger: HANG,
            ..limits()
        });
        let mut client = server.connect().await;
        // More of an answer than the sockets hold, and more of a body.
        let body = vec![b'x'; 20_000_000];
        client
            .send(post(
                "/big",
                &format!("Content-Length: {}\r\n", body.len()),
                "",
            ))
            .await;
        tokio::time::timeout(HANG, client.io.write_all(&body))
            .await
            .expect("the body is taken in")
            .unwrap();
        let mut some = vec![0; 1_000_000];
        client.io.read_exact(&mut some).await.unwrap();
        assert!(some.starts_with(b"HTTP/1.1 200"));
        drop::<Client>(client);
        assert!(server.wait_for_running(0, 4 * SHORT + HANG).await);
    });
}
