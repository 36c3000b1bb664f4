//! Every reading that an origin may have of a path.
//!
//! Servers and frameworks rewrite a path before they look for its handler: they undo escapes, take parameters off,
//! merge slashes, resolve dot segments, in orders of their own. Each of [`STEPS`] is one such rewriting. The readings
//! of a path are all that can be reached from it by any of the steps, in any order and any number of times, so that
//! they hold the outcome of every origin that is composed of these steps.

use std::ops::ControlFlow;

/// Most readings that are looked at; a path with more is refused.
const MAX_READINGS: usize = 64;
/// Most bytes of all readings together, beside [`MAX_LENGTHS`] times the path's own.
const MAX_BYTES: usize = 32 * 1024;
/// How often the path's own length all readings together may take.
const MAX_LENGTHS: usize = 4;

/// A path has more readings than are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// Whether every origin reads `path` as it is written: no byte of it means more than itself, no segment is empty or
/// ends in a dot. Case is not looked at.
#[must_use]
pub fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    for &byte in path {
        if !PLAIN[usize::from(byte)] || (byte == b'/' && matches!(before, b'/' | b'.')) {
            return false;
        }
        before = byte;
    }
    before != b'.'
}

/// The bytes of [`is_plain`]: what is visible in ASCII, without those that some step looks for.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        plain[byte as usize] = !matches!(byte, b'%' | b';' | b'\\' | b'?' | b'#');
        byte += 1;
    }
    plain
};

/// Calls `visit` with each reading of `path`, itself first, until it breaks.
///
/// # Errors
/// There are more readings than are looked at; those that were, did not make `visit` break.
pub fn each_reading<B>(
    path: &[u8],
    mut visit: impl FnMut(&[u8]) -> ControlFlow<B>,
) -> Result<ControlFlow<B>, TooMany> {
    let mut readings = vec![path.to_vec()];
    let mut room = MAX_BYTES + MAX_LENGTHS * path.len();
    let mut next = 0;
    while next < readings.len() {
        let visited = visit(&readings[next]);
        if visited.is_break() {
            return Ok(visited);
        }
        for (_, step) in &STEPS {
            let Some(reading) = step(&readings[next]) else {
                continue;
            };
            if readings.contains(&reading) {
                continue;
            }
            room = room.checked_sub(reading.len()).ok_or(TooMany)?;
            if readings.len() == MAX_READINGS {
                return Err(TooMany);
            }
            readings.push(reading);
        }
        next += 1;
    }
    Ok(ControlFlow::Continue(()))
}

/// What one origin does to a path; `None` where it changes nothing.
pub type Step = fn(&[u8]) -> Option<Vec<u8>>;

/// The steps, each with an origin that takes it.
pub static STEPS: [(&str, Step); 16] = [
    // uvicorn, nginx, Tomcat.
    ("escapes undone", |path| unescape(path, |_| true)),
    // actix, and Tomcat where it passes `%2F` through.
    ("escapes undone but of / \\ % and NUL", |path| {
        unescape(path, |byte| !matches!(byte, b'/' | b'\\' | b'%' | 0))
    }),
    // RFC 3986, section 6.2.2.2: Envoy.
    ("escapes of unreserved characters undone", |path| {
        unescape(path, |byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
        })
    }),
    // IIS and other servers of Windows: `%u002e`.
    ("escapes of UTF-16 undone", without_utf16_escapes),
    // Old Java and IIS.
    ("overlong UTF-8 taken for ASCII", without_overlong),
    // Decoders that are told to ignore errors.
    ("what is no UTF-8 left out", without_invalid_utf8),
    // Best fit of Windows, NFKC, and lower case by Unicode.
    ("characters taken for their like in ASCII", with_likes),
    // Tomcat, Jetty, Spring.
    ("parameters off every segment", without_parameters),
    ("cut off at the first ;", |path| cut(path, b";")),
    // nginx, Tomcat.
    ("slashes merged", merge_slashes),
    // Parsers of URLs: `//host/path`.
    ("an authority taken off", without_authority),
    // RFC 3986, section 5.2.4: nginx, Tomcat.
    ("dot segments resolved", resolve_dots),
    // IIS, Node's `URL`.
    ("backslashes taken for slashes", |path| {
        path.contains(&b'\\').then(|| {
            path.iter()
                .map(|&byte| if byte == b'\\' { b'/' } else { byte })
                .collect()
        })
    }),
    // File systems of Windows.
    ("dots and spaces off the ends of segments", trim_segments),
    // Node's `URL`, which leaves tabs and line ends out.
    ("control characters left out", |path| {
        path.iter().any(u8::is_ascii_control).then(|| {
            path.iter()
                .copied()
                .filter(|byte| !byte.is_ascii_control())
                .collect()
        })
    }),
    // C strings; what unescapes a path and hands it on as a URL.
    ("cut off at NUL, ? or #", |path| cut(path, &[0, b'?', b'#'])),
];

/// The path with the escapes undone whose byte `which` takes.
fn unescape(path: &[u8], which: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    if !path.contains(&b'%') {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    let mut undone = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let escape = match after {
            [high, low, after @ ..] if *first == b'%' => digit(*high)
                .zip(digit(*low))
                .map(|(high, low)| (high * 16 + low, after))
                .filter(|(byte, _)| which(*byte)),
            _ => None,
        };
        let (byte, after) = escape.unwrap_or((*first, after));
        undone.push(byte);
        rest = after;
    }
    (undone.len() < path.len()).then_some(undone)
}

