//! Keys: their form, their stored digest, their owners, and the table that requests look them up
//! in. Pure: no I/O, no HTTP, no runtime; time is always an argument.

pub mod address;
pub mod adoption;
pub mod allowance;
pub mod allowed_ips;
pub mod allowed_methods;
pub mod allowed_routes;
mod base62;
pub mod consumer;
pub mod count;
pub mod digest;
pub mod foreign;
pub mod id;
pub mod key;
pub mod lifetime;
pub mod plan;
pub mod restrictions;
pub mod scope;
mod short_text;
pub mod spellings;
pub mod table;
pub mod tag;
pub mod token;
pub mod traces;
pub mod unix_millis;
pub mod usage;
pub mod when;

pub use address::{AddressRange, CallerAddress};
pub use allowance::{
    Allowance, LimitName, QuotaAllowance, QuotaAnchor, QuotaPeriod, Quotas, RateAllowance, Rates,
};
pub use allowed_ips::{AllowedIps, InvalidAllowedIps};
pub use allowed_methods::{AllowedMethod, AllowedMethods, InvalidAllowedMethod};
pub use allowed_routes::{AllowedRoutes, InvalidAllowedRoutes, RouteName};
pub use consumer::{
    BucketName, Consumer, ConsumerName, CustomId, Description, InvalidText, Metadata,
};
pub use count::{Count, InvalidCount, MaxInFlight, MaxLiveKeys};
pub use digest::KeyDigest;
pub use foreign::{ForeignKey, InvalidDigestText};
pub use id::{ConsumerId, KeyId};
pub use key::{KeyEntry, KeyState, KeyStatus};
pub use lifetime::{InvalidLifetime, Lifetime};
pub use plan::{InvalidPlanName, Plan, PlanName};
pub use restrictions::Restrictions;
pub use scope::{Scope, Scopes};
pub use table::{ByCustomId, Change, FoundConsumer, KeyTable, KnownConsumer, KnownKey};
pub use tag::{Tag, Tags};
pub use token::{MalformedKey, PlainKey, Prefix, check_shape};
pub use unix_millis::UnixMillis;
pub use usage::{Hour, KeyUsage, UsageCounts};
pub use when::{InvalidWhen, When};

use thiserror::Error;

/// The operating system returned no random bytes; nothing was generated.
#[derive(Debug, Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct EntropyError(#[from] getrandom::Error);
