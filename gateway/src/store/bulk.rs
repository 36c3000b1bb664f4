//! Many rows a statement, but not as many as the databases allow: to SQLite `$1` is a name, and the driver looks every
//! name up from the first on, so the cost of a statement grows with the square of its values.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};

use crate::store::StoreError;

/// Most values of one `INSERT`. With 5,000, SQLite spends four fifths of an import on their names.
const INSERTED_VALUES: usize = 256;
/// Most values of one `IN (…)`; a power of two.
const WANTED_VALUES: usize = 128;

/// A statement with some of its values bound.
pub(super) type Bound<'q> = Query<'q, Any, AnyArguments>;

/// Inserts all `rows` with `INSERT INTO {into} VALUES …`; `bind` binds the `columns` values of one.
pub(super) async fn insert<'r, T>(
    transaction: &mut AnyConnection,
    into: &'static str,
    columns: usize,
    rows: &'r [T],
    bind: impl Fn(Bound<'r>, &'r T) -> Bound<'r>,
) -> Result<(), StoreError> {
    let at_once = INSERTED_VALUES / columns;
    let mut whole = None;
    for chunk in rows.chunks(at_once) {
        let is_whole = chunk.len() == at_once;
        let statement = if is_whole {
            whole.get_or_insert_with(|| insert_statement(into, at_once, columns)).clone()
        } else {
            insert_statement(into, chunk.len(), columns)
        };
        // Only the whole length comes again.
        let query = sqlx::query(AssertSqlSafe(statement)).persistent(is_whole);
        chunk.iter().fold(query, &bind).execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Runs `{select} IN (…)` over all `wanted`. `first`, if any, is bound before them as `$1`.
pub(super) async fn select_in<'w, T>(
    connection: &mut AnyConnection,
    select: &'static str,
    first: Option<&'w str>,
    wanted: &'w [T],
    bind: impl Fn(Bound<'w>, &'w T) -> Bound<'w>,
    mut found: impl FnMut(&AnyRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for chunk in wanted.chunks(WANTED_VALUES) {
        let Some(last) = chunk.last() else { continue };
        // The rest repeats the last value, so that there are few lengths of statements, and each stays prepared.
        let length = chunk.len().next_power_of_two();
        let mut query = sqlx::query(AssertSqlSafe(select_statement(select, usize::from(first.is_some()), length)));
        if let Some(first) = first {
            query = query.bind(first);
        }
        let padded = chunk.iter().chain(std::iter::repeat_n(last, length - chunk.len()));
        for row in padded.fold(query, &bind).fetch_all(&mut *connection).await? {
            found(&row)?;
        }
    }
    Ok(())
}

fn insert_statement(into: &str, rows: usize, columns: usize) -> String {
    let mut text = format!("INSERT INTO {into} VALUES ");
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        push_placeholders(&mut text, row * columns + 1, columns);
        text.push(')');
    }
    text
}

fn select_statement(select: &str, before: usize, values: usize) -> String {
    let mut text = format!("{select} IN (");
    push_placeholders(&mut text, before + 1, values);
    text.push(')');
    text
}

fn push_placeholders(text: &mut String, first: usize, count: usize) {
    for number in first..first + count {
        if number > first {
            text.push_str(", ");
        }
        text.push('$');
        text.push_str(itoa::Buffer::new().format(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_number() {
        assert_eq!(insert_statement("t (a, b)", 2, 2), "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)");
        let select = select_statement("SELECT a FROM t WHERE b = $1 AND a", 1, 2);
        assert_eq!(select, "SELECT a FROM t WHERE b = $1 AND a IN ($2, $3)");
    }
}
