//! A WebSocket that echoes every frame, for trying upgrades through the gateway.

use actix_codec::{Decoder, Encoder};
use actix_http::Response;
use actix_http::body::{BodyStream, BoxBody};
use actix_http::ws::{CloseCode, Codec, Frame, Message, handshake};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};

use crate::demo::events::Stopping;

/// Maximum frame that is echoed; a larger one ends the connection with 1002.
const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

struct Socket {
    received: web::Payload,
    unread: BytesMut,
    codec: Codec,
    stopping: Stopping,
    closed: bool,
}

/// Echoes frames of up to [`MAX_FRAME_BYTES`], answers pings, and closes with 1001 when the server
/// stops.
pub(super) async fn echo(
    request: HttpRequest,
    received: web::Payload,
    stopping: web::Data<Stopping>,
) -> HttpResponse {
    let stopping = stopping.get_ref().clone();
    let socket = Socket {
        received,
        unread: BytesMut::new(),
        codec: Codec::new().max_size(MAX_FRAME_BYTES),
        stopping,
        closed: false,
    };
    let frames = BoxBody::new(BodyStream::new(stream::unfold(socket, next)));
    match handshake(request.head()) {
        Ok(mut answer) => answer
            .message_body(frames)
            .unwrap_or_else(Response::from)
            .into(),
        Err(refused) => Response::from(refused).into(),
    }
}

async fn next(mut socket: Socket) -> Option<(Result<Bytes, actix_web::Error>, Socket)> {
    if socket.closed {
        return None;
    }
    let reply = socket.reply().await?;
    socket.closed = matches!(reply, Message::Close(_));
    let mut sent = BytesMut::new();
    socket.codec.encode(reply, &mut sent).ok()?;
    Some((Ok(sent.freeze()), socket))
}

impl Socket {
    /// Returns the response to the next frame; `None` once the client is gone.
    async fn reply(&mut self) -> Option<Message> {
        loop {
            match self.codec.decode(&mut self.unread) {
                Ok(Some(Frame::Text(text))) => {
                    return Some(match String::from_utf8(text.into()) {
                        Ok(text) => Message::Text(text.into()),
                        Err(_) => Message::Close(Some(CloseCode::Invalid.into())),
                    });
                }
                Ok(Some(Frame::Binary(data))) => return Some(Message::Binary(data)),
                Ok(Some(Frame::Continuation(item))) => return Some(Message::Continuation(item)),
                Ok(Some(Frame::Ping(data))) => return Some(Message::Pong(data)),
                Ok(Some(Frame::Pong(_))) => {}
                Ok(Some(Frame::Close(reason))) => return Some(Message::Close(reason)),
                Err(_) => return Some(Message::Close(Some(CloseCode::Protocol.into()))),
                Ok(None) => tokio::select! {
                    chunk = self.received.next() => self.unread.extend_from_slice(&chunk?.ok()?),
                    () = self.stopping.stopped() => return Some(Message::Close(Some(CloseCode::Away.into()))),
                },
            }
        }
    }
}
