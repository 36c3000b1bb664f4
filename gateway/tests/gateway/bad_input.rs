//! Settings and arguments that are wrong: each has one clear answer, on standard error, and an exit code.

use std::net::TcpListener;
use std::path::Path;

use crate::rig::{SECRET, database, gateway};

/// Runs `gateway` with a file of settings; its exit code and what it says on standard error.
pub(crate) fn refused(file: &str, variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let output = gateway(directory.path(), variables, arguments);
    assert!(output.stdout.is_empty(), "{output:?}");
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A token of the admin API.
pub(crate) const ADMIN_TOKEN: &str = "bad-input-2c7f51d07be84a63";

/// Checks files of settings that are refused, a line of the table each: `CHANGE => PATH => PART OF
/// THE REASON`. The change is `OLD -> NEW` in the file `good`, or what follows that file; `⏎` ends a
/// line of it. Returns all that was said of each file.
pub(crate) fn refuses(good: &str, table: &str) -> Vec<String> {
    refuses_in(tempfile::tempdir().unwrap().path(), good, table)
}

/// As [`refuses`], beside the files of a directory.
pub(crate) fn refuses_in(directory: &Path, good: &str, table: &str) -> Vec<String> {
    let rows = table.trim().lines().map(|row| {
        let cells: Vec<&str> = row.trim().split(" => ").collect();
        let [change, path, reason] = cells[..] else {
            panic!("{row}");
        };
        let change = change.replace(" ⏎ ", "\n");
        let file = match change.split_once(" ->") {
            Some((old, new)) => good.replace(old, new.trim_start()),
            None => format!("{good}{change}\n"),
        };
        std::fs::write(directory.join("gateway.toml"), &file).unwrap();
        let secrets = [("SHARED_SECRET", SECRET), ("ADMIN_TOKEN", ADMIN_TOKEN)];
        let output = gateway(directory, &secrets, &["check"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{file}: {said}");
        let line = said
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{path} (")));
        let line = line.unwrap_or_else(|| panic!("{path} is not in {said} of {file}"));
        assert!(line.contains(reason), "{file}: {line}");
        for (_, secret) in secrets {
            assert!(!said.contains(secret), "{said}");
        }
        said
    });
    rows.collect()
}

/// Fails where a file had more than one problem.
pub(crate) fn one_problem_each(said: &[String]) {
    for said in said {
        assert!(said.starts_with("gateway: a problem with"), "{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}

#[test]
fn without_a_shared_secret_it_refuses_to_start_and_says_what_it_looked_for() {
    let (code, said) = refused("", &[], &["serve"]);
    assert_eq!(code, 2);
    for part in ["SHARED_SECRET", "SHARED_SECRET_FILE", "gateway secret new"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_secret_is_refused_with_the_reason_and_never_shown() {
    let both = [
        ("SHARED_SECRET", "k8Zp3vQ9xW2mR7tL"),
        ("SHARED_SECRET_FILE", "/nowhere"),
    ];
    for (variables, part) in [
        (
            &both[..],
            "SHARED_SECRET and SHARED_SECRET_FILE are both set",
        ),
        (&[("SHARED_SECRET", "k8Zp3vQ9")], "at least 16"),
        (&[("SHARED_SECRET", "changeme")], "placeholder"),
        (&[("SHARED_SECRET", "k8Zp3vQ9 xW2mR7tL")], "visible ASCII"),
        (
            &[("SHARED_SECRET_FILE", "/nowhere/secret")],
            "/nowhere/secret",
        ),
        (
            &[("SHARED_SECRET", SECRET), ("ADMIN_TOKEN", "k8Zp3vQ9")],
            "ADMIN_TOKEN",
        ),
        (
            &[("SHARED_SECRET", SECRET), ("ADMIN_TOKEN", SECRET)],
            "ADMIN_TOKEN (from the environment): it is the shared secret",
        ),
    ] {
        let (code, said) = refused("", variables, &["check"]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(part), "{variables:?}: {said}");
        assert!(!said.contains("k8Zp3vQ9"), "{said}");
        assert!(
            said.starts_with("gateway: a problem with the settings:"),
            "{said}"
        );
    }
}

#[test]
fn a_path_for_questions_of_keys_is_below_its_route_and_no_other() {
    let route = "[listen]\nhealth_path = \"/healthz\"\n[[routes]]\n";
    one_problem_each(&refuses(
        route,
        r#"
            path = "/v1" ⏎ self_path = "/whoami" => routes[0].self_path => is not below that of the route, "/v1"
            path = "/v1" ⏎ self_path = "/v10/me" => routes[0].self_path => write the whole path, such as "/v1/whoami"
            self_path = "whoami" => routes[0].self_path => begins with '/'
            self_path = "/" => routes[0].self_path => such as "/whoami"
            self_path = "/me?" => routes[0].self_path => without dot segments, a query or escapes
            self_path = "/%6de" => routes[0].self_path => without dot segments, a query or escapes
            self_path = "/a/../me" => routes[0].self_path => without dot segments
            self_path = "/mé" => routes[0].self_path => letters, digits
            self_path = "/me/" => routes[0].self_path => single '/'
            self_path = "/healthz" => routes[0].self_path => is listen.health_path
            self_path = "/me" ⏎ methods = ["POST"] => routes[0].self_path => keys ask with GET
        "#,
    ));
}

#[test]
fn limits_that_cannot_work_are_refused_and_words_of_others_are_answered_with_ours() {
    let good = "name = \"a\"\nby = \"key\"\nlimit = 10\nwindow = \"1m\"\n";
    let good = format!("[[rate_limits]]\n{good}");
    one_problem_each(&refuses(
        &good,
        r#"
            limit = 10 -> limit = 0 => rate_limits[0].limit => from 1 to
            limit = 10 -> limit = -1 => rate_limits[0].limit => from 1 to
            limit = 10 -> limit = 60000001 => rate_limits[0].limit => 60000000
            limit = 10 -> => rate_limits[0].limit => it is missing
            name = "a" -> => rate_limits[0].name => it is missing
            name = "a" -> name = "A b" => rate_limits[0].name => lower-case
            window = "1m" -> => rate_limits[0].window => it is missing
            "1m" -> "500ms" => rate_limits[0].window => 1s to 1day
            "1m" -> "1500ms" => rate_limits[0].window => whole seconds
            "1m" -> "2days" => rate_limits[0].window => 1s to 1day
            "1m" -> 60 => rate_limits[0].window => with their unit
            by = "key" -> => rate_limits[0].by => it is missing
            "key" -> "ip" => rate_limits[0].by[0] => written "address"
            "key" -> "tag:a b" => rate_limits[0].by[0] => "consumer"
            "key" -> ["key", "key"] => rate_limits[0].by => twice
            "key" -> ["key", "gateway"] => rate_limits[0].by => alone
            "key" -> ["key", "anonymous"] => rate_limits[0].by => never apply
            burst = 0 => rate_limits[0].burst => from 1 to
            burst = 11 => rate_limits[0].burst => at most what a window allows, 10
            routes = ["nowhere"] => rate_limits[0].routes[0] => there is "default"
            requests_per_unit = 1 => rate_limits[0].requests_per_unit => written limit
            minute = 100 => rate_limits[0].minute => window = "1m"
            limit_by = "ip" => rate_limits[0].limit_by => written by
            month = 1 => rate_limits[0].month => a quota
            nothing = 1 => rate_limits[0].nothing => here are: name, by
            [[routes]] ⏎ cost = 11 => routes[0].cost => "a" allows 10
            burst = 5 ⏎ [[routes]] ⏎ cost = 6 => routes[0].cost => "a" allows 5
            [[routes]] ⏎ limits = ["b"] => routes[0].limits[0] => no limit "b"
            routes = ["/other"] ⏎ [[routes]] ⏎ path = "/other" ⏎ [[routes]] ⏎ limits = ["a"] => routes[1].limits[0] => "a" does not hold on the route "/": add it to the routes of the limit
        "#,
    ));
    for (by, reason) in [
        (
            r#""address""#,
            r#""a" by "address" holds whether the route "/" names it or not: leave it out"#,
        ),
        (
            r#"["anonymous", "address"]"#,
            r#"by "anonymous", "address" holds whether"#,
        ),
        (r#""gateway""#, r#"by "gateway" holds whether"#),
    ] {
        let row = format!("[[routes]] ⏎ limits = [\"a\"] => routes[0].limits[0] => {reason}");
        one_problem_each(&refuses(&good.replace("\"key\"", by), &row));
    }
    let twice = format!("{good}{good}");
    one_problem_each(&refuses(
        &twice,
        "# twice => rate_limits[1].name => another limit",
    ));
    one_problem_each(&refuses(
        "",
        "[limits] ⏎ ipv6_prefix = 129 => limits.ipv6_prefix => from 32 to 128",
    ));
    // What does not hold where it would not fit.
    for fits in [
        "routes = [\"/dear\"]\n[[routes]]\npath = \"/dear\"\n[[routes]]\ncost = 11",
        "[[routes]]\ncost = 11\nlimits = []",
        "routes = [\"/\"]\n[[routes]]\nlimits = [\"a\"]",
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("gateway.toml"),
            format!("{good}{fits}"),
        )
        .unwrap();
        let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"]);
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn every_problem_is_reported_at_once_with_its_path_its_source_and_what_is_accepted() {
    let file = r#"
        unknown_section = 1
        [listen]
        address = "localhost"
        adress = "127.0.0.1:1"
        workers = 0
        trusted_proxies = ["10.0.0.0/8", "ten"]
        head_timeout = "5"
        [origin]
        url = "https://example.com/?base"
        [keys]
        prefix = "P"
        [[routes]]
        path = "no-slash"
        methods = ["GET", "FETCH"]
        scopes = ["a b"]
        on_missing_key = "maybe"
    "#;
    let variables = [
        ("SHARED_SECRET", SECRET),
        ("GATEWAY__ADMIN__ADDRESS", "nowhere"),
        ("GATEWAY__ADMIN__PORT", "1"),
        ("VALKEY_URL", "http://x"),
    ];
    let (code, said) = refused(file, &variables, &["check"]);
    assert_eq!(code, 2);
    for (path, source, part) in [
        ("unknown…", "gateway.toml", "no such setting"),
        ("listen.address", "gateway.toml", "\"127.0.0.1:8080\""),
        ("listen.adress", "gateway.toml", "here are: address"),
        ("listen.workers", "gateway.toml", "1 or more"),
        ("listen.trusted_proxies[1]", "gateway.toml", "10.0.0.0/8"),
        ("listen.head_timeout", "gateway.toml", "\"30s\""),
        ("origin.url", "gateway.toml", "no query and no fragment"),
        ("keys.prefix", "gateway.toml", "2"),
        ("routes[0].path", "gateway.toml", "/v1"),
        ("routes[0].methods[1]", "gateway.toml", "GET, HEAD"),
        ("routes[0].scopes[0]", "gateway.toml", ""),
        ("routes[0].on_missing_key", "gateway.toml", "\"anonymous\""),
        ("admin.address", "GATEWAY__ADMIN__ADDRESS", "127.0.0.1"),
        ("admin.port", "GATEWAY__ADMIN__PORT", "no such setting"),
        ("valkey.url", "VALKEY_URL", "it begins with redis://"),
    ] {
        let line = said
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{path} (")))
            .unwrap_or_else(|| panic!("{path} is not in {said}"));
        assert!(
            line.contains(&format!("(from {source}")) && line.contains(part),
            "{line}"
        );
    }
    assert!(said.starts_with("gateway: 15 problems"), "{said}");
}

#[test]
fn files_that_cannot_be_read_as_settings_are_named() {
    let variables = [("SHARED_SECRET", SECRET)];
    for (file, arguments, part) in [
        ("[listen\naddress = 1", &["check"][..], "gateway.toml"),
        ("listen = 1", &["check"], "write [listen]"),
        ("[routes]\npath = \"/\"", &["check"], "write [[routes]]"),
        ("[listen]\naddress = [1]", &["check"], "listen.address"),
        ("", &["--config", "/nowhere.toml", "check"], "/nowhere.toml"),
    ] {
        let (code, said) = refused(file, &variables, arguments);
        assert!(code == 2 && said.contains(part), "{file:?}: {said}");
    }
}

#[test]
fn a_quote_that_was_forgotten_shows_no_secret() {
    let file =
        "[[admin.tokens]]\nname = \"ci\"\nrole = \"admin\"\ntoken = \"k8Zp3vQ9-from-the-file\n";
    let directory = tempfile::tempdir().unwrap();
    let store = database(directory.path());
    for arguments in [
        &["check"][..],
        &["serve"],
        &["keys", "list"],
        &["keys", "pattern"],
        &["export"],
        &["healthcheck"],
    ] {
        let variables = [("SHARED_SECRET", SECRET), ("DATABASE_URL", &*store)];
        let (code, said) = refused(file, &variables, arguments);
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(
            said.contains("gateway.toml): line 4, column ") && !said.contains("k8Zp3vQ9"),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn one_setting_from_two_variables_is_refused() {
    let variables = [
        ("SHARED_SECRET", SECRET),
        ("ORIGIN_URL", "http://a"),
        ("GATEWAY__ORIGIN__URL", "http://b"),
    ];
    let (code, said) = refused("", &variables, &["check"]);
    assert!(
        code == 2 && said.contains("ORIGIN_URL and GATEWAY__ORIGIN__URL are both set"),
        "{said}"
    );
}

#[test]
fn routes_that_take_the_same_requests_are_refused() {
    let file = "[[routes]]\npath = \"/a\"\n[[routes]]\nname = \"twin\"\npath = \"/a/\"\n[[routes]]\nname = \"b\"\npath = \"/a\"\nmethods = [\"GET\"]\n";
    let (code, said) = refused(file, &[("SHARED_SECRET", SECRET)], &["check"]);
    assert!(
        code == 2 && said.contains("routes[1]") && !said.contains("routes[2]"),
        "{said}"
    );
}

#[test]
fn admin_tokens_have_a_name_a_role_and_one_secret() {
    let token = |lines: &str| format!("[[admin.tokens]]\n{lines}\n");
    let good = "name = \"ci\"\nrole = \"admin\"\ntoken = \"k8Zp3vQ9-from-the-file\"";
    let named = |name: &str| good.replace("ci", name);
    for (file, part) in [
        (
            token(""),
            "admin.tokens[0].name (from the tokens): it is missing",
        ),
        (
            token("name = \"ci\""),
            "admin.tokens[0].role (from the tokens): it is missing",
        ),
        (
            token("name = \"ci\"\nrole = \"admin\""),
            "set token or token_file",
        ),
        (token(&named("CI")), "lower-case letters"),
        (token(&named("")), "1 to 32"),
        (token(&named(&"a".repeat(33))), "1 to 32"),
        (
            token(&good.replace("\"admin\"", "\"root\"")),
            "\"admin\" or \"read-only\"",
        ),
        (
            token(&good.replace("k8Zp3vQ9-from-the-file", "k8Zp3vQ9")),
            "at least 16",
        ),
        (
            token(&good.replace("k8Zp3vQ9-from-the-file", "changeme-changeme")),
            "placeholder",
        ),
        (
            token(&format!("{good}\ntoken_file = \"/nowhere\"")),
            "token and token_file are both set",
        ),
        (
            token(&good.replace(
                "token = \"k8Zp3vQ9-from-the-file\"",
                "token_file = \"/nowhere\"",
            )),
            "\"/nowhere\" cannot be read",
        ),
        (
            token(&format!("{good}\nexpires = \"1d\"")),
            "there is no such setting",
        ),
        (
            token(good) + &token(&good.replace("from", "not-from")),
            "that of another token already",
        ),
        (
            token(good) + &token(&named("cd")),
            "the same as another token",
        ),
        (token(&named("admin")), "that of another token already"),
        (
            token(&good.replace("k8Zp3vQ9-from-the-file", "k8Zp3vQ9-of-the-environment")),
            "the same as another token",
        ),
        (
            token(&good.replace("k8Zp3vQ9-from-the-file", SECRET)),
            "admin.tokens[0].token (from the tokens): it is the shared secret",
        ),
    ] {
        let (code, said) = refused(
            &file,
            &[
                ("SHARED_SECRET", SECRET),
                ("ADMIN_TOKEN", "k8Zp3vQ9-of-the-environment"),
            ],
            &["check"],
        );
        assert!(code == 2 && said.contains(part), "{part}: {said}");
        assert!(!said.contains("k8Zp3vQ9"), "{said}");
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), token(good)).unwrap();
    let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        printed.contains("[[admin.tokens]]\nname = \"ci\"")
            && printed.contains("token = \"[redacted]\""),
        "{printed}"
    );
    assert!(!printed.contains("k8Zp3vQ9"), "{printed}");
}

#[test]
fn check_prints_what_is_in_force_with_its_source_and_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("gateway.toml"),
        "[listen]\nworkers = 3\n[[routes]]\npath = \"/v1\"\n",
    )
    .unwrap();
    let variables = [
        ("SHARED_SECRET", SECRET),
        ("ORIGIN_URL", "http://backend:9000"),
        ("GATEWAY__AUTH__REALM", "acme"),
        ("ADMIN_TOKEN", "token-9f2c51d07be84a63"),
    ];
    let output = gateway(directory.path(), &variables, &["check"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    for line in [
        "SHARED_SECRET = \"[redacted]\"  # the environment",
        "ADMIN_TOKEN = \"[redacted]\"  # the environment",
        "workers = 3  # gateway.toml",
        "address = \"127.0.0.1:8081\"  # default",
        "url = \"http://backend:9000\"  # ORIGIN_URL",
        "realm = \"acme\"  # GATEWAY__AUTH__REALM",
        "[[routes]]",
        "path = \"/v1\"  # gateway.toml",
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line} is not in\n{printed}"
        );
    }
    assert!(!printed.contains("9f2c51d07be84a63"), "{printed}");
}

#[test]
fn a_port_that_is_taken_and_a_store_that_cannot_be_opened_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = [
        ("SHARED_SECRET", SECRET),
        ("GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let store = database(directory.path());
    let (code, said) = refused(
        "",
        &[
            &free[..],
            &[
                ("GATEWAY__LISTEN__ADDRESS", &address),
                ("DATABASE_URL", &store),
            ],
        ]
        .concat(),
        &["serve"],
    );
    assert!(
        code == 1 && said.contains(&address) && said.contains("listen.address"),
        "{said}"
    );

    let file = directory.path().join("file");
    std::fs::write(&file, "this is not a database, whatever its name says").unwrap();
    for url in [
        format!("sqlite://{}/below.db", file.display()),
        format!("sqlite://{}", file.display()),
    ] {
        let (code, said) = refused(
            "",
            &[
                &free[..],
                &[
                    ("GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
                    ("DATABASE_URL", &url),
                ],
            ]
            .concat(),
            &["serve"],
        );
        assert!(
            code == 1 && said.contains(&file.display().to_string()),
            "{url}: {said}"
        );
    }
}

#[test]
fn bad_usage_is_exit_2() {
    for arguments in [
        &["nonsense"][..],
        &["serve", "--nonsense"],
        &["keys", "create"],
        &[],
    ] {
        let output = gateway(Path::new("/"), &[], arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}

#[test]
fn credentials_that_nothing_can_prove_are_refused() {
    one_problem_each(&refuses(
        "",
        r#"
            [auth] ⏎ methods = [] => auth.methods => such as "key"
            [auth] ⏎ methods = ["oauth"] => auth.methods[0] => "jwt:NAME"
            [auth] ⏎ methods = "jwt" => auth.methods => [[jwt.issuers]]
            [[routes]] ⏎ auth = ["key", "jwt:"] => routes[0].auth[1] => name of an issuer
            [[routes]] ⏎ auth = ["jwt", "jwt:corp"] => routes[0].auth[1] => already
            [[routes]] ⏎ auth = "key, key" => routes[0].auth[1] => already
            [[routes]] ⏎ auth = "jwt:corp" => routes[0].auth => [[jwt.issuers]]
        "#,
    ));
}

#[test]
fn routes_name_issuers_that_are_there_and_do_not_set_their_headers() {
    const ISSUER: &str = "[[jwt.issuers]]\nname = \"corp\"\nissuer = \"https://corp.example/\"\nany_audience = true\nforward_claims = { \"x-user\" = \"sub\" }\n";
    // The tables of routes follow that of the issuer.
    refuses(
        ISSUER,
        r#"
            [[routes]] ⏎ auth = ["key", "jwt:crop"] => routes[0].auth => there is "corp"
            [auth] ⏎ methods = ["jwt:other"] => auth.methods => no issuer "other"
            [[routes]] ⏎ set_request_headers = { X-User = "me" } => routes[0].set_request_headers => forward_claims
            [[routes]] ⏎ remove_request_headers = ["X-USER"] => routes[0].remove_request_headers => forward_claims
        "#,
    );
}
