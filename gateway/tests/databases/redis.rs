//! A real Redis server for one test: its own directory, its own port, gone with the process.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Starts the server with the configuration `$1`, tells its process, and kills it once nobody holds the other
/// end of standard input: however the test process ends, the server ends too.
const KEEPER: &str = r#"
redis-server "$1" >/dev/null 2>&1 </dev/null &
server=$!
echo "$server"
cat >/dev/null
kill -KILL "$server"
wait "$server"
"#;

/// A server.
pub(crate) struct Redis {
    pub(crate) port: u16,
    directory: TempDir,
    keeper: Option<Child>,
    process: u32,
}

impl Redis {
    /// With default settings.
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// With these lines in its configuration.
    pub(crate) fn with(lines: &str) -> Self {
        Self::serving(|port| format!("port {port}\n{lines}"), &[])
    }

    /// With this configuration for its port, and these files in its directory.
    pub(crate) fn serving(lines: impl Fn(u16) -> String, files: &[(&str, &str)]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("postern-redis-")
            .tempdir()
            .unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let mut server = Self {
            port: 0,
            directory,
            keeper: None,
            process: 0,
        };
        // Where another takes the port meanwhile, the server ends.
        for _ in 0..10 {
            server.port = crate::postgres::free_port();
            let always = format!(
                "bind 127.0.0.1\ndir {}\nsave \"\"\nappendonly no\n",
                server.directory.path().display()
            );
            let text = format!("{always}{}", lines(server.port));
            fs::write(server.configuration(), text).unwrap();
            if server.run() {
                return server;
            }
        }
        panic!("redis-server does not start (Debian: apt-get install redis-server)");
    }

    /// Starts it again, empty, at the same port.
    pub(crate) fn resume(&mut self) {
        let begun = Instant::now();
        while !self.run() {
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
    }

    /// Whether it takes connections.
    fn run(&mut self) -> bool {
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(self.configuration())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(keeper.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        self.process = line.trim().parse().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let is_running = Path::new(&format!("/proc/{}/exe", self.process)).exists();
            if !is_running || begun.elapsed() > Duration::from_secs(60) {
                drop(keeper.stdin.take());
                keeper.wait().unwrap();
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.keeper = Some(keeper);
        true
    }

    /// Kills it; what it knew is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    /// Sends it a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.process.to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Sends a command on one line and returns its answer: a line, or those of the items of a list.
    pub(crate) fn command(&self, line: &str) -> Vec<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        socket.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut answer = BufReader::new(socket);
        read(&mut answer)
    }

    /// The address of the server.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn configuration(&self) -> std::path::PathBuf {
        self.directory.path().join("redis.conf")
    }
}

/// Reads one answer of RESP2.
fn read(from: &mut BufReader<TcpStream>) -> Vec<String> {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let line = line.trim_end();
    let (kind, rest) = line.split_at(1);
    match kind {
        "$" => {
            let Ok(length) = rest.parse::<usize>() else {
                return Vec::new();
            };
            let mut text = vec![0; length + 2];
            from.read_exact(&mut text).unwrap();
            vec![String::from_utf8_lossy(&text[..length]).into_owned()]
        }
        "*" => {
            let items: usize = rest.parse().unwrap();
            (0..items).flat_map(|_| read(from)).collect()
        }
        _ => vec![line.to_owned()],
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
