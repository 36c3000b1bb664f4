//! Turns an origin's response head into the response for the client, for requests and upgrades
//! alike. Headers that an origin must not send end here.

use actix_http::header::{self, HeaderMap, HeaderValue};
use actix_http::{Payload, Response, ResponseHead, StatusCode};
use bytes::Bytes;
use postern_shared::headers::{ORIGIN_GUARD, is_spelling_of};

use crate::proxy::body::OriginBody;
use crate::proxy::failure::Failure;
use crate::proxy::plain_answer::PlainHead;

/// Content after an origin's response head.
pub(super) enum Follows<'a> {
    /// A body; none in the response to `HEAD`.
    Body {
        /// Body payload.
        payload: Payload,
        /// Whether the request was `HEAD`.
        head_only: bool,
    },
    /// Bytes of another protocol.
    Tunnel {
        /// Requested protocol.
        asked: &'a HeaderValue,
        /// Starts the tunnel.
        open: Box<dyn FnOnce() -> OriginBody + 'a>,
    },
}

/// Builds the response from an origin's head, or returns why it cannot be passed on.
pub(super) fn answer(
    mut head: ResponseHead,
    follows: Follows<'_>,
) -> Result<Response<OriginBody>, Failure> {
    if let Some(mark) = mark(&head.headers) {
        return Err(Failure::RejectedGateway(mark));
    }
    let status = head.status;
    let body = match follows {
        Follows::Tunnel { asked, open } if status == StatusCode::SWITCHING_PROTOCOLS => {
            let agreed = head
                .headers
                .get(header::UPGRADE)
                .is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(asked.as_bytes()));
            if !agreed {
                return Err(Failure::BadAnswer(
                    "the origin answered 101 without agreeing to the protocol".to_owned(),
                ));
            }
            open()
        }
        Follows::Body { payload, head_only } if is_final(status) => {
            if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
                OriginBody::none()
            } else {
                let length = head
                    .headers
                    .get(header::CONTENT_LENGTH)
                    .and_then(|length| length.to_str().ok()?.parse().ok());
                OriginBody::new(payload, length, head_only)
            }
        }
        Follows::Tunnel { .. } | Follows::Body { .. } => {
            return Err(Failure::BadAnswer(format!(
                "the origin answered with {}, which is no final status",
                status.as_u16()
            )));
        }
    };
    // `Content-Length` is derived from the body size, never copied.
    head.headers.remove(header::CONTENT_LENGTH);
    let mut response = Response::with_body(status, body);
    response.head_mut().reason = head.reason;
    *response.headers_mut() = head.headers;
    Ok(response)
}

/// Builds the response from a plain answer.
pub(super) fn plain(head: PlainHead, body: Bytes) -> Response<OriginBody> {
    Response::with_body(head.status, OriginBody::plain(head.lines, body))
}

/// Whether the status is final (RFC 9110, section 15).
fn is_final(status: StatusCode) -> bool {
    (200..=599).contains(&status.as_u16())
}

/// Why the origin's guard refused our secret. Returns only the guard's known words: any other text
/// could be the secret.
fn mark(headers: &HeaderMap) -> Option<&'static str> {
    let (_, mark) = headers
        .iter()
        .find(|(name, _)| is_spelling_of(name.as_str(), ORIGIN_GUARD))?;
    let known = ["missing", "invalid", "unconfigured"];
    let known = known.into_iter().find(|known| *mark == **known);
    Some(known.unwrap_or("with a mark that is not known"))
}

#[cfg(test)]
mod tests {
    use actix_http::header::HeaderName;

    use super::*;

    fn head(status: u16, headers: &[(&'static str, &'static str)]) -> ResponseHead {
        let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
        for (name, value) in headers {
            head.headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        head
    }

    /// Status or failure of each kind of request.
    fn answers(status: u16, headers: &[(&'static str, &'static str)]) -> [Result<u16, String>; 2] {
        let asked = HeaderValue::from_static("websocket");
        [
            Follows::Body {
                payload: Payload::None,
                head_only: false,
            },
            Follows::Tunnel {
                asked: &asked,
                open: Box::new(OriginBody::none),
            },
        ]
        .map(|follows| {
            answer(head(status, headers), follows)
                .map(|response| response.status().as_u16())
                .map_err(|failure| failure.cause())
        })
    }

    #[test]
    fn only_final_statuses_have_a_body_and_only_101_leaves_http() {
        let agreed = [("upgrade", "WebSocket")];
        for status in [100, 101, 102, 103, 199, 600, 700, 999] {
            assert!(answers(status, &agreed)[0].is_err(), "{status}");
        }
        for status in [200, 204, 304, 404, 500, 599] {
            assert_eq!(answers(status, &[])[0], Ok(status));
        }
        for status in [100, 102, 200, 204, 426, 600] {
            assert!(answers(status, &agreed)[1].is_err(), "{status}");
        }
        assert_eq!(answers(101, &agreed)[1], Ok(101));
        assert!(answers(101, &[])[1].is_err());
        assert!(answers(101, &[("upgrade", "h2c")])[1].is_err());
    }

    #[test]
    fn the_mark_of_a_guard_is_an_answer_to_no_client_in_any_spelling() {
        for (name, value, told) in [
            ("x-origin-guard", "invalid", "invalid"),
            ("x-origin-guard", "missing", "missing"),
            ("x-origin-guard", "unconfigured", "unconfigured"),
            ("x_origin_guard", "invalid", "invalid"),
            ("x-origin-guard", "", "not known"),
            ("x-origin-guard", "rig-9f2c51d07be84a63-shared", "not known"),
        ] {
            for status in [101, 200, 401, 500] {
                for answer in answers(status, &[("upgrade", "websocket"), (name, value)]) {
                    let cause = answer.unwrap_err();
                    assert!(cause.contains("guard") && cause.contains(told), "{cause}");
                    assert!(!cause.contains("9f2c"), "{cause}");
                }
            }
        }
    }
}
