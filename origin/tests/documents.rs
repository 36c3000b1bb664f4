//! Checks the documents for backend authors against the code.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn document(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(name)).unwrap()
}

/// Code blocks of a document in this language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence)
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect()
}

#[test]
fn the_readmes_backend_is_the_example_that_is_compiled() {
    let readme = document("README.md");
    let example = document("origin/examples/orders.rs");
    // After the line that introduces the example.
    let example = example.split_once("\n\n").unwrap().1;
    // The gateway holds the program of its own that follows.
    assert_eq!(blocks(&readme, "rust").first(), Some(&example));
}

#[test]
fn the_readme_depends_on_this_crate_by_its_name() {
    let readme = document("README.md");
    let manifest = blocks(&readme, "toml")[0];
    let dependency = format!("\n{} = {{ path = ", env!("CARGO_PKG_NAME"));
    assert!(manifest.contains(&dependency), "{manifest}");
    let ours = document("Cargo.toml");
    let version = |manifest: &str| {
        let (_, rest) = manifest.split_once("\nactix-web = ").unwrap();
        let digits = rest.split_once('"').unwrap().1;
        digits.split(['.', '"']).next().unwrap().to_owned()
    };
    assert_eq!(version(manifest), version(&ours));
}

#[test]
fn every_rule_of_guards_names_cases_that_are_there() {
    let text = document("docs/GUARDS.md");
    let vectors: serde_json::Value =
        serde_json::from_str(&document("examples/origin-guard-vectors.json")).unwrap();
    let names: BTreeSet<&str> = vectors["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| case["name"].as_str().unwrap())
        .collect();
    let (_, rules) = text.split_once("\n1. ").unwrap();
    let rules: Vec<String> = rules
        .split("\n")
        .fold(vec![String::new()], |mut rules, line| {
            if line.starts_with(|first: char| first.is_ascii_digit()) {
                rules.push(String::new());
            }
            let rule = rules.last_mut().unwrap();
            rule.push_str(line.trim());
            rule.push(' ');
            rules
        });
    // The last one is about logs, which no request shows; each guard's own tests read its log.
    assert_eq!(rules.len(), 11);
    for rule in &rules[..10] {
        let (_, cases) = rule.split_once("Cases: ").unwrap();
        let named: Vec<&str> = cases.split('"').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{rule}");
        for name in named {
            assert!(names.contains(name), "{name:?} is no case");
        }
    }
}
