//! `gateway usage`: prints the usage of keys, as a table with bars or as JSON.

use std::time::Duration;

use crate::cli::Context;
use crate::cli::buckets::InBucket;
use crate::cli::chart::{Screen, bar};
use crate::cli::consumers;
use crate::cli::error::{CommandError, refuse_key};
use crate::cli::output::{Streams, Table, moment, or_dash};
use crate::keys::{KeyId, UnixMillis, UsageCounts, When};
use crate::store::{Period, TopKey, UsageOf, UsageRange, UsageReport};
use crate::views::UsageView;

/// Default length of the range.
const DEFAULT_SINCE: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of listed keys.
const MAX_TOP_KEYS: i64 = 1_000;

/// Usage to print.
#[derive(Debug, clap::Args)]
pub struct UsageCommand {
    /// Only keys of this consumer.
    #[arg(long, value_name = "NAME|ID", conflicts_with = "key")]
    consumer: Option<String>,
    #[command(flatten)]
    bucket: InBucket,
    /// Only the key with this id, `key_…`; never the key itself.
    // Validated after the check for keys: the parser would quote an invalid value.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Start of the range: an age such as `24h` or `30d`, a date, or a moment [default: 24h before
    /// the end].
    #[arg(long, value_name = "WHEN", value_parser = When::parse, alias = "from")]
    since: Option<When>,
    /// End of the range; default: now.
    #[arg(long, value_name = "WHEN", value_parser = When::parse, alias = "to")]
    until: Option<When>,
    /// Granularity; hours and days are in UTC.
    #[arg(long, value_enum, default_value = "hour")]
    by: By,
    /// Also list this many keys with the most requests.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=MAX_TOP_KEYS))]
    top: Option<u32>,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Granularity of the report.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum By {
    Hour,
    Day,
}

impl UsageCommand {
    /// Runs the command.
    pub async fn run(self, screen: Screen, context: &mut Context<'_>) -> Result<(), CommandError> {
        let of = match (&self.consumer, &self.key) {
            (Some(consumer), _) => {
                UsageOf::Consumer(consumers::find(consumer, &self.bucket, context).await?.id)
            }
            (None, Some(key)) => {
                refuse_key(key, context.prefix, "the id of a key, `key_…`")?;
                UsageOf::Key(key.parse::<KeyId>()?)
            }
            (None, None) => match self.bucket.given(context.prefix)? {
                Some(bucket) => UsageOf::Bucket(bucket),
                None => UsageOf::All,
            },
        };
        if let UsageOf::Bucket(bucket) = &of {
            context.store.require_bucket(bucket).await?;
        }
        let range = self.range(context.stamp.at)?;
        let report = context.store.usage(&of, range).await?;
        let top = match self.top {
            Some(limit) => Some(context.store.top_keys(&of, range, limit).await?),
            None => None,
        };
        if self.json {
            context
                .streams
                .json(&UsageView::of(&report, top.as_deref()))?;
        } else {
            print_periods(&report, screen, &mut context.streams)?;
            if let Some(top) = &top {
                print_top(top, &mut context.streams)?;
            }
        }
        Ok(context.streams.out.flush()?)
    }

    fn range(&self, now: UnixMillis) -> Result<UsageRange, CommandError> {
        let by = match self.by {
            By::Hour => Period::Hour,
            By::Day => Period::Day,
        };
        // The current millisecond is included.
        let to = self
            .until
            .map_or(UnixMillis(now.0.saturating_add(1)), |until| until.ago(now));
        let from = self
            .since
            .map_or_else(|| When::Span(DEFAULT_SINCE).ago(to), |since| since.ago(now));
        UsageRange::new(from, to, by)
            .map_err(|error| CommandError::InvalidArgument(error.to_string()))
    }
}

fn print_periods(
    report: &UsageReport,
    screen: Screen,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let most = report
        .periods
        .iter()
        .map(|period| period.counts.requests)
        .max()
        .unwrap_or_default();
    let heading = ["BEGINNING", "REQUESTS", "REFUSED", "IN", "OUT"];
    let mut rows: Vec<[String; 5]> = report
        .periods
        .iter()
        .map(|period| cells(beginning(period.start, report.by), &period.counts))
        .collect();
    rows.push(cells("total".to_owned(), &report.total));
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .chain([heading[column].len()])
                .max()
                .unwrap_or_default()
        })
        .collect();
    let room = screen
        .width
        .saturating_sub(widths.iter().sum::<usize>() + 2 * widths.len() + 1);
    let counts = report
        .periods
        .iter()
        .map(|period| period.counts.requests)
        .map(Some)
        .chain([None]);
    writeln!(
        streams.out,
        "{}",
        line(&heading.map(str::to_owned), &widths)
    )?;
    for (row, requests) in rows.iter().zip(counts) {
        let bar = requests
            .map(|requests| bar(requests, most, room, screen.unicode))
            .unwrap_or_default();
        writeln!(
            streams.out,
            "{}",
            format!("{}  {bar}", line(row, &widths)).trim_end()
        )?;
    }
    Ok(())
}

