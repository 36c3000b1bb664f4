//! One connection of a client, from its first request to its end: the requests that its
//! [`ClientStream`] lets through are given to a handler one at a time, and what the handler answers
//! is written.
//!
//! ```text
//!              a head                   an answer                the body's end
//!  Waiting ───────────► Answering ───────────────► Sending ───────────────────► Waiting, or
//!     │                     │                         │                         Ending, if it is the last
//!     │ the end             │ the client left         │ broken off
//!     ▼                     ▼                         ▼
//!  Ending ──────────────────────────────────────────────────► Closing ────────► the end
//!             what is to be said still is out
//! ```
//!
//! The body of a request is read in `Answering` and `Sending`, beside what they do, as far as the
//! handler takes it. The stream beneath holds every deadline, gives one request at a time, the next
//! when the answer before it is out, and lingers when it is shut down; codec, request and response
//! are those of actix-http.

mod handler;
mod inbox;
mod output;
mod ready_lines;

use std::{
    fmt,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_codec::Decoder as _;
use actix_http::{
    ConnectionType, Method, Request, Response, ServiceConfig, StatusCode, Version,
    body::{BodySize, MessageBody},
    error::PayloadError,
    h1::{Codec, Message, MessageType},
};
use bytes::BytesMut;
use futures_core::future::LocalBoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

pub use self::handler::{AnswerBody, Handler};
pub use self::ready_lines::ReadyLines;
use self::{
    inbox::{Inbox, Room},
    output::Output,
};
use crate::{
    front::client_stream::{ClientControl, ClientFault, ClientSocket, ClientStream},
    wire::{alarm::Alarm, clock::in_one_reading, room::with_spare, turn::OthersFirst},
};

/// How long a connection may take to end once nothing more is to be written, with the time in which
/// it lingers.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

/// How much of an answer is gathered for one write, unless a piece of its body is larger.
const GATHERED_BYTES: usize = 32 * 1024;

/// How much of a request's body is read at once.
const BODY_READ_BYTES: usize = 32 * 1024;

/// Where a connection stands. See the module.
enum Turn<B> {
    /// The head of the next request is awaited.
    Waiting,
    /// The handler is at work.
    Answering(LocalBoxFuture<'static, Response<B>>),
    /// The head of the answer is written, or gathered, and its body is on its way.
    Sending(B),
    /// No request is taken any more. What was gathered still goes out.
    Ending,
    /// Nothing more is said: the stream is shut down.
    Closing,
}

/// Whether something moved, so that everything is to be looked at again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Yes,
    No,
}

/// A connection that is served; a future that ends with it.
pub struct Dispatcher<S, H: Handler> {
    client: ClientStream<S>,
    control: Rc<ClientControl>,
    peer: Option<SocketAddr>,
    handler: Rc<H>,
    config: ServiceConfig,
    codec: Codec,
    turn: Turn<H::Body>,
    /// The body of the request that is being answered, as long as it is not whole.
    inbox: Option<Inbox>,
    /// The answer to the present request has no body, whatever its head says.
    is_head: bool,
    /// What the present request speaks.
    version: Version,
    /// The answer that is on its way goes past the codec: its lines came ready.
    is_ready: bool,
    /// The connection ends with the answer that is on its way.
    is_last: bool,
    /// Nothing more comes from the client.
    left: bool,
    /// The connection ends at once: what is gathered is not for the client any more.
    is_aborted: bool,
    /// Bytes that were read and not taken by the codec.
    input: BytesMut,
    output: Output,
    /// Before the first write of what is gathered.
    others_first: OthersFirst,
    closing: Alarm,
    _connection: H::Connection,
}

impl<S: ClientSocket, H: Handler> Dispatcher<S, H> {
    /// Serves `client`, whose peer is said to be at `peer`; `config` is the worker's.
    pub fn new(
        client: ClientStream<S>,
        peer: Option<SocketAddr>,
        handler: Rc<H>,
        config: ServiceConfig,
    ) -> Self {
        Self {
            control: client.control(),
            client,
            peer,
            codec: Codec::new(config.clone()),
            config,
            turn: Turn::Waiting,
            inbox: None,
            is_head: false,
            version: Version::HTTP_11,
            is_ready: false,
            is_last: false,
            left: false,
            is_aborted: false,
            input: BytesMut::new(),
            output: Output::default(),
            others_first: OthersFirst::default(),
            closing: Alarm::default(),
            _connection: handler.connected(),
            handler,
        }
    }

    /// Goes on as far as it goes now.
    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !matches!(self.turn, Turn::Closing) {
            // What follows a whole request matters only while its handler is not done.
            let is_whole = self.inbox.is_none() && matches!(self.turn, Turn::Answering(_));
            let answered = is_whole.then(|| self.poll_answer(cx));
            if answered != Some(Moved::Yes) {
                // All that is there, before anything is done about it: a request may be at fault in
                // its body.
                while self.read(cx) == Moved::Yes {}
            }
            let was_at_work = is_whole || !matches!(self.turn, Turn::Waiting);
            let answered = answered.unwrap_or_else(|| self.poll_answer(cx));
            let went_on = self.go_on(cx, answered);
            if was_at_work && matches!(self.turn, Turn::Waiting) {
                // The next request may be here already.
                self.decode(cx);
            }
            if self.output.len() > 0 && self.others_first.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some((length, status)) = self.output.whole_answer() {
                self.client.expect_answer(length, status);
            }
            let written = match self.output.poll_write(&mut self.client, cx) {
                Poll::Pending => Moved::No,
                Poll::Ready(Ok(moved)) => {
                    self.others_first.reset();
                    moved
                }
                // Nobody is there to be told anything.
                Poll::Ready(Err(_)) if !self.answers_nobody() => return Poll::Ready(()),
                Poll::Ready(Err(_)) => {
                    self.output.forget();
                    self.end_input(cx);
                    Moved::Yes
                }
            };
            // Whoever takes of what was read wakes the task where that makes room.
            if [went_on, written] == [Moved::No; 2] {
                return Poll::Pending;
            }
        }
        if self.is_aborted {
            return Poll::Ready(());
        }
        self.closing.arm(CLOSE_TIMEOUT);
        if self.closing.poll(cx).is_pending() {
            // An error is an end too.
            let _ = ready!(pin!(&mut self.client).poll_shutdown(cx));
        }
        Poll::Ready(())
    }

    /// Reads what the client has sent, as far as somebody takes it.
    fn read(&mut self, cx: &mut Context<'_>) -> Moved {
        let room = self.inbox.as_ref().map(|inbox| inbox.poll_room(cx));
        // Nothing that follows a last answer is read, but for a client that takes no answer before
        // it has sent its body.
        let is_over = match self.turn {
            Turn::Ending => room.is_none() || self.output.is_out(),
            _ => self.is_last && !self.client.owes(),
        };
        // To the stream an answer is over with its last byte, to its body only when that says so:
        // the next request can be here.
        let is_at_work = !matches!(self.turn, Turn::Waiting);
        let next_is_here = is_at_work && room.is_none() && !self.input.is_empty();
        if self.left || is_over || next_is_here || room == Some(Room::None) {
            return Moved::No;
        }
        let read = if room == Some(Room::There) {
            self.input.reserve(BODY_READ_BYTES);
            pin!(self.client.read_buf(&mut self.input)).poll(cx)
        } else {
            // A head is short. So that no connection holds room for one, it is read into what the
            // worker lends.
            with_spare(|spare| {
                let read = pin!(self.client.read_buf(spare)).poll(cx);
                self.input.extend_from_slice(spare);
                read
            })
        };
        match read {
            Poll::Pending => {
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                Moved::No
            }
            Poll::Ready(Ok(1..)) => {
                self.decode(cx);
                Moved::Yes
            }
            // The client left, or the stream takes no more from it.
            Poll::Ready(Ok(0) | Err(_)) => {
                self.end_input(cx);
                Moved::Yes
            }
        }
    }

    /// Takes apart what was read.
    fn decode(&mut self, cx: &mut Context<'_>) {
        while match self.inbox {
            Some(_) => true,
            None => matches!(self.turn, Turn::Waiting) && !self.input.is_empty(),
        } {
            match self.codec.decode(&mut self.input) {
                Ok(None) => return,
                Ok(Some(Message::Item(request))) => self.begin(request),
                Ok(Some(Message::Chunk(Some(piece)))) => {
                    if let Some(inbox) = &self.inbox {
                        inbox.put(piece, cx);
                    }
                }
                Ok(Some(Message::Chunk(None))) => {
                    if let Some(inbox) = self.inbox.take() {
                        inbox.end(cx);
                    }
                }
                // The stream lets nothing through that the codec refuses.
                Err(error) => {
                    log::error!("stream and codec of a client read a request differently: {error}");
                    return self.end_input(cx);
                }
            }
        }
    }

    /// A head is there.
    fn begin(&mut self, mut request: Request) {
        request.head_mut().peer_addr = self.peer;
        self.is_head = *request.method() == Method::HEAD;
        self.version = request.version();
        let has_body = match self.codec.message_type() {
            MessageType::None => false,
            MessageType::Payload => true,
            MessageType::Stream => H::LEAVES_HTTP,
        };
        if has_body {
            let (inbox, payload) = Inbox::new();
            *request.payload() = payload;
            self.inbox = Some(inbox);
        }
        if request.head().expect() {
            request = match self.handler.expect(request, &self.control) {
                Ok(request) => request,
                Err(refusal) => return self.answer(*refusal),
            };
            self.output.say_continue();
        }
        self.turn = Turn::Answering(self.handler.answer(request, &self.control));
    }

    /// Nothing more comes.
    fn end_input(&mut self, cx: &Context<'_>) {
        self.left = true;
        if let Some(inbox) = self.inbox.take() {
            inbox.break_off(self.fault(), cx);
        }
    }

    /// Why a body did not come to its end, for its handler.
    fn fault(&self) -> PayloadError {
        match self.control.fault() {
            Some(ClientFault::BadChunk(_)) => PayloadError::EncodingCorrupted,
            Some(ClientFault::BodyTooLarge(_)) => PayloadError::Overflow,
            _ => PayloadError::Incomplete(None),
        }
    }

    /// Has the handler go on.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Moved {
        if let Turn::Answering(answering) = &mut self.turn
            && let Poll::Ready(answer) = answering.as_mut().poll(cx)
        {
            self.answer(answer);
            return Moved::Yes;
        }
        Moved::No
    }

    /// Takes more of the answer, which has `moved` if its handler is done.
    fn go_on(&mut self, cx: &mut Context<'_>, mut moved: Moved) -> Moved {
        match self.turn {
            Turn::Sending(_) => {
                if self.gather(cx) == Moved::Yes {
                    moved = Moved::Yes;
                } else if self.is_withdrawn(cx) {
                    self.output.forget();
                    self.client.abort();
                    self.turn = Turn::Closing;
                    self.is_aborted = true;
                    return Moved::Yes;
                }
            }
            Turn::Ending if self.output.is_out() => {
                self.turn = Turn::Closing;
                return Moved::Yes;
            }
            Turn::Waiting | Turn::Answering(_) | Turn::Ending | Turn::Closing => {}
        }
        if self.left && !self.goes_on() {
            // One whose bytes were at fault is answered by the stream where its handler has not,
            // before that is dropped: it is recorded so.
            if matches!(self.turn, Turn::Answering(_)) && self.output.is_out() {
                self.client.answer_for_handler(cx);
            }
            // A client that has left takes its request along.
            self.turn = Turn::Ending;
            moved = Moved::Yes;
        }
        moved
    }

    /// Whether the connection is over anyway, or its handler answers a client that has ended its side.
    fn goes_on(&self) -> bool {
        match self.turn {
            Turn::Ending | Turn::Closing => true,
            Turn::Waiting => false,
            Turn::Answering(_) | Turn::Sending(_) => {
                H::ANSWERS_HALF_CLOSED && self.control.fault().is_none()
            }
        }
    }

    /// Whether a handler is at work that goes on without its client.
    fn answers_nobody(&self) -> bool {
        H::ANSWERS_HALF_CLOSED && matches!(self.turn, Turn::Answering(_))
    }

    /// Whether the caller of a response that its client does not take may not go on.
    fn is_withdrawn(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.turn {
            Turn::Sending(body) if self.output.len() >= GATHERED_BYTES => {
                body.poll_withdrawn(cx).is_ready()
            }
            _ => false,
        }
    }

    /// Gathers the head of the answer.
    fn answer(&mut self, answer: Response<H::Body>) {
        let (mut head, mut body) = answer.into_parts();
        let status = head.status();
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        if !switches {
            self.stay_in_http(&mut head);
        }
        let size = body.size();
        let lines = body.take_lines();
        self.is_ready = lines.is_some();
        if let (Some(lines), BodySize::Sized(length)) = (lines, size) {
            // The library keeps heads for other answers, and with them the version that the codec
            // has set.
            head.head_mut().version = self.version;
            let closes = head.head().connection_type() == ConnectionType::Close;
            self.is_last = closes || !self.codec.keep_alive();
            self.output.ready_head(&head, &lines, length, self.is_last);
        } else if self.output.head(&mut self.codec, head, size).is_ok() {
            self.is_last = switches || !self.codec.keep_alive();
        } else {
            self.turn = Turn::Closing;
            return;
        }
        let is_bodiless = self.is_head
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || matches!(size, BodySize::None | BodySize::Sized(0));
        if is_bodiless && !switches {
            drop(body);
            self.end_answer();
        } else {
            self.turn = Turn::Sending(body);
        }
    }

    /// What is to hold of an answer that does not leave HTTP.
    fn stay_in_http(&mut self, head: &mut Response<()>) {
        let endless = self.codec.message_type() == MessageType::Stream;
        if endless || self.inbox.is_some() || self.left {
            // What follows would be the rest of the body, or taken for it.
            head.head_mut().set_connection_type(ConnectionType::Close);
        } else if self.codec.upgrade() {
            // The offer is passed over (RFC 9110, section 7.8). The codec would repeat it, so
            // another one goes on, to which the same was asked without.
            self.codec = plain_codec(&self.config, self.is_head, self.version);
        }
    }

    /// Gathers the body of the answer, as far as it is there.
    fn gather(&mut self, cx: &mut Context<'_>) -> Moved {
        let mut moved = Moved::No;
        while let Turn::Sending(body) = &mut self.turn
            && self.output.len() < GATHERED_BYTES
        {
            let gathered = match Pin::new(body).poll_next(cx) {
                Poll::Pending => return moved,
                Poll::Ready(Some(Ok(piece))) if self.is_ready => {
                    self.output.ready_piece(&piece);
                    Ok(())
                }
                Poll::Ready(Some(Ok(piece))) => self.output.piece(&mut self.codec, piece),
                Poll::Ready(None) => {
                    let ended = match self.is_ready {
                        true => Ok(()),
                        false => self.output.end(&mut self.codec),
                    };
                    self.end_answer();
                    ended
                }
                Poll::Ready(Some(Err(_))) => {
                    self.break_off();
                    Ok(())
                }
            };
            if gathered.is_err() {
                self.turn = Turn::Ending;
            }
            moved = Moved::Yes;
        }
        moved
    }

    /// The answer does not come to its end. What the client has of it is to be seen not to be the
    /// whole.
    fn break_off(&mut self) {
        let Turn::Sending(body) = std::mem::replace(&mut self.turn, Turn::Ending) else {
            return;
        };
        if self.output.holds_whole_head()
            && let Some(instead) = body.instead()
        {
            self.output.forget_head();
            self.answer(instead);
        }
    }

    /// The answer is gathered to its end.
    fn end_answer(&mut self) {
        self.turn = if self.is_last {
            Turn::Ending
        } else {
            Turn::Waiting
        };
    }
}

