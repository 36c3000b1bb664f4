//! HTTP/2 for clients (RFC 9113): one connection, many requests, each served like one of HTTP/1.1.
//!
//! `h2` implements the protocol: frames, header compression, windows, stream states. This module
//! adds what `h2` leaves open: deadlines, protection from floods of control frames, limits per
//! connection, and request validation. Extended CONNECT (RFC 8441) is not offered, so WebSockets
//! stay on HTTP/1.1.

mod body;
mod frames;
mod request;
mod response;
mod stream;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use h2::server::{Builder, Connection, Handshake};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::front::client_stream::{
    ClientControl, ClientFault, ClientGuard, ClientLimits, Place, Taken,
};
use crate::front::dispatcher::Handler;
use crate::front::http2::frames::{FrameFault, Meter, Metered};
use crate::wire::alarm::Alarm;

/// ALPN protocol name (RFC 9113, section 3.3).
pub const ALPN: &[u8] = b"h2";
/// Connection preface of a client (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Initial stream window: bytes of a body that a client may send before the origin takes any.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Connection window, for all bodies together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Response bytes buffered while the client's window is closed.
const SEND_BUFFER: usize = 16 * 1024;
/// Maximum of streams that the client resets before they are accepted; more end the connection
/// (CVE-2023-44487).
const MAX_EARLY_RESETS: usize = 20;
/// Maximum of streams that this side resets for client errors; more end the connection
/// (CVE-2025-8671).
const MAX_OWN_RESETS: usize = 256;
/// Factor by which a header list may exceed the limit and still be read, so that a refusal can be
/// sent.
const READ_FOR_REFUSAL: u32 = 4;
/// Timeout for sending GOAWAY at the end of a connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves one connection to its end.
///
/// # Errors
/// The connection was lost, or the client violated the protocol and was sent the reason.
pub(crate) async fn serve<S, H>(
    taken: Taken<S>,
    guard: &ClientGuard,
    max_streams: u32,
    handler: Rc<H>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler + 'static,
{
    let _connection = handler.connected();
    let Taken {
        place,
        io,
        peer,
        since,
    } = taken;
    let limits = guard.limits();
    let control = guard.control(peer);
    let meter = Rc::new(Meter::default());
    let list_bytes = u32::try_from(limits.head_bytes).unwrap_or(u32::MAX);
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(max_streams)
        .max_header_list_size(list_bytes.saturating_mul(READ_FOR_REFUSAL))
        .max_pending_accept_reset_streams(MAX_EARLY_RESETS)
        .max_local_error_reset_streams(Some(MAX_OWN_RESETS))
        .handshake(Metered::new(io, Rc::clone(&meter)));
    let shaken = complete_handshake(handshake, &place, since, limits.head_timeout);
    let connection = match shaken.await {
        Ok(connection) => connection,
        Err(fault) => return Err(end(&control, fault)),
    };
    let mut driver = Driver {
        connection,
        meter,
        place,
        limits,
        peer,
        guard,
        handler,
        streams: FuturesUnordered::new(),
        idle: Alarm::default(),
        head: Alarm::default(),
        write: Alarm::default(),
        is_leaving: false,
    };
    let ended = poll_fn(|cx| driver.poll(cx)).await;
    match ended {
        Ok(()) => Ok(()),
        Err(fault) => {
            driver.farewell(&fault).await;
            Err(end(&control, fault))
        }
    }
}

/// Waits for the client's preface and settings, for at most `timeout` from `since` on.
async fn complete_handshake<S: AsyncRead + AsyncWrite + Unpin>(
    handshake: Handshake<S, Bytes>,
    place: &Place,
    since: Instant,
    timeout: Duration,
) -> Result<Connection<S, Bytes>, Ended> {
    let mut handshake = std::pin::pin!(handshake);
    let mut alarm = Alarm::default();
    if !timeout.is_zero() {
        alarm.arm_at(since + timeout);
    }
    poll_fn(|cx| {
        if let Poll::Ready(shaken) = handshake.as_mut().poll(cx) {
            return Poll::Ready(shaken.map_err(Ended::Protocol));
        }
        if place.poll_sent_away(cx).is_ready() {
            return Poll::Ready(Err(Ended::Fault(ClientFault::MadeRoom, Reason::NO_ERROR)));
        }
        ready!(alarm.poll(cx));
        Poll::Ready(Err(Ended::Fault(
            ClientFault::HeadTimeout,
            Reason::NO_ERROR,
        )))
    })
    .await
}

/// Why the connection ended before the client closed it.
enum Ended {
    /// Protocol violation found by `h2`, or a lost connection.
    Protocol(h2::Error),
    /// The client exceeded a limit.
    Fault(ClientFault, Reason),
}

/// Records the client's fault, if any.
fn end(control: &ClientControl, ended: Ended) -> io::Error {
    match ended {
        Ended::Fault(fault, _) => {
            control.note_fault(fault);
            io::Error::other(fault)
        }
        Ended::Protocol(error) if error.is_io() => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into()),
        Ended::Protocol(error) => {
            // A GOAWAY with an error from the client blames this side.
            let is_ours = !error.is_remote();
            let reason = error.reason().unwrap_or(Reason::PROTOCOL_ERROR);
            if is_ours && reason != Reason::NO_ERROR {
                control.note_fault(match reason {
                    Reason::ENHANCE_YOUR_CALM => ClientFault::Http2Flood,
                    _ => ClientFault::Http2(reason_name(reason)),
                });
            }
            io::Error::other(reason_name(reason))
        }
    }
}

