//! Request path for logs and refusals, never with an API key in it.

use actix_http::Uri;

use crate::auth::jwt;
use crate::keys::{KeyTable, Prefix, token};

/// Replacement for a hidden path in logs.
const HIDDEN: &str = "[key]";
/// Likewise for a path with a token.
const HIDDEN_TOKEN: &str = "[token]";

/// Loggable form of a request target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShownPath {
    /// Path without a key.
    Plain(String),
    /// Hidden where it is shown: it contains the form of a token (JWT), whoever made it. The path.
    HasToken(String),
    /// Hidden: path or query contains a whole key of this gateway or a known foreign one, escaped
    /// or not.
    HasKey,
}

impl ShownPath {
    /// Searches `uri` for keys. Allocates only the path, unless something is escaped.
    #[must_use]
    pub fn of(uri: &Uri, prefix: &Prefix, keys: &KeyTable) -> Self {
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        let has_key = token::contains_key(target.as_bytes(), prefix)
            || keys.has_foreign_in(target.as_bytes());
        if has_key {
            Self::HasKey
        } else if has_token(uri.path()) {
            Self::HasToken(uri.path().to_owned())
        } else {
            Self::Plain(uri.path().to_owned())
        }
    }

    /// Path to route by; not one where it contains a key.
    #[must_use]
    pub fn to_route(&self) -> &str {
        match self {
            Self::Plain(path) | Self::HasToken(path) => path,
            Self::HasKey => HIDDEN,
        }
    }

    /// Text for a log line.
    #[must_use]
    pub fn in_log(&self) -> &str {
        match self {
            Self::Plain(path) => path,
            Self::HasToken(_) => HIDDEN_TOKEN,
            Self::HasKey => HIDDEN,
        }
    }

    /// Text for the `instance` of a refusal; empty means none.
    #[must_use]
    pub fn as_instance(&self) -> &str {
        match self {
            Self::Plain(path) => path,
            Self::HasToken(_) | Self::HasKey => "",
        }
    }
}

/// Whether a part of the path has the form of a token.
fn has_token(path: &str) -> bool {
    if memchr::memchr_iter(b'.', path.as_bytes()).nth(1).is_none() {
        return false;
    }
    let is_of_token = |mark: char| mark.is_ascii_alphanumeric() || matches!(mark, '-' | '_' | '.');
    let mut parts = path.split(|mark| !is_of_token(mark));
    parts.any(|part| jwt::is_token(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::token::PlainKey;

    #[test]
    fn a_token_in_the_path_is_not_shown() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJjb3JwIn0.c2lnbmVk";
        for (target, is_hidden) in [
            (format!("/{token}"), true),
            (format!("/confirm/{token}/now"), true),
            (format!("/a;token={token}"), true),
            (format!("/a?token={token}"), false),
            ("/a.b.c".to_owned(), false),
            ("/eyJhbGciOiJSUzI1NiJ9.b".to_owned(), false),
        ] {
            let uri: Uri = target.parse().unwrap();
            let shown = ShownPath::of(&uri, &Prefix::default(), &KeyTable::new());
            assert_eq!(shown.to_route(), uri.path());
            let wanted = if is_hidden {
                ["[token]", ""]
            } else {
                [uri.path(); 2]
            };
            assert_eq!([shown.in_log(), shown.as_instance()], wanted, "{target}");
        }
    }

    #[test]
    fn a_key_is_hidden_wherever_it_stands_and_nothing_else_is() {
        let prefix = Prefix::default();
        let key = PlainKey::generate(&prefix).unwrap();
        let key = key.expose();
        let every_byte: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for (target, is_hidden) in [
            (format!("/{key}"), true),
            (format!("/a/{key}/b?c=d"), true),
            (format!("/a?key={key}"), true),
            (format!("/{every_byte}"), true),
            (format!("/a?{every_byte}"), true),
            (format!("/{}", key.replacen('_', "%5F", 1)), true),
            (format!("/{}", key.replacen('p', "%70", 1)), true),
            (format!("/%zz{key}%"), true),
            (format!("http://h/{key}"), true),
            (format!("/{}", &key[..key.len() - 1]), false),
            ("/a_b/c%5Fd?e_f=%67".to_owned(), false),
            ("/%".to_owned(), false),
            ("/".to_owned(), false),
        ] {
            let uri: Uri = target.parse().unwrap();
            let shown = ShownPath::of(&uri, &prefix, &KeyTable::new());
            assert_eq!(shown == ShownPath::HasKey, is_hidden, "{target}");
            assert_eq!(
                shown.in_log(),
                if is_hidden { "[key]" } else { uri.path() },
                "{target}"
            );
            assert_eq!(
                shown.as_instance(),
                if is_hidden { "" } else { uri.path() },
                "{target}"
            );
        }
    }
}
