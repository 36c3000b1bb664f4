//! A gateway that is killed in the middle of creations: sent again, each makes one thing, whatever was lost.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::client::{DEADLINE, get};
use crate::rig::ADMIN;
use crate::running::eventually;

const ROUNDS: usize = 6;
const CREATIONS: usize = 60;

/// Starts the real binary on the store in `directory`.
fn start(directory: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("serve")
        .env_clear()
        .env("SHARED_SECRET", "crash-9f2c51d07be84a63-shared")
        .env("ADMIN_TOKEN", ADMIN)
        .env(
            "DATABASE_URL",
            format!("sqlite://{}/gateway.db", directory.display()),
        )
        .env("GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0")
        .env("GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0")
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = log
        .find_map(|line| {
            line.unwrap()
                .split_once("admin listening on http://")?
                .1
                .parse()
                .ok()
        })
        .unwrap();
    // The rest of the log is read, so that the gateway never waits for its reader.
    thread::spawn(move || log.for_each(drop));
    eventually("the gateway is ready", || {
        get(address, "/readyz", &[]).status == 200
    });
    (child, address)
}

/// Sends creation `number`; its status, unless the gateway is gone.
fn create(address: SocketAddr, number: usize) -> Option<u16> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let body = format!("{{\"consumer\":\"consumer-{number}\"}}");
    let head = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\ncontent-type: application/json\r\n\
         idempotency-key: creation-{number}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn a_creation_that_is_sent_again_after_a_crash_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let next = AtomicUsize::new(0);
    for round in 0..ROUNDS {
        let (mut child, address) = start(directory.path());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while next.load(Ordering::Relaxed) < (round + 1) * CREATIONS {
                        if create(address, next.fetch_add(1, Ordering::Relaxed)) != Some(201) {
                            return;
                        }
                    }
                });
            }
            // Somewhere in the middle: the moment does not matter, only that it differs.
            eventually("some were made", || {
                next.load(Ordering::Relaxed) > round * CREATIONS + 5 + 7 * round
            });
            thread::sleep(Duration::from_micros(300 * round as u64));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        next.fetch_max((round + 1) * CREATIONS, Ordering::Relaxed);
        let (mut child, address) = start(directory.path());
        for number in 0..(round + 1) * CREATIONS {
            assert_eq!(
                create(address, number),
                Some(201),
                "creation {number} of round {round}"
            );
        }
        let keys = get(
            address,
            "/v1/keys?limit=1000",
            &[&format!("authorization: Bearer {ADMIN}")],
        )
        .json();
        let made = keys["data"].as_array().unwrap().len();
        // Workers may have taken a number or two beyond the round.
        assert!(
            (0..=3).contains(&(made - (round + 1) * CREATIONS)),
            "{made} keys in round {round}"
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
