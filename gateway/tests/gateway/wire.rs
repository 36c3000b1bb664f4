//! The whole gateway against bytes that no well-behaved client sends. Each row of a table is one connection: the exact bytes,
//! what may come back, and what the origin may have seen of it.
//!
//! Three things hold for every row, whatever it says: nothing comes back that is 5xx, nothing hangs, and the origin never sees a
//! request for `/smuggled`.

mod admin;
mod attacks;
mod framing;
mod fuzz;
mod heads;
mod policy;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::client::{Connection, DEADLINE};
use crate::origin::{Arrived, Origin};
use crate::rig::{Key, Rig, SECRET};

/// A request that must never reach an origin: it stands where a reader out of step would take it for one.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n";

/// What a row wants.
#[derive(Clone, Debug)]
enum Wanted {
    /// This status, then the end of the connection; the origin saw nothing.
    Refused(u16),
    /// One of these statuses, then the end of the connection; the origin saw nothing.
    RefusedAs(&'static [u16]),
    /// This status and no word about closing; the origin saw nothing.
    Declined(u16),
    /// 200; the origin saw exactly one request, with this first line and this body.
    Passed(&'static str, &'static str),
    /// Whatever is answered, the origin saw no complete request and the connection ends.
    Nothing,
}

/// A gateway with a key before an origin that records.
struct Bench {
    rig: Rig,
    origin: Origin,
    key: Key,
}

impl Bench {
    fn new() -> Self {
        Self::with("")
    }

    fn with(settings: &str) -> Self {
        let origin = Origin::hello();
        let rig = Rig::with(&origin.url(), settings);
        let key = rig.key("acme", &[]);
        assert!(
            rig.get("/known", &key).status == 200,
            "the gateway takes the key"
        );
        Self { rig, origin, key }
    }

    /// Sends `bytes` with `KEY` replaced by the line that presents the key, and returns all that came back until the end.
    fn send(&self, bytes: &[u8]) -> Vec<u8> {
        converse(self.rig.public, &self.fill_in(bytes), true)
    }

    fn fill_in(&self, bytes: &[u8]) -> Vec<u8> {
        let line = format!("{}\r\n", self.key.header()).into_bytes();
        match bytes.windows(5).position(|window| window == b"KEY\r\n") {
            Some(at) => [&bytes[..at], &line, &bytes[at + 5..]].concat(),
            None => bytes.to_vec(),
        }
    }

    /// Runs one row: `what` names it in a failure.
    fn check(&self, what: &str, bytes: &[u8], wanted: &Wanted) {
        let before = self.origin.arrived().len();
        // Who is refused is not asked to close first.
        let leaves = !matches!(wanted, Wanted::Refused(_) | Wanted::RefusedAs(_));
        let answer = converse(self.rig.public, &self.fill_in(bytes), leaves);
        let statuses = statuses(&answer);
        let arrived = self.origin.arrived().split_off(before);
        let text = String::from_utf8_lossy(&answer);
        let context = || {
            format!(
                "{what}\n sent: {:?}\n came: {text:?}\n origin: {arrived:?}",
                String::from_utf8_lossy(bytes)
            )
        };
        assert!(
            statuses
                .iter()
                .all(|status| *status < 500 || *status == 505),
            "a 5xx of its own: {}",
            context()
        );
        for request in &arrived {
            assert!(
                !request.line.contains("smuggled"),
                "smuggled: {}",
                context()
            );
            assert_eq!(request.all("x-shared-secret"), [SECRET], "{}", context());
        }
        match wanted {
            Wanted::Refused(status) => {
                assert!(
                    statuses == [*status] && arrived.is_empty(),
                    "wanted {status} and the end: {}",
                    context()
                );
                check_refusal(&text, true, &context);
            }
            Wanted::RefusedAs(any) => {
                let refused = matches!(&*statuses, [status] if any.contains(status));
                assert!(
                    refused && arrived.is_empty(),
                    "wanted one of {any:?} and the end: {}",
                    context()
                );
                check_refusal(&text, true, &context);
            }
            Wanted::Declined(status) => {
                assert!(
                    statuses.first() == Some(status) && arrived.is_empty(),
                    "wanted {status}: {}",
                    context()
                );
                check_refusal(&text, false, &context);
            }
            Wanted::Passed(line, body) => {
                assert!(
                    statuses == [200] && arrived.len() == 1,
                    "wanted one request: {}",
                    context()
                );
                check_canonical(&arrived[0], line, body, &context);
            }
            Wanted::Nothing => assert!(
                arrived.is_empty(),
                "wanted nothing at the origin: {}",
                context()
            ),
        }
    }
}

/// A refusal is a problem, or empty where no handler could give one, and says so when it is the last word.
fn check_refusal(text: &str, closes: bool, context: &dyn Fn() -> String) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let head = head.to_ascii_lowercase();
    assert!(
        !closes || head.contains("connection: close") || head.starts_with("http/1.0"),
        "it does not say that it closes: {}",
        context()
    );
    if !body.is_empty() {
        assert!(
            head.contains("application/problem+json"),
            "a body that is no problem: {}",
            context()
        );
    }
}

