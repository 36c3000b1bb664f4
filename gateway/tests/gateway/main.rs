//! The gateway as its users meet it: real sockets, a real store, and an origin that records what arrives.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by stopping"
)]

mod adoption;
mod answers;
mod bad_input;
mod bad_issuers;
mod bad_routes;
mod balancers;
mod brake;
mod buckets;
mod caches;
mod certificates;
mod client;
mod client_address;
mod commands;
mod concurrency;
mod cors;
mod documentation;
mod endurance;
mod every_refusal;
mod example_file;
mod failures;
mod fairness;
mod fleet;
mod full_pipes;
mod headers;
mod health_path;
mod http2;
mod http2_frames;
mod http_1_0;
mod importing;
mod in_force;
mod issuers;
mod jwt;
mod key_in_url;
mod key_life;
mod key_restrictions;
mod key_sources;
mod library_faults;
mod library_text;
mod lifecycle;
mod limit_resets;
mod limits;
mod metrics;
mod nowhere;
mod observing;
mod one_reading;
mod origin;
mod own_rules;
mod paths_at_origins;
#[path = "../databases/postgres.rs"]
mod postgres;
mod presented_keys;
mod process_log;
mod promises;
mod proxy_headers;
mod proxy_protocol;
mod quotas;
mod rates;
#[path = "../databases/redis.rs"]
mod redis;
mod refusals;
mod reload;
mod rig;
mod route_shape;
mod running;
mod self_path;
mod shared_limits;
mod shells;
mod signals;
mod stopping;
mod store_operations;
mod story;
mod streaming;
mod tls;
mod trace_context;
mod uploads;
mod upstream_secrets;
mod upstreams;
mod usage;
mod websocket;
mod wire;
