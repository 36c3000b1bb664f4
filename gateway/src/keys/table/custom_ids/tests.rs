use super::*;
use crate::keys::{Change, Consumer, ConsumerId, Plan, UnixMillis};

fn consumer(bucket: &str, custom_id: Option<&str>) -> Consumer {
    Consumer {
        id: ConsumerId::generate().unwrap(),
        bucket: bucket.parse().unwrap(),
        name: "acme".parse().unwrap(),
        custom_id: custom_id.map(|id| id.parse().unwrap()),
        metadata: None,
        scopes: "read".parse().unwrap(),
        allowed_ips: crate::keys::AllowedIps::default(),
        plan: None,
        allowance: crate::keys::Allowance::default(),
        tags: crate::keys::Tags::default(),
        created_at: UnixMillis(0),
    }
}

/// The consumer with this custom id: its id, `"none"` or `"unclear"`.
fn find(table: &KeyTable, custom_id: &str, buckets: &[&str]) -> String {
    let buckets: Vec<BucketName> = buckets.iter().map(|name| name.parse().unwrap()).collect();
    match table.consumer_by_custom_id(custom_id, &buckets) {
        ByCustomId::Nobody => "none".to_owned(),
        ByCustomId::One(found) => found.known().id.to_string(),
        ByCustomId::Unclear => "unclear".to_owned(),
    }
}

#[test]
fn a_consumer_is_found_by_the_custom_id_that_it_has_now() {
    let table = KeyTable::new();
    let with = |one: &Consumer, custom_id: Option<&str>| Consumer {
        custom_id: custom_id.map(|id| id.parse().unwrap()),
        ..one.clone()
    };
    let put = |consumer: &Consumer| table.apply(Change::Consumer(consumer.clone())).unwrap();
    let (one, other) = (consumer("a", Some("42")), consumer("a", None));
    put(&one);
    put(&other);
    assert_eq!(table.custom_ids.len(), 1, "only those that have one");
    assert_eq!(find(&table, "42", &[]), one.id.to_string());
    assert_eq!(find(&table, "4", &[]), "none");
    assert_eq!(find(&table, "", &[]), "none");
    put(&with(&one, Some("43")));
    assert_eq!(find(&table, "42", &[]), "none");
    assert_eq!(find(&table, "43", &[]), one.id.to_string());
    put(&with(&other, Some("42")));
    assert_eq!(find(&table, "42", &[]), other.id.to_string());
    put(&with(&one, None));
    assert_eq!(find(&table, "43", &[]), "none");
    table.apply(Change::ConsumerRemoved(other.id)).unwrap();
    assert_eq!(find(&table, "42", &[]), "none");
    assert_eq!(table.custom_ids.len(), 0, "nothing is left behind");
}

#[test]
fn a_custom_id_of_several_buckets_is_unclear_where_the_route_names_no_single_one() {
    let table = KeyTable::new();
    let (live, test) = (consumer("live", Some("42")), consumer("test", Some("42")));
    for consumer in [&live, &test] {
        table.apply(Change::Consumer(consumer.clone())).unwrap();
    }
    assert_eq!(find(&table, "42", &[]), "unclear");
    assert_eq!(find(&table, "42", &["live"]), live.id.to_string());
    assert_eq!(find(&table, "42", &["test", "none"]), test.id.to_string());
    assert_eq!(find(&table, "42", &["live", "test"]), "unclear");
    assert_eq!(find(&table, "42", &["none"]), "unclear");
    table.apply(Change::ConsumerRemoved(test.id)).unwrap();
    assert_eq!(find(&table, "42", &[]), live.id.to_string());
}

#[test]
fn a_consumer_whose_plan_is_missing_is_unclear() {
    let table = KeyTable::new();
    let one = Consumer {
        plan: Some("gold".parse().unwrap()),
        ..consumer("a", Some("42"))
    };
    table.apply(Change::Consumer(one.clone())).unwrap();
    assert_eq!(find(&table, "42", &[]), "unclear");
    let plan = Plan {
        name: "gold".parse().unwrap(),
        scopes: "more".parse().unwrap(),
        allowance: crate::keys::Allowance::default(),
    };
    table.apply(Change::Plan(plan)).unwrap();
    let ByCustomId::One(found) = table.consumer_by_custom_id("42", &[]) else {
        panic!("it is there");
    };
    assert!(found.has_scope("read") && found.has_scope("more") && !found.has_scope("other"));
}

#[test]
fn a_load_forgets_the_custom_ids_that_it_does_not_mention() {
    let table = KeyTable::new();
    let all: Vec<Consumer> = (0..500)
        .map(|number| consumer("a", Some(&number.to_string())))
        .collect();
    let mut load = table.reload();
    all.iter().for_each(|one| load.consumer(one.clone()));
    load.finish();
    assert_eq!(table.custom_ids.len(), all.len());
    for (number, one) in all.iter().enumerate() {
        assert_eq!(find(&table, &number.to_string(), &[]), one.id.to_string());
    }
    let mut load = table.reload();
    for (number, one) in all.iter().enumerate().skip(400) {
        let custom_id = format!("new-{number}");
        load.consumer(Consumer {
            custom_id: Some(custom_id.parse().unwrap()),
            ..one.clone()
        });
    }
    load.finish();
    assert_eq!(table.custom_ids.len(), 100);
    assert_eq!(find(&table, "450", &[]), "none");
    assert_eq!(find(&table, "new-450", &[]), all[450].id.to_string());
}

#[test]
fn an_entry_is_small() {
    assert_eq!(size_of::<Entry>(), 24);
}
