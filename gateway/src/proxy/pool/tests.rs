//! The short way of an answer against the long one, from the bytes of the origin to the lines for
//! the client.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{KeepAlive, Method, ServiceConfig};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;
use crate::http::request_id::RequestIds;
use crate::proxy::headers::for_client;
use crate::proxy::origin_stream::OriginStream;
use crate::proxy::path_mapping::PathMapping;
use crate::proxy::plain_answer::PlainRules;
use crate::proxy::secret_finder::SecretFinder;
use crate::proxy::{location, vary};
use crate::wire::head::fields;

const SECRET: &str = "the-shared-secret-0123456789";

/// An origin that takes everything, sends these pieces and ends.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.pop_front() {
            buf.put_slice(&piece);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a client would get: status, lines in the order of their names, body. Without
/// `Content-Length`, which follows from the body, and lines of one name in their order.
#[derive(Debug, PartialEq)]
struct Got {
    status: u16,
    lines: Vec<(String, Vec<u8>)>,
    /// `None`: it broke off.
    body: Option<Vec<u8>>,
}

/// What answers vary by.
static VARY: [HeaderName; 1] = [header::AUTHORIZATION];

/// What comes of an answer, on the short way where `is_short` and it is plain; and whether it was.
fn come_of(
    pieces: VecDeque<Vec<u8>>,
    is_short: bool,
    rewrites_location: bool,
) -> (Option<Got>, bool) {
    let secret = SecretFinder::new(SECRET.as_bytes()).unwrap();
    let rules = PlainRules {
        secret: &secret,
        vary: &VARY,
        rewrites_location,
    };
    let asking = async {
        let control = OriginControl::default();
        let stream = OriginStream::new(Pieces(pieces), OriginLimits::default(), control);
        let control = stream.control();
        let config = ServiceConfig::new(KeepAlive::Os, Duration::ZERO, Duration::ZERO, false, None);
        let head =
            OriginHead::begin(&Method::GET, "/", &HeaderValue::from_static("origin:80")).end();
        let plain = |head: &[u8]| rules.read(head).filter(|_| is_short);
        let asked = Link::new(stream, control).ask(&head, &config, &plain).await;
        match asked {
            Err(_) => (None, false),
            Ok(Asked::Plain(_, head, body)) => {
                let mut bytes = BytesMut::new();
                head.lines.write(&HeaderMap::new(), &mut bytes);
                let mut lines: Vec<_> = fields(&bytes)
                    .map(|field| {
                        let field = field.unwrap();
                        let name = String::from_utf8(field.name.to_ascii_lowercase()).unwrap();
                        (name, field.value.to_vec())
                    })
                    .collect();
                lines.sort_by(|one, other| one.0.cmp(&other.0));
                let got = Got {
                    status: head.status.as_u16(),
                    lines,
                    body: Some(body.to_vec()),
                };
                (Some(got), true)
            }
            Ok(Asked::Parsed(head, answering)) => {
                let TunnelAnswer::Refused(mut head, mut payload) = answering.into_tunnel(head)
                else {
                    return (None, false);
                };
                let request_id = RequestIds::new().make();
                for_client(&mut head.headers, &secret, &request_id);
                if rewrites_location {
                    let host = HeaderValue::from_static("origin:80");
                    let mapping = PathMapping {
                        stripped: "",
                        base: "",
                    };
                    location::rewrite(&mut head.headers, [&host].into_iter(), mapping);
                }
                vary::add(&mut head.headers, &VARY);
                for name in ["content-length", "x-request-id"] {
                    head.headers.remove(HeaderName::from_static(name));
                }
                let lines = head.headers.iter();
                let mut lines: Vec<_> = lines
                    .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                    .collect();
                lines.sort_by(|one, other| one.0.cmp(&other.0));
                let mut body = Some(Vec::new());
                while let Some(piece) = payload.next().await {
                    match (piece, &mut body) {
                        (Ok(piece), Some(body)) => body.extend_from_slice(&piece),
                        _ => body = None,
                    }
                }
                let status = head.status.as_u16();
                (
                    Some(Got {
                        status,
                        lines,
                        body,
                    }),
                    false,
                )
            }
        }
    };
    actix_rt::System::new().block_on(asking)
}

fn whole(answer: &[u8]) -> VecDeque<Vec<u8>> {
    VecDeque::from([answer.to_vec()])
}

