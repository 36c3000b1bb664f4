//! Frame accounting per connection: frames that carry no content must stay in proportion to the
//! content.
//!
//! `h2` limits resets and header lists. It answers every PING and SETTINGS, and accepts empty DATA,
//! PRIORITY and WINDOW_UPDATE without limit; each costs this side more than the client
//! (CVE-2019-9512 to CVE-2019-9518).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::front::http2::PREFACE;

/// Length of a frame header (RFC 9113, section 4.1).
const HEADER_BYTES: usize = 9;
/// Maximum of frames beyond the earned ones.
const MAX_OWED: u32 = 1_000;
/// Bytes, in either direction, that earn a frame; a WINDOW_UPDATE usually stands for far more.
const BYTES_PER_FRAME: usize = 512;
/// Frames earned per second.
const FRAMES_PER_SECOND: u32 = 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// Frame fault that ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameFault {
    /// More frames than their content justifies.
    Flood,
    /// Wrong length of a fixed-size frame (RFC 9113, section 4.2); `h2` would report a protocol
    /// error.
    Size,
}

/// Frame accounting of a connection.
#[derive(Debug)]
pub(super) struct Meter {
    owed: Cell<u32>,
    unearned_bytes: Cell<usize>,
    earned_at: Cell<Instant>,
    is_within_head: Cell<bool>,
    fault: Cell<Option<FrameFault>>,
    is_blocked: Cell<bool>,
    has_written: Cell<bool>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            owed: Cell::new(0),
            unearned_bytes: Cell::new(0),
            earned_at: Cell::new(Instant::now()),
            is_within_head: Cell::new(false),
            fault: Cell::new(None),
            is_blocked: Cell::new(false),
            has_written: Cell::new(false),
        }
    }
}

impl Meter {
    /// Fault in the frames, after which nothing more is read.
    pub(super) fn fault(&self) -> Option<FrameFault> {
        self.fault.get()
    }

    /// Whether a header list has begun and not ended.
    pub(super) fn is_within_head(&self) -> bool {
        self.is_within_head.get()
    }

    /// Allows reading the connection to its end despite the fault.
    pub(super) fn forgive(&self) {
        self.fault.set(None);
        self.owed.set(0);
    }

    /// Whether the client's socket takes nothing of what is to be written.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// Notes what a write or a flush came to.
    fn note_write<T>(&self, written: &Poll<io::Result<T>>) {
        self.is_blocked.set(written.is_pending());
    }

    /// Whether anything was written since this was asked last.
    pub(super) fn take_written(&self) -> bool {
        self.has_written.take()
    }

    fn note_frame(&self, kind: u8, flags: u8, length: usize) {
        match kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => {
                self.is_within_head.set(flags & END_HEADERS == 0);
            }
            _ => {}
        }
        if !has_right_size(kind, flags, length) {
            self.fault.set(Some(FrameFault::Size));
        }
        // A request is paid for by its response; CONTINUATION earns nothing.
        let is_free = (kind == DATA && length > 0) || kind == HEADERS;
        if !is_free {
            self.owe();
        }
    }

    fn owe(&self) {
        let mut owed = self.owed.get().saturating_add(1);
        if owed > MAX_OWED {
            let now = Instant::now();
            let seconds = now
                .saturating_duration_since(self.earned_at.get())
                .as_secs();
            self.earned_at.set(now);
            let earned = u32::try_from(seconds)
                .unwrap_or(u32::MAX)
                .saturating_mul(FRAMES_PER_SECOND);
            owed = owed.saturating_sub(earned);
        }
        self.owed.set(owed);
        if owed > MAX_OWED {
            self.fault.set(Some(FrameFault::Flood));
        }
    }

    fn earn(&self, bytes: usize) {
        let bytes = self.unearned_bytes.get().saturating_add(bytes);
        self.unearned_bytes.set(bytes % BYTES_PER_FRAME);
        let frames = u32::try_from(bytes / BYTES_PER_FRAME).unwrap_or(u32::MAX);
        self.owed.set(self.owed.get().saturating_sub(frames));
    }
}

/// Whether a frame has the fixed length of its type.
fn has_right_size(kind: u8, flags: u8, length: usize) -> bool {
    match kind {
        SETTINGS if flags & ACK != 0 => length == 0,
        SETTINGS => length.is_multiple_of(6),
        PING => length == 8,
        RST_STREAM | WINDOW_UPDATE => length == 4,
        _ => true,
    }
}

/// Parser position.
#[derive(Debug)]
struct Scan {
    header: [u8; HEADER_BYTES],
    filled: usize,
    /// Bytes until the next frame header.
    skip: usize,
    is_data: bool,
}

