//! `Idempotency-Key`: a repeated creation creates nothing new.
//!
//! The store keeps the answer, written in the transaction of the creation. Running requests are
//! tracked per process: on two gateways the database serializes them, and the second finds the
//! stored answer.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;

use crate::admin::problem::{FieldError, Kind, Problem};
use crate::store::CreationKey;

/// Request header with the client's key.
pub(super) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Response header of a repeated answer.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Maximum length of a key, in bytes.
pub(super) const MAX_BYTES: usize = 255;

/// Keys of the creations running in this process.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashSet<Name>>>);

/// Token, and digest of the idempotency key.
type Name = (Box<str>, [u8; 32]);

/// Reservation of a key until dropped.
pub(super) struct Reservation {
    name: Name,
    running: Running,
}

/// Returns the request's idempotency key, if any, with the digest of this body.
pub(super) fn key_of(
    request: &HttpRequest,
    token: &str,
    body: &[u8],
) -> Result<Option<CreationKey>, Problem> {
    let mut given = request.headers().get_all(&HEADER);
    let refuse = || {
        let detail =
            format!("an Idempotency-Key is 1 to {MAX_BYTES} visible ASCII characters, given once");
        let errors = vec![FieldError::of("Idempotency-Key", detail)];
        Problem::new(
            Kind::InvalidParameter,
            "The header Idempotency-Key is not what is accepted.",
        )
        .with(errors)
    };
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => {
            let key = key.as_bytes();
            if !(1..=MAX_BYTES).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
                return Err(refuse());
            }
            let target = request
                .uri()
                .path_and_query()
                .map_or("", |target| target.as_str());
            Ok(Some(CreationKey::new(
                token,
                key,
                [
                    request.method().as_str().as_bytes(),
                    target.as_bytes(),
                    body,
                ],
            )))
        }
        (Some(_), Some(_)) => Err(refuse()),
    }
}

impl Running {
    /// Reserves the key, unless its creation is running already.
    pub(super) fn begin(&self, key: &CreationKey) -> Result<Reservation, Problem> {
        let name = key.name();
        if self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone())
        {
            return Ok(Reservation {
                name,
                running: self.clone(),
            });
        }
        Err(Problem::new(
            Kind::IdempotencyKeyInUse,
            "A request with this Idempotency-Key is running. Try again shortly.",
        ))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.running
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_runs_once_at_a_time() {
        let running = Running::default();
        let key = |token, key: &[u8]| CreationKey::new(token, key, [b"POST", b"/", b"{}"]);
        let turn = running
            .begin(&key("admin", b"a"))
            .unwrap_or_else(|problem| panic!("{problem}"));
        assert!(
            running
                .begin(&key("admin", b"a"))
                .is_err_and(|problem| problem.kind() == Kind::IdempotencyKeyInUse)
        );
        assert!(running.begin(&key("admin", b"b")).is_ok());
        assert!(running.begin(&key("ci", b"a")).is_ok());
        drop(turn);
        assert!(running.begin(&key("admin", b"a")).is_ok());
    }
}
