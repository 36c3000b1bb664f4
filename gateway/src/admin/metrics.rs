//! `/metrics`: counters and state of the gateway in Prometheus text format. docs/METRICS.md lists
//! every family.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use arc_swap::ArcSwap;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::admin::endpoint::Endpoint;
use crate::admin::refused::Refused;
use crate::auth::jwt::{FetchResult, TokenResult};
use crate::control::issuer_keys::is_published;
use crate::front::certificates::Certificates;
use crate::keys::{KeyTable, UnixMillis};
use crate::limits::brake::Brake;
use crate::pipeline::Policy;
use crate::pipeline::in_flight::RequestsInFlight;
use crate::proxy::Upstream;
use crate::proxy::upstream::State;
use crate::proxy::upstream::attempts::Phase;
use crate::reload::Reloads;
use crate::store::{FeedStatus, StoreSizes};
use crate::telemetry::log_writer::{LogName, LostLines};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::text::{Kind, MEDIA_TYPE, Page};
use crate::telemetry::process_log;
use crate::usage::ledger::LedgerStatus;

/// Sources of the metrics page.
#[derive(Debug)]
pub struct MetricsPage {
    /// Counters of the workers.
    pub metrics: Arc<Metrics>,
    /// Key table.
    pub keys: Arc<KeyTable>,
    /// Currency of the key table.
    pub feed: Arc<FeedStatus>,
    /// Current policy, with the upstreams. Those with the same name share their samples.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Readings of the settings.
    pub reloads: Arc<Reloads>,
    /// Requests in flight.
    pub in_flight: Arc<RequestsInFlight>,
    /// Failures by address.
    pub brake: Arc<Brake>,
    /// State of the usage ledger.
    pub usage: Arc<LedgerStatus>,
    /// Sizes of the store.
    pub sizes: Arc<StoreSizes>,
    /// Certificates of the TLS listeners.
    pub certificates: Vec<Arc<Certificates>>,
    /// Lost lines of the access log, if there is one.
    pub access_log: Option<Arc<LostLines>>,
    /// Refusals of the admin listener.
    pub refused: Arc<Refused>,
}

/// Describes the operation for scrapes.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::open("/metrics", web::route().to(page))
        .named("metrics", "operations", "Counters and state of the gateway")
        .answers_with(
            200,
            "Prometheus text format.",
            "text/plain",
            ObjectBuilder::new().schema_type(Type::String).into(),
        )
}

async fn page(page: web::Data<MetricsPage>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type(MEDIA_TYPE)
        .body(page.write())
}

