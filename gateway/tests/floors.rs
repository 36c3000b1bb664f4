//! The order of the rooms: files lean on what stands below them, and no file leads back to itself.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by stopping"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// From top to bottom, as `docs/ARCHITECTURE.md` has them. A file belongs to the entry that names the most of its path.
const FLOORS: [&str; 33] = [
    "fuzzing",
    "main",
    "lib",
    // The interface for programs of others, around all of it.
    "extend",
    "cli",
    "app",
    "admin",
    "control",
    "pipeline",
    "reload",
    "config",
    "import",
    "views",
    "leaks",
    "telemetry",
    "usage",
    "store",
    "panics",
    // Where panics are told: the process log stands below whatever may panic.
    "telemetry::process_log",
    "telemetry::log_writer",
    "rules",
    "routes",
    "proxy",
    "http",
    "front",
    // The guarded stream tells which request it is in the middle of.
    "http::request_id",
    "auth",
    "limits",
    "tls",
    "wire",
    "keys",
    "hash",
    "memory",
];

/// Every file by its module path, with the files that it names.
struct House {
    texts: BTreeMap<String, String>,
    arrows: BTreeMap<String, BTreeSet<String>>,
}

impl House {
    fn read() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut texts = BTreeMap::new();
        let mut folders = vec![source.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(&source).unwrap().with_extension("");
                    let name = name.to_str().unwrap().replace('/', "::");
                    texts.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let of_tests: BTreeSet<String> = texts
            .iter()
            .flat_map(|(name, text)| test_files(name, text))
            .collect();
        texts.retain(|name, _| !of_tests.contains(name));
        let mut house = Self {
            texts,
            arrows: BTreeMap::new(),
        };
        house.arrows = house
            .texts
            .iter()
            .map(|(name, text)| (name.clone(), house.arrows_from(name, text)))
            .collect();
        house
    }

    fn arrows_from(&self, name: &str, text: &str) -> BTreeSet<String> {
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: String = product
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| [line, "\n"])
            .collect();
        code.match_indices("crate::")
            .filter(|(at, _)| !code[..*at].ends_with(|before: char| before.is_alphanumeric()))
            .flat_map(|(at, found)| paths(&code[at + found.len()..]))
            .filter_map(|path| self.file_of(&path))
            // What stands in a file's own folder is a part of it.
            .filter(|file| file != name && !file.starts_with(&format!("{name}::")))
            .collect()
    }

    /// The file that a path leads to: the longest beginning that is one.
    fn file_of(&self, path: &str) -> Option<String> {
        let mut path = path;
        loop {
            if self.texts.contains_key(path) {
                return Some(path.to_owned());
            }
            path = path.rsplit_once("::")?.0;
        }
    }
}

/// The files that are modules of tests, as their parent declares them.
fn test_files(name: &str, text: &str) -> Vec<String> {
    let parent = if name == "lib" {
        String::new()
    } else {
        format!("{name}::")
    };
    text.split("#[cfg(test)]\nmod ")
        .skip(1)
        .filter_map(|rest| rest.split_once(';'))
        .filter(|(module, _)| module.chars().all(|c| c.is_alphanumeric() || c == '_'))
        .map(|(module, _)| format!("{parent}{module}"))
        .collect()
}

/// The paths that `text` begins with: one, or as many as its braces hold.
fn paths(text: &str) -> Vec<String> {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    let (path, rest) = text.split_at(end);
    let Some(inside) = rest
        .strip_prefix('{')
        .filter(|_| path.ends_with("::") || path.is_empty())
    else {
        return vec![path.trim_end_matches(':').to_owned()];
    };
    let (mut found, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, c) in inside.char_indices() {
        if c == '{' {
            depth += 1;
        } else if depth > 0 && c == '}' {
            depth -= 1;
        } else if depth == 0 && (c == ',' || c == '}') {
            for inner in paths(inside[begin..at].trim()) {
                found.push(format!("{path}{inner}"));
            }
            begin = at + 1;
            if c == '}' {
                break;
            }
        }
    }
    found
}

/// Where the floor of a file is, from the top.
fn floor(file: &str) -> usize {
    let is_of = |floor: &str| file == floor || file.starts_with(&format!("{floor}::"));
    FLOORS
        .iter()
        .enumerate()
        .filter(|(_, floor)| is_of(floor))
        .max_by_key(|(_, floor)| floor.len())
        .unwrap_or_else(|| panic!("{file} is of no floor: give its room a place in the list"))
        .0
}

#[test]
fn arrows_point_down_only() {
    let house = House::read();
    let up: Vec<String> = house
        .arrows
        .iter()
        .flat_map(|(from, targets)| targets.iter().map(move |to| (from, to)))
        .filter(|(from, to)| floor(from) > floor(to))
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect();
    assert_eq!(up, [""; 0]);
    assert!(
        house.arrows["pipeline"].contains("routes"),
        "arrows are found"
    );
}

#[test]
fn no_file_leads_back_to_itself() {
    let mut house = House::read();
    // What leads nowhere is on no circle; take that away until nothing goes any more.
    loop {
        let leaves: BTreeSet<String> = house
            .arrows
            .iter()
            .filter(|(_, to)| to.is_empty())
            .map(|(file, _)| file.clone())
            .collect();
        if leaves.is_empty() {
            break;
        }
        house.arrows.retain(|file, _| !leaves.contains(file));
        for to in house.arrows.values_mut() {
            to.retain(|file| !leaves.contains(file));
        }
    }
    // And what nothing leads to, so that circles are all that is left.
    loop {
        let reached: BTreeSet<String> = house.arrows.values().flatten().cloned().collect();
        let before = house.arrows.len();
        house.arrows.retain(|file, _| reached.contains(file));
        if house.arrows.len() == before {
            break;
        }
    }
    assert!(house.arrows.is_empty(), "circles: {:#?}", house.arrows);
}

#[test]
fn paths_are_read_out_of_braces() {
    for (text, wanted) in [
        ("a::b::C;", &["a::b::C"][..]),
        (
            "a::{b, c::{self, D}, e};",
            &["a::b", "a::c::self", "a::c::D", "a::e"],
        ),
        (
            "a::{\n    b::C as _,\n    d,\n};",
            &["a::b::C", "a::d", "a::"],
        ),
    ] {
        assert_eq!(paths(text), wanted, "{text}");
    }
}
