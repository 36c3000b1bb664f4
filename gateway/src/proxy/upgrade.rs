//! Protocol upgrades (RFC 9110, section 7.8): the request to the origin, and the tunnel once it
//! agreed.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_http::error::PayloadError;
use actix_http::header::{self, HeaderValue};
use actix_http::{ConnectionType, Payload, Response, StatusCode};
use awc::error::SendRequestError;
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::auth::CallerTag;
use crate::auth::key_source::PLAIN_SUBPROTOCOL;
use crate::front::client_stream::ClientControl;
use crate::proxy::answer::{Follows, answer};
use crate::proxy::body::{BodyProgress, OriginBody, TunnelIdle};
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::origin_head::OriginHead;
use crate::proxy::pool::{OriginPool, OriginTarget, TunnelAnswer, TunnelIo};
use crate::proxy::retry::{ForwardedResponse, HostHeader, Retryable, send_with_retries};
use crate::proxy::upstream::Upstream;

/// Read size of the origin's side of a tunnel, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// The client's side of an upgrade.
pub struct Client {
    /// Identifies the caller, should targets crash on the request.
    pub caller: CallerTag,
    /// Client connection.
    pub control: Rc<ClientControl>,
    /// Requested protocol.
    pub protocol: HeaderValue,
    /// Counts the client's bytes.
    pub progress: Rc<BodyProgress>,
    /// Longest silence of both sides.
    pub idle_timeout: Duration,
}

/// Sends the upgrade request, whose head asks for the protocol, and returns the origin's response.
/// After a 101, bytes flow both ways until either side ends or the idle time expires.
///
/// Bytes after the client's head reach the origin only after it agreed.
///
/// # Errors
/// Why there is no response to pass on.
pub async fn open(
    pool: &OriginPool,
    upstream: &Upstream,
    host: HostHeader,
    head: OriginHead,
    client: Client,
) -> Result<ForwardedResponse, Failed> {
    let mut request = Upgrading(Some(head));
    let (caller, progress) = (client.caller, &client.progress);
    let answered = send_with_retries(pool, upstream, host, caller, progress, &mut request).await?;
    answered.into_response(|tunnel| into_response(tunnel, &client))
}

/// Upgrade request; `None` after its head was sent.
struct Upgrading(Option<OriginHead>);

impl Retryable for Upgrading {
    type Output = TunnelAnswer;

    fn set_host(&mut self, host: &HeaderValue) {
        if let Some(head) = &mut self.0 {
            head.set_host(host);
        }
    }

    async fn send(
        &mut self,
        pool: &OriginPool,
        target: &OriginTarget,
    ) -> Result<TunnelAnswer, SendRequestError> {
        pool.try_tunnel(target, &mut self.0).await
    }

    fn is_retryable(&self, _: &SendRequestError) -> bool {
        self.0.is_some()
    }
}

fn into_response(tunnel: TunnelAnswer, client: &Client) -> Result<Response<OriginBody>, Failure> {
    match tunnel {
        TunnelAnswer::Refused(head, payload) => {
            let follows = Follows::Body {
                payload,
                head_only: false,
            };
            let mut response = answer(head, follows)?;
            // The client may have sent more than its head, and that is no request.
            response
                .head_mut()
                .set_connection_type(ConnectionType::Close);
            Ok(response)
        }
        TunnelAnswer::Open { head, io, first } => {
            let follows = Follows::Tunnel {
                asked: &client.protocol,
                open: Box::new(|| carry_both_ways(io, first, client)),
            };
            answer(head, follows)
        }
    }
}

/// Marks a response as an upgrade. Runs after header filtering, which removes such marks.
pub fn mark_switched(response: &mut Response<OriginBody>, protocol: HeaderValue) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::UPGRADE, protocol);
        let head = response.head_mut();
        head.set_connection_type(ConnectionType::Upgrade);
        head.no_chunking(true);
    }
}

/// Agrees to the subprotocol that the client offered beside its key, if the origin agreed to none.
pub fn agree_to_plain_subprotocol(response: &mut Response<OriginBody>) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
            let plain = HeaderValue::from_static(PLAIN_SUBPROTOCOL);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, plain);
        }
    }
}

/// Turns the origin's bytes into a body. A separate task copies the client's bytes to the origin;
/// it ends with the body.
fn carry_both_ways(io: Box<dyn TunnelIo>, first: Bytes, client: &Client) -> OriginBody {
    let (from_origin, to_origin) = tokio::io::split(io);
    let last_byte = Rc::new(Cell::new(Instant::now()));
    let upward = carry(
        client.control.raw_input(),
        to_origin,
        Rc::clone(&last_byte),
        Rc::clone(&client.progress),
    );
    let upward = Aborting(actix_rt::spawn(upward));
    let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
    let state = Downward {
        from_origin,
        last_byte,
        idle_timeout: client.idle_timeout,
        _upward: upward,
    };
    let rest = stream::try_unfold(state, |mut state| async move {
        Ok(state.read().await?.map(|bytes| (bytes, state)))
    });
    OriginBody::new(
        Payload::Stream {
            payload: Box::pin(first.chain(rest)),
        },
        None,
        false,
    )
}

/// Origin-to-client direction.
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
            match tokio::time::timeout_at(
                quiet_until.into(),
                self.from_origin.read_buf(&mut buffer),
            )
            .await
            {
                Ok(read) => {
                    self.last_byte.set(Instant::now());
                    return Ok((read? > 0).then(|| buffer.freeze()));
                }
                // The client may have sent something since.
                Err(_) if self.last_byte.get() + self.idle_timeout > Instant::now() => {}
                Err(_) => {
                    return Err(PayloadError::Io(io::Error::new(
                        io::ErrorKind::TimedOut,
                        TunnelIdle,
                    )));
                }
            }
        }
    }
}

/// Copies client bytes to the origin until the client ends.
async fn carry(
    mut client: impl Stream<Item = Bytes> + Unpin,
    mut to_origin: WriteHalf<Box<dyn TunnelIo>>,
    last_byte: Rc<Cell<Instant>>,
    progress: Rc<BodyProgress>,
) {
    while let Some(bytes) = client.next().await {
        last_byte.set(Instant::now());
        progress.passed(bytes.len());
        if to_origin.write_all(&bytes).await.is_err() || to_origin.flush().await.is_err() {
            return;
        }
    }
    let _ = to_origin.shutdown().await;
}

/// Task that is aborted with its owner.
struct Aborting(actix_rt::task::JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
