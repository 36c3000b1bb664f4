//! Keys that may be used for less than their consumer: from some addresses, with some methods, on some routes.

use std::collections::BTreeSet;

use crate::client::{Connection, get};
use crate::origin::Origin;
use crate::rig::{Process, Rig};
use crate::running::eventually;

const ROUTES: &str = "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n\
    [[routes]]\nname = \"orders\"\npath = \"/orders\"\n\
    [[routes]]\nname = \"of two words\"\npath = \"/words\"\n\
    [[routes]]\nname = \"public\"\npath = \"/public\"\non_missing_key = \"anonymous\"\n\
    [[routes]]\npath = \"/\"\n";

#[test]
fn a_key_is_good_only_for_what_it_may_be_used() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), ROUTES);
    rig.done(&["consumers", "create", "acme", "--allow-ip", "192.0.2.0/24"]);
    let far = "198.51.100.7";
    let near = "192.0.2.7";
    for (restriction, attempts) in [
        (
            &[][..],
            &[
                ("GET", "/", near, true),
                ("DELETE", "/orders", near, true),
                ("GET", "/", far, false),
            ][..],
        ),
        // Key and consumer have to allow the address, both of them.
        (
            &["--allow-ip", "192.0.2.0/25,198.51.100.0/24"],
            &[
                ("GET", "/", near, true),
                ("GET", "/", far, false),
                ("GET", "/", "192.0.2.200", false),
            ],
        ),
        (
            &["--allow-method", "GET,PUT"],
            &[
                ("GET", "/", near, true),
                ("HEAD", "/", near, true),
                ("PUT", "/orders", near, true),
                ("POST", "/", near, false),
                ("OPTIONS", "/", near, false),
            ],
        ),
        (
            &["--allow-method", "HEAD"],
            &[("HEAD", "/", near, true), ("GET", "/", near, false)],
        ),
        (
            &["--allow-route", "orders", "--allow-route", "of two words"],
            &[
                ("GET", "/orders", near, true),
                ("POST", "/words/x", near, true),
                ("GET", "/", near, false),
                ("GET", "/ordersx", near, false),
                ("GET", "/public", near, false),
            ],
        ),
        // A route without a name is named after its path.
        (
            &["--allow-route", "/"],
            &[("GET", "/x", near, true), ("GET", "/orders", near, false)],
        ),
        (
            &[
                "--allow-route",
                "orders",
                "--allow-method",
                "GET",
                "--allow-ip",
                "192.0.2.7",
            ],
            &[
                ("GET", "/orders", near, true),
                ("POST", "/orders", near, false),
                ("GET", "/", near, false),
                ("GET", "/orders", "192.0.2.8", false),
            ],
        ),
    ] {
        let key = rig.key("acme", restriction);
        for (method, path, address, passes) in attempts {
            let mut connection = Connection::open(rig.public);
            connection.send(format!(
                "{method} {path} HTTP/1.1\r\nhost: h\r\n{}\r\nx-forwarded-for: {address}\r\n\r\n",
                key.header()
            ));
            let answer = match *method {
                "HEAD" => connection.head(),
                _ => connection.response(),
            };
            let what = format!("{restriction:?}: {method} {path} from {address}: {answer:?}");
            assert_eq!(answer.status, if *passes { 200 } else { 403 }, "{what}");
            if !passes && *method != "HEAD" {
                assert_eq!(answer.code(), "key_restricted", "{what}");
                let told = answer.json()["detail"].as_str().unwrap().to_owned();
                assert!(
                    told == "The credential may not be used for this."
                        || told == "The credential may not be used from this address.",
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn an_edit_of_the_restrictions_is_in_force_at_once_and_a_roll_keeps_them() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), ROUTES);
    let key = rig.key("acme", &["--allow-route", "orders"]);
    let code = |path: &str, key: &str| {
        get(rig.public, path, &[&format!("authorization: Bearer {key}")]).code_or_ok()
    };
    assert_eq!(code("/", &key.key), "key_restricted");
    for (edit, at_root, at_orders) in [
        (&["--allow-any-route"][..], "ok", "ok"),
        (
            &["--allow-method", "POST"],
            "key_restricted",
            "key_restricted",
        ),
        (
            &["--allow-any-method", "--allow-ip", "::1"],
            "key_restricted",
            "key_restricted",
        ),
        (
            &["--allow-any-ip", "--allow-route", "/"],
            "ok",
            "key_restricted",
        ),
    ] {
        rig.done(&[&["keys", "update", &key.id], edit].concat());
        assert_eq!(code("/", &key.key), at_root, "{edit:?}");
        assert_eq!(code("/orders", &key.key), at_orders, "{edit:?}");
    }
    let rolled = rig.done(&["keys", "roll", &key.id, "--json"]);
    let rolled: serde_json::Value = serde_json::from_str(&rolled).unwrap();
    let new = rolled["key"].as_str().unwrap();
    assert_eq!(code("/", new), "ok");
    assert_eq!(code("/orders", new), "key_restricted");
}

#[test]
fn the_access_log_says_which_restriction_it_was() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), ROUTES).unwrap();
    let process = Process::start(directory, &origin.url(), &[]);
    let mut expected = BTreeSet::new();
    for (restriction, cause) in [
        (["--allow-ip", "192.0.2.7"], "address"),
        (["--allow-method", "POST"], "method"),
        (["--allow-route", "orders"], "route"),
    ] {
        let key = process.key_with("acme", &restriction);
        assert_eq!(
            get(process.public, "/", &[&key]).code_or_ok(),
            "key_restricted"
        );
        expected.insert(cause.to_owned());
    }
    eventually("they are logged", || process.access_log().len() == 3);
    let causes = process.access_log().into_iter();
    let causes: BTreeSet<String> = causes
        .map(|line| line["cause"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(causes, expected);
}
