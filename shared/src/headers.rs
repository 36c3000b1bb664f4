//! The header table: names that the gateway removes from client requests, sets for the origin, and
//! hides from clients. Every other file refers to it.

/// Shared secret: the proof that a request came through the gateway.
pub const SHARED_SECRET: &str = "x-shared-secret";
/// Consumer id, `csmr_…`.
pub const CONSUMER_ID: &str = "x-consumer-id";
/// Consumer name, unique in its bucket.
pub const CONSUMER_USERNAME: &str = "x-consumer-username";
/// Consumer id in the team's own system.
pub const CONSUMER_CUSTOM_ID: &str = "x-consumer-custom-id";
/// Scopes of the credential, comma-separated.
pub const CONSUMER_GROUPS: &str = "x-consumer-groups";
/// Consumer metadata: JSON in base64url without padding; only on routes that forward it.
pub const CONSUMER_METADATA: &str = "x-consumer-metadata";
/// Id of the key, `key_…`; never the key.
pub const CREDENTIAL_IDENTIFIER: &str = "x-credential-identifier";
/// `true` if a route admitted a caller without a key; absent otherwise.
pub const ANONYMOUS_CONSUMER: &str = "x-anonymous-consumer";
/// Mark of the origin guard on its refusals: `missing`, `invalid` or `unconfigured`.
pub const ORIGIN_GUARD: &str = "x-origin-guard";
/// Request id, in both access logs, in the response and in every refusal.
pub const REQUEST_ID: &str = "x-request-id";

/// Names that only the gateway sets. [`is_privileged`] decides what is removed from client
/// requests, which is more.
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

/// Prefixes reserved for the gateway, even for names that it does not set: readers trust the whole
/// family.
pub const PRIVILEGED_PREFIXES: [&str; 2] = ["x-consumer-", "x-credential-"];

/// Names that never reach a client in a response, in any spelling: the secret, in case the origin
/// echoes it, and the guard's mark.
pub const HIDDEN_FROM_CLIENTS: [&str; 2] = [SHARED_SECRET, ORIGIN_GUARD];

/// Whether only the gateway may set `name`: some reader takes it for one of [`PRIVILEGED`] or for a
/// name with one of [`PRIVILEGED_PREFIXES`].
///
/// Compares like [`is_spelling_of`].
#[must_use]
pub fn is_privileged(name: &str) -> bool {
    let belongs_to = |prefix: &&str| {
        name.as_bytes()
            .get(..prefix.len())
            .is_some_and(|begin| is_folded(begin, prefix))
    };
    // Common start of all of them, so that other names take one comparison.
    matches!(name.as_bytes(), [b'x' | b'X', ..])
        && (PRIVILEGED_PREFIXES.iter().any(belongs_to)
            || PRIVILEGED
                .iter()
                .any(|privileged| is_spelling_of(name, privileged)))
}

/// Whether `name` must be removed from a response; compares like [`is_privileged`].
#[must_use]
pub fn is_hidden_from_clients(name: &str) -> bool {
    HIDDEN_FROM_CLIENTS
        .iter()
        .any(|hidden| is_spelling_of(name, hidden))
}

/// Whether some reader takes `name` for `canonical`, one of the names of this module.
///
/// CGI, WSGI and PHP turn `-` into `_`, and some servers every other punctuation mark. The
/// comparison therefore ignores case and reads each byte that is neither letter nor digit as `-`.
#[must_use]
pub fn is_spelling_of(name: &str, canonical: &str) -> bool {
    is_folded(name.as_bytes(), canonical)
}

fn is_folded(name: &[u8], canonical: &str) -> bool {
    name.len() == canonical.len()
        && name
            .iter()
            .zip(canonical.bytes())
            .all(|(byte, wanted)| match byte {
                b'a'..=b'z' | b'0'..=b'9' => *byte == wanted,
                b'A'..=b'Z' => byte.to_ascii_lowercase() == wanted,
                _ => wanted == b'-',
            })
}

/// Names of [`PRIVILEGED`] that identify the caller: all but the secret.
pub fn identity() -> impl Iterator<Item = &'static str> {
    PRIVILEGED.into_iter().filter(|name| *name != SHARED_SECRET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_privileged_name_is_recognised() {
        let families = PRIVILEGED_PREFIXES
            .iter()
            .flat_map(|prefix| ["", "a", "role", "id-2"].map(|rest| format!("{prefix}{rest}")));
        for canonical in PRIVILEGED.map(str::to_owned).into_iter().chain(families) {
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
    fn every_name_that_the_gateway_sets_begins_as_is_privileged_looks_for() {
        assert!(
            PRIVILEGED
                .iter()
                .chain(&PRIVILEGED_PREFIXES)
                .all(|name| name.starts_with('x'))
        );
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
            "x-consumers-id",
            "x-credentials",
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
