//! The guarded way to the origin against real awc, with an origin on a raw socket that misbehaves in every phase.
//!
//! Where awc alone has the fault, the same script is played to it over a plain socket too: the fault must show there, or the
//! guard is not what cures it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by stopping"
)]

#[path = "origin_stream/pool.rs"]
mod pool;
#[path = "origin_stream/rig.rs"]
mod rig;
#[path = "origin_stream/uploads.rs"]
mod uploads;

use actix_http::Method;
use rig::{
    Client, Origin, Outcome, Step, answer, failed, limits, ok, request, run, send, upgrade_request,
};

/// One script for each connection the origin is to see, and what the requests `/a1`, `/a2`, … come to.
struct Case {
    name: &'static str,
    scripts: Vec<Vec<Step>>,
    expected: Vec<Outcome>,
    /// Whether awc without the guard must come to something else.
    fails_without: bool,
}

fn case(name: &'static str, scripts: Vec<Vec<Step>>, expected: Vec<Outcome>) -> Case {
    Case {
        name,
        scripts,
        expected,
        fails_without: false,
    }
}

fn cured(name: &'static str, scripts: Vec<Vec<Step>>, expected: Vec<Outcome>) -> Case {
    Case {
        name,
        scripts,
        expected,
        fails_without: true,
    }
}

async fn outcomes(client: &Client, count: usize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for number in 1..=count {
        outcomes.push(client.get(&format!("/a{number}")).await);
    }
    outcomes
}

/// Plays each case guarded, with whole reads and with one byte at a time, and where it says so unguarded.
fn play(cases: impl IntoIterator<Item = Case>) {
    for case in cases {
        run(async {
            for split in [usize::MAX, 1] {
                let origin = Origin::start(case.scripts.clone()).await;
                let client = Client::guarded(origin.port, limits(), split);
                assert_eq!(
                    outcomes(&client, case.expected.len()).await,
                    case.expected,
                    "{}, reads of {split}",
                    case.name
                );
                assert_eq!(
                    origin.connections.get(),
                    case.scripts.len(),
                    "{}: connections",
                    case.name
                );
            }
            if case.fails_without {
                let origin = Origin::start(case.scripts.clone()).await;
                let plain = outcomes(&Client::plain(origin.port), case.expected.len()).await;
                assert_ne!(
                    plain, case.expected,
                    "{}: awc alone does not have this fault",
                    case.name
                );
            }
        });
    }
}

use Step::{Fill, Finish, Request, Reset, Stall};

const BODY: &str = "is {path}";

#[test]
fn d1_interim_responses_are_never_taken_for_the_answer() {
    let two = || vec![answer(200, "is /a1"), answer(200, "is /a2")];
    play([
        cured(
            "103 and the answer in one piece",
            vec![vec![
                Request,
                send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
                ok(BODY),
                Request,
                ok(BODY),
                Stall,
            ]],
            two(),
        ),
        cured(
            "three of them before each answer",
            vec![vec![
                Request,
                send(
                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n",
                ),
                ok(BODY),
                Request,
                send("HTTP/1.1 102 Processing\r\n\r\n"),
                ok(BODY),
                Stall,
            ]],
            two(),
        ),
        case(
            "only interim ones, then the end",
            vec![vec![
                Request,
                send("HTTP/1.1 103 Early Hints\r\n\r\n"),
                Finish,
                Stall,
            ]],
            vec![failed("TruncatedHead")],
        ),
        case(
            "only interim ones, for ever",
            vec![vec![
                Request,
                send("HTTP/1.1 102 Processing\r\n\r\n"),
                Stall,
            ]],
            vec![failed("FirstByteTimeout")],
        ),
        case(
            "interim ones without end",
            vec![vec![
                Request,
                Step::Send("HTTP/1.1 102 Processing\r\n\r\n".repeat(400)),
                Stall,
            ]],
            vec![failed("HeadTooLarge")],
        ),
    ]);
}

#[test]
fn d3_truncated_bodies_are_errors() {
    let broken = || vec![Outcome::Broken(200, "TruncatedBody".to_owned())];
    play([
        cured(
            "end before Content-Length",
            vec![vec![
                Request,
                send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
                Finish,
                Stall,
            ]],
            broken(),
        ),
        cured(
            "end within a chunk",
            vec![vec![
                Request,
                send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
                Finish,
                Stall,
            ]],
            broken(),
        ),
        cured(
            "end between chunks",
            vec![vec![
                Request,
                send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
                Finish,
                Stall,
            ]],
            broken(),
        ),
        cured(
            "end before the last CRLF",
            vec![vec![
                Request,
                send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
                Finish,
                Stall,
            ]],
            broken(),
        ),
        case(
            "reset within the body",
            vec![vec![
                Request,
                send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
                Reset,
            ]],
            broken(),
        ),
        case(
            "end within the head",
            vec![vec![
                Request,
                send("HTTP/1.1 200 OK\r\nContent-Le"),
                Finish,
                Stall,
            ]],
            vec![failed("TruncatedHead")],
        ),
    ]);
}

