//! Active health checks of targets, on the control thread: a `GET` without secret or identity, over
//! TLS for `https` targets. The data plane reads the result as one word.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch as channel;

use crate::proxy::connect::{Plain, Transport, is_own_shortage};
use crate::proxy::origin_stream::OriginFault;
use crate::proxy::pool::OriginScheme;
use crate::proxy::upstream::{Target, Upstream};
use crate::tls::origin::OriginTls;

/// Successes in a row that bring a target back.
const RISE: u32 = 2;
/// Failures in a row that take a target out.
const FALL: u32 = 3;
/// Maximum bytes to read in search of a status line.
const MAX_BYTES: usize = 1024;

/// Health check of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Requested path; any 2xx is healthy.
    pub path: HealthPath,
    /// Time from the start of one check to the start of the next.
    pub interval: Duration,
    /// Timeout of one check.
    pub timeout: Duration,
}

/// Path, with or without a query, of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPath(String);

/// The text is not a health-check path.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a path for health checks: write it as it stands in requests, such as \"/healthz\""
)]
pub struct NotAHealthPath(String);

impl HealthPath {
    /// Parses a path.
    ///
    /// # Errors
    /// No leading slash, or a text that cannot stand in a request.
    pub fn parse(text: &str) -> Result<Self, NotAHealthPath> {
        let accepted = text.starts_with('/')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#');
        accepted
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| NotAHealthPath(text.to_owned()))
    }
}

impl fmt::Display for HealthPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is checked.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Upstreams; those without a health check are passed over.
    pub upstreams: Vec<Arc<Upstream>>,
    /// TLS to `https` targets.
    pub tls: Option<OriginTls>,
}

/// Checks every target of what `checked` returns, for ever; asks it again when `changed` does. A
/// check whose upstream stays the same goes on.
pub async fn watch(
    checked: impl Fn() -> Checked,
    mut changed: channel::Receiver<u64>,
) -> std::convert::Infallible {
    let mut running = FuturesUnordered::new();
    let mut started: Vec<(Arc<Upstream>, AbortHandle)> = Vec::new();
    let mut last_tls = None;
    loop {
        changed.mark_unchanged();
        let Checked { upstreams, tls } = checked();
        let is_kept = |upstream: &Arc<Upstream>| {
            tls == last_tls && upstreams.iter().any(|next| Arc::ptr_eq(next, upstream))
        };
        started.retain(|(upstream, handle)| {
            let is_kept = is_kept(upstream);
            if !is_kept {
                handle.abort();
            }
            is_kept
        });
        for upstream in &upstreams {
            let is_checked = started
                .iter()
                .any(|(known, _)| Arc::ptr_eq(known, upstream));
            let Some(check) = upstream.policy().health.clone().filter(|_| !is_checked) else {
                continue;
            };
            for target in upstream.targets() {
                let (name, target) = (upstream.name().to_owned(), Arc::clone(target));
                let (check, tls) = (check.clone(), tls.clone());
                let (checking, handle) =
                    abortable(
                        async move { watch_target(&name, &check, &target, tls.as_ref()).await },
                    );
                running.push(checking);
                started.push((Arc::clone(upstream), handle));
            }
        }
        last_tls = tls;
        loop {
            tokio::select! {
                news = changed.changed() => match news {
                    Ok(()) => break,
                    // Nothing changes any more: the sender is gone.
                    Err(_) => {
                        while running.next().await.is_some() {}
                        return std::future::pending().await;
                    }
                },
                Some(_aborted) = running.next() => {}
            }
        }
    }
}

