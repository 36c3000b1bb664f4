//! [`KeySource`]: one place of a request that a key may come from. Finds the key there, and removes
//! exactly that place.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use actix_http::header::{self, HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::auth::demand::Denial;
use crate::keys::{KeyDigest, MalformedKey};

/// Maximum length of a configured name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Subprotocol that the gateway agrees to if the origin chooses none. A browser closes a WebSocket
/// whose server agrees to none of its subprotocols (WHATWG WebSockets, section 4.1), and agreeing
/// to the one with the key would repeat the key.
pub const PLAIN_SUBPROTOCOL: &str = "postern";
/// Start of the subprotocol with the key as it is.
const KEY_SUBPROTOCOL: &str = "postern.key.";
/// Start of the subprotocol with the key in base64url, for keys with `/` or `=`: subprotocols are
/// tokens (RFC 6455, section 4.1).
const ENCODED_SUBPROTOCOL: &str = "postern.key64.";

/// A place that a key may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// `Authorization: Bearer KEY` (RFC 6750, section 2.1).
    Bearer,
    /// `Authorization: NAME KEY`. Schemes are case-insensitive (RFC 9110, section 11.1).
    Scheme(String),
    /// User name or password of `Authorization: Basic` (RFC 7617).
    Basic,
    /// Value of a header of its own.
    Header(HeaderName),
    /// Value of a cookie (RFC 6265).
    Cookie(String),
    /// Value of a query parameter.
    Query(String),
    /// One of the subprotocols that a WebSocket client offers (RFC 6455, section 11.3.4).
    Subprotocol,
}

/// Why a text names no place for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidKeySource {
    /// None of the kinds.
    #[error("this is no place for a key: accepted are {}", KeySource::ACCEPTED)]
    Unknown,
    /// Not a header name of the accepted characters.
    #[error("after header: belongs a header name, of letters, digits and `-`, at most 64")]
    Header,
    /// Not an authentication scheme.
    #[error(
        "after scheme: belongs the name of an authentication scheme, such as ApiKey, of letters, digits and `-`, at most 64"
    )]
    Scheme,
    /// A scheme with a word of its own.
    #[error("the schemes Bearer and Basic are written \"bearer\" and \"basic\"")]
    OwnWord,
    /// Not a cookie name.
    #[error(
        "after cookie: belongs the name of a cookie, of letters, digits, `-`, `_` and `.`, at most 64"
    )]
    Cookie,
    /// Not a query parameter of the accepted characters.
    #[error(
        "after query: belongs the name of a parameter, of letters, digits, `-`, `_` and `.`, at most 64"
    )]
    Query,
}

/// A key as presented. Has no `Debug`; a decoded one is wiped from memory on drop.
pub enum Token<'r> {
    /// As it stands in the request.
    Plain(&'r [u8]),
    /// Decoded from base64 or percent-encoding.
    Decoded(Zeroizing<Vec<u8>>),
}

impl Deref for Token<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Plain(text) => text,
            Self::Decoded(text) => text,
        }
    }
}

/// What one place has.
pub struct Presented<'r> {
    /// The key; the user name of `Basic` if it has a password too.
    pub token: Token<'r>,
    /// The password of `Basic` if it has a user name too: either can be the key.
    pub other: Option<Token<'r>>,
    /// Whether it stands in `Authorization: Bearer`, where tokens stand too.
    pub is_bearer: bool,
}

impl<'r> Presented<'r> {
    fn only(token: Token<'r>) -> Self {
        Self {
            token,
            other: None,
            is_bearer: false,
        }
    }

    /// The text with this digest, where there are two.
    #[must_use]
    pub fn with_digest(self, digest: &KeyDigest) -> Token<'r> {
        match self.other {
            Some(other) if KeyDigest::of(&other) == *digest => other,
            _ => self.token,
        }
    }
}

impl KeySource {
    /// Accepted texts, for messages.
    pub const ACCEPTED: &'static str = "\"bearer\", \"basic\", \"scheme:NAME\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\" and \"subprotocol\"";

