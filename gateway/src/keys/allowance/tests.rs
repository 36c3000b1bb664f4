use proptest::prelude::*;
use serde_json::json;

use super::*;

fn rates(text: &str) -> Rates {
    text.parse().unwrap()
}

fn quotas(text: &str) -> Quotas {
    text.parse().unwrap()
}

#[test]
fn an_allowance_is_read_as_it_is_written() {
    let limits = json!([
        { "name": "burst", "limit": 500, "window": "1m" }, { "name": "steady", "limit": 5 },
        { "name": "search", "limit": null }, { "name": "daily", "limit": 60_000_000, "window": "1d" },
    ]);
    let read = Rates::from_json(&limits).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), limits);
    let text = "burst=500/1m steady=5 search=unlimited daily=60000000/1d";
    assert_eq!((read.to_string().as_str(), rates(text)), (text, read));
    let wanted = json!([
        { "name": "monthly", "limit": 5_000_000, "anchor": 15 },
        { "name": "a", "limit": 1, "period": "month", "anchor": 31 }, { "name": "b", "limit": 1, "period": "week" },
        { "name": "c", "limit": 1, "period": "year", "anchor": "created" }, { "name": "d", "limit": null },
    ]);
    let read = Quotas::from_json(&wanted).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), wanted);
    let text = "monthly=5000000@15 a=1/month@31 b=1/week c=1/year@created d=unlimited";
    assert_eq!((read.to_string().as_str(), quotas(text)), (text, read));
    assert_eq!(
        rates(&limits.to_string()),
        Rates::from_json(&limits).unwrap()
    );
    assert_eq!(rates(" a=1 ;b=2, c=3").len(), 3);
}

#[test]
fn windows_have_one_form() {
    for (text, shown) in [
        ("1s", "1s"),
        ("60s", "1m"),
        ("90s", "90s"),
        ("60m", "1h"),
        ("86400s", "1d"),
        ("24h", "1d"),
    ] {
        let one = rates(&format!("a=1/{text}"));
        assert_eq!(one.to_string(), format!("a=1/{shown}"));
    }
}

#[test]
fn a_mistake_is_told_with_its_place() {
    let at = |value: Value, is_rate: bool| -> Vec<(String, String)> {
        let mistakes = match is_rate {
            true => Rates::from_json(&value).unwrap_err(),
            false => Quotas::from_json(&value).unwrap_err(),
        };
        let mistakes = mistakes.into_iter();
        mistakes
            .map(|wrong| (wrong.pointer, wrong.reason))
            .collect()
    };
    let nine: Vec<Value> = (0..9)
        .map(|n| json!({ "name": format!("n{n}"), "limit": 1 }))
        .collect();
    for (value, is_rate, pointers, said) in [
        (json!({}), true, vec![""], "an array"),
        (json!([1]), true, vec!["/0"], "an object"),
        (json!([{}]), true, vec!["/0/name", "/0/limit"], "missing"),
        (json!(nine), true, vec![""], "at most 8"),
        (
            json!([{ "name": "a", "limit": 1 }, { "name": "a", "limit": 2 }]),
            true,
            vec![""],
            "same name",
        ),
        (
            json!([{ "name": "A", "limit": 1 }]),
            true,
            vec!["/0/name"],
            "lower-case",
        ),
        (
            json!([{ "name": "a", "limit": 0 }]),
            true,
            vec!["/0/limit"],
            "from 1 to",
        ),
        (
            json!([{ "name": "a", "limit": -1 }]),
            true,
            vec!["/0/limit"],
            "from 1 to",
        ),
        (
            json!([{ "name": "a", "limit": 1.5 }]),
            true,
            vec!["/0/limit"],
            "from 1 to",
        ),
        (
            json!([{ "name": "a", "limit": 60_000_001 }]),
            true,
            vec!["/0/limit"],
            "from 1 to",
        ),
        (
            json!([{ "name": "a", "limit": "1" }]),
            true,
            vec!["/0/limit"],
            "from 1 to",
        ),
        (
            json!([{ "name": "a", "limit": 1, "window": "0s" }]),
            true,
            vec!["/0/window"],
            "from `1s` to `1d`",
        ),
        (
            json!([{ "name": "a", "limit": 1, "window": "25h" }]),
            true,
            vec!["/0/window"],
            "from `1s` to `1d`",
        ),
        (
            json!([{ "name": "a", "limit": 1, "window": 60 }]),
            true,
            vec!["/0/window"],
            "from `1s` to `1d`",
        ),
        (
            json!([{ "name": "a", "limit": null, "window": "1m" }]),
            true,
            vec!["/0/window"],
            "no window",
        ),
        (
            json!([{ "name": "a", "requests_per_unit": 1, "unit": "minute" }]),
            true,
            vec!["/0/requests_per_unit", "/0/unit", "/0/limit"],
            "`limit` here",
        ),
        (
            json!([{ "name": "a", "limit": 1, "period": "month" }]),
            true,
            vec!["/0/period"],
            "no such member",
        ),
        (
            json!([{ "name": "a", "limit": 1, "minute": 5 }]),
            false,
            vec!["/0/minute"],
            "no such member",
        ),
        (
            json!([{ "name": "a", "limit": 1, "period": "monthly" }]),
            false,
            vec!["/0/period"],
            "hour, day",
        ),
        (
            json!([{ "name": "a", "limit": 1, "anchor": 0 }]),
            false,
            vec!["/0/anchor"],
            "from 1 to 31",
        ),
        (
            json!([{ "name": "a", "limit": 1, "anchor": 32 }]),
            false,
            vec!["/0/anchor"],
            "from 1 to 31",
        ),
        (
            json!([{ "name": "a", "limit": 1, "anchor": "15" }]),
            false,
            vec!["/0/anchor"],
            "from 1 to 31",
        ),
        (
            json!([{ "name": "a", "limit": 1, "anchor": 15, "period": "week" }]),
            false,
            vec!["/0/anchor"],
            "`month` only",
        ),
        (
            json!([{ "name": "a", "limit": null, "period": "month" }]),
            false,
            vec!["/0/period"],
            "no period",
        ),
    ] {
        let mistakes = at(value.clone(), is_rate);
        let places: Vec<&str> = mistakes
            .iter()
            .map(|(pointer, _)| pointer.as_str())
            .collect();
        assert_eq!(places, pointers, "{value}");
        assert!(mistakes[0].1.contains(said), "{value}: {}", mistakes[0].1);
    }
    for text in [
        "burst",
        "=5",
        "a=",
        "a=0",
        "a=5/",
        "a=5/0s",
        "a=5/2d",
        "a=-1",
        "a=+1",
        "a=unlimited/1m",
        "a b",
        "a=1 a=2",
        "A=1",
    ] {
        assert!(text.parse::<Rates>().is_err(), "{text}");
    }
    for text in [
        "a=1/minute",
        "a=1@0",
        "a=1@32",
        "a=1@",
        "a=1/day@3",
        "a=unlimited@1",
        "a=unlimited/month",
        "a=x",
    ] {
        assert!(text.parse::<Quotas>().is_err(), "{text}");
    }
    for number in ["0", "1000001", "-1", "1.0", ""] {
        assert!(number.parse::<MaxInFlight>().is_err(), "{number}");
    }
}

