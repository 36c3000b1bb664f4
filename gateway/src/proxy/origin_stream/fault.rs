//! What can go wrong between the gateway and an origin, and how to find it in the errors that awc
//! makes of it.

use std::{error::Error, io, net::SocketAddr, time::Duration};

use actix_http::error::{ParseError, PayloadError};
use awc::error::{ConnectError, SendRequestError};
use thiserror::Error;

use crate::wire::chunked::ChunkFault;

/// Why an exchange with an origin failed. Travels inside an [`io::Error`]; see
/// [`OriginFault::find`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OriginFault {
    /// The name of the origin could not be resolved.
    #[error("cannot resolve {host}: {cause}")]
    Unresolved {
        /// The name that was looked up.
        host: String,
        /// What the resolver said.
        cause: String,
    },
    /// No address of the origin took the connection; this is the last one's reason.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// The address tried last.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system has nothing left for another connection: no file, no memory. No origin is to
    /// blame.
    #[error("no connection can be opened to {address}: {source}")]
    OutOfSockets {
        /// The address that was to be connected to.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The connection was not there in time, the resolving of the name included.
    #[error("no connection to {host} within origin.connect_timeout ({})", humantime::format_duration(*limit))]
    ConnectTimeout {
        /// The name or address of the origin.
        host: String,
        /// The limit that was passed.
        limit: Duration,
    },
    /// The origin showed a certificate that is not believed.
    #[error("certificate of {authority} is not trusted: {cause}")]
    Untrusted {
        /// Host and port of the origin.
        authority: String,
        /// What is wrong with it.
        cause: String,
    },
    /// There was no agreement on TLS.
    #[error("TLS with {authority} failed: {cause}")]
    TlsFailed {
        /// Host and port of the origin.
        authority: String,
        /// What was wrong.
        cause: String,
    },
    /// The origin broke TLS off before it answered the first request: most often it wants a
    /// certificate of the gateway, which TLS 1.3 lets it say only after the handshake.
    #[error("the origin broke TLS off before a response began: {cause}")]
    TlsRefused {
        /// What it said.
        cause: String,
    },
    /// The connection ended before the first byte of a response. With `reused` it had served
    /// requests before, so most likely the origin closed it while it was idle, and a request that
    /// may be repeated can be sent on another one.
    #[error("the connection ended before a response began (reused: {reused})")]
    DiedBeforeResponse {
        /// Whether the connection had served a request before.
        reused: bool,
    },
    /// The connection ended within the head of a response, or after an interim response.
    #[error("the connection ended within the head of the response")]
    TruncatedHead,
    /// The connection ended within the body of a response (RFC 9112 §8).
    #[error("the connection ended within the body of the response")]
    TruncatedBody,
    /// The head cannot be trusted to say where the response ends (RFC 9112 §6.3), or is no head at
    /// all.
    #[error("malformed response: {0}")]
    BadFraming(&'static str),
    /// The chunked body is malformed.
    #[error("malformed response body: {0}")]
    BadChunk(ChunkFault),
    /// The head is larger than the limit.
    #[error(
        "the head of the answer has more than origin.max_head_bytes, or more fields than origin.max_headers"
    )]
    HeadTooLarge,
    /// No final response began in time.
    #[error("the origin sent no answer within origin.first_byte_timeout, or that of its route")]
    FirstByteTimeout,
    /// The body of the response stood still for too long.
    #[error("the origin sent nothing of its answer for origin.idle_timeout, or that of its route")]
    IdleTimeout,
    /// The body of the request did not come to its end, so that the request was broken off.
    #[error("the request was broken off: {cause}")]
    BrokenRequest {
        /// What its sender said.
        cause: String,
    },
    /// The origin did not take the request in time.
    #[error("the origin took nothing of the request for origin.write_idle_timeout")]
    WriteTimeout,
    /// Bytes that answer no request were on the connection.
    #[error("bytes beyond the response")]
    LeftOverBytes,
    /// The origin closed the connection while it was idle.
    #[error("closed while idle")]
    ClosedWhileIdle,
    /// The connection was taken out of use.
    #[error("the connection is out of use")]
    Retired,
}

