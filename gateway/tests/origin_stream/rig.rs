//! A scripted origin on a raw socket, and awc in front of it, with or without the guard.

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::{
    ConnectionType, Method, Payload, RequestHead, ResponseHead,
    body::{BoxBody, MessageBody},
};
use actix_rt::net::{ActixStream, Ready};
use actix_service::{Service, fn_service};
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::error::SendRequestError;
use futures_core::future::LocalBoxFuture;
use futures_util::StreamExt as _;
use http::Uri;
use postern_gateway::proxy::origin_stream::{
    OriginControl, OriginFault, OriginLimits, OriginStream,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// Nothing here takes this long unless it hangs.
pub(crate) const HANG: Duration = Duration::from_secs(30);
/// Long enough to say that plain awc hangs.
pub(crate) const SHORT_HANG: Duration = Duration::from_millis(300);

/// Short limits, so that a test that waits for one does not wait long.
pub(crate) fn limits() -> OriginLimits {
    let limit = Duration::from_millis(600);
    OriginLimits {
        first_byte_timeout: limit,
        idle_timeout: limit,
        write_timeout: limit,
        head_bytes: 4096,
        fields: 96,
    }
}

pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(test)
}

/// What the origin does on one connection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Reads one request, its body included if it has a length.
    Request,
    /// Reads the head of a request only.
    RequestHead,
    /// Reads so many bytes.
    Skip(u64),
    /// Sends text; `{path}` stands for the path of the request.
    Send(String),
    /// Sends so many bytes.
    Fill(usize),
    /// Ends the sending side.
    Finish,
    /// Breaks the connection.
    Reset,
    /// Reads and drops everything until the client closes.
    Drain,
    /// Leaves the connection open and does nothing more.
    Stall,
    /// Sends back what comes.
    Echo,
}

pub(crate) fn send(text: &str) -> Step {
    Step::Send(text.to_owned())
}

/// A response with a length.
pub(crate) fn ok(body: &str) -> Step {
    // Paths are three bytes long, the placeholder is six.
    let length = body.len() - 3 * body.matches("{path}").count();
    Step::Send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

/// An origin with one script for each connection; further connections are closed at once.
pub(crate) struct Origin {
    pub(crate) port: u16,
    pub(crate) connections: Rc<Cell<usize>>,
    /// Those whose scripts are over.
    pub(crate) ended: Rc<Cell<usize>>,
    /// Heads that arrived, in order.
    pub(crate) heads: Rc<std::cell::RefCell<Vec<String>>>,
}

impl Origin {
    pub(crate) async fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Rc::new(Cell::new(0));
        let heads = Rc::new(std::cell::RefCell::new(Vec::new()));
        let ended = Rc::new(Cell::new(0));
        let (count, seen, over) = (
            Rc::clone(&connections),
            Rc::clone(&heads),
            Rc::clone(&ended),
        );
        actix_rt::spawn(async move {
            let mut scripts = scripts.into_iter();
            while let Ok((io, _)) = listener.accept().await {
                count.set(count.get() + 1);
                io.set_nodelay(true).unwrap();
                if let Some(script) = scripts.next() {
                    let (seen, over) = (Rc::clone(&seen), Rc::clone(&over));
                    actix_rt::spawn(async move {
                        play(io, script, seen).await;
                        over.set(over.get() + 1);
                    });
                }
            }
        });
        Self {
            port,
            connections,
            ended,
            heads,
        }
    }

    /// Waits until so many of its scripts are over.
    pub(crate) async fn wait_for_ends(&self, count: usize) {
        let waiting = async {
            while self.ended.get() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(HANG, waiting).await;
        assert!(waited.is_ok(), "{} of {count} ended", self.ended.get());
    }
}

async fn play(
    mut io: TcpStream,
    script: Vec<Step>,
    heads: Rc<std::cell::RefCell<Vec<String>>>,
) -> Option<()> {
    let mut path = String::new();
    for step in script {
        match step {
            Step::Request | Step::RequestHead => {
                let head = read_head(&mut io).await?;
                path = head.split(' ').nth(1)?.to_owned();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse::<u64>().ok());
                heads.borrow_mut().push(head);
                if matches!(step, Step::Request) {
                    let mut rest = (&mut io).take(length.unwrap_or(0));
                    tokio::io::copy(&mut rest, &mut tokio::io::sink())
                        .await
                        .ok()?;
                }
            }
            Step::Skip(count) => {
                tokio::io::copy(&mut (&mut io).take(count), &mut tokio::io::sink())
                    .await
                    .ok()?;
            }
            Step::Send(text) => io
                .write_all(text.replace("{path}", &path).as_bytes())
                .await
                .ok()?,
            Step::Fill(size) => io.write_all(&vec![b'x'; size]).await.ok()?,
            Step::Finish => io.shutdown().await.ok()?,
            Step::Reset => {
                io.set_zero_linger().ok()?;
                return Some(());
            }
            Step::Drain => {
                tokio::io::copy(&mut io, &mut tokio::io::sink())
                    .await
                    .ok()?;
            }
            Step::Stall => {
                // Until the peer is gone; reads nothing.
                std::future::pending::<()>().await;
            }
            Step::Echo => {
                let (mut read, mut write) = io.split();
                tokio::io::copy(&mut read, &mut write).await.ok()?;
            }
        }
    }
    Some(())
}

