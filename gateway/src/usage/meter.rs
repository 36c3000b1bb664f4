//! The worker's side: counts by key and hour in memory that no other thread sees.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::keys::KeyUsage;
use crate::usage::UsagePage;

/// How often counts are handed over. With what the ledger takes, no count is in memory alone for a second.
const HAND_OVER_EVERY: Duration = Duration::from_millis(250);

/// Counts what one worker's requests do.
///
/// What was counted is handed over some times a second, and when the meter is dropped.
#[derive(Clone, Debug)]
pub struct UsageMeter(Rc<Counted>);

/// Where meters hand over to. Sending takes no lock.
#[derive(Clone, Debug)]
pub struct UsageSender(pub(super) UnboundedSender<UsagePage>);

#[derive(Debug)]
struct Counted {
    page: RefCell<UsagePage>,
    ledger: UsageSender,
}

impl UsageMeter {
    /// A meter that hands over to `ledger`. Must be made in the worker's own runtime.
    #[must_use]
    pub fn new(ledger: UsageSender) -> Self {
        let counted = Rc::new(Counted {
            page: RefCell::default(),
            ledger,
        });
        actix_rt::spawn(hand_over_often(Rc::downgrade(&counted)));
        Self(counted)
    }

    /// Counts.
    pub fn count(&self, more: &KeyUsage) {
        self.0.page.borrow_mut().add(more);
    }
}

/// Until the meter is gone.
async fn hand_over_often(counted: Weak<Counted>) {
    loop {
        actix_rt::time::sleep(HAND_OVER_EVERY).await;
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
            // It fails once the ledger is closed, which is after the workers have been waited for.
            let _ = self.ledger.0.send(page.take());
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.hand_over();
    }
}
