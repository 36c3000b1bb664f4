//! Streams end with what admitted them: the token, its consumer, its issuer, or the route that took it.

use std::io::{Read as _, Write as _};

use serde_json::json;

use super::{Rig, bearer, now, of_corp};
use crate::client::Connection;
use crate::origin::Origin;
use crate::running::eventually;

const ROUTES: &str = "[[routes]]\nauth = [\"key\", \"jwt:corp\"]\nscopes = [\"read\"]\n";
const BY_AZP: &str = "consumer_claim = \"azp\"\n";

/// An origin that sends one event and waits.
fn events() -> Origin {
    Origin::answering(|_, socket| {
        let _ = socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n");
        let _ = socket.read(&mut [0; 16]);
    })
}

fn opened(rig: &Rig, token: &str) -> Connection {
    let mut connection = Connection::open(rig.process.public);
    connection.send(format!(
        "GET /events HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n",
        bearer(token)
    ));
    assert_eq!(connection.head().status, 200);
    assert!(!connection.some_bytes().is_empty());
    connection
}

#[test]
fn a_stream_ends_when_its_token_does_or_whatever_admitted_it() {
    let more = format!("{BY_AZP}on_unknown_consumer = \"allow\"\n");
    for (what, cause) in [
        ("expiry", "the token has expired"),
        ("scope", "the credential has lost a scope of the route"),
        ("consumer", "the consumer of the token no longer exists"),
        ("route", "the route no longer takes this kind of credential"),
        (
            "issuer",
            "the issuer is no longer configured as it was when the token was checked",
        ),
    ] {
        let settings = if what == "consumer" { BY_AZP } else { &more };
        let rig = Rig::before(events(), ROUTES, settings);
        rig.done(&[
            "consumers",
            "create",
            "acme",
            "--custom-id",
            "ext-42",
            "--scope",
            "read",
        ]);
        // The tolerance for clocks is a minute, so this one has a second or two left.
        let exp = if what == "expiry" {
            now() - 58
        } else {
            now() + 600
        };
        let claims = json!({ "azp": "ext-42", "scope": "read", "exp": exp });
        let mut ending = opened(&rig, &of_corp(&claims));
        let mut other = opened(
            &rig,
            &of_corp(&json!({ "azp": "ext-42", "scope": "read", "sub": "bob" })),
        );
        match what {
            "expiry" => {}
            "scope" => drop(rig.done(&["consumers", "update", "acme", "--no-scopes"])),
            "consumer" => drop(rig.done(&["consumers", "delete", "acme"])),
            "route" => rig.write("[[routes]]\nauth = [\"key\", \"jwt:partner\"]\n", settings),
            _ => rig.write(ROUTES, &format!("{settings}clock_skew = \"30s\"\n")),
        }
        while !ending.some_bytes().is_empty() {}
        if what == "expiry" {
            other.send("still there");
        } else {
            while !other.some_bytes().is_empty() {}
        }
        eventually("it is logged", || !rig.process.access_log().is_empty());
        let line = &rig.process.access_log()[0];
        assert_eq!(
            (&line["cause"], &line["ending"]),
            (&json!(cause), &json!("key_ended")),
            "{what}"
        );
    }
}
