//! The pool of connections: reuse, retry, failures to connect, tunnels.

use std::{cell::Cell, io, net::SocketAddr, rc::Rc, time::Duration};

use actix_http::Method;
use bytes::Bytes;
use futures_core::future::LocalBoxFuture;
use postern_gateway::proxy::{
    names::Resolve,
    origin_stream::OriginLimits,
    pool::{OriginPool, OriginTarget, PoolSettings, TunnelAnswer},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{
    HANG, Origin, Outcome, Step, answer, failed, limits, ok, outcome, read_all, request, run, send,
    upgrade_request,
};

pub(crate) fn settings() -> PoolSettings {
    PoolSettings {
        connect_timeout: Duration::from_millis(600),
        limits: limits(),
        keep_alive: Duration::from_secs(15),
        lifetime: Duration::from_secs(75),
        dns_refresh: Duration::from_secs(10),
        reuse: true,
        tls: None,
    }
}

pub(crate) fn target(port: u16) -> OriginTarget {
    OriginTarget::new(format!("127.0.0.1:{port}").parse().unwrap())
}

async fn get(pool: &OriginPool, to: &OriginTarget, path: &str) -> Outcome {
    outcome(HANG, pool.send(to, request(Method::GET, path), ())).await
}

#[test]
fn each_of_200_requests_gets_its_own_answer_though_interim_ones_come_at_random() {
    run(async {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let mut script = Vec::new();
        for _ in 0..200 {
            script.push(Step::Request);
            for _ in 0..random(4) {
                let status =
                    ["100 Continue", "102 Processing", "103 Early Hints"][random(3) as usize];
                script.push(Step::Send(format!(
                    "HTTP/1.1 {status}\r\nLink: </{{path}}>\r\n\r\n"
                )));
            }
            script.push(match random(2) {
                0 => ok("is {path}"),
                _ => send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nis \r\n3\r\n{path}\r\n0\r\n\r\n"),
            });
        }
        script.push(Step::Stall);
        let origin = Origin::start(vec![script]).await;
        let (pool, to) = (OriginPool::new(settings()), target(origin.port));
        for number in 0..200 {
            let path = format!(
                "/{}{}",
                char::from(b'a' + number % 26),
                char::from(b'a' + number / 26)
            );
            assert_eq!(
                get(&pool, &to, &path).await,
                answer(200, &format!("is {path}"))
            );
        }
        assert_eq!(origin.connections.get(), 1);
    });
}

#[test]
fn fresh_connection_is_one_that_served_nobody() {
    run(async {
        let twice = || {
            vec![
                Step::Request,
                ok("is {path}"),
                Step::Request,
                Step::Finish,
                Step::Stall,
            ]
        };
        let origin = Origin::start(vec![
            twice(),
            twice(),
            vec![Step::Request, ok("is {path}"), Step::Stall],
        ])
        .await;
        let (pool, to) = (OriginPool::new(settings()), target(origin.port));
        // Two connections at once, so that two stale ones wait in the pool.
        let (first, second) = tokio::join!(get(&pool, &to, "/a1"), get(&pool, &to, "/a2"));
        assert_eq!(
            (first, second),
            (answer(200, "is /a1"), answer(200, "is /a2"))
        );
        assert_eq!(
            get(&pool, &to, "/a3").await,
            failed("DiedBeforeResponse { reused: true }")
        );
        let retried = outcome(HANG, pool.send_fresh(&to, request(Method::GET, "/a3"), ())).await;
        assert_eq!(retried, answer(200, "is /a3"));
        assert_eq!(origin.connections.get(), 3);
    });
}

#[test]
fn reuse_can_be_switched_off() {
    run(async {
        let once = || vec![Step::Request, ok("is {path}"), Step::Stall];
        let origin = Origin::start(vec![once(), once()]).await;
        let (pool, to) = (
            OriginPool::new(PoolSettings {
                reuse: false,
                ..settings()
            }),
            target(origin.port),
        );
        assert_eq!(get(&pool, &to, "/a1").await, answer(200, "is /a1"));
        assert_eq!(get(&pool, &to, "/a2").await, answer(200, "is /a2"));
        assert_eq!(origin.connections.get(), 2);
        assert!(
            origin
                .heads
                .borrow()
                .iter()
                .all(|head| head.contains("connection: close\r\n"))
        );
    });
}

#[test]
fn failure_to_connect_says_why() {
    run(async {
        let pool = OriginPool::new(settings());
        // Bound, so that no other test gets the port; nobody listens.
        let bound =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        bound
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let nobody = bound.local_addr().unwrap().as_socket().unwrap();
        let refused = get(&pool, &target(nobody.port()), "/a1").await;
        assert!(
            matches!(&refused, Outcome::Failed(text) if text.starts_with("Unreachable") && text.contains("ConnectionRefused")),
            "{refused:?}"
        );

        let nowhere = get(
            &pool,
            &OriginTarget::new("nowhere.invalid".parse().unwrap()),
            "/a1",
        )
        .await;
        // Without a resolver the look-up may take longer than we allow.
        assert!(
            matches!(&nowhere, Outcome::Failed(text) if text.starts_with("Unresolved") || text.starts_with("ConnectTimeout")),
            "{nowhere:?}"
        );

        let (listener, _held) = black_hole();
        let silent = get(&pool, &target(listener.port()), "/a1").await;
        assert!(
            matches!(&silent, Outcome::Failed(text) if text.starts_with("ConnectTimeout")),
            "{silent:?}"
        );
    });
}

/// A listener whose queue is full, so that further connections are neither taken nor refused.
fn black_hole() -> (SocketAddr, Vec<socket2::Socket>) {
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut held = vec![listener];
    for _ in 0..4 {
        let filler =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address.into());
        held.push(filler);
    }
    (address, held)
}

