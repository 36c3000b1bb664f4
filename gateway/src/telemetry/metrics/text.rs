//! Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};

/// Media type of a page.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// Page being written.
#[derive(Debug, Default)]
pub struct Page(String);

/// Metric family being written. Each sample has its own labels.
#[derive(Debug)]
pub struct Family<'p> {
    page: &'p mut String,
    name: &'static str,
    kind: Kind,
}

/// Name and value of a label.
pub type Label<'l> = (&'static str, &'l str);

impl Page {
    /// Begins a family; it appears even without a sample.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {word}\n");
        Family {
            page: &mut self.0,
            name,
            kind,
        }
    }

    /// Writes a family with one unlabelled sample.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.known(name, kind, help, Some(value));
    }

    /// Writes the same, without a sample if the value is unknown.
    pub fn known(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &str,
        value: Option<impl Display>,
    ) {
        let mut family = self.family(name, kind, help);
        if let Some(value) = value {
            family.sample(&[], value);
        }
    }

    /// Writes a family with one label and a sample per value.
    pub fn by<L: AsRef<str>, V: Display>(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &str,
        label: &'static str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) {
        let mut family = self.family(name, kind, help);
        for (value, number) in samples {
            family.sample(&[(label, value.as_ref())], number);
        }
    }

    /// Returns the page.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Writes a sample; `value` is a finite number.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// Writes counters in the order of the values of `label`. Those of a histogram are its buckets,
    /// not cumulative, and its sum in microseconds. `group` is a label common to all.
    pub(crate) fn sums(
        &mut self,
        group: Option<Label<'_>>,
        label: Option<&'static str>,
        values: &[&str],
        sums: &[u64],
    ) {
        let group = group.as_slice();
        let mut cumulated: u64 = 0;
        for (value, sum) in values.iter().zip(sums) {
            let label = label.map(|label| (label, *value));
            match self.kind {
                Kind::Counter => self.line("", group, label, sum),
                Kind::Gauge => self.line("", group, label, sum.cast_signed()),
                Kind::Histogram if value.is_empty() => {
                    let (seconds, rest) = (sum / 1_000_000, sum % 1_000_000);
                    self.line("_sum", group, None, format_args!("{seconds}.{rest:06}"));
                    self.line("_count", group, None, cumulated);
                }
                Kind::Histogram => {
                    cumulated += sum;
                    self.line("_bucket", group, label, cumulated);
                }
            }
        }
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[Label<'_>],
        last: Option<Label<'_>>,
        value: impl Display,
    ) {
        self.page.push_str(self.name);
        self.page.push_str(suffix);
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            let _ = write!(self.page, "{separator}{name}=\"");
            for character in value.chars() {
                match character {
                    '\\' => self.page.push_str("\\\\"),
                    '"' => self.page.push_str("\\\""),
                    '\n' => self.page.push_str("\\n"),
                    other => self.page.push(other),
                }
            }
            self.page.push('"');
            separator = ',';
        }
        let end = if separator == ',' { "} " } else { " " };
        let _ = writeln!(self.page, "{end}{value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::counts::BUCKETS;

    #[test]
    fn labels_are_escaped_and_buckets_cumulated() {
        let mut page = Page::default();
        page.single("up", Kind::Gauge, "Whether.", 1);
        page.family("none", Kind::Counter, "Nothing.");
        page.family("texts", Kind::Counter, "Texts.")
            .sample(&[("a", "x\"y\\z\n"), ("b", "é")], 2);
        let mut sums = [0; BUCKETS.len()];
        (sums[0], sums[15], sums[16]) = (1, 2, 1_500_001);
        page.family("took", Kind::Histogram, "Time.").sums(
            Some(("r", "x")),
            Some("le"),
            &BUCKETS,
            &sums,
        );
        let text = page.finish();
        let head = "# HELP up Whether.\n# TYPE up gauge\nup 1\n# HELP none Nothing.\n# TYPE none counter\n";
        assert!(text.starts_with(head), "{text}");
        for line in [
            r#"texts{a="x\"y\\z\n",b="é"} 2"#,
            r#"took_bucket{r="x",le="0.0005"} 1"#,
            r#"took_bucket{r="x",le="30"} 1"#,
            r#"took_bucket{r="x",le="+Inf"} 3"#,
            r#"took_sum{r="x"} 1.500001"#,
            r#"took_count{r="x"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
