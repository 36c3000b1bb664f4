//! [`KeySet`]: the keys of one issuer (RFC 7517 section 5), and which of them a token is verified
//! with.

use std::sync::Arc;

use serde_json::{Value, json};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::auth::jwt::compact::Compact;
use crate::auth::jwt::fault::TokenFault;
use crate::auth::jwt::json;
use crate::auth::jwt::key::{Key, SkippedKey};

/// Maximum keys of a set.
pub const MAX_KEYS: usize = 100;
/// Most keys that a token without `kid` is tried with: a check costs about 50 µs.
const MAX_TRIED: usize = 5;
/// Least bytes of a shared secret.
pub const MIN_SECRET_BYTES: usize = 32;

/// Keys of an issuer; at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySet(Vec<Arc<Key>>);

/// A set with what was left out of it.
#[derive(Debug)]
pub struct ParsedKeySet {
    /// Usable keys.
    pub set: KeySet,
    /// Keys that are not used, by their position in the document.
    pub skipped: Vec<(usize, SkippedKey)>,
}

/// The document is not a usable key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidKeySet {
    /// Not the JSON of a key set.
    #[error("it is not of the form {{\"keys\":[{{\"kty\":…}}]}}")]
    Form,
    /// More than [`MAX_KEYS`].
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
    /// Nothing that verifies a signature; why the first key is not used, if there is one.
    #[error("it has no key that the gateway can verify signatures with{}", .0.map_or_else(String::new, |reason| format!("; the first one: {reason}")))]
    Empty(Option<SkippedKey>),
    /// One id for two keys of one type.
    #[error("it has two keys of one type with the same `kid`")]
    SameId,
    /// A shared secret that can be guessed.
    #[error("a secret has at least {MIN_SECRET_BYTES} bytes")]
    ShortSecret,
}

impl KeySet {
    /// Parses a document `{"keys": […]}`. Shared secrets in it are never used: who can read the
    /// document could sign.
    ///
    /// # Errors
    /// The document is no set, or nothing in it is usable.
    pub fn parse(document: &[u8]) -> Result<ParsedKeySet, InvalidKeySet> {
        let members = json::object(document).map_err(|_| InvalidKeySet::Form)?;
        let Some(Value::Array(listed)) = members.get("keys") else {
            return Err(InvalidKeySet::Form);
        };
        if listed.len() > MAX_KEYS {
            return Err(InvalidKeySet::TooMany);
        }
        let (mut keys, mut skipped) = (Vec::<Key>::new(), Vec::new());
        for (at, listed) in listed.iter().enumerate() {
            let members = listed.as_object().ok_or(InvalidKeySet::Form)?;
            match Key::parse(members) {
                Err(reason) => skipped.push((at, reason)),
                Ok(key) => match keys.iter().position(|known| known.is_same(&key)) {
                    Some(known) => {
                        let known = keys.swap_remove(known);
                        keys.push(known.with_algorithms_of(&key));
                    }
                    None => keys.push(key),
                },
            }
        }
        let is_named_twice = |(at, key): (usize, &Key)| {
            let mut others = keys.iter().skip(at + 1);
            key.id().is_some()
                && others.any(|other| other.id() == key.id() && other.is_of_type(key))
        };
        if keys.iter().enumerate().any(is_named_twice) {
            return Err(InvalidKeySet::SameId);
        }
        if keys.is_empty() {
            let first = skipped.first().map(|(_, reason)| *reason);
            return Err(InvalidKeySet::Empty(first));
        }
        let set = Self(keys.into_iter().map(Arc::new).collect());
        Ok(ParsedKeySet { set, skipped })
    }

    /// The set of one shared secret, for the algorithms that it is long enough for.
    ///
    /// # Errors
    /// It is too short for any.
    pub fn of_secret(secret: Zeroizing<Vec<u8>>) -> Result<Self, InvalidKeySet> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(InvalidKeySet::ShortSecret);
        }
        Ok(Self(vec![Arc::new(Key::secret(secret))]))
    }

    /// The document of the public keys, which [`parse`](Self::parse) reads as this set. Secrets are
    /// left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let keys: Vec<Value> = self.0.iter().flat_map(|key| key.to_json()).collect();
        json!({ "keys": keys })
    }

    /// Keys of the set.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.0.iter()
    }

    /// Whether this very key is in the set.
    pub(super) fn has(&self, key: &Arc<Key>) -> bool {
        self.0.iter().any(|own| Arc::ptr_eq(own, key))
    }

    /// The same set, with the allocations of `before` for keys that it has, too.
    pub(super) fn succeeding(self, before: &Self) -> Self {
        let keys = self.0.into_iter().map(|key| {
            let same = before.0.iter().find(|known| **known == key);
            same.map_or(key, Arc::clone)
        });
        Self(keys.collect())
    }

    /// Verifies the signature of a token, whose algorithm the caller has accepted.
    ///
    /// # Errors
    /// The set lacks the key, or the signature is wrong.
    pub fn verify(&self, token: &Compact<'_>) -> Result<&Arc<Key>, TokenFault> {
        let header = token.header();
        let key_id = header.key_id.as_deref();
        let mut named = self.0.iter().filter(|key| key.may_be(key_id)).peekable();
        if named.peek().is_none() {
            return Err(TokenFault::KeyUnknown);
        }
        let fitting: Vec<_> = named
            .filter(|key| key.algorithms().contains(header.algorithm))
            .collect();
        if fitting.is_empty() {
            return Err(TokenFault::KeyUnfit);
        }
        if fitting.len() > MAX_TRIED {
            return Err(TokenFault::KeyAmbiguous);
        }
        let mut fitting = fitting.into_iter();
        fitting
            .find(|key| key.verifies(header.algorithm, token.signed(), token.signature()))
            .ok_or(TokenFault::Signature)
    }
}
