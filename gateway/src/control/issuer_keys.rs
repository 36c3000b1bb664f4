//! Keeps the published keys of issuers current: discovery, refreshes, rotations, outages of the
//! provider. A request waits for none of it, and neither does the start of the gateway.

mod saved;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_http::header::HeaderValue;
use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use tokio::sync::{Notify, watch as channel};
use tokio::time::{Instant, sleep_until};

use crate::auth::jwt::key::SkippedKey;
use crate::auth::jwt::{FetchProblem, FetchResult, Issuer, KeyOrigin, KeySet, KeySource, KeyState};
use crate::keys::UnixMillis;
use crate::pipeline::Policy;
use crate::proxy::fetch::{Document, DocumentUrl, FetchError, Fetcher};
use crate::tls::origin::OriginTls;

pub(crate) use self::saved::SavedKeys;

/// Timeout of one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay after a failed fetch: the first, and the longest.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);
/// Bounds of what a server says about the time that its keys may be kept.
const MIN_AGE: Duration = Duration::from_secs(60);
const MAX_AGE: Duration = Duration::from_hours(24);
/// Time after which the discovery document is read again.
const DISCOVERY_LIFETIME: Duration = Duration::from_hours(24);

/// Gives the issuers of the policy the keys that an earlier run saved. Blocks while it reads.
pub(super) fn restore(policy: &ArcSwap<Policy>, saved: Option<&SavedKeys>) {
    if let Some(saved) = saved {
        saved.restore(&policy.load().issuers, UnixMillis::now());
    }
}

/// Keeps the keys of every issuer of the policy current, and `saved` with them, for ever; looks at
/// the policy again when `changed` does. Belongs into a `LocalSet`.
pub(super) async fn keep(
    policy: &ArcSwap<Policy>,
    mut changed: channel::Receiver<u64>,
    saved: Option<&SavedKeys>,
) -> Infallible {
    let fetched = Notify::new();
    let mut running = FuturesUnordered::new();
    let mut started: Vec<(Arc<Issuer>, AbortHandle)> = Vec::new();
    let mut saving = pin!(keep_saved(policy, &fetched, saved));
    loop {
        changed.mark_unchanged();
        let issuers = Arc::clone(&policy.load().issuers);
        started.retain(|(known, handle)| {
            let is_kept = issuers.iter().any(|issuer| Arc::ptr_eq(issuer, known));
            if !is_kept {
                handle.abort();
            }
            is_kept
        });
        for issuer in issuers.iter().filter(|issuer| is_published(issuer)) {
            if !started.iter().any(|(known, _)| Arc::ptr_eq(issuer, known)) {
                let keeper = Keeper::new(issuer, FETCH_TIMEOUT);
                let (keeping, handle) = abortable(keeper.keep(&fetched));
                running.push(keeping);
                started.push((Arc::clone(issuer), handle));
            }
        }
        loop {
            tokio::select! {
                news = changed.changed() => match news {
                    Ok(()) => break,
                    // Nothing changes any more: the sender is gone.
                    Err(_) => {
                        while running.next().await.is_some() {}
                        return std::future::pending().await;
                    }
                },
                Some(_aborted) = running.next() => {}
                never = &mut saving => match never {},
            }
        }
        if let Some(saved) = saved {
            let (saved, issuers) = (saved.clone(), Arc::clone(&policy.load().issuers));
            on_blocking_thread(move || saved.restore(&issuers, UnixMillis::now())).await;
        }
        // The secret of the file may have changed.
        fetched.notify_one();
    }
}

/// Saves the keys whenever some were `fetched`.
async fn keep_saved(
    policy: &ArcSwap<Policy>,
    fetched: &Notify,
    saved: Option<&SavedKeys>,
) -> Infallible {
    let Some(saved) = saved else {
        return std::future::pending().await;
    };
    loop {
        fetched.notified().await;
        let (saved, issuers) = (saved.clone(), Arc::clone(&policy.load().issuers));
        if issuers.iter().any(|issuer| is_published(issuer)) {
            on_blocking_thread(move || saved.save(&issuers, UnixMillis::now())).await;
        }
    }
}

/// Reads or writes a file without holding up what else the thread does.
async fn on_blocking_thread(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        log::warn!("the keys of issuers were not saved or restored: {error}");
    }
}

/// Whether the issuer publishes its keys, so that they can be fetched.
#[must_use]
pub fn is_published(issuer: &Issuer) -> bool {
    match issuer.rules().keys {
        KeySource::Discovery | KeySource::Url(_) => true,
        KeySource::Fixed(_) => false,
    }
}

