//! W3C Trace Context: well-formed headers reach the origin, malformed ones are removed. Passed on,
//! never trusted.

use std::cell::Cell;

use actix_http::header::{HeaderName, HeaderValue};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of a `traceparent` of version 00, and of the common part of later versions:
/// `00-{32}-{16}-{2}`.
const PARENT_BYTES: usize = 55;
/// Maximum bytes of a `traceparent` of a later version.
const MAX_PARENT_BYTES: usize = 255;
/// Maximum bytes of all `tracestate` lines together; the standard requires at least 512 (section
/// 3.3.1.5).
const MAX_STATE_BYTES: usize = 512;
/// Maximum members of `tracestate` (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;
/// Maximum bytes of a member's key, and of its value (sections 3.3.1.3.1 and 3.3.1.3.2).
const MAX_MEMBER_PART_BYTES: usize = 256;

/// The Trace Context of a request. Collected first, because its lines decide on one another.
#[derive(Default)]
pub struct TraceContext<'a> {
    parents: Vec<&'a HeaderValue>,
    states: Vec<&'a HeaderValue>,
}

impl<'a> TraceContext<'a> {
    /// Takes the header if it belongs to Trace Context; returns whether it does.
    pub fn take(&mut self, name: &HeaderName, value: &'a HeaderValue) -> bool {
        let lines = match name {
            name if *name == TRACEPARENT => &mut self.parents,
            name if *name == TRACESTATE => &mut self.states,
            _ => return false,
        };
        lines.push(value);
        true
    }

    /// Returns what is well formed. A malformed `traceparent` takes `tracestate` along (section
    /// 4.3).
    pub fn well_formed(&self) -> impl Iterator<Item = (&'static HeaderName, &'a HeaderValue)> {
        let parent = match self.parents[..] {
            [parent] => Some(parent).filter(|parent| is_parent(parent.as_bytes())),
            // Two readers could each use another one.
            _ => None,
        };
        let states = match parent {
            Some(_) if is_state(self.states.iter().copied()) => &self.states[..],
            _ => &[],
        };
        let states = states.iter().map(|state| (&TRACESTATE, *state));
        parent
            .map(|parent| (&TRACEPARENT, parent))
            .into_iter()
            .chain(states)
    }
}

/// Whether `text` is a `traceparent`: version, trace id, parent id and flags in lower-case
/// hexadecimal digits. Only versions after 00 may have more, after another `-`; version ff and
/// all-zero ids are invalid (section 3.2.2).
fn is_parent(text: &[u8]) -> bool {
    let Some((fixed, more)) = text.split_at_checked(PARENT_BYTES) else {
        return false;
    };
    let is_zero = |range| {
        fixed
            .get::<std::ops::Range<usize>>(range)
            .is_some_and(|id| id.iter().all(|digit| *digit == b'0'))
    };
    let well_formed = fixed.iter().enumerate().all(|(index, byte)| match index {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    });
    let ends = match (fixed.starts_with(b"00"), more) {
        (_, []) => true,
        (true, _) => false,
        (false, more) => more.starts_with(b"-") && text.len() <= MAX_PARENT_BYTES,
    };
    well_formed && ends && !fixed.starts_with(b"ff") && !is_zero(3..35) && !is_zero(36..52)
}

/// Whether these lines together are a `tracestate` (section 3.3.1). A duplicate key is malformed.
fn is_state<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> bool {
    let bytes = Cell::new(0);
    let members = lines
        .inspect(|line| bytes.set(bytes.get() + line.len()))
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        // Empty members are allowed and do not count.
        .filter(|member| !member.is_empty());
    // No key is empty, so the first empty slot is the next one.
    let mut keys: [&[u8]; MAX_MEMBERS] = [b""; MAX_MEMBERS];
    for member in members {
        let Some((key, value)) = split(member, b'=') else {
            return false;
        };
        let place = keys
            .iter_mut()
            .find(|known| known.is_empty() || **known == key);
        match place {
            Some(place) if place.is_empty() && is_key(key) && is_value(value) => *place = key,
            _ => return false,
        }
    }
    bytes.get() <= MAX_STATE_BYTES
}

