//! Quotas: how much anyone may do in an hour, a day, a month, or for ever.
//!
//! Units are reserved when a request is admitted, and given back at its end if its answer does not
//! count: otherwise parallel requests would overrun. Decisions are made in memory; the store has
//! the truth of all gateways.

mod memory;

pub use memory::{Level, QuotaCell, QuotaDelta, QuotaMemory, QuotaSubject, QuotaUse};

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::keys::{ConsumerId, FoundConsumer, KnownKey, QuotaAllowance, QuotaAnchor, UnixMillis};
use crate::limits::period::{Bounds, Periods};
use crate::limits::quota::memory::{Taken, TakenAt};
use crate::limits::{Purpose, Standing};

/// Longest time that is added to the end of a period, so that not everyone comes at midnight.
const MAX_JITTER: Duration = Duration::from_mins(5);
/// Most of the time that is left, which is added.
const JITTER_DIVISOR: u32 = 10;

/// Whom a quota counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QuotaBy {
    /// Each key; a rolled key goes on where its predecessor was.
    Key,
    /// Each consumer.
    Consumer,
    /// All consumers with the same value of this tag.
    Tag(Box<str>),
}

/// The caller that quotas count.
#[derive(Clone, Copy, Debug)]
pub enum Counted<'q> {
    /// Holder of a key.
    Key(&'q KnownKey),
    /// Consumer that a token names. Quotas by key do not count it.
    Consumer(&'q FoundConsumer),
}

/// Classes of statuses that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses(u8);

/// A quota of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Name.
    pub name: Arc<str>,
    /// Whom it counts.
    pub by: QuotaBy,
    /// Units in a period; not 0.
    pub limit: u64,
    /// Its periods.
    pub periods: Periods,
    /// Statuses of the origin that count; `None` for all.
    pub statuses: Option<Statuses>,
    /// Whether it refuses requests; otherwise it only counts and tells.
    pub enforce: bool,
}

/// Quotas of one generation of the settings.
#[derive(Debug)]
pub struct Quotas {
    quotas: Box<[InForce]>,
    memory: Arc<QuotaMemory>,
}

#[derive(Debug)]
struct InForce {
    quota: Quota,
    /// Name of its kind of periods in the store.
    kind: Arc<str>,
}

/// Units that a request took. They stay taken unless [`Reserved::settle`] gives them back.
#[derive(Debug)]
pub struct Reserved {
    quotas: Arc<Quotas>,
    at: UnixMillis,
    when: TakenAt,
    units: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The origin answered with this status.
    Answered(u16),
    /// The client left before an answer, or its body broke off: the origin had the work.
    ClientLeft,
    /// It did not reach the origin, or no answer came.
    NotAnswered,
}

/// A request beyond a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaDenied {
    /// Name of the quota.
    pub quota: Arc<str>,
    /// Time until another try makes sense; `None` if the quota never ends, or never admits so much.
    pub wait: Option<Duration>,
}

/// A share of a quota that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Name of the quota.
    pub quota: Arc<str>,
    /// The subject.
    pub subject: QuotaSubject,
    /// Percent.
    pub share: i64,
    /// Units of a period.
    pub limit: u64,
    /// Whether requests beyond are refused.
    pub enforced: bool,
}

/// Decision about a request.
#[derive(Debug, Default)]
pub struct QuotaVerdict {
    /// The quota that ends latest, of those that deny.
    pub denied: Option<QuotaDenied>,
    /// What was taken.
    pub reserved: Option<Reserved>,
    /// A quota that is not enforced and would have denied.
    pub shadow: Option<Arc<str>>,
    /// Shares that were reached.
    pub notices: Vec<Notice>,
    /// The quotas that the caller may be told of, the one with the least left first.
    pub standings: [Option<Standing>; 2],
}

/// A quota of a subject, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaState {
    /// What is counted.
    pub cell: QuotaCell,
    /// Units of a period.
    pub limit: u64,
    /// Units used, and the period.
    pub level: Level,
    /// Whether requests beyond are refused.
    pub enforced: bool,
}

impl Statuses {
    /// Parses `2xx` and the like; `None` for other texts.
    #[must_use]
    pub fn parse(words: &[&str]) -> Option<Self> {
        let mut bits = 0;
        for word in words {
            let class = word.strip_suffix("xx")?.parse::<u8>().ok()?;
            if !(1..=5).contains(&class) {
                return None;
            }
            bits |= 1 << class;
        }
        Some(Self(bits))
    }

    fn has(self, status: u16) -> bool {
        u8::try_from(status / 100).is_ok_and(|class| class < 8 && self.0 & 1 << class != 0)
    }
}

impl Quota {
    /// Subject of a quota by tag; `None` if the consumer lacks the tag.
    fn tag(&self, consumer: &FoundConsumer) -> Option<QuotaSubject> {
        let QuotaBy::Tag(name) = &self.by else {
            return None;
        };
        let value = consumer.tag(name)?;
        Some(QuotaSubject::Tag(format!("{name}={value}").into()))
    }
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

impl fmt::Display for QuotaBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Consumer => f.write_str("consumer"),
            Self::Tag(name) => write!(f, "tag:{name}"),
        }
    }
}

