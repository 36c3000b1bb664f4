//! New settings in a running gateway: whole or not at all, without a lost request.

mod calls;
mod files;
mod load;
mod streams;

use std::path::Path;

use postern_gateway::reload::{OnReload, SETTINGS};
use tempfile::TempDir;

use crate::client::get;
use crate::example_file::{documented, known};
use crate::origin::Origin;
use crate::rig::Process;
use crate::running::eventually;

/// A state of the settings file, and what brings it about.
type State = (&'static str, fn(&Path));

/// A gateway with these settings in its file.
fn gateway_with(file: &str, origin: &Origin, variables: &[(&str, &str)]) -> Process {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, file);
    Process::start(directory, &origin.url(), variables)
}

/// Writes the settings file in place of the one before.
fn write(directory: &TempDir, file: &str) {
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
}

/// The value of a metric without labels.
fn metric(gateway: &Process, name: &str) -> u64 {
    let page = get(gateway.admin, "/metrics", &[]).text();
    let line = page
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    let line = line.unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn generation(gateway: &Process) -> u64 {
    metric(gateway, "postern_config_generation")
}

/// Waits for these words in the log, which has its own thread.
fn told(gateway: &Process, words: &str) {
    eventually(words, || gateway.log().contains(words));
}

fn last_reload(gateway: &Process) -> String {
    let ready = get(gateway.admin, "/readyz", &[]);
    assert_eq!(ready.status, 200);
    ready.json()["settings"]["last_reload"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A setting that the list does not have would never be in force, or never be held.
#[test]
fn the_list_of_what_reloads_has_every_setting_and_no_other() {
    let known = known();
    // Of `jwt.issuers`, the table `jwt` is none of its own.
    let is_table = |path: &String| {
        let begins = |table: &String| {
            table
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        known.keys().any(begins)
    };
    let mut settings: Vec<String> = known
        .iter()
        .flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}")))
        .map(|path| path.trim_start_matches('.').to_owned())
        .filter(|path| !is_table(path))
        .chain(["SHARED_SECRET", "ADMIN_TOKEN", "VALKEY_PASSWORD"].map(str::to_owned))
        .collect();
    settings.sort();
    let mut listed: Vec<&str> = SETTINGS.iter().map(|(path, _)| *path).collect();
    listed.sort_unstable();
    assert_eq!(listed, settings);
    let documented = documented();
    for (path, on_reload) in SETTINGS {
        let Some((_, meaning)) = documented.get(*path) else {
            continue;
        };
        assert_eq!(
            meaning.ends_with("Needs a restart."),
            matches!(on_reload, OnReload::Restart(_)),
            "{path} in docs/CONFIGURATION.md"
        );
    }
}

const ORDERS: &str = "[[routes]]\nname = \"orders\"\npath = \"/orders\"\n";

#[test]
fn a_changed_file_is_in_force_whole_without_a_restart() {
    let origin = Origin::hello();
    let gateway = gateway_with(ORDERS, &origin, &[]);
    let key = gateway.key("acme");
    let status = |path: &str| get(gateway.public, path, &[&key]).status;
    assert_eq!((status("/orders"), status("/items")), (200, 404));
    write(
        &gateway.directory,
        "[auth]\nrealm = \"shop\"\n[[routes]]\nname = \"items\"\npath = \"/items\"\n",
    );
    eventually("the new route is there", || status("/items") == 200);
    assert_eq!(status("/orders"), 404);
    let challenge = get(gateway.public, "/items", &[]);
    assert!(
        challenge
            .header("www-authenticate")
            .unwrap()
            .contains("\"shop\"")
    );
    assert_eq!(generation(&gateway), 2);
    let told = "generation 2 of the settings is in force (a file changed): auth.realm, routes[items], routes[orders]";
    eventually("it is logged", || gateway.log().contains(told));
}

#[test]
fn a_wrong_file_changes_nothing_and_says_everything_and_the_next_one_is_taken() {
    let origin = Origin::hello();
    let gateway = gateway_with(ORDERS, &origin, &[]);
    let key = gateway.key("acme");
    let status = |path: &str| get(gateway.public, path, &[&key]).status;
    write(
        &gateway.directory,
        "[listen]\nhead_timeout = \"soon\"\n[[routes]]\npath = \"items\"\n",
    );
    eventually("the file is refused", || last_reload(&gateway) == "refused");
    assert_eq!(metric(&gateway, "postern_config_last_reload_ok"), 0);
    assert_eq!((status("/orders"), generation(&gateway)), (200, 1));
    for words in ["listen.head_timeout", "routes[0].path", "are refused:"] {
        told(&gateway, words);
    }
    let log = gateway.log();
    assert_eq!(log.matches("are refused:").count(), 1, "{log}");
    write(&gateway.directory, "[[routes]]\npath = \"/items\"\n");
    eventually("the right file is taken", || status("/items") == 200);
    assert_eq!(last_reload(&gateway), "ok");
    assert_eq!(metric(&gateway, "postern_config_last_reload_ok"), 1);
}

#[test]
fn a_file_that_cannot_be_read_leaves_the_settings_and_is_told_once_per_state() {
    let origin = Origin::hello();
    let gateway = gateway_with(ORDERS, &origin, &[]);
    let key = gateway.key("acme");
    let file = gateway.directory.path().join("gateway.toml");
    let refused = || gateway.log().matches("are refused:").count();
    let remove = || {
        let _ = std::fs::remove_dir(&file);
        let _ = std::fs::remove_file(&file);
    };
    let states: [State; 5] = [
        ("empty", |file| std::fs::write(file, "").unwrap()),
        ("missing", |_| {}),
        ("a directory", |file| std::fs::create_dir(file).unwrap()),
        ("100 MB", |file| {
            std::fs::write(file, vec![b'#'; 100 * 1024 * 1024]).unwrap();
        }),
        ("white space", |file| std::fs::write(file, "\n \n").unwrap()),
    ];
    for (number, (state, make)) in states.into_iter().enumerate() {
        remove();
        make(&file);
        eventually(state, || refused() == number + 1);
        assert_eq!(
            get(gateway.public, "/orders", &[&key]).status,
            200,
            "{state}"
        );
    }
    // Each of the states was looked at several times more.
    remove();
    std::fs::write(&file, "[[routes]]\npath = \"/items\"\n").unwrap();
    eventually("the file is back", || {
        get(gateway.public, "/items", &[&key]).status == 200
    });
    assert_eq!(refused(), 5, "{}", gateway.log());
}

#[test]
fn without_the_watch_a_signal_reads_the_files() {
    let origin = Origin::hello();
    let settings = format!("[reload]\nwatch = false\n{ORDERS}");
    let gateway = gateway_with(&settings, &origin, &[]);
    let key = gateway.key("acme");
    write(
        &gateway.directory,
        "[reload]\nwatch = false\n[[routes]]\npath = \"/items\"\n",
    );
    gateway.signal("HUP");
    eventually("the new route is there", || {
        get(gateway.public, "/items", &[&key]).status == 200
    });
    told(&gateway, "(SIGHUP)");
    gateway.signal("HUP");
    eventually("nothing changed", || {
        gateway.log().contains("nothing changed")
    });
    assert_eq!(generation(&gateway), 2);
}

#[test]
fn what_needs_a_restart_is_left_out_and_named_or_refused_where_the_file_is_strict() {
    let origin = Origin::hello();
    let gateway = gateway_with(ORDERS, &origin, &[]);
    let key = gateway.key("acme");
    let status = |path: &str| get(gateway.public, path, &[&key]).status;
    let changed = "[listen]\nkeep_alive = \"9s\"\nmax_connections = 9\n[[routes]]\nname = \"orders\"\npath = \"/orders\"\nscopes = [\"read\"]\n";
    let required =
        || get(gateway.admin, "/readyz", &[]).json()["settings"]["restart_required"].clone();
    write(
        &gateway.directory,
        &format!("[reload]\nstrict = true\n{changed}"),
    );
    eventually("it is refused", || last_reload(&gateway) == "refused");
    told(
        &gateway,
        "listen.max_connections (from the settings): a change of it needs a restart",
    );
    assert_eq!(status("/orders"), 200);
    write(&gateway.directory, changed);
    eventually("the scope is demanded", || status("/orders") == 403);
    assert_eq!(required(), serde_json::json!(["listen.max_connections"]));
    assert_eq!(metric(&gateway, "postern_config_restart_required"), 1);
    told(
        &gateway,
        "stay as they are until then: listen.max_connections",
    );
    write(&gateway.directory, ORDERS);
    eventually("it is taken back", || status("/orders") == 200);
    assert_eq!(required(), serde_json::json!([]));
}
