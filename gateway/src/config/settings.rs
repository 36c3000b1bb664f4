//! List of all settings: paths, defaults and secrets.

use std::path::PathBuf;
use std::time::Duration;

use actix_http::header::HeaderName;
use postern_shared::Secret;

use crate::auth::jwt::IssuerRules;
use crate::auth::key_sources::KeySources;
use crate::auth::methods::Methods;
use crate::config::admin::AdminSettings;
use crate::config::brake::{read_brake, warn_of_brake};
use crate::config::concurrency::read_concurrency;
use crate::config::cors::{no_cors, read_cors};
use crate::config::header_edits::{refuse_claims_in_headers, refuse_secrets_in_headers};
use crate::config::jwt::read_issuers;
use crate::config::key_sources::{read_key_sources, warn_of_key_sources};
use crate::config::limits::LimitSettings;
use crate::config::listen::ListenSettings;
use crate::config::methods::{read_methods, refuse_unknown_issuers};
use crate::config::own::{OwnSettings, Registrations};
use crate::config::quotas::read_quotas;
use crate::config::reader::{Effective, Reader};
use crate::config::reload::ReloadSettings;
use crate::config::routes::{
    RouteDefaults, RouteSettings, read_route, refuse_health_path, refuse_routes,
    refuse_unknown_upstreams, warn_of_observing, warn_of_routes,
};
use crate::config::secret::secret;
use crate::config::upstreams::{UpstreamRef, UpstreamSettings, refuse_secrets_of_others};
use crate::config::value::{
    CertificateName, Days, FilePath, HeadBytes, HeadFields, QuotableText, Span,
};
use crate::config::{Environment, SECRET_VARIABLES, Source, valkey};
use crate::http::cors::CorsSettings;
use crate::keys::Prefix;
use crate::leaks::public_keys::KeySource;
use crate::limits::brake::BrakeRules;
use crate::limits::concurrency::ConcurrencyLimit;
use crate::limits::fleet::Server;
use crate::limits::quota::Quota;
use crate::proxy::OriginUrl;
use crate::proxy::pool::OriginScheme;
use crate::routes::PathCase;
use crate::store::{DatabaseUrl, Keep};
use crate::telemetry::access_log::Sink;
use crate::telemetry::process_log::Format;
use crate::tls::origin::{OriginTls, OriginTlsFiles};
use crate::tls::pem::PairFiles;

/// Validated settings of `gateway serve`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Public listener.
    pub listen: ListenSettings,
    /// Admin listener.
    pub admin: AdminSettings,
    /// Default upstream, and connections to all origins.
    pub origin: OriginSettings,
    /// Protection space in challenges (RFC 9110, section 11.5).
    pub realm: String,
    /// Kinds of credentials of the default route, and the places that they may come from.
    pub auth: (Methods, KeySources),
    /// What pages of other origins may do on the default route, and where no route is known.
    pub cors: CorsSettings,
    /// Store and key prefix.
    pub store: StoreSettings,
    /// Destination of access-log lines.
    pub access_log: Sink,
    /// Format of the process log.
    pub log_format: Format,
    /// Upstreams.
    pub upstreams: Vec<UpstreamSettings>,
    /// Routes; without any, one default route leads to [`OriginSettings::url`].
    pub routes: Vec<RouteSettings>,
    /// Issuers of tokens.
    pub issuers: Vec<IssuerRules>,
    /// Brake on bad keys; `None` switches it off.
    pub brake: Option<BrakeRules>,
    /// Limits.
    pub limits: LimitSettings,
    /// `[[concurrency_limits]]`.
    pub concurrency: Vec<ConcurrencyLimit>,
    /// `[[quotas]]`.
    pub quotas: Vec<Quota>,
    /// Server through which gateways share them.
    pub valkey: Option<Server>,
    /// Source of GitHub's public keys; without one, its leak reports are refused.
    pub github_keys: Option<KeySource>,
    /// How settings are taken over while the gateway runs.
    pub reload: ReloadSettings,
    /// Sections that the program registered, with the rules made of them.
    pub own: OwnSettings,
    /// Files that secrets were read from.
    pub secret_files: Vec<PathBuf>,
    /// Effective settings, for `gateway check`.
    pub effective: Vec<Effective>,
    /// Likely mistakes.
    pub warnings: Vec<String>,
    /// Where the settings came from.
    pub source: Source,
}

