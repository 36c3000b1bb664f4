//! Bulk read of all consumers and keys in a snapshot. Many rows become one, because the driver's
//! cost per row dominates.
//!
//! The database joins the columns of 256 rows into one text, with separators that no value may
//! contain. If a text does not split into the expected rows and columns, or a value is unreadable,
//! its rows are read one by one. The driver fetches ahead while the last text is parsed.

use std::collections::HashSet;
use std::fmt::Display;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::keys::table::Reload;
use crate::keys::{KeyDigest, Plan};
use crate::store::columns::{Column, Kind, Source, Stored, names, of_row};
use crate::store::{StoreError, within};

/// Row separator in a batch: the record separator of ASCII.
const ROW_END: char = '\u{1e}';
/// Column separator in a row: the unit separator of ASCII.
const COLUMN_END: char = '\u{1f}';

/// Timeout of a batch: an unresponsive server must not block the feed forever.
pub(super) const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Rows per batch.
const ROWS: usize = 256;

/// Fastest way to scan a table: in physical order.
struct Dialect {
    /// Column of the physical order.
    position: &'static str,
    /// Type of that column.
    position_type: &'static str,
    /// Expression for `digest` in hexadecimal.
    hex: &'static str,
}

// SQLite stores tables in the order of `rowid`; in the order of `id` each row would cost a search.
const SQLITE: Dialect = Dialect {
    position: "rowid",
    position_type: "BIGINT",
    hex: "hex(t.digest)",
};
const POSTGRES: Dialect = Dialect {
    position: "id",
    position_type: "TEXT",
    hex: "encode(t.digest, 'hex')",
};

impl Dialect {
    /// Returns the query for the batches, one row each: position of the first row, number of rows,
    /// and the rows.
    fn batches<T: Stored>(&self, table: &str) -> String {
        let Self { position, .. } = self;
        let columns = T::columns("");
        let cells: Vec<String> = columns.iter().map(|column| self.cell(*column)).collect();
        let line = cells.join(&format!(" || '{COLUMN_END}' || "));
        format!(
            "WITH RECURSIVE batch (position) AS (SELECT min({position}) FROM {table} UNION ALL \
             SELECT (SELECT {position} FROM {table} WHERE {position} >= batch.position ORDER BY {position} LIMIT 1 OFFSET {ROWS}) \
             FROM batch WHERE batch.position IS NOT NULL) \
             SELECT CAST(batch.position AS TEXT) AS position, \
             (SELECT CAST(count(*) AS TEXT) || '{ROW_END}' || string_agg(line, '{ROW_END}') \
             FROM (SELECT {line} AS line \
             FROM {table} t WHERE t.{position} >= batch.position ORDER BY t.{position} LIMIT {ROWS}) AS lines) AS batch \
             FROM batch WHERE batch.position IS NOT NULL"
        )
    }

    /// Returns a column as text. A nullable one is empty for null, otherwise `=` and the value.
    fn cell(&self, column: Column) -> String {
        let name = column.name;
        match column.kind {
            Kind::Digest => self.hex.to_owned(),
            _ if column.is_nullable => {
                format!("CASE WHEN t.{name} IS NULL THEN '' ELSE '=' || CAST(t.{name} AS TEXT) END")
            }
            Kind::Text => format!("t.{name}"),
            Kind::Number => format!("CAST(t.{name} AS TEXT)"),
        }
    }

    /// Returns the query for the rows of the batch at position `$1`, one by one.
    fn rows<T: Stored>(&self, table: &str) -> String {
        let Self {
            position,
            position_type,
            ..
        } = self;
        format!(
            "SELECT {} FROM {table} t WHERE t.{position} >= CAST($1 AS {position_type}) ORDER BY t.{position} LIMIT {ROWS}",
            names::<T>("t.")
        )
    }
}

