//! Routes that only observe: nobody is refused for want of a good key, and nobody passes for someone else.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use postern_gateway::keys::{PlainKey, Prefix};

use crate::client::{Connection, DEADLINE, get};
use crate::origin::Origin;
use crate::rig::{Process, Rig, gateway};
use crate::running::eventually;

/// Headers by which an origin tells callers apart.
const IDENTITY: [&str; 6] = [
    "x-consumer-id",
    "x-consumer-username",
    "x-consumer-custom-id",
    "x-consumer-groups",
    "x-consumer-metadata",
    "x-credential-identifier",
];

fn process(file: &str, origin: &Origin) -> Process {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    Process::start(directory, &origin.url(), &[])
}

/// The key in a header line.
fn key_in(line: &str) -> &str {
    line.rsplit(' ').next().unwrap()
}

/// Ends the key in a header line.
fn end(process: &Process, line: &str, how: &str) {
    let id = process.id_of(key_in(line));
    process.done(&["keys", how, &id]);
}

#[test]
fn nobody_is_refused_and_nobody_passes_for_someone_else() {
    let origin = Origin::hello();
    let process = process(
        "[brake]\nfailures = 1\nwindow = \"1day\"\nblock = \"all\"\n\
         [[routes]]\npath = \"/\"\nauth = [\"observe\"]\nscopes = [\"here\"]\nbuckets = [\"default\"]\n",
        &origin,
    );
    process.done(&["buckets", "create", "partners"]);
    let with = |consumer: &str, arguments: &[&str]| {
        process.key_with(consumer, &[&["--scope", "here"], arguments].concat())
    };
    let good = with("acme", &[]);
    let (revoked, disabled) = (with("acme", &[]), with("acme", &[]));
    end(&process, &revoked, "revoke");
    end(&process, &disabled, "disable");
    let of_others = PlainKey::generate(&Prefix::default()).unwrap();
    let unknown = format!("authorization: Bearer {}", of_others.expose());
    let last = if good.ends_with('0') { '1' } else { '0' };
    let mistyped = format!("{}{last}", &good[..good.len() - 1]);
    let basic = format!(
        "authorization: Basic {}",
        BASE64_STANDARD.encode("me:secret")
    );
    let cases: Vec<(Vec<String>, &str, &str, bool)> = vec![
        (vec![], "api_key_missing", "no_header", true),
        (vec![basic.clone()], "api_key_missing", "other_scheme", true),
        (
            vec!["authorization: Bearer of-the-backend".to_owned()],
            "api_key_invalid",
            "unknown",
            true,
        ),
        (
            vec!["authorization: Bearer a,b".to_owned()],
            "api_key_invalid",
            "bad_character",
            true,
        ),
        (
            vec!["x-api-key: of-the-backend".to_owned()],
            "api_key_missing",
            "other_header",
            true,
        ),
        (
            vec![basic, "authorization: Bearer of-the-backend".to_owned()],
            "invalid_request",
            "twice",
            true,
        ),
        (vec![unknown], "api_key_invalid", "unknown", false),
        (vec![mistyped], "api_key_invalid", "checksum", false),
        (vec![revoked], "api_key_revoked", "revoked", false),
        (vec![disabled], "api_key_disabled", "disabled", false),
        (
            vec![process.key_with("other", &["--scope", "elsewhere"])],
            "insufficient_scope",
            "scope",
            false,
        ),
        (
            vec![with("partner", &["--bucket", "partners"])],
            "key_restricted",
            "bucket",
            false,
        ),
        (
            vec![with("acme", &["--allow-ip", "192.0.2.1"])],
            "key_restricted",
            "address",
            false,
        ),
        (
            vec![with("acme", &["--allow-method", "POST"])],
            "key_restricted",
            "method",
            false,
        ),
        (
            vec![with("acme", &["--allow-route", "elsewhere"])],
            "key_restricted",
            "route",
            false,
        ),
    ];
    let forged = [
        "x-consumer-id: csmr_0",
        "x-consumer-username: root",
        "x-credential-identifier: key_0",
    ];
    let count = cases.len();
    for (lines, code, cause, stays) in cases {
        origin.forget();
        let sent: Vec<&str> = lines.iter().map(String::as_str).chain(forged).collect();
        let before = process.access_log().len();
        let answer = get(process.public, "/", &sent);
        let what = format!("{lines:?}");
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let arrived = origin.only();
        assert_eq!(arrived.one("x-anonymous-consumer"), Some("true"), "{what}");
        for name in IDENTITY {
            assert_eq!(arrived.one(name), None, "{what}: {name}");
        }
        for line in &lines {
            let (name, value) = line.split_once(": ").unwrap();
            let found = arrived.all(name).contains(&value);
            assert_eq!(found, stays, "{what}: {arrived:?}");
        }
        eventually("it is logged", || process.access_log().len() > before);
        let logged = process.access_log().pop().unwrap();
        assert_eq!(logged["would_refuse"], code, "{what}: {logged}");
        assert_eq!(logged["would_refuse_cause"], cause, "{what}: {logged}");
        assert!(
            logged["code"].is_null() && logged["cause"].is_null(),
            "{logged}"
        );
        let is_known = !matches!(
            code,
            "api_key_missing" | "api_key_invalid" | "invalid_request"
        );
        assert_eq!(logged["key"].is_string(), is_known, "{what}: {logged}");
    }
    origin.forget();
    assert_eq!(get(process.public, "/", &[&good, forged[0]]).status, 200);
    let arrived = origin.only();
    assert_eq!(arrived.one("x-consumer-username"), Some("acme"));
    assert_eq!(
        (
            arrived.one("x-anonymous-consumer"),
            arrived.one("authorization")
        ),
        (None, None)
    );
    eventually("it is logged", || process.access_log().len() > count);
    assert!(process.access_log().pop().unwrap()["would_refuse"].is_null());
    assert_eq!(
        sum(process.admin, "postern_auth_would_be_refused_total"),
        count
    );
    assert_eq!(sum(process.admin, "postern_credentials_refused_total"), 0);
}

