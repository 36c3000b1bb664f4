//! Quotas of the settings.

use std::fmt;
use std::sync::Arc;

use crate::keys::FoundConsumer;
use crate::limits::period::Periods;
use crate::limits::quota::QuotaSubject;

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

    pub(super) fn has(self, status: u16) -> bool {
        u8::try_from(status / 100).is_ok_and(|class| class < 8 && self.0 & 1 << class != 0)
    }
}

impl Quota {
    /// Subject of a quota by tag; `None` if the consumer lacks the tag.
    pub(super) fn tag(&self, consumer: &FoundConsumer) -> Option<QuotaSubject> {
        let QuotaBy::Tag(name) = &self.by else {
            return None;
        };
        let value = consumer.tag(name)?;
        Some(QuotaSubject::Tag(format!("{name}={value}").into()))
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
