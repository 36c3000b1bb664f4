//! Settings of one's own, as they are read, shown, refused and kept.

use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::config::settings::Settings;
use crate::config::{Environment, load_with, show as show_all};

#[derive(Deserialize, Serialize, Default)]
#[serde(default)]
struct Partner {
    hours: Hours,
    share: f64,
    codes: Vec<u16>,
    mode: Mode,
    api_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<String>,
    limits: BTreeMap<String, u8>,
    partners: Vec<One>,
    even: Even,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(default)]
struct Hours {
    open: u8,
    closed: bool,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Soft,
    Hard,
}

#[derive(Deserialize, Serialize)]
struct One {
    name: String,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(try_from = "String")]
struct Even(String);

impl TryFrom<String> for Even {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.len() % 2 {
            0 => Ok(Self(text)),
            _ => Err(format!("{text:?} is odd: accepted is an even text")),
        }
    }
}

/// Reads a file with the sections `partner`, which may have `hours.open` up to 23, and `empty`.
fn read(file: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.toml");
    std::fs::write(&path, file).unwrap();
    read_at(&path, variables).map_err(|said| {
        let parts = said
            .split("(from ")
            .map(|part| match part.split_once("gateway.toml)") {
                Some((_, rest)) => format!("FILE){rest}"),
                None => part.to_owned(),
            });
        parts.collect::<Vec<_>>().join("(from ")
    })
}

fn read_at(path: &Path, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let partner = Registration::new("partner", |partner: Partner| {
        if partner.hours.open > 23 {
            let message = "accepted are hours from 0 to 23";
            return Err(vec![OwnProblem::new("hours.open", message)]);
        }
        let names = partner.partners.iter().map(|one| one.name.clone());
        Ok(names.fold(Rules::new(), |rules, name| rules.origin_header(&name)))
    });
    let empty = Registration::new("empty", |(): ()| Ok(Rules::new()));
    let own = Registrations::new(vec![partner, empty]).unwrap();
    let secret = [("SHARED_SECRET", "own-9f2c51d07be84a63")];
    let environment: Environment = secret.iter().chain(variables).copied().collect();
    load_with(Some(path), &environment, &own).map_err(|problems| problems.to_string())
}

#[test]
fn settings_of_ones_own_are_read_from_file_and_environment_and_shown_with_defaults() {
    let file = "[own.partner]\nshare = 0.5\ncodes = [1, 2]\nmode = \"hard\"\n\
                api_token = \"s3cr3t-s3cr3t\"\nlimits = { a = 1 }\neven = \"ab\"\n\
                [[own.partner.partners]]\nname = \"X-One\"\n";
    let variables = [("GATEWAY__OWN__PARTNER__HOURS__OPEN", "8")];
    let settings = read(file, &variables).unwrap();
    let shown = show_all(&settings.effective);
    let (_, shown) = shown.split_once("[own.partner").unwrap();
    for part in [
        "open = 8  # GATEWAY__OWN__PARTNER__HOURS__OPEN",
        "closed = false  # default",
        "share = 0.5  # ",
        "codes = [1, 2]  # ",
        "mode = \"hard\"  # ",
        "api_token = \"[redacted]\"  # ",
        "a = 1  # ",
        "[[own.partner.partners]]",
        "name = \"X-One\"  # ",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("s3cr3t"), "{shown}");
    let rules = settings.own.rules();
    assert_eq!(
        rules.origin_headers.as_ref(),
        [HeaderName::from_static("x-one")]
    );
}

