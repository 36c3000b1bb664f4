//! HTTP/2 clients: their requests run through the same stages, and end as those of HTTP/1.1 do.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http_1::{HeaderMap, Request, Response};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::certificates::Authority;
use crate::client::{DEADLINE, get};
use crate::metrics::Scrape;
use crate::origin::Origin;
use crate::rig::{Process, Rig};
use crate::running::eventually;

/// Takes clients that begin with the preface.
pub(crate) const PRIOR_KNOWLEDGE: &str = "[listen]\nhttp2_prior_knowledge = true\n";

/// A connection of HTTP/2 and the runtime that drives it.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    requests: SendRequest<Bytes>,
    /// How the connection ended.
    ended: Arc<Mutex<Option<Result<(), h2::Error>>>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        problem["code"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let ended = Arc::new(Mutex::new(None));
        let requests = runtime.block_on(async {
            let socket = TcpStream::connect(address).await.unwrap();
            let (requests, connection) = h2::client::handshake(socket).await.unwrap();
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                let end = connection.await;
                *ended.lock().unwrap() = Some(end);
            });
            requests
        });
        Self {
            runtime,
            requests,
            ended,
        }
    }

    /// Sends a request, whole, and waits for the head of the answer.
    fn begin(&mut self, request: Request<()>, body: &[u8]) -> Response<RecvStream> {
        let (head, mut stream) = self
            .requests
            .send_request(request, body.is_empty())
            .unwrap();
        if !body.is_empty() {
            stream
                .send_data(Bytes::copy_from_slice(body), true)
                .unwrap();
        }
        let answered = self
            .runtime
            .block_on(async { timeout(DEADLINE, head).await });
        answered.unwrap().unwrap()
    }

    pub(crate) fn ask(&mut self, request: Request<()>, body: &[u8]) -> Answer {
        let (head, body) = self.begin(request, body).into_parts();
        let body = self.runtime.block_on(read(body)).unwrap();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        }
    }

    fn end(&self) -> Option<Result<(), Option<Reason>>> {
        let ended = self.ended.lock().unwrap();
        ended
            .as_ref()
            .map(|end| end.as_ref().copied().map_err(h2::Error::reason))
    }
}

/// Reads a body to its end.
async fn read(mut body: RecvStream) -> Result<Bytes, h2::Error> {
    let mut whole = Vec::new();
    while let Some(data) = timeout(DEADLINE, body.data()).await.unwrap() {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// A request with these fields; each is `name: value`.
pub(crate) fn request(method: &str, uri: &str, fields: &[&str]) -> Request<()> {
    let mut request = Request::builder()
        .version(http_1::Version::HTTP_2)
        .method(method)
        .uri(uri);
    for field in fields {
        let (name, value) = field.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request.body(()).unwrap()
}

#[test]
fn a_request_of_http_2_reaches_the_origin_like_one_of_http_1_1() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), PRIOR_KNOWLEDGE);
    let key = rig.key("acme", &[]);
    let mut client = Client::open(rig.public);
    let fields = [
        &key.header(),
        "cookie: a=1",
        "cookie: b=2",
        "te: trailers",
        "x-consumer-username: somebody-else",
        "x-forwarded-for: 192.0.2.1",
    ];
    let answer = client.ask(
        request("POST", "http://API.test/orders?x=y", &fields),
        b"hello",
    );
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    assert_eq!(answer.header("content-length"), Some("5"));
    assert!(answer.header("date").is_some() && answer.header("x-request-id").is_some());
    assert_eq!(answer.header("connection"), None);
    let arrived = origin.only();
    assert_eq!(arrived.line, "POST /orders?x=y HTTP/1.1");
    assert_eq!(arrived.body, b"hello");
    for (name, value) in [
        ("cookie", Some("a=1; b=2")),
        ("x-consumer-username", Some("acme")),
        ("x-forwarded-host", Some("api.test")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("te", None),
        ("authorization", None),
    ] {
        assert_eq!(arrived.one(name), value, "{name}");
    }
    // Many at once on one connection, each with its own answer.
    origin.forget();
    let pending: Vec<_> = (0..50)
        .map(|number| {
            let request = request("GET", &format!("http://h/{number}"), &[&key.header()]);
            client.requests.send_request(request, true).unwrap().0
        })
        .collect();
    for head in pending {
        let answered = client
            .runtime
            .block_on(async { timeout(DEADLINE, head).await });
        assert_eq!(answered.unwrap().unwrap().status(), 200);
    }
    assert_eq!(origin.arrived().len(), 50);
}

#[test]
fn an_answer_without_content_has_none_and_its_stream_ends() {
    let origin = Origin::answering(|request, socket| {
        let head = match request.line.split(' ').nth(1).unwrap() {
            "/204" => "204 No Content\r\n\r\n",
            "/304" => "304 Not Modified\r\ncontent-length: 7\r\n\r\n",
            _ => "200 OK\r\ncontent-length: 7\r\n\r\n",
        };
        let _ = write!(socket, "HTTP/1.1 {head}");
    });
    let file = format!("{PRIOR_KNOWLEDGE}[[routes]]\non_missing_key = \"anonymous\"\n");
    let rig = Rig::with(&origin.url(), &file);
    let mut client = Client::open(rig.public);
    for (method, path, status, length) in [
        ("HEAD", "/", 200, Some("7")),
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, None),
        ("HEAD", "/unknown?", 200, Some("7")),
    ] {
        let answer = client.ask(request(method, &format!("http://h{path}"), &[]), b"");
        let found = (answer.status, answer.header("content-length"));
        assert_eq!(found, (status, length), "{method} {path}");
        assert!(answer.body.is_empty(), "{method} {path}");
    }
}

