//! Enumerates the readings that an origin may have of a path.
//!
//! Servers and frameworks rewrite a path before they route it: they decode escapes, strip
//! parameters, merge slashes, resolve dot segments, each in its own order. [`STEPS`] lists these
//! rewrites. The readings of a path are all results of any steps, in any order and number. They
//! include the result of every origin that consists of these steps.

use std::ops::ControlFlow;

/// Maximum of readings; a path with more is refused.
const MAX_READINGS: usize = 64;
/// Maximum of bytes of all readings together, in addition to [`MAX_LENGTHS`] times the path length.
const MAX_BYTES: usize = 32 * 1024;
/// Multiple of the path length that all readings together may take.
const MAX_LENGTHS: usize = 4;

/// The path has more readings than the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// Whether every origin reads `path` as written: no byte has a second meaning, no segment is empty
/// or ends in a dot. Ignores case.
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

/// Bytes that [`is_plain`] allows: visible ASCII without the bytes that a step rewrites.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        plain[byte as usize] = !matches!(byte, b'%' | b';' | b'\\' | b'?' | b'#');
        byte += 1;
    }
    plain
};

/// Calls `visit` with each reading of `path`, the path itself first, until `visit` breaks.
///
/// # Errors
/// Too many readings; none of those visited made `visit` break.
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

/// One rewrite of a path; `None` if it changes nothing.
pub type Step = fn(&[u8]) -> Option<Vec<u8>>;

/// Rewrites, each with an origin that applies it.
pub static STEPS: [(&str, Step); 16] = [
    // uvicorn, nginx, Tomcat.
    ("escapes undone", |path| unescape(path, |_| true)),
    // actix, and Tomcat with `%2F` passed through.
    ("escapes undone but of / \\ % and NUL", |path| {
        unescape(path, |byte| !matches!(byte, b'/' | b'\\' | b'%' | 0))
    }),
    // RFC 3986, section 6.2.2.2: Envoy.
    ("escapes of unreserved characters undone", |path| {
        unescape(path, |byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
        })
    }),
    // IIS and other Windows servers: `%u002e`.
    ("escapes of UTF-16 undone", without_utf16_escapes),
    // Old Java and IIS.
    ("overlong UTF-8 taken for ASCII", without_overlong),
    // Decoders that ignore errors.
    ("what is no UTF-8 left out", without_invalid_utf8),
    // Windows best fit, NFKC, and Unicode lower case.
    ("characters taken for their like in ASCII", with_lookalikes),
    // Tomcat, Jetty, Spring.
    ("parameters off every segment", without_parameters),
    ("cut off at the first ;", |path| cut(path, b";")),
    // nginx, Tomcat.
    ("slashes merged", merge_slashes),
    // URL parsers: `//host/path`.
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
    // Windows file systems.
    ("dots and spaces off the ends of segments", trim_segments),
    // Node's `URL`, which drops tabs and line ends.
    ("control characters left out", |path| {
        path.iter().any(u8::is_ascii_control).then(|| {
            path.iter()
                .copied()
                .filter(|byte| !byte.is_ascii_control())
                .collect()
        })
    }),
    // C strings, and servers that decode a path and pass it on as a URL.
    ("cut off at NUL, ? or #", |path| cut(path, &[0, b'?', b'#'])),
];

/// Decodes the escapes of the bytes that `which` accepts.
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

/// Decodes overlong UTF-8: ASCII characters written as two to four bytes (RFC 3629, section 3).
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

/// Replaces what best fit and NFKC map to ASCII: full-width forms, look-alikes of slashes and dots,
/// and letters whose other case is an ASCII letter (Unicode 15, section 5.18, and Java's
/// `equalsIgnoreCase`).
fn with_lookalikes(path: &[u8]) -> Option<Vec<u8>> {
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

/// Decodes `%u` with four hexadecimal digits. Keeps surrogates: no route contains one.
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
        // Another step resolves dot segments.
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
