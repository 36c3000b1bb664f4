//! Headers by which proxies speak: who the client is, what it asked for, whom they have let in. A server behind a proxy
//! acts on them, so from anyone else they are a forgery. One table, whoever's they are; what of it passes is a setting.

use std::fmt;

/// The table: names in lower case, and with `*` at the end all that begin so. Sorted by what decides where a name is looked
/// for: its first byte, or after `x-` its third.
///
/// A name belongs here when a proxy, a CDN or a platform writes it for the server behind it, and some server, framework or
/// common recipe acts on it. Names that carry nothing but telemetry (`x-amzn-trace-id`, `x-request-start`) do not.
const TABLE: &[&str] = &[
    // Alibaba's and Akamai's CDN.
    "akamai-*",
    "ali-cdn-real-ip",
    // CDNs.
    "cdn-client-ip",
    "cdn-real-ip",
    "cdn-src-ip",
    // Cloudflare, also what Access says of a user.
    "cf-*",
    // RFC 9440 and its spellings.
    "client-cert*",
    // Rails and PHP take it for the client's address; Azure writes it.
    "client-ip",
    "cloudfront-*",
    "coming-from",
    // Azure's front end.
    "disguised-host",
    // DigitalOcean and Tencent EdgeOne.
    "do-connecting-ip",
    "eo-connecting-ip",
    "fastly-*",
    "fly-*",
    // RFC 7239, and older spellings.
    "forwarded*",
    // IIS and SharePoint: whether it was TLS.
    "front-end-https",
    "http-client-ip",
    "http-forwarded*",
    "http-x-forwarded*",
    "https",
    "incap-client-ip",
    // Linkerd.
    "l5d-*",
    // Between IIS and ASP.NET Core.
    "ms-aspnetcore-*",
    // CGI programs take it for HTTP_PROXY ("httpoxy").
    "proxy",
    "proxy-client-ip",
    // Akka HTTP and Pekko.
    "raw-request-uri",
    // Authelia, CGI's names for a user and an address, Akka HTTP.
    "remote-*",
    "script-name",
    // ingress-nginx and Apache on client certificates.
    "ssl-*",
    // Makes applications write ESI.
    "surrogate-capability",
    "tailscale-*",
    "tls-session-info",
    "true-client-*",
    "was-default-hostname",
    // WebLogic's plug-ins.
    "wl-proxy-*",
    // Which file to send, by Rack::Sendfile and others.
    "x-accel-*",
    "x-akamai-*",
    "x-amzn-mtls-*",
    "x-amzn-oidc-*",
    "x-amzn-tls-*",
    "x-apigateway-*",
    "x-appengine-*",
    // Azure App Service.
    "x-appservice-*",
    "x-arr-*",
    // Proxies that authenticate: oauth2-proxy, Kong, authentik.
    "x-auth-request-*",
    "x-authenticated-*",
    "x-authentik-*",
    "x-azure-*",
    "x-base-url",
    "x-bluecoat-*",
    "x-cdn-client-ip",
    "x-cf-*",
    "x-client-cert*",
    "x-client-dn",
    "x-client-ip",
    "x-client-ssl*",
    "x-client-verify",
    "x-clientcert*",
    "x-cluster-client-ip",
    "x-coming-from",
    "x-context-path",
    "x-custom-ip-authorization",
    "x-endpoint-api-*",
    "x-envoy-*",
    // All that was ever spelled with `X-Forwarded-`, and what was misspelled.
    "x-forward*",
    "x-goog-authenticated-*",
    "x-goog-iap-*",
    "x-google-real-ip",
    "x-host",
    "x-host-override",
    "x-http-destinationurl",
    "x-http-host*",
    // What was asked for, in place of the method. Applications use it too.
    "x-http-method",
    "x-http-method-override",
    "x-https",
    "x-iisnode-*",
    "x-incap-*",
    "x-invoke-*",
    "x-istio-*",
    "x-jwt-assertion",
    "x-matched-path",
    "x-method-override",
    // Next.js: what it says to itself. Its `x-middleware-prefetch` comes from browsers.
    "x-middleware-invoke",
    "x-middleware-next",
    "x-middleware-override-headers",
    "x-middleware-redirect",
    "x-middleware-request-*",
    "x-middleware-rewrite",
    "x-middleware-set-cookie",
    "x-middleware-subrequest*",
    // Azure App Service: the user that it has let in.
    "x-ms-client-principal*",
    "x-ms-original-url",
    "x-ms-token-*",
    "x-nf-*",
    "x-now-route-matches",
    // What was asked for, in place of the path and the host.
    "x-original-*",
    "x-originating-*",
    "x-override-url",
    "x-path-info",
    "x-pomerium-*",
    "x-proxy-*",
    "x-proxyuser-ip",
    "x-real-*",
    "x-remote-*",
    "x-replaced-path",
    "x-request-uri",
    "x-rewrite-*",
    "x-scheme",
    "x-script-name",
    "x-sendfile-type",
    "x-server-name",
    "x-source-ip",
    "x-ssl",
    "x-ssl-*",
    "x-sucuri-*",
    "x-tls-client-*",
    "x-true-client-*",
    "x-true-ip",
    "x-url-scheme",
    "x-vercel-*",
    "x-vouch-*",
    "x-waws-*",
    "x-webauth-*",
];

