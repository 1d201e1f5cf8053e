//! The model of the log's rules: the design has no counter-example, and each rule left out has one.
//!
//! `LOGWOOD_TEST_SCALE=2` explores larger bounds; `cargo run --release -p logwood-sim --example log_model` prints how
//! large, and `-- --without <Mutation>` prints the timeline of a counter-example.

use logwood_sim::log_model::bounds::{self, run, scale, shows};
use logwood_sim::log_model::mutation::Mutation;
use logwood_sim::log_model::state::Bounds;

/// By default every exploration sees all states within its bounds; this ends only the larger ones.
const STATES_MAX: usize = 5_000_000;

fn design_holds(bounds: Bounds) {
    let bounds = bounds.enlarged(scale() - 1);
    let found = run(&bounds, Mutation::None, STATES_MAX);
    if let Some(timeline) = found.counter_example {
        panic!("the design's rules fail in \"{}\" after {} states:\n{timeline}", bounds.name, found.states);
    }
    assert!(scale() > 1 || !found.cut_short, "{}: more than {STATES_MAX} states", bounds.name);
    assert!(found.states > 10_000, "{}: only {} states; nothing was explored", bounds.name, found.states);
}

/// Leaving the rule out must break a promise, in the way that `expected` names.
fn breaks(mutation: Mutation, expected: &str) {
    let bounds = shows(mutation).expect("every mutation has an exploration that shows it");
    let found = run(&bounds, mutation, STATES_MAX);
    let timeline = found.counter_example.unwrap_or_else(|| {
        panic!("{mutation:?} breaks nothing in \"{}\" within {} states", bounds.name, found.states)
    });
    let verdict = timeline.lines().skip_while(|line| !line.contains("=>")).collect::<String>();
    assert!(
        verdict.contains(expected),
        "{mutation:?} breaks something else than \"{expected}\":\n{timeline}"
    );
}

macro_rules! explorations {
    ($($name:ident: $bounds:ident,)*) => {
        $(#[test]
        fn $name() {
            design_holds(bounds::$bounds);
        })*

        #[test]
        fn every_exploration_is_run() {
            let run = [$(bounds::$bounds.name),*];
            assert_eq!(run, bounds::ALL.map(|bounds| bounds.name));
        }
    };
}

explorations! {
    torn_and_reordered_power_cuts_lose_nothing_acknowledged: ENDS,
    late_writes_bring_nothing_back: LATE,
    crash_loops_among_late_writes_raise_no_false_alarm: LATE_LOOPS,
    segments_that_go_among_late_writes_harm_nothing: LATE_RECYCLES,
    waiting_for_late_writes_allows_serving_at_once: WAITED,
    buffered_batches_and_failed_syncs_keep_what_was_acknowledged: BUFFERED,
    votes_are_never_forgotten: VOTES,
    votes_survive_rolling_and_letting_go: ROLLING_VOTES,
    rolling_raises_no_false_alarm: ROLLS,
    recycled_segments_show_nothing_of_their_earlier_life: RECYCLES,
    overridden_entries_do_not_return: OVERRIDES,
    copies_keep_what_an_old_segment_held: COPIES,
    bases_let_go_of_nothing_else: BASES,
    a_jump_to_a_snapshot_keeps_only_what_agrees: JUMPS,
    one_fault_is_reported_or_harmless: FAULTS,
    one_fault_among_several_segments_is_reported_or_harmless: ROLLING_FAULTS,
    a_vanished_segment_that_an_open_began_is_reported: VANISHES,
    healing_brings_everything_acknowledged_back: HEALS,
    healing_leaves_the_other_group_alone: HEALS_BESIDE,
    healing_revives_no_dropped_base: HEALS_BASES,
    healing_fills_a_vanished_segment: HEALS_FILES,
}

const FALSE_ALARM: &str = "false alarm";
const CHANGED: &str = "none of those";
const FORGOTTEN: &str = "vote";
const NOT_HEALED: &str = "healing changed";
const TOO_MANY: &str = "silently lost";
const GONE: &str = "is gone";
const NOT_HEALABLE: &str = "healed";

macro_rules! mutations {
    ($($name:ident: $mutation:ident $expected:ident,)*) => {
        $(#[test]
        fn $name() {
            breaks(Mutation::$mutation, $expected);
        })*

        #[test]
        fn every_mutation_has_a_test() {
            let tested = [$(Mutation::$mutation),*];
            for mutation in &Mutation::ALL[1..] {
                assert!(tested.contains(mutation), "{mutation:?} has no test");
            }
        }
    };
}

