//! The worker as the dispatcher of its connections sees it.

use std::rc::Rc;

use actix_http::{Request, Response};
use futures_core::future::LocalBoxFuture;

use crate::front::client_stream::ClientControl;
use crate::front::dispatcher::{AnswerBody, Handler};
use crate::pipeline::record::RecordedBody;
use crate::pipeline::{Worker, expect, serve};
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
}
