//! The command line: arguments become one command each.

pub mod audit;
pub mod buckets;
pub mod chart;
pub mod completions;
pub mod consumers;
mod context;
pub mod error;
pub mod export;
pub mod gateways;
pub mod healthcheck;
pub mod import;
mod in_force;
pub mod key_text;
pub mod keys;
pub mod leaks;
pub mod man;
pub mod output;
pub mod secret;
pub mod serve;
pub mod usage;
mod user;

pub use context::Context;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::cli::error::CommandError;
use crate::cli::keys::KeysCommand;
use crate::cli::output::Streams;
use crate::config::{self, Environment};
use crate::keys::{Prefix, token};
use crate::store::{Actor, Stamp, Store};
use crate::telemetry::process_log;

/// The exit code of bad usage and bad settings.
pub const EXIT_USAGE: u8 = 2;

/// An API-key gateway: authenticates keys, proxies to the origin, and proves to it that a request came through.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, arg_required_else_help = true)]
struct Arguments {
    /// The file with the settings [default: gateway.toml in the working directory, when it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Return without waiting until the gateways that run go by what was changed
    #[arg(long, global = true)]
    no_wait: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM, SIGINT or SIGQUIT
    Serve,
    /// Check the settings and print what is in force, with secrets redacted
    Check,
    /// Make secrets
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Manage buckets, the namespaces of consumers
    #[command(subcommand)]
    Buckets(buckets::BucketsCommand),
    /// Manage consumers, to whom keys belong
    #[command(subcommand)]
    Consumers(consumers::ConsumersCommand),
    /// Manage API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show who did what to which key, when and from where
    Audit(audit::AuditCommand),
    /// List the gateways that follow the store
    Gateways(gateways::GatewaysCommand),
    /// Import consumers and keys from CSV, JSON lines, Kong's declarative file or nginx maps
    Import(import::ImportArguments),
    /// Export consumers and keys, with digests in place of the keys
    Export(export::ExportArguments),
    /// Show what was done with keys, by hours or days
    Usage(usage::UsageCommand),
    /// Ask a running gateway whether it is ready; exit 0 if so, 1 if not
    Healthcheck {
        /// Ask only whether the process answers: it does, too, while it waits for its database
        #[arg(long)]
        live: bool,
    },
    /// Print the completion script of a shell
    Completions(completions::CompletionsArguments),
    /// Write the manual pages of all commands to a directory
    Man(man::ManArguments),
}

/// Parses the arguments of the process and does what they say.
#[must_use]
pub fn start() -> ExitCode {
    let arguments = match parse_arguments() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    if let Command::Keys(command) = &arguments.command
        && arguments.no_wait
        && command.waits_for_all()
    {
        eprintln!("gateway: `--wait` and `--no-wait` contradict each other: give one of them");
        return ExitCode::from(EXIT_USAGE);
    }
    // Before the settings are read: that logs, too.
    let started = match arguments.command {
        Command::Serve => process_log::start_queued(),
        _ => {
            process_log::start_direct();
            Ok(())
        }
    };
    if let Err(error) = started {
        eprintln!("gateway: the log cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    let file = arguments.config.as_deref();
    let environment = Environment::of_process();
    let with_store = OnStore {
        file,
        environment: &environment,
        is_waiting: !arguments.no_wait,
        missing: match arguments.command {
            Command::Import(_) => Missing::Made,
            _ => Missing::Refused,
        },
    };
    match arguments.command {
        Command::Serve => match config::load(file, &environment) {
            Ok(settings) => serve::run(settings),
            Err(problems) => {
                process_log::flush(serve::LAST_LINES);
                refuse(&problems)
            }
        },
        Command::Check => match config::load(file, &environment) {
            Ok(settings) => {
                print(&config::show(&settings.effective));
                for warning in &settings.warnings {
                    eprintln!("gateway: warning: {warning}");
                }
                if settings
                    .routes
                    .iter()
                    .any(|route| !route.demand.buckets.is_empty())
                {
                    eprintln!(
                        "gateway: note: whether the store has the buckets of routes is not checked here; a name that it has not \
                         lets no key in"
                    );
                }
                ExitCode::SUCCESS
            }
            Err(problems) => refuse(&problems),
        },
        Command::Secret(command) => secret::run(&command),
        Command::Buckets(command) => {
            with_store.run(async |context| buckets::run(command, context).await)
        }
        Command::Consumers(command) => {
            with_store.run(async |context| consumers::run(command, context).await)
        }
        Command::Keys(KeysCommand::Check(check)) => {
            with_prefix(file, &environment, |prefix, streams| {
                check.run(prefix, streams)
            })
        }
        Command::Keys(KeysCommand::Pattern(pattern)) => {
            with_prefix(file, &environment, |prefix, streams| {
                pattern.run(prefix, streams)
            })
        }
        Command::Keys(command) => with_store.run(async |context| keys::run(command, context).await),
        Command::Audit(command) => {
            with_store.run(async |context| audit::run(command, context).await)
        }
        Command::Gateways(command) => {
            with_store.run(async |context| gateways::run(&command, context).await)
        }
        Command::Import(arguments) => {
            with_store.run(async |context| import::run(arguments, context).await)
        }
        Command::Export(arguments) => {
            with_store.run(async |context| export::run(arguments, context).await)
        }
        Command::Usage(command) => with_store.run(async |context| {
            let screen = chart::Screen::of_process(|name| std::env::var(name).ok());
            command.run(screen, context).await
        }),
        Command::Completions(arguments) => {
            completions::run(&arguments, Arguments::command());
            ExitCode::SUCCESS
        }
        Command::Man(arguments) => man::run(&arguments, Arguments::command()),
        Command::Healthcheck { live } => match config::load_admin_door(file, &environment) {
            Ok(door) if live => healthcheck::run(&door, healthcheck::Question::Live),
            Ok(door) => healthcheck::run(&door, healthcheck::Question::Ready),
            Err(problems) => refuse(&problems),
        },
    }
}

/// The arguments of the process, or how it ends without. The parser repeats what it cannot read, so its message is looked
/// through for keys first: of any prefix, for which one is configured is not known yet.
fn parse_arguments() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        if token::contains_form_of_any(error.to_string().as_bytes()) {
            eprintln!(
                "gateway: an argument is not accepted, and it holds a whole key, so it is not shown; `--help` tells what is \
                 accepted. Your shell may remember the key: consider revoking it"
            );
            return ExitCode::from(EXIT_USAGE);
        }
        // Where its reader has gone, nobody misses it.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE))
    })
}