/// Passes every plan, consumer and key to `reload`, in this order. Skips and logs unreadable rows;
/// returns the ids of skipped consumers.
pub(super) async fn read_all(
    snapshot: &mut AnyConnection,
    reload: &mut Reload<'_>,
) -> Result<HashSet<String>, StoreError> {
    let dialect = if snapshot.backend_name() == "PostgreSQL" {
        POSTGRES
    } else {
        SQLITE
    };
    read_plans(snapshot, reload).await?;
    let left_out = read(snapshot, &dialect, "consumers", |consumer| {
        reload.consumer(consumer)
    })
    .await?;
    let take = |entry| {
        if let Err(error) = reload.key(entry) {
            log::error!("skipped an unreadable key: {error}");
        }
    };
    read(snapshot, &dialect, "keys", take).await?;
    Ok(left_out)
}

/// Passes every plan to `reload`; there are few. The keys of an unreadable plan's consumers are
/// refused.
async fn read_plans(
    snapshot: &mut AnyConnection,
    reload: &mut Reload<'_>,
) -> Result<(), StoreError> {
    let select = format!("SELECT {} FROM plans p", names::<Plan>("p."));
    let rows = async {
        Ok(sqlx::query(AssertSqlSafe(select))
            .fetch_all(&mut *snapshot)
            .await?)
    };
    for row in within(BATCH_TIMEOUT, rows).await? {
        if let Some(plan) = or_gone(|| of_row(&row))? {
            reload.plan(plan);
        }
    }
    Ok(())
}

async fn read<T: Stored>(
    snapshot: &mut AnyConnection,
    dialect: &Dialect,
    table: &str,
    mut take: impl FnMut(T),
) -> Result<HashSet<String>, StoreError> {
    let mut left_out = HashSet::new();
    let mut set_aside = Vec::new();
    let mut batches = sqlx::query(AssertSqlSafe(dialect.batches::<T>(table))).fetch(&mut *snapshot);
    while let Some(row) = within(BATCH_TIMEOUT, async { Ok(batches.try_next().await?) }).await? {
        let batch: Option<&str> = row.try_get("batch")?;
        match batch.and_then(parse_batch) {
            Some(batch) => batch.into_iter().for_each(&mut take),
            None => set_aside.push(row.try_get::<String, _>("position")?),
        }
    }
    drop(batches);
    for position in set_aside {
        let rows = async {
            Ok(sqlx::query(AssertSqlSafe(dialect.rows::<T>(table)))
                .bind(position)
                .fetch_all(&mut *snapshot)
                .await?)
        };
        for row in within(BATCH_TIMEOUT, rows).await? {
            match or_gone(|| of_row(&row))? {
                Some(read) => take(read),
                None => {
                    left_out.insert(row.try_get("id")?);
                }
            }
        }
    }
    Ok(left_out)
}

/// Parses a batch. `None` unless it has the declared number of rows, each with all its columns; a
/// separator within a value would add some.
fn parse_batch<T: Stored>(batch: &str) -> Option<Vec<T>> {
    let (count, lines) = batch.split_once(ROW_END)?;
    let parsed: Option<Vec<T>> = lines.split(ROW_END).map(parse_row).collect();
    parsed.filter(|parsed| count.parse() == Ok(parsed.len()))
}

fn parse_row<T: Stored>(line: &str) -> Option<T> {
    let mut cells = Cells(line.split(COLUMN_END));
    let read = T::read(&mut cells, "").ok()?;
    cells.0.next().is_none().then_some(read)
}

/// Columns of one row of a batch.
struct Cells<'b>(std::str::Split<'b, char>);

/// An unreadable value. The error is reported when its row is read by itself.
struct Odd;

