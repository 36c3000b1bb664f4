//! The PROXY protocol as load balancers speak it: bytes of our own, a real HAProxy and a real nginx.

use std::io::Write as _;
use std::net::SocketAddr;

use crate::balancers::{Balancer, from};
use crate::certificates::{Authority, Relay};
use crate::client::{Connection, Response, get};
use crate::origin::Origin;
use crate::rig::{Process, Rig, SECRET, gateway};
use crate::running::eventually;

const ON: &str = "[listen]\ntrusted_proxies = [\"127.0.0.0/8\"]\nproxy_protocol = true\n";
const OPEN: &str = "[[routes]]\non_missing_key = \"anonymous\"\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n",
        &[command, family][..],
        &length,
        rest,
    ]
    .concat()
}

/// One of version 2 from 203.0.113.9, with a TLV like AWS's.
fn v2_of_a_client() -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 10, 0, 0, 1, 0xc7, 0x40, 0x1f, 0x90];
    let endpoint = [&[0xea, 0, 5, 1][..], b"vpce"].concat();
    v2(0x21, 0x11, &[&addresses[..], &endpoint].concat())
}

fn announced(address: SocketAddr, header: &[u8], lines: &str) -> Response {
    let mut connection = Connection::open(address);
    connection.send(header);
    connection.send(format!("GET / HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n"));
    connection.response()
}

/// How often the gateway counted this fault.
fn counted(admin: SocketAddr, fault: &str) -> u64 {
    let sample = format!("postern_client_faults_total{{fault=\"{fault}\"}} ");
    let page = get(admin, "/metrics", &[]).text();
    let line = page.lines().find_map(|line| line.strip_prefix(&sample));
    line.unwrap_or_else(|| panic!("{sample} in {page}"))
        .parse()
        .unwrap()
}

#[test]
fn the_announced_client_is_the_peer_of_all_that_follows() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), &format!("{ON}{OPEN}"));
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[1; 4]].concat();
    for (header, lines, told) in [
        (
            b"PROXY TCP4 203.0.113.9 10.0.0.1 51008 443\r\n".to_vec(),
            "",
            "203.0.113.9",
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 51008 443\r\n".to_vec(),
            "",
            "2001:db8::7",
        ),
        (
            b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n".to_vec(),
            "",
            "203.0.113.9",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "", "unknown"),
        // Nor is what a client says believed that is announced as nobody's.
        (
            b"PROXY UNKNOWN\r\n".to_vec(),
            "x-forwarded-for: 127.0.0.5\r\n",
            "unknown",
        ),
        (
            b"PROXY UNKNOWN 203.0.113.9 10.0.0.1 1 2\r\n".to_vec(),
            "",
            "unknown",
        ),
        (v2_of_a_client(), "", "203.0.113.9"),
        (v2(0x21, 0x21, &v6), "", "2001:db8::7"),
        (v2(0x20, 0x00, &[]), "", "127.0.0.1"),
        (v2(0x20, 0x11, &[1; 12]), "", "127.0.0.1"),
        (v2(0x21, 0x31, &[b'/'; 216]), "", "unknown"),
        // The client is no trusted proxy, whoever brings its bytes.
        (
            v2_of_a_client(),
            "x-forwarded-for: 127.0.0.5\r\n",
            "203.0.113.9",
        ),
        (
            v2(0x21, 0x31, &[b'/'; 216]),
            "x-forwarded-for: 127.0.0.5\r\n",
            "unknown",
        ),
        // Another trusted proxy before the load balancer says who the client is.
        (
            b"PROXY TCP4 127.0.0.9 10.0.0.1 51008 443\r\n".to_vec(),
            "x-forwarded-for: 198.51.100.7:1234\r\n",
            "198.51.100.7, 127.0.0.9",
        ),
        (
            b"PROXY TCP4 127.0.0.9 10.0.0.1 51008 443\r\n".to_vec(),
            "x-forwarded-for: garbage\r\n",
            "unknown, 127.0.0.9",
        ),
    ] {
        let response = announced(rig.public, &header, lines);
        assert_eq!(response.status, 200, "{header:?}: {}", response.text());
        let arrived = origin.arrived().pop().unwrap();
        assert_eq!(
            arrived.one("x-forwarded-for"),
            Some(told),
            "{header:?} {lines:?}"
        );
    }
    assert_eq!(counted(rig.admin, "proxy_header"), 0);
}