fn refuse(problems: &config::reader::Problems) -> ExitCode {
    eprint!("gateway: {problems}");
    ExitCode::from(EXIT_USAGE)
}

/// What a command on the store needs.
struct OnStore<'a> {
    file: Option<&'a std::path::Path>,
    environment: &'a Environment,
    /// Whether to return only once the gateways that run go by what was changed.
    is_waiting: bool,
    /// What is done where there is no store.
    missing: Missing,
}

/// What a command does where there is no store.
#[derive(Clone, Copy)]
enum Missing {
    /// It fails: what it would make there, no gateway would read.
    Refused,
    /// It makes one.
    Made,
}

impl OnStore<'_> {
    /// Opens the store and runs a command on it. What it changed, or found to be so already, is in force on the gateways that
    /// run when this returns; those of which that is not known are named.
    fn run(
        &self,
        command: impl AsyncFnOnce(&mut Context<'_>) -> Result<(), CommandError>,
    ) -> ExitCode {
        let settings = match config::load_store(self.file, self.environment) {
            Ok(settings) => settings,
            Err(problems) => return refuse(&problems),
        };
        let done: Result<(), CommandError> = actix_rt::System::new().block_on(async {
            let store = match self.missing {
                Missing::Made => Store::open(&settings.url).await?,
                Missing::Refused => Store::open_existing(&settings.url).await?,
            };
            let stamp = Stamp::now(Actor::command_line(Some(&user::name())));
            let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
            let mut context = Context {
                store: &store,
                prefix: &settings.prefix,
                stamp: &stamp,
                streams: Streams {
                    out: &mut out,
                    err: &mut err,
                },
            };
            let done = command(&mut context).await;
            // Also of a command that failed half-way, as an import may.
            if self.is_waiting && store.written().is_some() {
                in_force::wait(&mut context).await;
            }
            store.close().await;
            done
        });
        end(done)
    }
}

fn end(done: Result<(), CommandError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads no further has seen enough.
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs a command that needs to know only what keys begin with.
fn with_prefix(
    file: Option<&std::path::Path>,
    environment: &Environment,
    command: impl FnOnce(&Prefix, &mut Streams<'_>) -> Result<(), CommandError>,
) -> ExitCode {
    match config::load_prefix(file, environment) {
        Ok(prefix) => end(command(
            &prefix,
            &mut Streams {
                out: &mut io::stdout().lock(),
                err: &mut io::stderr().lock(),
            },
        )),
        Err(problems) => refuse(&problems),
    }
}

/// Prints to standard output; a reader that has gone is no failure.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
