//! A client that sends the bytes it is told and reads one response at a time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::library_text::assert_plain;

/// Longer than anything here takes, so that a hang is a failure and not a wait.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A response as it came.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the message ended as it announced, not with the connection.
    pub(crate) complete: bool,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The `code` of a refusal, whose text has to be for people.
    pub(crate) fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        assert_plain(&self.text());
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

/// One connection.
pub(crate) struct Connection {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Over a socket that is connected already.
    pub(crate) fn over(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self {
            socket,
            unread: Vec::new(),
        }
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends to a side that may have closed; whether it took it.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).is_ok()
    }

    /// Whether the other side closed, with nothing more to read.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.fill()
    }

    /// Reads the head and the body of the response to a request that was not `HEAD`.
    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.head();
        let length = response
            .header("content-length")
            .map(|length| length.parse::<usize>().unwrap());
        if matches!(response.status, 204 | 304) {
            return response;
        }
        if response.header("transfer-encoding") == Some("chunked") {
            (response.body, response.complete) = self.chunked();
        } else if let Some(length) = length {
            while self.unread.len() < length && self.fill() {}
            response.complete = self.unread.len() >= length;
            response.body = self.unread.drain(..length.min(self.unread.len())).collect();
        } else {
            while self.fill() {}
            response.body = std::mem::take(&mut self.unread);
        }
        response
    }

    /// Reads the head alone.
    pub(crate) fn head(&mut self) -> Response {
        let end = loop {
            if let Some(end) = self
                .unread
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break end;
            }
            assert!(
                self.fill(),
                "the connection closed before a response: {:?}",
                String::from_utf8_lossy(&self.unread)
            );
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
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
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        Response {
            status,
            headers: headers.collect(),
            body: Vec::new(),
            complete: true,
        }
    }

    /// Reads a piece of the body as it arrives.
    pub(crate) fn some_bytes(&mut self) -> Vec<u8> {
        if self.unread.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.unread)
    }

    fn chunked(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(end) = self.line_end() else {
                return (body, false);
            };
            let line: Vec<u8> = self.unread.drain(..end + 2).collect();
            let size =
                usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            while self.unread.len() < size + 2 {
                if !self.fill() {
                    return (body, false);
                }
            }
            body.extend(self.unread.drain(..size));
            self.unread.drain(..2);
            if size == 0 {
                return (body, true);
            }
        }
    }

    fn line_end(&mut self) -> Option<usize> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|window| window == b"\r\n") {
                return Some(end);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads more; whether there was any.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.socket.read(&mut buffer) {
            Ok(read) => {
                self.unread.extend_from_slice(&buffer[..read]);
                read > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came within {DEADLINE:?}: {error}"),
        }
    }
}

/// Sends one request on a connection of its own.
pub(crate) fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    let mut connection = Connection::open(address);
    connection.send(request);
    connection.response()
}

/// `GET path` with these header lines.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &[&str]) -> Response {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n"),
    )
}
