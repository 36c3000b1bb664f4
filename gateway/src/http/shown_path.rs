//! Request path for logs and refusals, never with an API key in it.

use actix_http::Uri;

use crate::keys::{KeyTable, Prefix, token};

/// Replacement for a hidden path in logs.
const HIDDEN: &str = "[key]";

/// Loggable form of a request target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShownPath {
    /// Path without a key.
    Plain(String),
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
        } else {
            Self::Plain(uri.path().to_owned())
        }
    }

    /// Text for a log line.
    #[must_use]
    pub fn in_log(&self) -> &str {
        match self {
            Self::Plain(path) => path,
            Self::HasKey => HIDDEN,
        }
    }

    /// Text for the `instance` of a refusal; empty means none.
    #[must_use]
    pub fn as_instance(&self) -> &str {
        match self {
            Self::Plain(path) => path,
            Self::HasKey => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::token::PlainKey;

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