#[test]
fn a_header_in_any_pieces_means_the_same_for_every_request_of_its_connection() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), &format!("{ON}{OPEN}"));
    for header in [
        b"PROXY TCP4 203.0.113.9 10.0.0.1 51008 443\r\n".to_vec(),
        v2_of_a_client(),
    ] {
        let bytes = [&header[..], GET].concat();
        for pieces in [
            1,
            2,
            7,
            header.len() - 1,
            header.len(),
            header.len() + 1,
            bytes.len(),
        ] {
            let mut connection = Connection::open(rig.public);
            for piece in bytes.chunks(pieces) {
                connection.send(piece);
            }
            for request in 0..2 {
                if request > 0 {
                    connection.send(GET);
                }
                assert_eq!(connection.response().status, 200, "{pieces}");
                let arrived = origin.arrived().pop().unwrap();
                assert_eq!(
                    arrived.one("x-forwarded-for"),
                    Some("203.0.113.9"),
                    "{pieces}"
                );
            }
        }
    }
}

#[test]
fn a_key_is_held_against_the_announced_address() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), ON);
    let made = |name: &str, ranges: &str| {
        rig.done(&["consumers", "create", name, "--allow-ip", ranges]);
        let made = rig.done(&["keys", "create", "--consumer", name, "--json"]);
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        format!(
            "authorization: Bearer {}\r\n",
            made["key"].as_str().unwrap()
        )
    };
    let keys = [
        made("inner", "127.0.0.0/8"),
        made("outer", "203.0.113.0/24"),
    ];
    let own = v2(0x20, 0x00, &[]);
    for key in &keys {
        eventually("the key is known", || {
            announced(rig.public, &own, key).code_or_ok() != "api_key_invalid"
        });
    }
    let unknown = v2(0x21, 0x31, &[0; 216]);
    for (header, codes) in [
        (&own, ["ok", "key_restricted"]),
        (&v2_of_a_client(), ["key_restricted", "ok"]),
        (&unknown, ["key_restricted", "key_restricted"]),
    ] {
        for (key, code) in keys.iter().zip(codes) {
            assert_eq!(
                announced(rig.public, header, key).code_or_ok(),
                code,
                "{header:?}"
            );
        }
    }
}

#[test]
fn a_connection_that_is_not_announced_is_closed_counted_and_logged() {
    let origin = Origin::hello();
    let variables = [
        ("GATEWAY__LISTEN__TRUSTED_PROXIES", "127.0.0.1"),
        ("GATEWAY__LISTEN__PROXY_PROTOCOL", "true"),
        ("GATEWAY__LISTEN__WORKERS", "1"),
        ("GATEWAY__LISTEN__HEAD_TIMEOUT", "1s"),
    ];
    let process = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &variables);
    let mut faults = 0;
    let mut refused = |source: [u8; 4], bytes: &[u8], ends: bool| {
        let mut connection = from(source, process.public);
        let _ = connection.try_send(bytes);
        if ends {
            connection
                .socket()
                .shutdown(std::net::Shutdown::Write)
                .unwrap();
        }
        assert!(
            connection.is_closed(),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
        faults += 1;
        eventually("it is counted", || {
            counted(process.admin, "proxy_header") == faults
        });
    };
    let client = v2_of_a_client();
    let stranger = [127, 0, 0, 9];
    let balancer = [127, 0, 0, 1];
    for bytes in [
        GET,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 203.0.113.9 10.0.0.1 051008 443\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n",
        b"PROXY TCP4 203.0.113.9 10.0.0.1 51008 443\nGET / HTTP/1.1\r\nhost: h\r\n\r\n",
        &[b"PROXY UNKNOWN ".as_slice(), &[b'a'; 200]].concat(),
        &v2(0x21, 0x11, &[0; 11]),
        &v2(0x22, 0x11, &[0; 12]),
        &v2(0x21, 0x11, &[0; 5000]),
    ] {
        refused(balancer, bytes, false);
    }
    // From whom no header is believed, with one and without.
    refused(stranger, GET, false);
    refused(stranger, &[&client[..], GET].concat(), false);
    // Cut off, or not there in time.
    refused(balancer, &client[..client.len() - 1], true);
    refused(balancer, b"PROXY TCP4 203", true);
    refused(balancer, &client[..20], false);
    refused(balancer, b"", false);
    for fault in [
        "no PROXY protocol header, but listen.proxy_protocol is on",
        "the peer is none of listen.trusted_proxies",
        "malformed PROXY protocol header",
        "the PROXY protocol header did not arrive in time",
    ] {
        eventually(fault, || process.log().contains(fault));
    }
    let malformed = process.log().matches("malformed PROXY").count();
    assert!(malformed < 5, "{}", process.log());
    // A check that only connects is no fault.
    drop(Connection::open(process.public));
    assert_eq!(
        announced(process.public, &client, "").code(),
        "api_key_missing"
    );
    assert_eq!(counted(process.admin, "proxy_header"), faults);
    assert!(origin.arrived().is_empty());
}

