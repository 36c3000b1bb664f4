//! What is acknowledged is in force: each mutation, by the admin API and by the command line, on both databases, followed at
//! once by a request. Nothing here waits.

use postern_gateway::keys::KeyDigest;
use serde_json::{Value, json};

use crate::client::{exchange, get};
use crate::origin::Origin;
use crate::postgres;
use crate::rig::{Process, database, gateway};

const TOKEN: &str = "in-force-9f2c51d07be84a63";
/// Off: the lives end more keys than the brake forgives in their few seconds.
const NO_BRAKE: (&str, &str) = ("GATEWAY__BRAKE__BLOCK", "off");

/// By which way things are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Api,
    CommandLine,
}

/// A gateway, and a way to change things beside it.
struct Beside<'p> {
    process: &'p Process,
    url: &'p str,
    way: Way,
}

impl Beside<'_> {
    /// Changes something the one way or the other; returns what was answered.
    fn change(&self, (method, path, body): (&str, &str, Value), command: &[&str]) -> Value {
        match self.way {
            Way::Api => self.call(method, path, &body),
            Way::CommandLine => self.command(&[command, &["--json"]].concat()),
        }
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let response = exchange(self.process.admin, request);
        assert!(matches!(response.status, 200 | 201), "{path}: {response:?}");
        assert_eq!(response.header("postern-in-force"), Some("true"), "{path}");
        response.json()
    }

    fn command(&self, arguments: &[&str]) -> Value {
        let directory = self.process.directory.path();
        let output = gateway(directory, &[("DATABASE_URL", self.url)], arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !told.contains("confirmed the change within"),
            "{arguments:?}: {told}"
        );
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// What a request with this key is told, and what `verify` says of it, which have to be the same.
    fn verdict(&self, key: &str) -> String {
        let code = get(
            self.process.public,
            "/",
            &[&format!("authorization: Bearer {key}")],
        )
        .code_or_ok();
        let body = json!({ "key": key, "address": "127.0.0.1", "method": "GET" }).to_string();
        let request = format!(
            "POST /v1/keys/verify HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let verified = exchange(self.process.admin, request).json();
        let verified = verified["code"].as_str().unwrap();
        assert_eq!(if verified == "valid" { "ok" } else { verified }, code);
        code
    }

    /// A life in which every mutation has its place.
    fn live(&self, round: usize) {
        let name = &format!("{:?}-{round}", self.way);
        let text = |value: &Value, member: &str| {
            value[member]
                .as_str()
                .unwrap_or_else(|| panic!("{member} in {value}"))
                .to_owned()
        };
        let is = |key: &str, code: &str, after: &str| {
            assert_eq!(
                self.verdict(key),
                code,
                "after {after}, {:?}, round {round}",
                self.way
            );
        };
        self.change(
            (
                "POST",
                "/v1/buckets",
                json!({ "name": name, "leak_policy": "notify" }),
            ),
            &["buckets", "create", name, "--leak-policy", "notify"],
        );
        self.change(
            (
                "POST",
                "/v1/consumers",
                json!({ "name": name, "bucket": name }),
            ),
            &["consumers", "create", name, "--bucket", name],
        );
        let made = self.change(
            (
                "POST",
                "/v1/keys",
                json!({ "consumer": name, "bucket": name }),
            ),
            &["keys", "create", "--consumer", name, "--bucket", name],
        );
        let (id, key) = (text(&made, "id"), text(&made, "key"));
        let consumer = text(&made, "consumer_id");
        is(&key, "ok", "create");
        for (verb, code) in [("disable", "api_key_disabled"), ("enable", "ok")] {
            self.change(
                ("POST", &format!("/v1/keys/{id}/{verb}"), Value::Null),
                &["keys", verb, &id],
            );
            is(&key, code, verb);
        }
        if self.way == Way::Api {
            let path = format!("/v1/keys/{id}");
            self.call("PATCH", &path, &json!({ "disabled": true }));
            is(&key, "api_key_disabled", "update");
            self.call("PATCH", &path, &json!({ "disabled": false }));
            is(&key, "ok", "update");
        }
        for (ranges, option, code) in [
            (
                json!(["192.0.2.0/24"]),
                "--allow-ip=192.0.2.0/24",
                "key_restricted",
            ),
            (json!([]), "--allow-any-ip", "ok"),
        ] {
            let path = format!("/v1/consumers/{consumer}");
            self.change(
                ("PATCH", &path, json!({ "allowed_ips": ranges })),
                &["consumers", "update", &consumer, option],
            );
            is(&key, code, "an update of the consumer");
        }
        for (methods, option, code) in [
            (json!(["POST"]), "--allow-method=POST", "key_restricted"),
            (json!([]), "--allow-any-method", "ok"),
        ] {
            let path = format!("/v1/keys/{id}");
            self.change(
                ("PATCH", &path, json!({ "allowed_methods": methods })),
                &["keys", "update", &id, option],
            );
            is(&key, code, "an update of the key");
        }
        let rolled = self.change(
            (
                "POST",
                &format!("/v1/keys/{id}/roll"),
                json!({ "grace_seconds": 0 }),
            ),
            &["keys", "roll", &id, "--grace", "0s"],
        );
        let (new_id, new) = (text(&rolled, "id"), text(&rolled, "key"));
        is(&key, "api_key_expired", "roll");
        is(&new, "ok", "roll");
        self.change(
            ("POST", &format!("/v1/keys/{new_id}/revoke"), Value::Null),
            &["keys", "revoke", &new_id],
        );
        is(&new, "api_key_revoked", "revoke");

        let plan = name.as_str();
        self.change(
            ("POST", "/v1/plans", json!({ "name": plan })),
            &["plans", "create", plan],
        );
        let path = format!("/v1/plans/{plan}");
        self.change(
            ("PATCH", &path, json!({ "scopes": ["read"] })),
            &["plans", "update", plan, "--scope", "read"],
        );
        self.change(("DELETE", &path, Value::Null), &["plans", "delete", plan]);

        self.change(
            (
                "PATCH",
                &format!("/v1/buckets/{name}"),
                json!({ "leak_policy": "revoke" }),
            ),
            &["buckets", "update", name, "--leak-policy", "revoke"],
        );
        let made = self.change(
            ("POST", &format!("/v1/consumers/{consumer}/keys"), json!({})),
            &["keys", "create", "--consumer", &consumer],
        );
        let leaked = text(&made, "key");
        is(&leaked, "ok", "create");
        let digest = KeyDigest::of(leaked.as_bytes()).to_hex();
        self.change(
            ("POST", "/v1/leaks", json!({ "sha256": digest })),
            &["keys", "report-leak", &format!("sha256:{digest}")],
        );
        is(&leaked, "api_key_revoked", "a leak");

        let file = self.process.directory.path().join("keys.csv");
        let foreign = format!("sk_live_{name}_0123456789");
        std::fs::write(
            &file,
            format!("consumer,bucket,key\n{name},{name},{foreign}\n"),
        )
        .unwrap();
        self.command(&["import", file.to_str().unwrap(), "--json"]);
        is(&foreign, "ok", "import");

        // One key's line taken out, the consumer deleted, the rest imported: the one that was left out is no key any more.
        let copy = self.process.directory.path().join(format!("{name}.jsonl"));
        self.command(&["export", "--out", copy.to_str().unwrap(), "--bucket", name]);
        let lines = std::fs::read_to_string(&copy).unwrap();
        let digest = KeyDigest::of(foreign.as_bytes()).to_hex();
        let kept: Vec<&str> = lines
            .lines()
            .filter(|line| !line.contains(&digest))
            .collect();
        assert_eq!(kept.len() + 1, lines.lines().count(), "{lines}");
        std::fs::write(&copy, kept.join("\n") + "\n").unwrap();
        self.change(
            ("DELETE", &format!("/v1/consumers/{consumer}"), Value::Null),
            &["consumers", "delete", &consumer],
        );
        is(&foreign, "api_key_invalid", "delete");
        self.command(&["import", copy.to_str().unwrap(), "--json"]);
        is(
            &foreign,
            "api_key_invalid",
            "a delete and an import without it",
        );
        is(&leaked, "api_key_revoked", "a delete and an import with it");
    }
}

fn lives_on(process: &Process, url: &str) {
    for (way, rounds) in [(Way::Api, 8), (Way::CommandLine, 3)] {
        let beside = Beside { process, url, way };
        (0..rounds).for_each(|round| beside.live(round));
    }
}

#[test]
fn what_is_acknowledged_is_in_force_on_sqlite() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let url = database(directory.path());
    let variables = [("ADMIN_TOKEN", TOKEN), NO_BRAKE];
    let process = Process::start(directory, &origin.url(), &variables);
    lives_on(&process, &url);
}

#[test]
fn what_is_acknowledged_is_in_force_on_postgres() {
    let origin = Origin::hello();
    let url = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(postgres::new_database());
    let variables = [
        ("ADMIN_TOKEN", TOKEN),
        ("DATABASE_URL", url.as_str()),
        NO_BRAKE,
    ];
    let process = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &variables);
    lives_on(&process, &url);
}