#[test]
fn refusals_over_http_2_are_those_of_http_1_1_and_leave_a_line() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let file = format!("{PRIOR_KNOWLEDGE}[[routes]]\npath = \"/orders\"\n");
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let process = Process::start(directory, &origin.url(), &[]);
    let key = process.key("acme");
    let mut client = Client::open(process.public);
    let long = format!("a: {}", "x".repeat(20_000));
    let many = vec!["a: b"; 65];
    for (method, uri, fields, status, code) in [
        ("GET", "http://h/orders", &[][..], 401, "api_key_missing"),
        (
            "GET",
            "http://h/orders",
            &["authorization: Bearer nonsense"],
            401,
            "api_key_invalid",
        ),
        ("GET", "http://h/other", &[&key], 404, "no_route"),
        (
            "GET",
            "http://h/orders/%2e%2e/x",
            &[&key],
            400,
            "ambiguous_path",
        ),
        (
            "GET",
            "http://h/orders",
            &[&key, "host: other"],
            400,
            "bad_request",
        ),
        (
            "GET",
            "http://h/orders",
            &[&key, &long],
            431,
            "request_header_too_large",
        ),
        (
            "GET",
            "http://h/orders",
            &many,
            431,
            "request_header_too_large",
        ),
        (
            "TRACE",
            "http://h/orders",
            &[&key],
            405,
            "method_not_allowed",
        ),
        (
            "GET",
            "http://h/orders",
            &[&key, "expect: 200-ok"],
            417,
            "expectation_failed",
        ),
    ] {
        let answer = client.ask(request(method, uri, fields), b"");
        let found = (answer.status, answer.code());
        assert_eq!(
            found,
            (status, code.to_owned()),
            "{method} {uri} {fields:?}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(
            answer.header("www-authenticate").is_some(),
            status == 401,
            "{code}"
        );
        let id = answer.header("x-request-id").unwrap().to_owned();
        eventually("the refusal has a line", || {
            let log = process.access_log();
            log.iter().any(|line| {
                line["request_id"] == id.as_str()
                    && line["code"] == code
                    && line["client"] == "127.0.0.1"
            })
        });
    }
    // The connection has served them all.
    assert_eq!(
        client
            .ask(request("GET", "http://h/orders", &[&key]), b"")
            .status,
        200
    );
    assert_eq!(origin.arrived().len(), 1);
}

