//! Room that a worker lends to connections that read or write: one that waits holds none.

use std::cell::RefCell;

use bytes::BytesMut;

/// Room for what nearly every message has that comes or goes in one piece.
const LENT_BYTES: usize = 16 * 1024;
/// Room that grew beyond this is given back to the system.
const MOST_KEPT_BYTES: usize = 128 * 1024;
/// How many connections of a worker may write at once without room being made for them: as many as
/// wait for their clients.
const LENT_AT_ONCE: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Runs `read` with empty room, of which nothing is kept.
pub(crate) fn with_spare<T>(read: impl FnOnce(&mut BytesMut) -> T) -> T {
    let mut room = lend();
    let done = read(&mut room);
    give_back(room);
    done
}

/// Room, empty.
pub(crate) fn lend() -> BytesMut {
    let lent = SPARE.with_borrow_mut(Vec::pop);
    lent.unwrap_or_else(|| BytesMut::with_capacity(LENT_BYTES))
}

/// Takes room back, whatever is in it.
pub(crate) fn give_back(mut room: BytesMut) {
    room.clear();
    if (LENT_BYTES..=MOST_KEPT_BYTES).contains(&room.capacity()) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < LENT_AT_ONCE {
                spare.push(room);
            }
        });
    }
}
