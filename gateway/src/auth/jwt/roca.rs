//! Detection of RSA keys whose private half can be computed (CVE-2017-15361, "ROCA"): a library of
//! smart cards made primes that are powers of 65537 modulo the product of the smallest primes.

/// Primes that the library multiplied for keys of every length.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];
/// Base of the powers.
const GENERATOR: u32 = 65537;

/// Whether a modulus (big-endian) is a power of 65537 modulo each of the primes. By chance that
/// happens to one key of 2^30.
pub(super) fn is_weak(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let rest = modulus
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        is_power(rest, *prime)
    })
}

fn is_power(rest: u32, prime: u32) -> bool {
    let powers = std::iter::successors(Some(1), |power| Some(power * (GENERATOR % prime) % prime));
    powers.take(prime as usize).any(|power: u32| power == rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_the_generator_are_weak() {
        // 65537³ = 0x1_0003_0003_0001.
        assert!(is_weak(&[1]));
        assert!(is_weak(&[1, 0, 1]));
        assert!(is_weak(&[1, 0, 3, 0, 3, 0, 1]));
        for strong in [&[0][..], &[2], &[1, 0, 3], &[0xff; 256]] {
            assert!(!is_weak(strong));
        }
    }
}
