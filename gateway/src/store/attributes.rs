//! Attributes of keys and consumers. Each is declared here once; code that stores, copies, shows,
//! imports, exports or changes attributes does not compile until it handles a new one.

use crate::keys::{
    Allowance, AllowedIps, AllowedMethods, AllowedRoutes, ConsumerName, CustomId, Description,
    Lifetime, MaxInFlight, Metadata, PlanName, Quotas, Rates, Scopes, Tags, UnixMillis,
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
        /// Rates of the key, which narrow those of the consumer.
        limits: Rates,
        /// Quotas of the key, likewise.
        quotas: Quotas,
        /// Requests in flight of the key, likewise.
        max_in_flight: Option<MaxInFlight>,
        /// Addresses that the key may be used from, besides those of the consumer.
        allowed_ips: AllowedIps,
        /// Methods that the key may be used with.
        allowed_methods: AllowedMethods,
        /// Routes that the key may be used on, by name.
        allowed_routes: AllowedRoutes,
        /// Whether the key may be unused for any time, whatever its bucket says.
        exempt_from_unused: bool,
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
        /// Plan of the consumer.
        plan: Option<PlanName>,
        /// Rates of the consumer in place of those of the configuration.
        limits: Rates,
        /// Quotas of the consumer, likewise.
        quotas: Quotas,
        /// Requests in flight of the consumer.
        max_in_flight: Option<MaxInFlight>,
        /// Labels for administrators, and for limits that several consumers share.
        tags: Tags,
    }

    /// Edit of a consumer: `None` leaves an attribute as it is, `Some(None)` clears it.
    ConsumerEdit {
        /// New name.
        name: ConsumerName,
    }
}

attributes! {
    /// Attributes of a plan.
    PlanAttributes {
        /// Note for administrators.
        description: Option<Description>,
        /// Scopes granted to every consumer of the plan, besides the consumer's own.
        scopes: Scopes,
        /// Rates of every consumer of the plan, unless the consumer has its own of this name.
        limits: Rates,
        /// Quotas of every consumer of the plan, likewise.
        quotas: Quotas,
        /// Requests in flight of each consumer of the plan.
        max_in_flight: Option<MaxInFlight>,
        /// Lifetime of a new key without an expiry of its own.
        default_key_lifetime: Option<Lifetime>,
        /// Longest lifetime of a key.
        max_key_lifetime: Option<Lifetime>,
    }

    /// Edit of a plan: `None` leaves an attribute as it is, `Some(None)` clears it.
    PlanEdit {}
}

/// How the three attributes of an allowance become one.
macro_rules! allowances {
    ($($type:ident),*) => {$(
        impl $type {
            /// Returns the numbers as one value.
            #[must_use]
            pub fn allowance(&self) -> Allowance {
                Allowance {
                    rates: self.limits.clone(),
                    quotas: self.quotas.clone(),
                    max_in_flight: self.max_in_flight,
                }
            }
        }
    )*};
}

allowances!(KeyAttributes, ConsumerAttributes, PlanAttributes);

/// Assigns `new` if given; returns whether the value changed.
pub(super) fn replace<T: PartialEq>(old: &mut T, new: Option<T>) -> bool {
    let is_other = new.as_ref().is_some_and(|new| new != old);
    if let Some(new) = new {
        *old = new;
    }
    is_other
}