/// Sum of the samples of a family.
fn sum(admin: SocketAddr, family: &str) -> usize {
    let page = get(admin, "/metrics", &[]).text();
    let samples = page.lines().filter(|line| line.starts_with(family));
    samples
        .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
        .sum()
}

#[test]
fn a_key_of_ours_is_removed_from_its_place_and_other_credentials_stay_there() {
    let origin = Origin::hello();
    let rig = Rig::with(
        &origin.url(),
        "[[routes]]\nauth = [\"key\", \"observe\"]\nkey_sources = [\"cookie:key\", \"query:token\", \"header:x-api-key\"]\n",
    );
    let key = rig.key("acme", &[]);
    let ended = rig.key("acme", &[]);
    rig.done(&["keys", "revoke", &ended.id]);
    for (target, line, arrives_at, arrives) in [
        (
            "/a?token=theirs&b=1",
            "x-any: 1",
            "/a?token=theirs&b=1",
            None,
        ),
        (
            "/a?b=1",
            "x-api-key: theirs",
            "/a?b=1",
            Some(("x-api-key", "theirs")),
        ),
        (
            "/a",
            "cookie: session=1; key=theirs",
            "/a",
            Some(("cookie", "session=1; key=theirs")),
        ),
    ] {
        origin.forget();
        assert_eq!(get(rig.public, target, &[line]).status, 200);
        let arrived = origin.only();
        assert!(
            arrived.line.contains(&format!(" {arrives_at} ")),
            "{}",
            arrived.line
        );
        if let Some((name, value)) = arrives {
            assert_eq!(arrived.one(name), Some(value));
        }
        assert_eq!(arrived.one("x-anonymous-consumer"), Some("true"));
    }
    for (key, is_good) in [(&key.key, true), (&ended.key, false)] {
        for (target, line, arrives_at, cookie) in [
            (
                format!("/a?token={key}&b=1"),
                "x-any: 1".to_owned(),
                "/a?b=1",
                None,
            ),
            (
                "/a?b=1".to_owned(),
                format!("x-api-key: {key}"),
                "/a?b=1",
                None,
            ),
            (
                "/a".to_owned(),
                format!("cookie: session=1; key={key}"),
                "/a",
                Some("session=1"),
            ),
        ] {
            origin.forget();
            assert_eq!(
                get(rig.public, &target, &[&line]).status,
                200,
                "{target} {line}"
            );
            let arrived = origin.only();
            assert!(
                arrived.line.contains(&format!(" {arrives_at} ")),
                "{}",
                arrived.line
            );
            assert_eq!(arrived.one("cookie"), cookie);
            assert_eq!(arrived.one("x-api-key"), None);
            assert_eq!(arrived.one("x-anonymous-consumer").is_none(), is_good);
            assert_eq!(arrived.one("x-consumer-username").is_some(), is_good);
            assert!(!format!("{arrived:?}").contains(key.as_str()));
        }
    }
    // A key of another system, too short to be searched for, that was imported and has ended.
    let file = rig.directory.path().join("keys.csv");
    std::fs::write(&file, "consumer,key,state\nold,short-key-1,revoked\n").unwrap();
    rig.done(&["import", file.to_str().unwrap(), "--allow-weak"]);
    for (sent, arrives) in [("short-key-1", None), ("short-key-2", Some("short-key-2"))] {
        origin.forget();
        let line = format!("x-api-key: {sent}");
        assert_eq!(get(rig.public, "/a", &[&line]).status, 200);
        assert_eq!(origin.only().one("x-api-key"), arrives);
    }
    // A key in a place that is not the route's is a key in a URL.
    let refused = get(rig.public, &format!("/a?other={}", key.key), &[]);
    assert_eq!(refused.code(), "key_in_url");
    // The same key twice: no origin sees either.
    origin.forget();
    let twice = get(
        rig.public,
        &format!("/a?token={0}", key.key),
        &[&format!("x-api-key: {}", key.key)],
    );
    assert!(twice.status == 200, "{}", twice.text());
    assert!(!format!("{:?}", origin.only()).contains(&key.key));
}

