//! The header table: which names the gateway takes from a client's request, sets for the origin, and hides from
//! clients. Every other file asks this one.

/// The proof that a request came through the gateway.
pub const SHARED_SECRET: &str = "x-shared-secret";
/// The consumer's id, `csmr_…`.
pub const CONSUMER_ID: &str = "x-consumer-id";
/// The consumer's name, unique in its bucket.
pub const CONSUMER_USERNAME: &str = "x-consumer-username";
/// The id that the team's own system gave the consumer.
pub const CONSUMER_CUSTOM_ID: &str = "x-consumer-custom-id";
/// The scopes of the credential, comma-separated.
pub const CONSUMER_GROUPS: &str = "x-consumer-groups";
/// The consumer's metadata: JSON in base64url without padding; only on routes that ask for it.
pub const CONSUMER_METADATA: &str = "x-consumer-metadata";
/// The id of the key that was used, `key_…`; never the key.
pub const CREDENTIAL_IDENTIFIER: &str = "x-credential-identifier";
/// `true` when a route let a caller in without a key; absent otherwise.
pub const ANONYMOUS_CONSUMER: &str = "x-anonymous-consumer";
/// The origin guard's mark on its refusals: `missing`, `invalid` or `unconfigured`.
pub const ORIGIN_GUARD: &str = "x-origin-guard";
/// One id for a request, in both access logs, in the answer and in every refusal.
pub const REQUEST_ID: &str = "x-request-id";

/// Names that only the gateway may set. A client's copies are removed first, in every spelling that
/// [`is_privileged`] recognises.
pub const PRIVILEGED: [&str; 8] = [
    SHARED_SECRET,
    CONSUMER_ID,
    CONSUMER_USERNAME,
    CONSUMER_CUSTOM_ID,
    CONSUMER_GROUPS,
    CONSUMER_METADATA,
    CREDENTIAL_IDENTIFIER,
    ANONYMOUS_CONSUMER,
];

/// Names that never reach a client in a response, in any spelling: the secret, should the origin echo it, and the
/// guard's mark.
pub const HIDDEN_FROM_CLIENTS: [&str; 2] = [SHARED_SECRET, ORIGIN_GUARD];

/// Whether `name` is one of [`PRIVILEGED`] to any reader.
///
/// Compared by [`is_spelling_of`].
#[must_use]
pub fn is_privileged(name: &str) -> bool {
    PRIVILEGED
        .iter()
        .any(|privileged| is_spelling_of(name, privileged))
}

/// Whether `name` must be taken out of a response; compared like [`is_privileged`].
#[must_use]
pub fn is_hidden_from_clients(name: &str) -> bool {
    HIDDEN_FROM_CLIENTS
        .iter()
        .any(|hidden| is_spelling_of(name, hidden))
}

/// Whether some reader takes `name` for `canonical`, one of the names of this module.
///
/// CGI, WSGI and PHP turn `-` into `_`, and some servers do so with every other punctuation mark. Names are therefore
/// compared in lower case with each byte that is not a letter or a digit read as `-`.
#[must_use]
pub fn is_spelling_of(name: &str, canonical: &str) -> bool {
    name.len() == canonical.len()
        && name
            .bytes()
            .zip(canonical.bytes())
            .all(|(byte, wanted)| match byte {
                b'a'..=b'z' | b'0'..=b'9' => byte == wanted,
                b'A'..=b'Z' => byte.to_ascii_lowercase() == wanted,
                _ => wanted == b'-',
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_privileged_name_is_recognised() {
        for canonical in PRIVILEGED {
            for separator in ["-", "_", ".", "!", "~", "|"] {
                let spelled = canonical.replace('-', separator);
                assert!(is_privileged(&spelled), "{spelled}");
                assert!(
                    is_privileged(&spelled.to_uppercase()),
                    "{spelled} in upper case"
                );
            }
            assert!(
                is_privileged(&canonical.replacen('-', "_", 1)),
                "mixed separators of {canonical}"
            );
        }
    }

    #[test]
    fn other_names_are_left_alone() {
        for name in [
            "",
            "x",
            "x-shared-secrets",
            "xx-shared-secret",
            "x-shared",
            "x-consumer",
            "x-request-id",
            "xsharedsecret",
            "y-consumer-id",
        ] {
            assert!(!is_privileged(name), "{name}");
        }
    }

    #[test]
    fn the_secret_and_the_mark_are_hidden_from_clients() {
        for name in [
            "x-shared-secret",
            "X_Shared_Secret",
            "x-origin-guard",
            "X_ORIGIN_GUARD",
        ] {
            assert!(is_hidden_from_clients(name), "{name}");
        }
        assert!(!is_hidden_from_clients("x-consumer-id"));
    }
}
