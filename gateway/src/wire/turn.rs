//! A turn of a worker: the tasks that it runs between two waits for the system.
//!
//! A write wakes its reader. Where several connections write in one turn, all of them do so after
//! the other tasks of the turn, one after another: a reader on another core then wakes once for
//! several writes. A worker with one busy connection writes at once.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::{Handle, RuntimeMetrics};

/// Writes of a turn from which on they wait.
const CROWD: u32 = 3;

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn { number: 0, writes: 0, before: 0 }) };
    /// Of the runtime of this thread.
    static RUNTIME: RefCell<Option<RuntimeMetrics>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy)]
struct Turn {
    /// How often the worker had waited when it began.
    number: u64,
    writes: u32,
    /// Writes in the turn before.
    before: u32,
}

/// Lets the other tasks of a turn go before a write, once, where several write.
#[derive(Debug, Default)]
pub(crate) struct OthersFirst {
    has_waited: bool,
}

impl OthersFirst {
    /// Ready when it is time to write, and until [`Self::reset`] whenever it is asked again.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.has_waited || writes_of_this_turn() < CROWD {
            return Poll::Ready(());
        }
        self.has_waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Begins anew, for another write.
    pub(crate) fn reset(&mut self) {
        self.has_waited = false;
    }
}

impl Future for OthersFirst {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll(&mut self, cx)
    }
}

/// Counts a write. Gives how many this turn has, or the one before, whichever is more.
fn writes_of_this_turn() -> u32 {
    let number = waits();
    let before = TURN.get();
    let turn = if before.number == number {
        Turn {
            writes: before.writes.saturating_add(1),
            ..before
        }
    } else {
        Turn {
            number,
            writes: 1,
            before: before.writes,
        }
    };
    TURN.set(turn);
    turn.writes.max(turn.before)
}

/// How often this thread has waited for the system.
fn waits() -> u64 {
    RUNTIME.with_borrow_mut(|runtime| {
        if runtime.is_none() {
            *runtime = Handle::try_current().ok().map(|handle| handle.metrics());
        }
        // A thread of a worker has one runtime, with one worker.
        runtime
            .as_ref()
            .map_or(0, |runtime| runtime.worker_park_count(0))
    })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    type Log = Rc<RefCell<Vec<&'static str>>>;

    /// Reads and writes of `connections` in turns of their own, each with a timer between.
    async fn run(connections: u32, turns: u32) -> Vec<Vec<&'static str>> {
        let mut all = Vec::new();
        for _ in 0..turns {
            let log = Log::default();
            let tasks: Vec<_> = (0..connections)
                .map(|_| {
                    let log = Rc::clone(&log);
                    actix_rt::spawn(async move {
                        log.borrow_mut().push("read");
                        OthersFirst::default().await;
                        log.borrow_mut().push("write");
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            // The worker waits for the clock.
            tokio::time::sleep(Duration::from_millis(1)).await;
            all.push(log.take());
        }
        all
    }

    #[actix_rt::test]
    async fn writes_of_many_connections_follow_their_reads() {
        let turns = run(8, 3).await;
        // Nothing is known yet when the first writes.
        let (first, later) = turns.split_first().unwrap();
        assert_eq!(first[..4], ["read", "write", "read", "write"]);
        for turn in later {
            assert_eq!(*turn, [["read"; 8], ["write"; 8]].concat());
        }
    }

    #[actix_rt::test]
    async fn a_connection_alone_writes_at_once() {
        run(8, 2).await;
        // The turn before was another's.
        let turns = run(1, 3).await;
        for turn in turns {
            assert_eq!(turn, ["read", "write"]);
        }
        let mut alone = OthersFirst::default();
        let cx = Context::from_waker(std::task::Waker::noop());
        assert!(alone.poll(&cx).is_ready());
    }

    #[actix_rt::test]
    async fn a_write_waits_once() {
        run(8, 2).await;
        let mut write = OthersFirst::default();
        let cx = Context::from_waker(std::task::Waker::noop());
        assert!(write.poll(&cx).is_pending());
        assert!(write.poll(&cx).is_ready() && write.poll(&cx).is_ready());
        write.reset();
        assert!(write.poll(&cx).is_pending());
    }
}