/// ASCII characters that were written as two, three or four bytes (RFC 3629, section 3) become one.
fn without_overlong(path: &[u8]) -> Option<Vec<u8>> {
    let mut shorter = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let (byte, after) = match rest {
            [lead @ 0xc0..=0xc1, low @ 0x80..=0xbf, after @ ..] => {
                (((lead & 1) << 6) | (low & 0x3f), after)
            }
            [0xe0, high @ 0x80..=0x81, low @ 0x80..=0xbf, after @ ..]
            | [
                0xf0,
                0x80,
                high @ 0x80..=0x81,
                low @ 0x80..=0xbf,
                after @ ..,
            ] => (((high & 1) << 6) | (low & 0x3f), after),
            _ => (*first, after),
        };
        shorter.push(byte);
        rest = after;
    }
    (shorter.len() < path.len()).then_some(shorter)
}

fn without_invalid_utf8(path: &[u8]) -> Option<Vec<u8>> {
    if std::str::from_utf8(path).is_ok() {
        return None;
    }
    let chunks = path.utf8_chunks();
    Some(chunks.flat_map(|chunk| chunk.valid().bytes()).collect())
}

/// What best fit and NFKC take for ASCII: full-width forms, marks for slashes and dots. And the letters beyond ASCII that are
/// letters of ASCII in another case (Unicode 15, section 5.18, and Java's `equalsIgnoreCase`).
fn with_likes(path: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(path).ok()?;
    if text.is_ascii() {
        return None;
    }
    let mut changed = String::with_capacity(text.len());
    for character in text.chars() {
        match u32::from(character) {
            0x0130 | 0x0131 => changed.push('i'),
            0x017f => changed.push('s'),
            0x212a => changed.push('k'),
            0x2024 | 0xfe52 => changed.push('.'),
            0x2025 => changed.push_str(".."),
            0x2026 => changed.push_str("..."),
            0x2044 | 0x2215 | 0x29f8 => changed.push('/'),
            0x2216 | 0x29f5 | 0x29f9 | 0xfe68 => changed.push('\\'),
            0x037e | 0xfe54 => changed.push(';'),
            code @ 0xff01..=0xff5e => {
                changed.push(char::from_u32(code - 0xfee0).unwrap_or(character));
            }
            _ => changed.push(character),
        }
    }
    (changed != text).then(|| changed.into_bytes())
}

/// `%u` and four hexadecimal digits become a character. Surrogates stay as they are: no character of a route is one.
fn without_utf16_escapes(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'%', path)?;
    let mut undone = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let escape = match after {
            [b'u' | b'U', digits @ ..] if *first == b'%' => digits
                .split_at_checked(4)
                .filter(|(digits, _)| digits.iter().all(u8::is_ascii_hexdigit))
                .and_then(|(digits, after)| {
                    let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                    Some((char::from_u32(code)?, after))
                }),
            _ => None,
        };
        rest = if let Some((character, after)) = escape {
            undone.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            after
        } else {
            undone.push(*first);
            after
        };
    }
    (undone.len() < path.len()).then_some(undone)
}

fn without_parameters(path: &[u8]) -> Option<Vec<u8>> {
    path.contains(&b';').then(|| {
        each_segment(path, |segment| {
            segment
                .split(|&byte| byte == b';')
                .next()
                .unwrap_or(segment)
        })
    })
}

fn trim_segments(path: &[u8]) -> Option<Vec<u8>> {
    let trimmed = each_segment(path, |segment| {
        // Dot segments are another step's.
        if matches!(segment, b"." | b"..") {
            return segment;
        }
        let from = segment.iter().take_while(|&&byte| byte == b' ').count();
        let segment = &segment[from..];
        let dropped = segment
            .iter()
            .rev()
            .take_while(|&&byte| matches!(byte, b'.' | b' '))
            .count();
        &segment[..segment.len() - dropped]
    });
    (trimmed != path).then_some(trimmed)
}

fn each_segment<'p>(path: &'p [u8], change: impl Fn(&'p [u8]) -> &'p [u8]) -> Vec<u8> {
    let mut changed = Vec::with_capacity(path.len());
    for (index, segment) in path.split(|&byte| byte == b'/').enumerate() {
        if index > 0 {
            changed.push(b'/');
        }
        changed.extend_from_slice(change(segment));
    }
    changed
}

fn cut(path: &[u8], at: &[u8]) -> Option<Vec<u8>> {
    let end = path.iter().position(|byte| at.contains(byte))?;
    Some(path[..end].to_vec())
}

fn merge_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let mut merged = Vec::with_capacity(path.len());
    for &byte in path {
        if byte != b'/' || merged.last() != Some(&b'/') {
            merged.push(byte);
        }
    }
    (merged.len() < path.len()).then_some(merged)
}

fn without_authority(path: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(b"//")?;
    let end = rest.iter().position(|&byte| byte == b'/');
    Some(end.map_or_else(|| b"/".to_vec(), |end| rest[end..].to_vec()))
}

fn resolve_dots(path: &[u8]) -> Option<Vec<u8>> {
    let segments = || path.split(|&byte| byte == b'/').skip(1);
    if !segments().any(|segment| matches!(segment, b"." | b"..")) {
        return None;
    }
    let mut resolved = Vec::with_capacity(path.len());
    let mut is_directory = false;
    for segment in segments() {
        is_directory = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => {
                let end = resolved.iter().rposition(|&byte| byte == b'/');
                resolved.truncate(end.unwrap_or(0));
            }
            _ => {
                resolved.push(b'/');
                resolved.extend_from_slice(segment);
            }
        }
    }
    if is_directory {
        resolved.push(b'/');
    }
    Some(resolved)
}

#[cfg(test)]
mod tests;
