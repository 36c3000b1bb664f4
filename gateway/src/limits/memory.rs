//! What outlives one generation of the limits: their cells by name, and the seed and the clock that
//! the cells are read by.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::limits::clock::{LimitClock, Moment};
use crate::limits::link::{LinkCounts, LinkState};
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
    pub(super) link: LinkState,
    /// Wakes whoever asks the server for leases.
    pub(super) lease_wanted: Notify,
    /// Change of the store up to which resets were made.
    resets: watch::Sender<i64>,
    /// Number of answers about leases.
    pub(super) leased: watch::Sender<u64>,
    tables: Mutex<HashMap<TableKey, Weak<Table>>>,
    /// Cells of limits that keys and consumers have besides those of the configuration, by name.
    own: ArcSwap<OwnTables>,
    /// Decisions of those that were forgotten, by the name that they are counted under.
    forgotten: Mutex<BTreeMap<Arc<str>, [Decided; 2]>>,
    serials: AtomicU64,
}

/// Name under which limits are counted that only a key, a consumer or a plan has. No limit of the
/// configuration can have it.
const OWN: &str = "_own";

type OwnTables = HashMap<Box<str>, Vec<Arc<OwnTable>>>;

/// Cells of a limit that is not in the configuration.
#[derive(Debug)]
pub(super) struct OwnTable {
    pub(super) name: Arc<str>,
    pub(super) by: By,
    pub(super) window: Duration,
    pub(super) table: Arc<Table>,
}

/// Cells of a limit, as other gateways name them.
#[derive(Clone, Debug)]
pub(super) struct NamedTable {
    pub(super) name: Arc<str>,
    pub(super) window: Duration,
    pub(super) table: Arc<Table>,
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
        add(&mut self.decided, decided(table));
    }
}

/// Decisions while the limit of `table` was not enforced, and while it was.
fn decided(table: &Table) -> [Decided; 2] {
    [false, true].map(|enforced| table.decided(enforced))
}

fn add(sums: &mut [Decided; 2], more: [Decided; 2]) {
    for (sum, Decided { allowed, denied }) in sums.iter_mut().zip(more) {
        sum.allowed += allowed;
        sum.denied += denied;
    }
}

impl Memory {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::of(Subjects::default())
    }

    /// Remembers nothing yet, and hashes subjects as every gateway with the same `secret` does.
    #[must_use]
    pub fn of_fleet(secret: &[u8]) -> Arc<Self> {
        Self::of(Subjects::of_fleet(secret))
    }

    fn of(subjects: Subjects) -> Arc<Self> {
        Arc::new(Self {
            clock: LimitClock::start(),
            subjects,
            fleet: Fleet::alone(),
            link: LinkState::default(),
            lease_wanted: Notify::new(),
            resets: watch::Sender::new(0),
            leased: watch::Sender::new(0),
            tables: Mutex::default(),
            own: ArcSwap::default(),
            forgotten: Mutex::default(),
            serials: AtomicU64::new(0),
        })
    }

    /// The time by the clock of limits.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Notes that all resets up to the change `revision` of the store were made.
    pub fn reset_up_to(&self, revision: i64) {
        self.resets.send_replace(revision);
    }

    /// Returns once the reset of the change `revision` was made here.
    pub async fn reset_made(&self, revision: i64) {
        let mut resets = self.resets.subscribe();
        // The sender lives as long as the memory.
        let _ = resets.wait_for(|made| *made >= revision).await;
    }

    /// Learns how many gateways are live, this one included.
    pub fn set_live_gateways(&self, gateways: u32) {
        self.fleet.set_live(gateways);
    }

    /// The cells of `key`, of an earlier generation where there was one.
    pub(super) fn table(&self, key: TableKey) -> Arc<Table> {
        let mut tables = lock(&self.tables);
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
            table: Arc::new(Table::new(serial, meter, Room::ForAll)),
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

    /// Forgets tables of limits that are not in the configuration and have no cells. What they have
    /// decided stays counted.
    fn forget_own(&self) {
        let is_idle = |table: &Arc<OwnTable>| table.table.len() == 0;
        if self.own.load().values().flatten().any(is_idle) {
            // First, so that each is counted once at any time.
            let mut forgotten = lock(&self.forgotten);
            let before = self.own.rcu(|tables| {
                let mut tables = OwnTables::clone(tables);
                tables.retain(|_, same| {
                    same.retain(|table| !is_idle(table));
                    !same.is_empty()
                });
                tables
            });
            let after = self.own.load();
            let is_kept = |own: &Arc<OwnTable>| {
                let same = after.get(&*own.name);
                same.is_some_and(|same| same.iter().any(|kept| Arc::ptr_eq(kept, own)))
            };
            for own in before.values().flatten().filter(|own| !is_kept(own)) {
                let counted = self.counted_as(&own.name);
                add(forgotten.entry(counted).or_default(), decided(&own.table));
            }
        }
    }

    /// The name under which a limit is counted that is not in the configuration: that of the one
    /// that it stands in place of. Others have one name, for metrics name no customers.
    fn counted_as(&self, name: &Arc<str>) -> Arc<str> {
        let tables = lock(&self.tables);
        let is_of =
            |key: &TableKey, table: &Weak<Table>| *key.name == **name && table.strong_count() > 0;
        match tables.iter().any(|(key, table)| is_of(key, table)) {
            true => Arc::clone(name),
            false => OWN.into(),
        }
    }

    /// What each limit has decided, and how many subjects it knows, by the name that it is counted
    /// under.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Arc<str>, TableCounts> {
        let mut counts = BTreeMap::<Arc<str>, TableCounts>::new();
        for (key, table) in self.tables() {
            counts.entry(key.name).or_default().add(&table);
        }
        let forgotten = lock(&self.forgotten);
        for own in self.own.load().values().flatten() {
            let counted = self.counted_as(&own.name);
            counts.entry(counted).or_default().add(&own.table);
        }
        for (name, decided) in &*forgotten {
            add(
                &mut counts.entry(Arc::clone(name)).or_default().decided,
                *decided,
            );
        }
        counts
    }

    /// State of the exchange with other gateways.
    #[must_use]
    pub fn link(&self) -> LinkCounts {
        self.link.counts()
    }

    /// The tables in use.
    fn tables(&self) -> Vec<(TableKey, Arc<Table>)> {
        let tables = lock(&self.tables);
        let tables = tables.iter();
        tables
            .filter_map(|(key, table)| Some((key.clone(), table.upgrade()?)))
            .collect()
    }

    /// The tables in use, also of limits that are not in the configuration.
    pub(super) fn named_tables(&self) -> Vec<NamedTable> {
        let of_rules = self.tables().into_iter();
        let of_rules = of_rules.map(|(key, table)| NamedTable {
            name: key.name,
            window: key.window,
            table,
        });
        let own = self.own.load();
        let own = own.values().flatten().map(|own| NamedTable {
            name: Arc::clone(&own.name),
            window: own.window,
            table: Arc::clone(&own.table),
        });
        of_rules.chain(own).collect()
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
