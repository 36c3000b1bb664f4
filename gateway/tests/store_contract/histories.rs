//! Random histories: whatever happened, and whenever a gateway looked, its table ends up as the database is.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_gateway::keys::{
    Consumer, KeyDigest, KeyEntry, KeyState, KeyTable, Plan, PlanName, Restrictions, Tags,
    UnixMillis,
};
use postern_gateway::store::snapshot::{self, Origin, SnapshotKey};
use postern_gateway::store::{
    BucketEdit, ConsumerEdit, DatabaseUrl, FeedStatus, KeyAttributes, KeyEdit, KeyFilter, Leak,
    LeakPolicy, NewBucket, NewConsumer, NewEnd, NewKey, NewPlan, Owner, PlanAttributes, PlanEdit,
    Roll, RollTarget, Store, StoredConsumer, StoredKey, TransferRow, Written, follow,
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::making::{create_key, later, open, stamp};

/// How long histories go on, on one database.
const HISTORIES: Duration = Duration::from_secs(6);
/// How many rounds there are at least, also on a machine that is busy.
const LEAST_ROUNDS: usize = 3;
/// How many things happen before all gateways are compared.
const STEPS: usize = 30;
/// How long a gateway may take to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

fn snapshot_key() -> SnapshotKey {
    SnapshotKey::of(b"the shared secret of the tests")
}

/// Splitmix64: the same history again for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_of<'t, T>(&mut self, all: &'t [T]) -> Option<&'t T> {
        (!all.is_empty()).then(|| &all[self.below(all.len())])
    }

    fn words(&mut self, words: &[&str]) -> String {
        (*self.one_of(words).unwrap()).to_owned()
    }
}

/// A gateway without its listeners.
struct Gateway {
    table: Arc<KeyTable>,
    status: Arc<FeedStatus>,
    /// Where its table is of, once it is loaded or restored.
    origin: Option<Origin>,
    following: Option<JoinHandle<Infallible>>,
    snapshot: PathBuf,
}

impl Gateway {
    fn new(snapshot: PathBuf) -> Self {
        Self {
            table: Arc::new(KeyTable::new()),
            status: Arc::new(FeedStatus::new()),
            origin: None,
            following: None,
            snapshot,
        }
    }

    /// `None` before the table is loaded.
    fn origin(&self) -> Option<Origin> {
        let reached = self.status.reached().borrow().clone();
        let of = reached.of?;
        Some(Origin {
            store: of.store.to_string(),
            location: "here".to_owned(),
            revision: reached.revision,
            mark: of.mark.to_string(),
        })
    }

    fn begin_to_follow(&mut self, store: &Store) {
        if self.following.is_none() {
            let (table, status) = (Arc::clone(&self.table), Arc::clone(&self.status));
            let following = follow(store.clone(), table, status, self.origin.clone());
            self.following = Some(tokio::spawn(following));
        }
    }

    /// At whatever moment that is, in the middle of a look too.
    async fn cut_off(&mut self) {
        if let Some(following) = self.following.take() {
            following.abort();
            let _ = following.await;
            // One that was cut off before its first look knows what it knew before.
            self.origin = self.origin().or(self.origin.take());
        }
    }

    fn save(&self) {
        if let Some(origin) = self.origin() {
            snapshot::save(
                &self.snapshot,
                &snapshot_key(),
                &self.table,
                &origin,
                UnixMillis::now(),
            )
            .unwrap();
        }
    }

    async fn restart(&mut self, from_snapshot: bool) {
        if let Some(following) = self.following.take() {
            following.abort();
            let _ = following.await;
        }
        *self = Self::new(self.snapshot.clone());
        if from_snapshot
            && let Some(restored) = snapshot::restore(
                &self.snapshot,
                &snapshot_key(),
                &self.table,
                "here",
                UnixMillis::now(),
            )
            .unwrap()
        {
            self.status.restored(restored.origin.revision, restored.age);
            self.origin = Some(restored.origin);
        }
    }

