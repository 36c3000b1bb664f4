//! [`StoreHandle`]: a store that may not be open yet.

use std::sync::{Arc, OnceLock};

use crate::store::Store;

/// Slot for the store, filled by the control plane once the database can be opened. Clones share
/// it.
#[derive(Clone, Debug, Default)]
pub struct StoreHandle(Arc<OnceLock<Store>>);

impl StoreHandle {
    /// Returns the store; `None` if the database has been away since the start.
    #[must_use]
    pub fn get(&self) -> Option<&Store> {
        self.0.get()
    }

    /// Fills the slot; later calls have no effect.
    pub fn opened(&self, store: Store) {
        // A second store would never be closed; only one task opens it.
        let _ = self.0.set(store);
    }
}
