//! Puts new settings in force while the gateway runs: whole, or not at all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use log::Level;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::admin::Operations;
use crate::app::open_files::warn_of_open_files;
use crate::app::parts::policy;
use crate::app::shared::{Shared, snapshot_key};
use crate::config::reader::SettingProblem;
use crate::config::settings::Settings;
use crate::pipeline::Policy;
use crate::reload::{
    Attempt, Fingerprint, Inputs, Outcome, Trigger, Waiting, changed, hash, hold, in_force, keep,
    read,
};
use crate::telemetry::process_log;

/// Interval between looks at the files. A change takes effect once two of them agree.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest time from the end of one reading to the next: however often somebody asks, the machine
/// has other work, too.
const MIN_READ_INTERVAL: Duration = Duration::from_millis(20);

/// Reads the settings again and puts them in force.
pub(super) struct Reloader {
    shared: Shared,
    operations: Operations,
    scheme: &'static str,
    /// In force.
    settings: Arc<Settings>,
    inputs: Inputs,
    /// What the last reading found, usable or not.
    known: Fingerprint,
    /// What the last look found.
    seen: Fingerprint,
}

/// One reading, ready to be put in force.
struct Prepared {
    inputs: Inputs,
    fingerprint: Fingerprint,
    next: Result<Box<Next>, Vec<SettingProblem>>,
}

/// New settings, with everything made of them that can fail.
struct Next {
    settings: Settings,
    policy: Policy,
    /// Hash of the settings in the files.
    hash: String,
    changed: Vec<String>,
    restart_required: Vec<String>,
}

impl Reloader {
    /// Starts from the settings in force.
    pub(super) fn new(
        shared: &Shared,
        operations: &Operations,
        scheme: &'static str,
        settings: Settings,
    ) -> Self {
        Self {
            shared: shared.clone(),
            operations: operations.clone(),
            scheme,
            inputs: Inputs::of(&settings),
            settings: Arc::new(settings),
            // So the files are read once more: they may have changed while the gateway started.
            known: Fingerprint::UNKNOWN,
            seen: Fingerprint::UNKNOWN,
        }
    }

    /// Follows files and requests until the gateway stops.
    pub(super) async fn follow(mut self) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reloads = Arc::clone(&self.shared.reloads);
        loop {
            let waiting = tokio::select! {
                waiting = reloads.next() => waiting,
                _ = looks.tick(), if self.settings.reload.watch => {
                    if !self.has_changed().await {
                        continue;
                    }
                    Vec::new()
                }
            };
            if self.shared.drain.is_begun() {
                return;
            }
            self.reload(waiting).await;
            self.keep_last_good().await;
            sleep(MIN_READ_INTERVAL).await;
        }
    }

    /// Keeps the settings file, if the last reading could be used.
    async fn keep_last_good(&self) {
        if !self.shared.reloads.last().problems.is_empty() {
            return;
        }
        let (settings, inputs, known) =
            (Arc::clone(&self.settings), self.inputs.clone(), self.known);
        let kept =
            tokio::task::spawn_blocking(move || keep_last_good(&settings, &inputs, known)).await;
        if let Err(error) = kept {
            log::warn!("the settings were not kept: {error}");
        }
    }

    /// Whether the files differ from the last reading, and have stayed the same for one look.
    async fn has_changed(&mut self) -> bool {
        let inputs = self.inputs.clone();
        // On a blocking thread: a hanging file system must delay nothing else.
        let looked = tokio::task::spawn_blocking(move || inputs.look()).await;
        let Ok(found) = looked else { return false };
        let has_settled = std::mem::replace(&mut self.seen, found) == found;
        has_settled && found != self.known
    }

    /// Reads the files once for everybody in `waiting`, nobody of whom stands for a changed file.
    async fn reload(&mut self, waiting: Vec<Waiting>) {
        let (running, inputs) = (Arc::clone(&self.settings), self.inputs.clone());
        let (policy, scheme) = (self.shared.policy.load_full(), self.scheme);
        let prepared =
            tokio::task::spawn_blocking(move || prepare(&running, &inputs, &policy, scheme)).await;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                log::error!("cannot read the settings again: {error}");
                let failed = SettingProblem {
                    path: String::new(),
                    source: "the gateway".to_owned(),
                    message: "the reading failed; the log has the cause".to_owned(),
                };
                for waiting in waiting {
                    let outcome = Outcome::Refused(vec![failed.clone()]);
                    self.shared.reloads.answer(waiting, outcome, &[], &[]);
                }
                return;
            }
        };
        let reloads = &self.shared.reloads;
        let running = reloads.running();
        let is_expected = |waiting: &Waiting| {
            let expected = waiting.expected.as_ref();
            expected.is_none_or(|expected| expected.contains(&running.hash))
        };
        let trigger = match waiting
            .iter()
            .find(|waiting| !waiting.dry_run && is_expected(waiting))
        {
            Some(waiting) => Some(waiting.trigger),
            None if waiting.is_empty() => Some(Trigger::Change),
            None => None,
        };
        let (unexpected, waiting): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|waiting| !is_expected(waiting));
        let (outcome, changed, restart_required) = match trigger {
            Some(trigger) => self.put_in_force(prepared, trigger),
            None => match prepared.next {
                Ok(next) if next.changed.is_empty() => {
                    (Outcome::Unchanged, Vec::new(), next.restart_required)
                }
                Ok(next) => (Outcome::Valid, next.changed, next.restart_required),
                Err(problems) => (Outcome::Refused(problems), Vec::new(), Vec::new()),
            },
        };
        let reloads = &self.shared.reloads;
        for waiting in waiting {
            let outcome = match &outcome {
                Outcome::Applied if waiting.dry_run => Outcome::Valid,
                outcome => outcome.clone(),
            };
            reloads.answer(waiting, outcome, &changed, &restart_required);
        }
        for waiting in unexpected {
            reloads.answer(waiting, Outcome::Mismatch, &[], &[]);
        }
    }

    fn put_in_force(
        &mut self,
        prepared: Prepared,
        trigger: Trigger,
    ) -> (Outcome, Vec<String>, Vec<String>) {
        let Prepared {
            inputs,
            fingerprint,
            next,
        } = prepared;
        (self.inputs, self.known, self.seen) = (inputs, fingerprint, fingerprint);
        let (reloads, why) = (&self.shared.reloads, trigger.as_str());
        let (at, last) = (SystemTime::now(), reloads.last());
        let next = match next {
            Ok(next) => *next,
            Err(problems) => {
                let list: String = problems
                    .iter()
                    .map(|problem| format!("\n  {problem}"))
                    .collect();
                log::error!(
                    "the settings stay as they are: the new ones ({why}) are refused:{list}"
                );
                reloads.attempted(Attempt {
                    at,
                    hash: None,
                    restart_required: last.restart_required.clone(),
                    problems: problems.clone(),
                });
                return (Outcome::Refused(problems), Vec::new(), Vec::new());
            }
        };
        let Next {
            settings,
            policy,
            hash: of_the_files,
            changed,
            restart_required,
        } = next;
        if restart_required != last.restart_required && !restart_required.is_empty() {
            log::warn!(
                "changed settings that need a restart stay as they are until then: {}",
                restart_required.join(", ")
            );
        }
        reloads.attempted(Attempt {
            at,
            hash: Some(of_the_files),
            restart_required: restart_required.clone(),
            problems: Vec::new(),
        });
        if changed.is_empty() {
            let level = match trigger {
                Trigger::Change => Level::Debug,
                Trigger::Signal | Trigger::Call => Level::Info,
            };
            log::log!(
                level,
                "the settings were read again ({why}): nothing changed"
            );
            return (Outcome::Unchanged, changed, restart_required);
        }
        // First, since requests depend on it. Nothing below can fail.
        self.shared.policy.store(Arc::new(policy));
        let admin = &settings.admin;
        let hosts = admin.hosts.iter().map(|host| host.0.as_str());
        self.operations
            .admit_as(&admin.tokens, hosts, admin.public_url.as_ref());
        let pairs = [&settings.listen.certificates, &admin.certificates];
        for (certificates, pairs) in self.shared.certificates.iter().zip(pairs) {
            if let Some(certificates) = certificates {
                certificates.replace(pairs);
            }
        }
        self.shared
            .snapshot_key
            .store(Arc::new(snapshot_key(&settings)));
        process_log::write_as(settings.log_format);
        for warning in settings
            .warnings
            .iter()
            .filter(|new| !self.settings.warnings.contains(new))
        {
            log::warn!("{warning}");
        }
        if settings.secret_files != self.settings.secret_files {
            warn_of_open_files(&settings);
        }
        let hash = hash(&settings.effective);
        self.shared.config_hash.store(Arc::new(hash.clone()));
        let generation = reloads.applied(hash, settings.effective.clone(), changed.clone());
        log::info!(
            "generation {generation} of the settings is in force ({why}): {}",
            changed.join(", ")
        );
        self.settings = Arc::new(settings);
        (Outcome::Applied, changed, restart_required)
    }
}

