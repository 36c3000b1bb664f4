//! Upstreams and routes that cannot be as they are written: each problem has its path and its reason.

use crate::bad_input::{ADMIN_TOKEN, refuses};
use crate::rig::SECRET;

#[test]
fn a_secret_of_an_upstream_is_its_own_and_a_good_one() {
    let upstream = "[[upstreams]]\nname = \"a\"\ntargets = [\"http://127.0.0.1:9000\"]\n";
    let table = r#"
            secret = "k8Zp3vQ9xW2mR7tL" ⏎ [[upstreams]] ⏎ name = "b" ⏎ targets = ["http://127.0.0.1:9000"] ⏎ secret = "k8Zp3vQ9xW2mR7tL" => upstreams[1].secret => the secret of upstream "a" too
            secret = "k8Zp3vQ9xW2mR7tL" ⏎ [[admin.tokens]] ⏎ name = "ci" ⏎ role = "admin" ⏎ token = "k8Zp3vQ9xW2mR7tL" => upstreams[0].secret => it is an admin token
            secret = "SECRET" => upstreams[0].secret => (from the upstreams): it is the shared secret
            secret = "k8Zp3vQ9" => upstreams[0].secret => at least 16
            secret = "changeme" => upstreams[0].secret => placeholder
            secret = "k8Zp3vQ9xW2mR7tL" ⏎ secret_file = "/nowhere" => upstreams[0].secret => secret and secret_file are both set
            secret_file = "/nowhere/secret" => upstreams[0].secret_file => /nowhere/secret
            secret = "k8Zp3vQ9xW2mR7tL" ⏎ send_secret = false => upstreams[0].send_secret => needs none
        "#;
    for said in refuses(upstream, &table.replace("SECRET", SECRET)) {
        assert!(!said.contains("k8Zp3vQ9"), "{said}");
    }
}

#[test]
fn paths_that_cannot_be_mapped_are_refused() {
    refuses(
        "",
        r#"
            [[routes]] ⏎ strip_prefix = true => routes[0].strip_prefix => has no prefix to strip
            [[routes]] ⏎ path = "/a" ⏎ strip_prefix = "/b" => routes[0].strip_prefix => true or false
            [origin] ⏎ url = "http://h/a?b" => origin.url => no query and no fragment
            [origin] ⏎ url = "http://h/a/../b" => origin.url => the base path of an origin
            [[routes]] ⏎ upstream = "http://h/a%2fb" => routes[0].upstream => the base path of an origin
            [[upstreams]] ⏎ name = "a" ⏎ targets = ["http://h/a", "http://i/b"] => upstreams[0].targets[1] => one base path
        "#,
    );
}

#[test]
fn headers_that_a_route_cannot_edit_are_named_with_the_reason() {
    let route = "[[routes]]\nname = \"a\"\n";
    let table = r#"
            set_request_headers = { X-Consumer-Id = "a" } => routes[0].set_request_headers.x-consumer-id => only the gateway sets this header
            set_request_headers = { X_Shared_Secret = "a" } => routes[0].set_request_headers.X_Share… => letters, digits and "-"
            set_request_headers = { Host = "a" } => routes[0].set_request_headers.host => preserve_host
            remove_request_headers = ["Authorization"] => routes[0].remove_request_headers[0] => takes credentials from it
            remove_request_headers = ["Via"] => routes[0].remove_request_headers[0] => the gateway writes it itself
            set_response_headers = { Content-Length = "0" } => routes[0].set_response_headers.content-length => frames bodies
            remove_response_headers = ["X-Kept", "Vary"] => routes[0].remove_response_headers[1] => caches
            set_response_headers = { Access-Control-Allow-Origin = "*" } ⏎ cors = { origins = ["https://a.example"] } => routes[0].set_response_headers.access-control-allow-origin => cors
            set_request_headers = { X-A = "a\r\nx-b: c" } => routes[0].set_request_headers.X-A => visible ASCII
            set_request_headers = { X-A = "" } => routes[0].set_request_headers.X-A => visible ASCII
            set_request_headers = { X-A = ["a"] } => routes[0].set_request_headers.X-A => visible ASCII
            set_request_headers = { X-A = "key pstn_0000000000000000000000000000000000000000" } => routes[0].set_request_headers.X-A => form of an API key
            set_response_headers = { X-A = "SECRET" } => routes[0].set_response_headers.x-a => has a secret of an origin in it
            set_request_headers = { X-A = "Bearer ADMIN" } => routes[0].set_request_headers.x-a => has an admin token in it
            set_response_headers = { X-A = "ADMIN" } => routes[0].set_response_headers.x-a => has an admin token in it
            set_request_headers = { X-A = "1", x-a = "2" } => routes[0].set_request_headers.x-a => twice
            set_request_headers = { X-A = "1" } ⏎ remove_request_headers = ["x-a"] => routes[0].remove_request_headers[0] => leave one of them out
            set_request_headers = "X-A: 1" => routes[0].set_request_headers => this is a table of texts
        "#;
    let table = table
        .replace("SECRET", SECRET)
        .replace("ADMIN", ADMIN_TOKEN);
    for said in refuses(route, &table) {
        assert!(!said.contains("pstn_0"), "{said}");
    }
}

#[test]
fn a_body_is_buffered_only_where_the_memory_for_it_is_bounded() {
    refuses(
        "",
        r#"
            [[routes]] ⏎ buffer_request_body = true => routes[0].buffer_request_body => set that to at most 67108864
            [[routes]] ⏎ buffer_request_body = 67108865 => routes[0].buffer_request_body => from 1 to 67108864
            [[routes]] ⏎ buffer_request_body = 0 => routes[0].buffer_request_body => from 1 to
            [[routes]] ⏎ buffer_request_body = "1MB" => routes[0].buffer_request_body => from 1 to
            [listen] ⏎ max_buffered_bytes = 100 ⏎ [[routes]] ⏎ buffer_request_body = 101 => routes[0].buffer_request_body => never fits into listen.max_buffered_bytes
        "#,
    );
}
