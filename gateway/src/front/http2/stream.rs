//! One HTTP/2 stream: a request, the pipeline, a response.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::body::{BodySize, MessageBody};
use actix_http::{BoxedPayloadStream, Payload, Response};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};

use crate::front::client_stream::{ClientControl, ClientFault, ClientLimits, Pace};
use crate::front::dispatcher::{AnswerBody, Handler};
use crate::front::http2::body::Body;
use crate::front::http2::{request, response};
use crate::wire::alarm::PaceMeter;

/// Why a response is incomplete.
enum Broken {
    /// The client reset the stream, or the connection is gone.
    Left,
    /// The client stopped reading the response.
    Stalled,
    /// The response body broke off.
    Body,
}

/// Serves the request of a stream. A reset by the client ends it.
pub(super) async fn serve<H: Handler>(
    handler: Rc<H>,
    control: Rc<ClientControl>,
    limits: ClientLimits,
    request: http_1::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    control.note_request();
    let (parts, body) = request.into_parts();
    let is_head = parts.method == http_1::Method::HEAD;
    let expects = parts.headers.contains_key(http_1::header::EXPECT);
    let response = match request::read(&parts, &limits) {
        Ok(mut request) => {
            drop(parts);
            request.head_mut().peer_addr = control.peer();
            // The pipeline refuses every expectation but this one.
            let waits = expects && !body.is_end_stream();
            let request = with_body(request, body, &control, limits.body);
            match go_ahead(&*handler, request, &control, waits, &mut respond) {
                Ok(request) => {
                    let served = handler.answer(request, &control);
                    unless_reset(served, &mut respond).await
                }
                Err(refusal) => Some(*refusal),
            }
        }
        Err(fault) => {
            control.note_fault(fault);
            handler.refuse(&control, fault)
        }
    };
    let Some(response) = response else {
        control.note_left();
        respond.send_reset(Reason::CANCEL);
        return;
    };
    let sent = send(response, is_head, &mut respond, &control, limits.write).await;
    if let Err((broken, stream)) = sent {
        let reason = match broken {
            Broken::Left => {
                control.note_left();
                Reason::CANCEL
            }
            Broken::Stalled => {
                control.note_fault(ClientFault::WriteStalled);
                Reason::CANCEL
            }
            Broken::Body => Reason::INTERNAL_ERROR,
        };
        match stream {
            Some(mut stream) => stream.send_reset(reason),
            None => respond.send_reset(reason),
        }
    }
}

/// Answers `Expect: 100-continue` (RFC 9110, section 10.1.1) before the body is read.
fn go_ahead<H: Handler>(
    handler: &H,
    request: actix_http::Request,
    control: &Rc<ClientControl>,
    waits: bool,
    respond: &mut SendResponse<Bytes>,
) -> Result<actix_http::Request, Box<Response<H::Body>>> {
    if !waits {
        return Ok(request);
    }
    let request = handler.expect(request, control)?;
    let mut interim = http_1::Response::new(());
    *interim.status_mut() = http_1::StatusCode::CONTINUE;
    // A stream that is gone is noticed by whoever answers it.
    let _ = respond.send_informational(interim);
    Ok(request)
}

fn with_body(
    request: actix_http::Request,
    body: RecvStream,
    control: &Rc<ClientControl>,
    pace: Pace,
) -> actix_http::Request {
    if body.is_end_stream() {
        return request;
    }
    let body = Body::new(body, Rc::clone(control), pace);
    let (request, _) = request.replace_payload(Payload::Stream {
        payload: Box::pin(body) as BoxedPayloadStream,
    });
    request
}

/// Waits for the response; `None` once the client has reset the stream.
async fn unless_reset<T>(
    answer: impl Future<Output = T>,
    respond: &mut SendResponse<Bytes>,
) -> Option<T> {
    let mut answer = pin!(answer);
    poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    })
    .await
}

