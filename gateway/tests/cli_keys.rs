//! `gateway keys …` and `gateway consumers …` against a real store: what they print, where, and how they end.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on may say so by stopping"
)]

#[path = "gateway/library_text.rs"]
mod library_text;

use std::fs;
use std::io::{self, ErrorKind, Write};

use clap::Parser;
use postern_gateway::cli::Context;
use postern_gateway::cli::audit::{self, AuditCommand};
use postern_gateway::cli::buckets::{self, BucketsCommand};
use postern_gateway::cli::consumers::{self, ConsumersCommand};
use postern_gateway::cli::error::CommandError;
use postern_gateway::cli::keys::{self, KeysCommand};
use postern_gateway::cli::output::Streams;
use postern_gateway::cli::plans::{self, PlansCommand};
use postern_gateway::keys::{KeyDigest, Prefix, UnixMillis, check_shape};
use postern_gateway::store::{Actor, Stamp, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

#[derive(Parser)]
enum Cli {
    #[command(subcommand)]
    Keys(KeysCommand),
    #[command(subcommand)]
    Consumers(ConsumersCommand),
    #[command(subcommand)]
    Buckets(BucketsCommand),
    #[command(subcommand)]
    Plans(PlansCommand),
    Audit(AuditCommand),
}

/// A store with a command line.
struct Shell {
    directory: TempDir,
    store: Store,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: u8,
    out: String,
    err: String,
}

/// A pipe whose reader went away.
struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(ErrorKind::BrokenPipe.into())
    }
}

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

impl Shell {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/gateway.db", directory.path().display());
        Self {
            store: Store::open(&url.parse().unwrap()).await.unwrap(),
            directory,
        }
    }

    /// Runs `gateway ARGUMENTS`.
    async fn run(&self, arguments: &[&str]) -> Ended {
        let mut out = Vec::new();
        let mut err = Vec::new();
        let code = match self.run_into(arguments, &mut out, &mut err).await {
            Ok(()) => 0,
            Err(error) => {
                writeln!(err, "{error}").unwrap();
                error.exit_code()
            }
        };
        let (out, err) = (
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        );
        library_text::assert_plain(&out);
        library_text::assert_plain(&err);
        Ended { code, out, err }
    }

    async fn run_into(
        &self,
        arguments: &[&str],
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), CommandError> {
        let cli = match Cli::try_parse_from([&["gateway"], arguments].concat()) {
            Ok(cli) => cli,
            Err(error) => return Err(CommandError::InvalidArgument(error.to_string())),
        };
        let (prefix, stamp) = (
            Prefix::default(),
            Stamp {
                at: NOW,
                ..Stamp::now(Actor::command_line(None))
            },
        );
        let context = &mut Context {
            routes: &["orders".to_owned()],
            store: &self.store,
            prefix: &prefix,
            stamp: &stamp,
            streams: Streams { out, err },
        };
        match cli {
            Cli::Keys(command) => keys::run(command, context).await,
            Cli::Consumers(command) => consumers::run(command, context).await,
            Cli::Buckets(command) => buckets::run(command, context).await,
            Cli::Plans(command) => plans::run(command, context).await,
            Cli::Audit(command) => audit::run(command, context).await,
        }
    }

    /// Runs a command that succeeds, and reads its JSON.
    async fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["--json"]].concat()).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        serde_json::from_str(&ended.out).unwrap()
    }

    /// Whether any file of the database holds these bytes.
    fn database_holds(&self, text: &[u8]) -> bool {
        let files = fs::read_dir(self.directory.path()).unwrap();
        files
            .map(|file| fs::read(file.unwrap().path()).unwrap())
            .any(|bytes| bytes.windows(text.len()).any(|window| window == text))
    }
}

#[tokio::test]
async fn a_key_is_printed_once_and_never_stored() {
    let shell = Shell::new().await;
    let created = shell
        .run(&["keys", "create", "--consumer", "demo", "--expires", "30d"])
        .await;
    assert_eq!(created.code, 0, "{created:?}");
    // Alone on standard output, so that `KEY=$(gateway keys create …)` is a key.
    let key = created.out.strip_suffix('\n').unwrap();
    assert_eq!(check_shape(key.as_bytes(), &Prefix::default()), Ok(()));
    assert!(key.starts_with("pstn_"));
    assert!(!created.err.contains(key), "{}", created.err);
    for said in [
        "created consumer demo (csmr_",
        "of consumer demo; it expires 2023-12-14T22:13:20Z",
        "not be shown again",
    ] {
        assert!(created.err.contains(said), "{said:?} in {}", created.err);
    }

    let id = created
        .err
        .split_whitespace()
        .find(|word| word.starts_with("key_"))
        .unwrap();
    let commands: [&[&str]; 5] = [
        &["keys", "list"],
        &["keys", "list", "--json"],
        &["keys", "show", id],
        &["keys", "show", id, "--json"],
        &["keys", "revoke", id],
    ];
    for command in commands {
        let ended = shell.run(command).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended.out.contains(&key[..9]),
            "the hint is in {}",
            ended.out
        );
        assert!(
            !ended.out.contains(&key[9..]) && !ended.err.contains(&key[9..]),
            "{command:?}"
        );
    }
    assert!(
        shell.database_holds(KeyDigest::of(key.as_bytes()).as_bytes()),
        "else nothing was searched"
    );
    assert!(!shell.database_holds(key.as_bytes()));
    assert!(!shell.database_holds(&key.as_bytes()[9..]));
}

#[tokio::test]
async fn a_created_key_is_one_json_object_for_scripts() {
    let shell = Shell::new().await;
    let bare = shell.json(&["keys", "create", "--consumer", "demo"]).await;
    assert!(bare["id"].as_str().unwrap().starts_with("key_"));
    assert_eq!(
        check_shape(bare["key"].as_str().unwrap().as_bytes(), &Prefix::default()),
        Ok(())
    );
    assert_eq!(bare["consumer"], "demo");
    assert_eq!(bare["expires_at"], Value::Null);
    assert_eq!(bare["created_at"], "2023-11-14T22:13:20Z");
    assert_eq!(bare["hint"], bare["key"].as_str().unwrap()[..9]);

    let shown = shell
        .json(&["keys", "show", bare["id"].as_str().unwrap()])
        .await;
    assert_eq!(shown.get("key"), None);

    let full = shell
        .json(&[
            "keys",
            "create",
            "--consumer",
            "other",
            "--expires",
            "2030-01-31T12:00:00Z",
            "--description",
            "for CI",
            "--scope",
            "write,read",
            "--scope",
            "read",
        ])
        .await;
    assert_eq!(full["expires_at"], "2030-01-31T12:00:00Z");
    assert_eq!(full["description"], "for CI");
    assert_eq!(full["scopes"], serde_json::json!(["read", "write"]));
    assert_eq!(full["status"], "active");
    assert_eq!(
        shell.json(&["consumers", "show", "other"]).await["scopes"],
        full["scopes"]
    );
}

