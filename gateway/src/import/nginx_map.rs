//! `map` blocks of an nginx configuration that map a key to a name:
//!
//! ```nginx
//! map $http_x_api_key $consumer {
//!     default "";
//!     "KEY"   acme;
//! }
//! ```
//!
//! Imports only maps of a header or argument for keys: `$http_authorization`, and variables with
//! `key` or `token` in their name. Skips everything else except restrictions.

use std::collections::BTreeMap;
use std::io::{BufRead, Bytes};
use std::iter::Peekable;

use zeroize::Zeroizing;

use crate::import::column::Column;
use crate::import::fields::{Defaults, Fields};
use crate::import::reading::{ReadError, Rows};
use crate::store::TransferRow;

/// Maximum length of a word, in bytes.
const MAX_WORD_BYTES: usize = 4096;
/// Maximum number of words inspected per statement.
const MAX_WORDS: usize = 8;

/// Iterates over the rows of a file with maps.
pub(crate) fn rows(source: impl BufRead + 'static, defaults: Defaults) -> Rows {
    Box::new(Maps {
        source: source.bytes().peekable(),
        line: 1,
        defaults,
        map: None,
        targets: Vec::new(),
        passed_over: BTreeMap::new(),
        depth: 0,
        found: false,
        is_over: false,
    })
}

struct Maps<R: BufRead> {
    source: Peekable<Bytes<R>>,
    line: u64,
    defaults: Defaults,
    /// Current map of keys.
    map: Option<Map>,
    /// Variables that the maps of keys assign names to.
    targets: Vec<String>,
    /// Restrictions skipped on request, with their lines.
    passed_over: BTreeMap<&'static str, u64>,
    /// Nesting depth.
    depth: u64,
    /// Whether the file has a map of keys.
    found: bool,
    is_over: bool,
}

#[derive(Clone, Copy)]
struct Map {
    /// Nesting depth of the entries.
    depth: u64,
    /// Whether the keys follow `Bearer`.
    is_authorization: bool,
}

/// Words of a statement up to `;`, `{` or `}`.
#[derive(Default)]
struct Statement {
    line: u64,
    words: Vec<Word>,
    end: u8,
}

struct Word {
    text: Zeroizing<String>,
    is_quoted: bool,
}

impl<R: BufRead> Iterator for Maps<R> {
    type Item = Result<TransferRow, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return self.tell_passed_over();
        }
        loop {
            let statement = match self.statement() {
                Ok(Some(statement)) => statement,
                Ok(None) => {
                    self.is_over = true;
                    return match (self.depth > 0, self.found) {
                        (true, _) => Some(Err(ReadError::bad(
                            self.line,
                            "the file ends within a block: a `}` is missing",
                        ))),
                        (false, false) => Some(Err(ReadError::bad(self.line, NO_MAP))),
                        (false, true) => self.tell_passed_over(),
                    };
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            };
            let line = statement.line;
            match self.take(statement) {
                Ok(None) => {}
                Ok(Some(fields)) => {
                    return Some(
                        fields
                            .read(line, &self.defaults)
                            .map_err(|reason| ReadError::bad(line, reason)),
                    );
                }
                Err(reason) => return Some(Err(ReadError::bad(line, reason))),
            }
        }
    }
}

/// Statements of nginx that restrict requests.
const NARROWING: [&str; 12] = [
    "allow",
    "deny",
    "auth_basic",
    "auth_jwt",
    "auth_request",
    "limit_conn",
    "limit_except",
    "limit_rate",
    "limit_req",
    "internal",
    "satisfy",
    "valid_referers",
];
/// Description of a map from names to another value.
const MAP_OF_NAMES: &str = "map of names";

const NO_MAP: &str = "there is no map of keys; expected is `map $http_x_api_key $consumer { \"KEY\" name; }`, with `$http_authorization`, \
                      or a variable with `key` or `token` in its name";

