//! `gateway` as a process: standard input, signals, terminals, and `gateway keys find`, `check` and `pattern`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::rig::words;
use postern_gateway::keys::{KeyDigest, PlainKey, Prefix};
use serde_json::Value;
use sqlx::{Connection, SqliteConnection};

const DEADLINE: Duration = Duration::from_secs(60);

/// `gateway` as a process, on a database in `directory`.
fn gateway(directory: &Path, line: impl AsRef<str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.env_clear().env(
        "DATABASE_URL",
        format!("sqlite://{}/gateway.db", directory.display()),
    );
    command
        .current_dir(directory)
        .args(words(line.as_ref()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn with_input(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

/// A file with many lines, and a process that has begun to import them one by one.
fn begun(directory: &Path) -> (PathBuf, std::process::Child) {
    let file = directory.join("many.csv");
    let lines: String = (0..1_000)
        .map(|number| format!("consumer-{number},sk_live_{number:08}\n"))
        .collect();
    fs::write(&file, format!("consumer,key\n{lines}")).unwrap();
    let child = gateway(directory, "import many.csv --batch 1 --json")
        .spawn()
        .unwrap();
    (file, child)
}

async fn keys_of(directory: &Path) -> i64 {
    let Ok(mut raw) =
        SqliteConnection::connect(directory.join("gateway.db").to_str().unwrap()).await
    else {
        return 0;
    };
    sqlx::query_scalar("SELECT count(*) FROM keys")
        .fetch_one(&mut raw)
        .await
        .unwrap_or(0)
}

#[tokio::test]
async fn an_import_that_is_stopped_goes_on_where_it_was() {
    for signal in ["-INT", "-KILL"] {
        let directory = tempfile::tempdir().unwrap();
        let (_, child) = begun(directory.path());
        let deadline = Instant::now() + DEADLINE;
        while keys_of(directory.path()).await < 5 {
            assert!(Instant::now() < deadline, "nothing is imported");
            sleep(Duration::from_millis(2));
        }
        assert!(
            Command::new("kill")
                .args([signal, &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        let stopped = child.wait_with_output().unwrap();
        let there = keys_of(directory.path()).await;
        assert!((5..1_000).contains(&there), "{there}");
        if signal == "-INT" {
            let said = String::from_utf8(stopped.stderr).unwrap();
            assert!(
                said.contains("Import the same file again to continue"),
                "{said}"
            );
            assert_eq!(stopped.status.code(), Some(1));
            assert_eq!(
                serde_json::from_slice::<Value>(&stopped.stdout).unwrap()["keys"],
                there
            );
        }
        let again = gateway(directory.path(), "import many.csv --json")
            .output()
            .unwrap();
        let summary: Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(
            (&summary["keys"], &summary["already"]),
            (&(1_000 - there).into(), &there.into()),
            "{signal}: {again:?}"
        );
        assert_eq!(keys_of(directory.path()).await, 1_000);
    }
}

#[test]
fn standard_input_is_imported_and_leaves_no_key_behind() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let mut command = gateway(directory.path(), "import -");
    command.env("TMPDIR", temporary.path());
    let done = with_input(command, "key,consumer\nsk_live_0123456789,acme\n");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(
        String::from_utf8(done.stdout).unwrap(),
        "read 1 lines: added 1 keys and 1 consumers, 0 there already, 0 skipped, 0 bad\n"
    );
    assert_eq!(
        done.stderr, b"",
        "no progress bar where there is no terminal"
    );
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    for file in fs::read_dir(directory.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(10).any(|window| window == b"0123456789"));
    }
}

#[test]
fn a_key_is_found_by_what_somebody_has_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let made = with_input(
        gateway(directory.path(), "import - --format jsonl"),
        "{\"consumer\":\"old\",\"key\":\"legacy-0123456789abcdef-0123456789\"}\n",
    );
    assert!(made.status.success(), "{made:?}");
    let made = gateway(directory.path(), "keys create --consumer acme --json")
        .output()
        .unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let hex = KeyDigest::of(key.as_bytes()).to_hex();
    let last = if key.ends_with('0') { '1' } else { '0' };
    let mistyped = format!("{}{last}", &key[..key.len() - 1]);
    let find = |text: &str, argument: &str| {
        let command = gateway(directory.path(), format!("keys find {argument}"));
        let done = with_input(command, text);
        let out = String::from_utf8(done.stdout).unwrap();
        (
            done.status.code(),
            out,
            String::from_utf8(done.stderr).unwrap(),
        )
    };
    for (text, said) in [
        (key.to_owned(), ""),
        (format!("\"{key}\"\n"), "ignored the text around the key"),
        (
            format!("Authorization: Bearer {key}"),
            "ignored the text around the key",
        ),
        (hex.clone(), ""),
        (format!("sha256:{hex}"), ""),
        (key[..9].to_owned(), "1 begin like it"),
        (key[..30].to_owned(), "1 begin like it"),
        (mistyped.clone(), "its checksum is wrong"),
    ] {
        for argument in ["-", ""] {
            let (code, out, err) = find(&text, argument);
            assert_eq!(code, Some(0), "{err}");
            assert!(out.contains(id) && out.contains("active"), "{out}");
            assert!(err.contains(said), "{said}: {err}");
            assert!(!said.is_empty() || err.is_empty(), "{err}");
            assert!(
                !out.contains(key) && !err.contains(&key[..20]),
                "{out}{err}"
            );
        }
    }
    let (code, out, _) = find("legacy-0123456789abcdef-0123456789", "--json");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &found[0]["consumer"]), (Some(0), &"old".into()));
    // It was no use of the key.
    assert!(found[0]["last_used_at"].is_null());
    for text in [
        "",
        "pst",
        "unknown-key-of-somebody",
        "two words",
        &"0".repeat(64),
    ] {
        let (code, out, err) = find(text, "-");
        assert_eq!((code, &*out), (Some(1), ""), "{text}: {err}");
        assert!(err.contains("no key of this store"), "{text}: {err}");
    }
    let (code, out, err) = find("", key);
    assert_eq!((code, &*out), (Some(2), ""));
    assert!(
        err.contains("not accepted as an argument") && !err.contains(&key[..20]),
        "{err}"
    );
}

/// `script` gives the command a terminal of its own.
#[test]
fn a_terminal_does_not_show_the_key_that_is_typed() {
    let directory = tempfile::tempdir().unwrap();
    let key = PlainKey::generate(&Prefix::default()).unwrap();
    let program = format!("{} keys check", env!("CARGO_BIN_EXE_gateway"));
    let mut script = Command::new("script")
        .args(["-qec", &program, "/dev/null"])
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut shown = Vec::new();
    // It asks once nothing is shown any more.
    while !shown.ends_with(b"Key (not shown): ") {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        shown.push(byte[0]);
    }
    writeln!(input, "{}", key.expose()).unwrap();
    output.read_to_end(&mut shown).unwrap();
    drop(input);
    assert!(script.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("its checksum is right"), "{shown}");
    assert!(!shown.contains(key.expose()), "{shown}");
}

#[test]
fn a_key_is_checked_without_any_database() {
    let directory = tempfile::tempdir().unwrap();
    let run = |prefix: &str, key: &str, input: &str| {
        let mut command = gateway(directory.path(), format!("keys check '{key}'"));
        command
            .env("DATABASE_URL", "sqlite:///nowhere/at/all.db")
            .env("GATEWAY__KEYS__PREFIX", prefix);
        with_input(command, input)
    };
    for prefix in ["pstn", "ab", "acme2026live"] {
        let key = PlainKey::generate(&Prefix::parse(prefix).unwrap()).unwrap();
        let key = key.expose();
        let last = if key.ends_with('0') { '1' } else { '0' };
        let mistyped = format!("{}{last}", &key[..key.len() - 1]);
        for (text, code, said) in [
            (key, 0, "its checksum is right"),
            (&*mistyped, 1, "its checksum is wrong"),
            (
                "sk_live_0123456789abcdefghijklmn",
                1,
                "sk_live_… does not have the form",
            ),
            ("two words", 1, "this is no key"),
            ("", 1, "this is no key: the token is empty"),
        ] {
            let refused = "a key is not accepted as an argument";
            for (done, code, said) in [
                (run(prefix, text, ""), 2, refused),
                (run(prefix, "-", &format!("{text}\n")), code, said),
            ] {
                let told = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
                assert_eq!(done.status.code(), Some(code), "{prefix}: {told}");
                assert!(told.contains(said), "{prefix}: {told}");
                assert!(
                    text.len() < 12 || !told.contains(&text[..text.len() / 2]),
                    "{prefix}: {told}"
                );
            }
        }
    }
    assert!(!directory.path().join("gateway.db").exists());
}

#[test]
fn an_argument_that_cannot_be_read_is_not_repeated_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let key = PlainKey::generate(&Prefix::parse("acme2026live").unwrap()).unwrap();
    let twice = format!("{0} {0}", key.expose());
    for line in [
        &format!("consumers create a --tag {}", key.expose()),
        &format!("keys create --consumer a --scope '{twice}'"),
        &format!("keys {}", key.expose()),
        &format!("keys list {}", key.expose()),
        &format!("audit --since {}", key.expose()),
    ] {
        let done = gateway(directory.path(), line).output().unwrap();
        let told = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert_eq!(done.status.code(), Some(2), "{told}");
        assert!(
            told.contains("contains a whole key") && !told.contains(&key.expose()[20..]),
            "{told}"
        );
    }
    for (line, code, said) in [
        ("keys lost", 2, "unrecognized subcommand 'lost'"),
        ("--help", 0, "Usage:"),
        ("--version", 0, "gateway "),
    ] {
        let done = gateway(directory.path(), line).output().unwrap();
        let told = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert_eq!(
            (done.status.code(), told.contains(said)),
            (Some(code), true),
            "{told}"
        );
    }
}

#[test]
fn the_printed_pattern_finds_keys_and_little_else() {
    let directory = tempfile::tempdir().unwrap();
    for prefix in ["pstn", "ab", "acme2026live"] {
        let print = |line: &str| {
            let done = gateway(directory.path(), line)
                .env("GATEWAY__KEYS__PREFIX", prefix)
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
            String::from_utf8(done.stdout).unwrap()
        };
        let printed = print("keys pattern");
        let rule = print("keys pattern --gitleaks");
        let in_rule = rule.split("'''").nth(1).unwrap();
        for pattern in [printed.trim_end(), in_rule] {
            let pattern = regex::Regex::new(pattern).unwrap();
            for _ in 0..200 {
                let key = PlainKey::generate(&Prefix::parse(prefix).unwrap()).unwrap();
                let text = format!(
                    "curl -H 'Authorization: Bearer {}' http://example.org",
                    key.expose()
                );
                assert_eq!(pattern.find(&text).unwrap().as_str(), key.expose());
                for other in [
                    &key.expose()[1..],
                    &key.expose()[..key.expose().len() - 1],
                    &format!("{}x", key.expose()),
                ] {
                    assert!(!pattern.is_match(other), "{other}");
                }
            }
        }
        assert!(
            rule.contains(&format!("keywords = [\"{prefix}_\"]")),
            "{rule}"
        );
        if prefix == Prefix::DEFAULT {
            let document =
                fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/LEAKS.md"))
                    .unwrap();
            assert!(
                document.contains(printed.trim_end()) && document.contains(&rule),
                "docs/LEAKS.md has another pattern:\n{printed}{rule}"
            );
        }
    }
}