#[test]
fn a_header_that_is_not_expected_is_told_from_other_malformed_requests() {
    let origin = Origin::hello();
    let authority = Authority::new();
    let variables = [("GATEWAY__LISTEN__WORKERS", "1")];
    let process = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &variables);
    let told = "PROXY protocol header, but listen.proxy_protocol is off";
    let mut faults = 0;
    for header in [
        b"PROXY TCP4 203.0.113.9 10.0.0.1 51008 443\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::7 2001:db8::1 51008 443\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2_of_a_client(),
        v2(0x20, 0x00, &[]),
    ] {
        let bytes = [&header[..], GET].concat();
        for pieces in [bytes.len(), 1] {
            let mut connection = Connection::open(process.public);
            for piece in bytes.chunks(pieces) {
                if !connection.try_send(piece) {
                    break;
                }
            }
            assert_eq!(connection.response().code(), "bad_request", "{header:?}");
            faults += 1;
            eventually("it is counted", || {
                counted(process.admin, "unexpected_proxy_header") == faults
            });
        }
    }
    eventually("every one has its line", || {
        let lines = process.access_log();
        let ours = lines.iter().filter(|line| line["cause"] == told);
        u64::try_from(ours.count()).unwrap() == faults
    });
    assert!(process.log().matches(told).count() < 5, "{}", process.log());

    let process = behind_tls(&authority, &origin.url(), "");
    let mut connection = Connection::open(process.public);
    connection.send(v2_of_a_client());
    assert!(connection.is_closed());
    eventually("it is counted", || {
        counted(process.admin, "unexpected_proxy_header") == 1
    });
    eventually("it is logged", || process.log().contains(told));
}

