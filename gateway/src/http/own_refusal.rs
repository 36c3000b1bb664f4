//! [`OwnRefusal`]: the refusal of a check that a program builds into its gateway.

use std::borrow::Cow;

/// Why a check of one's own refuses a request: a status, a code and a title that this crate does
/// not know. Answered as every refusal is: problem+json (RFC 9457), never cached, in the access log
/// under its code.
///
/// Make it a constant, and a wrong status or code does not compile:
///
/// ```
/// use postern_gateway::extend::Refusal;
///
/// const CLOSED: Refusal = Refusal::new(403, "outside_hours", "Closed at this hour");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRefusal {
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    retry_after: Option<u32>,
    challenge: Option<&'static str>,
}

impl OwnRefusal {
    /// A refusal with this `status` (RFC 9110, section 15), the `code` for programs, and the
    /// `title` for people, the same for every refusal with this code.
    ///
    /// The status is 400 to 599, but not 401, 405, 407, 408 or 426: those say something that a
    /// check cannot, such as a challenge. The code consists of 1 to 64 lower-case letters and `_`. The
    /// `type` of the problem is `urn:postern:problem:own:CODE`, so that it is never one of the
    /// gateway's own.
    ///
    /// # Panics
    /// On another status or code; in a constant, that is an error of the compiler.
    #[must_use]
    pub const fn new(status: u16, code: &'static str, title: &'static str) -> Self {
        assert!(
            status >= 400 && status <= 599 && !matches!(status, 401 | 405 | 407 | 408 | 426),
            "the status of a refusal is 400 to 599, but not 401, 405, 407, 408 or 426"
        );
        Self::of_any_status(status, code, title)
    }

    /// A refusal with status 401 for a request without a good credential of one's own, and the
    /// `challenge` that says how to send one (`WWW-Authenticate`, RFC 9110, section 11.6.1), such
    /// as `Signature realm="partners"`.
    ///
    /// # Panics
    /// On a wrong code, or a challenge that cannot stand in a header; in a constant, that is an
    /// error of the compiler.
    #[must_use]
    pub const fn unauthorized(
        challenge: &'static str,
        code: &'static str,
        title: &'static str,
    ) -> Self {
        assert!(
            is_challenge(challenge.as_bytes()),
            "a challenge is visible ASCII and spaces"
        );
        let mut refusal = Self::of_any_status(401, code, title);
        refusal.challenge = Some(challenge);
        refusal
    }

    const fn of_any_status(status: u16, code: &'static str, title: &'static str) -> Self {
        assert!(
            is_code(code.as_bytes()),
            "the code of a refusal is 1 to 64 lower-case letters and `_`"
        );
        assert!(!title.is_empty(), "the title of a refusal is not empty");
        Self {
            status,
            code,
            title,
            detail: Cow::Borrowed(""),
            retry_after: None,
            challenge: None,
        }
    }

    /// Adds what is to be said of this request; the client reads it. Never put a credential there.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds `Retry-After` (RFC 9110, section 10.2.3), in seconds.
    #[must_use]
    pub const fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Status of the response.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Code for programs and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// Title for people.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        self.title
    }

    /// What is said of this request; the title where nothing was added.
    #[must_use]
    pub fn detail(&self) -> Cow<'static, str> {
        if self.detail.is_empty() {
            format!("{}.", self.title.trim_end_matches('.')).into()
        } else {
            self.detail.clone()
        }
    }

    /// Challenge of a refusal with status 401.
    #[must_use]
    pub const fn challenge(&self) -> Option<&'static str> {
        self.challenge
    }

    /// Seconds of `Retry-After`.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }
}

/// An example, for lists of all refusals.
impl Default for OwnRefusal {
    fn default() -> Self {
        Self::new(403, "own_rule", "Refused by a rule of this gateway")
    }
}

const fn is_challenge(challenge: &[u8]) -> bool {
    let mut at = 0;
    while at < challenge.len() {
        if !(challenge[at].is_ascii_graphic() || challenge[at] == b' ') {
            return false;
        }
        at += 1;
    }
    !challenge.is_empty()
}

const fn is_code(code: &[u8]) -> bool {
    let mut at = 0;
    while at < code.len() {
        if !(code[at].is_ascii_lowercase() || code[at] == b'_') {
            return false;
        }
        at += 1;
    }
    matches!(code.len(), 1..=64)
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_refusal_has_a_status_that_a_check_may_answer_and_a_code_for_programs() {
        for (status, code, title, is_one) in [
            (403, "outside_hours", "Closed", true),
            (400, "a", "A", true),
            (599, "_", "A", true),
            (399, "a", "A", false),
            (600, "a", "A", false),
            (200, "a", "A", false),
            (401, "a", "A", false),
            (405, "a", "A", false),
            (407, "a", "A", false),
            (408, "a", "A", false),
            (426, "a", "A", false),
            (403, "", "A", false),
            (403, "A", "A", false),
            (403, "a b", "A", false),
            (403, "a1", "A", false),
            (403, "a", "", false),
        ] {
            let made = catch_unwind(|| OwnRefusal::new(status, code, title));
            assert_eq!(made.is_ok(), is_one, "{status} {code:?} {title:?}");
        }
        for (challenge, is_one) in [
            ("Signature realm=\"a\"", true),
            ("", false),
            ("a\r\nb: c", false),
        ] {
            let made = catch_unwind(|| OwnRefusal::unauthorized(challenge, "a", "A"));
            assert_eq!(made.is_ok(), is_one, "{challenge:?}");
        }
        let long: &'static str = "a".repeat(65).leak();
        assert!(catch_unwind(|| OwnRefusal::new(403, long, "A")).is_err());
    }
}
