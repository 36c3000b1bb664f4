//! gateway.example.toml is made of the settings that the gateway knows, of its defaults, and of docs/CONFIGURATION.md.
//!
//! `WRITE_DOCS=1 cargo test -p postern-gateway --test gateway -- example_file` writes it anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use crate::certificates::Authority;
use crate::documentation::{document, root};
use crate::rig::{SECRET, gateway};

const FILE: &str = "gateway.example.toml";

const INTRODUCTION: &str = "\
# Every setting of gateway.toml, with its default or an example. Copy this file and uncomment what you change:
# what stays a comment keeps the default of the version that runs. `gateway check` prints what is in force.
# docs/CONFIGURATION.md explains each setting in full. SHARED_SECRET stands in the environment.
";

/// The tables of the file, in its order; the last ones are lists.
const SECTIONS: [&str; 24] = [
    "[listen]",
    "[[listen.tls]]",
    "[origin]",
    "[origin.tls]",
    "[admin]",
    "[[admin.tls]]",
    "[[admin.tokens]]",
    "[auth]",
    "[cors]",
    "[keys]",
    "[store]",
    "[leaks]",
    "[log]",
    "[brake]",
    "[limits]",
    "[valkey]",
    "[reload]",
    "[[jwt.issuers]]",
    "[[upstreams]]",
    "[[routes]]",
    "[routes.cors]",
    "[[rate_limits]]",
    "[[concurrency_limits]]",
    "[[quotas]]",
];

