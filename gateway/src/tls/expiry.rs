//! Expiry of a certificate, for metrics: neither rustls nor webpki exposes it. Only reads the date
//! and decides nothing.

use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

/// DER tags (X.690, section 8).
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Returns the last valid second of a DER certificate as Unix time (RFC 5280, section 4.1.2.5);
/// `None` if it cannot be parsed.
#[must_use]
pub fn not_after(certificate: &[u8]) -> Option<i64> {
    let (SEQUENCE, certificate, _) = element(certificate)? else {
        return None;
    };
    let (SEQUENCE, signed, _) = element(certificate)? else {
        return None;
    };
    let (mut tag, _, mut rest) = element(signed)?;
    if tag == VERSION {
        (tag, _, rest) = element(rest)?;
    }
    // Serial number, then algorithm and issuer.
    if tag != INTEGER {
        return None;
    }
    let (_, _, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (SEQUENCE, validity, _) = element(rest)? else {
        return None;
    };
    let (_, _, validity) = element(validity)?;
    let (tag, text, _) = element(validity)?;
    moment(tag, text)
}

/// Splits off the first element: its tag, its content, and the rest.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Long form: the number of length bytes. No certificate needs more than four.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                length
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                rest,
            )
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn moment(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text.strip_suffix(b"Z")?).ok()?;
    let (year, rest) = match tag {
        // Two-digit years mean 1950 to 2049.
        UTC_TIME => {
            let (year, rest) = (text.get(..2)?.parse::<i32>().ok()?, text.get(2..)?);
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(part(0)?).ok()?, part(2)?).ok()?;
    let time = Time::from_hms(part(4)?, part(6)?, part(8)?).ok()?;
    (rest.len() == 10)
        .then(|| OffsetDateTime::new_in_offset(date, time, UtcOffset::UTC).unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["gateway".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 2, 28);
        parameters
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_spellings() {
        for (year, seconds) in [
            (2030, 1_898_467_200),
            (2049, 2_498_083_200),
            (2050, 2_529_619_200),
            (2100, 4_107_456_000),
        ] {
            assert_eq!(not_after(&certificate(year)), Some(seconds), "{year}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end_and_does_no_harm() {
        let whole = certificate(2030);
        for length in 0..whole.len().min(200) {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
        for at in 0..whole.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut spoilt = whole.clone();
                spoilt[at] = byte;
                let _ = not_after(&spoilt);
            }
        }
        for text in [
            &b"300228000000"[..],
            b"300230000000Z",
            b"301328000000Z",
            b"3002280000Z",
            b"3002280000000Z",
            b"30022800000xZ",
        ] {
            assert_eq!(moment(UTC_TIME, text), None, "{text:?}");
        }
    }
}
