//! Our server behind the guard, or that of actix-http without it, and a client on a raw socket.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix_http::{
    HttpService, Payload, Request, Response, StatusCode,
    body::{BodyStream, BoxBody, MessageBody as _},
};
use actix_rt::net::TcpStream;
use actix_server::{Server, ServerHandle};
use actix_service::fn_service;
use bytes::{Bytes, BytesMut};
use futures_core::future::LocalBoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use postern_gateway::front::client_stream::{
    ClientControl, ClientFault, ClientGuard, ClientLimits, Pace,
};
use postern_gateway::front::dispatcher::Handler;
use postern_gateway::front::listener::{self, Versions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Nothing here takes this long unless it hangs.
pub(crate) const HANG: Duration = Duration::from_secs(30);
/// The limits that a test waits for.
pub(crate) const SHORT: Duration = Duration::from_millis(500);

pub(crate) fn limits() -> ClientLimits {
    ClientLimits {
        head_timeout: SHORT,
        keep_alive: 3 * SHORT,
        body: Pace {
            idle: SHORT,
            min_rate: 0,
        },
        write: Pace {
            idle: SHORT,
            min_rate: 0,
        },
        linger: SHORT,
        head_bytes: 4096,
        fields: 16,
        body_bytes: u64::MAX,
        extension_bytes: 64,
        trailer_bytes: 64,
    }
}

pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(test)
}

/// What the handlers of a server have seen.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) called: Arc<AtomicUsize>,
    pub(crate) faults: Arc<Mutex<Vec<ClientFault>>>,
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(seen: &Seen) -> Self {
        seen.running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(&seen.running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Seen,
    handle: ServerHandle,
}

impl TestServer {
    /// Guarded streams with our dispatcher above them, as clients and operators meet them.
    pub(crate) fn guarded(limits: ClientLimits) -> Self {
        let seen = Seen::default();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = seen.clone();
        let server =
            Server::build()
                .workers(1)
                .disable_signals()
                .listen("guarded", listener, move || {
                    let faults = shared.clone();
                    let guard = ClientGuard::new(limits)
                        .observed_by(move |_, fault| faults.faults.lock().unwrap().push(fault));
                    listener::plain(guard, Rc::new(shared.clone()), Versions::HTTP_1_1)
                });
        Self::start(server.unwrap().run(), address, seen)
    }

    /// actix-http with its own limits, as far as it has any.
    pub(crate) fn plain() -> Self {
        let seen = Seen::default();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = seen.clone();
        let server =
            Server::build()
                .workers(1)
                .disable_signals()
                .listen("plain", listener, move || {
                    let seen = shared.clone();
                    HttpService::build()
                        .client_request_timeout(SHORT)
                        .keep_alive(3 * SHORT)
                        .h1_allow_half_closed(false)
                        .client_disconnect_timeout(Duration::from_secs(2))
                        .finish(fn_service(move |req| {
                            handle(req, None, seen.clone()).map(Ok::<_, Infallible>)
                        }))
                        .tcp()
                });
        Self::start(server.unwrap().run(), address, seen)
    }

    fn start(server: Server, address: SocketAddr, seen: Seen) -> Self {
        let handle = server.handle();
        actix_rt::spawn(server);
        Self {
            address,
            seen,
            handle,
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client {
            io: TcpStream::connect(self.address).await.unwrap(),
            started: Instant::now(),
        }
    }

    /// Waits until so many handlers run.
    pub(crate) async fn wait_for_running(&self, count: usize, limit: Duration) -> bool {
        let start = Instant::now();
        while self.seen.running.load(Ordering::SeqCst) != count {
            if start.elapsed() > limit {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    pub(crate) fn faults(&self) -> Vec<ClientFault> {
        self.seen.faults.lock().unwrap().clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

impl Handler for Seen {
    type Body = BoxBody;
    type Connection = ();

    fn refuse(&self, _: &ClientControl, _: ClientFault) -> Option<Response<Self::Body>> {
        None
    }

    fn is_stopping(&self) -> bool {
        false
    }

    fn connected(&self) {}

    fn expect(
        &self,
        request: Request,
        _: &Rc<ClientControl>,
    ) -> Result<Request, Box<Response<BoxBody>>> {
        Ok(request)
    }

    fn answer(
        self: &Rc<Self>,
        request: Request,
        client: &Rc<ClientControl>,
    ) -> LocalBoxFuture<'static, Response<BoxBody>> {
        Box::pin(handle(request, Some(Rc::clone(client)), Self::clone(self)))
    }
}

async fn handle(
    mut req: Request,
    control: Option<Rc<ClientControl>>,
    seen: Seen,
) -> Response<BoxBody> {
    seen.called.fetch_add(1, Ordering::SeqCst);
    let running = Running::new(&seen);
    let path = req.path().to_owned();
    match path.as_str() {
        "/echo" => match read_all(req.take_payload()).await {
            Ok(body) => Response::build(StatusCode::OK)
                .body(body.freeze())
                .map_into_boxed_body(),
            Err(()) => {
                let status = control
                    .and_then(|control| control.fault())
                    .and_then(ClientFault::status)
                    .unwrap_or(400);
                Response::new(StatusCode::from_u16(status).unwrap()).map_into_boxed_body()
            }
        },
        "/slow" => {
            tokio::time::sleep(SHORT / 2).await;
            text(path)
        }
        "/never" => {
            tokio::time::sleep(HANG * 4).await;
            text(path)
        }
        "/big" => {
            let pieces =
                stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 64 * 1024])))
                    .take(2000);
            Response::ok()
                .set_body(BodyStream::new(Held {
                    pieces,
                    _running: running,
                }))
                .map_into_boxed_body()
        }
        "/ignore" => Response::new(StatusCode::PAYLOAD_TOO_LARGE)
            .set_body("too much")
            .map_into_boxed_body(),
        "/stray" => {
            let nothing = BodyStream::new(stream::empty::<Result<Bytes, Infallible>>());
            Response::new(StatusCode::NO_CONTENT)
                .set_body(nothing)
                .map_into_boxed_body()
        }
        "/chunks" => {
            let pieces = stream::iter(
                ["hello ", "world"]
                    .map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes()))),
            );
            Response::ok()
                .set_body(BodyStream::new(pieces))
                .map_into_boxed_body()
        }
        "/ws" => {
            let body = BodyStream::new(req.take_payload());
            Response::build(StatusCode::SWITCHING_PROTOCOLS)
                .upgrade("websocket")
                .body(body)
                .map_into_boxed_body()
        }
        "/raw" => {
            let input = control
                .expect("a guarded connection")
                .raw_input()
                .map(Ok::<_, Infallible>);
            let mut response = Response::build(StatusCode::SWITCHING_PROTOCOLS)
                .upgrade("other")
                .body(BodyStream::new(Held {
                    pieces: input,
                    _running: running,
                }));
            response.head_mut().no_chunking(true);
            response.map_into_boxed_body()
        }
        _ => text(path),
    }
}