/// Sends the whole response.
async fn send<B: AnswerBody>(
    response: Response<B>,
    is_head: bool,
    respond: &mut SendResponse<Bytes>,
    control: &ClientControl,
    pace: Pace,
) -> Result<(), (Broken, Option<SendStream<Bytes>>)> {
    let (response, body) = response.into_parts();
    let size = body.size();
    let is_empty = is_head || matches!(size, BodySize::None | BodySize::Sized(0));
    let stream = respond
        .send_response(response::head(response.head(), size), is_empty)
        .map_err(|_| (Broken::Left, None))?;
    if is_empty {
        return Ok(());
    }
    let mut outgoing = Outgoing {
        stream,
        control,
        pace,
        meter: PaceMeter::default(),
    };
    match outgoing.send(pin!(body), size).await {
        Ok(()) => Ok(()),
        Err(broken) => Err((broken, Some(outgoing.stream))),
    }
}

/// Body being sent.
struct Outgoing<'s> {
    stream: SendStream<Bytes>,
    control: &'s ClientControl,
    pace: Pace,
    meter: PaceMeter,
}

impl Outgoing<'_> {
    async fn send<B: AnswerBody>(
        &mut self,
        mut body: Pin<&mut B>,
        size: BodySize,
    ) -> Result<(), Broken> {
        let mut left = match size {
            BodySize::Sized(bytes) => Some(bytes),
            BodySize::None | BodySize::Stream => None,
        };
        while let Some(piece) = self.next(body.as_mut()).await? {
            left = match left {
                Some(left) => Some(left.checked_sub(piece.len() as u64).ok_or(Broken::Body)?),
                None => None,
            };
            // The last chunk ends the stream, once the body has confirmed that it is the last.
            let is_last = left == Some(0) && self.next(body.as_mut()).await?.is_none();
            self.send_piece(piece, is_last, body.as_mut()).await?;
            if is_last {
                return Ok(());
            }
        }
        if left.is_some_and(|left| left > 0) {
            return Err(Broken::Body);
        }
        self.send_frame(Bytes::new(), true)
    }

    /// Next non-empty chunk of the body.
    async fn next<B: MessageBody>(
        &mut self,
        mut body: Pin<&mut B>,
    ) -> Result<Option<Bytes>, Broken> {
        poll_fn(|cx| {
            loop {
                return match body.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(piece))) if piece.is_empty() => continue,
                    Poll::Ready(Some(Ok(piece))) => Poll::Ready(Ok(Some(piece))),
                    Poll::Ready(Some(Err(_))) => Poll::Ready(Err(Broken::Body)),
                    Poll::Ready(None) => Poll::Ready(Ok(None)),
                    Poll::Pending => self.stream.poll_reset(cx).map(|_| Err(Broken::Left)),
                };
            }
        })
        .await
    }

    /// Sends a chunk as far as the client's window allows, and waits for more window.
    async fn send_piece<B: AnswerBody>(
        &mut self,
        mut piece: Bytes,
        is_last: bool,
        mut body: Pin<&mut B>,
    ) -> Result<(), Broken> {
        while !piece.is_empty() {
            self.stream.reserve_capacity(piece.len());
            let room = poll_fn(|cx| self.poll_room(body.as_mut(), cx)).await?;
            let part = piece.split_to(room.min(piece.len()));
            self.meter.moved(part.len());
            self.control.note_sent(part.len());
            let is_last = is_last && piece.is_empty();
            self.send_frame(part, is_last)?;
        }
        Ok(())
    }

    /// Waits for the client's window, for as long as the client keeps its pace and may go on.
    fn poll_room<B: AnswerBody>(
        &mut self,
        body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Broken>> {
        match self.stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
            Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Err(Broken::Left)),
            Poll::Pending if body.get_mut().poll_withdrawn(cx).is_ready() => {
                Poll::Ready(Err(Broken::Body))
            }
            Poll::Pending => {
                ready!(self.meter.poll_out_of_pace(cx, self.pace));
                Poll::Ready(Err(Broken::Stalled))
            }
        }
    }

    fn send_frame(&mut self, data: Bytes, is_last: bool) -> Result<(), Broken> {
        let sent = self.stream.send_data(data, is_last);
        sent.map_err(|_| Broken::Left)
    }
}
