//! Every kind of problem is met from outside. The page of metrics lists all there are: one that is new fails here until it is
//! provoked, or says why it cannot be.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{Connection, Response, exchange, get};
use crate::creation::create;
use crate::leaks::{BEGUN, Signer};
use crate::rig::{ADMIN, READER, Rig, text};
use crate::running::eventually;

/// What needs more than a client: the code, a test that meets it below the API, and its file.
const MET_BELOW: [(&str, &str, &str); 4] = [
    // A fault of the gateway's own cannot be had by asking.
    (
        "internal_error",
        "a_store_that_fails_is_told_without_the_cause",
        include_str!("../../src/admin/problem.rs"),
    ),
    // It has to be asked while it stops.
    (
        "gateway_stopping",
        "a_gateway_that_stops_reads_no_settings",
        include_str!("../gateway/reload/calls.rs"),
    ),
    // The connection to the database has to break within a commit.
    (
        "outcome_unknown",
        "a_commit_whose_answer_is_lost_names_what_may_have_been_made",
        include_str!("../store_faults/connection.rs"),
    ),
    // Lists are over too soon to be caught while they are read.
    (
        "too_many_reads",
        "a_greedy_reader_of_sqlite_stops_no_revocation",
        include_str!("../store_faults/reads.rs"),
    ),
];

/// The codes that a gateway counts its refusals by.
fn codes(rig: &Rig) -> BTreeSet<String> {
    let page = get(rig.admin, "/metrics", &[]).text();
    page.lines()
        .filter_map(|line| line.strip_prefix("postern_admin_refusals_total{code=\""))
        .map(|line| line.split_once('"').unwrap().0.to_owned())
        .collect()
}

