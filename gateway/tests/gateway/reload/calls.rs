//! The admin API and the commands for new settings.

use std::process::Output;

use serde_json::{Value, json};

use super::{ORDERS, gateway_with, write};
use crate::client::{Response, exchange, get};
use crate::origin::Origin;
use crate::rig::{Process, SECRET, gateway};
use crate::running::eventually;

const TOKEN: &str = "calls-9f2c51d07be84a63";
const UNWATCHED: &str = "[reload]\nwatch = false\n";
const READER: &str = "[[admin.tokens]]\nname = \"auditor\"\nrole = \"read-only\"\ntoken = \"calls-51d07be84a639f2c\"\n";

/// A gateway that looks at its files only when asked.
fn unwatched(file: &str, origin: &Origin) -> Process {
    let file = format!("{UNWATCHED}{file}{READER}");
    gateway_with(&file, origin, &[("ADMIN_TOKEN", TOKEN)])
}

fn rewrite(gateway: &Process, file: &str) {
    write(&gateway.directory, &format!("{UNWATCHED}{file}{READER}"));
}

fn post(gateway: &Process, token: &str, path: &str, line: &str) -> Response {
    exchange(
        gateway.admin,
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{line}\r\n"
        ),
    )
}

fn config(gateway: &Process) -> (Value, String) {
    let line = format!("authorization: Bearer {TOKEN}");
    let response = get(gateway.admin, "/v1/config", &[&line]);
    assert_eq!(response.status, 200, "{}", response.text());
    let etag = response.header("etag").unwrap().to_owned();
    (response.json(), etag)
}

/// Runs a command against the gateway.
fn command(running: &Process, arguments: &[&str]) -> (Option<i32>, String, String) {
    let url = format!("http://{}", running.admin);
    let variables = [
        ("SHARED_SECRET", SECRET),
        ("ADMIN_TOKEN", TOKEN),
        ("ADMIN_URL", &url),
    ];
    let Output {
        status,
        stdout,
        stderr,
    } = gateway(running.directory.path(), &variables, arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_call_answers_when_the_new_settings_are_in_force() {
    let origin = Origin::hello();
    let gateway = unwatched(ORDERS, &origin);
    let key = gateway.key("acme");
    let status = |path: &str| get(gateway.public, path, &[&key]).status;
    let reload = |path: &str, line: &str| post(&gateway, TOKEN, path, line);
    let unchanged = reload("/v1/reload", "");
    assert_eq!(unchanged.json()["outcome"], "unchanged");
    let (before, etag) = config(&gateway);
    assert_eq!(format!("\"{}\"", before["hash"].as_str().unwrap()), etag);
    rewrite(
        &gateway,
        "[[routes]]\nname = \"items\"\npath = \"/items\"\n",
    );

    let dry = reload("/v1/reload?dry_run=true", "");
    assert_eq!(dry.status, 200);
    assert_eq!(dry.json()["outcome"], "valid");
    assert_eq!(
        dry.json()["changed"],
        json!(["routes[items]", "routes[orders]"])
    );
    assert_eq!((status("/orders"), status("/items")), (200, 404));

    let mismatched = reload("/v1/reload", "if-match: \"0123456789abcdef\"\r\n");
    assert_eq!(
        (mismatched.status, mismatched.code().as_str()),
        (412, "settings_changed")
    );
    let malformed = reload("/v1/reload", "if-match: 0123456789abcdef\r\n");
    assert_eq!(
        (malformed.status, malformed.code().as_str()),
        (400, "invalid_parameter")
    );
    assert_eq!(status("/items"), 404);

    let applied = reload("/v1/reload", &format!("if-match: \"x\", {etag}\r\n"));
    assert_eq!(
        (applied.status, status("/items"), status("/orders")),
        (200, 200, 404)
    );
    assert_eq!(applied.json()["outcome"], "applied");
    assert_eq!(applied.json()["generation"], 2);
    let (after, _) = config(&gateway);
    assert_eq!(after["hash"], applied.json()["hash"]);
    assert_ne!(after["hash"], before["hash"]);
    assert_eq!(after["files"]["hash"], after["hash"]);
    let line = format!("authorization: Bearer {TOKEN}");
    eventually("the other gateways can see the hash", || {
        let gateways = get(gateway.admin, "/v1/gateways", &[&line]).json();
        gateways["data"][0]["config_hash"] == after["hash"]
    });
}

#[test]
fn a_refused_call_has_every_problem_and_only_an_admin_may_call() {
    let origin = Origin::hello();
    let gateway = unwatched(ORDERS, &origin);
    rewrite(
        &gateway,
        "[listen]\nkeep_alive = \"soon\"\n[[routes]]\npath = \"items\"\n",
    );
    let refused = post(&gateway, TOKEN, "/v1/reload", "");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (422, "settings_refused")
    );
    let problems = refused.json()["errors"].to_string();
    for path in ["listen.keep_alive", "routes[0].path"] {
        assert!(problems.contains(path), "{problems}");
    }
    let (config, _) = config(&gateway);
    assert_eq!(config["generation"], 1);
    assert_eq!(config["files"]["hash"], Value::Null);
    assert_eq!(config["files"]["problems"].as_array().unwrap().len(), 2);
    assert!(!config.to_string().contains(TOKEN) && !config.to_string().contains(SECRET));
    let reader = "calls-51d07be84a639f2c";
    let forbidden = post(&gateway, reader, "/v1/reload", "");
    assert_eq!(
        (forbidden.status, forbidden.code().as_str()),
        (403, "insufficient_role")
    );
    let line = format!("authorization: Bearer {reader}");
    assert_eq!(get(gateway.admin, "/v1/config", &[&line]).status, 200);
}

/// Provokes `gateway_stopping`.
#[test]
fn a_gateway_that_stops_reads_no_settings() {
    let origin = Origin::hello();
    let gateway = gateway_with(
        "[listen]\ndrain_delay = \"5min\"\n",
        &origin,
        &[("ADMIN_TOKEN", TOKEN)],
    );
    gateway.signal("TERM");
    eventually("it drains", || {
        get(gateway.admin, "/readyz", &[]).status == 503
    });
    let refused = post(&gateway, TOKEN, "/v1/reload", "");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "gateway_stopping")
    );
}

