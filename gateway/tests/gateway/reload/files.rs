//! How files change in practice: in pieces, behind symbolic links, beside variables.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::{ORDERS, gateway_with, generation, last_reload, told, write};
use crate::client::get;
use crate::origin::Origin;
use crate::rig::{Process, SECRET};
use crate::running::eventually;

/// The realm that a gateway names in its challenges.
fn realm(gateway: &Process) -> String {
    let challenge = get(gateway.public, "/orders", &[]);
    let challenge = challenge.header("www-authenticate").unwrap().to_owned();
    challenge.split('"').nth(1).unwrap().to_owned()
}

#[test]
fn a_file_that_is_written_in_two_pieces_is_taken_whole() {
    let origin = Origin::hello();
    let gateway = gateway_with("[auth]\nrealm = \"a\"\n", &origin, &[]);
    let (mut whole, mut split) = (0, 0);
    while whole < 4 {
        let before = generation(&gateway);
        let (first, rest) = (format!("[auth]\nrealm = \"b{before}\"\n"), ORDERS);
        write(&gateway.directory, &first);
        // The case itself: a writer that pauses.
        std::thread::sleep(Duration::from_millis(600));
        write(&gateway.directory, &format!("{first}{rest}"));
        eventually("the whole file is taken", || {
            realm(&gateway) == format!("b{before}")
                && get(gateway.public, "/items", &[]).status == 404
        });
        // On a busy machine a pause may become one in which a file stands still.
        match generation(&gateway) - before {
            1 => whole += 1,
            _ => split += 1,
        }
        assert!(split < 4, "{}", gateway.log());
        write(&gateway.directory, "[auth]\nrealm = \"a\"\n");
        eventually("and taken back", || realm(&gateway) == "a");
    }
}

#[test]
fn a_directory_behind_a_symbolic_link_is_swapped_as_kubernetes_does() {
    let directory = tempfile::tempdir().unwrap();
    let mount = |number: usize| {
        let (root, version) = (directory.path(), format!("..v{number}"));
        std::fs::create_dir(root.join(&version)).unwrap();
        let text = format!("[auth]\nrealm = \"v{number}\"\n");
        std::fs::write(root.join(&version).join("gateway.toml"), text).unwrap();
        symlink(&version, root.join("..new")).unwrap();
        std::fs::rename(root.join("..new"), root.join("..data")).unwrap();
        if let Some(before) = number.checked_sub(1) {
            std::fs::remove_dir_all(root.join(format!("..v{before}"))).unwrap();
        }
    };
    mount(0);
    symlink("..data/gateway.toml", directory.path().join("gateway.toml")).unwrap();
    let origin = Origin::hello();
    let root: &Path = directory.path();
    let store = tempfile::tempdir().unwrap();
    let file = root.join("gateway.toml");
    let gateway = Process::start_with_config(&file, store, &origin.url(), &[]);
    for number in 1..=4 {
        mount(number);
        let wanted = format!("v{number}");
        eventually(&wanted, || realm(&gateway) == wanted);
    }
    (5..=14).for_each(mount);
    eventually("the last of many", || realm(&gateway) == "v14");
    assert!(!gateway.log().contains("are refused"), "{}", gateway.log());
}

#[test]
fn the_same_bytes_again_change_nothing() {
    let origin = Origin::hello();
    let gateway = gateway_with(ORDERS, &origin, &[("RUST_LOG", "debug")]);
    for _ in 0..3 {
        write(&gateway.directory, ORDERS);
    }
    write(&gateway.directory, &format!("{ORDERS}# a comment\n"));
    told(&gateway, "nothing changed");
    assert_eq!(
        (generation(&gateway), last_reload(&gateway)),
        (1, "ok".to_owned())
    );
}