mutations! {
    any_later_valid_batch_as_proof_is_a_false_alarm: AnyLaterBatchProves FALSE_ALARM,
    going_on_in_the_same_segment_brings_dropped_batches_back: GoOnInTheSegment CHANGED,
    a_rounded_durable_end_is_a_false_alarm: RoundDurableEnd FALSE_ALARM,
    durable_end_as_the_own_end_is_a_false_alarm: OwnEndIsDurable FALSE_ALARM,
    one_copy_of_a_vote_is_forgotten: OneCopyOfAVote FORGOTTEN,
    a_vote_looked_for_only_before_the_end_is_forgotten: VotesBeforeTheEnd FORGOTTEN,
    a_header_before_its_predecessor_is_synced_is_a_false_alarm: HeaderBeforeSync FALSE_ALARM,
    a_seal_before_the_next_name_is_durable_is_a_false_alarm: SealBeforeName FALSE_ALARM,
    a_named_file_that_an_open_removes_is_a_false_alarm: NamedFileGoes FALSE_ALARM,
    a_later_file_that_stands_in_for_a_named_one_hides_that_it_is_missing: LaterFileStandsIn CHANGED,
    without_a_seal_behind_its_predecessor_a_segment_vanishes_unseen: NoSealBehind CHANGED,
    a_seal_behind_the_predecessor_before_the_header_is_a_false_alarm: SealBehindEarly FALSE_ALARM,
    a_skipped_segment_that_stays_hides_that_the_newest_is_missing: SkippedStays CHANGED,
    no_directory_sync_breaks_the_log: NoDirectorySync FALSE_ALARM,
    an_unseeded_checksum_lets_stale_bytes_verify: UnseededChecksum FALSE_ALARM,
    no_previous_checksum_skips_a_lost_batch: NoPreviousChecksum FALSE_ALARM,
    a_cached_tail_after_a_failed_sync_is_served: CachedTail CHANGED,
    no_fresh_block_loses_what_was_durable: NoFreshBlock CHANGED,
    an_acknowledgement_over_unsynced_buffered_bytes_is_lost: AcknowledgeOverBuffered CHANGED,
    no_evidence_of_what_was_durable_hides_rot: NoEvidence CHANGED,
    a_directory_without_headers_is_not_an_empty_log: HeadlessIsEmpty CHANGED,
    not_waiting_for_late_writes_brings_dropped_batches_back: NoWaitForLateWrites CHANGED,
    cleaning_before_the_new_header_is_a_false_alarm: CleanBeforeHeader FALSE_ALARM,
    recycling_under_late_writes_loses_what_was_acknowledged: RecycleUnderLateWrites CHANGED,
    no_window_lets_one_rotten_batch_hide_more: UnboundedFlight TOO_MANY,
    a_vote_before_its_segments_header_is_forgotten: VoteBeforeHeader FORGOTTEN,
    a_vote_that_an_open_found_is_not_yet_answered: AdoptedVoteIsAnswered FORGOTTEN,
    a_source_that_goes_before_its_copy_takes_entries: SourceGoesBeforeCopy FALSE_ALARM,
    entries_that_go_before_their_base_are_missing: EntriesGoBeforeBase FALSE_ALARM,
    a_segment_that_goes_with_its_votes_forgets_them: VotesGo FORGOTTEN,
    a_copy_that_truncates_loses_entries: CopyTruncates CHANGED,
    a_copy_composed_too_early_is_a_false_alarm: CopyComposedEarly FALSE_ALARM,
    a_copy_that_replaces_brings_overridden_entries_back: CopyReplaces CHANGED,
    a_base_without_a_look_at_the_term_keeps_what_was_replaced: BaseIgnoresTerm CHANGED,
    a_base_decided_by_the_reader_drops_what_is_alive: ReaderDecidesBase CHANGED,
    without_doubt_a_rotten_override_lets_the_older_entry_pass: NothingIsDoubtful NOT_HEALED,
    an_entry_behind_a_hole_vouches_for_none_before_it: LaterEntryVouches NOT_HEALED,
    batches_that_an_open_dropped_do_not_count: DroppedBatchesCount NOT_HEALABLE,
    healing_that_overwrites_what_was_certain_loses_it: HealOverwrites NOT_HEALED,
    healing_from_any_replica_mixes_two_logs: HealFromAnyPeer NOT_HEALED,
    healing_that_removes_the_old_segments_early_loses_entries: HealRemovesEarly GONE,
    groups_that_are_mixed_disturb_each_other: GroupsMixed CHANGED,
}