#[test]
fn another_proxy_is_told_the_same_and_what_it_has_to_remove() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), "[[routes]]\nauth = [\"observe\"]\n");
    let (good, ended) = (rig.key("acme", &[]), rig.key("acme", &[]));
    rig.done(&["keys", "revoke", &ended.id]);
    for (line, consumer, anonymous, is_removed) in [
        (good.header(), "acme", "", true),
        (ended.header(), "", "true", true),
        (
            "authorization: Bearer of-the-backend".to_owned(),
            "",
            "true",
            false,
        ),
        ("x-any: 1".to_owned(), "", "true", false),
    ] {
        let answer = get(rig.admin, "/v1/auth/", &[&line]);
        assert_eq!(answer.status, 200, "{line}: {}", answer.text());
        assert_eq!(
            answer.header("x-consumer-username"),
            Some(consumer),
            "{line}"
        );
        assert_eq!(
            answer.header("x-anonymous-consumer"),
            Some(anonymous),
            "{line}"
        );
        let removed = answer.header("x-envoy-auth-headers-to-remove").unwrap();
        let removes = removed.split(',').any(|name| name == "authorization");
        assert_eq!(removes, is_removed, "{line}: {removed}");
    }
}

#[test]
fn requests_without_a_key_do_not_share_the_room_of_one() {
    let origin = Origin::answering(|_, socket| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
        let _ = socket.write_all(head.as_bytes());
        let _ = socket.set_read_timeout(Some(DEADLINE));
        let _ = socket.read(&mut [0; 64]);
    });
    let rig = Rig::with(
        &origin.url(),
        "[listen]\nmax_requests_in_flight = 20\nmax_requests_in_flight_per_key = 1\n\
         [[routes]]\npath = \"/observed\"\nauth = [\"observe\"]\n\
         [[routes]]\npath = \"/public\"\non_missing_key = \"anonymous\"\n",
    );
    let open = |path: &str| {
        let mut connection = Connection::open(rig.public);
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"));
        let status = connection.head().status;
        (connection, status)
    };
    let observed = [(); 4].map(|()| open("/observed"));
    assert_eq!(observed.each_ref().map(|(_, status)| *status), [200; 4]);
    let public = [open("/public"), open("/public")];
    assert_eq!(public.each_ref().map(|(_, status)| *status), [200, 503]);
}

