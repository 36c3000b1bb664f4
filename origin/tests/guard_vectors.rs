//! Runs every vector of `examples/origin-guard-vectors.json` against the real binary and against
//! the guard of `examples/node`, over real sockets. The guard of `examples/litestar` runs the same
//! file.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on stops"
)]

#[path = "harness/origin_process.rs"]
mod origin_process;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use origin_process::{Answer, OriginProcess, command};
use postern_shared::headers::is_privileged;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[serde(rename = "about")]
    _about: Vec<String>,
    cases: Vec<Case>,
    refused_at_start: Vec<Refused>,
    accepted_at_start: Vec<Accepted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    current: Option<String>,
    previous: Option<String>,
    headers: Vec<(String, Text)>,
    path: Option<String>,
    upgrade: Option<String>,
    status: u16,
    detail: Option<String>,
    marker: Option<String>,
    sees: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    name: String,
    environment: BTreeMap<String, Text>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    names: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    name: String,
    environment: BTreeMap<String, Text>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    accepts: Text,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Repeated { repeat: String, times: usize },
}

impl Text {
    fn text(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Repeated { repeat, times } => repeat.repeat(*times),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        latin1(&self.text())
    }
}

/// One byte per character, as the file's `about` defines.
fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap())
        .collect()
}

fn vectors() -> Vectors {
    let text = fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/origin-guard-vectors.json"
    ))
    .unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Program with a guard.
#[derive(Clone, Copy)]
enum Guarded {
    /// Middleware of this crate, in the reference backend.
    Crate,
    /// `examples/node`.
    Node,
}

impl Guarded {
    fn command(self) -> Command {
        match self {
            Self::Crate => command(),
            Self::Node => {
                let mut command = Command::new("node");
                let path = std::env::var_os("PATH").unwrap_or_default();
                command
                    .arg(concat!(
                        env!("CARGO_MANIFEST_DIR"),
                        "/../examples/node/server.mjs"
                    ))
                    .env_clear()
                    .env("PATH", path)
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped());
                command
            }
        }
    }
}

#[test]
fn every_case_is_answered_as_the_vectors_say() {
    answers_every_case(Guarded::Crate);
}

#[test]
fn a_node_server_answers_every_case_as_the_vectors_say() {
    answers_every_case(Guarded::Node);
}

