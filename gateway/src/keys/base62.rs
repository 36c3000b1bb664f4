//! Base62: the alphabet of keys and ids. Letters and digits only, so a double click selects the
//! whole word.

use zeroize::Zeroizing;

use crate::keys::EntropyError;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Length of a 32-bit number in base62: 62^6 is more than 2^32.
pub(super) const CHECKSUM_CHARS: usize = 6;

/// Returns `N` random characters, each of the 62 equally likely.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, EntropyError> {
    // Largest multiple of 62 in a byte. Larger bytes are dropped: a plain remainder would prefer
    // the first eight characters of the alphabet.
    const FAIR: u8 = 248;
    let mut chars = Zeroizing::new([0; N]);
    let mut empty = chars.iter_mut();
    let mut random = Zeroizing::new([0; 64]);
    loop {
        getrandom::fill(random.as_mut_slice())?;
        for byte in random.iter().filter(|byte| **byte < FAIR) {
            match empty.next() {
                Some(char) => *char = digit(u32::from(*byte) % 62),
                None => return Ok(chars),
            }
        }
    }
}

/// Encodes `number` with leading zeros, so each number has one text.
pub(super) fn encode(mut number: u32) -> [u8; CHECKSUM_CHARS] {
    let mut text = [b'0'; CHECKSUM_CHARS];
    for char in text.iter_mut().rev() {
        *char = digit(number % 62);
        number /= 62;
    }
    text
}

/// Returns whether every byte of `text` is in the alphabet.
pub(super) fn is_base62(text: &[u8]) -> bool {
    // No early exit, so the compiler can vectorise the loop.
    text.iter()
        .fold(true, |all, byte| all & byte.is_ascii_alphanumeric())
}

/// Packs `text` into three quarters of its length, six bits a character. The length must be a
/// multiple of four and every character in the alphabet.
pub(super) fn pack<const CHARS: usize, const BYTES: usize>(text: [u8; CHARS]) -> [u8; BYTES] {
    let mut packed = [0; BYTES];
    for (packed, chars) in packed.chunks_exact_mut(3).zip(text.chunks_exact(4)) {
        let [_, bytes @ ..] = chars
            .iter()
            .fold(0, |bits, char| bits << 6 | value(*char))
            .to_be_bytes();
        packed.copy_from_slice(&bytes);
    }
    packed
}

/// Inverse of [`pack`].
pub(super) fn unpack<const BYTES: usize, const CHARS: usize>(packed: [u8; BYTES]) -> [u8; CHARS] {
    let mut text = [b'0'; CHARS];
    for (chars, packed) in text.as_chunks_mut().0.iter_mut().zip(packed.as_chunks().0) {
        let [first, second, third] = *packed;
        let bits = u32::from_be_bytes([0, first, second, third]);
        *chars = [
            digit_of(bits >> 18),
            digit_of(bits >> 12),
            digit_of(bits >> 6),
            digit_of(bits),
        ];
    }
    text
}

fn value(char: u8) -> u32 {
    // A table without branches: a load reads millions of ids.
    const VALUES: [u8; 256] = {
        let mut values = [0; 256];
        let mut value = 0;
        while value < ALPHABET.len() {
            values[ALPHABET[value] as usize] = value as u8;
            value += 1;
        }
        values
    };
    VALUES
        .get(usize::from(char))
        .copied()
        .unwrap_or_default()
        .into()
}

/// Digit of the lowest six bits, without a branch.
fn digit_of(bits: u32) -> u8 {
    const DIGITS: [u8; 64] = {
        let mut digits = [b'0'; 64];
        let mut value = 0;
        while value < ALPHABET.len() {
            digits[value] = ALPHABET[value];
            value += 1;
        }
        digits
    };
    DIGITS[(bits & 0x3f) as usize]
}

fn digit(value: u32) -> u8 {
    ALPHABET.get(value as usize).copied().unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_to_six_characters() {
        for (number, text) in [
            (0, "000000"),
            (61, "00000z"),
            (62, "000010"),
            (u32::MAX, "4gfFC3"),
        ] {
            assert_eq!(encode(number), text.as_bytes(), "{number}");
        }
    }

    #[test]
    fn a_packed_text_reads_back() {
        for start in 0..62 {
            let text: [u8; 20] =
                std::array::from_fn(|position| ALPHABET[(start + 3 * position) % 62]);
            assert_eq!(unpack::<15, 20>(pack(text)), text);
        }
    }

    #[test]
    fn every_character_is_about_as_frequent_as_any_other() {
        let mut counts = [0_u32; 128];
        for _ in 0..500 {
            for char in random::<124>().unwrap().iter() {
                counts[usize::from(*char)] += 1;
            }
        }
        // 62,000 draws, 1,000 expected of each; 200 off is more than six standard deviations. A
        // plain remainder would give the first eight characters 1,211.
        for char in ALPHABET {
            assert!(
                (800..1200).contains(&counts[usize::from(*char)]),
                "{}: {}",
                *char as char,
                counts[usize::from(*char)]
            );
        }
        assert_eq!(counts.iter().sum::<u32>(), 62_000);
    }
}
