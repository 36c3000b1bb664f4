//! Converts the settings into the form that each part takes.

use std::sync::Arc;
use std::time::Duration;

use actix_http::header::HeaderValue;
use postern_shared::Secret;

use crate::app::error::StartError;
use crate::auth::jwt::Issuers;
use crate::config::listen::ListenSettings;
use crate::config::routes::RouteSettings;
use crate::config::settings::{OriginSettings, Settings};
use crate::config::upstreams::{UpstreamRef, UpstreamSettings};
use crate::front::client_stream::{ClientLimits, Pace};
use crate::http::cors::Cors;
use crate::limits::concurrency::{Concurrency, InFlight};
use crate::limits::quota::Quotas;
use crate::limits::{Limits, Memory};
use crate::pipeline::Policy;
use crate::proxy::origin_stream::OriginLimits;
use crate::proxy::pool::PoolSettings;
use crate::proxy::secret_finder::SecretFinder;
use crate::proxy::{OriginUrl, Upstream};
use crate::routes::{PathPrefix, Route, Routes};
use crate::telemetry::access_log::Sink;

/// Maximum lifetime of a connection to an origin, after which its name is resolved again.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(75);

/// Maximum of secrets that are still looked for after new settings replaced them.
const MAX_FORMER_SECRETS: usize = 8;

/// Client limits of the admin listener, whose clients are few, near and send little. Also those of
/// the public listener where no setting overrides them.
pub(super) const ADMIN_LIMITS: ClientLimits = ClientLimits {
    head_timeout: Duration::from_secs(5),
    keep_alive: Duration::from_secs(75),
    body: Pace {
        idle: Duration::from_secs(10),
        min_rate: 500,
    },
    write: Pace {
        idle: Duration::from_secs(30),
        min_rate: 100,
    },
    linger: Duration::from_secs(2),
    head_bytes: 32 * 1024,
    fields: 96,
    body_bytes: u64::MAX,
    extension_bytes: 4 * 1024,
    trailer_bytes: 8 * 1024,
};

/// Builds the policy: routes and their common settings.
///
/// What survives `before`, the policy in force, by name: upstreams with the state of their targets,
/// the names of routes, and the connections to origins where their settings stay.
pub(super) fn policy(
    settings: &Settings,
    scheme: &'static str,
    before: Option<&Policy>,
) -> Result<Policy, StartError> {
    let upstreams = upstreams(settings, before);
    let default_upstream = &upstreams[0];
    // The settings contain no unknown names.
    let upstream = |wanted: Option<UpstreamRef>| match wanted {
        None => Arc::clone(default_upstream),
        Some(UpstreamRef::At(url)) => single(&url.to_string(), &url, of_a_route(before, &url)),
        Some(UpstreamRef::Named(name)) => Arc::clone(
            upstreams[1..]
                .iter()
                .find(|upstream| upstream.name() == name.0)
                .unwrap_or(default_upstream),
        ),
    };
    let mut secret = HeaderValue::from_bytes(settings.origin.shared_secret.expose())
        .map_err(|_| StartError::Secret)?;
    secret.set_sensitive(true);
    let known_secrets = known_secrets(settings, before);
    let secret_finder = SecretFinder::of(known_secrets.iter().map(Secret::expose))
        .map_err(|_| StartError::Secret)?;
    let default = Route {
        preserve_host: settings.origin.preserve_host,
        auth: settings.auth.0.clone(),
        key_sources: settings.auth.1.clone(),
        cors: Cors::new(&settings.cors, &[], settings.auth.1.headers()),
        ..Route::new("default", PathPrefix::default(), None)
    };
    let routes = if settings.routes.is_empty() {
        std::slice::from_ref(&default)
    } else {
        &settings.routes
    };
    // The same allocation, which counters compare first.
    let name = |name: &Arc<str>| {
        let known =
            before.and_then(|before| before.routes.iter().find(|known| known.name == *name));
        Arc::clone(known.map_or(name, |known| &known.name))
    };
    let memory = match (before, &settings.valkey) {
        (Some(before), _) => Arc::clone(before.limits.memory()),
        // Gateways that share their limits name the subjects alike.
        (None, Some(_)) => Memory::of_fleet(settings.origin.shared_secret.expose()),
        (None, None) => Memory::new(),
    };
    let limits = Limits::new(
        settings.limits.rates.clone(),
        settings.limits.terms,
        &memory,
    );
    let in_flight = before.map_or_else(
        || InFlight::for_requests(settings.listen.max_requests_in_flight),
        |before| Arc::clone(before.concurrency.in_flight()),
    );
    let concurrency = Concurrency::new(
        settings.concurrency.clone(),
        settings.limits.terms.ipv6_prefix,
        &memory,
        &in_flight,
    );
    let counts = before.map_or_else(Arc::default, |before| Arc::clone(before.quotas.memory()));
    let quotas = Quotas::new(settings.quotas.clone(), &counts);
    let own_rules = settings.own.rules();
    let routes = routes.iter().map(|route| RouteSettings {
        name: name(&route.name),
        ..route.clone()
    });
    let routes = routes
        .map(|route| Route {
            key_sources: route
                .key_sources
                .clone()
                .beside(&own_rules.credential_headers),
            in_force: limits.of_route(&route.name, route.limits.as_deref()),
            in_flight: concurrency.of_route(&route.name),
            ..route.with_upstream(upstream)
        })
        .collect();
    let pool = Arc::new(pool_settings(&settings.origin));
    let pool = match before {
        Some(before) if before.pool == pool => Arc::clone(&before.pool),
        _ => pool,
    };
    Ok(Policy {
        routes: Routes::new(routes, settings.origin.path_case),
        limits,
        concurrency,
        quotas,
        cors: Cors::new(&settings.cors, &[], settings.auth.1.headers()),
        limit_fields: settings.limits.fields,
        realm: settings.realm.clone(),
        public_url: settings
            .listen
            .public_url
            .as_ref()
            .map(|url| url.origin().into()),
        health_path: settings.listen.health_path.clone(),
        prefix: settings.store.prefix.clone(),
        max_staleness: settings.store.max_staleness,
        secret,
        secret_finder,
        known_secrets,
        scheme: HeaderValue::from_static(scheme),
        trusted_proxies: settings.listen.trusted_proxies.clone().into(),
        proxy_headers: settings.listen.proxy_headers.clone(),
        max_body_bytes: settings.listen.max_body_bytes,
        buffers: before.map_or_else(Arc::default, |before| Arc::clone(&before.buffers)),
        max_buffered_bytes: settings.listen.max_buffered_bytes,
        tunnel_idle_timeout: settings.origin.tunnel_idle_timeout,
        pool,
        client_limits: ClientLimits {
            body_bytes: most_body_bytes(settings),
            ..client_limits(&settings.listen)
        },
        logs_access: settings.access_log == Sink::Stdout,
        own_rules,
        upstreams,
        brake: settings.brake.clone(),
        issuers: Issuers::new(
            settings.issuers.clone(),
            before.map(|before| &*before.issuers),
        ),
    })
}

