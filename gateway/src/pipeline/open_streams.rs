//! Long-lived requests: uploads, slow responses, downloads, server-sent events, WebSockets. Ends a
//! request when its admission is withdrawn: the key or the token ended, lost a scope of the route,
//! or may no longer be used from the client's address, with the method or on the route.
//!
//! Each worker checks its own requests. A request registers when it first has to wait, which costs
//! no look-up. A sweep looks up every registered request after each change of the table, and once a
//! second for expired keys and tokens. New settings concern streams only, that is event streams and upgraded
//! connections: each is routed again, and ends if no route covers it or the route would not admit
//! it. Other requests finish under the settings that they began with.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use actix_http::Method;
use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::watch as channel;
use tokio::time::{sleep, timeout};

use crate::auth::demand::{Attempt, Denial};
use crate::auth::jwt::{Issuers, VerifiedToken};
use crate::auth::key_source::KeySource;
use crate::auth::token_holder::TokenHolder;
use crate::keys::{CallerAddress, KeyDigest, KeyTable, UnixMillis};
use crate::pipeline::policy::Policy;
use crate::routes::Route;
use crate::store::FeedStatus;

/// Longest time between sweeps: keys expire without a notification.
const MAX_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between sweeps, however often the table changes.
const MIN_SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// Registered requests of one worker.
pub struct OpenStreams {
    keys: Arc<KeyTable>,
    /// Current policy; without one, no stream is routed again.
    policy: Option<Arc<ArcSwap<Policy>>>,
    /// Policy of the last sweep.
    swept: RefCell<Weak<Policy>>,
    slots: RefCell<Slots>,
    generation: Cell<Generation>,
}

/// Number of sweeps so far; detects a sweep between authentication and registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(u64);

/// Facts that admitted a request.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Who was admitted.
    pub caller: Admitted,
    /// Why the credential was denied, on a route that only observes.
    pub observed: Option<Denial>,
    /// Address of the client.
    pub address: CallerAddress,
    /// Method of the request.
    pub method: Method,
    /// Route of the request.
    pub route: Arc<Route>,
    /// What a stream is routed by; `None` for other requests.
    pub routing: Option<Box<Routing>>,
}

/// Who was admitted.
#[derive(Clone, Debug)]
pub enum Admitted {
    /// Holder of the key with this digest.
    Key(KeyDigest),
    /// Holder of this token.
    Token(Arc<VerifiedToken>),
    /// Nobody in particular.
    Anonymous,
}

/// What a request is routed by.
#[derive(Clone, Debug)]
pub struct Routing {
    /// Method.
    pub method: Method,
    /// Host; empty if there is none.
    pub host: String,
    /// Path without the query.
    pub path: String,
    /// Place that the credential came from; `None` for an anonymous request.
    pub key_source: Option<KeySource>,
}

/// Reason for ending an admitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Withdrawal {
    /// The caller is no longer admitted.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// New settings have no route for the request.
    #[error("no route covers the request any more")]
    NoRoute,
}

#[derive(Default)]
struct Slots {
    entries: Vec<Slot>,
    free: Vec<usize>,
}

enum Slot {
    Free,
    Open { admission: Admission, waker: Waker },
    Ended(Withdrawal),
}

/// Watches one request; registers it when it first waits.
pub struct Watch {
    streams: Rc<OpenStreams>,
    since: Generation,
    /// Taken along when the request registers.
    routing: Option<Box<Routing>>,
    entered: Option<OpenStream>,
}

/// Registration of a request; dropping it removes the request.
pub struct OpenStream {
    streams: Rc<OpenStreams>,
    slot: usize,
}

impl OpenStreams {
    /// Creates an empty registry that looks keys up in `keys`.
    #[must_use]
    pub fn new(keys: Arc<KeyTable>) -> Self {
        Self {
            keys,
            policy: None,
            swept: RefCell::default(),
            slots: RefCell::default(),
            generation: Cell::default(),
        }
    }

    /// Routes streams again when `policy` changes.
    #[must_use]
    pub fn under(self, policy: Arc<ArcSwap<Policy>>) -> Self {
        Self {
            swept: RefCell::new(Arc::downgrade(&policy.load())),
            policy: Some(policy),
            ..self
        }
    }

