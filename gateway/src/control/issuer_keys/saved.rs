//! [`SavedKeys`]: the fetched keys of issuers in a file beside the snapshot of the store, for a
//! start while their provider is away. Public keys only; each set serves the issuer and the source
//! that it was fetched for, and no longer than it would have in the gateway that saved it.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auth::jwt::{Issuer, Issuers, KeyOrigin, KeySet, KeySource, KeyState};
use crate::control::issuer_keys::is_published;
use crate::keys::UnixMillis;
use crate::store::snapshot::sealed::{self, SnapshotKey};
use crate::store::snapshot::{UnusableSnapshot, age_of};

/// Magic line with the version of the format; a JSON document follows.
const MAGIC: &[u8] = b"postern issuer keys 1\n";

/// The file of keys.
#[derive(Clone, Debug)]
pub(crate) struct SavedKeys {
    path: PathBuf,
    key: Arc<ArcSwap<SnapshotKey>>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    issuers: Vec<Entry>,
}

/// Keys of an issuer.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// Exact text of `iss`.
    issuer: String,
    /// URL of the key set; `None` stands for discovery.
    url: Option<String>,
    /// In milliseconds since 1970.
    fetched_at: i64,
    /// Likewise.
    due_at: i64,
    keys: Value,
}

impl Entry {
    /// The keys of an issuer, if they were fetched and may still be believed.
    fn of(issuer: &Issuer, now: UnixMillis) -> Option<Self> {
        let state = issuer.keys().state().filter(|state| state.is_good(now))?;
        let url = match &issuer.rules().keys {
            KeySource::Discovery => None,
            KeySource::Url(url) => Some(url.to_string()),
            KeySource::Fixed(_) => return None,
        };
        Some(Self {
            issuer: issuer.rules().issuer.to_string(),
            url,
            fetched_at: state.fetched_at.0,
            due_at: state.due_at?.0,
            keys: state.set.to_json(),
        })
    }

    fn is_of(&self, issuer: &Issuer) -> bool {
        let rules = issuer.rules();
        let is_of_source = match &rules.keys {
            KeySource::Discovery => self.url.is_none(),
            KeySource::Url(url) => self.url.as_deref() == Some(url),
            KeySource::Fixed(_) => false,
        };
        is_of_source && *self.issuer == *rules.issuer
    }
}

impl SavedKeys {
    /// The file beside the snapshot of the store, with the key of both.
    pub(crate) fn beside(snapshot: &Path, key: Arc<ArcSwap<SnapshotKey>>) -> Self {
        Self {
            path: Self::path_beside(snapshot),
            key,
        }
    }

    /// Path of the file beside the snapshot of the store.
    pub(crate) fn path_beside(snapshot: &Path) -> PathBuf {
        sealed::with_ending(snapshot, ".issuers")
    }

    /// Gives the issuers without keys those of the file, and logs it. Blocks while it reads.
    pub(super) fn restore(&self, issuers: &Issuers, now: UnixMillis) {
        let lacks_keys = |issuer: &&Arc<Issuer>| issuer.keys().state().is_none();
        let mut lacking = issuers
            .iter()
            .filter(|issuer| is_published(issuer))
            .filter(lacks_keys)
            .peekable();
        if lacking.peek().is_none() {
            return;
        }
        let document = match self.read() {
            Ok(Some(document)) => document,
            Ok(None) => return,
            Err(error) => {
                let path = self.path.display();
                log::warn!("the keys of issuers in {path} are not used: {error}");
                return;
            }
        };
        for issuer in lacking {
            let Some(entry) = document.issuers.iter().find(|entry| entry.is_of(issuer)) else {
                continue;
            };
            let (name, path) = (issuer.name(), self.path.display());
            match state_of(entry, issuer, now) {
                Ok(state) => {
                    let (at, until) = (state.fetched_at, state.good_until.unwrap_or(now));
                    log::warn!(
                        "issuer {name}: until its keys are fetched, those of {at} in {path} serve, until {until} at the latest"
                    );
                    issuer.keys().replace(state);
                }
                Err(why) => log::warn!("issuer {name}: its keys in {path} are not used: {why}"),
            }
        }
    }

