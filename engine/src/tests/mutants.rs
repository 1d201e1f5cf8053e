//! Each planted bug is found by the test that is named here; without it, that test passes (it runs by itself too).

use std::panic::catch_unwind;

use super::{backup, basics, bulk, changes, faults, transactions};
use crate::planted::{Bug, with};

/// Whether a test fails with a bug planted.
fn is_killed(bug: Bug, test: fn()) -> bool {
    with(bug, || catch_unwind(test).is_err())
}

#[test]
fn every_planted_bug_is_killed_by_its_test() {
    let pairs: &[(Bug, fn())] = &[
        (Bug::PublishBeforeDurable, basics::a_commit_is_invisible_until_it_is_durable),
        (Bug::CheckpointBeforeSync, faults::a_checkpoint_holds_only_what_a_power_cut_leaves),
        (
            Bug::ForgetOpenFragments,
            basics::orphaned_fragments_survive_a_checkpoint_and_are_aborted_at_the_next_open,
        ),
        (Bug::KeepOrphans, basics::a_transaction_that_found_the_disk_full_is_aborted_by_the_next_writer),
        (Bug::TimeGoesBack, basics::the_time_of_entries_never_goes_back_whatever_the_clock_does),
        (Bug::CatalogBeforeLog, faults::a_keyspace_whose_entry_failed_is_not_there),
        (Bug::ReleaseForNewestManifest, faults::the_older_manifest_opens_when_the_newest_is_lost),
        (Bug::ForgetFailure, faults::a_poisoned_database_serves_what_was_visible_and_reopens),
        (
            Bug::TrustSegmentNumbers,
            backup::a_page_segment_with_the_number_of_an_earlier_one_and_other_content_is_not_taken_for_it,
        ),
        (
            Bug::SwitchWithoutRecord,
            backup::a_later_backup_cut_off_at_any_write_opens_as_the_earlier_or_the_later,
        ),
        (Bug::CopyKeepsTerm, backup::a_backup_opens_by_itself_with_a_log_and_a_term_of_its_own),
        (
            Bug::WriteToCopy,
            backup::a_copy_opened_on_a_full_disk_is_a_database_of_its_own_before_its_first_commit,
        ),
        (Bug::ChangesBeforeVisible, changes::a_commit_is_handed_out_when_it_is_visible_and_not_before),
        (
            Bug::ChangesForgetFragments,
            changes::the_fragments_of_a_transaction_stay_until_its_commit_was_handed_out,
        ),
        (
            Bug::ChangesForgetWhatEnded,
            changes::what_began_before_the_release_and_ended_behind_it_is_there_after_a_crash,
        ),
        (
            Bug::ChangesForgetWhatEnded,
            changes::holds::who_begins_inside_of_a_transaction_that_ended_long_ago_keeps_its_first_part,
        ),
        (
            Bug::ChangesHoldAll,
            changes::holds::what_others_keep_is_not_counted_against_a_follower_that_lags_little,
        ),
        (
            Bug::PutBehindWhatLeft,
            bulk::full_disk::what_is_put_behind_a_commit_that_failed_is_as_if_it_had_never_failed,
        ),
        (Bug::EarliestRunWins, bulk::the_memory_of_a_merge_is_a_fragment_for_each_run_and_one_value),
        (
            Bug::PreparationTakesThePlace,
            bulk::the_preparation_of_a_bulk_write_leaves_that_of_another_writer_alone,
        ),
        (
            Bug::ForgetFollowers,
            changes::crashes::what_an_expected_follower_needs_survives_the_first_checkpoints_after_opening,
        ),
        (Bug::BackupUnpinned, backup::cleaning_and_checkpoints_during_a_backup_leave_what_it_copies),
        (
            Bug::SkipValidation,
            transactions::an_update_is_not_lost_and_the_conflict_names_keyspace_key_and_commit,
        ),
        (
            Bug::ValidateVisible,
            transactions::two_in_flight_that_read_what_the_other_one_writes_do_not_both_commit,
        ),
        (Bug::ForgetRanges, transactions::a_record_that_appears_in_a_walked_range_is_a_conflict),
        (Bug::ForgetRangeDeletes, transactions::a_range_delete_conflicts_with_keys_and_ranges_that_were_read),
        (
            Bug::AnswerBeforeVisible,
            transactions::a_condition_that_does_not_hold_is_answered_when_what_it_read_is_visible,
        ),
        (Bug::SkipValidation, transactions::every_transaction_is_as_if_alone_at_its_place_in_the_log),
        (Bug::ValidateVisible, transactions::every_transaction_is_as_if_alone_at_its_place_in_the_log),
        (Bug::ForgetRanges, transactions::every_transaction_is_as_if_alone_at_its_place_in_the_log),
        (Bug::ForgetRangeDeletes, transactions::every_transaction_is_as_if_alone_at_its_place_in_the_log),
        (Bug::ForgetWalksOverOwn, transactions::every_transaction_is_as_if_alone_at_its_place_in_the_log),
        (
            Bug::ForgetWalksOverOwn,
            transactions::an_iterator_that_failed_stays_failed_and_what_it_walked_stays_protected,
        ),
    ];
    let survivors: Vec<_> =
        pairs.iter().filter(|(bug, test)| !is_killed(*bug, *test)).map(|(bug, _)| bug).collect();
    assert!(survivors.is_empty(), "{survivors:?}");
}
