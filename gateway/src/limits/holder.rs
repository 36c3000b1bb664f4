//! [`Holder`]: whose credential a request carries, with the numbers of its own.

use std::hash::{Hash as _, Hasher};

use crate::keys::allowance::{RateAllowance, Rates};
use crate::keys::{Allowance, ConsumerId, FoundConsumer, KeyId, KnownKey, PlanName, Tags};

/// The holder of a key or a token, or a consumer as such.
#[derive(Clone, Copy, Debug)]
pub enum Holder<'r> {
    /// The key of a request.
    Known(&'r KnownKey),
    /// The token of a request.
    Token(TokenSubject<'r>),
    /// What the store says, for operators.
    Stored(StoredHolder<'r>),
}

/// Whom a token is about.
#[derive(Clone, Copy, Debug)]
pub struct TokenSubject<'r> {
    /// Name of the issuer.
    pub issuer: &'r str,
    /// Subject; all tokens of an issuer without one are of one subject.
    pub subject: Option<&'r str>,
    /// Consumer, if the token names one.
    pub consumer: Option<&'r FoundConsumer>,
}

/// A consumer, or one of its keys, as stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredHolder<'r> {
    /// First key of the chain of rolls, and numbers of the key; `None` for the consumer as such.
    pub key: Option<(KeyId, &'r Rates)>,
    /// Consumer.
    pub consumer: ConsumerId,
    /// Numbers of the consumer.
    pub rates: &'r Rates,
    /// Plan of the consumer, and its numbers.
    pub plan: Option<(&'r PlanName, &'r Rates)>,
    /// Tags of the consumer.
    pub tags: &'r Tags,
}

impl<'r> Holder<'r> {
    /// Hashes what a limit by key counts by: the first one of a chain of rolls, or the subject of
    /// a token with its issuer. Returns `None` for a consumer as such.
    pub(super) fn hash_credential(&self, hash: &mut impl Hasher) -> Option<()> {
        match self {
            Self::Known(key) => key.chain().hash(hash),
            Self::Token(token) => ("token", token.issuer, token.subject).hash(hash),
            Self::Stored(holder) => holder.key.map(|(chain, _)| chain)?.hash(hash),
        }
        Some(())
    }

    /// Returns the consumer; `None` for a token without one.
    pub(super) fn consumer(&self) -> Option<ConsumerId> {
        Some(match self {
            Self::Known(key) => *key.consumer().id,
            Self::Token(token) => *token.consumer?.known().id,
            Self::Stored(holder) => holder.consumer,
        })
    }

    /// Returns the value of the consumer's tag `name`.
    pub(super) fn tag(&self, name: &str) -> Option<&'r str> {
        match self {
            Self::Known(key) => key.tag(name),
            Self::Token(token) => token.consumer?.tag(name),
            Self::Stored(holder) => {
                let mut tags = holder.tags.iter();
                tags.find_map(|(tag, value)| (tag == name).then_some(value))
            }
        }
    }

    /// Returns whether no level has numbers of its own.
    pub(super) fn is_plain(&self) -> bool {
        self.own().is_empty() && self.of_consumer().is_empty() && self.of_plan().is_empty()
    }

    /// Numbers of the key.
    pub(super) fn own(&self) -> &'r [RateAllowance] {
        match self {
            Self::Known(key) => rates(key.allowance()),
            Self::Token(_) => &[],
            Self::Stored(holder) => holder.key.map_or(&[], |(_, rates)| rates),
        }
    }

    /// Returns the plan of the consumer.
    pub(super) fn plan(&self) -> Option<&'r PlanName> {
        match self {
            Self::Known(key) => key.plan().map(|plan| &plan.name),
            Self::Token(token) => token.consumer?.plan().map(|plan| &plan.name),
            Self::Stored(holder) => holder.plan.map(|(name, _)| name),
        }
    }

    /// Numbers of the plan.
    pub(super) fn of_plan(&self) -> &'r [RateAllowance] {
        match self {
            Self::Known(key) => rates(key.plan().map(|plan| &plan.allowance)),
            Self::Token(token) => {
                let plan = token.consumer.and_then(FoundConsumer::plan);
                rates(plan.map(|plan| &plan.allowance))
            }
            Self::Stored(holder) => holder.plan.map_or(&[], |(_, rates)| rates),
        }
    }

    /// Returns the number for the limit `name` that the consumer has, or else its plan.
    pub(super) fn granted(&self, name: &str) -> Option<&'r RateAllowance> {
        named(self.of_consumer(), name).or_else(|| named(self.of_plan(), name))
    }

    /// Numbers of the consumer, and those of its plan that it has no other for.
    pub(super) fn all_granted(&self) -> impl Iterator<Item = &'r RateAllowance> {
        let own = self.of_consumer();
        let of_plan = self.of_plan().iter();
        own.iter()
            .chain(of_plan.filter(move |rate| named(own, rate.name.as_str()).is_none()))
    }

    /// Numbers of the consumer.
    fn of_consumer(&self) -> &'r [RateAllowance] {
        match self {
            Self::Known(key) => rates(key.consumer_allowance()),
            Self::Token(token) => rates(token.consumer.and_then(FoundConsumer::allowance)),
            Self::Stored(holder) => holder.rates,
        }
    }
}

/// Returns the rates of an allowance.
fn rates(allowance: Option<&Allowance>) -> &[RateAllowance] {
    allowance.map_or(&[], |own| &own.rates)
}

/// Returns the number that `rates` have for the limit `name`.
pub(super) fn named<'r>(rates: &'r [RateAllowance], name: &str) -> Option<&'r RateAllowance> {
    rates.iter().find(|rate| rate.name.as_str() == name)
}
