//! The operator who calls the admin API.

use std::net::IpAddr;

use crate::auth::admin_token::Role;
use crate::store::{Actor, Stamp};

/// An operator whose token was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name of the token.
    pub token: String,
    /// What the token allows.
    pub role: Role,
    /// The address that the call came from.
    pub address: Option<IpAddr>,
}

impl Operator {
    /// Returns the audit's stamp for a change that is made now.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            source: self.address,
            ..Stamp::now(Actor::api(&self.token))
        }
    }
}
