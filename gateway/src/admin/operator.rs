//! The operator behind a call of the admin API.

use std::net::IpAddr;

use crate::auth::admin_token::Role;
use crate::store::{Actor, Stamp};

/// An operator, authenticated by token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Name of the token.
    pub token: String,
    /// Role of the token.
    pub role: Role,
    /// Source address of the call.
    pub address: Option<IpAddr>,
}

impl Operator {
    /// Returns the audit's stamp for a change made now.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            source: self.address,
            ..Stamp::now(Actor::api(&self.token))
        }
    }
}
