//! A log that nobody reads stops nothing.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{DEADLINE, exchange, get};
use crate::origin::Origin;
use crate::rig::{SECRET, database};
use crate::running::eventually;

const TOKEN: &str = "full-pipes-9f2c51d07be84a63";
/// How long all requests may take together.
const ALL: Duration = Duration::from_secs(240);

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_standard_output_and_standard_error_stop_nothing() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let mut child = Killed(
        Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("serve")
            .env_clear()
            .env("SHARED_SECRET", SECRET)
            .env("ADMIN_TOKEN", TOKEN)
            .env("ORIGIN_URL", origin.url())
            .env("DATABASE_URL", database(directory.path()))
            .env("GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0")
            .env("GATEWAY__LISTEN__WORKERS", "2")
            .env("GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0")
            // So that each refusal is logged.
            .env("RUST_LOG", "debug")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut log = BufReader::new(child.0.stderr.take().unwrap());
    let mut address_after = |marker: &str| -> SocketAddr {
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "no {marker}");
            if let Some((_, rest)) = line.split_once(marker) {
                return rest.trim().parse().unwrap();
            }
        }
    };
    let public = address_after("] listening on http://");
    let admin = address_after("admin listening on http://");
    // From here on nobody reads either.
    let begun = Instant::now();
    let in_time = |what: &str| assert!(begun.elapsed() < ALL, "{what}");
    eventually("it is ready", || get(admin, "/readyz", &[]).status == 200);
    for round in 0..1000 {
        for (request, status) in [
            ("x\u{1}\r\n\r\n", 400),
            ("GET /a?q=\"x\" HTTP/1.1\r\nhost: h\r\n\r\n", 400),
            ("GET / HTTP/1.2\r\nhost: h\r\n\r\n", 505),
            ("GET / HTTP/1.1\r\nhost: h\r\n\r\n", 401),
            (
                "GET / HTTP/1.1\r\nhost: h\r\nauthorization: Bearer unknown\r\n\r\n",
                401,
            ),
            ("GET /%2f HTTP/1.1\r\nhost: h\r\n\r\n", 400),
            ("TRACE / HTTP/1.1\r\nhost: h\r\n\r\n", 405),
        ] {
            assert_eq!(exchange(public, request).status, status, "{request:?}");
            in_time(request);
        }
        if round % 20 == 0 {
            let wrong = "authorization: Bearer wrong-51d07be84a63";
            assert_eq!(get(admin, "/v1/keys", &[wrong]).status, 401);
            for path in ["/healthz", "/readyz", "/metrics"] {
                assert_eq!(get(admin, path, &[]).status, 200, "{path}");
                in_time(path);
            }
        }
    }
    let body = "{\"name\":\"acme\"}";
    let made = exchange(
        admin,
        format!(
            "POST /v1/consumers HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert_eq!(made.status, 201, "{}", made.text());
    let page = get(admin, "/metrics", &[]).text();
    // The queue of the access log has room for all of these lines; that of the process log has not.
    let name = "postern_log_lines_lost_total{log=\"process\"} ";
    let lost = page.lines().find_map(|line| line.strip_prefix(name));
    assert!(lost.unwrap().parse::<u64>().unwrap() > 0, "{lost:?}");
    // The end waits for nobody either.
    let stopped = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-TERM", &child.0.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    eventually("the process ends", || child.0.try_wait().unwrap().is_some());
    assert!(stopped.elapsed() < DEADLINE);
    drop(log);
}