/// `[origin]`: the default upstream, and connections to all origins.
#[derive(Debug, Clone)]
pub struct OriginSettings {
    /// Origin of the default upstream.
    pub url: OriginUrl,
    /// Shared secret, which proves to the origin that a request came through this gateway.
    pub shared_secret: Secret,
    /// Longest silence of a WebSocket in both directions.
    pub tunnel_idle_timeout: Duration,
    /// Timeout of connecting.
    pub connect_timeout: Duration,
    /// Interval between DNS look-ups of an origin.
    pub dns_refresh: Duration,
    /// Timeout of the response head after the request was sent.
    pub first_byte_timeout: Duration,
    /// Longest pause within a response body.
    pub idle_timeout: Duration,
    /// Longest time that an origin may leave data unread.
    pub write_idle_timeout: Duration,
    /// Idle time of a pooled connection.
    pub keep_alive: Duration,
    /// Default of `preserve_host`: whether origins get the client's `Host`.
    pub preserve_host: bool,
    /// Whether every origin compares paths case-sensitively.
    pub path_case: PathCase,
    /// Maximum bytes of a response head, interim responses included.
    pub max_head_bytes: usize,
    /// Maximum header fields of a response.
    pub max_headers: usize,
    /// TLS to origins; present if an address or `[origin.tls]` requires it.
    pub tls: Option<OriginTls>,
}

/// `[store]` and `[keys]`: settings of the commands that use the store.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Database.
    pub url: DatabaseUrl,
    /// Maximum age of the key table while the database is unreachable; `None` means any age.
    pub max_staleness: Option<Duration>,
    /// Snapshot file of the key table, for a start while the database is unreachable.
    pub snapshot: Option<PathBuf>,
    /// Retention of audit and usage.
    pub keep: Keep,
    /// Prefix of new keys.
    pub prefix: Prefix,
}

/// Settings of the commands on the store.
#[derive(Debug, Clone)]
pub struct CommandSettings {
    /// `[store]` and `[keys]`.
    pub store: StoreSettings,
    /// Names of the routes; empty if these settings have none, because the command runs elsewhere
    /// than the gateway or all requests go to one place.
    pub routes: Vec<String>,
}

