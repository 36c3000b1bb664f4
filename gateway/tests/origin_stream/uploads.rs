//! Requests with bodies: early answers, origins that do not read, lengths that are not kept.

use std::time::Duration;

use actix_http::{
    Method,
    body::{BodyStream, MessageBody, SizedStream},
};
use bytes::Bytes;
use futures_util::stream;
use postern_gateway::proxy::origin_stream::OriginFault;

use crate::{
    pool::{settings, target},
    rig::{
        Client, HANG, Origin, Outcome, Step, answer, failed, limits, ok, outcome, request, run,
        send,
    },
};
use postern_gateway::proxy::pool::OriginPool;

const PIECE: usize = 64 * 1024;
const PIECES: usize = 1024;

fn pieces(count: usize) -> impl futures_core::Stream<Item = Result<Bytes, std::io::Error>> {
    stream::iter((0..count).map(|_| Ok(Bytes::from_static(&[b'x'; PIECE]))))
}

async fn post(
    pool: &OriginPool,
    port: u16,
    path: &str,
    body: impl MessageBody + 'static,
) -> Outcome {
    outcome(
        HANG,
        pool.send(&target(port), request(Method::POST, path), body),
    )
    .await
}

fn refusal() -> Step {
    send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 8\r\n\r\ntoo much")
}

#[test]
fn early_answer_reaches_the_sender_of_a_large_body() {
    run(async {
        for (name, end) in [
            ("does not read on", Step::Stall),
            ("closes", Step::Finish),
            ("reads on", Step::Drain),
            ("resets", Step::Reset),
        ] {
            let scripts = vec![
                vec![Step::RequestHead, refusal(), end.clone()],
                vec![Step::Request, ok("is {path}"), Step::Stall],
            ];
            let origin = Origin::start(scripts).await;
            let (pool, to) = (OriginPool::new(settings()), target(origin.port));
            let body = SizedStream::new((PIECE * PIECES) as u64, pieces(PIECES));
            let first = post(&pool, origin.port, "/a1", body).await;
            assert_eq!(first, answer(413, "too much"), "origin {name}");
            if !matches!(end, Step::Drain) {
                let second = outcome(HANG, pool.send(&to, request(Method::GET, "/a2"), ())).await;
                assert_eq!(second, answer(200, "is /a2"), "origin {name}");
                assert_eq!(
                    origin.connections.get(),
                    2,
                    "origin {name}: its connection is not reused"
                );
            }
        }
    });
}

#[test]
fn early_answer_is_lost_without_the_guard() {
    run(async {
        let origin = Origin::start(vec![vec![Step::RequestHead, refusal(), Step::Stall]]).await;
        let body = SizedStream::new((PIECE * PIECES) as u64, pieces(PIECES));
        assert_eq!(
            Client::plain(origin.port)
                .send(request(Method::POST, "/a1"), body)
                .await,
            Outcome::Hung
        );
    });
}

#[test]
fn pool_stops_reading_the_body_once_the_origin_has_answered() {
    run(async {
        // Endless bodies: the answer comes only if the sending stops.
        let endless =
            || stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; PIECE])));
        for (known, end) in [
            (true, Step::Stall),
            (false, Step::Stall),
            (true, Step::Drain),
            (false, Step::Drain),
        ] {
            let origin = Origin::start(vec![vec![Step::RequestHead, refusal(), end]]).await;
            let pool = OriginPool::new(settings());
            let (to, head) = (target(origin.port), request(Method::POST, "/a1"));
            let outcome = match known {
                true => {
                    outcome(
                        HANG,
                        pool.send(&to, head, SizedStream::new(1 << 50, endless())),
                    )
                    .await
                }
                false => outcome(HANG, pool.send(&to, head, BodyStream::new(endless()))).await,
            };
            assert_eq!(outcome, answer(413, "too much"), "length known: {known}");
            let head = origin.heads.borrow().first().unwrap().clone();
            assert_eq!(
                head.contains("content-length: 1125899906842624\r\n"),
                known,
                "{head}"
            );
            assert_eq!(
                head.contains("transfer-encoding: chunked\r\n"),
                !known,
                "{head}"
            );
        }
    });
}

#[test]
fn origin_that_answers_a_short_request_before_it_reads_it_keeps_its_connection() {
    run(async {
        let script = vec![
            Step::RequestHead,
            ok("is {path}"),
            Step::Skip(4),
            Step::Request,
            ok("is {path}"),
            Step::Stall,
        ];
        let another = vec![Step::Request, ok("is {path}"), Step::Stall];
        let mut tries = 0;
        loop {
            let origin = Origin::start(vec![script.clone(), another.clone()]).await;
            let pool = OriginPool::new(settings());
            let late = stream::once(async {
                // Time for the answer to arrive, and less than it waits for this.
                tokio::time::sleep(Duration::from_millis(3)).await;
                Ok::<_, std::io::Error>(Bytes::from_static(b"late"))
            });
            assert_eq!(
                post(&pool, origin.port, "/a1", SizedStream::new(4, late)).await,
                answer(200, "is /a1")
            );
            assert_eq!(
                post(&pool, origin.port, "/a2", ()).await,
                answer(200, "is /a2")
            );
            if origin.connections.get() == 1 {
                break;
            }
            // What takes a few milliseconds may take a busy machine longer, but not each time.
            tries += 1;
            assert!(tries < 50, "the connection is never kept");
        }
    });
}

