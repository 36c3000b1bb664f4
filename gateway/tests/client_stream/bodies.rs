//! Bodies and responses that do not move, that are malformed, or that are not wanted; and connections that leave HTTP.

use std::time::Duration;

use postern_gateway::front::client_stream::{ChunkFault, ClientFault, ClientLimits, Pace};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    OPEN,
    rig::{HANG, SHORT, TestServer, get, limits, post, run, statuses},
};

#[test]
fn body_that_stands_still_is_answered_with_408() {
    run(async {
        let server = TestServer::guarded(limits());
        for part in [
            post("/echo", "Content-Length: 10\r\n", "hel"),
            post("/echo", "Content-Length: 10\r\n", ""),
            post("/echo", "Transfer-Encoding: chunked\r\n", "5\r\nhel"),
            post(
                "/echo",
                "Transfer-Encoding: chunked\r\n",
                "ffffffffffffffff\r\n",
            ),
        ] {
            let mut client = server.connect().await;
            client.send(&part).await;
            let rest = client.rest().await;
            assert_eq!(statuses(&rest), [408], "{part:?}: {rest}");
            assert!(client.age() >= SHORT);
        }
        assert_eq!(server.faults(), [ClientFault::BodyStalled; 4]);

        let plain = TestServer::plain();
        let mut client = plain.connect().await;
        client
            .send(post("/echo", "Content-Length: 10\r\n", "hel"))
            .await;
        assert_eq!(
            client.rest_within(OPEN).await,
            None,
            "without the guard it is waited for"
        );
    });
}

#[test]
fn body_of_a_handler_that_does_not_read_is_limited_too() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client
            .send(post("/never", "Content-Length: 10\r\n", "hel"))
            .await;
        let rest = client.rest().await;
        assert_eq!(
            statuses(&rest),
            [408],
            "the guard answers where no handler does: {rest}"
        );
        assert!(server.wait_for_running(0, HANG).await);
    });
}

#[test]
fn body_that_only_drips_is_answered_with_408() {
    run(async {
        let pace = Pace {
            idle: 4 * SHORT,
            min_rate: 10_000,
        };
        let server = TestServer::guarded(ClientLimits {
            body: pace,
            ..limits()
        });
        let mut client = server.connect().await;
        client
            .send(post("/echo", "Content-Length: 100000\r\n", ""))
            .await;
        let (mut read, mut write) = client.io.split();
        let drip = async {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SHORT / 10).await;
            }
            std::future::pending::<()>().await;
        };
        let mut rest = vec![0; 12];
        tokio::select! {
            () = drip => {}
            read = tokio::time::timeout(HANG, read.read_exact(&mut rest)) => { read.expect("an answer in time").unwrap(); }
        }
        assert_eq!(rest, b"HTTP/1.1 408");
        assert_eq!(server.faults(), [ClientFault::BodyTooSlow]);
    });
}

#[test]
fn client_that_does_not_read_is_dropped() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client.send(get("/big")).await;
        assert!(server.wait_for_running(1, HANG).await);
        assert!(
            server.wait_for_running(0, HANG).await,
            "the response is still held"
        );
        assert_eq!(server.faults(), [ClientFault::WriteStalled]);
        let got = client.rest().await.len();
        assert!(
            got < 100_000_000,
            "the connection ended, not the response: {got}"
        );

        let plain = TestServer::plain();
        let mut client = plain.connect().await;
        client.send(get("/big")).await;
        assert!(plain.wait_for_running(1, HANG).await);
        assert!(
            !plain.wait_for_running(0, OPEN).await,
            "without the guard it is held"
        );
    });
}

#[test]
fn client_that_reads_on_is_not_dropped() {
    run(async {
        let server = TestServer::guarded(ClientLimits {
            write: Pace {
                idle: 4 * SHORT,
                min_rate: 0,
            },
            ..limits()
        });
        let mut client = server.connect().await;
        client.send(get("/big")).await;
        let mut piece = vec![0; 8 * 1024 * 1024];
        // Together longer than the client may read nothing.
        for _ in 0..8 {
            client.io.read_exact(&mut piece).await.unwrap();
            tokio::time::sleep(SHORT * 2 / 3).await;
        }
        assert_eq!(server.faults(), []);
    });
}

