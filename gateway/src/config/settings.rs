//! The list of settings: where each stands, what it defaults to, and which secrets come with them.

use std::path::PathBuf;
use std::time::Duration;

use postern_shared::Secret;

use crate::config::Environment;
use crate::config::admin::AdminSettings;
use crate::config::listen::ListenSettings;
use crate::config::reader::{Effective, Reader};
use crate::config::routes::{
    RouteSettings, read_route, refuse_routes, refuse_unknown_upstreams, warn_of_routes,
};
use crate::config::upstreams::{UpstreamRef, UpstreamSettings};
use crate::config::value::{
    CertificateName, Days, FilePath, HeadBytes, HeadFields, QuotableText, Span,
};
use crate::keys::Prefix;
use crate::leaks::public_keys::KeySource;
use crate::proxy::OriginUrl;
use crate::proxy::pool::OriginScheme;
use crate::routes::PathCase;
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
        let routes = reader.sections("routes", |section| read_route(section, preserve_host));
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
            // Shorter than what common servers keep (uvicorn 5 s is the shortest), so that they seldom close first.
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
