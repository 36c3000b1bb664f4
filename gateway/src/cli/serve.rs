//! `gateway serve`: runs until a signal stops it.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::SystemRunner;
use postern_shared::signals::{Reaction, Signals};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;
use tokio::sync::oneshot;

use crate::app::{Gateway, StartError};
use crate::config::own::Registrations;
use crate::config::reader::Problems;
use crate::config::settings::Settings;
use crate::config::{self, Environment};
use crate::reload::{Reloads, Trigger, Waiting};
use crate::telemetry::process_log;

/// Timeout for writing the last log lines.
pub(super) const LAST_LINES: Duration = Duration::from_secs(1);

/// Loads the settings; if they cannot be used, those that were kept as the last good ones.
///
/// # Errors
/// All problems of the last file that was tried.
pub fn load(
    file: Option<&Path>,
    last_good: Option<&Path>,
    environment: &Environment,
    own: &Registrations,
) -> Result<Settings, Problems> {
    let loaded = config::load_with(file, environment, own);
    let (problems, last_good) = match (loaded, last_good) {
        (Ok(settings), _) => return Ok(settings),
        (Err(problems), None) => return Err(problems),
        (Err(problems), Some(last_good)) => (problems, last_good),
    };
    let settings = config::load_last_good(file, last_good, environment, own)?;
    log::error!(
        "the settings cannot be used, and the gateway starts with the last good ones in {}: {problems}",
        last_good.display()
    );
    Ok(settings)
}

/// Runtime that handles every signal, before anything else of the gateway exists.
pub struct Prepared {
    system: SystemRunner,
    signals: Signals,
}

/// Handles the signals from now on: none kills the process while it starts.
///
/// # Errors
/// The system refuses.
pub fn prepare() -> io::Result<Prepared> {
    let system = actix_rt::System::new();
    let signals = system.block_on(async { Signals::listen() })?;
    Ok(Prepared { system, signals })
}

/// Serves until SIGTERM, SIGINT or SIGQUIT; a second signal ends the wait for running requests.
#[must_use]
pub fn run(prepared: Prepared, settings: Settings) -> ExitCode {
    process_log::write_as(settings.log_format);
    raise_open_files();
    use_small_pages();
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let Prepared { system, signals } = prepared;
    let ended = system.block_on(async {
        let (stop, is_told) = oneshot::channel();
        let (stop_now, is_told_again) = oneshot::channel();
        let gateway = Gateway::build(settings).await?;
        actix_rt::spawn(follow(signals, gateway.reloads(), stop, stop_now));
        gateway
            .run(async { drop(is_told.await) }, async {
                drop(is_told_again.await)
            })
            .await
            .map_err(StartError::System)
    });
    let code = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process_log::write_always(&format!("gateway: {error}"));
            ExitCode::FAILURE
        }
    };
    process_log::flush(LAST_LINES);
    code
}

/// Raises the limit of open files to its maximum. Each connection takes one, and many systems start
/// at 1,024.
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
            let limit = current.map_or("no number".to_owned(), |files| files.to_string());
            log::warn!("the limit of open files stays at {limit}: {error}");
        }
    }
}

/// Disables transparent 2 MB pages for the heap, which the allocator requests. A connection has two
/// buffers of 8 kB and writes to the first few hundred bytes of each; only written pages should
/// take memory.
fn use_small_pages() {
    if let Err(error) = disable_transparent_huge_pages(true) {
        log::debug!("transparent huge pages stay as they are: {error}");
    }
}

/// Handles signals: the first to stop sends on `stop`, the second on `stop_now`.
async fn follow(
    mut signals: Signals,
    reloads: Arc<Reloads>,
    stop: oneshot::Sender<()>,
    stop_now: oneshot::Sender<()>,
) {
    let mut ways = [stop_now, stop].into_iter().collect::<Vec<_>>();
    loop {
        match signals.next().await {
            (name, Reaction::Stop) => {
                log::info!("{name} received");
                if let Some(way) = ways.pop() {
                    let _ = way.send(());
                }
            }
            (name, Reaction::Reload) => {
                log::info!("{name} received");
                reloads.ask(Waiting {
                    trigger: Trigger::Signal,
                    dry_run: false,
                    expected: None,
                    answer: None,
                });
            }
            (name, Reaction::Reopen) => {
                log::info!(
                    "{name}: logs go to standard output and standard error, no file is opened again"
                );
            }
            (name, Reaction::Ignore) => log::info!("{name} is ignored"),
        }
    }
}
