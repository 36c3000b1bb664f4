//! Connections that leave HTTP.

use std::fmt;

use actix_http::{Payload, ResponseHead};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

/// What an origin said to a request to leave HTTP.
pub enum TunnelAnswer {
    /// 101: the bytes now mean what the two ends agreed on.
    Open {
        /// The head of the 101.
        head: ResponseHead,
        /// The connection.
        io: Box<dyn TunnelIo>,
        /// What the origin has sent already; comes before anything read from `io`.
        first: Bytes,
    },
    /// Any other status, an ordinary response. Its connection closes after it.
    Refused(ResponseHead, Payload),
}

/// A connection after 101.
pub trait TunnelIo: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> TunnelIo for T {}

impl fmt::Debug for TunnelAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { head, first, .. } => f
                .debug_struct("Open")
                .field("head", head)
                .field("first_bytes", &first.len())
                .finish_non_exhaustive(),
            Self::Refused(head, _) => f.debug_tuple("Refused").field(head).finish_non_exhaustive(),
        }
    }
}
