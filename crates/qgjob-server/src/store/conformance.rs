//! What every store must do. A store passes when each property holds on a fresh one, and [`walk`] finds nothing.
//! Each property ends with [`history::check`]: the invariants over all events that the store tells of.

mod agents;
mod cancelling;
mod claiming;
mod ending;
mod events;
mod forgetting;
pub mod history;
mod limiting;
mod logging_in;
mod passing_time;
mod predicting;
mod reading;
mod recording;
mod rerunning;
mod results;
mod submitting;
pub mod walk;
pub mod world;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::Store;

/// A property: given a fresh store, it panics if it does not hold.
pub type Property = fn(Arc<dyn Store>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! properties {
    ($($module:ident: $($name:ident)+;)+) => {
        /// All properties by name.
        pub const ALL: &[(&str, Property)] = &[$($((
            concat!(stringify!($module), "::", stringify!($name)),
            |store| Box::pin(async move {
                let mut world = world::World::new(store).await;
                $module::$name(&mut world).await;
                history::check(&*world.store).await;
            }),
        )),+),+];
    };
}

properties! {
    submitting: a_run_of_a_thousand_is_there_at_once a_key_makes_one_run a_key_with_another_request_is_refused
        a_cancelled_key_makes_a_cancelled_run a_bundle_must_be_uploaded a_batch_is_answered_item_by_item
        keys_and_bundles_belong_to_their_org a_scheduled_run_waits;
    claiming: a_job_is_leased_once_and_only_while_it_waits no_build_no_lease a_device_has_one_attempt a_repeat_gets_the_same_lease
        a_device_must_be_free_and_known epochs_rise a_lease_holds_all_that_is_needed a_job_in_backoff_waits
        the_board_learns_who_runs_what a_group_takes_only_its_devices claims_at_once_share_the_jobs;
    ending: a_pass_needs_its_tries a_failed_test_is_final infrastructure_is_tried_again_elsewhere
        a_repeated_finish_answers_alike a_late_finish_changes_nothing a_released_job_costs_nothing
        a_run_ends_with_its_last_job installs_are_counted_once an_install_is_in_the_ledger_at_once jobs_of_a_broken_build_end_while_they_wait reports_need_the_lease artifacts_are_kept_once;
    cancelling: a_waiting_job_ends_at_once a_running_job_ends_and_its_device_follows a_job_that_ended_stays
        a_run_ends_whole others_cannot_cancel
        an_agent_cannot_cancel;
    passing_time: an_expired_lease_is_lost a_renewed_lease_holds the_queue_deadline_ends_the_first_wait
        an_attempt_that_outlives_its_timeout_ends silent_agents_go_offline a_key_is_forgotten_after_a_week;
    forgetting: old_runs_go_with_all_that_is_theirs what_is_not_over_stays a_call_forgets_a_bounded_part;
    agents: a_registration_token_works_once a_name_taken_again_keeps_its_devices devices_come_and_go
        a_fresh_process_holds_nothing drained_devices_and_agents_take_nothing
        a_quarantine_keeps_a_device_out_until_its_time_is_over an_operator_ends_a_quarantine a_removed_agent_is_gone
        tokens_end labels_are_bound_once;
    reading: foreign_things_are_not_found lists_are_paged filters_filter groups_and_waiting_jobs_feed_the_board
        gauges_count suffixes_find_jobs;
    limiting: limits_are_kept_told_and_changed_in_part an_org_runs_no_more_than_its_cap a_cap_is_of_one_org
        claims_at_once_do_not_exceed_a_cap jobs_of_a_concurrency_group_take_turns
        a_concurrency_group_has_as_many_turns_as_its_limit what_is_paused_does_not_start_and_what_runs_goes_on
        a_deadline_does_not_pass_while_a_job_is_paused two_pauses_at_a_time_count_once
        a_job_that_is_not_due_or_had_a_device_keeps_its_deadline a_promoted_job_stays_so
        only_a_job_that_waits_can_be_promoted;
    logging_in: policies_are_kept_in_order_and_belong_to_their_org an_org_has_a_bounded_number_of_policies
        an_id_token_works_once of_many_that_show_one_id_token_one_gets_in tokens_end_with_their_policy
        a_login_is_renewed_while_its_run_is_not_over tokens_of_pipelines_are_forgotten_a_day_after_their_end;
    predicting: a_prediction_stays_with_its_job each_job_has_a_prediction an_attempt_tells_what_it_took
        the_history_is_what_was_told;
    recording: the_newest_run_that_tells_of_the_whole_file_counts a_record_is_of_its_app_and_its_org
        what_a_shard_took_is_told_as_such a_job_keeps_its_shard;
    results: a_run_tells_the_tests_of_the_attempts_that_count a_run_tells_its_files_in_pages;
    rerunning: a_rerun_begins_with_the_totals_of_the_run_before new_results_take_the_place_of_old_ones
        a_rerun_without_a_verdict_keeps_its_totals what_failed_is_owed_until_it_passes what_failed_is_owed_also_where_all_is_repeated
        a_rerun_that_carries_a_failed_test_is_not_green
        a_job_without_a_verdict_is_repeated_whole a_rerun_outlives_the_run_before
        a_rerun_tells_of_all_tests_of_the_full_set some_tests_of_a_file_are_no_record_of_it a_key_finds_its_run;
    events: they_are_told_in_order_and_once what_failed_is_not_told;
}
