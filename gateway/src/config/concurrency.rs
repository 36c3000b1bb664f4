//! `[[concurrency_limits]]`: how many requests anyone may have in flight.

use crate::config::limit_values::{LimitName, RouteName};
use crate::config::limits::{refuse_subjects, refuse_unknown_routes};
use crate::config::reader::Reader;
use crate::config::routes::RouteSettings;
use crate::config::value::Setting;
use crate::keys::allowance::MAX_IN_FLIGHT;
use crate::limits::By;
use crate::limits::concurrency::{ConcurrencyLimit, MAX_LIMITS};

/// Where problems between limits come from.
const SOURCE: &str = "the concurrency limits";
/// Other gateways' words for settings of a limit, with ours.
const WORDS_OF_OTHERS: &[(&str, &str)] = &[
    ("conn", "limit"),
    ("connections", "limit"),
    ("count", "limit"),
    ("max", "limit"),
    ("max_connections", "limit"),
    ("max_in_flight", "limit"),
    ("amount", "limit"),
    (
        "window",
        "nothing: a limit on requests in flight has no window",
    ),
    (
        "burst",
        "nothing: a limit on requests in flight has no burst",
    ),
    ("key", "by"),
    ("limit_by", "by"),
    ("source_criterion", "by"),
    ("sourcecriterion", "by"),
    ("dry_run", "enforce = false"),
    ("shadow_mode", "enforce = false"),
];

/// Requests in flight of one subject.
struct Requests(u32);

impl Setting for Requests {
    const ACCEPTED: &'static str = "a whole number from 1 to 1000000";

    fn parse(text: &str) -> Result<Self, String> {
        text.replace('_', "")
            .parse()
            .ok()
            .filter(|number| (1..=MAX_IN_FLIGHT).contains(number))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// Reads the limits; `routes` are those that they may name.
pub(super) fn read_concurrency(
    reader: &mut Reader,
    routes: &[RouteSettings],
) -> Vec<ConcurrencyLimit> {
    let read = reader.sections("concurrency_limits", read_limit);
    let mut add = |path: String, message: String| reader.problems().add(&path, SOURCE, message);
    if read.len() > MAX_LIMITS {
        let message = format!("there are {}, and {MAX_LIMITS} are the most", read.len());
        add("concurrency_limits".to_owned(), message);
    }
    for (index, limit) in read.iter().enumerate() {
        let Some(limit) = limit else { continue };
        let mut earlier = read[..index].iter().flatten();
        if earlier.any(|earlier| earlier.name == limit.name) {
            let message = format!("the name {:?} is that of another limit already", limit.name);
            add(format!("concurrency_limits[{index}].name"), message);
        }
    }
    for (index, limit) in read.iter().enumerate() {
        let named = limit.as_ref().and_then(|limit| limit.routes.as_deref());
        let path = format!("concurrency_limits[{index}]");
        refuse_unknown_routes(reader, SOURCE, &path, named.unwrap_or_default(), routes);
    }
    read.into_iter().flatten().collect()
}

fn read_limit(section: &mut Reader) -> Option<ConcurrencyLimit> {
    section.expect_words(WORDS_OF_OTHERS);
    let before = section.problems().len();
    let name = section.required::<LimitName>(
        "name",
        "it is missing: it names the limit in answers, metrics and logs",
    );
    let by: Vec<By> = section.take_list("by");
    if by.is_empty() && section.problems().len() == before {
        let message = format!("it is missing: {}", By::ACCEPTED);
        section.problem("by", SOURCE, message);
    }
    refuse_subjects(section, SOURCE, &by);
    let limit = section.required::<Requests>(
        "limit",
        "it is missing: the number of requests that a subject may have in flight",
    );
    let routes: Vec<RouteName> = section.take_list("routes");
    let enforce = section.take("enforce", true);
    let (name, Requests(limit)) = (name?, limit?);
    let routes = (!routes.is_empty()).then(|| routes.into_iter().map(|route| route.0).collect());
    (section.problems().len() == before).then_some(ConcurrencyLimit {
        name: name.0,
        by,
        limit,
        routes,
        enforce,
    })
}
