//! Routes that take the keys of some buckets only.

use std::time::Duration;

use postern_gateway::keys::{PlainKey, Prefix, UnixMillis};
use postern_gateway::store::{
    Actor, BucketEdit, KeyAttributes, KeyRuleEdit, NewEnd, NewKey, Owner, Stamp, Store,
    UnusedAction,
};

use crate::client::get;
use crate::origin::Origin;
use crate::rig::{Process, Rig, SECRET, database, gateway};
use crate::running::eventually;

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

/// Two keys that nobody used for a week, one of them exempt, in a bucket that disables them after a day.
async fn unused_keys(url: &str) -> [PlainKey; 2] {
    let store = Store::open(&url.parse().unwrap()).await.unwrap();
    let now = Stamp::now(Actor::command_line(None));
    let week = Duration::from_hours(7 * 24);
    let long_ago = Stamp {
        at: UnixMillis(now.at.0 - i64::try_from(week.as_millis()).unwrap()),
        ..now.clone()
    };
    let keys = [(); 2].map(|()| PlainKey::generate(&Prefix::default()).unwrap());
    for (key, exempt_from_unused) in keys.iter().zip([false, true]) {
        let new = NewKey {
            owner: Owner::Named("default".parse().unwrap(), "acme".parse().unwrap()),
            digest: key.digest(),
            hint: key.hint(),
            attributes: KeyAttributes {
                exempt_from_unused,
                ..KeyAttributes::default()
            },
            end: NewEnd::Default,
        };
        store.create_key(new, &long_ago).await.unwrap();
    }
    let edit = BucketEdit {
        keys: KeyRuleEdit {
            unused_after: Some(Some("1d".parse().unwrap())),
            unused_action: Some(UnusedAction::Disable),
            ..KeyRuleEdit::default()
        },
        ..BucketEdit::default()
    };
    let bucket = "default".parse().unwrap();
    store.update_bucket(&bucket, edit, &now).await.unwrap();
    store.close().await;
    keys
}

#[test]
fn a_gateway_disables_the_keys_that_its_bucket_calls_unused() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let [unused, exempt] = runtime.block_on(unused_keys(&database(directory.path())));
    let process = Process::start(directory, &origin.url(), &[]);
    let code = |key: &PlainKey| {
        let line = format!("authorization: Bearer {}", key.expose());
        get(process.public, "/", &[&line]).code_or_ok()
    };
    // Asked of the audit, since a request would be a use.
    let url = database(process.directory.path());
    let mut told = String::new();
    eventually("the unused key is disabled", || {
        let arguments = ["audit", "--actor", "gateway", "--json"];
        let variables = [("DATABASE_URL", url.as_str())];
        let output = gateway(process.directory.path(), &variables, &arguments);
        told = String::from_utf8(output.stdout).unwrap();
        told.contains("key.disable")
    });
    assert!(told.contains("unused"), "{told}");
    eventually("the gateway follows", || {
        code(&unused) == "api_key_disabled"
    });
    assert_eq!(code(&exempt), "ok");
}
