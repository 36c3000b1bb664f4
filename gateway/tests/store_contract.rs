//! What every store must do, whatever the database. Each case gets the URL of an empty database.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on may say so by stopping"
)]

#[path = "databases/pgbouncer.rs"]
mod pgbouncer;
#[path = "databases/postgres.rs"]
#[expect(
    dead_code,
    reason = "stopping a server is for the tests of what is particular to it"
)]
mod postgres;

use postern_gateway::store::{Fault, StoreError};

mod store_contract {
    pub(crate) mod adoption;
    pub(crate) mod allowances;
    pub(crate) mod audit;
    pub(crate) mod buckets;
    pub(crate) mod consumers;
    pub(crate) mod creation;
    pub(crate) mod edit_key;
    pub(crate) mod feed;
    pub(crate) mod gateways;
    pub(crate) mod histories;
    pub(crate) mod key_rules;
    pub(crate) mod keys;
    pub(crate) mod leaks;
    pub(crate) mod limit_resets;
    pub(crate) mod listing;
    pub(crate) mod making;
    pub(crate) mod plans;
    pub(crate) mod quotas;
    pub(crate) mod retention;
    pub(crate) mod roll;
    pub(crate) mod transfer;
    pub(crate) mod usage;
}

/// Runs each case on a new SQLite file, on a new PostgreSQL database, and on another one by way of pgbouncer.
macro_rules! on_every_database {
    ($($module:ident: $($case:ident),+;)+) => {
        mod sqlite {
            $($(
                #[tokio::test]
                async fn $case() {
                    let directory = tempfile::tempdir().unwrap();
                    let url = format!("sqlite://{}/data/gateway.db", directory.path().display());
                    crate::store_contract::$module::$case(&url.parse().unwrap()).await;
                }
            )+)+
        }

        mod through_pgbouncer {
            $($(
                #[tokio::test]
                async fn $case() {
                    let url = crate::pgbouncer::new_database().await;
                    crate::store_contract::$module::$case(&url.parse().unwrap()).await;
                }
            )+)+
        }

        mod on_postgres {
            $($(
                #[tokio::test]
                async fn $case() {
                    let url = crate::postgres::new_database().await;
                    crate::store_contract::$module::$case(&url.parse().unwrap()).await;
                }
            )+)+
        }
    };
}

#[tokio::test]
async fn a_table_of_another_history_is_loaded_anew_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/gateway.db", directory.path().display());
    store_contract::histories::a_table_of_another_history_is_loaded_anew(
        &url.parse().unwrap(),
        &url,
    )
    .await;
}

#[tokio::test]
async fn a_table_of_another_history_is_loaded_anew_on_postgres() {
    let url = postgres::new_database().await;
    store_contract::histories::a_table_of_another_history_is_loaded_anew(
        &url.parse().unwrap(),
        &url,
    )
    .await;
}

