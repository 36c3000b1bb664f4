//! Fits the connection limits to the limit of open files. Each connection takes a descriptor, and
//! some are reserved for the admin listener, the store, the logs and the process itself. Otherwise
//! a crowd on one listener would stop the other.

use rustix::process::{Resource, getrlimit};

use crate::config::settings::Settings;

/// Descriptors reserved for the process: the store with its logs and connections, and files read
/// now and then.
const RESERVED: usize = 64;
/// Descriptors reserved per public worker thread, including the connection that arrives while room
/// is made for it.
const RESERVED_PER_WORKER: usize = 8;
/// Divisor: the admin listener gets at most this fraction of all descriptors.
const ADMIN_DIVISOR: usize = 8;
/// Divisor: requests in flight get at most this fraction of the rest. Each has a connection to an
/// origin, and as many again may be idle.
const IN_FLIGHT_DIVISOR: usize = 5;

/// Limits of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Caps {
    connections: usize,
    requests_in_flight: usize,
    admin_connections: usize,
}

/// Lowers the limits in `settings` to fit the open-file limit, and logs the changes.
pub(super) fn fit(settings: &mut Settings) {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return;
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let wanted = Caps {
        connections: settings.listen.max_connections,
        requests_in_flight: settings.listen.max_requests_in_flight,
        admin_connections: settings.admin.max_connections,
    };
    let fitting = wanted.within(limit, settings.listen.workers);
    let share = settings.listen.share_of_a_key();
    for (setting, wanted, fitting) in [
        (
            "listen.max_connections",
            wanted.connections,
            fitting.connections,
        ),
        (
            "listen.max_requests_in_flight",
            wanted.requests_in_flight,
            fitting.requests_in_flight,
        ),
        (
            "admin.max_connections",
            wanted.admin_connections,
            fitting.admin_connections,
        ),
    ] {
        if fitting < wanted {
            log::warn!(
                "{setting} is lowered from {wanted} to {fitting}: the process may have {limit} files open (ulimit -n)"
            );
        }
    }
    settings.listen.max_connections = fitting.connections;
    settings.listen.max_requests_in_flight = fitting.requests_in_flight;
    settings.admin.max_connections = fitting.admin_connections;
    if share > fitting.requests_in_flight.div_ceil(4)
        && settings.listen.max_requests_in_flight_per_key.is_some()
        && fitting.requests_in_flight < wanted.requests_in_flight
    {
        // In proportion, so that a share remains a share.
        let lowered = share
            .saturating_mul(fitting.requests_in_flight)
            .div_ceil(wanted.requests_in_flight.max(1));
        settings.listen.max_requests_in_flight_per_key = Some(lowered.max(1));
    }
}

impl Caps {
    /// Reduces the limits to fit `limit`; none becomes zero.
    fn within(self, limit: usize, workers: usize) -> Self {
        let reserved = RESERVED.saturating_add(workers.saturating_mul(RESERVED_PER_WORKER));
        let admin_connections = self.admin_connections.min((limit / ADMIN_DIVISOR).max(2));
        let left = limit
            .saturating_sub(reserved)
            .saturating_sub(admin_connections);
        let origins = |requests: usize| requests.saturating_mul(2);
        if self
            .connections
            .saturating_add(origins(self.requests_in_flight))
            <= left
        {
            return Self {
                admin_connections,
                ..self
            };
        }
        let requests_in_flight = self
            .requests_in_flight
            .min((left / IN_FLIGHT_DIVISOR).max(1));
        let connections = self
            .connections
            .min(left.saturating_sub(origins(requests_in_flight)).max(1));
        Self {
            connections,
            requests_in_flight,
            admin_connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Caps = Caps {
        connections: 25_000,
        requests_in_flight: 10_000,
        admin_connections: 256,
    };

    #[test]
    fn what_fits_stays_and_what_does_not_is_lowered() {
        assert_eq!(DEFAULTS.within(65_536, 8), DEFAULTS);
        for (limit, workers) in [(64, 1), (256, 2), (1024, 4), (4096, 64), (20_000, 1)] {
            let caps = DEFAULTS.within(limit, workers);
            assert!(
                caps.connections >= 1 && caps.requests_in_flight >= 1,
                "{limit}"
            );
            let all = caps.connections
                + 2 * caps.requests_in_flight
                + caps.admin_connections
                + RESERVED
                + workers * RESERVED_PER_WORKER;
            assert!(all <= limit || limit == 64, "{all} of {limit}");
        }
        let small = Caps {
            connections: 10,
            requests_in_flight: 5,
            admin_connections: 4,
        };
        assert_eq!(small.within(256, 2), small);
    }
}