#[tokio::test]
async fn a_consumer_is_made_for_a_key_only_when_there_is_none() {
    let shell = Shell::new().await;
    let first = shell.run(&["keys", "create", "--consumer", "demo"]).await;
    let second = shell.run(&["keys", "create", "--consumer", "demo"]).await;
    assert!(first.err.contains("created consumer demo"), "{first:?}");
    assert!(!second.err.contains("created consumer"), "{second:?}");
    let consumers = shell.json(&["consumers", "list"]).await;
    assert_eq!(consumers.as_array().unwrap().len(), 1);
    let by_id = shell
        .json(&[
            "keys",
            "create",
            "--consumer",
            consumers[0]["id"].as_str().unwrap(),
        ])
        .await;
    assert_eq!(by_id["consumer"], "demo");
    let unknown = shell
        .run(&["keys", "create", "--consumer", "csmr_00000000000000000000"])
        .await;
    assert_eq!(
        (unknown.code, &*unknown.err),
        (1, "there is no consumer `csmr_00000000000000000000`\n")
    );
}

#[tokio::test]
async fn a_whole_key_is_never_taken_nor_repeated() {
    let shell = Shell::new().await;
    let key = shell
        .run(&["keys", "create", "--consumer", "demo"])
        .await
        .out;
    let key = key.trim();
    let commands: [&[&str]; 9] = [
        &["keys", "show", key],
        &["keys", "revoke", key],
        &["keys", "disable", key],
        &["keys", "enable", key, "--json"],
        &["keys", "list", "--consumer", key],
        &["keys", "create", "--consumer", key],
        &["consumers", "create", key],
        &["consumers", "update", "demo", "--name", key],
        &["consumers", "delete", key],
    ];
    for command in commands {
        let ended = shell.run(command).await;
        assert_eq!(ended.code, 2, "{command:?}: {ended:?}");
        assert!(
            ended.err.contains("the argument contains a whole key"),
            "{command:?}: {ended:?}"
        );
        assert!(
            !ended.err.contains(&key[9..]) && !ended.out.contains(&key[9..]),
            "{command:?}: {ended:?}"
        );
    }
    let (note, metadata) = (
        format!("old key {key}"),
        format!("{{\"a\":\"\\u0070{}\"}}", &key[1..]),
    );
    let tag = format!("{key}=1");
    shell.run(&["consumers", "create", "acme"]).await;
    for command in [
        ["consumers", "create", "other"],
        ["consumers", "update", "acme"],
        ["keys", "create", "--consumer"],
    ] {
        let options = [
            ("--description", &*note),
            ("--scope", key),
            ("--custom-id", &note),
            ("--metadata", &metadata),
            ("--tag", &tag),
        ];
        let takes_all = command[0] == "consumers";
        for (option, text) in options.into_iter().take(if takes_all { 5 } else { 2 }) {
            let name = if takes_all { &[][..] } else { &["acme"] };
            let ended = shell.run(&[&command, name, &[option, text]].concat()).await;
            assert_eq!(ended.code, 2, "{command:?} {option}: {ended:?}");
            assert!(
                ended.err.starts_with("the argument contains a whole key"),
                "{command:?} {option}: {ended:?}"
            );
            assert!(
                !ended.err.contains(&key[9..]),
                "{command:?} {option}: {ended:?}"
            );
        }
    }
    let named = shell.run(&["buckets", "create", &note]).await;
    assert!(
        named.code == 2 && !named.err.contains(&key[9..]),
        "{named:?}"
    );
    assert!(!shell.database_holds(&key.as_bytes()[9..]));
    // Another gateway's key has another form, and is not repeated either.
    let foreign = shell
        .run(&["keys", "revoke", "sk-foreign-0123456789"])
        .await;
    assert_eq!(
        (foreign.code, &*foreign.err),
        (2, "a key id is `key_` and 20 letters and digits\n")
    );
}

#[tokio::test]
async fn a_key_is_disabled_enabled_and_finally_revoked() {
    let shell = Shell::new().await;
    let id = shell.json(&["keys", "create", "--consumer", "demo"]).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for (command, status) in [
        ("disable", "is disabled"),
        ("disable", "is already disabled"),
        ("enable", "is active"),
        ("revoke", "is revoked"),
        ("revoke", "is already revoked"),
    ] {
        let ended = shell.run(&["keys", command, &id]).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.out.trim_end().ends_with(status), "{ended:?}");
    }
    let enabled = shell.run(&["keys", "enable", &id]).await;
    assert_eq!(enabled.code, 1);
    assert_eq!(
        enabled.err,
        format!("key {id} is revoked, which is final; create a new key instead\n")
    );
    assert_eq!(
        shell.json(&["keys", "show", &id]).await["status"],
        "revoked"
    );

    let unknown = shell
        .run(&["keys", "revoke", "key_00000000000000000000"])
        .await;
    assert_eq!(
        (unknown.code, &*unknown.err),
        (1, "there is no key key_00000000000000000000\n")
    );
}

