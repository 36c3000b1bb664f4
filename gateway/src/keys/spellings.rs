//! Escapes in a text: percent-encoding, also repeated, and the escapes of JSON, JavaScript and
//! HTML. A search for a key covers each unescaped reading of the text; base64 and other encodings
//! are out of scope.

use memchr::memchr3_iter;

/// Number of escape layers that are undone one by one. Deeper layers are undone all at once.
const MAX_LAYERS: usize = 8;

/// Returns whether `holds` accepts `text` or one of its readings, removing a layer of escapes at a
/// time until nothing changes. A text without escapes is tested once and allocates nothing.
pub fn any_reading(text: &[u8], mut holds: impl FnMut(&[u8]) -> bool) -> bool {
    if holds(text) {
        return true;
    }
    let Some(mut reading) = undo_layer(text) else {
        return false;
    };
    for _ in 1..MAX_LAYERS {
        if holds(&reading) {
            return true;
        }
        match undo_layer(&reading) {
            Some(deeper) => reading = deeper,
            None => return false,
        }
    }
    holds(&reading) || holds(&undo_all(&reading))
}

/// Undoes each escape of `text` once; `None` if there is none.
fn undo_layer(text: &[u8]) -> Option<Vec<u8>> {
    let mut undone: Option<Vec<u8>> = None;
    let mut done = 0;
    for begin in memchr3_iter(b'%', b'\\', b'&', text) {
        if begin < done {
            continue;
        }
        if let Some((byte, length)) = text.get(begin..).and_then(escape) {
            let undone = undone.get_or_insert_with(|| Vec::with_capacity(text.len()));
            undone.extend(text.get(done..begin).unwrap_or_default());
            undone.push(byte);
            done = begin + length;
        }
    }
    undone.map(|mut undone| {
        undone.extend(text.get(done..).unwrap_or_default());
        undone
    })
}

/// Undoes all layers in one pass, including escapes that an undone escape completes.
fn undo_all(text: &[u8]) -> Vec<u8> {
    let mut undone: Vec<u8> = Vec::with_capacity(text.len());
    for byte in text {
        undone.push(*byte);
        while let Some((byte, length)) = escape_at_end(&undone) {
            undone.truncate(undone.len() - length);
            undone.push(byte);
        }
    }
    undone
}

fn escape_at_end(text: &[u8]) -> Option<(u8, usize)> {
    (2..=MAX_ESCAPE_BYTES.min(text.len())).find_map(|length| {
        let tail = text.get(text.len() - length..)?;
        escape(tail).filter(|(_, whole)| *whole == length)
    })
}

/// Longest escape: `&UnderBar;`, or a number with leading zeros.
const MAX_ESCAPE_BYTES: usize = 12;

/// Returns the byte and the length of the escape at the beginning of `text`. Ignores characters
/// beyond ASCII, which no key contains.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'%', b'u' | b'U', rest @ ..] => digits(rest, 16, 4, 4).map(|(byte, _)| (byte, 6)),
        [b'%', high, low, ..] => Some((hexadecimal(*high)? * 16 + hexadecimal(*low)?, 3)),
        [b'\\', b'u', b'{', rest @ ..] => {
            let (byte, length) = digits(rest, 16, 1, 6)?;
            (rest.get(length) == Some(&b'}')).then_some((byte, length + 4))
        }
        [b'\\', b'u' | b'U', rest @ ..] => digits(rest, 16, 4, 4).map(|(byte, _)| (byte, 6)),
        [b'\\', b'x' | b'X', rest @ ..] => digits(rest, 16, 2, 2).map(|(byte, _)| (byte, 4)),
        [b'&', b'#', b'x' | b'X', rest @ ..] => entity(rest, 16, 3),
        [b'&', b'#', rest @ ..] => entity(rest, 10, 2),
        [b'&', rest @ ..] => ["lowbar;", "UnderBar;"]
            .into_iter()
            .find(|name| rest.starts_with(name.as_bytes()))
            .map(|name| (b'_', name.len() + 1)),
        _ => None,
    }
}