    /// Parses a place as settings have it.
    ///
    /// # Errors
    /// What is wrong with it, without the text itself.
    pub fn parse(text: &str) -> Result<Self, InvalidKeySource> {
        let named = |name: &str, marks: &[u8]| {
            let accepted = |byte: u8| byte.is_ascii_alphanumeric() || marks.contains(&byte);
            (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(accepted)
        };
        match text.split_once(':') {
            None => match text {
                "bearer" => Ok(Self::Bearer),
                "basic" => Ok(Self::Basic),
                "subprotocol" => Ok(Self::Subprotocol),
                _ => Err(InvalidKeySource::Unknown),
            },
            Some(("header", name)) => Some(name)
                .filter(|name| named(name, b"-"))
                .and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok())
                .map(Self::Header)
                .ok_or(InvalidKeySource::Header),
            Some(("scheme", name))
                if ["bearer", "basic"].contains(&&*name.to_ascii_lowercase()) =>
            {
                Err(InvalidKeySource::OwnWord)
            }
            Some(("scheme", name)) if named(name, b"-") => Ok(Self::Scheme(name.to_owned())),
            Some(("scheme", _)) => Err(InvalidKeySource::Scheme),
            Some(("cookie", name)) if named(name, b"-_.") => Ok(Self::Cookie(name.to_owned())),
            Some(("cookie", _)) => Err(InvalidKeySource::Cookie),
            Some(("query", name)) if named(name, b"-_.") => Ok(Self::Query(name.to_owned())),
            Some(("query", _)) => Err(InvalidKeySource::Query),
            Some(_) => Err(InvalidKeySource::Unknown),
        }
    }

    /// Whether both are one place.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scheme(one), Self::Scheme(other)) => one.eq_ignore_ascii_case(other),
            _ => self == other,
        }
    }

    /// Header that this place is a part of; `None` for the query.
    #[must_use]
    pub fn header(&self) -> Option<HeaderName> {
        match self {
            Self::Bearer | Self::Scheme(_) | Self::Basic => Some(header::AUTHORIZATION),
            Self::Header(name) => Some(name.clone()),
            Self::Cookie(_) => Some(header::COOKIE),
            Self::Subprotocol => Some(header::SEC_WEBSOCKET_PROTOCOL),
            Self::Query(_) => None,
        }
    }

    /// Finds what stands in this place; `None` if nothing does, or `Authorization` has another
    /// scheme.
    ///
    /// # Errors
    /// The place is there more than once, or what stands there cannot be decoded.
    pub fn find<'r>(
        &self,
        headers: &'r HeaderMap,
        query: Option<&'r str>,
    ) -> Result<Option<Presented<'r>>, Denial> {
        let found = match self {
            Self::Bearer => {
                let found = credential(headers, "bearer")?.map(Token::Plain);
                return Ok(found.map(|token| Presented {
                    is_bearer: true,
                    ..Presented::only(token)
                }));
            }
            Self::Scheme(scheme) => credential(headers, scheme)?.map(Token::Plain),
            Self::Basic => return credential(headers, "basic")?.map(in_basic).transpose(),
            Self::Header(name) => {
                let lines = headers.get_all(name);
                one(lines.map(|line| Token::Plain(line.as_bytes().trim_ascii())))?
            }
            Self::Cookie(name) => {
                let lines = headers.get_all(header::COOKIE);
                let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
                one(pairs.filter_map(|pair| in_cookie(pair, name).map(Token::Plain)))?
            }
            Self::Query(name) => {
                let parameters = query.unwrap_or_default().split('&');
                one(parameters.filter_map(|parameter| in_parameter(parameter, name)))?
            }
            Self::Subprotocol => {
                let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
                let offers = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
                one(offers.filter_map(in_subprotocol))?.transpose()?
            }
        };
        Ok(found.map(Presented::only))
    }

    /// Removes this place from a value of its [header](Self::header). Returns the rest, byte for
    /// byte; `None` if nothing is left.
    #[must_use]
    pub fn strip<'v>(&self, value: &'v [u8]) -> Option<Cow<'v, [u8]>> {
        match self {
            Self::Bearer | Self::Scheme(_) | Self::Basic | Self::Header(_) => None,
            Self::Query(_) => Some(Cow::Borrowed(value)),
            Self::Cookie(name) => without(value, b';', |pair| in_cookie(pair, name).is_some()),
            Self::Subprotocol => without(value, b',', |offer| {
                in_subprotocol(offer).is_some()
                    || offer.trim_ascii() == PLAIN_SUBPROTOCOL.as_bytes()
            }),
        }
    }

    /// Removes this place from a query. Returns the rest, byte for byte; `None` if no parameter is
    /// left.
    #[must_use]
    pub fn strip_query<'q>(&self, query: &'q str) -> Option<Cow<'q, str>> {
        let Self::Query(name) = self else {
            return Some(Cow::Borrowed(query));
        };
        let is_it = |parameter: &&str| in_parameter(parameter, name).is_some();
        if !query.split('&').any(|parameter| is_it(&parameter)) {
            return Some(Cow::Borrowed(query));
        }
        let rest: Vec<&str> = query
            .split('&')
            .filter(|parameter| !is_it(parameter))
            .collect();
        (!rest.is_empty()).then(|| Cow::Owned(rest.join("&")))
    }

    /// Challenge for this place (RFC 9110, section 11.6.1). Places without a scheme of their own
    /// use `ApiKey` with the parameters of OpenAPI's `apiKey`.
    #[must_use]
    pub fn challenge(&self, realm: &str) -> String {
        match self {
            Self::Bearer => format!("Bearer realm=\"{realm}\""),
            Self::Scheme(scheme) => format!("{scheme} realm=\"{realm}\""),
            Self::Basic => format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
            Self::Header(name) => {
                format!("ApiKey realm=\"{realm}\", in=\"header\", name=\"{name}\"")
            }
            Self::Cookie(name) => {
                format!("ApiKey realm=\"{realm}\", in=\"cookie\", name=\"{name}\"")
            }
            Self::Query(name) => format!("ApiKey realm=\"{realm}\", in=\"query\", name=\"{name}\""),
            Self::Subprotocol => {
                format!("ApiKey realm=\"{realm}\", in=\"header\", name=\"sec-websocket-protocol\"")
            }
        }
    }

    /// How to send a key there, to complete "Send your key".
    #[must_use]
    pub fn instruction(&self) -> String {
        match self {
            Self::Bearer => "as Authorization: Bearer API_KEY".to_owned(),
            Self::Scheme(scheme) => format!("as Authorization: {scheme} API_KEY"),
            Self::Basic => "as the user name or the password of Authorization: Basic".to_owned(),
            Self::Header(name) => format!("in the header {name}"),
            Self::Cookie(name) => format!("in the cookie {name}"),
            Self::Query(name) => format!("in the query parameter {name}"),
            Self::Subprotocol => format!("as the WebSocket subprotocol {KEY_SUBPROTOCOL}API_KEY"),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Scheme(name) => write!(f, "scheme:{name}"),
            Self::Basic => f.write_str("basic"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Subprotocol => f.write_str("subprotocol"),
        }
    }
}