    /// Writes the fetched keys of the issuers. Blocks meanwhile.
    pub(super) fn save(&self, issuers: &Issuers, now: UnixMillis) {
        let entries = issuers.iter().filter_map(|issuer| Entry::of(issuer, now));
        let document = Document {
            issuers: entries.collect(),
        };
        let written = sealed::replace(&self.path, &self.key.load(), |out| {
            out.write_all(MAGIC)?;
            serde_json::to_writer(out, &document).map_err(io::Error::from)
        });
        if let Err(error) = written {
            let path = self.path.display();
            log::warn!("the keys of issuers cannot be saved in {path}: {error}");
        }
    }

    fn read(&self) -> Result<Option<Document>, UnusableSnapshot> {
        let Some(mut content) = sealed::open(&self.path, &self.key.load())? else {
            return Ok(None);
        };
        let mut magic = [0; MAGIC.len()];
        if content.read_exact(&mut magic).is_err() || magic != MAGIC {
            return Err(UnusableSnapshot::Damaged);
        }
        let document = serde_json::from_reader(content);
        document.map(Some).map_err(|_| UnusableSnapshot::Damaged)
    }
}

/// The keys of an entry, if they may still be believed.
fn state_of(entry: &Entry, issuer: &Issuer, now: UnixMillis) -> Result<KeyState, String> {
    let fetched_at = UnixMillis(entry.fetched_at);
    age_of(fetched_at, now).map_err(|error| error.to_string())?;
    let due_at = UnixMillis(entry.due_at);
    // By the settings of today.
    let good_until = due_at.after(issuer.rules().max_stale);
    if now >= good_until {
        return Err(format!("they served until {good_until}"));
    }
    let parsed = KeySet::parse(entry.keys.to_string().as_bytes());
    Ok(KeyState {
        set: parsed.map_err(|error| error.to_string())?.set,
        origin: KeyOrigin::Snapshot,
        fetched_at,
        due_at: Some(due_at),
        good_until: Some(good_until),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::auth::jwt::signer::{SECRET, Signer};
    use crate::auth::jwt::{Algorithm, IssuerRules};
    use crate::control::issuer_keys::tests::rules;

    const ISSUER: &str = "https://login.example.com/";
    const KEYS: &str = "https://login.example.com/keys";
    const HOUR: i64 = 3_600_000;
    /// Time of the fetch.
    const AT: i64 = 1_800_000_000_000;

    fn saved(directory: &Path) -> SavedKeys {
        let key = SnapshotKey::of(b"the shared secret of the tests");
        let key = Arc::new(ArcSwap::from_pointee(key));
        SavedKeys::beside(&directory.join("keys.snapshot"), key)
    }

    /// Keys of an issuer, fetched at [`AT`] and due an hour later.
    fn fetched(set: KeySet) -> KeyState {
        let due_at = UnixMillis(AT + HOUR);
        KeyState {
            set,
            origin: KeyOrigin::Provider,
            fetched_at: UnixMillis(AT),
            due_at: Some(due_at),
            good_until: Some(due_at.after(Duration::from_hours(24))),
        }
    }

    #[test]
    fn saved_keys_serve_the_issuer_and_the_source_that_they_are_of_and_not_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let saved = saved(directory.path());
        let set = KeySet::parse(Signer::new().key_set().as_bytes())
            .unwrap()
            .set;
        let of_url = rules(ISSUER, KeySource::Url(KEYS.into()));
        let other = "https://other.example.com/";
        let found = IssuerRules {
            name: "found".into(),
            ..rules(other, KeySource::Discovery)
        };
        let secret = KeySet::of_secret(SECRET.to_vec().into()).unwrap();
        let fixed = IssuerRules {
            name: "fixed".into(),
            ..rules("fixed", KeySource::Fixed(Arc::new(secret)))
        };
        let issuers = Issuers::new(vec![of_url.clone(), found.clone(), fixed], None);
        for name in ["corp", "found"] {
            let issuer = issuers.by_name(name).unwrap();
            issuer.keys().replace(fetched(set.clone()));
        }
        saved.save(&issuers, UnixMillis(AT));

        let with_source = |keys| rules(ISSUER, keys);
        let stricter = IssuerRules {
            max_stale: Duration::from_mins(5),
            ..of_url.clone()
        };
        let other_key = KeySource::Url("https://login.example.com/key".into());
        for (rules, now, serves) in [
            (&of_url, AT, true),
            (&found, AT, true),
            // As long as in the gateway that saved them, by the settings of today.
            (&of_url, AT + 25 * HOUR - 1, true),
            (&of_url, AT + 25 * HOUR, false),
            (&stricter, AT + HOUR + 300_000 - 1, true),
            (&stricter, AT + HOUR + 300_000, false),
            // A clock that was set back: the age is unknown.
            (&of_url, AT - 1, false),
            (&with_source(other_key), AT, false),
            (&with_source(KeySource::Discovery), AT, false),
            (&rules(other, KeySource::Url(KEYS.into())), AT, false),
            (
                &rules("https://login.example.com", KeySource::Url(KEYS.into())),
                AT,
                false,
            ),
        ] {
            let issuers = Issuers::new(vec![rules.clone()], None);
            saved.restore(&issuers, UnixMillis(now));
            let keys = issuers.iter().next().unwrap().keys();
            let state = keys.state();
            assert_eq!(state.is_some(), serves, "{now} {rules:?}");
            if let Some(state) = state {
                assert_eq!(state.set, set);
                assert_eq!(state.origin, KeyOrigin::Snapshot);
                assert_eq!(state.fetched_at, UnixMillis(AT));
                // Saved again before they are fetched, they are as old as before.
                saved.save(&issuers, UnixMillis(now));
                let bytes = std::fs::read(&saved.path).unwrap();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                assert!(text.contains(&format!("\"fetched_at\":{AT}")), "{text}");
                saved.save(&all(&[&of_url, &found], &set), UnixMillis(AT));
            }
        }
    }

    /// Issuers that have the keys `set`.
    fn all(rules: &[&IssuerRules], set: &KeySet) -> Arc<Issuers> {
        let issuers = Issuers::new(rules.iter().copied().cloned().collect(), None);
        for issuer in issuers.iter() {
            issuer.keys().replace(fetched(set.clone()));
        }
        issuers
    }

    #[test]
    fn keys_that_are_there_stay_and_a_file_of_another_kind_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let saved = saved(directory.path());
        let [old, new] = [(); 2].map(|()| {
            let set = Signer::new().key_set();
            KeySet::parse(set.as_bytes()).unwrap().set
        });
        let rules = rules(ISSUER, KeySource::Discovery);
        saved.save(&all(&[&rules], &old), UnixMillis(AT));
        let issuers = all(&[&rules], &new);
        saved.restore(&issuers, UnixMillis(AT));
        let state = issuers.iter().next().unwrap().keys().state().unwrap();
        assert_eq!(state.set, new);

        // With the right checksum, and of the store.
        let written = sealed::replace(&saved.path, &saved.key.load(), |out| {
            out.write_all(b"postern snapshot 5\n")
        });
        written.unwrap();
        assert!(matches!(saved.read(), Err(UnusableSnapshot::Damaged)));
        std::fs::remove_file(&saved.path).unwrap();
        assert!(matches!(saved.read(), Ok(None)));
    }

    #[test]
    fn a_set_is_the_same_once_written_and_has_no_secret() {
        let signer = Signer::new();
        let mut rsa = signer.jwk(Algorithm::Rs256);
        let mut listed = vec![signer.jwk(Algorithm::Es384), signer.jwk(Algorithm::EdDsa)];
        for algorithm in ["RS256", "PS512"] {
            rsa["alg"] = json!(algorithm);
            listed.push(rsa.clone());
        }
        let mut unnamed = signer.jwk(Algorithm::Es256);
        unnamed.as_object_mut().unwrap().remove("kid");
        listed.push(unnamed);
        listed.push(signer.jwk(Algorithm::Hs256));
        let set = KeySet::parse(json!({ "keys": listed }).to_string().as_bytes());
        let written = set.as_ref().unwrap().set.to_json();
        assert_eq!(written["keys"].as_array().unwrap().len(), 5);
        let again = KeySet::parse(written.to_string().as_bytes()).unwrap();
        assert_eq!(again.set, set.unwrap().set);
        assert!(again.skipped.is_empty());
        let secret = KeySet::of_secret(SECRET.to_vec().into()).unwrap();
        assert_eq!(secret.to_json(), json!({ "keys": [] }));
    }
}
