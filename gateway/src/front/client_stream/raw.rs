//! What a client sends once its connection has left HTTP.
//!
//! actix-http hands it on only after `Upgrade: websocket`, as a request body, and takes it for
//! requests after any other upgrade. So it can be read here instead, past actix-http, which then
//! sees nothing of it.

use std::{
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;

use super::ClientControl;

/// What is taken in beyond what the reader has fetched.
const MAX_WAITING_BYTES: usize = 64 * 1024;

/// Between the stream that reads the socket and the one who reads [`RawInput`].
#[derive(Debug, Default)]
pub(super) struct Diversion {
    active: bool,
    ended: bool,
    bytes: BytesMut,
    reader: Option<Waker>,
    source: Option<Waker>,
}

impl Diversion {
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Pending while the reader has enough to fetch.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.bytes.len() < MAX_WAITING_BYTES {
            return Poll::Ready(());
        }
        self.source = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        wake(&mut self.reader);
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        wake(&mut self.reader);
    }
}

/// The bytes of a client after 101, from the first after its request. Ends when the client ends its
/// side or is gone.
pub struct RawInput {
    control: Rc<ClientControl>,
}

impl RawInput {
    pub(super) fn new(control: Rc<ClientControl>) -> Self {
        control.diversion().active = true;
        Self { control }
    }
}

impl Stream for RawInput {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut diversion = self.control.diversion();
        if !diversion.bytes.is_empty() {
            wake(&mut diversion.source);
            return Poll::Ready(Some(diversion.bytes.split().freeze()));
        }
        if diversion.ended {
            return Poll::Ready(None);
        }
        diversion.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl fmt::Debug for RawInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawInput")
            .field("control", &self.control)
            .finish()
    }
}
