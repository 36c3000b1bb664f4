//! `/v1/consumers/{id}/quotas`: what is used, and what operators give back.

use serde_json::{Value, json};

use crate::rig::{READER, Rig, text};
use crate::running::eventually;

/// Quotas of months that begin on a day that is far from today.
fn settings() -> String {
    let today = time::OffsetDateTime::now_utc().day();
    let anchor = if (8..=22).contains(&today) { 1 } else { 15 };
    format!(
        "[[quotas]]\nname = \"monthly\"\nby = \"consumer\"\nlimit = 5\nperiod = \"month\"\nanchor = {anchor}\n\
         [[quotas]]\nname = \"keys\"\nby = \"key\"\nlimit = 100\nperiod = \"month\"\nanchor = {anchor}\n"
    )
}

fn quota<'v>(list: &'v Value, name: &str) -> &'v Value {
    let list = list["data"].as_array().unwrap();
    list.iter().find(|quota| quota["name"] == name).unwrap()
}

#[test]
fn operators_see_what_is_used_and_give_it_back_with_an_audit_row() {
    let rig = Rig::with_file(&settings());
    let consumer = rig.made(
        "/v1/consumers",
        &json!({ "name": "acme", "quotas": [{ "name": "own", "limit": 9, "period": "day" }] }),
    );
    let key = rig.made("/v1/keys", &json!({ "consumer": "acme" }));
    let path = format!("/v1/consumers/{}/quotas", text(&consumer, "id"));
    // No origin answers, so what is reserved is given back: the use is the operator's.
    assert_ne!(rig.verdict(text(&key, "key")), "quota_exceeded");
    let list = rig.shown(&path);
    assert_eq!(
        list["data"].as_array().unwrap().len(),
        2,
        "not that of keys: {list}"
    );
    let monthly = quota(&list, "monthly");
    assert_eq!(
        (&monthly["limit"], &monthly["used"], &monthly["remaining"]),
        (&json!(5), &json!(0), &json!(5))
    );
    assert_eq!(quota(&list, "own")["limit"], 9);
    assert!(text(monthly, "period_start") < text(monthly, "resets_at"));

    let adjust = |by: i64| {
        let body = json!({ "name": "monthly", "by": by, "reason": "an outage" });
        rig.call("POST", &format!("{path}/adjust"), Some(&body))
    };
    let adjusted = adjust(5);
    assert_eq!(adjusted.status, 200, "{}", adjusted.text());
    assert_eq!(
        (&adjusted.json()["used"], &adjusted.json()["remaining"]),
        (&json!(5), &json!(0))
    );
    eventually("it is in force", || {
        rig.verdict(text(&key, "key")) == "quota_exceeded"
    });
    assert_eq!(quota(&rig.shown(&path), "monthly")["used"], 5);
    assert_eq!(adjust(-2).json()["used"], 3);
    eventually("it is in force", || {
        rig.verdict(text(&key, "key")) != "quota_exceeded"
    });
    assert_eq!(adjust(10).json()["remaining"], 0, "never negative");
    let body = json!({ "name": "monthly" });
    let reset = rig.call("POST", &format!("{path}/reset"), Some(&body));
    assert_eq!(reset.json()["used"], 0);

    let audit = rig.shown("/v1/audit?action=quota.adjust");
    let rows = audit["data"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["detail"]["reason"], "an outage");
    assert_eq!(rows[0]["subject_id"], consumer["id"]);
    let audit = rig.shown("/v1/audit?action=quota.reset");
    assert_eq!(audit["data"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_no_change_of_a_quota_is_refused() {
    let rig = Rig::with_file(&settings());
    let consumer = rig.made("/v1/consumers", &json!({ "name": "acme" }));
    let path = format!("/v1/consumers/{}/quotas", text(&consumer, "id"));
    for (body, status) in [
        (json!({ "name": "monthly", "by": 1.5 }), 400),
        (json!({ "name": "monthly", "by": "1" }), 400),
        (json!({ "name": "monthly" }), 400),
        (json!({ "name": "Monthly", "by": 1 }), 400),
        (
            json!({ "name": "monthly", "by": 1_000_000_000_000_001_i64 }),
            400,
        ),
        (json!({ "name": "keys", "by": 1 }), 404),
        (json!({ "name": "none", "by": 1 }), 404),
    ] {
        let refused = rig.call("POST", &format!("{path}/adjust"), Some(&body));
        assert_eq!(refused.status, status, "{body}: {}", refused.text());
    }
    let body = json!({ "name": "monthly" });
    let reset = format!("{path}/reset");
    let refused = rig.call_as(READER, "POST", &reset, &[], Some(&body));
    assert_eq!(refused.code(), "insufficient_role");
    let refused = rig.call("POST", &format!("{reset}?tag.org=other"), Some(&body));
    assert_eq!(refused.code(), "tag_mismatch");
    let nobody = "/v1/consumers/con_00000000000000000000/quotas";
    assert_eq!(rig.call("GET", nobody, None).status, 404);
}