/// A check of one quota for one caller.
struct Check<'q> {
    /// The name, as a quota of the settings has it; `None` for a subject's own.
    shared_name: Option<&'q Arc<str>>,
    name: &'q str,
    kind: Cow<'q, str>,
    periods: Cow<'q, Periods>,
    subject: QuotaSubject,
    /// Hash of the cell, and the time.
    place: (u64, UnixMillis),
    /// When the consumer was created.
    created: UnixMillis,
    limit: u64,
    enforce: bool,
    statuses: Option<Statuses>,
}

impl Check<'_> {
    fn cell(&self) -> QuotaCell {
        QuotaCell {
            quota: self.name.into(),
            kind: (*self.kind).into(),
            subject: self.subject.clone(),
        }
    }

    /// Where the caller stands at `level`.
    fn standing(&self, level: &Level) -> Standing {
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
    fn left(&self, level: &Level) -> u64 {
        u64::try_from(self.limit().saturating_sub(level.used)).unwrap_or_default()
    }

    fn period(&self) -> Bounds {
        self.periods.at(self.place.1, self.created)
    }

    fn limit(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX)
    }

    fn counts(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Answered(status) => self.statuses.is_none_or(|statuses| statuses.has(status)),
            // Otherwise whoever leaves early would have everything for nothing.
            Outcome::ClientLeft => true,
            Outcome::NotAnswered => false,
        }
    }
}

impl Quotas {
    /// Puts `quotas` in force over the counts in `memory`.
    #[must_use]
    pub fn new(quotas: Vec<Quota>, memory: &Arc<QuotaMemory>) -> Arc<Self> {
        let quotas = quotas.into_iter().map(|quota| InForce {
            kind: kind_of(&quota.periods).into(),
            quota,
        });
        let quotas: Box<[InForce]> = quotas.collect();
        if !quotas.is_empty() {
            memory.use_it();
        }
        Arc::new(Self {
            quotas,
            memory: Arc::clone(memory),
        })
    }

