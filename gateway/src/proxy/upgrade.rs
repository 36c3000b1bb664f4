//! WebSocket (RFC 6455): a request that asks to leave HTTP, and the bytes in both directions once the origin agreed.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_http::error::PayloadError;
use actix_http::header::{self, HeaderMap, HeaderValue};
use actix_http::{ConnectionType, Method, Payload, RequestHead, Response, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::proxy::OriginUrl;
use crate::proxy::body::{BodyProgress, OriginBody};
use crate::proxy::forward::{Answer, Failure, judge, respond};
use crate::proxy::pool::{OriginPool, TunnelAnswer, TunnelIo};

/// Bytes that are read from the origin at once.
const READ_BYTES: usize = 16 * 1024;

/// What a request says of leaving HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing, or something that is not offered here and that its sender has to do without (RFC 9110, section 7.8).
    No,
    /// It wants to speak WebSocket.
    WebSocket,
    /// It names WebSocket in a way that readers understand differently; where its body ends is then unclear.
    Malformed,
}

impl Upgrade {
    /// Reads what a request asks for.
    #[must_use]
    pub fn requested(head: &RequestHead) -> Self {
        let names = |name, wanted: &str| {
            let lines = head.headers.get_all(name).filter_map(|line: &HeaderValue| line.to_str().ok());
            lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(wanted))
        };
        if !names(header::UPGRADE, "websocket") {
            return Self::No;
        }
        let alone = head.headers.get_all(header::UPGRADE).count() == 1
            && head.headers.get(header::UPGRADE).is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let framed = head.headers.contains_key(header::CONTENT_LENGTH) || head.headers.contains_key(header::TRANSFER_ENCODING);
        if alone && !framed && head.method == Method::GET && names(header::CONNECTION, "upgrade") {
            Self::WebSocket
        } else {
            Self::Malformed
        }
    }
}

/// Sends the request to leave HTTP, and passes on what the origin says to it. When it agrees, bytes flow both ways until
/// either side ends, or until none came for `idle_timeout`.
///
/// Nothing that the client sends after its head reaches the origin before the origin agreed.
///
/// # Errors
/// Why there is no answer to pass on.
pub async fn open(
    pool: &OriginPool,
    upstream: &OriginUrl,
    mut head: RequestHead,
    client: Payload,
    idle_timeout: Duration,
    progress: Rc<BodyProgress>,
) -> Result<Answer, Failure> {
    head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    head.set_connection_type(ConnectionType::Upgrade);
    let begun = Instant::now();
    let answer = pool.open_tunnel(upstream.target(), head).await.map_err(|error| judge(&error, &progress))?;
    let wait = begun.elapsed();
    let response = match answer {
        TunnelAnswer::Refused(head, payload) => {
            let mut response = respond(head, payload, false)?;
            // The client may have sent more than its head, which is no request.
            response.head_mut().set_connection_type(ConnectionType::Close);
            response
        }
        TunnelAnswer::Open { head, io, first } => {
            if !agrees(&head.headers) {
                return Err(Failure::BadAnswer("the origin answered 101 without agreeing to WebSocket".to_owned()));
            }
            let mut response =
                Response::with_body(StatusCode::SWITCHING_PROTOCOLS, tunnel(io, first, client, idle_timeout, progress));
            *response.headers_mut() = head.headers;
            response
        }
    };
    Ok(Answer { response, wait })
}

/// Marks a response as one that leaves HTTP; after its headers were looked through, which takes such marks off.
pub fn mark_switched(response: &mut Response<OriginBody>) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let head = response.head_mut();
        head.set_connection_type(ConnectionType::Upgrade);
        head.no_chunking(true);
    }
}

