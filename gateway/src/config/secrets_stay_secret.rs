//! No message about the settings repeats a secret or a long piece of one.

use std::path::Path;

use crate::config::{Environment, load, show};

const SHARED: &str = "Zq7kWm2xRv9TfLp4";
const ADMIN: &str = "hT5nYc8bQe1JsGd6";
const TOKEN: &str = "correct-horse-battery";
const PASSWORD: &str = "uX3pKv6zMa0Wr9Bj";

const FILE: &str = r#"[listen]
address = "127.0.0.1:0"
[store]
url = "postgres://keys:uX3pKv6zMa0Wr9Bj@db.internal:5433/keys?sslmode=require"
[[admin.tokens]]
name = "ci"
role = "admin"
token = "correct-horse-battery"
[[routes]]
path = "/v1"
scopes = ["read"]
"#;

/// Output of `gateway check`.
fn told(file: &Path, variables: &[(&str, &str)]) -> String {
    let usual = [("SHARED_SECRET", SHARED), ("ADMIN_TOKEN", ADMIN)];
    let usual = usual
        .into_iter()
        .filter(|(name, _)| !variables.iter().any(|(given, _)| given.starts_with(name)));
    let environment: Environment = usual.chain(variables.iter().copied()).collect();
    match load(Some(file), &environment) {
        Ok(settings) => show(&settings.effective),
        Err(problems) => problems.to_string(),
    }
}

fn assert_none_is_told(told: &str, of: &str) {
    for secret in [SHARED, ADMIN, TOKEN, PASSWORD] {
        for piece in secret.as_bytes().windows(8) {
            let piece = str::from_utf8(piece).unwrap();
            assert!(!told.contains(piece), "{piece} of\n{of}\nis in\n{told}");
        }
    }
}

#[test]
fn no_byte_of_the_file_can_be_wrong_so_that_a_secret_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.toml");
    let (mut refused, mut tried) = (0, 0);
    let mut check = |text: &[u8]| {
        std::fs::write(&path, text).unwrap();
        let told = told(&path, &[]);
        assert_none_is_told(&told, &String::from_utf8_lossy(text));
        tried += 1;
        refused += usize::from(told.contains("with the settings:"));
    };
    let bytes = FILE.as_bytes();
    check(bytes);
    for at in 0..bytes.len() {
        let (before, after) = bytes.split_at(at);
        check(before);
        check(&[before, &after[1..]].concat());
        for other in [
            b'"', b'\n', b'=', b'#', b'[', b']', b'@', b'/', b'?', b'.', b'\'', 0xff,
        ] {
            check(&[before, &[other], after].concat());
            check(&[before, &[other], &after[1..]].concat());
        }
        if let [one, two, rest @ ..] = after {
            check(&[before, &[*two, *one], rest].concat());
        }
    }
    assert!(
        refused > tried / 2 && refused < tried,
        "{refused} of {tried}"
    );
}

