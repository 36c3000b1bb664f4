//! [`RuleCaller`]: what a rule of one's own sees of the caller.

use crate::auth::Caller;
use crate::keys::KnownKey;

/// The caller of a request, as the gateway has proven it. The key itself is not there, nor is its
/// digest.
#[derive(Clone, Copy)]
pub struct RuleCaller<'c>(&'c Caller);

impl<'c> RuleCaller<'c> {
    pub(crate) fn new(caller: &'c Caller) -> Self {
        Self(caller)
    }

    fn key(self) -> Option<&'c KnownKey> {
        match self.0 {
            Caller::Key(key) => Some(key),
            Caller::Anonymous => None,
        }
    }

    /// Whether the route let the caller in without a credential. All that follows is then absent.
    #[must_use]
    pub fn is_anonymous(self) -> bool {
        match self.0 {
            Caller::Key(_) => false,
            Caller::Anonymous => true,
        }
    }

    /// Id of the consumer, `csmr_…`.
    #[must_use]
    pub fn consumer_id(self) -> Option<&'c str> {
        Some(self.key()?.consumer().id.as_str())
    }

    /// Name of the consumer, unique in its bucket.
    #[must_use]
    pub fn consumer_name(self) -> Option<&'c str> {
        Some(self.key()?.consumer().name.as_str())
    }

    /// Id of the consumer in the team's own system.
    #[must_use]
    pub fn custom_id(self) -> Option<&'c str> {
        Some(self.key()?.consumer().custom_id?.as_str())
    }

    /// Bucket of the consumer.
    #[must_use]
    pub fn bucket(self) -> Option<&'c str> {
        Some(self.key()?.consumer().bucket.as_str())
    }

    /// Name of the consumer's plan.
    #[must_use]
    pub fn plan(self) -> Option<&'c str> {
        Some(self.key()?.plan()?.name.as_str())
    }

    /// Value of the consumer's tag `name`.
    #[must_use]
    pub fn tag(self, name: &str) -> Option<&'c str> {
        self.key()?.tag(name)
    }

    /// Metadata of the consumer, a JSON object as text.
    #[must_use]
    pub fn metadata(self) -> Option<&'c str> {
        Some(self.key()?.consumer().metadata?.as_str())
    }

    /// Id of the key, `key_…`.
    #[must_use]
    pub fn key_id(self) -> Option<&'c str> {
        Some(self.key()?.id().as_str())
    }

    /// Whether the credential has `scope`.
    #[must_use]
    pub fn has_scope(self, scope: &str) -> bool {
        self.key().is_some_and(|key| key.allows(scope))
    }
}
