use proptest::prelude::*;

use super::*;
use crate::import::reading::BadLine;
use crate::keys::KeyDigest;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn read(text: &str) -> Vec<Result<TransferRow, ReadError>> {
    super::read(
        text,
        &Defaults {
            allow_weak: true,
            ..Defaults::default()
        },
        NOW,
    )
}

fn skipping(text: &str) -> Vec<Result<TransferRow, ReadError>> {
    let defaults = Defaults {
        allow_weak: true,
        skip_unsupported: true,
        ..Defaults::default()
    };
    super::read(text, &defaults, NOW)
}

fn good(text: &str) -> Vec<TransferRow> {
    read(text)
        .into_iter()
        .filter(|row| !matches!(row, Err(ReadError::NotTaken(_))))
        .map(Result::unwrap)
        .collect()
}

const NESTED: &str = r#"_format_version: "3.0"
services:
- name: example
  url: http://example.org
consumers:
- username: acme
  custom_id: "42"
  tags: [gold, "env:prod"]
  acls:
  - group: read
  - group: write
  keyauth_credentials:
  - key: sk_live_1
    tags: [old]
    ttl: 3600
  - key: sk_live_2
    created_at: 1600000000
- username: nobody
"#;

#[test]
fn nested_credentials_become_rows() {
    let rows = good(NESTED);
    let [first, second, keyless] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!([first.line, second.line, keyless.line], [13, 16, 18]);
    for row in [first, second] {
        assert_eq!(
            (
                row.consumer.name.as_str(),
                row.consumer.attributes.scopes.as_str()
            ),
            ("acme", "read write")
        );
        assert_eq!(
            row.consumer.attributes.custom_id.as_ref().unwrap().as_str(),
            "42"
        );
        assert_eq!(
            row.consumer.attributes.tags.iter().collect::<Vec<_>>(),
            [("env", "prod"), ("gold", "")]
        );
    }
    let key = first.key.as_ref().unwrap();
    assert_eq!(key.digest, KeyDigest::of(b"sk_live_1"));
    assert_eq!(
        key.attributes.expires_at,
        Some(UnixMillis(NOW.0 + 3_600_000))
    );
    assert_eq!(
        key.attributes.description.as_ref().unwrap().as_str(),
        "tags: old"
    );
    assert_eq!(
        second.key.as_ref().unwrap().created_at,
        Some(UnixMillis(1_600_000_000_000))
    );
    assert_eq!(
        (keyless.consumer.name.as_str(), &keyless.key),
        ("nobody", &None)
    );
}

#[test]
fn lists_of_their_own_refer_to_consumers() {
    let text = r#"{"_format_version": "3.0",
            "keyauth_credentials": [
                {"key": "sk_live_1", "consumer": "acme"},
                {"key": "sk_live_2", "consumer": {"id": "b3c1"}},
                {"key": "sk_live_3", "consumer": "elsewhere"}],
            "acls": [{"group": "read", "consumer": "b3c1"}, {"group": "read", "consumer": "nobody"}],
            "consumers": [{"username": "acme", "id": "a1"}, {"username": "other", "id": "b3c1"}]}"#;
    let (rows, bad): (Vec<_>, Vec<_>) = read(text).into_iter().partition(Result::is_ok);
    let seen: Vec<_> = rows
        .iter()
        .flatten()
        .map(|row| {
            (
                row.line,
                row.consumer.name.as_str(),
                row.consumer.attributes.scopes.as_str(),
            )
        })
        .collect();
    assert_eq!(seen, [(3, "acme", ""), (4, "other", "read")]);
    let lines: Vec<u64> = bad
        .iter()
        .map(|bad| match bad {
            Err(ReadError::Bad(bad)) if bad.reason == NOBODY => bad.line,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lines, [6, 5], "references to nobody");
}

#[test]
fn a_custom_id_takes_nobodys_key_or_scope() {
    let text = r#"{"_format_version": "3.0",
            "consumers": [
                {"username": "alice", "custom_id": "bob"}, {"username": "bob"},
                {"custom_id": "carol"},
                {"custom_id": "bob", "keyauth_credentials": [{"key": "sk_live_3"}]}],
            "keyauth_credentials": [
                {"key": "sk_live_1", "consumer": "bob"},
                {"key": "sk_live_2", "consumer": {"username": "carol"}}],
            "acls": [{"group": "admin", "consumer": "bob"}, {"group": "read", "consumer": "carol"}]}"#;
    let (rows, bad): (Vec<_>, Vec<_>) = read(text).into_iter().partition(Result::is_ok);
    let [Err(ReadError::Bad(BadLine { line: 5, reason }))] = bad.as_slice() else {
        panic!("{bad:?}")
    };
    assert!(
        reason.contains("its only name is its `custom_id`"),
        "{reason}"
    );
    let seen: Vec<_> = rows
        .iter()
        .flatten()
        .map(|row| {
            (
                row.consumer.name.as_str(),
                row.consumer.attributes.scopes.as_str(),
                row.key.as_ref().map(|key| key.digest),
            )
        })
        .collect();
    let key = |text: &str| Some(KeyDigest::of(text.as_bytes()));
    assert_eq!(
        seen,
        [
            ("bob", "admin", key("sk_live_1")),
            ("carol", "read", key("sk_live_2")),
            ("alice", "", None),
        ]
    );
}

