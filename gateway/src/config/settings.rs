//! The list of settings: where each stands, what it defaults to, and which secrets come with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use postern_shared::Secret;

use crate::auth::demand::Demand;
use crate::config::Environment;
use crate::config::admin::AdminSettings;
use crate::config::reader::{Effective, Reader};
use crate::config::routes::{refuse_routes, warn_of_routes};
use crate::config::upstreams::{UpstreamRef, UpstreamSettings, refuse_unknown_upstreams};
use crate::config::value::{
    CertificateName, Count, Days, FilePath, HeadBytes, HeadFields, HostName, QuotableText, Span,
};
use crate::front::certificates::ServerPair;
use crate::http::health_path::HealthPath;
use crate::keys::{AddressRange, Prefix};
use crate::leaks::public_keys::KeySource;
use crate::proxy::OriginUrl;
use crate::proxy::pool::OriginScheme;
use crate::proxy::proxy_headers::{ProxyHeader, ProxyHeaders};
use crate::routes::{MethodName, PathCase, PathPrefix};
use crate::store::{DatabaseUrl, Keep};
use crate::telemetry::access_log::Sink;
use crate::telemetry::process_log::Format;
use crate::tls::origin::{OriginTls, OriginTlsFiles};
use crate::tls::pem::PairFiles;

/// Everything that `gateway serve` needs, proven.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The public listener.
    pub listen: ListenSettings,
    /// The admin listener.
    pub admin: AdminSettings,
    /// The default upstream, and how every origin is talked to.
    pub origin: OriginSettings,
    /// The protection space named in challenges (RFC 9110, section 11.5).
    pub realm: String,
    /// The store and what keys look like.
    pub store: StoreSettings,
    /// Where access-log lines go.
    pub access_log: Sink,
    /// How lines of the process log are written.
    pub log_format: Format,
    /// The upstreams of the file.
    pub upstreams: Vec<UpstreamSettings>,
    /// The routes of the file; none means one default route to [`OriginSettings::url`].
    pub routes: Vec<RouteSettings>,
    /// Where GitHub's public keys come from; without a source its reports of leaked keys are refused.
    pub github_keys: Option<KeySource>,
    /// Files that secrets were read from.
    pub secret_files: Vec<PathBuf>,
    /// What is in force, for `gateway check`.
    pub effective: Vec<Effective>,
    /// What is accepted and may not be meant.
    pub warnings: Vec<String>,
}

/// `[listen]`: the public listener.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// The path by which load balancers ask whether requests are taken.
    pub health_path: Option<HealthPath>,
    /// Threads that serve requests.
    pub workers: usize,
    /// Proxies whose `X-Forwarded-…` headers are believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// Which of the headers by which proxies speak reach the origin.
    pub proxy_headers: ProxyHeaders,
    /// Whether the trusted proxies, and they alone, connect, and announce each connection with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Most connections at once over all workers; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Most requests in flight over all workers, bodies included; more are refused at once.
    pub max_requests_in_flight: usize,
    /// Most of them by one key, and by all without a key; without it a quarter.
    pub max_requests_in_flight_per_key: Option<usize>,
    /// Most bytes of a request body.
    pub max_body_bytes: u64,
    /// Most bytes of a request head.
    pub max_head_bytes: usize,
    /// Most header fields of a request.
    pub max_headers: usize,
    /// How long a request head may take, from its first byte.
    pub head_timeout: Duration,
    /// How long a request body may pause.
    pub body_idle_timeout: Duration,
    /// How long a client may leave what it was sent unread.
    pub write_idle_timeout: Duration,
    /// How long a connection stays open between requests.
    pub keep_alive: Duration,
    /// How long new connections are taken once the gateway is told to stop.
    pub drain_delay: Duration,
    /// How long requests may take to finish once the gateway stops.
    pub drain_timeout: Duration,
    /// How long a TLS handshake may take.
    pub tls_handshake_timeout: Duration,
    /// The certificates; with none the listener speaks plain HTTP, with any it speaks TLS only.
    pub certificates: Vec<ServerPair>,
}

