//! The edge towards clients: what a request is, who sent it, and how it is refused.

pub mod client_address;
pub mod client_stream;
pub mod health_path;
pub mod path_rules;
pub mod percent;
pub mod proxy_protocol;
pub mod refusal;
pub mod request_id;
pub mod shown_path;
pub mod target;
pub mod upgrade;
