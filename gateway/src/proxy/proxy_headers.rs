//! Headers that proxies set for the server behind them: client address, original request,
//! authenticated user. Servers trust them, so from anyone but a trusted proxy they are forgeries.
//! One table for all products; the settings decide which pass.

use std::fmt;

/// Names in lower case; a trailing `*` matches any suffix. Sorted by the indexed letter: the first,
/// or the one after `x-`.
///
/// A name belongs here if a proxy, CDN or platform writes it for the server behind, and some
/// server, framework or common recipe acts on it. Mere telemetry (`x-amzn-trace-id`,
/// `x-request-start`) does not.
const TABLE: &[&str] = &[
    // Alibaba's and Akamai's CDNs.
    "akamai-*",
    "ali-cdn-real-ip",
    // CDNs.
    "cdn-client-ip",
    "cdn-real-ip",
    "cdn-src-ip",
    // Cloudflare, including the user that Access authenticated.
    "cf-*",
    // RFC 9440 and variants.
    "client-cert*",
    // Client address for Rails and PHP; Azure writes it.
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
    // RFC 7239 and older spellings.
    "forwarded*",
    // IIS and SharePoint: request came over TLS.
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
    // CGI programs read it as HTTP_PROXY ("httpoxy").
    "proxy",
    "proxy-client-ip",
    // Akka HTTP and Pekko.
    "raw-request-uri",
    // Authelia; CGI's names for user and address; Akka HTTP.
    "remote-*",
    "script-name",
    // ingress-nginx and Apache: client certificates.
    "ssl-*",
    // Makes applications write ESI.
    "surrogate-capability",
    "tailscale-*",
    "tls-session-info",
    "true-client-*",
    "was-default-hostname",
    // WebLogic's plug-ins.
    "wl-proxy-*",
    // File to send, for Rack::Sendfile and others.
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
    // Authenticating proxies: oauth2-proxy, Kong, authentik.
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
    // Every spelling of `X-Forwarded-`, misspellings included.
    "x-forward*",
    "x-goog-authenticated-*",
    "x-goog-iap-*",
    "x-google-real-ip",
    "x-host",
    "x-host-override",
    "x-http-destinationurl",
    "x-http-host*",
    // Method override. Applications use it too.
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
    // Next.js internals. Its `x-middleware-prefetch` comes from browsers.
    "x-middleware-invoke",
    "x-middleware-next",
    "x-middleware-override-headers",
    "x-middleware-redirect",
    "x-middleware-request-*",
    "x-middleware-rewrite",
    "x-middleware-set-cookie",
    "x-middleware-subrequest*",
    // Azure App Service: authenticated user.
    "x-ms-client-principal*",
    "x-ms-original-url",
    "x-ms-token-*",
    "x-nf-*",
    "x-now-route-matches",
    // Path and host override.
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

/// Names that the gateway reads and rewrites itself, so that only trusted parts remain.
const WRITTEN: [&str; 3] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// Number of letters in the index.
const LETTERS: usize = 26;

/// Ranges of the names by first letter, and of those by the letter after `x-`.
const INDEX: ([Span; LETTERS], [Span; LETTERS]) = index();

/// Range of [`TABLE`].
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

/// Whether `name`, in lower case, is in the table.
#[must_use]
pub fn is_proxy_header(name: &str) -> bool {
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

/// A header of the table, in lower case, that the settings may let pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader(Box<str>);

/// The name cannot be let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxyHeader {
    /// Not a header name, or not one that reaches the origin.
    #[error("is no header name of letters, digits and \"-\"")]
    Malformed,
    /// The gateway sets it itself.
    #[error("is set by the gateway itself, which trusts `listen.trusted_proxies` about it")]
    Written,
    /// Not in the table: it passes anyway, or never.
    #[error("is not a known proxy header, so no setting applies to it")]
    Other,
}

impl ProxyHeader {
    /// Parses a name, in any case.
    ///
    /// # Errors
    /// Why the settings cannot let it pass.
    pub fn parse(name: &str) -> Result<Self, InvalidProxyHeader> {
        let name = name.to_ascii_lowercase();
        let well_formed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty() || !name.bytes().all(well_formed) {
            return Err(InvalidProxyHeader::Malformed);
        }
        if WRITTEN.contains(&&*name) {
            return Err(InvalidProxyHeader::Written);
        }
        if !is_proxy_header(&name) {
            return Err(InvalidProxyHeader::Other);
        }
        Ok(Self(name.into()))
    }

    /// Name in lower case.
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

/// Proxy headers that reach the origin.
#[derive(Debug, Clone, Default)]
pub struct ProxyHeaders {
    /// From trusted proxies.
    pub from_trusted: Vec<ProxyHeader>,
    /// From anyone.
    pub from_anyone: Vec<ProxyHeader>,
}

impl ProxyHeaders {
    /// Whether to remove the header: `name`, in lower case, is in the table and not let pass for
    /// this kind of peer.
    #[must_use]
    pub fn blocks(&self, name: &str, is_trusted: bool) -> bool {
        if !is_proxy_header(name) {
            return false;
        }
        let names = |list: &[ProxyHeader]| list.iter().any(|header| *header.0 == *name);
        !(names(&self.from_anyone) || is_trusted && names(&self.from_trusted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that a row matches: the row itself, and the row with a suffix.
    fn matching_names(row: &str) -> Vec<String> {
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
        for name in TABLE.iter().flat_map(|row| matching_names(row)) {
            assert!(is_proxy_header(&name), "{name}");
        }
        assert!(WRITTEN.iter().all(|name| is_proxy_header(name)));
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
            assert!(!is_proxy_header(name), "{name}");
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
            assert_eq!(rules.blocks(name, is_trusted), stays, "{name} {is_trusted}");
        }
    }

    #[test]
    fn only_headers_of_the_class_can_be_told_to_pass() {
        for (name, wanted) in [
            ("True-Client-IP", Ok("true-client-ip")),
            ("X-FORWARDED-PORT", Ok("x-forwarded-port")),
            ("forwarded", Ok("forwarded")),
            ("X-Forwarded-For", Err(InvalidProxyHeader::Written)),
            ("x-forwarded-host", Err(InvalidProxyHeader::Written)),
            ("x-forwarded-proto", Err(InvalidProxyHeader::Written)),
            ("", Err(InvalidProxyHeader::Malformed)),
            ("cf_connecting_ip", Err(InvalidProxyHeader::Malformed)),
            ("cf-*", Err(InvalidProxyHeader::Malformed)),
            ("cf-connecting-ip ", Err(InvalidProxyHeader::Malformed)),
            ("x-shared-secret", Err(InvalidProxyHeader::Other)),
            ("x-consumer-id", Err(InvalidProxyHeader::Other)),
            ("authorization", Err(InvalidProxyHeader::Other)),
            ("connection", Err(InvalidProxyHeader::Other)),
            ("via", Err(InvalidProxyHeader::Other)),
            ("accept", Err(InvalidProxyHeader::Other)),
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