/// Parses the number of an HTML entity and returns its length, including the `before` bytes before
/// it and the `;`.
fn entity(text: &[u8], radix: u32, before: usize) -> Option<(u8, usize)> {
    let (byte, length) = digits(text, radix, 1, 7)?;
    (text.get(length) == Some(&b';')).then_some((byte, before + length + 1))
}

/// Parses the ASCII character with the code of `least` to `most` digits at the beginning of `text`;
/// returns the number of digits too.
fn digits(text: &[u8], radix: u32, least: usize, most: usize) -> Option<(u8, usize)> {
    let mut number = 0_u32;
    let mut length = 0;
    for digit in text.iter().take(most) {
        let Some(value) = char::from(*digit).to_digit(radix) else {
            break;
        };
        number = number * radix + value;
        length += 1;
    }
    let byte = u8::try_from(number).ok().filter(u8::is_ascii)?;
    (length >= least).then_some((byte, length))
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Escapes some bytes of `text`, layer by layer; each layer lists the bytes and the escape to
    /// use.
    pub(crate) fn escaped(text: &str, layers: &[Vec<u8>]) -> String {
        layers.iter().fold(text.to_owned(), |text, choices| {
            let mut choices = choices.iter().cycle();
            text.chars()
                .map(
                    |char| match (choices.next().map_or(0, |choice| choice % 12), char as u32) {
                        (0, code) => format!("%{code:02x}"),
                        (1, code) => format!("%{code:02X}"),
                        (2, code) => format!("\\u{code:04x}"),
                        (3, code) => format!("&#{code};"),
                        (4, code) => format!("&#x{code:X};"),
                        (5, code) => format!("%u{code:04X}"),
                        (6, code) => format!("\\x{code:02X}"),
                        (7, code) => format!("\\u{{{code:x}}}"),
                        _ => char.to_string(),
                    },
                )
                .collect()
        })
    }

    pub(crate) fn layers(most: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..=most)
    }

    #[test]
    fn a_text_is_read_as_it_is_and_with_its_escapes_undone() {
        for (text, reading) in [
            ("abc", "abc"),
            ("%61bc", "abc"),
            ("%2561bc", "abc"),
            ("%25%36%31bc", "abc"),
            ("%%36%31bc", "abc"),
            ("\\u0061bc", "abc"),
            ("&#97;bc", "abc"),
            ("&#x61;bc", "abc"),
            ("&#0000097;bc", "abc"),
            ("%26#97;bc", "abc"),
            ("a&lowbar;b", "a_b"),
            ("a%u005Fb", "a_b"),
            ("a%zz%", "a%zz%"),
            ("a&#;b&#x;&", "a&#;b&#x;&"),
            ("%e4\\u00e4", "\\u00e4"),
        ] {
            assert!(
                any_reading(text.as_bytes(), |read| read.ends_with(reading.as_bytes())),
                "{text}"
            );
        }
        // Only the middle part is an escape.
        assert!(any_reading(b"%25%61b_x", |read| read.ends_with(b"ab_x")));
        assert!(!any_reading(b"a&b=c&d", |read| read != b"a&b=c&d"));
    }

    #[test]
    fn any_depth_is_undone_in_little_time() {
        let deep = format!("%{}70stn", "25".repeat(8_000));
        let mut asked = 0;
        let found = any_reading(deep.as_bytes(), |read| {
            asked += 1;
            read == b"pstn"
        });
        assert!(found && asked <= MAX_LAYERS + 2, "{asked}");
    }

    proptest! {
        #[test]
        fn whatever_is_escaped_is_read(text in "[A-Za-z0-9_]{1,44}", layers in layers(4)) {
            let escaped = escaped(&text, &layers);
            prop_assert!(any_reading(escaped.as_bytes(), |read| read == text.as_bytes()), "{}", escaped);
        }

        #[test]
        fn no_bytes_upset_the_reading(text in prop::collection::vec(prop_oneof![Just(b'%'), Just(b'&'), Just(b'#'), Just(b'2'), Just(b'5'), Just(b';'), Just(b'\\'), Just(b'u'), any::<u8>()], 0..200)) {
            let mut shortest = text.len();
            any_reading(&text, |read| { shortest = shortest.min(read.len()); false });
            prop_assert!(shortest <= text.len());
        }
    }
}
