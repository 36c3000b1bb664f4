//! `[listen]`: the settings of the public listener.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::value::{Count, FilePath, HeadBytes, HeadFields};
use crate::front::certificates::ServerPair;
use crate::http::health_path::HealthPath;
use crate::keys::AddressRange;
use crate::proxy::proxy_headers::{ProxyHeader, ProxyHeaders};
use crate::tls::pem::PairFiles;

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

impl ListenSettings {
    /// Most requests in flight by one key, and by all without a key: what is set, or a quarter.
    #[must_use]
    pub fn share_of_a_key(&self) -> usize {
        self.max_requests_in_flight_per_key
            .unwrap_or(self.max_requests_in_flight.div_ceil(4))
    }

    pub(super) fn read(section: &mut Reader) -> Self {
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
            head_timeout: section.span("head_timeout", 5),
            body_idle_timeout: section.span("body_idle_timeout", 30),
            write_idle_timeout: section.span("write_idle_timeout", 30),
            keep_alive: section.span("keep_alive", 75),
            drain_delay: section.span("drain_delay", 1),
            drain_timeout: section.span("drain_timeout", 25),
            tls_handshake_timeout: section.span("tls_handshake_timeout", 3),
            certificates: section
                .sections("tls", read_server_pair)
                .into_iter()
                .flatten()
                .collect(),
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