/// Name of an error code (RFC 9113, section 7).
fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::NO_ERROR => "NO_ERROR",
        Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
        Reason::INTERNAL_ERROR => "INTERNAL_ERROR",
        Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
        Reason::STREAM_CLOSED => "STREAM_CLOSED",
        Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        Reason::REFUSED_STREAM => "REFUSED_STREAM",
        Reason::CANCEL => "CANCEL",
        Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
        Reason::CONNECT_ERROR => "CONNECT_ERROR",
        Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
        Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
        _ => "an unknown error code",
    }
}

type ServedStream = Pin<Box<dyn Future<Output = ()>>>;

/// A connection and its open streams.
struct Driver<'g, S: AsyncRead + AsyncWrite + Unpin, H> {
    connection: Connection<Metered<S>, Bytes>,
    meter: Rc<Meter>,
    place: Place,
    limits: ClientLimits,
    peer: Option<SocketAddr>,
    guard: &'g ClientGuard,
    handler: Rc<H>,
    streams: FuturesUnordered<ServedStream>,
    /// Fires when no stream was open for [`ClientLimits::keep_alive`].
    idle: Alarm,
    /// Fires when a header list is incomplete after the head timeout.
    head: Alarm,
    /// Fires when the client has read nothing of the connection for the write idle timeout.
    write: Alarm,
    is_leaving: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler + 'static> Driver<'_, S, H> {
    /// Ready once the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            while let Poll::Ready(Some(())) = Pin::new(&mut self.streams).poll_next(cx) {
                if self.handler.is_stopping() {
                    self.leave(cx);
                }
            }
            let accepted = self.connection.poll_accept(cx);
            if let Some(fault) = self.meter.fault() {
                return Poll::Ready(Err(match fault {
                    FrameFault::Flood => {
                        Ended::Fault(ClientFault::Http2Flood, Reason::ENHANCE_YOUR_CALM)
                    }
                    FrameFault::Size => {
                        let reason = Reason::FRAME_SIZE_ERROR;
                        Ended::Fault(ClientFault::Http2(reason_name(reason)), reason)
                    }
                }));
            }
            match accepted {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    if self.streams.is_empty() {
                        self.place.busy();
                        self.idle.disarm();
                    }
                    let control = Rc::new(self.guard.control(self.peer));
                    let served = stream::serve(
                        Rc::clone(&self.handler),
                        control,
                        self.limits,
                        request,
                        respond,
                    );
                    self.streams.push(Box::pin(served));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Ended::Protocol(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        self.poll_deadlines(cx)
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.meter.is_within_head() {
            self.head.arm(self.limits.head_timeout);
            if self.head.poll(cx).is_ready() {
                let late = Ended::Fault(ClientFault::HeadTimeout, Reason::NO_ERROR);
                return Poll::Ready(Err(late));
            }
        } else {
            self.head.disarm();
        }
        if self.meter.take_written() || !self.meter.is_blocked() {
            self.write.disarm();
        }
        if self.meter.is_blocked() {
            self.write.arm(self.limits.write.idle);
            if self.write.poll(cx).is_ready() {
                let stalled = Ended::Fault(ClientFault::WriteStalled, Reason::CANCEL);
                return Poll::Ready(Err(stalled));
            }
        }
        if !self.streams.is_empty() {
            return Poll::Pending;
        }
        if self.place.is_busy() {
            self.place.idle();
        }
        if self.place.poll_sent_away(cx).is_ready() {
            if !self.place.is_closed() {
                let made_room = Ended::Fault(ClientFault::MadeRoom, Reason::NO_ERROR);
                return Poll::Ready(Err(made_room));
            }
            self.leave(cx);
        }
        // Graceful GOAWAY takes a round trip: the client may be sending a request.
        let wait = match self.is_leaving {
            true => FAREWELL,
            false => self.limits.keep_alive,
        };
        self.idle.arm(wait);
        if self.idle.poll(cx).is_ready() {
            if self.is_leaving {
                return Poll::Ready(Ok(()));
            }
            self.leave(cx);
        }
        Poll::Pending
    }

    /// Accepts no further streams and finishes the open ones (GOAWAY, RFC 9113, section 6.8).
    fn leave(&mut self, cx: &Context<'_>) {
        if !self.is_leaving {
            self.is_leaving = true;
            self.idle.disarm();
            self.connection.graceful_shutdown();
            cx.waker().wake_by_ref();
        }
    }

    /// Sends the reason for the end, as long as the client reads.
    async fn farewell(&mut self, ended: &Ended) {
        self.streams.clear();
        if let Ended::Fault(_, reason) = ended {
            self.connection.abrupt_shutdown(*reason);
        }
        self.meter.forgive();
        let closed = poll_fn(|cx| self.connection.poll_closed(cx));
        // The connection ends with an error here.
        let _ = tokio::time::timeout(FAREWELL, closed).await;
    }
}

/// Whether a connection begins with the preface, as far as its first bytes show. Peeks without
/// consuming them.
///
/// # Errors
/// The connection was lost.
pub async fn begins_with_preface(io: &actix_rt::net::TcpStream) -> io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    let mut delay = PREFACE_RECHECK;
    loop {
        let seen = io.peek(&mut start).await?;
        let seen = start.get(..seen).unwrap_or_default();
        if seen.is_empty() || !PREFACE.starts_with(seen) {
            return Ok(false);
        }
        if seen.len() == PREFACE.len() {
            return Ok(true);
        }
        // The peeked bytes remain unread, so waiting for readability would return at once.
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(MAX_PREFACE_RECHECK);
    }
}

/// First delay before peeking again at a preface that arrives in pieces; doubled each time.
const PREFACE_RECHECK: Duration = Duration::from_millis(5);
/// Longest such delay.
const MAX_PREFACE_RECHECK: Duration = Duration::from_millis(320);