/// `[origin]`: the default upstream, and how every origin is talked to.
#[derive(Debug, Clone)]
pub struct OriginSettings {
    /// Where requests go that no route sends elsewhere.
    pub url: OriginUrl,
    /// The proof that a request came through this gateway.
    pub shared_secret: Secret,
    /// How long a WebSocket may be silent in both directions.
    pub tunnel_idle_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// After how long the name of an origin is looked up again.
    pub dns_refresh: Duration,
    /// How long the head of an answer may take once the request was sent.
    pub first_byte_timeout: Duration,
    /// How long the body of an answer may pause.
    pub idle_timeout: Duration,
    /// How long an origin may leave what it was sent unread.
    pub write_idle_timeout: Duration,
    /// How long an idle connection to an origin is kept for the next request.
    pub keep_alive: Duration,
    /// Whether origins see the client's `Host` in place of their own, on routes that do not say.
    pub preserve_host: bool,
    /// Whether every origin tells `/Admin` from `/admin`.
    pub path_case: PathCase,
    /// Most bytes of the head of an answer, its interim answers included.
    pub max_head_bytes: usize,
    /// Most header fields of an answer.
    pub max_headers: usize,
    /// How origins at `https://` are spoken to; there when an address or `[origin.tls]` asks for it.
    pub tls: Option<OriginTls>,
}

/// `[store]` and `[keys]`: what the commands that work on the store need.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The database.
    pub url: DatabaseUrl,
    /// How old the table of keys may get while the database is away before requests are refused; `None` is any age.
    pub max_staleness: Option<Duration>,
    /// Where the table of keys is saved, for a start while the database is away.
    pub snapshot: Option<PathBuf>,
    /// How long audit and usage are kept.
    pub keep: Keep,
    /// What new keys begin with.
    pub prefix: Prefix,
}

/// One of `[[routes]]`.
#[derive(Debug, Clone)]
pub struct RouteSettings {
    /// What logs call it.
    pub name: String,
    /// Hosts that it answers to; none means every host.
    pub hosts: Vec<HostName>,
    /// The path that it covers, and everything below.
    pub path: PathPrefix,
    /// Methods that it takes; none means every known one.
    pub methods: Vec<MethodName>,
    /// Where its requests go; none means the default upstream.
    pub upstream: Option<UpstreamRef>,
    /// What its callers have to satisfy.
    pub demand: Demand,
    /// Whether the origin sees the client's `Host` in place of its own.
    pub preserve_host: bool,
    /// Whether the origin is sent the consumer's metadata.
    pub forward_metadata: bool,
    /// Whether the origin's own address is taken off `Location` and `Content-Location`.
    pub rewrite_location: bool,
    /// Whether paths pass that gateway and origin could read differently.
    pub allow_ambiguous_path: bool,
}

impl Settings {
    /// Takes every setting; what is wrong is remembered by `reader`.
    pub(crate) fn read(reader: &mut Reader, environment: &Environment) -> Option<Self> {
        let problems_before = reader.problems().len();
        let shared_secret = secret(reader, environment, "SHARED_SECRET");
        if shared_secret.is_none() && reader.problems().len() == problems_before {
            let message = "no shared secret: set SHARED_SECRET, or SHARED_SECRET_FILE to the path of a file that holds it; `gateway secret new` makes one";
            reader
                .problems()
                .add("SHARED_SECRET", "the environment", message.to_owned());
        }
        let token = secret(reader, environment, "ADMIN_TOKEN");
        if environment
            .variable("VALKEY_URL")
            .is_some_and(|url| !url.is_empty())
        {
            let message = "shared rate limits are not part of this version: unset it".to_owned();
            reader
                .problems()
                .add("VALKEY_URL", "the environment", message);
        }

        let listen = reader.section("listen", ListenSettings::read);
        let admin = AdminSettings::read(reader, token, shared_secret.as_ref());
        let (origin, tls) = reader.section("origin", |section| {
            let origin = OriginSettings::read(section, shared_secret);
            (origin, section.section("tls", read_origin_tls))
        });
        let realm = reader.section("auth", |section| {
            section.take("realm", QuotableText("postern".to_owned())).0
        });
        let store = StoreSettings::read(reader);
        let github_keys = reader.section("leaks", |section| section.take_optional("github_keys"));
        let (access_log, log_format) = reader.section("log", |section| {
            (
                section.take("access", Sink::Stdout),
                section.take("format", Format::Text),
            )
        });
        let upstreams = reader.sections("upstreams", UpstreamSettings::read);
        let upstreams: Vec<UpstreamSettings> = upstreams.into_iter().flatten().collect();
        let preserve_host = origin.as_ref().is_some_and(|origin| origin.preserve_host);
        let routes = reader.sections("routes", |section| {
            RouteSettings::read(section, preserve_host)
        });
        refuse_unknown_upstreams(reader, &upstreams, &routes);
        if let Some(origin) = &origin {
            refuse_routes(reader, &routes, origin.path_case);
        }
        let warnings = warn_of_routes(&routes);

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
            store: store?,
            access_log,
            log_format,
            upstreams,
            routes,
            github_keys,
            secret_files: secret_files(reader.effective(), environment),
            effective: reader.effective().to_vec(),
            warnings,
        })
    }
}

