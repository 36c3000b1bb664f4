//! A key that was presented, wherever it stood, is in nothing that is sent on or written.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::client::{Connection, get};
use crate::origin::Origin;
use crate::rig::{Process, database, gateway};
use crate::running::eventually;

const TOKEN: &str = "taint-operator-9f2c51d07be84a63";
const FOREIGN: &str = "sk-live-51D07beQ84a639f2cXyZ/0+1==";
/// One that can stand where a host does.
const LIKE_A_HOST: &str = "sk-live-51d07be84a639f2c-lower";

/// Two routes, one of which lets everyone in.
const FILE: &str = "[[routes]]\npath = \"/\"\n\n[[routes]]\npath = \"/open\"\non_missing_key = \"anonymous\"\npreserve_host = true\n";

/// A gateway with everything on that writes, and that says all it can.
fn start(origin: &Origin) -> Process {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), FILE).unwrap();
    std::fs::write(
        directory.path().join("keys.csv"),
        format!("consumer,key\nforeign,{FOREIGN}\nforeign,{LIKE_A_HOST}\n"),
    )
    .unwrap();
    let snapshot = directory.path().join("keys.snapshot");
    let database = database(directory.path());
    let output = gateway(
        directory.path(),
        &[("DATABASE_URL", &database)],
        &["import", "keys.csv"],
    );
    assert!(output.status.success(), "{output:?}");
    std::fs::remove_file(directory.path().join("keys.csv")).unwrap();
    Process::start(
        directory,
        &origin.url(),
        &[
            ("RUST_LOG", "trace"),
            ("ADMIN_TOKEN", TOKEN),
            ("GATEWAY__STORE__SNAPSHOT", snapshot.to_str().unwrap()),
        ],
    )
}

/// A request with the key in some place, and whether it also stands where the gateway does not look: in the body, which is the
/// client's and passes as it is.
struct Case {
    place: &'static str,
    request: String,
    in_body: bool,
}

/// Places of keys in requests that are well-formed otherwise: `NAME => HEADER ⏎ HEADER…`.
const ODD_PLACES: &str = r#"
    twice => {bearer} ⏎ {bearer}
    with another scheme beside it => {bearer} ⏎ authorization: Basic eDp5
    as a password => {basic}
    without a scheme => authorization: {key}
    of another scheme => authorization: ApiKey {key}
    in quotes => authorization: Bearer "{key}"
    in a list => authorization: Bearer {key}, Basic eDp5
    with more behind it => authorization: Bearer {key}x
    for the proxy => {bearer} ⏎ proxy-authorization: Bearer {key}
    under a folded name => {bearer} ⏎ author_ization: Bearer {key}
    in another header => {bearer} ⏎ x-api-key: {key}
    in another header alone => x-api-key: {key} ⏎ api-key: ApiKey {key}
    in a cookie alone => cookie: a=1; key={key}
    of another scheme, and in another header => authorization: Token {key} ⏎ x-app: {key}
    without a scheme, and in another header => authorization: {key} ⏎ x-app: a={key}&b
    escaped twice in a header => {bearer} ⏎ x-app: key={deeply}
    within another header => {bearer} ⏎ x-forward: a {key} b
    in a header of an application => {bearer} ⏎ x-app: a={key}&b=c
    in a cookie => {bearer} ⏎ cookie: a=1; key={key}; b=2
    escaped in a cookie => {bearer} ⏎ cookie: a=1; key={escaped}
    partly escaped in a header => {bearer} ⏎ x-app: key={partly}
    in a referer => {bearer} ⏎ referer: https://example.com/?key={key}
    as an id => {bearer} ⏎ x-request-id: {key}
    as part of an id => {bearer} ⏎ x-request-id: a.{key}
    in trace context => {bearer} ⏎ traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ⏎ tracestate: a={key}
    in a nomination => {bearer} ⏎ connection: close, {key}
    as an expectation => {bearer} ⏎ expect: {key}
    in via => {bearer} ⏎ via: 1.1 {key}
    in forwarding headers => {bearer} ⏎ x-forwarded-host: {key} ⏎ x-forwarded-for: {key} ⏎ forwarded: for={key}
    as the host => {bearer} ⏎ host: {key}
    as the host without an Authorization => host: {key}
    as a label of the host => host: {key}.example.com:80
    as a protocol to leave HTTP for => {bearer} ⏎ connection: upgrade ⏎ upgrade: {key}
