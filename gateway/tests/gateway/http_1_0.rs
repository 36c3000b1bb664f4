//! Clients of HTTP/1.0: they know no chunks, and their connections close unless they ask otherwise.

use std::io::Write;

use crate::client::{Connection, exchange};
use crate::origin::Origin;
use crate::rig::Rig;

/// An origin that frames its answer as the path says, and always says `hello`.
fn origin() -> Origin {
    Origin::answering(|request, socket| {
        let answer: &[u8] = match request.line.split(' ').nth(1) {
            Some("/length") => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            Some("/chunks") => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            _ => b"HTTP/1.1 204 No Content\r\n\r\n",
        };
        let _ = socket.write_all(answer);
    })
}

#[test]
fn answers_are_framed_without_chunks_and_the_connection_is_kept_where_that_was_asked_for_and_can_be()
 {
    let origin = origin();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    for (path, wish, status, kept) in [
        ("/length", "x: y", 200, false),
        ("/length", "connection: close", 200, false),
        ("/length", "connection: keep-alive", 200, true),
        ("/chunks", "x: y", 200, false),
        ("/chunks", "connection: keep-alive", 200, false),
        ("/none", "x: y", 204, false),
        ("/none", "connection: keep-alive", 204, true),
    ] {
        let mut connection = Connection::open(rig.public);
        let request = format!("GET {path} HTTP/1.0\r\n{key}\r\n{wish}\r\n\r\n");
        connection.send(&request);
        let response = connection.response();
        let body = if status == 204 { "" } else { "hello" };
        assert_eq!(
            (response.status, response.text().as_str()),
            (status, body),
            "{path} {wish}"
        );
        assert_eq!(response.header("transfer-encoding"), None, "{path} {wish}");
        assert_eq!(
            response.header("connection") == Some("keep-alive"),
            kept,
            "{path} {wish}: {response:?}"
        );
        if kept {
            connection.send(&request);
            assert_eq!(connection.response().status, status, "{path} {wish}");
        } else {
            assert!(connection.is_closed(), "{path} {wish}");
        }
    }
}

#[test]
fn a_wish_to_leave_http_1_0_is_passed_over() {
    let origin = origin();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    let response = exchange(
        rig.public,
        format!("GET /length HTTP/1.0\r\n{key}\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n"),
    );
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(origin.only().one("upgrade"), None);
}