#[test]
fn d4_statuses_without_a_body_end_with_their_head() {
    let table = [
        (
            "304 with a length",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 500\r\n\r\n",
            304,
            true,
        ),
        (
            "204 with a length",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            204,
            true,
        ),
        (
            "304 chunked",
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
            304,
            true,
        ),
        ("plain 304", "HTTP/1.1 304 Not Modified\r\n\r\n", 304, false),
        ("plain 204", "HTTP/1.1 204 No Content\r\n\r\n", 204, false),
        (
            "HTTP/1.0",
            "HTTP/1.0 304 Not Modified\r\nConnection: keep-alive\r\n\r\n",
            304,
            true,
        ),
        (
            "zero length in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
            200,
            true,
        ),
    ];
    play(table.map(|(name, head, status, fails_without)| Case {
        name,
        scripts: vec![vec![Request, send(head), Request, ok(BODY), Stall]],
        expected: vec![answer(status, ""), answer(200, "is /a2")],
        fails_without,
    }));
}

#[test]
fn d5_bodies_delimited_by_close_arrive_whole() {
    let big = "x".repeat(300_000);
    play([
        cured(
            "HTTP/1.1",
            vec![vec![
                Request,
                send("HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello "),
                send("{path}"),
                Finish,
                Stall,
            ]],
            vec![answer(200, "hello /a1")],
        ),
        cured(
            "after an interim response",
            vec![vec![
                Request,
                send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello"),
                Finish,
                Stall,
            ]],
            vec![answer(200, "hello")],
        ),
        case(
            "empty",
            vec![
                vec![Request, send("HTTP/1.1 200 OK\r\n\r\n"), Finish, Stall],
                vec![Request, ok(BODY), Stall],
            ],
            vec![answer(200, ""), answer(200, "is /a2")],
        ),
        case(
            "HTTP/1.0 without a length",
            vec![vec![
                Request,
                send("HTTP/1.0 200 OK\r\n\r\nhello"),
                Finish,
                Stall,
            ]],
            vec![answer(200, "hello")],
        ),
        case(
            "HTTP/1.0 with a length is not reused",
            vec![
                vec![
                    Request,
                    send("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
                    Stall,
                ],
                vec![Request, ok(BODY), Stall],
            ],
            vec![answer(200, "hello"), answer(200, "is /a2")],
        ),
        case(
            "HTTP/1.0 that keeps the connection is",
            vec![vec![
                Request,
                send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"),
                Request,
                ok(BODY),
                Stall,
            ]],
            vec![answer(200, "hello"), answer(200, "is /a2")],
        ),
        cured(
            "large",
            vec![vec![
                Request,
                send("HTTP/1.1 200 OK\r\n\r\n"),
                Fill(300_000),
                Finish,
                Stall,
            ]],
            vec![answer(200, &big)],
        ),
    ]);
}

#[test]
fn d6_death_on_reuse_is_told_apart() {
    play([
        cured(
            "closed at the second request",
            vec![vec![Request, ok(BODY), Request, Finish, Stall]],
            vec![
                answer(200, "is /a1"),
                failed("DiedBeforeResponse { reused: true }"),
            ],
        ),
        cured(
            "closed at the first request",
            vec![vec![Request, Finish, Stall]],
            vec![failed("DiedBeforeResponse { reused: false }")],
        ),
        cured(
            "reset at the second request",
            vec![vec![Request, ok(BODY), Request, Reset]],
            vec![
                answer(200, "is /a1"),
                failed("DiedBeforeResponse { reused: true }"),
            ],
        ),
    ]);
}

#[test]
fn closed_while_idle_costs_no_more_than_a_repetition() {
    run(async {
        let origin = Origin::start(vec![
            vec![Request, ok(BODY)],
            vec![Request, ok(BODY), Stall],
        ])
        .await;
        let client = Client::guarded(origin.port, limits(), usize::MAX);
        assert_eq!(client.get("/a1").await, answer(200, "is /a1"));
        // The end of the connection is there before the next request, not necessarily known.
        tokio::task::yield_now().await;
        let second = client.get("/a2").await;
        assert!(
            second == answer(200, "is /a2")
                || second == failed("DiedBeforeResponse { reused: true }"),
            "neither a new connection nor a repeatable failure: {second:?}"
        );
    });
}

#[test]
fn contradictory_or_malformed_heads_are_refused() {
    let bad = |reason: &str| vec![failed(&format!("BadFraming({reason:?})"))];
    let table = [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length and Transfer-Encoding",
            true,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length and Transfer-Encoding",
            true,
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "repeated Content-Length",
            false,
        ),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "repeated Content-Length",
            false,
        ),
        ("Content-Length: 5, 5\r\n", "bad Content-Length", false),
        ("Content-Length: +5\r\n", "bad Content-Length", false),
        ("Content-Length: -5\r\n", "bad Content-Length", false),
        ("Content-Length: 0x5\r\n", "bad Content-Length", false),
        ("Content-Length:\r\n", "bad Content-Length", false),
        ("Content-Length : 5\r\n", "bad header line", true),
        (
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding other than chunked",
            true,
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding other than chunked",
            false,
        ),
        (
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding other than chunked",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding other than chunked",
            false,
        ),
        (
            "X: a\r\n b\r\nContent-Length: 5\r\n",
            "bad header line",
            false,
        ),
        ("X: a\nContent-Length: 5\r\n", "bare LF in head", true),
        (
            "X: a\rContent-Length: 5\r\n",
            "control character in head",
            false,
        ),
        (
            "X: a\0b\r\nContent-Length: 5\r\n",
            "control character in head",
            false,
        ),
        (
            "no colon\r\nContent-Length: 5\r\n",
            "bad header line",
            false,
        ),
    ];
    let script = |fields: &str| {
        vec![vec![
            Request,
            Step::Send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n0\r\n\r\n")),
            Stall,
        ]]
    };
    play(table.map(|(fields, reason, _)| case(fields, script(fields), bad(reason))));
    for (fields, _, taken) in table {
        let plain = run(async {
            Client::plain(Origin::start(script(fields)).await.port)
                .get("/a1")
                .await
        });
        assert_eq!(
            matches!(plain, Outcome::Answer(200, _)),
            taken,
            "awc alone: {fields:?}: {plain:?}"
        );
    }
    play(
        [
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "hello\r\n\r\n",
        ]
        .map(|head| {
            case(
                head,
                vec![vec![Request, send(head), Stall]],
                bad("bad status line"),
            )
        }),
    );
    play(
        [
            "HTTP/1.1 099 No\r\n\r\n",
            "HTTP/1.1 600 No\r\n\r\n",
            "HTTP/1.1 999 No\r\n\r\n",
        ]
        .map(|head| {
            case(
                head,
                vec![vec![Request, send(head), Stall]],
                bad("a status outside of 100 to 599"),
            )
        }),
    );
    play([
        case(
            "101 unasked",
            vec![vec![
                Request,
                send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
                Stall,
            ]],
            bad("101 that nobody asked for"),
        ),
        case(
            "chunked in HTTP/1.0",
            vec![vec![
                Request,
                send("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                Stall,
            ]],
            bad("Transfer-Encoding in HTTP/1.0"),
        ),
        case(
            "oversized head",
            vec![vec![
                Request,
                Step::Send(format!(
                    "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
                    "x".repeat(5000)
                )),
                Stall,
            ]],
            vec![failed("HeadTooLarge")],
        ),
        case(
            "endless head",
            vec![vec![
                Request,
                send("HTTP/1.1 200 OK\r\nX: "),
                Fill(100_000),
                Stall,
            ]],
            vec![failed("HeadTooLarge")],
        ),
        case(
            "too many fields",
            vec![vec![
                Request,
                Step::Send(format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(97))),
                Stall,
            ]],
            vec![failed("HeadTooLarge")],
        ),
    ]);
}

