//! Upstreams and routes that cannot be as they are written: each problem has its path and its reason.

use crate::bad_input::refused;
use crate::rig::SECRET;

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
