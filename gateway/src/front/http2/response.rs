//! Head of an HTTP/2 response.

use actix_http::ResponseHead;
use actix_http::body::BodySize;
use actix_http::header::{self, HeaderName};
use http_1::HeaderValue;

use crate::front::date::with_date;

/// Connection-specific fields (RFC 9113, section 8.2.2).
const OF_CONNECTIONS: [HeaderName; 4] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Builds the head for `h2`. Sets `Content-Length` from `size` if no field does.
pub(super) fn head(from: &ResponseHead, size: BodySize) -> http_1::Response<()> {
    let mut response = http_1::Response::new(());
    *response.status_mut() = http_1::StatusCode::from_u16(from.status.as_u16())
        .unwrap_or(http_1::StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    for (name, value) in from.headers() {
        if OF_CONNECTIONS.contains(name) || name.as_str() == "proxy-connection" {
            continue;
        }
        // Both libraries have the same grammar, so none is lost.
        if let (Ok(name), Ok(value)) = (
            http_1::HeaderName::from_bytes(name.as_str().as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            headers.append(name, value);
        }
    }
    if let BodySize::Sized(bytes) = size
        && has_content(from.status.as_u16())
    {
        headers
            .entry(http_1::header::CONTENT_LENGTH)
            .or_insert_with(|| bytes.into());
    }
    headers
        .entry(http_1::header::DATE)
        .or_insert_with(|| with_date(date));
    response
}

/// Whether a response of this status has content or a content length (RFC 9110, section 8.6).
fn has_content(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

fn date(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

#[cfg(test)]
mod tests {
    use actix_http::header::HeaderValue as Value;
    use actix_http::{Response, StatusCode};

    use super::*;

    #[test]
    fn a_head_loses_what_speaks_of_a_connection_and_gains_length_and_date() {
        for (status, size, fields, length) in [
            (
                StatusCode::OK,
                BodySize::Sized(3),
                &[("connection", "close")][..],
                Some("3"),
            ),
            (
                StatusCode::OK,
                BodySize::Stream,
                &[("transfer-encoding", "chunked")],
                None,
            ),
            (
                StatusCode::OK,
                BodySize::Sized(0),
                &[("keep-alive", "5")],
                Some("0"),
            ),
            (
                StatusCode::OK,
                BodySize::None,
                &[("content-length", "7")],
                Some("7"),
            ),
            (
                StatusCode::NO_CONTENT,
                BodySize::Sized(0),
                &[("upgrade", "h2c")],
                None,
            ),
            (
                StatusCode::NOT_MODIFIED,
                BodySize::Sized(0),
                &[("proxy-connection", "x")],
                None,
            ),
        ] {
            let mut from = Response::new(status);
            for (name, value) in fields {
                let name = HeaderName::from_static(name);
                from.headers_mut().append(name, Value::from_static(value));
            }
            let head = head(from.head(), size);
            let field = |name: &str| {
                head.headers()
                    .get(name)
                    .map(|value| value.to_str().unwrap())
            };
            assert_eq!(field("content-length"), length, "{status} {size:?}");
            assert!(field("date").is_some_and(|date| date.ends_with(" GMT")));
            for name in [
                "connection",
                "transfer-encoding",
                "keep-alive",
                "upgrade",
                "proxy-connection",
            ] {
                assert_eq!(field(name), None, "{name}");
            }
        }
    }
}
