//! Does each scenario fail for the mistake that it is named after? Where that can be planted, it is, and the test must fail.

use super::{checkpoints, commits, deletions, lives, moves, starts};
use aerolith_engine::planted::{Bug, plant};

/// A mistake, and the scenario that must not get by with it.
const PLANTED: &[(Bug, fn())] = &[
    (Bug::AckBeforeDurable, commits::scenario_01_a_group_commit_is_answered_only_when_its_write_is_durable),
    (Bug::PlainWrites, commits::scenario_02_every_write_is_durable_by_itself),
    (
        Bug::ReuseBeforeSettled,
        moves::scenario_03_an_emptied_block_is_not_reused_before_its_moved_records_are_durable,
    ),
    (Bug::ReuseBeforeSettled, moves::scenario_04_a_block_scattered_into_two_is_reused_when_both_are_durable),
    (Bug::FailedWriteIgnored, moves::scenario_05_when_the_write_of_moved_records_fails_their_old_block_is_kept),
    (
        Bug::DefragMovesStale,
        moves::scenario_06_a_record_that_was_overwritten_while_its_block_was_emptied_is_not_moved,
    ),
    (Bug::LastSeenWins, moves::scenario_07_of_a_moved_record_and_its_original_one_counts_once),
    (
        Bug::TailBySequence,
        checkpoints::scenario_08_a_record_that_was_moved_behind_a_checkpoint_is_found_though_its_number_is_old,
    ),
    (
        Bug::StaleEntriesCount,
        checkpoints::scenario_09_an_entry_into_a_block_that_was_reused_since_does_not_count,
    ),
    (Bug::RootBeforeParts, checkpoints::scenario_10_a_root_is_sent_behind_its_body_and_proves_it),
    (
        Bug::RootBeforeRecords,
        checkpoints::scenario_12_a_checkpoint_counts_only_when_what_it_names_is_durable,
    ),
    (
        Bug::DeleteWithoutTombstone,
        deletions::scenario_13_a_deleted_record_stays_gone_when_all_blocks_are_read,
    ),
    (
        Bug::DefragDropsTombstones,
        deletions::scenario_14_a_tombstone_stays_as_long_as_an_older_version_lies_anywhere,
    ),
    (
        Bug::DefragDropsTombstones,
        deletions::scenario_15_a_tombstone_outlives_the_checkpoint_that_could_do_without_it,
    ),
    (
        Bug::ExpiredHidesNothing,
        deletions::scenario_16_an_expired_newest_version_hides_an_older_one_that_would_live_longer,
    ),
    (Bug::TruncationAckEarly, deletions::scenario_18_a_truncation_is_answered_only_when_it_is_durable),
    (
        Bug::EpochNotInChecksum,
        lives::scenario_19_records_of_an_earlier_life_behind_the_end_of_the_present_one_do_not_count,
    ),
    (
        Bug::TailPageRewritten,
        commits::scenario_22_a_page_that_holds_acknowledged_records_is_not_written_again,
    ),
    (Bug::NoFlushAtStart, starts::scenario_23_what_a_start_after_a_kill_has_served_survives_a_cut),
    (
        Bug::SequenceRestarts,
        starts::scenario_24_versions_and_generations_go_on_after_a_start_though_the_clock_went_back,
    ),
    (
        Bug::GenerationForgotten,
        starts::scenario_24_versions_and_generations_go_on_after_a_start_though_the_clock_went_back,
    ),
    (Bug::IncarnationStays, starts::scenario_25_a_start_that_is_cut_at_any_of_its_writes_can_be_made_again),
    (
        Bug::FailedWriteIgnored,
        commits::scenario_26_after_a_failed_write_nothing_is_acknowledged_and_a_start_decides_from_the_medium,
    ),
    (Bug::PlainWrites, commits::scenario_27_what_a_footer_or_a_root_commits_is_durable_before_it_is_sent),
    (Bug::RootBeforeParts, commits::scenario_27_what_a_footer_or_a_root_commits_is_durable_before_it_is_sent),
    (Bug::PlainWrites, commits::scenario_28_a_flush_covers_what_came_before_and_a_buffer_on_its_way_does_not_change),
    (
        Bug::OldCopyAccepted,
        starts::scenario_32_a_set_with_a_missing_swapped_foreign_or_older_member_is_refused,
    ),
    (Bug::NoReserve, moves::scenario_33_a_store_that_is_full_starts_takes_deletes_and_then_writes),
];

#[test]
fn every_scenario_fails_for_the_mistake_that_it_is_named_after() {
    // A scenario that was told in what it failed would be told again for each bug.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for (at, (bug, scenario)) in PLANTED.iter().enumerate() {
        plant(Some(*bug));
        let outcome = std::panic::catch_unwind(scenario);
        plant(None);
        match outcome {
            Ok(()) => missed.push((at, bug)),
            Err(told) => {
                let text = told.downcast_ref::<String>().map(String::as_str);
                let text = text.or(told.downcast_ref::<&str>().copied()).unwrap_or_default();
                println!("{bug:?}: {}", text.lines().next().unwrap_or_default());
            }
        }
    }
    std::panic::set_hook(hook);
    assert!(missed.is_empty(), "these got by: {missed:?}");
}