#[test]
fn only_what_is_plain_goes_the_short_way() {
    let long = format!("{}: x\r\n", "x".repeat(65));
    for (head, is_plain) in [
        ("200 OK\r\nContent-Length: 5\r\n", true),
        ("200\r\ncontent-length:5\r\n", true),
        (
            "404 Gone\r\nContent-Length: 5\r\nServer: x\r\nDate: y\r\n",
            true,
        ),
        (
            "200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\nKeep-Alive: 5\r\n",
            true,
        ),
        (
            "200 OK\r\nContent-Length: 5\r\nVary: a\r\nvary: b\r\nX-Request-Id: c\r\n",
            true,
        ),
        (
            "200 OK\r\nContent-Length: 5\r\nContent-Type: text/event-streams\r\n",
            false,
        ),
        (
            "200 OK\r\nContent-Length: 5\r\nContent-Type: Text/Event-Stream\r\n",
            false,
        ),
        ("200 OK\r\nContent-Length: 5\r\nLocation: /x\r\n", false),
        (
            "200 OK\r\nContent-Length: 5\r\nContent-Location: /x\r\n",
            false,
        ),
        (
            "200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, x\r\nX: y\r\n",
            false,
        ),
        (
            "200 OK\r\nContent-Length: 5\r\nConnection: close\r\n",
            false,
        ),
        ("200 OK\r\nContent-Length: 5\r\nUpgrade: h2c\r\n", false),
        (
            "200 OK\r\nContent-Length: 5\r\nX_Shared_Secret: x\r\n",
            false,
        ),
        (
            "200 OK\r\nContent-Length: 5\r\nX-Origin-Guard: invalid\r\n",
            false,
        ),
        (
            "200 OK\r\nContent-Length: 5\r\nX: the-shared-secret-0123456789\r\n",
            false,
        ),
        (
            "200 OK\r\nContent-Length: 5\r\nThe-Shared-Secret-0123456789: x\r\n",
            false,
        ),
        ("200 OK\r\nContent-Length: 6\r\n", false),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n", false),
        ("200 OK\r\n", false),
        (&format!("200 OK\r\nContent-Length: 5\r\n{long}"), false),
    ] {
        let answer = format!("HTTP/1.1 {head}\r\nhello");
        let (_, was_plain) = come_of(whole(answer.as_bytes()), true, true);
        assert_eq!(was_plain, is_plain, "{head:?}");
    }
    let moved = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";
    assert!(come_of(whole(moved), true, false).1);
    let later = VecDeque::from([
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel".to_vec(),
        b"lo".to_vec(),
    ]);
    assert!(!come_of(later, true, true).1);
    let old = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello";
    assert!(!come_of(whole(old), true, true).1);
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let usual = "(Content-Type|content-type|Vary|VARY|Location|Content-Location|Connection|Keep-Alive|Proxy-Authenticate|TE|Trailer|Upgrade|X-Request-Id|X-Shared-Secret|x.origin.guard|X-A|x-a|X-B|Date|Set-Cookie|Server)";
    let values = "(|a|text/plain|text/event-stream|keep-alive|Keep-Alive, keep-alive|close|x-a|\\*|Accept, Authorization|authorization|http://origin:80/x|http://other/|/y|h2c|invalid|the-shared-secret-0123456789|%74he-shared-secret-0123456789|a\tb)";
    prop_oneof![
        8 => (usual, ": ?|:\t ", values, " ?").prop_map(|(name, colon, value, end)| {
            format!("{name}{colon}{value}{end}\r\n").into_bytes()
        }),
        // Bytes that are no text, and blanks of other kinds.
        1 => (
            "[!#$%&'*+.^_`|~a-zA-Z-]{1,70}",
            proptest::collection::vec(
                prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff, Just(b'\t'), Just(0x0b), Just(0x0c), Just(b'\r')],
                0..6,
            ),
        )
            .prop_map(|(name, value)| [name.as_bytes(), b":", &value, b"\r\n"].concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_of_an_answer_come_to_the_same(
        status in "HTTP/1\\.(1|1|1|1|0) (200|200|201|299|302|404|500|204|304|103|101|600)( [a-zA-Z ]{0,5})?\r\n",
        before in proptest::collection::vec(line(), 0..4),
        framing in "(Content-Length: 5|content-length:5|CONTENT-LENGTH: \t5 |Content-Length: 4|Content-Length: 0|Transfer-Encoding: chunked|X: y)\r\n",
        after in proptest::collection::vec(line(), 0..4),
        rewrites_location in any::<bool>(),
    ) {
        let answer = [
            status.as_bytes(),
            &before.concat(),
            framing.as_bytes(),
            &after.concat(),
            b"\r\n",
            if framing.contains("chunked") { b"5\r\nhello\r\n0\r\n\r\n" } else { b"hello" },
        ]
        .concat();
        let (short, _) = come_of(whole(&answer), true, rewrites_location);
        let (long, was_plain) = come_of(whole(&answer), false, rewrites_location);
        prop_assert!(!was_plain);
        prop_assert_eq!(short, long);
    }
}
