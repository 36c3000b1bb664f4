//! Reading every consumer and every key of a snapshot: many to a row, because most of what a row costs is what the driver
//! does for it.
//!
//! The database joins the columns of 256 rows into one text, with separators that none of them may hold. A text that does
//! not come apart into just as many rows and columns as went into it, or in which anything cannot be read, is set aside,
//! and its rows are then read one by one. The driver reads on while the last text is taken apart.

use std::collections::HashSet;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::keys::table::Reload;
use crate::keys::{Consumer, KeyDigest, KeyEntry, KeyState, UnixMillis};
use crate::store::feed::catch_up::or_gone;
use crate::store::rows;
use crate::store::{StoreError, within};

/// Between two rows of a batch: the record separator of ASCII.
const ROW_END: char = '\u{1e}';
/// Between two columns of a row: the unit separator of ASCII.
const COLUMN_END: char = '\u{1f}';

/// How long a batch may take: a server that falls silent must not end the feed for ever.
pub(super) const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// How many columns a consumer or a key has here.
const COLUMNS: usize = 7;

/// The four queries of a database. `$place` is what its tables are read in the order of, fastest where they lie in it;
/// `$type` is the type of that, and `$hex` writes bytes as hexadecimal digits.
macro_rules! queries {
    ($place:literal, $type:literal, $hex:literal) => {
        Queries {
            consumers: Pair {
                batches: batches!(
                    "consumers",
                    $place,
                    "t.id",
                    "t.bucket",
                    "t.name",
                    or_empty!("t.custom_id"),
                    or_empty!("t.metadata"),
                    "t.scopes",
                    "t.allowed_ips"
                ),
                rows: rows_from!(
                    "t.id, t.bucket, t.name, t.custom_id, t.metadata, t.scopes, t.allowed_ips",
                    "consumers",
                    $place,
                    $type
                ),
            },
            keys: Pair {
                batches: batches!(
                    "keys",
                    $place,
                    $hex,
                    "t.id",
                    "t.consumer_id",
                    "t.state",
                    or_empty!("t.expires_at"),
                    or_empty!("t.deprecated_at"),
                    or_empty!("t.scopes")
                ),
                rows: rows_from!(
                    "t.digest, t.id, t.consumer_id, t.state, t.expires_at, t.deprecated_at, t.scopes",
                    "keys",
                    $place,
                    $type
                ),
            },
        }
    };
}

/// Each batch as one row: the place of its first row, and how many rows it has followed by them all.
macro_rules! batches {
    ($table:literal, $place:literal, $first:expr $(, $column:expr)*) => {
        concat!(
            "WITH RECURSIVE batch (place) AS (SELECT min(", $place, ") FROM ", $table, " UNION ALL ",
            "SELECT (SELECT ", $place, " FROM ", $table, " WHERE ", $place, " >= batch.place ORDER BY ", $place, " LIMIT 1 OFFSET 256) ",
            "FROM batch WHERE batch.place IS NOT NULL) ",
            "SELECT CAST(batch.place AS TEXT) AS place, ",
            "(SELECT CAST(count(*) AS TEXT) || '\u{1e}' || string_agg(line, '\u{1e}') ",
            "FROM (SELECT ", $first, $(" || '\u{1f}' || ", $column,)* " AS line ",
            "FROM ", $table, " t WHERE t.", $place, " >= batch.place ORDER BY t.", $place, " LIMIT 256) AS lines) AS batch ",
            "FROM batch WHERE batch.place IS NOT NULL",
        )
    };
}

/// A column that may be null: nothing then, and otherwise `=` and the value.
macro_rules! or_empty {
    ($column:literal) => {
        concat!(
            "CASE WHEN ",
            $column,
            " IS NULL THEN '' ELSE '=' || CAST(",
            $column,
            " AS TEXT) END"
        )
    };
}

/// The same rows as the batch at the place `$1`, each by itself.
macro_rules! rows_from {
    ($columns:literal, $table:literal, $place:literal, $type:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ",
            $table,
            " t WHERE t.",
            $place,
            " >= CAST($1 AS ",
            $type,
            ") ",
            "ORDER BY t.",
            $place,
            " LIMIT 256",
        )
    };
}

// SQLite keeps tables in the order of `rowid`; in the order of `id` each row would be a search.
const SQLITE: Queries = queries!("rowid", "BIGINT", "hex(t.digest)");
const POSTGRES: Queries = queries!("id", "TEXT", "encode(t.digest, 'hex')");

struct Queries {
    consumers: Pair,
    keys: Pair,
}

struct Pair {
    batches: &'static str,
    rows: &'static str,
}

/// Gives every consumer, and then every key, to `reload`. What cannot be read is left out and logged; returns the ids of
/// these.
pub(super) async fn read_all(
    snapshot: &mut AnyConnection,
    reload: &mut Reload<'_>,
) -> Result<HashSet<String>, StoreError> {
    let Queries { consumers, keys } = if snapshot.backend_name() == "PostgreSQL" {
        POSTGRES
    } else {
        SQLITE
    };
    let left_out = read(snapshot, &consumers, consumer, rows::consumer, |consumer| {
        reload.consumer(consumer)
    })
    .await?;
    let take = |entry| {
        if let Err(error) = reload.key(entry) {
            log::error!("a key was left out: {error}");
        }
    };
    read(snapshot, &keys, key_entry, rows::key_entry, take).await?;
    Ok(left_out)
}

