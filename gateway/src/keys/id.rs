//! Public ids: safe to log, to show and to put into a URL; independent of the key.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::keys::{EntropyError, base62};

/// Number of random characters of an id: 119 bits.
const RANDOM_CHARS: usize = 20;
/// Number of trailing characters that differ within one run of ids: 71 bits.
const OWN_CHARS_IN_RUN: usize = 12;

/// Size of a [`PackedId`].
const PACKED_BYTES: usize = RANDOM_CHARS / 4 * 3;

/// An id without its prefix, packed to save memory: a table may hold a million.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PackedId([u8; PACKED_BYTES]);

/// The text is not an id. Never quotes the text, which may be a pasted key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a {what} id is `{prefix}` and {RANDOM_CHARS} letters and digits")]
pub struct InvalidId {
    what: &'static str,
    prefix: &'static str,
}

macro_rules! public_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $prefix.len() + RANDOM_CHARS]);

        impl $name {
            /// Generates an id.
            pub fn generate() -> Result<Self, EntropyError> {
                let random = base62::random::<RANDOM_CHARS>()?;
                Ok(Self::of(&random))
            }

            fn of(random: &[u8; RANDOM_CHARS]) -> Self {
                let mut id = [0; $prefix.len() + RANDOM_CHARS];
                let (begin, rest) = id.split_at_mut($prefix.len());
                begin.copy_from_slice($prefix.as_bytes());
                rest.copy_from_slice(random);
                Self(id)
            }

            /// Generates `count` sorted ids with a common prefix, so that new rows are adjacent in
            /// every index: an import into a large table is several times as fast. 71 random bits
            /// distinguish ids within a run, 119 from all others.
            pub fn generate_run(count: usize) -> Result<Vec<Self>, EntropyError> {
                let first = Self::generate()?;
                let alike = first.0.len() - OWN_CHARS_IN_RUN;
                let mut ids = Vec::with_capacity(count);
                for _ in 0..count {
                    let own = base62::random::<OWN_CHARS_IN_RUN>()?;
                    let mut id = first;
                    for (to, from) in id.0.iter_mut().skip(alike).zip(own.iter()) {
                        *to = *from;
                    }
                    ids.push(id);
                }
                ids.sort_unstable();
                Ok(ids)
            }

            pub(super) fn pack(&self) -> PackedId {
                let random = self.0.last_chunk::<RANDOM_CHARS>();
                PackedId(base62::pack(random.copied().unwrap_or([b'0'; RANDOM_CHARS])))
            }

            pub(super) fn unpack(packed: PackedId) -> Self {
                Self::of(&base62::unpack(packed.0))
            }

            /// Returns the text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                // Infallible: both constructors guarantee ASCII.
                std::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = InvalidId { what: $what, prefix: $prefix };
                match text.strip_prefix($prefix) {
                    Some(random) if base62::is_base62(random.as_bytes()) => {
                        text.as_bytes().try_into().map(Self).map_err(|_| invalid)
                    }
                    _ => Err(invalid),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

impl PackedId {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns a uniform hash, also for ids with a common prefix: both halves multiplied, high and
    /// low bits of the product mixed.
    pub(super) fn mixed(&self) -> u64 {
        // Bits of the golden ratio and of e: without the masks, a half that is zero would hide the
        // other.
        const MASKS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xb7e1_5162_8aed_2a6b];
        let half = |bytes: Option<&[u8; 8]>, mask| {
            u128::from(bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes)) ^ mask)
        };
        let product = half(self.0.first_chunk(), MASKS[0]) * half(self.0.last_chunk(), MASKS[1]);
        (product ^ (product >> u64::BITS)) as u64
    }
}

impl fmt::Debug for PackedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            str::from_utf8(&base62::unpack::<PACKED_BYTES, RANDOM_CHARS>(self.0))
                .unwrap_or_default(),
        )
    }
}

public_id!(
    /// Id of a key: `key_…`.
    KeyId, "key", "key_"
);
public_id!(
    /// Id of a consumer: `csmr_…`.
    ConsumerId, "consumer", "csmr_"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself() {
        let key = KeyId::generate().unwrap();
        let consumer = ConsumerId::generate().unwrap();
        assert_eq!(key.as_str().parse(), Ok(key));
        assert_eq!(consumer.as_str().parse(), Ok(consumer));
        assert_eq!(key.as_str().len(), 24);
        assert_ne!(key, KeyId::generate().unwrap());
    }

    #[test]
    fn a_packed_id_is_the_same_id() {
        for _ in 0..100 {
            let id = KeyId::generate().unwrap();
            assert_eq!(KeyId::unpack(id.pack()), id);
            assert_ne!(id.pack(), KeyId::generate().unwrap().pack());
        }
        assert_eq!(size_of::<PackedId>(), 15);
    }

    #[test]
    fn ids_of_a_run_are_in_order_and_begin_alike() {
        let run = KeyId::generate_run(1_000).unwrap();
        assert!(
            run.windows(2)
                .all(|pair| pair[0] < pair[1] && pair[0].as_str()[..12] == pair[1].as_str()[..12])
        );
        assert!(run.iter().all(|id| id.as_str().parse() == Ok(*id)));
        assert_ne!(
            run[0].as_str()[..12],
            KeyId::generate_run(1).unwrap()[0].as_str()[..12]
        );
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in [
            "",
            "key_",
            "key_0123456789abcdefghi",
            "key_0123456789abcdefghijk",
            "key_0123456789abcdefghi-",
            "csmr_0123456789abcdefghij",
            "KEY_0123456789abcdefghij",
            "key_0123456789abcdefgh\u{e9}",
        ] {
            assert!(text.parse::<KeyId>().is_err(), "{text:?}");
        }
        assert!("key_0123456789abcdefghij".parse::<KeyId>().is_ok());
    }

    #[test]
    fn the_error_does_not_repeat_what_was_given() {
        let error = "pstn_secret".parse::<KeyId>().unwrap_err().to_string();
        assert_eq!(error, "a key id is `key_` and 20 letters and digits");
    }
}
