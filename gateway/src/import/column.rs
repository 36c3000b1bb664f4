//! [`Column`]: the fields of a line, in any format.

/// Kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Free text, where a key may have been pasted by mistake.
    Text,
    /// A value with a syntax of its own.
    Value,
}

/// Lines that a column applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Any line.
    Line,
    /// Lines with a key.
    Key,
}

/// Declares the columns in export order.
macro_rules! columns {
    ($($column:ident = $name:literal, $holds:ident, $of:ident;)*) => {
        /// A field of a line. Names are those of the CSV header and of JSON members.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Column {
            $($column),*
        }

        impl Column {
            /// All columns in export order.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$column),*];

            /// Returns the name.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$column => $name),*
                }
            }

            /// Returns the kind of content and the applicable lines.
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
    Plan = "plan", Text, Line;
    Limits = "limits", Value, Line;
    Quotas = "quotas", Value, Line;
    MaxInFlight = "max_in_flight", Value, Line;
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
    OriginalExpiresAt = "original_expires_at", Value, Key;
    Chain = "chain", Value, Key;
    KeyLimits = "key_limits", Value, Key;
    KeyQuotas = "key_quotas", Value, Key;
    KeyMaxInFlight = "key_max_in_flight", Value, Key;
    KeyAllowedIps = "key_allowed_ips", Value, Key;
    KeyAllowedMethods = "key_allowed_methods", Value, Key;
    KeyAllowedRoutes = "key_allowed_routes", Text, Key;
    ExemptFromUnused = "exempt_from_unused", Value, Key;
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

    /// Returns all names, for messages.
    pub(crate) fn names() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|column| column.as_str()).collect();
        names.join(", ")
    }
}