#[test]
fn a_key_has_no_more_than_its_consumer_or_its_plan() {
    for (own, consumer, plan, is_granted) in [
        ("a=5/1m", "", "", true),
        ("a=5/1m", "a=5/1m", "", true),
        ("a=6/1m", "a=5/1m", "", false),
        ("a=6", "a=5/1m", "", false),
        ("a=5", "a=5/1m", "", true),
        // More a second, and less.
        ("a=5/1s", "a=5/1m", "", false),
        ("a=300/1h", "a=5/1m", "", true),
        ("a=301/1h", "a=5/1m", "", false),
        // Only the configuration knows this window.
        ("a=6/1m", "a=5", "", true),
        ("a=6", "a=unlimited", "", true),
        ("a=unlimited", "a=unlimited", "", false),
        ("a=unlimited", "", "", false),
        ("b=6/1m", "a=5/1m", "", true),
        ("a=6/1m", "", "a=5/1m", false),
        // The consumer's own number precedes its plan's.
        ("a=6/1m", "a=7/1m", "a=5/1m", true),
        ("a=6/1m", "a=5/1m", "a=7/1m", false),
    ] {
        let of = |text: &str| Allowance {
            rates: rates(text),
            ..Allowance::default()
        };
        let refused = of(own).first_not_granted(&of(consumer), Some(&of(plan)));
        assert_eq!(refused.is_none(), is_granted, "{own} {consumer} {plan}");
        assert!(
            refused.is_none_or(|refused| refused.attribute == "limits" && refused.index == Some(0))
        );
    }
    for (own, consumer, is_granted) in [
        ("m=5", "m=5/month", true),
        ("m=6", "m=5/month", false),
        ("m=6/month", "m=5/month", false),
        ("m=6/day", "m=5/month", true),
        ("m=unlimited", "m=5", false),
        ("m=5", "m=unlimited", true),
    ] {
        let of = |text: &str| Allowance {
            quotas: quotas(text),
            ..Allowance::default()
        };
        let refused = of(own).first_not_granted(&of(consumer), None);
        assert_eq!(refused.is_none(), is_granted, "{own} {consumer}");
    }
    let of = |number: Option<u64>| Allowance {
        max_in_flight: number.map(|number| number.try_into().unwrap()),
        ..Allowance::default()
    };
    for (own, consumer, plan, is_granted) in [
        (Some(5), Some(5), None, true),
        (Some(6), Some(5), Some(9), false),
        (Some(6), None, Some(5), false),
        (Some(6), None, None, true),
        (None, Some(5), None, true),
    ] {
        let refused = of(own).first_not_granted(&of(consumer), Some(&of(plan)));
        assert_eq!(refused.is_none(), is_granted, "{own:?} {consumer:?}");
    }
}

proptest! {
    #[test]
    fn what_is_shown_is_read_again(
        entries in prop::collection::btree_map("[a-z0-9]{1,8}", (prop::option::of(1..=MAX_RATE), prop::option::of(1_u64..=86_400)), 0..=8),
    ) {
        let entries = entries.into_iter().map(|(name, (limit, window))| RateAllowance {
            name: name.parse().unwrap(),
            limit,
            window: limit.and(window).map(std::time::Duration::from_secs),
        });
        let all = Rates::new(entries).unwrap();
        prop_assert_eq!(&all.to_string().parse::<Rates>().unwrap(), &all);
        prop_assert_eq!(Rates::from_json(&serde_json::to_value(&all).unwrap()).unwrap(), all);
    }
}