/// Those that the gateway reads and writes itself: what it believes of them is in what it writes.
const WRITTEN: [&str; 3] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// How many letters there are, each with its part of the table.
const LETTERS: usize = 26;

/// Where the names begin, and where they end, that have a letter first, and those that have it after `x-`.
const INDEX: ([Span; LETTERS], [Span; LETTERS]) = index();

/// A part of [`TABLE`].
#[derive(Clone, Copy)]
struct Span {
    begin: usize,
    end: usize,
}

const fn index() -> ([Span; LETTERS], [Span; LETTERS]) {
    let (mut first, mut third) = (
        [Span { begin: 0, end: 0 }; LETTERS],
        [Span { begin: 0, end: 0 }; LETTERS],
    );
    let mut row = 0;
    while row < TABLE.len() {
        let name = TABLE[row].as_bytes();
        let (spans, letter) = if name[0] == b'x' && name[1] == b'-' {
            (&mut third, name[2])
        } else {
            (&mut first, name[0])
        };
        let span = &mut spans[(letter - b'a') as usize];
        if span.end == 0 {
            span.begin = row;
        }
        span.end = row + 1;
        row += 1;
    }
    (first, third)
}

/// Whether proxies speak by `name`, which is in lower case.
#[must_use]
pub fn is_spoken_by_proxies(name: &str) -> bool {
    let (spans, letter) = match name.as_bytes() {
        [b'x', b'-', letter, ..] => (&INDEX.1, letter),
        [letter, ..] => (&INDEX.0, letter),
        [] => return false,
    };
    let span = letter
        .checked_sub(b'a')
        .and_then(|letter| spans.get(usize::from(letter)));
    let rows = span.and_then(|span| TABLE.get(span.begin..span.end));
    rows.unwrap_or_default()
        .iter()
        .any(|row| match row.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *row,
        })
}

/// One of the headers by which proxies speak, in lower case, that may be told to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader(Box<str>);

/// Why a name cannot be told to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoProxyHeader {
    /// Not what a header can be called, as far as it reaches the origin.
    #[error("is no header name of letters, digits and \"-\"")]
    Malformed,
    /// The gateway writes it itself.
    #[error("is written by the gateway, which believes `listen.trusted_proxies` about it")]
    Written,
    /// Proxies do not speak by it: nothing keeps it from passing, or it never passes.
    #[error("is none of the headers by which proxies speak, and no setting decides about it")]
    Other,
}

impl ProxyHeader {
    /// Reads a name, in any case.
    ///
    /// # Errors
    /// Why it cannot be told to pass.
    pub fn parse(name: &str) -> Result<Self, NoProxyHeader> {
        let name = name.to_ascii_lowercase();
        let well_formed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty() || !name.bytes().all(well_formed) {
            return Err(NoProxyHeader::Malformed);
        }
        if WRITTEN.contains(&&*name) {
            return Err(NoProxyHeader::Written);
        }
        if !is_spoken_by_proxies(&name) {
            return Err(NoProxyHeader::Other);
        }
        Ok(Self(name.into()))
    }

