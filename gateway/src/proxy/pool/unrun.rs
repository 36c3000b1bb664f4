//! Keeps awc from starting a clock for every request.
//!
//! For each request awc makes a codec, and with it a task that renews the text of the `Date` header twice a second. The
//! task's first tick sets a timer of a millisecond, which wakes the worker by a system call; then the request is over and
//! the task is cancelled. Requests are encoded at once, so the task is never needed: it is spawned here on a set of
//! tasks that nobody runs, and dropped with it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::task::LocalSet;

/// Tasks that may gather before they are dropped together.
const GATHERED: u32 = 128;

/// A set of tasks that are never run.
#[derive(Default)]
pub(super) struct Unrun {
    tasks: RefCell<LocalSet>,
    gathered: Cell<u32>,
}

impl Unrun {
    /// Polls `future` for the first time such that what it spawns is never run; from then on it is an ordinary future.
    pub(super) async fn first_poll_of<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let first = poll_fn(|cx| {
            if self.gathered.replace(self.gathered.get() + 1) == GATHERED {
                self.gathered.set(0);
                drop(self.tasks.take());
            }
            let tasks = self.tasks.borrow();
            let _entered = tasks.enter();
            Poll::Ready(future.as_mut().poll(cx))
        });
        match first.await {
            Poll::Ready(output) => output,
            Poll::Pending => future.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[actix_rt::test]
    async fn what_the_first_poll_spawns_is_never_run_and_is_dropped_in_time() {
        let unrun = Unrun::default();
        let (ran, held) = (Rc::new(Cell::new(0)), Rc::new(()));
        for round in 0..10 * GATHERED {
            let (ran, held) = (Rc::clone(&ran), Rc::clone(&held));
            let returned = unrun.first_poll_of(async move {
                actix_rt::spawn(async move {
                    ran.set(ran.get() + 1);
                    drop(held);
                });
                tokio::task::yield_now().await;
                // After the first poll, tasks run again.
                actix_rt::spawn(async move { round }).await.unwrap()
            });
            assert_eq!(returned.await, round);
        }
        assert_eq!(ran.get(), 0);
        assert!(
            Rc::strong_count(&held) <= GATHERED as usize + 2,
            "{}",
            Rc::strong_count(&held)
        );
    }
}