#[test]
fn chunks_are_bare_or_nearly_so() {
    run(async {
        let (server, plain) = (TestServer::guarded(limits()), TestServer::plain());
        let long = "x".repeat(100);
        for (body, fault, taken) in [
            (
                format!("3;{long}\r\nabc\r\n0\r\n\r\n"),
                ChunkFault::ExtensionsTooLarge,
                true,
            ),
            (
                format!("{}0\r\n\r\n", "1;123456789\r\nx\r\n".repeat(10)),
                ChunkFault::ExtensionsTooLarge,
                true,
            ),
            (
                format!("3\r\nabc\r\n0\r\nT: {long}\r\n\r\n"),
                ChunkFault::TrailersTooLarge,
                true,
            ),
            (
                "3\r\nabc\r\n0\r\nno trailer\r\n\r\n".to_owned(),
                ChunkFault::Trailer,
                true,
            ),
            (
                "3\r\nabc\r\n0\r\nT: a\nb\r\n\r\n".to_owned(),
                ChunkFault::Trailer,
                true,
            ),
            ("3\nabc\r\n0\r\n\r\n".to_owned(), ChunkFault::Size, false),
            (
                "0x3\r\nabc\r\n0\r\n\r\n".to_owned(),
                ChunkFault::Size,
                false,
            ),
            ("3 \r\nabc\r\n0\r\n\r\n".to_owned(), ChunkFault::Size, true),
            (
                "3\r\nabcd\r\n0\r\n\r\n".to_owned(),
                ChunkFault::DataEnd,
                false,
            ),
            ("11111111111111111\r\n".to_owned(), ChunkFault::Size, false),
        ] {
            let request = post("/echo", "Transfer-Encoding: chunked\r\n", &body);
            let mut client = server.connect().await;
            client.send(format!("{request}{}", get("/evil"))).await;
            let rest = client.rest().await;
            assert_eq!(statuses(&rest), [400], "{body:?}: {rest}");
            assert_eq!(
                server.faults().last(),
                Some(&ClientFault::BadChunk(fault)),
                "{body:?}"
            );

            let mut client = plain.connect().await;
            client.send(&request).await;
            assert_eq!(
                client.response().await.0 == 200,
                taken,
                "without the guard: {body:?}"
            );
        }
        let mut client = server.connect().await;
        client
            .send(post(
                "/echo",
                "Transfer-Encoding: chunked\r\n",
                "3;a=b\r\nabc\r\n0\r\nT: v\r\n\r\n",
            ))
            .await;
        assert_eq!(client.response().await, (200, "abc".to_owned()));
    });
}

#[test]
fn answer_to_an_upload_that_is_not_wanted_can_be_read() {
    run(async {
        let server = TestServer::guarded(limits());
        let big = "x".repeat(3_000_000);
        for request in [
            post("/ignore", "Content-Length: 3000000\r\n", &big),
            post(
                "/ignore",
                "Content-Length: 3000000\r\nExpect: 100-continue\r\n",
                &big,
            ),
        ] {
            let mut client = server.connect().await;
            let (mut read, mut write) = client.io.split();
            // Sends first and reads then, as most clients do.
            let sent = tokio::time::timeout(HANG, write.write_all(request.as_bytes())).await;
            let mut rest = Vec::new();
            let _ = tokio::time::timeout(HANG, read.read_to_end(&mut rest))
                .await
                .expect("the end in time");
            let rest = String::from_utf8_lossy(&rest);
            assert!(
                rest.contains("HTTP/1.1 413") && rest.ends_with("too much"),
                "{sent:?}: {rest}"
            );
        }
    });
}

#[test]
fn refusal_of_a_bad_head_can_be_read_though_a_body_follows() {
    run(async {
        let server = TestServer::guarded(limits());
        let big = "x".repeat(500_000);
        for fields in [
            "Content-Length: 500000\r\nContent-Length: 500000\r\n",
            "Content-Length: 500000\nX: y\r\n",
        ] {
            for _ in 0..20 {
                let mut client = server.connect().await;
                let (mut read, mut write) = client.io.split();
                let request = post("/echo", fields, &big);
                let _ = tokio::time::timeout(HANG, write.write_all(request.as_bytes())).await;
                let mut rest = Vec::new();
                let _ = tokio::time::timeout(HANG, read.read_to_end(&mut rest))
                    .await
                    .expect("the end in time");
                assert_eq!(
                    statuses(&String::from_utf8_lossy(&rest)),
                    [400],
                    "{fields:?}"
                );
            }
        }
    });
}