impl Settings {
    /// Reads every setting; `reader` collects the problems.
    pub(crate) fn read(
        reader: &mut Reader,
        environment: &Environment,
        own: &Registrations,
    ) -> Option<Self> {
        let problems_before = reader.problems().len();
        let shared_secret = secret(reader, environment, "SHARED_SECRET");
        if shared_secret.is_none() && reader.problems().len() == problems_before {
            let message = "no shared secret: set SHARED_SECRET, or SHARED_SECRET_FILE to the path of a file that holds it; `gateway secret new` makes one";
            reader
                .problems()
                .add("SHARED_SECRET", "the environment", message.to_owned());
        }
        let token = secret(reader, environment, "ADMIN_TOKEN");

        let listen = reader.section("listen", ListenSettings::read);
        let admin = AdminSettings::read(reader, token, shared_secret.as_ref());
        let (origin, tls) = reader.section("origin", |section| {
            let origin = OriginSettings::read(section, shared_secret);
            (origin, section.section("tls", read_origin_tls))
        });
        let (realm, methods, key_sources) = reader.section("auth", |section| {
            (
                section.take("realm", QuotableText("postern".to_owned())).0,
                read_methods(section, "methods", &Methods::KEYS),
                read_key_sources(section, &KeySources::default()),
            )
        });
        let cors = reader.section("cors", |section| read_cors(section, &no_cors()));
        let store = StoreSettings::read(reader);
        let github_keys = reader.section("leaks", |section| section.take_optional("github_keys"));
        let (access_log, log_format) = reader.section("log", |section| {
            (
                section.take("access", Sink::Stdout),
                section.take("format", Format::Text),
            )
        });
        let reload = reader.section("reload", ReloadSettings::read);
        let brake = reader.section("brake", read_brake);
        let issuers = read_issuers(reader);
        let upstreams = reader.sections("upstreams", UpstreamSettings::read);
        let upstreams: Vec<UpstreamSettings> = upstreams.into_iter().flatten().collect();
        // Without an origin nothing is served: a problem has been reported.
        let timeouts = origin.as_ref().map_or_else(Default::default, |origin| {
            (origin.first_byte_timeout, origin.idle_timeout)
        });
        let defaults = RouteDefaults {
            preserve_host: origin.as_ref().is_some_and(|origin| origin.preserve_host),
            first_byte_timeout: timeouts.0,
            idle_timeout: timeouts.1,
            max_body_bytes: listen.max_body_bytes,
            max_buffered_bytes: listen.max_buffered_bytes,
            methods: methods.clone(),
            key_sources: key_sources.clone(),
            cors: cors.clone(),
        };
        let routes = reader.sections("routes", |section| read_route(section, &defaults));
        let valkey = valkey::read(reader, environment);
        let limits = LimitSettings::read(reader, &routes, valkey.is_some());
        let concurrency = read_concurrency(reader, &routes);
        let quotas = read_quotas(reader);
        let own = own.read(reader);
        refuse_unknown_upstreams(reader, &upstreams, &routes);
        refuse_health_path(reader, &routes, listen.health_path.as_ref());
        let of_routes: Vec<&Methods> = routes.iter().map(|route| &route.auth).collect();
        let names: Vec<&str> = issuers.iter().map(|issuer| &*issuer.name).collect();
        refuse_unknown_issuers(reader, &names, &methods, &of_routes);
        let shared_secret = origin.as_ref().map(|origin| &origin.shared_secret);
        refuse_secrets_of_others(reader, &upstreams, shared_secret, &admin.tokens);
        let of_upstreams = upstreams.iter().filter_map(UpstreamSettings::own_secret);
        let secrets = shared_secret.into_iter().chain(of_upstreams);
        let shapes = routes.iter().map(|route| route.shape.as_deref());
        let of_origin = "the value has a secret of an origin in it: every origin gets its own in x-shared-secret";
        refuse_secrets_in_headers(reader, shapes.clone(), secrets, of_origin);
        let tokens = admin.tokens.iter().map(|token| &token.secret);
        let of_admin =
            "the value has an admin token in it, with which whoever gets it could change keys";
        refuse_secrets_in_headers(reader, shapes.clone(), tokens, of_admin);
        let claims = issuers.iter().flat_map(IssuerRules::headers_of_claims);
        let claims: Vec<&HeaderName> = claims.collect();
        refuse_claims_in_headers(reader, shapes.clone(), &claims);
        own.refuse_headers_of_others(reader, shapes, claims.into_iter());
        if let Some(origin) = &origin {
            refuse_routes(reader, &routes, origin.path_case);
        }
        let mut warnings = warn_of_routes(&routes);
        warnings.extend(warn_of_observing(&routes, &methods));
        warnings.extend(warn_of_brake(brake.as_ref(), &listen.trusted_proxies));
        let sources = routes
            .iter()
            .map(|route| (&*route.name, &route.key_sources));
        warnings.extend(warn_of_key_sources(&key_sources, sources));

        let default = origin.as_ref().map(|origin| &origin.url);
        let https = |url: &OriginUrl| url.target().scheme() == OriginScheme::Https;
        let of_routes = routes.iter().filter_map(|route| match &route.upstream {
            Some(UpstreamRef::At(url)) => Some(&**url),
            Some(UpstreamRef::Named(_)) | None => None,
        });
        let of_upstreams = upstreams.iter().flat_map(|upstream| &upstream.targets);
        let needed = default
            .into_iter()
            .chain(of_routes)
            .chain(of_upstreams)
            .any(https);
        let tls = if needed || tls.is_some() {
            let loaded = OriginTls::load(&tls.unwrap_or_default());
            loaded
                .map_err(|error| {
                    reader
                        .problems()
                        .add("origin.tls", "its files", error.to_string())
                })
                .ok()
        } else {
            None
        };

        Some(Self {
            listen,
            admin,
            origin: OriginSettings { tls, ..origin? },
            realm,
            auth: methods.with_places(key_sources),
            cors,
            store: store?,
            access_log,
            log_format,
            upstreams,
            routes,
            issuers,
            brake,
            limits,
            concurrency,
            quotas,
            valkey,
            github_keys,
            reload,
            own,
            secret_files: secret_files(reader.effective(), environment),
            effective: reader.effective().to_vec(),
            warnings,
            source: Source::default(),
        })
    }
}