#[test]
fn a_secret_in_the_wrong_place_is_not_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.toml");
    let token = format!("\"{TOKEN}\"");
    for file in [
        format!("[[admin.tokens]]\nname = \"ci\"\nrole = \"admin\"\ntoken = [{token}]\n"),
        format!("[[admin.tokens]]\nname = \"ci\"\nrole = \"admin\"\ntoken = {{ {token} = 1 }}\n"),
        format!("[[admin.tokens]]\nname = \"ci\"\nrole = {token}\ntoken = \"x\"\n"),
        format!("[[admin.tokens]]\nname = \"{TOKEN} \"\n"),
        format!("[[admin.tokens]]\n{TOKEN} = 1\n"),
        format!("[admin]\n{token} = {token}\n"),
        format!("[admin]\ntokens = {token}\n"),
        format!("[admin]\ntokens = [{token}]\n"),
        format!("[{TOKEN}]\na = 1\n"),
        format!("{TOKEN}\n"),
        format!("[[admin.tokens]]\nname = \"ci\"\nrole = \"admin\"\ntoken_file = {token}\n"),
        format!(
            "[listen]\naddress = {token}\nworkers = {token}\nhead_timeout = {token}\ntrusted_proxies = [{token}]\n"
        ),
        format!("[origin]\nurl = {token}\n[log]\naccess = {token}\n[keys]\nprefix = {token}\n"),
        format!(
            "[[routes]]\npath = {token}\nmethods = [{token}]\nscopes = [\"{TOKEN} \"]\nhosts = [\"{TOKEN} \"]\non_missing_key = {token}\nupstream = \"{TOKEN} \"\n"
        ),
        format!("[store]\nurl = \"mysql://{TOKEN}\"\nmax_staleness = {token}\n"),
        format!("[leaks]\ngithub_keys = \"ftp://{TOKEN}\"\n[auth]\nrealm = \"\\\"{TOKEN}\"\n"),
        "[[admin.tokens]]\nname = \"ci\"\nrole = \"admin\"\ntoken = 99999999999999999999\n"
            .to_owned(),
    ] {
        std::fs::write(&path, &file).unwrap();
        let told = told(&path, &[]);
        assert!(told.contains("with the settings:"), "{file}: {told}");
        assert_none_is_told(&told, &file);
    }
    std::fs::write(&path, "").unwrap();
    let odd = directory.path().join("odd");
    std::fs::write(&odd, [SHARED.as_bytes(), b"\xff\n"].concat()).unwrap();
    let password_at = |url: &str| url.replace("PW", PASSWORD);
    for (name, value) in [
        ("SHARED_SECRET_FILE", SHARED),
        ("ADMIN_TOKEN_FILE", ADMIN),
        (
            "DATABASE_URL_FILE",
            &password_at("postgres://keys:PW@db/keys"),
        ),
        ("SHARED_SECRET_FILE", odd.to_str().unwrap()),
        ("SHARED_SECRET", &format!("{SHARED} {SHARED}")),
        ("SHARED_SECRET", &format!("{SHARED}\u{e4}")),
        ("ADMIN_TOKEN", SHARED),
        ("GATEWAY__ADMIN__CORRECT-HORSE-BATTERY", "1"),
        ("GATEWAY__uX3pKv6zMa0Wr9Bj", "1"),
        ("GATEWAY__LISTEN__uX3pKv6zMa0Wr9Bj", "1"),
        ("GATEWAY__a[b]uX3pKv6zMa0Wr9Bj", "1"),
        ("GATEWAY__LISTEN", PASSWORD),
        ("GATEWAY__LISTEN__ADDRESS", PASSWORD),
        ("GATEWAY__LISTEN__ADDRESS__PORT", PASSWORD),
        ("GATEWAY__ADMIN__TOKENS", PASSWORD),
        ("ORIGIN_URL", &password_at("http://keys:PW@origin")),
        ("VALKEY_URL", &password_at("http://:PW@cache")),
        ("VALKEY_URL", &password_at("redis://:PW@cache/PW")),
        ("VALKEY_URL", &password_at("redis://PW@cache")),
        ("VALKEY_URL", &password_at("redis://cache:PW")),
        ("VALKEY_URL", &password_at("redis://cache?password=PW")),
        ("DATABASE_URL", &password_at("postgres//keys:PW@db/keys")),
        (
            "DATABASE_URL",
            &password_at("postgres://keys:PW@db:port/keys"),
        ),
        (
            "DATABASE_URL",
            &password_at("postgres://keys:PW/x@db:port/keys"),
        ),
        (
            "DATABASE_URL",
            &password_at("postgres://db/keys?pasword=PW"),
        ),
        ("DATABASE_URL", &password_at("keys:PW@db/keys")),
    ] {
        let told = told(&path, &[(name, value)]);
        // Another test covers a token that equals another secret.
        assert!(
            told.contains("with the settings:") || value == SHARED,
            "{name}={value}: {told}"
        );
        assert_none_is_told(
            &told.replace("GATEWAY__ADMIN__", ""),
            &format!("{name}={value}"),
        );
    }
}
