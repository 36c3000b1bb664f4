//! TLS on both sides, against real rustls clients and servers.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::certificates::{Authority, Pair, Relay, shown};
use crate::client::{Connection, DEADLINE, get};
use crate::origin::Origin;
use crate::rig::{Process, SECRET, gateway};
use crate::running::eventually;

/// A directory with `gateway.toml`, the authority and what else the file names.
fn directory(authority: &Authority, file: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    directory
}

/// `[[listen.tls]]` for each of these names.
fn listen(names: &[&str]) -> String {
    names.iter().fold(String::new(), |mut file, name| {
        writeln!(
            file,
            "[[listen.tls]]\ncert_file = \"{name}.crt\"\nkey_file = \"{name}.key\""
        )
        .unwrap();
        file
    })
}

const OWN_AUTHORITY: &str = "[origin.tls]\nca_file = \"ca.pem\"\n";
const OPEN: &str = "[[routes]]\non_missing_key = \"anonymous\"\n";

/// A gateway without TLS of its own before an origin with `pair`; what a request gets, the log, and the name asked for.
fn before_https(
    authority: &Authority,
    pair: &Pair,
    file: &str,
) -> (u16, String, Vec<Option<String>>) {
    let origin = Origin::hello();
    let relay = Relay::tls_server(pair.server(), origin.address);
    let directory = directory(authority, &format!("{file}{OPEN}"));
    let process = Process::start(
        directory,
        &format!("https://localhost:{}", relay.address.port()),
        &[],
    );
    let response = get(process.public, "/", &[]);
    if response.status != 200 {
        assert_eq!(response.code(), "origin_unreachable");
        eventually("the failure is logged", || {
            process.log().contains("localhost:")
        });
    } else {
        assert_eq!(origin.only().one("x-forwarded-proto"), Some("http"));
        assert_eq!(
            origin.only().one("host"),
            Some(format!("localhost:{}", relay.address.port()).as_str())
        );
    }
    (response.status, process.log(), relay.names())
}

#[test]
fn an_https_origin_of_our_own_authority_is_spoken_to_by_its_name() {
    let authority = Authority::new();
    let (status, log, names) =
        before_https(&authority, &authority.issue(&["localhost"]), OWN_AUTHORITY);
    assert_eq!(status, 200, "{log}");
    assert_eq!(names, [Some("localhost".to_owned())]);
}

#[test]
fn the_name_of_an_origin_can_be_set() {
    let authority = Authority::new();
    let file = format!("{OWN_AUTHORITY}server_name = \"inside.example\"\n");
    let (status, log, names) =
        before_https(&authority, &authority.issue(&["inside.example"]), &file);
    assert_eq!(status, 200, "{log}");
    assert_eq!(names, [Some("inside.example".to_owned())]);
}

#[test]
fn a_certificate_that_is_not_right_is_a_502_with_its_cause_in_the_log() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (pair, cause) in [
        (
            stranger.issue(&["localhost"]),
            "no authority that is believed has issued it",
        ),
        (
            authority.issue(&["other.example"]),
            "it is not valid for the name localhost, only for other.example",
        ),
        (
            authority.issue_until(&["localhost"], 2020),
            "it expired at 2020-01-01T00:00:00Z",
        ),
    ] {
        let (status, log, _) = before_https(&authority, &pair, OWN_AUTHORITY);
        assert_eq!(status, 502, "{cause}: {log}");
        assert!(
            log.contains("is not trusted: ") && log.contains(cause),
            "{cause}: {log}"
        );
    }
    // Without a file, the authorities of the system count, and ours is none of them.
    let (status, log, _) = before_https(&authority, &authority.issue(&["localhost"]), "");
    assert!(status == 502 && log.contains("is not trusted"), "{log}");
}