pub(crate) async fn read_head(io: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answer(u16, String),
    /// The fault, or the text of an error without one.
    Failed(String),
    /// A head came, then the body failed.
    Broken(u16, String),
    Hung,
}

pub(crate) fn answer(status: u16, body: &str) -> Outcome {
    Outcome::Answer(status, body.to_owned())
}

pub(crate) fn failed(fault: &str) -> Outcome {
    Outcome::Failed(fault.to_owned())
}

type SendFn = dyn Fn(
    RequestHead,
    BoxBody,
) -> LocalBoxFuture<'static, Result<(ResponseHead, Payload), SendRequestError>>;

/// awc, bare, towards one origin.
#[derive(Clone)]
pub(crate) struct Client {
    send: Rc<SendFn>,
    pub(crate) hang: Duration,
}

impl Client {
    /// With the guard; `split` is the most bytes that one read gives.
    pub(crate) fn guarded(port: u16, limits: OriginLimits, split: usize) -> Self {
        let connect = move |info: ConnectInfo<Uri>| async move {
            let io = Split {
                io: open(&info).await?,
                most: split,
            };
            Ok(Connection::new(
                info.request().clone(),
                OriginStream::new(io, limits, OriginControl::new(None)),
            ))
        };
        Self {
            send: through(Rc::new(fn_service(connect)), port),
            hang: HANG,
        }
    }

    /// Without: a plain socket.
    pub(crate) fn plain(port: u16) -> Self {
        let connect = |info: ConnectInfo<Uri>| async move {
            Ok(Connection::new(info.request().clone(), open(&info).await?))
        };
        Self {
            send: through(Rc::new(fn_service(connect)), port),
            hang: SHORT_HANG,
        }
    }

    pub(crate) async fn send(
        &self,
        head: RequestHead,
        body: impl MessageBody + 'static,
    ) -> Outcome {
        outcome(self.hang, (self.send)(head, body.boxed())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Outcome {
        self.send(request(Method::GET, path), ()).await
    }
}

async fn open(info: &ConnectInfo<Uri>) -> Result<TcpStream, ConnectError> {
    TcpStream::connect(("127.0.0.1", info.port()))
        .await
        .map_err(ConnectError::Io)
}

fn through<S, Io>(connect: Rc<S>, port: u16) -> Rc<SendFn>
where
    S: Service<ConnectInfo<Uri>, Response = Connection<Uri, Io>, Error = ConnectError> + 'static,
    Io: ActixStream + std::fmt::Debug + 'static,
{
    let connector = Rc::new(awc::Connector::new().connector(connect).limit(0).finish());
    Rc::new(move |head, body| {
        let connector = Rc::clone(&connector);
        Box::pin(async move {
            let uri: Uri = format!("http://127.0.0.1:{port}/").parse().unwrap();
            connector
                .call(awc::Connect { uri, addr: None })
                .await?
                .send_request(head, body)
                .await
        })
    })
}

pub(crate) fn request(method: Method, path: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.method = method;
    head.uri = path.parse().unwrap();
    head.headers.insert(
        actix_http::header::HOST,
        actix_http::header::HeaderValue::from_static("origin"),
    );
    head
}

pub(crate) fn upgrade_request(path: &str) -> RequestHead {
    let mut head = request(Method::GET, path);
    head.set_connection_type(ConnectionType::Upgrade);
    head.headers.insert(
        actix_http::header::UPGRADE,
        actix_http::header::HeaderValue::from_static("websocket"),
    );
    head
}

/// Waits for the whole of a response.
pub(crate) async fn outcome(
    hang: Duration,
    sending: impl Future<Output = Result<(ResponseHead, Payload), SendRequestError>>,
) -> Outcome {
    let whole = async {
        match sending.await {
            Ok((head, payload)) => {
                let status = head.status.as_u16();
                match read_all(payload).await {
                    Ok(body) => {
                        Outcome::Answer(status, String::from_utf8_lossy(&body).into_owned())
                    }
                    Err(text) => Outcome::Broken(status, text),
                }
            }
            Err(error) => Outcome::Failed(describe(&error)),
        }
    };
    tokio::time::timeout(hang, whole)
        .await
        .unwrap_or(Outcome::Hung)
}

pub(crate) async fn read_all(mut payload: Payload) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        body.extend_from_slice(&chunk.map_err(|error| describe(&error))?);
    }
    Ok(body)
}

pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    OriginFault::find(error).map_or_else(
        || format!("no fault: {error:?}"),
        |fault| format!("{fault:?}"),
    )
}

/// Gives no more than `most` bytes at a time, as a network may.
#[derive(Debug)]
pub(crate) struct Split<S> {
    io: S,
    most: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Split<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = self.most.min(buf.remaining());
        let mut part = buf.take(most);
        let poll = Pin::new(&mut self.io).poll_read(cx, &mut part);
        let bytes = part.filled().to_vec();
        buf.put_slice(&bytes);
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Split<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<S: ActixStream> ActixStream for Split<S> {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.io.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.io.poll_write_ready(cx)
    }
}
