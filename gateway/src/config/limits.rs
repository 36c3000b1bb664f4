//! `[limits]` and `[[rate_limits]]`: how much anyone may do in a window of time.

use std::sync::Arc;

use crate::config::limit_values::{
    Burst, LeaseTimeout, LimitName, PrefixLength, RouteName, SyncEvery, Units, Window,
};
use crate::config::reader::Reader;
use crate::config::routes::RouteSettings;
use crate::http::rate_limit_fields::LimitFields;
use crate::limits::{By, Mode, Number, OnOutage, RateLimit, Terms};

/// Where problems between limits come from.
const SOURCE: &str = "the rate limits";
/// Most of `[[rate_limits]]`.
const MAX_LIMITS: usize = 64;
/// Other gateways' words for settings of a limit, with ours.
const WORDS_OF_OTHERS: &[(&str, &str)] = &[
    ("average", "limit"),
    ("count", "limit"),
    ("rate", "limit"),
    ("requests", "limit"),
    ("requests_allowed", "limit"),
    ("requests_per_unit", "limit"),
    ("requestsallowed", "limit"),
    ("second", "limit, with window = \"1s\""),
    ("minute", "limit, with window = \"1m\""),
    ("hour", "limit, with window = \"1h\""),
    ("day", "limit, with window = \"1d\""),
    ("month", "a quota: a rate has a window of a day at most"),
    ("duration", "window"),
    ("per", "window"),
    ("period", "window"),
    ("time_window", "window"),
    ("time_window_minutes", "window"),
    ("timewindowminutes", "window"),
    ("unit", "window"),
    ("window_size", "window"),
    ("key", "by"),
    ("limit_by", "by"),
    ("rate_limit_by", "by"),
    ("ratelimitby", "by"),
    ("dry_run", "enforce = false"),
    ("shadow_mode", "enforce = false"),
];

/// `[limits]` and the limits themselves.
#[derive(Debug, Clone)]
pub struct LimitSettings {
    /// Form in which callers are told of their limits and quotas.
    pub fields: LimitFields,
    /// What holds for all limits.
    pub terms: Terms,
    /// `[[rate_limits]]`.
    pub rates: Vec<RateLimit>,
}

impl LimitSettings {
    /// Reads the limits; `routes` are those that they may name and whose cost they have to admit.
    /// They can be shared if there is a server for it.
    pub(super) fn read(reader: &mut Reader, routes: &[RouteSettings], has_server: bool) -> Self {
        let (fields, terms) = reader.section("limits", |section| {
            (
                section.take("headers", LimitFields::default()),
                Terms {
                    mode: read_mode(section, has_server),
                    sync_every: section.take("sync_every", SyncEvery::default()).0,
                    on_outage: section.take("on_outage", OnOutage::default()),
                    timeout: section.take("timeout", LeaseTimeout::default()).0,
                    ipv6_prefix: section.take("ipv6_prefix", PrefixLength(64)).0,
                },
            )
        });
        let read = reader.sections("rate_limits", read_rate);
        if read.len() > MAX_LIMITS {
            let message = format!("there are {}, and {MAX_LIMITS} are the most", read.len());
            reader
                .problems()
                .add("rate_limits", "the rate limits", message);
        }
        refuse_rates(reader, &read, routes);
        Self {
            fields,
            terms,
            rates: read.into_iter().flatten().collect(),
        }
    }
}

/// Reads how gateways share limits: through the server where there is one.
fn read_mode(section: &mut Reader, has_server: bool) -> Mode {
    let default = if has_server {
        Mode::Shared
    } else {
        Mode::default()
    };
    let mode = section.take("mode", default);
    if mode == Mode::Shared && !has_server {
        let message = "\"shared\" needs a server to share through: set VALKEY_URL or valkey.url";
        section.problem("mode", "the limits", message.to_owned());
    }
    mode
}

/// Reads one of `[[rate_limits]]`; `None` if it has a problem.
fn read_rate(section: &mut Reader) -> Option<RateLimit> {
    section.expect_words(WORDS_OF_OTHERS);
    let before = section.problems().len();
    let name = section.required::<LimitName>(
        "name",
        "it is missing: it names the limit in answers, metrics and logs",
    );
    let by: Vec<By> = section.take_list("by");
    if by.is_empty() && section.problems().len() == before {
        let message = format!("it is missing: {}", By::ACCEPTED);
        section.problem("by", "the rate limits", message);
    }
    refuse_subjects(section, SOURCE, &by);
    let limit = section.required::<Units>(
        "limit",
        "it is missing: the number of requests that a window allows",
    );
    let window = section.required::<Window>(
        "window",
        "it is missing: the length of the window, such as \"1m\"",
    );
    let burst = section.take_optional::<Burst>("burst").map(|burst| burst.0);
    let routes: Vec<RouteName> = section.take_list("routes");
    let enforce = section.take("enforce", true);
    let exact = section.take("exact", false);
    if exact && burst.is_some() {
        let message = "a bucket is split among gateways, never shared: leave burst out".to_owned();
        section.problem("exact", "the rate limits", message);
    }
    if let (Some(Units(limit)), Some(burst)) = (limit, burst)
        && burst > limit
    {
        let message = format!(
            "a burst is at most what a window allows, {limit}: the bucket refills with as much within one"
        );
        section.problem("burst", "the rate limits", message);
    }
    let (name, Units(limit), Window(window)) = (name?, limit?, window?);
    let routes = (!routes.is_empty()).then(|| routes.into_iter().map(|route| route.0).collect());
    (section.problems().len() == before).then_some(RateLimit {
        name: name.0,
        by,
        number: Number { limit, burst },
        window,
        routes,
        enforce,
        exact,
    })
}

