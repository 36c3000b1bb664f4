//! Counts that the gateways of a fleet share through a Valkey or Redis server.
//!
//! Decisions stay in memory, on the gateway's own count and what it last heard of the others'. The
//! exchange is a duty of the control plane; no request waits for it.

mod breaker;
mod keys;
mod leases;
mod round;
pub(super) mod server;

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use self::server::{Server, ServerTls};
use crate::limits::fleet::breaker::Breaker;
use crate::limits::fleet::server::{Fault, Link};
use crate::limits::memory::Memory;

/// Time after which a lost connection that is not back is an outage.
const GRACE: Duration = Duration::from_millis(300);
/// Pauses after failures: the first, and the longest.
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Interval between looks at the server: whether it takes writes, and its clock.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Lifetime of what a look writes, in milliseconds.
const PROBE_LIFETIME: u64 = 60_000;
/// Difference of clocks, in milliseconds, above which windows are no longer the same.
const MAX_AHEAD: u64 = 1_000;

/// The exchange of counts with the other gateways.
pub struct CountExchange {
    server: Server,
    memory: Arc<Memory>,
    every: Duration,
    /// Name of this gateway there. Random for each start, for a gateway that was started again must
    /// not overwrite what it counted before.
    gateway: String,
}

/// State of one run of the duty.
#[derive(Default)]
struct State {
    breaker: Breaker,
    /// What the log said last.
    said: Said,
}

#[derive(Default)]
struct Said {
    is_up: Option<bool>,
    /// Kinds of causes of the present outage.
    causes: Vec<Discriminant<Fault>>,
    clocks_differ: bool,
    evicts: bool,
}

impl CountExchange {
    /// Exchanges the counts in `memory` through `server` once in each span `every`.
    #[must_use]
    pub fn new(server: Server, memory: Arc<Memory>, every: Duration) -> Self {
        memory.link.use_server();
        Self {
            server,
            memory,
            every,
            gateway: format!("{:016x}", RandomState::new().hash_one(std::process::id())),
        }
    }

