//! Numbers of keys and consumers: in place of those of a limit, or as limits of their own.

use std::sync::Arc;

use crate::keys::allowance::{MAX_ENTRIES, RateAllowance};
use crate::limits::decision::Check;
use crate::limits::holder::{Holder, named};
use crate::limits::memory::{Memory, OwnTable};
use crate::limits::meter::{MAX_BURST, MAX_NUMBER, Number};
use crate::limits::rate::Rule;
use crate::limits::share::Mode;
use crate::limits::subject::By;
use crate::limits::table::SubjectHash;

/// Most limits of one request that are not in the configuration.
const MAX_OWN: usize = 3 * MAX_ENTRIES;

/// Limits of a request that are its key's or its consumer's own, in the order of locking.
#[derive(Debug, Default)]
pub(super) struct OwnLimits {
    list: [Option<OwnLimit>; MAX_OWN],
}

/// One of them.
#[derive(Debug)]
pub(super) struct OwnLimit {
    table: Arc<OwnTable>,
    subject: SubjectHash,
    whole: Number,
    part: Number,
    enforce: bool,
}

/// Returns what `rule` allows `holder`; `None` if it does not limit the holder.
///
/// A number of the key precedes one of the consumer, which precedes one of its plan, and that
/// the configuration's. The key's narrows what the consumer has.
pub(super) fn number_of(rule: &Rule, holder: Option<Holder<'_>>) -> Option<Number> {
    let limit = &rule.limit;
    let Some(holder) = holder.filter(|holder| !holder.is_plain()) else {
        return Some(limit.number);
    };
    let by_key = limit.by.contains(&By::Key);
    if !by_key && !limit.by.contains(&By::Consumer) {
        return Some(limit.number);
    }
    let granted = match holder.granted(&limit.name) {
        None => Some(limit.number),
        Some(rate) => in_place(rule, rate),
    };
    let own = named(holder.own(), &limit.name).filter(|_| by_key);
    match (own.and_then(|rate| in_place(rule, rate)), granted) {
        (Some(own), Some(granted)) if granted.limit < own.limit => Some(granted),
        (Some(own), _) => Some(own),
        (None, granted) => granted,
    }
}

/// Returns the number of `rate` in place of that of `rule`; `None` if it is unlimited or of another
/// window, which makes it a limit of its own. The burst changes with the limit.
fn in_place(rule: &Rule, rate: &RateAllowance) -> Option<Number> {
    let limit = rate.limit?;
    let Number {
        limit: whole,
        burst,
    } = rule.limit.number;
    rate.window
        .is_none_or(|window| window == rule.limit.window)
        .then(|| Number {
            limit: limit.min(MAX_NUMBER),
            burst: burst.map(|burst| {
                let scaled = u128::from(burst) * u128::from(limit);
                let scaled = scaled.div_ceil(u128::from(whole.max(1)));
                u64::try_from(scaled)
                    .unwrap_or(u64::MAX)
                    .clamp(1, MAX_BURST.min(limit))
            }),
        })
}

impl OwnLimits {
    /// Finds those of `holder` for one request. `find` returns the rule of a name and whether it
    /// holds for the route; `may_add` whether a name that no rule has may be limited there.
    pub(super) fn of<'c>(
        holder: Holder<'_>,
        find: impl Fn(&str) -> Option<(&'c Rule, bool)>,
        may_add: impl Fn(&str) -> bool,
        memory: &Memory,
        (mode, need): (Mode, u64),
    ) -> Self {
        let mut own = Self::default();
        let of_key = holder.own().iter().map(|rate| (&By::Key, rate));
        let granted = holder.all_granted().map(|rate| (&By::Consumer, rate));
        for (level, rate) in of_key.chain(granted) {
            let Some(limit) = rate.limit else { continue };
            let name = rate.name.as_str();
            let (by, window, enforce) = match find(name) {
                Some((_, false)) => continue,
                Some((rule, true)) => {
                    let by = &rule.limit.by;
                    let counts_keys = by.contains(&By::Key);
                    let is_same = rate.window.is_none_or(|window| window == rule.limit.window);
                    let replaces = match level {
                        By::Key => counts_keys,
                        _ => counts_keys || by.contains(&By::Consumer),
                    };
                    if replaces && is_same {
                        continue;
                    }
                    let by = if counts_keys { &By::Key } else { level };
                    let window = rate.window.unwrap_or(rule.limit.window);
                    (by, window, rule.limit.enforce)
                }
                None if !may_add(name) => continue,
                None => match rate.window {
                    Some(window) => (level, window, true),
                    // Speaks of a limit that is not there.
                    None => continue,
                },
            };
            let Some(subject) = memory.subjects.of_holder(by, &holder) else {
                continue;
            };
            let whole = Number {
                limit: limit.clamp(1, MAX_NUMBER),
                burst: None,
            };
            own.add(OwnLimit {
                table: memory.own_table(name, by, window),
                subject,
                whole,
                part: mode.part_of(whole, memory.fleet.live(), need),
                enforce,
            });
        }
        // One order for all threads, so that none waits for another in a circle.
        own.list.sort_by_key(|limit| {
            limit
                .as_ref()
                .map_or(u64::MAX, |own| own.table.table.serial())
        });
        own
    }

    /// Adds a limit. Of two for the same cells, the lower one stays.
    fn add(&mut self, new: OwnLimit) {
        for place in &mut self.list {
            match place {
                Some(old) if Arc::ptr_eq(&old.table, &new.table) => {
                    if new.whole.limit < old.whole.limit {
                        *old = new;
                    }
                    return;
                }
                Some(_) => {}
                None => {
                    *place = Some(new);
                    return;
                }
            }
        }
    }

    /// The checks, in the order of locking.
    pub(super) fn checks(&self) -> [Option<Check<'_>>; MAX_OWN] {
        self.list.each_ref().map(|own| {
            let own = own.as_ref()?;
            Some(Check {
                name: &own.table.name,
                by: std::slice::from_ref(&own.table.by),
                table: &own.table.table,
                subject: own.subject,
                limit: own.whole.limit,
                number: own.part,
                window: own.table.window,
                enforce: own.enforce,
                tell: true,
            })
        })
    }
}
