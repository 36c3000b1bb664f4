//! Keys pasted into a text, such as the note `old key pstn_…`. Texts are stored and shown
//! unchanged, so such a line is refused.

use serde_json::Value;
use zeroize::Zeroizing;

use crate::import::column::{Column, Holds};
use crate::import::fields::{Cell, Fields, bad};
use crate::keys::traces::has_key;
use crate::keys::{Prefix, token};

impl Fields {
    /// Refuses a line with a text that contains a key of this gateway, or the line's own key.
    ///
    /// # Errors
    /// The name of the column.
    pub(super) fn refuse_keys(&self, prefix: &Prefix) -> Result<(), String> {
        let own = match self.cell(Column::Key) {
            Some(Cell::Text(text)) => text.trim(),
            // Not used as a key: the line will be refused.
            _ => "",
        };
        let holds_key = |text: &str| {
            token::contains_key(text.as_bytes(), prefix) || has_key(text.as_bytes(), own.as_bytes())
        };
        for column in texts() {
            if self
                .cell(column)
                .is_some_and(|cell| cell.texts().iter().any(|text| holds_key(text)))
            {
                return Err(bad(
                    column,
                    "there is a whole key in it; a key belongs into the column `key`, and nowhere else",
                ));
            }
        }
        Ok(())
    }

    fn cell(&self, column: Column) -> Option<&Cell> {
        self.0.get(column as usize)?.as_ref()
    }
}

fn texts() -> impl Iterator<Item = Column> {
    Column::ALL
        .iter()
        .copied()
        .filter(|column| column.kind().0 == Holds::Text)
}

impl Cell {
    /// Returns the raw text and, for JSON, the unescaped one.
    fn texts(&self) -> Vec<Zeroizing<String>> {
        match self {
            Self::Json(value) => vec![Zeroizing::new(value.to_string())],
            Self::Text(text) => {
                let json = text
                    .trim_start()
                    .starts_with(['{', '['])
                    .then(|| serde_json::from_str::<Value>(text).ok())
                    .flatten();
                [text.clone()]
                    .into_iter()
                    .chain(json.map(|value| Zeroizing::new(value.to_string())))
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_in_any_text_is_refused_and_never_repeated() {
        let prefix = Prefix::default();
        let own = "pstn_0123456789ABCDEFGHIJKLMNOPQRSTUV2pMS28";
        let foreign = "sk_live_0123456789";
        for key in [own, foreign] {
            let escaped = key.replacen('_', "\\u005f", 1);
            for column in texts() {
                for text in [
                    key.to_owned(),
                    format!("the old key {key}."),
                    format!("{{\"a\":\"{escaped}\"}}"),
                    format!("[\"{escaped}\"]"),
                ] {
                    let mut fields = Fields::default();
                    fields.set_text(Column::Key, &format!(" {foreign} "));
                    fields.set_text(column, &text);
                    let error = fields.refuse_keys(&prefix).unwrap_err();
                    assert!(
                        error.starts_with(&format!("`{}`: there is a whole key", column.as_str())),
                        "{text}: {error}"
                    );
                    assert!(!error.contains("0123456789"), "{error}");
                }
                let mut fields = Fields::default();
                fields.set_json(Column::Key, json!(foreign));
                fields.set_json(column, json!({ "a": [{ key: 1 }] }));
                assert!(fields.refuse_keys(&prefix).is_err(), "{}", column.as_str());
            }
        }
    }

    #[test]
    fn what_is_no_key_may_stand_in_a_text() {
        for (key, text) in [
            ("", "a note"),
            ("no", "not a note"),
            ("sk_live_0123456789", "sk_live_…"),
            ("sk_live_0123456789", "sk_live_012345678"),
            ("acme-0123", "acme"),
        ] {
            let mut fields = Fields::default();
            fields.set_text(Column::Key, key);
            fields.set_text(Column::Description, text);
            assert_eq!(
                fields.refuse_keys(&Prefix::default()),
                Ok(()),
                "{key}: {text}"
            );
        }
    }
}
