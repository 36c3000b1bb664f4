use super::*;

fn weak() -> Defaults {
    Defaults {
        allow_weak: true,
        ..Defaults::default()
    }
}

fn read(cells: &[(Column, &str)]) -> Result<TransferRow, String> {
    let mut fields = Fields::default();
    cells
        .iter()
        .for_each(|(column, text)| fields.set_text(*column, text));
    fields.read(1, &weak())
}

#[test]
fn each_bad_cell_is_named_and_never_repeated() {
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let own = format!("pstn_{}", "s3cr3t".repeat(7).get(..38).unwrap());
    let long = "s3cr3t".repeat(100);
    for (column, text, said) in [
        (
            Column::Consumer,
            "s3cr3t\u{e9}",
            "`consumer`: a consumer name is",
        ),
        (
            Column::Consumer,
            &*own,
            "`consumer`: there is a whole key in it",
        ),
        (
            Column::CustomId,
            &*own,
            "`custom_id`: there is a whole key in it",
        ),
        (Column::CustomId, "s3cr3t\ts3cr3t", "`custom_id`"),
        (
            Column::Key,
            "s3cr3t s3cr3t",
            "`key`: the token has a character that a bearer token cannot have",
        ),
        (Column::Key, &*own, "`key`: the token's checksum is wrong"),
        (
            Column::Key,
            &*long,
            "`key`: the token has more than 512 bytes",
        ),
        (Column::Sha256, "s3cr3t", "`sha256`: a digest is SHA-256"),
        (
            Column::Sha256,
            digest,
            "`sha256`: not the SHA-256 of the column `key`",
        ),
        (Column::Hint, "s3cr3t-s3cr3t-s3cr3t", "`hint`: at most 17"),
        (Column::State, "s3cr3t", "`state`: must be `active`"),
        (
            Column::Disabled,
            "s3cr3t",
            "`disabled`: must be `true` or `false`",
        ),
        (
            Column::ExpiresAt,
            "s3cr3t",
            "`expires_at`: a time is written as in RFC 3339",
        ),
        (
            Column::CreatedAt,
            "9999-12-31T23:59:59-23:59",
            "`created_at`: a time is written as in RFC 3339",
        ),
        (Column::Scopes, "s3cr3t\"", "`scopes`: a scope is"),
        (
            Column::KeyScopes,
            "[s3cr3t]",
            "`key_scopes`: starts like JSON but is invalid",
        ),
        (Column::Tags, "s3cr3t", "`tags`: a tag is `name=value`"),
        (
            Column::Tags,
            "{\"a\":1}",
            "`tags`: must be an object of texts",
        ),
        (
            Column::Metadata,
            "[\"s3cr3t\"]",
            "`metadata`: metadata is a JSON object",
        ),
        (Column::KeyId, "s3cr3t", "`key_id`: a key id is"),
        (
            Column::ConsumerId,
            "s3cr3t",
            "`consumer_id`: a consumer id is",
        ),
        (Column::Bucket, "s3cr3t\u{e9}", "`bucket`: a bucket name is"),
        (
            Column::KeyAllowedIps,
            "s3cr3t",
            "`key_allowed_ips`: an allowed range is",
        ),
        (
            Column::KeyAllowedMethods,
            "GET s3cr3t",
            "`key_allowed_methods`: an allowed method is",
        ),
        (
            Column::KeyAllowedRoutes,
            "[\"s3cr3t\\\"\"]",
            "`key_allowed_routes`: the name of a route is",
        ),
        (
            Column::AllowedIps,
            "10.0.0.0/8 somewhere",
            "`allowed_ips`: an allowed range is",
        ),
        (
            Column::Successor,
            "key_0123456789abcdefghij",
            "`successor`: requires `deprecated_at`",
        ),
    ] {
        let error = read(&[
            (Column::Consumer, "acme"),
            (Column::Key, "abcd"),
            (column, text),
        ])
        .unwrap_err();
        assert!(error.starts_with(said), "{error}");
        assert!(!error.contains("s3cr3t"), "{error}");
    }
    assert!(
        read(&[(Column::Key, "abc")])
            .unwrap_err()
            .starts_with("`consumer`: every line")
    );
    assert!(
        read(&[(Column::Consumer, "a"), (Column::State, "revoked")])
            .unwrap_err()
            .starts_with("`state`: this belongs to a key")
    );
}