#[test]
fn target_can_have_limits_of_its_own() {
    run(async {
        let silent = || vec![Step::Request, ok("is {path}"), Step::Request, Step::Stall];
        let origin = Origin::start(vec![silent()]).await;
        let patient = PoolSettings {
            limits: OriginLimits {
                first_byte_timeout: Duration::from_secs(60),
                ..limits()
            },
            ..settings()
        };
        let (pool, to) = (OriginPool::new(patient), target(origin.port));
        assert_eq!(get(&pool, &to, "/a1").await, answer(200, "is /a1"));
        assert_eq!(
            get(&pool, &to.limited_by(limits()), "/a2").await,
            failed("FirstByteTimeout")
        );
        assert_eq!(origin.connections.get(), 1);
    });
}

/// Says what it is told; port 0 is a failure.
struct Scripted(Cell<u16>);

impl Resolve for Scripted {
    fn resolve(&self, _: &str, _: u16) -> LocalBoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(std::future::ready(match self.0.get() {
            0 => Err(io::Error::other("SERVFAIL")),
            port => Ok(vec![([127, 0, 0, 1], port).into()]),
        }))
    }
}

#[test]
fn name_that_moves_is_followed_and_one_that_is_lost_keeps_its_last_address() {
    run(async {
        let one = |text: &'static str| vec![vec![Step::Request, ok(text), Step::Stall]; 2];
        let (old, new) = (
            Origin::start(one("old")).await,
            Origin::start(one("new")).await,
        );
        let resolver = Rc::new(Scripted(Cell::new(old.port)));
        let quick = PoolSettings {
            dns_refresh: Duration::from_millis(1),
            reuse: false,
            ..settings()
        };
        let (pool, to) = (
            OriginPool::with_resolver(quick, resolver.clone()),
            OriginTarget::new("origin.test".parse().unwrap()),
        );
        for (says, wanted) in [(old.port, "old"), (new.port, "new"), (0, "new")] {
            resolver.0.set(says);
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert_eq!(get(&pool, &to, "/").await, answer(200, wanted));
        }
    });
}

#[test]
fn given_address_is_used_in_place_of_the_name() {
    run(async {
        let origin = Origin::start(vec![vec![Step::Request, ok("is {path}"), Step::Stall]]).await;
        let to =
            OriginTarget::new("nowhere.invalid".parse().unwrap())
                .at(([127, 0, 0, 1], origin.port).into());
        assert_eq!(
            get(&OriginPool::new(settings()), &to, "/a1").await,
            answer(200, "is /a1")
        );
    });
}

#[test]
fn many_requests_in_flight_do_not_stop_the_next_one() {
    // D7: the pool of awc stops at 100 in flight over all origins, bodies included.
    run(async {
        let mut scripts = vec![
            vec![
                Step::Request,
                send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
                Step::Stall
            ];
            150
        ];
        scripts.push(vec![Step::Request, ok("is {path}"), Step::Stall]);
        let origin = Origin::start(scripts).await;
        let (pool, to) = (OriginPool::new(settings()), target(origin.port));
        let mut open = Vec::new();
        for _ in 0..150 {
            open.push(
                tokio::time::timeout(HANG, pool.send(&to, request(Method::GET, "/sl"), ()))
                    .await
                    .unwrap()
                    .unwrap(),
            );
        }
        assert_eq!(get(&pool, &to, "/a1").await, answer(200, "is /a1"));
    });
}

