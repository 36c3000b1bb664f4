//! The targets that one request is sent to, in turn, and the outcome of each attempt.

use std::fmt;
use std::sync::Arc;

use crate::auth::CallerTag;
use crate::proxy::OriginUrl;
use crate::proxy::upstream::{Balance, InFlight, State, Target, Upstream};

/// Attempts of one request.
#[derive(Debug)]
pub struct Attempts<'a> {
    upstream: &'a Upstream,
    turn: usize,
    tried: u64,
    number: usize,
}

/// Target that was chosen for one attempt.
#[derive(Debug)]
pub struct Chosen<'a> {
    upstream: &'a Upstream,
    target: &'a Arc<Target>,
    number: usize,
    in_flight: Option<InFlight>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(upstream: &'a Upstream) -> Self {
        // One turn per request: if retries took turns too, every second request could meet the same
        // dead target.
        let turn = if upstream.targets.len() == 1 {
            0
        } else {
            upstream.take_turn()
        };
        Self {
            upstream,
            turn,
            tried: 0,
            number: 0,
        }
    }

    /// Whether another attempt is allowed after the target that [`Self::choose`] returned last.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        self.number <= self.upstream.policy.retries && self.number < self.upstream.targets.len()
    }

    /// Chooses the next target; `None` when all that are left are at their in-flight limit.
    ///
    /// When every target is ejected, all are used: the ejections may be wrong, and no response
    /// certainly is.
    pub fn choose(&mut self) -> Option<Chosen<'a>> {
        self.number += 1;
        let Upstream {
            targets, policy, ..
        } = self.upstream;
        if let ([only], 0) = (&**targets, policy.max_in_flight) {
            return Some(Chosen {
                upstream: self.upstream,
                target: only,
                number: self.number,
                in_flight: None,
            });
        }
        let left: u64 = (0..targets.len())
            .filter(|index| self.tried & (1 << index) == 0)
            .fold(0, |set, index| set | 1 << index);
        let up = left & self.set_of(|target| target.state() == State::Up);
        let mut candidates = if up == 0 { left } else { up };
        let counts = policy.balance == Balance::LeastConnections || policy.max_in_flight > 0;
        while candidates != 0 {
            let index = self.pick(candidates);
            candidates &= !(1 << index);
            let target = &targets[index];
            let in_flight = if counts {
                // A target that has filled up since is skipped.
                let Some(entered) = target.enter(policy.max_in_flight) else {
                    continue;
                };
                Some(entered)
            } else {
                None
            };
            self.tried |= 1 << index;
            return Some(Chosen {
                upstream: self.upstream,
                target,
                number: self.number,
                in_flight,
            });
        }
        None
    }

    /// Picks one of `candidates`, which is not empty.
    fn pick(&self, candidates: u64) -> usize {
        let candidates = match self.upstream.policy.balance {
            Balance::RoundRobin => candidates,
            Balance::LeastConnections => {
                let busy = |index: usize| self.upstream.targets[index].in_flight();
                let least = indices(candidates).map(busy).min().unwrap_or(0);
                let idlest = indices(candidates)
                    .filter(|index| busy(*index) <= least)
                    .fold(0, |set, index| set | 1 << index);
                // Another thread may have added to all of them since.
                if idlest == 0 { candidates } else { idlest }
            }
        };
        // The n-th usable target, so that the others share the requests of an ejected one evenly.
        let n = self.turn % candidates.count_ones() as usize;
        indices(candidates).nth(n).unwrap_or(0)
    }

    fn set_of(&self, holds: impl Fn(&Target) -> bool) -> u64 {
        let targets = self.upstream.targets.iter().enumerate();
        targets
            .filter(|(_, target)| holds(target))
            .fold(0, |set, (index, _)| set | 1 << index)
    }
}

/// Members of the bit set.
fn indices(set: u64) -> impl Iterator<Item = usize> {
    (0..u64::BITS as usize).filter(move |index| set & (1 << index) != 0)
}

