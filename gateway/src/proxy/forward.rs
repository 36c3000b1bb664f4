//! One request to the origin and its answer: sent, retried where that is safe, and judged.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_http::body::{self, BodySize};
use actix_http::header::{self, HeaderName};
use actix_http::{Method, RequestHead, RequestHeadType, Response, ResponseHead, StatusCode};
use awc::error::{ConnectError, SendRequestError};

use crate::proxy::OriginUrl;
use crate::proxy::body::{BodyFault, BodyProgress, OriginBody, RequestBody};
use crate::proxy::origin_stream::OriginFault;
use crate::proxy::pool::OriginPool;

/// The origin's answer, ready for the client once its headers were looked through.
pub struct Answer {
    /// The response.
    pub response: Response<OriginBody>,
    /// From sending the request to the head of the answer.
    pub wait: Duration,
}

/// Why there is no answer. [`Failure::cause`] is for the operator, never for the client.
#[derive(Debug)]
pub enum Failure {
    /// The client's body did not reach its end.
    ClientBody(BodyFault),
    /// No connection, or it broke before an answer.
    Unreachable(String),
    /// Connecting, or the answer, took too long.
    TimedOut(String),
    /// An answer that cannot be passed on.
    BadAnswer(String),
    /// The origin's guard did not accept our secret; its mark says why.
    RejectedGateway(String),
}

impl Failure {
    /// What happened, for the log.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::ClientBody(fault) => fault.to_string(),
            Self::Unreachable(cause) | Self::TimedOut(cause) | Self::BadAnswer(cause) => cause.clone(),
            Self::RejectedGateway(mark) => {
                format!("the origin's guard answered {mark:?}: do gateway and origin have the same SHARED_SECRET?")
            }
        }
    }
}

/// Sends `head` and `body` to `upstream` and waits for the head of the answer.
///
/// A request is sent again only when the connection was a reused one that died before the first byte of an answer,
/// its method is idempotent, and it has no body (RFC 9112, section 9.3.1).
///
/// Dropping the future drops the connection to the origin.
///
/// # Errors
/// Why there is no answer to pass on.
pub async fn forward(pool: &OriginPool, upstream: &OriginUrl, head: RequestHead, body: RequestBody) -> Result<Answer, Failure> {
    let head_only = head.method == Method::HEAD;
    let progress = body.progress();
    let begun = Instant::now();
    let has_no_body = matches!(actix_http::body::MessageBody::size(&body), BodySize::None | BodySize::Sized(0));
    let (head, payload) = if has_no_body && is_idempotent(&head.method) {
        send_again_if_safe(pool, upstream, &Rc::new(head)).await?
    } else {
        pool.send(upstream.target(), head, body).await.map_err(|error| judge(&error, &progress))?
    };
    let wait = begun.elapsed();

    static GUARD_MARK: HeaderName = HeaderName::from_static(postern_shared::headers::ORIGIN_GUARD);
    if let Some(mark) = head.headers.get(&GUARD_MARK) {
        return Err(Failure::RejectedGateway(String::from_utf8_lossy(mark.as_bytes()).into_owned()));
    }
    Ok(Answer { response: respond(head, payload, head_only)?, wait })
}

async fn send_again_if_safe(
    pool: &OriginPool,
    upstream: &OriginUrl,
    head: &Rc<RequestHead>,
) -> Result<(ResponseHead, actix_http::Payload), Failure> {
    let head = || RequestHeadType::Rc(Rc::clone(head), None);
    let mut answer = pool.send(upstream.target(), head(), body::None::new()).await;
    let was_stale =
        |error: &SendRequestError| matches!(OriginFault::find(error), Some(OriginFault::DiedBeforeResponse { reused: true }));
    if answer.as_ref().is_err_and(was_stale) {
        answer = pool.send_fresh(upstream.target(), head(), body::None::new()).await;
    }
    answer.map_err(|error| judge(&error, &BodyProgress::default()))
}

fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// The response that an answer becomes.
pub(super) fn respond(
    mut head: ResponseHead,
    payload: actix_http::Payload,
    head_only: bool,
) -> Result<Response<OriginBody>, Failure> {
    if head.status.is_informational() {
        return Err(Failure::BadAnswer(format!("the origin answered with the interim status {}", head.status.as_u16())));
    }
    let body = if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        OriginBody::none()
    } else {
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        OriginBody::new(payload, length, head_only)
    };
    // The length is written from the body's size, never copied.
    head.headers.remove(header::CONTENT_LENGTH);
    let mut response = Response::with_body(head.status, body);
    response.head_mut().reason = head.reason;
    *response.headers_mut() = head.headers;
    Ok(response)
}

/// What an error means.
pub(super) fn judge(error: &SendRequestError, progress: &BodyProgress) -> Failure {
    if let Some(fault) = progress.fault() {
        return Failure::ClientBody(fault);
    }
    if let Some(fault) = OriginFault::find(error) {
        let cause = fault.to_string();
        return match fault {
            fault if fault.is_timeout() => Failure::TimedOut(cause),
            fault if fault.nothing_sent() => Failure::Unreachable(cause),
            OriginFault::DiedBeforeResponse { .. } | OriginFault::TlsRefused { .. } => Failure::Unreachable(cause),
            _ => Failure::BadAnswer(cause),
        };
    }
    match error {
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => {
            Failure::TimedOut(Chain(error).to_string())
        }
        SendRequestError::Response(_) => Failure::BadAnswer(Chain(error).to_string()),
        _ => Failure::Unreachable(Chain(error).to_string()),
    }
}

/// An error with what caused it.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