#[test]
fn a_hint_is_not_all_of_the_key() {
    let of = |hint| {
        read(&[
            (Column::Consumer, "a"),
            (Column::Sha256, &KeyDigest::of(b"short-key").to_hex()),
            (Column::Hint, hint),
        ])
    };
    assert_eq!(of("short").unwrap().key.unwrap().hint, "short");
    assert!(
        of("short-key")
            .unwrap_err()
            .starts_with("`hint`: this is the whole key")
    );
}

#[test]
fn lists_are_written_in_several_ways() {
    let scopes = |text| {
        read(&[(Column::Consumer, "a"), (Column::Scopes, text)])
            .unwrap()
            .consumer
            .attributes
            .scopes
            .as_str()
            .to_owned()
    };
    for text in [
        "read write",
        "write;read",
        "write, read",
        "[\"write\",\"read\"]",
        " read ;; write ",
    ] {
        assert_eq!(scopes(text), "read write", "{text}");
    }
    assert_eq!(scopes("[\"a;b\"]"), "a;b");
    let tags = |text| {
        read(&[(Column::Consumer, "a"), (Column::Tags, text)])
            .unwrap()
            .consumer
            .attributes
            .tags
    };
    assert_eq!(tags("a=b;c=d=e; "), tags("{\"a\":\"b\",\"c\":\"d=e\"}"));
    let row = read(&[
        (Column::Consumer, "a"),
        (Column::Key, "abcd"),
        (Column::KeyScopes, ";"),
    ])
    .unwrap();
    assert_eq!(row.key.unwrap().attributes.scopes, Some(Scopes::default()));
}

#[test]
fn a_key_can_come_in_every_state() {
    for (state, disabled, expected) in [
        ("", "", Some(KeyState::Active)),
        ("", "false", Some(KeyState::Active)),
        ("", "TRUE", Some(KeyState::Disabled)),
        ("disabled", "", Some(KeyState::Disabled)),
        ("revoked", "yes", Some(KeyState::Revoked)),
        ("revoked", "0", Some(KeyState::Revoked)),
        ("active", "1", None),
        ("disabled", "no", None),
    ] {
        let row = read(&[
            (Column::Consumer, "a"),
            (Column::Key, "abcd"),
            (Column::State, state),
            (Column::Disabled, disabled),
        ]);
        assert_eq!(
            row.ok().map(|row| row.key.unwrap().state),
            expected,
            "{state:?} {disabled:?}"
        );
    }
}

#[test]
fn allowed_addresses_are_never_read_as_anywhere_by_mistake() {
    use serde_json::json;
    let of = |set: &dyn Fn(&mut Fields)| {
        let mut fields = Fields::default();
        fields.set_text(Column::Consumer, "a");
        set(&mut fields);
        fields
            .read(1, &weak())
            .map(|row| row.consumer.attributes.allowed_ips.to_string())
    };
    for (value, read) in [
        (json!(null), Some("")),
        (json!([]), Some("")),
        (json!(["192.0.2.1"]), Some("192.0.2.1")),
        (json!("192.0.2.1 10.0.0.0/8"), Some("10.0.0.0/8 192.0.2.1")),
        (json!([""]), None),
        (json!([" "]), None),
        (json!(["192.0.2.1", ""]), None),
        (json!(["192.0.2.1 10.0.0.0/8"]), None),
        (json!(""), None),
        (json!(" "), None),
        (json!({}), None),
        (json!(false), None),
        (json!([null]), None),
    ] {
        let found = of(&|fields| fields.set_json(Column::AllowedIps, value.clone()));
        assert_eq!(found.ok().as_deref(), read, "{value}");
    }
    for (text, read) in [
        ("", Some("")),
        ("[]", Some("")),
        ("[\"192.0.2.1\",\"::1\"]", Some("192.0.2.1 ::1")),
        ("192.0.2.1;::1", Some("192.0.2.1 ::1")),
        (" 192.0.2.1, ::1", Some("192.0.2.1 ::1")),
        ("[\"\"]", None),
        ("[]x", None),
        (" ", None),
        (";", None),
        (",", None),
    ] {
        let found = of(&|fields| fields.set_text(Column::AllowedIps, text));
        assert_eq!(found.ok().as_deref(), read, "{text:?}");
    }
}

