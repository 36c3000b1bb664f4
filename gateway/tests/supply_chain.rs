//! What is built into the programs, and what the tests install, is what `deny.toml` and the pins allow.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by stopping"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use config::{Config, File, FileFormat};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

/// The part of `deny.toml` that is held here.
#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    advisories: Advisories,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Advisories {
    ignore: Vec<Ignored>,
}

#[derive(Deserialize)]
struct Ignored {
    id: String,
    reason: String,
}

/// The part of `cargo metadata` that is read.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn rules() -> Rules {
    let text = read(&root().join("deny.toml"));
    let read = Config::builder().add_source(File::from_str(&text, FileFormat::Toml));
    read.build().unwrap().try_deserialize().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every package that is built for Linux, with those that only tests use.
fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    let mut packages = metadata.packages;
    let resolved: Vec<String> = metadata.resolve.nodes.into_iter().map(|n| n.id).collect();
    packages.retain(|package| resolved.contains(&package.id));
    assert!(packages.len() > 100, "{} packages", packages.len());
    packages
}

/// Whether `license` can be kept by keeping licences that are allowed.
fn is_allowed(license: &str, allowed: &[Licensee]) -> bool {
    let parsed = Expression::parse_mode(license, ParseMode::LAX)
        .unwrap_or_else(|error| panic!("{license}: {error}"));
    parsed.evaluate(|required| allowed.iter().any(|license| license.satisfies(required)))
}

fn allowed() -> Vec<Licensee> {
    let allow = rules().licenses.allow;
    allow
        .iter()
        .map(|license| Licensee::parse(license).unwrap())
        .collect()
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = allowed();
    let mut refused = Vec::new();
    for package in packages() {
        let license = package.license.as_deref().unwrap_or_default();
        if license.is_empty() || !is_allowed(license, &allowed) {
            refused.push(format!("{} {}: `{license}`", package.name, package.version));
        }
    }
    assert!(refused.is_empty(), "not in deny.toml: {refused:#?}");
}

#[test]
fn a_licence_that_is_not_listed_is_refused() {
    let allowed = allowed();
    for (license, is_fine) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only", false),
        ("MIT AND AGPL-3.0-only", false),
        ("BUSL-1.1", false),
    ] {
        assert_eq!(is_allowed(license, &allowed), is_fine, "{license}");
    }
}

#[test]
fn every_dependency_comes_from_the_one_registry() {
    let packages = packages();
    let mut sources: Vec<&str> = packages
        .iter()
        .filter_map(|package| package.source.as_deref())
        .collect();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), 1, "{sources:?}");
    assert!(sources[0].starts_with("registry+"), "{sources:?}");
    let lock = read(&root().join("Cargo.lock"));
    let checksums = lock.matches("\nchecksum = ").count();
    assert_eq!(lock.matches("\nsource = ").count(), checksums);
}

#[test]
fn the_images_are_built_with_the_toolchain_of_the_repository() {
    let toolchain = read(&root().join("rust-toolchain.toml"));
    let channel = toolchain.split_once("channel = \"").unwrap().1;
    let channel = channel.split_once('"').unwrap().0;
    let image = format!("\nARG RUST_IMAGE=rust:{channel}-slim-");
    assert!(read(&root().join("Dockerfile")).contains(&image), "{image}");
}

#[test]
fn every_package_for_python_is_pinned_with_its_hashes() {
    let listed = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "*requirements*.txt"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<&str> = listed.lines().collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let path = root().join(file);
        assert!(path.with_extension("in").exists(), "{file} has no .in");
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        let mut packages = 0;
        for (at, line) in lines.iter().enumerate() {
            if line.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                packages += 1;
                let hash = lines.get(at + 1).map_or("", |line| line.trim_start());
                assert!(
                    line.contains("==") && hash.starts_with("--hash=sha256:"),
                    "{file}: {line}"
                );
            }
        }
        assert!(packages > 0, "{file}");
    }
}

#[test]
fn each_advisory_that_is_ignored_has_its_crate_and_the_tests_that_show_it_unreachable() {
    let ignored = rules().advisories.ignore;
    let ids: Vec<&str> = ignored.iter().map(|ignored| ignored.id.as_str()).collect();
    assert_eq!(ids, ["RUSTSEC-2026-0258"]);
    let is_old_h2 = |package: &Package| package.name == "h2" && package.version.starts_with("0.3.");
    assert!(
        packages().iter().any(is_old_h2),
        "h2 0.3 is gone: take RUSTSEC-2026-0258 out of deny.toml"
    );
    let tests = ["library_faults.rs", "websocket.rs"];
    let tests = tests.map(|file| read(&root().join("gateway/tests/gateway").join(file)));
    for name in [
        "d8_d9_the_h2_of_actix_and_awc_is_never_spoken",
        "an_upgrade_to_http_2_is_left_out",
    ] {
        assert!(ignored[0].reason.contains(name), "{}", ignored[0].reason);
        let defined = format!("fn {name}(");
        assert!(tests.iter().any(|file| file.contains(&defined)), "{name}");
    }
}
