//! The one list that says of every setting whether it changes in a running gateway.

use crate::config::settings::Settings;
use crate::limits::Mode;

/// Copies a setting that needs a restart from the running settings.
type Hold = fn(&mut Settings, &Settings);

/// What becomes of a changed setting.
#[derive(Debug, Clone, Copy)]
pub enum OnReload {
    /// It is in force with the next generation.
    Applied,
    /// It stays as it is until the gateway is started again.
    Restart(Hold),
}

use OnReload::{Applied, Restart};

/// Every setting, by its path without the numbers of lists. A test compares it with the settings
/// that exist.
pub const SETTINGS: &[(&str, OnReload)] = &[
    ("SHARED_SECRET", Applied),
    ("ADMIN_TOKEN", Applied),
    (
        "listen.address",
        Restart(|new, running| new.listen.address = running.listen.address),
    ),
    ("listen.public_url", Applied),
    ("listen.health_path", Applied),
    (
        "listen.workers",
        Restart(|new, running| new.listen.workers = running.listen.workers),
    ),
    ("listen.trusted_proxies", Applied),
    ("listen.trusted_proxy_headers", Applied),
    ("listen.proxy_headers_from_anyone", Applied),
    (
        "listen.proxy_protocol",
        Restart(|new, running| {
            new.listen.proxy_protocol = running.listen.proxy_protocol;
            // The header is accepted from these only: without it they may be none.
            new.listen
                .trusted_proxies
                .clone_from(&running.listen.trusted_proxies);
        }),
    ),
    (
        "listen.max_connections",
        Restart(|new, running| new.listen.max_connections = running.listen.max_connections),
    ),
    ("listen.max_requests_in_flight", Restart(hold_in_flight)),
    (
        "listen.max_requests_in_flight_per_key",
        Restart(hold_in_flight),
    ),
    ("listen.max_body_bytes", Applied),
    ("listen.max_buffered_bytes", Applied),
    ("listen.max_head_bytes", Applied),
    ("listen.max_headers", Applied),
    ("listen.head_timeout", Applied),
    ("listen.body_idle_timeout", Applied),
    ("listen.write_idle_timeout", Applied),
    ("listen.keep_alive", Applied),
    (
        "listen.drain_delay",
        Restart(|new, running| new.listen.drain_delay = running.listen.drain_delay),
    ),
    (
        "listen.drain_timeout",
        Restart(|new, running| new.listen.drain_timeout = running.listen.drain_timeout),
    ),
    (
        "listen.tls_handshake_timeout",
        Restart(|new, running| {
            new.listen.tls_handshake_timeout = running.listen.tls_handshake_timeout;
        }),
    ),
    (
        "listen.http2",
        Restart(|new, running| new.listen.http2 = running.listen.http2),
    ),
    (
        "listen.http2_prior_knowledge",
        Restart(|new, running| {
            new.listen.http2_prior_knowledge = running.listen.http2_prior_knowledge;
        }),
    ),
    (
        "listen.http2_max_streams",
        Restart(|new, running| new.listen.http2_max_streams = running.listen.http2_max_streams),
    ),
    ("listen.tls.cert_file", Applied),
    ("listen.tls.key_file", Applied),
    (
        "admin.address",
        Restart(|new, running| new.admin.address = running.admin.address),
    ),
    ("admin.hosts", Applied),
    ("admin.public_url", Applied),
    (
        "admin.max_connections",
        Restart(|new, running| new.admin.max_connections = running.admin.max_connections),
    ),
    ("admin.tls.cert_file", Applied),
    ("admin.tls.key_file", Applied),
    ("admin.tokens.name", Applied),
    ("admin.tokens.role", Applied),
    ("admin.tokens.token", Applied),
    ("admin.tokens.token_file", Applied),
    ("origin.url", Applied),
    ("origin.connect_timeout", Applied),
    ("origin.dns_refresh", Applied),
    ("origin.first_byte_timeout", Applied),
    ("origin.idle_timeout", Applied),
    ("origin.write_idle_timeout", Applied),
    ("origin.tunnel_idle_timeout", Applied),
    ("origin.keep_alive", Applied),
    ("origin.preserve_host", Applied),
    ("origin.case_sensitive_paths", Applied),
    ("origin.max_head_bytes", Applied),
    ("origin.max_headers", Applied),
    ("origin.tls.ca_file", Applied),
    ("origin.tls.client_cert_file", Applied),
    ("origin.tls.client_key_file", Applied),
    ("origin.tls.server_name", Applied),
    ("auth.realm", Applied),
    ("auth.methods", Applied),
    ("auth.key_sources", Applied),
    ("cors.origins", Applied),
    ("cors.methods", Applied),
    ("cors.headers", Applied),
    ("cors.exposed_headers", Applied),
    ("cors.credentials", Applied),
    ("cors.max_age", Applied),
    (
        "store.url",
        Restart(|new, running| new.store.url = running.store.url.clone()),
    ),
    (
        "store.max_staleness",
        Restart(|new, running| new.store.max_staleness = running.store.max_staleness),
    ),
    (
        "store.snapshot",
        Restart(|new, running| new.store.snapshot.clone_from(&running.store.snapshot)),
    ),
    (
        "store.audit_keep",
        Restart(|new, running| new.store.keep.audit = running.store.keep.audit),
    ),
    (
        "store.usage_keep",
        Restart(|new, running| new.store.keep.usage = running.store.keep.usage),
    ),
    (
        "keys.prefix",
        Restart(|new, running| new.store.prefix = running.store.prefix.clone()),
    ),
    (
        "leaks.github_keys",
        Restart(|new, running| new.github_keys.clone_from(&running.github_keys)),
    ),
    ("log.access", Applied),
    ("log.format", Applied),
    ("reload.watch", Applied),
    ("reload.strict", Applied),
    ("reload.last_good", Applied),
    ("upstreams.name", Applied),
    ("upstreams.targets", Applied),
    ("upstreams.balance", Applied),
    ("upstreams.eject_after", Applied),
    ("upstreams.eject_for", Applied),
    ("upstreams.retries", Applied),
    ("upstreams.max_in_flight", Applied),
    ("upstreams.health_path", Applied),
    ("upstreams.health_interval", Applied),
    ("upstreams.health_timeout", Applied),
    ("upstreams.secret", Applied),
    ("upstreams.secret_file", Applied),
    ("upstreams.send_secret", Applied),
    ("routes.path", Applied),
    ("routes.name", Applied),
    ("routes.strip_prefix", Applied),
    ("routes.hosts", Applied),
    ("routes.methods", Applied),
    ("routes.upstream", Applied),
    ("routes.send_secret", Applied),
    ("routes.buckets", Applied),
    ("routes.scopes", Applied),
    ("routes.on_missing_key", Applied),
    ("routes.auth", Applied),
    ("routes.key_sources", Applied),
    ("routes.cors.origins", Applied),
    ("routes.cors.methods", Applied),
    ("routes.cors.headers", Applied),
    ("routes.cors.exposed_headers", Applied),
    ("routes.cors.credentials", Applied),
    ("routes.cors.max_age", Applied),
    ("routes.preserve_host", Applied),
    ("routes.forward_metadata", Applied),
    ("routes.rewrite_location", Applied),
    ("routes.upgrades", Applied),
    ("routes.set_request_headers", Applied),
    ("routes.remove_request_headers", Applied),
    ("routes.set_response_headers", Applied),
    ("routes.remove_response_headers", Applied),
    ("routes.first_byte_timeout", Applied),
    ("routes.idle_timeout", Applied),
    ("routes.max_body_bytes", Applied),
    ("routes.self_path", Applied),
    ("routes.buffer_request_body", Applied),
    ("routes.allow_ambiguous_path", Applied),
    ("routes.cost", Applied),
    ("routes.limits", Applied),
    ("limits.headers", Applied),
    ("limits.mode", Applied),
    (
        "limits.sync_every",
        Restart(|new, running| {
            new.limits.terms.sync_every = running.limits.terms.sync_every;
        }),
    ),
    ("limits.on_outage", Applied),
    ("limits.timeout", Applied),
    ("VALKEY_PASSWORD", Restart(hold_valkey)),
    ("valkey.url", Restart(hold_valkey)),
    ("valkey.cluster", Restart(hold_valkey)),
    ("valkey.ca_file", Restart(hold_valkey)),
    ("limits.ipv6_prefix", Applied),
    ("quotas.name", Applied),
    ("quotas.by", Applied),
    ("quotas.limit", Applied),
    ("quotas.period", Applied),
    ("quotas.anchor", Applied),
    ("quotas.time_zone", Applied),
    ("quotas.count_statuses", Applied),
    ("quotas.enforce", Applied),
    ("concurrency_limits.name", Applied),
    ("concurrency_limits.by", Applied),
    ("concurrency_limits.limit", Applied),
    ("concurrency_limits.routes", Applied),
    ("concurrency_limits.enforce", Applied),
    ("jwt.issuers.name", Applied),
    ("jwt.issuers.issuer", Applied),
    ("jwt.issuers.audiences", Applied),
    ("jwt.issuers.any_audience", Applied),
    ("jwt.issuers.jwks_url", Applied),
    ("jwt.issuers.jwks_file", Applied),
    ("jwt.issuers.secret_file", Applied),
    ("jwt.issuers.ca_file", Applied),
    ("jwt.issuers.algorithms", Applied),
    ("jwt.issuers.clock_skew", Applied),
    ("jwt.issuers.typ", Applied),
    ("jwt.issuers.max_lifetime", Applied),
    ("jwt.issuers.on_cnf", Applied),
    ("jwt.issuers.scopes_claim", Applied),
    ("jwt.issuers.consumer_claim", Applied),
    ("jwt.issuers.on_unknown_consumer", Applied),
    ("jwt.issuers.required_claims", Applied),
    ("jwt.issuers.forward_claims", Applied),
    ("jwt.issuers.refresh", Applied),
    ("jwt.issuers.cooldown", Applied),
    ("jwt.issuers.max_stale", Applied),
    ("brake.enabled", Applied),
    ("brake.failures", Applied),
    ("brake.window", Applied),
    ("brake.block", Applied),
    ("brake.exempt", Applied),
    ("brake.enforce", Applied),
    ("rate_limits.name", Applied),
    ("rate_limits.by", Applied),
    ("rate_limits.limit", Applied),
    ("rate_limits.window", Applied),
    ("rate_limits.burst", Applied),
    ("rate_limits.routes", Applied),
    ("rate_limits.enforce", Applied),
    ("rate_limits.exact", Applied),
];

