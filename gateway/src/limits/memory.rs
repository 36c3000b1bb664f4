//! What outlives one generation of the limits: their cells by name, and the seed and the clock that
//! the cells are read by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::limits::clock::{LimitClock, Moment};
use crate::limits::meter::{Algorithm, Meter};
use crate::limits::subject::{By, Subjects, room_for};
use crate::limits::table::Table;

/// Shortest and longest pause between two sweeps of a table.
const MIN_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
const MAX_SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Cells of all limits of a process. A new generation finds those of a limit whose name, subject,
/// window and algorithm it has too; so a changed number applies to what is used already.
#[derive(Debug)]
pub struct Memory {
    pub(super) clock: LimitClock,
    pub(super) subjects: Subjects,
    tables: Mutex<HashMap<TableKey, Weak<Table>>>,
    serials: AtomicU64,
}

/// What makes the cells of two generations the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TableKey {
    pub(super) name: Arc<str>,
    pub(super) by: Box<[By]>,
    pub(super) window: Duration,
    pub(super) algorithm: Algorithm,
}

impl Memory {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: LimitClock::start(),
            subjects: Subjects::default(),
            tables: Mutex::default(),
            serials: AtomicU64::new(0),
        })
    }

    /// The time by the clock of limits.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The cells of `key`, of an earlier generation where there was one.
    pub(super) fn table(&self, key: TableKey) -> Arc<Table> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(&key).and_then(Weak::upgrade) {
            return table;
        }
        let meter = Meter::new(key.algorithm, key.window);
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let table = Arc::new(Table::new(serial, meter, room_for(&key.by)));
        tables.retain(|_, table| table.strong_count() > 0);
        tables.insert(key, Arc::downgrade(&table));
        table
    }

    /// Removes cells of which nothing is in force, so that memory is that of the active subjects.
    /// Belongs on a thread that serves no requests; returns the time until the next call.
    #[must_use]
    pub fn sweep(&self) -> Duration {
        let mut interval = MAX_SWEEP_INTERVAL;
        let tables: Vec<(Duration, Arc<Table>)> = {
            let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            let tables = tables.iter();
            tables
                .filter_map(|(key, table)| Some((key.window, table.upgrade()?)))
                .collect()
        };
        for (window, table) in tables {
            table.sweep(self.clock.now());
            interval = interval.min(window.max(MIN_SWEEP_INTERVAL));
        }
        interval
    }
}
