//! Statements for many rows.
//!
//! PostgreSQL numbers its parameters, `$1`. SQLite treats that as a name, and its driver searches
//! all names, so the cost would be quadratic in the number of parameters: SQLite gets `?` instead.

use std::borrow::Cow;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::store::columns::{Bound, Stored};
use crate::store::{StoreError, columns};

/// Maximum number of parameters of one `INSERT`. SQLite takes 32,766, PostgreSQL 65,535.
const INSERTED_VALUES: usize = 4096;
/// Maximum number of parameters of one `IN (…)`; a power of two.
const WANTED_VALUES: usize = 1024;

/// A statement with `IN (…)`.
pub(super) struct In {
    /// Text before the list; its own parameters are `$1`, `$2` and so on, each once and in order.
    pub(super) before: Cow<'static, str>,
    /// Number of those parameters, less than ten.
    pub(super) values: usize,
    /// Text after the list, without parameters.
    pub(super) after: &'static str,
}

/// Syntax of parameters in a statement.
#[derive(Clone, Copy)]
enum Placeholders {
    /// `$1`, `$2` and so on.
    Numbered,
    /// `?`, in order.
    Anonymous,
}

/// Inserts `rows` into `table`.
pub(super) async fn insert_all<'r, T: Stored>(
    transaction: &mut AnyConnection,
    table: &str,
    rows: &'r [T],
) -> Result<(), StoreError> {
    let into = format!("{table} ({})", columns::names::<T>(""));
    insert(
        transaction,
        &into,
        T::columns("").len(),
        rows,
        |query, row: &'r T| columns::bind(query, row),
    )
    .await
}

/// Inserts `rows` with `INSERT INTO {into} VALUES …`; `bind` binds the `columns` values of one row.
pub(super) async fn insert<'r, T>(
    transaction: &mut AnyConnection,
    into: &str,
    columns: usize,
    rows: &'r [T],
    bind: impl Fn(Bound<'r>, &'r T) -> Bound<'r>,
) -> Result<(), StoreError> {
    let placeholders = Placeholders::of(transaction);
    let at_once = INSERTED_VALUES / columns;
    let mut whole = None;
    for chunk in rows.chunks(at_once) {
        let is_whole = chunk.len() == at_once;
        let statement = if is_whole {
            whole
                .get_or_insert_with(|| insert_statement(into, at_once, columns, placeholders))
                .clone()
        } else {
            insert_statement(into, chunk.len(), columns, placeholders)
        };
        // Only statements of these lengths recur.
        let is_persistent = is_whole || chunk.len() == 1;
        let query = sqlx::query(AssertSqlSafe(statement)).persistent(is_persistent);
        chunk
            .iter()
            .fold(query, &bind)
            .execute(&mut *transaction)
            .await?;
    }
    Ok(())
}

/// Runs `{before} IN (…){after}` over all of `wanted`. `bind_before` binds the parameters of
/// `before`.
pub(super) async fn each_in<'w, T>(
    connection: &mut AnyConnection,
    statement: &In,
    bind_before: impl Fn(Bound<'w>) -> Bound<'w>,
    wanted: &'w [T],
    bind: impl Fn(Bound<'w>, &'w T) -> Bound<'w>,
    mut found: impl FnMut(&AnyRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let placeholders = Placeholders::of(connection);
    for chunk in wanted.chunks(WANTED_VALUES) {
        let Some(last) = chunk.last() else { continue };
        // Padded with the last value: few statement lengths, so each stays prepared.
        let length = chunk.len().next_power_of_two();
        let query = bind_before(sqlx::query(AssertSqlSafe(
            statement.text(length, placeholders),
        )));
        let padded = chunk
            .iter()
            .chain(std::iter::repeat_n(last, length - chunk.len()));
        for row in padded
            .fold(query, &bind)
            .fetch_all(&mut *connection)
            .await?
        {
            found(&row)?;
        }
    }
    Ok(())
}

impl In {
    /// A statement that ends with the list and has no other parameters.
    pub(super) const fn select(before: &'static str) -> Self {
        Self {
            before: Cow::Borrowed(before),
            values: 0,
            after: "",
        }
    }

    fn text(&self, wanted: usize, placeholders: Placeholders) -> String {
        let mut text = self.before.clone().into_owned();
        if let Placeholders::Anonymous = placeholders {
            for number in 1..=self.values {
                text = text.replacen(&format!("${number}"), "?", 1);
            }
        }
        text.push_str(" IN (");
        placeholders.push(&mut text, self.values + 1, wanted);
        text.push(')');
        text.push_str(self.after);
        text
    }
}

impl Placeholders {
    fn of(connection: &AnyConnection) -> Self {
        if connection.backend_name() == "PostgreSQL" {
            Self::Numbered
        } else {
            Self::Anonymous
        }
    }

    fn push(self, text: &mut String, first: usize, count: usize) {
        for number in first..first + count {
            if number > first {
                text.push_str(", ");
            }
            match self {
                Self::Numbered => {
                    text.push('$');
                    text.push_str(itoa::Buffer::new().format(number));
                }
                Self::Anonymous => text.push('?'),
            }
        }
    }
}

fn insert_statement(into: &str, rows: usize, columns: usize, placeholders: Placeholders) -> String {
    let mut text = format!("INSERT INTO {into} VALUES ");
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        placeholders.push(&mut text, row * columns + 1, columns);
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_place() {
        let update = In {
            before: Cow::Borrowed("UPDATE t SET a = $1, b = $2 WHERE c"),
            values: 2,
            after: " RETURNING c",
        };
        for (placeholders, inserted, updated) in [
            (
                Placeholders::Numbered,
                "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)",
                "UPDATE t SET a = $1, b = $2 WHERE c IN ($3, $4) RETURNING c",
            ),
            (
                Placeholders::Anonymous,
                "INSERT INTO t (a, b) VALUES (?, ?), (?, ?)",
                "UPDATE t SET a = ?, b = ? WHERE c IN (?, ?) RETURNING c",
            ),
        ] {
            assert_eq!(insert_statement("t (a, b)", 2, 2, placeholders), inserted);
            assert_eq!(update.text(2, placeholders), updated);
        }
        assert_eq!(
            In::select("SELECT a FROM t WHERE a").text(1, Placeholders::Numbered),
            "SELECT a FROM t WHERE a IN ($1)"
        );
    }
}