fn agrees(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The origin's bytes as a body. A task of its own carries the client's bytes the other way; it ends with the body.
fn tunnel(
    io: Box<dyn TunnelIo>,
    first: Bytes,
    client: Payload,
    idle_timeout: Duration,
    progress: Rc<BodyProgress>,
) -> OriginBody {
    let (from_origin, to_origin) = tokio::io::split(io);
    let last_byte = Rc::new(Cell::new(Instant::now()));
    let upward = Aborting(actix_rt::spawn(carry(client, to_origin, Rc::clone(&last_byte), progress)));
    let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
    let state = Downward { from_origin, last_byte, idle_timeout, _upward: upward };
    let rest = stream::try_unfold(state, |mut state| async move { Ok(state.read().await?.map(|bytes| (bytes, state))) });
    OriginBody::new(Payload::Stream { payload: Box::pin(first.chain(rest)) }, None, false)
}

/// The way from the origin to the client.
struct Downward {
    from_origin: ReadHalf<Box<dyn TunnelIo>>,
    last_byte: Rc<Cell<Instant>>,
    idle_timeout: Duration,
    _upward: Aborting,
}

impl Downward {
    /// The next bytes; `None` at the end.
    async fn read(&mut self) -> Result<Option<Bytes>, PayloadError> {
        let mut buffer = bytes::BytesMut::with_capacity(READ_BYTES);
        loop {
            let quiet_until = self.last_byte.get() + self.idle_timeout;
            match tokio::time::timeout_at(quiet_until.into(), self.from_origin.read_buf(&mut buffer)).await {
                Ok(read) => {
                    self.last_byte.set(Instant::now());
                    return Ok((read? > 0).then(|| buffer.freeze()));
                }
                // The client may have sent something in the meantime.
                Err(_) if self.last_byte.get() + self.idle_timeout > Instant::now() => {}
                Err(_) => {
                    return Err(PayloadError::Io(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "nothing was sent on a WebSocket for too long",
                    )));
                }
            }
        }
    }
}

/// The way from the client to the origin, until the client ends.
async fn carry(
    mut client: Payload,
    mut to_origin: WriteHalf<Box<dyn TunnelIo>>,
    last_byte: Rc<Cell<Instant>>,
    progress: Rc<BodyProgress>,
) {
    while let Some(Ok(bytes)) = client.next().await {
        last_byte.set(Instant::now());
        progress.passed(bytes.len());
        if to_origin.write_all(&bytes).await.is_err() || to_origin.flush().await.is_err() {
            return;
        }
    }
    let _ = to_origin.shutdown().await;
}

/// A task that ends with its owner.
struct Aborting(actix_rt::task::JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use actix_http::header::HeaderName;

    use super::*;

    #[test]
    fn only_a_well_formed_request_for_websocket_leaves_http() {
        for (method, lines, wanted) in [
            (Method::GET, &[("connection", "Upgrade"), ("upgrade", "websocket")][..], Upgrade::WebSocket),
            (Method::GET, &[("connection", "keep-alive, upgrade"), ("upgrade", "WebSocket")], Upgrade::WebSocket),
            (Method::GET, &[], Upgrade::No),
            (Method::GET, &[("connection", "upgrade"), ("upgrade", "h2c")], Upgrade::No),
            (Method::GET, &[("upgrade", "websocket")], Upgrade::Malformed),
            (Method::POST, &[("connection", "upgrade"), ("upgrade", "websocket")], Upgrade::Malformed),
            (Method::GET, &[("connection", "upgrade"), ("upgrade", "websocket, h2c")], Upgrade::Malformed),
            (Method::GET, &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")], Upgrade::Malformed),
            (Method::GET, &[("connection", "upgrade"), ("upgrade", "websocket"), ("content-length", "3")], Upgrade::Malformed),
            (
                Method::GET,
                &[("connection", "upgrade"), ("upgrade", "websocket"), ("transfer-encoding", "chunked")],
                Upgrade::Malformed,
            ),
        ] {
            let mut head = RequestHead::default();
            head.method = method;
            for (name, value) in lines {
                head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(Upgrade::requested(&head), wanted, "{lines:?}");
        }
    }
}
