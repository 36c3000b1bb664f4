//! `gateway import` and `gateway export`: what they take, what they refuse, and that nothing is ever half done.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::rig::Shell;
use postern_gateway::keys::{KeyDigest, PlainKey, Prefix};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

fn lines(exported: &str) -> Vec<Value> {
    exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn every_format_gives_the_same_keys() {
    let csv = "consumer,key,scopes,custom_id\nacme,sk_live_aaaaaaaa,read write,42\nacme,sk_live_bbbbbbbb,,\nother,sk_live_cccccccc,,\n";
    let hex = KeyDigest::of(b"sk_live_aaaaaaaa").to_hex();
    let jsonl = format!(
        "{{\"consumer\":\"acme\",\"sha256\":\"{hex}\",\"hint\":\"sk_l\",\"scopes\":[\"write\",\"read\"],\"custom_id\":\"42\"}}\n\
         {{\"consumer\":\"acme\",\"key\":\"sk_live_bbbbbbbb\"}}\n\n{{\"consumer\":\"other\",\"key\":\"sk_live_cccccccc\"}}"
    );
    let kong = "_format_version: '3.0'\nconsumers:\n- username: acme\n  custom_id: '42'\n  acls: [{group: read}, {group: write}]\n  \
                keyauth_credentials: [{key: sk_live_aaaaaaaa}, {key: sk_live_bbbbbbbb}]\n- username: other\nkeyauth_credentials:\n\
                - {consumer: other, key: sk_live_cccccccc}\n";
    let nginx = "map $http_x_api_key $c {\n default \"\";\n \"sk_live_aaaaaaaa\" acme;\n sk_live_bbbbbbbb acme;\n sk_live_cccccccc other;\n}";
    for (name, content) in [
        ("a.csv", csv),
        ("a.jsonl", &jsonl),
        ("kong.yaml", kong),
        ("keys.conf", nginx),
    ] {
        let shell = Shell::new().await;
        let file = shell.file(name, content);
        let (code, summary) = shell.import(&file, "").await;
        assert_eq!(code, 0, "{summary}");
        assert_eq!(
            (&summary["keys"], &summary["consumers"]),
            (&3.into(), &2.into()),
            "{summary}"
        );
        let mut seen: Vec<(String, String, String)> = Vec::new();
        for line in lines(&shell.exported().await) {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            seen.push((text("sha256"), text("consumer"), text("hint")));
            if name != "keys.conf" && text("consumer") == "acme" {
                assert_eq!(
                    (&line["scopes"], &line["custom_id"]),
                    (&json!(["read", "write"]), &"42".into()),
                    "{name}"
                );
            }
        }
        seen.sort();
        let mut expected = ["a", "b", "c"].map(|letter| {
            let key = format!("sk_live_{}", letter.repeat(8));
            (
                KeyDigest::of(key.as_bytes()).to_hex(),
                if letter == "c" { "other" } else { "acme" }.to_owned(),
                "sk_l".to_owned(),
            )
        });
        expected.sort();
        assert_eq!(seen, expected, "{name}");
        assert!(
            !shell.any_file_holds(b"live_aaaaaaaa", name)
                && !shell.any_file_holds(b"live_cccccccc", name),
            "{name}"
        );
        // Who did what to which key, and what gateways must look at: a row each.
        for rows in [
            "SELECT count(*) FROM keys k JOIN audit a ON a.subject_id = k.id AND a.action = 'key.create'",
            "SELECT count(*) FROM keys k JOIN changes ch ON ch.subject_id = k.id AND ch.digest = k.digest",
        ] {
            assert_eq!(shell.sql(rows).await, 3, "{name}: {rows}");
        }
        assert_eq!(
            shell
                .sql("SELECT count(*) FROM changes WHERE subject = 'consumer'")
                .await,
            2,
            "{name}"
        );
    }
}

#[tokio::test]
async fn bad_lines_are_told_by_number_and_nothing_is_imported() {
    let shell = Shell::new().await;
    let file =
        shell.file("keys.csv", "consumer,key\nacme,sk_good\nacme,s3cr3t s3cr3t\n,s3cr3t\nacme,s3cr3t,more\nother,sk_good\n");
    let ended = shell.run(format!("import --allow-weak {file}")).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let told: Vec<&str> = ended.err.lines().collect();
    assert!(
        told[0].starts_with("line 3: `key`: the token has a character"),
        "{ended:?}"
    );
    assert!(
        told[1].starts_with("line 4: `consumer`: every line names its consumer"),
        "{ended:?}"
    );
    assert!(
        told[2].starts_with("line 5: it has 3 cells, and the header names 2 columns"),
        "{ended:?}"
    );
    assert!(
        told[3].starts_with("line 6: line 2 gives the same key to another consumer"),
        "{ended:?}"
    );
    assert_eq!(
        told[4],
        "nothing was imported: 4 bad lines; correct them, or import the others with `--skip-bad`"
    );
    assert_eq!(
        ended.out,
        "read 5 lines: added 0 keys and 0 consumers, 0 there already, 0 skipped, 4 bad\n"
    );
    assert!(!format!("{ended:?}").contains("s3cr3t"), "{ended:?}");
    assert_eq!(shell.sql("SELECT count(*) FROM consumers").await, 0);

    let (code, summary) = shell.import(&file, "--skip-bad --dry-run").await;
    assert_eq!(
        (code, &summary["new"], &summary["keys"]),
        (0, &1.into(), &0.into()),
        "{summary}"
    );
    assert_eq!(shell.sql("SELECT count(*) FROM keys").await, 0);
    let (code, summary) = shell.import(&file, "--skip-bad").await;
    assert_eq!(
        (code, &summary["keys"], &summary["bad_lines"]),
        (0, &1.into(), &4.into()),
        "{summary}"
    );
    assert_eq!(summary["problems"][1]["line"], 4);
}

#[tokio::test]
async fn a_line_with_a_route_that_the_settings_do_not_have_is_told_by_number() {
    let lines = [
        ("a", ""),
        ("b", "orders"),
        ("c", "orders;billing"),
        ("d", "typo"),
    ]
    .map(|(consumer, routes)| {
        let digest = KeyDigest::of(consumer.as_bytes()).to_hex();
        format!("{consumer},{digest},{routes}")
    });
    let csv = format!("consumer,sha256,key_allowed_routes\n{}\n", lines.join("\n"));
    for (routes, told) in [
        (&["orders", "billing"][..], &["line 5: "][..]),
        (&["orders"], &["line 4: ", "line 5: "]),
        // Without routes in the settings it is not known what is missing.
        (&[], &[]),
    ] {
        let shell = Shell {
            routes: routes.iter().map(|route| (*route).to_owned()).collect(),
            ..Shell::new().await
        };
        let file = shell.file("keys.csv", &csv);
        let ended = shell.run(format!("import --allow-weak {file}")).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.out.contains("added 4 keys"), "{ended:?}");
        let said: Vec<&str> = ended.err.lines().collect();
        assert_eq!(said.len(), told.len(), "{ended:?}");
        for (said, told) in said.iter().zip(told) {
            assert!(
                said.contains(told) && said.contains("a route of the key"),
                "{said}"
            );
        }
        assert!(!ended.err.contains("typo"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_key_in_a_text_is_not_imported() {
    let shell = Shell::new().await;
    let own = "pstn_0123456789ABCDEFGHIJKLMNOPQRSTUV2pMS28";
    let file = shell.file(
        "keys.csv",
        format!(
            "consumer,key,description,key_description,tags\na,sk_live_s3cr3t,was sk_live_s3cr3t,,\n\
             b,sk_live_other,,old {own},\nc,sk_live_third,,,a=sk_live_third\nd,sk_live_4,,sk_live_5,\n"
        ),
    );
    let ended = shell
        .run(format!("import --allow-weak {file} --skip-bad"))
        .await;
    for told in [
        "line 2: `description`: there",
        "line 3: `key_description`: there",
        "line 4: `tags`: there",
    ] {
        assert!(ended.err.contains(told), "{told}: {ended:?}");
    }
    assert!(
        !format!("{ended:?}").contains("s3cr3t") && !format!("{ended:?}").contains(own),
        "{ended:?}"
    );
    assert_eq!(shell.sql("SELECT count(*) FROM keys").await, 1);
    for key in ["sk_live_s3cr3t", own, "sk_live_third"] {
        assert!(!shell.any_file_holds(key.as_bytes(), "keys.csv"), "{key}");
    }
}

#[tokio::test]
async fn a_hundred_bad_lines_are_told_and_the_others_counted() {
    let shell = Shell::new().await;
    let file = shell.file(
        "keys.csv",
        format!("consumer,key\n{}", "acme,a b\n".repeat(123)),
    );
    let ended = shell
        .run(format!("import --allow-weak {file} --batch 10"))
        .await;
    assert_eq!(
        ended
            .err
            .lines()
            .filter(|line| line.starts_with("line "))
            .count(),
        100
    );
    assert!(
        ended.err.contains("line 101: ") && !ended.err.contains("line 102: "),
        "{}",
        ended.err
    );
    assert!(
        ended
            .err
            .contains("… and 23 more bad lines\nnothing was imported: 123 bad lines"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn importing_again_adds_only_what_is_missing() {
    let shell = Shell::new().await;
    let first = shell.file(
        "first.csv",
        "consumer,key,custom_id\nacme,k1,42\nacme,k2,\nacme,k2,\nlater,,\n",
    );
    let (_, summary) = shell.import(&first, "--batch 1").await;
    assert_eq!(
        (&summary["keys"], &summary["consumers"], &summary["already"]),
        (&2.into(), &2.into(), &1.into()),
        "{summary}"
    );
    let more = shell.file(
        "more.csv",
        "consumer,key,custom_id\nacme,k1,42\nacme,k2,\nacme,k3,\nlater,,\n",
    );
    let (code, summary) = shell.import(&more, "").await;
    assert_eq!(
        (
            code,
            &summary["keys"],
            &summary["consumers"],
            &summary["already"]
        ),
        (0, &1.into(), &0.into(), &3.into()),
        "{summary}"
    );
    let before = shell.exported().await;
    let (code, summary) = shell.import(&more, "").await;
    assert_eq!(
        (code, &summary["keys"], &summary["already"]),
        (0, &0.into(), &4.into()),
        "{summary}"
    );
    assert_eq!(shell.exported().await, before);
    assert_eq!(shell.sql("SELECT count(*) FROM audit").await, 5);
}

#[tokio::test]
async fn what_contradicts_the_store_is_bad_or_skipped() {
    let shell = Shell::new().await;
    let first = shell.file(
        "first.csv",
        "consumer,key,custom_id,scopes\nacme,k1,42,read\n",
    );
    shell.import(&first, "").await;
    for (line, said) in [
        ("other,k1,,", "the key belongs to another consumer"),
        ("acme,k2,43,", "the consumer exists with another custom id"),
        (
            "acme,k2,,write",
            "the consumer exists with another set of scopes",
        ),
        ("other,k2,42,", "the custom id is already taken"),
    ] {
        let file = shell.file(
            "more.csv",
            format!("consumer,key,custom_id,scopes\nfine,k3,,\n{line}\n"),
        );
        let ended = shell.run(format!("import --allow-weak {file}")).await;
        assert_eq!(ended.code, 1, "{line}: {ended:?}");
        assert!(
            ended.err.starts_with(&format!("line 3: {said}")),
            "{line}: {ended:?}"
        );
        let (code, summary) = shell.import(&file, "--on-duplicate skip --dry-run").await;
        assert_eq!(
            (code, &summary["skipped"], &summary["new"]),
            (0, &1.into(), &1.into()),
            "{line}: {summary}"
        );
    }
    let file = shell.file("more.csv", "consumer,key\nacme,k4\n");
    let ended = shell
        .run(format!(
            "import --allow-weak {file} --bucket nowhere --on-duplicate skip"
        ))
        .await;
    assert_eq!(
        (
            ended.code,
            ended.err.starts_with("there is no bucket `nowhere`")
        ),
        (1, true),
        "{ended:?}"
    );
    assert_eq!(shell.sql("SELECT count(*) FROM keys").await, 1);
}

/// All that a consumer and a key can be.
fn odd_lines() -> String {
    let digest = |text: &str| KeyDigest::of(text.as_bytes()).to_hex();
    [
        json!({"consumer": "Acme, \"Inc.\"", "sha256": digest("1"), "state": "active", "hint": "sk_1",
            "description": " für; die\u{2028}Buchhaltung, \"x\" ", "metadata": {"a": [1, {"b": "\n;,\""}]},
            "tags": {"a": "b;c", "d": "=", "e": "", "f": " g "}, "scopes": ["a;b", "[c]", "d"], "custom_id": "4;2",
            "allowed_ips": ["192.0.2.0/24", "2001:db8::1"]}),
        json!({"consumer": "Acme, \"Inc.\"", "sha256": digest("2"), "state": "revoked", "key_scopes": []}),
        json!({"consumer": "Acme, \"Inc.\"", "sha256": digest("3"), "state": "disabled", "key_scopes": ["d", "[c]"],
            "expires_at": "2001-02-03T04:05:06.789Z", "created_at": "2000-01-01T00:00:00Z", "last_used_at": "2001-01-01T00:00:00Z",
            "deprecated_at": "2001-02-02T00:00:00Z", "successor": "key_0123456789abcdefghij"}),
        json!({"consumer": "=cmd|' /C calc'!A0", "sha256": digest("4"), "key_description": "=1+1", "expires_at": "2999-12-31T23:59:59Z",
            "tags": {"plan": "gold", "org": "ö"}, "scopes": ["read"], "consumer_created_at": "1999-01-01T00:00:00Z"}),
        json!({"consumer": "without keys", "bucket": "other", "description": "x"}),
        json!({"consumer": "Acme, \"Inc.\"", "bucket": "other", "sha256": digest("5")}),
    ]
    .map(|line| line.to_string())
    .join("\n")
}

#[tokio::test]
async fn what_is_exported_is_imported_as_it_was() {
    let made = Shell::new().await;
    bucket(&made).await;
    let (code, summary) = made.import(&made.file("odd.jsonl", odd_lines()), "").await;
    assert_eq!(
        (code, &summary["keys"], &summary["consumers"]),
        (0, &5.into(), &4.into()),
        "{summary}"
    );
    let exported = made.exported().await;
    assert_eq!(lines(&exported).len(), 6);
    for format in ["jsonl", "csv"] {
        let out = made.directory.path().join(format!("export.{format}"));
        let ended = made
            .run(format!(
                "export --format {format} --out {}",
                out.to_str().unwrap()
            ))
            .await;
        assert_eq!((ended.code, &*ended.out), (0, ""), "{ended:?}");
        let other = Shell::new().await;
        bucket(&other).await;
        let (code, summary) = other.import(out.to_str().unwrap(), "--batch 2").await;
        assert_eq!(
            (code, &summary["keys"]),
            (0, &5.into()),
            "{format}: {summary}"
        );
        assert_eq!(other.exported().await, exported, "{format}");
        let (code, summary) = other.import(out.to_str().unwrap(), "").await;
        assert_eq!(
            (code, &summary["already"], &summary["keys"]),
            (0, &6.into(), &0.into()),
            "{format}: {summary}"
        );
    }
    let only = made.run("export --bucket other").await;
    assert_eq!(
        lines(&only.out)
            .iter()
            .filter(|line| line["bucket"] == "other")
            .count(),
        2,
        "{only:?}"
    );
    assert_eq!(lines(&only.out).len(), 2);
}

async fn bucket(shell: &Shell) {
    let file = shell.directory.path().join("gateway.db");
    let mut raw = SqliteConnection::connect(file.to_str().unwrap())
        .await
        .unwrap();
    sqlx::query("INSERT INTO buckets (name, created_at) VALUES ('other', 1)")
        .execute(&mut raw)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_export_of_many_pages_has_every_key_once() {
    let shell = Shell::new().await;
    let mut csv = "consumer,key\n".to_owned();
    // One consumer with more keys than a page has, many with one, and some without any.
    (0..4_500).for_each(|number| writeln!(csv, "big,big-{number}").unwrap());
    (0..1_200).for_each(|number| {
        writeln!(
            csv,
            "c{number},{}",
            if number % 3 == 0 {
                String::new()
            } else {
                format!("k-{number}")
            }
        )
        .unwrap()
    });
    let (code, summary) = shell.import(&shell.file("many.csv", csv), "").await;
    assert_eq!(
        (code, &summary["keys"], &summary["consumers"]),
        (0, &5_300.into(), &1_201.into()),
        "{summary}"
    );
    let exported = shell.exported().await;
    let mut seen: Vec<String> = lines(&exported)
        .iter()
        .map(|line| format!("{} {}", line["consumer"], line["sha256"]))
        .collect();
    assert_eq!(seen.len(), 4_500 + 1_200);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4_500 + 1_200);
    assert_eq!(
        shell.exported().await,
        exported,
        "the order is the same every time"
    );
}

#[tokio::test]
async fn an_export_is_for_its_owner_and_overwrites_nothing_unasked() {
    let shell = Shell::new().await;
    shell
        .import(&shell.file("keys.csv", "consumer,key\nacme,k1\n"), "")
        .await;
    let out = shell.file("export.jsonl", "precious");
    let refused = shell.run(format!("export --out {out}")).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "precious");
    let forced = shell.run(format!("export --out {out} --force")).await;
    assert_eq!(forced.code, 0, "{forced:?}");
    assert_eq!(
        fs::metadata(&out).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::read_to_string(&out).unwrap(), shell.exported().await);
    assert_eq!(shell.run("export --force").await.code, 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    let shell = Shell::new().await;
    let missing = shell.run("import --allow-weak /nowhere/keys.csv").await;
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(
        missing
            .err
            .contains("cannot read /nowhere/keys.csv: No such file"),
        "{missing:?}"
    );
    let directory = shell
        .run(format!(
            "import --allow-weak {} --format csv",
            shell.directory.path().to_str().unwrap()
        ))
        .await;
    assert_eq!(directory.code, 1, "{directory:?}");
    let unknown = shell
        .run(format!(
            "import --allow-weak {}",
            shell.file("keys", "abcd efgh\n")
        ))
        .await;
    assert_eq!(
        (unknown.code, unknown.err.contains("--format csv")),
        (2, true),
        "{unknown:?}"
    );
    for (name, content) in [
        ("bytes.csv", &b"consumer,key\nacme,\xff\xfe\n"[..]),
        ("bytes.jsonl", b"\n{\"consumer\":\"\xff\"}"),
        ("bytes.yaml", b"\xff"),
    ] {
        let ended = shell
            .run(format!("import --allow-weak {}", shell.file(name, content)))
            .await;
        assert_eq!(
            (ended.code, ended.err.starts_with("line ")),
            (1, true),
            "{name}: {ended:?}"
        );
    }
    let key = PlainKey::generate(&Prefix::default()).unwrap();
    let pasted = shell
        .run(format!("import --allow-weak {}", key.expose()))
        .await;
    assert_eq!(pasted.code, 2, "{pasted:?}");
    assert!(!pasted.err.contains(key.expose()), "{pasted:?}");
}

#[tokio::test]
async fn json_that_is_no_line_is_refused_without_being_repeated() {
    let shell = Shell::new().await;
    for (line, said) in [
        ("s3cr3t", "it is not one JSON object"),
        ("[\"s3cr3t\"]", "it is not one JSON object"),
        (
            "{\"consumer\":\"a\",\"key\":\"s3cr3t\"",
            "it is not one JSON object",
        ),
        (
            "{\"consumer\":\"a\",\"key\":\"s3cr3t\"} {}",
            "it is not one JSON object",
        ),
        (
            "{\"s3cr3t-key\":\"acme\"}",
            "field 1 is not known; accepted are bucket, consumer",
        ),
        (
            "{\"consumer\":\"a\",\"key\":\"s3cr3t\",\"key\":\"s3cr3t\"}",
            "`key` is there twice",
        ),
        (
            "{\"consumer\":\"a\",\"key\":[\"s3cr3t\"]}",
            "`key`: must be a text",
        ),
        (
            "{\"consumer\":\"a\",\"scopes\":{\"s3cr3t\":1}}",
            "`scopes`: must be an array of texts",
        ),
        (
            "{\"consumer\":\"a\",\"disabled\":\"true\",\"key\":\"s3cr3t\"}",
            "`disabled`: must be `true` or `false`",
        ),
        (
            "{\"consumer\":\"a\",\"metadata\":\"s3cr3t\"}",
            "`metadata`: metadata is a JSON object",
        ),
    ] {
        let ended = shell
            .run(format!(
                "import --allow-weak {}",
                shell.file("bad.jsonl", format!("\n{line}\n"))
            ))
            .await;
        assert_eq!(ended.code, 1, "{line}: {ended:?}");
        assert!(
            ended.err.starts_with(&format!("line 2: {said}")),
            "{line}: {ended:?}"
        );
        assert!(
            !format!("{ended:?}").contains("s3cr3t"),
            "{line}: {ended:?}"
        );
    }
}

#[actix_rt::test]
async fn a_bucket_that_is_not_there_is_said_and_no_empty_file_is_left() {
    let shell = Shell::new().await;
    let out = shell.directory.path().join("backup.jsonl");
    for arguments in [
        "export --bucket nope",
        &format!("export --bucket nope --out {}", out.to_str().unwrap()),
        &format!(
            "import --allow-weak {} --bucket nope",
            shell.file("a.csv", "consumer,key\n")
        ),
    ] {
        let ended = shell.run(arguments).await;
        assert_eq!(
            (ended.code, &*ended.out),
            (1, ""),
            "{arguments:?}: {ended:?}"
        );
        assert!(ended.err.contains("there is no bucket `nope`"), "{ended:?}");
    }
    assert!(!out.exists());
}

#[actix_rt::test]
async fn a_key_in_place_of_a_bucket_is_not_repeated() {
    let shell = Shell::new().await;
    let key = PlainKey::generate(&Prefix::default()).unwrap();
    let file = shell.file("a.csv", "consumer,key\n");
    for arguments in [
        &format!("export --bucket {}", key.expose()),
        &format!("import --allow-weak {file} --bucket {}", key.expose()),
    ] {
        let ended = shell.run(arguments).await;
        assert_eq!((ended.code, &*ended.out), (2, ""), "{ended:?}");
        assert!(
            ended.err.starts_with("the argument contains a whole key")
                && !ended.err.contains(key.expose()),
            "{ended:?}"
        );
    }
}

#[actix_rt::test]
async fn a_key_that_can_be_guessed_is_refused_unless_it_is_asked_for() {
    let shell = Shell::new().await;
    let file = shell.file(
        "a.csv",
        "consumer,key\na,0123456789abcde\na,0123456789abcdef\n",
    );
    let ended = shell.run(format!("import {file}")).await;
    assert!(
        ended.code == 1
            && ended
                .err
                .contains("line 2: `key`: the key has less than 16 characters"),
        "{ended:?}"
    );
    assert!(!ended.err.contains("0123456789"), "{ended:?}");
    assert_eq!(
        shell.run(format!("import {file} --allow-weak")).await.code,
        0
    );
}

#[actix_rt::test]
async fn a_second_import_and_one_into_the_store_itself_say_that_nothing_was_new() {
    let shell = Shell::new().await;
    let file = shell.file("a.csv", "consumer,key\na,0123456789abcdef\n");
    let first = shell.run(format!("import --allow-weak {file}")).await;
    assert!(first.code == 0 && first.err.is_empty(), "{first:?}");
    let before = shell.exported().await;
    let own = shell.file("own.jsonl", &before);
    for again in [&file, &own] {
        let ended = shell.run(format!("import --allow-weak {again}")).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended.err.contains("nothing was new") && ended.err.contains("gateway.db"),
            "{ended:?}"
        );
    }
    assert_eq!(shell.exported().await, before);
}

#[actix_rt::test]
async fn what_narrows_elsewhere_is_named_and_imported_only_when_asked_for() {
    let shell = Shell::new().await;
    let kong = "_format_version: '3.0'\nservices:\n- name: s\nconsumers:\n- username: a\n  keyauth_credentials:\n  - key: sk_live_aaaaaaaa\n\
                \x20 plugins:\n  - name: rate-limiting\n- username: b\n  keyauth_credentials:\n  - key: sk_live_bbbbbbbb\n";
    let file = shell.file("kong.yaml", kong);
    let ended = shell.run(format!("import --allow-weak {file}")).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended
            .err
            .contains("line 7: its consumer has the plugin `rate-limiting`")
            && ended.err.contains("not taken: 1 services"),
        "{ended:?}"
    );
    let (code, summary) = shell.import(&file, "--skip-bad").await;
    assert_eq!((code, &summary["keys"]), (0, &1.into()), "{summary}");
    let (code, summary) = shell.import(&file, "--skip-unsupported").await;
    assert_eq!((code, &summary["keys"]), (0, &1.into()), "{summary}");
}

#[actix_rt::test]
async fn a_file_in_utf_16_is_said_to_be_one() {
    let shell = Shell::new().await;
    let units = "consumer,key\na,0123456789abcdef\n".encode_utf16();
    let bytes: Vec<u8> = [0xfeff]
        .into_iter()
        .chain(units)
        .flat_map(u16::to_le_bytes)
        .collect();
    let ended = shell
        .run(format!(
            "import --allow-weak {}",
            shell.file("a.csv", bytes)
        ))
        .await;
    assert!(
        ended.code == 1 && ended.err.contains("the file is UTF-16"),
        "{ended:?}"
    );
}
