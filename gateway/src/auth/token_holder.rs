//! [`TokenHolder`]: the holder of a verified token, with the consumer that it names.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use crate::auth::jwt::{OnUnknownConsumer, VerifiedToken};
use crate::keys::{BucketName, ByCustomId, FoundConsumer, KeyTable, Scopes};
use crate::limits::TokenSubject;

/// Holder of a token that is valid now. The consumer is looked up at each request, as a key is, so
/// that its changes are in force for tokens, too.
#[derive(Clone, Debug)]
pub struct TokenHolder {
    token: Arc<VerifiedToken>,
    named: Named,
}

/// The consumer that a token names.
#[derive(Clone, Debug)]
enum Named {
    /// The issuer has no `consumer_claim`, or lets tokens without a consumer pass.
    None,
    One(FoundConsumer),
    /// No consumer has this `custom_id`.
    Nobody,
    /// Several consumers have it.
    Unclear,
}

/// Why the consumer of a token is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoConsumer {
    /// No consumer has the id in the token.
    Unknown,
    /// Consumers of several buckets have it.
    Unclear,
}

impl TokenHolder {
    /// Looks up the consumer that `token` names. Of several buckets with its `custom_id`, those of
    /// the route count.
    #[must_use]
    pub fn find(token: Arc<VerifiedToken>, keys: &KeyTable, buckets: &[BucketName]) -> Self {
        let rules = token.issuer().rules();
        let named = if rules.consumer_claim.is_none() {
            Named::None
        } else {
            let found = token.consumer();
            let found = found.map(|custom_id| keys.consumer_by_custom_id(custom_id, buckets));
            match (found, rules.on_unknown_consumer) {
                (Some(ByCustomId::One(consumer)), _) => Named::One(consumer),
                // Not even with `allow`: the consumer is there, and which one it is cannot be said.
                (Some(ByCustomId::Unclear), _) => Named::Unclear,
                (Some(ByCustomId::Nobody) | None, OnUnknownConsumer::Allow) => Named::None,
                (Some(ByCustomId::Nobody) | None, OnUnknownConsumer::Reject) => Named::Nobody,
            }
        };
        Self { token, named }
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &Arc<VerifiedToken> {
        &self.token
    }

    /// The consumer; `None` if the token has none.
    #[must_use]
    pub fn consumer(&self) -> Option<&FoundConsumer> {
        match &self.named {
            Named::One(consumer) => Some(consumer),
            Named::None | Named::Nobody | Named::Unclear => None,
        }
    }

    /// Checks that the consumer is known where it has to be.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check_consumer(&self) -> Result<(), NoConsumer> {
        match self.named {
            Named::None | Named::One(_) => Ok(()),
            Named::Nobody => Err(NoConsumer::Unknown),
            Named::Unclear => Err(NoConsumer::Unclear),
        }
    }

    /// Whom limits count.
    #[must_use]
    pub fn subject(&self) -> TokenSubject<'_> {
        TokenSubject {
            issuer: self.token.issuer().name(),
            subject: self.token.subject(),
            consumer: self.consumer(),
        }
    }

    /// Whether the token has `scope`, and so has its consumer.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.token.scopes().contains(scope)
            && self
                .consumer()
                .is_none_or(|consumer| consumer.has_scope(scope))
    }

    /// Every scope that [`has_scope`](Self::has_scope) accepts.
    #[must_use]
    pub fn scopes(&self) -> Cow<'_, Scopes> {
        let own = self.token.scopes();
        match self.consumer() {
            None => Cow::Borrowed(own),
            Some(consumer) => Cow::Owned(own.within(&consumer.scopes())),
        }
    }

    /// Bits that tell subjects apart: the tokens that a subject gets one after the other have the
    /// same.
    #[must_use]
    pub fn bits(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        let consumer = self.consumer().map(|consumer| *consumer.known().id);
        let subject = self.token.subject();
        (self.token.issuer().name(), subject, consumer).hash(&mut hash);
        hash.finish()
    }
}