/// Fetches the keys of one issuer.
pub struct Keeper {
    issuer: Arc<Issuer>,
    timeout: Duration,
    /// Made at the first fetch; with TLS at the first over https.
    fetcher: Option<(Fetcher, bool)>,
    /// Where discovery found the keys, and until when that is believed.
    found: Option<(DocumentUrl, Instant)>,
    /// Tag of the set in force, and the place that it is of.
    tag: Option<(String, HeaderValue)>,
    /// Time between fetches, as the last answer had it.
    interval: Duration,
    skipped: Vec<(usize, SkippedKey)>,
    /// What the log was told of the last fetch.
    told: Option<String>,
}

/// A fetch that brought no keys.
struct Failure(FetchResult, String);

/// The discovery document (OpenID Connect Discovery 1.0, section 4.2), as far as it matters here.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Keeper {
    /// Creates a keeper. Belongs to the runtime that made it.
    #[must_use]
    pub fn new(issuer: &Arc<Issuer>, timeout: Duration) -> Self {
        Self {
            issuer: Arc::clone(issuer),
            timeout,
            fetcher: None,
            found: None,
            tag: None,
            interval: issuer.rules().refresh,
            skipped: Vec::new(),
            told: None,
        }
    }

    async fn keep(mut self, fetched: &Notify) -> Infallible {
        let issuer = Arc::clone(&self.issuer);
        let (keys, cooldown) = (issuer.keys(), issuer.rules().cooldown);
        let (mut due, mut cooled) = (Instant::now(), Instant::now());
        let mut delay = MIN_RETRY_DELAY;
        loop {
            let wanted = async move {
                sleep_until(cooled).await;
                keys.wanted().await;
            };
            let asking = tokio::select! {
                asking = keys.asked() => asking,
                () = sleep_until(due) => Vec::new(),
                () = wanted => {
                    // Before the fetch, whatever comes of it: made-up keys cause one in this time.
                    cooled = Instant::now() + cooldown;
                    Vec::new()
                }
            };
            let outcome = self.fetch().await;
            due = Instant::now()
                + match &outcome {
                    Ok(()) => {
                        fetched.notify_one();
                        delay = MIN_RETRY_DELAY;
                        self.interval
                    }
                    Err(_) => {
                        let next = (delay * 2).min(MAX_RETRY_DELAY);
                        std::mem::replace(&mut delay, next)
                    }
                };
            for asking in asking {
                asking.answer(outcome.clone());
            }
        }
    }

    /// Fetches the keys once, and puts them in force. Keys that are in force stay if that fails.
    ///
    /// # Errors
    /// Why there are no new ones.
    pub async fn fetch(&mut self) -> Result<(), String> {
        let fetched = self.try_fetch().await;
        let keys = self.issuer.keys();
        let name = self.issuer.name();
        match fetched {
            Ok(result) => {
                keys.record(result, None);
                if self.told.take().is_some() {
                    log::info!("issuer {name}: its keys are fetched again");
                }
                Ok(())
            }
            Err(Failure(result, message)) => {
                let at = UnixMillis::now();
                let problem = FetchProblem {
                    at,
                    message: message.clone(),
                };
                keys.record(result, Some(problem));
                // The place may have moved.
                self.found = None;
                if self.told.as_ref() != Some(&message) {
                    let state = keys.state();
                    let until = state.and_then(|state| state.good_until);
                    let rest = match until.filter(|until| *until > at) {
                        Some(until) => format!("those it had serve until {until}"),
                        None => "its tokens are refused with keys_unavailable".to_owned(),
                    };
                    log::warn!("issuer {name}: cannot fetch its keys: {message}; {rest}");
                    self.told = Some(message.clone());
                }
                Err(message)
            }
        }
    }

    async fn try_fetch(&mut self) -> Result<FetchResult, Failure> {
        let url = self.place().await?;
        let before = self.issuer.keys().state();
        // Without the set that belongs to it, and at another place, the tag is of no use.
        let tag = self.tag.clone();
        let tag = tag.filter(|(place, _)| before.is_some() && *place == url.to_string());
        let document = self.get(&url, tag.as_ref().map(|(_, tag)| tag)).await?;
        let (set, result) = match (document, before) {
            (Some(document), _) => (self.read(document, &url)?, FetchResult::Fetched),
            (None, Some(before)) => (before.set.clone(), FetchResult::Unchanged),
            // Infallible: nothing is unchanged without a tag.
            (None, None) => {
                let message = format!("{url}: it answers 304 to a request without a tag");
                return Err(Failure(FetchResult::Status, message));
            }
        };
        let now = UnixMillis::now();
        let due_at = now.after(self.interval);
        self.issuer.keys().replace(KeyState {
            set,
            origin: KeyOrigin::Provider,
            fetched_at: now,
            due_at: Some(due_at),
            good_until: Some(due_at.after(self.issuer.rules().max_stale)),
        });
        Ok(result)
    }

    /// Where the keys are.
    async fn place(&mut self) -> Result<DocumentUrl, Failure> {
        let unusable = |message: String| Failure(FetchResult::Unusable, message);
        let issuer = Arc::clone(&self.issuer);
        let ours = &*issuer.rules().issuer;
        match &issuer.rules().keys {
            KeySource::Url(url) => {
                DocumentUrl::parse(url).map_err(|error| unusable(error.to_string()))
            }
            KeySource::Fixed(_) => Err(unusable("its keys are in a file".to_owned())),
            KeySource::Discovery => {
                if let Some((url, until)) = &self.found
                    && Instant::now() < *until
                {
                    return Ok(url.clone());
                }
                let base = ours.strip_suffix('/').unwrap_or(ours);
                let place = format!("{base}/.well-known/openid-configuration");
                let place = DocumentUrl::parse(&place)
                    .map_err(|error| unusable(format!("{place}: {error}")))?;
                let document = self.get(&place, None).await?;
                let body = document.map(|document| document.body).unwrap_or_default();
                let found: Discovered = serde_json::from_slice(&body).map_err(|_| {
                    unusable(format!("{place}: it is no JSON with issuer and jwks_uri"))
                })?;
                if found.issuer != ours {
                    return Err(unusable(format!(
                        "{place}: it is of another issuer; every character counts, also a / at the end"
                    )));
                }
                let url = DocumentUrl::parse(&found.jwks_uri)
                    .map_err(|error| unusable(format!("{place}: jwks_uri: {error}")))?;
                if place.is_https() && !url.is_https() {
                    let message = format!("{place}: jwks_uri is not at https");
                    return Err(unusable(message));
                }
                self.found = Some((url.clone(), Instant::now() + DISCOVERY_LIFETIME));
                Ok(url)
            }
        }
    }

    fn read(&mut self, document: Document, url: &DocumentUrl) -> Result<KeySet, Failure> {
        let parsed = KeySet::parse(&document.body)
            .map_err(|error| Failure(FetchResult::Unusable, format!("{url}: {error}")))?;
        if parsed.skipped != self.skipped {
            for (at, reason) in &parsed.skipped {
                let name = self.issuer.name();
                log::warn!("issuer {name}: key {at} of {url} is not used: {reason}");
            }
            self.skipped = parsed.skipped;
        }
        self.tag = document.tag.map(|tag| (url.to_string(), tag));
        self.interval = match document.max_age {
            Some(age) => age.clamp(MIN_AGE, MAX_AGE),
            None => self.issuer.rules().refresh,
        };
        Ok(parsed.set)
    }

    async fn get(
        &mut self,
        url: &DocumentUrl,
        tag: Option<&HeaderValue>,
    ) -> Result<Option<Document>, Failure> {
        let (fetcher, _) = match &mut self.fetcher {
            Some(made @ (_, true)) => made,
            Some(made @ (_, false)) if !url.is_https() => made,
            other if url.is_https() => {
                let tls = match &self.issuer.rules().tls {
                    Some(tls) => tls.clone(),
                    None => load_tls()
                        .await
                        .map_err(|message| Failure(FetchResult::Unreachable, message))?,
                };
                other.insert((Fetcher::new(Some(tls), self.timeout), true))
            }
            other => other.insert((Fetcher::new(None, self.timeout), false)),
        };
        fetcher.get(url, tag).await.map_err(|error| {
            let result = match error {
                FetchError::Unreachable(_) => FetchResult::Unreachable,
                FetchError::Status(_) => FetchResult::Status,
                FetchError::TooLarge => FetchResult::TooLarge,
                FetchError::BrokenOff => FetchResult::BrokenOff,
                FetchError::Timeout(_) => FetchResult::Timeout,
            };
            Failure(result, format!("{url}: {error}"))
        })
    }
}

/// Loads the certificates that the system trusts, on a blocking thread.
async fn load_tls() -> Result<OriginTls, String> {
    let loaded = tokio::task::spawn_blocking(|| OriginTls::load(&Default::default())).await;
    let loaded = loaded.map_err(|error| error.to_string())?;
    loaded.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
