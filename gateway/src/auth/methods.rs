//! [`Methods`]: the kinds of credentials that a route takes.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::auth::key_source::KeySource;
use crate::auth::key_sources::KeySources;

/// Maximum length of the name of an issuer, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// One word of the setting `auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// API keys.
    Key,
    /// Tokens of any issuer.
    AnyToken,
    /// Tokens of the issuer of this name.
    Token(Arc<str>),
    /// No credential has to be good: what would have become of a request is only counted.
    Observe,
}

/// Why a text names no method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidMethod {
    /// None of the kinds.
    #[error("this is no kind of credential: accepted are {}", Method::ACCEPTED)]
    Unknown,
    /// Not the name of an issuer.
    #[error(
        "after jwt: belongs the name of an issuer, of letters, digits, `-` and `_`, at most 64"
    )]
    Name,
}

/// Why methods are no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidMethods {
    /// Empty list.
    #[error("name one kind of credential at least, such as \"key\"")]
    Empty,
    /// A word stands there twice, or beside one that includes it; the index of the second.
    #[error("another word of the list takes these credentials already")]
    Repeated(usize),
}

/// The kinds of credentials that a route takes: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods {
    keys: bool,
    tokens: Tokens,
    observe: bool,
    /// Whether `Authorization: Bearer` is there for tokens alone.
    bearer_is_for_tokens: bool,
}

/// Tokens that a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tokens {
    None,
    OfAny,
    Of(Box<[Arc<str>]>),
}

impl Method {
    /// Accepted texts, for messages.
    pub const ACCEPTED: &'static str =
        "\"key\", \"jwt\", \"jwt:NAME\" with the name of an issuer, and \"observe\"";

    /// Parses a word as settings have it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidMethod> {
        match text.split_once(':') {
            None if text == "key" => Ok(Self::Key),
            None if text == "jwt" => Ok(Self::AnyToken),
            None if text == "observe" => Ok(Self::Observe),
            Some(("jwt", name)) => {
                let is_plain =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                let is_name = (1..=MAX_NAME_BYTES).contains(&name.len());
                if is_name && name.bytes().all(is_plain) {
                    Ok(Self::Token(name.into()))
                } else {
                    Err(InvalidMethod::Name)
                }
            }
            _ => Err(InvalidMethod::Unknown),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::AnyToken => f.write_str("jwt"),
            Self::Token(name) => write!(f, "jwt:{name}"),
            Self::Observe => f.write_str("observe"),
        }
    }
}

impl Default for Methods {
    /// Takes keys alone.
    fn default() -> Self {
        Self::KEYS
    }
}

impl Methods {
    /// Takes keys alone.
    pub const KEYS: Self = Self {
        keys: true,
        tokens: Tokens::None,
        observe: false,
        bearer_is_for_tokens: false,
    };

    /// Makes a set of `words`.
    ///
    /// # Errors
    /// There is none, or one takes what another takes.
    pub fn new(words: &[Method]) -> Result<Self, InvalidMethods> {
        if words.is_empty() {
            return Err(InvalidMethods::Empty);
        }
        let (mut keys, mut observe) = (false, false);
        let mut tokens = Tokens::None;
        for (index, word) in words.iter().enumerate() {
            let repeated = Err(InvalidMethods::Repeated(index));
            match (word, &mut tokens) {
                (Method::Key, _) if keys => return repeated,
                (Method::Key, _) => keys = true,
                (Method::Observe, _) if observe => return repeated,
                (Method::Observe, _) => observe = true,
                (Method::AnyToken, Tokens::None) => tokens = Tokens::OfAny,
                (Method::Token(name), Tokens::None) => {
                    tokens = Tokens::Of(Box::new([Arc::clone(name)]));
                }
                (Method::Token(name), Tokens::Of(names)) if !names.contains(name) => {
                    let names = names.iter().chain([name]).cloned();
                    tokens = Tokens::Of(names.collect());
                }
                (Method::AnyToken | Method::Token(_), Tokens::OfAny)
                | (Method::AnyToken | Method::Token(_), Tokens::Of(_)) => return repeated,
            }
        }
        // Alone, it watches for keys.
        keys |= observe && tokens == Tokens::None;
        Ok(Self {
            keys,
            tokens,
            observe,
            bearer_is_for_tokens: false,
        })
    }

    /// The words that make this set.
    #[must_use]
    pub fn words(&self) -> Vec<Method> {
        let keys = self.keys.then_some(Method::Key);
        let tokens = match &self.tokens {
            Tokens::None => Vec::new(),
            Tokens::OfAny => vec![Method::AnyToken],
            Tokens::Of(names) => names.iter().cloned().map(Method::Token).collect(),
        };
        let observe = self.observe.then_some(Method::Observe);
        keys.into_iter().chain(tokens).chain(observe).collect()
    }

    /// Adds `Authorization: Bearer` to the `places` of keys where tokens are taken. Without keys,
    /// it is the only place.
    #[must_use]
    pub fn with_places(mut self, places: KeySources) -> (Self, KeySources) {
        if !self.take_tokens() {
            return (self, places);
        }
        self.bearer_is_for_tokens = !self.keys || !places.contain(&KeySource::Bearer);
        let places = match (self.keys, self.bearer_is_for_tokens) {
            (false, _) => KeySources::default(),
            (true, true) => places.and_bearer(),
            (true, false) => places,
        };
        (self, places)
    }

