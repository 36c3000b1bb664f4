//! Connections that leave HTTP.

use std::fmt;

use actix_codec::Framed;
use actix_http::{
    BoxedPayloadStream, Payload, ResponseHead, StatusCode,
    h1::{ClientCodec, MessageType},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
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

impl TunnelAnswer {
    pub(super) fn new<Io>(head: ResponseHead, framed: Framed<Io, ClientCodec>) -> Self
    where
        Io: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let parts = framed.into_parts();
            return Self::Open {
                head,
                io: Box::new(parts.io),
                first: parts.read_buf.freeze(),
            };
        }
        let payload = match framed.codec_ref().message_type() {
            MessageType::None => Payload::None,
            MessageType::Payload | MessageType::Stream => {
                let chunks = framed
                    .into_map_codec(ClientCodec::into_payload_codec)
                    .take_while(|item| std::future::ready(!matches!(item, Ok(None))))
                    .filter_map(|item| std::future::ready(item.transpose()));
                let payload: BoxedPayloadStream = Box::pin(chunks);
                Payload::Stream { payload }
            }
        };
        Self::Refused(head, payload)
    }
}

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
