//! CSV (RFC 4180) with a header of column names.

use std::io::{self, BufReader, Bytes, Chain, Cursor, Read};

use csv::{ByteRecord, ReaderBuilder};

use crate::import::column::Column;
use crate::import::fields::{Defaults, Fields, Named, is_words};
use crate::import::reading::{ReadError, Rows};
use crate::store::TransferRow;

/// Maximum length of a record, in bytes: limits the damage of an unclosed quotation mark.
const MAX_RECORD_BYTES: usize = 64 * 1024;

/// Iterates over the rows of a CSV file. The header determines the delimiter: comma, semicolon or
/// tab.
pub(crate) fn rows(source: impl Read + 'static, defaults: Defaults) -> Rows {
    let mut source = Newlines::new(source);
    let header = match first_line(&mut source) {
        Ok(header) => header,
        Err(error) => return Box::new(std::iter::once(Err(ReadError::Io(error)))),
    };
    let delimiter = delimiter(&header);
    // Record lengths are checked here, with a better message.
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(Cursor::new(header).chain(source));
    let mut header = ByteRecord::new();
    let columns = match reader.read_byte_record(&mut header) {
        Ok(true) => columns(&header, &defaults),
        Ok(false) => Err(format!(
            "the file is empty; the first line names the columns, of {}",
            Column::names()
        )),
        Err(error) => return Box::new(std::iter::once(Err(ReadError::Io(error.into())))),
    };
    match columns {
        Ok(columns) => Box::new(Lines {
            reader,
            columns,
            defaults,
            record: ByteRecord::new(),
            is_over: false,
        }),
        Err(reason) => Box::new(std::iter::once(Err(ReadError::bad(1, reason)))),
    }
}

/// Reads up to and including the first line break.
fn first_line(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_RECORD_BYTES && source.read(&mut byte)? == 1 {
        line.extend(byte);
        // Skips blank lines at the beginning.
        if byte == *b"\n" && !line.trim_ascii().is_empty() {
            break;
        }
    }
    Ok(line)
}

/// Returns the most frequent delimiter of the header, which contains only names.
fn delimiter(header: &[u8]) -> u8 {
    let count = |delimiter: &u8| memchr::memchr_iter(*delimiter, header).count();
    // The last maximum wins: commas if there is none.
    [b'\t', b';', b',']
        .into_iter()
        .max_by_key(count)
        .unwrap_or(b',')
}

struct Lines<R> {
    reader: csv::Reader<Chain<Cursor<Vec<u8>>, Newlines<R>>>,
    /// `None` for ignored columns.
    columns: Vec<Option<Column>>,
    defaults: Defaults,
    record: ByteRecord,
    is_over: bool,
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Result<TransferRow, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let begin = self.reader.position().line();
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                self.is_over = true;
                return Some(Err(ReadError::Io(error.into())));
            }
        }
        // The reader counts line breaks: in blank lines before, within cells, between them, and at
        // the end.
        let within = memchr::memchr_iter(b'\n', self.record.as_slice()).count() as u64;
        let line = self
            .reader
            .position()
            .line()
            .saturating_sub(within + 1)
            .max(begin);
        Some(
            self.read(line)
                .map_err(|reason| ReadError::bad(line, reason)),
        )
    }
}

impl<R: Read> Lines<R> {
    fn read(&self, line: u64) -> Result<TransferRow, String> {
        let (cells, columns) = (self.record.len(), self.columns.len());
        if self.record.as_slice().len() > MAX_RECORD_BYTES {
            return Err(format!(
                "it has more than {MAX_RECORD_BYTES} bytes: is a quotation mark not closed?"
            ));
        }
        if cells != columns {
            return Err(format!(
                "it has {cells} cells, and the header names {columns} columns"
            ));
        }
        let mut fields = Fields::default();
        for (column, cell) in self.columns.iter().zip(&self.record) {
            let Some(column) = column else { continue };
            let name = column.as_str();
            let text =
                std::str::from_utf8(cell).map_err(|_| format!("`{name}`: it is not UTF-8"))?;
            // Metadata may be JSON on several lines.
            if *column != Column::Metadata && text.contains(['\n', '\r']) {
                return Err(format!(
                    "`{name}`: it goes over several lines: is a quotation mark not closed?"
                ));
            }
            fields.set_text(*column, text);
        }
        fields.read(line, &self.defaults)
    }
}

