//! Container health check for images without curl: requests the health path of the running backend.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::demo::HEALTH_PATH;

const PATIENCE: Duration = Duration::from_secs(3);

/// Checks the backend at `listen`, the value of `ORIGIN_LISTEN`. Replaces a wildcard address
/// (`0.0.0.0`, `[::]`) by the loopback one. Each step takes at most three seconds.
///
/// # Errors
/// No connection, no response in time, or a status other than 200.
pub fn healthcheck(listen: SocketAddr) -> io::Result<()> {
    let address = reachable(listen);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {HEALTH_PATH} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut status_line = [0; "HTTP/1.1 200 ".len()];
    stream.read_exact(&mut status_line)?;
    if &status_line == b"HTTP/1.1 200 " {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "it answered {:?}",
            String::from_utf8_lossy(&status_line)
        )))
    }
}

fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_is_asked_on_the_loopback_one() {
        for (listen, wanted) in [
            ("0.0.0.0:9000", "127.0.0.1:9000"),
            ("[::]:9000", "[::1]:9000"),
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(
                reachable(listen.parse().unwrap()),
                wanted.parse().unwrap(),
                "{listen}"
            );
        }
    }
}
