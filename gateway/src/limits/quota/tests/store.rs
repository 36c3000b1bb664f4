//! What the store has of quotas, and what is learnt from it.

use super::*;

/// The row that the store would have.
fn row(delta: &QuotaDelta, units: i64) -> QuotaUse {
    QuotaUse {
        quota: delta.cell.quota.to_string(),
        kind: delta.cell.kind.to_string(),
        subject: delta.cell.subject.to_string(),
        period: delta.period,
        units,
    }
}

#[test]
fn what_is_written_is_counted_once_and_what_others_used_counts_too() {
    let memory: Arc<QuotaMemory> = Arc::default();
    let quotas = Quotas::new(vec![quota("daily", QuotaBy::Consumer, 10)], &memory);
    let one = key("", "", &[]);
    let now = || used(&quotas, &one, NOON)[0].1;
    take(&quotas, &one, NOON).unwrap();
    take(&quotas, &one, NOON).unwrap();
    let deltas = memory.take_deltas(10);
    assert_eq!(
        deltas.iter().map(|delta| delta.units).collect::<Vec<_>>(),
        [2]
    );
    assert!(memory.take_deltas(10).is_empty());
    take(&quotas, &one, NOON).unwrap();
    assert_eq!(now(), 3);
    memory.confirm(&deltas);
    assert_eq!(now(), 3);
    // Another gateway used 6.
    memory.learn(&[row(&deltas[0], 8)], NOON);
    assert_eq!(now(), 9);
    take(&quotas, &one, NOON).unwrap();
    assert!(take(&quotas, &one, NOON).is_err());
    // An operator gives 5 back.
    let more = memory.take_deltas(10);
    assert_eq!(more[0].units, 2);
    memory.confirm(&more);
    memory.learn(&[row(&deltas[0], 5)], NOON);
    assert_eq!(now(), 5);
}

#[test]
fn what_was_used_before_the_period_ended_is_written_to_it() {
    let memory: Arc<QuotaMemory> = Arc::default();
    let quotas = Quotas::new(vec![quota("daily", QuotaBy::Consumer, 10)], &memory);
    let one = key("", "", &[]);
    take(&quotas, &one, NOON).unwrap();
    let tomorrow = UnixMillis(NOON.0 + DAY);
    take(&quotas, &one, tomorrow).unwrap();
    take(&quotas, &one, tomorrow).unwrap();
    let mut deltas = memory.take_deltas(10);
    deltas.sort_by_key(|delta| delta.period.start);
    let written: Vec<_> = deltas
        .iter()
        .map(|delta| (delta.period.has(NOON), delta.units))
        .collect();
    assert_eq!(written, [(true, 1), (false, 2)]);
    memory.confirm(&deltas);
    assert_eq!(used(&quotas, &one, tomorrow)[0].1, 2);
    // Rows of an earlier period change nothing; those of a later one wait for it.
    memory.learn(&[row(&deltas[0], 100)], tomorrow);
    assert_eq!(used(&quotas, &one, tomorrow)[0].1, 2);
    let after = UnixMillis(tomorrow.0 + DAY);
    let ahead = QuotaUse {
        period: quotas.quotas[0].quota.periods.at(after, UnixMillis(0)),
        ..row(&deltas[0], 7)
    };
    memory.learn(&[ahead], tomorrow);
    assert_eq!(used(&quotas, &one, tomorrow)[0].1, 2);
    assert_eq!(used(&quotas, &one, after)[0].1, 7);
    // What is over and written is forgotten.
    memory.sweep(UnixMillis(after.0 + DAY));
    assert!(memory.is_empty());
}

#[test]
fn a_clock_that_was_far_ahead_holds_until_the_next_start() {
    let memory: Arc<QuotaMemory> = Arc::default();
    let quotas = Quotas::new(vec![quota("daily", QuotaBy::Consumer, 1)], &memory);
    let one = key("", "", &[]);
    let ahead = UnixMillis(NOON.0 + 400 * DAY);
    take(&quotas, &one, NOON).unwrap();
    take(&quotas, &one, ahead).unwrap();
    let wait = take(&quotas, &one, NOON).unwrap_err().wait.unwrap();
    assert!(wait > Duration::from_hours(399 * 24), "{wait:?}");
    let written = memory.take_deltas(10);
    let rows: Vec<QuotaUse> = written.iter().map(|delta| row(delta, 1)).collect();
    assert_eq!(rows.len(), 2);
    // The next start finds both days in the store, and is in the one that it is.
    let memory: Arc<QuotaMemory> = Arc::default();
    memory.learn(&rows, NOON);
    let quotas = Quotas::new(vec![quota("daily", QuotaBy::Consumer, 1)], &memory);
    let wait = take(&quotas, &one, NOON).unwrap_err().wait.unwrap();
    assert!(wait < Duration::from_hours(24), "{wait:?}");
    let next = UnixMillis(NOON.0 + DAY);
    assert!(take(&quotas, &one, next).is_ok());
}

#[test]
fn quotas_of_subjects_alone_are_followed_like_those_of_the_settings() {
    let memory: Arc<QuotaMemory> = Arc::default();
    let quotas = Quotas::new(Vec::new(), &memory);
    let _ = take(&quotas, &key("", "", &[]), NOON);
    assert!(!memory.is_used(), "nobody has a quota");
    let _ = take(&quotas, &key("mine=3/day", "", &[]), NOON);
    assert!(memory.is_used());
    let written = memory.take_deltas(10);
    // As another gateway, or the next start, finds them.
    let memory: Arc<QuotaMemory> = Arc::default();
    memory.learn(&[], NOON);
    assert!(!memory.is_used());
    memory.learn(&[row(&written[0], 1)], NOON);
    assert!(memory.is_used());
}