/// How often a gateway has refused for this.
fn count(rig: &Rig, code: &str) -> u64 {
    let page = get(rig.admin, "/metrics", &[]).text();
    let sample = format!("postern_admin_refusals_total{{code=\"{code}\"}} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&sample));
    value.unwrap().parse().unwrap()
}

fn raw(rig: &Rig, bytes: impl AsRef<[u8]>) -> Response {
    let mut connection = Connection::open(rig.admin);
    connection.try_send(bytes);
    connection.response()
}

/// What takes no more than one request: code, method, path and body.
fn calls(rig: &Rig) -> Vec<(&'static str, Response)> {
    let consumer = rig.made("/v1/consumers", &json!({ "name": "acme" }));
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let plain = text(&key, "key").to_owned();
    let path = format!("/v1/keys/{}", text(&key, "id"));
    let rolled = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let rolled = format!("/v1/keys/{}", text(&rolled, "id"));
    rig.made(&format!("{rolled}/roll"), &json!({ "grace_seconds": 60 }));
    let revoked = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let revoked = format!("/v1/keys/{}", text(&revoked, "id"));
    assert_eq!(
        rig.call("POST", &format!("{revoked}/revoke"), None).status,
        200
    );
    let gateways = rig.shown("/v1/gateways");
    let gateway = format!("/v1/gateways/{}", text(&gateways["data"][0], "id"));
    let made = |body: Value| move |rig: &Rig| rig.call("POST", "/v1/consumers", Some(&body));
    let call = |code, method: &str, path: &str, body: Option<Value>| {
        (code, rig.call(method, path, body.as_ref()))
    };
    let large = "x".repeat(5_000);
    let whole = format!("/v1/consumers/{}", text(&consumer, "id"));
    vec![
        ("invalid_body", made(json!({}))(rig)),
        call("invalid_parameter", "GET", "/v1/keys?x=1", None),
        call("key_in_url", "GET", &format!("/v1/keys?x={plain}"), None),
        ("unauthorized", get(rig.admin, "/v1/keys", &[])),
        (
            "cross_origin",
            rig.call_as(
                ADMIN,
                "GET",
                "/v1/keys",
                &["origin: http://evil.example"],
                None,
            ),
        ),
        (
            "insufficient_role",
            rig.call_as(READER, "DELETE", &whole, &[], None),
        ),
        (
            "ambiguous_request",
            get(
                rig.admin,
                "/v1/auth",
                &["x-original-uri: /a", "x-original-uri: /b"],
            ),
        ),
        (
            "signature_invalid",
            rig.raw(
                "POST",
                "/v1/leaks",
                &["github-public-key-signature: a"],
                b"[]",
            ),
        ),
        call("not_found", "GET", "/v1/nothing", None),
        call("method_not_allowed", "PUT", "/v1/keys", None),
        ("duplicate", made(json!({ "name": "acme" }))(rig)),
        call("key_revoked", "POST", &format!("{revoked}/enable"), None),
        call(
            "key_ending",
            "PATCH",
            &rolled,
            Some(json!({ "expires_at": "2999-01-01T00:00:00Z" })),
        ),
        call("key_not_good", "POST", &format!("{revoked}/roll"), None),
        call("gateway_runs", "DELETE", &gateway, None),
        call(
            "tag_mismatch",
            "GET",
            &format!("{path}?tag.org=other"),
            None,
        ),
        (
            "body_too_large",
            made(json!({ "name": "x".repeat(100_000) }))(rig),
        ),
        (
            "metadata_too_large",
            made(json!({ "name": "b", "metadata": { "a": large } }))(rig),
        ),
        (
            "unsupported_media_type",
            rig.raw(
                "POST",
                "/v1/consumers",
                &[
                    &format!("authorization: Bearer {ADMIN}"),
                    "content-type: text/plain",
                ],
                b"{}",
            ),
        ),
        (
            "misdirected_request",
            exchange(
                rig.admin,
                "GET /v1/keys HTTP/1.1\r\nhost: evil.example\r\n\r\n",
            ),
        ),
        call("unfollowable_query", "GET", "/v1/usage?tag.org=acme", None),
        call(
            "scope_not_granted",
            "POST",
            "/v1/keys",
            Some(json!({ "consumer": "acme", "scopes": ["orders"] })),
        ),
        ("too_many_keys", {
            rig.made(
                "/v1/buckets",
                &json!({ "name": "few", "max_live_keys": 1, "max_key_lifetime_seconds": 60 }),
            );
            rig.made("/v1/keys", &json!({ "consumer": "one", "bucket": "few" }));
            rig.call(
                "POST",
                "/v1/keys",
                Some(&json!({ "consumer": "one", "bucket": "few" })),
            )
        }),
        call(
            "lifetime_too_long",
            "POST",
            "/v1/keys",
            Some(json!({ "consumer": "two", "bucket": "few", "expires_at": null })),
        ),
        ("plan_in_use", {
            rig.made("/v1/plans", &json!({ "name": "gold" }));
            rig.made(
                "/v1/consumers",
                &json!({ "name": "golden", "plan": "gold" }),
            );
            rig.call("DELETE", "/v1/plans/gold", None)
        }),
        call(
            "default_above_longest",
            "POST",
            "/v1/plans",
            Some(
                json!({ "name": "a", "default_key_lifetime_seconds": 2, "max_key_lifetime_seconds": 1 }),
            ),
        ),
        call(
            "repeated_name",
            "POST",
            "/v1/plans",
            Some(json!({ "name": "a", "limits": [
                { "name": "burst", "limit": 1, "window": "1m" },
                { "name": "burst", "limit": 2, "window": "1m" },
            ] })),
        ),
        call(
            "limit_not_granted",
            "POST",
            "/v1/keys",
            Some(json!({ "consumer": "acme", "limits": [{ "name": "burst", "limit": null }] })),
        ),
        call(
            "expiry_in_the_past",
            "POST",
            "/v1/keys",
            Some(json!({ "consumer": "acme", "expires_at": "2001-01-01T00:00:00Z" })),
        ),
        ("idempotency_key_reused", {
            create(rig, ADMIN, "/v1/consumers", "k", &json!({ "name": "one" }));
            create(rig, ADMIN, "/v1/consumers", "k", &json!({ "name": "two" }))
        }),
    ]
}

/// What is refused of new settings.
fn settings(rig: &Rig) -> Vec<(&'static str, Response)> {
    let changed = rig.call_as(ADMIN, "POST", "/v1/reload", &["if-match: \"x\""], None);
    std::fs::write(rig.directory.path().join("gateway.toml"), "[listen").unwrap();
    vec![
        ("settings_changed", changed),
        ("settings_refused", rig.call("POST", "/v1/reload", None)),
    ]
}

/// What never comes to be a request.
fn unread(rig: &Rig) -> Vec<(&'static str, Response)> {
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "a".repeat(70_000)
    );
    let fields = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    vec![
        ("bad_request", raw(rig, "GET / HTTP/1.1\r\n\r\n")),
        ("uri_too_long", raw(rig, long)),
        ("request_header_too_large", raw(rig, fields)),
        (
            "version_not_supported",
            raw(rig, "GET / HTTP/1.2\r\nhost: h\r\n\r\n"),
        ),
        ("request_timeout", raw(rig, "GET / HT")),
    ]
}

