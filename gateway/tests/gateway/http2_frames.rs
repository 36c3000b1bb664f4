//! HTTP/2 as bytes: whoever breaks the protocol is told its error code (RFC 9113, section 7), and whoever floods it is ended.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::client::DEADLINE;
use crate::http2::PRIOR_KNOWLEDGE;
use crate::metrics::Scrape;
use crate::origin::Origin;
use crate::rig::Rig;
use crate::running::eventually;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET http://h/` in the static table of HPACK (RFC 7541, appendix A) and a literal `:authority`.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'h'];

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, GET)
}

/// A literal field without indexing.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
    bytes.extend(name.as_bytes());
    bytes.push(u8::try_from(value.len()).unwrap());
    bytes.extend(value.as_bytes());
    bytes
}

pub(crate) fn get_with(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = GET.to_vec();
    for (name, value) in fields {
        block.extend(field(name, value));
    }
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
}

/// How the gateway answered what it was sent.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The error code of a GOAWAY.
    Connection(u32),
    /// The error code of a RST_STREAM.
    Stream(u32),
    /// A response began.
    Answer,
    /// The connection closed without a word.
    Closed,
}

/// Sends a preface, empty settings and `bytes`, and reads until the first end.
fn end_of(address: SocketAddr, bytes: &[u8]) -> End {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut reader = socket.try_clone().unwrap();
    let reading = std::thread::spawn(move || read_end(&mut reader));
    let sent = socket
        .write_all(PREFACE)
        .and_then(|()| socket.write_all(&frame(SETTINGS, 0, 0, &[])))
        .and_then(|()| socket.write_all(bytes));
    if let Err(error) = sent {
        // It may have ended the connection before it had read all.
        assert!(
            matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ),
            "{error}"
        );
    }
    reading.join().unwrap()
}

fn read_end(socket: &mut TcpStream) -> End {
    loop {
        let mut header = [0; 9];
        match socket.read_exact(&mut header) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                return End::Closed;
            }
            Err(error) => panic!("{error}"),
        }
        let length =
            usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; length];
        if socket.read_exact(&mut payload).is_err() {
            return End::Closed;
        }
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match header[3] {
            GOAWAY => return End::Connection(code(4)),
            RST_STREAM => return End::Stream(code(0)),
            HEADERS => return End::Answer,
            _ => {}
        }
    }
}

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const ENHANCE_YOUR_CALM: u32 = 11;

