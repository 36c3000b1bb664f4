//! Converts the settings into the form that each part takes.

use std::sync::Arc;
use std::time::Duration;

use actix_http::header::HeaderValue;

use crate::app::error::StartError;
use crate::config::listen::ListenSettings;
use crate::config::settings::{OriginSettings, Settings};
use crate::config::upstreams::UpstreamRef;
use crate::front::client_stream::{ClientLimits, Pace};
use crate::limits::concurrency::{Concurrency, InFlight};
use crate::limits::{Limits, Memory};
use crate::pipeline::Policy;
use crate::proxy::Upstream;
use crate::proxy::origin_stream::OriginLimits;
use crate::proxy::pool::PoolSettings;
use crate::proxy::secret_finder::SecretFinder;
use crate::routes::{PathPrefix, Route, Routes};

/// Maximum lifetime of a connection to an origin, after which its name is resolved again.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(75);

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

/// Builds the default upstream, then those of the file.
pub(super) fn upstreams(settings: &Settings) -> Vec<Arc<Upstream>> {
    let default = Upstream::single("default", settings.origin.url.clone());
    let named = settings.upstreams.iter();
    let named = named.map(|upstream| {
        Upstream::new(
            &upstream.name.0,
            upstream.targets.clone(),
            upstream.policy.clone(),
        )
    });
    std::iter::once(default)
        .chain(named)
        .map(Arc::new)
        .collect()
}

/// Builds the policy: routes and their common settings.
pub(super) fn policy(
    settings: &Settings,
    scheme: &'static str,
    upstreams: &[Arc<Upstream>],
    memory: &Arc<Memory>,
    in_flight: &Arc<InFlight>,
) -> Result<Policy, StartError> {
    let default_upstream = &upstreams[0];
    // The settings contain no unknown names.
    let upstream = |wanted: Option<UpstreamRef>| match wanted {
        None => Arc::clone(default_upstream),
        Some(UpstreamRef::At(url)) => Arc::new(Upstream::single(&url.to_string(), *url)),
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
    let secret_finder = SecretFinder::new(settings.origin.shared_secret.expose())
        .map_err(|_| StartError::Secret)?;
    let default = Route {
        preserve_host: settings.origin.preserve_host,
        ..Route::new("default", PathPrefix::default(), None)
    };
    let routes = if settings.routes.is_empty() {
        std::slice::from_ref(&default)
    } else {
        &settings.routes
    };
    let routes = routes.iter().cloned();
    let limits = Limits::new(
        settings.limits.rates.clone(),
        settings.limits.ipv6_prefix,
        memory,
    );
    let concurrency = Concurrency::new(
        settings.concurrency.clone(),
        settings.limits.ipv6_prefix,
        memory,
        in_flight,
    );
    let routes = routes
        .map(|route| Route {
            in_force: limits.of_route(&route.name, route.limits.as_deref()),
            in_flight: concurrency.of_route(&route.name),
            ..route.with_upstream(upstream)
        })
        .collect();
    Ok(Policy {
        routes: Routes::new(routes, settings.origin.path_case),
        limits,
        concurrency,
        realm: settings.realm.clone(),
        health_path: settings.listen.health_path.clone(),
        prefix: settings.store.prefix.clone(),
        max_staleness: settings.store.max_staleness,
        secret,
        secret_finder,
        scheme: HeaderValue::from_static(scheme),
        trusted_proxies: settings.listen.trusted_proxies.clone(),
        proxy_headers: settings.listen.proxy_headers.clone(),
        max_body_bytes: settings.listen.max_body_bytes,
        tunnel_idle_timeout: settings.origin.tunnel_idle_timeout,
        brake: settings.brake.clone(),
    })
}

/// Settings of the connection pool.
pub(super) fn pool_settings(origin: &OriginSettings) -> PoolSettings {
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

/// Client limits of the public listener.
pub(super) fn client_limits(listen: &ListenSettings) -> ClientLimits {
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
