//! A running gateway on free ports with a store of its own, built as production builds it, and the command line
//! beside it.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use postern_gateway::config::own::{Registration, Registrations};
use postern_gateway::config::{self, Environment};
use tempfile::TempDir;

use crate::client::{Response, get};
use crate::library_text::assert_plain;
use crate::origin::Origin;
use crate::running::{Running, eventually};

/// The secret that every gateway here proves itself with.
pub(crate) const SECRET: &str = "rig-9f2c51d07be84a63-shared";

/// A gateway that runs until it is dropped.
pub(crate) struct Rig {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Stops before its directory goes.
    _running: Running,
    pub(crate) directory: TempDir,
}

impl Rig {
    /// A gateway before `origin` with default settings.
    pub(crate) fn before(origin: &Origin) -> Self {
        Self::with(&origin.url(), "")
    }

    /// A gateway before `origin_url` with these settings in its file.
    pub(crate) fn with(origin_url: &str, file: &str) -> Self {
        Self::with_own(origin_url, file, vec![])
    }

    /// The same with sections of one's own.
    pub(crate) fn with_own(origin_url: &str, file: &str, own: Vec<Registration>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
        let environment: Environment = [
            ("SHARED_SECRET", SECRET.to_owned()),
            ("ORIGIN_URL", origin_url.to_owned()),
            ("DATABASE_URL", database(directory.path())),
            ("GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0".to_owned()),
            ("GATEWAY__LISTEN__WORKERS", "1".to_owned()),
            ("GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0".to_owned()),
            ("GATEWAY__LOG__ACCESS", "off".to_owned()),
        ]
        .into_iter()
        .collect();
        let file = directory.path().join("gateway.toml");
        let own = Registrations::new(own).unwrap();
        let settings = config::load_with(Some(&file), &environment, &own)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let running = Running::start(settings);
        Self {
            public: running.public,
            admin: running.admin,
            _running: running,
            directory,
        }
    }

    /// Makes a key for consumer `name` with the command line, and returns its parts.
    pub(crate) fn key(&self, name: &str, arguments: &[&str]) -> Key {
        let arguments = [&["keys", "create", "--consumer", name, "--json"], arguments].concat();
        let output = self.command(&arguments);
        assert!(output.status.success(), "{output:?}");
        let created: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |name: &str| {
            created[name]
                .as_str()
                .unwrap_or_else(|| panic!("{name} in {created}"))
                .to_owned()
        };
        Key {
            id: text("id"),
            key: text("key"),
        }
    }

    /// Runs `gateway` with `arguments` on the store of this gateway.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        gateway(
            self.directory.path(),
            &[("DATABASE_URL", &database(self.directory.path()))],
            arguments,
        )
    }

    /// Runs `gateway` with `arguments`, which has to succeed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `GET path` with a key.
    pub(crate) fn get(&self, path: &str, key: &Key) -> Response {
        get(self.public, path, &[&key.header()])
    }
}

/// A key that was made.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) key: String,
}

impl Key {
    /// The header line that presents it.
    pub(crate) fn header(&self) -> String {
        format!("authorization: Bearer {}", self.key)
    }
}

impl Response {
    /// The code of a refusal, or `ok`.
    pub(crate) fn code_or_ok(&self) -> String {
        if self.status < 400 {
            "ok".to_owned()
        } else {
            self.code()
        }
    }
}

/// The address of the store in `directory`.
pub(crate) fn database(directory: &Path) -> String {
    format!("sqlite://{}/gateway.db", directory.display())
}

/// Runs the real binary in `directory` with these variables and no others.
pub(crate) fn gateway(directory: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(directory)
        .output()
        .unwrap();
    assert_plain(&String::from_utf8_lossy(&output.stdout));
    assert_plain(&String::from_utf8_lossy(&output.stderr));
    output
}

/// Makes an empty store in `directory`, as an import does.
pub(crate) fn make_store(directory: &Path) {
    let url = database(directory);
    let import = ["import", "--format", "jsonl", "/dev/null"];
    let output = gateway(directory, &[("DATABASE_URL", &url)], &import);
    assert!(output.status.success(), "{output:?}");
}

/// The real binary, running as a process of its own.
pub(crate) struct Process {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) directory: TempDir,
    child: Child,
    log: Arc<Mutex<String>>,
    access_log: Arc<Mutex<String>>,
}

impl Process {
    /// `gateway serve` before `origin_url`.
    pub(crate) fn before(origin_url: &str) -> Self {
        Self::start(tempfile::tempdir().unwrap(), origin_url, &[])
    }

    /// `gateway serve` with the store in `directory` and these variables besides.
    pub(crate) fn start(directory: TempDir, origin_url: &str, variables: &[(&str, &str)]) -> Self {
        let process = Self::start_unready(directory, origin_url, variables);
        eventually("the keys are loaded", || {
            get(process.admin, "/readyz", &[]).status == 200
        });
        process
    }

    /// The same with `--config`.
    pub(crate) fn start_with_config(
        file: &Path,
        directory: TempDir,
        origin_url: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.arg("serve").arg("--config").arg(file);
        let process = Self::spawn(command, directory, origin_url, variables);
        eventually("the keys are loaded", || {
            get(process.admin, "/readyz", &[]).status == 200
        });
        process
    }

    /// The same with these arguments.
    pub(crate) fn start_with(arguments: &[&str], directory: TempDir, origin_url: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.arg("serve").args(arguments);
        let process = Self::spawn(command, directory, origin_url, &[]);
        eventually("the keys are loaded", || {
            get(process.admin, "/readyz", &[]).status == 200
        });
        process
    }

