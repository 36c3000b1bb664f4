//! [`PublicUrl`]: URL that clients know a listener by.

use crate::config::value::{HostName, Setting};

/// URL of a listener, as clients know it: `https://host[:port]` or `http://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    host: String,
}

impl PublicUrl {
    /// URL as an origin (RFC 6454), in lower case and without a default port.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Host without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Setting for PublicUrl {
    const ACCEPTED: &'static str =
        "\"https://host[:port]\" (or http) without a path, such as \"https://postern.example.com\"";

    fn parse(text: &str) -> Result<Self, String> {
        let refuse = || format!("{} is accepted here", Self::ACCEPTED);
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = lower.split_once("://").ok_or_else(refuse)?;
        let usual = match scheme {
            "http" => "80",
            "https" => "443",
            _ => return Err(refuse()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let port_at = authority
            .rfind(':')
            .filter(|at| authority.get(*at..).is_some_and(|port| !port.contains(']')));
        let (host, port) = match port_at {
            Some(at) => {
                let (host, port) = authority.split_at(at);
                let number = port.get(1..).unwrap_or_default();
                let number = number
                    .bytes()
                    .all(|byte| byte.is_ascii_digit())
                    .then(|| number.parse::<u16>().ok())
                    .flatten();
                (
                    host,
                    number
                        .filter(|port| *port > 0)
                        .ok_or_else(refuse)?
                        .to_string(),
                )
            }
            None => (authority, usual.to_owned()),
        };
        let host = HostName::parse(host).map_err(|_| refuse())?.0;
        let port = if port == usual {
            String::new()
        } else {
            format!(":{port}")
        };
        Ok(Self {
            origin: format!("{scheme}://{host}{port}"),
            host,
        })
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_a_scheme_and_an_authority() {
        for (text, origin) in [
            ("https://postern.example.com", "https://postern.example.com"),
            (
                "HTTPS://Postern.Example.com:443/",
                "https://postern.example.com",
            ),
            ("http://h:80", "http://h"),
            ("https://h:80", "https://h:80"),
            ("http://[::1]:8081", "http://[::1]:8081"),
            ("http://[::1]", "http://[::1]"),
            ("https://10.0.0.1:8443", "https://10.0.0.1:8443"),
        ] {
            let url = PublicUrl::parse(text).unwrap();
            assert_eq!(url.origin(), origin, "{text}");
            assert!(origin.contains(url.host()), "{text}");
        }
        for text in [
            "",
            "postern.example.com",
            "https://",
            "https:///",
            "ftp://h",
            "https://h/path",
            "https://h?query",
            "https://h#fragment",
            "https://user@h",
            "https://h:",
            "https://h:0",
            "https://h:65536",
            "https://h:+1",
            "https://h:1:2",
            "https://a b",
        ] {
            assert!(PublicUrl::parse(text).is_err(), "{text}");
        }
    }
}
