//! The process log as JSON, from the first line to the last.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::client::get;
use crate::rig::{SECRET, database, gateway};
use crate::running::eventually;

#[test]
fn every_line_of_the_process_log_is_json_where_the_settings_say_so() {
    let directory = tempfile::tempdir().unwrap();
    // From the file, so that what is logged while it is read comes as JSON too: the routes have a warning.
    let file = "[log]\nformat = \"json\"\naccess = \"off\"\n\n[[routes]]\nmethods = [\"GET\"]\npath = \"/a\"\nscopes = [\"a\"]\n\n\
                [[routes]]\nupstream = \"http://127.0.0.1:1\"\n";
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("serve")
        .env_clear()
        .env("SHARED_SECRET", SECRET)
        .env("DATABASE_URL", database(directory.path()))
        .env("GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0")
        .env("GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0")
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines: Vec<Value> = Vec::new();
    let mut next = |lines: &mut Vec<Value>| {
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        lines.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")));
        lines.last().unwrap()["message"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let after = |message: &str, marker: &str| {
        let address = message.strip_prefix(marker)?;
        Some(address.parse::<std::net::SocketAddr>().unwrap())
    };
    let (mut public, mut admin) = (None, None);
    while public.is_none() || admin.is_none() {
        let message = next(&mut lines);
        public = public.or(after(&message, "listening on http://"));
        admin = admin.or(after(&message, "admin listening on http://"));
    }
    let (public, admin) = (public.unwrap(), admin.unwrap());
    eventually("the keys are loaded", || {
        get(admin, "/readyz", &[]).status == 200
    });
    let key = gateway(
        directory.path(),
        &[("DATABASE_URL", &database(directory.path()))],
        &["keys", "create", "--consumer", "acme", "--json"],
    );
    let key: Value = serde_json::from_slice(&key.stdout).unwrap();
    let header = format!("authorization: Bearer {}", key["key"].as_str().unwrap());
    assert_eq!(get(public, "/\u{1b}[31m", &[&header]).status, 400);
    assert_eq!(get(public, "/x", &[&header]).status, 502);
    while !next(&mut lines).contains("upstream") {}
    let stopped = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(stopped.unwrap().success());
    while next(&mut lines) != "stopped" {}
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(child.wait().unwrap().success());
    for line in &lines {
        let members: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(members.len(), 4, "{line}");
        for member in ["time", "level", "target", "message"] {
            assert!(line[member].is_string(), "{member}: {line}");
        }
        let time = line["time"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
    }
    let is_warning =
        |line: &Value| line["level"] == "WARN" && line["message"].as_str().unwrap().contains("/a");
    assert!(lines.iter().any(is_warning), "{lines:#?}");
}

#[test]
fn what_is_wrong_with_the_settings_is_text_for_whoever_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let output = gateway(
        directory.path(),
        &[("SHARED_SECRET", SECRET), ("GATEWAY__LOG__FORMAT", "yaml")],
        &["serve"],
    );
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("log.format") && stderr.contains("\"text\" or \"json\""),
        "{stderr}"
    );
}