#[test]
fn a_certificate_that_stands_in_the_file_itself_is_believed_by_its_dates_and_names() {
    let stranger = Authority::new();
    let own = Authority::self_signed(&["localhost"], 2100);
    for (pair, file, cause) in [
        (&own, &own, None),
        (
            // An authority that nobody knows has issued it, and the file names it alone.
            &stranger.issue(&["localhost"]),
            &stranger.issue(&["localhost"]),
            Some("no authority that is believed"),
        ),
        (
            &Authority::self_signed(&["localhost"], 2100),
            &own,
            Some("put this very certificate into its ca_file"),
        ),
    ] {
        assert_pinned(pair, file, cause);
    }
    let leaf = stranger.issue(&["localhost"]);
    assert_pinned(&leaf, &leaf, None);
    let elsewhere = Authority::self_signed(&["other.example"], 2100);
    let wrong_name = "it is not valid for the name localhost, only for other.example";
    assert_pinned(&elsewhere, &elsewhere, Some(wrong_name));
    let over = Authority::self_signed(&["localhost"], 2020);
    assert_pinned(&over, &over, Some("it expired at 2020-01-01T00:00:00Z"));
    let nameless = Authority::self_signed(&[], 2100);
    assert_pinned(&nameless, &nameless, Some("it has no subjectAltName"));
}

/// An origin with `pair` is refused for `cause` where `origin.tls.ca_file` holds `file`; served where there is none.
fn assert_pinned(pair: &Pair, file: &Pair, cause: Option<&str>) {
    let origin = Origin::hello();
    let relay = Relay::tls_server(pair.server(), origin.address);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), &file.certificate).unwrap();
    std::fs::write(
        directory.path().join("gateway.toml"),
        format!("{OWN_AUTHORITY}{OPEN}"),
    )
    .unwrap();
    let url = format!("https://localhost:{}", relay.address.port());
    let process = Process::start(directory, &url, &[]);
    let response = get(process.public, "/", &[]);
    match cause {
        None => assert_eq!(response.status, 200, "{}", process.log()),
        Some(cause) => {
            assert_eq!(response.code(), "origin_unreachable");
            eventually("the cause is logged", || process.log().contains(cause));
        }
    }
}

#[test]
fn a_client_certificate_is_shown_to_an_origin_that_asks() {
    let authority = Authority::new();
    let origin = Origin::hello();
    let relay = Relay::tls_server(
        authority.demanding_server(&authority.issue(&["localhost"])),
        origin.address,
    );
    let url = format!("https://localhost:{}", relay.address.port());
    let with = format!(
        "{OWN_AUTHORITY}client_cert_file = \"me.crt\"\nclient_key_file = \"me.key\"\n{OPEN}"
    );
    for (file, status) in [(with, 200), (format!("{OWN_AUTHORITY}{OPEN}"), 502)] {
        let directory = directory(&authority, &file);
        authority.issue(&["gateway"]).write(directory.path(), "me");
        let process = Process::start(directory, &url, &[]);
        assert_eq!(
            get(process.public, "/", &[]).status,
            status,
            "{}",
            process.log()
        );
        if status == 502 {
            eventually("the cause is logged", || {
                process.log().contains("CertificateRequired")
            });
        }
    }
    assert_eq!(origin.arrived().len(), 1);
}