/// Decodes the credential in a line of `Authorization` if it is base64, as with `Basic`.
#[must_use]
pub fn decode_credential(line: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (_, credential) = split_scheme(line);
    credential.and_then(from_base64)
}

/// Splits a line of `Authorization` into its scheme and what follows the white space after that.
/// RFC 9110, section 11.4, has spaces there; origins take tabs, too.
#[must_use]
pub fn split_scheme(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    match line.iter().position(|byte| matches!(byte, b' ' | b'\t')) {
        Some(end) => {
            let (scheme, rest) = line.split_at(end);
            (scheme, Some(rest.trim_ascii()))
        }
        None => (line, None),
    }
}

/// Decodes the keys among the subprotocols that a WebSocket client offers in a header line.
pub fn decode_subprotocols(line: &[u8]) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
    let encoded = line.split(|byte| *byte == b',').filter_map(|offer| {
        offer
            .trim_ascii()
            .strip_prefix(ENCODED_SUBPROTOCOL.as_bytes())
    });
    encoded.filter_map(from_base64)
}

/// The only item.
fn one<T>(mut items: impl Iterator<Item = T>) -> Result<Option<T>, Denial> {
    match (items.next(), items.next()) {
        (_, Some(_)) => Err(Denial::Twice),
        (item, None) => Ok(item),
    }
}

/// Credential of the one `Authorization` line, if it has this scheme; possibly empty.
fn credential<'r>(headers: &'r HeaderMap, scheme: &str) -> Result<Option<&'r [u8]>, Denial> {
    static AUTHORIZATION: HeaderName = header::AUTHORIZATION;
    let line = one(headers.get_all(&AUTHORIZATION))?;
    Ok(line.and_then(|line| of_scheme(line.as_bytes(), scheme)))
}