    /// Whether there is no quota.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.quotas.is_empty()
    }

    /// The quotas of the settings.
    pub fn iter(&self) -> impl Iterator<Item = &Quota> {
        self.quotas.iter().map(|one| &one.quota)
    }

    /// Counts that outlive a generation.
    #[must_use]
    pub fn memory(&self) -> &Arc<QuotaMemory> {
        &self.memory
    }

    /// Reserves `units` of every quota that applies to `caller`, or of none if one denies. With
    /// [`Purpose::Look`] nothing is reserved.
    #[must_use]
    pub fn reserve<'q>(
        self: &Arc<Self>,
        caller: impl Into<Counted<'q>>,
        units: u64,
        at: UnixMillis,
        purpose: Purpose,
    ) -> QuotaVerdict {
        self.reserve_of(caller.into(), units, at, purpose)
    }

    fn reserve_of(
        self: &Arc<Self>,
        caller: Counted<'_>,
        units: u64,
        at: UnixMillis,
        purpose: Purpose,
    ) -> QuotaVerdict {
        let mut verdict = QuotaVerdict::default();
        if units == 0 {
            return verdict;
        }
        let amount = i64::try_from(units).unwrap_or(i64::MAX);
        let (mut number, mut latest, mut any) = (0, None, false);
        let mut when = TakenAt::clock(at);
        self.each(caller, at, &mut |check| {
            let note = |standings: &mut _, level: &Level| {
                // Consumers with the same tag would be told how busy the others are.
                let is_own = !matches!(check.subject, QuotaSubject::Tag(_));
                if check.enforce && is_own {
                    Standing::note(standings, check.name, check.left(level), || {
                        check.standing(level)
                    });
                }
            };
            any = true;
            number += 1;
            // Once one has denied, the others are only looked at.
            let looks = purpose == Purpose::Look || verdict.denied.is_some();
            let taken = if looks {
                let level = self.memory.level(check.place, || check.period());
                if !check.enforce || level.used.saturating_add(amount) <= check.limit() {
                    note(&mut verdict.standings, &level);
                    return;
                }
                Taken::Denied(level)
            } else {
                let (period, cell) = (|| check.period(), || check.cell());
                let force = !check.enforce;
                self.memory
                    .take(check.place, period, cell, amount, check.limit(), force)
            };
            match taken {
                Taken::Fits { level, notice } => {
                    when.from(level.period);
                    note(&mut verdict.standings, &level);
                    if level.used > check.limit() {
                        verdict.shadow.get_or_insert_with(|| check.name.into());
                    }
                    verdict.notices.extend(notice.map(|share| Notice {
                        quota: check.name.into(),
                        subject: check.subject.clone(),
                        share,
                        limit: check.limit,
                        enforced: check.enforce,
                    }));
                }
                Taken::Denied(level) => {
                    if !looks {
                        self.undo(number - 1, caller, amount, (at, when));
                        for taken in verdict.standings.iter_mut().flatten() {
                            taken.remaining = taken.remaining.saturating_add(units);
                        }
                    }
                    note(&mut verdict.standings, &level);
                    // No period admits more than it has.
                    let end = level.period.end.filter(|_| amount <= check.limit());
                    let ends = end.unwrap_or(UnixMillis(i64::MAX));
                    if latest.is_none_or(|latest| ends > latest) {
                        latest = Some(ends);
                        verdict.denied = Some(QuotaDenied {
                            quota: check.name.into(),
                            wait: end.map(|end| wait_until(end, at, check.place.0)),
                        });
                    }
                }
            }
        });
        if verdict.denied.is_some() {
            // What was told of was undone.
            verdict.notices.clear();
        } else if any && purpose == Purpose::Take {
            verdict.reserved = Some(Reserved {
                quotas: Arc::clone(self),
                at,
                when,
                units,
            });
        }
        verdict
    }

    /// What `caller` has used.
    #[must_use]
    pub fn of_caller<'q>(&self, caller: impl Into<Counted<'q>>, at: UnixMillis) -> Vec<QuotaState> {
        let mut states = Vec::new();
        self.each(caller.into(), at, &mut |check| {
            states.push(QuotaState {
                cell: check.cell(),
                limit: check.limit,
                level: self.memory.level(check.place, || check.period()),
                enforced: check.enforce,
            });
        });
        states
    }

    /// What a consumer has used of the quotas that count it as such, with `own` numbers or those of
    /// its plan.
    #[must_use]
    pub fn of_consumer(
        &self,
        consumer: &ConsumerId,
        own: &Quotes,
        of_plan: Option<&Quotes>,
        created: UnixMillis,
        at: UnixMillis,
    ) -> Vec<QuotaState> {
        let named = |name: &str| {
            let is_it = |entry: &&QuotaAllowance| entry.name.as_str() == name;
            let of_plan = || of_plan?.iter().find(is_it);
            own.iter().find(is_it).or_else(of_plan)
        };
        let mut states = Vec::new();
        let mut add = |of, own| {
            let subject = QuotaSubject::Consumer(*consumer);
            states.extend(
                self.check(of, own, subject, (created, at))
                    .map(|check| QuotaState {
                        cell: check.cell(),
                        limit: check.limit,
                        level: self.memory.level(check.place, || check.period()),
                        enforced: check.enforce,
                    }),
            );
        };
        for of in &self.quotas {
            if of.quota.by == QuotaBy::Consumer {
                add(Some(of), named(&of.quota.name));
            }
        }
        let is_known = |name: &str| self.quotas.iter().any(|of| *of.quota.name == *name);
        let of_plan = of_plan.into_iter().flat_map(|quotas| quotas.iter());
        let of_plan = of_plan.filter(|entry| own.named(&entry.name).is_none());
        for entry in own.iter().chain(of_plan) {
            if !is_known(entry.name.as_str()) {
                add(None, Some(entry));
            }
        }
        states
    }

    /// Gives back what the first `number` checks took.
    fn undo(
        &self,
        number: usize,
        caller: Counted<'_>,
        amount: i64,
        (at, when): (UnixMillis, TakenAt),
    ) {
        let mut left = number;
        self.each(caller, at, &mut |check| {
            if left > 0 {
                left -= 1;
                let place = (check.place.0, when);
                self.memory.give_back(place, || check.cell(), amount);
            }
        });
    }

    /// Calls `act` for each quota that applies to `caller`: those of the settings with the numbers
    /// that the key, its consumer or its plan has for them, then those of the consumer and of the
    /// key alone.
    fn each<'q>(&'q self, caller: Counted<'q>, at: UnixMillis, act: &mut dyn FnMut(&Check<'q>)) {
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
    fn check<'q>(
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
type Quotes = crate::keys::Quotas;

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
fn kind_of(periods: &Periods) -> String {
    let Periods {
        length,
        anchor,
        zone,
    } = periods;
    let zone = zone.iana_name().unwrap_or("UTC");
    format!("{} {anchor} {zone}", length.as_str())
}

impl Reserved {
    /// Gives back what does not count after `outcome`, in the periods that it was taken from.
    pub fn settle<'q>(&self, caller: impl Into<Counted<'q>>, outcome: Outcome) {
        let amount = i64::try_from(self.units).unwrap_or(i64::MAX);
        self.quotas.each(caller.into(), self.at, &mut |check| {
            if !check.counts(outcome) {
                let (memory, place) = (&self.quotas.memory, (check.place.0, self.when));
                memory.give_back(place, || check.cell(), amount);
            }
        });
    }
}

/// Time from `at` to `end`; zero if that is over.
fn time_until(end: UnixMillis, at: UnixMillis) -> Duration {
    let left = end.0.saturating_sub(at.0);
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

/// Time from `at` to `end`, and up to a tenth more, by the subject's `hash`: the same for one
/// subject, and different for others.
fn wait_until(end: UnixMillis, at: UnixMillis, hash: u64) -> Duration {
    let left = time_until(end, at);
    let most = (left / JITTER_DIVISOR).min(MAX_JITTER);
    let most = u64::try_from(most.as_millis()).unwrap_or_default();
    left + Duration::from_millis(hash % (most + 1))
}

#[cfg(test)]
mod tests;