fn answers_every_case(guarded: Guarded) {
    let cases = vectors().cases;
    assert!(
        cases.len() > 50,
        "{} cases are too few to be all",
        cases.len()
    );
    let mut origins: BTreeMap<_, OriginProcess> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in &cases {
        let origin = origins
            .entry((&case.current, &case.previous))
            .or_insert_with(|| {
                let secrets = [
                    ("SHARED_SECRET", &case.current),
                    ("SHARED_SECRET_PREVIOUS", &case.previous),
                ];
                OriginProcess::start_as(
                    guarded.command(),
                    secrets
                        .into_iter()
                        .filter_map(|(name, value)| Some((name, value.as_deref()?))),
                )
            });
        let lines: Vec<_> = case
            .headers
            .iter()
            .map(|(name, value)| (latin1(name), value.bytes()))
            .collect();
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect();
        let path = case.path.as_deref().unwrap_or("/echo");
        let answer = match &case.upgrade {
            Some(protocol) => origin.upgrade(path, protocol, &lines),
            None => origin.get(path, &lines),
        };
        failures.extend(
            fault(case, path, &answer).map(|fault| format!("{}: {fault}\n  {answer:?}", case.name)),
        );
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// Difference between the response and the vector.
fn fault(case: &Case, path: &str, answer: &Answer) -> Option<String> {
    if answer.status != case.status {
        return Some(format!(
            "status {} instead of {}",
            answer.status, case.status
        ));
    }
    if answer.header("x-origin-guard") != case.marker.as_deref() {
        return Some(format!(
            "marker {:?} instead of {:?}",
            answer.header("x-origin-guard"),
            case.marker
        ));
    }
    if case.marker.is_none() && path != "/echo" {
        return None;
    }
    let body = answer.json();
    if case.marker.is_none() {
        let Some(seen) = body["headers"].as_object() else {
            return Some("no echo".to_owned());
        };
        let mut seen: Vec<_> = seen.keys().filter(|name| is_privileged(name)).collect();
        seen.sort_unstable();
        let wanted: Vec<_> = case.sees.iter().flatten().collect();
        return (seen != wanted).then(|| format!("the handler saw {seen:?} and not {wanted:?}"));
    }
    let challenge = (case.status == 401).then_some("SharedSecret realm=\"origin\"");
    let title = if case.status == 401 {
        "Unauthorized"
    } else {
        "Internal Server Error"
    };
    let code = format!("shared_secret_{}", case.marker.as_deref()?);
    [
        ("detail", body["detail"].as_str(), case.detail.as_deref()),
        ("type", body["type"].as_str(), Some("about:blank")),
        ("title", body["title"].as_str(), Some(title)),
        (
            "instance",
            body["instance"].as_str(),
            path.split('?').next(),
        ),
        ("code", body["code"].as_str(), Some(&code)),
        (
            "content-type",
            answer.header("content-type"),
            Some("application/problem+json"),
        ),
        (
            "cache-control",
            answer.header("cache-control"),
            Some("no-store"),
        ),
        (
            "www-authenticate",
            answer.header("www-authenticate"),
            challenge,
        ),
    ]
    .into_iter()
    .find(|(_, found, wanted)| found != wanted)
    .map(|(member, found, wanted)| format!("{member} {found:?} instead of {wanted:?}"))
}

/// Environment variables; writes and names the files.
fn environment(
    variables: &BTreeMap<String, Text>,
    files: &BTreeMap<String, String>,
    folder: &tempfile::TempDir,
) -> Vec<(String, String)> {
    for (name, content) in files {
        fs::write(folder.path().join(name), latin1(content)).unwrap();
    }
    let resolved = |text: String| {
        files.keys().fold(text, |text, name| {
            text.replace(
                &format!("{{{name}}}"),
                folder.path().join(name).to_str().unwrap(),
            )
        })
    };
    variables
        .iter()
        .map(|(name, value)| (name.clone(), resolved(value.text())))
        .collect()
}

#[test]
fn an_unusable_secret_stops_the_start() {
    refuses_to_start(Guarded::Crate, 2);
}

#[test]
fn an_unusable_secret_stops_the_start_of_a_node_server() {
    refuses_to_start(Guarded::Node, 1);
}

fn refuses_to_start(guarded: Guarded, code: i32) {
    let refused = vectors().refused_at_start;
    assert!(refused.len() > 10);
    for case in refused {
        let folder = tempfile::tempdir().unwrap();
        let environment = environment(&case.environment, &case.files, &folder);
        let output = guarded
            .command()
            .env("ORIGIN_LISTEN", "127.0.0.1:0")
            .envs(environment.clone())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{}: {stderr}", case.name);
        assert!(stderr.contains(&case.names), "{}: {stderr}", case.name);
        for (name, value) in environment
            .iter()
            .filter(|(name, value)| !name.ends_with("_FILE") && value.trim().len() > 8)
        {
            assert!(
                !stderr.contains(value),
                "{}: the value of {name} is in {stderr}",
                case.name
            );
        }
    }
}

#[test]
fn a_usable_secret_is_taken_from_every_source() {
    accepts_every_source(Guarded::Crate);
}

#[test]
fn a_usable_secret_is_taken_from_every_source_by_a_node_server() {
    accepts_every_source(Guarded::Node);
}

fn accepts_every_source(guarded: Guarded) {
    let accepted = vectors().accepted_at_start;
    assert!(accepted.len() > 5);
    for case in accepted {
        let folder = tempfile::tempdir().unwrap();
        let environment = environment(&case.environment, &case.files, &folder);
        let origin = OriginProcess::start_as(
            guarded.command(),
            environment
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let answer = origin.get("/protected", &[(b"x-shared-secret", &case.accepts.bytes())]);
        assert_eq!(answer.status, 200, "{}: {answer:?}", case.name);
    }
}