    async fn catch_up(&mut self, store: &Store, what: &str) {
        self.begin_to_follow(store);
        let newest = Written {
            generation: store.generation(),
            revision: store.newest_revision().await.unwrap(),
        };
        assert!(
            self.status.reaches(newest, PATIENCE).await,
            "{what}: it does not catch up"
        );
    }
}

/// Plans, consumers by id and keys by digest, to be compared.
#[derive(Debug, PartialEq)]
struct Dump {
    plans: BTreeMap<String, Plan>,
    consumers: BTreeMap<String, Consumer>,
    keys: BTreeMap<String, KeyEntry>,
}

impl Dump {
    fn of_table(table: &KeyTable) -> Self {
        let mut dump = Self {
            plans: BTreeMap::new(),
            consumers: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        let done: Result<(), Infallible> = table.each_consumer(|consumer| {
            dump.consumers.insert(consumer.id.to_string(), consumer);
            Ok(())
        });
        done.unwrap();
        let done: Result<(), Infallible> = table.each_key(|entry| {
            dump.keys.insert(entry.digest.to_hex(), entry);
            Ok(())
        });
        done.unwrap();
        for plan in table.plans() {
            dump.plans.insert(plan.name.to_string(), Plan::clone(&plan));
        }
        assert_eq!(table.len(), dump.keys.len());
        dump
    }

    fn of_rows(rows: &[TransferRow]) -> Self {
        let consumers = rows.iter().map(|row| {
            let from = row.consumer.clone();
            let id = from.id.unwrap();
            let allowance = from.attributes.allowance();
            let consumer = Consumer {
                id,
                bucket: from.bucket,
                name: from.name,
                custom_id: from.attributes.custom_id,
                metadata: from.attributes.metadata,
                scopes: from.attributes.scopes,
                allowed_ips: from.attributes.allowed_ips,
                plan: from.attributes.plan,
                allowance,
                tags: from.attributes.tags,
                created_at: from.created_at.unwrap(),
            };
            (id.to_string(), consumer)
        });
        let keys = rows.iter().filter_map(|row| {
            let key = row.key.clone()?;
            let allowance = key.attributes.allowance();
            let entry = KeyEntry {
                digest: key.digest,
                id: key.id.unwrap(),
                consumer: row.consumer.id.unwrap(),
                state: key.state,
                expires_at: key.attributes.expires_at,
                deprecated_at: key.rolled.map(|rolled| rolled.at),
                scopes: key.attributes.scopes,
                allowance,
                restrictions: Restrictions {
                    ips: key.attributes.allowed_ips,
                    methods: key.attributes.allowed_methods,
                    routes: key.attributes.allowed_routes,
                },
                chain: key.chain,
            };
            Some((entry.digest.to_hex(), entry))
        });
        Self {
            plans: BTreeMap::new(),
            consumers: consumers.collect(),
            keys: keys.collect(),
        }
    }
}

/// What the database has.
async fn of_store(store: &Store) -> Dump {
    let plans = store.plans("", 100).await.unwrap().into_iter();
    let plans = plans.map(|stored| {
        let plan = Plan {
            name: stored.name,
            allowance: stored.attributes.allowance(),
            scopes: stored.attributes.scopes,
        };
        (plan.name.to_string(), plan)
    });
    Dump {
        plans: plans.collect(),
        ..Dump::of_rows(&export(store).await)
    }
}

async fn export(store: &Store) -> Vec<TransferRow> {
    let mut export = store.export(None).await.unwrap();
    let mut rows = Vec::new();
    while let Some(page) = export.next().await.unwrap() {
        rows.extend(page);
    }
    rows
}

/// Who changes the store. What the store refuses is as well: the next change comes.
struct Writer {
    store: Store,
    random: Random,
    exports: Vec<Vec<TransferRow>>,
}

impl Writer {
    async fn keys(&self) -> Vec<StoredKey> {
        let all = KeyFilter::default();
        self.store.list_keys(&all, None, 500).await.unwrap()
    }

