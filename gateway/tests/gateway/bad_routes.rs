//! Upstreams and routes that cannot be as they are written: each problem has its path and its reason.

use crate::bad_input::refused;
use crate::rig::SECRET;

/// A token of the admin API.
const ADMIN_TOKEN: &str = "bad-routes-2c7f51d07be84a63";

#[test]
fn a_secret_of_an_upstream_is_its_own_and_a_good_one() {
    let upstream = |name: &str, more: &str| {
        format!("[[upstreams]]\nname = \"{name}\"\ntargets = [\"http://127.0.0.1:9000\"]\n{more}\n")
    };
    let own = "secret = \"k8Zp3vQ9xW2mR7tL\"";
    let token = "[[admin.tokens]]\nname = \"ci\"\nrole = \"admin\"\ntoken = \"k8Zp3vQ9xW2mR7tL\"\n";
    for (file, path, part) in [
        (
            upstream("a", &format!("secret = \"{SECRET}\"")),
            "upstreams[0].secret (from the upstreams)",
            "it is the shared secret",
        ),
        (
            upstream("a", own) + &upstream("b", own),
            "upstreams[1].secret",
            "the secret of upstream \"a\" too",
        ),
        (
            upstream("a", own) + token,
            "upstreams[0].secret",
            "it is an admin token",
        ),
        (
            upstream("a", "secret = \"k8Zp3vQ9\""),
            "upstreams[0].secret",
            "at least 16",
        ),
        (
            upstream("a", "secret = \"changeme\""),
            "upstreams[0].secret",
            "placeholder",
        ),
        (
            upstream("a", &format!("{own}\nsecret_file = \"/nowhere\"")),
            "upstreams[0].secret",
            "secret and secret_file are both set",
        ),
        (
            upstream("a", "secret_file = \"/nowhere/secret\""),
            "upstreams[0].secret_file",
            "/nowhere/secret",
        ),
        (
            upstream("a", &format!("{own}\nsend_secret = false")),
            "upstreams[0].send_secret",
            "needs none",
        ),
    ] {
        let (code, said) = refused(&file, &[("SHARED_SECRET", SECRET)], &["check"]);
        assert_eq!(code, 2, "{file}: {said}");
        assert!(said.contains(path) && said.contains(part), "{file}: {said}");
        assert!(
            !said.contains("k8Zp3vQ9") && !said.contains(SECRET),
            "{said}"
        );
    }
}

#[test]
fn paths_that_cannot_be_mapped_are_refused() {
    for (file, path, part) in [
        (
            "[[routes]]\nstrip_prefix = true\n",
            "routes[0].strip_prefix",
            "has no prefix to strip",
        ),
        (
            "[[routes]]\npath = \"/a\"\nstrip_prefix = \"/b\"\n",
            "routes[0].strip_prefix",
            "true or false",
        ),
        (
            "[origin]\nurl = \"http://h/a?b\"\n",
            "origin.url",
            "no query and no fragment",
        ),
        (
            "[origin]\nurl = \"http://h/a/../b\"\n",
            "origin.url",
            "the base path of an origin",
        ),
        (
            "[[routes]]\nupstream = \"http://h/a%2fb\"\n",
            "routes[0].upstream",
            "the base path of an origin",
        ),
        (
            "[[upstreams]]\nname = \"a\"\ntargets = [\"http://h/a\", \"http://i/b\"]\n",
            "upstreams[0].targets[1]",
            "one base path",
        ),
    ] {
        let (code, said) = refused(file, &[("SHARED_SECRET", SECRET)], &["check"]);
        assert_eq!(code, 2, "{file}: {said}");
        assert!(said.contains(path) && said.contains(part), "{file}: {said}");
    }
}

