//! Which quotas apply to a caller, and with which numbers.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::keys::{FoundConsumer, KnownKey, QuotaAllowance, QuotaAnchor, UnixMillis};
use crate::limits::Standing;
use crate::limits::period::{Bounds, Periods};
use crate::limits::quota::rule::{QuotaBy, Statuses};
use crate::limits::quota::{InForce, Level, Outcome, QuotaCell, QuotaSubject, Quotas, time_until};

/// The caller that quotas count.
#[derive(Clone, Copy, Debug)]
pub enum Counted<'q> {
    /// Holder of a key.
    Key(&'q KnownKey),
    /// Consumer that a token names. Quotas by key do not count it.
    Consumer(&'q FoundConsumer),
}

impl<'q> From<&'q KnownKey> for Counted<'q> {
    fn from(key: &'q KnownKey) -> Self {
        Self::Key(key)
    }
}

impl<'q> Counted<'q> {
    fn key(self) -> Option<&'q KnownKey> {
        match self {
            Self::Key(key) => Some(key),
            Self::Consumer(_) => None,
        }
    }

    /// Returns the consumer.
    #[must_use]
    pub fn consumer(self) -> &'q FoundConsumer {
        match self {
            Self::Key(key) => key.owner(),
            Self::Consumer(consumer) => consumer,
        }
    }
}

/// A check of one quota for one caller.
pub(super) struct Check<'q> {
    /// The name, as a quota of the settings has it; `None` for a subject's own.
    shared_name: Option<&'q Arc<str>>,
    pub(super) name: &'q str,
    kind: Cow<'q, str>,
    periods: Cow<'q, Periods>,
    pub(super) subject: QuotaSubject,
    /// Hash of the cell, and the time.
    pub(super) place: (u64, UnixMillis),
    /// When the consumer was created.
    created: UnixMillis,
    pub(super) limit: u64,
    pub(super) enforce: bool,
    statuses: Option<Statuses>,
}

impl Check<'_> {
    pub(super) fn cell(&self) -> QuotaCell {
        QuotaCell {
            quota: self.name.into(),
            kind: (*self.kind).into(),
            subject: self.subject.clone(),
        }
    }

    /// Where the caller stands at `level`.
    pub(super) fn standing(&self, level: &Level) -> Standing {
        Standing {
            name: self
                .shared_name
                .map_or_else(|| self.name.into(), Arc::clone),
            limit: self.limit,
            window: None,
            remaining: self.left(level),
            more_in: level.period.end.map(|end| time_until(end, self.place.1)),
        }
    }

    /// Units left at `level`.
    pub(super) fn left(&self, level: &Level) -> u64 {
        u64::try_from(self.limit().saturating_sub(level.used)).unwrap_or_default()
    }

    pub(super) fn period(&self) -> Bounds {
        self.periods.at(self.place.1, self.created)
    }

    pub(super) fn limit(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX)
    }

    pub(super) fn counts(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Answered(status) => self.statuses.is_none_or(|statuses| statuses.has(status)),
            // Otherwise whoever leaves early would have everything for nothing.
            Outcome::ClientLeft => true,
            Outcome::NotAnswered => false,
        }
    }
}