#[test]
fn an_upload_goes_no_faster_than_its_origin_takes_it() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let origin = std::thread::spawn(move || {
        use std::io::Read as _;
        let (mut socket, _) = listener.accept().unwrap();
        wait.lock().unwrap().recv().unwrap();
        let (mut taken, mut buffer) = (0, vec![0; 65_536]);
        while taken < 16_000_000 {
            taken += socket.read(&mut buffer).unwrap();
        }
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        taken
    });
    let file = format!("{PRIOR_KNOWLEDGE}[[routes]]\non_missing_key = \"anonymous\"\n");
    let rig = Rig::with(&url, &file);
    let mut client = Client::open(rig.public);
    let upload = request("POST", "http://h/", &["content-length: 16000000"]);
    let (head, mut stream) = client.requests.send_request(upload, false).unwrap();
    let sent = client.runtime.block_on(async {
        let mut sent = 0;
        loop {
            stream.reserve_capacity(16_384);
            let room = poll_fn(|cx| stream.poll_capacity(cx));
            // The sockets on the way hold a few megabytes; then the windows stay shut.
            match timeout(Duration::from_secs(1), room).await {
                Ok(room) => {
                    let piece = Bytes::from(vec![0; room.unwrap().unwrap()]);
                    sent += piece.len();
                    stream.send_data(piece, false).unwrap();
                }
                Err(_) => return sent,
            }
            assert!(sent < 15_000_000, "nothing holds the upload back");
        }
    });
    go_on.send(()).unwrap();
    let status = client.runtime.block_on(async {
        let mut left = 16_000_000 - sent;
        while left > 0 {
            stream.reserve_capacity(left.min(16_384));
            let room = timeout(DEADLINE, poll_fn(|cx| stream.poll_capacity(cx))).await;
            let piece = Bytes::from(vec![0; room.unwrap().unwrap().unwrap().min(left)]);
            left -= piece.len();
            stream.send_data(piece, left == 0).unwrap();
        }
        timeout(DEADLINE, head).await.unwrap().unwrap().status()
    });
    assert_eq!(status, 200);
    assert!(origin.join().unwrap() >= 16_000_000);
}

#[test]
fn a_stream_ends_with_its_key_and_others_of_the_connection_go_on() {
    let origin = Origin::answering(|_, socket| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = write!(socket, "{head}9\r\ndata: 1\n\n\r\n");
    });
    let rig = Rig::with(&origin.url(), PRIOR_KNOWLEDGE);
    let (mine, other) = (rig.key("acme", &[]), rig.key("other", &[]));
    let mut client = Client::open(rig.public);
    let mut open = |key: &str| {
        let mut body = client
            .begin(request("GET", "http://h/events", &[key]), b"")
            .into_body();
        let first = client
            .runtime
            .block_on(async { timeout(DEADLINE, body.data()).await });
        assert_eq!(first.unwrap().unwrap().unwrap(), "data: 1\n\n");
        body
    };
    let (mine_open, mut other_open) = (open(&mine.header()), open(&other.header()));
    rig.done(&["keys", "revoke", &mine.id]);
    let ended = client.runtime.block_on(read(mine_open));
    assert_eq!(ended.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    let other_goes_on = client
        .runtime
        .block_on(async { timeout(Duration::from_millis(300), other_open.data()).await });
    assert!(other_goes_on.is_err(), "{other_goes_on:?}");
    let refused = client.ask(request("GET", "http://h/", &[&mine.header()]), b"");
    assert_eq!(refused.code(), "api_key_revoked");
}

#[test]
fn a_stream_whose_window_is_shut_ends_with_its_key() {
    let (origin, sent, ended) = crate::key_life::flood();
    let rig = Rig::with(&origin.url(), PRIOR_KNOWLEDGE);
    let key = rig.key("acme", &[]);
    let mut client = Client::open(rig.public);
    // The window is never opened again.
    let mut body = client
        .begin(request("GET", "http://h/", &[&key.header()]), b"")
        .into_body();
    let mut before = 0;
    eventually("nothing moves any more", || {
        let now = sent.load(Ordering::SeqCst);
        std::mem::replace(&mut before, now) == now && now > 500_000
    });
    rig.done(&["keys", "revoke", &key.id]);
    eventually("the origin's connection has ended", || {
        ended.load(Ordering::SeqCst)
    });
    let end = client.runtime.block_on(async {
        loop {
            match timeout(DEADLINE, body.data()).await.unwrap() {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.reason(),
                None => return None,
            }
        }
    });
    assert_eq!(end, Some(Reason::INTERNAL_ERROR));
}