    async fn consumers(&self) -> Vec<StoredConsumer> {
        let mut all = Vec::new();
        for bucket in ["default", "other"] {
            let bucket = bucket.parse().unwrap();
            all.extend(self.store.consumers(&bucket, None, 100).await.unwrap());
        }
        all
    }

    fn digest(&mut self) -> KeyDigest {
        KeyDigest::of(format!("key {}", self.random.below(14)).as_bytes())
    }

    fn owner(&mut self) -> Owner {
        let bucket = self.random.words(&["default", "default", "other"]);
        let name = self.random.words(&["a", "b", "c", "d"]);
        Owner::Named(bucket.parse().unwrap(), name.parse().unwrap())
    }

    /// Changes something; returns what, to be read where a history has failed.
    async fn change(&mut self) -> String {
        let (keys, consumers) = (self.keys().await, self.consumers().await);
        let key = self.random.one_of(&keys).cloned();
        let consumer = self.random.one_of(&consumers).cloned();
        let stamp = stamp();
        match (self.random.below(20), key, consumer) {
            (18, _, _) => {
                let name: PlanName = self.random.words(&["gold", "free"]).parse().unwrap();
                let (scopes, limits) = (
                    self.random.words(&["", "read", "write"]),
                    self.random.words(&["", "a=5/1m"]),
                );
                let attributes = PlanAttributes {
                    scopes: scopes.parse().unwrap(),
                    limits: limits.parse().unwrap(),
                    ..PlanAttributes::default()
                };
                let edit = PlanEdit {
                    scopes: Some(attributes.scopes.clone()),
                    limits: Some(attributes.limits.clone()),
                    ..PlanEdit::default()
                };
                let new = NewPlan {
                    name: name.clone(),
                    attributes,
                };
                match self.store.create_plan(new, &stamp).await {
                    Ok(made) => format!("create {made:?}"),
                    Err(_) => {
                        let done = self.store.update_plan(&name, edit, &stamp).await;
                        format!("edit {done:?}")
                    }
                }
            }
            (19, _, _) => {
                let name = self.random.words(&["gold", "free"]).parse().unwrap();
                format!("delete {:?}", self.store.delete_plan(&name, &stamp).await)
            }
            (0..=3, _, _) => {
                let new = NewKey {
                    owner: self.owner(),
                    digest: self.digest(),
                    hint: "pstn_abcd".to_owned(),
                    attributes: KeyAttributes::default(),
                    end: NewEnd::Default,
                };
                format!("create {:?}", self.store.create_key(new, &stamp).await)
            }
            (4, _, _) => {
                let Owner::Named(bucket, name) = self.owner() else {
                    return String::new();
                };
                let new = NewConsumer {
                    bucket,
                    ..NewConsumer::named(name)
                };
                format!("create {:?}", self.store.create_consumer(new, &stamp).await)
            }
            (5..=7, Some(key), _) => {
                let state =
                    [KeyState::Disabled, KeyState::Active, KeyState::Revoked][self.random.below(3)];
                let done = self.store.set_key_state(&key.id, state, &stamp).await;
                format!("state {done:?}")
            }
            (8, Some(key), _) => {
                let edit = KeyEdit {
                    expires_at: Some(Some(UnixMillis(2_000_000_000_000))),
                    scopes: Some(Some(self.random.words(&["", "read"]).parse().unwrap())),
                    limits: Some(self.random.words(&["", "a=5/1m"]).parse().unwrap()),
                    ..KeyEdit::default()
                };
                format!(
                    "edit {:?}",
                    self.store.update_key(&key.id, edit, &stamp).await
                )
            }
            (9, Some(key), _) => {
                let target = if self.random.below(2) == 0 {
                    RollTarget::Key(key.id)
                } else {
                    RollTarget::Consumer(key.consumer)
                };
                let roll = Roll {
                    target,
                    digest: self.digest(),
                    hint: "pstn_abcd".to_owned(),
                    grace: Duration::from_secs(60 * self.random.below(2) as u64),
                };
                format!("roll {:?}", self.store.roll(roll, &stamp).await)
            }
            (10, _, Some(consumer)) => {
                let edit = ConsumerEdit {
                    name: Some(self.random.words(&["a", "b", "c", "d"]).parse().unwrap()),
                    scopes: Some(
                        self.random
                            .words(&["", "read", "read write"])
                            .parse()
                            .unwrap(),
                    ),
                    allowed_ips: Some(self.random.words(&["", "192.0.2.0/24"]).parse().unwrap()),
                    plan: Some(self.random.words(&["", "", "gold", "free"]).parse().ok()),
                    quotas: Some(self.random.words(&["", "m=5/month@15"]).parse().unwrap()),
                    tags: Some(
                        Tags::new(self.random.words(&["org=", "org=acme"]).parse()).unwrap(),
                    ),
                    ..ConsumerEdit::default()
                };
                let id = consumer.id;
                format!(
                    "edit {:?}",
                    self.store.update_consumer(&id, edit, &stamp).await
                )
            }
            (11 | 12, _, Some(consumer)) => {
                let id = consumer.id;
                format!(
                    "delete {id}: {:?}",
                    self.store.delete_consumer(&id, &stamp).await
                )
            }
            (13, _, _) => {
                let rows = export(&self.store).await;
                self.exports.push(rows);
                "export".to_owned()
            }
            (14, _, _) => self.import().await,
            // Exported, some lines taken out or given to someone else, deleted, imported.
            (15 | 16, _, Some(consumer)) => {
                let rows = export(&self.store).await;
                self.exports.push(rows);
                let id = consumer.id;
                let deleted = self.store.delete_consumer(&id, &stamp).await;
                format!("delete {id}: {deleted:?}, {}", self.import().await)
            }
            (17, Some(_), _) => {
                let leak = Leak {
                    digest: self.digest(),
                    url: None,
                    source: None,
                };
                let policies = [LeakPolicy::Notify, LeakPolicy::Roll, LeakPolicy::Revoke];
                let edit = BucketEdit {
                    leak_policy: Some(policies[self.random.below(3)]),
                    ..BucketEdit::default()
                };
                let bucket = "default".parse().unwrap();
                self.store
                    .update_bucket(&bucket, edit, &stamp)
                    .await
                    .unwrap();
                format!("leak {:?}", self.store.report_leak(&leak, &stamp).await)
            }
            _ => String::new(),
        }
    }