async fn watch_target(
    upstream: &str,
    check: &HealthCheck,
    target: &Target,
    tls: Option<&OriginTls>,
) {
    let mut interval = tokio::time::interval(check.interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut successes, mut failures) = (0_u32, 0_u32);
    loop {
        interval.tick().await;
        let asked = tokio::time::timeout(check.timeout, ask(check, target, tls)).await;
        match asked.unwrap_or(Err(Unwell::Slow(check.timeout))) {
            Ok(()) => {
                (successes, failures) = (successes.saturating_add(1), 0);
                if successes >= RISE && target.set_healthy(true) {
                    log::info!(
                        "upstream {upstream:?}: target {target} is healthy again: {} answers well",
                        check.path
                    );
                }
            }
            // A shortage on our side does not concern the target.
            Err(Unwell::NoConnection(error)) if is_own_shortage(&error) => {}
            Err(cause) => {
                (successes, failures) = (0, failures.saturating_add(1));
                if failures >= FALL && target.set_healthy(false) {
                    log::warn!(
                        "upstream {upstream:?}: target {target} is unhealthy: {}: {cause}",
                        check.path
                    );
                }
            }
        }
    }
}

/// Why a target counts as unhealthy.
#[derive(Debug, Error)]
enum Unwell {
    #[error("no connection: {0}")]
    NoConnection(io::Error),
    #[error(transparent)]
    NoTls(OriginFault),
    #[error("TLS to origins is not configured")]
    TlsNotSetUp,
    #[error("no answer: {0}")]
    NoAnswer(#[from] io::Error),
    #[error("no answer within health_timeout ({})", humantime::format_duration(*.0))]
    Slow(Duration),
    #[error("the answer is not HTTP")]
    NotHttp,
    #[error("status {0}")]
    Status(u16),
}

async fn ask(check: &HealthCheck, target: &Target, tls: Option<&OriginTls>) -> Result<(), Unwell> {
    match target.url().target().scheme() {
        OriginScheme::Http => ask_over(Plain, check, target).await,
        OriginScheme::Https => {
            ask_over(tls.ok_or(Unwell::TlsNotSetUp)?.clone(), check, target).await
        }
    }
}

async fn ask_over<T: Transport>(
    transport: T,
    check: &HealthCheck,
    target: &Target,
) -> Result<(), Unwell> {
    let authority = target.url().target().authority();
    let (host, port) = (
        authority.host(),
        authority.port_u16().unwrap_or(T::DEFAULT_PORT),
    );
    // A URI brackets an IPv6 address, the resolver takes it bare. Tries every address.
    let address = (host.trim_start_matches('[').trim_end_matches(']'), port);
    let tcp = TcpStream::connect(address)
        .await
        .map_err(Unwell::NoConnection)?;
    let io = transport
        .begin(tcp, host, port)
        .await
        .map_err(Unwell::NoTls)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: postern-health\r\nconnection: close\r\n\r\n",
        check.path
    );
    match exchange(io, &request).await? {
        Some(200..=299) => Ok(()),
        Some(other) => Err(Unwell::Status(other)),
        None => Err(Unwell::NotHttp),
    }
}

/// Sends `request` and returns the status of the response.
async fn exchange(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> io::Result<Option<u16>> {
    io.write_all(request.as_bytes()).await?;
    // TLS may buffer what was written.
    io.flush().await?;
    let mut answer = Vec::with_capacity(MAX_BYTES);
    // Only the status line matters; closing the connection discards the rest.
    while !answer.contains(&b'\n') && answer.len() < MAX_BYTES {
        if io.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(status(&answer))
}

/// Status of an HTTP/1 response.
fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5).filter(|_| rest.get(1) == Some(&b' '))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_line_of_http_has_a_status() {
        for (answer, wanted) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503\r\n", Some(503)),
            ("HTTP/2 200\r\n", None),
            ("HTTP/1.1 2x0 OK\r\n", None),
            ("HTTP/1.1", None),
            ("", None),
            ("SSH-2.0-OpenSSH", None),
        ] {
            assert_eq!(status(answer.as_bytes()), wanted, "{answer:?}");
        }
    }

    #[test]
    fn paths_are_those_of_requests() {
        for (text, accepted) in [
            ("/healthz", true),
            ("/h?deep=1", true),
            ("healthz", false),
            ("/a b", false),
            ("/a\r\nb", false),
        ] {
            assert_eq!(HealthPath::parse(text).is_ok(), accepted, "{text:?}");
        }
    }
}
