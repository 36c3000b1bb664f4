//! What a dispatcher has answer requests.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use actix_http::{
    Request, Response,
    body::{BoxBody, MessageBody},
};
use futures_core::future::LocalBoxFuture;

use super::ReadyLines;
use crate::front::client_stream::{ClientControl, ClientFault};

/// Answers the requests of one worker.
pub trait Handler {
    /// The body of an answer.
    type Body: AnswerBody;
    /// What is held for as long as a connection is.
    type Connection;

    /// Whether a request is answered though its client has ended its side of the connection, or is
    /// gone. Otherwise the request ends with that.
    const ANSWERS_HALF_CLOSED: bool = false;

    /// Whether a request may have the connection leave HTTP. Otherwise one that offers it, and one
    /// without a known end, has no body: what follows such a request is none (RFC 9110, section
    /// 7.8).
    const LEAVES_HTTP: bool = true;

    /// A connection begins.
    fn connected(&self) -> Self::Connection;

    /// Decides whether a client that asked first may send its body (RFC 9110, section 10.1.1).
    ///
    /// # Errors
    /// The answer to a request that would be refused.
    fn expect(
        &self,
        request: Request,
        client: &Rc<ClientControl>,
    ) -> Result<Request, Box<Response<Self::Body>>>;

    /// Answers a request that never came to be one; `None` where no answer can be given.
    fn refuse(&self, client: &ClientControl, fault: ClientFault) -> Option<Response<Self::Body>>;

    /// Whether connections are to end with what they are serving.
    fn is_stopping(&self) -> bool;

    /// Answers a request. Dropping the future gives it up.
    fn answer(
        self: &Rc<Self>,
        request: Request,
        client: &Rc<ClientControl>,
    ) -> LocalBoxFuture<'static, Response<Self::Body>>;
}

/// The body of an answer.
pub trait AnswerBody: MessageBody + Unpin + Sized {
    /// What is answered in place of this one, which broke off before anything of it went out;
    /// `None`: what there is of it.
    fn instead(self) -> Option<Response<Self>>;

    /// Takes the lines of a head that is ready but for its body's length and what concerns the
    /// connection. Headers of the response replace lines of the same name. Only for answers of
    /// known length to requests of HTTP/1.1.
    fn take_lines(&mut self) -> Option<ReadyLines> {
        None
    }

    /// Ready once the caller may not go on. Asked while the client takes nothing, so that the body
    /// is not polled.
    fn poll_withdrawn(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

impl AnswerBody for BoxBody {
    fn instead(self) -> Option<Response<Self>> {
        None
    }

    fn poll_withdrawn(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
