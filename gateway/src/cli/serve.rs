//! `gateway serve`: runs until it is told to stop.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{Gateway, StartError};
use crate::config::settings::Settings;

/// Serves until SIGTERM or SIGINT; a second one ends the waiting for requests that run.
#[must_use]
pub fn run(settings: Settings) -> ExitCode {
    raise_open_files();
    use_small_pages();
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let ended = actix_rt::System::new().block_on(async {
        let mut signals = Signals::listen()?;
        let mut more_signals = Signals::listen()?;
        let gateway = Gateway::build(settings).await?;
        let stop_now = async move {
            more_signals.next().await;
            more_signals.next().await;
        };
        gateway
            .run(async move { signals.next().await }, stop_now)
            .await
            .map_err(StartError::System)
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lets the process open as many files as it may. Each connection is one, and many systems begin at 1,024.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        );
        if let Err(error) = raised {
            log::warn!("the limit of open files stays at {current:?}: {error}");
        }
    }
}

/// Keeps the kernel from backing the heap with pages of 2 MB, which the allocator asks for: a connection has two buffers of 8 kB
/// and writes to the first few hundred bytes of each, and only what is written to should take memory.
fn use_small_pages() {
    if let Err(error) = disable_transparent_huge_pages(true) {
        log::debug!("transparent huge pages stay as they are: {error}");
    }
}

/// The signals that ask the process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