#[test]
fn failures_there_do_not_brake_anyone() {
    let origin = Origin::hello();
    let rig = Rig::with(
        &origin.url(),
        "[brake]\nwindow = \"1day\"\nblock = \"all\"\n\
         [[routes]]\npath = \"/old\"\nauth = [\"observe\"]\n[[routes]]\npath = \"/new\"\n",
    );
    let good = rig.key("acme", &[]);
    for _ in 0..60 {
        let answer = get(rig.public, "/old", &[&crate::brake::unknown_key()]);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(rig.get("/new", &good).status, 200);
    while get(rig.public, "/new", &[&crate::brake::unknown_key()]).status != 429 {}
    assert_eq!(rig.get("/new", &good).status, 429);
    assert_eq!(rig.get("/old", &good).status, 200);
    assert_eq!(
        get(rig.public, "/old", &[&crate::brake::unknown_key()]).status,
        200
    );
}

#[test]
fn a_route_that_protects_nothing_is_named_and_contradictions_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let check = |file: &str| {
        std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
        let output = gateway(
            directory.path(),
            &[("SHARED_SECRET", crate::rig::SECRET)],
            &["check"],
        );
        let err = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), err)
    };
    for (file, code, said) in [
        (
            "[[routes]]\nname = \"v1\"\nauth = [\"observe\"]\n",
            Some(0),
            "routes[0] (\"v1\") only observes: it lets every request pass",
        ),
        (
            "[[routes]]\nname = \"v1\"\nauth = [\"key\", \"observe\"]\nscopes = [\"a\"]\n",
            Some(0),
            "protects nothing there",
        ),
        (
            "[auth]\nmethods = [\"observe\"]\n",
            Some(0),
            "auth.methods: the gateway only observes",
        ),
        (
            "[auth]\nmethods = [\"observe\"]\n[[routes]]\nname = \"v1\"\n",
            Some(0),
            "routes[0] (\"v1\") only observes",
        ),
        (
            "[[routes]]\nauth = [\"observe\"]\non_missing_key = \"anonymous\"\n",
            Some(2),
            "leave on_missing_key out",
        ),
        (
            "[[routes]]\nauth = [\"observe\"]\non_missing_key = \"reject\"\n",
            Some(2),
            "leave on_missing_key out",
        ),
        (
            "[[routes]]\nauth = [\"observe\", \"observe\"]\n",
            Some(2),
            "takes these credentials already",
        ),
        ("[[routes]]\nauth = [\"watch\"]\n", Some(2), "\"observe\""),
        // The rest of a strict route falls to one that observes.
        (
            "[[routes]]\npath = \"/v1\"\nmethods = [\"POST\"]\n[[routes]]\npath = \"/\"\nauth = [\"observe\"]\n",
            Some(0),
            "which asks for less",
        ),
    ] {
        let (status, err) = check(file);
        assert_eq!(status, code, "{file}: {err}");
        assert!(err.contains(said), "{file}: {err}");
    }
    let (_, err) = check("[[routes]]\nauth = [\"key\"]\n");
    assert!(!err.contains("observes"), "{err}");
}