/// Secrets that no client may see: those of the settings, then the latest of those before, which
/// answers under way, and origins that changed later, still know.
fn known_secrets(settings: &Settings, before: Option<&Policy>) -> Vec<Secret> {
    let of_upstreams = settings.upstreams.iter();
    let of_upstreams = of_upstreams.filter_map(UpstreamSettings::own_secret);
    let mut secrets: Vec<Secret> = std::iter::once(&settings.origin.shared_secret)
        .chain(of_upstreams)
        .cloned()
        .collect();
    let most = secrets.len() + MAX_FORMER_SECRETS;
    for former in before.iter().flat_map(|before| &before.known_secrets) {
        let is_known = secrets
            .iter()
            .any(|known| known.expose() == former.expose());
        if !is_known && secrets.len() < most {
            secrets.push(former.clone());
        }
    }
    secrets
}

/// Builds the default upstream, then those of the file.
fn upstreams(settings: &Settings, before: Option<&Policy>) -> Vec<Arc<Upstream>> {
    let (default_before, named_before) = before
        .and_then(|before| before.upstreams.split_first())
        .map_or((None, &[][..]), |(default, named)| (Some(default), named));
    let default = single("default", &settings.origin.url, default_before);
    let named = settings.upstreams.iter().map(|upstream| {
        let (name, targets) = (&upstream.name.0, upstream.targets.clone());
        let policy = upstream.policy.clone();
        match named_before.iter().find(|before| before.name() == name) {
            Some(before) => Upstream::succeeding(before, targets, policy),
            None => Arc::new(Upstream::new(name, targets, policy)),
        }
    });
    std::iter::once(default).chain(named).collect()
}

/// Builds the upstream of a single origin, or returns that of `before` if it is the same.
fn single(name: &str, url: &OriginUrl, before: Option<&Arc<Upstream>>) -> Arc<Upstream> {
    let upstream = Upstream::single(name, url.clone());
    match before {
        Some(before) => Upstream::succeeding(before, vec![url.clone()], upstream.policy().clone()),
        None => Arc::new(upstream),
    }
}

/// Upstream of a route of `before` to this address alone.
fn of_a_route<'p>(before: Option<&'p Policy>, url: &OriginUrl) -> Option<&'p Arc<Upstream>> {
    let (name, before) = (url.to_string(), before?);
    let is_own = |upstream: &&Arc<Upstream>| {
        upstream.name() == name
            && !before
                .upstreams
                .iter()
                .any(|shared| Arc::ptr_eq(shared, upstream))
    };
    before
        .routes
        .iter()
        .map(|route| &route.upstream)
        .find(is_own)
}

/// Settings of the connection pool.
fn pool_settings(origin: &OriginSettings) -> PoolSettings {
    PoolSettings {
        connect_timeout: origin.connect_timeout,
        limits: OriginLimits {
            first_byte_timeout: origin.first_byte_timeout,
            idle_timeout: origin.idle_timeout,
            write_timeout: origin.write_idle_timeout,
            head_bytes: origin.max_head_bytes,
            fields: origin.max_headers,
        },
        dns_refresh: origin.dns_refresh,
        keep_alive: origin.keep_alive,
        tls: origin.tls.clone(),
        lifetime: CONNECTION_LIFETIME,
        reuse: true,
    }
}

/// Maximum bytes of a request body on any route: what connections are guarded with, before a request
/// has a route. The route itself may allow less.
fn most_body_bytes(settings: &Settings) -> u64 {
    let of_routes = settings.routes.iter();
    let of_routes = of_routes.filter_map(|route| route.shape.as_ref()?.max_body_bytes);
    of_routes.fold(settings.listen.max_body_bytes, u64::max)
}

/// Client limits of the public listener.
fn client_limits(listen: &ListenSettings) -> ClientLimits {
    ClientLimits {
        head_timeout: listen.head_timeout,
        keep_alive: listen.keep_alive,
        body: Pace {
            idle: listen.body_idle_timeout,
            ..ADMIN_LIMITS.body
        },
        write: Pace {
            idle: listen.write_idle_timeout,
            ..ADMIN_LIMITS.write
        },
        head_bytes: listen.max_head_bytes,
        fields: listen.max_headers,
        body_bytes: listen.max_body_bytes,
        ..ADMIN_LIMITS
    }
}
