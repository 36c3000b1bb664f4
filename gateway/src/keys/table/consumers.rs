//! [`Consumers`]: every consumer's cell, by id. Only writers need it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashTable;

use crate::keys::key::ConsumerCell;
use crate::keys::short_text::SharedTexts;
use crate::keys::{Consumer, ConsumerId, Scopes};

/// The cells of all consumers that are there.
// A `HashTable` finds a cell by the id inside of it. A map would need a second copy of a million ids.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    cells: HashTable<Arc<ConsumerCell>>,
    hasher: RandomState,
    texts: SharedTexts,
}

impl Consumers {
    pub(super) fn find(&self, id: &ConsumerId) -> Option<&Arc<ConsumerCell>> {
        self.cells.find(self.hasher.hash_one(id), |cell| is_of(cell, id))
    }

    /// Takes a consumer in, seen by the load that is going on.
    pub(super) fn put(&mut self, mut consumer: Consumer) {
        consumer.share(&mut self.texts);
        match self.find(&consumer.id) {
            Some(cell) => {
                cell.seen.store(true, Ordering::Relaxed);
                if cell.current.load().as_deref() != Some(&consumer) {
                    cell.current.store(Some(Arc::new(consumer)));
                }
            }
            None => {
                let hasher = &self.hasher;
                let hash = hasher.hash_one(consumer.id);
                let hash_of = |cell: &Arc<ConsumerCell>| cell.current.load().as_ref().map_or(0, |held| hasher.hash_one(held.id));
                self.cells.insert_unique(hash, Arc::new(ConsumerCell::new(consumer)), hash_of);
            }
        }
    }

    /// Removes a consumer and empties its cell, so that none of its keys is found any more.
    pub(super) fn remove(&mut self, id: &ConsumerId) -> Option<Arc<ConsumerCell>> {
        let entry = self.cells.find_entry(self.hasher.hash_one(id), |cell| is_of(cell, id)).ok()?;
        let (cell, _) = entry.remove();
        cell.current.store(None);
        Some(cell)
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Consumer>> {
        self.cells.iter().filter_map(|cell| cell.current.load_full()).collect()
    }

    /// Has no consumer count as seen any more.
    pub(super) fn forget_seen(&self) {
        self.cells.iter().for_each(|cell| cell.seen.store(false, Ordering::Relaxed));
    }

    /// Removes those that were not seen, as [`remove`](Self::remove) does.
    pub(super) fn remove_unseen(&mut self) -> Vec<Arc<ConsumerCell>> {
        let unseen: Vec<_> = self.cells.extract_if(|cell| !cell.seen.load(Ordering::Relaxed)).collect();
        unseen.iter().for_each(|cell| cell.current.store(None));
        unseen
    }

    /// Has `scopes` share its text with others.
    pub(super) fn share(&mut self, scopes: &mut Scopes) {
        scopes.share(&mut self.texts);
    }
}

fn is_of(cell: &ConsumerCell, id: &ConsumerId) -> bool {
    cell.current.load().as_ref().is_some_and(|consumer| consumer.id == *id)
}
