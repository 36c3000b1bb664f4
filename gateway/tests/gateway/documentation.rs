//! The documents say what is true.

use std::path::{Path, PathBuf};

use crate::certificates::Authority;
use crate::rig::{SECRET, gateway};

/// A file that sets what has no default.
const EVERY_OPTION: &str = r#"
[listen]
health_path = "/healthz"

[[listen.tls]]
cert_file = "pair.crt"
key_file = "pair.key"

[origin.tls]
ca_file = "pair.crt"
client_cert_file = "pair.crt"
client_key_file = "pair.key"
server_name = "origin.internal"

[[admin.tokens]]
name = "ci"
role = "read-only"
token = "documentation-9f2c51d07be84a63"

[[admin.tokens]]
name = "backup"
role = "admin"
token_file = "backup.token"

[[upstreams]]
name = "orders"
targets = ["http://127.0.0.1:9000"]
health_path = "/healthz"
secret = "documentation-84a639f2c51d07be"

[[upstreams]]
name = "stock"
targets = ["http://127.0.0.1:9001"]
secret_file = "stock.secret"

[[jwt.issuers]]
name = "corp"
issuer = "https://login.example.com/"
audiences = ["https://api.example.com"]

[[routes]]
upstream = "https://127.0.0.1:9000"

[[rate_limits]]
name = "burst"
by = "key"
limit = 100
window = "1m"

[[concurrency_limits]]
name = "streams"
by = "key"
limit = 10

[[quotas]]
name = "monthly"
by = "consumer"
limit = 100000
period = "month"
"#;

pub(crate) fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// The code of an example in a document is the file that is built and tried.
#[test]
fn examples_in_documents_are_the_files_that_are_built() {
    let mut found = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for part in text.split("<!-- from ").skip(1) {
            let (file, rest) = part.split_once(" -->\n```rust\n").unwrap();
            let (code, _) = rest.split_once("```").unwrap();
            assert_eq!(code, document(file), "{}: {file}", path.display());
            found += 1;
        }
    }
    assert!(found >= 2, "{found} examples");
}

/// What is in force: section, key, value.
fn effective(file: &str) -> Vec<(String, String, String)> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    std::fs::write(
        directory.path().join("backup.token"),
        "documentation-51d07be84a639f2c\n",
    )
    .unwrap();
    std::fs::write(
        directory.path().join("stock.secret"),
        "documentation-c51d07be84a639f2\n",
    )
    .unwrap();
    Authority::new()
        .issue(&["gateway"])
        .write(directory.path(), "pair");
    let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"]);
    assert!(output.status.success(), "{output:?}");
    let (mut section, mut settings) = (String::new(), Vec::new());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, rest)) = line.split_once(" = ") {
            let value = rest.rsplit_once("  # ").unwrap().0;
            settings.push((
                section.clone(),
                key.to_owned(),
                value.trim_matches('"').to_owned(),
            ));
        }
    }
    settings
}

#[test]
fn every_setting_is_documented_with_its_default() {
    let text = document("docs/CONFIGURATION.md");
    let settings = effective(EVERY_OPTION);
    assert!(settings.len() > 20, "{settings:?}");
    for (section, key, default) in settings {
        let rows = text.lines().filter(|line| {
            line.starts_with(&format!("| `{key}`"))
                || line.starts_with(&format!("| `{section}.{key}`"))
        });
        let rows: Vec<&str> = rows.collect();
        assert!(
            !rows.is_empty(),
            "{section}.{key} is not in docs/CONFIGURATION.md"
        );
        let depends_on_the_machine = matches!(
            key.as_str(),
            "workers"
                | "SHARED_SECRET"
                | "name"
                | "upstream"
                | "server_name"
                | "issuer"
                | "audiences"
                | "targets"
                | "health_path"
                | "role"
                | "token"
                | "secret"
                | "by"
                | "limit"
                | "window"
        ) || key.ends_with("_file");
        assert!(
            depends_on_the_machine || rows.iter().any(|row| row.contains(&default)),
            "{section}.{key}: {default:?} is not in {rows:?}"
        );
    }
}

#[test]
fn the_example_of_the_documentation_is_accepted() {
    let text = document("docs/CONFIGURATION.md");
    let example = text
        .split_once("```toml\n")
        .unwrap()
        .1
        .split_once("```")
        .unwrap()
        .0;
    assert!(
        effective(example)
            .iter()
            .any(|(section, key, value)| section == "routes"
                && key == "path"
                && value == "/orders")
    );
}

/// Every document for people: those at the root, in docs/ and beside the examples.
fn documents() -> Vec<PathBuf> {
    ["", "docs", "examples/litestar"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(root().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// The places in a document that a link can lead to, as GitHub makes them of its headings.
fn anchors(text: &str) -> Vec<String> {
    let mut is_code = false;
    let headings = text.lines().filter(|line| {
        is_code ^= line.starts_with("```");
        !is_code && line.starts_with('#')
    });
    headings
        .map(|heading| {
            heading
                .trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|char| char.is_alphanumeric() || " -_".contains(*char))
                .map(|char| if char == ' ' { '-' } else { char })
                .collect()
        })
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut links = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(link, _)| link)
            .filter(|link| !link.starts_with("http"))
        {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(
                target.exists(),
                "{} links to {link}, which is not there",
                path.display()
            );
            assert!(
                anchor.is_empty()
                    || anchors(&std::fs::read_to_string(&target).unwrap())
                        .contains(&anchor.to_owned()),
                "{} links to {link}, and there is no such heading",
                path.display()
            );
            links += 1;
        }
    }
    assert!(links > 50, "{links} links");
}

/// A table of guards is worth what its tests are: each that is named has to be there, and each fault has one.
#[test]
fn every_fault_of_the_libraries_has_a_test_that_is_there() {
    let files = rust_files(&root().join("gateway/tests"));
    let tests: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let text = document("docs/LIBRARY-FAULTS.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| D"))
        .map(|row| row.split(" | ").collect())
        .collect();
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row[0], format!("| D{}", index + 1));
        let named: Vec<&str> = row[4].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{} has no test", row[0]);
        for name in named {
            assert!(
                tests.contains(&format!("#[test]\nfn {name}()")),
                "{}: there is no test {name}",
                row[0]
            );
        }
    }
    assert!(rows.len() >= 13, "{} rows", rows.len());
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| {
        if path.is_dir() {
            rust_files(&path)
        } else {
            vec![path]
        }
    });
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}
