use proptest::prelude::*;

use super::*;

/// Zones with their troubles: half hours, clocks that change at midnight, over midnight, by half an
/// hour, and a day that never was.
const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Africa/Cairo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
];

const LENGTHS: [Length; 4] = [Length::Day, Length::Week, Length::Month, Length::Year];

fn periods(length: Length, anchor: Anchor, zone_name: &str) -> Periods {
    Periods {
        length,
        anchor,
        zone: zone(zone_name).unwrap(),
    }
}

fn millis(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

/// The bounds as they are read.
fn shown(bounds: Bounds) -> [String; 2] {
    let show = |at: UnixMillis| Timestamp::from_millisecond(at.0).unwrap().to_string();
    [show(bounds.start), bounds.end.map_or("never".into(), show)]
}

#[test]
fn periods_begin_where_calendar_anchor_and_zone_say() {
    use Anchor::{Calendar, Created, Day};
    let created = millis("2023-08-31T22:30:00Z");
    for (length, anchor, zone, at, start, end) in [
        (
            Length::Hour,
            Calendar,
            "Asia/Kolkata",
            "2024-02-29T10:59:59.999Z",
            "2024-02-29T10:00:00Z",
            "2024-02-29T11:00:00Z",
        ),
        (
            Length::Lifetime,
            Calendar,
            "UTC",
            "2024-02-29T10:59:59Z",
            "1970-01-01T00:00:00Z",
            "never",
        ),
        (
            Length::Day,
            Calendar,
            "UTC",
            "2024-02-29T00:00:00Z",
            "2024-02-29T00:00:00Z",
            "2024-03-01T00:00:00Z",
        ),
        (
            Length::Day,
            Calendar,
            "Asia/Kolkata",
            "2024-02-29T18:29:59Z",
            "2024-02-28T18:30:00Z",
            "2024-02-29T18:30:00Z",
        ),
        (
            Length::Day,
            Calendar,
            "Asia/Kathmandu",
            "2024-02-29T18:15:00Z",
            "2024-02-29T18:15:00Z",
            "2024-03-01T18:15:00Z",
        ),
        // Clocks go forward on the 31st of March, and back on the 27th of October: 23 and 25 hours.
        (
            Length::Day,
            Calendar,
            "Europe/Berlin",
            "2024-03-31T12:00:00Z",
            "2024-03-30T23:00:00Z",
            "2024-03-31T22:00:00Z",
        ),
        (
            Length::Day,
            Calendar,
            "Europe/Berlin",
            "2024-10-27T12:00:00Z",
            "2024-10-26T22:00:00Z",
            "2024-10-27T23:00:00Z",
        ),
        // A Monday; the week has 167 hours.
        (
            Length::Week,
            Calendar,
            "Europe/Berlin",
            "2024-03-31T21:59:59Z",
            "2024-03-24T23:00:00Z",
            "2024-03-31T22:00:00Z",
        ),
        (
            Length::Week,
            Calendar,
            "UTC",
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00Z",
            "2024-01-08T00:00:00Z",
        ),
        (
            Length::Month,
            Calendar,
            "UTC",
            "2024-02-29T23:59:59Z",
            "2024-02-01T00:00:00Z",
            "2024-03-01T00:00:00Z",
        ),
        (
            Length::Month,
            Calendar,
            "America/New_York",
            "2024-03-01T04:59:59Z",
            "2024-02-01T05:00:00Z",
            "2024-03-01T05:00:00Z",
        ),
        // Day 31 is the 29th of February in a leap year, and the 31st again in March.
        (
            Length::Month,
            Day(31),
            "UTC",
            "2024-01-31T00:00:00Z",
            "2024-01-31T00:00:00Z",
            "2024-02-29T00:00:00Z",
        ),
        (
            Length::Month,
            Day(31),
            "UTC",
            "2024-02-29T00:00:00Z",
            "2024-02-29T00:00:00Z",
            "2024-03-31T00:00:00Z",
        ),
        (
            Length::Month,
            Day(31),
            "UTC",
            "2024-03-31T00:00:00Z",
            "2024-03-31T00:00:00Z",
            "2024-04-30T00:00:00Z",
        ),
        (
            Length::Month,
            Day(31),
            "UTC",
            "2024-03-30T23:59:59Z",
            "2024-02-29T00:00:00Z",
            "2024-03-31T00:00:00Z",
        ),
        (
            Length::Month,
            Day(31),
            "UTC",
            "2023-02-28T00:00:00Z",
            "2023-02-28T00:00:00Z",
            "2023-03-31T00:00:00Z",
        ),
        (
            Length::Month,
            Day(15),
            "UTC",
            "2024-01-14T23:59:59Z",
            "2023-12-15T00:00:00Z",
            "2024-01-15T00:00:00Z",
        ),
        // Created on the 31st of August, in Berlin already the 1st of September.
        (
            Length::Month,
            Created,
            "UTC",
            "2024-02-29T12:00:00Z",
            "2024-02-29T00:00:00Z",
            "2024-03-31T00:00:00Z",
        ),
        (
            Length::Month,
            Created,
            "Europe/Berlin",
            "2024-02-29T12:00:00Z",
            "2024-01-31T23:00:00Z",
            "2024-02-29T23:00:00Z",
        ),
        // A Thursday.
        (
            Length::Week,
            Created,
            "UTC",
            "2023-09-06T23:59:59Z",
            "2023-08-31T00:00:00Z",
            "2023-09-07T00:00:00Z",
        ),
        (
            Length::Year,
            Created,
            "UTC",
            "2024-08-30T23:59:59Z",
            "2023-08-31T00:00:00Z",
            "2024-08-31T00:00:00Z",
        ),
        (
            Length::Year,
            Calendar,
            "UTC",
            "2024-12-31T23:59:59Z",
            "2024-01-01T00:00:00Z",
            "2025-01-01T00:00:00Z",
        ),
        // Before it was created, as a clock that is wrong may have it.
        (
            Length::Month,
            Created,
            "UTC",
            "2023-06-30T00:00:00Z",
            "2023-06-30T00:00:00Z",
            "2023-07-31T00:00:00Z",
        ),
        // The 30th of December 2011 never was in Samoa.
        (
            Length::Day,
            Calendar,
            "Pacific/Apia",
            "2011-12-30T09:59:59Z",
            "2011-12-29T10:00:00Z",
            "2011-12-30T10:00:00Z",
        ),
        (
            Length::Day,
            Calendar,
            "Pacific/Apia",
            "2011-12-30T10:00:00Z",
            "2011-12-30T10:00:00Z",
            "2011-12-31T10:00:00Z",
        ),
        // Clocks were set back from 00:01 to 23:01: the day that had begun goes on.
        (
            Length::Day,
            Calendar,
            "America/St_Johns",
            "2010-11-07T02:31:00Z",
            "2010-11-07T02:30:00Z",
            "2010-11-08T03:30:00Z",
        ),
        (
            Length::Day,
            Calendar,
            "America/St_Johns",
            "2010-11-07T03:00:00Z",
            "2010-11-07T02:30:00Z",
            "2010-11-08T03:30:00Z",
        ),
    ] {
        let periods = periods(length, anchor, zone);
        let bounds = periods.at(millis(at), created);
        assert_eq!(
            shown(bounds),
            [start, end],
            "{length:?} {anchor:?} {zone} {at}"
        );
    }
}

#[test]
fn whoever_was_created_on_a_leap_day_has_one_period_a_year() {
    let created = millis("2024-02-29T12:00:00Z");
    let yearly = periods(Length::Year, Anchor::Created, "UTC");
    let mut at = created;
    let mut starts = Vec::new();
    for _ in 0..6 {
        let bounds = yearly.at(at, created);
        starts.push(shown(bounds)[0][..10].to_owned());
        at = bounds.end.unwrap();
    }
    let wanted = [
        "2024-02-29",
        "2025-02-28",
        "2026-02-28",
        "2027-02-28",
        "2028-02-29",
        "2029-02-28",
    ];
    assert_eq!(starts, wanted);
}

#[test]
fn four_centuries_of_periods_follow_each_other_in_every_zone() {
    for name in ZONES {
        for (length, anchor) in [
            (Length::Month, Anchor::Day(31)),
            (Length::Month, Anchor::Day(29)),
            (Length::Month, Anchor::Calendar),
            (Length::Year, Anchor::Calendar),
        ] {
            let periods = periods(length, anchor, name);
            let (mut at, end) = (
                millis("1900-06-15T00:00:00Z"),
                millis("2300-06-15T00:00:00Z"),
            );
            let mut count = 0;
            while at < end {
                let bounds = periods.at(at, UnixMillis(0));
                assert!(bounds.start <= at && at < bounds.end.unwrap());
                let last = UnixMillis(bounds.end.unwrap().0 - 1);
                assert_eq!(
                    periods.at(last, UnixMillis(0)),
                    bounds,
                    "{name} {length:?} {anchor:?}"
                );
                at = bounds.end.unwrap();
                count += 1;
            }
            let per_year = if length == Length::Year { 1 } else { 12 };
            assert!(
                (400 * per_year..=401 * per_year).contains(&count),
                "{name}: {count}"
            );
        }
    }
}

#[test]
fn extreme_clocks_have_periods_too() {
    for length in LENGTHS {
        for name in ZONES {
            for at in [i64::MIN, -1, 0, i64::MAX] {
                let periods = periods(length, Anchor::Calendar, name);
                let bounds = periods.at(UnixMillis(at), UnixMillis(at));
                assert!(bounds.start < bounds.end.unwrap());
            }
        }
    }
}

#[test]
fn zones_are_found_by_their_names() {
    for name in [
        "UTC",
        "Europe/Berlin",
        "Asia/Kolkata",
        "America/Argentina/Ushuaia",
    ] {
        assert!(zone(name).is_some(), "{name}");
    }
    for name in [
        "",
        "Mars/Olympus",
        "+05:30",
        "Europe/",
        "../etc/passwd",
        "Berlin",
    ] {
        assert!(zone(name).is_none(), "{name}");
    }
}

fn anchor() -> impl Strategy<Value = Anchor> {
    prop_oneof![
        Just(Anchor::Calendar),
        Just(Anchor::Created),
        (1u8..=31).prop_map(Anchor::Day),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Each moment falls into one period, and none comes back.
    #[test]
    fn periods_cover_time_without_gap_and_overlap(
        zone in prop::sample::select(&ZONES[..]),
        length in prop::sample::select(&LENGTHS[..]),
        anchor in anchor(),
        at in 0i64..4_102_444_800_000,
        created in 0i64..4_102_444_800_000,
        later in 0i64..200_000_000,
    ) {
        let periods = periods(length, anchor, zone);
        let (at, created) = (UnixMillis(at), UnixMillis(created));
        let bounds = periods.at(at, created);
        let end = bounds.end.unwrap();
        prop_assert!(bounds.start <= at && at < end);
        // From the first to the last moment it is the same.
        prop_assert_eq!(periods.at(bounds.start, created), bounds);
        prop_assert_eq!(periods.at(UnixMillis(end.0 - 1), created), bounds);
        prop_assert_eq!(periods.at(end, created).start, end);
        let next = periods.at(UnixMillis(at.0 + later), created);
        prop_assert!(next.start >= bounds.start);
        // A day of 23 to 25 hours, or two at the date line.
        let hours = (end.0 - bounds.start.0) / HOUR;
        let (least, most) = match length {
            Length::Day => (22, 49),
            Length::Week => (6 * 24, 8 * 24 + 1),
            Length::Month => (27 * 24, 32 * 24 + 1),
            _ => (364 * 24, 367 * 24),
        };
        prop_assert!((least..=most).contains(&hours), "{} hours", hours);
    }
}
