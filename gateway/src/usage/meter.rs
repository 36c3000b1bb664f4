//! Worker side: counts by key and hour in memory of one thread.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::keys::KeyUsage;
use crate::usage::UsagePage;

/// Interval between hand-overs. With the ledger's interval, no count stays in memory for a second.
const HAND_OVER_INTERVAL: Duration = Duration::from_millis(250);

/// Counts the requests of one worker.
///
/// Hands over several times a second, and when dropped.
#[derive(Clone, Debug)]
pub struct UsageMeter(Rc<Counted>);

/// Channel from the meters to the ledger. Sending takes no lock.
#[derive(Clone, Debug)]
pub struct UsageSender(pub(super) UnboundedSender<UsagePage>);

#[derive(Debug)]
struct Counted {
    page: RefCell<UsagePage>,
    ledger: UsageSender,
}

impl UsageMeter {
    /// Creates a meter for `ledger`. Must be called in the worker's own runtime.
    #[must_use]
    pub fn new(ledger: UsageSender) -> Self {
        let counted = Rc::new(Counted {
            page: RefCell::default(),
            ledger,
        });
        actix_rt::spawn(hand_over_often(Rc::downgrade(&counted)));
        Self(counted)
    }

    /// Adds usage.
    pub fn count(&self, more: &KeyUsage) {
        self.0.page.borrow_mut().add(more);
    }
}

/// Hands over periodically until the meter is dropped.
async fn hand_over_often(counted: Weak<Counted>) {
    loop {
        actix_rt::time::sleep(HAND_OVER_INTERVAL).await;
        match counted.upgrade() {
            Some(counted) => counted.hand_over(),
            None => return,
        }
    }
}

impl Counted {
    fn hand_over(&self) {
        let mut page = self.page.borrow_mut();
        if !page.is_empty() {
            // Fails once the ledger is closed, which happens after the workers have ended.
            let _ = self.ledger.0.send(page.take());
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.hand_over();
    }
}