fn of_scheme<'r>(line: &'r [u8], scheme: &str) -> Option<&'r [u8]> {
    let (found, credential) = split_scheme(line);
    found
        .eq_ignore_ascii_case(scheme.as_bytes())
        .then(|| credential.unwrap_or_default())
}

fn in_basic<'r>(credential: &[u8]) -> Result<Presented<'r>, Denial> {
    if credential.is_empty() {
        return Err(Denial::Malformed(MalformedKey::Empty));
    }
    let pair = from_base64(credential).ok_or(Denial::Malformed(MalformedKey::Charset))?;
    let colon = pair.iter().position(|byte| *byte == b':');
    let colon = colon.ok_or(Denial::Malformed(MalformedKey::Charset))?;
    let part = |part: &[u8]| Token::Decoded(Zeroizing::new(part.to_vec()));
    let (user, password) = pair.split_at(colon);
    let password = password.get(1..).unwrap_or_default();
    Ok(match (user, password) {
        (b"", password) => Presented::only(part(password)),
        (user, b"") => Presented::only(part(user)),
        (user, password) => Presented {
            other: Some(part(password)),
            ..Presented::only(part(user))
        },
    })
}

/// Value of the cookie, without quotes around it (RFC 6265, section 4.1.1).
fn in_cookie<'r>(pair: &'r [u8], name: &str) -> Option<&'r [u8]> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (found, value) = pair.split_at(equals);
    let value = value.get(1..)?.trim_ascii();
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    (found.trim_ascii() == name.as_bytes()).then(|| quoted.unwrap_or(value))
}

fn in_parameter<'r>(parameter: &'r str, name: &str) -> Option<Token<'r>> {
    let (found, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let is_it =
        found == name || found.contains('%') && **percent_decoded(found) == *name.as_bytes();
    is_it.then(|| {
        if value.contains('%') {
            Token::Decoded(percent_decoded(value))
        } else {
            Token::Plain(value.as_bytes())
        }
    })
}

/// Key in an offered subprotocol; `None` if the offer is for the origin.
fn in_subprotocol(offer: &[u8]) -> Option<Result<Token<'_>, Denial>> {
    let offer = offer.trim_ascii();
    if let Some(key) = offer.strip_prefix(KEY_SUBPROTOCOL.as_bytes()) {
        return Some(Ok(Token::Plain(key)));
    }
    let encoded = offer.strip_prefix(ENCODED_SUBPROTOCOL.as_bytes())?;
    let key = from_base64(encoded).map(Token::Decoded);
    Some(key.ok_or(Denial::Malformed(MalformedKey::Charset)))
}

/// Decodes base64 of either alphabet, padded or not.
fn from_base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    const EITHER_WAY: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let is_for_urls = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let alphabet = if is_for_urls {
        base64::alphabet::URL_SAFE
    } else {
        base64::alphabet::STANDARD
    };
    let decoded = GeneralPurpose::new(&alphabet, EITHER_WAY).decode(text);
    decoded.ok().map(Zeroizing::new)
}

/// Undoes one layer of percent-encoding; leaves malformed escapes as they are. `+` is no space: no
/// key has one, and some have a `+`.
fn percent_decoded(text: &str) -> Zeroizing<Vec<u8>> {
    let mut rest = text.as_bytes();
    let mut decoded = Zeroizing::new(Vec::with_capacity(rest.len()));
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.split_at_checked(2).filter(|_| *first == b'%');
        let escaped = escaped.and_then(|(digits, after)| {
            let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
            Some((u8::try_from(digit(0)? * 16 + digit(1)?).ok()?, after))
        });
        let (byte, after) = escaped.unwrap_or((*first, after));
        decoded.push(byte);
        rest = after;
    }
    decoded
}

/// Removes the members that `is_it` accepts from a list; `None` if nothing is left.
fn without<'v>(
    list: &'v [u8],
    separator: u8,
    is_it: impl Fn(&[u8]) -> bool,
) -> Option<Cow<'v, [u8]>> {
    let members = || list.split(|byte| *byte == separator);
    if !members().any(&is_it) {
        return Some(Cow::Borrowed(list));
    }
    let rest: Vec<&[u8]> = members().filter(|member| !is_it(member)).collect();
    let rest = rest.join(&[separator][..]);
    let rest = rest.trim_ascii_start();
    (!rest.is_empty()).then(|| Cow::Owned(rest.to_vec()))
}

#[cfg(test)]
mod tests;
