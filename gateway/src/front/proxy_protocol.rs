//! PROXY protocol: a TCP load balancer prefixes each connection with a header that names its
//! source. The header is consumed before anything else, TLS included, and its source then counts as
//! the peer.
//!
//! A connection without the required header is closed silently. There is no auto-detection: if the
//! header were optional, anyone who reaches the load balancer could omit it or send a forged one.

pub mod header;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix_rt::net::TcpStream;
use thiserror::Error;
use tokio::io::AsyncReadExt as _;

use crate::front::proxy_protocol::header::{MAX_BYTES, Source, is_header, parse};
use crate::keys::AddressRange;

/// Shortest interval between two log lines of a worker about the same fault.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Fault in the PROXY protocol header of a refused connection.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProxyHeaderFault {
    /// A header on a listener that expects none.
    #[error("PROXY protocol header, but listen.proxy_protocol is off")]
    Unexpected,
    /// The peer is not a trusted proxy.
    #[error("listen.proxy_protocol is on, and the peer is none of listen.trusted_proxies")]
    Untrusted,
    /// The connection begins with something else.
    #[error("no PROXY protocol header, but listen.proxy_protocol is on")]
    Missing,
    /// Malformed header.
    #[error("malformed PROXY protocol header: {0}")]
    Malformed(&'static str),
    /// The header did not arrive in time.
    #[error("the PROXY protocol header did not arrive in time")]
    Late,
}

/// Connection that must not be served.
#[derive(Debug)]
pub enum NotAnnounced {
    /// Refused for a fault.
    Fault(ProxyHeaderFault),
    /// Closed or lost before its first byte, as by health checks that only connect.
    Gone(io::Error),
}

impl From<ProxyHeaderFault> for NotAnnounced {
    fn from(fault: ProxyHeaderFault) -> Self {
        Self::Fault(fault)
    }
}

/// Consumes the header of a connection from `peer`, which must be one of `trusted`, and returns the
/// peer that counts from now on; `None` if the header names a client without an address. Reads no
/// byte beyond the header.
///
/// # Errors
/// The connection must be closed. `timeout` covers the whole header; zero means no limit.
pub async fn take_header(
    io: &mut TcpStream,
    peer: Option<SocketAddr>,
    trusted: &[AddressRange],
    timeout: Duration,
) -> Result<Option<SocketAddr>, NotAnnounced> {
    // Health checks that reset their connection at once leave no peer.
    let Some(balancer) = peer else {
        return Err(NotAnnounced::Gone(io::ErrorKind::NotConnected.into()));
    };
    if !trusted.iter().any(|range| range.contains(balancer.ip())) {
        return Err(ProxyHeaderFault::Untrusted.into());
    }
    let source = if timeout.is_zero() {
        read_header(io).await?
    } else {
        tokio::time::timeout(timeout, read_header(io))
            .await
            .map_err(|_| ProxyHeaderFault::Late)??
    };
    Ok(match source {
        Source::Own => peer,
        Source::Of(source) => Some(source),
        Source::Unknown => None,
    })
}

async fn read_header(io: &mut TcpStream) -> Result<Source, NotAnnounced> {
    let mut bytes = vec![0; MAX_BYTES];
    let mut taken = 0;
    loop {
        // Peeked first, so that what follows the header stays for the next reader.
        let room = bytes.get_mut(taken..).unwrap_or_default();
        let seen = io.peek(room).await.map_err(NotAnnounced::Gone)?;
        if seen == 0 {
            return Err(match taken {
                0 => NotAnnounced::Gone(io::ErrorKind::UnexpectedEof.into()),
                _ => ProxyHeaderFault::Malformed("it is cut off").into(),
            });
        }
        let header = parse(bytes.get(..taken + seen).unwrap_or_default())?;
        let end = header.map_or(taken + seen, |header| header.bytes);
        let ours = bytes.get_mut(taken..end).unwrap_or_default();
        io.read_exact(ours).await.map_err(NotAnnounced::Gone)?;
        taken = end;
        if let Some(header) = header {
            return Ok(header.source);
        }
    }
}

/// Whether the connection begins with a header, as far as its first bytes show. Peeks without
/// consuming them.
///
/// # Errors
/// The connection was lost.
pub async fn begins_with_header(io: &TcpStream) -> io::Result<bool> {
    let mut start = [0; 16];
    let seen = io.peek(&mut start).await?;
    Ok(is_header(start.get(..seen).unwrap_or_default()))
}

/// Logs faults, each kind at most once per [`LOG_INTERVAL`]: anyone can cause any number of them.
#[derive(Debug, Default)]
pub struct FaultLog([Cell<FaultCount>; 5]);

#[derive(Clone, Copy, Debug, Default)]
struct FaultCount {
    logged_at: Option<Instant>,
    since_then: u64,
}

impl FaultLog {
    /// Records a fault of `peer`.
    pub fn note(&self, peer: Option<SocketAddr>, fault: ProxyHeaderFault) {
        if let Some(suppressed) = self.is_due(fault, Instant::now()) {
            let peer = peer.map_or("unknown".to_owned(), |peer| peer.to_string());
            log::warn!(
                "connection of {peer} refused: {fault} ({suppressed} more since the last such line)"
            );
        }
    }

    /// Returns the number of faults not logged since the last line if this one is to be logged,
    /// otherwise `None`.
    fn is_due(&self, fault: ProxyHeaderFault, now: Instant) -> Option<u64> {
        let [unexpected, untrusted, missing, malformed, late] = &self.0;
        let cell = match fault {
            ProxyHeaderFault::Unexpected => unexpected,
            ProxyHeaderFault::Untrusted => untrusted,
            ProxyHeaderFault::Missing => missing,
            ProxyHeaderFault::Malformed(_) => malformed,
            ProxyHeaderFault::Late => late,
        };
        let count = cell.get();
        let is_recent = count
            .logged_at
            .is_some_and(|at| now.saturating_duration_since(at) < LOG_INTERVAL);
        let (next, due) = if is_recent {
            let since_then = count.since_then.saturating_add(1);
            (
                FaultCount {
                    since_then,
                    ..count
                },
                None,
            )
        } else {
            let logged_at = Some(now);
            (
                FaultCount {
                    logged_at,
                    since_then: 0,
                },
                Some(count.since_then),
            )
        };
        cell.set(next);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_fault_is_logged_once_in_a_while_with_how_many_there_were() {
        let (log, begin) = (FaultLog::default(), Instant::now());
        let missing = ProxyHeaderFault::Missing;
        assert_eq!(log.is_due(missing, begin), Some(0));
        for _ in 0..1000 {
            assert_eq!(log.is_due(missing, begin), None);
        }
        assert_eq!(log.is_due(ProxyHeaderFault::Malformed("a"), begin), Some(0));
        assert_eq!(log.is_due(ProxyHeaderFault::Malformed("b"), begin), None);
        assert_eq!(log.is_due(missing, begin + LOG_INTERVAL), Some(1000));
        assert_eq!(log.is_due(missing, begin + LOG_INTERVAL), None);
    }
}
