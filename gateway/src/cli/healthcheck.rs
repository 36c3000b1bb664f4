//! `gateway healthcheck`: queries readiness or liveness on the admin listener of a running gateway.

mod own;

pub(super) use own::client as own_client;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::config::admin::AdminDoor;

/// Timeout of the check.
const DEADLINE: Duration = Duration::from_secs(3);
/// Number of bytes read of the answer.
const STATUS_LINE_BYTES: usize = 64;

/// Kind of check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Readiness.
    Ready,
    /// Liveness.
    Live,
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Ready => "/readyz",
            Self::Live => "/healthz",
        }
    }
}

/// Queries the gateway at `door`. Over TLS, requires a certificate from the settings.
#[must_use]
pub fn run(door: &AdminDoor, question: Question) -> ExitCode {
    let address = reachable(door.address);
    let scheme = if door.certificates.is_empty() {
        "http"
    } else {
        "https"
    };
    let path = question.path();
    match ask(door, address, path) {
        Ok(status) if (200..300).contains(&status) => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("gateway: not ready: {status} from {scheme}://{address}{path}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("gateway: no answer from {scheme}://{address}{path}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the status code of the answer.
fn ask(door: &AdminDoor, address: SocketAddr, path: &str) -> io::Result<u16> {
    let due = Instant::now() + DEADLINE;
    let socket = TcpStream::connect_timeout(&address, DEADLINE)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    if door.certificates.is_empty() {
        return exchange(socket, address, path, due);
    }
    let config = own::client(&door.certificates).map_err(io::Error::other)?;
    let name = ServerName::IpAddress(address.ip().into());
    let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    exchange(StreamOwned::new(tls, socket), address, path, due)
}

fn exchange(
    mut io: impl Read + Write,
    address: SocketAddr,
    path: &str,
    due: Instant,
) -> io::Result<u16> {
    write!(
        io,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    io.flush()?;
    let (mut line, mut buffer) = (Vec::new(), [0; STATUS_LINE_BYTES]);
    while line.len() < STATUS_LINE_BYTES && !line.contains(&b'\n') {
        if Instant::now() > due {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match io.read(&mut buffer)? {
            0 => break,
            read => line.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
    }
    let line = String::from_utf8_lossy(&line);
    let status = line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    status.ok_or_else(|| io::Error::other("no HTTP/1.1 answer"))
}

/// Replaces an unspecified address by the loopback address.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = if address.is_ipv4() {
        [127, 0, 0, 1].into()
    } else {
        std::net::Ipv6Addr::LOCALHOST.into()
    };
    if address.ip().is_unspecified() {
        SocketAddr::new(loopback, address.port())
    } else {
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_interface_is_asked_over_the_loopback() {
        for (listening, asked) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            assert_eq!(
                reachable(listening.parse().unwrap()),
                asked.parse().unwrap()
            );
        }
    }
}
