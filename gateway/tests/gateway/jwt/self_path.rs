//! A token asks about itself.

use serde_json::{Value, json};

use super::{Rig, bearer, of_corp};

const ROUTES: &str = "[[routes]]\npath = \"/\"\nauth = [\"jwt\"]\nscopes = [\"read\"]\nself_path = \"/me\"\n\
    [[rate_limits]]\nname = \"burst\"\nby = \"key\"\nlimit = 2\nwindow = \"1day\"\n\
    [[quotas]]\nname = \"yearly\"\nby = \"consumer\"\nlimit = 5\nperiod = \"year\"\n";

#[test]
fn a_token_learns_whose_it_is_and_what_is_left() {
    let rig = Rig::with(
        ROUTES,
        "consumer_claim = \"org\"\non_unknown_consumer = \"allow\"\n",
    );
    rig.done(&[
        "consumers",
        "create",
        "acme",
        "--custom-id",
        "crm-7",
        "--scope",
        "read",
    ]);
    let ask = |token: &str| {
        let told = rig.get("/me", &[&bearer(token)]);
        assert_eq!(told.status, 200, "{told:?}");
        assert!(!told.text().contains(token), "{told:?}");
        told.json()
    };
    let of_acme = of_corp(&json!({ "sub": "joe", "org": "crm-7", "scope": "read write" }));
    let mut told = ask(&of_acme);
    for list in ["limits", "quotas"] {
        assert!(told[list][0]["resets_at"].take().is_string(), "{told}");
    }
    assert!(told["token"]["expires_at"].take().is_string(), "{told}");
    assert!(told["consumer"]["id"].take().is_string(), "{told}");
    assert_eq!(
        told,
        json!({
            "consumer": { "id": null, "name": "acme", "custom_id": "crm-7" },
            "token": { "issuer": "corp", "subject": "joe", "scopes": ["read"], "expires_at": null },
            "limits": [{
                "name": "burst", "limit": 2, "window": "1d", "remaining": 2, "resets_at": null,
            }],
            "quotas": [{ "name": "yearly", "limit": 5, "remaining": 5, "resets_at": null }],
        })
    );
    assert_eq!(rig.answer("/a", &of_acme).0, 200);
    let told = ask(&of_acme);
    assert_eq!(told["limits"][0]["remaining"], 1);
    assert_eq!(told["quotas"][0]["remaining"], 4);

    let of_nobody = of_corp(&json!({ "sub": "jim", "org": "none", "scope": "read" }));
    let told = ask(&of_nobody);
    assert_eq!(told["consumer"], Value::Null);
    assert_eq!(told["token"]["subject"], "jim");
    assert_eq!(
        (&told["limits"][0]["remaining"], &told["quotas"]),
        (&json!(2), &json!([]))
    );

    let without_scope = of_corp(&json!({ "sub": "joe", "org": "crm-7" }));
    assert_eq!(rig.answer("/me", &without_scope).0, 403);
    assert_eq!(rig.origin.arrived().len(), 1);
}
