//! The list of cases, and the macro that makes tests of them.

/// Makes a module of `#[tokio::test]`s, one for every case of the store
/// contract.
///
/// The second argument is a closure that makes a fresh
/// [`Harness`](crate::store::conformance::Harness), asynchronously. The crate
/// that uses it needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! conformance_tests {
    ($module:ident, $harness:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            $crate::__conformance_cases! { $harness;
                basics::absent_loads_as_absent
                basics::created_record_is_there
                basics::created_once
                basics::swap_of_an_absent_record_conflicts
                basics::swap_at_an_old_version_conflicts
                basics::swap_at_a_removed_version_conflicts
                basics::versions_are_compared_exactly
                basics::every_version_is_kept
                basics::a_conflict_changes_nothing
                basics::removed_only_at_its_version
                basics::remove_of_nothing_is_false
                basics::keys_one_bit_apart_are_independent
                basics::handles_share_one_state
                basics::stored_survives_reopening
                fields::holds_round_trip
                fields::progress_round_trips
                fields::claims_round_trip
                fields::attempts_round_trip
                fields::requests_round_trip
                fields::responses_round_trip
                fields::header_lines_round_trip
                fields::retentions_round_trip
                fields::step_names_round_trip
                fields::step_values_round_trip
                fields::step_points_round_trip
                fields::resolved_responses_round_trip
                steps::steps_accumulate_in_order
                steps::steps_survive_a_reload
                steps::steps_of_one_swap_come_back
                steps::cleared_steps_do_not_come_back
                steps::a_cleared_last_step_leaves_nothing
                steps::resolved_doubts_do_not_come_back
                steps::completion_drops_request_and_steps
                steps::recreated_has_no_leftovers
                steps::replaced_has_no_leftovers
                steps::a_plan_of_what_is_undone_comes_back
                steps::renewals_keep_everything
                times::replies_show_the_time
                times::writes_are_stamped
                times::the_callers_time_is_ignored
                times::creation_is_kept
                times::a_new_operation_is_created_anew
                times::an_expired_response_can_be_replaced
                times::a_response_is_kept_until_it_expires
                times::an_expired_response_can_be_removed
                times::unfinished_records_are_never_dropped
                bounds::a_full_store_hands_out_what_it_has
                bounds::a_full_store_drops_no_unfinished_record
                bounds::a_full_store_lets_work_go_on
                scans::scans_of_nothing_are_empty
                scans::unfinished_are_found
                scans::lapsed_are_found
                scans::accepted_are_found_at_once
                scans::outgoing_are_found_apart
                scans::postponed_are_found_when_they_are_due
                scans::renewed_are_not_lapsed
                scans::only_expired_are_found_as_expired
                scans::what_owes_a_callback_is_found_until_it_is_told
                scans::found_records_are_described
                scans::pages_are_in_order_and_miss_nothing
                scans::a_limit_cuts_off_the_latest
                scans::moved_records_leave_the_lists
                scans::complete_are_found_latest_first
                scans::what_is_complete_is_found_while_it_is
                scans::what_is_found_is_counted
                scans::a_scan_under_way_misses_nothing
                labels::labelled_are_found
                labels::labels_set_later_are_found
                labels::labels_follow_their_records
                labels::labelled_callbacks_are_found
                unreadable::records_that_can_not_be_read_are_passed_and_counted
                unreadable::a_partition_that_starts_with_them_is_found_behind_them
                unreadable::what_expired_is_found_behind_them
                unreadable::scans_of_nothing_else_end
                races::one_of_many_creates
                races::one_of_many_takes_over
                races::one_of_many_removes
                races::removal_and_swap_exclude_each_other
                races::many_keys_at_once
                races::every_history_is_linearizable
                races::a_dropped_swap_is_all_or_nothing
                histories::random_histories_agree_with_the_reference
            }
        }
    };
}

/// Takes the list apart for [`conformance_tests!`](crate::conformance_tests).
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($harness:expr; $($group:ident :: $case:ident)*) => {$(
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let harness = ($harness)().await;
            $crate::store::conformance::$group::$case(&harness).await;
        }
    )*};
}
