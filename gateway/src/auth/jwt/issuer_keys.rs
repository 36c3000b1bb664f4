//! [`IssuerKeys`]: the keys of an issuer as they are known at the moment. The control plane fetches
//! them; the data plane only says that it lacks one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, oneshot};

use crate::auth::jwt::fault::TokenFault;
use crate::auth::jwt::key_set::KeySet;
use crate::keys::UnixMillis;

/// Keys of an issuer, shared by all generations of settings that take them from one source.
#[derive(Debug, Default)]
pub struct IssuerKeys {
    held: ArcSwapOption<KeyState>,
    is_wanted: AtomicBool,
    wanted: Notify,
    asking: Mutex<Vec<Asking>>,
    asked: Notify,
    fetches: [AtomicU64; FetchResult::ALL.len()],
    problem: ArcSwapOption<FetchProblem>,
}

/// Keys as they are known at the moment.
#[derive(Debug)]
pub struct KeyState {
    /// The keys.
    pub set: KeySet,
    /// Where they were taken from.
    pub origin: KeyOrigin,
    /// When they were fetched, by this gateway or the one that saved them; for keys of a file, when
    /// the gateway read it.
    pub fetched_at: UnixMillis,
    /// When they are to be fetched again; `None` means never.
    pub due_at: Option<UnixMillis>,
    /// When they are too old to be believed; `None` means never.
    pub good_until: Option<UnixMillis>,
}

/// Where keys were taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// A file of the settings.
    Settings,
    /// The provider.
    Provider,
    /// The file of an earlier run, which had them from the provider.
    Snapshot,
}

/// Why the last fetch failed.
#[derive(Debug)]
pub struct FetchProblem {
    /// When it failed.
    pub at: UnixMillis,
    /// The cause, for the operator.
    pub message: String,
}

/// Somebody who waits for the outcome of a fetch that begins from now on.
#[derive(Debug)]
pub struct Asking(oneshot::Sender<Result<(), String>>);

/// Generates the enum of results and the list of their names.
macro_rules! results {
    ($($(#[$meta:meta])+ $result:ident => $name:literal;)+) => {
        /// What became of a fetch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FetchResult {
            $($(#[$meta])+ $result,)+
        }

        impl FetchResult {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$result),+];

            /// Name in metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$result => $name,)+
                }
            }
        }
    };
}

results! {
    /// A usable set.
    Fetched => "fetched";
    /// The same set as before (304).
    Unchanged => "unchanged";
    /// No connection, or one that broke before the answer.
    Unreachable => "unreachable";
    /// No whole answer in time.
    Timeout => "timeout";
    /// Another status than 200.
    Status => "status";
    /// More bytes than are read.
    TooLarge => "too_large";
    /// The answer ended early.
    BrokenOff => "broken_off";
    /// No key set, or nothing usable in it; or the discovery document is of another issuer.
    Unusable => "unusable";
}

impl Asking {
    /// Says what became of the fetch.
    pub fn answer(self, outcome: Result<(), String>) {
        // Whoever asked may be gone.
        let _ = self.0.send(outcome);
    }
}

impl IssuerKeys {
    /// Keys of a file.
    pub(super) fn fixed(set: &Arc<KeySet>) -> Self {
        let keys = Self::default();
        keys.replace(KeyState {
            set: KeySet::clone(set),
            origin: KeyOrigin::Settings,
            fetched_at: UnixMillis::now(),
            due_at: None,
            good_until: None,
        });
        keys
    }

    /// Keys as they are known at the moment, however old.
    #[must_use]
    pub fn state(&self) -> Option<Arc<KeyState>> {
        self.held.load_full()
    }

    /// Puts fetched keys in force. Tokens that were signed with a key that is gone are not taken any
    /// more.
    pub fn replace(&self, state: KeyState) {
        let before = self.held.load();
        let set = match before.as_ref() {
            Some(before) => state.set.succeeding(&before.set),
            None => state.set,
        };
        self.held.store(Some(Arc::new(KeyState { set, ..state })));
    }

    /// Waits until a request lacks a key. Requests of the past count once.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
        self.is_wanted.store(false, Ordering::Release);
    }

    /// Waits until somebody asks for a fetch.
    pub async fn asked(&self) -> Vec<Asking> {
        self.asked.notified().await;
        std::mem::take(&mut self.asking.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the keys fetched now, and waits for the outcome.
    ///
    /// # Errors
    /// Why they could not be fetched.
    pub async fn refresh(&self) -> Result<(), String> {
        let outcome = self.ask().await;
        outcome.unwrap_or_else(|_| Err("the issuer is no longer configured".to_owned()))
    }

    fn ask(&self) -> oneshot::Receiver<Result<(), String>> {
        let (asking, outcome) = oneshot::channel();
        {
            let mut all = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(Asking(asking));
        }
        self.asked.notify_one();
        outcome
    }

    /// Records the end of a fetch; a failed one with its cause.
    pub fn record(&self, result: FetchResult, problem: Option<FetchProblem>) {
        if let Some(counter) = self.fetches.get(result as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.problem.store(problem.map(Arc::new));
    }

    /// Fetches with this result.
    #[must_use]
    pub fn fetches(&self, result: FetchResult) -> u64 {
        let counter = self.fetches.get(result as usize);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Why the last fetch failed; `None` if it did not.
    #[must_use]
    pub fn problem(&self) -> Option<Arc<FetchProblem>> {
        self.problem.load_full()
    }

    /// Asks the control plane for keys. Waits for nothing.
    pub(super) fn want(&self) {
        if !self.is_wanted.swap(true, Ordering::AcqRel) {
            self.wanted.notify_one();
        }
    }

    /// Looks at the keys, if they may be believed.
    pub(super) fn look<T>(
        &self,
        now: UnixMillis,
        look: impl FnOnce(&KeySet) -> T,
    ) -> Result<T, TokenFault> {
        let held = self.held.load();
        match held.as_ref().filter(|state| state.is_good(now)) {
            Some(state) => Ok(look(&state.set)),
            None => {
                self.want();
                Err(TokenFault::KeysUnavailable)
            }
        }
    }
}

impl KeyState {
    /// Whether the keys may still be believed.
    #[must_use]
    pub fn is_good(&self, now: UnixMillis) -> bool {
        self.good_until.is_none_or(|until| now < until)
    }
}