impl<R: BufRead> Maps<R> {
    /// Refuses a restriction outside the maps of keys, unless it is to be skipped.
    fn refuse_narrowing(&mut self, words: &[Word]) -> Result<(), String> {
        let first = words.first().map_or("", |word| word.text.as_str());
        let reads_a_name = || {
            let source = words.get(1)?.text.strip_prefix('$')?;
            let source = source.trim_matches(['{', '}']);
            self.targets
                .iter()
                .any(|target| target == source)
                .then_some(MAP_OF_NAMES)
        };
        let narrowing = match first {
            // An unusual one, such as a map of `${name}`, may map names.
            "map" if words.len() != 3 => Some(MAP_OF_NAMES),
            "map" => reads_a_name(),
            _ => NARROWING.into_iter().find(|narrowing| *narrowing == first),
        };
        match narrowing {
            None => Ok(()),
            Some(what) if self.defaults.skip_unsupported => {
                *self.passed_over.entry(what).or_default() += 1;
                Ok(())
            }
            Some(MAP_OF_NAMES) => Err(
                "this map derives a value from the names and may restrict some keys; nothing of it is imported. \
                 Continue without it with `--skip-unsupported`"
                    .to_owned(),
            ),
            Some(what) => Err(format!(
                "`{what}` restricts requests and is not imported. Continue without it with `--skip-unsupported`"
            )),
        }
    }

    fn tell_passed_over(&mut self) -> Option<Result<TransferRow, ReadError>> {
        let (what, count) = self.passed_over.pop_first()?;
        Some(Err(ReadError::NotTaken(format!("{what} ({count})"))))
    }

    fn take(&mut self, statement: Statement) -> Result<Option<Fields>, String> {
        let within = self.map.as_ref().filter(|map| map.depth == self.depth);
        match (statement.end, within) {
            (b'{', _) => {
                self.depth += 1;
                if self.map.is_some() {
                    return Err("a map has no blocks within".to_owned());
                }
                self.map = map_of_keys(&statement.words, self.depth);
                self.found |= self.map.is_some();
                match &self.map {
                    Some(_) => self.targets.extend(
                        statement
                            .words
                            .last()
                            .and_then(|target| target.text.strip_prefix('$'))
                            .map(str::to_owned),
                    ),
                    None => self.refuse_narrowing(&statement.words)?,
                }
                Ok(None)
            }
            (b'}', within) => {
                let is_cut = within.is_some() && !statement.words.is_empty();
                if within.is_some() {
                    self.map = None;
                }
                self.depth = self.depth.saturating_sub(1);
                if is_cut {
                    Err("the `;` is missing".to_owned())
                } else {
                    Ok(None)
                }
            }
            (_, Some(map)) => entry(&statement.words, *map),
            (_, None) => self.refuse_narrowing(&statement.words).map(|()| None),
        }
    }

    fn statement(&mut self) -> Result<Option<Statement>, ReadError> {
        let mut statement = Statement::default();
        loop {
            let Some(byte) = self.byte()? else {
                let is_cut = !statement.words.is_empty();
                return if is_cut {
                    Err(ReadError::bad(
                        self.line,
                        "the file ends within a statement: a `;` is missing",
                    ))
                } else {
                    Ok(None)
                };
            };
            match byte {
                b'#' => while self.byte()?.is_some_and(|byte| byte != b'\n') {},
                b';' | b'{' | b'}' => {
                    if statement.words.is_empty() {
                        statement.line = self.line;
                    }
                    statement.end = byte;
                    return Ok(Some(statement));
                }
                byte if byte.is_ascii_whitespace() => {}
                byte => {
                    if statement.words.is_empty() {
                        statement.line = self.line;
                    }
                    let word = self.word(byte)?;
                    if statement.words.len() < MAX_WORDS {
                        statement.words.push(word);
                    }
                }
            }
        }
    }

