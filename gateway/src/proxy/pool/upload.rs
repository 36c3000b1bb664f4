//! The body of a request on its way to an origin: it keeps to its length, and stops when the origin has answered.

use std::{
    error::Error,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_http::{
    RequestHeadType,
    body::{BodySize, BoxBody, MessageBody},
    header::{CONTENT_LENGTH, HeaderValue},
};
use bytes::Bytes;

use crate::proxy::origin_stream::OriginControl;

/// See the module.
pub(super) struct Upload {
    body: BoxBody,
    size: BodySize,
    /// What is missing of an announced length that awc does not know of.
    left: Option<u64>,
    control: Option<Rc<OriginControl>>,
}

impl Upload {
    /// awc sends all of a body before it looks at the response, and has no means to stop where it knows the length. So a
    /// streamed body of known length is announced in our own header, and kept to that length here.
    pub(super) fn new(mut head: RequestHeadType, body: BoxBody, control: Option<Rc<OriginControl>>) -> (RequestHeadType, Self) {
        let size = body.size();
        if matches!(size, BodySize::None | BodySize::Sized(0)) {
            return (head, Self { body, size, left: None, control: None });
        }
        let body = match body.try_into_bytes() {
            // In hand already: it leaves with the head, in one write.
            Ok(bytes) => return (head, Self { body: BoxBody::new(bytes), size, left: None, control: None }),
            Err(body) => body,
        };
        let mut upload = Self { body, size, left: None, control };
        if let (BodySize::Sized(length), RequestHeadType::Owned(head)) = (size, &mut head) {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            head.no_chunking(true);
            upload.size = BodySize::Stream;
            upload.left = Some(length);
        }
        (head, upload)
    }
}

impl MessageBody for Upload {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        if this.control.as_ref().is_some_and(|control| control.answered_early()) {
            return Poll::Ready(None);
        }
        let chunk = ready!(Pin::new(&mut this.body).poll_next(cx)).transpose()?;
        if let Some(left) = &mut this.left {
            let size = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            let exact = left.checked_sub(size).filter(|left| chunk.is_some() || *left == 0);
            *left = exact.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "body is not as long as announced"))?;
        }
        Poll::Ready(chunk.map(Ok))
    }
}