    /// Keeps exchanging.
    pub async fn keep(&self) -> Infallible {
        let (mut state, mut pause) = (State::default(), MIN_PAUSE);
        loop {
            let begun = Instant::now();
            let fault = match self.connect(&mut state).await {
                Ok(link) => self.serve(link, &mut state).await,
                Err(fault) => fault,
            };
            if begun.elapsed() > MAX_PAUSE * 2 {
                pause = MIN_PAUSE;
            }
            // Otherwise it is no outage if the connection is back at once.
            if state.breaker.is_open() {
                self.set_up(&mut state, Err(&fault));
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Connects. That is an outage while it takes longer than [`GRACE`], and if it fails.
    async fn connect(&self, state: &mut State) -> Result<Link, Fault> {
        let mut connecting = Box::pin(self.open());
        let opened = match timeout(GRACE, &mut connecting).await {
            Ok(opened) => opened,
            Err(_) => {
                self.set_up(state, Err(&Fault::Slow));
                connecting.await
            }
        };
        if let Err(fault) = &opened {
            self.memory.link.count(false);
            state.breaker.note(false);
            self.set_up(state, Err(fault));
        }
        opened
    }

    /// Connects, and sees to it that the server takes writes.
    async fn open(&self) -> Result<Link, Fault> {
        let mut link = self.server.connect().await?;
        self.probe(&mut link).await?;
        Ok(link)
    }

    /// Exchanges over `link` until it is of no more use.
    async fn serve(&self, mut link: Link, state: &mut State) -> Fault {
        // The server may be another one, or have lost its latest writes; answers of the last
        // connection are lost.
        self.tell_again();
        for of in self.memory.named_tables() {
            of.table.ask_again();
        }
        self.wake_waiters();
        if !state.breaker.is_open() {
            self.set_up(state, Ok(()));
        }
        self.look(&mut link, &mut state.said).await;
        let leasing = link.clone();
        let state = RefCell::new(state);
        tokio::select! {
            fault = self.exchange(link, &state) => fault,
            fault = self.lease(leasing, &state) => fault,
        }
    }

    /// Exchanges the counts that changed, round after round.
    async fn exchange(&self, mut link: Link, state: &RefCell<&mut State>) -> Fault {
        let mut next_look = Instant::now() + LOOK_INTERVAL;
        let mut pause = MIN_PAUSE;
        loop {
            let begun = Instant::now();
            let outcome = round::make(&self.memory, &link, &self.gateway).await;
            self.memory.link.set_waiting(outcome.waiting);
            for _ in 0..outcome.succeeded {
                self.note(&mut state.borrow_mut(), true);
            }
            for _ in &outcome.faults {
                self.note(&mut state.borrow_mut(), false);
            }
            let is_open = state.borrow().breaker.is_open();
            if let Some(fault) = outcome
                .faults
                .iter()
                .find(|fault| is_end(fault, &link, is_open))
            {
                return fault.clone();
            }
            if outcome.has_forgotten {
                log::warn!(
                    "the server at {} forgot the counts of limits, and is told them again",
                    self.server
                );
                self.tell_again();
            }
            let fault = outcome.faults.last();
            if let Some(fault) = fault.filter(|_| is_open) {
                self.set_up(&mut state.borrow_mut(), Err(fault));
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            } else {
                pause = MIN_PAUSE;
                if !is_open {
                    self.set_up(&mut state.borrow_mut(), Ok(()));
                }
                // With subjects waiting, the next round begins soon.
                let wait = if outcome.waiting > 0 {
                    MIN_PAUSE.min(self.every)
                } else {
                    self.every
                };
                sleep_until(begun + wait).await;
            }
            let is_due = Instant::now() >= next_look;
            if is_due || is_open {
                let probed = self.probe(&mut link).await;
                self.note(&mut state.borrow_mut(), probed.is_ok());
                if let Err(fault) = probed
                    && is_end(&fault, &link, is_open)
                {
                    return fault;
                }
            }
            if is_due {
                let mut seen = Said::default();
                std::mem::swap(&mut seen, &mut state.borrow_mut().said);
                self.look(&mut link, &mut seen).await;
                state.borrow_mut().said = seen;
                next_look = Instant::now() + LOOK_INTERVAL;
            }
        }
    }

    /// Asks for leases of exact limits whenever some are wanted.
    async fn lease(&self, link: Link, state: &RefCell<&mut State>) -> Fault {
        loop {
            self.memory.lease_wanted.notified().await;
            let forgotten = leases::forget(&self.memory, &link).await;
            let mut outcomes = leases::make(&self.memory, &link).await;
            outcomes.extend(forgotten.err().map(Err));
            self.wake_waiters();
            for outcome in outcomes {
                self.note(&mut state.borrow_mut(), outcome.is_ok());
                let is_open = state.borrow().breaker.is_open();
                if let Err(fault) = outcome
                    && is_end(&fault, &link, is_open)
                {
                    return fault;
                }
            }
        }
    }

    fn note(&self, state: &mut State, succeeded: bool) {
        self.memory.link.count(succeeded);
        state.breaker.note(succeeded);
    }

    /// Writes something, to see whether the server takes it.
    async fn probe(&self, link: &mut Link) -> Result<(), Fault> {
        let mut commands = Pipeline::new();
        let key = keys::probe(&self.gateway);
        commands
            .cmd("SET")
            .arg(key)
            .arg(1)
            .arg("PX")
            .arg(PROBE_LIFETIME);
        let answers = link.ask(&mut commands).await?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }

    /// Compares the clocks, and looks whether the server may evict counts.
    async fn look(&self, link: &mut Link, said: &mut Said) {
        let mut commands = Pipeline::new();
        commands.cmd("TIME");
        let answers = link.ask(&mut commands).await;
        let time = answers.ok().and_then(|mut answers| answers.pop()?.ok());
        let time = time.and_then(|time| redis::from_redis_value::<(i64, i64)>(time).ok());
        if let Some((seconds, micros)) = time {
            let server = seconds.saturating_mul(1000).saturating_add(micros / 1000);
            let ahead = server.saturating_sub(self.memory.now().unix_millis());
            self.memory.link.set_ahead(ahead);
            let differ = ahead.unsigned_abs() > MAX_AHEAD;
            if differ && !said.clocks_differ {
                log::warn!(
                    "the clocks of this gateway and of the server at {} differ by {}: gateways whose clocks differ count in different windows",
                    self.server,
                    humantime::format_duration(Duration::from_millis(ahead.unsigned_abs()))
                );
            }
            said.clocks_differ = differ;
        }
        let mut commands = Pipeline::new();
        commands.cmd("INFO").arg("memory");
        let answers = link.ask(&mut commands).await;
        let memory = answers.ok().and_then(|mut answers| answers.pop()?.ok());
        let evicts = memory.is_some_and(|memory| says(&memory, "maxmemory_policy:allkeys-"));
        if evicts && !said.evicts {
            log::warn!(
                "the server at {} may evict counts of limits when its memory is full: set its maxmemory-policy to noeviction or volatile-ttl",
                self.server
            );
        }
        said.evicts = evicts;
    }

    fn tell_again(&self) {
        for of in self.memory.named_tables() {
            of.table.tell_again();
        }
    }

    /// Has requests that wait for units look again.
    fn wake_waiters(&self) {
        self.memory.leased.send_modify(|answers| *answers += 1);
    }

    /// Sets whether counts are exchanged. Logs each change, and each kind of cause once an outage: a
    /// server that was slow first may refuse the password later.
    fn set_up(&self, state: &mut State, is_up: Result<(), &Fault>) {
        self.memory.link.set_up(is_up.is_ok());
        if state.said.is_up.replace(is_up.is_ok()) != Some(is_up.is_ok()) {
            self.wake_waiters();
            state.said.causes.clear();
            if is_up.is_ok() {
                log::info!("limits are shared through the server at {}", self.server);
            }
        }
        if let Err(fault) = is_up
            && !state.said.causes.contains(&discriminant(fault))
        {
            state.said.causes.push(discriminant(fault));
            log::warn!(
                "limits are not shared, and limits.on_outage holds: the server at {}: {fault}",
                self.server
            );
        }
    }
}

impl fmt::Debug for CountExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountExchange")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Whether `fault` ends the use of `link`, while most exchanges fail or not. Other nodes of a
/// cluster may answer, and its connection mends itself.
fn is_end(fault: &Fault, link: &Link, is_open: bool) -> bool {
    fault.ends_link() && (!link.is_cluster() || is_open)
}

/// Whether an answer, or one of a cluster's nodes, contains `text`.
fn says(answer: &Value, text: &str) -> bool {
    let has = |bytes: &[u8]| memchr::memmem::find(bytes, text.as_bytes()).is_some();
    match answer {
        Value::BulkString(bytes) => has(bytes),
        Value::SimpleString(line) => has(line.as_bytes()),
        Value::VerbatimString { text: line, .. } => has(line.as_bytes()),
        Value::Array(items) => items.iter().any(|item| says(item, text)),
        Value::Map(pairs) => pairs.iter().any(|(_, value)| says(value, text)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