impl Scan {
    fn read(&mut self, mut bytes: &[u8], meter: &Meter) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let taken = self.skip.min(bytes.len());
                if self.is_data {
                    meter.earn(taken);
                }
                self.skip -= taken;
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            let wanted = self.header.get_mut(self.filled..).unwrap_or_default();
            let taken = wanted.len().min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            if let Some(room) = wanted.get_mut(..taken) {
                room.copy_from_slice(now);
            }
            self.filled += taken;
            bytes = later;
            if self.filled == HEADER_BYTES {
                self.filled = 0;
                let [high, middle, low, kind, flags, ..] = self.header;
                let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.skip = length;
                self.is_data = kind == DATA;
                meter.note_frame(kind, flags, length);
            }
        }
    }
}

/// Connection whose frames are counted as they are read.
#[derive(Debug)]
pub(super) struct Metered<S> {
    io: S,
    meter: Rc<Meter>,
    scan: Scan,
}

impl<S> Metered<S> {
    pub(super) fn new(io: S, meter: Rc<Meter>) -> Self {
        let scan = Scan {
            header: [0; HEADER_BYTES],
            filled: 0,
            skip: PREFACE.len(),
            is_data: false,
        };
        Self { io, meter, scan }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        if this.meter.fault.get().is_none() {
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let fresh = buf.filled().get(start..).unwrap_or_default();
            this.scan.read(fresh, &this.meter);
        }
        if this.meter.fault.get().is_some() {
            // The driver checks the meter after each read, in the same task.
            buf.set_filled(start);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, data);
        this.meter.note_write(&written);
        if let Poll::Ready(Ok(bytes)) = &written {
            this.meter.has_written.set(true);
            this.meter.earn(*bytes);
        }
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, data);
        this.meter.note_write(&written);
        if let Poll::Ready(Ok(bytes)) = &written {
            this.meter.has_written.set(true);
            this.meter.earn(*bytes);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.meter.note_write(&flushed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEADER_BYTES + payload, 0);
        bytes
    }

    fn read(pieces: &[&[u8]]) -> Meter {
        let meter = Meter::default();
        let mut scan = Metered::new((), Rc::default()).scan;
        scan.read(PREFACE, &meter);
        for piece in pieces {
            scan.read(piece, &meter);
        }
        meter
    }

    #[test]
    fn frames_that_move_nothing_are_a_flood_and_those_that_do_are_none() {
        let most = MAX_OWED as usize;
        for (what, bytes, is_flood) in [
            ("pings", frame(6, 0, 8).repeat(most + 1), true),
            (
                "as many pings as may be",
                frame(6, 0, 8).repeat(most),
                false,
            ),
            ("settings", frame(4, 0, 0).repeat(most + 1), true),
            ("resets", frame(3, 0, 4).repeat(most + 1), true),
            ("priorities", frame(2, 0, 5).repeat(most + 1), true),
            ("empty data", frame(DATA, 0, 0).repeat(most + 1), true),
            (
                "continuations",
                frame(CONTINUATION, 0, 0).repeat(most + 1),
                true,
            ),
            ("unknown frames", frame(200, 0, 10).repeat(most + 1), true),
            ("data", frame(DATA, 0, 10).repeat(most * 3), false),
            ("requests", frame(HEADERS, 5, 30).repeat(most * 3), false),
            (
                "updates of windows among data",
                [frame(DATA, 0, 16_384), frame(8, 0, 4)]
                    .concat()
                    .repeat(most * 3),
                false,
            ),
        ] {
            let flood = is_flood.then_some(FrameFault::Flood);
            assert_eq!(read(&[&bytes]).fault(), flood, "{what}");
        }
    }

    #[test]
    fn a_frame_of_a_fixed_size_has_that_size() {
        for (kind, flags, right, wrong) in [
            (RST_STREAM, 0, 4, 5),
            (SETTINGS, 0, 12, 7),
            (SETTINGS, ACK, 0, 6),
            (PING, 0, 8, 0),
            (WINDOW_UPDATE, 0, 4, 3),
        ] {
            let fault = |payload| read(&[&frame(kind, flags, payload)]).fault();
            assert_eq!(fault(right), None, "{kind}");
            assert_eq!(fault(wrong), Some(FrameFault::Size), "{kind}");
        }
    }

    #[test]
    fn a_list_of_fields_is_open_until_its_end_is_flagged() {
        let (begun, ended) = (frame(HEADERS, 0, 3), frame(CONTINUATION, END_HEADERS, 3));
        assert!(read(&[&begun]).is_within_head());
        assert!(!read(&[&begun, &ended]).is_within_head());
        assert!(!read(&[&frame(HEADERS, END_HEADERS, 3)]).is_within_head());
    }

    proptest! {
        #[test]
        fn frames_in_any_pieces_count_alike(
            frames in proptest::collection::vec((0u8..12, any::<u8>(), 0usize..600), 0..40),
            cuts in proptest::collection::vec(0usize..4_000, 0..20),
        ) {
            let bytes: Vec<u8> = frames
                .iter()
                .flat_map(|(kind, flags, payload)| frame(*kind, *flags, *payload))
                .collect();
            let whole = read(&[&bytes]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let pieced = read(&pieces);
            prop_assert_eq!(whole.owed.get(), pieced.owed.get());
            prop_assert_eq!(whole.is_within_head(), pieced.is_within_head());
        }
    }
}