impl Quotas {
    /// Calls `act` for each quota that applies to `caller`: those of the settings with the numbers
    /// that the key, its consumer or its plan has for them, then those of the consumer and of the
    /// key alone.
    pub(super) fn each<'q>(
        &'q self,
        caller: Counted<'q>,
        at: UnixMillis,
        act: &mut dyn FnMut(&Check<'q>),
    ) {
        let (key, consumer) = (caller.key(), caller.consumer());
        let of_key = key.and_then(KnownKey::allowance).map(|own| &own.quotas);
        let of_consumer = consumer.allowance().map(|own| &own.quotas);
        let of_plan = consumer.plan().map(|plan| &plan.allowance.quotas);
        let as_consumer = || QuotaSubject::Consumer(*consumer.known().id);
        let named = |quotas: Option<&'q Quotes>, name: &str| {
            quotas?.iter().find(|own| own.name.as_str() == name)
        };
        let mut check =
            |quota: Option<&'q InForce>, own: Option<&'q QuotaAllowance>, subject: QuotaSubject| {
                self.check(quota, own, subject, (consumer.created_at(), at))
                    .iter()
                    .for_each(&mut *act);
            };
        for of in &self.quotas {
            let name = &*of.quota.name;
            let own = named(of_key, name);
            let above = named(of_consumer, name).or_else(|| named(of_plan, name));
            match &of.quota.by {
                QuotaBy::Key => {
                    if let Some(key) = key {
                        check(Some(of), own.or(above), key_subject(key));
                    }
                }
                QuotaBy::Consumer => {
                    check(Some(of), above, as_consumer());
                    // Narrows what its consumer has.
                    if let (Some(key), Some(_)) = (key, own) {
                        check(Some(of), own, key_subject(key));
                    }
                }
                QuotaBy::Tag(_) => {
                    if let Some(subject) = of.quota.tag(consumer) {
                        check(Some(of), above, subject);
                    }
                }
            }
        }
        let is_known = |own: &&QuotaAllowance| {
            let mut quotas = self.quotas.iter();
            quotas.any(|of| *of.quota.name == *own.name.as_str())
        };
        let unknown =
            |quotas: Option<&'q Quotes>| quotas.into_iter().flat_map(|quotas| quotas.iter());
        let of_plan =
            unknown(of_plan).filter(|own| named(of_consumer, own.name.as_str()).is_none());
        for own in unknown(of_consumer)
            .chain(of_plan)
            .filter(|own| !is_known(own))
        {
            check(None, Some(own), as_consumer());
        }
        for own in unknown(of_key).filter(|own| !is_known(own)) {
            let Some(key) = key else { break };
            check(None, Some(own), key_subject(key));
        }
    }

    /// The check of a quota of the settings, with the number of a subject of its `own`, or of one
    /// that only the subject has. `None` if it is unlimited, or has no period.
    pub(super) fn check<'q>(
        &'q self,
        of: Option<&'q InForce>,
        own: Option<&'q QuotaAllowance>,
        subject: QuotaSubject,
        (created, at): (UnixMillis, UnixMillis),
    ) -> Option<Check<'q>> {
        let limit = match own {
            Some(own) => own.limit?,
            None => of?.quota.limit,
        };
        let its_own = own.filter(|own| own.period.is_some() || own.anchor.is_some());
        let (periods, kind) = match (of, its_own) {
            (Some(of), None) => (Cow::Borrowed(&of.quota.periods), Cow::Borrowed(&*of.kind)),
            (of, its_own) => {
                let mut periods = match of {
                    Some(of) => of.quota.periods.clone(),
                    None => Periods {
                        length: its_own?.period?,
                        anchor: QuotaAnchor::Calendar,
                        zone: TimeZone::UTC,
                    },
                };
                if let Some(own) = its_own {
                    periods.length = own.period.unwrap_or(periods.length);
                    periods.anchor = own
                        .anchor
                        .filter(|anchor| is_one(*anchor, &subject))
                        .unwrap_or(periods.anchor);
                }
                let kind = kind_of(&periods);
                (Cow::Owned(periods), Cow::Owned(kind))
            }
        };
        let name = match (of, own) {
            (Some(of), _) => &*of.quota.name,
            (None, own) => own?.name.as_str(),
        };
        Some(Check {
            shared_name: of.map(|of| &of.quota.name),
            place: (self.memory.hash(name, &kind, &subject), at),
            created,
            name,
            kind,
            periods,
            subject,
            limit,
            enforce: of.is_none_or(|of| of.quota.enforce),
            statuses: of.and_then(|of| of.quota.statuses),
        })
    }
}

/// Quotas of a subject.
pub(super) type Quotes = crate::keys::Quotas;

/// The chain of rolls of a key.
fn key_subject(key: &KnownKey) -> QuotaSubject {
    QuotaSubject::Key(key.chain())
}

/// Whether `anchor` is the same for everybody who counts as `subject`: consumers with a tag were
/// created at different times.
fn is_one(anchor: QuotaAnchor, subject: &QuotaSubject) -> bool {
    anchor != QuotaAnchor::Created || !matches!(subject, QuotaSubject::Tag(_))
}

/// Name of a kind of periods in the store.
pub(super) fn kind_of(periods: &Periods) -> String {
    let Periods {
        length,
        anchor,
        zone,
    } = periods;
    let zone = zone.iana_name().unwrap_or("UTC");
    format!("{} {anchor} {zone}", length.as_str())
}