#[test]
fn bad_chunks_break_the_response() {
    run(async {
        for body in [
            "xyz\r\n",
            "3\r\nabcd\r\n",
            "3\nabc\r\n",
            "0\r\nbad trailer\r\n\r\n",
            "11111111111111111\r\n",
        ] {
            for split in [usize::MAX, 1] {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                let origin = Origin::start(vec![vec![
                    Request,
                    Step::Send(format!("{head}{body}")),
                    Stall,
                ]])
                .await;
                // With everything in one read the head falls with its body: nothing has been passed on yet.
                match Client::guarded(origin.port, limits(), split)
                    .get("/a1")
                    .await
                {
                    Outcome::Broken(200, fault) | Outcome::Failed(fault) => {
                        assert!(fault.starts_with("BadChunk("), "{fault}")
                    }
                    other => panic!("{body:?}: {other:?}"),
                }
            }
        }
    });
}

#[test]
fn bytes_beyond_a_response_are_never_passed_on() {
    let next = || vec![answer(200, "is /a1"), answer(200, "is /a2")];
    let fresh = || vec![Request, ok(BODY), Stall];
    let smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    play([
        case(
            "in the same piece, after a length",
            vec![
                vec![
                    Request,
                    Step::Send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nis {{path}}{smuggled}"
                    )),
                    Stall,
                ],
                fresh(),
            ],
            next(),
        ),
        case(
            "in the same piece, after chunks",
            vec![
                vec![
                    Request,
                    Step::Send(format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nis {{path}}\r\n0\r\n\r\n{smuggled}"
                    )),
                    Stall,
                ],
                fresh(),
            ],
            next(),
        ),
        case(
            "after a status without a body",
            vec![
                vec![
                    Request,
                    Step::Send(format!("HTTP/1.1 204 No Content\r\n\r\n{smuggled}")),
                    Stall,
                ],
                fresh(),
            ],
            vec![answer(204, ""), answer(200, "is /a2")],
        ),
        case(
            "body after 304",
            vec![
                vec![
                    Request,
                    send("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil"),
                    Stall,
                ],
                fresh(),
            ],
            vec![answer(304, ""), answer(200, "is /a2")],
        ),
    ]);
}

