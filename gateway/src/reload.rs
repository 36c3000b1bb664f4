//! New settings in a running gateway: what triggers a reading, what is read, what differs, and the
//! state that operators see. Applies nothing itself: [`crate::app`] does.

mod changes;
mod inputs;
mod last_good;
mod list;
mod reading;
mod status;
pub mod view;

pub use changes::{Difference, changed, compare, hash, in_force};
pub use inputs::{Fingerprint, Inputs};
pub use last_good::keep;
pub use list::{OnReload, SETTINGS, hold};
pub use reading::{Reading, read};
pub use status::{Answer, Attempt, Outcome, Reloads, Running, Trigger, Waiting};
