//! `[cors]` and the table `cors` of routes: what pages of other origins may do.

use std::time::Duration;

use actix_http::header;

use crate::config::reader::Reader;
use crate::config::value::Span;
use crate::http::cors::{CorsSettings, FieldName, PageOrigin};
use crate::routes::MethodName;

/// Defaults of `[cors]`: no page may call, unless the origin itself allows it.
pub(super) fn no_cors() -> CorsSettings {
    CorsSettings {
        origins: Vec::new(),
        methods: Vec::new(),
        // Whatever sends JSON needs it.
        headers: vec![FieldName::Exact(header::CONTENT_TYPE)],
        exposed_headers: Vec::new(),
        credentials: false,
        max_age: Duration::from_mins(10),
    }
}

/// Reads a section; what it leaves out is as in `defaults`.
pub(super) fn read_cors(section: &mut Reader, defaults: &CorsSettings) -> CorsSettings {
    let methods = defaults.methods.iter().cloned().map(MethodName).collect();
    let cors = CorsSettings {
        origins: section.take_list_or("origins", defaults.origins.clone()),
        methods: section
            .take_list_or("methods", methods)
            .into_iter()
            .map(|method| method.0)
            .collect(),
        headers: section.take_list_or("headers", defaults.headers.clone()),
        exposed_headers: section.take_list_or("exposed_headers", defaults.exposed_headers.clone()),
        credentials: section.take("credentials", defaults.credentials),
        max_age: section.take("max_age", Span(defaults.max_age)).0,
    };
    let mut refuse =
        |key: &str, message: &str| section.problem(key, "the settings", message.to_owned());
    let takes_any = cors.origins.contains(&PageOrigin::Any);
    if takes_any && cors.origins.len() > 1 {
        refuse("origins", "\"*\" is every origin: it stands alone");
    }
    if takes_any && cors.credentials {
        refuse(
            "credentials",
            "browsers take no \"*\" with credentials, and every page could act as its visitors: list the origins",
        );
    }
    if cors.credentials && cors.exposed_headers.contains(&FieldName::Any) {
        refuse(
            "exposed_headers",
            "browsers take no \"*\" with credentials: list the headers",
        );
    }
    cors
}