#[test]
fn health_checks_speak_tls_as_requests_do() {
    let authority = Authority::new();
    let well = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&well);
    let origin = Origin::answering(move |_, socket| {
        let answer = if asked.load(Ordering::SeqCst) {
            "204 Well"
        } else {
            "503 Unwell"
        };
        let _ = write!(socket, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
    });
    let demanding = authority.demanding_server(&authority.issue(&["inside.example"]));
    let relay = Relay::tls_server(demanding, origin.address);
    let upstream = format!(
        "[[upstreams]]\nname = \"orders\"\ntargets = [\"https://{}\"]\nhealth_path = \"/healthz\"\nhealth_interval = \"20ms\"\n{OPEN}",
        relay.address
    );
    let with = format!(
        "{OWN_AUTHORITY}server_name = \"inside.example\"\nclient_cert_file = \"me.crt\"\nclient_key_file = \"me.key\"\n{upstream}"
    );
    let start = |file: &str| {
        let directory = directory(&authority, file);
        authority.issue(&["gateway"]).write(directory.path(), "me");
        Process::start(directory, &origin.url(), &[])
    };
    let state = |process: &Process| {
        get(process.admin, "/readyz", &[]).json()["upstreams"][1]["targets"][0]["state"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let process = start(&with);
    for (is_well, wanted) in [(false, "unhealthy"), (true, "up")] {
        well.store(is_well, Ordering::SeqCst);
        eventually(wanted, || state(&process) == wanted);
    }
    eventually("the cause is logged", || {
        process.log().contains("status 503")
    });
    drop(process);
    assert!(
        relay
            .names()
            .iter()
            .all(|name| name.as_deref() == Some("inside.example")),
        "{:?}",
        relay.names()
    );
    for check in origin.arrived() {
        assert_eq!(
            (check.line.as_str(), check.one("x-shared-secret")),
            ("GET /healthz HTTP/1.1", None)
        );
        assert_eq!(check.one("host"), Some(relay.address.to_string().as_str()));
    }
    // Whoever cannot be believed, or does not believe us, is not well.
    for (file, cause) in [
        (with.replace("inside", "outside"), "is not trusted"),
        (upstream, "is not trusted"),
    ] {
        let process = start(&file);
        eventually("it is taken out", || state(&process) == "unhealthy");
        eventually(cause, || process.log().contains(cause));
    }
    let process = start(&with.replace(
        "client_cert_file = \"me.crt\"\nclient_key_file = \"me.key\"\n",
        "",
    ));
    eventually("it is taken out", || state(&process) == "unhealthy");
    eventually("the cause is logged", || {
        process.log().contains("CertificateRequired")
    });
}

#[test]
fn http_and_https_on_one_authority_never_share_a_connection() {
    let authority = Authority::new();
    let origin = Origin::hello();
    let relay = Relay::tls_server(authority.issue(&["127.0.0.1"]).server(), origin.address);
    let file = format!(
        "{OWN_AUTHORITY}[[routes]]\npath = \"/plain\"\non_missing_key = \"anonymous\"\nupstream = \"http://{}\"\n{OPEN}",
        relay.address
    );
    let process = Process::start(
        directory(&authority, &file),
        &format!("https://{}", relay.address),
        &[("GATEWAY__LISTEN__WORKERS", "1")],
    );
    for _ in 0..3 {
        assert_eq!(
            get(process.public, "/", &[]).status,
            200,
            "{}",
            process.log()
        );
        assert_eq!(get(process.public, "/plain", &[]).status, 502);
    }
    assert_eq!(relay.handshakes(), 1, "connections are used again");
    assert_eq!(origin.arrived().len(), 3);
}

/// A gateway whose listener speaks TLS.
fn behind_tls(authority: &Authority, origin: &str, file: &str, pairs: &[(&str, &Pair)]) -> Process {
    let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    let directory = directory(authority, &format!("{file}{}{OPEN}", listen(&names)));
    for (name, pair) in pairs {
        pair.write(directory.path(), name);
    }
    Process::start(directory, origin, &[])
}

#[test]
fn the_certificate_is_chosen_by_name_and_the_first_is_for_everyone_else() {
    let authority = Authority::new();
    let (first, second) = (
        authority.issue(&["a.example", "127.0.0.1", "x.b.c.example"]),
        authority.issue(&["b.example", "*.c.example"]),
    );
    let process = behind_tls(
        &authority,
        "http://127.0.0.1:9",
        "",
        &[("first", &first), ("second", &second)],
    );
    for (name, pair) in [
        ("a.example", &first),
        ("B.example", &second),
        ("x.c.example", &second),
        ("127.0.0.1", &first),
        ("x.b.c.example", &first),
    ] {
        assert_eq!(
            shown(&authority, process.public, name),
            Ok(pair.der()),
            "{name}"
        );
    }
    let refused = shown(&authority, process.public, "d.example").unwrap_err();
    assert!(
        refused.contains("a.example"),
        "it is the first that is shown: {refused}"
    );
}

#[test]
fn certificates_are_read_again_when_they_change_and_bad_ones_are_refused_once() {
    let authority = Authority::new();
    let (old, new) = (
        authority.issue(&["localhost"]),
        authority.issue(&["localhost"]),
    );
    let process = behind_tls(&authority, "http://127.0.0.1:9", "", &[("pair", &old)]);
    assert_eq!(
        shown(&authority, process.public, "localhost"),
        Ok(old.der())
    );
    std::fs::write(process.directory.path().join("pair.key"), &new.key).unwrap();
    eventually("the mismatch is logged", || {
        process
            .log()
            .contains("does not match the certificate in pair.crt")
    });
    assert_eq!(
        shown(&authority, process.public, "localhost"),
        Ok(old.der()),
        "the old one goes on"
    );
    std::fs::write(process.directory.path().join("pair.crt"), &new.certificate).unwrap();
    eventually("the new one is served", || {
        shown(&authority, process.public, "localhost") == Ok(new.der())
    });
    assert_eq!(
        process.log().matches("rejected a new certificate").count(),
        1,
        "{}",
        process.log()
    );
    std::fs::remove_file(process.directory.path().join("pair.crt")).unwrap();
    eventually("the loss is logged", || {
        process
            .log()
            .contains("keeping the previous one: pair.crt: cannot be read")
    });
    assert_eq!(
        shown(&authority, process.public, "localhost"),
        Ok(new.der())
    );
}

#[test]
fn what_is_wrong_with_a_pair_is_said_at_start() {
    type Prepare<'a> = &'a dyn Fn(&Path);
    let authority = Authority::new();
    let (one, other) = (
        authority.issue(&["localhost"]),
        authority.issue(&["localhost"]),
    );
    let start = |prepare: Prepare<'_>| {
        let directory = directory(&authority, &listen(&["pair"]));
        one.write(directory.path(), "pair");
        prepare(directory.path());
        let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["serve"]);
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let mismatched = |at: &Path| std::fs::write(at.join("pair.key"), &other.key).unwrap();
    let missing = |at: &Path| std::fs::remove_file(at.join("pair.crt")).unwrap();
    let garbage = |at: &Path| std::fs::write(at.join("pair.key"), "no key").unwrap();
    let encrypted = |at: &Path| {
        let text =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        std::fs::write(at.join("pair.key"), text).unwrap();
    };
    let encrypted_as_before = |at: &Path| {
        let text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
        std::fs::write(at.join("pair.key"), text).unwrap();
    };
    let swapped = |at: &Path| {
        std::fs::write(at.join("pair.crt"), &one.key).unwrap();
        std::fs::write(at.join("pair.key"), &one.certificate).unwrap();
    };
    let empty = |at: &Path| std::fs::write(at.join("pair.crt"), "").unwrap();
    let binary = |at: &Path| std::fs::write(at.join("pair.crt"), one.der()).unwrap();
    let cases: [(Prepare<'_>, &str); 8] = [
        (
            &encrypted,
            "listen.tls[0].key_file (from its file): pair.key: its key is encrypted",
        ),
        (
            &encrypted_as_before,
            "listen.tls[0].key_file (from its file): pair.key: its key is encrypted",
        ),
        (
            &swapped,
            "listen.tls[0].cert_file (from its file): pair.crt: holds no certificate in PEM: it is a private key",
        ),
        (
            &empty,
            "listen.tls[0].cert_file (from its file): pair.crt: holds no certificate in PEM: the file is empty",
        ),
        (
            &binary,
            "listen.tls[0].cert_file (from its file): pair.crt: holds no certificate in PEM: it is DER, or PKCS #12",
        ),
        (
            &mismatched,
            "listen.tls[0].key_file (from its file): pair.key: this key does not match the certificate in pair.crt",
        ),
        (
            &missing,
            "listen.tls[0].cert_file (from its file): pair.crt: cannot be read",
        ),
        (
            &garbage,
            "listen.tls[0].key_file (from its file): pair.key: holds no private key in PEM",
        ),
    ];
    for (prepare, message) in cases {
        let (code, said) = start(prepare);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let authority = Authority::new();
    let process = behind_tls(
        &authority,
        "http://127.0.0.1:9",
        "",
        &[("pair", &authority.issue_until(&["localhost"], 2020))],
    );
    eventually("it is warned of", || {
        process.log().contains("certificate pair.crt has expired")
    });
}

#[test]
fn a_certificate_that_expires_while_it_is_served_is_logged_once() {
    let authority = Authority::new();
    let pair = authority.issue_for_seconds("localhost", 10);
    let process = behind_tls(&authority, "http://127.0.0.1:9", "", &[("pair", &pair)]);
    let expired = "certificate pair.crt expired while in use";
    eventually("the expiry is logged", || process.log().contains(expired));
    assert_eq!(process.log().matches(expired).count(), 1);
}

#[test]
fn a_client_that_does_not_manage_a_handshake_is_closed() {
    let authority = Authority::new();
    // Silence, the beginning of a handshake that stalls, and plain HTTP, which nothing is waited for after.
    for (bytes, limit) in [
        (&b""[..], "300ms"),
        (b"\x16\x03\x01\x02", "300ms"),
        (b"GET / HTTP/1.1\r\nhost: h\r\n\r\n", "5min"),
    ] {
        let file = format!("[listen]\ntls_handshake_timeout = \"{limit}\"\n");
        let pair = authority.issue(&["localhost"]);
        let process = behind_tls(&authority, "http://127.0.0.1:9", &file, &[("pair", &pair)]);
        let begun = Instant::now();
        let mut socket = TcpStream::connect(process.public).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        // What speaks plain HTTP is told so; nothing else would understand an answer.
        assert_eq!(
            answer.starts_with(b"HTTP/1.1 400"),
            bytes.starts_with(b"GET"),
            "{answer:?}"
        );
        assert!(
            limit != "300ms" || begun.elapsed() >= Duration::from_millis(250),
            "{bytes:?}"
        );
    }
}

#[test]
fn megabytes_stream_both_ways_through_tls_on_both_sides() {
    let authority = Authority::new();
    let origin = Origin::answering(|request, socket| {
        let _ = write!(
            socket,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            request.body.len()
        );
        let _ = socket.write_all(&request.body);
    });
    let back = Relay::tls_server(authority.issue(&["localhost"]).server(), origin.address);
    let url = format!("https://localhost:{}", back.address.port());
    let process = behind_tls(
        &authority,
        &url,
        OWN_AUTHORITY,
        &[("pair", &authority.issue(&["localhost"]))],
    );
    let front = Relay::tls_client(authority.client(), "localhost", process.public);
    let key = process.key("acme");
    let body: Vec<u8> = (0..5_000_000_u32)
        .map(|index| (index % 251) as u8)
        .collect();
    let handshakes = front.handshakes();
    let mut connection = Connection::open(front.address);
    for _ in 0..2 {
        connection.send(format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{key}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ));
        connection.send(&body);
        let response = connection.response();
        assert!(
            response.status == 200 && response.complete,
            "{} {}",
            response.status,
            process.log()
        );
        assert!(response.body == body, "the body is another");
    }
    let arrived = origin.arrived();
    assert_eq!(
        (
            arrived.len(),
            front.handshakes() - handshakes,
            back.handshakes()
        ),
        (2, 1, 1)
    );
    assert_eq!(arrived[0].one("x-forwarded-proto"), Some("https"));
    assert!(arrived[0].one("x-consumer-id").is_some());
}

#[test]
fn a_refusal_is_read_through_tls_and_a_client_that_leaves_is_no_failure() {
    let authority = Authority::new();
    let process = behind_tls(
        &authority,
        "http://127.0.0.1:9",
        "",
        &[("pair", &authority.issue(&["localhost"]))],
    );
    let front = Relay::tls_client(authority.client(), "localhost", process.public);
    let response = get(front.address, "/", &["authorization: Bearer nothing"]);
    assert_eq!(
        (response.status, response.code().as_str()),
        (401, "api_key_invalid")
    );
    let mut connection = Connection::open(front.address);
    connection.send("GET / HTTP/1.1\nhost: h\n\n");
    assert_eq!(connection.response().status, 400);
    assert!(connection.is_closed());
}

#[test]
fn a_client_that_reads_nothing_is_given_up_though_tls_holds_the_rest() {
    let authority = Authority::new();
    for length in [10_000_000, 3_000_000] {
        let origin = Origin::answering(move |_, socket| {
            let _ = write!(
                socket,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
            );
            let _ = socket.write_all(&vec![b'x'; length]);
        });
        let file = "[listen]\nwrite_idle_timeout = \"300ms\"\nkeep_alive = \"300ms\"\n";
        let pair = authority.issue(&["localhost"]);
        let process = behind_tls(&authority, &origin.url(), file, &[("pair", &pair)]);
        let mut socket = TcpStream::connect(process.public).unwrap();
        let name = "localhost".try_into().unwrap();
        let mut connection =
            rustls::ClientConnection::new(authority.client().into(), name).unwrap();
        rustls::Stream::new(&mut connection, &mut socket)
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            .unwrap();
        // The request is recorded once it is over, while the client is still there and reads nothing.
        eventually("the client is given up", || process.access_log().len() == 1);
        eventually("its connection is closed", || process.connections() == 0);
    }
}

#[test]
fn a_tunnel_goes_through_tls_on_both_sides() {
    let authority = Authority::new();
    let origin = Origin::answering(|_, socket| {
        let _ = socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nfirst");
        let mut ping = [0; 4];
        let _ = socket.read_exact(&mut ping);
        let _ = socket.write_all(&ping);
    });
    let back = Relay::tls_server(authority.issue(&["localhost"]).server(), origin.address);
    let url = format!("https://localhost:{}", back.address.port());
    let process = behind_tls(
        &authority,
        &url,
        OWN_AUTHORITY,
        &[("pair", &authority.issue(&["localhost"]))],
    );
    let front = Relay::tls_client(authority.client(), "localhost", process.public);
    let mut connection = Connection::open(front.address);
    connection.send("GET / HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_eq!(connection.head().status, 101, "{}", process.log());
    connection.send("ping");
    let mut bytes = Vec::new();
    while bytes.len() < 9 {
        bytes.extend(connection.some_bytes());
    }
    assert_eq!(bytes, b"firstping");
}

#[test]
fn curl_believes_the_listener() {
    let authority = Authority::new();
    let origin = Origin::hello();
    let process = behind_tls(
        &authority,
        &origin.url(),
        "",
        &[("pair", &authority.issue(&["localhost"]))],
    );
    let url = format!("https://localhost:{}/", process.public.port());
    for version in [
        ["--tlsv1.2", "--tls-max", "1.2"],
        ["--tlsv1.3", "--tls-max", "1.3"],
    ] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert", "ca.pem", "-w", " %{http_code}"])
            .args(version)
            .arg(&url);
        // Not every machine has curl; the other tests do without.
        let Ok(output) = curl.current_dir(process.directory.path()).output() else {
            return;
        };
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "hello 200",
            "{output:?}"
        );
    }
}
