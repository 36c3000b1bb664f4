//! The binary `origin`: the reference backend and its health check, configured by the environment.
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use env_logger::Env;
use postern_origin::{RequireSharedSecret, demo};
use postern_shared::signals::{Reaction, Signals};
use tokio::sync::oneshot;

const HELP: &str = "\
The reference backend behind Postern: it serves only what brings the shared secret.

Usage: origin [COMMAND]

Commands:
  (none)       Serve until SIGTERM, SIGINT or SIGQUIT; at once at the second one
  healthcheck  Ask the server on ORIGIN_LISTEN whether it is up; exit 0 if so, 1 if not

Options:
  -h, --help     Print this help
  -V, --version  Print the version

Environment:
  SHARED_SECRET           The secret that the gateway sends; at least 16 bytes. Unset: all but /healthz gets 500
  SHARED_SECRET_PREVIOUS  A second accepted secret, while secrets are rotated
  ORIGIN_LISTEN           IP address and port to listen on; default 127.0.0.1:9000, port 0 takes any free one
  RUST_LOG                Log filter; default info

A secret can be read from a file: name it in SHARED_SECRET_FILE or SHARED_SECRET_PREVIOUS_FILE instead.
";

/// Error that ends the process, with its exit code.
enum Failure {
    Setup(String),
    Run(String),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        [] => serve(),
        ["healthcheck"] => healthcheck(),
        ["-h" | "--help"] => print(HELP),
        ["-V" | "--version"] => print(concat!("origin ", env!("CARGO_PKG_VERSION"), "\n")),
        unknown => Err(Failure::Setup(format!(
            "unknown arguments {unknown:?}: see `origin --help`"
        ))),
    };
    let (message, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Setup(message)) => (message, ExitCode::from(2)),
        Err(Failure::Run(message)) => (message, ExitCode::FAILURE),
    };
    // Not through the log: a filter must not hide a failed start. A closed stderr cannot be
    // reported.
    let _ = writeln!(io::stderr(), "origin: {message}");
    code
}

fn serve() -> Result<(), Failure> {
    // An empty variable counts as unset.
    let filter = env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.trim().is_empty());
    env_logger::Builder::from_env(Env::default())
        .parse_filters(filter.as_deref().unwrap_or("info"))
        .init();
    let listen = listen_address()?;
    let guard = RequireSharedSecret::from_env().map_err(setup)?;
    let listener = TcpListener::bind(listen)
        .map_err(|error| run(format!("cannot listen on {listen}: {error}")))?;
    actix_rt::System::new()
        .block_on(async {
            let signals = Signals::listen()?;
            let (stop, is_told) = oneshot::channel();
            actix_rt::spawn(follow(signals, stop));
            demo::run(listener, guard, async { drop(is_told.await) }).await
        })
        .map_err(run)
}

/// Handles signals: the first stop request sends on `stop`, the second ends the process.
async fn follow(mut signals: Signals, stop: oneshot::Sender<()>) {
    let mut stop = Some(stop);
    loop {
        match signals.next().await {
            (name, Reaction::Stop) => match stop.take() {
                Some(stop) => drop(stop.send(())),
                None => {
                    log::warn!("{name} again: what runs is broken off");
                    std::process::exit(0);
                }
            },
            (name, Reaction::Reload) => {
                log::info!("{name} is ignored: the environment is read at start");
            }
            (name, Reaction::Reopen) => {
                log::info!("{name}: the log goes to standard error, no file is opened again");
            }
            (name, Reaction::Ignore) => log::info!("{name} is ignored"),
        }
    }
}

fn healthcheck() -> Result<(), Failure> {
    let listen = listen_address()?;
    if listen.port() == 0 {
        return Err(setup(
            "the health check needs an ORIGIN_LISTEN with the port that the server listens on, not 0",
        ));
    }
    demo::healthcheck(listen).map_err(|error| run(format!("no health on {listen}: {error}")))
}

fn listen_address() -> Result<SocketAddr, Failure> {
    let text = env::var_os("ORIGIN_LISTEN").map(|text| text.to_string_lossy().into_owned());
    demo::parse_listen(text.as_deref()).map_err(setup)
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(run)
}

fn setup(error: impl Display) -> Failure {
    Failure::Setup(error.to_string())
}

fn run(error: impl Display) -> Failure {
    Failure::Run(error.to_string())
}