#[test]
fn it_is_not_switched_on_without_saying_who_is_believed() {
    for (file, variables, part) in [
        (
            "[listen]\nproxy_protocol = true\n",
            vec![],
            "listen.proxy_protocol (from ",
        ),
        (
            "",
            vec![("GATEWAY__LISTEN__PROXY_PROTOCOL", "true")],
            "listen.proxy_protocol (from GATEWAY__LISTEN__PROXY_PROTOCOL): the header is accepted from",
        ),
        (
            "[listen]\nproxy_protocol = \"v2\"\n",
            vec![],
            "\"v2\" is not accepted here: true or false",
        ),
        (
            "[listen]\nproxy_protocol = true\ntrusted_proxies = [\"010.0.0.0/8\"]\n",
            vec![],
            "listen.trusted_proxies[0] (from ",
        ),
        (
            "[listen]\ntrusted_proxies = [\"10.0.0.0/8\", \"127.000.000.001/32\"]\n",
            vec![],
            "listen.trusted_proxies[1] (from ",
        ),
        (
            "[listen]\ntrusted_proxies = [\"::ffff:10.0.0.0/8\"]\n",
            vec![],
            "without leading zeros",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
        let variables = [&[("SHARED_SECRET", SECRET)][..], &variables].concat();
        let output = gateway(directory.path(), &variables, &["check"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{file}: {said}");
        assert!(said.contains(part), "{part} is not in {said}");
        assert!(said.starts_with("gateway: a problem with"), "{said}");
    }
}

/// A gateway with TLS and open routes.
fn behind_tls(authority: &Authority, origin: &str, listen: &str) -> Process {
    let directory = tempfile::tempdir().unwrap();
    let pair = "[[listen.tls]]\ncert_file = \"pair.crt\"\nkey_file = \"pair.key\"\n";
    authority
        .issue(&["localhost"])
        .write(directory.path(), "pair");
    std::fs::write(
        directory.path().join("gateway.toml"),
        format!("{listen}{pair}{OPEN}"),
    )
    .unwrap();
    Process::start(directory, origin, &[])
}

/// Asks through a load balancer as a client at 127.0.0.7, and says what the origin is told of the client.
fn told_of_the_client(balancer: &Balancer, origin: &Origin) -> String {
    let mut connection = from([127, 0, 0, 7], balancer.address);
    connection.send(GET);
    assert_eq!(connection.response().status, 200);
    let arrived = origin.arrived().pop().unwrap();
    arrived.one("x-forwarded-for").unwrap().to_owned()
}

#[test]
fn a_real_haproxy_and_a_real_nginx_announce_their_clients() {
    let origin = Origin::hello();
    // The load balancers connect from 127.0.0.1; the client is elsewhere.
    let on = ON.replace("127.0.0.0/8", "127.0.0.1");
    let rig = Rig::with(&origin.url(), &format!("{on}{OPEN}"));
    let gateway = rig.public;
    for server in [
        format!("{gateway} send-proxy check check-send-proxy inter 100ms"),
        format!("{gateway} send-proxy-v2 check check-send-proxy inter 100ms"),
        format!("{gateway} send-proxy-v2-ssl"),
        format!("{gateway} send-proxy-v2-ssl-cn"),
        format!("{gateway} send-proxy-v2 proxy-v2-options ssl,cert-cn,unique-id,crc32c"),
    ] {
        let haproxy = Balancer::haproxy(&server);
        assert_eq!(
            told_of_the_client(&haproxy, &origin),
            "127.0.0.7",
            "{server}"
        );
    }
    assert_eq!(
        told_of_the_client(&Balancer::nginx(gateway), &origin),
        "127.0.0.7"
    );
    assert_eq!(counted(rig.admin, "proxy_header"), 0);
    // One that does not announce them.
    let silent = Balancer::haproxy(&gateway.to_string());
    let mut connection = from([127, 0, 0, 7], silent.address);
    let _ = connection.socket().write_all(GET);
    assert!(connection.is_closed());
    eventually("it is counted", || counted(rig.admin, "proxy_header") > 0);
}

#[test]
fn the_header_comes_before_tls() {
    let origin = Origin::hello();
    let authority = Authority::new();
    let process = behind_tls(&authority, &origin.url(), ON);
    for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl"] {
        let haproxy = Balancer::haproxy(&format!("{} {send}", process.public));
        let front = Relay::tls_client(authority.client(), "localhost", haproxy.address);
        assert_eq!(get(front.address, "/", &[]).status, 200, "{send}");
        let arrived = origin.arrived().pop().unwrap();
        assert_eq!(arrived.one("x-forwarded-proto"), Some("https"));
        assert_eq!(arrived.one("x-forwarded-for"), Some("127.0.0.1"));
    }
    // The header, and then no TLS: answered in the clear, with a line of the client that was announced.
    let mut connection = Connection::open(process.public);
    connection.send([&v2_of_a_client()[..], GET].concat());
    assert_eq!(connection.response().code(), "bad_request");
    eventually("it has its line", || {
        let lines = process.access_log();
        let told = |line: &&serde_json::Value| {
            line["client"] == "203.0.113.9"
                && line["cause"] == "the client speaks plain HTTP, and the listener TLS"
        };
        lines.iter().filter(told).count() == 1
    });
    eventually("it is counted", || {
        counted(process.admin, "plain_on_tls") == 1
    });
    // TLS without a header.
    let front = Relay::tls_client(authority.client(), "localhost", process.public);
    let mut connection = Connection::open(front.address);
    let _ = connection.try_send(GET);
    assert!(connection.is_closed());
    eventually("it is counted", || {
        counted(process.admin, "proxy_header") == 1
    });
}
