//! Tokens of the admin API; each has a name and a role.

use std::fmt;

use postern_shared::{AcceptedSecrets, Secret};

/// Permissions of an admin token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Read whatever is readable; plain keys never are.
    ReadOnly,
}

/// An admin token from the settings.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// Name in the audit log.
    pub name: String,
    /// Permissions of the holder.
    pub role: Role,
    /// Secret of the token.
    pub secret: Secret,
}

/// Accepted admin tokens.
#[derive(Default)]
pub struct AdminTokens(Vec<Accepted>);

struct Accepted {
    name: String,
    role: Role,
    secret: AcceptedSecrets,
}

impl AdminTokens {
    /// Accepts each of `tokens`.
    #[must_use]
    pub fn new(tokens: &[AdminToken]) -> Self {
        let accepted = |token: &AdminToken| Accepted {
            name: token.name.clone(),
            role: token.role,
            secret: AcceptedSecrets::new([&token.secret]),
        };
        Self(tokens.iter().map(accepted).collect())
    }

    /// Whether no token is accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns name and role of the token `presented`. Compares with every token in constant time,
    /// even after a match.
    #[must_use]
    pub fn find(&self, presented: &[u8]) -> Option<(&str, Role)> {
        let compare = |found, accepted| {
            let Accepted { name, role, secret }: &Accepted = accepted;
            if secret.matches(presented) {
                Some((name.as_str(), *role))
            } else {
                found
            }
        };
        self.0.iter().fold(None, compare)
    }
}

impl fmt::Debug for AdminTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|token| (&token.name, token.role)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, role: Role, secret: &str) -> AdminToken {
        AdminToken {
            name: name.to_owned(),
            role,
            secret: Secret::parse(secret).unwrap(),
        }
    }

    #[test]
    fn each_token_is_its_holders() {
        let configured = [
            token("admin", Role::Admin, "9f2c51d07be84a63"),
            token("ci", Role::ReadOnly, "1d07be84a639f2c5"),
        ];
        let tokens = AdminTokens::new(&configured);
        for (presented, found) in [
            ("9f2c51d07be84a63", Some(("admin", Role::Admin))),
            ("1d07be84a639f2c5", Some(("ci", Role::ReadOnly))),
            ("", None),
            ("9f2c51d07be84a6", None),
            ("9f2c51d07be84a631", None),
        ] {
            assert_eq!(tokens.find(presented.as_bytes()), found, "{presented}");
        }
        assert!(AdminTokens::new(&[]).find(b"").is_none());
        assert!(!format!("{tokens:?}").contains("9f2c"));
    }
}
