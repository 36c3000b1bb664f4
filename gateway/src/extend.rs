//! The interface for programs that add rules of their own to the gateway: a crate of one's own, with
//! this one as a dependency, and no fork. `docs/EXTEND.md` has the steps, `examples/own-gateway` a
//! whole program.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use postern_gateway::extend::{Gateway, OriginHeaders, Refusal, Request, Rules};
//! use serde::{Deserialize, Serialize};
//!
//! /// `[own.size]` in `gateway.toml`.
//! #[derive(Deserialize, Serialize)]
//! #[serde(default)]
//! struct Size {
//!     max_path_bytes: usize,
//! }
//!
//! impl Default for Size {
//!     fn default() -> Self {
//!         Self { max_path_bytes: 200 }
//!     }
//! }
//!
//! const TOO_LONG: Refusal = Refusal::new(403, "path_too_long", "Path too long");
//!
//! fn main() -> ExitCode {
//!     Gateway::new()
//!         .own("size", |size: Size| {
//!             let check = move |request: &Request<'_>, _: &mut OriginHeaders<'_>| {
//!                 if request.path().len() > size.max_path_bytes {
//!                     return Err(TOO_LONG);
//!                 }
//!                 Ok(())
//!             };
//!             Ok(Rules::new().check(check))
//!         })
//!         .start()
//! }
//! ```
//!
//! What stands here is the promise of this crate: it changes only with a new version, and the
//! changelog says how. [`Check`] has the contract of a check.

use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::{self, EXIT_USAGE};
use crate::config::own::{Registration, Registrations};
use crate::{panics, tls};

pub use crate::config::own::OwnProblem as Problem;
pub use crate::http::own_refusal::OwnRefusal as Refusal;
pub use crate::rules::{Check, OriginHeaders, RuleCaller as Caller, RuleRequest as Request, Rules};

/// A gateway with rules of one's own: the whole command line, in a program of another name.
#[derive(Default)]
#[must_use = "`start` runs it"]
pub struct Gateway {
    sections: Vec<Registration>,
}

impl Gateway {
    /// The gateway as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the section of settings `[own.NAME]`, and the rules that `build` makes of it. The name
    /// consists of 1 to 32 lower-case letters, digits and `_`, a letter first.
    ///
    /// `S` is a struct with named fields, or `()` without settings. `Deserialize` reads it from the
    /// file and from variables `GATEWAY__OWN__NAME__…`: a setting that it does not have is refused,
    /// like one without a default that is missing. `Serialize` shows it in `gateway check` and
    /// `/v1/config`, defaults included. Texts are shown as `[redacted]` where the name of their
    /// setting contains `secret`, `password`, `passphrase`, `token` or `credential`; a setting whose
    /// name ends in `_file` is the path of a file, and the settings are read again once that
    /// changes.
    ///
    /// `build` is called at the start, for `gateway check`, and each time that the settings are read
    /// again, on a thread that may read files. What it refuses is reported with all other problems;
    /// then the gateway does not start, and one that runs keeps its settings and rules. Rules of a
    /// section that did not change stay as they are, with what they remember.
    pub fn own<S, B>(mut self, name: &'static str, build: B) -> Self
    where
        S: DeserializeOwned + Serialize,
        B: Fn(S) -> Result<Rules, Vec<Problem>> + Send + Sync + 'static,
    {
        self.sections.push(Registration::new(name, build));
        self
    }

    /// Parses the arguments of the process and runs the command: all of `gateway`'s, such as `serve`,
    /// `check` and `keys create`. Call it once, as the last of `main`: it replaces the panic hook and
    /// installs the provider of cryptography. The allocator is the choice of the program; `gateway`
    /// has mimalloc.
    #[must_use]
    pub fn start(self) -> ExitCode {
        panics::install_hook();
        tls::install_provider();
        match Registrations::new(self.sections) {
            Ok(own) => cli::start(&own),
            Err(message) => {
                eprintln!("gateway: {message}");
                ExitCode::from(EXIT_USAGE)
            }
        }
    }
}
