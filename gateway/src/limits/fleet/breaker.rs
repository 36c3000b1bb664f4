//! [`Breaker`]: whether exchanges mostly fail.

/// Outcomes that count.
const HISTORY: u32 = 8;
/// Failures among them from which it is open.
const TOO_MANY: u32 = 4;

/// Outcomes of the latest exchanges. It opens when half of them failed, not when one did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    /// A bit for each, the latest lowest; 1 is a failure.
    outcomes: u8,
}

impl Breaker {
    /// Notes an outcome.
    pub(super) fn note(&mut self, succeeded: bool) {
        self.outcomes = self.outcomes << 1 | u8::from(!succeeded);
    }

    /// Whether it is open.
    pub(super) fn is_open(self) -> bool {
        const { assert!(HISTORY == u8::BITS) };
        self.outcomes.count_ones() >= TOO_MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_when_half_of_the_latest_failed_and_closes_when_fewer_did() {
        for (outcomes, open) in [
            ("", false),
            ("f", false),
            ("fff", false),
            ("ffff", true),
            ("sssssssssfsfsf", false),
            ("sssssssssfsfsfsf", true),
            ("ffffffffssss", true),
            ("ffffffffsssss", false),
        ] {
            let mut breaker = Breaker::default();
            for outcome in outcomes.bytes() {
                breaker.note(outcome == b's');
            }
            assert_eq!(breaker.is_open(), open, "{outcomes}");
        }
    }
}
