//! A panic in the middle of a request, on real sockets: a worker of the gateway whose resolver panics for one name.
//!
//! A program of its own, because the hook and the logger are the whole process's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by stopping"
)]

#[path = "gateway/client.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod client;
#[path = "gateway/library_text.rs"]
mod library_text;
#[path = "gateway/origin.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod origin;

use std::io;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use actix_http::header::HeaderValue;
use actix_server::Server;
use arc_swap::ArcSwap;
use futures_core::future::LocalBoxFuture;
use postern_gateway::auth::demand::{Demand, MissingKey};
use postern_gateway::front::client_stream::{ClientGuard, ClientLimits, Pace};
use postern_gateway::front::drain::Drain;
use postern_gateway::front::listener::{self, Versions};
use postern_gateway::http::rate_limit_fields::LimitFields;
use postern_gateway::http::request_id::RequestIds;
use postern_gateway::keys::{KeyTable, Prefix};
use postern_gateway::limits::Limits;
use postern_gateway::limits::concurrency::Concurrency;
use postern_gateway::limits::quota::Quotas;
use postern_gateway::panics;
use postern_gateway::pipeline::in_flight::RequestsInFlight;
use postern_gateway::pipeline::open_streams::OpenStreams;
use postern_gateway::pipeline::{Origins, Policy, Worker};
use postern_gateway::proxy::names::Resolve;
use postern_gateway::proxy::origin_stream::OriginLimits;
use postern_gateway::proxy::pool::{OriginPool, PoolSettings};
use postern_gateway::proxy::proxy_headers::ProxyHeaders;
use postern_gateway::proxy::secret_finder::SecretFinder;
use postern_gateway::proxy::{OriginUrl, Upstream};
use postern_gateway::routes::{PathCase, PathPrefix, Route, Routes};
use postern_gateway::rules::RulesInForce;
use postern_gateway::store::FeedStatus;
use postern_gateway::telemetry::access_log::AccessLog;
use postern_gateway::telemetry::log_writer::{LogName, LogWriter};
use postern_gateway::telemetry::tally::Tally;

use crate::client::{Connection, DEADLINE, get};
use crate::origin::Origin;

const SECRET: &str = "panics-3b1f7ac29d504e68-shared";

/// So much that no test comes near.
const LIMITS: ClientLimits = ClientLimits {
    head_timeout: DEADLINE,
    keep_alive: DEADLINE,
    body: PACE,
    write: PACE,
    linger: DEADLINE,
    head_bytes: 4096,
    fields: 16,
    body_bytes: u64::MAX,
    extension_bytes: 64,
    trailer_bytes: 64,
};

const PACE: Pace = Pace {
    idle: DEADLINE,
    min_rate: 0,
};

fn pool_settings() -> PoolSettings {
    PoolSettings {
        connect_timeout: DEADLINE,
        limits: OriginLimits {
            first_byte_timeout: DEADLINE,
            idle_timeout: DEADLINE,
            write_timeout: DEADLINE,
            head_bytes: 4096,
            fields: 16,
        },
        keep_alive: DEADLINE,
        lifetime: DEADLINE,
        dns_refresh: DEADLINE,
        reuse: true,
        tls: None,
    }
}

/// Panics with a secret in its message, as code does that slices a text where it may not.
struct Panicking;

impl Resolve for Panicking {
    fn resolve(&self, _: &str, _: u16) -> LocalBoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { panic!("cannot slice {SECRET:?}") })
    }
}

/// What is written down while the test runs.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

impl Lines {
    fn wait_for(&self, what: &str) -> String {
        let begun = Instant::now();
        loop {
            let text = self.0.lock().unwrap().clone();
            if let Some(line) = text.lines().find(|line| line.contains(what)) {
                return line.to_owned();
            }
            assert!(begun.elapsed() < DEADLINE, "{what:?} is not in {text:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One worker that answers anyone: `/panic` from an origin whose look-up panics, all else from `origin`.
fn serve_before(
    origin: &Origin,
    in_flight: &Arc<RequestsInFlight>,
    access_log: Lines,
) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (origin, in_flight) = (origin.url(), Arc::clone(in_flight));
    let (writer, _) = LogWriter::start(LogName::Access, access_log).unwrap();
    std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let builder = Server::build().workers(1).disable_signals();
            let builder = builder.listen("panics", listener, move || {
                let worker = Rc::new(worker(&origin, Arc::clone(&in_flight), writer.clone()));
                listener::plain(ClientGuard::new(LIMITS), worker, Versions::HTTP_1_1)
            });
            builder.unwrap().run().await
        })
    });
    address
}