#[test]
fn length_counts_though_an_upgrade_is_offered() {
    play([cured(
        "426 with a body",
        vec![vec![
            Request,
            send(
                "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 6\r\n\r\nis {path}",
            ),
            Request,
            ok(BODY),
            Stall,
        ]],
        vec![answer(426, "is /a1"), answer(200, "is /a2")],
    )]);
}

#[test]
fn head_requests_end_with_the_head() {
    run(async {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            let origin =
                Origin::start(vec![vec![Request, send(head), Request, ok(BODY), Stall]]).await;
            let client = Client::guarded(origin.port, limits(), usize::MAX);
            assert_eq!(
                client.send(request(Method::HEAD, "/a1"), ()).await,
                answer(200, ""),
                "{head:?}"
            );
            assert_eq!(client.get("/a2").await, answer(200, "is /a2"), "{head:?}");
            assert_eq!(origin.connections.get(), 1, "{head:?}");
        }
    });
}

#[test]
fn silence_is_limited_in_every_phase() {
    play([
        case(
            "no response",
            vec![vec![Request, Stall]],
            vec![failed("FirstByteTimeout")],
        ),
        case(
            "half a head",
            vec![vec![Request, send("HTTP/1.1 200 OK\r\n"), Stall]],
            vec![failed("FirstByteTimeout")],
        ),
        case(
            "half a body",
            vec![vec![
                Request,
                send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
                Stall,
            ]],
            vec![Outcome::Broken(200, "IdleTimeout".to_owned())],
        ),
        case(
            "body until close that does not end",
            vec![vec![Request, send("HTTP/1.1 200 OK\r\n\r\nabc"), Stall]],
            vec![Outcome::Broken(200, "IdleTimeout".to_owned())],
        ),
    ]);
}

#[test]
fn answers_are_read_alike_however_they_are_cut() {
    let big = format!(
        "HTTP/1.1 200 OK\r\nX-Long: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        "x".repeat(2000)
    );
    let script = vec![
        Request,
        Step::Send(format!(
            "{big}6;ext=1\r\nis {{path}}\r\n0\r\nTrailer: x\r\n\r\n"
        )),
        Request,
        ok(BODY),
        Stall,
    ];
    run(async {
        for split in [1, 2, 3, 7, 64, 1000, 4096, usize::MAX] {
            let origin = Origin::start(vec![script.clone()]).await;
            let client = Client::guarded(origin.port, limits(), split);
            assert_eq!(
                client.get("/a1").await,
                answer(200, "is /a1"),
                "reads of {split}"
            );
            assert_eq!(
                client.get("/a2").await,
                answer(200, "is /a2"),
                "reads of {split}"
            );
        }
    });
}

#[test]
fn switching_protocols_passes_where_it_was_asked_for() {
    run(async {
        let script = vec![
            Request,
            send(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nraw",
            ),
            Finish,
            Stall,
        ];
        for split in [usize::MAX, 1] {
            let origin = Origin::start(vec![script.clone()]).await;
            let client = Client::guarded(origin.port, limits(), split);
            assert_eq!(
                client.send(upgrade_request("/ws"), ()).await,
                answer(101, "raw"),
                "reads of {split}"
            );
        }
    });
}