impl ListenSettings {
    /// Most requests in flight by one key, and by all without a key: what is set, or a quarter.
    #[must_use]
    pub fn share_of_a_key(&self) -> usize {
        self.max_requests_in_flight_per_key
            .unwrap_or(self.max_requests_in_flight.div_ceil(4))
    }

    fn read(section: &mut Reader) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let address = section.take("address", SocketAddr::from(([127, 0, 0, 1], 8080)));
        let health_path = section.take_optional("health_path");
        let workers = section.take("workers", Count(cores)).0;
        let before = section.problems().len();
        let (trusted_proxies, proxy_protocol) = read_proxies(section);
        let proxies_are_named = !trusted_proxies.is_empty() || section.problems().len() > before;
        let (max_requests_in_flight, max_requests_in_flight_per_key) = read_in_flight(section);
        Self {
            address,
            health_path,
            workers,
            trusted_proxies,
            proxy_headers: read_proxy_headers(section, proxies_are_named),
            proxy_protocol,
            max_connections: section.take("max_connections", Count(25_000)).0,
            max_requests_in_flight,
            max_requests_in_flight_per_key,
            // As much as the large object stores take in one upload; bodies stream, so it costs no memory.
            max_body_bytes: section.take("max_body_bytes", 5 * 1024 * 1024 * 1024),
            max_head_bytes: section.take("max_head_bytes", HeadBytes(16 * 1024)).0,
            max_headers: section.take("max_headers", HeadFields(64)).0,
            head_timeout: span(section, "head_timeout", 5),
            body_idle_timeout: span(section, "body_idle_timeout", 30),
            write_idle_timeout: span(section, "write_idle_timeout", 30),
            keep_alive: span(section, "keep_alive", 75),
            drain_delay: span(section, "drain_delay", 1),
            drain_timeout: span(section, "drain_timeout", 25),
            tls_handshake_timeout: span(section, "tls_handshake_timeout", 3),
            certificates: section
                .sections("tls", read_server_pair)
                .into_iter()
                .flatten()
                .collect(),
        }
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
            connect_timeout: span(section, "connect_timeout", 2),
            dns_refresh: span(section, "dns_refresh", 10),
            first_byte_timeout: span(section, "first_byte_timeout", 30),
            idle_timeout: span(section, "idle_timeout", 60),
            write_idle_timeout: span(section, "write_idle_timeout", 30),
            tunnel_idle_timeout: span(section, "tunnel_idle_timeout", 300),
            // Shorter than what common servers keep (uvicorn 5 s is the shortest), so that they seldom close first.
            keep_alive: span(section, "keep_alive", 4),
            preserve_host: section.take("preserve_host", false),
            path_case: if section.take("case_sensitive_paths", false) {
                PathCase::Sensitive
            } else {
                PathCase::Either
            },
            max_head_bytes: section.take("max_head_bytes", HeadBytes(64 * 1024)).0,
            max_headers: section.take("max_headers", HeadFields(96)).0,
            tls: None,
            // Last, so that what is missing hides no problem of the settings above.
            shared_secret: shared_secret?,
        })
    }
}

