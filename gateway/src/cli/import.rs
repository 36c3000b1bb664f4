//! `gateway import`: imports consumers and keys from a file.
//!
//! Two passes. The first parses every line, digests its key and checks the lines for conflicts with
//! each other and with the store; good lines go to a temporary file, without any key. If no line is
//! bad, the second pass adds them, one transaction per batch. An import adds and never changes, so
//! it can be repeated.

mod progress;
mod summary;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Context;
use crate::cli::error::{CommandError, refuse_key, refuse_keys};
use crate::cli::import::progress::Progress;
use crate::cli::import::summary::Summary;
use crate::import::fields::Defaults;
use crate::import::format::{self, Format};
use crate::import::reading::{BadLine, Counted, ReadError, Rows};
use crate::import::seen::{Line, SeenLines};
use crate::import::spool::Spool;
use crate::import::{csv, jsonl, kong, nginx_map};
use crate::keys::{BucketName, Prefix, RouteName};
use crate::store::{ImportConflict, Stamp, Store, TransferRow, Verdict};

/// Import consumers and keys from CSV, JSON lines, Kong's declarative file or nginx maps.
#[derive(Debug, clap::Args)]
pub struct ImportArguments {
    /// File to import, or `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Format of the file. Default: detected from its name and beginning.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Bucket of lines without one.
    #[arg(long, value_name = "NAME", default_value_t)]
    bucket: BucketName,
    /// Check all lines without importing any.
    #[arg(long)]
    dry_run: bool,
    /// What to do with a line whose key belongs to another consumer, or whose consumer differs from
    /// the stored one.
    #[arg(long, value_enum, default_value = "fail")]
    on_duplicate: OnDuplicate,
    /// Import the good lines even if others are bad.
    #[arg(long)]
    skip_bad: bool,
    /// Accept keys of less than 16 characters, which can be guessed.
    #[arg(long)]
    allow_weak: bool,
    /// Import without the restrictions that have no equivalent here, such as rate limits; the
    /// summary lists them.
    #[arg(long)]
    skip_unsupported: bool,
    /// Ignore this CSV column or JSON member; repeatable.
    #[arg(long = "ignore-column", value_name = "NAME")]
    ignored: Vec<String>,
    /// Print the summary as a JSON object.
    #[arg(long)]
    json: bool,
    /// Number of lines per transaction. Gateways follow batches of this size without reloading all
    /// keys.
    #[arg(long, hide = true, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
}

/// Handling of a line that conflicts with the store or an earlier line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnDuplicate {
    /// Report as a bad line.
    Fail,
    /// Skip and count.
    Skip,
}

/// Runs the import.
pub async fn run(
    arguments: ImportArguments,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    refuse_key(
        &arguments.file.to_string_lossy(),
        context.prefix,
        "the name of a file",
    )?;
    refuse_key(
        arguments.bucket.as_str(),
        context.prefix,
        "the name of a bucket",
    )?;
    refuse_keys(
        arguments.ignored.iter().map(String::as_str),
        context.prefix,
        "the name of a column",
    )?;
    context.store.require_bucket(&arguments.bucket).await?;
    let mut import = Import {
        arguments,
        store: context.store,
        stamp: context.stamp,
        routes: context.routes,
        summary: Summary::default(),
    };
    let outcome = import.run(context.prefix).await;
    import
        .summary
        .print(import.arguments.json, &mut context.streams)?;
    if outcome.is_ok() && import.summary.is_all_there() {
        context.streams.remark(format_args!(
            "nothing was new: {} already has all rows. For a copy between two stores, check DATABASE_URL: it overrides the file of `--config`",
            context.store.location()
        ));
    }
    outcome
}

struct Import<'i> {
    arguments: ImportArguments,
    store: &'i Store,
    stamp: &'i Stamp,
    routes: &'i [String],
    summary: Summary,
}

