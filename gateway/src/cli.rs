//! The command line: parses arguments and runs one command.

pub mod admin_client;
pub mod adoption;
mod allowance;
pub mod audit;
pub mod brake;
pub mod buckets;
pub mod chart;
pub mod check;
pub mod completions;
pub mod consumers;
mod context;
pub mod error;
pub mod export;
pub mod gateways;
pub mod healthcheck;
pub mod import;
mod in_force;
pub mod issuers;
pub mod jwt;
pub mod key_text;
pub mod keys;
pub mod leaks;
pub mod limits;
pub mod man;
pub mod output;
pub mod plans;
pub mod quotas;
pub mod reload;
mod running;
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
use crate::config::own::Registrations;
use crate::config::{self, Environment};
use crate::keys::{Prefix, token};
use crate::store::{Actor, Stamp, Store};
use crate::telemetry::process_log;

/// Exit code for bad usage and bad settings.
pub const EXIT_USAGE: u8 = 2;

/// An API-key gateway: authenticates keys, proxies to the origin, and proves to it that a request
/// came through.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, arg_required_else_help = true)]
struct Arguments {
    /// Settings file [default: gateway.toml in the working directory, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Return without waiting until the change is in force on the running gateways
    #[arg(long, global = true)]
    no_wait: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM, SIGINT or SIGQUIT
    Serve {
        /// Start with these settings, which `reload.last_good` kept, if those of the file cannot be
        /// used
        #[arg(long, value_name = "FILE")]
        last_good: Option<PathBuf>,
    },
    /// Check the settings and print the effective values, with secrets redacted
    Check(check::CheckArguments),
    /// Make a running gateway read its settings again; exit 0 if they are in force, 1 if they are
    /// refused, 2 if some need a restart
    Reload(reload::ReloadArguments),
    /// Generate secrets
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Manage buckets, the namespaces of consumers
    #[command(subcommand)]
    Buckets(buckets::BucketsCommand),
    /// Manage plans, bundles of scopes and numbers that consumers refer to
    #[command(subcommand)]
    Plans(plans::PlansCommand),
    /// Manage consumers, the owners of keys
    #[command(subcommand)]
    Consumers(consumers::ConsumersCommand),
    /// Manage API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show the audit log: who changed which key, when and from where
    Audit(audit::AuditCommand),
    /// List the gateways that follow the store
    Gateways(gateways::GatewaysCommand),
    /// Show or reset what is used of limits, as a running gateway counts it
    Limits(limits::LimitsCommand),
    /// Show what a consumer has used of its quotas, or change it
    Quotas(quotas::QuotasCommand),
    /// List who is braked for bad keys by a running gateway, or forgive an address
    Brake(brake::BrakeCommand),
    /// List the issuers of tokens and the state of their keys, as a running gateway has them
    Issuers(issuers::IssuersCommand),
    /// Explain tokens of issuers
    #[command(subcommand)]
    Jwt(jwt::JwtCommand),
    /// Import consumers and keys from CSV, JSON lines, Kong's declarative file or nginx maps
    Import(import::ImportArguments),
    /// Export consumers and keys, with digests in place of the keys
    Export(export::ExportArguments),
    /// Show the usage of keys, by hour or day
    Usage(usage::UsageCommand),
    /// Show who comes to routes that only observe
    #[command(subcommand)]
    Adoption(adoption::AdoptionCommand),
    /// Check whether a running gateway is ready; exit 0 if so, 1 if not
    Healthcheck {
        /// Check only whether the process responds; it does even while it waits for its database
        #[arg(long)]
        live: bool,
    },
    /// Print the completion script of a shell
    Completions(completions::CompletionsArguments),
    /// Write the manual pages of all commands to a directory
    Man(man::ManArguments),
}