    /// Current generation. Callers read it before they authenticate a request.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation.get()
    }

    /// Registers a request; wakes `waker` when its `admission`, valid as of `since`, is withdrawn.
    #[must_use]
    pub fn enter(
        self: &Rc<Self>,
        mut admission: Admission,
        since: Generation,
        waker: Waker,
    ) -> OpenStream {
        // The next sweep sees changes since the admission, unless a sweep ran before the
        // registration.
        let withdrawn = if since == self.generation() && admission.routing.is_none() {
            None
        } else {
            self.withdrawn_from(&mut admission)
        };
        let slot = match withdrawn {
            None => Slot::Open { admission, waker },
            Some(withdrawn) => Slot::Ended(withdrawn),
        };
        let mut slots = self.slots.borrow_mut();
        let slot = match slots.free.pop() {
            Some(free) => {
                slots.entries[free] = slot;
                free
            }
            None => {
                slots.entries.push(slot);
                slots.entries.len() - 1
            }
        };
        OpenStream {
            streams: Rc::clone(self),
            slot,
        }
    }

    /// Sweeps for ever; ends requests as their admission is withdrawn. `generations` reports each
    /// new policy.
    pub async fn watch(
        &self,
        status: &FeedStatus,
        mut generations: channel::Receiver<u64>,
    ) -> Infallible {
        let mut reached = status.reached();
        loop {
            // The senders live as long as `status` and the process.
            let changed = async {
                tokio::select! {
                    _ = reached.changed() => {}
                    Ok(()) = generations.changed() => {}
                }
            };
            let _ = timeout(MAX_SWEEP_INTERVAL, changed).await;
            reached.mark_unchanged();
            generations.mark_unchanged();
            self.sweep();
            sleep(MIN_SWEEP_INTERVAL).await;
        }
    }

    /// Looks up every registered request and wakes those to end.
    fn sweep(&self) {
        self.generation
            .set(Generation(self.generation.get().0.wrapping_add(1)));
        let news = self.new_policy();
        let current = self.policy.as_ref().map(|policy| policy.load_full());
        let issuers = current.as_deref().map(|policy| &*policy.issuers);
        for slot in &mut self.slots.borrow_mut().entries {
            let Slot::Open { admission, waker } = slot else {
                continue;
            };
            let is_gone = news.as_deref().and_then(|news| admission.route_again(news));
            if let Some(withdrawn) = is_gone.or_else(|| admission.withdrawn(&self.keys, issuers)) {
                waker.wake_by_ref();
                *slot = Slot::Ended(withdrawn);
            }
        }
    }

    /// Returns the policy if it is another one than at the last sweep.
    fn new_policy(&self) -> Option<Arc<Policy>> {
        let policy = self.policy.as_ref()?.load_full();
        let mut swept = self.swept.borrow_mut();
        // The weak reference keeps the old allocation, so no new policy can have its address.
        let is_new = !std::ptr::eq(swept.as_ptr(), Arc::as_ptr(&policy));
        is_new.then(|| {
            *swept = Arc::downgrade(&policy);
            policy
        })
    }

    /// Checks an admission under the current policy.
    fn withdrawn_from(&self, admission: &mut Admission) -> Option<Withdrawal> {
        let policy = self.policy.as_ref().map(|policy| policy.load());
        let policy = policy.as_deref();
        let is_gone = policy.and_then(|policy| admission.route_again(policy));
        let issuers = policy.map(|policy| &*policy.issuers);
        is_gone.or_else(|| admission.withdrawn(&self.keys, issuers))
    }
}

impl Admission {
    /// Applies the same rule as authorisation in the pipeline.
    fn withdrawn(&self, keys: &KeyTable, issuers: Option<&Issuers>) -> Option<Withdrawal> {
        let demand = &self.route.demand;
        // A stream that began with a good credential ends with it here too: the origin was told
        // whose it is.
        let is_anonymous = match &self.caller {
            Admitted::Anonymous => true,
            Admitted::Key(_) | Admitted::Token(_) => self.observed.is_some(),
        };
        if is_anonymous && self.route.auth.observe() {
            return None;
        }
        let admitted = match &self.caller {
            Admitted::Anonymous => match self.observed {
                None | Some(Denial::Missing) => demand.admits_anonymous(),
                Some(denial) => Err(denial),
            },
            Admitted::Key(key) => match keys.lookup(key) {
                None => Err(Denial::Unknown),
                Some(known) => {
                    let attempt = Attempt {
                        address: Some(self.address),
                        method: Some(self.method.as_str()),
                        route: Some(&self.route.name),
                    };
                    demand.admits(&known, UnixMillis::now(), &attempt)
                }
            },
            Admitted::Token(token) => match issuers {
                None => Err(Denial::NotAccepted),
                Some(issuers) => issuers
                    .still_admits(token, UnixMillis::now())
                    .map_err(Denial::of_token)
                    .and_then(|()| {
                        let holder = TokenHolder::find(Arc::clone(token), keys, &demand.buckets);
                        demand.admits_token(&holder, Some(self.address))
                    }),
            },
        };
        admitted.err().map(Withdrawal::from)
    }

