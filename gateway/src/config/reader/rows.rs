//! Lists of tables that are one setting: the members of each are texts or lists of texts.

use config::{Value, ValueKind};

use crate::config::reader::Reader;

impl Reader {
    /// Whether the setting `key` is a list.
    #[must_use]
    pub fn is_list(&self, key: &str) -> bool {
        let value = self.table.get(key);
        value.is_some_and(|value| matches!(value.kind, ValueKind::Array(_)))
    }

    /// Takes the list `key` of tables, each of which has all of `members` and no others: each of
    /// them a text or a list of texts, of which there is one at least.
    pub fn take_rows<const N: usize>(
        &mut self,
        key: &str,
        members: [&str; N],
    ) -> Vec<[Vec<String>; N]> {
        let Some((value, source)) = self.remove(key) else {
            return Vec::new();
        };
        let rows = value.into_array().unwrap_or_default();
        let mut taken = Vec::with_capacity(rows.len());
        for row in rows {
            match row_of(row, members) {
                Some(row) => taken.push(row),
                None => {
                    let form = members.map(|member| format!("{member} = [\"text\"]"));
                    let message = format!("each in it is {{ {} }}", form.join(", "));
                    self.problem(key, &source, message);
                }
            }
        }
        let shown: Vec<String> = taken
            .iter()
            .map(|row| {
                let pairs = members.iter().zip(row);
                let pairs = pairs.map(|(member, texts)| format!("{member} = {texts:?}"));
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            })
            .collect();
        self.note(key, format!("[{}]", shown.join(", ")), source);
        taken
    }
}

fn row_of<const N: usize>(row: Value, members: [&str; N]) -> Option<[Vec<String>; N]> {
    let mut table = row.into_table().ok()?;
    let texts: Option<Vec<Vec<String>>> = members
        .into_iter()
        .map(|member| texts_of(table.remove(member)?))
        .collect();
    let texts = texts.filter(|_| table.is_empty())?;
    texts.try_into().ok()
}

/// The text, or the texts of the list; `None` for anything else, and for an empty list.
pub(super) fn texts_of(value: Value) -> Option<Vec<String>> {
    let texts: Option<Vec<String>> = match value.kind {
        ValueKind::Array(items) => items
            .into_iter()
            .map(|item| item.into_string().ok())
            .collect(),
        _ => value.into_string().ok().map(|text| vec![text]),
    };
    texts.filter(|texts| !texts.is_empty())
}
