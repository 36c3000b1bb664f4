//! `gateway healthcheck`: asks the admin listener of a running gateway whether it is ready, or whether it lives.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

/// How long the answer may take.
const DEADLINE: Duration = Duration::from_secs(3);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether it takes requests.
    Ready,
    /// Whether the process answers.
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

/// Asks the gateway whose admin listener is at `address`.
#[must_use]
pub fn run(address: SocketAddr, question: Question) -> ExitCode {
    let url = format!("http://{}{}", reachable(address), question.path());
    let answer = actix_rt::System::new().block_on(async {
        let client = awc::Client::builder().timeout(DEADLINE).finish();
        client
            .get(&url)
            .send()
            .await
            .map(|answer| answer.status())
            .map_err(|error| error.to_string())
    });
    match answer {
        Ok(status) if status.is_success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("gateway: not ready: {status} from {url}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("gateway: no answer from {url}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An address that listens on every interface is reached over the loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
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
