//! The worker as the dispatcher of its connections sees it.

use std::rc::Rc;

use actix_http::body::BodySize;
use actix_http::header::HeaderMap;
use actix_http::{Method, Request, Response};
use futures_core::future::LocalBoxFuture;

use crate::front::client_stream::{ClientControl, ClientFault};
use crate::front::dispatcher::{AnswerBody, Handler};
use crate::http::client_address::ClientAddress;
use crate::http::refusal::Refusal;
use crate::http::shown_path::ShownPath;
use crate::pipeline::record::{Exchange, RecordedBody};
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

    fn refuse(&self, client: &ClientControl, fault: ClientFault) -> Option<Response<RecordedBody>> {
        let refusal = Refusal::of_fault(fault)?;
        let mut exchange = Exchange::begin(
            self.access_log.clone(),
            self.tally.clone(),
            self.request_ids.make(),
            ClientAddress::identify(client.peer(), &HeaderMap::new(), &[]),
            Method::from_bytes(b"UNKNOWN").unwrap_or_default(),
            ShownPath::Plain(String::new()),
        );
        exchange.because(fault.to_string());
        let realm = &self.policy.load().realm;
        Some(exchange.refuse(&refusal, realm, BodySize::None))
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
}
