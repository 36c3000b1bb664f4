//! What a client is told whose bytes are at fault.

use crate::front::client_stream::ClientFault;
use crate::http::refusal::Refusal;

impl Refusal {
    /// Maps a client's protocol fault to its refusal; `None` if no response can be sent.
    #[must_use]
    pub fn of_fault(fault: ClientFault) -> Option<Self> {
        Some(match fault {
            ClientFault::HeadTimeout => Self::HeadTimeout,
            ClientFault::HeadTooLarge | ClientFault::TooManyFields => Self::HeadTooLarge,
            ClientFault::TargetTooLong => Self::UriTooLong,
            ClientFault::Version => Self::VersionNotSupported,
            ClientFault::NoRequestLine => Self::BadRequest("there is no request line"),
            ClientFault::BadRequestLine => Self::BadRequest("the first line is no request line"),
            ClientFault::BadTarget => Self::BadRequest("the request target is malformed"),
            ClientFault::BareLineFeed => {
                Self::BadRequest("a line of the head ends with a bare line feed")
            }
            ClientFault::Fragment => Self::BadRequest("the request target has a fragment"),
            ClientFault::BadField => Self::BadRequest("a line of the head is no header field"),
            ClientFault::BadHost(what) | ClientFault::BadFraming(what) => Self::BadRequest(what),
            ClientFault::TlsOnPlain => {
                Self::BadRequest("this port speaks plain HTTP, and the client TLS")
            }
            ClientFault::PlainOnTls => {
                Self::BadRequest("this port speaks TLS, and the client plain HTTP: use https://")
            }
            ClientFault::UnexpectedProxyHeader => {
                Self::BadRequest("the connection begins with a PROXY protocol header")
            }
            ClientFault::BadChunk(_) => Self::BodyBroken,
            ClientFault::BodyTooLarge(limit) => Self::BodyTooLarge(limit),
            ClientFault::BodyStalled | ClientFault::BodyTooSlow => Self::BodyTimeout,
            ClientFault::TlsHandshake
            | ClientFault::TlsTimeout
            | ClientFault::MadeRoom
            | ClientFault::Http2(_)
            | ClientFault::Http2Flood
            | ClientFault::ProxyHeader(_)
            | ClientFault::WriteStalled
            | ClientFault::StrayResponse => return None,
        })
    }
}