    fn word(&mut self, first: u8) -> Result<Word, ReadError> {
        let line = self.line;
        let quote = matches!(first, b'"' | b'\'').then_some(first);
        let mut bytes = Zeroizing::new(Vec::with_capacity(64));
        let mut next = if quote.is_some() {
            self.byte()?
        } else {
            Some(first)
        };
        while let Some(byte) = next {
            if bytes.len() == MAX_WORD_BYTES {
                return Err(ReadError::bad(
                    line,
                    format!(
                        "a word has more than {MAX_WORD_BYTES} bytes: is a quotation mark not closed?"
                    ),
                ));
            }
            match (byte, quote) {
                (b'\\', _) => {
                    // As in nginx: a backslash is literal unless it precedes a quotation mark or
                    // another backslash.
                    match self.byte()? {
                        Some(escaped @ (b'"' | b'\'' | b'\\')) => bytes.push(escaped),
                        Some(other) => bytes.extend([b'\\', other]),
                        None => break,
                    }
                }
                (byte, Some(quote)) if byte == quote => return finish(line, bytes, true),
                (byte, _) => bytes.push(byte),
            }
            if quote.is_none() {
                match self.source.peek() {
                    Some(Ok(b';' | b'{' | b'}')) | None => break,
                    Some(Ok(byte)) if byte.is_ascii_whitespace() => break,
                    _ => {}
                }
            }
            next = self.byte()?;
        }
        match quote {
            None => finish(line, bytes, false),
            Some(_) => Err(ReadError::bad(line, "a quotation mark is not closed")),
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, ReadError> {
        let byte = self.source.next().transpose()?;
        self.line += u64::from(byte == Some(b'\n'));
        Ok(byte)
    }
}

fn finish(line: u64, mut bytes: Zeroizing<Vec<u8>>, is_quoted: bool) -> Result<Word, ReadError> {
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Word {
            text: Zeroizing::new(text),
            is_quoted,
        }),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(ReadError::bad(line, "not UTF-8"))
        }
    }
}

fn map_of_keys(words: &[Word], depth: u64) -> Option<Map> {
    let [map, source, _] = words else { return None };
    if map.text.as_str() != "map" {
        return None;
    }
    let variable = source
        .text
        .strip_prefix('$')?
        .trim_matches(['{', '}'])
        .to_ascii_lowercase();
    let is_authorization = variable == "http_authorization";
    let is_of_keys = is_authorization
        || (["http_", "arg_", "cookie_"]
            .iter()
            .any(|kind| variable.starts_with(kind))
            && (variable.contains("key") || variable.contains("token")));
    is_of_keys.then_some(Map {
        depth,
        is_authorization,
    })
}

fn entry(words: &[Word], map: Map) -> Result<Option<Fields>, String> {
    let (key, name) = match words {
        [] => return Ok(None),
        [word] if matches!(word.text.as_str(), "hostnames" | "volatile") => return Ok(None),
        [first, ..] if first.text.as_str() == "include" && !first.is_quoted => {
            return Err(
                "`include` is not followed; import that file with its own `map` around it"
                    .to_owned(),
            );
        }
        [key, name] => (key, name),
        _ => return Err("an entry is a key and a name".to_owned()),
    };
    // Value for all other keys and for none.
    if (key.text.as_str() == "default" && !key.is_quoted) || key.text.is_empty() {
        return if name.text.is_empty() || name.text.as_str() == "0" {
            Ok(None)
        } else {
            Err("the entry admits every client under one name, without a key".to_owned())
        };
    }
    if key.text.starts_with('~') {
        return Err(
            "a regular expression stands for many keys and cannot be imported; list the keys"
                .to_owned(),
        );
    }
    // As in nginx, both count as false.
    if name.text.is_empty() || name.text.as_str() == "0" {
        return Err(
            "the entry maps the key to no name; remove it, and the key is refused".to_owned(),
        );
    }
    if name.text.contains('$') {
        return Err("the name contains a variable with an unknown value".to_owned());
    }
    let text = key.text.strip_prefix('\\').unwrap_or(&key.text);
    let text = match map {
        Map {
            is_authorization: true,
            ..
        } => match text.split_once(' ') {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim_start(),
            _ => {
                return Err(
                    "a value of `Authorization` is imported when it is `Bearer` and a key"
                        .to_owned(),
                );
            }
        },
        Map {
            is_authorization: false,
            ..
        } => text,
    };
    let mut fields = Fields::default();
    fields.set_text(Column::Key, text);
    fields.set_text(Column::Consumer, &name.text);
    Ok(Some(fields))
}

#[cfg(test)]
mod tests;