    async fn import(&mut self) -> String {
        let Some(mut rows) = self.random.one_of(&self.exports).cloned() else {
            return String::new();
        };
        rows.retain(|_| self.random.below(4) > 0);
        let owners: Vec<_> = rows.iter().map(|row| row.consumer.clone()).collect();
        for row in &mut rows {
            if self.random.below(4) == 0 {
                row.consumer = self.random.one_of(&owners).unwrap().clone();
            }
        }
        // In each batch as much as one wants: they are transactions of their own.
        let batch = 1 + self.random.below(8);
        let mut told = format!("import of {}", rows.len());
        for rows in rows.chunks(batch) {
            told += &format!(" {:?}", self.store.import(rows, &stamp()).await);
        }
        told
    }
}

pub(crate) async fn any_history_ends_in_tables_like_the_database(url: &DatabaseUrl) {
    let seed = std::env::var("POSTERN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| UnixMillis::now().0.unsigned_abs());
    let again = format!("POSTERN_SEED={seed} runs this history again");
    let directory = TempDir::new().unwrap();
    // Its own connections: to the database they are another process.
    let followed = open(url).await;
    let mut writer = Writer {
        store: open(url).await,
        random: Random(seed),
        exports: Vec::new(),
    };
    let other = NewBucket {
        name: "other".parse().unwrap(),
        leaks: Default::default(),
        keys: Default::default(),
    };
    writer.store.create_bucket(other, &stamp()).await.unwrap();
    let mut gateways: Vec<Gateway> = (0..4)
        .map(|number| Gateway::new(directory.path().join(format!("{number}.snapshot"))))
        .collect();
    let (begun, mut rounds) = (Instant::now(), 0);
    while begun.elapsed() < HISTORIES || rounds < LEAST_ROUNDS {
        let mut history = Vec::new();
        for _ in 0..STEPS {
            let number = writer.random.below(gateways.len());
            let gateway = &mut gateways[number];
            let what = match writer.random.below(24) {
                0 => {
                    gateway.catch_up(&followed, &again).await;
                    "catches up"
                }
                1 | 2 => {
                    gateway.begin_to_follow(&followed);
                    "begins to follow"
                }
                3 | 4 => {
                    gateway.cut_off().await;
                    "is cut off"
                }
                5 => {
                    gateway.save();
                    "saves its table"
                }
                6 => {
                    gateway.restart(true).await;
                    "is killed and starts from what it saved"
                }
                7 => {
                    gateway.restart(false).await;
                    "is killed and starts anew"
                }
                8 => {
                    // A moment for those that follow.
                    tokio::time::sleep(Duration::from_micros(writer.random.next() % 30_000)).await;
                    continue;
                }
                _ => {
                    history.push(writer.change().await);
                    continue;
                }
            };
            history.push(format!("gateway {number} {what}"));
        }
        let database = of_store(&writer.store).await;
        for (number, gateway) in gateways.iter_mut().enumerate() {
            gateway.catch_up(&followed, &again).await;
            let table = Dump::of_table(&gateway.table);
            assert!(
                table == database,
                "{again}\ngateway {number} in round {rounds} has\n{table:#?}\nand the database\n{database:#?}\nafter\n{}",
                history.join("\n")
            );
            if writer.random.below(3) > 0 {
                gateway.cut_off().await;
            }
        }
        rounds += 1;
    }
    for gateway in &mut gateways {
        gateway.cut_off().await;
    }
}

/// Has a gateway load what is there, cuts it off, and has it follow again after `meanwhile`.
async fn cut_off_during(store: &Store, meanwhile: impl AsyncFnOnce()) -> Dump {
    let directory = TempDir::new().unwrap();
    let mut gateway = Gateway::new(directory.path().join("snapshot"));
    gateway.catch_up(store, "before").await;
    gateway.cut_off().await;
    meanwhile().await;
    gateway.catch_up(store, "after").await;
    let loads = gateway.status.loads();
    gateway.cut_off().await;
    assert_eq!(loads, 1, "by the changes, not by loading everything");
    Dump::of_table(&gateway.table)
}

pub(crate) async fn a_key_left_out_of_a_delete_and_import_is_gone(url: &DatabaseUrl) {
    let store = open(url).await;
    let acme = create_key(&store, "acme", "kept").await.key.consumer;
    create_key(&store, "acme", "left out").await;
    let left_out = KeyDigest::of(b"left out");
    let table = cut_off_during(&store, async || {
        let mut rows = export(&store).await;
        rows.retain(|row| row.key.as_ref().is_some_and(|key| key.digest != left_out));
        store.delete_consumer(&acme, &stamp()).await.unwrap();
        assert_eq!(store.import(&rows, &stamp()).await.unwrap().keys, 1);
    })
    .await;
    assert!(!table.keys.contains_key(&left_out.to_hex()));
    assert_eq!(table, Dump::of_rows(&export(&store).await));
}

pub(crate) async fn keys_that_were_first_imported_for_the_wrong_consumer_are_good(
    url: &DatabaseUrl,
) {
    let store = open(url).await;
    create_key(&store, "right", "other").await;
    let table = cut_off_during(&store, async || {
        let wrong = create_key(&store, "wrong", "moved").await.key.consumer;
        create_key(&store, "wrong", "moved too").await;
        store.delete_consumer(&wrong, &stamp()).await.unwrap();
        create_key(&store, "right", "moved").await;
        create_key(&store, "right", "moved too").await;
    })
    .await;
    assert_eq!(table.keys.len(), 3);
    assert_eq!(table, Dump::of_rows(&export(&store).await));
}

/// Has the database be as it was after `change` and the row `audited` of the audit, as one that was restored from a copy.
async fn rewind(connection: &mut AnyConnection, (change, audited): (i64, i64)) {
    let (no_trigger, restart) = if connection.backend_name() == "PostgreSQL" {
        (
            " ON audit",
            format!(
                "ALTER TABLE changes ALTER COLUMN revision RESTART WITH {}; ALTER TABLE audit ALTER COLUMN id RESTART WITH {}",
                change + 1,
                audited + 1
            ),
        )
    } else {
        (
            "",
            format!(
                "UPDATE sqlite_sequence SET seq = {change} WHERE name = 'changes'; \
                 UPDATE sqlite_sequence SET seq = {audited} WHERE name = 'audit'"
            ),
        )
    };
    let statements = format!(
        "DROP TRIGGER IF EXISTS audit_is_never_deleted{no_trigger}; \
         DELETE FROM keys WHERE id IN (SELECT subject_id FROM audit WHERE action = 'key.create' AND id > {audited}); \
         UPDATE keys SET state = 'active'; \
         DELETE FROM changes WHERE revision > {change}; DELETE FROM audit WHERE id > {audited}; {restart}"
    );
    connection.execute(AssertSqlSafe(statements)).await.unwrap();
}

pub(crate) async fn a_table_of_another_history_is_loaded_anew(url: &DatabaseUrl, plain: &str) {
    let store = open(url).await;
    let known = create_key(&store, "acme", "known").await.key;
    let mut connection = AnyConnection::connect(plain).await.unwrap();
    let there: (i64, i64) =
        sqlx::query_as("SELECT (SELECT max(revision) FROM changes), (SELECT max(id) FROM audit)")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    let set = async |state, seconds| {
        let changed = store.set_key_state(&known.id, state, &later(seconds)).await;
        changed.unwrap();
    };
    let directory = TempDir::new().unwrap();
    // As many changes as before, more of them and of the same key only; by a gateway that was cut off, and by one that starts
    // from what it saved.
    for (number, (others, is_restarted)) in
        [(0, false), (2, false), (5, false), (2, true), (5, true)]
            .into_iter()
            .enumerate()
    {
        rewind(&mut connection, there).await;
        let mut gateway = Gateway::new(directory.path().join(format!("{number}.snapshot")));
        set(KeyState::Disabled, 1).await;
        if others > 0 {
            create_key(&store, "acme", "lost").await;
        }
        gateway.catch_up(&store, "before").await;
        gateway.save();
        gateway.cut_off().await;
        rewind(&mut connection, there).await;
        if others == 0 {
            // The same changes of the same key by number, and another end.
            set(KeyState::Revoked, 2).await;
        }
        for other in 0..others {
            create_key(&store, "acme", &format!("other {other}")).await;
        }
        if is_restarted {
            gateway.restart(true).await;
        }
        // Not until it has some change: what it had before has the same number.
        gateway.begin_to_follow(&store);
        let database = Dump::of_rows(&export(&store).await);
        let begun = Instant::now();
        while Dump::of_table(&gateway.table) != database {
            assert!(
                begun.elapsed() < PATIENCE,
                "{others} {is_restarted}: the table has {:#?}\nand the database {database:#?}",
                Dump::of_table(&gateway.table)
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        gateway.cut_off().await;
    }
}