"#;

fn cases(key: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |place, start: &str, lines: &[&str], body: &str| {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let host = if lines.to_lowercase().contains("\nhost:")
            || lines.to_lowercase().starts_with("host:")
        {
            ""
        } else {
            "host: h\r\n"
        };
        cases.push(Case {
            place,
            request: format!("{start} HTTP/1.1\r\n{host}{lines}\r\n{body}"),
            in_body: false,
        });
    };
    let deeply = escaped_deeply(key);
    let bearer = format!("authorization: Bearer {key}");
    let basic = format!(
        "authorization: Basic {}",
        STANDARD.encode(format!("user:{key}"))
    );
    let escaped: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let partly = key
        .replace('_', "%5F")
        .replace('-', "%2D")
        .replace('/', "%2f");
    add("as it should be", "GET /a", &[&bearer], "");
    for path in ["/a", "/open"] {
        let start = format!("GET {path}");
        let mut odd = |place, lines: &[&str]| add(place, &start, lines, "");
        odd(
            "another case and spaces",
            &[&format!("AUTHORIZATION:   bEARER    {key}   ")],
        );
        odd(
            "as JSON escapes it in a header",
            &[
                &bearer,
                &format!(
                    "x-app: {{\"key\":\"{}\"}}",
                    key.replace('-', "\\u002d").replace('_', "\\u005f")
                ),
            ],
        );
        for row in ODD_PLACES.trim().lines() {
            let (place, lines) = row.trim().split_once(" => ").unwrap();
            let lines = lines
                .replace("{bearer}", &bearer)
                .replace("{basic}", &basic)
                .replace("{deeply}", &deeply)
                .replace("{escaped}", &escaped)
                .replace("{partly}", &partly)
                .replace("{key}", key);
            odd(place, &lines.split(" ⏎ ").collect::<Vec<_>>());
        }
    }
    // A header's name, as far as it can be one.
    if key
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    {
        add(
            "as a header's name",
            "GET /a",
            &[&bearer, &format!("{key}: 1")],
            "",
        );
        add("as the method", &format!("{key} /a"), &[], "");
        add(
            "as the method, with itself",
            &format!("{key} /a"),
            &[&bearer],
            "",
        );
    }
    add(
        "in a trailer",
        "POST /a",
        &[&bearer, "transfer-encoding: chunked", "trailer: x-key"],
        &format!("1\r\na\r\n0\r\nx-key: {key}\r\nauthorization: Bearer {key}\r\n\r\n"),
    );
    add(
        "in an extension of a chunk",
        "POST /a",
        &[&bearer, "transfer-encoding: chunked"],
        &format!("1;key={key}\r\na\r\n0\r\n\r\n"),
    );
    add(
        "in a malformed request",
        "GET /a",
        &[&bearer, &format!("x app: {key}")],
        "",
    );
    add(
        "in a version",
        &format!("GET /a HTTP/1.1 {key}"),
        &[&bearer],
        "",
    );
    if key != FOREIGN {
        // One with a slash is found in a query alone.
        add("in the path", &format!("GET /{key}"), &[&bearer], "");
        add("in the query", &format!("GET /a?key={key}"), &[&bearer], "");
        add(
            "escaped in the path",
            &format!("GET /a/{escaped}"),
            &[&bearer],
            "",
        );
        add(
            "escaped in the query",
            &format!("GET /open?a={partly}"),
            &[],
            "",
        );
        add(
            "in an absolute target",
            &format!("GET http://h/{key}"),
            &[&bearer],
            "",
        );
        add(
            "in an absolute target's host",
            &format!("GET http://{key}/"),
            &[&bearer, &format!("host: {key}")],
            "",
        );
    }
    let body = format!("key={key}");
    let length = format!("content-length: {}", body.len());
    add("in the body", "POST /a", &[&bearer, &length], &body);
    for case in &mut cases {
        case.in_body = case.place == "in the body";
    }
    cases
}

