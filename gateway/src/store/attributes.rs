//! Attributes of keys and consumers. Each is declared here once; code that stores, copies, shows,
//! imports, exports or changes attributes does not compile until it handles a new one.

use crate::keys::{
    AllowedIps, ConsumerName, CustomId, Description, Metadata, Scopes, Tags, UnixMillis,
};
use crate::store::columns::columns;

/// Declares attributes, their columns, and the edit of them with its additional fields.
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
            /// Applies the edit and returns the names of the changed attributes.
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
    /// Attributes of a key, inherited by its successor in a roll.
    KeyAttributes {
        /// Note for administrators.
        description: Option<Description>,
        /// Expiry; `None` for a key that never expires.
        expires_at: Option<UnixMillis>,
        /// Scopes of the key, limited by those of the consumer; `None` for all of the consumer's.
        scopes: Option<Scopes>,
    }

    /// Edit of a key: `None` leaves an attribute as it is, `Some(None)` clears it.
    KeyEdit {
        /// Whether the key is refused until enabled again.
        disabled: bool,
    }
}

attributes! {
    /// Attributes of a consumer.
    ConsumerAttributes {
        /// Id from the team's own system, unique in the bucket.
        custom_id: Option<CustomId>,
        /// Note for administrators.
        description: Option<Description>,
        /// Metadata for the origin.
        metadata: Option<Metadata>,
        /// Granted scopes, the upper limit for every key of the consumer.
        scopes: Scopes,
        /// Addresses that the keys may be used from.
        allowed_ips: AllowedIps,
        /// Labels for administrators.
        tags: Tags,
    }

    /// Edit of a consumer: `None` leaves an attribute as it is, `Some(None)` clears it.
    ConsumerEdit {
        /// New name.
        name: ConsumerName,
    }
}

/// Assigns `new` if given; returns whether the value changed.
pub(super) fn replace<T: PartialEq>(old: &mut T, new: Option<T>) -> bool {
    let is_other = new.as_ref().is_some_and(|new| new != old);
    if let Some(new) = new {
        *old = new;
    }
    is_other
}