#[tokio::test]
async fn keys_are_listed_for_people_and_for_scripts() {
    let shell = Shell::new().await;
    let empty = shell.run(&["keys", "list"]).await;
    assert_eq!(
        empty.out,
        "ID  CONSUMER  HINT  STATUS  EXPIRES  LAST USED  CREATED  DESCRIPTION\n"
    );
    assert_eq!(shell.json(&["keys", "list"]).await, serde_json::json!([]));
    for consumer in ["a", "a long name", "a"] {
        shell.run(&["keys", "create", "--consumer", consumer]).await;
    }
    let listed = shell.run(&["keys", "list"]).await;
    let lines: Vec<&str> = listed.out.lines().collect();
    assert_eq!(lines.len(), 4);
    let column = lines[0].find("STATUS").unwrap();
    assert!(
        lines[1..]
            .iter()
            .all(|line| line[column..].starts_with("active")),
        "{}",
        listed.out
    );
    assert_eq!(
        shell
            .json(&["keys", "list", "--consumer", "a"])
            .await
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let nobody = shell.run(&["keys", "list", "--consumer", "nobody"]).await;
    assert_eq!(
        (nobody.code, &*nobody.err),
        (1, "there is no consumer `nobody`\n")
    );
}

#[tokio::test]
async fn a_consumer_is_made_shown_changed_and_deleted() {
    let shell = Shell::new().await;
    let made = shell
        .json(&[
            "consumers",
            "create",
            "acme",
            "--custom-id",
            "42",
            "--description",
            "a note",
            "--metadata",
            "{\"plan\": \"gold\"}",
            "--scope",
            "read",
            "--tag",
            "org=acme",
        ])
        .await;
    assert_eq!(made["metadata"], serde_json::json!({"plan": "gold"}));
    assert_eq!(made["tags"], serde_json::json!({"org": "acme"}));
    let id = made["id"].as_str().unwrap();
    for which in ["acme", id] {
        assert_eq!(shell.json(&["consumers", "show", which]).await, made);
    }
    let shown = shell.run(&["consumers", "show", "acme"]).await;
    for (label, value) in [
        ("custom id", "42"),
        ("allowed from", "anywhere"),
        ("keys", "0"),
    ] {
        let line = shown
            .out
            .lines()
            .find_map(|line| line.strip_prefix(label))
            .unwrap_or_else(|| panic!("{label}: {}", shown.out));
        assert_eq!(line.trim_start(), value, "{label}");
    }

    let changed = shell
        .json(&[
            "consumers",
            "update",
            "acme",
            "--name",
            "acme 2",
            "--custom-id",
            "",
            "--no-scopes",
            "--tag",
            "a=b",
        ])
        .await;
    assert_eq!(changed["name"], "acme 2");
    assert_eq!(changed["custom_id"], Value::Null);
    assert_eq!(changed["scopes"], serde_json::json!([]));
    assert_eq!(changed["tags"], serde_json::json!({"a": "b"}));
    assert_eq!(changed["description"], "a note");

    shell.run(&["keys", "create", "--consumer", "acme 2"]).await;
    let deleted = shell.run(&["consumers", "delete", "acme 2"]).await;
    assert_eq!(
        deleted.out,
        format!("deleted consumer acme 2 ({id}) and its 1 key\n")
    );
    assert_eq!(shell.json(&["keys", "list"]).await, serde_json::json!([]));
    assert_eq!(shell.run(&["consumers", "delete", "acme 2"]).await.code, 1);
}

/// Whether a line has these words, however it is aligned.
fn has_line(shown: &str, words: &str) -> bool {
    let mut lines = shown.lines();
    lines.any(|line| line.split_whitespace().eq(words.split_whitespace()))
}

#[tokio::test]
async fn numbers_of_consumers_and_keys_are_given_shown_and_removed() {
    let shell = Shell::new().await;
    let acme = [
        "consumers",
        "create",
        "acme",
        "--limit",
        "burst=500/1m",
        "--limit",
        "search=unlimited",
        "--quota",
        "monthly=5000000/month@15",
        "--max-in-flight",
        "20",
    ];
    let consumer = shell.json(&acme).await;
    assert_eq!(
        consumer["limits"],
        json!([{ "name": "burst", "limit": 500, "window": "1m" }, { "name": "search", "limit": null }])
    );
    assert_eq!(
        consumer["quotas"],
        json!([{ "name": "monthly", "limit": 5_000_000, "period": "month", "anchor": 15 }])
    );
    assert_eq!(consumer["max_in_flight"], 20);
    let shown = shell.run(&["consumers", "show", "acme"]).await.out;
    for line in [
        "limits burst=500/1m search=unlimited",
        "quotas monthly=5000000/month@15",
        "in flight 20",
    ] {
        assert!(has_line(&shown, line), "{line}: {shown}");
    }
    let narrow = [
        "keys",
        "create",
        "--consumer",
        "acme",
        "--limit",
        "burst=50/1m",
        "--quota",
        "monthly=50",
        "--max-in-flight",
        "2",
    ];
    let key = shell.json(&narrow).await;
    assert_eq!(key["max_in_flight"], 2);
    let id = key["id"].as_str().unwrap();
    let shown = shell.run(&["keys", "show", id]).await.out;
    assert!(has_line(&shown, "limits burst=50/1m"), "{shown}");
    for (arguments, code, said) in [
        (
            [
                "keys",
                "create",
                "--consumer",
                "acme",
                "--limit",
                "burst=501/1m",
            ],
            1,
            "`burst` in `limits`",
        ),
        (
            [
                "keys",
                "create",
                "--consumer",
                "acme",
                "--max-in-flight",
                "21",
            ],
            1,
            "`max_in_flight`",
        ),
        (
            [
                "keys",
                "create",
                "--consumer",
                "acme",
                "--limit",
                "burst=0/1m",
            ],
            2,
            "from 1 to",
        ),
        (
            [
                "keys",
                "create",
                "--consumer",
                "acme",
                "--limit",
                "burst=5/2d",
            ],
            2,
            "from `1s` to `1d`",
        ),
        (
            [
                "keys",
                "create",
                "--consumer",
                "acme",
                "--quota",
                "monthly=5/minute",
            ],
            2,
            "a period is one of",
        ),
        (
            [
                "keys",
                "create",
                "--consumer",
                "acme",
                "--max-in-flight",
                "0",
            ],
            2,
            "from 1 to",
        ),
    ] {
        let ended = shell.run(&arguments).await;
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.err.contains(said), "{ended:?}");
    }
    let twice = [
        "consumers",
        "update",
        "acme",
        "--limit",
        "a=1",
        "--limit",
        "a=2",
    ];
    let ended = shell.run(&twice).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    let after = shell
        .json(&["consumers", "update", "acme", "--limit", "burst=9/1s"])
        .await;
    assert_eq!(
        after["limits"],
        json!([{ "name": "burst", "limit": 9, "window": "1s" }])
    );
    assert_eq!(after["max_in_flight"], 20, "what is not named stays");
    let removed = [
        "consumers",
        "update",
        "acme",
        "--no-limits",
        "--no-quotas",
        "--no-max-in-flight",
    ];
    let after = shell.json(&removed).await;
    assert_eq!(
        (&after["limits"], &after["quotas"], &after["max_in_flight"]),
        (&json!([]), &json!([]), &json!(null))
    );
}

