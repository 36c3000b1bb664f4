//! From the credential of a request to its holder: the shape decides whether it is a key or a token,
//! and what fails as the one is never taken for the other.

use std::sync::Arc;

use crate::auth::Proven;
use crate::auth::api_key;
use crate::auth::demand::Denial;
use crate::auth::jwt::{self, Issuer, Issuers, VerifiedToken};
use crate::auth::key_sources::Credentials;
use crate::auth::methods::Methods;
use crate::auth::token_holder::TokenHolder;
use crate::keys::{BucketName, KeyTable, Prefix, UnixMillis};

/// What credentials are checked against.
#[derive(Clone, Copy)]
pub struct Verifiers<'p> {
    /// Kinds that the route takes.
    pub methods: &'p Methods,
    /// Buckets of the route.
    pub buckets: &'p [BucketName],
    /// Keys and consumers.
    pub keys: &'p KeyTable,
    /// Prefix of this gateway's keys.
    pub prefix: &'p Prefix,
    /// Issuers of tokens.
    pub issuers: &'p Issuers,
    /// The current time.
    pub now: UnixMillis,
    /// Whether the signature of a token that was not verified before may be computed.
    pub may_verify: &'p dyn Fn() -> bool,
}

impl Verifiers<'_> {
    /// Finds the holder of a credential: of a key in whatever state it is, or of a token that is
    /// valid now.
    ///
    /// # Errors
    /// Why there is none. What the route does not take is not looked up.
    pub fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Proven, Denial> {
        if !self.methods.take_tokens() {
            let found = api_key::authenticate(credentials, self.keys, self.prefix);
            // Keys of other systems may have the form of tokens, so they come first.
            return found.map(Proven::Key).map_err(|denial| match denial {
                Denial::Unknown | Denial::Malformed(_) if has_token(credentials) => {
                    Denial::NotAccepted
                }
                denial => denial,
            });
        }
        let presented = credentials.find()?;
        if presented.is_bearer {
            if let Some(checked) = self.check(&presented.token) {
                let holder = |token| TokenHolder::find(token, self.keys, self.buckets);
                return checked.map(|token| Proven::Token(holder(token)));
            }
            if !self.methods.take_keys_in_bearer() {
                return Err(Denial::NotAccepted);
            }
        }
        api_key::look_up(presented, self.keys, self.prefix).map(Proven::Key)
    }

    /// Checks a credential if it is a token; `None` if it is not.
    fn check(&self, credential: &[u8]) -> Option<Result<Arc<VerifiedToken>, Denial>> {
        let accepted = |issuer: &Issuer| self.methods.take_tokens_of(issuer.name());
        let known = self.issuers.cached(credential, accepted, self.now);
        let checked = match known {
            Some(known) => known,
            None if !jwt::is_token(credential) => return None,
            None if !(self.may_verify)() => return Some(Err(Denial::NotChecked)),
            None => self.issuers.verify(credential, accepted, self.now),
        };
        Some(checked.map_err(Denial::of_token))
    }
}

/// Whether what stands in `Authorization: Bearer` is a token.
fn has_token(credentials: &Credentials<'_>) -> bool {
    let presented = credentials.find();
    presented.is_ok_and(|presented| presented.is_bearer && jwt::is_token(&presented.token))
}
