//! Deadlines that cost next to nothing as long as they are met.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

use super::clock::now;

/// How long a minimum rate is not asked for when no idle limit gives the figure.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// One deadline of a connection.
///
/// The timer of the runtime is registered once and then left alone: meeting a deadline only forgets
/// it, and a timer that fires for a forgotten deadline is set to the one that holds by then.
/// Registering anew for every wait would cost more than the rest of the guard. Nor is the timer asked
/// again by the task that it wakes already.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom the timer wakes, if it is registered.
    wakes: Option<Waker>,
}

impl Alarm {
    /// Sets the deadline unless one is set already. Zero means: no limit.
    pub(crate) fn arm(&mut self, wait: Duration) {
        if self.due.is_none() && !wait.is_zero() {
            self.due = now().checked_add(wait);
        }
    }

    /// Sets the deadline unless one is set already.
    pub(crate) fn arm_at(&mut self, due: Instant) {
        self.due.get_or_insert(due);
    }

    /// Forgets the deadline.
    pub(crate) fn disarm(&mut self) {
        self.due = None;
    }

    /// Ready once the deadline has passed; pending, and woken by it, before.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        let wakes_in_time = sleep.deadline() <= due && now() < sleep.deadline();
        let is_told = |waker: &Waker| waker.will_wake(cx.waker());
        if wakes_in_time && self.wakes.as_ref().is_some_and(is_told) {
            return Poll::Pending;
        }
        self.wakes = None;
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        loop {
            // Without budget, the runtime puts the task off and the timer is not registered.
            let has_budget = coop::has_budget_remaining();
            if sleep.as_mut().poll(cx).is_pending() {
                self.wakes = has_budget.then(|| cx.waker().clone());
                return Poll::Pending;
            }
            if sleep.deadline() >= due || now() >= due {
                self.due = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

/// How patient one side is while it waits for the other to send or to take bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The longest time without a single byte. Zero: no limit.
    pub idle: Duration,
    /// Bytes per second that must be reached on average, counted over the time spent waiting, once
    /// that time has passed [`Pace::idle`] (10 s when that is off). Zero: no minimum.
    pub min_rate: u32,
}

impl Pace {
    /// Waits for ever.
    pub const UNLIMITED: Self = Self {
        idle: Duration::ZERO,
        min_rate: 0,
    };
}

/// What a [`PaceMeter`] ran out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfPace {
    /// No byte within the idle limit.
    Idle,
    /// Bytes came, but fewer than the minimum rate asks for.
    TooSlow,
}

/// Holds one message to a [`Pace`]. Only the time spent waiting for the peer counts, so that
/// back-pressure of ours is never held against it.
#[derive(Debug, Default)]
pub(crate) struct PaceMeter {
    alarm: Alarm,
    waiting_since: Option<Instant>,
    waited: Duration,
    moved_bytes: u64,
    rate_decides: bool,
}

impl PaceMeter {
    /// Starts a new message.
    pub(crate) fn begin(&mut self) {
        self.alarm.disarm();
        self.waiting_since = None;
        self.waited = Duration::ZERO;
        self.moved_bytes = 0;
    }

    /// Notes that `count` bytes have moved.
    pub(crate) fn moved(&mut self, count: usize) {
        self.moved_bytes = self.moved_bytes.saturating_add(count as u64);
        if let Some(since) = self.waiting_since.take() {
            self.waited = self
                .waited
                .saturating_add(now().saturating_duration_since(since));
            self.alarm.disarm();
        }
    }

