//! [`HeaderEdits`]: headers that a route sets and removes, of requests or of answers.

use actix_http::header::{HeaderMap, HeaderName, HeaderValue};

/// Headers to set and to remove. What is set takes the place of all lines of that name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Headers to set.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers to remove.
    pub remove: Vec<HeaderName>,
}

impl HeaderEdits {
    /// Whether nothing is edited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Whether lines of this name do not pass.
    #[must_use]
    pub fn drop_lines_of(&self, name: &HeaderName) -> bool {
        self.remove.contains(name) || self.set.iter().any(|(set, _)| set == name)
    }

    /// Edits `headers`.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_takes_the_place_of_all_lines_of_its_name() {
        let name = HeaderName::from_static;
        let edits = HeaderEdits {
            set: vec![(name("x-a"), HeaderValue::from_static("new"))],
            remove: vec![name("x-b"), name("x-absent")],
        };
        let mut headers = HeaderMap::new();
        for (line, value) in [("x-a", "1"), ("x-a", "2"), ("x-b", "3"), ("x-c", "4")] {
            headers.append(name(line), HeaderValue::from_static(value));
        }
        edits.apply(&mut headers);
        let mut left: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        left.sort();
        assert_eq!(left, ["x-a: new", "x-c: 4"]);
        assert!(edits.drop_lines_of(&name("x-a")) && edits.drop_lines_of(&name("x-b")));
        assert!(!edits.drop_lines_of(&name("x-c")));
    }
}
