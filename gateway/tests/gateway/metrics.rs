//! `/metrics`: well formed, true, bounded, and documented.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;

use crate::certificates::Authority;
use crate::client::{Connection, exchange, get};
use crate::nowhere::nowhere;
use crate::origin::Origin;
use crate::rig::{Process, Rig};
use crate::running::eventually;

type Labels = BTreeMap<String, String>;

/// A page, taken apart as strictly as the format allows (Prometheus text format 0.0.4).
#[derive(Debug)]
pub(crate) struct Scrape {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
    text: String,
}

impl Scrape {
    pub(crate) fn of(admin: SocketAddr) -> Self {
        let response = get(admin, "/metrics", &[]);
        assert_eq!(response.status, 200);
        assert_eq!(
            response.header("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        Self::parse(response.text())
    }

    /// The sum of the samples that have these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.known_value(name, labels);
        found.unwrap_or_else(|| panic!("no {name} with {labels:?}"))
    }

    /// The sum of the samples that have these labels; `None` without one.
    fn known_value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |found: &Labels| {
            labels
                .iter()
                .all(|(name, value)| found.get(*name).is_some_and(|found| found == value))
        };
        let mut found = self
            .samples
            .iter()
            .filter(|((sample, found), _)| sample == name && has(found))
            .peekable();
        found.peek()?;
        Some(found.map(|(_, value)| value).sum())
    }

    fn parse(text: String) -> Self {
        assert!(text.ends_with('\n'));
        let mut page = Self {
            kinds: BTreeMap::new(),
            samples: BTreeMap::new(),
            text,
        };
        let mut family = String::new();
        let mut lines = page.text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty() && is_name(name), "{line}");
                let kind = lines
                    .next()
                    .unwrap()
                    .strip_prefix(&format!("# TYPE {name} "))
                    .unwrap();
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{kind}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                assert!(
                    page.kinds
                        .insert(name.to_owned(), kind.to_owned())
                        .is_none(),
                    "{name} comes twice"
                );
                family = name.to_owned();
                continue;
            }
            let (name, labels, value) = sample(line);
            let suffix = name
                .strip_prefix(&family)
                .unwrap_or_else(|| panic!("{line} is not of {family}"));
            let suffixes: &[&str] = if page.kinds[&family] == "histogram" {
                &["_bucket", "_sum", "_count"]
            } else {
                &[""]
            };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(
                page.samples.insert((name, labels), value).is_none(),
                "{line} comes twice"
            );
        }
        page.check_histograms();
        page
    }

    fn check_histograms(&self) {
        for family in self
            .kinds
            .iter()
            .filter(|(_, kind)| *kind == "histogram")
            .map(|(name, _)| name)
        {
            let mut series = BTreeMap::<Labels, Vec<(f64, f64)>>::new();
            for ((_, labels), count) in self
                .samples
                .iter()
                .filter(|((name, _), _)| *name == format!("{family}_bucket"))
            {
                let mut labels = labels.clone();
                let bound = labels
                    .remove("le")
                    .unwrap()
                    .replace("+Inf", "inf")
                    .parse()
                    .unwrap();
                series.entry(labels).or_default().push((bound, *count));
            }
            for (labels, mut buckets) in series {
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(
                    buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1),
                    "{family} {labels:?}: {buckets:?}"
                );
                let (bound, count) = *buckets.last().unwrap();
                assert_eq!(
                    (bound, count),
                    (
                        f64::INFINITY,
                        self.samples[&(format!("{family}_count"), labels.clone())]
                    )
                );
                assert!(
                    self.samples
                        .contains_key(&(format!("{family}_sum"), labels))
                );
            }
        }
    }

    /// The labels of a family, without the one of buckets.
    fn labels(&self, family: &str) -> BTreeSet<String> {
        let of_family = self.samples.keys().filter(|(name, _)| {
            name.strip_prefix(family)
                .is_some_and(|suffix| matches!(suffix, "" | "_bucket" | "_sum" | "_count"))
        });
        of_family
            .flat_map(|(_, labels)| labels.keys().filter(|name| *name != "le").cloned())
            .collect()
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
}

fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
    assert!(value.is_finite(), "{line}");
    let Some((name, labels)) = series.split_once('{') else {
        assert!(is_name(series), "{line}");
        return (series.to_owned(), Labels::new(), value);
    };
    assert!(is_name(name), "{line}");
    let mut rest = labels.strip_suffix('}').unwrap();
    let mut found = Labels::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap();
        assert!(is_name(label), "{line}");
        // No label of these tests has an escape.
        let (text, after) = after.split_once('"').unwrap();
        assert!(
            !text.contains('\\') && found.insert(label.to_owned(), text.to_owned()).is_none(),
            "{line}"
        );
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    (name.to_owned(), found, value)
}

/// A gateway with two routes whose origin answers as the path says, and one whose origin is away.
fn rig(origin: &Origin) -> Rig {
    let away = nowhere();
    let file = format!(
        "[[routes]]\nname = \"api\"\npath = \"/\"\n\n[[routes]]\nname = \"orders\"\npath = \"/orders\"\nscopes = [\"orders\"]\n\n\
         [[routes]]\nname = \"away\"\npath = \"/away\"\nupstream = \"away\"\n\n[[upstreams]]\nname = \"away\"\ntargets = [\"http://{away}\"]\n"
    );
    Rig::with(&origin.url(), &file)
}

fn origin() -> Origin {
    Origin::answering(|request, socket| {
        let leaked = if request.line.contains("/leak") {
            "x-shared-secret: oops\r\n"
        } else {
            ""
        };
        let status = if request.line.contains("/broken") {
            "503 Service Unavailable"
        } else {
            "200 OK"
        };
        let _ = socket.write_all(
            format!("HTTP/1.1 {status}\r\n{leaked}content-length: 5\r\n\r\nhello").as_bytes(),
        );
    })
}

