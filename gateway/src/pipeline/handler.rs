//! Implements the dispatcher's handler interface for the worker.

use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::body::BodySize;
use actix_http::{Request, Response};
use futures_core::future::LocalBoxFuture;

use crate::front::client_stream::{ClientControl, ClientFault};
use crate::front::dispatcher::{AnswerBody, Handler, ReadyLines};
use crate::http::refusal::Refusal;
use crate::pipeline::expecting::expect;
use crate::pipeline::record::Exchange;
use crate::pipeline::record::body::RecordedBody;
use crate::pipeline::refused::Refused;
use crate::pipeline::{Worker, serve};
use crate::telemetry::metrics::Open;

impl Handler for Worker {
    type Body = RecordedBody;
    type Connection = Option<Open>;

    fn connected(&self) -> Option<Open> {
        self.tally.connection()
    }

    fn expect(
        &self,
        request: Request,
        client: &Rc<ClientControl>,
    ) -> Result<Request, Box<Response<RecordedBody>>> {
        expect(self, request, client)
    }

    fn refuse(&self, client: &ClientControl, fault: ClientFault) -> Option<Response<RecordedBody>> {
        let refusal = Refusal::of_fault(fault)?;
        let refused = Refused::because(refusal, fault.to_string());
        let policy = self.policy.load();
        let exchange = Exchange::malformed(self, &policy, client);
        Some(exchange.refuse(refused, &policy.realm, BodySize::None))
    }

    fn is_stopping(&self) -> bool {
        self.drain.is_begun()
    }

    fn answer(
        self: &Rc<Self>,
        request: Request,
        client: &Rc<ClientControl>,
    ) -> LocalBoxFuture<'static, Response<RecordedBody>> {
        Box::pin(serve(Rc::clone(self), request, Rc::clone(client)))
    }
}

impl AnswerBody for RecordedBody {
    fn instead(self) -> Option<Response<Self>> {
        self.refuse_instead()
    }

    fn take_lines(&mut self) -> Option<ReadyLines> {
        self.ready_lines()
    }

    fn poll_withdrawn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_end_of_admission(cx)
    }
}