    /// `gateway serve` that is sent a signal as soon as it handles signals, and before it listens.
    pub(crate) fn start_signalled(origin_url: &str, signal: &'static str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.arg("serve");
        Self::spawn_and(
            command,
            tempfile::tempdir().unwrap(),
            origin_url,
            &[],
            |process| {
                eventually("signals are handled", || {
                    let status =
                        std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
                    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
                    let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
                    // The first bit is that of SIGHUP.
                    caught & 1 == 1
                });
                let kill = Command::new("kill")
                    .args([&format!("-{signal}"), &process.to_string()])
                    .status();
                assert!(kill.unwrap().success());
            },
        )
    }

    /// The same, without waiting for its keys.
    pub(crate) fn start_unready(
        directory: TempDir,
        origin_url: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.arg("serve");
        Self::spawn(command, directory, origin_url, variables)
    }

    /// `gateway serve` where no more than `files` may be open.
    pub(crate) fn start_with_files(files: u32, directory: TempDir, origin_url: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit -n {files}; exec \"$0\" serve");
        command
            .args(["-c", &script])
            .arg(env!("CARGO_BIN_EXE_gateway"));
        let process = Self::spawn(command, directory, origin_url, &[]);
        eventually("the keys are loaded", || {
            get(process.admin, "/readyz", &[]).status == 200
        });
        process
    }

    fn spawn(
        command: Command,
        directory: TempDir,
        origin_url: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        Self::spawn_and(command, directory, origin_url, variables, |_| {})
    }

    /// Starts a process and does something to it before it listens.
    fn spawn_and(
        mut command: Command,
        directory: TempDir,
        origin_url: &str,
        variables: &[(&str, &str)],
        act: impl FnOnce(u32),
    ) -> Self {
        let mut child = command
            .env_clear()
            .env("SHARED_SECRET", SECRET)
            .env("ORIGIN_URL", origin_url)
            .env("DATABASE_URL", database(directory.path()))
            .env("GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0")
            .env("GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        act(child.id());
        let log = collect(child.stderr.take().unwrap());
        let access_log = collect(child.stdout.take().unwrap());
        let address_after = |marker: &str| {
            let mut address = None;
            eventually(marker, || {
                let log = log.lock().unwrap();
                // Whole lines only: half a port is a port too.
                let whole = log.rfind('\n').map_or("", |end| &log[..end]);
                address = whole.lines().find_map(|line| {
                    line.split_once(marker)?
                        .1
                        .split_once("://")?
                        .1
                        .trim()
                        .parse()
                        .ok()
                });
                address.is_some()
            });
            address.unwrap()
        };
        let (public, admin) = (
            address_after("] listening on "),
            address_after("admin listening on "),
        );
        Self {
            public,
            admin,
            directory,
            child,
            log,
            access_log,
        }
    }

    /// Makes a key and returns the header line that presents it.
    pub(crate) fn key(&self, consumer: &str) -> String {
        self.key_with(consumer, &[])
    }

    /// The same with these arguments.
    pub(crate) fn key_with(&self, consumer: &str, arguments: &[&str]) -> String {
        let variables = [("DATABASE_URL", database(self.directory.path()))];
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let output = gateway(
            self.directory.path(),
            &variables,
            &[
                &["keys", "create", "--consumer", consumer, "--json"],
                arguments,
            ]
            .concat(),
        );
        assert!(output.status.success(), "{output:?}");
        let created: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        format!("authorization: Bearer {}", created["key"].as_str().unwrap())
    }

    /// Runs `gateway` with `arguments` on the store of this gateway, which has to succeed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let variables = [("DATABASE_URL", database(self.directory.path()))];
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let output = gateway(self.directory.path(), &variables, arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The id of a key.
    pub(crate) fn id_of(&self, key: &str) -> String {
        let all = self.done(&["keys", "list", "--json"]);
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        let hints = all.as_array().unwrap().iter();
        let mut found = hints.filter(|one| key.starts_with(one["hint"].as_str().unwrap()));
        let found = found.next().unwrap();
        found["id"].as_str().unwrap().to_owned()
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory in use.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim()
            .trim_end_matches(" kB")
            .parse::<usize>()
            .unwrap()
            * 1024
    }

    /// Connections of clients that it holds open.
    pub(crate) fn connections(&self) -> usize {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.child.id())).unwrap();
        let ours = format!(":{:04X}", self.public.port());
        let established = |line: &&str| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns.get(1).is_some_and(|local| local.ends_with(&ours))
                && columns.get(3) == Some(&"01")
        };
        table.lines().filter(established).count()
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The access-log lines so far.
    pub(crate) fn access_log(&self) -> Vec<serde_json::Value> {
        let text = self.access_log.lock().unwrap().clone();
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end and returns its exit code, if it was not killed.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    /// Kills it without a warning and returns the directory of its store.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }
}

impl Drop for Process {
    /// Whatever the test was about, nothing panicked, and the logs have neither the secret nor the text of a library.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            return;
        }
        let log = self.log();
        assert!(!log.contains("a panic at "), "{log}");
        assert_plain(&log);
        assert_plain(&self.access_log.lock().unwrap());
        assert!(
            !log.contains(SECRET) && !self.access_log.lock().unwrap().contains(SECRET),
            "the secret is in a log: {log}"
        );
    }
}

/// Reads all that comes, as it comes.
fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let collected = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&collected);
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            into.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
    collected
}