#[test]
fn what_happens_is_counted() {
    let origin = origin();
    let rig = rig(&origin);
    let before = Scrape::of(rig.admin);
    assert_eq!(before.value("postern_requests_total", &[]), 0.0);
    assert!(
        !before.text.contains("route=\"orders\""),
        "a route that was not used has no series"
    );
    let key = rig.key("acme", &[]);
    // Making the key takes requests too, as many as it takes the gateway to hear of it.
    eventually("they have ended", || {
        Scrape::of(rig.admin).value("postern_open_connections", &[]) == 0.0
    });
    let made = Scrape::of(rig.admin);
    let gained = |now: &Scrape, name: &str, labels: &[(&str, &str)]| {
        // A route has no sample before its first request.
        now.value(name, labels) - made.known_value(name, labels).unwrap_or_default()
    };

    for (path, status) in [
        ("/a", 200),
        ("/b", 200),
        ("/leak", 200),
        ("/broken", 503),
        ("/orders/1", 403),
        ("/away", 502),
    ] {
        assert_eq!(rig.get(path, &key).status, status, "{path}");
    }
    let post = format!(
        "POST / HTTP/1.1\r\nhost: h\r\n{}\r\ncontent-length: 7\r\n\r\nabcdefg",
        key.header()
    );
    assert_eq!(exchange(rig.public, post).status, 200);
    // Asked for and then sent, and still one request.
    let mut asking = Connection::open(rig.public);
    asking.send(format!(
        "POST / HTTP/1.1\r\nhost: h\r\n{}\r\ncontent-length: 7\r\nexpect: 100-continue\r\n\r\n",
        key.header()
    ));
    assert_eq!(asking.head().status, 100);
    asking.send("abcdefg");
    assert_eq!(asking.response().status, 200);
    drop(asking);
    assert_eq!(get(rig.public, "/", &[]).status, 401);
    assert_eq!(
        exchange(rig.public, "GET /%2f HTTP/1.1\r\nhost: h\r\n\r\n").status,
        400
    );
    // Refused beneath HTTP, before there is a request.
    assert_eq!(
        exchange(rig.public, "GET / HTTP/1.1\nhost: h\n\n").status,
        400
    );

    let mut now = Scrape::of(rig.admin);
    eventually("all have ended", || {
        now = Scrape::of(rig.admin);
        gained(&now, "postern_requests_total", &[]) >= 11.0
            && now.value("postern_open_connections", &[]) == 0.0
    });
    for (name, labels, wanted) in [
        ("postern_requests_total", &[][..], 11.0),
        (
            "postern_requests_total",
            &[("route", "api"), ("status", "2xx")],
            5.0,
        ),
        (
            "postern_requests_total",
            &[("route", "api"), ("status", "4xx")],
            1.0,
        ),
        (
            "postern_requests_total",
            &[("route", ""), ("status", "4xx")],
            2.0,
        ),
        (
            "postern_requests_total",
            &[("route", "api"), ("status", "5xx")],
            1.0,
        ),
        (
            "postern_requests_total",
            &[("route", "orders"), ("status", "4xx")],
            1.0,
        ),
        (
            "postern_requests_total",
            &[("route", "away"), ("status", "5xx")],
            1.0,
        ),
        ("postern_refusals_total", &[], 5.0),
        (
            "postern_refusals_total",
            &[("code", "api_key_missing")],
            1.0,
        ),
        (
            "postern_refusals_total",
            &[("code", "insufficient_scope")],
            1.0,
        ),
        (
            "postern_refusals_total",
            &[("code", "origin_unreachable")],
            1.0,
        ),
        ("postern_refusals_total", &[("code", "ambiguous_path")], 1.0),
        (
            "postern_client_faults_total",
            &[("fault", "bare_line_feed")],
            1.0,
        ),
        (
            "postern_request_duration_seconds_count",
            &[("route", "api")],
            7.0,
        ),
        (
            "postern_origin_duration_seconds_count",
            &[("route", "api")],
            6.0,
        ),
        ("postern_request_bytes_total", &[], 14.0),
        ("postern_secret_leaked_total", &[], 1.0),
        (
            "postern_upstream_attempts_failed_total",
            &[("upstream", "away"), ("phase", "connecting")],
            1.0,
        ),
        ("postern_connections_total", &[], 11.0),
        ("postern_responses_broken_total", &[], 0.0),
    ] {
        assert_eq!(gained(&now, name, labels), wanted, "{name} {labels:?}");
    }
    for (name, labels, wanted) in [
        ("postern_keys", &[][..], 1.0),
        ("postern_requests_in_flight", &[], 0.0),
        (
            "postern_upstream_target_up",
            &[("upstream", "default")],
            1.0,
        ),
        ("postern_feed_loads_total", &[], 1.0),
        ("postern_build_info", &[], 1.0),
    ] {
        assert_eq!(now.value(name, labels), wanted, "{name} {labels:?}");
    }
    assert!(gained(&now, "postern_response_bytes_total", &[("route", "api")]) >= 25.0);
    assert!(
        now.value("postern_store_revision", &[]) >= 2.0
            && now.value("postern_store_age_seconds", &[]) < 20.0
    );
    assert!(
        now.value("process_resident_memory_bytes", &[]) > 1e6
            && now.value("process_open_fds", &[]) > 5.0
    );
    assert!(
        now.value("process_start_time_seconds", &[]) > 1.7e9
            && now.value("process_cpu_seconds_total", &[]) > 0.0
    );
}

#[test]
fn open_connections_and_requests_in_flight_are_told() {
    let origin = Origin::answering(|_, _| {});
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    let mut waiting = Connection::open(rig.public);
    waiting.send(format!(
        "GET / HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
        key.header()
    ));
    eventually("it is in flight", || {
        Scrape::of(rig.admin).value("postern_requests_in_flight", &[]) == 1.0
    });
    assert!(Scrape::of(rig.admin).value("postern_open_connections", &[]) >= 1.0);
    drop(waiting);
    eventually("it is gone", || {
        let now = Scrape::of(rig.admin);
        now.value("postern_requests_in_flight", &[]) == 0.0
            && now.value("postern_open_connections", &[]) == 0.0
            && now.value("postern_responses_broken_total", &[("by", "client")]) == 1.0
    });
}

