//! Sections 7, 8 and 11 to 14: what events are, how they are judged, and how states are merged.

use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row(
        "7",
        "what a redaction keeps",
        &[
            "rules::it::vectors::redaction_leaves_what_the_vectors_say_in_every_room_version",
            "rules::it::against_ruma::redaction_and_hashes_are_the_same",
            "rules::it::pitfalls::pitfall_2_a_third_party_invite_that_is_no_object_does_not_change_the_event_id",
        ],
    ),
    row(
        "7",
        "redactions are applied, and what was redacted is served without its content",
        &[
            "rules::it::rooms::a_redaction_takes_effect_by_level_or_by_server",
            "it::federation::redactions::a_redaction_that_comes_before_its_target_waits_for_it",
            "it::federation::redactions::a_redaction_without_the_level_changes_nothing_early_or_late",
            "it::federation::serving::what_was_redacted_is_given_to_nobody",
        ],
    ),
    row(
        "8",
        "required fields and their types",
        &[
            "rules::it::pitfalls::pitfall_8_every_field_of_the_format_is_looked_at",
            "rules::it::intake::what_is_no_event_is_dropped",
        ],
    ),
    row(
        "8",
        "65 536 bytes",
        &[
            "rules::it::pitfalls::pitfall_1_an_event_of_exactly_65_536_bytes_is_taken_in_and_one_more_is_not",
            "rules::it::drafts::an_event_may_be_as_large_as_the_limit_and_no_larger",
            "it::federation::receiving::sizes_at_the_limit_are_taken_and_one_more_is_not",
        ],
    ),
    row(
        "8",
        "255 bytes of ids and types, characters before version 11",
        &[
            "rules::it::pitfalls::pitfall_8_before_version_11_characters_are_counted_and_the_event_is_kept_for_rejection",
            "rules::it::intake::a_field_that_is_too_long_rejects_before_version_11_and_drops_after",
            "it::federation::receiving::sizes_at_the_limit_are_taken_and_one_more_is_not",
        ],
    ),
    row(
        "8",
        "at most 20 previous events, at least one of ours",
        &[
            "rules::it::pitfalls::pitfall_8_every_field_of_the_format_is_looked_at",
            "rules::it::drafts::long_fields_and_lists_are_refused",
        ],
    ),
    row(
        "8",
        "at most 10 auth events, without the create event in version 12",
        &[
            "rules::it::pitfalls::pitfall_8_every_field_of_the_format_is_looked_at",
            "rules::it::pitfalls::pitfall_8_in_version_12_the_create_event_is_not_among_the_auth_events",
        ],
    ),
    row(
        "8",
        "both bounds count for news and not for history",
        &[
            "rules::it::pitfalls::pitfall_8_history_may_hold_longer_lists",
            "it::federation::history::too_many_previous_events_are_refused_as_news_and_taken_as_history",
        ],
    ),
    row(
        "8",
        "depth",
        &[
            "rules::it::drafts::depth_grows_up_to_its_limit",
            "it::federation::receiving::a_wrong_number_spoils_its_own_event_and_not_its_neighbours",
        ],
    ),
    row(
        "8",
        "room ids have the form of their version",
        &["rules::it::pitfalls::pitfall_9_room_ids_have_the_form_of_their_version"],
    ),
    row(
        "8",
        "old user ids are taken in, and only new ones made",
        &[
            "rules::it::pitfalls::pitfall_9_old_user_ids_are_taken_in",
            "it::v1::accounts::a_user_name_has_1_to_64_of_the_allowed_characters",
        ],
    ),
    row(
        "8",
        "unsigned is taken out",
        &[
            "rules::it::pitfalls::pitfall_1_unsigned_does_not_count_and_is_not_kept",
            "federation::inbound::pdu::tests::what_passes_is_canonical_and_without_unsigned",
        ],
    ),
    row(
        "8",
        "fields that nobody knows are kept, and a redaction drops them",
        &["rules::it::hard_cases::fields_that_nobody_knows_are_kept_and_a_redaction_drops_them"],
    ),
    row(
        "8",
        "the version of a room that is known is that of its create event",
        &["it::federation::doors::the_version_of_a_room_is_ours_to_say"],
    ),
    row(
        "11",
        "check 0: the room is known, somebody here is in it, the origin is let in",
        &[
            "it::federation::receiving::a_room_that_nobody_here_is_in_takes_nothing_in",
            "it::federation::receiving::the_access_list_of_the_room_decides_by_who_sends",
        ],
    ),
    row(
        "11",
        "check 1: form and limits, or dropped",
        &[
            "rules::it::intake::what_is_no_event_is_dropped",
            "it::federation::receiving::a_wrong_number_spoils_its_own_event_and_not_its_neighbours",
        ],
    ),
    row(
        "11",
        "check 2: signatures, or dropped",
        &[
            "it::federation::receiving::a_wrong_signature_is_dropped_and_a_wrong_hash_leaves_the_redacted_event",
            "it::federation::gaps::events_with_a_wrong_signature_do_not_come_in_through_a_hole",
            "it::federation::history::forged_history_is_left_out",
        ],
    ),
    row(
        "11",
        "check 3: the content hash, or redacted",
        &[
            "rules::it::intake::an_event_whose_content_was_changed_goes_on_redacted",
            "it::federation::receiving::a_wrong_signature_is_dropped_and_a_wrong_hash_leaves_the_redacted_event",
        ],
    ),
    row(
        "11",
        "check 4: its own auth events, or rejected",
        &[
            "rules::it::intake::what_its_own_auth_events_do_not_allow_is_rejected",
            "it::federation::receiving::auth_events_twice_or_without_need_or_rejected_are_against_the_rules",
        ],
    ),
    row(
        "11",
        "check 5: the state before it, or rejected",
        &[
            "rules::it::intake::what_the_state_before_does_not_allow_is_rejected",
            "it::federation::receiving::a_rejected_event_stays_rejected_when_the_room_would_allow_it_now",
        ],
    ),
    row(
        "11",
        "check 6: the current state, or soft-failed",
        &[
            "rules::it::intake::what_the_current_state_does_not_allow_soft_fails_but_not_in_history",
            "it::federation::receiving::what_follows_only_what_is_not_shown_takes_the_place_of_what_is_before_that",
        ],
    ),
    row(
        "11",
        "what accepted, soft-failed, rejected and dropped mean",
        &[
            "it::federation::receiving::what_follows_only_what_is_not_shown_takes_the_place_of_what_is_before_that",
            "it::federation::receiving::a_rejected_event_stays_rejected_when_the_room_would_allow_it_now",
            "it::federation::serving::rejected_events_are_passed_by_and_do_not_end_the_walk_back",
        ],
    ),
    row(
        "11",
        "known events are ignored, outliers are not known",
        &[
            "it::federation::receiving::an_event_of_a_peer_is_in_the_room_when_its_answer_comes",
            "it::federation::gaps::an_outlier_is_no_previous_event_and_is_taken_in_whole_when_it_comes",
        ],
    ),
    row(
        "11",
        "rejected stays rejected",
        &["it::federation::receiving::a_rejected_event_stays_rejected_when_the_room_would_allow_it_now"],
    ),
    row(
        "11",
        "what cannot be judged is not rejected",
        &[
            "rules::it::intake::what_cannot_be_found_out_holds_the_event_and_does_not_reject_it",
            "it::federation::gaps::what_waits_is_judged_when_what_it_waits_for_comes_by_itself",
            "it::federation::gaps::an_event_whose_key_is_not_known_yet_waits_for_the_key",
        ],
    ),
    row(
        "11",
        "missing previous events are asked for",
        &[
            "it::federation::gaps::a_small_hole_is_filled_by_the_server_that_brought_the_event",
            "it::federation::gaps::a_deep_hole_is_bridged_by_a_state_that_is_merged_with_ours",
        ],
    ),
    row(
        "11",
        "missing auth events are asked for and checked",
        &[
            "it::federation::gaps::states_and_auth_chains_are_checked_like_every_event",
            "it::federation::gaps::a_long_chain_of_auth_events_is_fetched_and_kept_once",
            "rules::it::intake::what_leans_on_a_rejected_event_is_rejected",
        ],
    ),
    row(
        "11",
        "one writer for each room, and one write",
        &["it::tidy::room_history_has_one_writer", "it::crash::a_killed_server_starts_by_itself_and_has_lost_nothing"],
    ),
    row(
        "11",
        "the work for one event is bounded, and charged to its origin",
        &[
            "federation::inbound::tests::transactions::events_are_charged_to_their_origin",
            "it::federation::gaps::many_events_behind_deep_holes_cost_a_bounded_number_of_questions",
        ],
    ),
    row(
        "11",
        "the time of an event decides nothing",
        &["it::federation::hostile::an_event_of_any_time_is_in_its_place"],
    ),
    row(
        "11",
        "what was answered and not yet judged survives a crash",
        &["it::federation::gaps::what_waits_survives_a_restart"],
    ),
    row(
        "12",
        "which auth events an event has",
        &[
            "it::federation::receiving::auth_events_twice_or_without_need_or_rejected_are_against_the_rules",
            "it::federation::receiving::auth_events_of_another_room_are_against_the_rules",
            "rules::it::drafts::a_draft_becomes_an_event_that_peers_take_in_unchanged",
        ],
    ),
    row(
        "13",
        "the rules by version",
        &[
            "rules::it::scenes::join_rules_and_memberships_decide_who_enters",
            "rules::it::scenes::invites_need_a_member_with_the_level",
            "rules::it::scenes::only_who_stands_higher_may_kick",
            "rules::it::scenes::only_who_stands_higher_may_ban_and_the_banned_stay_out",
            "rules::it::scenes::nobody_gives_or_takes_more_power_than_he_has",
            "rules::it::scenes::creators_stand_above_all_levels_in_version_12",
            "rules::it::scenes::knocking_needs_a_rule_for_it",
            "rules::it::scenes::a_restricted_room_lets_in_whom_a_member_vouches_for",
            "rules::it::scenes::a_room_that_is_not_federated_takes_no_foreign_events",
            "rules::it::scenes::state_needs_the_level_for_its_type",
            "rules::it::hard_cases::levels_of_every_kind_are_judged_by_the_version_in_every_field",
        ],
    ),
    row(
        "14",
        "2.0 and 2.1 as pure functions",
        &[
            "rules::it::resolution::every_shared_case_of_state_resolution_gives_the_expected_state",
            "rules::it::resolution::the_order_of_the_states_does_not_matter_and_a_result_merges_to_itself",
            "rules::it::resolution::the_lazy_form_gives_what_the_plain_algorithm_gives",
        ],
    ),
    row(
        "14",
        "ids compare as bytes, creators stand above every number",
        &[
            "rules::it::resolution::every_shared_case_of_state_resolution_gives_the_expected_state",
            "rules::it::rooms::creators_of_version_12_are_the_sender_and_those_it_names",
        ],
    ),
    row(
        "14",
        "rejected events as inputs, and never as auth events",
        &[
            "rules::it::hard_cases::a_rejected_auth_event_is_never_fallen_back_on",
            "rules::it::intake::what_leans_on_a_rejected_event_is_rejected",
        ],
    ),
    row(
        "14",
        "the auth chain of a state holds its own events",
        &["rules::it::pitfalls::pitfall_15_the_chain_of_a_state_holds_its_own_events"],
    ),
    row(
        "14",
        "bounded, without loading whole chains",
        &["rules::it::resolution::two_people_who_join_at_once_do_not_load_the_other_members"],
    ),
    row(
        "14",
        "merged states are kept, states are stored as what changes",
        &[
            "yurt::storage::state::tests::a_change_writes_little_however_large_the_state_is",
            "yurt::storage::state::tests::a_tree_is_a_map_also_when_it_forks",
            "yurt::actions::lane::tests::a_merged_state_is_at_hand_whatever_the_order_until_the_lane_starts_anew",
        ],
    ),
    row(
        "14",
        "the same on every server",
        &[
            "rules::it::resolution::the_order_of_the_states_does_not_matter_and_a_result_merges_to_itself",
            "it::federation::simulation::whatever_is_lost_or_late_the_state_is_the_same_in_the_end",
        ],
    ),
];
