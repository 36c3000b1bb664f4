//! The dispatcher over a socket and a handler that do what a script says, in any order.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    time::Duration,
};

use actix_http::{
    KeepAlive, Payload,
    body::BoxBody,
    header::{HeaderName, HeaderValue},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf, duplex};

use super::*;
use crate::front::client_stream::{ClientGuard, ClientLimits, Pace};

type BoxError = Box<dyn std::error::Error>;

/// What a client does next.
#[derive(Clone, Debug)]
enum Move {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Does nothing, and everybody is asked again.
    Pause,
    /// Ends its side.
    Finish,
    /// Breaks the connection.
    Reset,
    /// Takes so many bytes at a time from now on; none: it takes nothing until the next pause.
    Take(usize),
}

#[derive(Debug, Default)]
struct Wire {
    moves: RefCell<VecDeque<Move>>,
    sent: RefCell<VecDeque<u8>>,
    takes: Cell<usize>,
    is_finished: Cell<bool>,
    is_reset: Cell<bool>,
    taken: RefCell<Vec<u8>>,
    is_shut_down: Cell<bool>,
}

impl Wire {
    /// Makes the client's next move, if it has one left.
    fn step(&self) -> bool {
        let next = self.moves.borrow_mut().pop_front();
        match next {
            None => return false,
            Some(Move::Send(bytes)) => self.sent.borrow_mut().extend(bytes),
            Some(Move::Pause) => {}
            Some(Move::Finish) => self.is_finished.set(true),
            Some(Move::Reset) => self.is_reset.set(true),
            Some(Move::Take(most)) => self.takes.set(most),
        }
        true
    }
}

