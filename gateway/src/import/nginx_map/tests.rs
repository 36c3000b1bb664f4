use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::keys::KeyDigest;

fn read(text: &str) -> Vec<Result<TransferRow, ReadError>> {
    read_with(text, false)
}

fn read_with(text: &str, skip_unsupported: bool) -> Vec<Result<TransferRow, ReadError>> {
    let defaults = Defaults {
        allow_weak: true,
        skip_unsupported,
        ..Defaults::default()
    };
    rows(Cursor::new(text.as_bytes().to_vec()), defaults).collect()
}

#[test]
fn what_lets_fewer_requests_in_is_refused_unless_it_is_to_be_passed_over() {
    let of = |more: &str| format!("map $http_x_api_key $who {{ \"sk_live_1\" acme; }}\n{more}\n");
    for (more, named) in [
        ("allow 10.0.0.0/8; ", "`allow`"),
        ("server { location / { deny all; } }", "`deny`"),
        ("server { limit_req zone=a; }", "`limit_req`"),
        (
            "location / { limit_except GET { deny all; } }",
            "`limit_except`",
        ),
        (
            "map $who $rate { acme 1; }",
            "this map derives a value from the names",
        ),
        (
            "map ${who} $ok { acme 1; }",
            "this map derives a value from the names",
        ),
    ] {
        let (good, bad): (Vec<_>, Vec<_>) = read(&of(more)).into_iter().partition(Result::is_ok);
        assert_eq!(good.len(), 1, "{more}");
        let [Err(ReadError::Bad(first)), ..] = bad.as_slice() else {
            panic!("{more}: {bad:?}")
        };
        assert!(
            first.line == 2 && first.reason.contains(named),
            "{more}: {first}"
        );
        let (good, told): (Vec<_>, Vec<_>) = read_with(&of(more), true)
            .into_iter()
            .partition(Result::is_ok);
        assert!(
            good.len() == 1
                && told
                    .iter()
                    .all(|told| matches!(told, Err(ReadError::NotTaken(_))))
                && !told.is_empty(),
            "{more}: {told:?}"
        );
    }
    assert!(
        read(&of(
            "map $uri $x { / 1; }\nserver { listen 80; return 404; }"
        ))
        .iter()
        .all(Result::is_ok)
    );
    assert!(read("map $http_x_api_key $ok { default 0; sk_live_1 1; sk_live_2 0; }\n")[1].is_err());
}