#[test]
fn headers_that_a_route_cannot_edit_are_named_with_the_reason() {
    let route = |more: &str| format!("[[routes]]\nname = \"a\"\n{more}\n");
    let own_key = "pstn_0000000000000000000000000000000000000000";
    for (file, path, part) in [
        (
            route("set_request_headers = { X-Consumer-Id = \"a\" }"),
            "routes[0].set_request_headers.x-consumer-id",
            "only the gateway sets this header",
        ),
        (
            route("set_request_headers = { X_Shared_Secret = \"a\" }"),
            "routes[0].set_request_headers.X_Share…",
            "letters, digits and \"-\"",
        ),
        (
            route("set_request_headers = { Host = \"a\" }"),
            "routes[0].set_request_headers.host",
            "preserve_host",
        ),
        (
            route("remove_request_headers = [\"Authorization\"]"),
            "routes[0].remove_request_headers[0]",
            "takes credentials from it",
        ),
        (
            route("remove_request_headers = [\"Via\"]"),
            "routes[0].remove_request_headers[0]",
            "the gateway writes it itself",
        ),
        (
            route("set_response_headers = { Content-Length = \"0\" }"),
            "routes[0].set_response_headers.content-length",
            "frames bodies",
        ),
        (
            route("remove_response_headers = [\"X-Kept\", \"Vary\"]"),
            "routes[0].remove_response_headers[1]",
            "caches",
        ),
        (
            route(
                "set_response_headers = { Access-Control-Allow-Origin = \"*\" }\ncors = { origins = [\"https://a.example\"] }",
            ),
            "routes[0].set_response_headers.access-control-allow-origin",
            "cors",
        ),
        (
            route("set_request_headers = { X-A = \"a\\r\\nx-b: c\" }"),
            "routes[0].set_request_headers.X-A",
            "visible ASCII",
        ),
        (
            route("set_request_headers = { X-A = \"\" }"),
            "routes[0].set_request_headers.X-A",
            "visible ASCII",
        ),
        (
            route("set_request_headers = { X-A = [\"a\"] }"),
            "routes[0].set_request_headers.X-A",
            "visible ASCII",
        ),
        (
            route(&format!(
                "set_request_headers = {{ X-A = \"key {own_key}\" }}"
            )),
            "routes[0].set_request_headers.X-A",
            "form of an API key",
        ),
        (
            route(&format!("set_response_headers = {{ X-A = \"{SECRET}\" }}")),
            "routes[0].set_response_headers.x-a",
            "has a secret of an origin in it",
        ),
        (
            route(&format!(
                "set_request_headers = {{ X-A = \"Bearer {ADMIN_TOKEN}\" }}"
            )),
            "routes[0].set_request_headers.x-a",
            "has an admin token in it",
        ),
        (
            route(&format!(
                "set_response_headers = {{ X-A = \"{ADMIN_TOKEN}\" }}"
            )),
            "routes[0].set_response_headers.x-a",
            "has an admin token in it",
        ),
        (
            route("set_request_headers = { X-A = \"1\", x-a = \"2\" }"),
            "routes[0].set_request_headers.",
            "twice",
        ),
        (
            route("set_request_headers = { X-A = \"1\" }\nremove_request_headers = [\"x-a\"]"),
            "routes[0].remove_request_headers[0]",
            "leave one of them out",
        ),
        (
            route("set_request_headers = \"X-A: 1\""),
            "routes[0].set_request_headers",
            "this is a table of texts",
        ),
    ] {
        let (code, said) = refused(
            &file,
            &[("SHARED_SECRET", SECRET), ("ADMIN_TOKEN", ADMIN_TOKEN)],
            &["check"],
        );
        let line = said.lines().find(|line| line.contains(path));
        let line = line.unwrap_or_else(|| panic!("{file}: {said}"));
        assert!(code == 2 && line.contains(part), "{file}: {line}");
        for secret in [SECRET, ADMIN_TOKEN, own_key] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[test]
fn a_body_is_buffered_only_where_the_memory_for_it_is_bounded() {
    for (file, part) in [
        (
            "[[routes]]\nbuffer_request_body = true\n",
            "set that to at most 67108864",
        ),
        (
            "[[routes]]\nbuffer_request_body = 67108865\n",
            "from 1 to 67108864",
        ),
        ("[[routes]]\nbuffer_request_body = 0\n", "from 1 to"),
        ("[[routes]]\nbuffer_request_body = \"1MB\"\n", "from 1 to"),
        (
            "[listen]\nmax_buffered_bytes = 100\n[[routes]]\nbuffer_request_body = 101\n",
            "never fits into listen.max_buffered_bytes",
        ),
    ] {
        let (code, said) = refused(file, &[("SHARED_SECRET", SECRET)], &["check"]);
        let path = "routes[0].buffer_request_body";
        let line = said.lines().find(|line| line.contains(path));
        let line = line.unwrap_or_else(|| panic!("{file}: {said}"));
        assert!(code == 2 && line.contains(part), "{file}: {line}");
    }
}