/// What reaches an origin is framed by the gateway: one host, one way of saying the length, nothing of the client's hop.
fn check_canonical(request: &Arrived, line: &str, body: &str, context: &dyn Fn() -> String) {
    assert_eq!(
        (request.line.as_str(), request.body.as_slice()),
        (line, body.as_bytes()),
        "{}",
        context()
    );
    assert_eq!(request.all("host").len(), 1, "{}", context());
    let lengths = request.all("content-length");
    let chunked = request.all("transfer-encoding");
    assert!(
        lengths.len() + chunked.len() <= 1,
        "framed twice: {}",
        context()
    );
    assert!(
        lengths
            .iter()
            .all(|length| *length == body.len().to_string()),
        "{}",
        context()
    );
    assert!(
        chunked.iter().all(|coding| *coding == "chunked"),
        "{}",
        context()
    );
    for name in [
        "expect",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "authorization",
    ] {
        assert_eq!(request.one(name), None, "{name}: {}", context());
    }
}

/// Sends these bytes and returns all that comes until the other side ends; with `leaves`, ends the sending side once all
/// is answered.
///
/// A server may close before it has read everything, so sending may fail; what it said can still be read.
fn converse(address: SocketAddr, bytes: &[u8], leaves: bool) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut ended = !leaves;
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return answer,
            Err(error) => {
                panic!(
                    "a hang: {error} after {:?} for {:?}",
                    String::from_utf8_lossy(&answer),
                    String::from_utf8_lossy(bytes)
                )
            }
        }
        // Every answer to what was sent is out, or the connection is about to end: no idle time has to be waited for.
        if !ended && answer.windows(4).any(|window| window == b"\r\n\r\n") {
            socket
                .set_read_timeout(Some(Duration::from_millis(30)))
                .unwrap();
            if let Ok(1) = socket.peek(&mut [0; 1]) {
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
                continue;
            }
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let _ = socket.shutdown(Shutdown::Write);
            ended = true;
        }
    }
}

/// The final statuses in what came back: the bodies here hold no status line.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    let lines = text
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|rest| rest.get(2..5)?.parse().ok());
    lines.filter(|status| *status >= 200).collect()
}

/// Runs a table of rows on one gateway, which has to serve as before in the end.
fn check_table(bench: &Bench, rows: &[(&str, &str, Wanted)]) {
    for (what, bytes, wanted) in rows {
        bench.check(what, bytes.as_bytes(), wanted);
    }
    assert_eq!(
        bench.rig.get("/", &bench.key).status,
        200,
        "the gateway is hurt"
    );
}

/// A connection that sends what `KEY` stands for.
fn open(bench: &Bench, bytes: &str) -> Connection {
    let mut connection = Connection::open(bench.rig.public);
    connection.send(bench.fill_in(bytes.as_bytes()));
    connection
}