/// Values for what has no default, or one that depends on the machine or on other settings.
const EXAMPLES: [(&str, &str); 72] = [
    ("listen.public_url", r#""https://api.example.com""#),
    ("listen.health_path", r#""/healthz""#),
    ("listen.workers", "4"),
    ("listen.max_requests_in_flight_per_key", "2500"),
    ("listen.tls.cert_file", r#""pair.crt""#),
    ("listen.tls.key_file", r#""pair.key""#),
    ("origin.tls.ca_file", r#""pair.crt""#),
    ("origin.tls.client_cert_file", r#""pair.crt""#),
    ("origin.tls.client_key_file", r#""pair.key""#),
    ("origin.tls.server_name", r#""origin.internal""#),
    ("admin.public_url", r#""https://postern.example.com""#),
    ("admin.tls.cert_file", r#""pair.crt""#),
    ("admin.tls.key_file", r#""pair.key""#),
    ("admin.tokens.name", r#""ci""#),
    ("admin.tokens.role", r#""read-only""#),
    ("admin.tokens.token", r#""…""#),
    ("admin.tokens.token_file", r#""ci.token""#),
    ("valkey.url", r#""rediss://valkey.internal:6379/0""#),
    ("valkey.ca_file", r#""pair.crt""#),
    ("store.max_staleness", r#""10m""#),
    ("store.snapshot", r#""data/keys.snapshot""#),
    ("store.audit_keep", r#""1year""#),
    ("store.usage_keep", r#""400days""#),
    (
        "leaks.github_keys",
        r#""https://api.github.com/meta/public_keys/secret_scanning""#,
    ),
    ("reload.last_good", r#""data/last-good.toml""#),
    ("jwt.issuers.name", r#""corp""#),
    ("jwt.issuers.issuer", r#""https://login.example.com/""#),
    ("jwt.issuers.audiences", r#"["https://api.example.com"]"#),
    (
        "jwt.issuers.jwks_url",
        r#""https://login.example.com/keys""#,
    ),
    ("jwt.issuers.jwks_file", r#""corp.jwks.json""#),
    ("jwt.issuers.secret_file", r#""corp.secret""#),
    ("jwt.issuers.ca_file", r#""pair.crt""#),
    ("jwt.issuers.typ", r#"["at+jwt"]"#),
    ("jwt.issuers.max_lifetime", r#""1day""#),
    ("jwt.issuers.scopes_claim", r#""scope""#),
    ("jwt.issuers.consumer_claim", r#""client_id""#),
    ("jwt.issuers.required_claims", r#"{ tenant = ["a", "b"] }"#),
    (
        "jwt.issuers.forward_claims",
        r#"{ "X-User-Email" = "email" }"#,
    ),
    ("upstreams.name", r#""orders""#),
    (
        "upstreams.targets",
        r#"["http://127.0.0.1:9001", "http://127.0.0.1:9002"]"#,
    ),
    ("upstreams.health_path", r#""/healthz""#),
    ("upstreams.secret", r#""…""#),
    ("upstreams.secret_file", r#""orders.secret""#),
    ("routes.name", r#""orders""#),
    ("routes.path", r#""/orders""#),
    ("routes.methods", r#"["GET"]"#),
    ("routes.upstream", r#""orders""#),
    ("routes.set_request_headers", r#"{ X-Env = "production" }"#),
    ("routes.remove_request_headers", r#"["X-Debug"]"#),
    (
        "routes.set_response_headers",
        r#"{ Cache-Control = "no-store" }"#,
    ),
    ("routes.remove_response_headers", r#"["Server"]"#),
    ("routes.buckets", r#"["default"]"#),
    ("cors.origins", r#"["https://app.example.com"]"#),
    ("routes.cors.origins", r#"["https://app.example.com"]"#),
    ("routes.scopes", r#"["orders:read"]"#),
    ("routes.limits", r#"["burst"]"#),
    ("routes.self_path", r#""/orders/whoami""#),
    ("rate_limits.name", r#""burst""#),
    ("rate_limits.by", r#""key""#),
    ("rate_limits.limit", "100"),
    ("rate_limits.window", r#""1m""#),
    ("rate_limits.burst", "20"),
    ("rate_limits.routes", r#"["orders"]"#),
    ("concurrency_limits.name", r#""streams""#),
    ("concurrency_limits.by", r#""key""#),
    ("concurrency_limits.limit", "10"),
    ("concurrency_limits.routes", r#"["orders"]"#),
    ("quotas.name", r#""monthly""#),
    ("quotas.by", r#""consumer""#),
    ("quotas.limit", "100000"),
    ("quotas.period", r#""month""#),
    ("quotas.count_statuses", r#"["2xx", "3xx"]"#),
];
/// Each stands in a file only where the setting after it does not.
const ALTERNATIVES: [&str; 4] = [
    "#token = ",
    "#secret = ",
    "#jwks_file = ",
    "#secret_file = \"corp.secret\"",
];

/// The path of a table: `listen.tls` of `[[listen.tls]]`.
pub(crate) fn path_of(section: &str) -> &str {
    section.trim_matches(['[', ']'])
}

fn check(file: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    std::fs::write(
        directory.path().join("ci.token"),
        "example-51d07be84a639f2c\n",
    )
    .unwrap();
    std::fs::write(
        directory.path().join("orders.secret"),
        "example-c51d07be84a639f2\n",
    )
    .unwrap();
    Authority::new()
        .issue(&["gateway"])
        .write(directory.path(), "pair");
    gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"])
}

/// What `gateway check` shows: path, value, source.
fn in_force(file: &str) -> Vec<(String, String, String)> {
    let output = check(file);
    assert!(output.status.success(), "{output:?}");
    let (mut section, mut settings) = (String::new(), Vec::new());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        if line.starts_with('[') {
            section = path_of(line).to_owned();
        } else if let Some((key, rest)) = line.split_once(" = ") {
            let (value, source) = rest.rsplit_once("  # ").unwrap();
            settings.push((
                format!("{section}.{key}"),
                value.to_owned(),
                source.to_owned(),
            ));
        }
    }
    settings
}

/// The settings of every table, in the order in which the gateway reads them. It names them where one is unknown to it.
pub(crate) fn known() -> BTreeMap<String, Vec<String>> {
    let probe = SECTIONS.map(|section| format!("{section}\nnothing = 1\n"));
    let probe: String = std::iter::once("nothing = 1\n".to_owned())
        .chain(probe)
        .collect();
    let output = check(&probe);
    let mut known = BTreeMap::new();
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        let Some((problem, names)) = line.split_once("there is no such setting; here are: ") else {
            continue;
        };
        let path = problem.trim_start().split(' ').next().unwrap();
        let section = path.trim_end_matches("nothing").trim_end_matches('.');
        let section = section.replace("[0]", "");
        let names = names.split(", ").map(str::to_owned).collect();
        known.insert(section, names);
    }
    known
}

/// The default and the meaning of each setting as docs/CONFIGURATION.md has them.
pub(crate) fn documented() -> BTreeMap<String, (String, String)> {
    let mut settings = BTreeMap::new();
    let mut section = String::new();
    for line in document("docs/CONFIGURATION.md").lines() {
        if line.starts_with('#') {
            let name = line.split('`').nth(1).unwrap_or_default();
            section = path_of(name).to_owned();
        }
        let cells: Vec<&str> = line.split(" | ").collect();
        if let [key, default, meaning] = cells[..]
            && let Some(key) = key
                .strip_prefix("| `")
                .and_then(|key| key.strip_suffix('`'))
        {
            let path = match key.contains('.') {
                true => key.to_owned(),
                false => format!("{section}.{key}"),
            };
            let meaning = meaning.trim_end_matches(" |").to_owned();
            settings.insert(path, (default.to_owned(), meaning));
        }
    }
    settings
}

/// The first sentence of a meaning, or its beginning, without the marks of Markdown.
fn in_one_line(meaning: &str) -> String {
    let links = regex::Regex::new(r"\[([^\]]+)\]\([^)]+\)").unwrap();
    let meaning = links.replace_all(meaning, "$1").replace('*', "");
    let end = |mark| meaning.find(mark).unwrap_or(meaning.len());
    let sentence = end(". ").min(meaning.len());
    let end = if sentence > 100 {
        end("; ").min(end(": ")).min(sentence)
    } else {
        sentence
    };
    format!("{}.", meaning[..end].trim_end_matches('.'))
}

/// The file as it has to be.
fn expected() -> String {
    let known = known();
    let documented = documented();
    let probe: String = SECTIONS
        .into_iter()
        .filter(|section| *section != "[[admin.tokens]]" && !section.ends_with("tls]]"))
        .map(|section| match section {
            "[[upstreams]]" => {
                format!("{section}\nname = \"a\"\ntargets = [\"http://127.0.0.1:1\"]\n")
            }
            "[[jwt.issuers]]" => {
                format!("{section}\nname = \"a\"\nissuer = \"https://a\"\naudiences = [\"a\"]\n")
            }
            "[[rate_limits]]" => {
                format!("{section}\nname = \"a\"\nby = \"key\"\nlimit = 1\nwindow = \"1m\"\n")
            }
            "[[concurrency_limits]]" => {
                format!("{section}\nname = \"a\"\nby = \"key\"\nlimit = 1\n")
            }
            "[[quotas]]" => {
                format!("{section}\nname = \"a\"\nby = \"key\"\nlimit = 1\nperiod = \"day\"\n")
            }
            section => format!("{section}\n"),
        })
        .collect();
    let defaults: BTreeMap<String, String> = in_force(&probe)
        .into_iter()
        .filter(|(_, _, source)| source == "default")
        .map(|(path, value, _)| (path, value))
        .collect();
    let examples = BTreeMap::from(EXAMPLES);

    let paths: Vec<&str> = SECTIONS.into_iter().map(path_of).collect();
    let top: Vec<&str> = known[""].iter().map(String::as_str).collect();
    for name in top {
        let has_a_table = |path: &&str| path.split('.').next() == Some(name);
        assert!(paths.iter().any(has_a_table), "[{name}] is in no list here");
    }
    let mut text = INTRODUCTION.to_owned();
    for section in SECTIONS {
        let path = path_of(section);
        let mark = if section.starts_with("[[") || path.contains('.') {
            "#"
        } else {
            ""
        };
        text.push_str(&format!("\n{mark}{section}\n"));
        for key in &known[path] {
            let setting = format!("{path}.{key}");
            if paths.contains(&setting.as_str()) {
                continue;
            }
            // A route has the settings of another table, with its defaults.
            let (default, meaning) = documented
                .get(&setting)
                .or_else(|| documented.get(setting.strip_prefix("routes.")?))
                .unwrap_or_else(|| panic!("{setting} is not in docs/CONFIGURATION.md"));
            let mut comment = in_one_line(meaning);
            let value = match (examples.get(setting.as_str()), defaults.get(&setting)) {
                (Some(example), _) => {
                    comment.push_str(&match default.replace('`', "").as_str() {
                        "required" => " Required.".to_owned(),
                        "none" | "unset" => " Unset by default.".to_owned(),
                        other if other.starts_with("this or ") => format!(" Set {other}."),
                        other => format!(" Default: {other}."),
                    });
                    *example
                }
                (None, Some(default)) => default,
                (None, None) => panic!("{setting} has no default: give it an example here"),
            };
            text.push_str(&format!("# {comment}\n#{key} = {value}\n"));
        }
    }
    text
}

#[test]
fn the_example_file_has_every_setting_with_its_default() {
    let expected = expected();
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(root().join(FILE), &expected).unwrap();
    }
    assert!(
        document(FILE) == expected,
        "{FILE} is not what it has to be: see the head of {}",
        Path::new(file!()).display()
    );
}

#[test]
fn the_example_file_changes_nothing_as_it_is() {
    for (path, value, source) in in_force(&document(FILE)) {
        let is_ours = source == "default" || path.ends_with("SHARED_SECRET");
        assert!(is_ours, "{path} = {value}  # {source}");
    }
}

#[test]
fn the_example_file_is_accepted_with_every_setting_uncommented() {
    let text = document(FILE);
    let is_alternative = |line: &str| ALTERNATIVES.iter().any(|one| line.starts_with(one));
    let is_prose = |line: &&str| line.starts_with("# ") || is_alternative(line);
    let lines = text.lines().filter(|line| !is_prose(line));
    let file: String = lines
        .map(|line| format!("{}\n", line.trim_start_matches('#')))
        .collect();
    let in_force = in_force(&file);
    let count = file.lines().filter(|line| line.contains(" = ")).count();
    let set = in_force
        .iter()
        .filter(|(_, _, source)| source == "gateway.toml");
    assert_eq!(set.count(), count, "{in_force:#?}");
}