on_every_database! {
    allowances:
        the_numbers_of_consumer_and_key_are_in_the_table,
        a_key_has_no_more_than_its_consumer,
        a_chain_of_rolls_keeps_its_first_key;
    buckets:
        a_bucket_is_made_once_and_listed_by_name,
        a_consumer_needs_a_bucket_that_is_there;
    creation:
        a_creation_is_answered_again_whatever_a_gateways_clock_says,
        a_creation_that_failed_is_not_remembered,
        two_at_once_make_one;
    edit_key:
        an_edit_of_a_key_changes_only_what_it_names,
        a_change_of_someone_elses_touches_nothing,
        an_edit_of_a_key_that_cannot_be_changes_nothing;
    listing:
        lists_go_on_after_a_place_oldest_first,
        filters_are_exact,
        keys_are_filtered_by_what_they_are_and_when,
        tags_are_found_as_they_are_now;
    audit:
        it_tells_who_did_what_when_and_from_where,
        it_is_read_page_by_page_and_by_filter;
    limit_resets:
        a_reset_is_told_to_every_gateway_once;
    quotas:
        a_batch_of_quotas_counts_once_and_gateways_see_each_others,
        many_subjects_are_written_at_once_and_read_in_order,
        an_operator_changes_the_use_with_an_audit_row;
    gateways:
        each_says_how_far_it_has_come,
        a_successor_takes_the_place_of_one_that_was_killed,
        one_that_is_silent_for_longer_than_its_table_may_get_old_refuses;
    histories:
        a_key_left_out_of_a_delete_and_import_is_gone,
        keys_that_were_first_imported_for_the_wrong_consumer_are_good,
        any_history_ends_in_tables_like_the_database;
    key_rules:
        a_bucket_bounds_the_lifetimes_of_its_keys,
        a_consumer_has_at_most_so_many_live_keys,
        unused_keys_are_reported_or_disabled_as_their_bucket_says;
    plans:
        a_plan_lives_and_ends,
        a_plan_is_in_force_at_once_for_all_its_consumers,
        a_plan_in_use_stays_and_an_unknown_one_is_refused;
    leaks:
        a_leaked_key_gets_what_its_bucket_says;
    roll:
        a_new_key_inherits_and_the_old_one_ends_after_the_grace,
        a_grace_only_ever_shortens,
        rolling_a_consumer_ends_all_its_good_keys,
        a_successor_ends_when_the_first_key_would_have,
        a_key_that_is_ending_ends_no_later,
        a_consumer_with_thousands_of_keys_is_rolled_at_once,
        only_good_keys_are_rolled,
        of_two_rolls_at_once_without_a_grace_one_is_refused;
    consumers:
        a_consumer_reads_back_as_it_was_made,
        a_name_is_unique_in_its_bucket_and_so_is_a_custom_id,
        an_unknown_bucket_is_refused,
        an_edit_changes_only_what_it_names,
        an_edit_to_a_taken_name_changes_nothing,
        deleting_a_consumer_deletes_its_keys,
        consumers_are_listed_by_name_page_by_page;
    keys:
        a_key_reads_back_as_it_was_made,
        a_key_by_name_makes_its_consumer_once,
        a_refused_key_leaves_no_consumer_behind,
        a_key_is_never_wider_than_its_consumer,
        the_same_key_is_refused_twice,
        revoking_is_final_and_disabling_is_not,
        keys_are_listed_oldest_first_page_by_page,
        what_was_acknowledged_is_there_after_opening_again,
        two_writers_at_once_lose_nothing;
    feed:
        the_table_is_loaded_with_what_is_there,
        another_process_is_followed_within_100_ms,
        the_own_process_is_followed_too,
        a_deleted_consumer_takes_its_keys_along,
        a_changed_consumer_changes_its_keys,
        the_status_tells_how_current_the_table_is;
    transfer:
        an_import_adds_what_is_new_and_changes_nothing,
        an_import_of_thousands_is_followed,
        an_export_is_imported_as_it_was;
    retention:
        what_is_not_kept_goes_and_the_audit_says_so,
        what_there_is_is_counted;
    adoption:
        those_who_come_without_a_good_key_are_told_apart,
        rows_of_adoption_are_kept_for_ninety_days;
    usage:
        a_batch_that_is_sent_again_is_counted_once,
        usage_adds_up_and_a_key_knows_its_last_use,
        many_keys_are_written_at_once,
        usage_of_a_deleted_key_stays,
        usage_is_told_by_period_of_whoever_is_asked_for,
        several_gateways_write_at_once_and_nothing_is_lost,
        writing_usage_is_no_change_for_the_feed;
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_at_the_start() {
    let url = postgres::new_database().await;
    // Not even through a store that is there.
    postern_gateway::store::Store::open(&url.parse().unwrap())
        .await
        .unwrap()
        .close()
        .await;
    for (mode, ignored, fault, said) in [
        (
            "transaction",
            "extra_float_digits, options",
            Fault::TransactionPooler,
            "pool_mode = session",
        ),
        (
            "statement",
            "extra_float_digits, options",
            Fault::TransactionPooler,
            "pool_mode = session",
        ),
        (
            "session",
            "options",
            Fault::Refused,
            "ignore_startup_parameters",
        ),
    ] {
        let server = url.clone();
        let start = move || pgbouncer::Pooler::start(&server, mode, ignored);
        let pooler = tokio::task::spawn_blocking(start).await.unwrap();
        let error = postern_gateway::store::Store::open(&pooler.before(&url).parse().unwrap())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains(said), "{mode}: {text}");
        assert!(!error.may_pass(), "{mode}: {text}");
        assert!(
            error.fault() == Some(fault) || matches!(error, StoreError::CannotOpen { .. }),
            "{mode}: {text}"
        );
    }
}
