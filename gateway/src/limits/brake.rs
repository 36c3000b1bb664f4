//! The brake on bad keys: counts failures by address, and refuses more than an allowance of them.
//! Against noise, not guessing: leaked lists, loops with a dead key, lines of the log.
//!
//! A failure with a well-formed unknown key counts against the network of its client, one with an
//! ended key against that key at that network: so nobody is braked for the dead key of a neighbour.
//! Success forgives nothing.

mod debts;
mod episodes;
mod watch;

pub use episodes::Subject;
pub use watch::{Ended, watch};

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::keys::{AddressRange, CallerAddress, KeyId};
use crate::limits::brake::debts::{Added, Debts};
use crate::limits::brake::episodes::{Episode, Episodes, Noted};
use crate::limits::network;

/// Subjects that are remembered, 16 bytes each.
const DEBTS: usize = 65_536;
/// Locks that the subjects are distributed over. None is held while anything waits.
const SHARDS: usize = 64;
/// Episodes that are told one by one. Subjects beyond are braked like the others.
const EPISODES: usize = 2_048;
/// Allowance of a neighbourhood, as a multiple of that of one caller.
const NEIGHBOURHOOD_FACTOR: u32 = 16;
/// Failures that a forged token counts as: it costs a hundred times as much as an unknown key.
const UNITS_OF_A_FORGED_TOKEN: u64 = 2;
/// Signatures that are computed in a second for an address that is over its allowance.
const SIGNATURES_PER_SECOND: u64 = 10;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Rules of the brake, of one generation of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrakeRules {
    /// Failures that a caller has in a window; not 0.
    pub failures: u32,
    /// Time in which that many failures are forgiven.
    pub window: Duration,
    /// What is refused beyond.
    pub block: Block,
    /// Networks whose failures do not count.
    pub exempt: Vec<AddressRange>,
    /// Whether requests are refused; otherwise only counted and told.
    pub enforce: bool,
}

/// What is refused once a caller has used its failures up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Further failures. A good key from the same address passes.
    Failures,
    /// Every request from the address, until its failures are forgiven.
    All,
}

/// A failure that counts.
#[derive(Clone, Copy, Debug)]
pub enum Failure<'k> {
    /// A well-formed key that is not known.
    UnknownKey,
    /// A known key that is expired, revoked or disabled.
    EndedKey(&'k KeyId),
    /// A token with a wrong signature, which was computed. Counts twice.
    ForgedToken,
}

/// A request beyond the allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Braked {
    /// Time until it would not be.
    pub wait: Duration,
}

/// A subject over its allowance, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverSubject {
    /// Network and key.
    pub subject: Subject,
    /// Time since it was first over.
    pub since: Duration,
    /// Time until it owes nothing, if it stops now.
    pub left: Duration,
    /// Requests refused since then.
    pub requests: u64,
    /// Whether they were refused, or would have been.
    pub enforced: bool,
}

/// Failures by subject. Memory is fixed, and lost with the process.
#[derive(Debug)]
pub struct Brake {
    shards: Box<[Mutex<Shard>]>,
    seed: RandomState,
    begun: Instant,
    untold: AtomicU64,
    proxy_seen: AtomicBool,
    proxy: Mutex<Option<IpAddr>>,
}

#[derive(Debug)]
struct Shard {
    debts: Debts,
    episodes: Episodes,
}

impl BrakeRules {
    /// Debt of one failure in nanoseconds, and the debt up to which more is taken.
    fn costs(&self, factor: u32) -> (u64, u64) {
        let most = u64::try_from(self.window.as_nanos()).unwrap_or(u64::MAX / 4);
        let failures = u64::from(self.failures.max(1)).saturating_mul(u64::from(factor));
        // Two: the lowest bit of a debt is no time.
        ((most / failures).max(2), most)
    }

    fn exempts(&self, address: CallerAddress) -> bool {
        match address {
            CallerAddress::Known(address) => {
                self.exempt.iter().any(|range| range.contains(address))
            }
            CallerAddress::Unknown => false,
        }
    }
}

impl Default for Brake {
    fn default() -> Self {
        Self::new()
    }
}