/// Parses the process arguments and runs the command. `own` are the sections of settings that the
/// program registered.
#[must_use]
pub fn start(own: &Registrations) -> ExitCode {
    // Before anything else: a signal that comes early must not kill the gateway.
    let may_serve = std::env::args_os().any(|argument| argument == "serve");
    let prepared = may_serve.then(serve::prepare);
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
    // Before loading the settings, which logs too.
    let started = match arguments.command {
        Command::Serve { .. } => process_log::start_queued(),
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
        Command::Serve { last_good } => {
            match serve::load(file, last_good.as_deref(), &environment, own) {
                Ok(settings) => match prepared.unwrap_or_else(serve::prepare) {
                    Ok(prepared) => serve::run(prepared, settings),
                    Err(error) => {
                        process_log::write_always(&format!(
                            "gateway: no signal can be handled: {error}"
                        ));
                        process_log::flush(serve::LAST_LINES);
                        ExitCode::FAILURE
                    }
                },
                Err(problems) => {
                    process_log::flush(serve::LAST_LINES);
                    refuse(&problems)
                }
            }
        }
        Command::Check(arguments) => check::run(&arguments, file, &environment, own),
        Command::Reload(arguments) => reload::run(&arguments, file, &environment),
        Command::Limits(command) => limits::run(&command, file, &environment),
        Command::Quotas(command) => quotas::run(&command, file, &environment),
        Command::Brake(command) => brake::run(&command, file, &environment),
        Command::Issuers(command) => issuers::run(&command, file, &environment),
        Command::Jwt(command) => jwt::run(&command, file, &environment, own),
        Command::Secret(command) => secret::run(&command),
        Command::Plans(command) => {
            with_store.run(async |context| plans::run(command, context).await)
        }
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
        Command::Adoption(command) => with_store.run(async |context| command.run(context).await),
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

/// Parses the process arguments, or returns the exit code. The parser's message quotes what it
/// cannot parse, so it is searched for keys first; of any prefix, because the configured one is not
/// known yet.
fn parse_arguments() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        if token::contains_key_of_any_prefix(error.to_string().as_bytes()) {
            eprintln!(
                "gateway: invalid argument, not shown because it contains a whole key; `--help` lists the valid ones. The key may be in your shell's history: consider revoking it"
            );
            return ExitCode::from(EXIT_USAGE);
        }
        // A closed standard error loses nothing.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE))
    })
}

fn refuse(problems: &config::reader::Problems) -> ExitCode {
    eprint!("gateway: {problems}");
    ExitCode::from(EXIT_USAGE)
}

/// Options of a command on the store.
struct OnStore<'a> {
    file: Option<&'a std::path::Path>,
    environment: &'a Environment,
    /// Whether to wait until the change is in force on the running gateways.
    is_waiting: bool,
    /// Behaviour without a store.
    missing: Missing,
}

/// Behaviour of a command without a store.
#[derive(Clone, Copy)]
enum Missing {
    /// Fail: no gateway would read a store created here.
    Refused,
    /// Create one.
    Made,
}

impl OnStore<'_> {
    /// Opens the store and runs a command on it. On return its change, or the state that it found,
    /// is in force on the running gateways; unconfirmed gateways are named.
    fn run(
        &self,
        command: impl AsyncFnOnce(&mut Context<'_>) -> Result<(), CommandError>,
    ) -> ExitCode {
        let settings = match config::load_command(self.file, self.environment) {
            Ok(settings) => settings,
            Err(problems) => return refuse(&problems),
        };
        let done: Result<(), CommandError> = actix_rt::System::new().block_on(async {
            let store = match self.missing {
                Missing::Made => Store::open(&settings.store.url).await?,
                Missing::Refused => Store::open_existing(&settings.store.url).await?,
            };
            let stamp = Stamp::now(Actor::command_line(Some(&user::name())));
            let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
            let mut context = Context {
                store: &store,
                prefix: &settings.store.prefix,
                routes: &settings.routes,
                stamp: &stamp,
                streams: Streams {
                    out: &mut out,
                    err: &mut err,
                },
            };
            let done = command(&mut context).await;
            // Also after a partial failure, for example of an import.
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
        // The reader closed the pipe on purpose.
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs a command that needs only the key prefix.
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

/// Prints to standard output; ignores a closed pipe.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