#[test]
fn a_client_that_breaks_the_protocol_is_told_the_code_of_the_rfc() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), PRIOR_KNOWLEDGE);
    let large = vec![0; 16_385];
    for (what, bytes, end) in [
        ("a request", get(1), End::Answer),
        (
            "an unknown frame before it",
            [frame(0x16, 0, 0, b"x"), get(1)].concat(),
            End::Answer,
        ),
        (
            "DATA on an idle stream",
            frame(DATA, 0, 1, b"x"),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            "DATA on stream 0",
            frame(DATA, 0, 0, b"x"),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            "HEADERS on stream 0",
            frame(HEADERS, 5, 0, GET),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            "HEADERS on an even stream",
            get(2),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            "a CONTINUATION of nothing",
            frame(CONTINUATION, 4, 1, GET),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            "another frame within a list of fields",
            [
                frame(HEADERS, END_STREAM, 1, GET),
                frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            "a PING of 7 bytes",
            frame(PING, 0, 0, &[0; 7]),
            End::Connection(FRAME_SIZE_ERROR),
        ),
        (
            "a PING on a stream",
            frame(PING, 0, 1, &[0; 8]),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            "SETTINGS of 5 bytes",
            frame(SETTINGS, 0, 0, &[0; 5]),
            End::Connection(FRAME_SIZE_ERROR),
        ),
        (
            "SETTINGS on a stream",
            frame(SETTINGS, 0, 1, &[]),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            "a frame larger than agreed",
            frame(DATA, 0, 1, &large),
            End::Connection(FRAME_SIZE_ERROR),
        ),
        (
            "a window of more than 2^31-1",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            End::Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "an empty WINDOW_UPDATE",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            "RST_STREAM of an idle stream",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            // COMPRESSION_ERROR by RFC 9113, section 4.3; h2 says it less precisely.
            "an index beyond the table",
            frame(HEADERS, 5, 1, &[0xff, 0xff, 0x7f]),
            End::Connection(PROTOCOL_ERROR),
        ),
        (
            "a field in capitals",
            get_with(&[("Accept", "a")]),
            End::Stream(PROTOCOL_ERROR),
        ),
        (
            "connection",
            get_with(&[("connection", "close")]),
            End::Stream(PROTOCOL_ERROR),
        ),
        (
            "transfer-encoding",
            get_with(&[("transfer-encoding", "chunked")]),
            End::Stream(PROTOCOL_ERROR),
        ),
        (
            "upgrade",
            get_with(&[("upgrade", "websocket")]),
            End::Stream(PROTOCOL_ERROR),
        ),
        (
            "te other than trailers",
            get_with(&[("te", "gzip")]),
            End::Stream(PROTOCOL_ERROR),
        ),
        (
            "an unknown pseudo-header",
            get_with(&[(":protocol", "websocket")]),
            End::Stream(PROTOCOL_ERROR),
        ),
        (
            "a pseudo-header after fields",
            get_with(&[("a", "b"), (":method", "GET")]),
            End::Stream(PROTOCOL_ERROR),
        ),
        (
            "two methods",
            get_with(&[(":method", "GET")]),
            End::Stream(PROTOCOL_ERROR),
        ),
        (
            "no method",
            frame(HEADERS, 5, 1, &GET[1..]),
            End::Stream(PROTOCOL_ERROR),
        ),
        (
            "DATA beyond the length",
            [
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &[GET, &field("content-length", "1")].concat(),
                ),
                frame(DATA, END_STREAM, 1, b"xx"),
            ]
            .concat(),
            End::Stream(PROTOCOL_ERROR),
        ),
    ] {
        let found = end_of(rig.public, &bytes);
        let is_right = match (&found, &end) {
            // An error of a stream may be taken for one of the connection (RFC 9113, section 5.4.2).
            (End::Connection(found), End::Stream(wanted)) => found == wanted,
            // A request without a key is answered in the meantime.
            (End::Answer, _) if what.starts_with("DATA ") => true,
            _ => found == end,
        };
        assert!(is_right, "{what}: {found:?} in place of {end:?}");
    }
    assert!(origin.arrived().is_empty(), "none of them had a key");
}

#[test]
fn a_client_that_floods_its_connection_is_told_to_be_calm() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), PRIOR_KNOWLEDGE);
    let flood = |one: Vec<u8>| one.repeat(20_000);
    let mut resets = Vec::new();
    for stream in (1..40_000).step_by(2) {
        resets.extend(get(stream));
        resets.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let begun = frame(HEADERS, END_STREAM, 1, GET);
    let open = frame(HEADERS, END_HEADERS, 1, GET);
    let floods = [
        ("pings", flood(frame(PING, 0, 0, &[0; 8]))),
        (
            "settings",
            flood(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
        ),
        ("priorities", flood(frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]))),
        ("resets", resets),
        ("empty data", [open, flood(frame(DATA, 0, 1, &[]))].concat()),
        (
            "empty continuations",
            [begun.clone(), flood(frame(CONTINUATION, 0, 1, &[]))].concat(),
        ),
        (
            "endless fields",
            [
                begun,
                flood(frame(CONTINUATION, 0, 1, &field("a", "b").repeat(200))),
            ]
            .concat(),
        ),
        ("unknown frames", flood(frame(0x16, 0, 0, b"x"))),
    ];
    for (what, bytes) in &floods {
        let found = end_of(rig.public, bytes);
        let is_calmed = matches!(
            found,
            End::Connection(ENHANCE_YOUR_CALM) | End::Closed | End::Answer
        );
        assert!(is_calmed, "{what}: {found:?}");
        // What was sent last is not read any more: the connection is gone.
        assert!(is_over(rig.public, bytes), "{what} goes on");
    }
    let count = || {
        let scrape = Scrape::of(rig.admin);
        scrape.value("postern_client_faults_total", &[("fault", "http2_flood")])
    };
    eventually("floods are counted", || count() >= floods.len() as f64);
}