/// The server's end of it.
struct Socket(Rc<Wire>);

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &self.0;
        if wire.is_reset.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut sent = wire.sent.borrow_mut();
        let count = sent.len().min(buf.remaining());
        if count > 0 {
            let bytes: Vec<u8> = sent.drain(..count).collect();
            buf.put_slice(&bytes);
        } else if !wire.is_finished.get() {
            // Whoever drives the test asks again after each move.
            let _ = cx;
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = &self.0;
        if wire.is_reset.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        assert!(!wire.is_shut_down.get(), "written after the end");
        let count = data.len().min(wire.takes.get());
        if count == 0 {
            return Poll::Pending;
        }
        wire.taken.borrow_mut().extend_from_slice(&data[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.is_shut_down.set(true);
        Poll::Ready(Ok(()))
    }
}

impl ClientSocket for Socket {
    fn reset_on_close(&self) {}
}

/// Answers with the path and the body of each request, in a way that the path names.
#[derive(Default)]
struct Echo {
    asked: Cell<usize>,
    running: Rc<Cell<usize>>,
}

/// A body in pieces, each after so many times that nothing is there.
struct Pieces {
    pieces: VecDeque<Result<Bytes, BoxError>>,
    length: Option<usize>,
    waits: usize,
    lines: Option<ReadyLines>,
    _running: Running,
}

struct Running(Rc<Cell<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl MessageBody for Pieces {
    type Error = BoxError;

    fn size(&self) -> BodySize {
        self.length
            .map_or(BodySize::Stream, |length| BodySize::Sized(length as u64))
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BoxError>>> {
        let this = self.get_mut();
        if this.waits > 0 {
            this.waits -= 1;
            return Poll::Pending;
        }
        this.waits = 1;
        Poll::Ready(this.pieces.pop_front())
    }
}

impl AnswerBody for Pieces {
    fn instead(self) -> Option<Response<Self>> {
        None
    }

    fn take_lines(&mut self) -> Option<ReadyLines> {
        self.lines.take()
    }

    fn poll_withdrawn(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Handler for Echo {
    type Body = Pieces;
    type Connection = ();

    fn connected(&self) {}

    fn expect(
        &self,
        request: Request,
        _: &Rc<ClientControl>,
    ) -> Result<Request, Box<Response<Pieces>>> {
        Ok(request)
    }

    fn refuse(&self, _: &ClientControl, _: ClientFault) -> Option<Response<Pieces>> {
        None
    }

    fn is_stopping(&self) -> bool {
        false
    }

    fn answer(
        self: &Rc<Self>,
        mut request: Request,
        _: &Rc<ClientControl>,
    ) -> LocalBoxFuture<'static, Response<Pieces>> {
        self.asked.set(self.asked.get() + 1);
        self.running.set(self.running.get() + 1);
        let running = Running(Rc::clone(&self.running));
        Box::pin(async move {
            let path = request.path().to_owned();
            let mut told = path.clone().into_bytes();
            let mut payload: Payload = request.take_payload();
            // An offer to leave HTTP may have no end that could be waited for.
            let offers = request.head().headers.contains_key("upgrade");
            if !(path.contains("unread") || offers) {
                while let Some(piece) = payload.next().await {
                    match piece {
                        Ok(piece) => told.extend_from_slice(&piece),
                        Err(_) => return answer(400, vec![Ok(Bytes::new())], Some(0), running),
                    }
                }
            }
            if path.contains("late") {
                tokio::task::yield_now().await;
            }
            let told = Bytes::from(told);
            match &*path {
                _ if path.contains("ready") || path.contains("usual") => {
                    let length = told.len();
                    let mut answer = answer(200, vec![Ok(told)], Some(length), running);
                    if path.contains("closing") {
                        answer.head_mut().set_connection_type(ConnectionType::Close);
                    }
                    let (name, value) = ("x-a", "b");
                    if path.contains("usual") {
                        answer.headers_mut().insert(
                            HeaderName::from_static(name),
                            HeaderValue::from_static(value),
                        );
                        return answer;
                    }
                    let mut lines = ReadyLines::default();
                    lines.push(name.as_bytes(), value.as_bytes());
                    answer.map_body(|_, body| Pieces {
                        lines: Some(lines),
                        ..body
                    })
                }
                _ if path.contains("chunks") => {
                    answer(200, vec![Ok(told.clone()), Ok(told)], None, running)
                }
                _ if path.contains("broken") => {
                    let length = told.len() + 1;
                    answer(
                        200,
                        vec![Ok(told), Err("broken".into())],
                        Some(length),
                        running,
                    )
                }
                _ if path.contains("none") => answer(204, Vec::new(), Some(0), running),
                _ => {
                    let length = told.len();
                    answer(200, vec![Ok(told)], Some(length), running)
                }
            }
        })
    }
}

fn answer(
    status: u16,
    pieces: Vec<Result<Bytes, BoxError>>,
    length: Option<usize>,
    running: Running,
) -> Response<Pieces> {
    let body = Pieces {
        pieces: pieces.into(),
        length,
        waits: 1,
        lines: None,
        _running: running,
    };
    Response::with_body(StatusCode::from_u16(status).unwrap(), body)
}

/// Deadlines that a test waits for.
fn limits() -> ClientLimits {
    let soon = Duration::from_millis(4);
    let pace = Pace {
        idle: soon,
        min_rate: 0,
    };
    ClientLimits {
        head_timeout: soon,
        keep_alive: soon,
        body: pace,
        write: pace,
        linger: soon,
        head_bytes: 128 * 1024,
        ..ClientLimits::default()
    }
}

struct Ended {
    /// What the client was sent, without its dates.
    taken: String,
    asked: usize,
}

/// Serves a client that makes these moves, to the end of its connection, which has to come.
fn serve(moves: Vec<Move>) -> Ended {
    let serving = async {
        let wire = Rc::new(Wire::default());
        wire.takes.set(usize::MAX);
        wire.moves.borrow_mut().extend(moves);
        let handler = Rc::new(Echo::default());
        let guard = ClientGuard::new(limits());
        let config = ServiceConfig::new(KeepAlive::Os, Duration::ZERO, Duration::ZERO, false, None);
        let client = guard.wrap(Socket(Rc::clone(&wire)), None);
        let mut dispatcher = Dispatcher::new(client, None, Rc::clone(&handler), config);
        let served = async {
            loop {
                // Also twice in a row without a move: nothing may depend on how often it is asked.
                for _ in 0..2 {
                    if std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut dispatcher).poll(cx)))
                        .await
                        .is_ready()
                    {
                        return;
                    }
                }
                if !wire.step() {
                    // What is pending now is pending for good, but for its deadlines and for bodies
                    // that wait to be asked.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(2), served)
            .await
            .expect("an end");
        drop(dispatcher);
        assert_eq!(handler.running.get(), 0, "a request goes on");
        let taken = String::from_utf8_lossy(&wire.taken.borrow()).into_owned();
        let lines = taken.split_inclusive("\r\n");
        Ended {
            taken: lines.filter(|line| !line.starts_with("date: ")).collect(),
            asked: handler.asked.get(),
        }
    };
    actix_rt::System::new().block_on(serving)
}

/// Requests of every kind.
const REQUESTS: &str = "((GET|HEAD) /(a|late|chunks|none|unread|ready) HTTP/1\\.1\r\nHost: h\r\n(Connection: (close|upgrade|keep-alive)\r\n)?\r\n|POST /(a|late|chunks|none|unread)(/late)? HTTP/1\\.1\r\nHost: h\r\n(Expect: 100-continue\r\n)?Content-Length: 5\r\n\r\n[a-c]{5}|PUT /(a|chunks|unread) HTTP/1\\.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n(2\r\n[a-c]{2}\r\n){0,3}0\r\n\r\n|GET /a HTTP/1\\.0\r\n(Connection: keep-alive\r\n)?\r\n){1,4}";

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// However the bytes are cut, they mean the same. (Where a body is not read, it matters how
    /// much of it is there when its request is answered: not part of this.)
    #[test]
    fn the_same_bytes_are_answered_alike_however_they_are_cut(
        requests in REQUESTS,
        sizes in proptest::collection::vec(1_usize..60, 1..6),
        takes in 1_usize..300,
    ) {
        prop_assume!(!requests.contains("unread"));
        let bytes = requests.as_bytes();
        let (mut at, mut moves) = (0, vec![Move::Take(takes)]);
        for size in sizes.iter().cycle() {
            let end = (at + size).min(bytes.len());
            if at == end {
                break;
            }
            moves.push(Move::Send(bytes[at..end].to_vec()));
            at = end;
        }
        let whole = serve(vec![Move::Send(bytes.to_vec())]);
        let cut = serve(moves);
        prop_assert_eq!(&cut.taken, &whole.taken);
        prop_assert_eq!(cut.asked, whole.asked);
    }

    /// An answer whose lines come ready is the same as one that the codec writes.
    #[test]
    fn ready_lines_are_written_as_the_codec_would(
        requests in "(GET /usual(/late|/closing)? HTTP/1\\.1\r\nHost: h\r\n(Connection: (close|upgrade|keep-alive)\r\n)?(Upgrade: (h2c|websocket)\r\n)?\r\n|POST /usual(/unread)? HTTP/1\\.1\r\nHost: h\r\n(Expect: 100-continue\r\n)?Content-Length: 5\r\n\r\n[a-c]{5}|GET /(a|chunks|none) HTTP/1\\.1\r\nHost: h\r\n\r\n){1,4}",
    ) {
        let send = |text: String| serve(vec![Move::Send(text.into_bytes())]);
        let (ready, usual) = (send(requests.replace("/usual", "/ready")), send(requests));
        prop_assert_eq!(ready.taken, usual.taken.replace("/usual", "/ready"));
        prop_assert_eq!(ready.asked, usual.asked);
    }

    /// In any order of what a client and a handler can do, a connection ends, no request outlives
    /// it, no answer comes unasked, and nothing follows an answer that closes.
    #[test]
    fn every_course_of_events_comes_to_an_end(
        pieces in proptest::collection::vec(
            prop_oneof![
                4 => "(GET|POST|HEAD) /(a|late|chunks|none|unread|broken|ready)(/late)? HTTP/1\\.1\r\nHost: h\r\n(Connection: (close|upgrade)\r\n)?(Upgrade: (websocket|h2c)\r\n)?(Expect: 100-continue\r\n)?(Content-Length: [0-9]\r\n|Transfer-Encoding: chunked\r\n)?\r\n",
                2 => "[a-c]{1,9}",
                2 => "([0-9a]\r\n[a-c]{0,9}\r\n){1,2}",
                1 => "0\r\n\r\n",
                1 => "[ -~\r\n]{0,20}",
            ].prop_map(|text| Move::Send(text.into_bytes())),
            1..6,
        ),
        others in proptest::collection::vec(
            (0_usize..12, prop_oneof![
                6 => Just(Move::Pause),
                1 => Just(Move::Finish),
                1 => Just(Move::Reset),
                2 => (0_usize..200).prop_map(Move::Take),
            ]),
            0..6,
        ),
    ) {
        let mut moves = pieces;
        for (at, other) in others {
            moves.insert(at.min(moves.len()), other);
        }
        let ended = serve(moves);
        let answers = ended.taken.matches("HTTP/1.").count() - ended.taken.matches("100 Continue").count();
        // One for each request, and one more for what is none.
        prop_assert!(answers <= ended.asked + 1, "{}", ended.taken);
        let closing = ended.taken.find("connection: close\r\n");
        if let Some(at) = closing {
            prop_assert!(!ended.taken[at..].contains("HTTP/1."), "{}", ended.taken);
        }
    }
}

#[test]
fn a_connection_and_its_requests_are_small_while_they_wait() {
    let bytes = size_of::<Dispatcher<tokio::net::TcpStream, crate::pipeline::Worker>>();
    assert!(bytes <= 2048, "{bytes} bytes");
}

#[test]
fn a_head_larger_than_the_room_that_is_lent_is_read() {
    for bytes in [10_000, 16_384, 40_000, 120_000] {
        let head = format!(
            "GET /a HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
            "x".repeat(bytes)
        );
        let ended = serve(vec![Move::Send(head.repeat(2).into_bytes())]);
        let answers = ended.taken.matches("HTTP/1.1 200").count();
        assert_eq!(answers, 2, "{bytes}: {}", ended.taken);
    }
}

#[test]
fn an_answer_whose_lines_come_ready_does_not_close_because_another_did() {
    // Heads of answers are kept for others, on one thread.
    for old in [
        "GET /a HTTP/1.0\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ] {
        serve(vec![Move::Send(old.as_bytes().to_vec())]);
        let next = "GET /ready HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2);
        let ended = serve(vec![Move::Send(next.into_bytes())]);
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-a: b\r\n\r\n/ready";
        assert_eq!(ended.taken, answer.repeat(2), "after {old:?}");
    }
}

/// Makes a change that takes time.
struct Change {
    is_made: Cell<bool>,
}

impl Handler for Change {
    type Body = BoxBody;
    type Connection = ();

    const ANSWERS_HALF_CLOSED: bool = true;

    fn connected(&self) {}

    fn expect(
        &self,
        request: Request,
        _: &Rc<ClientControl>,
    ) -> Result<Request, Box<Response<BoxBody>>> {
        Ok(request)
    }

    fn refuse(&self, _: &ClientControl, _: ClientFault) -> Option<Response<BoxBody>> {
        None
    }

    fn is_stopping(&self) -> bool {
        false
    }

    fn answer(
        self: &Rc<Self>,
        _: Request,
        _: &Rc<ClientControl>,
    ) -> LocalBoxFuture<'static, Response<BoxBody>> {
        let handler = Rc::clone(self);
        Box::pin(async move {
            tokio::task::yield_now().await;
            handler.is_made.set(true);
            Response::ok().map_into_boxed_body()
        })
    }
}

#[actix_rt::test]
async fn a_change_goes_on_whose_client_is_gone_before_it_is_told_to_send_the_body() {
    let (mut client, socket) = duplex(1024);
    let request =
        "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx";
    client.write_all(request.as_bytes()).await.unwrap();
    // A write fails from now on.
    drop(client);
    let handler = Rc::new(Change {
        is_made: Cell::new(false),
    });
    let config = ServiceConfig::new(KeepAlive::Os, Duration::ZERO, Duration::ZERO, false, None);
    let client = ClientGuard::new(limits()).wrap(socket, None);
    Dispatcher::new(client, None, Rc::clone(&handler), config).await;
    assert!(handler.is_made.get());
}
