//! `set_request_headers`, `remove_request_headers` and the same for answers: settings of routes that
//! edit headers.

use actix_http::header::{HeaderName, HeaderValue};
use postern_shared::Secret;

use crate::config::reader::{Reader, shown_name};
use crate::config::value::Setting;
use crate::keys::token::contains_key_of_any_prefix;
use crate::proxy::fixed_headers::{Claimed, Edited, why_fixed};
use crate::proxy::header_edits::HeaderEdits;
use crate::proxy::secret_finder::SecretFinder;
use crate::routes::shape::Shape;

/// Longest value of a header, in bytes.
const MAX_VALUE_BYTES: usize = 4096;
/// Most headers that a setting lists.
const MAX_HEADERS: usize = 32;

/// Name of a header that a route edits.
struct EditedName(HeaderName);

impl Setting for EditedName {
    const ACCEPTED: &'static str =
        "the name of a header, of letters, digits and \"-\", such as \"X-Powered-By\"";

    fn parse(text: &str) -> Result<Self, String> {
        let is_name = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let name = HeaderName::try_from(text.to_ascii_lowercase());
        name.ok()
            .filter(|_| is_name)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// Reads both settings of one direction.
pub(super) fn read_header_edits(section: &mut Reader, edited: Edited) -> HeaderEdits {
    let (set_key, remove_key) = keys(edited);
    let set = read_set(section, set_key);
    let remove: Vec<EditedName> = section.take_list(remove_key);
    if remove.len() > MAX_HEADERS {
        let message = format!("there are more than {MAX_HEADERS}");
        section.problem(remove_key, "the routes", message);
    }
    HeaderEdits {
        set,
        remove: remove.into_iter().map(|name| name.0).collect(),
    }
}

/// Refuses edits of headers that the gateway or another setting of the route decides about.
pub(super) fn refuse_fixed_headers(
    section: &mut Reader,
    edited: Edited,
    edits: &HeaderEdits,
    claimed: Claimed<'_>,
) {
    let (set_key, remove_key) = keys(edited);
    for (name, _) in &edits.set {
        if let Some(why) = why_fixed(edited, name, claimed.on_what_is_set()) {
            let message = format!("it cannot be set: {why}");
            section.problem(&format!("{set_key}.{name}"), "the routes", message);
        }
    }
    for (index, name) in edits.remove.iter().enumerate() {
        let is_set = edits.set.iter().any(|(set, _)| set == name);
        let why = match why_fixed(edited, name, claimed) {
            Some(why) => why,
            None if is_set => "it is set, which replaces it: leave one of them out",
            None => continue,
        };
        let message = format!("{name} cannot be removed: {why}");
        section.problem(&format!("{remove_key}[{index}]"), "the routes", message);
    }
}

/// Names of the settings that set and that remove.
pub(crate) fn keys(edited: Edited) -> (&'static str, &'static str) {
    match edited {
        Edited::Requests => ("set_request_headers", "remove_request_headers"),
        Edited::Answers => ("set_response_headers", "remove_response_headers"),
    }
}

fn read_set(section: &mut Reader, key: &str) -> Vec<(HeaderName, HeaderValue)> {
    let (texts, source) = section.take_texts(key);
    if texts.len() > MAX_HEADERS {
        let message = format!("there are more than {MAX_HEADERS}");
        section.problem(key, &source, message);
    }
    let mut set: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(texts.len());
    for (text, value) in texts {
        let message = match (EditedName::parse(&text), header_value(value.as_deref())) {
            (Err(_), _) => format!("this is not {}", EditedName::ACCEPTED),
            (Ok(EditedName(name)), _) if set.iter().any(|(known, _)| *known == name) => {
                "it is there twice: case makes no difference".to_owned()
            }
            (Ok(_), Err(message)) => message,
            (Ok(EditedName(name)), Ok(value)) => {
                set.push((name, value));
                continue;
            }
        };
        let path = format!("{key}.{}", shown_name(&text, &[]));
        section.problem(&path, &source, message);
    }
    section.note(key, show(&set), source);
    set
}

/// Parses a value; messages do not repeat it.
fn header_value(text: Option<&str>) -> Result<HeaderValue, String> {
    let accepted =
        format!("1 to {MAX_VALUE_BYTES} visible ASCII characters, with blanks between them");
    let text = text.unwrap_or_default();
    let fits = text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim() == text
        && (1..=MAX_VALUE_BYTES).contains(&text.len());
    if !fits {
        return Err(format!("the value is not accepted here: {accepted}"));
    }
    if contains_key_of_any_prefix(text.as_bytes()) {
        return Err("the value has the form of an API key: settings are shown".to_owned());
    }
    HeaderValue::from_str(text).map_err(|_| accepted)
}

/// The table as it stands in a file. Values that may be credentials are not shown.
fn show(set: &[(HeaderName, HeaderValue)]) -> String {
    let entries: Vec<String> = set
        .iter()
        .map(|(name, value)| {
            let value = match may_be_credential(name.as_str()) {
                true => "[redacted]",
                false => value.to_str().unwrap_or_default(),
            };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{name} = \"{value}\"")
        })
        .collect();
    match entries.as_slice() {
        [] => "{}".to_owned(),
        entries => format!("{{ {} }}", entries.join(", ")),
    }
}

fn may_be_credential(name: &str) -> bool {
    let words = [
        "auth",
        "cookie",
        "credential",
        "key",
        "password",
        "secret",
        "signature",
        "token",
    ];
    words.iter().any(|word| name.contains(word))
}

/// Refuses edits of request headers with claims of tokens. `shapes` are those of the routes, `claims`
/// the headers of `forward_claims`.
pub(super) fn refuse_claims_in_headers<'s>(
    reader: &mut Reader,
    shapes: impl Iterator<Item = Option<&'s Shape>>,
    claims: &[&HeaderName],
) {
    for (index, shape) in shapes.enumerate() {
        let Some(edits) = shape.map(|shape| &shape.request_headers) else {
            continue;
        };
        let (set_key, remove_key) = keys(Edited::Requests);
        let set = edits.set.iter().map(|(name, _)| (name, set_key));
        let removed = edits.remove.iter().map(|name| (name, remove_key));
        for (name, key) in set.chain(removed).filter(|(name, _)| claims.contains(name)) {
            let message = format!(
                "{name} carries a claim of tokens (forward_claims): only the gateway sets it"
            );
            reader
                .problems()
                .add(&format!("routes[{index}].{key}"), "the routes", message);
        }
    }
}

/// Refuses values with one of `secrets` in them, and says `why`. `shapes` are those of the routes.
pub(super) fn refuse_secrets_in_headers<'s>(
    reader: &mut Reader,
    shapes: impl Iterator<Item = Option<&'s Shape>>,
    secrets: impl Iterator<Item = &'s Secret>,
    why: &str,
) {
    let shaped = shapes.enumerate();
    let shaped = shaped.filter_map(|(index, shape)| Some((index, shape?)));
    let mut shaped = shaped.peekable();
    if shaped.peek().is_none() {
        return;
    }
    let Ok(finder) = SecretFinder::of(secrets.map(Secret::expose)) else {
        return;
    };
    for (index, shape) in shaped {
        for (edited, edits) in [
            (Edited::Requests, &shape.request_headers),
            (Edited::Answers, &shape.response_headers),
        ] {
            for (name, value) in &edits.set {
                if finder.is_in(value.as_bytes()) {
                    let path = format!("routes[{index}].{}.{name}", keys(edited).0);
                    reader.problems().add(&path, "the routes", why.to_owned());
                }
            }
        }
    }
}
