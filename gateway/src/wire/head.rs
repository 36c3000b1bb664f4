//! Finds the end of a message head and takes it apart into lines (RFC 9112 §2.1, §2.2, §5).

/// A line feed without a carriage return before it. RFC 9112 §2.2 lets a reader take it as the end
/// of a line; two readers that choose differently see different messages, so nobody here takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BareLineFeed;

/// Looks for the empty line that ends a head, over as many reads as it takes and without looking at
/// a byte twice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadEnd {
    scanned: usize,
    line_start: usize,
}

impl HeadEnd {
    /// `head` is everything that has come so far, from the first byte of the head on. `Some(n)`:
    /// the head is its first `n` bytes, the empty line included.
    pub(crate) fn find(&mut self, head: &[u8]) -> Result<Option<usize>, BareLineFeed> {
        while let Some(offset) = head
            .get(self.scanned..)
            .and_then(|rest| memchr::memchr(b'\n', rest))
        {
            let at = self.scanned + offset;
            if at == 0 || head.get(at - 1) != Some(&b'\r') {
                return Err(BareLineFeed);
            }
            let empty = at == self.line_start + 1;
            self.scanned = at + 1;
            self.line_start = at + 1;
            if empty {
                return Ok(Some(at + 1));
            }
        }
        self.scanned = head.len();
        Ok(None)
    }
}

/// A head that ends with an empty line, as its first line and the rest.
pub(crate) fn split_first_line(head: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', head) {
        Some(at) => {
            let (line, rest) = head.split_at(at + 1);
            (line.strip_suffix(b"\r\n").unwrap_or(line), rest)
        }
        None => (head, &[]),
    }
}

/// One header line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    /// The whole line with its CRLF, to be copied as it is.
    pub(crate) line: &'a [u8],
    pub(crate) name: &'a [u8],
    /// Without the blanks around it.
    pub(crate) value: &'a [u8],
}

impl Field<'_> {
    /// Whether this is the field of that name, which is given in lower case.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.len() == name.len() && self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The members of a comma-separated value.
    pub(crate) fn members(&self) -> impl Iterator<Item = &[u8]> {
        self.value.split(|byte| *byte == b',').map(trim_blanks)
    }
}

/// `text` without the blanks and tabs around it, the optional white space of RFC 9110 §5.6.3. Other
/// readers of ASCII take form feeds and carriage returns for white space, which are control
/// characters in a field value.
pub(crate) fn trim_blanks(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = text.iter().position(|byte| !is_blank(byte));
    let end = text.iter().rposition(|byte| !is_blank(byte));
    match (begin, end) {
        (Some(begin), Some(end)) => text.get(begin..=end).unwrap_or_default(),
        _ => &[],
    }
}

/// A line that is no header field: no colon, a name that is no token (so also a folded line and a
/// blank before the colon).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadField;

/// The header lines of a head, `rest` being what follows its first line.
pub(crate) fn fields(rest: &[u8]) -> Fields<'_> {
    Fields { rest }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, BadField>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.rest == b"\r\n" {
            return None;
        }
        let end = memchr::memchr(b'\n', self.rest).map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        let field = memchr::memchr(b':', text).and_then(|colon| {
            let (name, value) = text.split_at(colon);
            let sound = !name.is_empty() && name.iter().all(|byte| is_token(*byte));
            sound.then(|| Field {
                line,
                name,
                value: trim_blanks(value.get(1..).unwrap_or_default()),
            })
        });
        Some(field.ok_or(BadField))
    }
}

/// A decimal length as RFC 9110 §8.6 has it: digits and nothing else.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// `tchar` of RFC 9110 §5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            let value = byte as u8;
            table[byte] = value.is_ascii_alphanumeric()
                || matches!(
                    value,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
            byte += 1;
        }
        table
    };
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn head_ends_at_the_first_empty_line() {
        let table = [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], Ok(Some(18))),
            (b"GET / HTTP/1.1\r\n\r\nrest\r\n\r\n", Ok(Some(18))),
            (b"\r\nGET", Ok(Some(2))),
            (b"GET / HTTP/1.1\r\n", Ok(None)),
            (b"GET / HTTP/1.1\n", Err(BareLineFeed)),
            (b"GET / HTTP/1.1\r\nA: b\n", Err(BareLineFeed)),
            (b"GET / HTTP/1.1\r\nA: b\r\n\n", Err(BareLineFeed)),
            (b"\n", Err(BareLineFeed)),
        ];
        for (head, end) in table {
            assert_eq!(
                HeadEnd::default().find(head),
                end,
                "{:?}",
                head.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn fields_are_strict() {
        let read = |rest: &'static [u8]| {
            fields(rest)
                .map(|field| field.map(|field| (field.name, field.value)))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            read(b"A:b\r\nC: \t d e \t\r\nE:\r\nF: \t\r\nG:\t\x0c \r\nH: \x0bi\r\r\n\r\n"),
            [
                Ok((&b"A"[..], &b"b"[..])),
                Ok((b"C", b"d e")),
                Ok((b"E", b"")),
                Ok((b"F", b"")),
                Ok((b"G", b"\x0c")),
                Ok((b"H", b"\x0bi\r")),
            ]
        );
        for bad in [
            &b"A : b\r\n\r\n"[..],
            b" folded\r\n\r\n",
            b"\tA: b\r\n\r\n",
            b": b\r\n\r\n",
            b"none\r\n\r\n",
            b"A\0: b\r\n\r\n",
        ] {
            assert_eq!(
                read(bad),
                [Err(BadField)],
                "{:?}",
                bad.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn lengths_are_digits_only() {
        assert_eq!(parse_length(b"0"), Some(0));
        assert_eq!(parse_length(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            &b""[..],
            b"+5",
            b"-1",
            b"0x3",
            b"3, 3",
            b"5 5",
            b"18446744073709551616",
        ] {
            assert_eq!(parse_length(bad), None);
        }
    }

    proptest! {
        #[test]
        fn end_does_not_depend_on_how_the_head_arrives(head in "[a\\r\\n:]{0,40}", cut in 0usize..40) {
            let head = head.as_bytes();
            let cut = cut.min(head.len());
            let mut search = HeadEnd::default();
            let stepped = match search.find(&head[..cut]) {
                Ok(None) => search.find(head),
                done => done,
            };
            prop_assert_eq!(stepped, HeadEnd::default().find(head));
        }
    }
}
