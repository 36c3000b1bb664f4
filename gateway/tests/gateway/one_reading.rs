//! A request falls under one route in every reading that an origin may have of it, or is refused; routes that protect less
//! than they seem to are refused or warned of.

use crate::bad_input::refuses;
use crate::client::{Connection, exchange};
use crate::origin::Origin;
use crate::rig::{Rig, SECRET, gateway};

const ROUTES: &str = r#"
[listen]
trusted_proxies = ["127.0.0.0/8"]

[[routes]]
path = "/"
on_missing_key = "anonymous"
preserve_host = true

[[routes]]
path = "/v1/users:purge"
scopes = ["admin"]

[[routes]]
path = "/api/admin"
scopes = ["admin"]

[[routes]]
name = "admin host"
hosts = ["Admin.example.com."]
scopes = ["admin"]

[[routes]]
path = "/doc"
methods = ["GET"]
scopes = ["admin"]

[[routes]]
path = "/files"
on_missing_key = "anonymous"
allow_ambiguous_path = true
"#;

#[test]
fn no_spelling_of_a_request_falls_under_a_looser_route_than_an_origin_reads() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), ROUTES);
    // `METHOD TARGET => HOST ⏎ HEADER => CODE`
    let table = r#"
        GET /;/api/admin/x => h => ambiguous_path
        GET /api/;/admin/x => h => ambiguous_path
        GET /api/ADMIN/x => h => ambiguous_path
        POST /v1/users%3Apurge => h => ambiguous_path
        POST /v1/users:purge => h => api_key_missing
        GET /x => admin.example.com => api_key_missing
        GET /x => admin.example.com. => api_key_missing
        GET /x => ADMIN.example.com.:80 => api_key_missing
        GET /x => admin.example.com.. => bad_request
        GET /x => h ⏎ x-forwarded-host: admin.example.com => bad_request
        GET /x => h ⏎ x-forwarded-host: a, Admin.example.com.:80 => bad_request
        GET /x => h ⏎ x-forwarded-host: é => bad_request
        GET /x => h ⏎ x-forwarded-host: http://admin.example.com/ => bad_request
        GET /x => h ⏎ x-forwarded-host: u@admin.example.com => bad_request
        GET /x => h ⏎ x-forwarded-host: a, "admin.example.com" => bad_request
        GET /x => h ⏎ x-forwarded-host:  => ok
        GET /x => h ⏎ x-forwarded-host: a, b => ok
        GET /doc => h => api_key_missing
        HEAD /doc => h => 401
        HEAD /doc/x => h => 401
        GET /files/../api/admin/x => h => ambiguous_path
        GET /files/..%2fapi/admin => h => ambiguous_path
        GET /files/%u002e%u002e/api/admin => h => ambiguous_path
        GET /files/%e2%80%a5/api/admin => h => ambiguous_path
        GET /files/..%e2%88%95api/admin => h => ambiguous_path
        GET /api/adm%c4%b1n => h => ambiguous_path
        GET /files/a%2fb/../c;d => h => ok
        GET /caf%c3%a9;x=1//y => h => ok
    "#;
    for row in table.trim().lines() {
        let cells: Vec<&str> = row.trim().split(" => ").collect();
        let (start, host, wanted) = (cells[0], cells[1].replace(" ⏎ ", "\r\n"), cells[2]);
        let before = origin.arrived().len();
        let mut connection = Connection::open(rig.public);
        connection.send(format!("{start} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        let said = if start.starts_with("HEAD") {
            connection.head().status.to_string()
        } else {
            connection.response().code_or_ok()
        };
        assert_eq!(said, wanted, "{row}");
        let arrived = origin.arrived().len() - before;
        assert_eq!(arrived, usize::from(wanted == "ok"), "{row}");
    }
}

#[test]
fn a_host_is_sent_on_in_one_spelling() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), ROUTES);
    for (sent, arrives) in [
        ("Open.Example.COM.", "open.example.com"),
        ("open.example.com.:8080", "open.example.com:8080"),
        ("[0:0:0:0:0:0:0:1]:80", "[::1]:80"),
    ] {
        exchange(
            rig.public,
            format!("GET /x HTTP/1.1\r\nhost: {sent}\r\n\r\n"),
        );
        let arrived = origin.arrived().pop().unwrap();
        assert_eq!(arrived.one("host"), Some(arrives));
        assert_eq!(arrived.one("x-forwarded-host"), Some(arrives));
    }
}

/// What `gateway check` says on standard error, and its exit code.
fn checked(file: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"]);
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[test]
fn check_warns_of_routes_that_leave_requests_to_a_looser_one() {
    let (code, said) = checked(ROUTES);
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "gateway: warning: routes[3] (\"admin host\") holds for named hosts, but there too routes[5] (\"/files\") takes what is \
             below its longer path, and asks for less; add a route for these hosts with that path",
            "gateway: warning: routes[4] (\"/doc\") takes GET only: on its path, POST, PUT, PATCH, DELETE, OPTIONS fall under \
             routes[0] (\"/\"), which asks for less; add a route for that path without methods",
        ]
    );
    for quiet in [
        "[[routes]]\npath = \"/\"\n[[routes]]\npath = \"/doc\"\nmethods = [\"GET\"]\n",
        "[[routes]]\npath = \"/\"\non_missing_key = \"anonymous\"\n\
         [[routes]]\nname = \"read\"\npath = \"/doc\"\nmethods = [\"GET\"]\n[[routes]]\npath = \"/doc\"\nscopes = [\"w\"]\n",
        "[[routes]]\npath = \"/doc\"\nmethods = [\"GET\"]\nscopes = [\"r\"]\n",
        "[[routes]]\nscopes = [\"a\"]\n[[routes]]\npath = \"/public\"\non_missing_key = \"anonymous\"\n",
    ] {
        assert_eq!(checked(quiet), (Some(0), String::new()), "{quiet}");
    }
}

#[test]
fn routes_that_mean_two_things_are_refused_with_what_is_accepted() {
    refuses(
        "",
        r#"
            [[routes]] ⏎ methods = ["HEAD", "POST"] => routes[0].methods => list GET too
            [[routes]] ⏎ path = "/a" ⏎ [[routes]] ⏎ path = "/A" => routes[1].path => origin.case_sensitive_paths
            [[routes]] ⏎ path = "/a%3Ab" => routes[0].path => letters, digits and
            [[routes]] ⏎ path = "/a/{id}" => routes[0].path => letters, digits and
            [[routes]] ⏎ path = "/a." => routes[0].path => do not end in a dot
            [[routes]] ⏎ path = "/a//b" => routes[0].path => letters, digits and
            [[routes]] ⏎ path = "/a;b" => routes[0].path => letters, digits and
            [[routes]] ⏎ hosts = ["a..b"] => routes[0].hosts[0] => a host name
            [[routes]] ⏎ hosts = ["a."] ⏎ [[routes]] ⏎ name = "b" ⏎ hosts = ["A"] => routes[1] => the same requests
            [origin] ⏎ case_sensitive_paths = 1 => origin.case_sensitive_paths => true or false
        "#,
    );
    let (code, said) = checked(
        "[origin]\ncase_sensitive_paths = true\n[[routes]]\npath = \"/a\"\n[[routes]]\npath = \"/A\"\n",
    );
    assert_eq!((code, said.as_str()), (Some(0), ""));
}
