//! Messages are sentences: none has the `Debug` text of a type of the program or of a library in it.

use std::sync::LazyLock;

use regex::Regex;

/// What `Debug` writes, and what people do not.
static FORMS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // A variant or a struct with its contents: `Some(…)`, `Os { code: 2, … }`.
        r"\b[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*(?:\(| \{ |\{)",
        // A field with a variant: `kind: NotFound`.
        r"\bkind: [A-Z]",
        // The path of a type, which no address of IPv6 is like.
        r"\b[a-z0-9_]*[g-z_][a-z0-9_]*::[A-Za-z_]",
        // A duration: `1.5s`, `312.4µs`.
        r"\b[0-9]+\.[0-9]+(?:ns|µs|ms|s)\b",
        // Types of Rust.
        r"\b(?:u8|u16|u32|u64|usize|i32|i64|f64)\b|&str\b|\b(?:Option|Vec|Box|Arc|Rc)<",
        // Pairs of parentheses that stand for nothing.
        r"(?:^|[ ,(\[])\(\)",
    ]
    .into_iter()
    .map(|form| Regex::new(form).unwrap())
    .collect()
});
/// Time, level and place in the source that a line of the process log begins with.
static HEAD: LazyLock<Regex> = LazyLock::new(|| {
    let levels = "ERROR|WARN|INFO|DEBUG|TRACE";
    // As text, or as JSON.
    let form = format!(
        r#"^(?:\[\S+ |\{{"time":"[^"]*","level":")({levels})(?: +|","target":")([^\]"]+)(?:\] |",)"#
    );
    Regex::new(&form).unwrap()
});

/// The first line of `text` with the text of a library's `Debug` in it, and that text. What libraries log themselves where
/// `RUST_LOG` asks for it (`debug`, `trace`) is theirs.
pub(crate) fn library_text(text: &str) -> Option<(&str, &str)> {
    text.lines().find_map(|line| {
        let head = HEAD.captures(line);
        if let Some(head) = &head
            && matches!(&head[1], "DEBUG" | "TRACE")
            && !head[2].starts_with("postern_")
        {
            return None;
        }
        let message = &line[head.map_or(0, |head| head[0].len())..];
        let found = FORMS.iter().find_map(|form| form.find(message))?;
        Some((line, found.as_str()))
    })
}

/// Fails where `text` is not for people.
#[track_caller]
pub(crate) fn assert_plain(text: &str) {
    if let Some((line, found)) = library_text(text) {
        panic!("{found:?} is the text of a library, in {line:?}");
    }
}

#[test]
fn what_a_library_says_of_itself_is_told_from_sentences() {
    for text in [
        "cannot open it: Os { code: 2, kind: NotFound, message: \"No such file\" }",
        "client Some(127.0.0.1:5000): gone",
        "the limit stays at Some(1024)",
        "it failed: Custom { kind: Other, error: \"x\" }",
        "UnexpectedEof(3)",
        "io::Error of something",
        "[2026-11-26T02:00:00Z WARN  postern_gateway::proxy] rustls::Error came",
        "[2026-11-26T02:00:00Z DEBUG postern_gateway::http] client Some(1): gone",
        "it took 1.000312s",
        "invalid type: map, expected u16",
        "an Option<Duration>",
        "kind: NotFound",
        "it gave ()",
    ] {
        assert!(library_text(text).is_some(), "{text}");
    }
    for text in [
        "[2026-11-26T02:00:00Z WARN  postern_gateway::proxy] no connection to 127.0.0.1:9000 (refused)",
        "[2026-11-26T02:00:00Z TRACE mio::poll] registering: token=Token(1)",
        r#"{"time":"2026-11-26T02:00:00Z","level":"WARN","target":"postern_gateway::tls","message":"it ended"}"#,
        "No such file or directory (os error 2)",
        "listening on http://[::1]:8080, [2001:db8::1] and fe80::ab",
        "the limit is 30s or 1m 15s; version 1.2.3",
        "write `trusted_proxies = [\"10.0.0.0/8\"]`",
        "{\"a\":{\"b\":[]},\"path\":\"/Orders\"}",
        "PostgreSQL (15.3) ended it, and SHA-256(key) is stored",
    ] {
        assert_eq!(library_text(text), None);
    }
}