/// `simple-key` or `tenant@system` (section 3.3.1.3.1) as in level 2 of the standard: a digit may
/// come first.
fn is_key(key: &[u8]) -> bool {
    let part = |part: &[u8], most: usize| {
        (1..=most).contains(&part.len())
            && matches!(part.first(), Some(b'a'..=b'z' | b'0'..=b'9'))
            && part
                .iter()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    match split(key, b'@') {
        None => part(key, MAX_MEMBER_PART_BYTES),
        Some((tenant, system)) => part(tenant, 241) && part(system, 14),
    }
}

/// Visible ASCII and inner spaces, without `,` and `=` (section 3.3.1.3.2).
fn is_value(value: &[u8]) -> bool {
    (1..=MAX_MEMBER_PART_BYTES).contains(&value.len())
        && value
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~') && *byte != b'=')
}

/// Splits at the first `separator`.
fn split(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let (before, rest) = text.split_at_checked(memchr::memchr(separator, text)?)?;
    Some((before, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Number of headers that remain.
    fn left(parents: &[&str], states: &[&str]) -> (usize, usize) {
        let lines = |lines: &[&str]| -> Vec<_> {
            let lines = lines.iter().map(|line| HeaderValue::from_str(line));
            lines.map(Result::unwrap).collect()
        };
        let (parents, states) = (lines(parents), lines(states));
        let mut context = TraceContext::default();
        for (name, lines) in [(&TRACEPARENT, &parents), (&TRACESTATE, &states)] {
            for line in lines {
                assert!(context.take(name, line));
            }
        }
        let count = |wanted| {
            let lines = context.well_formed();
            lines.filter(|(name, _)| *name == wanted).count()
        };
        (count(&TRACEPARENT), count(&TRACESTATE))
    }

    #[test]
    fn a_traceparent_passes_with_its_tracestate_or_neither_does() {
        let later = format!("cc{}", &SOUND[2..]);
        let long = format!("{later}-{}", "a".repeat(200));
        for (parent, sound) in [
            (SOUND.to_owned(), true),
            (SOUND.replace("-01", "-00"), true),
            (SOUND.replace("-01", "-ff"), true),
            // Later versions are read by their known part and may have more.
            (later.clone(), true),
            (format!("{later}-what-comes-then"), true),
            (format!("{later}-"), true),
            (format!("{later}."), false),
            (format!("{later}0"), false),
            (long.clone() + "b", false),
            (long[..255].to_owned(), true),
            // Version 00 has no more.
            (format!("{SOUND}-x"), false),
            (format!("{SOUND}-"), false),
            (format!("{SOUND}0"), false),
            (format!("ff{}", &SOUND[2..]), false),
            (SOUND.to_uppercase(), false),
            (SOUND.replace("0af7", "0AF7"), false),
            (SOUND.replace("b7ad", "b7aD"), false),
            (
                SOUND.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
                false,
            ),
            (SOUND.replace("b7ad6b7169203331", &"0".repeat(16)), false),
            (later.replace("b7ad6b7169203331", &"0".repeat(16)), false),
            (SOUND.replace("0af7", "0ag7"), false),
            (SOUND.replace('-', "_"), false),
            (SOUND.replace("00-", "0-"), false),
            (SOUND.replace("-01", "-1"), false),
            (SOUND.replace("-01", ""), false),
            (SOUND[..54].to_owned(), false),
            (SOUND.replace("0af7", "af7"), false),
            (SOUND.replace("0af7", "00af7"), false),
            (format!("{SOUND},{SOUND}"), false),
            (String::new(), false),
            ("00".to_owned(), false),
        ] {
            let wanted = if sound { (1, 1) } else { (0, 0) };
            assert_eq!(left(&[&parent], &["a=b"]), wanted, "{parent}");
        }
    }

    #[test]
    fn two_traceparents_are_none_and_tracestate_needs_one() {
        assert_eq!(left(&[SOUND, SOUND], &["a=b"]), (0, 0));
        assert_eq!(left(&[SOUND, "x"], &["a=b"]), (0, 0));
        assert_eq!(left(&[], &["a=b"]), (0, 0));
        assert_eq!(left(&[], &[]), (0, 0));
        assert_eq!(left(&[SOUND], &[]), (1, 0));
        assert_eq!(left(&[SOUND], &["a=b", "c=d"]), (1, 2));
    }

    #[test]
    fn a_malformed_tracestate_goes_alone() {
        let members = |count: usize| {
            (0..count)
                .map(|number| format!("k{number}=v"))
                .collect::<Vec<_>>()
                .join(",")
        };
        let longest_key = "k".repeat(256);
        for (state, sound) in [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE".to_owned(), true),
            ("a=b".to_owned(), true),
            ("1a=b".to_owned(), true),
            ("a_-*/9=b".to_owned(), true),
            ("tenant@system=b".to_owned(), true),
            ("0t@s=b".to_owned(), true),
            ("a=b , c=d\t,".to_owned(), true),
            (",,a=b".to_owned(), true),
            (String::new(), true),
            ("a=b c~!".to_owned(), true),
            (format!("{longest_key}=v"), true),
            (members(32), true),
            (members(33), false),
            (format!("{longest_key}k=v"), false),
            (format!("a={}", "v".repeat(256)), true),
            (format!("a={}", "v".repeat(257)), false),
            (format!("a={},b={}", "v".repeat(254), "v".repeat(253)), true),
            (format!("a={0},b={0}", "v".repeat(254)), false),
            ("a".to_owned(), false),
            ("a=".to_owned(), false),
            ("=b".to_owned(), false),
            ("a=b=c".to_owned(), false),
            ("A=b".to_owned(), false),
            ("-a=b".to_owned(), false),
            ("a b=c".to_owned(), false),
            ("a =c".to_owned(), false),
            ("a@=c".to_owned(), false),
            ("@s=c".to_owned(), false),
            ("a@b@c=d".to_owned(), false),
            (format!("a@{}=c", "s".repeat(15)), false),
            ("a=b;c=d,a=e".to_owned(), false),
            ("a=b,a=c".to_owned(), false),
            ("a=\u{e9}".to_owned(), false),
            ("a=b\tc".to_owned(), false),
        ] {
            let wanted = (1, usize::from(sound));
            assert_eq!(left(&[SOUND], &[&state]), wanted, "{state}");
        }
    }

    #[test]
    fn the_lines_of_tracestate_count_together() {
        assert_eq!(left(&[SOUND], &["a=b", "a=c"]), (1, 0));
        assert_eq!(left(&[SOUND], &["a=b", "C=d"]), (1, 0));
        let half = format!("a={}", "v".repeat(254));
        assert_eq!(left(&[SOUND], &[&half, &half.replace('a', "b")]), (1, 2));
        assert_eq!(
            left(&[SOUND], &[&half, &half.replace('a', "b"), "c=d"]),
            (1, 0)
        );
    }
}
