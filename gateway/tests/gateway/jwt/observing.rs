//! Tokens on a route that only observes.

use serde_json::json;

use super::{Rig, bearer, of_corp};
use crate::running::eventually;

#[test]
fn a_token_that_is_not_good_enough_passes_without_an_identity() {
    let rig = Rig::with(
        "[[routes]]\nauth = [\"jwt:corp\", \"observe\"]\nscopes = [\"read\"]\n",
        "",
    );
    let good = bearer(&of_corp(&json!({ "scope": "read" })));
    let narrow = bearer(&of_corp(&json!({ "scope": "write" })));
    let expired = bearer(&of_corp(&json!({ "scope": "read", "exp": 1_000_000_000 })));
    let of_partner = bearer(&rig.of_partner(&json!({ "scope": "read" })));
    let key = rig.process.key("acme");
    let theirs = bearer("of-the-backend");
    for (number, (line, code, stays)) in [
        (good.as_str(), None, false),
        // A good token of ours is no more the origin's than a key is.
        (&narrow, Some("insufficient_scope"), false),
        (&expired, Some(""), true),
        (&of_partner, Some(""), true),
        (&theirs, Some(""), true),
        (&key, Some(""), false),
        ("x-any: 1", Some(""), true),
    ]
    .into_iter()
    .enumerate()
    {
        rig.origin.forget();
        let answer = rig.get("/", &[line, "x-consumer-username: root"]);
        assert_eq!(answer.status, 200, "{line}: {}", answer.text());
        let arrived = rig.origin.only();
        let is_anonymous = arrived.one("x-anonymous-consumer") == Some("true");
        assert_eq!(is_anonymous, code.is_some(), "{line}: {arrived:?}");
        assert_eq!(
            arrived.one("x-credential-identifier").is_some(),
            code.is_none()
        );
        assert_ne!(arrived.one("x-consumer-username"), Some("root"));
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(
            arrived.one(name) == Some(value),
            stays,
            "{line}: {arrived:?}"
        );
        eventually("it is logged", || rig.process.access_log().len() > number);
        let logged = rig.process.access_log().pop().unwrap();
        match code {
            None => assert!(logged["would_refuse"].is_null(), "{logged}"),
            Some("") => assert!(logged["would_refuse"].is_string(), "{logged}"),
            Some(code) => assert_eq!(logged["would_refuse"], code, "{logged}"),
        }
    }
}