#[test]
fn wrong_settings_of_ones_own_are_refused_at_once_with_path_and_what_is_accepted() {
    for (file, said) in [
        (
            "[own.partner]\nshar = 1\nhours = { opne = 1 }",
            &[
                "own.partner.shar (from FILE): there is no such setting; here are: hours, share,",
                "own.partner.hours.opne (from FILE): there is no such setting; here are: open, closed",
            ][..],
        ),
        (
            "[own.partner]\nhours = { open = 300, closed = \"maybe-later\" }\nshare = \"half-of-it\"\ncodes = [1, \"tw\"]",
            &[
                "own.partner.hours.closed (from FILE): accepted here is true or false",
                "own.partner.share (from FILE): accepted here is a number",
                "own.partner.codes[1] (from FILE): accepted here is a whole number",
            ],
        ),
        (
            "[own.partner.hours]\nopen = 256",
            &["own.partner.hours.open (from FILE): accepted here is u8"],
        ),
        (
            "[own.partner.hours]\nopen = 24",
            &["own.partner.hours.open (from FILE): accepted are hours from 0 to 23"],
        ),
        (
            "[own.partner]\nmode = \"s3cr3t-s3cr3t\"",
            &["own.partner.mode (from FILE): accepted here are: soft, hard"],
        ),
        (
            "[own.partner]\neven = \"s3cr3t-s3cr3t\"",
            &["own.partner.even (from FILE): this is not accepted here"],
        ),
        (
            "[own.partner]\neven = \"odd\"",
            &["own.partner.even (from FILE): \"odd\" is odd: accepted is an even text"],
        ),
        (
            "[[own.partner.partners]]\nnam = \"a\"",
            &[
                "own.partner.partners[0].nam (from FILE): there is no such setting; here are: name",
                "own.partner.partners[0].name (from FILE): it is missing, and has no default",
            ],
        ),
        (
            "[own]\npartner = 1",
            &["this is a table of settings: write [partner]"],
        ),
        (
            "[own.other]\na = 1",
            &[
                "own.other",
                "there is no such setting; here are: partner, empty",
            ],
        ),
        (
            "[own.empty]\na = 1",
            &["own.empty.a", "there is no such setting; here are none"],
        ),
        (
            "[[own.partner.partners]]\nname = \"X-Consumer-Tier\"",
            &[
                "own.partner (from the program): its rules declare the header \"X-Consumer-Tier\" for the origin: only the gateway sets this header",
            ],
        ),
        (
            "[[own.partner.partners]]\nname = \"X_Tier\"",
            &["letters, digits and `-`"],
        ),
        (
            "[[own.partner.partners]]\nname = \"Cookie\"",
            &["another meaning"],
        ),
        (
            "[[own.partner.partners]]\nname = \"X-Forwarded-For\"",
            &["proxies set this header"],
        ),
        (
            "[[own.partner.partners]]\nname = \"Connection\"",
            &["hop-by-hop"],
        ),
    ] {
        let all = read(file, &[]).unwrap_err();
        for part in said {
            assert!(all.contains(part), "{file}\n{part}\n{all}");
        }
        assert!(!all.contains("s3cr3t"), "{all}");
    }
}

#[test]
fn a_header_is_declared_once_and_edited_by_no_route() {
    let section = |name, rules: Rules| Registration::new(name, move |(): ()| Ok(rules.clone()));
    let refused = |sections: Vec<Registration>, file: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.toml");
        std::fs::write(&path, file).unwrap();
        let own = Registrations::new(sections).unwrap();
        let secret = [("SHARED_SECRET", "own-9f2c51d07be84a63")];
        let environment: Environment = secret.into_iter().collect();
        let loaded = load_with(Some(&path), &environment, &own);
        loaded.err().map(|problems| problems.to_string())
    };
    let set = || Rules::new().origin_header("X-Tier");
    let read = || Rules::new().credential_header("x-tier");
    for (sections, file, said) in [
        (
            vec![section("a", set()), section("b", set())],
            "",
            "own.b (from the program)",
        ),
        (
            vec![section("a", set()), section("b", read())],
            "",
            "own.a declare already",
        ),
        (
            vec![section("a", set().credential_header("X-TIER"))],
            "",
            "own.a declare already",
        ),
        (
            vec![section("a", set())],
            "[[routes]]\nset_request_headers = { X-Tier = \"a\" }",
            "routes[0].set_request_headers (from the routes): x-tier is a header",
        ),
        (
            vec![section("a", read())],
            "[[routes]]\nremove_request_headers = [\"X-Tier\"]",
            "routes[0].remove_request_headers (from the routes): x-tier",
        ),
        (
            vec![section(
                "a",
                Rules::new().credential_header("Authorization"),
            )],
            "",
            "for credentials: this header has another meaning",
        ),
    ] {
        let all = refused(sections, file).unwrap_or_default();
        assert!(all.contains(said), "{said}: {all}");
    }
    let one = vec![section("a", set()), section("b", Rules::new())];
    assert_eq!(
        refused(one, "[[routes]]\nset_request_headers = { X-Other = \"a\" }"),
        None
    );
}

