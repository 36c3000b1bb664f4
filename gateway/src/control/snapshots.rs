//! The snapshot of the key table: read before the store is open, and kept up to date.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{sleep, timeout};

use crate::config::settings::StoreSettings;
use crate::keys::{KeyTable, UnixMillis};
use crate::store::snapshot::{self, Origin, SnapshotKey};
use crate::store::{FeedStatus, Reached};

/// Interval between snapshots while the table changes, and while it does not.
const MIN_SAVE_INTERVAL: Duration = Duration::from_secs(5);
const MAX_SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// Fills the table from a usable snapshot, if any.
pub(super) fn restore(
    settings: &StoreSettings,
    key: &SnapshotKey,
    keys: &KeyTable,
    status: &FeedStatus,
    restored: &mut Option<Origin>,
) -> bool {
    let Some(path) = &settings.snapshot else {
        return false;
    };
    let (location, now) = (settings.url.to_string(), UnixMillis::now());
    match snapshot::restore(path, key, keys, &location, now) {
        Ok(Some(found)) => {
            let age = humantime::format_duration(Duration::from_secs(found.age.as_secs()));
            log::warn!(
                "starting with {} keys from the snapshot {}, which is {age} old",
                found.keys,
                path.display()
            );
            status.restored(found.origin.revision, found.age);
            *restored = Some(found.origin);
            true
        }
        Ok(None) => false,
        Err(error) => {
            log::warn!("the snapshot {} is not used: {error}", path.display());
            false
        }
    }
}

/// State of the snapshot file.
struct Saved {
    revision: i64,
    known_at: UnixMillis,
}

/// Whether the table has to be saved, given its revision and the time `known_at` when it last
/// matched the store. Never while the store is unreachable, so that the next start sees the true
/// age.
fn is_due(saved: Option<&Saved>, revision: i64, known_at: UnixMillis) -> bool {
    saved.is_none_or(|saved| {
        // Absolute difference: the machine's clock may have been set back.
        let between = Duration::from_millis(known_at.0.abs_diff(saved.known_at.0));
        saved.revision != revision || between >= MAX_SAVE_INTERVAL
    })
}

/// Saves the table periodically if it changed or is confirmed as current.
pub(super) async fn save(
    settings: &StoreSettings,
    key: &ArcSwap<SnapshotKey>,
    keys: &Arc<KeyTable>,
    status: &FeedStatus,
) -> Infallible {
    let Some(path) = settings.snapshot.clone() else {
        return std::future::pending().await;
    };
    let (mut reached, mut saved) = (status.reached(), None::<Saved>);
    loop {
        let Reached {
            revision,
            of,
            turns,
        } = reached.borrow_and_update().clone();
        // Read before the table: the table may be newer than this time, never older.
        let known_at = status
            .known_at(UnixMillis::now())
            .filter(|known_at| is_due(saved.as_ref(), revision, *known_at));
        if let (true, Some(known_at), Some(of)) = (keys.is_loaded(), known_at, of) {
            let origin = Origin {
                store: of.store.to_string(),
                location: settings.url.to_string(),
                revision,
                mark: of.mark.to_string(),
            };
            let (to, key, keys) = (path.clone(), key.load_full(), Arc::clone(keys));
            // On a blocking thread: changes must not wait for the disk.
            match tokio::task::spawn_blocking(move || {
                snapshot::save(&to, &key, &keys, &origin, known_at)
            })
            .await
            {
                // The file may mix two histories.
                Ok(Ok(())) if reached.borrow().turns != turns => {
                    let _ = std::fs::remove_file(&path);
                    saved = None;
                }
                Ok(Ok(())) => saved = Some(Saved { revision, known_at }),
                Ok(Err(error)) => log::warn!("the snapshot cannot be saved: {error}"),
                Err(error) => log::warn!("the snapshot was not saved: {error}"),
            }
        }
        sleep(MIN_SAVE_INTERVAL).await;
        if saved
            .as_ref()
            .is_some_and(|saved| saved.revision == reached.borrow().revision)
        {
            let _ = timeout(MAX_SAVE_INTERVAL, reached.changed()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_saved_again_only_when_the_store_was_heard_of_since() {
        let saved = Saved {
            revision: 7,
            known_at: UnixMillis(1_000_000),
        };
        for (saved, revision, known_at, due) in [
            (None, 7, 1_000_000, true),
            // The store is unreachable: the last contact stays the last, however much time passes.
            (Some(&saved), 7, 1_000_000, false),
            (Some(&saved), 7, 1_000_001, false),
            (Some(&saved), 7, 1_059_999, false),
            (Some(&saved), 7, 1_060_000, true),
            (Some(&saved), 8, 1_000_000, true),
            (Some(&saved), 7, 900_000, true),
        ] {
            assert_eq!(
                is_due(saved, revision, UnixMillis(known_at)),
                due,
                "{revision} {known_at}"
            );
        }
    }
}