impl OriginFault {
    /// Looks for the fault behind an error of awc: [`SendRequestError`], [`PayloadError`],
    /// [`ConnectError`], [`ParseError`], an [`io::Error`], or one whose source is any of these. Ask
    /// before the error is boxed as the error of a body, which hides it.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(fault) = error.downcast_ref::<Self>() {
                return Some(fault);
            }
            // awc's errors do not name their source, hence one by one.
            let inner: Option<&'a (dyn Error + 'static)> = if let Some(error) =
                error.downcast_ref::<io::Error>()
            {
                error.get_ref().map(|inner| inner as _)
            } else if let Some(error) = error.downcast_ref::<SendRequestError>() {
                match error {
                    SendRequestError::Send(error) => Some(error),
                    SendRequestError::Response(error) => Some(error),
                    SendRequestError::Connect(error) => Some(error),
                    SendRequestError::Body(error) => Some(error.as_ref()),
                    _ => None,
                }
            } else if let Some(ConnectError::Io(error)) = error.downcast_ref::<ConnectError>() {
                Some(error)
            } else if let Some(ParseError::Io(error)) = error.downcast_ref::<ParseError>() {
                Some(error)
            } else if let Some(PayloadError::Incomplete(Some(error)) | PayloadError::Io(error)) =
                error.downcast_ref::<PayloadError>()
            {
                Some(error)
            } else {
                None
            };
            next = inner.or_else(|| error.source());
        }
        None
    }

    /// Whether a time limit was passed, as against a broken connection or response.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout { .. }
                | Self::FirstByteTimeout
                | Self::IdleTimeout
                | Self::WriteTimeout
        )
    }

    /// Whether a connection brought no HTTP, as what `text` begins with.
    pub(super) fn of_no_http(text: &[u8]) -> Option<Self> {
        const STATUS_LINE: &[u8] = b"HTTP/1.";
        let common = text.len().min(STATUS_LINE.len());
        if text.get(..common) == STATUS_LINE.get(..common) {
            return None;
        }
        Some(Self::BadFraming(match text.first() {
            // A handshake or an alert (RFC 8446 §5.1).
            Some(0x15 | 0x16) => "it is TLS: is the origin's address https://?",
            _ => "bad status line",
        }))
    }

    /// Whether the request never reached the origin, so that any request may be tried again
    /// elsewhere.
    pub fn nothing_sent(&self) -> bool {
        matches!(
            self,
            Self::Unresolved { .. }
                | Self::Unreachable { .. }
                | Self::OutOfSockets { .. }
                | Self::ConnectTimeout { .. }
                | Self::Untrusted { .. }
                | Self::TlsFailed { .. }
        )
    }
}

impl From<OriginFault> for io::Error {
    fn from(fault: OriginFault) -> Self {
        let kind = match &fault {
            OriginFault::Unresolved { .. } => io::ErrorKind::NotFound,
            OriginFault::Unreachable { source, .. } | OriginFault::OutOfSockets { source, .. } => {
                source.kind()
            }
            OriginFault::ConnectTimeout { .. }
            | OriginFault::FirstByteTimeout
            | OriginFault::IdleTimeout
            | OriginFault::WriteTimeout => io::ErrorKind::TimedOut,
            OriginFault::DiedBeforeResponse { .. }
            | OriginFault::BrokenRequest { .. }
            | OriginFault::ClosedWhileIdle
            | OriginFault::Retired => io::ErrorKind::ConnectionAborted,
            OriginFault::Untrusted { .. }
            | OriginFault::TlsFailed { .. }
            | OriginFault::TlsRefused { .. } => io::ErrorKind::InvalidData,
            OriginFault::TruncatedHead | OriginFault::TruncatedBody => io::ErrorKind::UnexpectedEof,
            OriginFault::BadFraming(_)
            | OriginFault::BadChunk(_)
            | OriginFault::HeadTooLarge
            | OriginFault::LeftOverBytes => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_is_found_in_every_error_that_awc_wraps_it_in() {
        let io = || io::Error::from(OriginFault::TruncatedBody);
        let wrapped: Vec<Box<dyn Error>> = vec![
            Box::new(io()),
            Box::new(SendRequestError::Send(io())),
            Box::new(SendRequestError::Response(ParseError::Io(io()))),
            Box::new(SendRequestError::Connect(ConnectError::Io(io()))),
            Box::new(SendRequestError::Body(Box::new(PayloadError::Incomplete(
                Some(io()),
            )))),
            Box::new(PayloadError::Incomplete(Some(io()))),
            Box::new(PayloadError::Io(io())),
        ];
        for error in wrapped {
            assert!(
                matches!(
                    OriginFault::find(error.as_ref()),
                    Some(OriginFault::TruncatedBody)
                ),
                "{error:?}"
            );
        }
        assert!(OriginFault::find(&SendRequestError::Timeout).is_none());
        assert!(OriginFault::find(&io::Error::other("else")).is_none());
    }
}
