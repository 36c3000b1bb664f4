//! `[listen]`: settings of the public listener.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::public_url::PublicUrl;
use crate::config::reader::Reader;
use crate::config::value::{Count, FilePath, HeadBytes, HeadFields, Streams};
use crate::front::certificates::ServerPair;
use crate::http::health_path::HealthPath;
use crate::keys::AddressRange;
use crate::proxy::proxy_headers::{ProxyHeader, ProxyHeaders};
use crate::tls::pem::PairFiles;

/// `[listen]`: the public listener.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    /// Listening address.
    pub address: SocketAddr,
    /// URL that clients know the gateway by.
    pub public_url: Option<PublicUrl>,
    /// Path of the health check.
    pub health_path: Option<HealthPath>,
    /// Worker threads.
    pub workers: usize,
    /// Proxies whose `X-Forwarded-…` headers are trusted.
    pub trusted_proxies: Vec<AddressRange>,
    /// Proxy headers that reach the origin.
    pub proxy_headers: ProxyHeaders,
    /// Whether only the trusted proxies may connect, with a PROXY protocol header on each
    /// connection.
    pub proxy_protocol: bool,
    /// Maximum of connections over all workers; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Maximum of requests in flight over all workers, bodies included; further ones are refused at
    /// once.
    pub max_requests_in_flight: usize,
    /// Maximum of requests in flight per key, and of all anonymous ones; by default a quarter.
    pub max_requests_in_flight_per_key: Option<usize>,
    /// Maximum bytes of a request body.
    pub max_body_bytes: u64,
    /// Maximum bytes of memory for request bodies that are buffered.
    pub max_buffered_bytes: u64,
    /// Maximum bytes of a request head.
    pub max_head_bytes: usize,
    /// Maximum header fields of a request.
    pub max_headers: usize,
    /// Timeout of a request head, from its first byte.
    pub head_timeout: Duration,
    /// Longest pause within a request body.
    pub body_idle_timeout: Duration,
    /// Longest time that a client may leave data unread.
    pub write_idle_timeout: Duration,
    /// Idle time of a connection between requests.
    pub keep_alive: Duration,
    /// Time that new connections are accepted after the stop signal.
    pub drain_delay: Duration,
    /// Time that requests may take to finish after that.
    pub drain_timeout: Duration,
    /// Timeout of a TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// Whether HTTP/2 is offered over TLS.
    pub http2: bool,
    /// Whether HTTP/2 with prior knowledge is accepted without TLS (RFC 9113, section 3.3).
    pub http2_prior_knowledge: bool,
    /// Maximum of concurrent HTTP/2 streams per connection.
    pub http2_max_streams: usize,
    /// Certificates. Without any the listener speaks plain HTTP, otherwise TLS only.
    pub certificates: Vec<ServerPair>,
}

impl ListenSettings {
    /// Maximum of requests in flight per key, and of all anonymous ones: the setting, or a quarter.
    #[must_use]
    pub fn share_of_a_key(&self) -> usize {
        self.max_requests_in_flight_per_key
            .unwrap_or(self.max_requests_in_flight.div_ceil(4))
    }

    pub(super) fn read(section: &mut Reader) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let address = section.take("address", SocketAddr::from(([127, 0, 0, 1], 8080)));
        let public_url = section.take_optional("public_url");
        let health_path = section.take_optional("health_path");
        let workers = section.take("workers", Count(cores)).0;
        let before = section.problems().len();
        let (trusted_proxies, proxy_protocol) = read_proxies(section);
        let proxies_are_named = !trusted_proxies.is_empty() || section.problems().len() > before;
        let (max_requests_in_flight, max_requests_in_flight_per_key) = read_in_flight(section);
        Self {
            address,
            public_url,
            health_path,
            workers,
            trusted_proxies,
            proxy_headers: read_proxy_headers(section, proxies_are_named),
            proxy_protocol,
            max_connections: section.take("max_connections", Count(25_000)).0,
            max_requests_in_flight,
            max_requests_in_flight_per_key,
            // Upload limit of the large object stores; bodies stream, so it costs no memory.
            max_body_bytes: section.take("max_body_bytes", 5 * 1024 * 1024 * 1024),
            max_buffered_bytes: section.take("max_buffered_bytes", 256 * 1024 * 1024),
            max_head_bytes: section.take("max_head_bytes", HeadBytes(16 * 1024)).0,
            max_headers: section.take("max_headers", HeadFields(64)).0,
            head_timeout: section.span("head_timeout", 5),
            body_idle_timeout: section.span("body_idle_timeout", 30),
            write_idle_timeout: section.span("write_idle_timeout", 30),
            keep_alive: section.span("keep_alive", 75),
            drain_delay: section.span("drain_delay", 1),
            drain_timeout: section.span("drain_timeout", 25),
            tls_handshake_timeout: section.span("tls_handshake_timeout", 3),
            http2: section.take("http2", true),
            http2_prior_knowledge: section.take("http2_prior_knowledge", false),
            http2_max_streams: section.take("http2_max_streams", Streams(100)).0,
            certificates: section
                .sections("tls", read_server_pair)
                .into_iter()
                .flatten()
                .collect(),
        }
    }
}

/// Reads the in-flight limits, total and per key; the latter cannot exceed the former.
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

/// Reads which proxy headers reach the origin.
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

/// Reads `trusted_proxies` and `proxy_protocol`, which requires them.
fn read_proxies(section: &mut Reader) -> (Vec<AddressRange>, bool) {
    let problems_before = section.problems().len();
    let trusted = section.take_list("trusted_proxies");
    let proxy_protocol = section.take("proxy_protocol", false);
    if proxy_protocol && trusted.is_empty() && section.problems().len() == problems_before {
        let source = section.effective().last();
        let source = source.map_or(String::new(), |effective| effective.source.clone());
        let message = "the header is accepted from listen.trusted_proxies only, and there are none: set them to the addresses of your load balancer, such as [\"10.0.0.0/8\"]".to_owned();
        section.problem("proxy_protocol", &source, message);
    }
    (trusted, proxy_protocol)
}

/// Reads one of `[[listen.tls]]` or `[[admin.tls]]`.
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