fn text(path: String) -> Response<BoxBody> {
    Response::ok().set_body(path.boxed())
}

async fn read_all(mut payload: Payload) -> Result<BytesMut, ()> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        body.extend_from_slice(&chunk.map_err(drop)?);
    }
    Ok(body)
}

struct Held<S> {
    pieces: S,
    _running: Running,
}

impl<S: Stream + Unpin> Stream for Held<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.pieces).poll_next(cx)
    }
}

/// A connection as a client has it.
pub(crate) struct Client {
    pub(crate) io: TcpStream,
    started: Instant,
}

impl Client {
    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.io.write_all(text.as_ref()).await.unwrap();
    }

    /// One response: its head, and its body if it has a length.
    pub(crate) async fn response(&mut self) -> (u16, String) {
        self.response_to("GET").await
    }

    pub(crate) async fn response_to(&mut self, method: &str) -> (u16, String) {
        let (head, body) = self.head_and_body(method).await;
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    pub(crate) async fn head_and_body(&mut self, method: &str) -> (String, String) {
        let reading = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.io.read_u8().await.unwrap_or_else(|error| {
                    panic!("{error} after {:?}", String::from_utf8_lossy(&head))
                }));
            }
            let head = String::from_utf8(head).unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.filter(|_| method != "HEAD").unwrap_or(0)];
            self.io.read_exact(&mut body).await.unwrap();
            (head, String::from_utf8(body).unwrap())
        };
        tokio::time::timeout(HANG, reading)
            .await
            .expect("a response in time")
    }

    /// All that comes until the end of the connection, however it ends. `None`: it does not end within the time.
    pub(crate) async fn rest_within(&mut self, limit: Duration) -> Option<String> {
        let mut rest = Vec::new();
        let reading = async {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = self.io.read(&mut piece).await {
                rest.extend_from_slice(&piece[..count]);
            }
        };
        tokio::time::timeout(limit, reading).await.ok()?;
        Some(String::from_utf8_lossy(&rest).into_owned())
    }

    pub(crate) async fn rest(&mut self) -> String {
        self.rest_within(HANG)
            .await
            .expect("the end of the connection in time")
    }

    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The status lines in what came.
pub(crate) fn statuses(text: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for part in text.split("HTTP/1.1 ").skip(1) {
        statuses.push(
            part.get(..3)
                .and_then(|code| code.parse().ok())
                .unwrap_or(0),
        );
    }
    statuses
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

pub(crate) fn post(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}")
}