#[test]
fn what_is_wrong_has_its_line_and_never_the_key() {
    // `LINE => PART OF THE REASON => FILE`; `⏎` ends a line of the file.
    let table = r#"
        1 => neither => _format_version: "3.0"
        4 => Kong's declarative file => consumers: ⏎ - username: a ⏎   keyauth_credentials: ⏎   - key: [s3cr3t]
        4 => Kong's declarative file => consumers: ⏎ - username: a ⏎   keyauth_credentials: ⏎   - key: 's3cr3t
        4 => `key`: the token => consumers: ⏎ - username: a ⏎   keyauth_credentials: ⏎   - key: s3cr3t s3cr3t
        4 => no `key` => consumers: ⏎ - username: a ⏎   keyauth_credentials: ⏎   - tags: [s3cr3t]
        4 => a consumer has a `username` => consumers: ⏎ - custom_id: a b ⏎ - keyauth_credentials: ⏎   - key: s3cr3t
        2 => names its `consumer` => keyauth_credentials: ⏎ - key: s3cr3t
        2 => names its `consumer` => keyauth_credentials: ⏎ - key: s3cr3t ⏎   consumer: {}
        6 => more than one; refer to it by `id` => consumers: ⏎ - username: a ⏎ - id: a ⏎   username: b ⏎ keyauth_credentials: ⏎ - key: s3cr3t ⏎   consumer: a
        5 => more than one => consumers: ⏎ - username: a ⏎ - username: a ⏎ acls: ⏎ - group: s3cr3t ⏎   consumer: a
        4 => `key`: the token => consumers: ⏎ - username: a ⏎   keyauth_credentials: ⏎   - key: "{vault://env/s3cr3t}"
    "#;
    for row in table.trim().lines() {
        let cells: Vec<&str> = row.trim().splitn(3, " => ").collect();
        let (line, said): (u64, &str) = (cells[0].parse().unwrap(), cells[1]);
        let text = &format!("{}\n", cells[2].replace(" ⏎ ", "\n"));
        let errors: Vec<ReadError> = read(text).into_iter().filter_map(Result::err).collect();
        let [ReadError::Bad(bad)] = errors.as_slice() else {
            panic!("{text}: {errors:?}")
        };
        assert!(
            bad.reason.contains(said) && !bad.reason.contains("s3cr3t"),
            "{text}: {bad}"
        );
        assert!(
            bad.line.abs_diff(line) <= u64::from(said.contains("Kong's")),
            "{text}: {bad}"
        );
    }
}