impl Source for Cells<'_> {
    type Error = Odd;

    fn text(&mut self, _: &'static str) -> Result<&str, Odd> {
        self.0.next().ok_or(Odd)
    }

    fn optional_text(&mut self, column: &'static str) -> Result<Option<&str>, Odd> {
        match self.text(column)? {
            "" => Ok(None),
            text => text.strip_prefix('=').map(Some).ok_or(Odd),
        }
    }

    fn number(&mut self, column: &'static str) -> Result<i64, Odd> {
        self.text(column)?.parse().map_err(|_| Odd)
    }

    fn optional_number(&mut self, column: &'static str) -> Result<Option<i64>, Odd> {
        let text = self.optional_text(column)?;
        text.map(str::parse).transpose().map_err(|_| Odd)
    }

    fn digest(&mut self, column: &'static str) -> Result<KeyDigest, Odd> {
        KeyDigest::from_hex(self.text(column)?).ok_or(Odd)
    }

    fn unreadable(_: &'static str, _: impl Display) -> Odd {
        Odd
    }
}

/// Reads a row. An unreadable one counts as deleted: its key is refused, and the others are not
/// held up.
pub(super) fn or_gone<T>(
    read: impl FnOnce() -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    match read() {
        Ok(read) => Ok(Some(read)),
        Err(error @ StoreError::UnreadableRow { .. }) => {
            log::error!(
                "skipped an unreadable plan, consumer or key, refused from now on: {error}"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Consumer, KeyEntry};

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn line(scopes: &str) -> String {
        let begin = [
            DIGEST,
            "key_0123456789abcdefghij",
            "csmr_0123456789abcdefghij",
            "active",
            "",
            "",
            scopes,
        ];
        let rest = KeyEntry::columns("").len() - begin.len();
        [&begin[..], &vec![""; rest]].concat().join("\u{1f}")
    }

    #[test]
    fn a_batch_comes_apart_as_it_was_put_together() {
        let batch = ["3", &line(""), &line("="), &line("=read write")].join("\u{1e}");
        let entries = parse_batch::<KeyEntry>(&batch).unwrap();
        let scopes: Vec<_> = entries
            .iter()
            .map(|entry| entry.scopes.as_ref().map(|scopes| scopes.as_str()))
            .collect();
        assert_eq!(scopes, [None, Some(""), Some("read write")]);
        assert_eq!(entries[0].digest, KeyDigest::of(b"abc"));
    }

    #[test]
    fn a_batch_with_anything_odd_is_set_aside() {
        let (good, upper) = (line(""), DIGEST.to_uppercase());
        assert!(
            parse_batch::<KeyEntry>(&format!("1\u{1e}{}", good.replace(DIGEST, &upper))).is_some()
        );
        for batch in [
            String::new(),
            "0\u{1e}".into(),
            format!("2\u{1e}{good}"),
            format!("1\u{1e}{good}\u{1e}{good}"),
            format!("1\u{1e}{good}\u{1f}"),
            format!("1\u{1e}{good}read"),
            format!("1\u{1e}{}", line("=a,b")),
            format!("1\u{1e}{}", good.replace("active", "=")),
            format!("1\u{1e}{}", good.replace(DIGEST, "ba78")),
            format!("1\u{1e}{}", good.replace(DIGEST, &DIGEST.replace('a', "é"))),
            format!(
                "1\u{1e}{}",
                good.replace("active\u{1f}", "active\u{1f}=tomorrow")
            ),
        ] {
            assert!(parse_batch::<KeyEntry>(&batch).is_none(), "{batch:?}");
        }
    }

    #[test]
    fn batches_are_cut_where_they_are_read_again() {
        for dialect in [SQLITE, POSTGRES] {
            for (batches, rows) in [
                (
                    dialect.batches::<Consumer>("t"),
                    dialect.rows::<Consumer>("t"),
                ),
                (
                    dialect.batches::<KeyEntry>("t"),
                    dialect.rows::<KeyEntry>("t"),
                ),
            ] {
                assert!(
                    batches.contains("OFFSET 256")
                        && batches.contains("LIMIT 256)")
                        && rows.ends_with("LIMIT 256"),
                    "{rows}"
                );
                assert!(batches.contains(ROW_END) && batches.contains(COLUMN_END));
            }
        }
    }
}
