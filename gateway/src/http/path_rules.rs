//! Ambiguous paths: another spelling of a path must not evade its policy.
//!
//! Refuses a path whatever the routes are; [`crate::routes`] compares the routes of its readings.

use crate::http::readings::is_plain;

/// Reason why servers read a path differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguity {
    /// `%2f`: a slash to some servers.
    EscapedSlash,
    /// `\` or `%5c`: a slash to some servers.
    Backslash,
    /// `.` or `..` as a segment, also escaped or with parameters: resolved by some servers.
    DotSegment,
    /// `%` without two hexadecimal digits.
    BadEscape,
    /// A control character, escaped or not; `%00` ends the path at some servers.
    Control,
    /// A byte beyond ASCII, which the sender must escape.
    NotAscii,
}

impl Ambiguity {
    /// Description for the client.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::EscapedSlash => "an escaped slash (%2F)",
            Self::Backslash => "a backslash",
            Self::DotSegment => "a dot segment",
            Self::BadEscape => "a % that begins no escape",
            Self::Control => "a control character",
            Self::NotAscii => "a character beyond ASCII that is not escaped",
        }
    }
}

/// Refuses a path that gateway and origin could read differently.
///
/// # Errors
/// The first ambiguity found.
pub fn check_path(path: &str) -> Result<(), Ambiguity> {
    // Fast path for most requests.
    if is_plain(path.as_bytes()) {
        return Ok(());
    }
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        let name = check_segment(segment.as_bytes())?;
        if name == Name::Dots {
            return Err(Ambiguity::DotSegment);
        }
    }
    Ok(())
}

/// Characters of a segment name without parameters.
#[derive(PartialEq, Eq)]
enum Name {
    Dots,
    Other,
}

fn check_segment(segment: &[u8]) -> Result<Name, Ambiguity> {
    let (mut dots, mut others, mut in_name) = (0, 0, true);
    let mut rest = segment;
    while let [first, after @ ..] = rest {
        let (byte, escaped) = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                    return Err(Ambiguity::BadEscape);
                };
                (u8::try_from(high * 16 + low).unwrap_or(0), true)
            }
            (b'%', _) => return Err(Ambiguity::BadEscape),
            (byte, after) => {
                rest = after;
                (*byte, false)
            }
        };
        match byte {
            b'/' => return Err(Ambiguity::EscapedSlash),
            b'\\' => return Err(Ambiguity::Backslash),
            0..0x20 | 0x7f => return Err(Ambiguity::Control),
            b' ' if !escaped => return Err(Ambiguity::Control),
            0x80.. if !escaped => return Err(Ambiguity::NotAscii),
            b';' if in_name => in_name = false,
            b'.' if in_name => dots += 1,
            _ if in_name => others += 1,
            _ => {}
        }
    }
    Ok(if others == 0 && matches!(dots, 1 | 2) {
        Name::Dots
    } else {
        Name::Other
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ambiguous_paths_are_refused_and_others_are_not() {
        for (path, wanted) in [
            ("/", Ok(())),
            ("/a/b.c/d-e_f~g", Ok(())),
            ("/a/", Ok(())),
            ("/...", Ok(())),
            ("/.well-known/x", Ok(())),
            ("/a..b/..c", Ok(())),
            ("/%41%7e%20%c3%a9", Ok(())),
            ("/a;b=c", Ok(())),
            ("/a:b@c!$&'()*+,=", Ok(())),
            ("*", Ok(())),
            ("//a//b/", Ok(())),
            ("/public/../admin", Err(Ambiguity::DotSegment)),
            ("/public/%2e%2e/admin", Err(Ambiguity::DotSegment)),
            ("/public/%2E./admin", Err(Ambiguity::DotSegment)),
            ("/public/.%2e/admin", Err(Ambiguity::DotSegment)),
            ("/./admin", Err(Ambiguity::DotSegment)),
            ("/admin/..", Err(Ambiguity::DotSegment)),
            ("/..", Err(Ambiguity::DotSegment)),
            ("/public/..;/admin", Err(Ambiguity::DotSegment)),
            ("/public/..;a=b/admin", Err(Ambiguity::DotSegment)),
            ("/public/..%3b/admin", Err(Ambiguity::DotSegment)),
            ("/public%2fadmin", Err(Ambiguity::EscapedSlash)),
            ("/public%2Fadmin", Err(Ambiguity::EscapedSlash)),
            ("/public\\admin", Err(Ambiguity::Backslash)),
            ("/public%5cadmin", Err(Ambiguity::Backslash)),
            ("/a%00", Err(Ambiguity::Control)),
            ("/a%0d%0ab", Err(Ambiguity::Control)),
            ("/a%7f", Err(Ambiguity::Control)),
            ("/a b", Err(Ambiguity::Control)),
            ("/a%", Err(Ambiguity::BadEscape)),
            ("/a%2", Err(Ambiguity::BadEscape)),
            ("/a%zz", Err(Ambiguity::BadEscape)),
            ("/a%+1", Err(Ambiguity::BadEscape)),
            ("/\u{e9}", Err(Ambiguity::NotAscii)),
        ] {
            assert_eq!(check_path(path), wanted, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_has_no_dot_segment_in_any_reading(path in "(/|\\.|%2e|%2E|;|a|%61){0,12}") {
            if check_path(&path).is_ok() {
                let decoded = path.to_lowercase().replace("%2e", ".");
                for segment in decoded.split('/') {
                    let name = segment.split(';').next().unwrap_or_default();
                    prop_assert!(name != "." && name != "..", "{path}");
                }
            }
        }

        #[test]
        fn any_text_has_an_answer(path in "\\PC{0,40}") {
            let _ = check_path(&path);
        }
    }
}