fn print_top(top: &[TopKey], streams: &mut Streams<'_>) -> Result<(), CommandError> {
    let mut table = Table::new(["KEY", "CONSUMER", "REQUESTS", "REFUSED", "IN", "OUT"]);
    for TopKey {
        key,
        consumer,
        counts,
    } in top
    {
        let [key, requests, refusals, bytes_in, bytes_out] = cells(key.to_string(), counts);
        table.row([
            key,
            or_dash(consumer.as_deref().unwrap_or_default()),
            requests,
            refusals,
            bytes_in,
            bytes_out,
        ]);
    }
    writeln!(streams.out)?;
    Ok(table.flush(streams.out)?)
}

/// Formats a row: first cell left-aligned, numbers right-aligned.
fn line(cells: &[String; 5], widths: &[usize]) -> String {
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths.iter().copied()).enumerate() {
        line.push_str(&if column == 0 {
            format!("{cell:width$}")
        } else {
            format!("  {cell:>width$}")
        });
    }
    line
}

fn cells(first: String, counts: &UsageCounts) -> [String; 5] {
    let UsageCounts {
        requests,
        refusals,
        bytes_in,
        bytes_out,
    } = *counts;
    [
        first,
        grouped(requests),
        grouped(refusals),
        bytes(bytes_in),
        bytes(bytes_out),
    ]
}

/// Formats the beginning of a period as briefly as possible.
fn beginning(start: UnixMillis, by: Period) -> String {
    let whole = moment(start);
    match (by, whole.split_once('T')) {
        (Period::Day, Some((day, _))) => day.to_owned(),
        (Period::Hour, Some((day, time))) => format!("{day} {}", time.get(..5).unwrap_or(time)),
        (_, None) => whole,
    }
}

/// Formats `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats `12.3 MB`, in powers of a thousand.
fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1000 {
        return format!("{number} B");
    }
    // Tenths of the unit, rounded down, so that the output never exceeds the count.
    let (mut unit, mut rest) = (0, number);
    while rest >= 1_000_000 {
        (unit, rest) = (unit + 1, rest / 1000);
    }
    format!(
        "{}.{} {}",
        rest / 1000,
        rest % 1000 / 100,
        UNITS.get(unit).unwrap_or(&"EB")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PeriodUsage;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text, size) in [
            (0, "0", "0 B"),
            (999, "999", "999 B"),
            (1_000, "1,000", "1.0 kB"),
            (999_999, "999,999", "999.9 kB"),
            (12_345_678, "12,345,678", "12.3 MB"),
            (u64::MAX, "18,446,744,073,709,551,615", "18.4 EB"),
        ] {
            assert_eq!(
                (grouped(number), bytes(number)),
                (text.to_owned(), size.to_owned())
            );
        }
    }

    #[test]
    fn the_chart_fits_the_screen() {
        let hour = Period::Hour.millis();
        let period = |index: i64, requests| PeriodUsage {
            start: UnixMillis(index * hour),
            counts: UsageCounts {
                requests,
                refusals: requests / 100,
                bytes_in: 0,
                bytes_out: requests * 1000,
            },
        };
        let report = UsageReport {
            from: UnixMillis(0),
            to: UnixMillis(3 * hour),
            by: Period::Hour,
            periods: vec![period(0, 0), period(1, 1_000), period(2, 500)],
            total: UsageCounts {
                requests: 1_500,
                refusals: 15,
                bytes_in: 0,
                bytes_out: 1_500_000,
            },
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams {
            out: &mut out,
            err: &mut err,
        };
        print_periods(
            &report,
            Screen {
                width: 63,
                unicode: false,
            },
            &mut streams,
        )
        .unwrap();
        let expected = "BEGINNING         REQUESTS  REFUSED   IN       OUT\n\
                        1970-01-01 00:00         0        0  0 B       0 B\n\
                        1970-01-01 01:00     1,000       10  0 B    1.0 MB  ##########\n\
                        1970-01-01 02:00       500        5  0 B  500.0 kB  #####\n\
                        total                1,500       15  0 B    1.5 MB\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
