//! Plans.

use postern_gateway::keys::{Lifetime, PlanName};
use postern_gateway::store::{
    ConsumerAttributes, ConsumerEdit, ConsumerFilter, DatabaseUrl, ImportConflict, KeyAttributes,
    NewConsumer, NewKey, NewPlan, PlanAttributes, PlanEdit, Store, StoreError, StoredConsumer,
    Verdict,
};

use super::feed::Following;
use super::making::{NOW, consumer, create_key, key, later, open, owner, stamp};
use super::transfer::row;

fn full_plan() -> PlanAttributes {
    PlanAttributes {
        description: Some("for paying customers".parse().unwrap()),
        scopes: "read write".parse().unwrap(),
        limits: "burst=500/1m search=unlimited".parse().unwrap(),
        quotas: "monthly=5000/month@15".parse().unwrap(),
        max_in_flight: Some("20".parse().unwrap()),
        default_key_lifetime: Some("90d".parse().unwrap()),
        max_key_lifetime: Some("365d".parse().unwrap()),
    }
}

fn gold() -> PlanName {
    "gold".parse().unwrap()
}

async fn create(store: &Store, name: &str, attributes: PlanAttributes) -> PlanName {
    let new = NewPlan {
        name: name.parse().unwrap(),
        attributes,
    };
    store.create_plan(new, &stamp()).await.unwrap().name
}

async fn with_plan(store: &Store, name: &str, plan: &PlanName) -> StoredConsumer {
    let new = NewConsumer {
        attributes: ConsumerAttributes {
            scopes: "own".parse().unwrap(),
            plan: Some(plan.clone()),
            ..ConsumerAttributes::default()
        },
        ..consumer(name)
    };
    store.create_consumer(new, &stamp()).await.unwrap()
}

pub(crate) async fn a_plan_lives_and_ends(url: &DatabaseUrl) {
    let store = open(url).await;
    let new = || NewPlan {
        name: gold(),
        attributes: full_plan(),
    };
    let made = store.create_plan(new(), &stamp()).await.unwrap();
    assert_eq!((&made.attributes, made.created_at), (&full_plan(), NOW));
    assert_eq!(store.plan(&gold()).await.unwrap(), Some(made.clone()));
    let again = store.create_plan(new(), &stamp()).await;
    assert!(
        matches!(again, Err(StoreError::Duplicate { field: "the name" })),
        "{again:?}"
    );
    create(&store, "Silver", PlanAttributes::default()).await;
    create(&store, "free", PlanAttributes::default()).await;
    let names = async |after: &str, limit| -> Vec<String> {
        let plans = store.plans(after, limit).await.unwrap();
        plans.iter().map(|plan| plan.name.to_string()).collect()
    };
    assert_eq!(names("", 10).await, ["Silver", "free", "gold"]);
    assert_eq!(names("Silver", 1).await, ["free"]);

    let nothing = PlanEdit::default();
    let after = store.update_plan(&gold(), nothing, &later(1)).await;
    assert_eq!(after.unwrap(), made, "it leaves no trace");
    let mut expected = made;
    for (seconds, edit) in (2..).zip([
        PlanEdit {
            scopes: Some("read".parse().unwrap()),
            description: Some(None),
            ..PlanEdit::default()
        },
        PlanEdit {
            limits: Some("".parse().unwrap()),
            quotas: Some("".parse().unwrap()),
            max_in_flight: Some(None),
            ..PlanEdit::default()
        },
        PlanEdit {
            default_key_lifetime: Some(None),
            max_key_lifetime: Some(Some("30d".parse().unwrap())),
            ..PlanEdit::default()
        },
    ]) {
        edit.clone().apply(&mut expected.attributes);
        expected.updated_at = later(seconds).at;
        let after = store.update_plan(&gold(), edit, &later(seconds)).await;
        assert_eq!(after.unwrap(), expected);
        assert_eq!(store.plan(&gold()).await.unwrap().as_ref(), Some(&expected));
    }
    let above: Option<Lifetime> = Some("31d".parse().unwrap());
    let edit = PlanEdit {
        default_key_lifetime: Some(above),
        ..PlanEdit::default()
    };
    let refused = store.update_plan(&gold(), edit, &later(9)).await;
    assert!(matches!(refused, Err(StoreError::DefaultAboveLongest)));
    assert_eq!(store.plan(&gold()).await.unwrap().as_ref(), Some(&expected));

    let gone = store.delete_plan(&gold(), &later(10)).await.unwrap();
    assert_eq!(gone, expected);
    assert_eq!(store.plan(&gold()).await.unwrap(), None);
    for refused in [
        store.delete_plan(&gold(), &later(11)).await,
        store
            .update_plan(&gold(), PlanEdit::default(), &later(11))
            .await,
    ] {
        assert!(
            matches!(refused, Err(StoreError::UnknownPlan { .. })),
            "{refused:?}"
        );
    }
}