fn worker(origin: &str, in_flight: Arc<RequestsInFlight>, access_log: LogWriter) -> Worker {
    let route = |path: &str, url: &str| {
        let upstream = Upstream::single(path, OriginUrl::parse(url).unwrap());
        let demand = Demand {
            on_missing_key: MissingKey::Anonymous,
            ..Demand::ANY_KEY
        };
        let path_prefix = PathPrefix::parse(path).unwrap();
        Route {
            demand,
            ..Route::new(path, path_prefix, Arc::new(upstream))
        }
    };
    let pool = Arc::new(pool_settings());
    let policy = Policy {
        public_url: None,
        health_path: None,
        routes: Routes::new(
            vec![route("/", origin), route("/panic", "http://panic.test")],
            PathCase::Either,
        ),
        limits: Limits::none(),
        cors: None,
        limit_fields: LimitFields::Off,
        realm: "test".to_owned(),
        prefix: Prefix::default(),
        max_staleness: None,
        secret: HeaderValue::from_static(SECRET),
        secret_finder: SecretFinder::new(SECRET.as_bytes()).unwrap(),
        known_secrets: Vec::new(),
        scheme: HeaderValue::from_static("http"),
        trusted_proxies: Arc::default(),
        proxy_headers: ProxyHeaders::default(),
        max_body_bytes: 1024,
        buffers: Arc::default(),
        max_buffered_bytes: 0,
        tunnel_idle_timeout: DEADLINE,
        issuers: Arc::default(),
        brake: None,
        concurrency: Concurrency::none(),
        quotas: Quotas::new(Vec::new(), &Arc::default()),
        upstreams: Vec::new(),
        pool: Arc::clone(&pool),
        client_limits: LIMITS,
        own_rules: RulesInForce::default(),
        logs_access: true,
    };
    let keys = Arc::new(KeyTable::new());
    keys.reload().finish();
    let streams = Rc::new(OpenStreams::new(Arc::clone(&keys)));
    Worker {
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        keys,
        feed: Arc::new(FeedStatus::new()),
        in_flight,
        brake: Arc::default(),
        adoption: Arc::default(),
        origins: Origins::new(
            Arc::clone(&pool),
            OriginPool::with_resolver(pool_settings(), Rc::new(Panicking)),
        ),
        access_log: AccessLog::new(access_log),
        tally: Tally::off(),
        streams,
        request_ids: RequestIds::new(),
        drain: Drain::default(),
    }
}

/// Installs the hook for every thread but this one: what fails here is to be read.
fn install_hook_for_others() {
    let usual = std::panic::take_hook();
    panics::install_hook();
    let ours = std::panic::take_hook();
    let here = std::thread::current().id();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == here {
            usual(info)
        } else {
            ours(info)
        }
    }));
}

/// Everything at once, because the log of the process is one.
#[test]
fn a_panic_costs_its_request_and_no_other_and_its_message_is_not_told() {
    let log = Lines::default();
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .target(env_logger::Target::Pipe(Box::new(log.clone())))
        .init();
    install_hook_for_others();
    let (arrived, when_arrived) = mpsc::channel();
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = Mutex::new(may_answer);
    let origin = Origin::answering(move |request, socket| {
        if request.line.starts_with("GET /slow") {
            arrived.send(()).unwrap();
            may_answer.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone");
    });
    let (in_flight, access_log) = (Arc::new(RequestsInFlight::up_to(3)), Lines::default());
    let address = serve_before(&origin, &in_flight, access_log.clone());
    let (mut slow, mut idle) = (Connection::open(address), Connection::open(address));
    slow.send("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n");
    idle.send("GET /idle HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(idle.response().status, 200);
    when_arrived.recv_timeout(DEADLINE).unwrap();

    // More often than requests may be in flight: none that was counted stays so.
    for (number, request) in ["GET /panic", "POST /panic", "GET /panic", "DELETE /panic"]
        .into_iter()
        .enumerate()
    {
        let mut connection = Connection::open(address);
        connection.send(format!("{request} HTTP/1.1\r\nhost: h\r\nx-request-id: panic-{number}\r\ncontent-length: 3\r\n\r\nabc"));
        let response = connection.response();
        assert_eq!(
            (response.status, response.code().as_str()),
            (500, "internal_error"),
            "{request}"
        );
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(
            response.header("x-request-id"),
            Some(format!("panic-{number}").as_str())
        );
        assert!(connection.is_closed(), "{request}");
        let line: serde_json::Value =
            serde_json::from_str(&access_log.wait_for(&format!("panic-{number}"))).unwrap();
        assert_eq!(
            (&line["status"], &line["code"]),
            (&500.into(), &"internal_error".into())
        );
        assert!(
            line["cause"]
                .as_str()
                .unwrap()
                .starts_with("a panic at gateway/tests/panics.rs:"),
            "{line}"
        );
        assert!(
            log.wait_for(&format!("request panic-{number} "))
                .contains("a panic at gateway/tests/panics.rs:")
        );
    }

    assert_eq!(in_flight.now(), 1, "the slow request alone");
    answer.send(()).unwrap();
    assert_eq!(
        (
            slow.response().text().as_str(),
            get(address, "/new", &[]).status
        ),
        ("done", 200)
    );
    idle.send("GET /idle HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(idle.response().status, 200);
    let everything = log.0.lock().unwrap().clone() + &access_log.0.lock().unwrap();
    assert!(!everything.contains(SECRET), "{everything}");
}
