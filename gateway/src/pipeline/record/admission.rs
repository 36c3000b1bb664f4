//! Ends a request whose caller is no longer admitted.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_http::ResponseHead;
use pin_project_lite::pin_project;

use crate::auth::Proven;
use crate::auth::key_source::KeySource;
use crate::pipeline::open_streams::{
    Admission, Admitted, Generation, OpenStreams, Routing, Watch, Withdrawal,
};
use crate::pipeline::record::Exchange;

impl Exchange {
    /// Ends the request once its caller is no longer admitted; `since` is the generation of
    /// `streams` before authentication.
    pub fn watch(&mut self, streams: &Rc<OpenStreams>, since: Generation) {
        self.watch = Some(Watch::new(streams, since));
    }

    /// Counts the response as a stream if it is one by its head.
    pub fn note_stream(&mut self, response: &ResponseHead) {
        self.stream = self.tally.stream(response);
    }

    /// Makes the request a stream, which new settings may end.
    pub(super) fn follow_routes(&mut self) {
        let host = self.host.as_ref().and_then(|host| host.to_str().ok());
        let routing = Routing {
            method: self.arrival.method.clone(),
            host: host.unwrap_or_default().to_owned(),
            path: self.arrival.path.to_route().to_owned(),
            key_source: self.key_source(),
        };
        if let Some(watch) = &mut self.watch {
            watch.follow(routing);
        }
    }

    /// The place that the credential came from.
    fn key_source(&self) -> Option<KeySource> {
        let sources = self.route.as_ref()?.key_sources.as_slice();
        sources.get(self.key_place?).cloned()
    }

    /// Runs `future` until it completes or the admission of the caller is withdrawn.
    ///
    /// # Errors
    /// Why the admission was withdrawn; the future is dropped.
    pub fn while_admitted<F: Future>(&mut self, future: F) -> WhileAdmitted<'_, F> {
        WhileAdmitted {
            exchange: self,
            future,
        }
    }

    /// Returns why the admission was withdrawn. While it stands, the task is woken once it is not.
    pub(super) fn withdrawn(&mut self, cx: &Context<'_>) -> Option<Withdrawal> {
        let (watch, route) = (self.watch.as_mut()?, self.route.as_ref()?);
        let proven = self.proven.as_ref();
        // Nothing but new settings ends an anonymous request, and these end streams only.
        if proven.is_none() && self.stream.is_none() {
            return None;
        }
        let observed = self.observed.as_deref();
        let admission = || Admission {
            caller: match proven.or_else(|| observed?.proven.as_ref()) {
                Some(Proven::Key(key)) => Admitted::Key(*key.digest()),
                Some(Proven::Token(holder)) => Admitted::Token(Arc::clone(holder.token())),
                None => Admitted::Anonymous,
            },
            observed: observed.map(|observed| observed.denial),
            address: self.arrival.address.client,
            method: self.arrival.method.clone(),
            route: Arc::clone(route),
            routing: None,
        };
        watch.withdrawn(admission, cx.waker())
    }
}

pin_project! {
    /// Future of [`Exchange::while_admitted`]. No `async fn`, which would store the future twice.
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct WhileAdmitted<'a, F> {
        exchange: &'a mut Exchange,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for WhileAdmitted<'_, F> {
    type Output = Result<F::Output, Withdrawal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(done) = this.future.poll(cx) {
            return Poll::Ready(Ok(done));
        }
        this.exchange
            .withdrawn(cx)
            .map_or(Poll::Pending, |withdrawn| Poll::Ready(Err(withdrawn)))
    }
}
