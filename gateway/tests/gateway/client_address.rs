//! Whose address it is behind trusted proxies: elements of `X-Forwarded-For` × keys limited to addresses × both places that decide.

use crate::client::get;
use crate::origin::Origin;
use crate::rig::{Key, Process, Rig};
use crate::running::eventually;

const TRUSTING: &str = "[listen]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";

/// Which of the keys below is let in.
#[derive(Clone, Copy, Debug)]
enum From {
    /// The network that the proxy and the inner consumer are in.
    Inside,
    /// The network of the outer consumer.
    Outside,
    /// Nobody can say.
    Unknown,
}

/// Elements, what the origin is told of the client, and where that is.
const ELEMENTS: [(&str, &str, From); 36] = [
    ("203.0.113.7", "203.0.113.7", From::Outside),
    ("203.0.113.7:51008", "203.0.113.7", From::Outside),
    ("203.0.113.7:_port", "203.0.113.7", From::Outside),
    ("[::ffff:203.0.113.7]:51008", "203.0.113.7", From::Outside),
    ("::ffff:203.0.113.7", "203.0.113.7", From::Outside),
    ("2001:db8::7", "2001:db8::7", From::Outside),
    ("[2001:db8::7]", "2001:db8::7", From::Outside),
    ("[2001:db8::7]:443", "2001:db8::7", From::Outside),
    ("10.0.0.7, 203.0.113.7:51008", "203.0.113.7", From::Outside),
    ("unknown, 203.0.113.7", "203.0.113.7", From::Outside),
    ("10.0.0.7", "10.0.0.7", From::Inside),
    ("10.0.0.7:51008", "10.0.0.7", From::Inside),
    ("[::ffff:10.0.0.7]:51008", "10.0.0.7", From::Inside),
    ("203.0.113.7, 10.0.0.7:1", "10.0.0.7", From::Inside),
    ("", "unknown", From::Unknown),
    ("unknown", "unknown", From::Unknown),
    ("_hidden", "unknown", From::Unknown),
    ("_SEVKISEK:_x", "unknown", From::Unknown),
    ("localhost", "unknown", From::Unknown),
    ("203.0.113.7:", "unknown", From::Unknown),
    ("203.0.113.7:port", "unknown", From::Unknown),
    ("203.0.113.7:65536", "unknown", From::Unknown),
    ("010.0.0.7", "unknown", From::Unknown),
    ("10.0.0.7/8", "unknown", From::Unknown),
    ("[10.0.0.7]:443", "unknown", From::Unknown),
    ("[2001:db8::7", "unknown", From::Unknown),
    ("[2001:db8::7]443", "unknown", From::Unknown),
    ("fe80::7%eth0", "unknown", From::Unknown),
    ("\"203.0.113.7\"", "unknown", From::Unknown),
    ("\"[2001:db8::7]:443\"", "unknown", From::Unknown),
    ("for=203.0.113.7", "unknown", From::Unknown),
    ("<script>", "unknown", From::Unknown),
    ("10.0.0.7,", "unknown", From::Unknown),
    ("10.0.0.7, ,", "unknown", From::Unknown),
    ("10.0.0.7, unknown", "unknown", From::Unknown),
    ("203.0.113.7, garbage", "unknown", From::Unknown),
];

/// A key of a consumer that may call from `ranges` only.
fn restricted(rig: &Rig, name: &str, ranges: &str) -> Key {
    let key = rig.key(name, &[]);
    rig.done(&["consumers", "update", name, "--allow-ip", ranges]);
    eventually("it is restricted", || {
        let line = "x-forwarded-for: unknown";
        get(rig.public, "/", &[&key.header(), line]).code_or_ok() == "key_restricted"
    });
    key
}