#[test]
fn no_label_is_a_path_a_key_a_consumer_or_an_address_of_a_client() {
    let origin = origin();
    let rig = rig(&origin);
    let key = rig.key("the-consumer", &[]);
    assert_eq!(rig.get("/the-path?the-query", &key).status, 200);
    assert_eq!(
        get(
            rig.public,
            "/the-path",
            &["x-request-id: the-request", "host: the-host"]
        )
        .status,
        400
    );
    // These are counted by and by.
    eventually("keys and rows are known", || {
        let text = Scrape::of(rig.admin).text;
        text.contains("\npostern_keys_ending{") && text.contains("\npostern_store_bytes{")
    });
    let series = Scrape::of(rig.admin).samples.len();
    let methods = ["GET", "POST", "PUT", "DELETE", "BREW", "TRACE"];
    for (number, method) in methods.iter().enumerate() {
        exchange(
            rig.public,
            format!("{method} /path/{number} HTTP/1.1\r\nhost: h{number}\r\nuser-agent: u\r\n\r\n"),
        );
    }
    let now = Scrape::of(rig.admin);
    assert_eq!(now.samples.len(), series, "requests make new series");
    for secret in ["the-", &key.id, &key.key, "csmr_", crate::rig::SECRET] {
        assert!(!now.text.contains(secret), "{secret:?}: {}", now.text);
    }
}

#[test]
fn the_document_names_every_metric_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[[listen.tls]]\ncert_file = \"pair.crt\"\nkey_file = \"pair.key\"\n\
                [[rate_limits]]\nname = \"burst\"\nby = \"key\"\nlimit = 1\nwindow = \"1m\"\n\
                [[jwt.issuers]]\nname = \"file\"\nissuer = \"a\"\nany_audience = true\n\
                secret_file = \"secret\"\n\
                [[jwt.issuers]]\nname = \"url\"\nissuer = \"b\"\nany_audience = true\n\
                jwks_url = \"http://127.0.0.1:1/keys\"\n";
    std::fs::write(directory.path().join("secret"), "a".repeat(32)).unwrap();
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    Authority::new()
        .issue_until(&["gateway"], 2040)
        .write(directory.path(), "pair");
    let gateway = Process::start(directory, &origin().url(), &[]);
    eventually("age, keys and rows are known", || {
        let text = Scrape::of(gateway.admin).text;
        ["store_age_seconds ", "keys_ending{", "store_bytes{"]
            .iter()
            .all(|name| text.contains(&format!("\npostern_{name}")))
    });
    let page = Scrape::of(gateway.admin);
    let end = page.value(
        "postern_certificate_expiry_timestamp_seconds",
        &[("file", "pair.crt")],
    );
    assert!((2.20e9..2.25e9).contains(&end), "{end} is not in 2040");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("docs/METRICS.md");
    let document = std::fs::read_to_string(path).unwrap();
    let mut documented = BTreeSet::new();
    for row in document.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        assert_eq!(
            page.kinds.get(name).map(String::as_str),
            Some(cells[1]),
            "{row}"
        );
        let labels: BTreeSet<String> = cells[2]
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        assert_eq!(page.labels(name), labels, "{row}");
        assert!(
            documented.insert(name.to_owned()),
            "{name} is documented twice"
        );
    }
    assert_eq!(
        page.kinds.keys().cloned().collect::<BTreeSet<_>>(),
        documented
    );
    // What the alerts ask for is there.
    for word in document.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')) {
        if word.starts_with("postern_") {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word);
            assert!(
                documented.contains(word) || documented.contains(family),
                "{word}"
            );
        }
    }
}
