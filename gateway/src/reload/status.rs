//! [`Reloads`]: the queue of readings and their state, shared by triggers and those who show it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot, watch};

use crate::config::reader::{Effective, SettingProblem};

/// Settings in force.
#[derive(Debug, Clone)]
pub struct Running {
    /// Number of the generation; 1 at the start.
    pub generation: u64,
    /// Time since when it is in force.
    pub loaded_at: SystemTime,
    /// Hash of the settings in force.
    pub hash: String,
    /// Settings in force with their sources.
    pub effective: Vec<Effective>,
    /// Paths that this generation changed.
    pub changed: Vec<String>,
}

/// Last reading of the files.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Time.
    pub at: SystemTime,
    /// Hash of the settings in the files; `None` if they cannot be used.
    pub hash: Option<String>,
    /// Settings in the files that need a restart.
    pub restart_required: Vec<String>,
    /// Why the files were refused; empty if they were not.
    pub problems: Vec<SettingProblem>,
}

/// What made the gateway read its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The content of a file changed.
    Change,
    /// The signal.
    Signal,
    /// A call of the admin API.
    Call,
}

impl Trigger {
    /// Name in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Change => "a file changed",
            Self::Signal => "SIGHUP",
            Self::Call => "a call of the admin API",
        }
    }
}

/// How a reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// New settings are in force.
    Applied,
    /// The settings in force are those of the files already.
    Unchanged,
    /// The files can be applied; they were not, as the caller asked.
    Valid,
    /// The files cannot be used, and the settings in force stay.
    Refused(Vec<SettingProblem>),
    /// The settings in force are not those that the caller expected.
    Mismatch,
    /// The gateway is stopping.
    Stopping,
}

/// Answer to whoever asked for a reading.
#[derive(Debug, Clone)]
pub struct Answer {
    /// How it ended.
    pub outcome: Outcome,
    /// Generation in force afterwards.
    pub generation: u64,
    /// Hash of the settings in force afterwards.
    pub hash: String,
    /// Paths that changed, or would.
    pub changed: Vec<String>,
    /// Paths that need a restart.
    pub restart_required: Vec<String>,
}

/// A request for a reading.
#[derive(Debug)]
pub struct Waiting {
    /// What asked.
    pub trigger: Trigger,
    /// Whether to read and compare only.
    pub dry_run: bool,
    /// Hashes, one of which the settings in force must have.
    pub expected: Option<Vec<String>>,
    /// Receives the answer; `None` if nobody waits.
    pub answer: Option<oneshot::Sender<Answer>>,
}

/// Readings of the settings: what waits for one, and how the last one ended.
pub struct Reloads {
    running: ArcSwap<Running>,
    last: ArcSwap<Attempt>,
    /// `None` once the gateway stops.
    waiting: Mutex<Option<Vec<Waiting>>>,
    wake: Notify,
    generation: watch::Sender<u64>,
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads")
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl Reloads {
    /// Starts with the settings of the start.
    #[must_use]
    pub fn new(hash: String, effective: Vec<Effective>) -> Arc<Self> {
        let now = SystemTime::now();
        Arc::new(Self {
            last: ArcSwap::from_pointee(Attempt {
                at: now,
                hash: Some(hash.clone()),
                restart_required: Vec::new(),
                problems: Vec::new(),
            }),
            running: ArcSwap::from_pointee(Running {
                generation: 1,
                loaded_at: now,
                hash,
                effective,
                changed: Vec::new(),
            }),
            waiting: Mutex::new(Some(Vec::new())),
            wake: Notify::new(),
            generation: watch::channel(1).0,
        })
    }

    /// Settings in force.
    #[must_use]
    pub fn running(&self) -> Arc<Running> {
        self.running.load_full()
    }

    /// Last reading.
    #[must_use]
    pub fn last(&self) -> Arc<Attempt> {
        self.last.load_full()
    }

    /// Reports each new generation.
    #[must_use]
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Asks for a reading and returns at once. Requests that wait together are answered by one
    /// reading.
    pub fn ask(&self, waiting: Waiting) {
        let mut queue = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *queue {
            Some(queue) => {
                // Of those that nobody waits for, one is enough.
                let is_there =
                    waiting.answer.is_none() && queue.iter().any(|other| other.answer.is_none());
                if !is_there {
                    queue.push(waiting);
                }
                self.wake.notify_one();
            }
            None => {
                drop(queue);
                log::info!(
                    "settings are not read again ({}): the gateway is stopping",
                    waiting.trigger.as_str()
                );
                self.answer(waiting, Outcome::Stopping, &[], &[]);
            }
        }
    }

    /// Asks for a reading and waits for its answer; `None` if the gateway stopped meanwhile.
    pub async fn call(&self, dry_run: bool, expected: Option<Vec<String>>) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.ask(Waiting {
            trigger: Trigger::Call,
            dry_run,
            expected,
            answer: Some(answer),
        });
        answered.await.ok()
    }

    /// Waits for requests and takes all of them.
    pub async fn next(&self) -> Vec<Waiting> {
        loop {
            let waiting = self.take_waiting();
            if !waiting.is_empty() {
                return waiting;
            }
            self.wake.notified().await;
        }
    }

    fn take_waiting(&self) -> Vec<Waiting> {
        let mut queue = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Answers a request.
    pub fn answer(
        &self,
        waiting: Waiting,
        outcome: Outcome,
        changed: &[String],
        restart_required: &[String],
    ) {
        let Some(answer) = waiting.answer else { return };
        let running = self.running();
        // The caller may have left.
        let _ = answer.send(Answer {
            outcome,
            generation: running.generation,
            hash: running.hash.clone(),
            changed: changed.to_vec(),
            restart_required: restart_required.to_vec(),
        });
    }

    /// Records a reading.
    pub fn attempted(&self, attempt: Attempt) {
        self.last.store(Arc::new(attempt));
    }

    /// Records the next generation, which is in force, and returns its number.
    pub fn applied(&self, hash: String, effective: Vec<Effective>, changed: Vec<String>) -> u64 {
        let generation = self.running.load().generation + 1;
        self.running.store(Arc::new(Running {
            generation,
            loaded_at: SystemTime::now(),
            hash,
            effective,
            changed,
        }));
        self.generation.send_replace(generation);
        generation
    }

    /// Reads no settings any more; whoever waits is told.
    pub fn stop(&self) {
        let left = {
            let mut queue = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            queue.take()
        };
        for waiting in left.into_iter().flatten() {
            self.answer(waiting, Outcome::Stopping, &[], &[]);
        }
    }
}
