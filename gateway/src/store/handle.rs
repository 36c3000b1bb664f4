//! [`StoreHandle`]: a store that may not be open yet.

use std::sync::{Arc, OnceLock};

use crate::store::Store;

/// The place where the control plane puts the store once it could be opened. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StoreHandle(Arc<OnceLock<Store>>);

impl StoreHandle {
    /// The store; `None` while its database is away since the start.
    #[must_use]
    pub fn get(&self) -> Option<&Store> {
        self.0.get()
    }

    /// Puts the store there, the first time for good.
    pub fn opened(&self, store: Store) {
        // A second store would be one that nobody closes; there is none, for one task opens.
        let _ = self.0.set(store);
    }
}