#[test]
fn names_of_sections_are_words_and_each_is_there_once() {
    let section = |name| Registration::new(name, |(): ()| Ok(Rules::new()));
    assert!(Registrations::new(vec![section("a"), section("b_2")]).is_ok());
    for (names, said) in [
        (vec![""], "is not a name"),
        (vec!["A"], "is not a name"),
        (vec!["2a"], "is not a name"),
        (vec!["a.b"], "is not a name"),
        (vec!["a", "a"], "two sections"),
    ] {
        let registered = Registrations::new(names.into_iter().map(section).collect());
        assert!(registered.unwrap_err().contains(said));
    }
}

#[test]
fn a_header_of_rules_is_set_by_nothing_else() {
    let own = "[[own.partner.partners]]\nname = \"X-Tier\"\n";
    for (other, said) in [
        (
            "[[routes]]\nset_request_headers = { x-tier = \"gold\", X-Free = \"1\" }",
            "routes[0].set_request_headers (from the routes): x-tier is a header that the rules of own.partner declare",
        ),
        (
            "[[routes]]\npath = \"/a\"\n[[routes]]\nremove_request_headers = [\"X-TIER\"]",
            "routes[1].remove_request_headers (from the routes): x-tier is a header",
        ),
        (
            "[[jwt.issuers]]\nname = \"corp\"\nissuer = \"https://corp.example\"\nany_audience = true\n\
             forward_claims = { \"X-Tier\" = \"tier\" }",
            "own.partner (from the program): its rules declare the header x-tier, which carries a claim",
        ),
    ] {
        let problems = read(&format!("{own}{other}"), &[]).unwrap_err();
        assert!(problems.contains(said), "{other}: {problems}");
    }
    // An answer is another matter.
    read(
        &format!("{own}[[routes]]\nset_response_headers = {{ X-Tier = \"gold\" }}"),
        &[],
    )
    .unwrap();
}

#[test]
fn what_did_not_change_keeps_its_rules_and_a_changed_file_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.toml");
    let key = directory.path().join("key");
    let write = |more: &str| {
        let file = format!("[own.partner]\nkey_file = {key:?}\n{more}\n");
        std::fs::write(&path, file).unwrap();
        read_at(&path, &[]).unwrap()
    };
    std::fs::write(&key, "one").unwrap();
    let before = write("");
    assert_eq!(write("").own.changed(&before.own), [""; 0]);
    assert_eq!(
        write("share = 1.0").own.changed(&before.own),
        ["own.partner"]
    );
    assert_eq!(
        write("api_token = \"a\"").own.changed(&before.own),
        ["own.partner"]
    );
    std::fs::write(&key, "two").unwrap();
    let mut after = write("");
    assert_eq!(after.own.changed(&before.own), ["own.partner"]);
    assert_eq!(
        crate::reload::changed(&before, &after),
        ["own.partner"],
        "it is told"
    );
    // What stays the same keeps what it had.
    let mut marked = before.own.clone();
    for section in &mut marked.0 {
        section.rules = Rules::new().origin_header("X-Marked");
    }
    after.own.keep_unchanged(&marked);
    let kept = |name: &str| {
        let mut sections = after.own.0.iter();
        let section = sections.find(|section| section.name == name).unwrap();
        section.rules.origin_headers().to_vec()
    };
    assert_eq!(kept("empty"), ["X-Marked"]);
    assert_eq!(kept("partner"), [""; 0]);
}
