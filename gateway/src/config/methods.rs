//! The kinds of credentials that routes take: `auth.methods`, and `auth` of a route.

use crate::auth::methods::{InvalidMethods, Method, Methods};
use crate::config::reader::Reader;
use crate::config::value::Setting;

impl Setting for Method {
    const ACCEPTED: &'static str = Method::ACCEPTED;

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// Reads the list `key` of a section.
pub(super) fn read_methods(section: &mut Reader, key: &str, default: &Methods) -> Methods {
    let problems_before = section.problems().len();
    let words = section.take_list_or(key, default.words());
    if section.problems().len() > problems_before {
        return default.clone();
    }
    Methods::new(&words).unwrap_or_else(|error| {
        let key = match error {
            InvalidMethods::Empty => key.to_owned(),
            InvalidMethods::Repeated(index) => format!("{key}[{index}]"),
        };
        section.problem(&key, "the settings", error.to_string());
        default.clone()
    })
}

/// Refuses tokens of issuers that are not among `issuers`; `default` is `auth.methods`, and
/// `routes` are those of each route.
pub(super) fn refuse_unknown_issuers(
    reader: &mut Reader,
    issuers: &[&str],
    default: &Methods,
    routes: &[&Methods],
) {
    // Routes without the setting have the default, whose problem is told once.
    let of_routes = routes.iter().enumerate();
    let of_routes = of_routes.map(|(index, methods)| (format!("routes[{index}].auth"), *methods));
    let of_routes = of_routes.filter(|(_, methods)| methods.words() != default.words());
    for (path, methods) in [("auth.methods".to_owned(), default)]
        .into_iter()
        .chain(of_routes)
    {
        let unknown = methods.issuers().find(|name| !issuers.contains(&&***name));
        let message = match unknown {
            _ if issuers.is_empty() && methods.take_tokens() => {
                "there is no issuer of tokens: add one with [[jwt.issuers]]".to_owned()
            }
            Some(name) => format!(
                "there is no issuer {name:?} in [[jwt.issuers]]; there is {}",
                listed(issuers)
            ),
            None => continue,
        };
        reader.problems().add(&path, "the settings", message);
    }
}

fn listed(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}
