//! Resets of rate limits, which reach every gateway on the store.

use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;

use crate::client::get;
use crate::origin::Origin;
use crate::redis::Redis;
use crate::rig::{Process, database, gateway};
use crate::running::eventually;

const TOKEN: &str = "resets-3fa8b26471c9e05d-9f2c51d0";

/// Gateways on one store.
struct Fleet {
    store: TempDir,
    gateways: [Process; 2],
    key: String,
}

impl Fleet {
    /// With these settings, and a limit by consumer with `more` of it.
    fn of(origin: &Origin, settings: &str, more: &str) -> Self {
        let store = tempfile::tempdir().unwrap();
        let url = database(store.path());
        let file = format!(
            "{settings}[[rate_limits]]\nname = \"all\"\nby = \"consumer\"\nlimit = 20\nwindow = \"1d\"\n{more}"
        );
        let gateways = std::array::from_fn(|_| {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("gateway.toml"), &file).unwrap();
            let variables = [("DATABASE_URL", &*url), ("ADMIN_TOKEN", TOKEN)];
            Process::start(directory, &origin.url(), &variables)
        });
        let create = ["keys", "create", "--consumer", "acme", "--json"];
        let created = gateway(store.path(), &[("DATABASE_URL", &url)], &create);
        let created: Value = serde_json::from_slice(&created.stdout).unwrap();
        let key = format!("authorization: Bearer {}", created["key"].as_str().unwrap());
        Self {
            store,
            gateways,
            key,
        }
    }

    fn passes(&self, gateway: SocketAddr) -> bool {
        get(gateway, "/", &[&self.key]).status == 200
    }

    /// Uses up what each gateway admits; returns how many requests passed.
    fn use_up(&self) -> usize {
        let each = self.gateways.iter().map(|gateway| {
            let passed = (0..60).take_while(|_| self.passes(gateway.public));
            passed.count()
        });
        each.sum()
    }

    /// Resets the limits of the consumer at the first gateway, and returns what is used then.
    fn reset(&self) -> i64 {
        let admin = format!("http://{}", self.gateways[0].admin);
        let variables = [("ADMIN_TOKEN", TOKEN), ("ADMIN_URL", &*admin)];
        let reset = ["limits", "reset", "--consumer", "acme", "--json"];
        let reset = gateway(self.store.path(), &variables, &reset);
        assert!(reset.status.success(), "{reset:?}");
        let reset: Value = serde_json::from_slice(&reset.stdout).unwrap();
        reset["data"][0]["used"].as_i64().unwrap()
    }
}

#[test]
fn a_reset_reaches_every_gateway_on_the_store() {
    let origin = Origin::hello();
    let fleet = Fleet::of(&origin, "[limits]\nmode = \"local\"\n", "");
    assert_eq!(fleet.use_up(), 40);
    assert_eq!(fleet.reset(), 0);
    let [one, other] = &fleet.gateways;
    let rest = |gateway: &Process| {
        let passed = (0..60).take_while(|_| fleet.passes(gateway.public));
        passed.count()
    };
    assert_eq!(rest(one), 20);
    eventually("the other has made it", || fleet.passes(other.public));
    assert_eq!(rest(other), 19);
    // What was reset before a start, or for others, does nothing.
    assert_eq!(rest(one), 0);
}

#[test]
fn a_reset_of_a_shared_limit_gives_everybody_the_whole_again() {
    let server = Redis::start();
    let valkey = format!("[valkey]\nurl = \"redis://127.0.0.1:{}\"\n", server.port);
    let origin = Origin::hello();
    for more in ["", "exact = true\n"] {
        let fleet = Fleet::of(&origin, &valkey, more);
        for gateway in &fleet.gateways {
            eventually("limits are shared", || {
                let page = get(gateway.admin, "/metrics", &[]).text();
                page.contains("postern_valkey_up 1\n")
            });
        }
        eventually("the limit is used up", || fleet.use_up() == 0);
        fleet.reset();
        for gateway in &fleet.gateways {
            eventually("there are units", || fleet.passes(gateway.public));
        }
        // Each was reset once, and both share the units again.
        let mut passed = 0;
        eventually("the limit is used up again", || {
            let more = fleet.use_up();
            passed += more;
            more == 0
        });
        assert!(passed <= 40, "{more:?}: {passed}");
    }
}