#[test]
fn maps_of_keys_are_found_in_a_whole_configuration() {
    let text = r#"user nginx;
http {
    map $http_upgrade $connection_upgrade { default upgrade; '' close; }
    # map $http_x_api_key $old { "gone" gone; }
    map $http_x_api_key $consumer {
        volatile;
        default "";
        "sk live" nobody;
        "sk_live_1"   acme;  # comment; with "marks"
        'sk_live_2' "Acme, Inc.";
        sk_live_3 acme;
        ~^sk_test_ testers;
    }
    map $http_authorization $who {
        "Bearer sk_live_4" other;
        "Basic c2s=" basic;
    }
    server { listen 80; location / { proxy_pass http://origin; } }
}
"#;
    let (good, bad): (Vec<_>, Vec<_>) = read(text).into_iter().partition(Result::is_ok);
    let good: Vec<TransferRow> = good.into_iter().map(Result::unwrap).collect();
    let seen: Vec<_> = good
        .iter()
        .map(|row| {
            (
                row.line,
                row.consumer.name.as_str(),
                row.key.as_ref().unwrap().digest,
            )
        })
        .collect();
    let digest = |number: u8| KeyDigest::of(format!("sk_live_{number}").as_bytes());
    assert_eq!(
        seen,
        [
            (9, "acme", digest(1)),
            (10, "Acme, Inc.", digest(2)),
            (11, "acme", digest(3)),
            (15, "other", digest(4))
        ]
    );
    let bad: Vec<String> = bad
        .into_iter()
        .map(|error| error.unwrap_err().to_string())
        .collect();
    assert!(
        bad[0].starts_with("line 8: `key`: the token has a character"),
        "{bad:?}"
    );
    assert!(
        bad[1].starts_with("line 12: a regular expression"),
        "{bad:?}"
    );
    assert!(
        bad[2].starts_with("line 16: a value of `Authorization`"),
        "{bad:?}"
    );
    assert_eq!(bad.len(), 3);
}

#[test]
fn what_is_wrong_has_its_line_and_never_the_key() {
    // `LINE => PART OF THE REASON => FILE`; `⏎` ends a line of the file.
    let table = r#"
        1 => there is no map of keys =>
        3 => there is no map of keys =>  ⏎ sk_s3cr3t acme; ⏎
        3 => there is no map of keys => map $http_upgrade $c { ⏎ } ⏎
        2 => a quotation mark is not closed => map $http_x_api_key $c { ⏎ "s3cr3t ⏎
        3 => a `}` is missing => map $http_x_api_key $c { ⏎  s3cr3t a; ⏎
        2 => the `;` is missing => map $http_x_api_key $c { ⏎  s3cr3t a ⏎ } ⏎
        2 => an entry is a key and a name => map $http_x_api_key $c { ⏎  s3cr3t a b; ⏎ } ⏎
        2 => an entry is a key and a name => map $http_x_api_key $c { ⏎  s3cr3t; ⏎ } ⏎
        2 => maps the key to no name => map $http_x_api_key $c { ⏎  s3cr3t ""; ⏎ } ⏎
        2 => the name contains a variable => map $http_x_api_key $c { ⏎  s3cr3t $name; ⏎ } ⏎
        2 => the entry admits every client => map $http_x_api_key $c { ⏎  default s3cr3t; ⏎ } ⏎
        2 => `include` is not followed => map $http_x_api_key $c { ⏎  include s3cr3t.map; ⏎ } ⏎
        2 => a map has no blocks => map $http_x_api_key $c { ⏎  s3cr3t { ⏎ } ⏎ } ⏎
    "#;
    for row in table.trim().lines() {
        let cells: Vec<&str> = row.trim().splitn(3, " =>").map(str::trim).collect();
        let (line, said) = (cells[0], cells[1]);
        let lines: Vec<&str> = cells[2].split('⏎').map(str::trim).collect();
        let text = &lines.join("\n");
        let errors: Vec<String> = read(text)
            .into_iter()
            .filter_map(Result::err)
            .map(|error| error.to_string())
            .collect();
        assert!(
            errors.len() == 1 && errors[0].starts_with(&format!("line {line}: ")),
            "{text:?}: {errors:?}"
        );
        assert!(
            errors[0].contains(said) && !errors[0].contains("s3cr3t"),
            "{text:?}: {errors:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_upsets_the_reader(text in "(map \\$http_x_api_key \\$c \\{)?[a-z ;{}\"'#~\\\\$\n\\PC]{0,200}") {
        let lines = text.split('\n').count() as u64;
        for row in read(&text) {
            match row {
                Ok(row) => prop_assert!((1..=lines).contains(&row.line)),
                Err(ReadError::Bad(bad)) => prop_assert!((1..=lines).contains(&bad.line)),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
    }

    #[test]
    fn entries_have_their_line(gaps in proptest::collection::vec(0_usize..3, 1..30)) {
        let mut text = "map $http_apikey $c {\n".to_owned();
        let (mut line, mut expected) = (2, Vec::new());
        for (index, gap) in gaps.iter().enumerate() {
            text.push_str(&"# nothing; {\n".repeat(*gap));
            line += *gap as u64;
            text.push_str(&format!("k{index} name;\n"));
            expected.push(line);
            line += 1;
        }
        text.push('}');
        prop_assert_eq!(read(&text).into_iter().map(|row| row.unwrap().line).collect::<Vec<_>>(), expected);
    }
}