/// Normalises every line break to `\n` and ends the last line with one, so that counting `\n`
/// counts lines.
struct Newlines<R> {
    source: Bytes<BufReader<R>>,
    last: u8,
}

impl<R: Read> Newlines<R> {
    fn new(source: R) -> Self {
        Self {
            source: BufReader::new(source).bytes(),
            last: b'\n',
        }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        loop {
            let before = self.last;
            // Completes the last line.
            let byte = self.source.next().transpose()?;
            self.last = byte.unwrap_or(b'\n');
            return Ok(match (before, byte) {
                (b'\r', Some(b'\n')) => continue,
                (_, Some(b'\r')) => Some(b'\n'),
                (b'\n' | b'\r', None) => None,
                (_, byte) => Some(byte.unwrap_or(b'\n')),
            });
        }
    }
}

impl<R: Read> Read for Newlines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        for place in buffer {
            let Some(byte) = self.byte()? else { break };
            *place = byte;
            count += 1;
        }
        Ok(count)
    }
}

fn columns(header: &ByteRecord, defaults: &Defaults) -> Result<Vec<Option<Column>>, String> {
    let text = |cell| std::str::from_utf8(cell).unwrap_or_default();
    // A file without a header begins with a key. A known column name marks a header.
    let is_header = header
        .iter()
        .any(|cell| Column::named(text(cell)).is_some());
    let mut columns = Vec::with_capacity(header.len());
    let mut unknown = Vec::new();
    for (index, cell) in header.iter().enumerate() {
        let name = text(cell);
        let column = match defaults.named(name) {
            Named::Column(column) => Some(column),
            Named::Ignored => None,
            Named::Unknown if is_header => {
                unknown.push(match is_words(name) {
                    true => format!("{:?}", name.trim()),
                    false => format!("number {}", index + 1),
                });
                continue;
            }
            Named::Unknown => {
                return Err(format!(
                    "the first line names the columns, with commas, semicolons or tabs between, of {}; column {} of it is not known",
                    Column::names(),
                    index + 1
                ));
            }
        };
        if let Some(column) = column
            && columns.contains(&Some(column))
        {
            return Err(format!("the header names `{}` twice", column.as_str()));
        }
        columns.push(column);
    }
    if !unknown.is_empty() {
        return Err(format!(
            "these columns of the header are not known: {}; accepted are {}; ignore others with `--ignore-column`",
            unknown.join(", "),
            Column::names()
        ));
    }
    let has = |column| columns.contains(&Some(column));
    if !has(Column::Consumer) || !(has(Column::Key) || has(Column::Sha256)) {
        return Err("the header names `consumer` and one of `key` and `sha256`".to_owned());
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<Result<TransferRow, (u64, String)>> {
        let defaults = Defaults {
            allow_weak: true,
            ignored: ["plan".to_owned()].into(),
            ..Defaults::default()
        };
        let rows = rows(io::Cursor::new(text.as_bytes().to_vec()), defaults);
        rows.map(|row| {
            row.map_err(|error| match error {
                ReadError::Bad(bad) => (bad.line, bad.reason),
                other => panic!("{other}"),
            })
        })
        .collect()
    }

    #[test]
    fn columns_come_in_any_order() {
        let rows =
            read("\u{feff}Key, scopes ,consumer\nabcd,read write,acme\n\n\"efgh\",,\"Acme, Inc.\"");
        let rows: Vec<TransferRow> = rows.into_iter().map(Result::unwrap).collect();
        assert_eq!(
            rows.iter()
                .map(|row| (row.line, row.consumer.name.as_str()))
                .collect::<Vec<_>>(),
            [(2, "acme"), (4, "Acme, Inc.")]
        );
        assert_eq!(rows[0].consumer.attributes.scopes.as_str(), "read write");
        assert_eq!(
            rows[0].key.as_ref().unwrap().digest,
            crate::keys::KeyDigest::of(b"abcd")
        );
    }

    #[test]
    fn a_header_that_is_none_is_refused_without_being_repeated() {
        for (text, said) in [
            ("", "the file is empty"),
            ("s3cr3t-key,acme\nother,b\n", "the first line names"),
            ("s3cr3t-key;acme;\nother,b\n", "the first line names"),
            (
                "key,consumer,nmae,Created By,s3cr3t\n",
                "these columns of the header are not known: \"nmae\", \"Created By\", number 5; accepted",
            ),
            (
                "consumer;key;nmae\n",
                "these columns of the header are not known: \"nmae\"",
            ),
            ("consumer\n", "the header names `consumer` and one of"),
            ("key\n", "the header names `consumer` and one of"),
            ("key,consumer,key\n", "the header names `key` twice"),
        ] {
            match read(text).as_slice() {
                [Err((1, reason))] => assert!(
                    reason.starts_with(said) && !reason.contains("s3cr3t"),
                    "{reason}"
                ),
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn cells_are_divided_as_the_header_is_and_columns_are_passed_over_as_asked() {
        for text in [
            "consumer,key,Plan,scopes\nacme,abcd,gold,read write\n",
            "consumer;key;plan;scopes\nacme;abcd;gold,or not;read write\n",
            "consumer\tkey\tplan\tscopes\nacme\tabcd\tgold;\tread,write\n",
            "\n\nconsumer;key;plan;scopes\r\n\"acme\";\"abcd\";;read write",
        ] {
            let rows = read(text);
            let [Ok(row)] = rows.as_slice() else {
                panic!("{text:?}: {rows:?}")
            };
            assert_eq!(
                (
                    row.consumer.name.as_str(),
                    row.consumer.attributes.scopes.as_str()
                ),
                ("acme", "read write"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_unclosed_quotation_mark_is_found_where_it_begins() {
        let text = format!(
            "consumer,key\na,abcd\nb,\"efgh\n{}",
            "c,ijkl\n".repeat(20_000)
        );
        for (text, line) in [
            (text.as_str(), 3),
            ("consumer,key\na,abcd\nb,\"efgh\nc,ijkl", 3),
            ("consumer,key\nb,\"efgh", 2),
        ] {
            let errors: Vec<_> = read(text).into_iter().filter_map(Result::err).collect();
            assert!(
                matches!(&*errors, [(at, reason)] if *at == line && reason.contains("quotation mark")),
                "{errors:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_line_has_its_number(lines in proptest::collection::vec((0_usize..4, 0_usize..3), 0..40), at_end: bool) {
            let mut text = "consumer,key,metadata\n".to_owned();
            let (mut line, mut good, mut bad) = (2_u64, Vec::new(), Vec::new());
            for (kind, newline) in &lines {
                let newline = ["\n", "\r\n", "\r"][*newline];
                match kind {
                    0 => {}
                    1 => { text.push_str("acme,abcd,"); good.push(line); }
                    2 => { text.push_str("acme,a b,"); bad.push(line); }
                    _ => {
                        text.push_str(&format!("acme,abcd,\"{{{newline}{newline}}}\""));
                        good.push(line);
                        line += 2;
                    }
                }
                text.push_str(newline);
                line += 1;
            }
            if at_end {
                text.push_str("acme,abcd,");
                good.push(line);
            }
            // A blank line between `\r` and `\n` is none: both form one line break.
            prop_assume!(!text.contains("\r\n\n") || !text.contains("\r\r") );
            prop_assume!(!lines.windows(2).any(|pair| pair[0].1 == 2 && pair[1] == (0, 0)));
            let (read_good, read_bad): (Vec<_>, Vec<_>) = read(&text).into_iter().partition(Result::is_ok);
            prop_assert_eq!(read_good.into_iter().map(|row| row.unwrap().line).collect::<Vec<_>>(), good, "{:?}", text);
            prop_assert_eq!(read_bad.into_iter().map(|row| row.unwrap_err().0).collect::<Vec<_>>(), bad, "{:?}", text);
        }

        #[test]
        fn no_text_upsets_the_reader(text in "(consumer,key\n)?[a-z,\"\r\n\\PC]{0,200}") {
            let lines = text.split(['\n', '\r']).count() as u64;
            for error in read(&text).into_iter().filter_map(Result::err) {
                prop_assert!((1..=lines).contains(&error.0));
            }
        }
    }
}
