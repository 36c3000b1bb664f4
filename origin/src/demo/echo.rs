//! Echoes the request line, the headers and a digest of the body, which is streamed and never kept.

use std::collections::BTreeMap;
use std::fmt::Write;

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::demo::bad_request;

/// Responds after the whole body; an incomplete or malformed body gets 400.
pub(super) async fn echo(request: HttpRequest, mut body: web::Payload) -> HttpResponse {
    let mut digest = Sha256::new();
    let mut length: u64 = 0;
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => {
                length += chunk.len() as u64;
                digest.update(&chunk);
            }
            Err(error) => {
                log::info!(
                    "the body of {} {:?} broke off after {length} bytes: {error}",
                    request.method(),
                    request.path()
                );
                return bad_request(request.path(), "The body broke off");
            }
        }
    }
    let mut headers: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (name, value) in request.headers() {
        headers
            .entry(name.as_str())
            .or_default()
            .push(String::from_utf8_lossy(value.as_bytes()));
    }
    HttpResponse::Ok().json(json!({
        "method": request.method().as_str(),
        // Not decoded, so that a test sees the bytes that the gateway forwarded.
        "path": request.uri().path(),
        "query": request.uri().query(),
        "headers": headers,
        "body_length": length,
        "body_sha256": hex(&digest.finalize()),
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing into a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
