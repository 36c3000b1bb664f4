//! HTTP/1.1 as bytes on a wire: what both guarded streams need to know of it, and no more.
//!
//! Nothing here does I/O and nothing here builds messages. The scanners only find where a message
//! ends, and refuse what two readers could understand differently (RFC 9112). [`turn`] says when to
//! write.

pub(crate) mod alarm;
pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod clock;
pub(crate) mod head;
pub(crate) mod room;
pub(crate) mod turn;