async fn read<T>(
    snapshot: &mut AnyConnection,
    queries: &Pair,
    parse: impl Fn([&str; COLUMNS]) -> Option<T>,
    read_row: impl Fn(&AnyRow) -> Result<T, StoreError>,
    mut take: impl FnMut(T),
) -> Result<HashSet<String>, StoreError> {
    let mut left_out = HashSet::new();
    let mut set_aside = Vec::new();
    let mut batches = sqlx::query(queries.batches).fetch(&mut *snapshot);
    while let Some(row) = within(BATCH_TIMEOUT, async { Ok(batches.try_next().await?) }).await? {
        let batch: Option<&str> = row.try_get("batch")?;
        match batch.and_then(|batch| parse_batch(batch, &parse)) {
            Some(batch) => batch.into_iter().for_each(&mut take),
            None => set_aside.push(row.try_get::<String, _>("place")?),
        }
    }
    drop(batches);
    for place in set_aside {
        let rows = async {
            Ok(sqlx::query(queries.rows)
                .bind(place)
                .fetch_all(&mut *snapshot)
                .await?)
        };
        for row in within(BATCH_TIMEOUT, rows).await? {
            match or_gone(|| read_row(&row))? {
                Some(read) => take(read),
                None => {
                    left_out.insert(row.try_get("id")?);
                }
            }
        }
    }
    Ok(left_out)
}

/// All of a batch. `None` unless it has as many rows as went into it, each with all its columns: were there a separator in
/// one, there would be more of them.
fn parse_batch<T>(batch: &str, parse: impl Fn([&str; COLUMNS]) -> Option<T>) -> Option<Vec<T>> {
    let (count, lines) = batch.split_once(ROW_END)?;
    let parsed: Option<Vec<T>> = lines
        .split(ROW_END)
        .map(|line| columns(line).and_then(&parse))
        .collect();
    parsed.filter(|parsed| count.parse() == Ok(parsed.len()))
}

fn columns(line: &str) -> Option<[&str; COLUMNS]> {
    let mut rest = line.split(COLUMN_END);
    let columns = [
        rest.next()?,
        rest.next()?,
        rest.next()?,
        rest.next()?,
        rest.next()?,
        rest.next()?,
        rest.next()?,
    ];
    rest.next().is_none().then_some(columns)
}

fn consumer(
    [id, bucket, name, custom_id, metadata, scopes, allowed_ips]: [&str; COLUMNS],
) -> Option<Consumer> {
    Some(Consumer {
        id: read_text(id)?,
        bucket: read_text(bucket)?,
        name: read_text(name)?,
        custom_id: optional(custom_id, read_text)?,
        metadata: optional(metadata, read_text)?,
        scopes: read_text(scopes)?,
        allowed_ips: read_text(allowed_ips)?,
    })
}

fn key_entry(
    [
        digest,
        id,
        consumer,
        state,
        expires_at,
        deprecated_at,
        scopes,
    ]: [&str; COLUMNS],
) -> Option<KeyEntry> {
    Some(KeyEntry {
        digest: KeyDigest::from_hex(digest)?,
        id: read_text(id)?,
        consumer: read_text(consumer)?,
        state: KeyState::parse(state)?,
        expires_at: optional(expires_at, read_time)?,
        deprecated_at: optional(deprecated_at, read_time)?,
        scopes: optional(scopes, read_text)?,
    })
}

fn read_text<T: FromStr<Err: Display>>(text: &str) -> Option<T> {
    // What is wrong is told when the row is read by itself.
    text.parse().ok()
}

fn read_time(text: &str) -> Option<UnixMillis> {
    text.parse().ok().map(UnixMillis)
}

/// The value of a column that may be null, as `or_empty!` writes it; the outer `None` is a value that cannot be read.
fn optional<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match text.strip_prefix('=') {
        Some(value) => read(value).map(Some),
        None => text.is_empty().then_some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn line(scopes: &str) -> String {
        [
            DIGEST,
            "key_0123456789abcdefghij",
            "csmr_0123456789abcdefghij",
            "active",
            "",
            "",
            scopes,
        ]
        .join("\u{1f}")
    }

    #[test]
    fn a_batch_comes_apart_as_it_was_put_together() {
        let batch = ["3", &line(""), &line("="), &line("=read write")].join("\u{1e}");
        let entries = parse_batch(&batch, key_entry).unwrap();
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
            parse_batch(
                &format!("1\u{1e}{}", good.replace(DIGEST, &upper)),
                key_entry
            )
            .is_some()
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
            assert!(parse_batch(&batch, key_entry).is_none(), "{batch:?}");
        }
    }

    #[test]
    fn batches_are_cut_where_they_are_read_again() {
        for queries in [SQLITE, POSTGRES] {
            for Pair { batches, rows } in [queries.consumers, queries.keys] {
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