#[test]
fn endless_upload_after_the_answer_is_cut_off() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client
            .send(post("/ignore", "Transfer-Encoding: chunked\r\n", ""))
            .await;
        assert_eq!(client.response().await, (413, "too much".to_owned()));
        let cut = async { while client.io.write_all(b"4\r\nabcd\r\n").await.is_ok() {} };
        tokio::time::timeout(HANG, cut)
            .await
            .expect("cut off in time");
    });
}

#[test]
fn continue_is_followed_by_the_answer() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client.send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
        assert_eq!(client.response().await.0, 100);
        client.send("hello").await;
        assert_eq!(client.response().await, (200, "hello".to_owned()));
        client.send(get("/a")).await;
        assert_eq!(client.response().await, (200, "/a".to_owned()));
    });
}

#[test]
fn upgraded_connection_is_left_alone() {
    for (path, protocol) in [
        ("/ws", "websocket"),
        ("/raw", "websocket"),
        ("/raw", "other"),
    ] {
        upgraded(path, protocol);
    }
}

fn upgraded(path: &str, protocol: &str) {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\nfirst\n")).await;
        assert_eq!(client.response().await.0, 101);
        let mut echoed = vec![0; 6];
        tokio::time::timeout(HANG, client.io.read_exact(&mut echoed))
            .await
            .expect("an echo in time")
            .unwrap();
        assert_eq!(echoed, b"first\n");
        // Longer than any limit there is on the other side of an upgrade.
        assert_eq!(client.rest_within(4 * SHORT).await, None);
        let raw = b"GET / HTTP/1.1\n\0#more";
        client.send(raw).await;
        let mut echoed = vec![0; raw.len()];
        tokio::time::timeout(HANG, client.io.read_exact(&mut echoed))
            .await
            .expect("an echo in time")
            .unwrap();
        assert_eq!(echoed, raw);
        assert_eq!(server.faults(), []);

        // More than fits anywhere: what is not read back is not taken in.
        let big = vec![b'y'; 3_000_000];
        let mut back = vec![0; big.len()];
        let (mut read, mut write) = client.io.split();
        let both = async { tokio::join!(write.write_all(&big), read.read_exact(&mut back)) };
        let (sent, read) = tokio::time::timeout(HANG, both)
            .await
            .expect("all of it in time");
        sent.unwrap();
        read.unwrap();
        assert_eq!(back, big);

        client.io.shutdown().await.unwrap();
        assert_eq!(client.rest().await, "");
        assert!(server.wait_for_running(0, HANG).await);
    });
}

#[test]
fn end_of_one_direction_leaves_the_other_open() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        client
            .send("GET /raw HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")
            .await;
        assert_eq!(client.response().await.0, 101);
        client.send("last words").await;
        client.io.shutdown().await.unwrap();
        assert_eq!(client.rest().await, "last words");
    });
}

#[test]
fn connection_that_asked_to_leave_http_and_may_not_is_closed() {
    run(async {
        let server = TestServer::guarded(limits());
        for request in [
            "GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
            "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
        ] {
            let mut client = server.connect().await;
            client.send(format!("{request}{}", get("/evil"))).await;
            let rest = client.rest().await;
            assert_eq!(statuses(&rest), [200], "{request:?}: {rest}");
        }
        assert_eq!(
            server.seen.called.load(std::sync::atomic::Ordering::SeqCst),
            3
        );
        // Any other upgrade is an offer that may be passed over.
        let mut client = server.connect().await;
        client
            .send("GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
            .await;
        assert_eq!(client.response().await, (200, "/a".to_owned()));
    });
}

#[test]
fn long_uploads_and_downloads_pass_whole() {
    run(async {
        let server = TestServer::guarded(limits());
        let mut client = server.connect().await;
        let body = "0123456789abcdef".repeat(100_000);
        let request = post(
            "/echo",
            &format!("Content-Length: {}\r\n", body.len()),
            &body,
        );
        let (mut read, mut write) = client.io.split();
        let mut back = vec![0; body.len() + 100];
        let (sent, got) = tokio::join!(write.write_all(request.as_bytes()), async {
            let mut at = 0;
            while at < body.len() {
                match tokio::time::timeout(Duration::from_secs(10), read.read(&mut back[at..]))
                    .await
                {
                    Ok(Ok(count @ 1..)) => at += count,
                    _ => break,
                }
            }
            at
        });
        sent.unwrap();
        assert!(got >= body.len());
        assert!(String::from_utf8_lossy(&back[..got]).ends_with(&body[..1000]) || got > body.len());
    });
}
