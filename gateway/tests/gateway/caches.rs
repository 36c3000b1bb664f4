//! Shared caches in front of the gateway: what was meant for the holder of a key is for nobody else.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::client::get;
use crate::origin::Origin;
use crate::postgres::free_port;
use crate::rig::Rig;
use crate::running::eventually;

const ANONYMOUS: &str = "[[routes]]\npath = \"/\"\non_missing_key = \"anonymous\"\n";

/// An origin that says whom it answers, and lets everyone keep it; `vary` are lines of its own.
fn origin(vary: &'static str) -> Origin {
    Origin::answering(move |request, socket| {
        let whom = request.one("x-consumer-username").unwrap_or("nobody");
        let _ = write!(
            socket,
            "HTTP/1.1 200 OK\r\ncache-control: public, max-age=600\r\n{vary}content-length: {}\r\n\r\n{whom}",
            whom.len()
        );
    })
}

#[test]
fn every_answer_varies_by_where_a_key_may_come_in() {
    for (lines, wanted) in [
        ("", "authorization"),
        (
            "Vary: Accept-Encoding\r\n",
            "Accept-Encoding, authorization",
        ),
        (
            "vary: Accept\r\nVARY: accept-encoding\r\n",
            "Accept, accept-encoding, authorization",
        ),
        ("vary: AUTHORIZATION\r\n", "AUTHORIZATION"),
        ("vary: *\r\n", "*"),
        ("vary: accept\r\nvary: *\r\n", "*"),
    ] {
        let origin = origin(lines);
        let rig = Rig::with(&origin.url(), ANONYMOUS);
        let key = rig.key("acme", &[]).header();
        for presented in [&[key.as_str()][..], &[]] {
            let answer = get(rig.public, "/", presented);
            let found: Vec<&str> = answer
                .headers
                .iter()
                .filter(|(name, _)| name == "vary")
                .map(|(_, value)| value.as_str())
                .collect();
            assert_eq!(found, [wanted], "{lines:?} {presented:?}");
        }
    }
}

/// A running nginx that keeps what the gateway answers.
struct Nginx {
    address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

impl Nginx {
    fn before(gateway: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().display().to_string();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let configuration = format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n\
             http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; \
             uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
             proxy_cache_path {folder}/cache keys_zone=answers:1m;\n\
             server {{ listen {address}; location / {{ proxy_pass http://{gateway}; proxy_cache answers;\n\
             add_header x-cache $upstream_cache_status always; }} }} }}\n"
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let child = Command::new(if Path::new("/usr/sbin/nginx").exists() {
            "/usr/sbin/nginx"
        } else {
            "nginx"
        })
        .args(["-c", file.to_str().unwrap(), "-e", "stderr"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("nginx (Debian: apt-get install nginx-light): {error}"));
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        Self {
            address,
            child,
            _directory: directory,
        }
    }

    /// What the cache did, the status, and whom the answer is for.
    fn ask(&self, path: &str, lines: &[&str]) -> (String, u16, String) {
        let answer = get(self.address, path, lines);
        (
            answer.header("x-cache").unwrap_or("").to_owned(),
            answer.status,
            answer.text(),
        )
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_nginx_that_caches_gives_nobody_the_answer_to_anothers_key() {
    for vary in [
        "",
        "vary: Accept-Encoding\r\n",
        "vary: Accept-Encoding\r\nvary: Accept\r\n",
    ] {
        let origin = origin(vary);
        // Where a key is needed: a stranger is refused, whoever asked before.
        let rig = Rig::before(&origin);
        let nginx = Nginx::before(rig.public);
        let (ann, bob) = (rig.key("ann", &[]).header(), rig.key("bob", &[]).header());
        let hit = |whom: &str| ("HIT".to_owned(), 200, whom.to_owned());
        let miss = |whom: &str| ("MISS".to_owned(), 200, whom.to_owned());
        assert_eq!(nginx.ask("/a", &[&ann]), miss("ann"), "{vary:?}");
        assert_eq!(
            nginx.ask("/a", &[&ann]),
            hit("ann"),
            "{vary:?}: the cache works"
        );
        assert_eq!(nginx.ask("/a", &[&bob]), miss("bob"), "{vary:?}");
        for stranger in [
            &[][..],
            &["authorization: Bearer pstn_wrong"],
            &["authorization: Basic eDp5"],
        ] {
            let (cached, status, _) = nginx.ask("/a", stranger);
            assert_eq!(
                (cached.as_str(), status),
                ("MISS", 401),
                "{vary:?} {stranger:?}"
            );
        }
        // Where none is needed: what nobody was told is not what a key is told, in either order.
        let rig = Rig::with(&origin.url(), ANONYMOUS);
        let nginx = Nginx::before(rig.public);
        let ann = rig.key("ann", &[]).header();
        assert_eq!(nginx.ask("/a", &[&ann]), miss("ann"), "{vary:?}");
        assert_eq!(nginx.ask("/a", &[]), miss("nobody"), "{vary:?}");
        assert_eq!(nginx.ask("/a", &[]), hit("nobody"), "{vary:?}");
        assert_eq!(nginx.ask("/b", &[]), miss("nobody"), "{vary:?}");
        assert_eq!(nginx.ask("/b", &[&ann]), miss("ann"), "{vary:?}");
        let (_, status, _) = nginx.ask("/b", &["authorization: Bearer pstn_wrong"]);
        assert_eq!(status, 401, "{vary:?}");
    }
}
