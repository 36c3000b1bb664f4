//! [`Column`]: what a line can say, whatever the format of its file.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Any text, or nearly so: somebody may have put a key there.
    Text,
    /// Something of a form of its own.
    Value,
}

/// Which lines can say what a column says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Any.
    Line,
    /// Those with a key.
    Key,
}

/// Declares the columns, in the order of an export.
macro_rules! columns {
    ($($column:ident = $name:literal, $holds:ident, $of:ident;)*) => {
        /// What a line can say. The names are those of the CSV header and of the JSON fields.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Column {
            $($column),*
        }

        impl Column {
            /// All columns, in the order of an export.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$column),*];

            /// Its name.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$column => $name),*
                }
            }

            /// What it holds, and which lines can say it.
            pub(crate) fn kind(self) -> (Holds, Of) {
                match self {
                    $(Self::$column => (Holds::$holds, Of::$of)),*
                }
            }
        }
    };
}

columns! {
    Bucket = "bucket", Text, Line;
    Consumer = "consumer", Text, Line;
    ConsumerId = "consumer_id", Value, Line;
    CustomId = "custom_id", Text, Line;
    Description = "description", Text, Line;
    Metadata = "metadata", Text, Line;
    Tags = "tags", Text, Line;
    Scopes = "scopes", Text, Line;
    AllowedIps = "allowed_ips", Value, Line;
    ConsumerCreatedAt = "consumer_created_at", Value, Line;
    Key = "key", Value, Line;
    Sha256 = "sha256", Value, Line;
    KeyId = "key_id", Value, Key;
    Hint = "hint", Value, Line;
    State = "state", Value, Key;
    Disabled = "disabled", Value, Key;
    ExpiresAt = "expires_at", Value, Key;
    DeprecatedAt = "deprecated_at", Value, Key;
    Successor = "successor", Value, Key;
    KeyScopes = "key_scopes", Text, Key;
    KeyDescription = "key_description", Text, Key;
    CreatedAt = "created_at", Value, Line;
    LastUsedAt = "last_used_at", Value, Key;
}

impl Column {
    /// Finds a column by its name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|column| column.as_str().eq_ignore_ascii_case(name.trim()))
    }

    /// All names, for messages.
    pub(crate) fn names() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|column| column.as_str()).collect();
        names.join(", ")
    }
}