/// Without a server, limits cannot be shared.
fn hold_valkey(new: &mut Settings, running: &Settings) {
    new.valkey.clone_from(&running.valkey);
    if new.valkey.is_none() && new.limits.terms.mode == Mode::Shared {
        new.limits.terms.mode = running.limits.terms.mode;
    }
}

/// The two are held together: the one per key must not exceed the total.
fn hold_in_flight(new: &mut Settings, running: &Settings) {
    new.listen.max_requests_in_flight = running.listen.max_requests_in_flight;
    new.listen.max_requests_in_flight_per_key = running.listen.max_requests_in_flight_per_key;
}

/// Puts the running value in place of each setting that needs a restart, and returns the paths of
/// those that differ, in the order of the list. `changed` are the paths that differ.
pub fn hold(new: &mut Settings, running: &Settings, changed: &[String]) -> Vec<String> {
    let mut restart_required = Vec::new();
    for (path, on_reload) in SETTINGS {
        let Restart(hold) = on_reload else { continue };
        if changed.iter().any(|changed| changed == path) {
            restart_required.push((*path).to_owned());
            hold(new, running);
        }
    }
    let stays = |path: &str| restart_required.iter().any(|required| required == path);
    let proxies = "listen.trusted_proxies";
    if stays("listen.proxy_protocol") && changed.iter().any(|changed| changed == proxies) {
        restart_required.push(proxies.to_owned());
    }
    // A listener speaks either TLS or plain HTTP for as long as it listens.
    let turned = |new: bool, running: bool| new != running;
    if turned(
        new.listen.certificates.is_empty(),
        running.listen.certificates.is_empty(),
    ) {
        new.listen
            .certificates
            .clone_from(&running.listen.certificates);
        restart_required.push("listen.tls".to_owned());
    }
    if turned(
        new.admin.certificates.is_empty(),
        running.admin.certificates.is_empty(),
    ) {
        new.admin
            .certificates
            .clone_from(&running.admin.certificates);
        restart_required.push("admin.tls".to_owned());
    }
    restart_required
}