    /// Called when the peer keeps us waiting: ready once it has done so for too long.
    pub(crate) fn poll_out_of_pace(&mut self, cx: &mut Context<'_>, pace: Pace) -> Poll<OutOfPace> {
        if pace == Pace::UNLIMITED {
            return Poll::Pending;
        }
        if self.waiting_since.is_none() {
            let now = now();
            self.waiting_since = Some(now);
            let mut wait = pace.idle;
            self.rate_decides = false;
            if pace.min_rate > 0 {
                let grace = if pace.idle.is_zero() {
                    DEFAULT_GRACE
                } else {
                    pace.idle
                };
                let earned =
                    Duration::from_secs_f64(self.moved_bytes as f64 / f64::from(pace.min_rate));
                let left = grace.saturating_add(earned).saturating_sub(self.waited);
                if wait.is_zero() || left < wait {
                    wait = left;
                    self.rate_decides = true;
                }
            }
            match now.checked_add(wait) {
                Some(due) => self.alarm.arm_at(due),
                None => return Poll::Pending,
            }
        }
        ready!(self.alarm.poll(cx));
        Poll::Ready(if self.rate_decides {
            OutOfPace::TooSlow
        } else {
            OutOfPace::Idle
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn is_pending(alarm: &mut Alarm) -> impl Future<Output = bool> + '_ {
        poll_fn(|cx| Poll::Ready(alarm.poll(cx).is_pending()))
    }

    #[tokio::test]
    async fn forgotten_deadline_does_not_ring_and_the_next_one_does() {
        let mut alarm = Alarm::default();
        alarm.arm(Duration::from_millis(10));
        assert!(is_pending(&mut alarm).await);
        alarm.disarm();
        let start = Instant::now();
        alarm.arm(Duration::from_millis(60));
        poll_fn(|cx| alarm.poll(cx)).await;
        assert!(
            start.elapsed() >= Duration::from_millis(60),
            "the first deadline rang"
        );
        assert!(is_pending(&mut alarm).await, "nothing is due any more");
    }

    #[tokio::test]
    async fn an_earlier_deadline_than_the_registered_timer_is_kept() {
        let mut alarm = Alarm::default();
        alarm.arm(Duration::from_secs(60));
        assert!(is_pending(&mut alarm).await);
        alarm.disarm();
        let start = Instant::now();
        alarm.arm(Duration::from_millis(20));
        poll_fn(|cx| alarm.poll(cx)).await;
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_timer_that_the_runtime_put_off_rings_nevertheless() {
        let mut alarm = Alarm::default();
        alarm.arm(Duration::from_millis(20));
        let start = Instant::now();
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if polls == 1 {
                while coop::has_budget_remaining() {
                    assert!(std::pin::pin!(coop::consume_budget()).poll(cx).is_ready());
                }
            }
            alarm.poll(cx)
        })
        .await;
        assert!(start.elapsed() >= Duration::from_millis(20) && polls > 1);
    }

    #[tokio::test]
    async fn the_task_that_asked_last_is_woken() {
        let mut alarm = Alarm::default();
        alarm.arm(Duration::from_millis(30));
        let other = &mut Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(is_pending(&mut alarm).await);
            assert!(alarm.poll(other).is_pending());
        }
        let asked = poll_fn(|cx| alarm.poll(cx));
        tokio::time::timeout(Duration::from_secs(30), asked)
            .await
            .expect("a ring");
    }

    #[tokio::test]
    async fn drip_below_the_rate_is_caught_though_never_idle() {
        let pace = Pace {
            // No machine keeps the first byte waiting for as long.
            idle: Duration::from_secs(2),
            min_rate: 1000,
        };
        let mut meter = PaceMeter::default();
        meter.begin();
        let start = Instant::now();
        let outcome = loop {
            let step = tokio::time::timeout(
                Duration::from_millis(10),
                poll_fn(|cx| meter.poll_out_of_pace(cx, pace)),
            )
            .await;
            match step {
                Ok(outcome) => break outcome,
                Err(_) => meter.moved(1),
            }
        };
        assert_eq!(outcome, OutOfPace::TooSlow);
        assert!(start.elapsed() >= Duration::from_millis(1_900));
    }

    #[tokio::test]
    async fn silence_is_caught_and_no_limit_is_none() {
        let mut meter = PaceMeter::default();
        let pace = Pace {
            idle: Duration::from_millis(20),
            min_rate: 0,
        };
        assert_eq!(
            poll_fn(|cx| meter.poll_out_of_pace(cx, pace)).await,
            OutOfPace::Idle
        );
        meter.begin();
        assert!(
            poll_fn(|cx| Poll::Ready(meter.poll_out_of_pace(cx, Pace::UNLIMITED).is_pending()))
                .await
        );
    }
}
