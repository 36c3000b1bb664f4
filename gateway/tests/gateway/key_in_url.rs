//! A key in a URL: refused, and told to nobody.

use crate::client::{Connection, get};
use crate::origin::Origin;
use crate::rig::Process;
use crate::running::eventually;

#[test]
fn a_key_in_a_url_is_refused_and_stands_in_no_log() {
    let origin = Origin::hello();
    let gateway = Process::before(&origin.url());
    let line = gateway.key("acme");
    let key = line.rsplit(' ').next().unwrap();
    let escaped: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let targets = [
        format!("/{key}"),
        format!("/a/{key}/b"),
        format!("/a?key={key}"),
        format!("/{escaped}"),
        format!("/{}", escaped.replace('%', "%25")),
        format!("/{}", key.replacen('p', "%252570", 1)),
        format!("/a?{}", key.replacen('_', "%5Cu005f", 1)),
        format!("/a?{}", key.replacen('_', "%26%2395;", 1)),
        format!("/a?key={}", key.replacen('_', "%5f", 1)),
        // What is ambiguous is told with its path too.
        format!("/a/%2e%2e/{key}"),
    ];
    for target in &targets {
        for head in [
            format!("GET {target} HTTP/1.1\r\nhost: h\r\n"),
            format!("DELETE http://h{target} HTTP/1.1\r\nhost: h\r\n"),
        ] {
            let mut connection = Connection::open(gateway.public);
            connection.send(format!("{head}{line}\r\n\r\n"));
            let response = connection.response();
            assert_eq!(
                (response.status, response.code().as_str()),
                (400, "key_in_url"),
                "{head}"
            );
            assert!(
                response.json().get("instance").is_none() && !response.text().contains(&key[5..]),
                "{}",
                response.text()
            );
            assert!(connection.is_closed(), "{head}");
        }
        // A client that asks first is answered the same.
        let mut connection = Connection::open(gateway.public);
        connection
            .send(format!("POST {target} HTTP/1.1\r\nhost: h\r\n{line}\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"));
        assert_eq!(connection.response().code(), "key_in_url", "{target}");
        let asked = get(
            gateway.admin,
            "/v1/auth",
            &[&line, &format!("x-original-uri: {target}")],
        );
        assert_eq!(
            (asked.status, asked.code().as_str()),
            (403, "key_in_url"),
            "{target}"
        );
        assert!(!asked.text().contains(&key[5..]), "{}", asked.text());
        let asked = get(
            gateway.admin,
            "/v1/auth",
            &[&line, &format!("x-forwarded-uri: {target}")],
        );
        assert_eq!(
            (asked.status, asked.code().as_str()),
            (400, "key_in_url"),
            "{target}"
        );
    }
    // In place of a method or of an id it is not told either.
    let mut connection = Connection::open(gateway.public);
    connection.send(format!(
        "{key} / HTTP/1.1\r\nhost: h\r\nx-request-id: {key}\r\n\r\n"
    ));
    let response = connection.response();
    assert_eq!(
        (response.status, response.text().contains(key)),
        (405, false),
        "{}",
        response.text()
    );
    assert!(response.header("x-request-id").is_some_and(|id| id != key));
    // Less than a key is a path like any other.
    assert_eq!(
        get(
            gateway.public,
            &format!("/{}", &key[..key.len() - 1]),
            &[&line]
        )
        .status,
        200
    );
    assert_eq!(origin.arrived().len(), 1);
    let refused = || {
        gateway
            .access_log()
            .into_iter()
            .filter(|entry| entry["code"] == "key_in_url")
            .collect::<Vec<_>>()
    };
    eventually("every line is written", || {
        refused().len() == targets.len() * 5
    });
    assert!(
        refused().iter().all(|entry| entry["path"] == "[key]"),
        "{:?}",
        refused()
    );
    let told = format!("{}{:?}", gateway.log(), gateway.access_log());
    assert!(!told.contains(key) && !told.contains(&escaped), "{told}");
}

#[test]
fn an_imported_key_in_a_url_is_refused_and_stands_in_no_log() {
    let origin = Origin::hello();
    let gateway = Process::before(&origin.url());
    let key = "acme-live+0123.45~67/89ab==";
    let plain = "sk_live_0123456789abcdef";
    let file = gateway.directory.path().join("keys.csv");
    std::fs::write(&file, format!("consumer,key\nacme,{key}\nacme,{plain}\n")).unwrap();
    let store = crate::rig::database(gateway.directory.path());
    let done = crate::rig::gateway(
        gateway.directory.path(),
        &[("DATABASE_URL", &store)],
        &["import", file.to_str().unwrap()],
    );
    assert!(done.status.success(), "{done:?}");
    let line = format!("Authorization: Bearer {plain}");
    eventually("the imported key is let in", || {
        get(gateway.public, "/", &[&line]).status == 200
    });
    let arrived = origin.arrived().len();
    let targets = [
        format!("/{plain}"),
        format!("/a/{plain}/b"),
        format!("/a;token={plain}"),
        format!("/a?key={plain}&b"),
        format!("/a?key={key}"),
        format!("/{}", plain.replacen('s', "%2573", 1)),
        format!("/a?key={}", key.replace('/', "%2F").replace('=', "%3d")),
    ];
    for target in &targets {
        let response = get(gateway.public, target, &[&line]);
        assert_eq!(
            (response.status, response.code().as_str()),
            (400, "key_in_url"),
            "{target}"
        );
        assert!(
            !response.text().contains("0123456789"),
            "{}",
            response.text()
        );
        assert_eq!(
            get(gateway.admin, target, &[]).code(),
            "key_in_url",
            "{target}"
        );
    }
    let response = get(
        gateway.public,
        "/",
        &[&line, &format!("x-request-id: {plain}")],
    );
    assert!(
        response
            .header("x-request-id")
            .is_some_and(|id| id != plain)
    );
    // What is no key is a path like any other.
    assert_eq!(
        get(gateway.public, "/sk_live_0123456789abcdeg", &[&line]).status,
        200
    );
    assert_eq!(origin.arrived().len(), arrived + 2);
    eventually("every line is written", || {
        let lines = gateway.access_log();
        lines
            .iter()
            .filter(|entry| entry["code"] == "key_in_url")
            .count()
            >= targets.len()
    });
    let told = format!("{}{:?}", gateway.log(), gateway.access_log());
    assert!(!told.contains(plain) && !told.contains("0123.45"), "{told}");
}
