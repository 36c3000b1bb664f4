//! Reads from the head of a request where its body ends: as actix-http will read it, not as it should.

use super::{ClientFault, ClientLimits};
use crate::http::proxy_protocol::{ProxyHeaderFault, header::is_header};
use crate::wire::{
    body::Framing,
    chunked::{ChunkLimits, ChunkScanner},
    head::{fields, parse_length, split_first_line},
};

/// What the guard must know of a request.
#[derive(Debug)]
pub(super) struct Request {
    /// `None`: no body.
    pub(super) body: Option<Framing>,
    /// `HEAD`: the response has no body.
    pub(super) is_head: bool,
}

/// Reads one complete head. What actix-http refuses by itself passes: nothing follows a refused head.
pub(super) fn read(head: &[u8], limits: &ClientLimits) -> Result<Request, ClientFault> {
    let (line, rest) = split_first_line(head);
    // actix-http passes over any number of empty lines, and would go on waiting for the request.
    if line.is_empty() {
        return Err(ClientFault::NoRequestLine);
    }
    if is_header(line) {
        return Err(ClientFault::ProxyHeader(ProxyHeaderFault::Unexpected));
    }
    // `http::Uri` cuts the fragment off and says nothing, so what is matched would not be what was sent.
    if memchr::memchr(b'#', line).is_some() {
        return Err(ClientFault::Fragment);
    }
    let (mut length, mut chunked, mut websocket) = (None, false, false);
    for (count, field) in fields(rest).enumerate() {
        if count == limits.fields {
            return Err(ClientFault::TooManyFields);
        }
        let Ok(field) = field else { break };
        match field.name.len() {
            14 if field.is("content-length") => length = parse_length(field.value),
            17 if field.is("transfer-encoding") => {
                chunked = field.value.eq_ignore_ascii_case(b"chunked")
            }
            7 if field.is("upgrade") => websocket |= field.value.eq_ignore_ascii_case(b"websocket"),
            _ => {}
        }
    }
    let body = if chunked {
        let limits = ChunkLimits {
            extension_bytes: limits.extension_bytes,
            trailer_bytes: limits.trailer_bytes,
            padded_sizes: false,
        };
        Some(Framing::Chunked(ChunkScanner::new(limits)))
    } else if websocket {
        Some(Framing::UntilClose)
    } else {
        let endless = line.starts_with(b"CONNECT ").then_some(Framing::UntilClose);
        length.and_then(Framing::length).or(endless)
    };
    Ok(Request {
        body,
        is_head: line.starts_with(b"HEAD "),
    })
}

#[cfg(test)]
mod tests {
    use actix_codec::Decoder as _;
    use actix_http::h1::{Codec, Message, MessageType};
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    fn with_codec<T>(test: impl FnOnce(&mut Codec) -> T) -> T {
        actix_rt::System::new().block_on(async { test(&mut Codec::default()) })
    }

    fn kind(head: &str) -> Result<&'static str, ClientFault> {
        Ok(
            match read(head.as_bytes(), &ClientLimits::default())?.body {
                None => "none",
                Some(Framing::Length(_)) => "length",
                Some(Framing::Chunked(_)) => "chunked",
                Some(Framing::UntilClose) => "endless",
            },
        )
    }

    #[test]
    fn framing_follows_actix() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", Ok("none")),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
                Ok("length"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
                Ok("none"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Ok("chunked"),
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n\r\n",
                Ok("endless"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\n",
                Ok("endless"),
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n",
                Ok("none"),
            ),
            ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", Ok("endless")),
            (
                "CONNECT h:1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
                Ok("length"),
            ),
            (
                "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
                Err(ClientFault::Fragment),
            ),
        ] {
            assert_eq!(kind(head), expected, "{head:?}");
        }
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(64));
        assert_eq!(kind(&many), Err(ClientFault::TooManyFields));
    }

    proptest! {
        /// A head that we take for complete and actix-http does not would be waited for without a deadline.
        #[test]
        fn actix_never_waits_for_more_of_a_complete_head(head in "[ -~\\t\u{0}\u{80}-\u{ff}]{1,20}( [!-~]{0,9}( ?HTTP/1\\.[019])?)?(\r\n[ -~\\t\u{0}]{1,20}){0,3}\r\n\r\n") {
            let mut buffer = BytesMut::from(head.as_bytes());
            prop_assert!(!with_codec(|codec| matches!(codec.decode(&mut buffer), Ok(None))), "{:?}", head);
        }

        #[test]
        fn every_head_that_actix_takes_is_framed_as_actix_frames_it(
            head in "(GET|POST|HEAD|CONNECT) / HTTP/1\\.[01]\r\nHost: h\r\n((Content-Length|Upgrade|Connection|Transfer-Encoding|Expect): ?(3|0|003|chunked|Chunked|websocket|WebSocket ?|h2c|close|upgrade|100-continue)\r\n){0,4}\r\n",
        ) {
            let decoded = with_codec(|codec| {
                matches!(codec.decode(&mut BytesMut::from(head.as_str())), Ok(Some(Message::Item(_)))).then(|| codec.message_type())
            });
            let Some(decoded) = decoded else { return Ok(()) };
            let expected = match decoded {
                MessageType::None => "none",
                MessageType::Stream => "endless",
                MessageType::Payload if head.to_ascii_lowercase().contains("transfer-encoding: chunked") => "chunked",
                MessageType::Payload if head.to_ascii_lowercase().contains("transfer-encoding:chunked") => "chunked",
                MessageType::Payload => "length",
            };
            prop_assert_eq!(kind(&head), Ok(expected));
        }
    }
}