#[tokio::test]
async fn a_plan_is_made_given_changed_and_deleted() {
    let shell = Shell::new().await;
    let gold = [
        "plans",
        "create",
        "gold",
        "--description",
        "paying",
        "--scope",
        "read,write",
        "--limit",
        "burst=500/1m",
        "--quota",
        "monthly=5000",
        "--max-in-flight",
        "20",
        "--default-key-lifetime",
        "90d",
        "--max-key-lifetime",
        "365d",
    ];
    let plan = shell.json(&gold).await;
    assert_eq!(plan["scopes"], json!(["read", "write"]));
    assert_eq!(plan["default_key_lifetime_seconds"], 90 * 86_400);
    shell
        .json(&["consumers", "create", "acme", "--plan", "gold"])
        .await;
    let shown = shell.run(&["plans", "show", "gold"]).await.out;
    for line in [
        "limits burst=500/1m",
        "keys live 90d",
        "at longest 365d",
        "consumers 1",
    ] {
        assert!(has_line(&shown, line), "{line}: {shown}");
    }
    let listed = shell.run(&["plans", "list"]).await.out;
    assert!(
        listed.contains("gold  read write  burst=500/1m"),
        "{listed}"
    );
    // The plan grants the scope to the key.
    shell
        .json(&["keys", "create", "--consumer", "acme", "--scope", "write"])
        .await;
    let update = [
        "plans",
        "update",
        "gold",
        "--no-scopes",
        "--no-limits",
        "--no-max-key-lifetime",
        "--description",
        "",
    ];
    let after = shell.json(&update).await;
    assert_eq!(
        (&after["scopes"], &after["limits"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(
        (&after["max_key_lifetime_seconds"], &after["description"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(after["max_in_flight"], 20, "what is not named stays");
    for (arguments, code, said) in [
        (&["plans", "create", "gold"][..], 1, "already"),
        (&["plans", "create", "a b"], 2, "the name of a plan is"),
        (&["plans", "show", "none"], 1, "there is no plan `none`"),
        (
            &["plans", "update", "none", "--no-scopes"],
            1,
            "there is no plan `none`",
        ),
        (&["plans", "delete", "gold"], 1, "in use by 1 consumer;"),
        (
            &["plans", "update", "gold", "--max-key-lifetime", "89d"],
            1,
            "above the longest",
        ),
        (
            &["plans", "update", "gold", "--max-key-lifetime", "0s"],
            2,
            "a second to 36500 days",
        ),
        (
            &["consumers", "create", "b", "--plan", "none"],
            1,
            "there is no plan `none`",
        ),
        (
            &["keys", "create", "--consumer", "acme", "--scope", "write"],
            1,
            "does not have the scope `write`",
        ),
    ] {
        let ended = shell.run(arguments).await;
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?}: {ended:?}");
    }
    // What is listed is imported as it was, and a plan that differs is not changed.
    let listed = shell.run(&["plans", "list", "--json"]).await.out;
    let file = shell.directory.path().join("plans.json");
    fs::write(&file, &listed).unwrap();
    let file = file.to_str().unwrap();
    let other = Shell::new().await;
    let import = ["plans", "import", file];
    assert_eq!(
        other.json(&import).await,
        json!({ "added": 1, "already": 0 })
    );
    let again = other.run(&import).await;
    assert_eq!(
        (again.code, again.out.as_str()),
        (0, "read 1 plans: added 0, 1 there already\n")
    );
    let plain = |mut plans: Value| {
        for plan in plans.as_array_mut().unwrap() {
            plan["created_at"] = json!(null);
            plan["updated_at"] = json!(null);
        }
        plans
    };
    let (here, there) = (
        shell.json(&["plans", "list"]).await,
        other.json(&["plans", "list"]).await,
    );
    assert_eq!(plain(here), plain(there));
    other
        .json(&["plans", "update", "gold", "--max-in-flight", "21"])
        .await;
    let refused = other.run(&import).await;
    assert!(
        refused.code == 1
            && refused
                .err
                .contains("`gold` is there with other attributes"),
        "{refused:?}"
    );
    fs::write(
        file,
        r#"[{"name":"a","limits":[{"name":"b","limit":0}]},{"name":""}]"#,
    )
    .unwrap();
    let refused = other.run(&import).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.err.contains("plan 1: `limits/0/limit`") && refused.err.contains("plan 2: `name`"),
        "{refused:?}"
    );
    let missing = other.run(&["plans", "import", "/nowhere"]).await;
    assert!(
        missing.code != 0 && missing.err.contains("nothing was imported"),
        "{missing:?}"
    );
    let acme = shell
        .json(&["consumers", "update", "acme", "--plan", ""])
        .await;
    assert_eq!(acme["plan"], json!(null));
    let deleted = shell.run(&["plans", "delete", "gold"]).await;
    assert_eq!(
        (deleted.code, deleted.out.as_str()),
        (0, "deleted plan gold\n")
    );
    assert_eq!(shell.json(&["plans", "list"]).await, json!([]));
}

#[tokio::test]
async fn a_bucket_says_how_long_keys_live_and_a_key_is_changed_within() {
    let shell = Shell::new().await;
    let create = [
        "buckets",
        "create",
        "partners",
        "--default-key-lifetime",
        "90d",
        "--max-key-lifetime",
        "365d",
        "--max-live-keys",
        "1",
        "--unused-after",
        "60d",
        "--unused-action",
        "disable",
    ];
    let bucket = shell.json(&create).await;
    assert_eq!(
        (
            &bucket["default_key_lifetime_seconds"],
            &bucket["max_live_keys"],
            &bucket["unused_action"]
        ),
        (&json!(90 * 86_400), &json!(1), &json!("disable"))
    );
    let shown = shell.run(&["buckets", "show", "partners"]).await.out;
    for line in [
        "keys live 90d",
        "at longest 365d",
        "most live keys 1",
        "unused keys disable after 60d",
    ] {
        assert!(has_line(&shown, line), "{line}: {shown}");
    }
    let new = [
        "keys",
        "create",
        "--consumer",
        "acme",
        "--bucket",
        "partners",
        "--exempt-from-unused",
    ];
    let key = shell.json(&new).await;
    assert_eq!(
        key["expires_at"],
        UnixMillis(NOW.0 + 90 * 86_400_000).to_string()
    );
    assert_eq!(key["exempt_from_unused"], true);
    let id = key["id"].as_str().unwrap();
    let changed = shell
        .json(&[
            "keys",
            "update",
            id,
            "--expires",
            "365d",
            "--description",
            "billing",
            "--limit",
            "burst=5/1m",
            "--exempt-from-unused",
            "false",
        ])
        .await;
    assert_eq!(
        changed["expires_at"],
        UnixMillis(NOW.0 + 365 * 86_400_000).to_string()
    );
    assert_eq!(
        (&changed["description"], &changed["exempt_from_unused"]),
        (&json!("billing"), &json!(false))
    );
    assert_eq!(
        changed["limits"],
        json!([{ "name": "burst", "limit": 5, "window": "1m" }])
    );
    let shown = shell
        .run(&[
            "keys",
            "update",
            id,
            "--no-limits",
            "--description",
            "",
            "--exempt-from-unused",
        ])
        .await
        .out;
    assert!(
        shown.contains("for any time") && !shown.contains("billing"),
        "{shown}"
    );
    for (arguments, code, said) in [
        (
            &["keys", "update", id, "--expires", "366d"][..],
            1,
            "lives at most 365d",
        ),
        (
            &["keys", "update", id, "--expires", "never"],
            1,
            "lives at most 365d",
        ),
        (
            &["keys", "update", id, "--expires", "soon"],
            2,
            "write a duration",
        ),
        (
            &["keys", "update", id, "--scope", "admin"],
            1,
            "does not have the scope",
        ),
        (
            &[
                "keys",
                "create",
                "--consumer",
                "acme",
                "--bucket",
                "partners",
            ],
            1,
            "has 1 live keys, the most",
        ),
        (
            &[
                "keys",
                "create",
                "--consumer",
                "b",
                "--bucket",
                "partners",
                "--expires",
                "never",
            ],
            1,
            "lives at most 365d",
        ),
        (
            &["buckets", "update", "partners", "--max-key-lifetime", "89d"],
            1,
            "above the longest",
        ),
        (
            &["buckets", "update", "partners", "--unused-action", "delete"],
            2,
            "`report` or `disable`",
        ),
        (
            &["buckets", "update", "partners", "--max-live-keys", "0"],
            2,
            "from 1 to 100000",
        ),
    ] {
        let ended = shell.run(arguments).await;
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?}: {ended:?}");
    }
    let free = [
        "buckets",
        "update",
        "partners",
        "--no-default-key-lifetime",
        "--no-max-key-lifetime",
        "--no-max-live-keys",
        "--no-unused-after",
    ];
    let bucket = shell.json(&free).await;
    assert_eq!(
        (
            &bucket["max_key_lifetime_seconds"],
            &bucket["unused_after_seconds"]
        ),
        (&json!(null), &json!(null))
    );
    assert_eq!(
        bucket["unused_action"], "disable",
        "what is not named stays"
    );
    let never = [
        "keys",
        "create",
        "--consumer",
        "acme",
        "--bucket",
        "partners",
        "--expires",
        "never",
    ];
    assert_eq!(shell.json(&never).await["expires_at"], json!(null));
}

#[tokio::test]
async fn bad_arguments_end_with_2_and_refusals_with_1() {
    let shell = Shell::new().await;
    shell
        .run(&[
            "consumers",
            "create",
            "acme",
            "--custom-id",
            "42",
            "--scope",
            "read",
        ])
        .await;
    let long = "x".repeat(129);
    let cases: [(&[&str], u8, &str); 14] = [
        (&["consumers", "create", ""], 2, "consumer name"),
        (&["consumers", "create", "two\nlines"], 2, "consumer name"),
        (&["consumers", "create", &long], 2, "consumer name"),
        (
            &["consumers", "create", "b", "--metadata", "[]"],
            2,
            "JSON object",
        ),
        (
            &["consumers", "create", "b", "--scope", "a b"],
            2,
            "a scope is",
        ),
        (
            &["consumers", "create", "b", "--tag", "plan"],
            2,
            "a tag is",
        ),
        (
            &["consumers", "create", "acme"],
            1,
            "the name is already taken",
        ),
        (
            &["consumers", "create", "b", "--custom-id", "42"],
            1,
            "the custom id is already taken",
        ),
        (&["keys", "create"], 2, "--consumer"),
        (
            &["keys", "create", "--consumer", "acme", "--expires", "soon"],
            2,
            "such as `7d`",
        ),
        (
            &[
                "keys",
                "create",
                "--consumer",
                "acme",
                "--expires",
                "2001-01-01T00:00:00Z",
            ],
            2,
            "in the future",
        ),
        (
            &[
                "keys",
                "create",
                "--consumer",
                "acme",
                "--expires",
                "9999-12-31T23:59:59-23:59",
            ],
            2,
            "before the year 10000",
        ),
        (
            &["keys", "roll", "--consumer", "acme", "--grace", "10000y"],
            2,
            "before the year 10000",
        ),
        (
            &["keys", "create", "--consumer", "acme", "--scope", "admin"],
            1,
            "does not have the scope `admin`",
        ),
    ];
    for (command, code, said) in cases {
        let ended = shell.run(command).await;
        assert_eq!(ended.code, code, "{command:?}: {ended:?}");
        assert!(ended.err.contains(said), "{command:?}: {ended:?}");
        assert_eq!(ended.out, "", "{command:?}");
    }
    assert_eq!(shell.json(&["keys", "list"]).await, serde_json::json!([]));
}

#[tokio::test]
async fn a_closed_pipe_ends_a_list_quietly_but_not_the_making_of_a_key() {
    let shell = Shell::new().await;
    shell.run(&["keys", "create", "--consumer", "demo"]).await;
    let mut err = Vec::new();
    for command in [["keys", "list"], ["consumers", "list"]] {
        shell
            .run_into(&command, &mut ClosedPipe, &mut err)
            .await
            .unwrap();
    }
    match shell
        .run_into(
            &["keys", "create", "--consumer", "demo"],
            &mut ClosedPipe,
            &mut err,
        )
        .await
    {
        Err(error @ CommandError::Unprinted { .. }) => assert_eq!(error.exit_code(), 1),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rolling_prints_the_new_key_alone_and_says_when_the_old_ones_end() {
    let shell = Shell::new().await;
    let old = shell
        .json(&[
            "keys",
            "create",
            "--consumer",
            "demo",
            "--description",
            "billing",
        ])
        .await;
    let id = old["id"].as_str().unwrap();
    let rolled = shell.run(&["keys", "roll", id, "--grace", "1h"]).await;
    assert_eq!(rolled.code, 0, "{rolled:?}");
    let key = rolled.out.strip_suffix('\n').unwrap();
    assert_eq!(check_shape(key.as_bytes(), &Prefix::default()), Ok(()));
    assert!(!rolled.err.contains(key), "{}", rolled.err);
    assert!(
        rolled.err.contains(&format!("key {id}"))
            && rolled.err.contains("ends at 2023-11-14T23:13:20Z"),
        "{}",
        rolled.err
    );
    assert!(!shell.database_holds(key.as_bytes()));

    let shown = shell.json(&["keys", "show", id]).await;
    assert_eq!(shown["deprecated_at"], "2023-11-14T22:13:20Z");
    let successor = shown["successor"].as_str().unwrap().to_owned();
    assert_eq!(
        shell.json(&["keys", "show", &successor]).await["description"],
        "billing"
    );

    let of_consumer = shell
        .json(&["keys", "roll", "--consumer", "demo", "--grace", "0s"])
        .await;
    assert!(of_consumer["key"].is_string(), "{of_consumer}");
    let ended: Vec<&str> = of_consumer["ending"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["status"].as_str().unwrap())
        .collect();
    assert_eq!(ended, ["expired", "expired"]);
}

#[tokio::test]
async fn what_cannot_be_rolled_is_refused_with_a_reason() {
    let shell = Shell::new().await;
    let key = shell.json(&["keys", "create", "--consumer", "demo"]).await;
    let (id, plain) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
    shell.json(&["keys", "disable", id]).await;
    for (arguments, code, said) in [
        (&["keys", "roll"][..], 2, "<ID>"),
        (
            &["keys", "roll", plain],
            2,
            "the argument contains a whole key",
        ),
        (
            &["keys", "roll", "key_0123456789abcdefghij"],
            1,
            "there is no key",
        ),
        (
            &["keys", "roll", id],
            1,
            "is disabled, and only an active key can be rolled",
        ),
        (
            &["keys", "roll", "--consumer", "demo"],
            1,
            "has no active key",
        ),
        (
            &["keys", "roll", "--consumer", "nobody"],
            1,
            "there is no consumer `nobody`",
        ),
        (&["keys", "roll", id, "--grace", "soon"], 2, "--grace"),
    ] {
        let ended = shell.run(arguments).await;
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(
            ended.err.contains(said) && !ended.err.contains(plain),
            "{arguments:?}: {ended:?}"
        );
    }
}

#[tokio::test]
async fn the_audit_is_listed_newest_first_and_never_repeats_a_key() {
    let shell = Shell::new().await;
    let key = shell.json(&["keys", "create", "--consumer", "demo"]).await;
    let (id, plain) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
    shell.json(&["keys", "revoke", id]).await;
    let all = shell.json(&["audit"]).await;
    let actions: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["key.revoke", "key.create", "consumer.create"]);
    assert!(!all.to_string().contains(plain));
    assert_eq!(
        shell
            .json(&["audit", "--of", id, "--limit", "1"])
            .await
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let table = shell.run(&["audit", "--action", "key.revoke"]).await;
    assert!(
        table.out.starts_with("NUMBER  AT")
            && table.out.contains(id)
            && table.out.lines().count() == 2,
        "{}",
        table.out
    );
    let pasted = shell.run(&["audit", "--of", plain]).await;
    assert!(
        pasted.code == 2 && !pasted.err.contains(plain),
        "{pasted:?}"
    );
}

#[tokio::test]
async fn the_audit_says_what_it_leaves_out_and_who_there_is() {
    let shell = Shell::new().await;
    let key = shell.json(&["keys", "create", "--consumer", "demo"]).await;
    let id = key["id"].as_str().unwrap();
    for _ in 0..30 {
        shell.run(&["keys", "disable", id]).await;
        shell.run(&["keys", "enable", id]).await;
    }
    // A consumer, a key and sixty changes.
    let first = shell.run(&["audit"]).await;
    assert_eq!(first.out.lines().count(), 51);
    let before = first.err.split_once("--before ").unwrap().1;
    let before = before.split_once('`').unwrap().0;
    assert!(first.err.contains("there are older rows"), "{first:?}");
    let rest = shell.run(&["audit", "--before", before]).await;
    assert_eq!((rest.out.lines().count(), &*rest.err), (13, ""));
    let all = shell.run(&["audit", "--all"]).await;
    assert_eq!((all.out.lines().count(), &*all.err), (63, ""));
    assert_eq!(
        shell
            .json(&["audit", "--all"])
            .await
            .as_array()
            .unwrap()
            .len(),
        62
    );
    let exact = shell.run(&["audit", "--limit", "62"]).await;
    assert_eq!((exact.out.lines().count(), &*exact.err), (63, ""));

    for (arguments, code, said) in [
        (&["--actor", "ann"][..], 1, "known actors: cli\n"),
        (&["--action", "key.revoked"], 2, "key.revoke, "),
        (&["--since", "1999"], 2, "such as `7d`"),
        (
            &["--of", "key_00000000000000000000"],
            0,
            "no matching row in the audit",
        ),
        (
            &["--since", "2100-01-01"],
            0,
            "no matching row in the audit",
        ),
        (&["--until", "7d"], 0, "no matching row in the audit"),
        (&["--since", "7d", "--until", "2030-01-01", "--all"], 0, ""),
        (&["--all", "--limit", "1"], 2, "cannot be used with"),
    ] {
        let ended = shell.run(&[&["audit"], arguments].concat()).await;
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?}: {ended:?}");
    }
}

#[tokio::test]
async fn a_revoked_key_says_when_and_by_whom() {
    let shell = Shell::new().await;
    let key = shell.json(&["keys", "create", "--consumer", "demo"]).await;
    let id = key["id"].as_str().unwrap();
    let before = shell.json(&["keys", "show", id]).await;
    assert!(before["revoked_at"].is_null() && before["revoked_by"].is_null());
    let revoked = shell.json(&["keys", "revoke", id]).await;
    for key in [revoked, shell.json(&["keys", "show", id]).await] {
        assert_eq!(key["revoked_at"], "2023-11-14T22:13:20Z");
        assert_eq!(key["revoked_by"], "cli");
    }
    let shown = shell.run(&["keys", "show", id]).await;
    assert!(
        shown.out.contains("2023-11-14T22:13:20Z by cli\n"),
        "{shown:?}"
    );

    let leaked = shell.json(&["keys", "create", "--consumer", "demo"]).await;
    shell
        .run(&["buckets", "update", "default", "--leak-policy", "revoke"])
        .await;
    let plain = leaked["key"].as_str().unwrap();
    shell.run(&["keys", "report-leak", plain]).await;
    let shown = shell
        .json(&["keys", "show", leaked["id"].as_str().unwrap()])
        .await;
    assert_eq!(shown["revoked_by"], "cli");
}

#[tokio::test]
async fn a_mistyped_consumer_is_not_made() {
    let shell = Shell::new().await;
    let create = async |name: &str, more: &[&str]| {
        shell
            .run(&[&["keys", "create", "--consumer", name], more].concat())
            .await
    };
    assert_eq!(create("Acme", &[]).await.code, 0);
    for (name, more, code, said) in [
        ("acme", &[][..], 2, "but there is `Acme`"),
        ("ACME", &["--existing-consumer"], 2, "but there is `Acme`"),
        (
            "acne",
            &["--existing-consumer"],
            1,
            "there is no consumer `acne`",
        ),
        ("Acme", &["--existing-consumer"], 0, "keep the key now"),
    ] {
        let ended = create(name, more).await;
        assert_eq!(ended.code, code, "{name}: {ended:?}");
        assert!(ended.err.contains(said), "{name}: {ended:?}");
        assert_eq!(ended.out.is_empty(), code != 0, "{name}: {ended:?}");
    }
    let consumers = shell.json(&["consumers", "list"]).await;
    assert_eq!(consumers.as_array().unwrap().len(), 1);
    // Who really wants both makes the other by its own command.
    assert_eq!(shell.run(&["consumers", "create", "acme"]).await.code, 0);
    assert_eq!(create("acme", &[]).await.code, 0);
}

#[tokio::test]
async fn keys_are_listed_by_status_age_and_end() {
    let shell = Shell::new().await;
    let mut ids = Vec::new();
    for expires in ["1d", "60d", "2050-01-01"] {
        let key = shell
            .json(&["keys", "create", "--consumer", "a", "--expires", expires])
            .await;
        ids.push(key["id"].as_str().unwrap().to_owned());
    }
    shell.run(&["keys", "disable", &ids[1]]).await;
    let whole = shell.json(&["keys", "create", "--consumer", "b"]).await;
    ids.push(whole["id"].as_str().unwrap().to_owned());
    for (arguments, found) in [
        (&["--ending-within", "30d"][..], &[0][..]),
        (&["--ending-within", "90d"], &[0, 1]),
        (&["--ending-within", "2050-01-02"], &[0, 1, 2]),
        (&["--status", "disabled"], &[1]),
        (&["--status", "active", "--consumer", "a"], &[0, 2]),
        (&["--unused-for", "90d"], &[]),
        (&["--last-used-before", "2030-01-01"], &[0, 1, 2, 3]),
        (&["--created-since", "1d"], &[0, 1, 2, 3]),
        (&["--created-until", "1d"], &[]),
        (&["--hint", &whole["hint"].as_str().unwrap()[..9]], &[3]),
    ] {
        let listed = shell.json(&[&["keys", "list"], arguments].concat()).await;
        let listed: Vec<&str> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["id"].as_str().unwrap())
            .collect();
        let mut wanted: Vec<&str> = found.iter().map(|index| &*ids[*index]).collect();
        let mut listed = listed;
        // All were made at the same moment.
        listed.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(listed, wanted, "{arguments:?}");
    }
    let plain = whole["key"].as_str().unwrap();
    for (arguments, code) in [
        (["--hint", plain], 2),
        (["--status", "good"], 2),
        (["--ending-within", "soon"], 2),
    ] {
        let ended = shell
            .run(&[&["keys", "list"], &arguments[..]].concat())
            .await;
        assert!(
            ended.code == code && !ended.err.contains(plain),
            "{arguments:?}: {ended:?}"
        );
    }
}

#[tokio::test]
async fn a_name_is_meant_in_its_bucket() {
    let shell = Shell::new().await;
    let made = shell
        .json(&[
            "buckets",
            "create",
            "second",
            "--leak-policy",
            "roll",
            "--leak-grace",
            "2h",
        ])
        .await;
    assert_eq!(
        (&made["leak_policy"], &made["leak_grace_seconds"]),
        (&"roll".into(), &7_200.into())
    );
    let listed = shell.json(&["buckets", "list"]).await;
    let names: Vec<&Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|bucket| &bucket["name"])
        .collect();
    assert_eq!(names, ["default", "second"]);
    let here = shell.json(&["consumers", "create", "acme"]).await;
    let there = shell
        .json(&["consumers", "create", "acme", "--bucket", "second"])
        .await;
    let key = shell
        .json(&["keys", "create", "--consumer", "acme", "--bucket", "second"])
        .await;
    assert_eq!(
        (&key["consumer_id"], &key["bucket"]),
        (&there["id"], &"second".into())
    );
    assert_eq!(
        shell.json(&["keys", "list", "--consumer", "acme"]).await,
        serde_json::json!([])
    );
    assert_eq!(
        shell
            .json(&["keys", "list", "--consumer", "acme", "--bucket", "second"])
            .await[0]["id"],
        key["id"]
    );
    assert_eq!(
        shell
            .json(&["consumers", "list", "--bucket", "second"])
            .await,
        serde_json::json!([there])
    );
    assert_eq!(
        shell.json(&["consumers", "delete", "acme"]).await["id"],
        here["id"]
    );
    let rolled = shell
        .json(&["keys", "roll", "--consumer", "acme", "--bucket", "second"])
        .await;
    assert_eq!(rolled["ending"][0]["id"], key["id"]);
    for (arguments, err) in [
        (
            ["consumers", "list", "--bucket", "third"].as_slice(),
            "there is no bucket `third`\n",
        ),
        (
            &["buckets", "show", "third"],
            "there is no bucket `third`\n",
        ),
        (
            &["buckets", "update", "third", "--leak-policy", "revoke"],
            "there is no bucket `third`\n",
        ),
        (
            &["buckets", "create", "second"],
            "the name is already taken\n",
        ),
    ] {
        let ended = shell.run(arguments).await;
        assert_eq!((ended.code, ended.err.as_str()), (1, err), "{arguments:?}");
    }
    let plain = key["key"].as_str().unwrap();
    for arguments in [
        ["buckets", "create", plain].as_slice(),
        &["consumers", "list", "--bucket", plain],
    ] {
        let ended = shell.run(arguments).await;
        assert_eq!(ended.code, 2);
        assert!(
            ended.err.starts_with("the argument contains a whole key;")
                && !ended.err.contains(plain),
            "{}",
            ended.err
        );
    }
}

#[tokio::test]
async fn a_leaked_key_gets_what_its_bucket_says() {
    let shell = Shell::new().await;
    for (policy, said) in [
        ("notify", "no action"),
        ("roll", "it ends at 2023-11-15T22:13:20Z"),
        ("revoke", "it is revoked"),
    ] {
        shell
            .json(&["buckets", "update", "default", "--leak-policy", policy])
            .await;
        let key = shell.json(&["keys", "create", "--consumer", "demo"]).await;
        let plain = key["key"].as_str().unwrap();
        let ended = shell
            .run(&[
                "keys",
                "report-leak",
                plain,
                "--url",
                "https://example.org/1",
            ])
            .await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended.out.contains(said) && !ended.out.contains(plain),
            "{}",
            ended.out
        );
        let digest = format!("sha256:{}", KeyDigest::of(plain.as_bytes()).to_hex());
        assert_eq!(
            shell.json(&["keys", "report-leak", &digest]).await["key"]["id"],
            key["id"]
        );
        let with_key = shell
            .run(&["keys", "report-leak", plain, "--url", plain])
            .await;
        assert!(
            with_key.code == 2 && !with_key.err.contains(plain),
            "{with_key:?}"
        );
        assert!(!shell.database_holds(plain.as_bytes()));
    }
    let (foreign, escaped) = (
        "sk_live/0123456789+abcdef==",
        "https://a/?sk_live%2F0123456789%2Babcdef%3d%3D",
    );
    let digest = format!("sha256:{}", KeyDigest::of(foreign.as_bytes()).to_hex());
    for key in [foreign, &digest] {
        for place in [["--url", foreign], ["--source", escaped]] {
            let ended = shell
                .run(&[&["keys", "report-leak", key], &place[..]].concat())
                .await;
            assert_eq!(ended.code, 2, "{ended:?}");
            assert!(
                ended.err.contains("without the key") && !ended.err.contains("0123456789"),
                "{ended:?}"
            );
        }
    }
    let unknown = shell.run(&["keys", "report-leak", "nobody's"]).await;
    assert_eq!(
        (unknown.code, unknown.err.as_str()),
        (1, "no matching key\n")
    );
}

#[tokio::test]
async fn a_key_may_be_used_for_less_than_its_consumer() {
    let shell = Shell::new().await;
    let create = [
        "keys",
        "create",
        "--consumer",
        "acme",
        "--allow-ip",
        "10.0.0.0/8,::1",
        "--allow-method",
        "POST,GET",
        "--allow-method",
        "PUT",
        "--allow-route",
        "orders",
        "--allow-route",
        "of, two words",
    ];
    let key = shell.json(&create).await;
    let id = key["id"].as_str().unwrap();
    assert_eq!(key["allowed_ips"], json!(["10.0.0.0/8", "::1"]));
    assert_eq!(key["allowed_methods"], json!(["GET", "POST", "PUT"]));
    assert_eq!(key["allowed_routes"], json!(["of, two words", "orders"]));
    assert_eq!(key["unknown_routes"], json!(["of, two words"]));
    let ran = shell.run(&["keys", "show", id]).await;
    for line in [
        "allowed from 10.0.0.0/8 ::1",
        "methods GET POST PUT",
        "routes of, two words, orders",
    ] {
        assert!(has_line(&ran.out, line), "{line}: {}", ran.out);
    }
    assert!(
        ran.err
            .contains("no route of these settings is named: of, two words"),
        "{}",
        ran.err
    );
    let ran = shell
        .run(&[
            "keys",
            "update",
            id,
            "--allow-route",
            "orders",
            "--allow-any-method",
            "--allow-any-ip",
        ])
        .await;
    for line in [
        "allowed from any address of the consumer's",
        "methods any",
        "routes orders",
    ] {
        assert!(has_line(&ran.out, line), "{line}: {}", ran.out);
    }
    assert!(!ran.err.contains("no route"), "{}", ran.err);
    let free = shell
        .json(&["keys", "update", id, "--allow-any-route"])
        .await;
    assert_eq!(free["allowed_routes"], json!([]));
    assert!(free.get("unknown_routes").is_none(), "{free}");
    for (option, value, said) in [
        ("--allow-method", "TRACE", "an allowed method is GET, HEAD"),
        ("--allow-method", "get", "an allowed method is GET, HEAD"),
        ("--allow-method", "", "an allowed method is GET, HEAD"),
        ("--allow-ip", "", "an allowed range is"),
        ("--allow-ip", "10.0.0.0/33", "an allowed range is"),
        ("--allow-route", "", "the name of a route is"),
        ("--allow-route", " orders", "the name of a route is"),
        ("--allow-route", "a\"b", "the name of a route is"),
    ] {
        for command in [
            &["keys", "create", "--consumer", "acme"][..],
            &["keys", "update", id],
        ] {
            let ran = shell.run(&[command, &[option, value]].concat()).await;
            assert_eq!(ran.code, 2, "{option} {value}");
            assert!(ran.err.contains(said), "{option} {value}: {}", ran.err);
        }
    }
}
