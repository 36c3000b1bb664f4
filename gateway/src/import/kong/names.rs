//! References to consumers in Kong's file. Kong resolves only `username` and `id`: a `custom_id` is
//! free text, and whoever can choose one must not gain the credentials of its namesake.

use std::collections::HashMap;

use serde::Deserialize;

/// A reference to a consumer, by name or id.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Reference {
    /// Name or id.
    Text(String),
    /// Explicit name or id.
    Object {
        id: Option<String>,
        username: Option<String>,
    },
}

/// Index of the consumers by the names that a reference can use.
#[derive(Default)]
pub(super) struct Names {
    usernames: HashMap<String, Meant>,
    ids: HashMap<String, Meant>,
    /// Custom ids of consumers without any other name.
    custom_ids: HashMap<String, Meant>,
}

/// Result of resolving a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// No consumer of this file.
    Nobody,
    /// Index of the consumer.
    One(usize),
    /// Ambiguous: any choice could be wrong.
    Several,
}

impl Names {
    /// Adds the consumer at `index`.
    pub(super) fn add(
        &mut self,
        index: usize,
        username: Option<&str>,
        id: Option<&str>,
        custom_id: Option<&str>,
    ) {
        let custom_id = custom_id.filter(|_| username.is_none());
        for (names, name) in [
            (&mut self.usernames, username),
            (&mut self.ids, id),
            (&mut self.custom_ids, custom_id),
        ] {
            if let Some(name) = name {
                let meant = names.entry(name.to_owned()).or_insert(Meant::Nobody);
                *meant = meant.or(Meant::One(index));
            }
        }
    }

    /// Returns whether a consumer's custom id is the username of another.
    pub(super) fn is_shadowed(&self, username: Option<&str>, custom_id: Option<&str>) -> bool {
        username.is_none() && custom_id.is_some_and(|name| self.usernames.contains_key(name))
    }

    /// Resolves `reference`.
    pub(super) fn find(&self, reference: &Reference) -> Meant {
        let (username, id) = match reference {
            Reference::Text(text) => (Some(text), Some(text)),
            Reference::Object { id, username } => (username.as_ref(), id.as_ref()),
        };
        let in_kong = look_up(&self.usernames, username).or(look_up(&self.ids, id));
        if in_kong == Meant::Nobody {
            look_up(&self.custom_ids, username)
        } else {
            in_kong
        }
    }
}

impl Reference {
    /// Returns whether the reference is empty.
    pub(super) fn is_empty(&self) -> bool {
        matches!(
            self,
            Self::Object {
                id: None,
                username: None
            }
        )
    }
}

impl Meant {
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (meant, Self::Nobody) | (Self::Nobody, meant) => meant,
            (one, same) if one == same => one,
            _ => Self::Several,
        }
    }
}

fn look_up(names: &HashMap<String, Meant>, name: Option<&String>) -> Meant {
    name.and_then(|name| names.get(name))
        .copied()
        .unwrap_or(Meant::Nobody)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_means_who_kong_means_or_nobody() {
        let mut names = Names::default();
        for (index, [username, id, custom_id]) in [
            ["alice", "i0", "bob"],
            ["bob", "i1", ""],
            ["", "i2", "carol"],
            ["", "i3", "bob"],
            ["twin", "i4", ""],
            ["twin", "i5", ""],
            ["i0", "i6", ""],
            ["", "i7", "pair"],
            ["", "i8", "pair"],
            ["i9", "i9", ""],
        ]
        .into_iter()
        .enumerate()
        {
            let [username, id, custom_id] =
                [username, id, custom_id].map(|text| Some(text).filter(|text| !text.is_empty()));
            names.add(index, username, id, custom_id);
        }
        let text = |text: &str| Reference::Text(text.to_owned());
        let object = |username: &str, id: &str| {
            let [username, id] =
                [username, id].map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()));
            Reference::Object { id, username }
        };
        for (reference, meant) in [
            (text("alice"), Meant::One(0)),
            (text("bob"), Meant::One(1)),
            (object("bob", ""), Meant::One(1)),
            (object("", "bob"), Meant::Nobody),
            (text("i1"), Meant::One(1)),
            (object("", "i1"), Meant::One(1)),
            (object("i1", ""), Meant::Nobody),
            (object("bob", "i1"), Meant::One(1)),
            (object("bob", "i0"), Meant::Several),
            (text("carol"), Meant::One(2)),
            (text("twin"), Meant::Several),
            (object("", "i5"), Meant::One(5)),
            (text("i0"), Meant::Several),
            (object("i0", ""), Meant::One(6)),
            (text("pair"), Meant::Several),
            (text("i9"), Meant::One(9)),
            (text("elsewhere"), Meant::Nobody),
        ] {
            let shown = match &reference {
                Reference::Text(text) => text.clone(),
                Reference::Object { id, username } => format!("{username:?} {id:?}"),
            };
            assert_eq!(names.find(&reference), meant, "{shown}");
        }
    }
}