#[test]
fn the_command_waits_and_its_exit_code_tells_the_outcome() {
    let origin = Origin::hello();
    let gateway = unwatched(ORDERS, &origin);
    let (code, out, _) = command(&gateway, &["reload"]);
    assert_eq!(code, Some(0));
    assert_eq!(out, "nothing changed; generation 1 is in force\n");

    rewrite(
        &gateway,
        "[auth]\nrealm = \"shop\"\n[listen]\nmax_connections = 9\n",
    );
    let (code, out, _) = command(&gateway, &["reload", "--dry-run"]);
    assert_eq!(code, Some(2));
    assert!(
        out.contains("would change: auth.realm, routes[orders]\n"),
        "{out}"
    );
    let (code, out, _) = command(&gateway, &["reload"]);
    assert_eq!(code, Some(2));
    assert_eq!(
        out,
        "generation 2 is in force: auth.realm, routes[orders]\na restart is needed for: listen.max_connections\n"
    );

    rewrite(&gateway, "[auth]\nrealm = 1\nrealms = 1\n");
    let (code, _, err) = command(&gateway, &["reload", "--dry-run", "--json"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("auth.realms"), "{err}");

    rewrite(&gateway, "");
    let (code, out, _) = command(&gateway, &["reload", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &answer["outcome"]), (Some(0), &json!("applied")));
}

#[test]
fn what_differs_from_the_running_gateway_is_printed() {
    let origin = Origin::hello();
    let file = format!(
        "{UNWATCHED}[origin]\nurl = \"{}\"\n[store]\nurl = \"sqlite://gateway.db\"\n",
        origin.url()
    );
    let unset = [
        ("ORIGIN_URL", ""),
        ("DATABASE_URL", ""),
        ("ADMIN_TOKEN", TOKEN),
    ];
    let addresses = "[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    let gateway = gateway_with(&format!("{file}{addresses}"), &origin, &unset);
    let (code, out, err) = command(&gateway, &["check", "--diff"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let changed = addresses.replace(
        "[listen]\n",
        "[listen]\nmax_connections = 9\nkeep_alive = \"9s\"\n",
    );
    write(&gateway.directory, &format!("{file}{changed}"));
    let (code, out, err) = command(&gateway, &["check", "--diff"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert_eq!(
        out,
        "listen.keep_alive: \"1m 15s\" -> \"9s\"\nlisten.max_connections: 25000 -> 9  # needs a restart\n"
    );
}

#[test]
fn a_command_without_a_gateway_or_a_token_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    for (variables, wanted) in [
        (&[][..], "there is no admin token: set ADMIN_TOKEN"),
        (
            &[("ADMIN_TOKEN", TOKEN), ("ADMIN_URL", "http://127.0.0.1:1")],
            "no answer from http://127.0.0.1:1",
        ),
        (
            &[("ADMIN_TOKEN", TOKEN), ("ADMIN_URL", "127.0.0.1:1")],
            "the address of the admin listener is not accepted",
        ),
    ] {
        let output = gateway(directory.path(), variables, &["reload"]);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains(wanted), "{err}");
    }
}