/// Reads the settings and makes everything of them that can fail. Blocks on the file system.
fn prepare(running: &Settings, inputs: &Inputs, before: &Policy, scheme: &'static str) -> Prepared {
    let reading = read(&running.source, inputs);
    let next = reading
        .settings
        .and_then(|settings| next(running, *settings, before, scheme));
    Prepared {
        inputs: reading.inputs,
        fingerprint: reading.fingerprint,
        next,
    }
}

/// Keeps the settings file as the last good one, if it still is what was read.
fn keep_last_good(settings: &Settings, inputs: &Inputs, fingerprint: Fingerprint) {
    let Some(to) = &settings.reload.last_good else {
        return;
    };
    let file = settings.source.file();
    // What came meanwhile is read next, and kept then.
    if !file.is_file() || inputs.look() != fingerprint {
        return;
    }
    if let Err(error) = keep(file, to) {
        log::warn!("the settings cannot be kept as {}: {error}", to.display());
    }
}

fn next(
    running: &Settings,
    mut settings: Settings,
    before: &Policy,
    scheme: &'static str,
) -> Result<Box<Next>, Vec<SettingProblem>> {
    let of_the_files = hash(&settings.effective);
    let mut changed = changed(running, &settings);
    let restart_required = hold(&mut settings, running, &changed);
    if settings.reload.strict && !restart_required.is_empty() {
        let refuse = |path: &String| SettingProblem {
            path: path.clone(),
            source: "the settings".to_owned(),
            message: "a change of it needs a restart, and reload.strict refuses such changes: \
                      restart the gateway, or take the change back"
                .to_owned(),
        };
        return Err(restart_required.iter().map(refuse).collect());
    }
    settings.effective = in_force(&settings.effective, &running.effective, &restart_required);
    let is_held = |path: &str| {
        restart_required.iter().any(|held| {
            path.strip_prefix(held.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        })
    };
    changed.retain(|path| !is_held(path));
    settings.own.keep_unchanged(&running.own);
    let policy = policy(&settings, scheme, Some(before)).map_err(|error| {
        vec![SettingProblem {
            path: String::new(),
            source: "the settings".to_owned(),
            message: error.to_string(),
        }]
    })?;
    Ok(Box::new(Next {
        settings,
        policy,
        hash: of_the_files,
        changed,
        restart_required,
    }))
}