#[test]
fn restrictions_of_a_key_are_never_read_as_none_by_mistake() {
    use serde_json::json;
    let of = |column: Column, set: &dyn Fn(&mut Fields)| {
        let mut fields = Fields::default();
        fields.set_text(Column::Consumer, "a");
        fields.set_text(Column::Sha256, &"0".repeat(64));
        set(&mut fields);
        let attributes = fields
            .read(1, &weak())
            .map(|row| row.key.unwrap().attributes);
        attributes.map(|attributes| match column {
            Column::KeyAllowedIps => attributes.allowed_ips.to_string(),
            Column::KeyAllowedMethods => attributes.allowed_methods.to_string(),
            _ => attributes.allowed_routes.to_string(),
        })
    };
    use Column::{KeyAllowedIps, KeyAllowedMethods, KeyAllowedRoutes};
    for (column, text, read) in [
        (KeyAllowedIps, "192.0.2.1;::1", Some("192.0.2.1 ::1")),
        (KeyAllowedIps, " ", None),
        (KeyAllowedMethods, "POST, GET", Some("GET POST")),
        (KeyAllowedMethods, "[]", Some("")),
        (KeyAllowedMethods, ";", None),
        (KeyAllowedMethods, "post", None),
        (
            KeyAllowedRoutes,
            "of two words; /v1",
            Some("/v1, of two words"),
        ),
        (KeyAllowedRoutes, "[\"a;b\"]", Some("a;b")),
        (KeyAllowedRoutes, " ", None),
    ] {
        let found = of(column, &|fields| fields.set_text(column, text));
        assert_eq!(found.ok().as_deref(), read, "{text:?}");
    }
    for (column, value, read) in [
        (KeyAllowedMethods, json!(["GET"]), Some("GET")),
        (KeyAllowedMethods, json!(null), Some("")),
        (KeyAllowedMethods, json!([""]), None),
        (KeyAllowedMethods, json!(["GET POST"]), None),
        (KeyAllowedRoutes, json!(["a", "b c"]), Some("a, b c")),
        (KeyAllowedRoutes, json!([""]), None),
        (KeyAllowedRoutes, json!(""), None),
        (KeyAllowedRoutes, json!({}), None),
    ] {
        let found = of(column, &|fields| fields.set_json(column, value.clone()));
        assert_eq!(found.ok().as_deref(), read, "{value}");
    }
}

#[test]
fn a_short_key_is_taken_only_when_asked_for() {
    let of = |key: &str, allow_weak| {
        let mut fields = Fields::default();
        fields.set_text(Column::Consumer, "owner");
        fields.set_text(Column::Key, key);
        let defaults = Defaults {
            allow_weak,
            ..Defaults::default()
        };
        fields.read(1, &defaults).map(drop)
    };
    for (key, is_weak) in [
        ("a", true),
        ("0123456789abcde", true),
        ("0123456789abcdef", false),
    ] {
        assert_eq!(of(key, true), Ok(()), "{key}");
        match of(key, false) {
            Ok(()) => assert!(!is_weak, "{key}"),
            Err(reason) => assert!(
                is_weak
                    && reason.contains("`--allow-weak`")
                    && (key.len() < 2 || !reason.contains(key)),
                "{reason}"
            ),
        }
    }
}

#[test]
fn a_date_is_midnight_in_utc() {
    let of = |text: &str| {
        read(&[
            (Column::Consumer, "a"),
            (Column::Key, "abcd"),
            (Column::ExpiresAt, text),
        ])
        .map(|row| row.key.unwrap().attributes.expires_at.unwrap().to_string())
    };
    assert_eq!(
        of("2030-01-31").unwrap(),
        of("2030-01-31T00:00:00Z").unwrap()
    );
    for text in [
        "2030-1-31",
        "2030-13-01",
        "2030-02-30",
        "31.01.2030",
        "2030-01-31T",
        "2030/01/31",
    ] {
        assert!(of(text).is_err(), "{text}");
    }
}
