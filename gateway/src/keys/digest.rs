//! [`KeyDigest`]: the stored form of a key.

use std::fmt;
use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

/// SHA-256 of a whole key. A key has 190 random bits, so a fast digest suffices: there is nothing
/// to guess. Compared in constant time.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

/// Wrong number of bytes; a digest has 32.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a key digest has 32 bytes, not {0}")]
pub struct InvalidDigest(usize);

impl KeyDigest {
    /// Digests the bytes of `token`.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Parses 64 hexadecimal digits in either case.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return None;
        };
        if pairs.len() != bytes.len() {
            return None;
        }
        // No early exit, so a load of millions runs without branches.
        let mut all_bits = 0;
        for (byte, digits) in bytes.iter_mut().zip(pairs) {
            let [high, low] = digits.map(hex_value);
            all_bits |= high | low;
            *byte = high << 4 | low;
        }
        (all_bits <= 0xf).then_some(Self(bytes))
    }

    /// Returns 64 lower-case hexadecimal digits: for files to be imported again, never for a log.
    #[must_use]
    pub fn to_hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| {
            DIGITS
                .get(usize::from(nibble))
                .copied()
                .map_or('0', char::from)
        };
        self.as_bytes()
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect()
    }

    /// Returns the stored form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first eight bytes as a number, the sort key of a table. Uniform, and nobody
    /// without the keys can choose digests with a common prefix.
    pub(crate) fn leading_bits(&self) -> u64 {
        self.0
            .first_chunk::<8>()
            .map_or(0, |first| u64::from_be_bytes(*first))
    }
}

/// Value of a hexadecimal digit; more than fifteen for any other byte.
fn hex_value(digit: u8) -> u8 {
    const VALUES: [u8; 256] = {
        let mut values = [u8::MAX; 256];
        let mut value = 0;
        while value < 16 {
            values[b"0123456789abcdef"[value] as usize] = value as u8;
            values[b"0123456789ABCDEF"[value] as usize] = value as u8;
            value += 1;
        }
        values
    };
    VALUES.get(usize::from(digit)).copied().unwrap_or(u8::MAX)
}

impl From<[u8; 32]> for KeyDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for KeyDigest {
    type Error = InvalidDigest;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidDigest> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| InvalidDigest(bytes.len()))
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        // By words: by bytes, the look-up of a key would take longer for this than for the rest.
        let (one, other) = (self.0.as_chunks().0, other.0.as_chunks().0);
        let words = one.iter().zip(other);
        let equal = words.fold(Choice::from(1), |equal, (one, other)| {
            equal & u64::from_le_bytes(*one).ct_eq(&u64::from_le_bytes(*other))
        });
        equal.into()
    }
}

impl Eq for KeyDigest {}

impl Hash for KeyDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A whole digest in a log would let a reader confirm a guess or search other dumps for the
        // key.
        let [first, second, ..] = self.0;
        write!(f, "KeyDigest({first:02x}{second:02x}…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha_256_of_the_whole_text() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hex: String = KeyDigest::of(b"abc")
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn debug_shows_two_bytes() {
        assert_eq!(format!("{:?}", KeyDigest::of(b"abc")), "KeyDigest(ba78…)");
    }

    #[test]
    fn a_digest_differs_when_any_byte_does() {
        let digest = KeyDigest::of(b"abc");
        for position in 0..32 {
            let mut other = *digest.as_bytes();
            other[position] ^= 1;
            assert_ne!(digest, KeyDigest::from(other), "byte {position}");
        }
        assert_eq!(
            KeyDigest::try_from(digest.as_bytes().as_slice()),
            Ok(digest)
        );
    }

    #[test]
    fn a_digest_reads_back_from_hex() {
        let digest = KeyDigest::of(b"abc");
        let hex: String = digest
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        for text in [&hex, &hex.to_uppercase()] {
            assert_eq!(KeyDigest::from_hex(text), Some(digest));
        }
        for text in [
            "",
            &hex[1..],
            &hex[2..],
            &format!("{hex}0"),
            &format!("{hex}00"),
            &hex.replace('b', "g"),
            &hex.replace("ba", "é"),
        ] {
            assert_eq!(KeyDigest::from_hex(text), None, "{text}");
        }
    }

    #[test]
    fn only_32_bytes_are_a_digest() {
        for length in [0, 31, 33] {
            assert_eq!(
                KeyDigest::try_from(vec![0; length].as_slice()),
                Err(InvalidDigest(length))
            );
        }
    }
}