#[test]
fn a_gateway_that_stops_says_goaway_and_finishes_what_runs() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::answering(move |_, socket| {
        wait.lock().unwrap().recv().unwrap();
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    });
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), PRIOR_KNOWLEDGE).unwrap();
    let process = Process::start(directory, &origin.url(), &[]);
    let key = process.key("acme");
    let (mut busy, idle) = (Client::open(process.public), Client::open(process.public));
    let asked = request("GET", "http://h/", &[&key]);
    let (head, _) = busy.requests.send_request(asked, true).unwrap();
    eventually("the request is on its way", || !origin.arrived().is_empty());
    process.signal("TERM");
    eventually("the idle connection has ended", || {
        idle.end() == Some(Ok(()))
    });
    go_on.send(()).unwrap();
    let body = busy.runtime.block_on(async {
        let answer = timeout(DEADLINE, head).await.unwrap().unwrap();
        read(answer.into_body()).await.unwrap()
    });
    assert_eq!(body, "hello");
    eventually("the other has ended too", || busy.end() == Some(Ok(())));
}

#[test]
fn a_client_that_takes_nothing_of_an_answer_is_let_go() {
    let origin = Origin::answering(|_, socket| {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
        let _ = socket.write_all(&vec![b'x'; 1_000_000]);
    });
    let file = format!("{PRIOR_KNOWLEDGE}write_idle_timeout = \"300ms\"\n");
    let rig = Rig::with(&origin.url(), &file);
    let key = rig.key("acme", &[]);
    let mut client = Client::open(rig.public);
    let mut body = client
        .begin(request("GET", "http://h/", &[&key.header()]), b"")
        .into_body();
    // The window is never opened again.
    let end = client.runtime.block_on(async {
        loop {
            match timeout(DEADLINE, body.data()).await.unwrap() {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.reason(),
                None => return None,
            }
        }
    });
    assert_eq!(end, Some(Reason::CANCEL));
    let labels = [("fault", "write_stalled")];
    eventually("it is counted", || {
        Scrape::of(rig.admin).value("postern_client_faults_total", &labels) == 1.0
    });
    // Other streams of the connection are served.
    let refused = client.ask(request("HEAD", "http://h/", &[]), b"");
    assert_eq!(refused.status, 401);
}

#[test]
fn a_body_that_stands_still_is_answered_with_408() {
    let origin = Origin::hello();
    let file = format!("{PRIOR_KNOWLEDGE}body_idle_timeout = \"300ms\"\n");
    let rig = Rig::with(&origin.url(), &file);
    let key = rig.key("acme", &[]);
    let mut client = Client::open(rig.public);
    let upload = request("POST", "http://h/", &[&key.header(), "content-length: 100"]);
    let (head, mut stream) = client.requests.send_request(upload, false).unwrap();
    stream
        .send_data(Bytes::from_static(b"begun"), false)
        .unwrap();
    let answer = client.runtime.block_on(async {
        let (head, body) = timeout(DEADLINE, head).await.unwrap().unwrap().into_parts();
        (head.status.as_u16(), read(body).await.unwrap())
    });
    assert_eq!(answer.0, 408);
    assert!(String::from_utf8_lossy(&answer.1).contains("request_timeout"));
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_or_refused() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), PRIOR_KNOWLEDGE);
    let key = rig.key("acme", &[]).header();
    for (fields, status) in [
        (
            &[key.as_str(), "expect: 100-continue", "content-length: 5"][..],
            200,
        ),
        (&["expect: 100-continue", "content-length: 5"], 401),
    ] {
        let mut client = Client::open(rig.public);
        let asked = request("POST", "http://h/", fields);
        let (mut head, mut stream) = client.requests.send_request(asked, false).unwrap();
        let answered = client.runtime.block_on(async {
            if status == 200 {
                let interim = poll_fn(|cx| head.poll_informational(cx));
                let interim = timeout(DEADLINE, interim).await.unwrap();
                assert_eq!(interim.unwrap().unwrap().status(), 100);
                stream
                    .send_data(Bytes::from_static(b"hello"), true)
                    .unwrap();
            }
            timeout(DEADLINE, head).await.unwrap().unwrap().status()
        });
        assert_eq!(answered, status, "{fields:?}");
    }
    assert_eq!(origin.only().body, b"hello");
}