#[test]
fn tunnel_carries_bytes_both_ways() {
    run(async {
        let script = vec![
            Step::Request,
            send(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nfirst",
            ),
            Step::Echo,
        ];
        let origin = Origin::start(vec![
            vec![Step::Request, ok("is {path}"), Step::Stall],
            script,
        ])
        .await;
        let (pool, to) = (OriginPool::new(settings()), target(origin.port));
        assert_eq!(get(&pool, &to, "/a1").await, answer(200, "is /a1"));
        let answer = tokio::time::timeout(HANG, pool.open_tunnel(&to, upgrade_request("/ws")))
            .await
            .unwrap()
            .unwrap();
        let TunnelAnswer::Open {
            head,
            mut io,
            first,
        } = answer
        else {
            panic!("{answer:?}")
        };
        assert_eq!(head.headers.get("sec-websocket-accept").unwrap(), "x");
        let mut got = first.to_vec();
        io.write_all(b"hello").await.unwrap();
        while got.len() < 10 {
            got.push(io.read_u8().await.unwrap());
        }
        assert_eq!(Bytes::from(got), "firsthello");
        let sent = origin.heads.borrow()[1].clone();
        assert!(
            sent.contains("connection: upgrade\r\n") && sent.contains("upgrade: websocket\r\n"),
            "{sent}"
        );
        // No idle limit of ours holds in a tunnel.
        tokio::time::timeout(limits().idle_timeout * 2, io.read_u8())
            .await
            .unwrap_err();
        io.write_all(b"x").await.unwrap();
        assert_eq!(io.read_u8().await.unwrap(), b'x');
    });
}

#[test]
fn refused_tunnel_is_an_ordinary_answer() {
    run(async {
        let table = [
            (
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
                403,
                "no",
            ),
            (
                "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
                403,
                "no",
            ),
            (
                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                200,
                "",
            ),
            (
                "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno",
                426,
                "no",
            ),
        ];
        for (response, status, body) in table {
            let origin =
                Origin::start(vec![vec![Step::Request, send(response), Step::Stall]]).await;
            let (pool, to) = (OriginPool::new(settings()), target(origin.port));
            let answer = pool.open_tunnel(&to, upgrade_request("/ws"));
            let TunnelAnswer::Refused(head, payload) =
                tokio::time::timeout(HANG, answer).await.unwrap().unwrap()
            else {
                panic!("{response:?}")
            };
            assert_eq!(head.status.as_u16(), status);
            assert_eq!(
                tokio::time::timeout(HANG, read_all(payload))
                    .await
                    .unwrap()
                    .unwrap(),
                body.as_bytes()
            );
        }
    });
}

#[test]
fn idle_connections_end_in_time_though_no_request_comes() {
    let soon = Duration::from_millis(200);
    for (name, settings) in [
        (
            "waited for long enough",
            PoolSettings {
                keep_alive: soon,
                ..settings()
            },
        ),
        (
            "lived for long enough",
            PoolSettings {
                lifetime: soon,
                ..settings()
            },
        ),
    ] {
        run(async {
            let script = vec![Step::Request, ok("is {path}"), Step::Drain];
            let origin = Origin::start(vec![script; 3]).await;
            let (pool, to) = (OriginPool::new(settings), target(origin.port));
            let begun = std::time::Instant::now();
            tokio::join!(
                get(&pool, &to, "/a1"),
                get(&pool, &to, "/a2"),
                get(&pool, &to, "/a3")
            );
            origin.wait_for_ends(3).await;
            assert!(begun.elapsed() >= soon, "{name}");
            assert_eq!(origin.connections.get(), 3, "{name}");
        });
    }
}

#[test]
fn a_connection_that_its_origin_ends_while_it_is_idle_is_closed_at_once() {
    run(async {
        let script = vec![Step::Request, ok("is {path}"), Step::Finish, Step::Drain];
        let origin = Origin::start(vec![script; 2]).await;
        let (pool, to) = (OriginPool::new(settings()), target(origin.port));
        tokio::join!(get(&pool, &to, "/a1"), get(&pool, &to, "/a2"));
        origin.wait_for_ends(2).await;
    });
}

#[test]
fn connections_end_with_their_pool() {
    run(async {
        let script = vec![Step::Request, ok("is {path}"), Step::Drain];
        let origin = Origin::start(vec![script]).await;
        let (pool, to) = (OriginPool::new(settings()), target(origin.port));
        get(&pool, &to, "/a1").await;
        drop(pool);
        origin.wait_for_ends(1).await;
    });
}

#[test]
fn the_connection_that_was_used_last_goes_first() {
    run(async {
        let script = |name| vec![vec![Step::Request, ok(name)]; 6].concat();
        let origin = Origin::start(vec![script("first"), script("second")]).await;
        let (pool, to) = (OriginPool::new(settings()), target(origin.port));
        tokio::join!(get(&pool, &to, "/a1"), get(&pool, &to, "/a2"));
        let last = get(&pool, &to, "/a3").await;
        for _ in 0..3 {
            assert_eq!(get(&pool, &to, "/a4").await, last);
        }
        assert_eq!(origin.connections.get(), 2);
    });
}
