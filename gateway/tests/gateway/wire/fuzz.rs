//! Requests broken at random, though alike on every run: whatever is sent, the gateway answers with what it may or closes, goes
//! on serving, and passes at most the one request that was meant.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::{Bench, open, statuses};
use crate::client::DEADLINE;
use crate::rig::SECRET;

const THREADS: u64 = 4;
const REQUESTS: u64 = 500;

/// What is put in, in place of bytes or beside them.
const PIECES: &[&[u8]] = &[
    b"\n",
    b"\r",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b":",
    b";",
    b",",
    b"#",
    b"%00",
    b"\xff",
    b"0",
    b"f",
    b"-",
    b"+",
    b"\r\n ",
    b"\r\ncontent-length: 5",
    b"\r\ncontent-length: 0",
    b"\r\ntransfer-encoding: chunked",
    b"\r\ntransfer-encoding: identity",
    b"\r\nhost: evil",
    b"\r\nx-shared-secret: forged",
    b"\r\nconnection: upgrade\r\nupgrade: websocket",
    b"\r\nexpect: 100-continue",
    b"\r\nconnection: x-shared-secret, host",
    b"HTTP/1.0",
    b"0\r\n\r\n",
];

/// Numbers that are the same on every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let limit = u64::try_from(limit).unwrap();
        usize::try_from((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit).unwrap()
    }
}

/// A request that is sound and says its marker in three places. Its body holds one that has no key: only a reader out of step
/// with the gateway could take it for a request with one.
fn sound(marker: &str, random: &mut Random) -> Vec<u8> {
    let inner = "GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n";
    let framed = match random.below(3) {
        0 => format!(
            "content-length: {}\r\nx-again: {marker}\r\n\r\n{inner}",
            inner.len()
        ),
        1 => format!(
            "transfer-encoding: chunked\r\nx-again: {marker}\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
            inner.len()
        ),
        _ => format!("x-again: {marker}\r\n\r\n{inner}"),
    };
    format!("POST /{marker} HTTP/1.1\r\nhost: h\r\nx-marker: {marker}\r\nKEY\r\n{framed}")
        .into_bytes()
}

/// Breaks a request in one place.
fn mutate(request: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(request.len());
    match random.below(6) {
        0 | 1 => drop(request.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
        2 => drop(request.splice(at..=at, PIECES[random.below(PIECES.len())].iter().copied())),
        3 => drop(request.drain(at..(at + 1 + random.below(3)).min(request.len()))),
        4 => request[at] ^= 1 << random.below(8),
        // Where lines end is where readers differ.
        _ => {
            let ends: Vec<usize> = (0..request.len())
                .filter(|at| request[*at] == b'\r')
                .collect();
            if let Some(at) = ends.get(random.below(ends.len().max(1))) {
                request.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied());
            }
        }
    }
}

/// Sends and reads until the other side ends; leaves when nothing comes for `moment`, as the other side may wait for more.
fn converse(bench: &Bench, bytes: &[u8], moment: Duration) -> Vec<u8> {
    let mut socket = TcpStream::connect(bench.rig.public).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket.set_read_timeout(Some(moment)).unwrap();
    let _ = socket.write_all(bytes);
    let (mut answer, mut buffer, mut left) = (Vec::new(), [0; 8192], false);
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return answer,
            Err(_) if !left => {
                let _ = socket.shutdown(Shutdown::Write);
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
                left = true;
            }
            Err(error) => panic!("a hang: {error}: {:?}", String::from_utf8_lossy(bytes)),
        }
    }
}

fn run(seed: u64) -> usize {
    let bench = Bench::new();
    let mut good = open(&bench, "GET /good HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n");
    assert_eq!(good.response().status, 200);
    let again = bench.fill_in(b"GET /good HTTP/1.1\r\nhost: h\r\nKEY\r\n\r\n");
    let mut random = Random(seed);
    let mut took = Duration::ZERO;
    let mut seen = bench.origin.arrived().len();
    let (mut markers, mut owners) = (Vec::new(), HashSet::new());
    for number in 0..REQUESTS {
        let marker = format!("m{:05}", seed % 10 * 1000 + number);
        let mut request = bench.fill_in(&sound(&marker, &mut random));
        for _ in 0..=random.below(2) {
            mutate(&mut request, &mut random);
        }
        let sent = String::from_utf8_lossy(&request).into_owned();
        // Who leaves is not served: on a busy machine a moment is long.
        let answer = converse(&bench, &request, Duration::from_millis(8) + took * 4);
        for status in statuses(&answer) {
            assert!(
                matches!(
                    status,
                    200 | 400 | 401 | 404 | 405 | 408 | 413 | 414 | 417 | 431 | 501 | 505
                ),
                "{status}: {sent:?}: {:?}",
                String::from_utf8_lossy(&answer)
            );
        }
        let begun = Instant::now();
        good.send(&again);
        let served = good.response();
        took = begun.elapsed();
        assert_eq!(
            (served.status, served.text().as_str()),
            (200, "hello"),
            "after {sent:?}"
        );
        markers.push(marker);
        let mut arrived = bench.origin.arrived().split_off(seen);
        seen += arrived.len();
        arrived.retain(|request| request.line != "GET /good HTTP/1.1");
        for request in arrived {
            let whole = format!("{} {:?}", request.line, request.headers);
            // One whose client left early may arrive when the next one is on its way.
            let owner = markers
                .iter()
                .map(|marker| (whole.matches(marker.as_str()).count(), marker))
                .max_by_key(|(count, _)| *count)
                .filter(|(count, _)| *count > 0)
                .map(|(_, marker)| marker.clone());
            assert!(
                owner.is_some_and(|owner| owners.insert(owner)),
                "more than was meant: {sent:?}: {request:?}"
            );
            assert!(
                !whole.contains("smuggled") && !whole.contains("forged"),
                "{sent:?}: {request:?}"
            );
            assert_eq!(
                request.all("x-shared-secret"),
                [SECRET],
                "{sent:?}: {request:?}"
            );
            assert_eq!(
                request.all("x-credential-identifier"),
                [bench.key.id.as_str()],
                "{sent:?}"
            );
        }
    }
    owners.len()
}

#[test]
fn two_thousand_broken_requests_desynchronise_nothing() {
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| std::thread::spawn(move || run(0x9e37_79b9_7f4a_7c10 + thread)))
        .collect();
    let passed: usize = threads
        .into_iter()
        .map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .sum();
    // Some changes do no harm; when none or all passed, the generator would prove nothing.
    let all = usize::try_from(THREADS * REQUESTS).unwrap();
    assert!(
        passed > all / 20 && passed < all * 3 / 4,
        "{passed} of {all} passed"
    );
}
