//! [`OriginUrl`]: the address of an origin.

use std::fmt;

use actix_http::Uri;
use actix_http::header::HeaderValue;
use thiserror::Error;

use crate::proxy::pool::{OriginScheme, OriginTarget};
use crate::tls::origin::server_name;

/// Address of an origin: `http://host[:port]` or `https://host[:port]`, with or without a base path
/// that paths are put behind.
#[derive(Clone)]
pub struct OriginUrl {
    target: OriginTarget,
    host: HeaderValue,
    /// Empty, or without a slash at its end.
    base_path: Box<str>,
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
    /// A query or fragment.
    #[error("an origin's address has no query and no fragment")]
    Query,
    /// A base path that some origins read differently.
    #[error(
        "the base path of an origin is written as the origin reads it, such as \"/v1\": of segments that consist of letters, digits and -._~!$&'()+,=:@ and do not end in a dot"
    )]
    BasePath,
}

impl OriginUrl {
    /// Parses the address of an origin.
    ///
    /// # Errors
    /// The part that is not accepted.
    pub fn parse(text: &str) -> Result<Self, OriginUrlError> {
        if text.contains('#') {
            return Err(OriginUrlError::Query);
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
        if uri.query().is_some() {
            return Err(OriginUrlError::Query);
        }
        let base_path = uri.path().strip_suffix('/').unwrap_or(uri.path());
        if !is_base_path(base_path) {
            return Err(OriginUrlError::BasePath);
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
            base_path: base_path.into(),
        })
    }

    /// Target for the connection pool.
    #[must_use]
    pub fn target(&self) -> &OriginTarget {
        &self.target
    }

    /// Base path; empty, or without a slash at its end.
    #[must_use]
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Host and port as in a `Host` header.
    #[must_use]
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }
}

/// Whether every origin reads the path as it is written; empty is none.
fn is_base_path(path: &str) -> bool {
    let is_literal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte);
    let mut segments = path.split('/').skip(1);
    segments.all(|segment| {
        !segment.is_empty() && !segment.ends_with('.') && segment.bytes().all(is_literal)
    })
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.target.scheme(), self.target.authority());
        write!(f, "{scheme}://{authority}{}", self.base_path)
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
            ("http://origin/base", Ok("http://origin/base")),
            ("http://origin:9000/a/b.c/", Ok("http://origin:9000/a/b.c")),
            ("https://origin/v1:x", Ok("https://origin/v1:x")),
            ("http://origin//", Err(OriginUrlError::BasePath)),
            ("http://origin//a", Err(OriginUrlError::BasePath)),
            ("http://origin/a//b", Err(OriginUrlError::BasePath)),
            ("http://origin/a/../b", Err(OriginUrlError::BasePath)),
            ("http://origin/.", Err(OriginUrlError::BasePath)),
            ("http://origin/a.", Err(OriginUrlError::BasePath)),
            ("http://origin/%61", Err(OriginUrlError::BasePath)),
            ("http://origin/a;b", Err(OriginUrlError::BasePath)),
            ("http://origin/a%2fb", Err(OriginUrlError::BasePath)),
            ("http://origin/?a", Err(OriginUrlError::Query)),
            ("http://origin/a?b", Err(OriginUrlError::Query)),
            ("http://origin#a", Err(OriginUrlError::Query)),
        ] {
            let parsed = OriginUrl::parse(text).map(|url| url.to_string());
            assert_eq!(parsed, wanted.map(str::to_owned), "{text:?}");
        }
    }
}
