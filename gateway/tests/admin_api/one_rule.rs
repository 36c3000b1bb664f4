//! Whoever asks about a key is told the same of it: a request, one that is open, a service that has the key verified, and a
//! proxy that asks before it forwards.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::client::{Connection, DEADLINE, get};
use crate::rig::{Rig, text};

/// An origin that never answers; tells of each request.
fn silent() -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, arrived) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, told) = (socket.unwrap(), told.clone());
            std::thread::spawn(move || {
                while socket.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    let _ = told.send(());
                }
            });
        }
    });
    (url, arrived)
}

#[test]
fn a_request_an_open_one_a_verification_and_a_proxy_are_told_the_same_of_a_key() {
    let (origin, arrived) = silent();
    let rig = Rig::with_file(&format!(
        "[[routes]]\npath = \"/\"\nscopes = [\"read\"]\nbuckets = [\"default\"]\nupstream = \"{origin}\"\n"
    ));
    for (number, (ending, code)) in [
        ("POST /v1/keys/KEY/disable", "api_key_disabled"),
        ("POST /v1/keys/KEY/revoke", "api_key_revoked"),
        ("", "api_key_expired"),
        ("DELETE /v1/consumers/CONSUMER", "api_key_invalid"),
        (
            r#"PATCH /v1/consumers/CONSUMER {"allowed_ips":["192.0.2.0/24"]}"#,
            "key_restricted",
        ),
        (
            r#"PATCH /v1/consumers/CONSUMER {"scopes":["write"]}"#,
            "insufficient_scope",
        ),
        (
            r#"PATCH /v1/keys/KEY {"allowed_ips":["192.0.2.0/24"]}"#,
            "key_restricted",
        ),
        (
            r#"PATCH /v1/keys/KEY {"allowed_methods":["POST"]}"#,
            "key_restricted",
        ),
        (
            r#"PATCH /v1/keys/KEY {"allowed_routes":["elsewhere"]}"#,
            "key_restricted",
        ),
        // Where several reasons hold, the same one is told.
        (
            r#"PATCH /v1/consumers/CONSUMER {"scopes":[],"allowed_ips":["192.0.2.0/24"]}"#,
            "key_restricted",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let consumer = json!({ "name": format!("c{number}"), "scopes": ["read"] });
        let consumer = text(&rig.made("/v1/consumers", &consumer), "id").to_owned();
        let end = SystemTime::now() + Duration::from_secs(8);
        let end = ending
            .is_empty()
            .then(|| humantime::format_rfc3339_millis(end).to_string());
        let key = rig.made(
            &format!("/v1/consumers/{consumer}/keys"),
            &json!({ "expires_at": end }),
        );
        let header = format!("authorization: Bearer {}", text(&key, "key"));
        let mut open = Connection::open(rig.public);
        open.send(format!("GET /x HTTP/1.1\r\nhost: h\r\n{header}\r\n\r\n"));
        arrived.recv_timeout(DEADLINE).unwrap();
        if let Some((method, rest)) = ending.split_once(' ') {
            let (path, body) = rest.split_once(' ').unwrap_or((rest, "null"));
            let path = path
                .replace("KEY", text(&key, "id"))
                .replace("CONSUMER", &consumer);
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let changed = rig.call(method, &path, Some(&body).filter(|body| !body.is_null()));
            assert!(changed.status < 300, "{ending}: {}", changed.text());
        }
        let ended = open.response();
        let question = json!({ "key": text(&key, "key"), "scopes": ["read"], "address": "127.0.0.1", "method": "GET", "route": "/" });
        let verified = rig.call("POST", "/v1/keys/verify", Some(&question)).json();
        let asked = get(rig.admin, "/v1/auth", &[&header, "x-original-uri: /x"]);
        let refused = get(rig.public, "/x", &[&header]);
        let codes = [ended.code(), refused.code(), asked.code()];
        assert_eq!(codes, [code; 3], "{ending}");
        assert_eq!(text(&verified, "code"), code, "{ending}");
    }
}
