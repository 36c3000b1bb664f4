use proptest::prelude::*;

use super::*;

/// Readings of a path, as text.
fn readings(path: &str) -> Vec<String> {
    let mut all = Vec::new();
    let done = each_reading(path.as_bytes(), |reading| {
        all.push(String::from_utf8_lossy(reading).into_owned());
        ControlFlow::<()>::Continue(())
    });
    assert!(done.is_ok(), "{path} has too many readings");
    all
}

/// Paths by which Tomcat 10.1 finds a handler (`getServletPath` and `getPathInfo`), measured with
/// the embedded server; `None` is a refusal. It strips parameters, decodes escapes once, then
/// resolves `//` and dot segments.
const TOMCAT: [(&str, Option<&str>); 16] = [
    ("/api/admin", Some("/api/admin")),
    ("/;/api/admin", Some("/api/admin")),
    ("/api/;/admin", Some("/api/admin")),
    ("/api;v=1/admin;x", Some("/api/admin")),
    ("/api//admin", Some("/api/admin")),
    ("/api/%61dmin", Some("/api/admin")),
    ("/files/../api/admin", Some("/api/admin")),
    ("/files/..;/api/admin", Some("/api/admin")),
    ("/files/%2e%2e/api/admin", Some("/api/admin")),
    ("/api%3bv/admin", Some("/api;v/admin")),
    ("/api/admin.", Some("/api/admin.")),
    ("/api/%2561dmin", Some("/api/%61dmin")),
    ("/API/admin", Some("/API/admin")),
    ("/v1/users%3Apurge", Some("/v1/users:purge")),
    ("/api%2fadmin", None),
    ("/api%5cadmin", None),
];

/// Paths that the routers of Express 4 and 5 match, before case folding: the path as written.
const EXPRESS: [(&str, &str); 6] = [
    ("/api/admin", "/api/admin"),
    ("/api/%61dmin", "/api/%61dmin"),
    ("/api;v=1/admin", "/api;v=1/admin"),
    ("/api//admin", "/api//admin"),
    ("/files/../api/admin", "/files/../api/admin"),
    ("/api%2fadmin", "/api%2fadmin"),
];

#[test]
fn what_tomcat_and_express_read_is_among_the_readings() {
    for (path, read) in TOMCAT {
        if let Some(read) = read {
            assert!(
                readings(path).iter().any(|reading| reading == read),
                "{path}"
            );
        }
    }
    for (path, read) in EXPRESS {
        assert!(
            readings(path).iter().any(|reading| reading == read),
            "{path}"
        );
    }
}

#[test]
fn every_step_is_taken() {
    for (path, read) in [
        ("/%2f%41", "//A"),
        ("/%2f%41", "/%2fA"),
        ("/%3a%41", "/%3aA"),
        ("/%c1%81", "/A"),
        ("/%e0%81%81", "/A"),
        ("/%f0%80%81%81", "/A"),
        ("/a%ffb", "/ab"),
        ("/%ef%bd%81%ef%bc%8f%c5%bf%e2%84%aa", "/a/sk"),
        ("/a;b/c;d", "/a/c"),
        ("/a;b/c", "/a"),
        ("/a///b", "/a/b"),
        ("//a/b", "/b"),
        ("//a", "/"),
        ("/a/./b/../c", "/a/c"),
        ("/../../a", "/a"),
        ("/a/..", "/"),
        ("/a\\b", "/a/b"),
        ("/a. ./ b.", "/a/b"),
        ("/a\tb", "/ab"),
        ("/a%00b", "/a"),
        ("/a%3fb", "/a"),
        ("/a%23b", "/a"),
        ("/%25252e%25252e/a", "/../a"),
        // Several steps, in the order of one origin or another.
        ("/a/..;x/b", "/b"),
        ("/a/..%3bx/b", "/b"),
        ("/a/%2e%2e%5cb", "/b"),
        ("/a/%c0%ae%c0%ae%c0%afb", "/b"),
        // UTF-16 escapes, and look-alikes of dots, slashes and letters.
        ("/%u0041%U0062", "/Ab"),
        ("/a/%u002e%u002e/b", "/b"),
        ("/a/%uff0e%uff0e%u2215b", "/b"),
        ("/a/%25u002e%25u002e/b", "/b"),
        ("/a/%e2%80%a5/b", "/b"),
        ("/a/%e2%80%a4%e2%80%a4%e2%81%84b", "/b"),
        ("/a/..%e2%88%95b", "/b"),
        ("/a/..%e2%88%96b", "/b"),
        ("/adm%c4%b1n/%c4%b0", "/admin/i"),
        ("/a%cd%beb", "/a"),
    ] {
        let all = readings(path);
        assert!(
            all.iter().any(|reading| reading == read),
            "{path}: {read} is not in {all:?}"
        );
    }
}

#[test]
fn a_plain_path_is_one_that_no_step_changes() {
    for (path, plain) in [
        ("/", true),
        ("/a/b.c/.well-known/d-e_f~g", true),
        ("/a:b@c!$&'()*+,=[]|", true),
        ("/a/", true),
        ("/..a/.b", true),
        ("//", false),
        ("/a.", false),
        ("/a./b", false),
        ("/.", false),
        ("/../a", false),
        ("/%61", false),
        ("/a;b", false),
        ("/a\\b", false),
        ("/a b", false),
        ("/\u{e9}", false),
    ] {
        assert_eq!(is_plain(path.as_bytes()), plain, "{path}");
    }
}

/// Paths built from the input and the output of steps.
const ODD: &str = "/(api|admin|%61dmin|a|/|//|;|;a|%3b|\\.|\\.\\.|%2e|%2E%2e|%252e|%2f|%252F|%5c|\\\\|%00|%c0%af|%c0%ae|%u002e|%u2215|%e2%80%a5|%ff|%ef%bc%8f|%20|%3f|%|%25|%2561){0,7}";

proptest! {
    #[test]
    fn whatever_an_origin_is_composed_of_it_reads_one_of_the_readings(
        path in ODD,
        order in proptest::collection::vec(0..STEPS.len(), 0..12),
    ) {
        let mut read = path.clone().into_bytes();
        for step in order {
            read = STEPS[step].1(&read).unwrap_or(read);
        }
        let mut found = false;
        let done = each_reading(path.as_bytes(), |reading| {
            found |= reading == read;
            ControlFlow::<()>::Continue(())
        });
        prop_assert!(found || done.is_err(), "{path} read as {}", String::from_utf8_lossy(&read));
    }

    #[test]
    fn no_step_changes_a_plain_path(path in "(/|\\.|-|~|:|@|[a-zA-Z0-9]|\\[|\\*|\\+){0,20}") {
        if is_plain(path.as_bytes()) {
            for (name, step) in &STEPS {
                prop_assert!(step(path.as_bytes()).is_none(), "{path}: {name}");
            }
        }
    }

    #[test]
    fn every_step_ends_and_leaves_a_path(path in "/\\PC{0,40}") {
        for (name, step) in &STEPS {
            if let Some(read) = step(path.as_bytes()) {
                prop_assert!(read.is_empty() || read[0] == b'/', "{path}: {name}");
            }
        }
    }
}
