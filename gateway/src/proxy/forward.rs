//! Forwards one request to an origin and returns its response.

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::header::HeaderValue;
use actix_http::{ConnectionType, Method};
use awc::error::SendRequestError;

use crate::auth::CallerTag;
use crate::proxy::answer::{self, Follows, answer};
use crate::proxy::body::RequestBody;
use crate::proxy::failure::{Failed, phase};
use crate::proxy::origin_head::OriginHead;
use crate::proxy::origin_stream::OriginFault;
use crate::proxy::plain_answer::PlainRules;
use crate::proxy::pool::{OriginAnswer, OriginPool, OriginTarget};
use crate::proxy::retry::{ForwardedResponse, HostHeader, Retryable, send_with_retries};
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream::attempts::Phase;
use crate::proxy::whole_body::WholeBody;

/// Sends `head` and `body` to a target of `upstream` and waits for the response head.
///
/// Retries on another target if nothing was sent, or if the method is idempotent, the body empty or
/// buffered, and the connection was lost before the first byte of a response (RFC 9110, section 9.2.2). The
/// upstream's policy limits the retries. A reused connection that fails is first replaced by a new
/// one to the same target, which is not a retry (RFC 9112, section 9.3.1).
///
/// The response head may precede the end of the request body; the rest is sent while the response
/// body is read.
///
/// With `plain`, a plain answer is passed on by its lines, which only a client of HTTP/1.1 can
/// take.
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
    mut head: OriginHead,
    body: RequestBody,
    plain: Option<PlainRules<'_>>,
) -> Result<ForwardedResponse, Failed> {
    let head_only = *head.method() == Method::HEAD;
    let progress = body.progress();
    let has_no_body = matches!(
        MessageBody::size(&body),
        BodySize::None | BodySize::Sized(0)
    );
    let whole = body.whole().cloned();
    if has_no_body && whole.is_some() {
        // Its client announced a body, and the origin wants to know the length.
        head.announce_empty_body();
    }
    let is_idempotent = is_idempotent(head.method());
    let mut request = Sendable {
        head,
        body: (!(has_no_body && is_idempotent)).then(|| body.boxed()),
        is_repeatable: is_idempotent && (has_no_body || whole.is_some()),
        whole: whole.filter(|_| is_idempotent && !has_no_body),
        plain,
    };
    let answered = send_with_retries(pool, upstream, host, caller, &progress, &mut request).await?;
    let mut answer = answered.into_response(|answered| match answered {
        OriginAnswer::Plain(head, body) => Ok(answer::plain(head, body)),
        OriginAnswer::Parsed(head, payload) => answer(head, Follows::Body { payload, head_only }),
    })?;
    // A client that has its response may stop sending or send for ever: the connection cannot be
    // reused.
    if !progress.ended() {
        let head = answer.response.head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(answer)
}

/// A request that may be sent again, or once.
struct Sendable<'a> {
    head: OriginHead,
    /// Of a request that is sent once: `None` after that.
    body: Option<BoxBody>,
    /// The body, if it can be sent again.
    whole: Option<WholeBody>,
    is_repeatable: bool,
    plain: Option<PlainRules<'a>>,
}

impl Retryable for Sendable<'_> {
    type Output = OriginAnswer;

    fn set_host(&mut self, host: &HeaderValue) {
        self.head.set_host(host);
    }

    async fn send(
        &mut self,
        pool: &OriginPool,
        target: &OriginTarget,
    ) -> Result<Self::Output, SendRequestError> {
        let plain = |head: &[u8]| self.plain?.read(head);
        let (head, body) = (&mut self.head, &mut self.body);
        let again = |body: &mut Option<BoxBody>, whole: &Option<WholeBody>| {
            if let (None, Some(whole)) = (&body, whole) {
                *body = Some(RequestBody::buffered(whole.clone()).boxed());
            }
        };
        again(body, &self.whole);
        let answer = pool.try_send(target, head, body, &plain).await;
        let was_stale = |error: &SendRequestError| {
            matches!(
                OriginFault::find(error),
                Some(OriginFault::DiedBeforeResponse { reused: true })
            )
        };
        if self.is_repeatable && answer.as_ref().is_err_and(was_stale) {
            // Where one idle connection was dead, the others most likely are.
            pool.give_up_idle(target);
            again(body, &self.whole);
            // Boxed: retries are rare, and every request future would reserve the space.
            return Box::pin(pool.try_send(target, head, body, &plain)).await;
        }
        answer
    }

    fn is_retryable(&self, error: &SendRequestError) -> bool {
        let nothing_sent = phase(error) == Phase::Connecting;
        if self.is_repeatable {
            let fault = OriginFault::find(error);
            nothing_sent || matches!(fault, Some(OriginFault::DiedBeforeResponse { .. }))
        } else {
            self.body.is_some() && nothing_sent
        }
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    )
}