#[test]
fn a_variable_wins_over_the_file_and_is_named() {
    let origin = Origin::hello();
    let token = "files-9f2c51d07be84a63";
    let variables = [("GATEWAY__AUTH__REALM", "variable"), ("ADMIN_TOKEN", token)];
    let gateway = gateway_with("[auth]\nrealm = \"a\"\n", &origin, &variables);
    write(
        &gateway.directory,
        "[auth]\nrealm = \"b\"\n[log]\naccess = \"off\"\n",
    );
    eventually("the rest is taken", || generation(&gateway) == 2);
    assert_eq!(realm(&gateway), "variable");
    let config = get(
        gateway.admin,
        "/v1/config",
        &[&format!("authorization: Bearer {token}")],
    )
    .json();
    let settings = config["settings"].as_array().unwrap();
    let source = |path: &str| {
        let found = settings.iter().find(|setting| setting["path"] == path);
        found.unwrap()["source"].as_str().unwrap().to_owned()
    };
    assert_eq!(source("auth.realm"), "GATEWAY__AUTH__REALM");
    assert_eq!(source("log.access"), "gateway.toml");
    assert_eq!(source("listen.keep_alive"), "default");
    assert_eq!(config["changed"], serde_json::json!(["log.access"]));
}

#[test]
fn a_secret_that_rotates_in_its_file_reaches_the_origin_and_no_log() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let other = "files-51d07be84a639f2c-rotated";
    let variables = [
        ("SHARED_SECRET", ""),
        ("SHARED_SECRET_FILE", file.to_str().unwrap()),
    ];
    let file = file.clone();
    let gateway = Process::start(directory, &origin.url(), &variables);
    let key = gateway.key("acme");
    let sent = || {
        let before = origin.arrived().len();
        assert_eq!(get(gateway.public, "/", &[&key]).status, 200);
        let arrived = origin.arrived();
        arrived[before].one("x-shared-secret").unwrap().to_owned()
    };
    assert_eq!(sent(), SECRET);
    std::fs::write(&file, format!("{other}\n")).unwrap();
    eventually("the new secret is sent", || sent() == other);
    told(&gateway, "(a file changed): SHARED_SECRET");
    assert!(!gateway.log().contains(other));
    // What cannot be a secret is refused without its text.
    std::fs::write(&file, "short-one").unwrap();
    eventually("it is refused", || last_reload(&gateway) == "refused");
    assert_eq!(sent(), other);
    assert!(!gateway.log().contains("short-one"));
}

#[test]
fn tokens_and_the_access_log_follow_the_file() {
    let origin = Origin::hello();
    let (first, second) = ("files-7be84a639f2c51d0", "files-a639f2c51d07be84");
    let token = |token: &str| {
        format!("[[admin.tokens]]\nname = \"ci\"\nrole = \"admin\"\ntoken = \"{token}\"\n")
    };
    let silent = format!("[log]\naccess = \"off\"\n{}", token(first));
    let gateway = gateway_with(&silent, &origin, &[]);
    let key = gateway.key("acme");
    let status = |token: &str| {
        let line = format!("authorization: Bearer {token}");
        get(gateway.admin, "/v1/config", &[&line]).status
    };
    assert_eq!((status(first), status(second)), (200, 401));
    assert_eq!(get(gateway.public, "/silent", &[&key]).status, 200);
    write(&gateway.directory, &token(second));
    eventually("the new token is accepted", || status(second) == 200);
    assert_eq!(status(first), 401);
    assert_eq!(get(gateway.public, "/told", &[&key]).status, 200);
    eventually("the request is logged", || !gateway.access_log().is_empty());
    assert_eq!(gateway.access_log()[0]["path"], "/told");
    told(&gateway, "admin.tokens[ci].token, log.access");
}

#[test]
fn a_start_with_a_wrong_file_uses_the_last_good_one_only_where_that_is_asked_for() {
    let origin = Origin::hello();
    let good = "[auth]\nrealm = \"good\"\n[reload]\nlast_good = \"kept.toml\"\n";
    let gateway = gateway_with(good, &origin, &[]);
    let kept = gateway.directory.path().join("kept.toml");
    eventually("the settings are kept", || {
        std::fs::read_to_string(&kept).is_ok_and(|kept| kept == good)
    });
    write(&gateway.directory, "[auth]\nrealms = 1\n");
    eventually("it is refused", || last_reload(&gateway) == "refused");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), good);
    let directory = gateway.kill();
    let output = crate::rig::gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["serve"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let gateway = Process::start_with(&["--last-good", "kept.toml"], directory, &origin.url());
    assert_eq!(realm(&gateway), "good");
    told(&gateway, "auth.realms");
    write(&gateway.directory, "[auth]\nrealm = \"right\"\n");
    eventually("the right file is taken", || realm(&gateway) == "right");
}
