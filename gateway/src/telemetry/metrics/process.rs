//! Process metrics from Linux, under the names of every Prometheus client.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::telemetry::metrics::text::{Kind, Page};

/// Writes the available metrics. A family has no sample if the system does not report it.
pub fn write(page: &mut Page, started_at_seconds: f64) {
    page.known(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory.",
        resident_bytes(),
    );
    page.known(
        "process_open_fds",
        Kind::Gauge,
        "Open file descriptors.",
        open_files(),
    );
    page.known(
        "process_max_fds",
        Kind::Gauge,
        "Maximum number of open file descriptors.",
        getrlimit(Resource::Nofile).current,
    );
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = format_args!("{}.{:09}", cpu.tv_sec, cpu.tv_nsec).to_string();
    page.single(
        "process_cpu_seconds_total",
        Kind::Counter,
        "User and system time of all threads.",
        cpu,
    );
    page.single(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, since 1970.",
        started_at_seconds,
    );
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}

fn open_files() -> Option<usize> {
    // The directory listing itself holds one more descriptor.
    Some(
        fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1),
    )
}