    /// Whether keys are taken.
    #[must_use]
    pub fn take_keys(&self) -> bool {
        self.keys
    }

    /// Whether requests without a good credential pass too, as anonymous, and are counted.
    #[must_use]
    pub fn observe(&self) -> bool {
        self.observe
    }

    /// Whether tokens are taken, of any issuer.
    #[must_use]
    pub fn take_tokens(&self) -> bool {
        self.tokens != Tokens::None
    }

    /// Whether tokens of the issuer of this name are taken.
    #[must_use]
    pub fn take_tokens_of(&self, issuer: &str) -> bool {
        match &self.tokens {
            Tokens::None => false,
            Tokens::OfAny => true,
            Tokens::Of(names) => names.iter().any(|name| **name == *issuer),
        }
    }

    /// Whether a key may stand in `Authorization: Bearer`, if the route reads it at all.
    #[must_use]
    pub fn take_keys_in_bearer(&self) -> bool {
        self.keys && !self.bearer_is_for_tokens
    }

    /// The issuers that are named.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<str>> {
        let names: &[Arc<str>] = match &self.tokens {
            Tokens::None | Tokens::OfAny => &[],
            Tokens::Of(names) => names,
        };
        names.iter()
    }
}

/// The words of the setting.
impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.words().iter().map(Method::to_string).collect();
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use actix_http::header;

    use super::*;

    fn methods(words: &[&str]) -> Result<Methods, InvalidMethods> {
        let words: Vec<Method> = words
            .iter()
            .map(|word| Method::parse(word).unwrap())
            .collect();
        Methods::new(&words)
    }

    #[test]
    fn words_are_kinds_of_credentials() {
        for text in ["key", "jwt", "jwt:corp", "jwt:a-b_C9", "observe"] {
            assert_eq!(Method::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "", "keys", "Key", "jwt:", "jwt:a b", "key:a", "oidc", "jwt:a.b",
        ] {
            assert!(Method::parse(text).is_err(), "{text:?}");
        }
        assert!(Method::parse(&format!("jwt:{}", "a".repeat(65))).is_err());
    }

    #[test]
    fn no_credential_is_taken_twice() {
        assert_eq!(methods(&[]), Err(InvalidMethods::Empty));
        for (words, second) in [
            (&["key", "key"][..], 1),
            (&["jwt", "key", "jwt"], 2),
            (&["jwt", "jwt:corp"], 1),
            (&["jwt:corp", "jwt"], 1),
            (&["jwt:corp", "jwt:corp"], 1),
            (&["observe", "key", "observe"], 2),
        ] {
            assert_eq!(
                methods(words),
                Err(InvalidMethods::Repeated(second)),
                "{words:?}"
            );
        }
    }

    #[test]
    fn observing_takes_keys_unless_tokens_are_named() {
        for (words, shown, is_observing) in [
            (&["observe"][..], "key, observe", true),
            (&["observe", "key"], "key, observe", true),
            (&["jwt", "observe"], "jwt, observe", true),
            (
                &["jwt:corp", "observe", "key"],
                "key, jwt:corp, observe",
                true,
            ),
            (&["key"], "key", false),
        ] {
            let taken = methods(words).unwrap();
            assert_eq!(
                (taken.to_string().as_str(), taken.observe()),
                (shown, is_observing)
            );
            assert_eq!(Methods::new(&taken.words()), Ok(taken));
        }
    }

    #[test]
    fn a_set_takes_what_its_words_say() {
        for (words, keys, corp, other) in [
            (&["key"][..], true, false, false),
            (&["jwt"], false, true, true),
            (&["jwt:corp"], false, true, false),
            (&["key", "jwt:corp"], true, true, false),
            (&["jwt:corp", "jwt:other", "key"], true, true, true),
        ] {
            let taken = methods(words).unwrap();
            assert_eq!(taken.take_keys(), keys, "{words:?}");
            assert_eq!(taken.take_tokens(), corp || other, "{words:?}");
            assert_eq!(taken.take_tokens_of("corp"), corp, "{words:?}");
            assert_eq!(taken.take_tokens_of("other"), other, "{words:?}");
        }
    }

    #[test]
    fn tokens_stand_in_the_bearer_place() {
        let of = |text: &str| KeySources::new(vec![KeySource::parse(text).unwrap()]).unwrap();
        for (words, places, all, keys_in_bearer) in [
            (
                &["key"][..],
                "header:x-api-key",
                &["header:x-api-key"][..],
                true,
            ),
            (&["key", "jwt"], "bearer", &["bearer"], true),
            (
                &["key", "jwt"],
                "header:x-api-key",
                &["header:x-api-key", "bearer"],
                false,
            ),
            (&["key", "jwt"], "basic", &["basic", "bearer"], false),
            (&["jwt"], "header:x-api-key", &["bearer"], false),
            (&["jwt"], "bearer", &["bearer"], false),
        ] {
            let (taken, sources) = methods(words).unwrap().with_places(of(places));
            let shown: Vec<String> = sources.as_slice().iter().map(ToString::to_string).collect();
            assert_eq!(shown, all, "{words:?} {places}");
            assert_eq!(
                taken.take_keys_in_bearer(),
                keys_in_bearer,
                "{words:?} {places}"
            );
            let reads = sources.headers().contains(&header::AUTHORIZATION);
            assert_eq!(reads, taken.take_tokens(), "{words:?} {places}");
        }
    }
}