    /// Routes a stream by `policy`, whose demand holds from now on.
    fn route_again(&mut self, policy: &Policy) -> Option<Withdrawal> {
        let routing = self.routing.as_deref()?;
        let found = policy
            .routes
            .find(&routing.method, &routing.host, &routing.path);
        match found {
            Ok(route) => {
                let mut source = routing.key_source.iter();
                if source.any(|source| !route.key_sources.contain(source)) {
                    // A new request with its key there would have none.
                    return Some(Denial::Missing.into());
                }
                let is_taken = match &self.caller {
                    Admitted::Key(_) => match routing.key_source {
                        // It may be there for tokens alone.
                        Some(KeySource::Bearer) => route.auth.take_keys_in_bearer(),
                        _ => route.auth.take_keys(),
                    },
                    Admitted::Token(token) => route.auth.take_tokens_of(token.issuer().name()),
                    Admitted::Anonymous => true,
                };
                let passes_anyway = self.observed.is_some() && route.auth.observe();
                if !is_taken && !passes_anyway {
                    return Some(Denial::NotAccepted.into());
                }
                self.route = Arc::clone(route);
                None
            }
            Err(_) => Some(Withdrawal::NoRoute),
        }
    }
}

impl Watch {
    /// Watches a request that authenticated in generation `since` or later.
    #[must_use]
    pub fn new(streams: &Rc<OpenStreams>, since: Generation) -> Self {
        Self {
            streams: Rc::clone(streams),
            since,
            routing: None,
            entered: None,
        }
    }

    /// Makes the request a stream, which new settings may end.
    pub fn follow(&mut self, routing: Routing) {
        let routing = Some(Box::new(routing));
        match &self.entered {
            Some(entered) => entered.follow(routing),
            None => self.routing = routing,
        }
    }

    /// Returns why a request with `admission` must end. While there is no reason, `waker` is woken
    /// once there is one.
    pub fn withdrawn(
        &mut self,
        admission: impl FnOnce() -> Admission,
        waker: &Waker,
    ) -> Option<Withdrawal> {
        let routing = &mut self.routing;
        let enter = || {
            let admission = Admission {
                routing: routing.take(),
                ..admission()
            };
            self.streams.enter(admission, self.since, waker.clone())
        };
        self.entered.get_or_insert_with(enter).withdrawn(waker)
    }
}

impl OpenStream {
    /// Checks the request as a stream from now on.
    fn follow(&self, routing: Option<Box<Routing>>) {
        let slot = &mut self.streams.slots.borrow_mut().entries[self.slot];
        let Slot::Open { admission, .. } = slot else {
            return;
        };
        admission.routing = routing;
        if let Some(withdrawn) = self.streams.withdrawn_from(admission) {
            // Its next poll, which comes before any byte, sees it.
            *slot = Slot::Ended(withdrawn);
        }
    }

    /// Returns why the request must end. While there is no reason, `waker` is woken once there is
    /// one.
    #[must_use]
    pub fn withdrawn(&self, waker: &Waker) -> Option<Withdrawal> {
        match &mut self.streams.slots.borrow_mut().entries[self.slot] {
            Slot::Ended(withdrawn) => Some(*withdrawn),
            Slot::Open { waker: known, .. } => {
                known.clone_from(waker);
                None
            }
            Slot::Free => None,
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut slots = self.streams.slots.borrow_mut();
        let freed = std::mem::replace(&mut slots.entries[self.slot], Slot::Free);
        slots.free.push(self.slot);
        // Dropping a waker can drop its task, which may itself be registered.
        drop(slots);
        drop(freed);
    }
}

#[cfg(test)]
mod tests;
