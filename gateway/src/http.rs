//! HTTP semantics of a request: target, client address, refusals.

pub mod client_address;
pub mod cors;
pub mod denied;
pub mod health_path;
pub mod own_refusal;
pub mod path_rules;
pub mod rate_limit_fields;
pub mod readings;
pub mod refusal;
pub mod request_id;
pub mod self_path;
pub mod shown_path;
pub mod target;
pub mod upgrade;