    /// The name, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of the headers by which proxies speak reach the origin.
#[derive(Debug, Clone, Default)]
pub struct ProxyHeaders {
    /// From trusted proxies.
    pub from_trusted: Vec<ProxyHeader>,
    /// From anyone.
    pub from_anyone: Vec<ProxyHeader>,
}

impl ProxyHeaders {
    /// Whether a header stays here: proxies speak by `name`, in lower case, and nothing lets it pass that came from a trusted
    /// proxy, or not.
    #[must_use]
    pub fn keep_back(&self, name: &str, is_trusted: bool) -> bool {
        if !is_spoken_by_proxies(name) {
            return false;
        }
        let names = |list: &[ProxyHeader]| list.iter().any(|header| *header.0 == *name);
        !(names(&self.from_anyone) || is_trusted && names(&self.from_trusted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands for a row: itself, or itself with more.
    fn spoken(row: &str) -> Vec<String> {
        row.strip_suffix('*').map_or_else(
            || vec![row.to_owned()],
            |prefix| {
                ["", "a", "user-id"]
                    .map(|rest| format!("{prefix}{rest}"))
                    .to_vec()
            },
        )
    }

    #[test]
    fn the_table_is_in_order_and_every_row_is_found() {
        for rows in TABLE.windows(2) {
            assert!(rows[0] < rows[1], "{rows:?}");
            let prefix = rows[0].strip_suffix('*').unwrap_or("\n");
            assert!(!rows[1].starts_with(prefix), "{rows:?}");
        }
        for name in TABLE.iter().flat_map(|row| spoken(row)) {
            assert!(is_spoken_by_proxies(&name), "{name}");
        }
        assert!(WRITTEN.iter().all(|name| is_spoken_by_proxies(name)));
    }

    #[test]
    fn names_of_browsers_and_applications_are_not_in_the_table() {
        for name in [
            "",
            "-",
            "x",
            "x-",
            "x-1",
            "1",
            "accept",
            "accept-encoding",
            "accept-language",
            "authorization",
            "baggage",
            "cache-control",
            "cdn-loop",
            "client",
            "content-encoding",
            "content-length",
            "content-type",
            "cookie",
            "date",
            "device-memory",
            "dnt",
            "early-data",
            "expect",
            "from",
            "host",
            "http2-settings",
            "idempotency-key",
            "if-match",
            "if-modified-since",
            "if-none-match",
            "if-range",
            "last-event-id",
            "link",
            "max-forwards",
            "origin",
            "pragma",
            "prefer",
            "priority",
            "range",
            "referer",
            "save-data",
            "sec-ch-ua",
            "sec-fetch-mode",
            "sec-websocket-key",
            "te",
            "traceparent",
            "tracestate",
            "user-agent",
            "upgrade-insecure-requests",
            "via",
            "x-access-token",
            "x-amz-content-sha256",
            "x-amz-date",
            "x-amzn-trace-id",
            "x-api-key",
            "x-auth-token",
            "x-b3-traceid",
            "x-client-version",
            "x-cloud-trace-context",
            "x-correlation-id",
            "x-csrf-token",
            "x-custom",
            "x-datadog-trace-id",
            "x-file-name",
            "x-github-event",
            "x-goog-api-key",
            "x-hub-signature-256",
            "x-http",
            "x-inertia",
            "x-livewire",
            "x-many",
            "x-middleware-prefetch",
            "x-nextjs-data",
            "x-ms-version",
            "x-powered-by",
            "x-request-id",
            "x-request-start",
            "x-requested-with",
            "x-session-id",
            "x-stripe-signature",
            "x-tenant-id",
            "x-trace",
            "x-user-id",
            "x-version",
            "x-xsrf-token",
            "proxies",
            "proxy-connection",
            "sslx",
            "x-forwar",
        ] {
            assert!(!is_spoken_by_proxies(name), "{name}");
        }
    }

    #[test]
    fn what_passes_is_what_a_setting_names_and_whose_it_is() {
        let header = |name| ProxyHeader::parse(name).unwrap();
        let rules = ProxyHeaders {
            from_trusted: vec![header("CF-Connecting-IP")],
            from_anyone: vec![header("X-HTTP-Method-Override")],
        };
        for (name, is_trusted, stays) in [
            ("cf-connecting-ip", true, false),
            ("cf-connecting-ip", false, true),
            ("cf-ipcountry", true, true),
            ("x-http-method-override", true, false),
            ("x-http-method-override", false, false),
            ("x-http-method", false, true),
            ("x-forwarded-for", true, true),
            ("accept", false, false),
        ] {
            assert_eq!(
                rules.keep_back(name, is_trusted),
                stays,
                "{name} {is_trusted}"
            );
        }
    }

    #[test]
    fn only_headers_of_the_class_can_be_told_to_pass() {
        for (name, wanted) in [
            ("True-Client-IP", Ok("true-client-ip")),
            ("X-FORWARDED-PORT", Ok("x-forwarded-port")),
            ("forwarded", Ok("forwarded")),
            ("X-Forwarded-For", Err(NoProxyHeader::Written)),
            ("x-forwarded-host", Err(NoProxyHeader::Written)),
            ("x-forwarded-proto", Err(NoProxyHeader::Written)),
            ("", Err(NoProxyHeader::Malformed)),
            ("cf_connecting_ip", Err(NoProxyHeader::Malformed)),
            ("cf-*", Err(NoProxyHeader::Malformed)),
            ("cf-connecting-ip ", Err(NoProxyHeader::Malformed)),
            ("x-shared-secret", Err(NoProxyHeader::Other)),
            ("x-consumer-id", Err(NoProxyHeader::Other)),
            ("authorization", Err(NoProxyHeader::Other)),
            ("connection", Err(NoProxyHeader::Other)),
            ("via", Err(NoProxyHeader::Other)),
            ("accept", Err(NoProxyHeader::Other)),
        ] {
            let parsed = ProxyHeader::parse(name);
            assert_eq!(
                parsed
                    .as_ref()
                    .map(ProxyHeader::as_str)
                    .map_err(|error| *error),
                wanted,
                "{name:?}"
            );
        }
    }
}