impl StoreSettings {
    /// Takes `[store]` and `[keys]`.
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

/// Takes `[keys] prefix`.
pub(super) fn key_prefix(reader: &mut Reader) -> Prefix {
    reader.section("keys", |section| section.take("prefix", Prefix::default()))
}

impl RouteSettings {
    fn read(section: &mut Reader, preserve_host: bool) -> Self {
        let path = section.take("path", PathPrefix::default());
        Self {
            name: section.take("name", QuotableText(path.to_string())).0,
            hosts: section.take_list("hosts"),
            path,
            methods: section.take_list("methods"),
            upstream: section.take_optional("upstream"),
            demand: Demand {
                buckets: section.take_list("buckets"),
                scopes: section.take_list("scopes"),
                on_missing_key: section.take("on_missing_key", Demand::ANY_KEY.on_missing_key),
            },
            preserve_host: section.take("preserve_host", preserve_host),
            forward_metadata: section.take("forward_metadata", false),
            rewrite_location: section.take("rewrite_location", true),
            allow_ambiguous_path: section.take("allow_ambiguous_path", false),
        }
    }
}

/// Takes how many requests may be in flight, of all and of one key, which cannot be more.
fn read_in_flight(section: &mut Reader) -> (usize, Option<usize>) {
    let all = section.take("max_requests_in_flight", Count(10_000)).0;
    let key = "max_requests_in_flight_per_key";
    let of_one = section.take_optional::<Count>(key).map(|count| count.0);
    if let Some(of_one) = of_one.filter(|of_one| *of_one > all) {
        let source = section.effective().last();
        let source = source.map_or(String::new(), |effective| effective.source.clone());
        let message = format!(
            "{of_one} is more than the {all} of listen.max_requests_in_flight, which all keys share: accepted is 1 to {all}"
        );
        section.problem(key, &source, message);
    }
    (all, of_one)
}

/// Takes which of the headers by which proxies speak reach the origin.
fn read_proxy_headers(section: &mut Reader, proxies_are_named: bool) -> ProxyHeaders {
    let from_trusted: Vec<ProxyHeader> = section.take_list("trusted_proxy_headers");
    let from_anyone: Vec<ProxyHeader> = section.take_list("proxy_headers_from_anyone");
    if !from_trusted.is_empty() && !proxies_are_named {
        let message = "no proxy is trusted, so it lets nothing pass: name the proxies in listen.trusted_proxies".to_owned();
        section.problem("trusted_proxy_headers", "the settings", message);
    }
    for header in from_anyone
        .iter()
        .filter(|header| from_trusted.contains(header))
    {
        let message = format!(
            "{header} is in trusted_proxy_headers too, as if only trusted proxies could send it: take it out of one of them"
        );
        section.problem("proxy_headers_from_anyone", "the settings", message);
    }
    ProxyHeaders {
        from_trusted,
        from_anyone,
    }
}

/// Takes `trusted_proxies` and `proxy_protocol`, which says nothing that could be believed without them.
fn read_proxies(section: &mut Reader) -> (Vec<AddressRange>, bool) {
    let problems_before = section.problems().len();
    let trusted = section.take_list("trusted_proxies");
    let proxy_protocol = section.take("proxy_protocol", false);
    if proxy_protocol && trusted.is_empty() && section.problems().len() == problems_before {
        let source = section.effective().last();
        let source = source.map_or(String::new(), |effective| effective.source.clone());
        let message = "the header is believed from listen.trusted_proxies only, and there are none: set them to the addresses of your load balancer, such as [\"10.0.0.0/8\"]".to_owned();
        section.problem("proxy_protocol", &source, message);
    }
    (trusted, proxy_protocol)
}

/// Takes one of `[[listen.tls]]` or `[[admin.tls]]`.
pub(super) fn read_server_pair(section: &mut Reader) -> Option<ServerPair> {
    let mut file = |key| {
        let before = section.problems().len();
        let file = section.take_optional::<FilePath>(key);
        if file.is_none() && section.problems().len() == before {
            section.problem(
                key,
                "the file",
                "a certificate and its key are needed: set cert_file and key_file".to_owned(),
            );
        }
        file.map(|file| file.0)
    };
    let (certificate, key) = (file("cert_file"), file("key_file"));
    let files = PairFiles {
        certificate: certificate?,
        key: key?,
    };
    let of_the_key = files.key.clone();
    ServerPair::load(files)
        .map_err(|error| {
            let key = if error.file == of_the_key {
                "key_file"
            } else {
                "cert_file"
            };
            section.problem(key, "its file", error.to_string());
        })
        .ok()
}

/// Takes `[origin.tls]`; none when nothing of it is set.
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

/// The files that secrets were read from: those that variables name, those that settings name, and the file of the settings
/// where a token stands in it.
fn secret_files(effective: &[Effective], environment: &Environment) -> Vec<PathBuf> {
    let variables = [
        "SHARED_SECRET_FILE",
        "ADMIN_TOKEN_FILE",
        "DATABASE_URL_FILE",
    ];
    let mut files: Vec<PathBuf> = variables
        .into_iter()
        .filter_map(|name| environment.variable(name))
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect();
    for Effective {
        path,
        value,
        source,
    } in effective
    {
        if path.ends_with("token_file") || path.ends_with("key_file") {
            files.push(value.trim_matches('"').into());
        } else if path.ends_with("].token") {
            files.push(source.into());
        }
    }
    files.dedup();
    files
}

pub(super) fn span(section: &mut Reader, key: &str, default_seconds: u64) -> Duration {
    section
        .take(key, Span(Duration::from_secs(default_seconds)))
        .0
}

/// A secret from the environment; what is in force is shown redacted.
fn secret(reader: &mut Reader, environment: &Environment, name: &str) -> Option<Secret> {
    let text = environment.secret(name, reader.problems())?;
    match Secret::parse(&text) {
        Ok(secret) => {
            reader.note(
                name,
                "\"[redacted]\"".to_owned(),
                "the environment".to_owned(),
            );
            Some(secret)
        }
        Err(error) => {
            reader
                .problems()
                .add(name, "the environment", error.to_string());
            None
        }
    }
}
