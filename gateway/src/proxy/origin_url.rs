//! [`OriginUrl`]: the address of an origin.

use std::fmt;

use actix_http::Uri;
use actix_http::header::HeaderValue;
use thiserror::Error;

use crate::proxy::pool::{OriginScheme, OriginTarget};
use crate::tls::origin::server_name;

/// Address of an origin: `http://host[:port]` or `https://host[:port]`, without a path.
#[derive(Clone)]
pub struct OriginUrl {
    target: OriginTarget,
    host: HeaderValue,
}

/// The text is not the address of an origin.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum OriginUrlError {
    /// Not an address at all.
    #[error("this is not the address of an origin: write it like \"http://127.0.0.1:9000\"")]
    NotAUrl,
    /// A scheme other than `http` and `https`.
    #[error("origins are reached over http or https: write \"http://…\" or \"https://…\"")]
    Scheme,
    /// A user name or password, which would appear in logs.
    #[error("an origin's address has no user name and no password")]
    Credentials,
    /// A path, query or fragment; paths are forwarded byte for byte.
    #[error(
        "an origin's address ends after the host and the port: paths are forwarded as they come"
    )]
    Path,
}

impl OriginUrl {
    /// Parses the address of an origin.
    ///
    /// # Errors
    /// The part that is not accepted.
    pub fn parse(text: &str) -> Result<Self, OriginUrlError> {
        if text.contains('#') {
            return Err(OriginUrlError::Path);
        }
        let uri: Uri = text.parse().map_err(|_| OriginUrlError::NotAUrl)?;
        let authority = uri.authority().ok_or(OriginUrlError::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(OriginUrlError::Credentials);
        }
        let scheme = match uri.scheme_str() {
            Some("http") => OriginScheme::Http,
            Some("https") => OriginScheme::Https,
            _ => return Err(OriginUrlError::Scheme),
        };
        if !matches!(
            uri.path_and_query().map(|path| path.as_str()),
            None | Some("/")
        ) {
            return Err(OriginUrlError::Path);
        }
        let port_is_wrong = authority
            .as_str()
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'))
            && authority.port_u16().is_none_or(|port| port == 0);
        if authority.host().is_empty() || port_is_wrong {
            return Err(OriginUrlError::NotAUrl);
        }
        if scheme == OriginScheme::Https && server_name(authority.host()).is_none() {
            return Err(OriginUrlError::NotAUrl);
        }
        let host =
            HeaderValue::from_str(authority.as_str()).map_err(|_| OriginUrlError::NotAUrl)?;
        Ok(Self {
            target: OriginTarget::new(authority.clone()).over(scheme),
            host,
        })
    }

    /// Target for the connection pool.
    #[must_use]
    pub fn target(&self) -> &OriginTarget {
        &self.target
    }

    /// Host and port as in a `Host` header.
    #[must_use]
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.target.scheme(), self.target.authority())
    }
}

impl fmt::Debug for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_or_refused_with_the_reason() {
        for (text, wanted) in [
            ("http://127.0.0.1:9000", Ok("http://127.0.0.1:9000")),
            ("http://origin:9000/", Ok("http://origin:9000")),
            ("http://origin", Ok("http://origin")),
            ("http://[::1]:9000", Ok("http://[::1]:9000")),
            ("http://[::1]", Ok("http://[::1]")),
            ("", Err(OriginUrlError::NotAUrl)),
            ("origin:9000", Err(OriginUrlError::Scheme)),
            ("/path", Err(OriginUrlError::NotAUrl)),
            ("http://", Err(OriginUrlError::NotAUrl)),
            ("http://:9000", Err(OriginUrlError::NotAUrl)),
            ("http://origin:", Err(OriginUrlError::NotAUrl)),
            ("http://origin:0", Err(OriginUrlError::NotAUrl)),
            ("http://origin:99999", Err(OriginUrlError::NotAUrl)),
            ("https://origin", Ok("https://origin")),
            ("https://origin:8443/", Ok("https://origin:8443")),
            ("https://[::1]:8443", Ok("https://[::1]:8443")),
            ("https://or!gin", Err(OriginUrlError::NotAUrl)),
            ("ftp://origin", Err(OriginUrlError::Scheme)),
            ("http://user:pass@origin", Err(OriginUrlError::Credentials)),
            ("http://origin/base", Err(OriginUrlError::Path)),
            ("http://origin/?a", Err(OriginUrlError::Path)),
            ("http://origin#a", Err(OriginUrlError::Path)),
        ] {
            let parsed = OriginUrl::parse(text).map(|url| url.to_string());
            assert_eq!(parsed, wanted.map(str::to_owned), "{text:?}");
        }
    }
}
