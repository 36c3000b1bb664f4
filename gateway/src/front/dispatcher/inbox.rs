//! The body of a request between the connection that reads it and the handler that takes it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use actix_http::{BoxedPayloadStream, Payload, error::PayloadError};
use bytes::Bytes;
use futures_core::Stream;

/// How much may wait for the handler before no more is read.
const MAX_WAITING_BYTES: usize = 32 * 1024;

/// The end of the connection: what has come of the body is put in here.
#[derive(Debug)]
pub(super) struct Inbox(Rc<RefCell<State>>);

/// The end of the handler.
struct Outlet(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Bytes>,
    waiting_bytes: usize,
    end: End,
    /// Nobody takes anything any more.
    dropped: bool,
    /// Waits for a piece.
    reader: Option<Waker>,
    /// Waits for room.
    source: Option<Waker>,
}

#[derive(Debug, Default)]
enum End {
    #[default]
    Open,
    Whole,
    Broken(PayloadError),
    Told,
}

/// What the connection is to do with more of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Put it in.
    There,
    /// Leave it with the client; the task is woken when there is room.
    None,
    /// Read it and drop it: nobody takes it.
    Dropped,
}

impl Inbox {
    /// An inbox, and the payload by which a handler takes out of it.
    pub(super) fn new() -> (Self, Payload) {
        let state = Rc::new(RefCell::new(State::default()));
        let outlet = Outlet(Rc::clone(&state));
        let payload: BoxedPayloadStream = Box::pin(outlet);
        (Self(state), Payload::Stream { payload })
    }

    /// Whether there is room for more.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Room {
        let mut state = self.0.borrow_mut();
        if state.dropped {
            return Room::Dropped;
        }
        if state.waiting_bytes < MAX_WAITING_BYTES {
            return Room::There;
        }
        state.source = Some(cx.waker().clone());
        Room::None
    }

    /// Puts a piece in.
    pub(super) fn put(&self, piece: Bytes, cx: &Context<'_>) {
        let mut state = self.0.borrow_mut();
        if !state.dropped {
            state.waiting_bytes += piece.len();
            state.pieces.push_back(piece);
            wake_other(&mut state.reader, cx);
        }
    }

    /// The body is whole.
    pub(super) fn end(self, cx: &Context<'_>) {
        self.end_as(End::Whole, cx);
    }

    /// The body does not come to its end. What has come of it is taken first.
    pub(super) fn break_off(self, error: PayloadError, cx: &Context<'_>) {
        self.end_as(End::Broken(error), cx);
    }

    fn end_as(&self, end: End, cx: &Context<'_>) {
        let mut state = self.0.borrow_mut();
        state.end = end;
        wake_other(&mut state.reader, cx);
    }
}

impl Stream for Outlet {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.borrow_mut();
        if let Some(piece) = state.pieces.pop_front() {
            state.waiting_bytes -= piece.len();
            if let Some(source) = state.source.take() {
                source.wake();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match std::mem::replace(&mut state.end, End::Told) {
            End::Open => {
                state.end = End::Open;
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Broken(error) => Poll::Ready(Some(Err(error))),
            End::Whole | End::Told => Poll::Ready(None),
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.dropped = true;
        state.pieces.clear();
        if let Some(source) = state.source.take() {
            source.wake();
        }
    }
}

/// Wakes a handler that is a task of its own; as a rule it is one with the connection, which has it
/// go on after it has read.
fn wake_other(waker: &mut Option<Waker>, cx: &Context<'_>) {
    if let Some(waker) = waker.take()
        && !waker.will_wake(cx.waker())
    {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    #[test]
    fn pieces_come_out_in_order_and_then_the_end_however_it_is() {
        let cx = Context::from_waker(Waker::noop());
        for breaks in [false, true] {
            let (inbox, mut payload) = Inbox::new();
            assert!(payload.next().now_or_never().is_none());
            for piece in ["one", "two"] {
                inbox.put(Bytes::from_static(piece.as_bytes()), &cx);
            }
            match breaks {
                true => inbox.break_off(PayloadError::EncodingCorrupted, &cx),
                false => inbox.end(&cx),
            }
            let mut next = || payload.next().now_or_never().unwrap();
            assert_eq!(next().unwrap().unwrap(), "one");
            assert_eq!(next().unwrap().unwrap(), "two");
            assert_eq!(next().is_some_and(|last| last.is_err()), breaks);
            assert!(next().is_none());
        }
    }

    #[test]
    fn there_is_room_until_enough_waits_and_again_once_it_is_taken() {
        let cx = Context::from_waker(Waker::noop());
        let (inbox, mut payload) = Inbox::new();
        assert_eq!(inbox.poll_room(&cx), Room::There);
        inbox.put(Bytes::from(vec![0; MAX_WAITING_BYTES]), &cx);
        assert_eq!(inbox.poll_room(&cx), Room::None);
        payload.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(inbox.poll_room(&cx), Room::There);
        drop(payload);
        assert_eq!(inbox.poll_room(&cx), Room::Dropped);
    }
}
