//! [`Restrictions`]: what a key may be used for, within what its consumer may.

use crate::keys::{AllowedIps, AllowedMethods, AllowedRoutes};

/// Restrictions of a key. Each empty one allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// Addresses that the key may be used from, besides those of its consumer: both must allow it.
    pub ips: AllowedIps,
    /// Methods that the key may be used with.
    pub methods: AllowedMethods,
    /// Routes that the key may be used on.
    pub routes: AllowedRoutes,
}

impl Restrictions {
    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            ips,
            methods,
            routes,
        } = self;
        ips.is_empty() && methods.is_empty() && routes.is_empty()
    }
}
