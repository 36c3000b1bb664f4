//! Host and origin checks against browsers. A foreign page can point its own name here (DNS
//! rebinding), and the browser then treats the listener as the same origin; such a request carries
//! a name that is not ours.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::http::Uri;
use actix_web::http::header::{self, HeaderMap};
use rustix::system::uname;

use crate::admin::problem::{Kind, Problem};
use crate::config::public_url::PublicUrl;

/// Accepted host names, in lower case. IP addresses cannot be rebound and need no entry.
#[derive(Clone)]
pub(super) struct Hosts {
    names: Vec<String>,
    /// Scheme of the listener's URLs.
    scheme: &'static str,
    /// Origin of a proxy before the listener.
    public_origin: Option<String>,
}

impl Default for Hosts {
    /// Returns `localhost` and the machine's host name.
    fn default() -> Self {
        Self {
            names: vec![
                "localhost".to_owned(),
                uname().nodename().to_string_lossy().to_ascii_lowercase(),
            ],
            scheme: "http://",
            public_origin: None,
        }
    }
}

impl Hosts {
    /// Adds `names`.
    pub(super) fn and<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Self {
        self.names
            .extend(names.into_iter().map(str::to_ascii_lowercase));
        self
    }

    /// Sets the scheme to HTTPS.
    pub(super) fn over_tls(mut self) -> Self {
        self.scheme = "https://";
        self
    }

    /// Adds the host and origin of `url`.
    pub(super) fn reached_at(mut self, url: &PublicUrl) -> Self {
        self.public_origin = Some(url.origin().to_owned());
        self.and([url.host()])
    }

    /// Refuses a request for another host, in its target or in `Host`. No browser omits the host.
    pub(super) fn check(&self, target: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let is_for_us = target
            .authority()
            .is_none_or(|authority| self.accepts(authority.as_str()));
        let mut lines = headers.get_all(header::HOST);
        if is_for_us && lines.all(|host| host.to_str().is_ok_and(|host| self.accepts(host))) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::MisdirectedRequest,
            "The host of the target or of the Host header is no IP address, not localhost, not the name of this machine, not among admin.hosts, and not that of admin.public_url.",
        ))
    }

    /// Refuses a cross-origin request of a browser (RFC 6454).
    pub(super) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers
            .get(header::HOST)
            .map_or(&b""[..], |host| host.as_bytes());
        let is_ours = |origin: &[u8]| {
            let is_public = |public: &String| public.as_bytes().eq_ignore_ascii_case(origin);
            self.public_origin.as_ref().is_some_and(is_public)
                || origin
                    .split_at_checked(self.scheme.len())
                    .is_some_and(|(scheme, rest)| {
                        scheme.eq_ignore_ascii_case(self.scheme.as_bytes())
                            && rest.eq_ignore_ascii_case(host)
                    })
        };
        if headers
            .get_all(header::ORIGIN)
            .all(|origin| is_ours(origin.as_bytes()))
        {
            return Ok(());
        }
        Err(Problem::new(
            Kind::CrossOrigin,
            "Cross-origin request of a browser. Only pages of this listener may.",
        ))
    }

    fn accepts(&self, host: &str) -> bool {
        if let Some(rest) = host.strip_prefix('[') {
            let (address, port) = rest.split_once(']').unwrap_or_default();
            return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
        }
        let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
        // A trailing dot does not change a name.
        let name = name.strip_suffix('.').unwrap_or(name);
        is_port(port)
            && (name.parse::<IpAddr>().is_ok()
                || self
                    .names
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(name)))
    }
}

/// Returns whether `text` is empty or a colon and a port.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::config::value::Setting as _;

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn only_addresses_and_known_names_are_answered_to() {
        let machine = uname().nodename().to_string_lossy().into_owned();
        let hosts = Hosts::default().and(["Gateway", "postern.internal"]);
        for (host, accepted) in [
            ("127.0.0.1", true),
            ("127.0.0.1:8081", true),
            ("10.1.2.3:80", true),
            ("[::1]:8081", true),
            ("[::1]", true),
            ("localhost", true),
            ("LocalHost:8081", true),
            ("localhost.", true),
            (&machine, true),
            ("gateway:8081", true),
            ("postern.internal", true),
            ("evil.example", false),
            ("evil.example:8081", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("127.1", false),
            ("[::1].evil.example", false),
            ("[::1", false),
            ("[evil]", false),
            ("localhost:evil", false),
            ("localhost:1:2", false),
            ("evil@localhost", false),
            ("", false),
        ] {
            let named = headers(&[(header::HOST, host)]);
            let path = Uri::from_static("/v1/keys");
            assert_eq!(hosts.check(&path, &named).is_ok(), accepted, "{host:?}");
            // The same as the host of an absolute target; some are no URI.
            let ours = headers(&[(header::HOST, "localhost")]);
            if let Ok(target) = format!("http://{host}/v1/keys").parse() {
                assert_eq!(hosts.check(&target, &ours).is_ok(), accepted, "{target}");
            }
        }
        let target = Uri::from_static("http://localhost/v1/keys");
        assert!(hosts.check(&target, &headers(&[])).is_ok());
    }

    #[test]
    fn only_the_listeners_own_pages_may_ask() {
        let host = (header::HOST, "127.0.0.1:8081");
        let public = PublicUrl::parse("https://postern.example.com").unwrap();
        let plain = Hosts::default();
        let tls = Hosts::default().over_tls();
        let proxied = Hosts::default().reached_at(&public);
        for (origin, to_plain, to_tls, to_proxied) in [
            ("http://127.0.0.1:8081", true, false, true),
            ("HTTP://127.0.0.1:8081", true, false, true),
            ("https://127.0.0.1:8081", false, true, false),
            ("http://127.0.0.1", false, false, false),
            ("http://127.0.0.1:8080", false, false, false),
            ("https://postern.example.com", false, false, true),
            ("HTTPS://Postern.Example.com", false, false, true),
            ("http://postern.example.com", false, false, false),
            ("https://postern.example.com:444", false, false, false),
            ("http://evil.example", false, false, false),
            ("null", false, false, false),
            ("", false, false, false),
        ] {
            let headers = headers(&[host.clone(), (header::ORIGIN, origin)]);
            for (hosts, accepted) in [(&plain, to_plain), (&tls, to_tls), (&proxied, to_proxied)] {
                assert_eq!(hosts.check_origin(&headers).is_ok(), accepted, "{origin:?}");
            }
        }
        assert!(plain.check_origin(&headers(&[host])).is_ok());
        assert!(
            plain
                .check_origin(&headers(&[(header::ORIGIN, "http://evil.example")]))
                .is_err()
        );
        let named = headers(&[(header::HOST, "postern.example.com")]);
        let path = Uri::from_static("/");
        assert!(proxied.check(&path, &named).is_ok() && plain.check(&path, &named).is_err());
    }
}
