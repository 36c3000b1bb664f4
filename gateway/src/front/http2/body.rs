//! The body of a request of HTTP/2. The client's window opens as far as the origin has taken what came.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_core::Stream;
use h2::RecvStream;

use crate::front::client_stream::{ClientControl, ClientFault, Pace};
use crate::wire::alarm::{OutOfPace, PaceMeter};

/// A body as it arrives.
pub(super) struct Body {
    stream: RecvStream,
    control: Rc<ClientControl>,
    pace: Pace,
    meter: PaceMeter,
    /// Bytes that were given on and that the window does not have back.
    given: usize,
}

impl Body {
    /// Reads `stream` at `pace` or faster.
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
        // Whoever asks for more has taken what there was.
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
            Poll::Pending => {
                let pace = this.control.body_pace(this.pace);
                this.meter.poll_out_of_pace(cx, pace).map(|out| {
                    this.control.note_fault(match out {
                        OutOfPace::Idle => ClientFault::BodyStalled,
                        OutOfPace::TooSlow => ClientFault::BodyTooSlow,
                    });
                    Some(Err(PayloadError::Incomplete(None)))
                })
            }
        }
    }
}
