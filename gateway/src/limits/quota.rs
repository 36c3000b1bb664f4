//! Quotas: how much anyone may do in an hour, a day, a month, or for ever.
//!
//! Units are reserved when a request is admitted, and given back at its end if its answer does not
//! count: otherwise parallel requests would overrun. Decisions are made in memory; the store has
//! the truth of all gateways.

mod memory;

pub use memory::{Level, QuotaCell, QuotaDelta, QuotaMemory, QuotaSubject, QuotaUse};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::keys::{KnownKey, UnixMillis};
use crate::limits::period::{Anchor, Bounds, Periods};
use crate::limits::quota::memory::Taken;

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
    units: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The origin answered with this status.
    Answered(u16),
    /// The client left before an answer: the origin had the work.
    ClientLeft,
    /// It did not reach the origin, or no answer came.
    NotAnswered,
}

/// A request beyond a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaDenied {
    /// Name of the quota.
    pub quota: Arc<str>,
    /// Time until another try makes sense; `None` if the quota never ends.
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
    fn kind(&self) -> String {
        let Periods {
            length,
            anchor,
            zone,
        } = &self.periods;
        let anchor = match anchor {
            Anchor::Calendar => "calendar".to_owned(),
            Anchor::Created => "created".to_owned(),
            Anchor::Day(day) => day.to_string(),
        };
        format!("{length} {anchor} {}", zone.iana_name().unwrap_or("UTC"))
    }

    fn counts(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Answered(status) => self.statuses.is_none_or(|statuses| statuses.has(status)),
            // Otherwise whoever leaves early would have everything for nothing.
            Outcome::ClientLeft => true,
            Outcome::NotAnswered => false,
        }
    }

    fn subject(&self, key: &KnownKey) -> Option<QuotaSubject> {
        match &self.by {
            QuotaBy::Key => Some(QuotaSubject::Key(key.chain())),
            QuotaBy::Consumer => Some(QuotaSubject::Consumer(*key.consumer().id)),
            QuotaBy::Tag(name) => {
                let value = key.tag(name)?;
                Some(QuotaSubject::Tag(format!("{name}={value}").into()))
            }
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
    of: &'q InForce,
    subject: QuotaSubject,
    /// Hash of the cell, and the time.
    place: (u64, UnixMillis),
    limit: u64,
}

impl Check<'_> {
    fn cell(&self) -> QuotaCell {
        QuotaCell {
            quota: Arc::clone(&self.of.quota.name),
            kind: Arc::clone(&self.of.kind),
            subject: self.subject.clone(),
        }
    }

    fn period(&self) -> Bounds {
        self.of.quota.periods.at(self.place.1, UnixMillis(0))
    }

    fn limit(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX)
    }
}

impl Quotas {
    /// Puts `quotas` in force over the counts in `memory`.
    #[must_use]
    pub fn new(quotas: Vec<Quota>, memory: &Arc<QuotaMemory>) -> Arc<Self> {
        let quotas = quotas.into_iter().map(|quota| InForce {
            kind: quota.kind().into(),
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

    /// Reserves `units` of every quota that applies to the holder of `key`, or of none if one
    /// denies.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, key: &KnownKey, units: u64, at: UnixMillis) -> QuotaVerdict {
        let mut verdict = QuotaVerdict::default();
        if self.quotas.is_empty() || units == 0 {
            return verdict;
        }
        let amount = i64::try_from(units).unwrap_or(i64::MAX);
        let mut latest: Option<UnixMillis> = None;
        for (number, of) in self.quotas.iter().enumerate() {
            let Some(check) = self.check(of, key, at) else {
                continue;
            };
            let enforced = of.quota.enforce;
            // Once one has denied, the others are only looked at.
            let taken = if verdict.denied.is_some() {
                let level = self.memory.level(check.place, || check.period());
                if !enforced || level.used.saturating_add(amount) <= check.limit() {
                    continue;
                }
                Taken::Denied(level)
            } else {
                let (period, cell) = (|| check.period(), || check.cell());
                self.memory
                    .take(check.place, period, cell, amount, check.limit(), !enforced)
            };
            match taken {
                Taken::Fits { level, notice } => {
                    if !enforced && level.used > check.limit() {
                        verdict
                            .shadow
                            .get_or_insert_with(|| Arc::clone(&of.quota.name));
                    }
                    verdict.notices.extend(notice.map(|share| Notice {
                        quota: Arc::clone(&of.quota.name),
                        subject: check.subject.clone(),
                        share,
                        limit: check.limit,
                        enforced,
                    }));
                }
                Taken::Denied(level) => {
                    if verdict.denied.is_none() {
                        self.undo(number, key, amount, at);
                    }
                    let end = level.period.end.unwrap_or(UnixMillis(i64::MAX));
                    if latest.is_none_or(|latest| end > latest) {
                        latest = Some(end);
                        verdict.denied = Some(QuotaDenied {
                            quota: Arc::clone(&of.quota.name),
                            wait: level
                                .period
                                .end
                                .map(|end| wait_until(end, at, check.place.0)),
                        });
                    }
                }
            }
        }
        if verdict.denied.is_none() {
            verdict.reserved = Some(Reserved {
                quotas: Arc::clone(self),
                at,
                units,
            });
        }
        verdict
    }

    /// What the holder of `key` has used.
    #[must_use]
    pub fn of_key(&self, key: &KnownKey, at: UnixMillis) -> Vec<QuotaState> {
        let checks = self.quotas.iter().filter_map(|of| self.check(of, key, at));
        checks
            .map(|check| QuotaState {
                cell: check.cell(),
                limit: check.limit,
                level: self.memory.level(check.place, || check.period()),
                enforced: check.of.quota.enforce,
            })
            .collect()
    }

    /// Gives back what the first `number` quotas took.
    fn undo(&self, number: usize, key: &KnownKey, amount: i64, at: UnixMillis) {
        for of in self.quotas.iter().take(number) {
            if let Some(check) = self.check(of, key, at) {
                self.memory.give_back(check.place, || check.cell(), amount);
            }
        }
    }

    fn check<'q>(&'q self, of: &'q InForce, key: &KnownKey, at: UnixMillis) -> Option<Check<'q>> {
        let subject = of.quota.subject(key)?;
        Some(Check {
            place: (self.memory.hash(&of.quota.name, &of.kind, &subject), at),
            limit: of.quota.limit,
            of,
            subject,
        })
    }
}

impl Reserved {
    /// Gives back what does not count after `outcome`, in the periods that it was taken from.
    pub fn settle(self, key: &KnownKey, outcome: Outcome) {
        let amount = i64::try_from(self.units).unwrap_or(i64::MAX);
        for of in &self.quotas.quotas {
            if of.quota.counts(outcome) {
                continue;
            }
            if let Some(check) = self.quotas.check(of, key, self.at) {
                let memory = &self.quotas.memory;
                memory.give_back(check.place, || check.cell(), amount);
            }
        }
    }
}

/// Time from `at` to `end`, and up to a tenth more, by the subject's `hash`: the same for one
/// subject, and different for others.
fn wait_until(end: UnixMillis, at: UnixMillis, hash: u64) -> Duration {
    let left = end.0.saturating_sub(at.0).max(0);
    let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
    let most = (left / JITTER_DIVISOR).min(MAX_JITTER);
    let most = u64::try_from(most.as_millis()).unwrap_or_default();
    left + Duration::from_millis(hash % (most + 1))
}

#[cfg(test)]
mod tests;
