//! A running gateway with three admin tokens and a store of its own.

use std::net::SocketAddr;

use postern_gateway::config::{self, Environment};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Response, exchange, get};
use crate::running::Running;

/// The token of the environment, whose holder is called `admin`.
pub(crate) const ADMIN: &str = "admin-9f2c51d07be84a63";
/// The token of the file that may read only, called `auditor`.
pub(crate) const READER: &str = "reader-51d07be84a639f2c";
/// Another token of the file that may do everything, called `ci`.
pub(crate) const CI: &str = "ci-7be84a639f2c51d0";

/// A gateway that runs until it is dropped.
pub(crate) struct Rig {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Stops before its directory goes.
    _running: Running,
    pub(crate) directory: TempDir,
}

impl Rig {
    /// A gateway with all three tokens.
    pub(crate) fn new() -> Self {
        Self::with(&[("ADMIN_TOKEN", ADMIN)])
    }

    /// A gateway with all three tokens and this in its file besides.
    pub(crate) fn with_file(text: &str) -> Self {
        Self::start(&[("ADMIN_TOKEN", ADMIN)], text)
    }

    /// A gateway with the tokens of the file and these variables.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        Self::start(variables, "")
    }

    fn start(variables: &[(&str, &str)], text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.toml");
        std::fs::write(directory.path().join("ci.token"), format!("{CI}\n")).unwrap();
        let tokens = format!(
            "[[admin.tokens]]\nname = \"auditor\"\nrole = \"read-only\"\ntoken = \"{READER}\"\n\n\
             [[admin.tokens]]\nname = \"ci\"\nrole = \"admin\"\ntoken_file = \"{}\"\n",
            directory.path().join("ci.token").display()
        );
        let tokens = if variables.is_empty() { "" } else { &tokens };
        // Nothing listens there, whatever holds the port of the default origin.
        let origin = match text.contains("[origin]") {
            true => "",
            false => "[origin]\nurl = \"http://127.0.0.1:1\"\n",
        };
        std::fs::write(&file, format!("{tokens}\n{text}\n{origin}")).unwrap();
        let database = format!("sqlite://{}/gateway.db", directory.path().display());
        let environment: Environment = [
            ("SHARED_SECRET", "rig-9f2c51d07be84a63-shared"),
            ("DATABASE_URL", &database),
            ("GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
            ("GATEWAY__LISTEN__WORKERS", "1"),
            ("GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
            ("GATEWAY__LOG__ACCESS", "off"),
        ]
        .into_iter()
        .chain(variables.iter().copied())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        let settings =
            config::load(Some(&file), &environment).unwrap_or_else(|problems| panic!("{problems}"));
        let running = Running::start(settings);
        Self {
            public: running.public,
            admin: running.admin,
            _running: running,
            directory,
        }
    }

    /// A call as `admin`.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        self.call_as(ADMIN, method, path, &[], body)
    }

    /// A call with this token and these header lines besides.
    pub(crate) fn call_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&Value>,
    ) -> Response {
        let authorization = format!("authorization: Bearer {token}");
        let mut lines = vec![authorization.as_str()];
        if body.is_some() {
            lines.push("content-type: application/json");
        }
        lines.extend(headers);
        self.raw(
            method,
            path,
            &lines,
            body.map(Value::to_string).unwrap_or_default().as_bytes(),
        )
    }

    /// A request of exactly these parts.
    pub(crate) fn raw(&self, method: &str, path: &str, lines: &[&str], body: &[u8]) -> Response {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{lines}{length}\r\n")
                .into_bytes();
        request.extend_from_slice(body);
        exchange(self.admin, request)
    }

    /// `POST path`, which has to make something.
    pub(crate) fn made(&self, path: &str, body: &Value) -> Value {
        let response = self.call("POST", path, Some(body));
        assert_eq!(response.status, 201, "{}", response.text());
        response.json()
    }

    /// `GET path`, which has to succeed.
    pub(crate) fn shown(&self, path: &str) -> Value {
        let response = self.call("GET", path, None);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// What the public listener says of a key: `ok` once it was let through, which here means that no origin answers.
    pub(crate) fn verdict(&self, key: &str) -> String {
        let code = get(self.public, "/", &[&format!("authorization: Bearer {key}")]).code();
        if code == "origin_unreachable" {
            "ok".to_owned()
        } else {
            code
        }
    }
}

/// A text member.
pub(crate) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {value}"))
}

/// Status and code of a refusal.
pub(crate) fn refusal(response: &Response) -> (u16, String) {
    assert_eq!(
        response.header("cache-control"),
        Some("no-store"),
        "{response:?}"
    );
    assert_eq!(
        response.header("x-content-type-options"),
        Some("nosniff"),
        "{response:?}"
    );
    let body = response.json();
    let code = response.code();
    assert_eq!(body["type"], format!("urn:postern:problem:{code}"));
    assert_eq!(body["status"], response.status);
    assert_eq!(body["request_id"].as_str(), response.header("x-request-id"));
    (response.status, code)
}
