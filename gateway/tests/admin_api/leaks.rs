//! Reports of leaked keys: with a token, and with GitHub's signature.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use serde_json::{Value, json};

use crate::client::{Connection, Response};
use crate::rig::{READER, Rig, refusal, text};
use crate::running::eventually;

/// Someone who signs like GitHub does.
pub(crate) struct Signer {
    pair: KeyPair,
    identifier: &'static str,
}

impl Signer {
    pub(crate) fn new(identifier: &'static str) -> Self {
        Self {
            pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            identifier,
        }
    }

    /// The document with its public key.
    pub(crate) fn document(&self) -> String {
        let key = json!({ "key_identifier": self.identifier, "key": self.pair.public_key_pem(), "is_current": true });
        json!({ "public_keys": [key] }).to_string()
    }

    /// Sends a signed report, of which the gateway gets `body`.
    pub(crate) fn report(&self, rig: &Rig, signed: &Value, body: &Value) -> Response {
        let signature = STANDARD.encode(self.pair.sign(signed.to_string().as_bytes()).unwrap());
        let lines = [
            format!("github-public-key-identifier: {}", self.identifier),
            format!("github-public-key-signature: {signature}"),
            "content-type: application/json".to_owned(),
        ];
        rig.raw(
            "POST",
            "/v1/leaks",
            &lines.each_ref().map(String::as_str),
            body.to_string().as_bytes(),
        )
    }
}

fn good_key(rig: &Rig, consumer: &str) -> Value {
    let key = rig.made("/v1/keys", &json!({ "consumer": consumer }));
    let plain = text(&key, "key");
    assert!(rig.verdict(plain) == "ok", "the gateway knows the key");
    key
}

#[test]
fn a_reported_key_gets_what_its_bucket_says() {
    let rig = Rig::new();
    let bucket = rig.shown("/v1/buckets/default");
    assert_eq!(
        (&bucket["leak_policy"], &bucket["leak_grace_seconds"]),
        (&json!("notify"), &json!(86_400))
    );
    for (policy, action, verdict) in [
        ("notify", "notified", "ok"),
        ("roll", "ending", "api_key_expired"),
        ("revoke", "revoked", "api_key_revoked"),
    ] {
        let edit = json!({ "leak_policy": policy, "leak_grace_seconds": 0 });
        let changed = rig.call("PATCH", "/v1/buckets/default", Some(&edit));
        assert_eq!(
            (changed.status, &changed.json()["leak_policy"]),
            (200, &json!(policy))
        );
        let key = good_key(&rig, policy);
        let body =
            json!({ "key": key["key"], "url": "https://example.org/commit/1", "source": "commit" });
        let response = rig.call("POST", "/v1/leaks", Some(&body));
        assert_eq!(response.status, 200, "{}", response.text());
        let outcome = response.json();
        assert_eq!(
            (&outcome["action"], &outcome["key"]["id"]),
            (&json!(action), &key["id"])
        );
        assert!(
            !outcome.to_string().contains(text(&key, "key")),
            "the key is not repeated"
        );
        assert!(rig.verdict(text(&key, "key")) == verdict, "{action}");
        let row = &rig.shown("/v1/audit?action=key.leak&limit=1")["data"][0];
        assert_eq!(
            (&row["subject_id"], &row["detail"]["url"]),
            (&key["id"], &json!("https://example.org/commit/1"))
        );
    }
}

