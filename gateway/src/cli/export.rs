//! `gateway export`: writes all consumers and keys in a format for `gateway import`. Digests, never
//! keys.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::cli::Context;
use crate::cli::error::{CommandError, refuse_keys};
use crate::import::column::Column;
use crate::import::line::{Line, cells, columns};
use crate::keys::BucketName;
use crate::store::{Store, TransferRow};

/// Export consumers and keys, with digests in place of the keys.
#[derive(Debug, clap::Args)]
pub struct ExportArguments {
    /// Only this bucket.
    #[arg(long, value_name = "NAME")]
    bucket: Option<BucketName>,
    /// Output format.
    #[arg(long, value_enum, default_value = "jsonl")]
    format: ExportFormat,
    /// Write to this new file, readable by its owner only, instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite an existing file.
    #[arg(long, requires = "out")]
    force: bool,
}

/// Output format of `gateway export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
}

/// Writer for exported rows.
enum Sink<W: Write> {
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
}

/// Runs the export.
pub async fn run(
    arguments: ExportArguments,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let ExportArguments {
        bucket,
        format,
        out,
        force,
    } = arguments;
    let named = bucket.as_ref().map(BucketName::as_str);
    refuse_keys(named, context.prefix, "the name of a bucket")?;
    let Some(path) = out else {
        export(bucket, format, context.store, &mut *context.streams.out).await?;
        return Ok(());
    };
    let failed = |source| CommandError::Unwritten {
        file: path.display().to_string(),
        source,
    };
    // Written to a temporary file and renamed: a file of this name is always complete.
    let beside = if force { beside(&path) } else { path.clone() };
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    let written = async {
        let rows = export(bucket, format, context.store, &file).await?;
        file.sync_all()?;
        if force {
            std::fs::rename(&beside, &path)?;
        }
        Ok::<_, CommandError>(rows)
    };
    match written.await {
        Ok(rows) => {
            context
                .streams
                .remark(format_args!("wrote {rows} lines to {}", path.display()));
            Ok(())
        }
        Err(error) => {
            // A partial export could be mistaken for a complete one.
            let _ = std::fs::remove_file(&beside);
            Err(error)
        }
    }
}

async fn export(
    bucket: Option<BucketName>,
    format: ExportFormat,
    store: &Store,
    out: impl Write,
) -> Result<u64, CommandError> {
    let mut sink = match format {
        ExportFormat::Jsonl => Sink::Jsonl(BufWriter::new(out)),
        ExportFormat::Csv => Sink::Csv(Box::new(csv::Writer::from_writer(BufWriter::new(out)))),
    };
    let mut export = store.export(bucket).await?;
    sink.begin()?;
    let mut count = 0;
    while let Some(rows) = export.next().await? {
        rows.iter().try_for_each(|row| sink.row(row))?;
        count += rows.len() as u64;
    }
    sink.finish()?;
    Ok(count)
}

impl<W: Write> Sink<W> {
    fn begin(&mut self) -> io::Result<()> {
        match self {
            Self::Jsonl(_) => Ok(()),
            Self::Csv(writer) => Ok(writer.write_record(columns().map(Column::as_str))?),
        }
    }

    fn row(&mut self, row: &TransferRow) -> io::Result<()> {
        match self {
            Self::Jsonl(writer) => {
                serde_json::to_writer(&mut *writer, &Line::of(row))?;
                writer.write_all(b"\n")
            }
            Self::Csv(writer) => Ok(writer.write_record(cells(&Line::of(row)))?),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Jsonl(mut writer) => writer.flush(),
            Self::Csv(mut writer) => writer.flush(),
        }
    }
}

/// Returns an unused name in the same directory.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    name.into()
}