/// Each byte escaped, and the escapes.
fn escaped_deeply(key: &str) -> String {
    key.bytes().map(|byte| format!("%25{byte:02x}")).collect()
}

#[test]
fn a_presented_key_is_in_nothing_that_is_sent_on_or_written() {
    let origin = Origin::hello();
    let gateway = start(&origin);
    let own = gateway.key("own");
    let own = own.rsplit(' ').next().unwrap();
    let mut accepted = 0;
    for key in [own, FOREIGN, LIKE_A_HOST] {
        let tail = &key[key.len() - 16..];
        for Case {
            place,
            request,
            in_body,
        } in cases(key)
        {
            let mut connection = Connection::open(gateway.public);
            connection.send(&request);
            let response = connection.response();
            accepted += usize::from(response.status == 200);
            let told = format!("{:?}{}", response.headers, response.text());
            assert!(!told.contains(tail), "{place}: {told}");
            let arrived = origin.arrived();
            for request in arrived {
                let head = format!("{}{:?}", request.line, request.headers);
                assert!(!is_in(head.as_bytes(), key), "{key} {place}: {head}");
                assert!(in_body || !is_in(&request.body, key), "{key} {place}");
            }
            if in_body {
                assert_eq!(
                    origin.arrived().pop().unwrap().body,
                    format!("key={key}").as_bytes()
                );
                origin.forget();
            }
        }
    }
    assert!(accepted > 60, "{accepted} requests were let in");
    let admin = format!("authorization: Bearer {TOKEN}");
    let mut written = vec![("the process log".to_owned(), gateway.log().into_bytes())];
    for path in [
        "/metrics",
        "/readyz",
        "/v1/consumers",
        "/v1/keys",
        "/v1/audit",
        "/v1/gateways",
        "/v1/usage?by=day",
    ] {
        let answer = get(gateway.admin, path, &[&admin]);
        written.push((path.to_owned(), answer.text().into_bytes()));
    }
    eventually("the snapshot is written", || {
        gateway.directory.path().join("keys.snapshot").exists()
    });
    let access_log = || {
        gateway
            .access_log()
            .iter()
            .map(ToString::to_string)
            .collect::<String>()
    };
    written.push(("the access log".to_owned(), access_log().into_bytes()));
    written.extend(files(gateway.directory.path()));
    assert!(written.len() > 11, "{} sinks", written.len());
    for (sink, bytes) in written {
        for key in [own, FOREIGN, LIKE_A_HOST] {
            let found = String::from_utf8_lossy(&bytes);
            let line = found.lines().find(|line| is_in(line.as_bytes(), key));
            assert!(line.is_none(), "{sink}: {line:?}");
        }
    }
}

/// Whether most of `key` stands there, as it is, in lower case, or in base64.
fn is_in(bytes: &[u8], key: &str) -> bool {
    let tail = &key[key.len() - 16..];
    let text = String::from_utf8_lossy(bytes);
    let in_base64 = STANDARD.encode(format!("user:{key}"));
    let in_escapes: String = tail.bytes().map(|byte| format!("%{byte:02x}")).collect();
    [
        tail,
        &tail.to_lowercase(),
        &in_base64[8..],
        &tail.replace('-', "%2D").replace('/', "%2f"),
        &tail.replace('-', "\\u002d").replace('_', "\\u005f"),
        &in_escapes,
        &in_escapes.replace('%', "%25"),
    ]
    .iter()
    .any(|form| text.contains(*form))
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect()
}
