//! Rules of one's own: what a program that is built on this crate adds to the stages of a request.
//! [`extend`](crate::extend) is how it adds them, and the promise about them.

mod caller;
mod origin_headers;
mod request;

use std::fmt;
use std::sync::Arc;

pub use caller::RuleCaller;
pub use origin_headers::{InvalidOriginHeader, OriginHeaders};
pub use request::RuleRequest;

use actix_http::header::HeaderName;

use crate::http::own_refusal::OwnRefusal;

/// A check of one's own: asked about each request that the gateway's own rules let in.
///
/// It runs after the caller is known and admitted, and before the request takes anything of a
/// limit: what it refuses costs its caller no quota. It is not asked about health checks, preflights
/// of browsers, and requests that are refused before.
///
/// **It may not block.** It runs on the thread of a worker, between other requests: no input or
/// output, no lock that another thread holds for long, no sleep. What it needs from outside, a
/// thread of the program fetches and leaves in memory. Every worker asks the same check, several at
/// once.
///
/// **A panic costs one request**: the client gets 500 `internal_error`, the origin nothing. So does
/// a header for the origin that is not declared or whose value is none.
///
/// **It is asked once**, when the request begins; a WebSocket or an event stream that it let in ends
/// with its key, not with a change of its mind. A request with `Expect: 100-continue` asks twice,
/// and so a check must not count. With new settings, the checks of a section that changed are made
/// anew, all others stay.
pub trait Check: Send + Sync + 'static {
    /// Lets the request pass, with headers for `origin` if it sets some.
    ///
    /// # Errors
    /// The refusal that the client gets.
    fn check(
        &self,
        request: &RuleRequest<'_>,
        origin: &mut OriginHeaders<'_>,
    ) -> Result<(), OwnRefusal>;
}

impl<F> Check for F
where
    F: Fn(&RuleRequest<'_>, &mut OriginHeaders<'_>) -> Result<(), OwnRefusal>
        + Send
        + Sync
        + 'static,
{
    fn check(
        &self,
        request: &RuleRequest<'_>,
        origin: &mut OriginHeaders<'_>,
    ) -> Result<(), OwnRefusal> {
        self(request, origin)
    }
}

/// What one section of settings makes: checks, the headers that they may set for the origin, and
/// those with credentials that only they know.
#[derive(Default, Clone)]
pub struct Rules {
    checks: Vec<Arc<dyn Check>>,
    origin_headers: Vec<String>,
    credential_headers: Vec<String>,
}

impl Rules {
    /// No rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check. The checks of a gateway run in the order in which they were added, until one
    /// refuses.
    #[must_use]
    pub fn check(mut self, check: impl Check) -> Self {
        self.checks.push(Arc::new(check));
        self
    }

    /// Declares a header that checks may set for the origin. It is removed from every request of a
    /// client, whether or not a check sets it, so that the origin can trust it. Headers of the
    /// gateway itself, and those with a meaning in HTTP, are refused with the settings.
    #[must_use]
    pub fn origin_header(mut self, name: &str) -> Self {
        self.origin_headers.push(name.to_owned());
        self
    }

    /// Declares a header that clients send a credential of one's own in, such as a signature.
    /// Checks read it with [`RuleRequest::credential`]; it reaches no origin, and caches are told
    /// that answers vary by it (`Vary`). The same names are refused as for [`Self::origin_header`].
    #[must_use]
    pub fn credential_header(mut self, name: &str) -> Self {
        self.credential_headers.push(name.to_owned());
        self
    }

    /// Names of the headers that checks may set.
    #[must_use]
    pub fn origin_headers(&self) -> &[String] {
        &self.origin_headers
    }

    /// Names of the headers that credentials of one's own come in.
    #[must_use]
    pub fn credential_headers(&self) -> &[String] {
        &self.credential_headers
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("checks", &self.checks.len())
            .field("origin_headers", &self.origin_headers)
            .field("credential_headers", &self.credential_headers)
            .finish()
    }
}

/// A check with the name of its section.
#[derive(Clone)]
pub struct NamedCheck {
    /// Name of the section, for the access log.
    pub section: Arc<str>,
    /// The check.
    pub check: Arc<dyn Check>,
}

/// All rules in force.
#[derive(Default, Clone)]
pub struct RulesInForce {
    /// Checks in their order.
    pub checks: Box<[NamedCheck]>,
    /// Headers that only these checks set, in lower case.
    pub origin_headers: Box<[HeaderName]>,
    /// Headers that only these checks read, in lower case.
    pub credential_headers: Box<[HeaderName]>,
    /// All of these: what of a client reaches no origin.
    pub kept_back: Box<[HeaderName]>,
}

impl RulesInForce {
    /// The rules of all `sections`, with their names, in their order.
    pub fn of<'s>(sections: impl Iterator<Item = (&'s str, &'s Rules)>) -> Self {
        let (mut checks, mut set, mut read) = (Vec::new(), Vec::new(), Vec::new());
        for (section, rules) in sections {
            let section: Arc<str> = section.into();
            checks.extend(rules.checks.iter().map(|check| NamedCheck {
                section: Arc::clone(&section),
                check: Arc::clone(check),
            }));
            // The settings were refused with names that are none.
            let parse = |name: &String| name.parse::<HeaderName>().ok();
            set.extend(rules.origin_headers.iter().filter_map(parse));
            read.extend(rules.credential_headers.iter().filter_map(parse));
        }
        Self {
            checks: checks.into(),
            kept_back: [&set[..], &read[..]].concat().into(),
            origin_headers: set.into(),
            credential_headers: read.into(),
        }
    }
}

impl fmt::Debug for RulesInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sections: Vec<&str> = self.checks.iter().map(|one| &*one.section).collect();
        f.debug_struct("RulesInForce")
            .field("checks", &sections)
            .field("origin_headers", &self.origin_headers)
            .field("credential_headers", &self.credential_headers)
            .finish()
    }
}
