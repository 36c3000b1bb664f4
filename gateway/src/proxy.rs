//! The way to the origin and back: headers, bodies, connections, and what can go wrong with them.

mod answer;
pub mod body;
pub mod body_buffer;
pub mod connect;
pub mod failure;
pub mod fetch;
pub mod fixed_headers;
pub mod forward;
pub mod header_edits;
pub mod headers;
pub mod location;
pub mod names;
pub mod origin_head;
pub mod origin_stream;
pub mod origin_url;
pub mod path_mapping;
pub mod plain_answer;
pub mod pool;
pub mod presented_key;
pub mod proxy_headers;
pub mod retry;
pub mod secret_finder;
pub mod trace_context;
pub mod upgrade;
pub mod upstream;
pub mod vary;
pub mod whole_body;

pub use origin_url::OriginUrl;
pub use upstream::Upstream;
