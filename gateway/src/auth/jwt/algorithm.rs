//! [`Algorithm`]: signature algorithms of JWS (RFC 7518 section 3.1, RFC 8037) that can be verified.

use std::fmt;

/// Generates the enum of algorithms, their names and their bits.
macro_rules! algorithms {
    ($($(#[$meta:meta])+ $algorithm:ident => $name:literal;)+) => {
        /// Signature algorithm.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Algorithm {
            $($(#[$meta])+ $algorithm,)+
        }

        impl Algorithm {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$algorithm),+];

            /// Name as in `alg`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$algorithm => $name,)+
                }
            }

            /// Parses a name, whose case counts (RFC 7515 section 4.1.1).
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$algorithm),)+
                    _ => None,
                }
            }
        }
    };
}

algorithms! {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256 => "RS256";
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384 => "RS384";
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512 => "RS512";
    /// RSASSA-PSS with SHA-256.
    Ps256 => "PS256";
    /// RSASSA-PSS with SHA-384.
    Ps384 => "PS384";
    /// RSASSA-PSS with SHA-512.
    Ps512 => "PS512";
    /// ECDSA on P-256 with SHA-256.
    Es256 => "ES256";
    /// ECDSA on P-384 with SHA-384.
    Es384 => "ES384";
    /// Ed25519.
    EdDsa => "EdDSA";
    /// HMAC with SHA-256.
    Hs256 => "HS256";
    /// HMAC with SHA-384.
    Hs384 => "HS384";
    /// HMAC with SHA-512.
    Hs512 => "HS512";
}

impl Algorithm {
    /// Whether signer and verifier share one secret.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => true,
            Self::Rs256
            | Self::Rs384
            | Self::Rs512
            | Self::Ps256
            | Self::Ps384
            | Self::Ps512
            | Self::Es256
            | Self::Es384
            | Self::EdDsa => false,
        }
    }

    /// Least bytes of a secret: as many as the digest has (RFC 7518 section 3.2).
    #[must_use]
    pub const fn min_secret_bytes(self) -> usize {
        match self {
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            Self::Hs256
            | Self::Rs256
            | Self::Rs384
            | Self::Rs512
            | Self::Ps256
            | Self::Ps384
            | Self::Ps512
            | Self::Es256
            | Self::Es384
            | Self::EdDsa => 32,
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Set of algorithms.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Algorithms(u16);

impl Algorithms {
    /// What issuers sign with unless the settings say otherwise.
    pub const DEFAULT: Self = Self::of(&[
        Algorithm::Rs256,
        Algorithm::Ps256,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ]);

    /// Set of `algorithms`.
    #[must_use]
    pub const fn of(algorithms: &[Algorithm]) -> Self {
        let mut bits = 0;
        let mut rest = algorithms;
        while let [first, others @ ..] = rest {
            bits |= first.bit();
            rest = others;
        }
        Self(bits)
    }

    /// Whether the set contains `algorithm`.
    #[must_use]
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & algorithm.bit() != 0
    }

    /// Algorithms of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Algorithms in the order of [`Algorithm::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL
            .into_iter()
            .filter(move |algorithm| self.contains(*algorithm))
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        Self(
            algorithms
                .into_iter()
                .fold(0, |bits, algorithm| bits | algorithm.bit()),
        )
    }
}

impl fmt::Debug for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_their_case_counts() {
        for algorithm in Algorithm::ALL {
            let name = algorithm.as_str();
            assert_eq!(Algorithm::parse(name), Some(algorithm));
            for other in [name.to_lowercase(), format!("{name} "), format!(" {name}")] {
                assert_eq!(Algorithm::parse(&other), None, "{other:?}");
            }
        }
        for name in ["none", "None", "NONE", "", "ES512", "ES256K", "Ed25519"] {
            assert_eq!(Algorithm::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_set_contains_what_it_is_made_of() {
        let set = Algorithms::of(&[Algorithm::EdDsa, Algorithm::Rs256]);
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [Algorithm::Rs256, Algorithm::EdDsa]
        );
        assert_eq!(set.iter().collect::<Algorithms>(), set);
        assert!(!Algorithms::DEFAULT.iter().any(Algorithm::is_symmetric));
    }
}