impl Chosen<'_> {
    /// Address of the target.
    #[must_use]
    pub fn url(&self) -> &OriginUrl {
        self.target.url()
    }

    /// Records that the target responded. The return value counts the request until it is dropped,
    /// so it moves into the body.
    #[must_use]
    pub fn answered(self) -> Option<InFlight> {
        self.upstream.answered(self.target);
        self.in_flight
    }

    /// Records that the target took no connection.
    pub fn no_connection(&self, cause: &dyn fmt::Display) {
        self.upstream.failed(self.target, cause);
    }

    /// Records that a new connection was lost over a request of `caller` before a response.
    pub fn connection_lost(&self, caller: CallerTag, cause: &dyn fmt::Display) {
        self.upstream.connection_lost(self.target, caller, cause);
    }

    /// Counts a failed attempt and returns its log entry.
    #[must_use]
    pub fn failed(&self, phase: Phase, cause: String) -> FailedAttempt {
        self.upstream.count_failed_attempt(phase);
        FailedAttempt {
            number: self.number,
            target: Arc::clone(self.target),
            phase,
            cause,
        }
    }
}

/// Phase of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Connecting; nothing was sent.
    Connecting,
    /// Sending the request.
    Sending,
    /// Waiting: the origin had the request, or most of it.
    Waiting,
    /// Receiving the response.
    Answering,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 4] = [
        Self::Connecting,
        Self::Sending,
        Self::Waiting,
        Self::Answering,
    ];

    /// Name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Sending => "sending",
            Self::Waiting => "waiting",
            Self::Answering => "answering",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "while connecting",
            Self::Sending => "while sending the request",
            Self::Waiting => "while waiting for the answer",
            Self::Answering => "in the answer",
        })
    }
}

/// Failed attempt, as logged.
#[derive(Debug)]
pub struct FailedAttempt {
    number: usize,
    target: Arc<Target>,
    phase: Phase,
    cause: String,
}

impl FailedAttempt {
    /// Whether the attempt failed for this cause.
    #[must_use]
    pub fn is_because(&self, cause: &str) -> bool {
        self.cause == cause
    }

    /// Whether there was no connection, so that nothing was sent.
    #[must_use]
    pub fn did_not_connect(&self) -> bool {
        self.phase == Phase::Connecting
    }
}

