//! The real binary on a free port, with requests under full control of the test.
#![allow(dead_code, reason = "each test crate needs another part")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Far longer than anything takes, so that only a hang reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Command without the environment of the tests.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_origin"));
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Running origin, killed when dropped.
pub(crate) struct OriginProcess {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Vec<String>,
    lines: Receiver<String>,
}

/// Response, read to the end of the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl OriginProcess {
    /// Starts the binary on a free port and waits for its listening line.
    pub(crate) fn start<'a>(environment: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::start_as(command(), environment)
    }

    /// Starts another program that listens and logs in the same way.
    pub(crate) fn start_as<'a>(
        mut command: Command,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut child = command
            .env("ORIGIN_LISTEN", "127.0.0.1:0")
            .envs(environment)
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let mut log = Vec::new();
        let address = loop {
            let line = lines
                .recv_timeout(DEADLINE)
                .unwrap_or_else(|error| panic!("no address: {error}; log: {log:#?}"));
            let address = line
                .split_once("listening on http://")
                .map(|(_, address)| address.parse());
            log.push(line);
            if let Some(address) = address {
                break address.unwrap();
            }
        };
        Self {
            child,
            address,
            log,
            lines,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Opens a connection with read and write timeouts.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Sends `GET path` with these header lines, byte for byte.
    pub(crate) fn get(&self, path: &str, lines: &[(&[u8], &[u8])]) -> Answer {
        self.send("GET", path, lines, b"")
    }

    /// Sends `GET path` with an upgrade to `protocol` and returns the response up to the end of its
    /// body.
    pub(crate) fn upgrade(&self, path: &str, protocol: &str, lines: &[(&[u8], &[u8])]) -> Answer {
        let mut all: Vec<(&[u8], &[u8])> = vec![
            (b"upgrade", protocol.as_bytes()),
            (b"sec-websocket-version", b"13"),
            (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        all.extend_from_slice(lines);
        let mut stream = self.connect();
        stream
            .write_all(&head("GET", path, &all, "Upgrade"))
            .unwrap();
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            assert_ne!(
                reader.read_until(b'\n', &mut bytes).unwrap(),
                0,
                "no answer: {bytes:?}"
            );
        }
        let answer = read_answer(&mut bytes.as_slice());
        let length = answer.header("content-length").map(|length| length.parse());
        let mut body = vec![0; length.unwrap_or(Ok(0)).unwrap()];
        reader.read_exact(&mut body).unwrap();
        Answer { body, ..answer }
    }

    /// Sends any request. The body follows the head as it is; `lines` frame it.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        lines: &[(&[u8], &[u8])],
        body: &[u8],
    ) -> Answer {
        let mut stream = self.connect();
        stream
            .write_all(&head(method, path, lines, "close"))
            .unwrap();
        match stream.write_all(body) {
            // A refusal precedes the body.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) => {}
            written => written.unwrap(),
        }
        read_answer(&mut stream)
    }

    /// Waits for a log line with `text`.
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        while !self.log.iter().any(|line| line.contains(text)) {
            self.log.push(
                self.lines
                    .recv_timeout(DEADLINE)
                    .unwrap_or_else(|error| panic!("no {text:?}: {error}")),
            );
        }
    }

    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for the exit and returns its status with the whole log.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let by = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(by.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.log.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("still running; log: {:#?}", self.log),
            }
        }
        // Its stderr is closed, so it has ended.
        (self.child.wait().unwrap(), self.log.join("\n"))
    }

    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for OriginProcess {
    fn drop(&mut self) {
        // Both fail only after the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// Value of a header that appears exactly once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(header, _)| header == name)
            .map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} came twice");
        value
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) fn head(
    method: &str,
    path: &str,
    lines: &[(&[u8], &[u8])],
    connection: &str,
) -> Vec<u8> {
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nhost: origin.test\r\nconnection: {connection}\r\n")
            .into_bytes();
    for (name, value) in lines {
        head.extend_from_slice(&[name, b":".as_slice(), value, b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Reads to the end of the connection. Expects a body without chunked coding.
pub(crate) fn read_answer(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // The origin resets a connection with unread data, after its response.
        Err(error) if error.kind() == ErrorKind::ConnectionReset && !bytes.is_empty() => {}
        read => drop(read.unwrap()),
    }
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no head in {bytes:?}"));
    let body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(n, v)| (n.to_lowercase(), v.to_owned()))
        .collect();
    Answer {
        status,
        headers,
        body,
    }
}
