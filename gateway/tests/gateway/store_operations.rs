//! The store as operators have it: what they see of its faults and of files that others may read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::client::get;
use crate::origin::Origin;
use crate::postgres;
use crate::rig::{Process, SECRET, gateway};
use crate::running::eventually;

fn ready(gateway: &Process) -> (u16, Value) {
    let response = get(gateway.admin, "/readyz", &[]);
    (response.status, response.json())
}

/// Copies the database of a directory as `.backup` does: with another process of the gateway, which exports and imports.
fn copy_store(from: &Path, to: &Path) {
    let url = |path: &Path| format!("sqlite://{}", path.display());
    let exported = gateway(
        from.parent().unwrap(),
        &[("DATABASE_URL", &url(from))],
        &["export"],
    );
    assert!(exported.status.success(), "{exported:?}");
    let lines = to.with_extension("jsonl");
    fs::write(&lines, exported.stdout).unwrap();
    let imported = gateway(
        from.parent().unwrap(),
        &[("DATABASE_URL", &url(to))],
        &["import", lines.to_str().unwrap()],
    );
    assert!(imported.status.success(), "{imported:?}");
}

#[test]
fn a_replaced_database_file_is_said_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.db");
    let url = format!("sqlite://{}", file.display());
    let origin = Origin::hello();
    let process = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[("DATABASE_URL", &url)],
    );
    let command = |arguments: &[&str]| {
        let output = gateway(directory.path(), &[("DATABASE_URL", &url)], arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let created: Value = serde_json::from_str(&command(&[
        "keys",
        "create",
        "--consumer",
        "acme",
        "--json",
    ]))
    .unwrap();
    let line = format!("authorization: Bearer {}", created["key"].as_str().unwrap());
    let answers = || get(process.public, "/", &[&line]).code_or_ok();
    eventually("the key is known", || answers() == "ok");
    let backup = directory.path().join("backup.db");
    copy_store(&file, &backup);
    // What an import leaves behind in the log is in the file.
    let log = directory.path().join("backup.db-wal");
    assert!(fs::metadata(log).map_or(0, |log| log.len()) == 0);

    let aside = directory.path().join("aside.db");
    fs::rename(&file, &aside).unwrap();
    eventually("it is said", || {
        ready(&process).1["store_fault"] == "file_replaced"
    });
    let (status, told) = ready(&process);
    assert_eq!((status, told["status"].as_str()), (200, Some("ready")));
    eventually("it is logged", || {
        process.log().contains("the database file is not the one")
    });
    assert_eq!(answers(), "ok");

    fs::rename(&backup, &file).unwrap();
    eventually("it is followed", || {
        ready(&process).1["store_fault"].is_null()
    });
    command(&["keys", "revoke", created["id"].as_str().unwrap()]);
    eventually("the revocation arrives", || answers() == "api_key_revoked");
}

#[test]
fn a_role_without_rights_ends_the_start_with_the_grant() {
    let url = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let url = postgres::new_database().await;
        let mut raw = <sqlx::PgConnection as sqlx::Connection>::connect(&url)
            .await
            .unwrap();
        let role = "CREATE ROLE may_little LOGIN PASSWORD 'hunter2-of-the-tests'";
        sqlx::Executor::execute(&mut raw, role).await.unwrap();
        url.replace("postern:", "may_little:")
    });
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("SHARED_SECRET", SECRET),
        ("GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
        ("GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
    ];
    std::fs::write(directory.path().join("nothing.jsonl"), "").unwrap();
    // The commands that make a store; the others say that there is none.
    for arguments in [["serve"].as_slice(), &["import", "nothing.jsonl"]] {
        let output = gateway(directory.path(), &variables, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("GRANT USAGE, CREATE ON SCHEMA public"),
            "{said}"
        );
        assert!(
            !said.contains("busy") && !said.contains("of-the-tests"),
            "{said}"
        );
    }
}

#[test]
fn files_that_others_may_read_are_warned_of_and_the_store_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let in_it = |name: &str| directory.path().join(name);
    let database = in_it("gateway.db");
    let url = format!("sqlite://{}", database.display());
    fs::write(in_it("nothing.jsonl"), "").unwrap();
    let made = gateway(
        directory.path(),
        &[("DATABASE_URL", &url)],
        &["import", "nothing.jsonl"],
    );
    assert!(made.status.success(), "{made:?}");
    let (snapshot, token) = (in_it("keys.snapshot"), in_it("admin.token"));
    fs::write(&snapshot, "").unwrap();
    fs::write(&token, "operations-51d07be84a639f2c\n").unwrap();
    for (file, mode) in [(&database, 0o644), (&snapshot, 0o640), (&token, 0o604)] {
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }
    let origin = Origin::hello();
    let process = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[
            ("DATABASE_URL", &url),
            ("ADMIN_TOKEN_FILE", token.to_str().unwrap()),
            ("GATEWAY__STORE__SNAPSHOT", snapshot.to_str().unwrap()),
        ],
    );
    for (file, mode) in [(&database, "0644"), (&snapshot, "0640"), (&token, "0604")] {
        let said = format!("mode {mode}): chmod 600 {}", file.display());
        eventually(&said, || process.log().contains(&said));
    }
    eventually("the store is measured", || {
        let page = get(process.admin, "/metrics", &[]).text();
        page.contains("postern_store_rows{table=\"audit\"} 0\n")
            && page.contains("postern_store_bytes{part=\"log\"} ")
    });
}

#[test]
fn what_is_not_kept_is_deleted_by_the_gateway() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.db");
    let url = format!("sqlite://{}", file.display());
    let variables = [("DATABASE_URL", url.as_str())];
    let old = "{\"consumer\":\"acme\",\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000001\"}\n";
    let lines = directory.path().join("old.jsonl");
    fs::write(&lines, old).unwrap();
    let imported = gateway(
        directory.path(),
        &variables,
        &["import", lines.to_str().unwrap()],
    );
    assert!(imported.status.success(), "{imported:?}");
    let wrong = gateway(
        directory.path(),
        &[
            ("GATEWAY__STORE__AUDIT_KEEP", "1h"),
            ("GATEWAY__STORE__USAGE_KEEP", "for ever"),
            ("SHARED_SECRET", SECRET),
        ],
        &["check"],
    );
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(2));
    for path in ["store.audit_keep", "store.usage_keep"] {
        assert!(
            said.contains(path) && said.contains("1day to 100years"),
            "{said}"
        );
    }
    // As if it had been done long ago: nothing in the store's own ways changes a row.
    let back = "DROP TRIGGER audit_is_never_changed; UPDATE audit SET at = at - 86400000 * 30";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut raw = <sqlx::SqliteConnection as sqlx::Connection>::connect(file.to_str().unwrap())
            .await
            .unwrap();
        sqlx::Executor::execute(&mut raw, back).await.unwrap();
        assert!(
            sqlx::Executor::execute(&mut raw, "DELETE FROM audit")
                .await
                .is_err()
        );
    });
    let origin = Origin::hello();
    let _process = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[
            ("DATABASE_URL", &url),
            ("GATEWAY__STORE__AUDIT_KEEP", "7days"),
        ],
    );
    eventually("the audit says so", || {
        let shown = gateway(directory.path(), &variables, &["audit", "--json"]);
        let text = String::from_utf8(shown.stdout).unwrap();
        text.contains("audit.prune") && !text.contains("key.create")
    });
}