/// Whether the connection ends before it has read all of `bytes`, or right after.
fn is_over(address: SocketAddr, bytes: &[u8]) -> bool {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut reader = socket.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return true,
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
                Ok(_) => {}
            }
        }
    });
    let _ = socket
        .write_all(PREFACE)
        .and_then(|()| socket.write_all(&frame(SETTINGS, 0, 0, &[])))
        .and_then(|()| socket.write_all(bytes));
    reading.join().unwrap()
}

#[test]
fn a_list_of_fields_that_does_not_end_is_not_waited_for() {
    let origin = Origin::hello();
    let file = format!("{PRIOR_KNOWLEDGE}head_timeout = \"300ms\"\n");
    let rig = Rig::with(&origin.url(), &file);
    let found = end_of(rig.public, &frame(HEADERS, END_STREAM, 1, GET));
    assert!(
        matches!(found, End::Connection(NO_ERROR) | End::Closed),
        "{found:?}"
    );
}

#[test]
fn a_client_learns_how_many_requests_it_may_have_open() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    let origin = Origin::hello();
    for (setting, most) in [("", 100), ("http2_max_streams = 7\n", 7)] {
        let rig = Rig::with(&origin.url(), &format!("{PRIOR_KNOWLEDGE}{setting}"));
        let mut socket = TcpStream::connect(rig.public).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(PREFACE).unwrap();
        socket.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        let mut header = [0; 9];
        socket.read_exact(&mut header).unwrap();
        assert_eq!(header[3], SETTINGS);
        let mut settings = vec![0; usize::from(header[2])];
        socket.read_exact(&mut settings).unwrap();
        let found = settings.chunks_exact(6).find_map(|setting| {
            let number = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes(setting[2..].try_into().unwrap());
            (number == MAX_CONCURRENT_STREAMS).then_some(value)
        });
        assert_eq!(found, Some(most), "{setting}");
    }
}

/// Opens every window and sends `count` requests.
pub(crate) fn ask_and_read_nothing(socket: &mut TcpStream, count: u32) {
    let window = 0x7fff_0000_u32.to_be_bytes();
    let mut bytes = PREFACE.to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE.
    bytes.extend(frame(SETTINGS, 0, 0, &[&[0, 4][..], &window].concat()));
    bytes.extend(frame(WINDOW_UPDATE, 0, 0, &window));
    for stream in 0..count {
        bytes.extend(get(stream * 2 + 1));
    }
    socket.write_all(&bytes).unwrap();
}

#[test]
fn the_time_for_the_first_head_counts_once() {
    let limit = Duration::from_secs(5);
    let origin = Origin::hello();
    let file = format!("{PRIOR_KNOWLEDGE}head_timeout = \"5s\"\n");
    let rig = Rig::with(&origin.url(), &file);
    let sockets = [&b""[..], b"PRI * HTTP", b"GET / HTTP/1.1\r\n"].map(|begin| {
        let mut socket = TcpStream::connect(rig.public).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(begin).unwrap();
        (begin, Instant::now(), socket)
    });
    let waiting = sockets.map(|(begin, since, mut socket)| {
        std::thread::spawn(move || {
            let _ = socket.read_to_end(&mut Vec::new());
            (begin, since.elapsed())
        })
    });
    for waited in waiting {
        let (begin, waited) = waited.join().unwrap();
        let shown = begin.escape_ascii();
        assert!(waited < limit * 2, "{shown}: {waited:?}");
        assert!(waited > limit / 2, "{shown}: {waited:?}");
    }
}