impl MetricsPage {
    /// Renders the current page.
    #[must_use]
    pub fn write(&self) -> String {
        let mut page = Page::default();
        page.by(
            "postern_build_info",
            Kind::Gauge,
            "Always 1; the label is the version.",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1)],
        );
        self.metrics.write(&mut page);
        page.single(
            "postern_requests_in_flight",
            Kind::Gauge,
            "Requests in flight, bodies included.",
            self.in_flight.now(),
        );
        page.single(
            "postern_request_buffer_bytes",
            Kind::Gauge,
            "Memory that buffered request bodies hold.",
            self.policy.load().buffers.claimed(),
        );
        self.write_limits(&mut page);
        self.write_settings(&mut page);
        page.single(
            "postern_auth_braked_subjects",
            Kind::Gauge,
            "Addresses, and ended keys at an address, that are over their allowance of failures; 2048 at most.",
            self.brake.count_over(Instant::now()),
        );
        self.write_issuers(&mut page);
        self.write_upstreams(&mut page);
        self.write_store(&mut page);
        let ends: BTreeMap<_, _> = self
            .certificates
            .iter()
            .flat_map(|certificates| certificates.ends())
            .collect();
        page.by(
            "postern_certificate_expiry_timestamp_seconds",
            Kind::Gauge,
            "Expiry of a listener's certificate, in seconds since 1970.",
            "file",
            ends.into_iter()
                .map(|(file, end)| (file.display().to_string(), end)),
        );
        self.write_logs(&mut page);
        self.refused.write(&mut page);
        page.finish()
    }

    fn write_settings(&self, page: &mut Page) {
        let (running, last) = (self.reloads.running(), self.reloads.last());
        page.single(
            "postern_config_generation",
            Kind::Gauge,
            "Generation of the settings in force; 1 at the start.",
            running.generation,
        );
        let loaded_at = running.loaded_at.duration_since(SystemTime::UNIX_EPOCH);
        page.single(
            "postern_config_loaded_timestamp_seconds",
            Kind::Gauge,
            "When the settings in force were loaded, in seconds since 1970.",
            loaded_at.unwrap_or_default().as_secs(),
        );
        page.single(
            "postern_config_last_reload_ok",
            Kind::Gauge,
            "Whether the files could be used when they were last read; 1 before the first reload.",
            u8::from(last.problems.is_empty()),
        );
        page.single(
            "postern_config_restart_required",
            Kind::Gauge,
            "Changed settings that need a restart.",
            last.restart_required.len(),
        );
    }

    fn write_logs(&self, page: &mut Page) {
        let of_process = process_log::lost();
        page.by(
            "postern_log_lines_lost_total",
            Kind::Counter,
            "Log lines lost because the log was not read fast enough.",
            "log",
            [
                (LogName::Access, self.access_log.as_ref()),
                (LogName::Process, of_process.as_ref()),
            ]
            .map(|(log, lines)| (log.as_str(), lines.map_or(0, |lines| lines.count()))),
        );
        page.single(
            "postern_log_lines_suppressed_total",
            Kind::Counter,
            "Lines of the process log suppressed by its rate limit.",
            process_log::suppressed(),
        );
    }

    fn write_limits(&self, page: &mut Page) {
        let counts = self.policy.load().limits.memory().counts();
        let mut decisions = page.family(
            "postern_rate_limit_decisions_total",
            Kind::Counter,
            "Requests that a rate limit allowed, or denied; not enforced, or would have denied.",
        );
        for (policy, counts) in &counts {
            for (enforced, decided) in ["false", "true"].into_iter().zip(counts.decided) {
                for (decision, count) in [("allowed", decided.allowed), ("denied", decided.denied)]
                {
                    let labels = [
                        ("policy", &**policy),
                        ("decision", decision),
                        ("enforced", enforced),
                    ];
                    decisions.sample(&labels, count);
                }
            }
        }
        self.write_link(page);
        page.by(
            "postern_rate_limit_subjects",
            Kind::Gauge,
            "Subjects of a rate limit of which something is in force.",
            "policy",
            counts
                .iter()
                .map(|(policy, counts)| (policy, counts.subjects)),
        );
    }

    /// The exchange of counts with other gateways, where there is one.
    fn write_link(&self, page: &mut Page) {
        let link = self.policy.load().limits.memory().link();
        page.known(
            "postern_valkey_up",
            Kind::Gauge,
            "Whether the counts of limits are exchanged with other gateways; no sample without a server for it.",
            link.is_up.map(u8::from),
        );
        page.by(
            "postern_valkey_exchanges_total",
            Kind::Counter,
            "Exchanges with the server that limits are shared through.",
            "outcome",
            [("succeeded", link.succeeded), ("failed", link.failed)],
        );
        page.single(
            "postern_valkey_subjects_waiting",
            Kind::Gauge,
            "Subjects whose counts the last round had no room for.",
            link.waiting,
        );
        page.known(
            "postern_valkey_clock_offset_seconds",
            Kind::Gauge,
            "Seconds that the server's clock is ahead of the gateway's.",
            link.ahead.map(|millis| millis as f64 / 1000.0),
        );
    }

    /// Issuers of tokens.
    fn write_issuers(&self, page: &mut Page) {
        let policy = self.policy.load();
        let now = UnixMillis::now();
        let states: Vec<_> = policy
            .issuers
            .iter()
            .map(|issuer| (issuer.name(), issuer.keys().state()))
            .collect();
        let known = || {
            let known = states.iter();
            known.filter_map(|(name, state)| Some((*name, state.as_ref()?)))
        };
        page.by(
            "postern_jwt_keys",
            Kind::Gauge,
            "Keys of an issuer of tokens; no sample before they are fetched.",
            "issuer",
            known().map(|(name, state)| (name, state.set.iter().count())),
        );
        page.by(
            "postern_jwt_keys_age_seconds",
            Kind::Gauge,
            "Time since the keys of an issuer were fetched, or read from their file.",
            "issuer",
            known().map(|(name, state)| {
                let age = now.0.saturating_sub(state.fetched_at.0).max(0);
                (name, age as f64 / 1000.0)
            }),
        );
        let mut fetches = page.family(
            "postern_jwt_key_fetches_total",
            Kind::Counter,
            "Fetches of an issuer's keys.",
        );
        for issuer in policy.issuers.iter().filter(|issuer| is_published(issuer)) {
            for result in FetchResult::ALL {
                let labels = [("issuer", issuer.name()), ("result", result.as_str())];
                fetches.sample(&labels, issuer.keys().fetches(result));
            }
        }
        let mut tokens = page.family(
            "postern_jwt_tokens_total",
            Kind::Counter,
            "Tokens that name an issuer of the route.",
        );
        for issuer in policy.issuers.iter() {
            for result in TokenResult::ALL {
                let labels = [("issuer", issuer.name()), ("result", result.as_str())];
                tokens.sample(&labels, issuer.tokens(result));
            }
        }
    }

    fn write_upstreams(&self, page: &mut Page) {
        // By name: to the operator an address of several routes is one upstream, and a sample must
        // not occur twice.
        let policy = self.policy.load();
        let mut by_name = BTreeMap::<&str, Vec<&Arc<Upstream>>>::new();
        for upstream in policy.all_upstreams() {
            let same = by_name.entry(upstream.name()).or_default();
            if !same.iter().any(|known| Arc::ptr_eq(known, upstream)) {
                same.push(upstream);
            }
        }
        let mut up = page.family(
            "postern_upstream_target_up",
            Kind::Gauge,
            "Whether a target takes requests: neither ejected nor unhealthy.",
        );
        for (name, same) in &by_name {
            let targets = same.iter().flat_map(|upstream| upstream.targets());
            let states: BTreeMap<String, bool> = targets
                .map(|target| (target.to_string(), target.state() == State::Up))
                .collect();
            for (target, is_up) in &states {
                up.sample(&[("upstream", name), ("target", target)], u8::from(*is_up));
            }
        }
        let mut failed = page.family(
            "postern_upstream_attempts_failed_total",
            Kind::Counter,
            "Failed attempts by stage, including those retried with success.",
        );
        for (name, same) in &by_name {
            for phase in Phase::ALL {
                let count: u64 = same
                    .iter()
                    .map(|upstream| upstream.failed_attempts(phase))
                    .sum();
                failed.sample(&[("upstream", name), ("phase", phase.as_str())], count);
            }
        }
    }

    fn write_store(&self, page: &mut Page) {
        page.single(
            "postern_keys",
            Kind::Gauge,
            "Keys in memory, in any state.",
            self.keys.len(),
        );
        page.by(
            "postern_keys_ending",
            Kind::Gauge,
            "Active keys that expire within this time; no sample before the first count.",
            "within",
            self.keys.ending(),
        );
        let age = self.feed.age(Instant::now());
        page.known(
            "postern_store_age_seconds",
            Kind::Gauge,
            "Age of the key table; no sample before the first load.",
            age.map(|age| age.as_secs_f64()),
        );
        page.single(
            "postern_store_revision",
            Kind::Gauge,
            "Newest revision in the key table.",
            self.feed.revision(),
        );
        page.single(
            "postern_feed_loads_total",
            Kind::Counter,
            "Full loads of the key table, including the first.",
            self.feed.loads(),
        );
        page.by(
            "postern_store_rows",
            Kind::Gauge,
            "Rows of a table of the store at the last count.",
            "table",
            self.sizes.rows(),
        );
        page.by(
            "postern_store_bytes",
            Kind::Gauge,
            "Bytes of the database and of SQLite's log at the last measurement.",
            "part",
            self.sizes.bytes(),
        );
        page.single(
            "postern_keys_unused",
            Kind::Gauge,
            "Active keys unused for longer than their bucket allows, in buckets that only report them.",
            self.sizes.unused_keys(),
        );
        page.single(
            "postern_usage_pending",
            Kind::Gauge,
            "Pairs of key and hour with unwritten usage.",
            self.usage.pending(),
        );
        page.single(
            "postern_usage_write_failures_total",
            Kind::Counter,
            "Failed writes of usage; each is retried.",
            self.usage.failures(),
        );
        page.single(
            "postern_usage_lost_total",
            Kind::Counter,
            "Requests whose usage was dropped because too much was pending.",
            self.usage.lost(),
        );
    }
}
