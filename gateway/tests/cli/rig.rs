//! A store with a command line.

use std::fs;
use std::io::{self, ErrorKind, Write};

use clap::Parser;
use postern_gateway::cli::Context;
use postern_gateway::cli::audit::{self, AuditCommand};
use postern_gateway::cli::buckets::{self, BucketsCommand};
use postern_gateway::cli::consumers::{self, ConsumersCommand};
use postern_gateway::cli::error::CommandError;
use postern_gateway::cli::export::{self, ExportArguments};
use postern_gateway::cli::import::{self, ImportArguments};
use postern_gateway::cli::keys::{self, KeysCommand};
use postern_gateway::cli::output::Streams;
use postern_gateway::cli::plans::{self, PlansCommand};
use postern_gateway::keys::{Prefix, UnixMillis};
use postern_gateway::store::{Actor, Stamp, Store};
use serde_json::Value;
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::library_text::assert_plain;

#[derive(Parser)]
enum Cli {
    #[command(subcommand)]
    Keys(KeysCommand),
    #[command(subcommand)]
    Consumers(ConsumersCommand),
    #[command(subcommand)]
    Buckets(BucketsCommand),
    #[command(subcommand)]
    Plans(PlansCommand),
    Audit(AuditCommand),
    Import(ImportArguments),
    Export(ExportArguments),
}

/// A store with a command line. A command is written as in a shell: spaces separate its words, and
/// `'…'` holds one word together.
pub(crate) struct Shell {
    pub(crate) directory: TempDir,
    pub(crate) store: Store,
    /// Names of the routes of the settings.
    pub(crate) routes: Vec<String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A pipe whose reader went away.
pub(crate) struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(ErrorKind::BrokenPipe.into())
    }
}

pub(crate) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

impl Shell {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/gateway.db", directory.path().display());
        Self {
            store: Store::open(&url.parse().unwrap()).await.unwrap(),
            directory,
            routes: vec!["orders".to_owned()],
        }
    }

    /// Runs `gateway COMMAND`.
    pub(crate) async fn run(&self, command: impl AsRef<str>) -> Ended {
        let mut out = Vec::new();
        let mut err = Vec::new();
        let code = match self.run_into(command.as_ref(), &mut out, &mut err).await {
            Ok(()) => 0,
            Err(error) => {
                writeln!(err, "{error}").unwrap();
                error.exit_code()
            }
        };
        let out = String::from_utf8(out).unwrap();
        let err = String::from_utf8(err).unwrap();
        // An export repeats texts of its rows.
        if !command.as_ref().starts_with("export") {
            assert_plain(&out);
        }
        assert_plain(&err);
        Ended { code, out, err }
    }

    pub(crate) async fn run_into(
        &self,
        command: &str,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), CommandError> {
        let arguments = ["gateway".to_owned()].into_iter().chain(words(command));
        let cli = Cli::try_parse_from(arguments)
            .map_err(|error| CommandError::InvalidArgument(error.to_string()))?;
        let stamp = Stamp {
            at: NOW,
            ..Stamp::now(Actor::command_line(None))
        };
        let context = &mut Context {
            routes: &self.routes,
            store: &self.store,
            prefix: &Prefix::default(),
            stamp: &stamp,
            streams: Streams { out, err },
        };
        match cli {
            Cli::Keys(command) => keys::run(command, context).await,
            Cli::Consumers(command) => consumers::run(command, context).await,
            Cli::Buckets(command) => buckets::run(command, context).await,
            Cli::Plans(command) => plans::run(command, context).await,
            Cli::Audit(command) => audit::run(command, context).await,
            Cli::Import(arguments) => import::run(arguments, context).await,
            Cli::Export(arguments) => export::run(arguments, context).await,
        }
    }

    /// Runs a command that succeeds, and reads its JSON.
    pub(crate) async fn json(&self, command: impl AsRef<str>) -> Value {
        let ended = self.run(format!("{} --json", command.as_ref())).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        serde_json::from_str(&ended.out).unwrap()
    }

    /// Runs commands that fail, a line each: `EXIT CODE: COMMAND => PART OF THE MESSAGE`. Returns
    /// all messages.
    pub(crate) async fn refuses(&self, table: &str) -> String {
        let mut messages = String::new();
        for line in table.trim().lines() {
            let (code, rest) = line.trim().split_once(": ").unwrap();
            let (command, message) = rest.split_once(" => ").unwrap();
            let ended = self.run(command).await;
            assert_eq!(ended.code.to_string(), code, "{command}: {ended:?}");
            assert!(ended.err.contains(message), "{command}: {ended:?}");
            assert_eq!(ended.out, "", "{command}");
            messages.push_str(&ended.err);
        }
        messages
    }

    /// Runs an import, and reads its summary. It takes short keys too.
    pub(crate) async fn import(&self, file: &str, options: &str) -> (u8, Value) {
        let command = format!("import {file} --json --allow-weak {options}");
        let ended = self.run(command).await;
        let summary = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
        (ended.code, summary)
    }

    pub(crate) async fn exported(&self) -> String {
        let ended = self.run("export").await;
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out
    }

    pub(crate) async fn sql(&self, statement: &'static str) -> i64 {
        let file = self.directory.path().join("gateway.db");
        let mut raw = SqliteConnection::connect(file.to_str().unwrap())
            .await
            .unwrap();
        sqlx::query_scalar(statement)
            .fetch_one(&mut raw)
            .await
            .unwrap()
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Whether any file beside the database, but for `but`, or the database itself holds these bytes.
    pub(crate) fn any_file_holds(&self, text: &[u8], but: &str) -> bool {
        let files = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|file| file.unwrap().path());
        files.filter(|file| !file.ends_with(but)).any(|file| {
            let bytes = fs::read(file).unwrap();
            bytes.windows(text.len()).any(|window| window == text)
        })
    }

    /// Whether any file of the database holds these bytes.
    pub(crate) fn database_holds(&self, text: &[u8]) -> bool {
        self.any_file_holds(text, "no other file")
    }
}

/// Whether a line has these words, however it is aligned.
pub(crate) fn has_line(shown: &str, words: &str) -> bool {
    let mut lines = shown.lines();
    lines.any(|line| line.split_whitespace().eq(words.split_whitespace()))
}

/// Splits a command at its spaces; `'…'` holds one word together.
pub(crate) fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = command.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap(),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}
