//! What every store must do, whatever the database. Each case gets the URL of an empty database.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on may say so by stopping")]

mod store_contract {
    pub(crate) mod consumers;
    pub(crate) mod feed;
    pub(crate) mod keys;
    pub(crate) mod making;
}

/// Runs each case on a new SQLite file.
macro_rules! on_sqlite {
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
    };
}

on_sqlite! {
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
}
