//! Leases of exact limits: units are taken out of the server before they are spent.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use redis::{Pipeline, Script, Value};

use crate::limits::clock::Moment;
use crate::limits::fleet::keys;
use crate::limits::fleet::server::{Fault, Link};
use crate::limits::memory::{Memory, NamedTable};
use crate::limits::table::leases::{Grant, Wanted};

/// Scripts of one pipeline, where it may have several.
const PIPELINE: usize = 100;
/// Pipelines that are under way at once.
const CONCURRENT: usize = 32;

/// Grants units by the clock of the server, and keeps what it granted in a sliding counter.
/// Arguments: units that are wanted, and needed at least; limit; window and lifetime in
/// milliseconds; the part of what is left that one grant may be. Returns the units, the number of
/// the window, the milliseconds left of it, what was granted in the window before and in this one,
/// and the milliseconds after which there may be enough.
const GRANT: &str = r"
local want, need, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local window, lifetime, parts = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local number = math.floor(now / window)
local left = (number + 1) * window - now
local kept = redis.call('HMGET', KEYS[1], 'window', 'previous', 'current')
local of, previous, current = tonumber(kept[1]), tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
if not of or of < number - 1 then
  previous, current = 0, 0
elseif of == number - 1 then
  previous, current = current, 0
elseif of > number then
  number, left = of, window
end
local free = limit - math.ceil(previous * left / window) - current
if free >= need then
  local units = math.min(free, math.max(need, math.min(want, math.floor(free / parts))))
  current = current + units
  redis.call('HSET', KEYS[1], 'window', number, 'previous', previous, 'current', current)
  redis.call('PEXPIRE', KEYS[1], lifetime)
  return {units, number, left, previous, current, 0}
end
local spare, wait = limit - need, 0
if current <= spare then
  wait = left - math.floor((spare - current) * window / previous)
else
  wait = left + window - math.floor(spare * window / current)
end
return {0, number, left, previous, current, wait}
";

/// A subject to ask for.
struct Item {
    of: NamedTable,
    wanted: Wanted,
}

/// Has the server forget what it granted to subjects that were reset. One that it does not forget
/// stays limited until its windows end.
pub(super) async fn forget(memory: &Memory, link: &Link) -> Result<(), Fault> {
    for of in memory.named_tables() {
        for subject in of.table.take_reset() {
            let mut commands = Pipeline::new();
            commands.cmd("DEL").arg(keys::exact(&of, subject));
            let answers = link.clone().ask(&mut commands).await?;
            answers
                .into_iter()
                .try_for_each(|answer| answer.map(drop))?;
        }
    }
    Ok(())
}

/// Asks for every lease that is wanted; returns an outcome for each pipeline.
pub(super) async fn make(memory: &Memory, link: &Link) -> Vec<Result<(), Fault>> {
    let mut items = Vec::new();
    for of in memory.named_tables() {
        let wanted = of.table.take_wanted().into_iter();
        items.extend(wanted.map(|wanted| Item {
            of: of.clone(),
            wanted,
        }));
    }
    let live = memory.fleet.live();
    let each = if link.is_cluster() { 1 } else { PIPELINE };
    let asked = items.chunks(each).map(|items| {
        let mut link = link.clone();
        async move {
            let sent = memory.now();
            (items, sent, ask(&mut link, items, live).await)
        }
    });
    let mut asked = stream::iter(asked).buffer_unordered(CONCURRENT);
    let mut outcomes = Vec::new();
    while let Some((items, sent, answers)) = asked.next().await {
        let mut outcome = Ok(());
        let mut answers = match answers {
            Ok(answers) => answers.into_iter(),
            Err(fault) => {
                outcome = Err(fault);
                Vec::new().into_iter()
            }
        };
        for Item { of, wanted } in items {
            let answer = answers.next().and_then(|answer| match answer {
                Ok(answer) => read(answer, sent),
                Err(fault) => {
                    outcome = Err(fault);
                    None
                }
            });
            of.table.leased(wanted.subject, answer);
        }
        outcomes.push(outcome);
    }
    outcomes
}

async fn ask(
    link: &mut Link,
    items: &[Item],
    live: u64,
) -> Result<Vec<Result<Value, Fault>>, Fault> {
    let script = Script::new(GRANT);
    let mut commands = Pipeline::with_capacity(items.len());
    for (index, Item { of, wanted }) in items.iter().enumerate() {
        // The first one makes the script known to the server, whatever it has forgotten.
        let command = if index == 0 {
            commands.cmd("EVAL").arg(GRANT)
        } else {
            commands.cmd("EVALSHA").arg(script.get_hash())
        };
        command
            .arg(1)
            .arg(keys::exact(of, wanted.subject))
            .arg(wanted.want)
            .arg(wanted.need)
            .arg(wanted.limit)
            .arg(u64::try_from(of.window.as_millis()).unwrap_or(u64::MAX))
            .arg(keys::lifetime(of.window))
            .arg(2 * live);
    }
    link.ask(&mut commands).await
}

/// Reads an answer of the script, which was asked for at `sent`.
fn read(answer: Value, sent: Moment) -> Option<Grant> {
    type Answer = (u64, u64, u64, u64, u64, u64);
    let (units, window, left, previous, current, wait): Answer =
        redis::from_redis_value(answer).ok()?;
    Some(Grant {
        units,
        window,
        // Not later than the server's end of it, for it read its clock after that.
        ends: sent.after(Duration::from_millis(left)),
        none_until: if units == 0 {
            sent.after(Duration::from_millis(wait.max(1)))
        } else {
            sent
        },
        granted: (previous, current),
    })
}
