//! Fields that tell a caller how much of its limits and quotas is left.
//!
//! By default those of draft-ietf-httpapi-ratelimit-headers-11, which is no standard yet and may
//! change; so they are in one place and can be switched.

use std::fmt::Write as _;
use std::time::Duration;

use actix_http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::limits::Standing;

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static STATE: HeaderName = HeaderName::from_static("ratelimit");
static X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Form of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitFields {
    /// `RateLimit-Policy` and `RateLimit` of draft 11.
    #[default]
    Draft11,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, in seconds from now, of the limit with the
    /// least left.
    XRateLimit,
    /// None.
    Off,
}

/// Where a caller stands, and the form to tell it in.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Form of the fields.
    pub form: LimitFields,
    /// Limits and quotas, the one with the least left first.
    pub standings: [Option<Standing>; 2],
}

impl Told {
    /// Adds the fields. Fields of the same name that the origin sent stay: lists may have several
    /// lines (RFC 9110, section 5.3), and `X-RateLimit-*` then are the origin's own.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        if self.form == LimitFields::XRateLimit && headers.contains_key(&X_LIMIT) {
            return;
        }
        self.each_line(|name, value| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(name, value);
            }
        });
    }

    /// Calls `line` with each line.
    pub fn each_line(&self, mut line: impl FnMut(HeaderName, String)) {
        let Self { form, standings } = self;
        match (form, &standings[0]) {
            (LimitFields::Off, _) | (_, None) => {}
            (LimitFields::Draft11, Some(_)) => {
                let (mut policy, mut state) =
                    (String::with_capacity(64), String::with_capacity(64));
                for standing in standings.iter().flatten() {
                    write_policy(&mut policy, standing);
                    write_state(&mut state, standing);
                }
                line(POLICY.clone(), policy);
                line(STATE.clone(), state);
            }
            (LimitFields::XRateLimit, Some(least)) => {
                line(X_LIMIT.clone(), least.limit.to_string());
                line(X_REMAINING.clone(), least.remaining.to_string());
                if let Some(more_in) = least.more_in {
                    line(X_RESET.clone(), whole_seconds(more_in).to_string());
                }
            }
        }
    }
}

// Writing to a string cannot fail. Names of limits need no escape in a quoted string.

fn write_policy(list: &mut String, standing: &Standing) {
    let Standing {
        name,
        limit,
        window,
        ..
    } = standing;
    let _ = write!(list, "{}\"{name}\";q={limit}", separator(list));
    if let Some(window) = window {
        let _ = write!(list, ";w={}", window.as_secs());
    }
}

fn write_state(list: &mut String, standing: &Standing) {
    let Standing {
        name, remaining, ..
    } = standing;
    let _ = write!(list, "{}\"{name}\";r={remaining}", separator(list));
    if let Some(more_in) = standing.more_in.filter(|more_in| !more_in.is_zero()) {
        let _ = write!(list, ";t={}", whole_seconds(more_in));
    }
}

fn separator(list: &str) -> &'static str {
    if list.is_empty() { "" } else { ", " }
}

/// Whole seconds, rounded up.
#[must_use]
pub fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(name: &str, remaining: u64, more_in: Duration) -> Standing {
        Standing {
            name: name.into(),
            limit: 100,
            window: Some(Duration::from_secs(60)),
            remaining,
            more_in: Some(more_in),
        }
    }

    fn quota(name: &str, remaining: u64, more_in: Option<Duration>) -> Standing {
        Standing {
            name: name.into(),
            limit: 1000,
            window: None,
            remaining,
            more_in,
        }
    }

    fn lines(told: &Told, origin: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in origin {
            let (name, value) = (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
            headers.append(name, value);
        }
        told.add_to(&mut headers);
        let lines = headers.iter();
        let lines = lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines
    }

    #[test]
    fn fields_have_the_form_of_the_setting() {
        let burst = standing("burst", 50, Duration::from_millis(29_001));
        let day = standing("day-1", 100, Duration::ZERO);
        for (form, standings, wanted) in [
            (
                LimitFields::Draft11,
                [Some(burst.clone()), None],
                &[
                    "ratelimit-policy: \"burst\";q=100;w=60",
                    "ratelimit: \"burst\";r=50;t=30",
                ][..],
            ),
            (
                LimitFields::Draft11,
                [Some(burst.clone()), Some(day)],
                &[
                    "ratelimit-policy: \"burst\";q=100;w=60, \"day-1\";q=100;w=60",
                    "ratelimit: \"burst\";r=50;t=30, \"day-1\";r=100",
                ],
            ),
            (
                LimitFields::XRateLimit,
                [Some(burst.clone()), None],
                &[
                    "x-ratelimit-limit: 100",
                    "x-ratelimit-remaining: 50",
                    "x-ratelimit-reset: 30",
                ],
            ),
            (
                LimitFields::Draft11,
                [
                    Some(quota("monthly", 7, Some(Duration::from_millis(86_399_001)))),
                    Some(quota("trial", 9, None)),
                ],
                &[
                    "ratelimit-policy: \"monthly\";q=1000, \"trial\";q=1000",
                    "ratelimit: \"monthly\";r=7;t=86400, \"trial\";r=9",
                ],
            ),
            (
                LimitFields::XRateLimit,
                [Some(quota("trial", 9, None)), Some(burst.clone())],
                &["x-ratelimit-limit: 1000", "x-ratelimit-remaining: 9"],
            ),
            (LimitFields::Off, [Some(burst), None], &[]),
            (LimitFields::Draft11, [None, None], &[]),
        ] {
            let told = Told { form, standings };
            assert_eq!(lines(&told, &[]), wanted, "{form:?}");
        }
    }

    #[test]
    fn fields_of_the_origin_survive() {
        let standings = [Some(standing("burst", 0, Duration::from_secs(1))), None];
        let origin = [
            ("ratelimit", "\"own\";r=1"),
            ("ratelimit-policy", "\"own\";q=1"),
        ];
        let draft = Told {
            form: LimitFields::Draft11,
            standings: standings.clone(),
        };
        assert_eq!(
            lines(&draft, &origin),
            [
                "ratelimit-policy: \"burst\";q=100;w=60",
                "ratelimit-policy: \"own\";q=1",
                "ratelimit: \"burst\";r=0;t=1",
                "ratelimit: \"own\";r=1",
            ]
        );
        let older = Told {
            form: LimitFields::XRateLimit,
            standings,
        };
        let origin = [("x-ratelimit-limit", "7"), ("x-ratelimit-reset", "1")];
        assert_eq!(
            lines(&older, &origin),
            ["x-ratelimit-limit: 7", "x-ratelimit-reset: 1"]
        );
    }
}
