//! Requests of HTTP/2 connections: they run through the same stages, and leave the same records.

use std::rc::Rc;

use actix_http::body::BodySize;
use actix_http::header::HeaderMap;
use actix_http::{HttpMessage as _, Method, Request, Response};

use crate::front::client_stream::{ClientControl, ClientFault};
use crate::front::http2::Serve;
use crate::http::client_address::ClientAddress;
use crate::http::refusal::Refusal;
use crate::http::shown_path::ShownPath;
use crate::pipeline::record::{Exchange, RecordedBody};
use crate::pipeline::{Worker, serve};

/// Serves what comes over HTTP/2 with a worker.
pub struct Http2Requests(pub Rc<Worker>);

impl Serve for Http2Requests {
    type Body = RecordedBody;

    fn serve(
        &self,
        request: Request,
        client: Rc<ClientControl>,
    ) -> impl Future<Output = Response<RecordedBody>> + 'static {
        request.extensions_mut().insert(client);
        serve(Rc::clone(&self.0), request)
    }

    fn refuse(&self, client: &ClientControl, fault: ClientFault) -> Option<Response<RecordedBody>> {
        let refusal = Refusal::of_fault(fault)?;
        let Self(worker) = self;
        let mut exchange = Exchange::begin(
            worker.access_log.clone(),
            worker.tally.clone(),
            worker.request_ids.make(),
            ClientAddress::identify(client.peer(), &HeaderMap::new(), &[]),
            Method::from_bytes(b"UNKNOWN").unwrap_or_default(),
            ShownPath::Plain(String::new()),
        );
        exchange.because(fault.to_string());
        let realm = &worker.policy.load().realm;
        Some(exchange.refuse(&refusal, realm, BodySize::None))
    }

    fn is_stopping(&self) -> bool {
        self.0.drain.is_begun()
    }
}
