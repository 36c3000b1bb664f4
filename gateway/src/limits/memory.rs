//! What outlives one generation of the limits: their cells by name, and the seed and the clock that
//! the cells are read by.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::limits::clock::{LimitClock, Moment};
use crate::limits::meter::{Algorithm, Meter};
use crate::limits::share::Fleet;
use crate::limits::subject::{By, Subjects, room_for};
use crate::limits::table::{Decided, Room, Table};

/// Shortest and longest pause between two sweeps of a table.
const MIN_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
const MAX_SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Cells of all limits of a process. A new generation finds those of a limit whose name, subject,
/// window and algorithm it has too; so a changed number applies to what is used already.
#[derive(Debug)]
pub struct Memory {
    pub(super) clock: LimitClock,
    pub(super) subjects: Subjects,
    pub(super) fleet: Fleet,
    tables: Mutex<HashMap<TableKey, Weak<Table>>>,
    /// Cells of limits that keys and consumers have besides those of the configuration, by name.
    own: ArcSwap<OwnTables>,
    serials: AtomicU64,
}

type OwnTables = HashMap<Box<str>, Vec<Arc<OwnTable>>>;

/// Cells of a limit that is not in the configuration.
#[derive(Debug)]
pub(super) struct OwnTable {
    pub(super) name: Arc<str>,
    pub(super) by: By,
    pub(super) window: Duration,
    pub(super) table: Table,
}

/// What makes the cells of two generations the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TableKey {
    pub(super) name: Arc<str>,
    pub(super) by: Box<[By]>,
    pub(super) window: Duration,
    pub(super) algorithm: Algorithm,
}

/// Numbers of the limits of one name, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Decisions while it was not enforced, and while it was.
    pub decided: [Decided; 2],
    /// Subjects of which something is in force.
    pub subjects: usize,
}

impl TableCounts {
    fn add(&mut self, table: &Table) {
        self.subjects += table.len();
        for (enforced, sum) in [false, true].into_iter().zip(&mut self.decided) {
            let Decided { allowed, denied } = table.decided(enforced);
            sum.allowed += allowed;
            sum.denied += denied;
        }
    }
}

impl Memory {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: LimitClock::start(),
            subjects: Subjects::default(),
            fleet: Fleet::alone(),
            tables: Mutex::default(),
            own: ArcSwap::default(),
            serials: AtomicU64::new(0),
        })
    }

    /// The time by the clock of limits.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Learns how many gateways are live, this one included.
    pub fn set_live_gateways(&self, gateways: u32) {
        self.fleet.set_live(gateways);
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

    /// The cells of the limit `name` by `by` that is not in the configuration. Allocates at the
    /// first request for it only.
    pub(super) fn own_table(&self, name: &str, by: &By, window: Duration) -> Arc<OwnTable> {
        let find = |tables: &OwnTables| {
            let mut same = tables.get(name)?.iter();
            same.find(|table| table.by == *by && table.window == window)
                .cloned()
        };
        if let Some(table) = find(&self.own.load()) {
            return table;
        }
        let meter = Meter::new(Algorithm::Sliding, window);
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let new = Arc::new(OwnTable {
            name: name.into(),
            by: by.clone(),
            window,
            table: Table::new(serial, meter, Room::ForAll),
        });
        let mut in_force = Arc::clone(&new);
        self.own.rcu(|tables| {
            let mut tables = OwnTables::clone(tables);
            match find(&tables) {
                // Another thread was first.
                Some(table) => in_force = table,
                None => {
                    in_force = Arc::clone(&new);
                    let same = tables.entry(name.into()).or_default();
                    same.push(Arc::clone(&new));
                }
            }
            tables
        });
        in_force
    }

    /// Number of tables of limits that are not in the configuration.
    #[cfg(test)]
    pub(super) fn own_tables(&self) -> usize {
        self.own.load().values().flatten().count()
    }

    /// Forgets tables of limits that are not in the configuration and have no cells.
    fn forget_own(&self) {
        let is_idle = |table: &Arc<OwnTable>| table.table.len() == 0;
        if self.own.load().values().flatten().any(is_idle) {
            self.own.rcu(|tables| {
                let mut tables = OwnTables::clone(tables);
                tables.retain(|_, same| {
                    same.retain(|table| !is_idle(table));
                    !same.is_empty()
                });
                tables
            });
        }
    }

    /// What each limit has decided, and how many subjects it knows, by name and whether it is
    /// enforced.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Arc<str>, TableCounts> {
        let mut counts = BTreeMap::<Arc<str>, TableCounts>::new();
        for (key, table) in self.tables() {
            counts.entry(key.name).or_default().add(&table);
        }
        counts
    }

    /// The tables in use.
    fn tables(&self) -> Vec<(TableKey, Arc<Table>)> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = tables.iter();
        tables
            .filter_map(|(key, table)| Some((key.clone(), table.upgrade()?)))
            .collect()
    }

    /// Removes cells of which nothing is in force, so that memory is that of the active subjects.
    /// Belongs on a thread that serves no requests; returns the time until the next call.
    #[must_use]
    pub fn sweep(&self) -> Duration {
        let mut interval = MAX_SWEEP_INTERVAL;
        for (key, table) in self.tables() {
            table.sweep(self.clock.now());
            interval = interval.min(key.window.max(MIN_SWEEP_INTERVAL));
        }
        for own in self.own.load().values().flatten() {
            own.table.sweep(self.clock.now());
        }
        self.forget_own();
        interval
    }
}
