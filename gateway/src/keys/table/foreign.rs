//! Keys of other systems in the table: whether there may be any, and whether one stands in a text. What this gateway's own
//! keys look like is known; these are found by their digests, which costs, so it is not done where there are none.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::keys::table::KeyTable;
use crate::keys::token::own_hint_length;
use crate::keys::traces::{has_key_like, has_key_like_in_text};
use crate::keys::{Prefix, foreign};

/// What is known of keys of other systems.
#[derive(Debug)]
pub(super) struct Foreign {
    /// What this gateway's own keys begin with.
    own: OnceLock<Prefix>,
    may_be_there: AtomicBool,
}

impl Default for Foreign {
    fn default() -> Self {
        // Until the store says that there is none.
        Self {
            own: OnceLock::new(),
            may_be_there: AtomicBool::new(true),
        }
    }
}

impl KeyTable {
    /// Says what this gateway's own keys begin with, once. Before, every key counts as one of another system.
    pub fn own_keys_begin_with(&self, prefix: &Prefix) {
        let _ = self.foreign.own.set(prefix.clone());
    }

    /// What the hints of this gateway's own keys begin with, and how long they are, where that tells them from others.
    #[must_use]
    pub fn own_hints(&self) -> Option<(String, usize)> {
        let prefix = self.foreign.own.get()?;
        let length = own_hint_length(prefix);
        // A shorter one may be that of a key of another system which begins alike.
        (length > foreign::MAX_HINT_CHARS).then(|| (format!("{prefix}_"), length))
    }

    /// Takes notice of a key with this hint: from now on texts are searched, unless it is one of this gateway's own.
    pub fn saw_hint(&self, hint: &str) {
        let is_own = self
            .own_hints()
            .is_some_and(|(begin, length)| hint.len() == length && hint.starts_with(&begin));
        if !is_own {
            self.may_hold_foreign(true);
        }
    }

    /// Says whether there may be keys of other systems.
    pub fn may_hold_foreign(&self, may: bool) {
        self.foreign.may_be_there.store(may, Ordering::Relaxed);
    }

    /// Whether a key of another system stands in `text`: in the target of a request or in a note, as it is or escaped. Of 16
    /// characters at least, and not glued to letters, digits, `-` or `_`: each word costs a digest. Costs nothing where the
    /// table has no such key.
    #[must_use]
    pub fn has_foreign_in(&self, text: &[u8]) -> bool {
        self.foreign.may_be_there.load(Ordering::Relaxed)
            && has_key_like(text, |digest| self.keys.find(digest, |_| ()).is_some())
    }

    /// The same for text that is no target, such as the value of a header: a `/` divides words or stands within one anywhere.
    #[must_use]
    pub fn has_foreign_in_header(&self, value: &[u8]) -> bool {
        self.foreign.may_be_there.load(Ordering::Relaxed)
            && has_key_like_in_text(value, |digest| self.keys.find(digest, |_| ()).is_some())
    }
}
