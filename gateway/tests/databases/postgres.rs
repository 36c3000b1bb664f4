//! A real PostgreSQL server for this test process: its own data directory, its own port, gone with the process.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

/// Starts the server that `$1` runs with the data directory `$2` on port `$3`, and stops it once nobody holds the other
/// end of standard input: however the test process ends, the server ends too. Then removes `$4`.
const KEEPER: &str = r#"
"$1" -D "$2" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=200 >&2 </dev/null &
server=$!
cat >/dev/null
kill -QUIT "$server"
wait "$server"
[ -z "$4" ] || rm -rf "$4"
"#;

/// What a server says whose port is taken.
const TAKEN: &str = "could not create any TCP/IP sockets";

/// A server with one superuser, `postern` with the password `hunter2-of-the-tests`.
pub(crate) struct Server {
    port: u16,
    programs: PathBuf,
    directory: TempDir,
    keeper: Option<Child>,
    /// Its port is known to others.
    has_run: bool,
}

impl Server {
    /// A server of its own, for a test that stops it.
    pub(crate) fn start() -> Self {
        let mut server = Self::make();
        server.resume();
        server
    }

    /// A server for the whole process. Nobody drops it, so its directory goes with its keeper.
    fn shared() -> Self {
        let mut server = Self::make();
        let directory = server.directory.path().to_owned();
        server.run_once_it_can(Some(&directory));
        server
    }

    fn make() -> Self {
        let programs = programs();
        let directory = tempfile::Builder::new()
            .prefix("postern-postgres-")
            .tempdir()
            .unwrap();
        let password = directory.path().join("password");
        fs::write(&password, "hunter2-of-the-tests").unwrap();
        own(directory.path());
        let made = as_postgres(&programs.join("initdb"))
            .args([
                "--username=postern",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ])
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(directory.path().join("data"))
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        Self {
            port: free_port(),
            programs,
            directory,
            keeper: None,
            has_run: false,
        }
    }

    /// Starts it, again if it was stopped; returns once it takes connections.
    pub(crate) fn resume(&mut self) {
        self.run_once_it_can(None);
    }

    /// Where another took its port, the first time at another one, and later when that is free again.
    fn run_once_it_can(&mut self, remove: Option<&Path>) {
        let begun = Instant::now();
        while !self.run(remove) {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "port {} of the server stays taken",
                self.port
            );
            if self.has_run {
                std::thread::sleep(Duration::from_millis(100));
            } else {
                self.port = free_port();
            }
        }
        self.has_run = true;
    }

    /// Whether the port was free.
    fn run(&mut self, remove: Option<&Path>) -> bool {
        let mut keeper = as_postgres(Path::new("/bin/sh"))
            .args(["-c", KEEPER, "keeper"])
            .arg(self.programs.join("postgres"))
            .arg(self.directory.path().join("data"))
            .arg(self.port.to_string())
            .args(remove)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(keeper.stderr.take().unwrap()).lines();
        // Its keeper outlives a server that ends at once, and with it this pipe.
        let told = log.by_ref().map(Result::unwrap).find(|line| {
            ["ready to accept connections", TAKEN]
                .iter()
                .any(|told| line.contains(told))
        });
        let told = told.unwrap_or_else(|| panic!("the server did not start"));
        if told.contains(TAKEN) {
            // Before it removes the directory.
            keeper.kill().unwrap();
            keeper.wait().unwrap();
            return false;
        }
        // What it says from now on is of no interest, but has to go somewhere.
        std::thread::spawn(move || log.for_each(drop));
        self.keeper = Some(keeper);
        true
    }

    /// Stops it at once; what it had committed is there when it is started again.
    pub(crate) fn stop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    /// The URL of a new, empty database.
    pub(crate) async fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        connection
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .unwrap();
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!(
            "postgres://postern:hunter2-of-the-tests@127.0.0.1:{}/{database}",
            self.port
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The URL of a new, empty database on the server that the tests of this process share.
pub(crate) async fn new_database() -> String {
    static SHARED: OnceLock<Server> = OnceLock::new();
    // Tests run on runtimes of their own, and starting takes a second: not on one of them.
    let server = tokio::task::spawn_blocking(|| SHARED.get_or_init(Server::shared))
        .await
        .unwrap();
    server.database().await
}

/// A port below those that the system gives out for a moment, so that it is not taken between two runs of a server, and
/// that no other process of tests is given as long as this one runs.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let user = rustix::process::getuid().as_raw();
    let places = env::temp_dir().join(format!("postern-ports-{user}"));
    let _ = fs::create_dir(&places);
    loop {
        let number = std::process::id()
            .wrapping_mul(137)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(20_000 + number % 12_000).unwrap();
        let place = fs::File::create(places.join(port.to_string())).unwrap();
        if place.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            std::mem::forget(place);
            return port;
        }
    }
}

/// Where the server's programs are: on the path, or where Debian puts them, the newest first.
fn programs() -> PathBuf {
    let on_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path().join("bin"))
        .collect();
    versions.sort();
    let has_both =
        |place: &PathBuf| place.join("initdb").exists() && place.join("postgres").exists();
    let found = on_path.chain(versions.into_iter().rev()).find(has_both);
    found.unwrap_or_else(|| {
        panic!("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    })
}

/// The server refuses to run as root.
pub(crate) fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program);
    command
}

/// Gives `directory` to whom the server runs as.
pub(crate) fn own(directory: &Path) {
    if is_root() {
        let given = Command::new("chown")
            .args(["-R", "postgres:postgres"])
            .arg(directory)
            .status()
            .unwrap();
        assert!(given.success());
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}
