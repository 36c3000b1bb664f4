//! `buffer_request_body` of routes.

use crate::config::reader::Reader;
use crate::config::value::Setting;

/// Most bytes of a body that are buffered.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Value of the setting.
enum BufferBody {
    Off,
    /// Up to `max_body_bytes`.
    On,
    /// Up to so many bytes.
    UpTo(u64),
}

impl Setting for BufferBody {
    const ACCEPTED: &'static str = "true, false, or a number of bytes from 1 to 67108864";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "false" => Ok(Self::Off),
            "true" => Ok(Self::On),
            _ => text
                .replace('_', "")
                .parse()
                .ok()
                .filter(|bytes| (1..=MAX_BYTES).contains(bytes))
                .map(Self::UpTo)
                .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED)),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Off => "false".to_owned(),
            Self::On => "true".to_owned(),
            Self::UpTo(bytes) => bytes.to_string(),
        }
    }
}

/// Reads how many bytes of a body of unknown length the route buffers; `None` if it streams.
/// `max_body_bytes` is what the route allows, `room` the memory for all bodies.
pub(super) fn read_buffering(section: &mut Reader, max_body_bytes: u64, room: u64) -> Option<u64> {
    const KEY: &str = "buffer_request_body";
    let bytes = match section.take(KEY, BufferBody::Off) {
        BufferBody::Off => return None,
        BufferBody::On if max_body_bytes > MAX_BYTES => {
            let message = format!(
                "bodies of up to max_body_bytes, {max_body_bytes}, would be held in memory: set that to at most {MAX_BYTES} here, or write a number of bytes in place of true"
            );
            section.problem(KEY, "the routes", message);
            return None;
        }
        BufferBody::On => max_body_bytes,
        BufferBody::UpTo(bytes) => bytes.min(max_body_bytes),
    };
    if bytes > room {
        let message = format!(
            "a body of {bytes} bytes never fits into listen.max_buffered_bytes, {room}: raise that, or take less"
        );
        section.problem(KEY, "the routes", message);
    }
    Some(bytes)
}
