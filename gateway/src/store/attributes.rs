//! What is said of a key, and of a consumer: an attribute is declared here, and whoever stores, copies, shows, imports,
//! exports or changes it does not compile until it has decided.

use crate::keys::{
    AllowedIps, ConsumerName, CustomId, Description, Metadata, Scopes, Tags, UnixMillis,
};
use crate::store::columns::columns;

/// Declares attributes, their columns, and the edit of them, which has parts of its own beside.
macro_rules! attributes {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }

        $(#[$edit_doc:meta])*
        $edit:ident { $($(#[$own_doc:meta])* $own:ident: $own_type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        columns!($name { $($field),* });

        $(#[$edit_doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $edit {
            $($(#[$own_doc])* pub $own: Option<$own_type>,)*
            $($(#[$field_doc])* pub $field: Option<$type>,)*
        }

        impl $edit {
            /// Changes the attributes, and returns the names of those that are other than before.
            pub fn apply(self, attributes: &mut $name) -> Vec<&'static str> {
                let mut changed = Vec::new();
                $(if replace(&mut attributes.$field, self.$field) {
                    changed.push(stringify!($field));
                })*
                changed
            }
        }
    };
}

attributes! {
    /// What is said of a key by whoever makes it. The successor of a key that is rolled inherits it.
    KeyAttributes {
        /// A note.
        description: Option<Description>,
        /// From when on it is refused; `None` is never.
        expires_at: Option<UnixMillis>,
        /// What it may do, within what its consumer may; `None` is all of that.
        scopes: Option<Scopes>,
    }

    /// What to change of a key; `None` leaves a part as it is, `Some(None)` empties it.
    KeyEdit {
        /// Whether it is refused until it is enabled again.
        disabled: bool,
    }
}

attributes! {
    /// What is said of a consumer by whoever makes it.
    ConsumerAttributes {
        /// The id that the team's own system gave it, unique in its bucket.
        custom_id: Option<CustomId>,
        /// A note.
        description: Option<Description>,
        /// What the origin may learn about it.
        metadata: Option<Metadata>,
        /// What it may do. No key of it may do more.
        scopes: Scopes,
        /// Where its keys may be used from.
        allowed_ips: AllowedIps,
        /// What it is sorted by.
        tags: Tags,
    }

    /// What to change of a consumer; `None` leaves a part as it is, `Some(None)` empties it.
    ConsumerEdit {
        /// Its name.
        name: ConsumerName,
    }
}

/// Puts `new` in, if there is one; returns whether that made a difference.
pub(super) fn replace<T: PartialEq>(old: &mut T, new: Option<T>) -> bool {
    let is_other = new.as_ref().is_some_and(|new| new != old);
    if let Some(new) = new {
        *old = new;
    }
    is_other
}
