//! A request in two parts: what awc sends, the head, and what the stream beneath sends, the body.

use std::{
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_http::{
    RequestHead, RequestHeadType,
    body::{BodySize, BoxBody, MessageBody},
    header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING},
};
use bytes::Bytes;

use crate::proxy::origin_stream::{Upload, UploadFraming};

/// The head as awc is to write it, what it is told of the body, and the body.
///
/// awc sends all of a body before it looks at the answer, and holds back what is less than 8 kB. So a body is announced in a
/// header of our own, and awc is told of one without any framing, to which it adds nothing.
pub(super) fn part(
    head: RequestHeadType,
    body: BoxBody,
) -> (RequestHeadType, Announced, Option<Upload>) {
    let size = body.size();
    let Some(upload) = Upload::new(body) else {
        return (head, Announced { size, told: true }, None);
    };
    let mut head = owned(head);
    head.no_chunking(true);
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(TRANSFER_ENCODING);
    match upload.framing() {
        UploadFraming::Length(length) => head
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length)),
        UploadFraming::Chunked => head
            .headers
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
    };
    (
        RequestHeadType::Owned(head),
        Announced {
            size: BodySize::Stream,
            told: false,
        },
        Some(upload),
    )
}

fn owned(head: RequestHeadType) -> RequestHead {
    match head {
        RequestHeadType::Owned(head) => head,
        RequestHeadType::Rc(head, extra) => {
            let mut head = Rc::unwrap_or_clone(head);
            for (name, value) in extra.into_iter().flatten() {
                head.headers.insert(name, value);
            }
            head
        }
    }
}

/// The body as awc sees it: without a byte.
pub(super) struct Announced {
    size: BodySize,
    told: bool,
}

impl MessageBody for Announced {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        // A stream that ends at once would be announced as a length of zero.
        Poll::Ready((!std::mem::replace(&mut self.told, true)).then(|| Ok(Bytes::new())))
    }
}
