//! Keys of other systems in the table: whether any exist, and whether a text contains one. The
//! gateway's own keys are found by their shape; foreign keys only by digest, which costs, so the
//! search is skipped where the table has none.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::keys::table::KeyTable;
use crate::keys::token::own_hint_length;
use crate::keys::traces::{has_key_like, has_key_like_in_text};
use crate::keys::{Prefix, foreign};

/// Knowledge about keys of other systems.
#[derive(Debug)]
pub(super) struct Foreign {
    /// Prefix of this gateway's own keys.
    own: OnceLock<Prefix>,
    may_be_there: AtomicBool,
}

impl Default for Foreign {
    fn default() -> Self {
        // True until the store reports that there are none.
        Self {
            own: OnceLock::new(),
            may_be_there: AtomicBool::new(true),
        }
    }
}

impl KeyTable {
    /// Sets the prefix of this gateway's own keys, once. Until then every key counts as foreign.
    pub fn own_keys_begin_with(&self, prefix: &Prefix) {
        let _ = self.foreign.own.set(prefix.clone());
    }

    /// Returns the prefix and the length of this gateway's own hints, if they differ from
    /// foreign ones.
    #[must_use]
    pub fn own_hints(&self) -> Option<(String, usize)> {
        let prefix = self.foreign.own.get()?;
        let length = own_hint_length(prefix);
        // A shorter hint may belong to a foreign key with the same prefix.
        (length > foreign::MAX_HINT_CHARS).then(|| (format!("{prefix}_"), length))
    }

    /// Registers a key by its hint; a foreign key enables the search in texts.
    pub fn saw_hint(&self, hint: &str) {
        let is_own = self
            .own_hints()
            .is_some_and(|(begin, length)| hint.len() == length && hint.starts_with(&begin));
        if !is_own {
            self.may_hold_foreign(true);
        }
    }

    /// Sets whether there may be keys of other systems.
    pub fn may_hold_foreign(&self, may: bool) {
        self.foreign.may_be_there.store(may, Ordering::Relaxed);
    }

    /// Returns whether there may be keys of other systems.
    #[must_use]
    pub fn may_have_foreign(&self) -> bool {
        self.foreign.may_be_there.load(Ordering::Relaxed)
    }

    /// Returns whether `text` (a request target or a note) contains a foreign key, plain or
    /// escaped. Finds keys of at least 16 characters that are not adjacent to letters, digits, `-`
    /// or `_`: each word costs a digest. Free where the table has no foreign key.
    #[must_use]
    pub fn has_foreign_in(&self, text: &[u8]) -> bool {
        self.foreign.may_be_there.load(Ordering::Relaxed)
            && has_key_like(text, |digest| self.keys.find(digest, |_| ()).is_some())
    }

    /// Like [`has_foreign_in`](Self::has_foreign_in) for a text that is not a target, such as a
    /// header value: a `/` may separate words or be part of one.
    #[must_use]
    pub fn has_foreign_in_header(&self, value: &[u8]) -> bool {
        self.foreign.may_be_there.load(Ordering::Relaxed)
            && has_key_like_in_text(value, |digest| self.keys.find(digest, |_| ()).is_some())
    }
}
