//! [`TagText`]: the tags of a consumer as one text, because a table may hold a million of them.

use crate::keys::short_text::ShortText;
use crate::keys::{Tag, Tags};

/// Tags as lines of `name=value`. Neither names nor values have control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TagText(ShortText);

impl TagText {
    /// Packs `tags`; `None` if there are none.
    pub(super) fn of(tags: &Tags) -> Option<Self> {
        let lines: Vec<String> = tags
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        (!lines.is_empty()).then(|| Self(lines.join("\n").as_str().into()))
    }

    /// Iterates over names and values.
    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split('\n').filter_map(|line| line.split_once('='))
    }

    /// Returns the value of the tag `name`. Allocates nothing.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let mut all = self.iter();
        all.find_map(|(own, value)| (own == name).then_some(value))
    }

    /// Unpacks the tags.
    pub(super) fn tags(&self) -> Tags {
        let tags = self.iter().flat_map(|(name, value)| Tag::new(name, value));
        // Infallible: packed from valid tags.
        Tags::new(tags).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tag_is_found_by_its_whole_name() {
        let tags = Tags::new(["org=acme=1", "orga=", "tier=a b"].map(|tag| tag.parse().unwrap()));
        let text = TagText::of(&tags.unwrap()).unwrap();
        for (name, value) in [
            ("org", Some("acme=1")),
            ("orga", Some("")),
            ("tier", Some("a b")),
            ("or", None),
            ("", None),
            ("acme", None),
        ] {
            assert_eq!(text.value(name), value, "{name}");
        }
        assert_eq!(TagText::of(&Tags::default()), None);
    }

    proptest! {
        #[test]
        fn tags_come_out_as_they_went_in(tags in prop::collection::btree_map("[a-zA-Z0-9_.-]{1,8}", "[ -~\u{e4}\u{2028}]{0,30}", 1..9)) {
            let tags = Tags::new(tags.iter().map(|(name, value)| Tag::new(name, value).unwrap())).unwrap();
            prop_assert_eq!(TagText::of(&tags).unwrap().tags(), tags);
        }
    }
}