impl Import<'_> {
    async fn run(&mut self, prefix: &Prefix) -> Result<(), CommandError> {
        self.summary.dry_run = self.arguments.dry_run;
        let defaults = Defaults {
            bucket: self.arguments.bucket.clone(),
            prefix: prefix.clone(),
            allow_weak: self.arguments.allow_weak,
            skip_unsupported: self.arguments.skip_unsupported,
            ignored: self.arguments.ignored.clone().into(),
        };
        let spool = self.check(&defaults).await?;
        if self.summary.bad_lines > 0 && !self.arguments.skip_bad {
            return Err(CommandError::BadLines(self.summary.bad_lines));
        }
        if self.arguments.dry_run {
            return Ok(());
        }
        // Ignored columns are gone already, and their names may equal those of known columns.
        let defaults = Defaults {
            ignored: Arc::default(),
            ..defaults
        };
        self.add(spool, defaults).await
    }

    /// First pass: reads every line and imports none.
    async fn check(&mut self, defaults: &Defaults) -> Result<Spool, CommandError> {
        let failed = |source| CommandError::Unread {
            file: self.arguments.file.display().to_string(),
            source,
        };
        let (source, length) = open(&self.arguments.file).map_err(failed)?;
        let bytes = Arc::new(AtomicU64::new(0));
        let (beginning, source) =
            format::look_at(Counted::new(source, Arc::clone(&bytes))).map_err(failed)?;
        let is_utf_16 = format::is_utf_16(&beginning);
        let format = self
            .arguments
            .format
            .or_else(|| Format::guess(&self.arguments.file, &beginning));
        drop(zeroize::Zeroizing::new(beginning));
        if is_utf_16 {
            let reason = "the file is UTF-16; save it as UTF-8, with or without a byte order mark";
            self.summary.bad(BadLine {
                line: 1,
                reason: reason.to_owned(),
            });
            // Nothing else in it is readable.
            return Err(CommandError::BadLines(1));
        }
        let format = format.ok_or(CommandError::UnknownFormat)?;
        self.summary.format = format
            .to_possible_value()
            .map(|value| value.get_name().to_owned());
        let mut rows = self.rows(format, source, defaults.clone());
        let progress = Progress::of_bytes("checking", length);
        let (mut spool, mut seen) = (Spool::new()?, SeenLines::default());
        let batch_rows = self.arguments.batch as usize;
        let mut batch = Vec::with_capacity(batch_rows);
        loop {
            let row = rows.next();
            let is_over = row.is_none();
            match row.transpose() {
                Ok(row) => batch.extend(row.and_then(|row| self.compare(row, &mut seen))),
                Err(ReadError::NotTaken(what)) => self.summary.not_taken(what),
                Err(ReadError::Bad(bad)) => {
                    self.summary.lines += 1;
                    self.summary.bad(bad);
                }
                Err(ReadError::Io(source)) => {
                    return Err(CommandError::Unread {
                        file: self.arguments.file.display().to_string(),
                        source,
                    });
                }
            }
            if batch.len() == batch_rows || is_over {
                self.classify(&batch, &mut spool).await?;
                batch.clear();
                progress.set(bytes.load(Ordering::Relaxed));
            }
            if is_over {
                progress.finish();
                return Ok(spool);
            }
        }
    }

    fn rows(&self, format: Format, source: impl Read + 'static, defaults: Defaults) -> Rows {
        match format {
            Format::Csv => csv::rows(source, defaults),
            Format::Jsonl => jsonl::rows(BufReader::new(source), defaults),
            Format::Kong => kong::rows(source, defaults, self.stamp.at),
            Format::NginxMap => nginx_map::rows(BufReader::new(source), defaults),
        }
    }

    /// Compares a line with earlier lines.
    fn compare(&mut self, row: TransferRow, seen: &mut SeenLines) -> Option<TransferRow> {
        self.summary.lines += 1;
        match seen.take(&row) {
            Ok(Line::New) => {
                if self.names_unknown_route(&row) {
                    self.summary.unknown_route(row.line);
                }
                return Some(row);
            }
            Ok(Line::Repeated) => self.summary.already += 1,
            Err(_) if self.arguments.on_duplicate == OnDuplicate::Skip => self.summary.skipped += 1,
            Err(reason) => self.summary.bad(BadLine {
                line: row.line,
                reason,
            }),
        }
        None
    }

    /// Whether the key of a line may be used on a route that these settings do not have.
    fn names_unknown_route(&self, row: &TransferRow) -> bool {
        let named = row
            .key
            .iter()
            .flat_map(|key| key.attributes.allowed_routes.iter());
        let is_known = |name: &str| self.routes.iter().any(|route| route == name);
        !self.routes.is_empty() && named.map(RouteName::as_str).any(|name| !is_known(name))
    }

    /// Compares a batch with the store and spools the new rows.
    async fn classify(
        &mut self,
        batch: &[TransferRow],
        spool: &mut Spool,
    ) -> Result<(), CommandError> {
        for (row, verdict) in batch.iter().zip(self.store.classify_import(batch).await?) {
            match verdict {
                Verdict::New => spool.push(row)?,
                Verdict::Already => self.summary.already += 1,
                Verdict::Conflict(conflict) => self.conflict(row.line, conflict),
            }
        }
        self.summary.new = spool.len();
        Ok(())
    }

    fn conflict(&mut self, line: u64, conflict: ImportConflict) {
        if self.arguments.on_duplicate == OnDuplicate::Skip && conflict != ImportConflict::NoBucket
        {
            self.summary.skipped += 1;
        } else {
            self.summary.bad(BadLine {
                line,
                reason: conflict.to_string(),
            });
        }
    }

    /// Second pass: adds the good lines in batches.
    async fn add(&mut self, spool: Spool, defaults: Defaults) -> Result<(), CommandError> {
        // From now on ^C ends the import between two batches. Before, it may end the process at any
        // moment.
        let mut interrupts = signal(SignalKind::interrupt())?;
        let progress = Progress::of_rows("importing", spool.len());
        let bad_before = self.summary.bad_lines;
        let mut spooled = spool.read(defaults)?;
        loop {
            let batch = spooled.next(self.arguments.batch as usize)?;
            if batch.is_empty() {
                break;
            }
            if is_interrupted(&mut interrupts) {
                return Err(CommandError::Interrupted);
            }
            let imported = self
                .store
                .import(&batch, self.stamp)
                .await
                .map_err(CommandError::ImportStopped)?;
            self.summary.consumers += imported.consumers;
            self.summary.keys += imported.keys;
            self.summary.already += imported.already;
            imported
                .conflicts
                .into_iter()
                .for_each(|(line, conflict)| self.conflict(line, conflict));
            progress.advance(batch.len() as u64);
        }
        progress.finish();
        if let Err(error) = self.store.empty_the_log().await {
            log::warn!("the import is done; the database's log could not be truncated: {error}");
        }
        // A concurrent change conflicts with lines that passed the check.
        if self.summary.bad_lines > bad_before && !self.arguments.skip_bad {
            return Err(CommandError::BadLinesLeft(self.summary.bad_lines));
        }
        Ok(())
    }
}

fn open(file: &Path) -> io::Result<(Box<dyn Read>, Option<u64>)> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(file)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a directory",
        ));
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

fn is_interrupted(interrupts: &mut Signal) -> bool {
    interrupts.recv().now_or_never().is_some()
}
