//! A real pgbouncer before the server that the tests of this process share; gone with the process.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Starts the pooler that `$1` runs with the configuration `$2`, and stops it once nobody holds the other end of standard
/// input: however the test process ends, the pooler ends too. Then removes `$3`.
const KEEPER: &str = r#"
"$1" -q "$2" </dev/null &
pooler=$!
cat >/dev/null
kill -INT "$pooler"
wait "$pooler"
rm -rf "$3"
"#;

/// A pooler in one mode.
pub(crate) struct Pooler {
    port: u16,
    keeper: Child,
    _directory: TempDir,
}

impl Pooler {
    /// Before the server of `url`; `ignored` are parameters of a session's start that it takes and does not pass on.
    pub(crate) fn start(url: &str, mode: &str, ignored: &str) -> Self {
        let (_, place) = url.rsplit_once('@').unwrap();
        let (_, server) = place.split_once('/').unwrap().0.split_once(':').unwrap();
        let directory = tempfile::Builder::new()
            .prefix("postern-pgbouncer-")
            .tempdir()
            .unwrap();
        let port = crate::postgres::free_port();
        let file = directory.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server} user=postern password=hunter2-of-the-tests\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = {mode}\nignore_startup_parameters = {ignored}\nmax_client_conn = 500\ndefault_pool_size = 60\n\
             server_idle_timeout = 2\n"
        );
        fs::write(&file, settings).unwrap();
        crate::postgres::own(directory.path());
        let keeper = crate::postgres::as_postgres(Path::new("/bin/sh"))
            .args(["-c", KEEPER, "keeper"])
            .arg(program())
            .arg(&file)
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let by = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < by, "pgbouncer does not take connections");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            port,
            keeper,
            _directory: directory,
        }
    }

    /// `url` by way of the pooler.
    pub(crate) fn before(&self, url: &str) -> String {
        let (credentials, place) = url.rsplit_once('@').unwrap();
        let (_, name) = place.split_once('/').unwrap();
        format!("{credentials}@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// The URL of a new, empty database by way of a pooler in session mode that the tests of this process share.
pub(crate) async fn new_database() -> String {
    static SHARED: OnceLock<Pooler> = OnceLock::new();
    let url = crate::postgres::new_database().await;
    let server = url.clone();
    let pooler = tokio::task::spawn_blocking(move || {
        SHARED.get_or_init(|| Pooler::start(&server, "session", "extra_float_digits, options"))
    });
    pooler.await.unwrap().before(&url)
}

fn program() -> &'static str {
    let found = [
        "/usr/sbin/pgbouncer",
        "/usr/bin/pgbouncer",
        "/usr/local/bin/pgbouncer",
    ]
    .into_iter()
    .find(|path| Path::new(path).exists());
    found
        .unwrap_or_else(|| panic!("pgbouncer is not installed (Debian: apt-get install pgbouncer)"))
}
