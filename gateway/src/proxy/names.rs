//! DNS cache for origins: refreshes names periodically and keeps the last addresses when a look-up
//! fails.
//!
//! The system resolver reports no TTL, so one interval applies to all names. One cache per thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_core::future::LocalBoxFuture;

/// Resolves names.
pub trait Resolve {
    /// Returns the addresses of `host` with `port`.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> LocalBoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
#[derive(Debug)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> LocalBoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Addresses of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Addresses in the order to try.
    pub addresses: Vec<SocketAddr>,
    /// Whether an earlier address of the name is gone.
    pub moved: bool,
}

/// Resolved names with the time of the look-up.
pub struct NameCache {
    resolver: Rc<dyn Resolve>,
    refresh: Duration,
    names: RefCell<HashMap<(String, u16), Known>>,
}

struct Known {
    addresses: Vec<SocketAddr>,
    asked: Instant,
}

impl NameCache {
    /// Creates a cache that refreshes a name `refresh` after its last look-up.
    #[must_use]
    pub fn new(resolver: Rc<dyn Resolve>, refresh: Duration) -> Self {
        Self {
            resolver,
            refresh,
            names: RefCell::default(),
        }
    }

    /// Returns the addresses of `host`. A look-up of a known name that fails or takes longer than
    /// `patience` keeps the last good addresses until the next interval.
    ///
    /// # Errors
    /// The name has no known address, and the resolver fails.
    pub async fn resolve(&self, host: &str, port: u16, patience: Duration) -> io::Result<Resolved> {
        let name = (host.to_owned(), port);
        let known = {
            let mut names = self.names.borrow_mut();
            match names.get_mut(&name) {
                Some(known) if known.asked.elapsed() < self.refresh => {
                    return Ok(Resolved {
                        addresses: known.addresses.clone(),
                        moved: false,
                    });
                }
                // One connection triggers the refresh; the others use the cached addresses.
                Some(known) => {
                    known.asked = Instant::now();
                    Some(known.addresses.clone())
                }
                None => None,
            }
        };
        let asking = self.resolver.resolve(host, port);
        let found = match &known {
            None => asking.await,
            Some(_) => tokio::time::timeout(patience, asking)
                .await
                .unwrap_or_else(|slow| Err(slow.into())),
        };
        let found = found.and_then(|found| {
            if found.is_empty() {
                Err(io::Error::new(io::ErrorKind::NotFound, "no address"))
            } else {
                Ok(found)
            }
        });
        match (found, known) {
            (Ok(addresses), known) => {
                let moved = known
                    .is_some_and(|known| known.iter().any(|address| !addresses.contains(address)));
                let asked = Instant::now();
                self.names.borrow_mut().insert(
                    name,
                    Known {
                        addresses: addresses.clone(),
                        asked,
                    },
                );
                Ok(Resolved { addresses, moved })
            }
            (Err(error), Some(addresses)) => {
                log::warn!(
                    "cannot resolve {host}, so its last known addresses stay in use: {error}"
                );
                Ok(Resolved {
                    addresses,
                    moved: false,
                })
            }
            (Err(error), None) => Err(error),
        }
    }
}

impl fmt::Debug for NameCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameCache")
            .field("refresh", &self.refresh)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};

    use super::*;

    #[derive(Default)]
    struct Scripted {
        /// Port in the answer; 0 fails, 1 hangs.
        says: Cell<u16>,
        asked: Cell<u32>,
    }

    impl Resolve for Scripted {
        fn resolve(&self, _: &str, _: u16) -> LocalBoxFuture<'static, io::Result<Vec<SocketAddr>>> {
            self.asked.set(self.asked.get() + 1);
            match self.says.get() {
                0 => Box::pin(ready(Err(io::Error::other("SERVFAIL")))),
                1 => Box::pin(pending()),
                port => Box::pin(ready(Ok(vec![([127, 0, 0, 1], port).into()]))),
            }
        }
    }

    #[actix_rt::test]
    async fn a_change_is_seen_in_time_and_a_failure_keeps_the_last_good_address() {
        let resolver = Rc::new(Scripted::default());
        let cache = NameCache::new(resolver.clone(), Duration::from_millis(30));
        let ask = || async {
            let resolved = cache
                .resolve("origin", 80, Duration::from_millis(20))
                .await
                .ok()?;
            Some((resolved.addresses[0].port(), resolved.moved))
        };
        assert_eq!(ask().await, None, "nothing is known yet");
        resolver.says.set(9000);
        assert_eq!(ask().await, Some((9000, false)));
        resolver.says.set(9001);
        assert_eq!(
            (ask().await, resolver.asked.get()),
            (Some((9000, false)), 2),
            "it was asked a moment ago"
        );
        let interval = || tokio::time::sleep(Duration::from_millis(40));
        interval().await;
        assert_eq!(ask().await, Some((9001, true)));
        for trouble in [0, 1] {
            resolver.says.set(trouble);
            interval().await;
            assert_eq!(ask().await, Some((9001, false)));
        }
    }
}