impl OriginSettings {
    fn read(section: &mut Reader, shared_secret: Option<Secret>) -> Option<Self> {
        let url = match OriginUrl::parse("http://127.0.0.1:9000") {
            Ok(default) => section.take("url", default),
            Err(_) => section.take_optional("url")?,
        };
        Some(Self {
            url,
            connect_timeout: section.span("connect_timeout", 2),
            dns_refresh: section.span("dns_refresh", 10),
            first_byte_timeout: section.span("first_byte_timeout", 30),
            idle_timeout: section.span("idle_timeout", 60),
            write_idle_timeout: section.span("write_idle_timeout", 30),
            tunnel_idle_timeout: section.span("tunnel_idle_timeout", 300),
            // Shorter than common servers' idle timeout (uvicorn's 5 s is the shortest), so that
            // the origin seldom closes first.
            keep_alive: section.span("keep_alive", 4),
            preserve_host: section.take("preserve_host", false),
            path_case: if section.take("case_sensitive_paths", false) {
                PathCase::Sensitive
            } else {
                PathCase::Either
            },
            max_head_bytes: section.take("max_head_bytes", HeadBytes(64 * 1024)).0,
            max_headers: section.take("max_headers", HeadFields(96)).0,
            tls: None,
            // Last, so that a missing value hides no problem of the settings above.
            shared_secret: shared_secret?,
        })
    }
}

impl StoreSettings {
    /// Reads `[store]` and `[keys]`.
    pub(crate) fn read(reader: &mut Reader) -> Option<Self> {
        let (url, max_staleness, snapshot, keep) = reader.section("store", |section| {
            let url = match DatabaseUrl::parse(DatabaseUrl::DEFAULT) {
                Ok(default) => Some(section.take("url", default)),
                Err(_) => section.take_optional("url"),
            };
            let max_staleness = section
                .take_optional::<Span>("max_staleness")
                .map(|span| span.0);
            let snapshot = section
                .take_optional::<FilePath>("snapshot")
                .map(|path| path.0);
            let mut kept = |key| section.take_optional::<Days>(key).map(|days| days.0);
            let keep = Keep {
                audit: kept("audit_keep"),
                usage: kept("usage_keep"),
            };
            (url, max_staleness, snapshot, keep)
        });
        let prefix = key_prefix(reader);
        Some(Self {
            url: url?,
            max_staleness,
            snapshot,
            keep,
            prefix,
        })
    }
}

/// Reads `[keys] prefix`.
pub(super) fn key_prefix(reader: &mut Reader) -> Prefix {
    reader.section("keys", |section| section.take("prefix", Prefix::default()))
}

/// Reads `[origin.tls]`; `None` if nothing of it is set.
fn read_origin_tls(section: &mut Reader) -> Option<OriginTlsFiles> {
    let mut file = |key| section.take_optional::<FilePath>(key).map(|file| file.0);
    let (authorities, certificate, key) = (
        file("ca_file"),
        file("client_cert_file"),
        file("client_key_file"),
    );
    let server_name = section
        .take_optional::<CertificateName>("server_name")
        .map(|name| name.0);
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(PairFiles { certificate, key }),
        (None, None) => None,
        (certificate, _) => {
            let missing = if certificate.is_some() {
                "client_key_file"
            } else {
                "client_cert_file"
            };
            section.problem(
                missing,
                "default",
                "a client certificate needs its key, and a key its certificate: set both"
                    .to_owned(),
            );
            None
        }
    };
    let any = authorities.is_some() || client.is_some() || server_name.is_some();
    any.then_some(OriginTlsFiles {
        authorities,
        client,
        server_name,
    })
}

/// Files with secrets: those named by variables or settings, and the settings file if it contains a
/// token or a secret.
fn secret_files(effective: &[Effective], environment: &Environment) -> Vec<PathBuf> {
    let variables = SECRET_VARIABLES.map(|name| format!("{name}_FILE"));
    let mut files: Vec<PathBuf> = variables
        .into_iter()
        .filter_map(|name| environment.variable(&name))
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect();
    for Effective {
        path,
        value,
        source,
    } in effective
    {
        let names_file = ["token_file", "key_file", "secret_file"];
        if names_file.iter().any(|name| path.ends_with(name)) {
            files.push(value.trim_matches('"').into());
        } else if path.ends_with("].token") || path.ends_with("].secret") {
            files.push(source.into());
        }
    }
    files.dedup();
    files
}