impl fmt::Display for FailedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "attempt {} to {} failed {}: {}",
            self.number, self.target, self.phase, self.cause
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proxy::upstream::{Proof, UpstreamPolicy};

    fn upstream(targets: usize, policy: impl FnOnce(&mut UpstreamPolicy)) -> Upstream {
        let url = |index| OriginUrl::parse(&format!("http://127.0.0.1:{}", 9000 + index)).unwrap();
        let mut taken = UpstreamPolicy {
            balance: Balance::RoundRobin,
            eject_after: 2,
            eject_for: Duration::from_millis(50),
            retries: 1,
            max_in_flight: 0,
            health: None,
            proof: Proof::Shared,
        };
        policy(&mut taken);
        Upstream::new("test", (0..targets).map(url).collect(), taken)
    }

    fn index(chosen: &Chosen<'_>) -> usize {
        chosen
            .upstream
            .targets
            .iter()
            .position(|target| Arc::ptr_eq(target, chosen.target))
            .unwrap()
    }

    fn order(upstream: &Upstream, requests: usize) -> Vec<usize> {
        (0..requests)
            .map(|_| index(&upstream.attempts().choose().unwrap()))
            .collect()
    }

    #[test]
    fn turns_go_round_and_a_retry_goes_elsewhere() {
        let upstream = upstream(3, |_| {});
        assert_eq!(order(&upstream, 6), [0, 1, 2, 0, 1, 2]);
        let mut attempts = upstream.attempts();
        let first = index(&attempts.choose().unwrap());
        assert!(attempts.may_retry());
        assert_ne!(index(&attempts.choose().unwrap()), first);
        assert!(!attempts.may_retry(), "retries = 1");
    }

    #[test]
    fn a_target_that_fails_is_left_out_for_a_while_and_the_last_one_never() {
        let upstream = upstream(2, |_| {});
        let fail = |index: usize| upstream.failed(&upstream.targets[index], &"refused");
        fail(0);
        assert_eq!(upstream.targets[0].state(), State::Up, "once is not twice");
        fail(0);
        assert_eq!(upstream.targets[0].state(), State::Ejected);
        assert_eq!(order(&upstream, 3), [1, 1, 1]);
        fail(1);
        fail(1);
        assert_eq!(
            upstream.targets[1].state(),
            State::Up,
            "the last one is never left out"
        );
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(upstream.targets[0].state(), State::Up);
        fail(0);
        assert_eq!(
            upstream.targets[0].state(),
            State::Ejected,
            "on trial, one failure is enough"
        );
        upstream.answered(&upstream.targets[0]);
        assert_eq!(
            upstream.targets[0].state(),
            State::Up,
            "what answers is there"
        );
    }

    #[test]
    fn what_dies_over_requests_is_left_out_when_they_are_of_several_callers() {
        use crate::auth::Caller;
        use crate::keys::CallerAddress;

        let callers = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"].map(|address| {
            let address: std::net::IpAddr = address.parse().unwrap();
            CallerTag::of(&Caller::Anonymous, CallerAddress::from(address))
        });
        // Callers whose requests crashed the target, failures to connect before them, and the
        // resulting state.
        for (killers, failures, state) in [
            (&[0, 0, 0, 0, 0, 0][..], 0, State::Up),
            (&[0, 0, 0, 0, 0, 0], 1, State::Up),
            (&[0, 1], 0, State::Ejected),
            (&[0, 0, 0, 1], 0, State::Ejected),
            (&[1, 0], 0, State::Ejected),
            (&[2, 3, 2, 3], 0, State::Up),
            (&[2, 0], 0, State::Ejected),
            (&[], 2, State::Ejected),
            (&[0], 2, State::Ejected),
        ] {
            let upstream = upstream(2, |_| {});
            let target = &upstream.targets[0];
            for _ in 0..failures {
                upstream.failed(target, &"refused");
            }
            for killer in killers {
                upstream.connection_lost(target, callers[*killer], &"closed");
            }
            assert_eq!(target.state(), state, "{killers:?} after {failures}");
            upstream.answered(target);
            assert_eq!(target.state(), State::Up);
            upstream.connection_lost(target, callers[1], &"closed");
            assert_eq!(target.state(), State::Up, "an answer begins the count anew");
        }
    }

    #[test]
    fn when_all_are_left_out_all_are_used() {
        let upstream = upstream(2, |_| {});
        for target in &upstream.targets {
            assert!(target.set_healthy(false) && !target.set_healthy(false));
        }
        assert_eq!(order(&upstream, 4), [0, 1, 0, 1]);
    }

    #[test]
    fn the_idlest_target_is_chosen_and_none_beyond_its_limit() {
        let upstream = upstream(2, |policy| {
            policy.balance = Balance::LeastConnections;
            policy.max_in_flight = 2;
        });
        let held = upstream.attempts().choose().unwrap();
        let busy = index(&held);
        assert_eq!(order(&upstream, 3), [1 - busy; 3]);
        let more: Vec<Chosen<'_>> = (0..3)
            .map(|_| upstream.attempts().choose().unwrap())
            .collect();
        assert!(upstream.attempts().choose().is_none(), "both have two");
        drop(more);
        drop(held);
        assert_eq!(
            upstream
                .targets
                .iter()
                .map(|target| target.in_flight())
                .collect::<Vec<_>>(),
            [0, 0]
        );
    }
}