/// A codec that was asked as `is_head` and `version` say, by a request without a wish to leave
/// HTTP.
fn plain_codec(config: &ServiceConfig, is_head: bool, version: Version) -> Codec {
    let request = match (is_head, version) {
        (false, Version::HTTP_11) => "GET / HTTP/1.1\r\nhost: h\r\n\r\n",
        (true, Version::HTTP_11) => "HEAD / HTTP/1.1\r\nhost: h\r\n\r\n",
        (false, _) => "GET / HTTP/1.0\r\n\r\n",
        (true, _) => "HEAD / HTTP/1.0\r\n\r\n",
    };
    let mut codec = Codec::new(config.clone());
    let _ = codec.decode(&mut BytesMut::from(request));
    codec
}

impl<S: ClientSocket, H: Handler> Future for Dispatcher<S, H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        in_one_reading(|| this.poll_on(cx))
    }
}

impl<S, H: Handler> Unpin for Dispatcher<S, H> {}

impl<B> fmt::Debug for Turn<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "Waiting",
            Self::Answering(_) => "Answering",
            Self::Sending(_) => "Sending",
            Self::Ending => "Ending",
            Self::Closing => "Closing",
        })
    }
}

impl<S, H: Handler> fmt::Debug for Dispatcher<S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("turn", &self.turn)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