#[test]
fn an_element_is_the_client_or_nobody_is_and_never_the_proxy() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), TRUSTING);
    let inner = restricted(&rig, "inner", "127.0.0.0/8,10.0.0.0/8,::1");
    let outer = restricted(&rig, "outer", "203.0.113.0/24,2001:db8::/32");
    let everyone = restricted(&rig, "everyone", "0.0.0.0/0,::/0");
    let free = rig.key("free", &[]);
    for (element, client, from) in ELEMENTS {
        let line = format!("x-forwarded-for: {element}");
        for (key, is_in) in [
            (&inner, matches!(from, From::Inside)),
            (&outer, matches!(from, From::Outside)),
            (&everyone, !matches!(from, From::Unknown)),
            (&free, true),
        ] {
            let wanted = if is_in { "ok" } else { "key_restricted" };
            let before = origin.arrived().len();
            let public = get(rig.public, "/", &[&key.header(), &line]);
            assert_eq!(public.code_or_ok(), wanted, "{element:?}");
            let arrived = origin.arrived().split_off(before);
            assert_eq!(arrived.len(), usize::from(is_in), "{element:?}");
            for arrived in arrived {
                let told = format!("{client}, 127.0.0.1");
                assert_eq!(
                    arrived.one("x-forwarded-for"),
                    Some(told.as_str()),
                    "{element:?}"
                );
            }
            let key = key.header();
            let asked = get(rig.admin, "/v1/auth", &[&key, &line, "x-original-uri: /"]);
            assert_eq!(asked.code_or_ok(), wanted, "/v1/auth: {element:?}");
        }
    }
}

#[test]
fn several_lines_are_one_list_in_their_order() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), TRUSTING);
    let outer = restricted(&rig, "outer", "203.0.113.0/24");
    for (lines, code) in [
        (&["10.0.0.7", "203.0.113.7"][..], "ok"),
        (&["203.0.113.7", "127.0.0.9"], "ok"),
        (
            &[
                "203.0.113.7:1",
                "127.0.0.9:2, 127.0.0.8",
                "[::ffff:127.0.0.7]:3",
            ],
            "ok",
        ),
        (&["203.0.113.7", "10.0.0.7"], "key_restricted"),
        (&["203.0.113.7", "unknown"], "key_restricted"),
        (&["203.0.113.7", ""], "key_restricted"),
        (&["", "203.0.113.7"], "ok"),
    ] {
        let mut sent = vec![outer.header()];
        sent.extend(lines.iter().map(|line| format!("x-forwarded-for: {line}")));
        let sent: Vec<&str> = sent.iter().map(String::as_str).collect();
        assert_eq!(get(rig.public, "/", &sent).code_or_ok(), code, "{lines:?}");
    }
    let hops = |count: usize| {
        format!(
            "x-forwarded-for: 203.0.113.7{}",
            ", 127.0.0.9".repeat(count)
        )
    };
    for (line, code) in [
        (hops(31), "ok"),
        (hops(32), "key_restricted"),
        (hops(1_000), "key_restricted"),
    ] {
        let found = get(rig.public, "/", &[&outer.header(), &line]).code_or_ok();
        assert_eq!(found, code, "{} bytes", line.len());
    }
}

#[test]
fn a_proxy_that_names_its_client_in_another_header_is_not_taken_for_it() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), TRUSTING);
    let inner = restricted(&rig, "inner", "127.0.0.0/8");
    let from = |lines: &[&str]| {
        let key = inner.header();
        let lines = [&[key.as_str()], lines].concat();
        get(rig.public, "/", &lines).code_or_ok()
    };
    assert_eq!(from(&[]), "ok");
    assert_eq!(from(&["forwarded: for=203.0.113.7"]), "key_restricted");
    assert_eq!(from(&["forwarded: for=127.0.0.1"]), "key_restricted");
    for name in [
        "x-real-ip",
        "true-client-ip",
        "CF-Connecting-IP",
        "x-client-ip",
    ] {
        assert_eq!(
            from(&[&format!("{name}: 127.0.0.1")]),
            "key_restricted",
            "{name}"
        );
    }
    assert_eq!(
        from(&["x-forwarded-for: 127.0.0.7", "forwarded: for=1.2.3.4"]),
        "ok"
    );
}

#[test]
fn the_access_log_says_that_a_client_is_unknown() {
    let origin = Origin::hello();
    let process = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[("GATEWAY__LISTEN__TRUSTED_PROXIES", "127.0.0.0/8")],
    );
    let key = process.key("acme");
    for (element, client) in [
        ("203.0.113.7:51008", "203.0.113.7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("unknown", "unknown"),
    ] {
        let path = format!("/of/{client}");
        let line = format!("x-forwarded-for: {element}");
        assert_eq!(get(process.public, &path, &[&key, &line]).status, 200);
        eventually("the line is there", || {
            let lines = process.access_log();
            lines
                .iter()
                .any(|line| line["path"] == path.as_str() && line["client"] == client)
        });
    }
}
