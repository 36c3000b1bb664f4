//! [`RuleCaller`]: what a rule of one's own sees of the caller.

use crate::auth::Caller;
use crate::auth::token_holder::TokenHolder;
use crate::keys::{FoundConsumer, KnownKey};

/// The caller of a request, as the gateway has proven it. The key or token itself is not there, nor
/// is its digest.
#[derive(Clone, Copy)]
pub struct RuleCaller<'c>(&'c Caller);

impl<'c> RuleCaller<'c> {
    pub(crate) fn new(caller: &'c Caller) -> Self {
        Self(caller)
    }

    fn key(self) -> Option<&'c KnownKey> {
        match self.0 {
            Caller::Key(key) => Some(key),
            Caller::Token(_) | Caller::Anonymous => None,
        }
    }

    fn token(self) -> Option<&'c TokenHolder> {
        match self.0 {
            Caller::Token(holder) => Some(holder),
            Caller::Key(_) | Caller::Anonymous => None,
        }
    }

    fn owner(self) -> Option<&'c FoundConsumer> {
        match self.0 {
            Caller::Key(key) => Some(key.owner()),
            Caller::Token(holder) => holder.consumer(),
            Caller::Anonymous => None,
        }
    }

    /// Whether the route let the caller in without a credential. All that follows is then absent.
    #[must_use]
    pub fn is_anonymous(self) -> bool {
        match self.0 {
            Caller::Key(_) | Caller::Token(_) => false,
            Caller::Anonymous => true,
        }
    }

    /// Id of the consumer, `csmr_…`.
    #[must_use]
    pub fn consumer_id(self) -> Option<&'c str> {
        Some(self.owner()?.known().id.as_str())
    }

    /// Name of the consumer, unique in its bucket.
    #[must_use]
    pub fn consumer_name(self) -> Option<&'c str> {
        Some(self.owner()?.known().name.as_str())
    }

    /// Id of the consumer in the team's own system.
    #[must_use]
    pub fn custom_id(self) -> Option<&'c str> {
        Some(self.owner()?.known().custom_id?.as_str())
    }

    /// Bucket of the consumer.
    #[must_use]
    pub fn bucket(self) -> Option<&'c str> {
        Some(self.owner()?.known().bucket.as_str())
    }

    /// Name of the consumer's plan.
    #[must_use]
    pub fn plan(self) -> Option<&'c str> {
        Some(self.owner()?.plan()?.name.as_str())
    }

    /// Value of the consumer's tag `name`.
    #[must_use]
    pub fn tag(self, name: &str) -> Option<&'c str> {
        self.owner()?.tag(name)
    }

    /// Metadata of the consumer, a JSON object as text.
    #[must_use]
    pub fn metadata(self) -> Option<&'c str> {
        Some(self.owner()?.known().metadata?.as_str())
    }

    /// Name of the issuer of the token, in the settings.
    #[must_use]
    pub fn issuer(self) -> Option<&'c str> {
        Some(self.token()?.subject().issuer)
    }

    /// Subject of the token (`sub`), of 1 to 256 bytes and any characters.
    #[must_use]
    pub fn subject(self) -> Option<&'c str> {
        self.token()?.subject().subject
    }

    /// Id of the key, `key_…`.
    #[must_use]
    pub fn key_id(self) -> Option<&'c str> {
        Some(self.key()?.id().as_str())
    }

    /// Whether the credential has `scope`.
    #[must_use]
    pub fn has_scope(self, scope: &str) -> bool {
        match self.0 {
            Caller::Key(key) => key.allows(scope),
            Caller::Token(holder) => holder.has_scope(scope),
            Caller::Anonymous => false,
        }
    }
}