#[test]
fn what_is_nobodys_key_is_told_and_a_report_says_which() {
    let rig = Rig::new();
    let key = good_key(&rig, "acme");
    let digest = postern_gateway::keys::KeyDigest::of(text(&key, "key").as_bytes()).to_hex();
    let by_digest = rig
        .call("POST", "/v1/leaks", Some(&json!({ "sha256": digest })))
        .json();
    assert_eq!(by_digest["key"]["id"], key["id"]);
    for unknown in [
        json!({ "key": "" }),
        json!({ "key": "nobody's key" }),
        json!({ "sha256": "0".repeat(64) }),
    ] {
        let response = rig.call("POST", "/v1/leaks", Some(&unknown));
        assert_eq!(
            (response.status, response.json()),
            (200, json!({ "action": "unknown", "key": null })),
            "{unknown}"
        );
    }
    for (body, pointer) in [
        (json!({}), "/key"),
        (json!({ "key": "a", "sha256": digest }), "/key"),
        (json!({ "sha256": "abc" }), "/sha256"),
        (json!({ "key": "a", "url": key["key"] }), "/url"),
        (json!({ "key": 1 }), "/key"),
        (json!({ "key": "a", "url": "a\nb" }), "/url"),
    ] {
        let response = rig.call("POST", "/v1/leaks", Some(&body));
        assert_eq!(
            refusal(&response),
            (400, "invalid_body".to_owned()),
            "{body}"
        );
        assert_eq!(response.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    let as_reader = rig.call_as(
        READER,
        "POST",
        "/v1/leaks",
        &[],
        Some(&json!({ "key": "a" })),
    );
    assert_eq!(refusal(&as_reader), (403, "insufficient_role".to_owned()));
}

#[test]
fn a_leaked_key_is_not_kept_with_where_it_was_found() {
    let rig = Rig::new();
    let foreign = "sk_live/0123456789+abcdef==";
    let escaped = "sk_live%2F0123456789%2Babcdef%3D%3D";
    let digest = postern_gateway::keys::KeyDigest::of(foreign.as_bytes()).to_hex();
    for reported in [json!({ "key": foreign }), json!({ "sha256": digest })] {
        for (member, place) in [
            ("url", format!("https://example.org/?key={foreign}")),
            ("url", format!("https://example.org/?key={escaped}&a=b")),
            ("source", foreign.to_owned()),
        ] {
            let mut body = reported.clone();
            body[member] = json!(place);
            let response = rig.call("POST", "/v1/leaks", Some(&body));
            assert_eq!(
                refusal(&response),
                (400, "invalid_body".to_owned()),
                "{body}"
            );
            assert_eq!(
                response.json()["errors"][0]["pointer"],
                format!("/{member}"),
                "{body}"
            );
            assert!(
                !response.text().contains("0123456789"),
                "{}",
                response.text()
            );
        }
    }
    // One of the gateway's own is found whatever the report is about.
    let own: String = "pstn_0123456789ABCDEFGHIJKLMNOPQRSTUV2pMS28"
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect();
    let response = rig.call(
        "POST",
        "/v1/leaks",
        Some(&json!({ "key": foreign, "url": own })),
    );
    assert_eq!(response.json()["errors"][0]["pointer"], "/url");
    let kept = json!({ "key": foreign, "url": "https://example.org/sk_live", "source": "commit" });
    assert_eq!(rig.call("POST", "/v1/leaks", Some(&kept)).status, 200);
}

/// What is the same wherever the public keys come from.
fn reports_are_believed_by_their_signature(rig: &Rig, github: &Signer) {
    assert_eq!(
        rig.call(
            "PATCH",
            "/v1/buckets/default",
            Some(&json!({ "leak_policy": "revoke" }))
        )
        .status,
        200
    );
    let key = good_key(rig, "acme");
    let plain = text(&key, "key");
    let report = json!([
        { "token": plain, "type": "postern_key", "url": format!("https://example.org/?{plain}"), "source": "content" },
        { "token": "pstn_nobody", "type": "postern_key", "url": "", "source": "commit" },
    ]);
    for (signer, signed) in [
        (github, json!([])),
        (&Signer::new(github.identifier), report.clone()),
    ] {
        let response = signer.report(rig, &signed, &report);
        assert_eq!(refusal(&response), (403, "signature_invalid".to_owned()));
    }
    assert_eq!(rig.verdict(plain), "ok");
    let response = github.report(rig, &report, &report);
    assert_eq!(response.status, 200, "{}", response.text());
    let feedback = response.json();
    let labels: Vec<&str> = feedback
        .as_array()
        .unwrap()
        .iter()
        .map(|told| text(told, "label"))
        .collect();
    assert_eq!(labels, ["true_positive", "false_positive"]);
    assert_eq!(feedback[0]["token_type"], "postern_key");
    assert!(!feedback.to_string().contains(plain));
    assert!(rig.verdict(plain) == "api_key_revoked", "it is revoked");
    let row = &rig.shown("/v1/audit?actor=github")["data"][0];
    // The address holds the key, so it is not kept.
    assert_eq!(
        (
            &row["action"],
            &row["detail"]["url"],
            &row["detail"]["source"]
        ),
        (&json!("key.leak"), &Value::Null, &json!("content"))
    );
}

#[test]
fn github_is_believed_by_the_keys_of_a_file() {
    let github = Signer::new("k1");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    std::fs::write(&file, github.document()).unwrap();
    let rig = Rig::with_file(&format!("[leaks]\ngithub_keys = \"{}\"\n", file.display()));
    reports_are_believed_by_their_signature(&rig, &github);
    for (report, status, code) in [
        (json!({ "token": "a" }), 400, "invalid_body"),
        (json!([{ "kind": "a" }]), 400, "invalid_body"),
    ] {
        assert_eq!(
            refusal(&github.report(&rig, &report, &report)),
            (status, code.to_owned()),
            "{report}"
        );
    }
    let large = json!([{ "token": "a".repeat(1024 * 1024) }]);
    assert_eq!(
        refusal(&github.report(&rig, &large, &large)),
        (413, "body_too_large".to_owned())
    );
    // The file is read again for each report.
    std::fs::write(&file, "{}").unwrap();
    let unreadable = github.report(&rig, &json!([]), &json!([]));
    assert_eq!(
        refusal(&unreadable),
        (503, "public_keys_unavailable".to_owned())
    );
    assert_eq!(unreadable.header("retry-after"), Some("1"));
}

/// The head of a report that announces a body of ten bytes.
pub(crate) const BEGUN: &str = "POST /v1/leaks HTTP/1.1\r\nhost: 127.0.0.1\r\ngithub-public-key-identifier: k1\r\ngithub-public-key-signature: AAAA\r\n\
                     content-length: 10\r\n\r\n";

#[test]
fn slow_reports_make_room_for_those_of_github() {
    let github = Signer::new("k1");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    std::fs::write(&file, github.document()).unwrap();
    let rig = Rig::with_file(&format!("[leaks]\ngithub_keys = \"{}\"\n", file.display()));
    let mut slow: Vec<Connection> = Vec::new();
    let has_answer = |connection: &mut Connection| connection.socket().peek(&mut [0]).is_ok();
    eventually("a slow one is put off", || {
        let mut connection = Connection::open(rig.admin);
        connection.send(BEGUN);
        connection.socket().set_nonblocking(true).unwrap();
        slow.push(connection);
        let report = github.report(&rig, &json!([]), &json!([]));
        assert_eq!(report.status, 200, "{}", report.text());
        slow.iter_mut().any(has_answer)
    });
    let at = slow.iter_mut().position(has_answer).unwrap();
    let mut put_off = slow.remove(at);
    put_off.socket().set_nonblocking(false).unwrap();
    let response = put_off.response();
    assert_eq!(refusal(&response), (503, "too_many_reports".to_owned()));
    assert_eq!(response.header("retry-after"), Some("1"));
    assert!(slow.len() >= 3, "{} slow ones are waited for", slow.len());
    // One that names no key of GitHub's waits for nothing and takes no turn.
    let mut unknown = Connection::open(rig.admin);
    unknown.send(BEGUN.replace("identifier: k1", "identifier: k2"));
    assert_eq!(
        refusal(&unknown.response()),
        (403, "signature_invalid".to_owned())
    );
}

#[test]
fn a_report_is_noted_once_for_each_key_and_place() {
    let rig = Rig::new();
    let key = good_key(&rig, "acme");
    let report = |url: &str| {
        let body = json!({ "key": key["key"], "url": url });
        let response = rig.call("POST", "/v1/leaks", Some(&body));
        assert_eq!(response.json()["action"], "notified", "{}", response.text());
    };
    for url in [
        "https://example.org/1",
        "https://example.org/1",
        "https://example.org/2",
    ] {
        report(url);
        report(url);
    }
    let rows = rig.shown("/v1/audit?action=key.leak");
    assert_eq!(rows["data"].as_array().unwrap().len(), 2, "{rows}");
}

#[test]
fn what_cannot_be_checked_is_refused_before_its_body_is_read() {
    let none = Rig::new();
    let some = Rig::with_file("[leaks]\ngithub_keys = \"nothing-here.json\"\n");
    let long = format!("signature: {}", "A".repeat(100));
    for (rig, head) in [
        (&none, BEGUN.to_owned()),
        (&some, BEGUN.replace("signature: AAAA", "signature: A A")),
        (&some, BEGUN.replace("signature: AAAA", &long)),
        (&some, BEGUN.replace("identifier: k1", "identifier: k/1")),
        (
            &some,
            BEGUN.replace(
                "identifier: k1",
                &format!("identifier: {}", "k".repeat(129)),
            ),
        ),
    ] {
        let mut connection = Connection::open(rig.admin);
        connection.send(&head);
        assert_eq!(
            refusal(&connection.response()),
            (403, "signature_invalid".to_owned()),
            "{head}"
        );
    }
}

#[test]
fn github_is_believed_by_the_keys_of_a_server() {
    let github = Signer::new("k1");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let document = github.document();
    let asked = std::thread::spawn(move || {
        let (mut socket, _) = server.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        write!(
            socket,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{document}",
            document.len()
        )
        .unwrap();
        // Whoever asks again is answered no more.
        String::from_utf8(head).unwrap()
    });
    let rig = Rig::with_file(&format!(
        "[leaks]\ngithub_keys = \"http://{address}/meta/public_keys\"\n"
    ));
    reports_are_believed_by_their_signature(&rig, &github);
    let asked = asked.join().unwrap().to_ascii_lowercase();
    assert!(
        asked.starts_with("get /meta/public_keys http/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("user-agent: postern\r\n") && !asked.contains("rig-9f2c51d07be84a63"),
        "{asked}"
    );
}

#[test]
fn a_signature_that_cannot_be_checked_opens_nothing() {
    let rig = Rig::new();
    let github = Signer::new("k1");
    assert_eq!(
        refusal(&github.report(&rig, &json!([]), &json!([]))),
        (403, "signature_invalid".to_owned()),
        "no keys configured"
    );
    for lines in [
        vec!["github-public-key-signature: a"],
        vec![
            "github-public-key-signature: a",
            "github-public-key-signature: a",
        ],
    ] {
        assert_eq!(
            refusal(&rig.raw("POST", "/v1/leaks", &lines, b"[]")),
            (403, "signature_invalid".to_owned()),
            "{lines:?}"
        );
    }
    // Only there, and only that.
    for (method, path) in [
        ("GET", "/v1/leaks"),
        ("POST", "/v1/keys"),
        ("POST", "/v1/leaks/"),
    ] {
        let response = rig.raw(method, path, &["github-public-key-signature: a"], b"");
        assert_eq!(
            refusal(&response),
            (401, "unauthorized".to_owned()),
            "{method} {path}"
        );
    }
    let away = Rig::with_file("[leaks]\ngithub_keys = \"http://127.0.0.1:1/keys\"\n");
    for _ in 0..2 {
        let response = github.report(&away, &json!([]), &json!([]));
        assert_eq!(
            refusal(&response),
            (503, "public_keys_unavailable".to_owned())
        );
    }
}