#[test]
fn what_narrows_in_kong_is_taken_or_forbids_the_import() {
    let consumer = "consumers:\n- username: a\n  keyauth_credentials:\n  - key: sk_live_1\n";
    let of_consumer = |plugin: &str| format!("{consumer}  plugins:\n  - {plugin}\n");
    let of_file = |more: &str| format!("{consumer}{more}\n");
    for (text, named) in [
        (of_consumer("name: rate-limiting"), "`rate-limiting`"),
        (
            of_consumer("name: request-termination"),
            "`request-termination`",
        ),
        (
            of_consumer("{name: ip-restriction, config: {deny: [192.0.2.1]}}"),
            "`ip-restriction`",
        ),
        (
            of_consumer("{name: ip-restriction, config: {allow: [192.0.2.1], deny: [192.0.2.2]}}"),
            "`ip-restriction`",
        ),
        (
            of_consumer("{name: ip-restriction, config: {allow: []}}"),
            "`ip-restriction`",
        ),
        (
            of_consumer("{name: ip-restriction, config: {whitelist: [192.0.2.1]}}"),
            "`ip-restriction`",
        ),
        (of_consumer("{name: ip-restriction}"), "`ip-restriction`"),
        (
            of_consumer("{name: ip-restriction, route: r, config: {allow: [192.0.2.1]}}"),
            "`ip-restriction`",
        ),
        (
            of_consumer("{name: ip-restriction, config: {allow: [\"\"]}}"),
            "`allowed_ips`",
        ),
        (
            of_consumer(
                "{name: ip-restriction, config: {allow: [10.0.0.1]}}\n  - {name: ip-restriction, config: {allow: [10.0.0.2]}}",
            ),
            "more than one",
        ),
        (
            of_consumer("name: s3cr3t-of-our-own"),
            "a plugin that is not known here",
        ),
        (of_consumer("config: {}"), "a plugin that is not known here"),
        (format!("{consumer}  quota: 5\n"), "\"quota\""),
        (
            consumer.replace("sk_live_1", "sk_live_1\n    enabled: false"),
            "\"enabled\"",
        ),
        (
            of_file("plugins:\n- name: rate-limiting\n  consumer: a"),
            "`rate-limiting`",
        ),
        (
            of_file("plugins:\n- name: rate-limiting\n  consumer: b"),
            "nobody",
        ),
        (
            of_file("plugins:\n- name: ip-restriction"),
            "`ip-restriction`",
        ),
        (
            of_file("plugins:\n- name: ip-restriction\n  service: s"),
            "`ip-restriction`",
        ),
        (
            of_file("services:\n- name: s\n  plugins:\n  - name: acl"),
            "`acl`",
        ),
        (
            of_file("services:\n- name: s\n  routes:\n  - name: r\n    plugins:\n    - name: acl"),
            "`acl`",
        ),
        (
            of_file("routes:\n- name: r\n  plugins:\n  - name: request-termination"),
            "`request-termination`",
        ),
        (
            of_file("consumer_groups:\n- name: g\n  plugins:\n  - name: rate-limiting-advanced"),
            "`rate-limiting-advanced`",
        ),
        (
            of_file("consumer_group_plugins:\n- name: rate-limiting-advanced"),
            "`rate-limiting-advanced`",
        ),
        (of_file("filter_chains:\n- name: f"), "\"filter_chains\""),
    ] {
        let read = read(&text);
        let bad: Vec<&BadLine> = read
            .iter()
            .filter_map(|row| match row {
                Err(ReadError::Bad(bad)) => Some(bad),
                _ => None,
            })
            .collect();
        assert!(
            bad.iter().any(|bad| bad.reason.contains(named)),
            "{text}: {read:?}"
        );
        assert!(
            !bad.iter().any(|bad| bad.reason.contains("s3cr3t")),
            "{bad:?}"
        );
        // A reference to nobody admits nobody; any other makes all lines bad.
        assert_eq!(
            read.iter().filter(|row| row.is_ok()).count(),
            usize::from(named == "nobody"),
            "{text}: {read:?}"
        );
        let is_wrong = matches!(named, "nobody" | "`allowed_ips`");
        let taken = skipping(&text).iter().filter(|row| row.is_ok()).count();
        assert!(is_wrong || taken == 1, "{text}: {:?}", skipping(&text));
    }
    for plugin in [
        "cors",
        "prometheus",
        "key-auth",
        "{name: rate-limiting, enabled: false}",
    ] {
        let plugin = if plugin.starts_with('{') {
            plugin.to_owned()
        } else {
            format!("name: {plugin}")
        };
        assert_eq!(good(&of_consumer(&plugin)).len(), 1, "{plugin}");
        assert_eq!(
            good(&of_file(&format!("plugins:\n- {plugin}"))).len(),
            1,
            "{plugin}"
        );
    }
    for text in [
        of_consumer(
            "{name: ip-restriction, config: {allow: [192.0.2.0/24, \"2001:db8::1\"], status: 403}}",
        ),
        of_file(
            "plugins:\n- name: ip-restriction\n  consumer: {username: a}\n  config:\n    allow: [192.0.2.0/24, \"2001:db8::1\"]",
        ),
    ] {
        let rows = good(&text);
        assert_eq!(
            rows[0].consumer.attributes.allowed_ips.to_string(),
            "192.0.2.0/24 2001:db8::1",
            "{text}"
        );
    }
}

#[test]
fn what_is_left_behind_is_named() {
    let told: Vec<String> = read(&format!(
        "{NESTED}routes:\n- name: r\n- name: s\nupstreams: [{{name: u}}]\nbasicauth_credentials: [{{username: a, password: s3cr3t}}]\n"
    ))
    .into_iter()
    .filter_map(|row| match row {
        Err(ReadError::NotTaken(what)) => Some(what),
        _ => None,
    })
    .collect();
    assert_eq!(
        told,
        [
            "1 services",
            "2 routes",
            "1 upstreams",
            "1 basicauth_credentials"
        ]
    );
}

#[test]
fn a_key_of_digits_is_a_text() {
    let rows = good("consumers:\n- username: 7\n  keyauth_credentials:\n  - key: 0123\n");
    assert_eq!(rows[0].key.as_ref().unwrap().digest, KeyDigest::of(b"0123"));
    assert_eq!(rows[0].consumer.name.as_str(), "7");
}

#[test]
fn aliases_cannot_make_much_of_little() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![before; 10].join(", ")
        ));
    }
    text.push_str("consumers: *a11\n");
    assert!(read(&text).iter().all(Result::is_err));
}

proptest! {
    #[test]
    fn no_text_upsets_the_reader(text in "(consumers:\n)?[a-z:{}\\[\\]&*!|>'\"#,\\- \n]{0,200}") {
        for error in read(&text).into_iter().filter_map(Result::err) {
            prop_assert!(matches!(error, ReadError::Bad(bad) if bad.line <= text.lines().count() as u64 + 1));
        }
    }
}