#[test]
fn a_client_that_reads_nothing_of_its_connection_is_let_go() {
    let origin = Origin::answering(|_, socket| {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n");
        let _ = socket.write_all(&[b'x'; 60_000]);
    });
    let file = format!(
        "{PRIOR_KNOWLEDGE}write_idle_timeout = \"500ms\"\n[[routes]]\non_missing_key = \"anonymous\"\n"
    );
    let rig = Rig::with(&origin.url(), &file);
    // Windows for far more than the sockets hold, and no byte of it read.
    let mut socket = std::net::TcpStream::connect(rig.public).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    crate::http2_frames::ask_and_read_nothing(&mut socket, 90);
    let labels = [("fault", "write_stalled")];
    eventually("the client is let go", || {
        Scrape::of(rig.admin).value("postern_client_faults_total", &labels) >= 1.0
    });
}

#[test]
fn a_connection_without_requests_is_ended_after_its_time() {
    let origin = Origin::hello();
    let file = format!("{PRIOR_KNOWLEDGE}keep_alive = \"300ms\"\n");
    let rig = Rig::with(&origin.url(), &file);
    let client = Client::open(rig.public);
    eventually("the connection has ended with GOAWAY", || {
        client.end() == Some(Ok(()))
    });
}

#[test]
fn the_handshake_agrees_on_http_2_unless_it_is_switched_off() {
    let authority = Authority::new();
    let origin = Origin::hello();
    for (setting, offered, agreed) in [
        ("", &["h2", "http/1.1"][..], Some("h2")),
        ("", &["http/1.1"], Some("http/1.1")),
        ("", &[], None),
        ("http2 = false\n", &["h2", "http/1.1"], Some("http/1.1")),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut file = format!("[listen]\n{setting}");
        writeln!(
            file,
            "[[listen.tls]]\ncert_file = \"a.crt\"\nkey_file = \"a.key\""
        )
        .unwrap();
        std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
        authority.issue(&["localhost"]).write(directory.path(), "a");
        let process = Process::start(directory, &origin.url(), &[]);
        let mut config = authority.client();
        config.alpn_protocols = offered
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let socket = TcpStream::connect(process.public).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let socket = TlsConnector::from(Arc::new(config))
                .connect(name, socket)
                .await
                .unwrap();
            let found = socket.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(
                found.as_deref(),
                agreed.map(str::as_bytes),
                "{setting}{offered:?}"
            );
            if agreed == Some("h2") {
                let (mut requests, connection) = h2::client::handshake(socket).await.unwrap();
                tokio::spawn(connection);
                let asked = request("GET", "https://localhost/", &[]);
                let (head, _) = requests.send_request(asked, true).unwrap();
                let answer = timeout(DEADLINE, head).await.unwrap().unwrap();
                assert_eq!(answer.status(), 401);
            }
        });
    }
}

#[test]
fn the_admin_listener_offers_http_1_1_alone() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let file = "[[admin.tls]]\ncert_file = \"a.crt\"\nkey_file = \"a.key\"\n";
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    authority.issue(&["localhost"]).write(directory.path(), "a");
    let process = Process::start_unready(directory, "http://127.0.0.1:9", &[]);
    let agreed = crate::library_faults::agreed;
    let both = agreed(&authority, process.admin, &["h2", "http/1.1"]);
    assert_eq!(both, Ok(Some("http/1.1".to_owned())));
    assert!(agreed(&authority, process.admin, &["h2"]).is_err());
}

#[test]
fn a_preface_without_tls_is_refused_unless_it_is_allowed() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let refused = crate::client::exchange(rig.public, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(refused.status, 505);
    // Where it is allowed, HTTP/1.1 is served beside it.
    let rig = Rig::with(&origin.url(), PRIOR_KNOWLEDGE);
    assert_eq!(get(rig.public, "/", &[]).code(), "api_key_missing");
}
