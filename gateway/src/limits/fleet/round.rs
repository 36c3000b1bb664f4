//! One round of the exchange: tells the server what changed here, and hears what the others count.
//!
//! Each gateway only ever sets its own field, to its whole count. So an answer that is lost costs
//! nothing, and whatever the server forgets is there again after the next round.

use futures_util::stream::{self, StreamExt as _};
use redis::{Pipeline, Value};

use crate::limits::fleet::keys;
use crate::limits::fleet::server::{Fault, Link};
use crate::limits::memory::{Memory, NamedTable};
use crate::limits::table::others::{Heard, News};
use crate::limits::table::sharing::Changed;

/// Most subjects of a round.
const MAX_SUBJECTS: usize = 2_000;
/// Subjects of one pipeline, where they may have several.
const PIPELINE: usize = 200;
/// Pipelines of a cluster that are under way at once.
const CONCURRENT: usize = 32;

/// What became of a round.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Pipelines that succeeded.
    pub(super) succeeded: u64,
    /// Faults of the others, the latest of each pipeline.
    pub(super) faults: Vec<Fault>,
    /// Subjects that there was no room for.
    pub(super) waiting: usize,
    /// Whether the server has forgotten what it was told.
    pub(super) has_forgotten: bool,
}

/// A subject to be told of.
struct Item {
    of: NamedTable,
    subject: u64,
    news: News,
}

/// Makes a round on behalf of `gateway`.
pub(super) async fn make(memory: &Memory, link: &Link, gateway: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let items = gather(memory, &mut outcome.waiting);
    let each = if link.is_cluster() { 1 } else { PIPELINE };
    let asked = items.chunks(each).map(|items| {
        let mut link = link.clone();
        async move { (items, ask(&mut link, items, gateway).await) }
    });
    let mut asked = stream::iter(asked).buffer_unordered(CONCURRENT);
    while let Some((items, answers)) = asked.next().await {
        match answers {
            Ok(answers) => take_in(items, answers, &mut outcome),
            Err(fault) => {
                for item in items {
                    item.of.table.failed(item.subject);
                }
                outcome.faults.push(fault);
            }
        }
    }
    outcome
}

/// Takes the subjects that changed, the fullest first; counts those that have to wait.
fn gather(memory: &Memory, waiting: &mut usize) -> Vec<Item> {
    let tables = memory.named_tables();
    let now = memory.now();
    let mut changed: Vec<(Changed, usize)> = Vec::new();
    let mut of_table = Vec::new();
    for (index, of) in tables.iter().enumerate() {
        of.table.take_changed(now, &mut of_table);
        changed.extend(of_table.drain(..).map(|changed| (changed, index)));
    }
    if changed.len() > MAX_SUBJECTS {
        changed.select_nth_unstable_by(MAX_SUBJECTS, |one, other| other.cmp(one));
        for (Changed { subject, .. }, table) in changed.drain(MAX_SUBJECTS..) {
            tables[table].table.put_back(subject);
            *waiting += 1;
        }
    }
    let items = changed
        .into_iter()
        .filter_map(|(Changed { subject, .. }, table)| {
            let of = &tables[table];
            let news = of.table.news(subject, now)?;
            Some(Item {
                of: of.clone(),
                subject,
                news,
            })
        });
    items.collect()
}

/// Sends the news of `items`; returns the answers of their commands.
async fn ask(
    link: &mut Link,
    items: &[Item],
    gateway: &str,
) -> Result<Vec<Result<Value, Fault>>, Fault> {
    let mut commands = Pipeline::with_capacity(items.len() * 6);
    for Item { of, subject, news } in items {
        let lifetime = keys::lifetime(of.window);
        let mut exchange = |window: u64, own: u64| {
            let key = keys::count(of, *subject, window);
            commands.cmd("HSET").arg(&key).arg(gateway).arg(own);
            commands.cmd("PEXPIRE").arg(&key).arg(lifetime);
            commands.cmd("HVALS").arg(&key);
        };
        exchange(news.window, news.current);
        if let Some(previous) = news.previous {
            exchange(news.window.saturating_sub(1), previous);
        }
    }
    link.ask(&mut commands).await
}

/// Takes in the answers to [`ask`].
fn take_in(items: &[Item], answers: Vec<Result<Value, Fault>>, outcome: &mut Outcome) {
    let mut answers = answers.into_iter();
    let mut latest = None;
    for item in items {
        let news = item.news;
        let mut hear = |own: u64| -> Result<(bool, u64), Fault> {
            let mut next = || answers.next().unwrap_or(Err(Fault::Foreign));
            let (set, kept, counts) = (next(), next(), next());
            kept?;
            let is_new = redis::from_redis_value::<i64>(set?).is_ok_and(|fields| fields > 0);
            Ok((is_new, others(counts?, own)?))
        };
        let current = hear(news.current);
        let previous = news.previous.map(&mut hear).transpose();
        match (current, previous) {
            (Ok((is_new, current)), Ok(previous)) => {
                outcome.has_forgotten |= is_new && news.is_known;
                let heard = Heard {
                    window: news.window,
                    current,
                    previous: previous.map(|(_, previous)| previous),
                };
                item.of.table.learn(item.subject, heard);
            }
            (Err(fault), _) | (_, Err(fault)) => {
                let is_first = item.of.table.failed(item.subject);
                if fault == Fault::Foreign {
                    if is_first {
                        tell_of(item);
                    }
                } else {
                    latest = Some(fault);
                }
            }
        }
    }
    match latest {
        Some(fault) => outcome.faults.push(fault),
        None => outcome.succeeded += 1,
    }
}

/// The counts of the others: all but `own`.
fn others(counts: Value, own: u64) -> Result<u64, Fault> {
    let counts = redis::from_redis_value::<Vec<u64>>(counts).map_err(|_| Fault::Foreign)?;
    let all = counts.into_iter().fold(0, u64::saturating_add);
    Ok(all.saturating_sub(own))
}

fn tell_of(item: &Item) {
    log::warn!(
        "the limit {:?} is not shared for one subject: something else is stored at {}",
        item.of.name,
        keys::count(&item.of, item.subject, item.news.window)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(texts: &[&str]) -> Value {
        let texts = texts.iter();
        Value::Array(
            texts
                .map(|text| Value::BulkString(text.as_bytes().to_vec()))
                .collect(),
        )
    }

    #[test]
    fn what_is_no_count_is_not_ours() {
        for (counts, wanted) in [
            (bulk(&["3", "4", "5"]), Ok(9)),
            (bulk(&["3"]), Ok(0)),
            (bulk(&[]), Ok(0)),
            (
                bulk(&["18446744073709551615", "18446744073709551615"]),
                Ok(u64::MAX - 3),
            ),
            (bulk(&["3", "x"]), Err(Fault::Foreign)),
            (bulk(&["-1"]), Err(Fault::Foreign)),
            (bulk(&["1.5"]), Err(Fault::Foreign)),
        ] {
            let text = format!("{counts:?}");
            assert_eq!(others(counts, 3), wanted, "{text}");
        }
    }
}
