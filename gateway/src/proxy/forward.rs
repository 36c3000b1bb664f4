//! Forwards one request to an origin and returns its response.

use std::rc::Rc;

use actix_http::body::{self, BodySize, MessageBody};
use actix_http::header::{self, HeaderValue};
use actix_http::{ConnectionType, Method, Payload, RequestHead, RequestHeadType, ResponseHead};
use awc::error::SendRequestError;

use crate::auth::CallerTag;
use crate::proxy::answer::{Follows, answer};
use crate::proxy::body::RequestBody;
use crate::proxy::failure::{Failed, phase};
use crate::proxy::origin_stream::OriginFault;
use crate::proxy::pool::{OriginPool, OriginTarget, Outgoing};
use crate::proxy::retry::{ForwardedResponse, HostHeader, Retryable, send_with_retries};
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream::attempts::Phase;

/// Sends `head` and `body` to a target of `upstream` and waits for the response head.
///
/// Retries on another target if nothing was sent, or if the method is idempotent, the body empty,
/// and the connection was lost before the first byte of a response (RFC 9110, section 9.2.2). The
/// upstream's policy limits the retries. A reused connection that fails is first replaced by a new
/// one to the same target, which is not a retry (RFC 9112, section 9.3.1).
///
/// The response head may precede the end of the request body; the rest is sent while the response
/// body is read.
///
/// Dropping the future closes the connection to the origin. `caller` identifies requests that crash
/// targets.
///
/// # Errors
/// Why there is no response to pass on.
pub async fn forward(
    pool: &OriginPool,
    upstream: &Upstream,
    host: HostHeader,
    caller: CallerTag,
    head: RequestHead,
    body: RequestBody,
) -> Result<ForwardedResponse, Failed> {
    let head_only = head.method == Method::HEAD;
    let progress = body.progress();
    let has_no_body = matches!(
        MessageBody::size(&body),
        BodySize::None | BodySize::Sized(0)
    );
    let mut request = if has_no_body && is_idempotent(&head.method) {
        Sendable::Again(Rc::new(head))
    } else {
        Sendable::Once(Some(Outgoing {
            head: RequestHeadType::from(head),
            body: body.boxed(),
        }))
    };
    let answered = send_with_retries(pool, upstream, host, caller, &progress, &mut request).await?;
    let mut answer = answered
        .into_response(|(head, payload)| answer(head, Follows::Body { payload, head_only }))?;
    // A client that has its response may stop sending or send for ever: the connection cannot be
    // reused.
    if !progress.ended() {
        let head = answer.response.head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(answer)
}

/// A request and the number of times it may be sent.
#[expect(
    clippy::large_enum_variant,
    reason = "one a request, on its way in place: a box would cost an allocation"
)]
enum Sendable {
    /// Any number of times.
    Again(Rc<RequestHead>),
    /// Once; `None` after it was sent.
    Once(Option<Outgoing>),
}

impl Retryable for Sendable {
    type Output = (ResponseHead, Payload);

    fn set_host(&mut self, host: &HeaderValue) {
        match self {
            Self::Again(head) => drop(
                Rc::make_mut(head)
                    .headers
                    .insert(header::HOST, host.clone()),
            ),
            Self::Once(Some(Outgoing {
                head: RequestHeadType::Owned(head),
                ..
            })) => {
                drop(head.headers.insert(header::HOST, host.clone()));
            }
            Self::Once(_) => {}
        }
    }

    async fn send(
        &mut self,
        pool: &OriginPool,
        target: &OriginTarget,
    ) -> Result<Self::Output, SendRequestError> {
        match self {
            Self::Once(outgoing) => pool.try_send(target, outgoing).await,
            Self::Again(head) => {
                let head = || RequestHeadType::Rc(Rc::clone(head), None);
                let answer = pool.send(target, head(), body::None::new()).await;
                let was_stale = |error: &SendRequestError| {
                    matches!(
                        OriginFault::find(error),
                        Some(OriginFault::DiedBeforeResponse { reused: true })
                    )
                };
                if answer.as_ref().is_err_and(was_stale) {
                    // Boxed: retries are rare, and every request future would reserve the space.
                    return Box::pin(pool.send_fresh(target, head(), body::None::new())).await;
                }
                answer
            }
        }
    }

    fn is_retryable(&self, error: &SendRequestError) -> bool {
        let nothing_sent = phase(error) == Phase::Connecting;
        match self {
            Self::Again(_) => {
                let fault = OriginFault::find(error);
                nothing_sent || matches!(fault, Some(OriginFault::DiedBeforeResponse { .. }))
            }
            Self::Once(outgoing) => outgoing.is_some() && nothing_sent,
        }
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    )
}