pub(crate) async fn a_plan_is_in_force_at_once_for_all_its_consumers(url: &DatabaseUrl) {
    let store = open(url).await;
    let following = Following::new(&store).await;
    create(&store, "gold", full_plan()).await;
    with_plan(&store, "acme", &gold()).await;
    let other = with_plan(&store, "other", &gold()).await;
    create_key(&store, "plain", "3").await;
    // Within the plan, and by itself not within the consumer.
    let narrow = NewKey {
        attributes: KeyAttributes {
            scopes: Some("write".parse().unwrap()),
            limits: "burst=500/1m".parse().unwrap(),
            ..KeyAttributes::default()
        },
        ..key(owner("acme"), "1")
    };
    store.create_key(narrow, &stamp()).await.unwrap();
    create_key(&store, "other", "2").await;
    let above = NewKey {
        attributes: KeyAttributes {
            limits: "burst=501/1m".parse().unwrap(),
            ..KeyAttributes::default()
        },
        ..key(owner("acme"), "4")
    };
    let refused = store.create_key(above, &stamp()).await;
    assert!(
        matches!(&refused, Err(StoreError::LimitNotGranted { .. })),
        "{refused:?}"
    );
    let is_known = |following: &Following| following.find("2").is_some();
    following.until("known", is_known).await;
    for following in [&following, &Following::new(&store).await] {
        let scopes = |text: &str| following.find(text).unwrap().scopes();
        assert_eq!(scopes("1").as_str(), "write");
        assert_eq!(scopes("2").as_str(), "own read write");
        assert_eq!(scopes("3").as_str(), "");
        let known = following.find("2").unwrap();
        assert_eq!(known.plan().unwrap().allowance, full_plan().allowance());
        assert_eq!(known.consumer_allowance(), None);
    }
    let edit = PlanEdit {
        scopes: Some("read".parse().unwrap()),
        limits: Some("burst=1/1m".parse().unwrap()),
        ..PlanEdit::default()
    };
    store.update_plan(&gold(), edit, &later(1)).await.unwrap();
    let is_there = |following: &Following| {
        let scopes = |text: &str| following.find(text).unwrap().scopes();
        scopes("1").as_str() == "" && scopes("2").as_str() == "own read"
    };
    following.until("changed", is_there).await;
    let known = following.find("1").unwrap();
    assert_eq!(
        known.plan().unwrap().allowance.rates.to_string(),
        "burst=1/1m"
    );
    // Another plan, and none.
    let silver = create(&store, "silver", PlanAttributes::default()).await;
    for (seconds, plan) in [(2, Some(silver)), (3, None)] {
        let edit = ConsumerEdit {
            plan: Some(plan.clone()),
            ..ConsumerEdit::default()
        };
        let at = later(seconds);
        store.update_consumer(&other.id, edit, &at).await.unwrap();
        let is_there = |following: &Following| {
            let known = following.find("2").unwrap();
            known.plan().map(|plan| &plan.name) == plan.as_ref()
        };
        following.until("another plan", is_there).await;
        assert_eq!(following.find("2").unwrap().scopes().as_str(), "own");
    }
}

pub(crate) async fn a_plan_in_use_stays_and_an_unknown_one_is_refused(url: &DatabaseUrl) {
    let store = open(url).await;
    create(&store, "gold", full_plan()).await;
    let acme = with_plan(&store, "acme", &gold()).await;
    let refused = store.delete_plan(&gold(), &later(1)).await;
    assert!(
        matches!(&refused, Err(StoreError::PlanInUse { plan, consumers: 1 }) if plan == "gold"),
        "{refused:?}"
    );
    assert_eq!(store.count_consumers_of(&gold()).await.unwrap(), 1);
    let of_gold = ConsumerFilter {
        plan: Some(gold()),
        ..ConsumerFilter::default()
    };
    store
        .create_consumer(consumer("other"), &stamp())
        .await
        .unwrap();
    let found = store.list_consumers(&of_gold, None, 10).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&acme));

    let unknown: PlanName = "bronze".parse().unwrap();
    let new = NewConsumer {
        attributes: ConsumerAttributes {
            plan: Some(unknown.clone()),
            ..ConsumerAttributes::default()
        },
        ..consumer("third")
    };
    let edit = ConsumerEdit {
        plan: Some(Some(unknown.clone())),
        ..ConsumerEdit::default()
    };
    for refused in [
        store.create_consumer(new, &stamp()).await,
        store.update_consumer(&acme.id, edit, &later(2)).await,
    ] {
        assert!(
            matches!(&refused, Err(StoreError::UnknownPlan { wanted }) if wanted == "bronze"),
            "{refused:?}"
        );
    }
    let with = |line: u64, name: &str, plan: &PlanName| {
        let mut row = row(line, name, "");
        row.consumer.attributes.plan = Some(plan.clone());
        row
    };
    let rows = [
        with(1, "new", &gold()),
        with(2, "newer", &unknown),
        with(3, "acme", &gold()),
        with(4, "other", &gold()),
    ];
    let verdicts = [
        Verdict::New,
        Verdict::Conflict(ImportConflict::NoPlan),
        Verdict::Already,
        Verdict::Conflict(ImportConflict::ConsumerDiffers("plan")),
    ];
    assert_eq!(store.classify_import(&rows).await.unwrap(), verdicts);
    assert_eq!(store.import(&rows, &stamp()).await.unwrap().consumers, 1);
    let found = store.list_consumers(&of_gold, None, 10).await.unwrap();
    assert_eq!(found.len(), 2);

    for gone in found {
        store.delete_consumer(&gone.id, &later(3)).await.unwrap();
    }
    store.delete_plan(&gold(), &later(4)).await.unwrap();
}
