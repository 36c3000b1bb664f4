//! Routes that take the keys of some buckets only.

use crate::client::get;
use crate::origin::Origin;
use crate::rig::{Rig, SECRET, gateway};

#[test]
fn a_route_takes_the_keys_of_its_buckets_only() {
    let origin = Origin::hello();
    let rig = Rig::with(
        &origin.url(),
        "[[routes]]\npath = \"/partners\"\nbuckets = [\"partners\", \"a \\\"quoted\\\" one\"]\n\
         [[routes]]\npath = \"/nobody\"\nbuckets = [\"unknown\"]\n\
         [[routes]]\npath = \"/public\"\nbuckets = [\"partners\"]\non_missing_key = \"anonymous\"\n\
         [[routes]]\npath = \"/\"\n",
    );
    for bucket in ["partners", "a \"quoted\" one"] {
        rig.done(&["buckets", "create", bucket]);
    }
    // The same name in three buckets is three consumers.
    let own = rig.key("acme", &[]);
    let partner = rig.key("acme", &["--bucket", "partners"]);
    let quoted = rig.key("acme", &["--bucket", "a \"quoted\" one"]);
    for (path, key, code) in [
        ("/partners", &own, "key_restricted"),
        ("/partners/x", &partner, "ok"),
        ("/partners", &quoted, "ok"),
        ("/nobody", &partner, "key_restricted"),
        ("/public", &own, "key_restricted"),
        ("/public", &partner, "ok"),
        ("/", &own, "ok"),
        ("/", &partner, "ok"),
    ] {
        let answer = rig.get(path, key);
        assert_eq!(answer.code_or_ok(), code, "{path}: {answer:?}");
        if code != "ok" {
            assert_eq!(answer.status, 403);
            assert!(!answer.text().contains("bucket"), "{}", answer.text());
        }
    }
    assert_eq!(get(rig.public, "/public", &[]).code_or_ok(), "ok");
    assert_eq!(get(rig.public, "/partners", &[]).code(), "api_key_missing");
}

#[test]
fn the_buckets_of_routes_are_settings() {
    let directory = tempfile::tempdir().unwrap();
    let check = |buckets: &str| {
        let file = format!("[[routes]]\nname = \"p\"\npath = \"/p\"\nbuckets = {buckets}\n");
        std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
        let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"]);
        let (out, err) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        (output.status.code(), out, err)
    };
    let (code, out, err) = check("[\"partners\"]");
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("buckets = [\"partners\"]"), "{out}");
    assert!(err.contains("are not checked against the store"), "{err}");
    let (code, _, err) = check("[]");
    assert!(
        code == Some(0) && !err.contains("are not checked against the store"),
        "{err}"
    );
    for buckets in ["[\"\"]", "[\" partners\"]", "[\"p\u{e4}rtner\"]", "{}"] {
        let (code, _, err) = check(buckets);
        assert!(
            code == Some(2) && err.contains("buckets"),
            "{buckets}: {err}"
        );
    }
}
