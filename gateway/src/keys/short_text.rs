//! [`ShortText`]: an immutable text, stored inline while short. [`SharedTexts`]: an interner for
//! texts that many consumers share.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// Maximum length of an inline text; makes a [`ShortText`] as large as a `String`.
const MAX_INLINE_BYTES: usize = 22;

/// An immutable text. Most names are short, and there may be a million of them.
#[derive(Clone)]
pub(super) struct ShortText(Form);

#[derive(Clone)]
enum Form {
    Inline {
        length: u8,
        bytes: [u8; MAX_INLINE_BYTES],
    },
    Boxed(Box<str>),
}

impl From<&str> for ShortText {
    fn from(text: &str) -> Self {
        let mut bytes = [0; MAX_INLINE_BYTES];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(inline), Ok(length)) => {
                inline.copy_from_slice(text.as_bytes());
                Self(Form::Inline { length, bytes })
            }
            _ => Self(Form::Boxed(text.into())),
        }
    }
}

impl Deref for ShortText {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            // Infallible: copied from a `str`.
            Form::Inline { length, bytes } => bytes
                .get(..usize::from(*length))
                .and_then(|bytes| str::from_utf8(bytes).ok())
                .unwrap_or_default(),
            Form::Boxed(text) => text,
        }
    }
}

impl PartialEq for ShortText {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ShortText {}

impl Hash for ShortText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Interner for bucket names and scope sets, which repeat from consumer to consumer.
#[derive(Debug, Default)]
pub(super) struct SharedTexts {
    texts: HashSet<Arc<ShortText>>,
    /// Number of texts that triggers the removal of unused ones.
    limit: usize,
}

impl SharedTexts {
    const FIRST_LIMIT: usize = 64;

    /// Replaces `text` by the shared copy.
    pub(super) fn share(&mut self, text: &mut Arc<ShortText>) {
        if let Some(known) = self.texts.get(&**text) {
            *text = Arc::clone(known);
            return;
        }
        if self.texts.len() >= self.limit {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.limit = Self::FIRST_LIMIT.max(2 * self.texts.len());
        }
        self.texts.insert(Arc::clone(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_reads_back_whatever_its_length() {
        for length in 0..=300 {
            let text = "x".repeat(length);
            assert_eq!(*ShortText::from(text.as_str()), text);
        }
        for text in [
            "ä",
            &"ä".repeat(MAX_INLINE_BYTES / 2),
            &format!("{}ä", "x".repeat(MAX_INLINE_BYTES - 1)),
        ] {
            assert_eq!(*ShortText::from(text), *text);
        }
    }

    #[test]
    fn a_text_is_no_larger_than_its_box_needs() {
        assert_eq!(size_of::<ShortText>(), 24);
    }

    #[test]
    fn equal_texts_are_one() {
        let mut shared = SharedTexts::default();
        let [mut one, mut same, mut other] =
            ["read write", "read write", "read"].map(|text| Arc::new(ShortText::from(text)));
        for text in [&mut one, &mut same, &mut other] {
            shared.share(text);
        }
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let mut shared = SharedTexts::default();
        for number in 0..10_000 {
            shared.share(&mut Arc::new(ShortText::from(number.to_string().as_str())));
        }
        assert!(
            shared.texts.len() <= SharedTexts::FIRST_LIMIT,
            "{}",
            shared.texts.len()
        );
    }
}