/// What is refused while another writer holds the database: the same creation twice at once, and one that waits too long.
fn held(rig: &Rig) -> Vec<(&'static str, Response)> {
    let database = format!("sqlite://{}/gateway.db", rig.directory.path().display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut holder = runtime.block_on(async {
        sqlx::any::install_default_drivers();
        <sqlx::AnyConnection as sqlx::Connection>::connect(&database)
            .await
            .unwrap()
    });
    let mut run = |text| {
        runtime
            .block_on(sqlx::query(text).execute(&mut holder))
            .unwrap()
    };
    run("BEGIN IMMEDIATE");
    let body = json!({ "name": "slow" });
    let answers = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| create(rig, ADMIN, "/v1/consumers", "twice", &body));
        [ask(), ask()].map(|asked| asked.join().unwrap())
    });
    run("COMMIT");
    let one = |status| {
        answers
            .iter()
            .find(|answer| answer.status == status)
            .cloned()
            .unwrap()
    };
    vec![
        ("idempotency_key_in_use", one(409)),
        ("store_unavailable", one(503)),
    ]
}

/// What is refused of reports, by a gateway that knows GitHub's keys and then does not.
fn reports(rig: &Rig, file: &std::path::Path, github: &Signer) -> Vec<(&'static str, Response)> {
    let mut begun: Vec<Connection> = Vec::new();
    let has_answer = |connection: &mut Connection| connection.socket().peek(&mut [0]).is_ok();
    eventually("one is put off", || {
        let mut connection = Connection::open(rig.admin);
        connection.send(BEGUN);
        connection.socket().set_nonblocking(true).unwrap();
        begun.push(connection);
        begun.iter_mut().any(has_answer)
    });
    let at = begun.iter_mut().position(has_answer).unwrap();
    let mut put_off = begun.remove(at);
    put_off.socket().set_nonblocking(false).unwrap();
    let put_off = put_off.response();
    std::fs::write(file, "{}").unwrap();
    vec![
        ("too_many_reports", put_off),
        (
            "public_keys_unavailable",
            github.report(rig, &json!([]), &json!([])),
        ),
    ]
}

#[test]
fn every_kind_of_problem_is_met_from_outside_and_counted_by_its_code() {
    let github = Signer::new("k1");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    std::fs::write(&file, github.document()).unwrap();
    let rig = Rig::with_file(&format!("[leaks]\ngithub_keys = \"{}\"\n", file.display()));
    let (disabled, busy, reloading) = (Rig::with(&[]), Rig::new(), Rig::new());
    let of = |rig, met: Vec<(&'static str, Response)>| {
        met.into_iter()
            .map(move |(code, response)| (rig, code, response))
    };
    let met: Vec<_> = of(&rig, calls(&rig))
        .chain(of(&rig, unread(&rig)))
        .chain(of(&rig, reports(&rig, &file, &github)))
        .chain(of(
            &disabled,
            vec![("admin_disabled", get(disabled.admin, "/v1/keys", &[]))],
        ))
        .chain(of(&busy, held(&busy)))
        .chain(of(&reloading, settings(&reloading)))
        .collect();
    let mut known = BTreeSet::new();
    for (code, test, file) in MET_BELOW {
        assert!(
            file.contains(&format!("fn {test}(")),
            "{code}: there is no test {test}"
        );
        known.insert(code.to_owned());
    }
    for (rig, code, response) in met {
        assert_eq!(response.code(), code, "{response:?}");
        assert!(count(rig, code) >= 1, "{code} is not counted");
        known.insert(code.to_owned());
    }
    assert_eq!(known, codes(&rig));
}
