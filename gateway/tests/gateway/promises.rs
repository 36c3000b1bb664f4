//! docs/PROMISES.md: each sentence stands in its document still, and each test that holds it is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

/// A row: the document, words of it, and the names of tests.
struct Promise {
    document: String,
    words: String,
    tests: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// The text of a document on one line, so that no end of a line divides a sentence.
fn document(name: &str) -> String {
    let text = std::fs::read_to_string(root().join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    on_one_line(&text)
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn promises() -> Vec<Promise> {
    let text = std::fs::read_to_string(root().join("docs/PROMISES.md")).unwrap();
    let (mut document, mut promises) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            document = name.to_owned();
        }
        let Some((words, tests)) = line
            .strip_prefix("| ")
            .and_then(|row| row.strip_suffix(" |"))
            .and_then(|row| row.split_once(" | "))
        else {
            continue;
        };
        if words == "words" {
            continue;
        }
        promises.push(Promise {
            document: document.clone(),
            words: on_one_line(words),
            tests: tests
                .split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect(),
        });
    }
    promises
}

/// The names of all tests: of Rust by their attribute, of Python by their name.
pub(crate) fn tests() -> BTreeSet<String> {
    let rust = Regex::new(
        r"#\[(?:\w+::)?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\(crate\))? )?(?:async )?fn (\w+)",
    )
    .unwrap();
    let python = Regex::new(r"(?m)^(?:async )?def (test_\w+)").unwrap();
    let mut names = BTreeSet::new();
    for folder in ["gateway", "origin", "shared", "examples", "tests"] {
        for file in files(&root().join(folder)) {
            let form = match file.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => &rust,
                Some("py") => &python,
                _ => continue,
            };
            let text = std::fs::read_to_string(&file).unwrap();
            names.extend(form.captures_iter(&text).map(|found| found[1].to_owned()));
        }
    }
    names
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| !path.ends_with("target") && !path.ends_with("node_modules"))
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn every_promise_stands_in_its_document_and_has_tests_that_are_there() {
    let (promises, tests) = (promises(), tests());
    assert!(promises.len() > 100, "{} rows", promises.len());
    let mut wrong = Vec::new();
    for Promise {
        document: name,
        words,
        tests: named,
    } in &promises
    {
        if !document(name).contains(words.as_str()) {
            wrong.push(format!("{name} no longer has the words {words:?}"));
        }
        if named.is_empty() {
            wrong.push(format!("{name}: no test holds {words:?}"));
        }
        for test in named {
            if !tests.contains(test) {
                wrong.push(format!("{name}: there is no test {test}, for {words:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where a document lists what it promises, each item has a row.
#[test]
fn every_item_of_the_lists_of_promises_has_a_row() {
    let promises = promises();
    let mut missing = Vec::new();
    let mut items = 0;
    for (name, begin, end, item) in [
        (
            "README.md",
            "## The security model in ten lines",
            "## The admin API",
            r"^\d+\. ",
        ),
        (
            "docs/THREAT-MODEL.md",
            "| attacker | tries |",
            "What the libraries beneath",
            r"^\| ",
        ),
        (
            "docs/CONFIGURATION.md",
            "## `[listen]`",
            "### Headers by which",
            r"^\| `\w+` \| `\d[\dms ]*`",
        ),
        (
            "docs/CONFIGURATION.md",
            "## `[origin]`",
            "### `[origin.tls]`",
            r"^\| `\w+` \| `\d[\dms ]*`",
        ),
        (
            "docs/SCALING.md",
            "| what happens | what the gateway does |",
            "To restore a backup",
            r"^\| ",
        ),
    ] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        let part = text.split_once(begin).unwrap().1.split_once(end).unwrap().0;
        let first_line = Regex::new(item).unwrap();
        let mut list: Vec<String> = Vec::new();
        for line in part.lines() {
            if first_line.is_match(line) {
                list.push(line.to_owned());
            } else if let (true, Some(last)) = (line.starts_with("   "), list.last_mut()) {
                last.push_str(line);
            }
        }
        items += list.len();
        for item in list.iter().map(|item| on_one_line(item)) {
            let has_row = promises
                .iter()
                .any(|promise| promise.document == name && item.contains(&promise.words));
            if !has_row {
                missing.push(format!("{name}: {item}"));
            }
        }
    }
    assert!(items > 60, "{items} items");
    assert!(missing.is_empty(), "without a row:\n{}", missing.join("\n"));
}
