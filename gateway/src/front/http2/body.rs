//! Body of an HTTP/2 request. The client's window reopens as the origin takes the bytes.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_core::Stream;
use h2::RecvStream;

use crate::front::client_stream::{ClientControl, ClientFault, Pace};
use crate::wire::alarm::{OutOfPace, PaceMeter};

/// Body as it arrives.
pub(super) struct Body {
    stream: RecvStream,
    control: Rc<ClientControl>,
    pace: Pace,
    meter: PaceMeter,
    /// Bytes passed on but not yet returned to the window.
    given: usize,
}

impl Body {
    /// Reads `stream`, which must arrive at least at the rate `pace`.
    pub(super) fn new(stream: RecvStream, control: Rc<ClientControl>, pace: Pace) -> Self {
        Self {
            stream,
            control,
            pace,
            meter: PaceMeter::default(),
            given: 0,
        }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // A poll for more means that the last chunk was taken.
        let given = std::mem::take(&mut this.given);
        if given > 0 && this.stream.flow_control().release_capacity(given).is_err() {
            return Poll::Ready(Some(Err(PayloadError::Incomplete(None))));
        }
        match this.stream.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                this.meter.moved(data.len());
                this.given = data.len();
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Some(Err(_))) => {
                this.control.note_left();
                Poll::Ready(Some(Err(PayloadError::Incomplete(None))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => this.meter.poll_out_of_pace(cx, this.pace).map(|out| {
                this.control.note_fault(match out {
                    OutOfPace::Idle => ClientFault::BodyStalled,
                    OutOfPace::TooSlow => ClientFault::BodyTooSlow,
                });
                Some(Err(PayloadError::Incomplete(None)))
            }),
        }
    }
}
