//! `key_sources` of `[auth]` and of routes: the places that a key may come from.

use actix_http::header::{self, HeaderName};
use postern_shared::headers::is_privileged;

use crate::auth::key_source::KeySource;
use crate::auth::key_sources::{InvalidKeySources, KeySources};
use crate::config::reader::Reader;
use crate::config::value::Setting;
use crate::proxy::headers::is_hop_by_hop;
use crate::proxy::proxy_headers::is_proxy_header;

/// Headers with a meaning of their own, for the gateway or for origins. A trailing `-` stands for
/// all that begin so.
const MEANINGFUL: [&str; 27] = [
    "accept",
    "accept-",
    "access-control-",
    "cache-control",
    "content-",
    "date",
    "dnt",
    "from",
    "host",
    "idempotency-key",
    "if-",
    "last-event-id",
    "link",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "sec-",
    "set-cookie",
    "traceparent",
    "tracestate",
    "user-agent",
    "vary",
    "via",
    "x-request-id",
];

impl Setting for KeySource {
    const ACCEPTED: &'static str = KeySource::ACCEPTED;

    fn parse(text: &str) -> Result<Self, String> {
        let source = Self::parse(text).map_err(|error| error.to_string())?;
        match &source {
            Self::Header(name) => refuse_header(name).map_or(Ok(()), Err)?,
            Self::Bearer
            | Self::Scheme(_)
            | Self::Basic
            | Self::Cookie(_)
            | Self::Query(_)
            | Self::Subprotocol => {}
        }
        Ok(source)
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// Why a header cannot carry keys; `None` if it can.
fn refuse_header(name: &HeaderName) -> Option<String> {
    let text = name.as_str();
    let why = if *name == header::AUTHORIZATION {
        "for this header write \"bearer\", \"basic\" or \"scheme:NAME\""
    } else if *name == header::COOKIE {
        "for a cookie write \"cookie:NAME\""
    } else if *name == header::SEC_WEBSOCKET_PROTOCOL {
        "for this header write \"subprotocol\""
    } else if is_privileged(text) {
        "only the gateway sets this header"
    } else if is_hop_by_hop(text) {
        "hop-by-hop headers are not forwarded, and proxies in front may use them up"
    } else if is_proxy_header(text) {
        "proxies set this header for the server behind them, and clients can forge it"
    } else if is_meaningful(text) {
        "this header has another meaning: take one that is for the key alone, such as X-API-Key"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// Whether the header `name`, in lower case, is one of [`MEANINGFUL`].
pub(super) fn is_meaningful(name: &str) -> bool {
    MEANINGFUL
        .iter()
        .any(|known| name == *known || known.ends_with('-') && name.starts_with(known))
}

/// Reads `key_sources` of a section.
pub(super) fn read_key_sources(section: &mut Reader, default: &KeySources) -> KeySources {
    let problems_before = section.problems().len();
    let sources = section.take_list_or("key_sources", default.as_slice().to_vec());
    if section.problems().len() > problems_before {
        return default.clone();
    }
    KeySources::new(sources).unwrap_or_else(|error| {
        let key = match error {
            InvalidKeySources::Empty => "key_sources".to_owned(),
            InvalidKeySources::Repeated(index) => format!("key_sources[{index}]"),
        };
        section.problem(&key, "the settings", error.to_string());
        default.clone()
    })
}

/// Warns of keys in URLs; `routes` are the names of the routes with their places.
pub(super) fn warn_of_key_sources<'r>(
    default: &KeySources,
    routes: impl ExactSizeIterator<Item = (&'r str, &'r KeySources)>,
) -> Vec<String> {
    const WHY: &str = "clients, proxies in front and analytics store URLs: offer it only to clients that can send nothing else, with keys that may do little";
    if routes.len() == 0 && default.read_query() {
        return vec![format!("auth.key_sources takes keys from the URL; {WHY}")];
    }
    let routes = routes.enumerate();
    let reading = routes.filter(|(_, (_, sources))| sources.read_query());
    reading
        .map(|(index, (name, _))| {
            format!("routes[{index}] ({name:?}) takes keys from the URL; {WHY}")
        })
        .collect()
}
