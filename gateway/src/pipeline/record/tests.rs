use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Mutex;

use actix_http::body::{EitherBody, MessageBody as _};
use actix_http::header::HeaderMap;
use actix_http::{Method, Payload, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::*;
use crate::http::request_id::RequestIds;
use crate::proxy::body::OriginBody;
use crate::telemetry::log_writer::{LogName, LogWriter};

/// A log target that can be read.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[actix_rt::test]
async fn a_panic_within_a_response_breaks_it_off_and_is_recorded() {
    let written = Written::default();
    let (writer, thread) = LogWriter::start(LogName::Access, written.clone()).unwrap();
    let none = HeaderMap::new();
    let address = ClientAddress::identify(None, &none, &[]);
    let id = RequestIds::new().make();
    let arrival = Arrival {
        at: UnixMillis::now(),
        begun: Instant::now(),
        request_id: id,
        address,
        method: Method::GET,
        path: ShownPath::Plain("/".to_owned()),
        client: None,
    };
    let exchange = Exchange::of(arrival, AccessLog::new(writer), Tally::off());
    let pieces = stream::iter([Bytes::from_static(b"begun"), Bytes::new()]).map(|piece| {
        assert!(!piece.is_empty(), "the second piece");
        Ok(piece)
    });
    let body = OriginBody::new(
        Payload::Stream {
            payload: Box::pin(pieces),
        },
        None,
        false,
    );
    let response = exchange.record(Response::ok().set_body(EitherBody::left(body)));
    {
        let mut body = pin!(response.into_body());
        assert_eq!(
            poll_fn(|cx| body.as_mut().poll_next(cx))
                .await
                .unwrap()
                .unwrap(),
            "begun"
        );
        assert!(
            poll_fn(|cx| body.as_mut().poll_next(cx))
                .await
                .unwrap()
                .is_err()
        );
    }
    // The log line waits briefly for others, on this thread.
    actix_rt::task::spawn_blocking(|| thread.join())
        .await
        .unwrap()
        .unwrap();
    let line: serde_json::Value = serde_json::from_slice(&written.0.lock().unwrap()).unwrap();
    assert_eq!(
        (&line["status"], &line["bytes_out"], &line["ending"]),
        (&200.into(), &5.into(), &"internal_error".into())
    );
    assert_eq!(line["cause"], "a panic");
}