/// Refuses subjects that together say nothing.
pub(super) fn refuse_subjects(section: &mut Reader, source: &str, by: &[By]) {
    let has = |one: By| by.contains(&one);
    let twice = by
        .iter()
        .enumerate()
        .find(|(at, one)| by[..*at].contains(one));
    let message = if let Some((_, twice)) = twice {
        format!("\"{twice}\" is there twice")
    } else if has(By::Gateway) && by.len() > 1 {
        "\"gateway\" counts all requests together, so it stands alone".to_owned()
    } else if has(By::Anonymous) && by.iter().any(By::needs_key) {
        "a request without a key has no consumer, so this limit would never apply".to_owned()
    } else {
        return;
    };
    section.problem("by", source, message);
}

/// Refuses routes in `named`, a list of the limit at `path`, that are not there.
pub(super) fn refuse_unknown_routes(
    reader: &mut Reader,
    source: &str,
    path: &str,
    named: &[String],
    routes: &[RouteSettings],
) {
    let default_route = [Arc::from("default")];
    let names: Vec<&Arc<str>> = if routes.is_empty() {
        default_route.iter().collect()
    } else {
        routes.iter().map(|route| &route.name).collect()
    };
    for (at, route) in named.iter().enumerate() {
        if !names.iter().any(|name| ***name == **route) {
            let known: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            let message = format!("there is no route {route:?}; there is {}", known.join(", "));
            reader
                .problems()
                .add(&format!("{path}.routes[{at}]"), source, message);
        }
    }
}

/// Refuses names that are there twice, routes that are not there, limits that a route names without
/// effect, and costs that no window admits.
fn refuse_rates(reader: &mut Reader, rates: &[Option<RateLimit>], routes: &[RouteSettings]) {
    for (index, rate) in rates.iter().enumerate() {
        let named = rate.as_ref().and_then(|rate| rate.routes.as_deref());
        let path = format!("rate_limits[{index}]");
        refuse_unknown_routes(reader, SOURCE, &path, named.unwrap_or_default(), routes);
    }
    let mut add = |path: String, message: String| reader.problems().add(&path, SOURCE, message);
    for (index, rate) in rates.iter().enumerate() {
        let Some(rate) = rate else { continue };
        let earlier = rates[..index].iter().flatten();
        if earlier.into_iter().any(|earlier| earlier.name == rate.name) {
            let message = format!("the name {:?} is that of another limit already", rate.name);
            add(format!("rate_limits[{index}].name"), message);
        }
    }
    for (index, route) in routes.iter().enumerate() {
        let chosen = route.limits.as_deref();
        for (at, name) in chosen.iter().copied().flatten().enumerate() {
            let message = match rates.iter().flatten().find(|rate| rate.name == *name) {
                Some(rate) => no_effect(rate, &route.name),
                None => rates
                    .iter()
                    .all(Option::is_some)
                    .then(|| format!("there is no limit {name:?} in [[rate_limits]]")),
            };
            if let Some(message) = message {
                add(format!("routes[{index}].limits[{at}]"), message);
            }
        }
        let holding = rates.iter().flatten();
        let holding = holding.filter(|rate| rate.holds_for(&route.name, chosen));
        for rate in holding.filter(|rate| rate.number.capacity() < route.cost) {
            let message = format!(
                "the limit {:?} allows {} at once, so it would never admit a request of this cost",
                rate.name,
                rate.number.capacity()
            );
            add(format!("routes[{index}].cost"), message);
        }
    }
}

/// Returns why naming `rate` has no effect on the route `route`; `None` if it has one.
fn no_effect(rate: &RateLimit, route: &str) -> Option<String> {
    let name = &rate.name;
    if !rate.by.iter().any(By::is_chosen_by_routes) {
        let by: Vec<String> = rate.by.iter().map(|by| format!("\"{by}\"")).collect();
        let by = by.join(", ");
        return Some(format!(
            "the limit {name:?} by {by} holds whether the route {route:?} names it or not: leave it out here; its own routes say where it holds"
        ));
    }
    let routes = rate.routes.as_deref()?;
    (!routes.iter().any(|one| one == route)).then(|| {
        format!(
            "the limit {name:?} does not hold on the route {route:?}: add it to the routes of the limit, or leave the limit out here"
        )
    })
}