#[test]
fn answer_within_a_request_that_breaks_off_is_passed_on() {
    run(async {
        let broken = || {
            let error = std::io::Error::other("the sender is gone");
            stream::once(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err::<Bytes, _>(error)
            })
        };
        // Answered first, and not at all.
        let origin = Origin::start(vec![
            vec![Step::RequestHead, refusal(), Step::Stall],
            vec![Step::RequestHead, Step::Stall],
        ])
        .await;
        let pool = OriginPool::new(settings());
        assert_eq!(
            post(&pool, origin.port, "/a1", BodyStream::new(broken())).await,
            answer(413, "too much")
        );
        match post(&pool, origin.port, "/a2", BodyStream::new(broken())).await {
            Outcome::Failed(text) => assert!(
                text.contains("BrokenRequest") && text.contains("the sender is gone"),
                "{text}"
            ),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn silence_counts_only_when_it_is_the_origins_turn() {
    run(async {
        // Longer than every limit of an origin.
        let pause = || {
            stream::once(async {
                tokio::time::sleep(limits().idle_timeout * 3).await;
                Ok::<_, std::io::Error>(Bytes::from_static(b"late"))
            })
        };
        let begun = send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nis");
        let waiting = || {
            vec![
                Step::RequestHead,
                Step::Skip(4),
                ok("is {path}"),
                Step::Stall,
            ]
        };
        let answering = |end| {
            vec![
                Step::RequestHead,
                begun.clone(),
                Step::Skip(4),
                end,
                Step::Stall,
            ]
        };
        let origin = Origin::start(vec![
            waiting(),
            answering(send("it")),
            answering(Step::Stall),
        ])
        .await;
        for expected in [
            answer(200, "is /a1"),
            answer(200, "isit"),
            Outcome::Broken(200, "IdleTimeout".to_owned()),
        ] {
            // Each on a connection of its own.
            let sent = post(
                &OriginPool::new(settings()),
                origin.port,
                "/a1",
                SizedStream::new(4, pause()),
            )
            .await;
            assert_eq!(sent, expected);
        }
    });
}

#[test]
fn origin_that_does_not_read_is_given_up() {
    run(async {
        let origin = Origin::start(vec![vec![Step::RequestHead, Step::Stall]]).await;
        let body = SizedStream::new((PIECE * PIECES) as u64, pieces(PIECES));
        let sent = post(&OriginPool::new(settings()), origin.port, "/a1", body).await;
        assert_eq!(sent, failed("WriteTimeout"));
    });
}

#[test]
fn origin_that_dies_within_a_body_is_told_apart() {
    run(async {
        let origin = Origin::start(vec![vec![Step::RequestHead, Step::Reset]]).await;
        let body = SizedStream::new((PIECE * PIECES) as u64, pieces(PIECES));
        let sent = post(&OriginPool::new(settings()), origin.port, "/a1", body).await;
        assert_eq!(sent, failed("DiedBeforeResponse { reused: false }"));
    });
}

#[test]
fn whole_bodies_arrive_with_their_length_or_in_chunks() {
    run(async {
        let scripts = vec![vec![
            Step::Request,
            ok("is {path}"),
            Step::Request,
            ok("is {path}"),
            Step::Request,
            ok("is {path}"),
            Step::Stall,
        ]];
        let origin = Origin::start(scripts).await;
        let (pool, to) = (OriginPool::new(settings()), target(origin.port));
        let post = |path| request(Method::POST, path);
        assert_eq!(
            outcome(
                HANG,
                pool.send(&to, post("/a1"), Bytes::from_static(b"hello"))
            )
            .await,
            answer(200, "is /a1")
        );
        let streamed = SizedStream::new((3 * PIECE) as u64, pieces(3));
        assert_eq!(
            outcome(HANG, pool.send(&to, post("/a2"), streamed)).await,
            answer(200, "is /a2")
        );
        assert_eq!(
            outcome(HANG, pool.send(&to, post("/a3"), ())).await,
            answer(200, "is /a3")
        );
        let heads = origin.heads.borrow();
        assert!(heads[0].contains("content-length: 5\r\n"), "{}", heads[0]);
        assert!(
            heads[1].contains("content-length: 196608\r\n")
                && !heads[1].contains("transfer-encoding"),
            "{}",
            heads[1]
        );
        assert_eq!(origin.connections.get(), 1);
    });
}

#[test]
fn body_that_breaks_its_announced_length_breaks_the_request() {
    run(async {
        for announced in [PIECE as u64 * 3, PIECE as u64] {
            let origin =
                Origin::start(vec![vec![Step::Request, ok("is {path}"), Step::Stall]]).await;
            let pool = OriginPool::new(settings());
            let body = SizedStream::new(announced, pieces(2));
            match outcome(
                HANG,
                pool.send(&target(origin.port), request(Method::POST, "/a1"), body),
            )
            .await
            {
                Outcome::Failed(text) => {
                    assert!(text.contains("not as long as announced"), "{text}")
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn expect_never_reaches_an_origin() {
    run(async {
        // D2: an origin that answers without `100` would read the next request as the announced body.
        let origin = Origin::start(vec![vec![Step::Request, ok("is {path}"), Step::Stall]]).await;
        let mut head = request(Method::POST, "/a1");
        head.headers.insert(
            actix_http::header::EXPECT,
            actix_http::header::HeaderValue::from_static("100-continue"),
        );
        let sent = outcome(
            HANG,
            OriginPool::new(settings()).send(
                &target(origin.port),
                head,
                Bytes::from_static(b"hello"),
            ),
        )
        .await;
        assert_eq!(sent, answer(200, "is /a1"));
        assert!(
            !origin.heads.borrow()[0].contains("expect"),
            "{:?}",
            origin.heads.borrow()
        );
    });
}

#[test]
fn fault_says_whether_it_was_a_timeout() {
    assert!(OriginFault::WriteTimeout.is_timeout() && OriginFault::FirstByteTimeout.is_timeout());
    assert!(!OriginFault::TruncatedBody.is_timeout());
}