impl Brake {
    /// Creates an empty brake.
    #[must_use]
    pub fn new() -> Self {
        let shard = || {
            Mutex::new(Shard {
                debts: Debts::with_room_for(DEBTS / SHARDS),
                episodes: Episodes::with_room_for(EPISODES / SHARDS),
            })
        };
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            seed: RandomState::new(),
            begun: Instant::now(),
            untold: AtomicU64::new(0),
            proxy_seen: AtomicBool::new(false),
            proxy: Mutex::default(),
        }
    }

    /// Counts a failure from `address`.
    ///
    /// # Errors
    /// The failure is beyond the allowance; it was not added to the debt.
    pub fn fail(
        &self,
        rules: &BrakeRules,
        address: CallerAddress,
        failure: Failure<'_>,
        now: Instant,
    ) -> Result<(), Braked> {
        if rules.exempts(address) {
            return Ok(());
        }
        let network = network::caller(address);
        let (key, units) = match failure {
            Failure::EndedKey(key) => (Some(*key), 1),
            Failure::UnknownKey => (None, 1),
            Failure::ForgedToken => (None, UNITS_OF_A_FORGED_TOKEN),
        };
        let one = (Subject { network, key }, 1);
        let around = network::neighbourhood(address).filter(|_| key.is_none());
        let around = around.map(|network| {
            let network = Some(network);
            (Subject { network, key: None }, NEIGHBOURHOOD_FACTOR)
        });
        // Both are looked at first: what is answered 429 is added to neither.
        let waits = |(subject, factor)| self.wait(rules, subject, (factor, units), now);
        let (wait, wait_around) = (waits(one), around.map_or(0, waits));
        let refusing = match around {
            Some(around) if wait_around > wait => around,
            Some(_) | None => one,
        };
        let count = |(subject, factor)| self.count(rules, subject, (factor, units), now);
        count(refusing)?;
        match around {
            Some(around) if refusing == one => count(around),
            Some(_) => count(one),
            None => Ok(()),
        }
    }

    /// Whether the signature of a token from `address` may be computed: always, until the address
    /// is over its allowance, and ten times in a second from then on.
    pub fn may_verify(&self, rules: &BrakeRules, address: CallerAddress, now: Instant) -> bool {
        if rules.exempts(address) || !rules.enforce {
            return true;
        }
        let now = self.nanos(now);
        let is_over = |network| {
            let hash = self.seed.hash_one(Subject { network, key: None });
            let (_, most) = rules.costs(1);
            self.shard(hash).debts.blocked(hash, most, now).is_some()
        };
        let (network, around) = (network::caller(address), network::neighbourhood(address));
        let is_braked = is_over(network) || around.is_some() && is_over(around);
        if !is_braked {
            return true;
        }
        let hash = self.seed.hash_one(("signatures", network));
        let mut shard = self.shard(hash);
        let (cost, most) = (SECOND / SIGNATURES_PER_SECOND, SECOND);
        shard.debts.add(hash, cost, most, now).is_ok()
    }

    /// Whether every request from `address` is beyond the allowance; never under
    /// [`Block::Failures`].
    ///
    /// # Errors
    /// It is; the request was counted.
    pub fn check(
        &self,
        rules: &BrakeRules,
        address: CallerAddress,
        now: Instant,
    ) -> Result<(), Braked> {
        if rules.block != Block::All || rules.exempts(address) {
            return Ok(());
        }
        let one = self.check_network(rules, network::caller(address), 1, now);
        let around = match network::neighbourhood(address) {
            None => Ok(()),
            around => self.check_network(rules, around, NEIGHBOURHOOD_FACTOR, now),
        };
        match (one, around) {
            // The one that ends later: until then both refuse.
            (Err(one), Err(around)) => Err(one.max(around)),
            (one, around) => one.and(around),
        }
    }

    /// Notes that a `peer` that is not trusted sent an address of a client.
    pub fn saw_untrusted_proxy(&self, peer: IpAddr) {
        // Once until the watch has read it: not a lock for each request.
        if network::is_private(peer) && !self.proxy_seen.swap(true, Ordering::Relaxed) {
            *lock(&self.proxy) = Some(peer);
        }
    }

    /// Subjects over their allowance, those with the most requests first, `most` of them.
    #[must_use]
    pub fn over(&self, most: usize, now: Instant) -> Vec<OverSubject> {
        let now = self.nanos(now);
        let mut over: Vec<OverSubject> = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let open = shard.episodes.iter().filter(|open| open.until > now);
            over.extend(open.map(|open| open.told(now)));
        }
        over.sort_by_key(|over| std::cmp::Reverse(over.requests));
        over.truncate(most);
        over
    }

    /// Number of subjects over their allowance, of those that are told.
    #[must_use]
    pub fn count_over(&self, now: Instant) -> usize {
        let now = self.nanos(now);
        let open = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            shard
                .episodes
                .iter()
                .filter(|open| open.until > now)
                .count()
        };
        self.shards.iter().map(open).sum()
    }

    /// Forgives what `address` owes: by itself, with its ended keys, and with its neighbourhood.
    /// Returns what was over, and whether anything was owed.
    #[must_use]
    pub fn forgive(&self, address: CallerAddress, now: Instant) -> (Vec<OverSubject>, bool) {
        let now = self.nanos(now);
        let (one, around) = (network::caller(address), network::neighbourhood(address));
        let (mut over, mut any) = (Vec::new(), false);
        for network in [Some(one), around.map(Some)].into_iter().flatten() {
            let subject = Subject { network, key: None };
            let hash = self.seed.hash_one(subject);
            any |= self.shard(hash).debts.forgive(hash, now);
        }
        for shard in &self.shards {
            let mut shard = lock(shard);
            let ended = shard.episodes.take(|open| {
                let Subject { network, key } = open.subject;
                network == one || (network == around && around.is_some() && key.is_none())
            });
            for episode in &ended {
                let hash = self.seed.hash_one(episode.subject);
                // A subject and its episode are in one shard.
                any |= shard.debts.forgive(hash, now);
            }
            any |= !ended.is_empty();
            over.extend(ended.iter().map(|ended| ended.told(now)));
        }
        (over, any)
    }

    /// Nanoseconds until `units` more failures of `subject` fit.
    fn wait(
        &self,
        rules: &BrakeRules,
        subject: Subject,
        (factor, units): (u32, u64),
        now: Instant,
    ) -> u64 {
        let (cost, most) = rules.costs(factor);
        let hash = self.seed.hash_one(subject);
        let cost = (cost * units).min(most);
        self.shard(hash)
            .debts
            .wait(hash, cost, most, self.nanos(now))
    }

    fn count(
        &self,
        rules: &BrakeRules,
        subject: Subject,
        (factor, units): (u32, u64),
        now: Instant,
    ) -> Result<(), Braked> {
        let (cost, most) = rules.costs(factor);
        // One failure is always taken.
        let cost = (cost * units).min(most);
        let hash = self.seed.hash_one(subject);
        let now = self.nanos(now);
        let mut shard = self.shard(hash);
        let over = match shard.debts.add(hash, cost, most, now) {
            Ok(Added { was_over, paid_at }) => {
                if was_over {
                    shard.episodes.extend(subject, paid_at);
                }
                return Ok(());
            }
            Err(over) => over,
        };
        let noted = shard
            .episodes
            .refused(subject, over.paid_at, rules.enforce, now);
        drop(shard);
        self.tell(rules, subject, factor, noted);
        Err(Braked::after(over.wait))
    }

    fn check_network(
        &self,
        rules: &BrakeRules,
        network: Option<AddressRange>,
        factor: u32,
        now: Instant,
    ) -> Result<(), Braked> {
        let subject = Subject { network, key: None };
        let (_, most) = rules.costs(1);
        let hash = self.seed.hash_one(subject);
        let now = self.nanos(now);
        let mut shard = self.shard(hash);
        let Some(wait) = shard.debts.blocked(hash, most, now) else {
            return Ok(());
        };
        let noted = shard
            .episodes
            .refused(subject, now + wait, rules.enforce, now);
        drop(shard);
        self.tell(rules, subject, factor, noted);
        Err(Braked::after(wait))
    }

    /// Logs the beginning of an episode, after the lock was released.
    fn tell(&self, rules: &BrakeRules, subject: Subject, factor: u32, noted: Noted) {
        let Noted::First = noted else {
            if noted == Noted::NoRoom {
                self.untold.fetch_add(1, Ordering::Relaxed);
            }
            return;
        };
        let what = match rules.block {
            Block::All if subject.key.is_none() => "every request",
            Block::All | Block::Failures => "further ones",
        };
        let answered = if rules.enforce { "are" } else { "would be" };
        log::warn!(
            "brake: {subject} had more than {} failed requests in {}: {what} {answered} answered 429 too_many_failures",
            u64::from(rules.failures) * u64::from(factor),
            humantime::format_duration(rules.window),
        );
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The high bits: the low ones select the bucket.
        let index = usize::try_from(hash >> 58).unwrap_or_default();
        // There are as many shards as values of six bits.
        lock(self.shards.get(index).unwrap_or(&self.shards[0]))
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begun).as_nanos();
        // Not 0, which means no debt.
        u64::try_from(since).unwrap_or(u64::MAX / 2) + 2
    }
}

impl Braked {
    fn after(nanos: u64) -> Self {
        Self {
            wait: Duration::from_nanos(nanos),
        }
    }
}

impl Episode {
    fn told(&self, now: u64) -> OverSubject {
        OverSubject {
            subject: self.subject,
            since: Duration::from_nanos(now.saturating_sub(self.since)),
            left: Duration::from_nanos(self.until.saturating_sub(now)),
            requests: self.requests,
            enforced: self.enforced,
        }
    }
}

/// Locks; a panic elsewhere leaves counts that are still counts.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
