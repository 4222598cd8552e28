//! The cases that servers got wrong, by their numbers in the work list, each with the tests that hold it or the reason why it is none of ours.

use std::collections::BTreeSet;

use super::named;

/// How many cases the list has.
const CASES: u8 = 63;

/// One case.
enum Case {
    HeldBy(u8, &'static [&'static str]),
    /// It cannot happen here, and why.
    Cannot(u8, &'static str),
}

use Case::{Cannot, HeldBy};

const TABLE: &[Case] = &[
    HeldBy(1, &["it::federation::handshakes::a_template_of_something_else_is_not_signed"]),
    HeldBy(2, &["it::federation::handshakes::what_is_no_invite_of_one_of_ours_is_not_signed"]),
    HeldBy(3, &["it::federation::handshakes::what_is_no_join_of_the_peers_own_user_is_not_taken"]),
    HeldBy(4, &["it::federation::handshakes::an_answer_that_is_no_room_is_not_entered_and_one_bad_event_does_no_harm"]),
    HeldBy(5, &["it::federation::gaps::events_with_a_wrong_signature_do_not_come_in_through_a_hole"]),
    HeldBy(
        6,
        &[
            "it::federation::gaps::states_and_auth_chains_are_checked_like_every_event",
            "it::federation::handshakes::an_answer_that_is_no_room_is_not_entered_and_one_bad_event_does_no_harm",
            "it::federation::history::forged_history_is_left_out",
        ],
    ),
    HeldBy(
        7,
        &[
            "it::federation::doors::somebody_joins_and_leaves_by_hand",
            "it::federation::handshakes::what_is_no_join_of_the_peers_own_user_is_not_taken",
            "federation::inbound::tests::handshakes::another_event_than_the_path_says_is_refused_at_every_door",
        ],
    ),
    HeldBy(8, &["it::federation::receiving::auth_events_of_another_room_are_against_the_rules"]),
    HeldBy(9, &["it::federation::receiving::auth_events_twice_or_without_need_or_rejected_are_against_the_rules"]),
    HeldBy(10, &["it::federation::gaps::states_and_auth_chains_are_checked_like_every_event"]),
    HeldBy(
        11,
        &[
            "rules::it::pitfalls::pitfall_3_a_vouched_join_without_the_second_signature_is_dropped",
            "it::federation::old_versions::a_restricted_room_of_an_older_version_is_entered_when_somebody_there_vouches",
        ],
    ),
    HeldBy(
        12,
        &[
            "it::federation::receiving::an_event_signed_with_a_key_that_had_expired_is_dropped",
            "federation::server_keys::tests::an_old_key_is_for_old_events_and_never_for_requests",
        ],
    ),
    HeldBy(13, &["federation::server_keys::tests::published_keys_on_the_list_count_for_nothing"]),
    HeldBy(14, &["federation::server_keys::tests::an_unknown_key_asked_for_a_thousand_times_is_one_fetch"]),
    HeldBy(
        15,
        &[
            "it::federation::doors::news_of_other_peoples_and_unknown_news_do_no_harm",
            "it::federation::hostile::who_types_is_believed_of_members_of_the_server_that_tells",
            "federation::inbound::transaction::edus::tests::a_server_speaks_for_its_own_users_only",
        ],
    ),
    HeldBy(16, &["it::federation::hostile::who_types_is_believed_of_members_of_the_server_that_tells"]),
    HeldBy(17, &["federation::inbound::tests::transactions::the_origin_in_the_body_is_not_believed"]),
    HeldBy(
        18,
        &[
            "it::federation::redactions::a_redaction_without_the_level_changes_nothing_early_or_late",
            "it::federation::redactions::a_redaction_of_an_event_of_another_room_changes_nothing",
            "it::federation::redactions::two_redactions_that_name_each_other_take_nothing_away",
        ],
    ),
    HeldBy(
        19,
        &[
            "it::federation::serving::what_was_redacted_is_given_to_nobody",
            "it::federation::outgoing::what_was_redacted_before_it_was_sent_is_not_told",
            "it::engine::a_redaction_of_a_peer_takes_the_content_away_where_it_may",
        ],
    ),
    HeldBy(
        20,
        &[
            "it::federation::serving::a_server_that_is_not_in_the_room_is_given_nothing",
            "it::federation::doors::history_is_given_to_who_is_in_the_room_and_to_nobody_else",
        ],
    ),
    HeldBy(21, &["it::federation::serving::an_event_of_another_room_is_not_found_through_this_one"]),
    HeldBy(22, &["it::federation::serving::what_a_server_could_not_see_then_it_gets_without_its_content"]),
    HeldBy(23, &["it::federation::doors::look_ups_are_answered_for_what_is_ours"]),
    HeldBy(
        24,
        &[
            "it::federation::doors::look_ups_are_answered_for_what_is_ours",
            "federation::inbound::tests::lookups::profile_answers_for_our_users_only",
            "federation::inbound::tests::lookups::device_keys_answers_for_our_users_only",
        ],
    ),
    HeldBy(25, &["it::federation::receiving::a_rejected_event_stays_rejected_when_the_room_would_allow_it_now"]),
    HeldBy(26, &["it::federation::gaps::an_outlier_is_no_previous_event_and_is_taken_in_whole_when_it_comes"]),
    HeldBy(27, &["rules::it::resolution::every_shared_case_of_state_resolution_gives_the_expected_state"]),
    HeldBy(
        28,
        &[
            "it::federation::handshakes::an_answer_that_is_no_room_is_not_entered_and_one_bad_event_does_no_harm",
            "it::federation::handshakes::what_is_no_invite_of_one_of_ours_is_not_signed",
            "rules::it::pitfalls::pitfall_10_in_version_12_the_room_id_is_the_hash_of_an_accepted_create_event",
            "rules::it::drafts::only_the_create_event_of_version_12_makes_its_own_room_id",
        ],
    ),
    HeldBy(
        29,
        &["it::federation::handshakes::an_answer_that_is_no_room_is_not_entered_and_one_bad_event_does_no_harm"],
    ),
    HeldBy(30, &["it::federation::receiving::a_room_that_nobody_here_is_in_takes_nothing_in"]),
    HeldBy(
        31,
        &[
            "it::federation::receiving::levels_that_are_no_integers_are_judged_by_the_rooms_version",
            "rules::it::hard_cases::levels_of_every_kind_are_judged_by_the_version_in_every_field",
        ],
    ),
    HeldBy(
        32,
        &[
            "it::federation::receiving::sizes_at_the_limit_are_taken_and_one_more_is_not",
            "federation::inbound::pdu::tests::an_event_of_65536_bytes_passes_and_one_of_65537_is_dropped",
        ],
    ),
    HeldBy(33, &["it::federation::receiving::sizes_at_the_limit_are_taken_and_one_more_is_not"]),
    HeldBy(34, &["rules::it::pitfalls::pitfall_2_a_third_party_invite_that_is_no_object_does_not_change_the_event_id"]),
    HeldBy(35, &["rules::it::pitfalls::pitfall_3_only_a_join_needs_the_signature_of_the_server_that_vouches"]),
    HeldBy(
        36,
        &[
            "it::federation::receiving::a_wrong_number_spoils_its_own_event_and_not_its_neighbours",
            "it::federation::doors::an_event_outside_the_limits_is_bad_json_in_a_handshake",
            "rules::it::pitfalls::pitfall_7_minus_zero_is_zero_and_fractions_are_refused",
            "federation::inbound::tests::door::odd_numbers_do_not_break_the_signature",
        ],
    ),
    HeldBy(37, &["it::federation::redactions::a_redaction_that_comes_before_its_target_waits_for_it"]),
    HeldBy(38, &["it::federation::receiving::events_of_one_transaction_are_all_taken_in_whatever_their_order"]),
    HeldBy(39, &["rules::it::hard_cases::events_without_levels_behind_them_come_before_all_others"]),
    HeldBy(40, &["rules::it::scenes::knocking_needs_a_rule_for_it"]),
    HeldBy(41, &["rules::it::hard_cases::the_key_of_a_policy_server_is_no_key_of_the_ordinary_check"]),
    HeldBy(
        42,
        &[
            "it::federation::receiving::a_wrong_number_spoils_its_own_event_and_not_its_neighbours",
            "federation::inbound::tests::transactions::events_that_cannot_be_are_left_out_and_their_neighbours_processed",
            "federation::outbound::tests::an_event_that_is_no_canonical_json_does_not_block_the_others",
        ],
    ),
    HeldBy(43, &["it::federation::handshakes::whatever_is_shown_with_an_invite_the_list_of_rooms_works"]),
    HeldBy(44, &["it::federation::hostile::a_room_full_of_large_state_can_be_invited_to"]),
    HeldBy(
        45,
        &[
            "it::federation::history::too_many_previous_events_are_refused_as_news_and_taken_as_history",
            "rules::it::pitfalls::pitfall_8_history_may_hold_longer_lists",
        ],
    ),
    HeldBy(46, &["it::federation::gaps::a_long_chain_of_auth_events_is_fetched_and_kept_once"]),
    HeldBy(47, &["rules::server_acl::tests::thousands_of_patterns_full_of_stars_cost_little"]),
    HeldBy(48, &["it::federation::serving::rejected_events_are_passed_by_and_do_not_end_the_walk_back"]),
    HeldBy(49, &["it::federation::hostile::ten_thousand_who_wait_for_a_room_are_not_asked_over_and_over"]),
    Cannot(50, "no account has device keys before the Client-Server API, and none are sent"),
    Cannot(
        51,
        "nothing is sent to devices before the Client-Server API; other news hold a few ids and are bounded in number",
    ),
    HeldBy(
        52,
        &[
            "federation::inbound::tests::door::bodies_that_are_not_json_too_large_or_compressed_are_refused",
            "federation::inbound::body::tests::a_body_that_is_not_plain_json_is_refused_by_its_headers",
        ],
    ),
    HeldBy(
        53,
        &[
            "federation::inbound::tests::door::bodies_that_are_not_json_too_large_or_compressed_are_refused",
            "federation::connection::tests::a_request_goes_out_as_it_was_signed_with_the_right_names",
            "it::federation::doors::bodies_and_answers_are_json_and_unknown_paths_are_said_to_be",
        ],
    ),
    HeldBy(54, &["it::federation::finding::spaces_in_each_other_and_huge_ones_are_answered_within_bounds"]),
    HeldBy(
        55,
        &[
            "it::federation::gaps::many_events_behind_deep_holes_cost_a_bounded_number_of_questions",
            "federation::inbound::tests::transactions::slow_rooms_hold_up_neither_other_rooms_nor_news",
        ],
    ),
    HeldBy(56, &["it::federation::gaps::what_cannot_be_had_is_asked_for_in_growing_pauses_and_given_up_in_the_end"]),
    HeldBy(57, &["it::federation::handshakes::an_event_between_template_and_join_is_named_by_the_next_one"]),
    HeldBy(
        58,
        &[
            "federation::inbound::tests::edges::media_ids_lead_nowhere_else",
            "it::federation::media::what_breaks_off_or_is_too_large_leaves_no_file",
            "it::federation::media::an_account_fetches_no_more_than_its_share",
            "it::federation::media::what_a_peer_calls_a_file_breaks_nothing",
        ],
    ),
    HeldBy(
        59,
        &[
            "federation::connection::tests::nobody_connects_to_internal_addresses_whatever_leads_there",
            "federation::connection::tests::a_name_that_changes_between_looks_leads_to_no_internal_address",
            "federation::discovery::tests::a_well_known_document_is_fetched_through_redirects",
            "federation::discovery::tests::a_bad_well_known_document_is_none",
            "federation::peer::tests::files_that_are_cut_off_or_lie_inside_are_refused",
        ],
    ),
    HeldBy(
        60,
        &[
            "federation::inbound::tests::edges::requests_that_two_parsers_could_read_differently_are_refused",
            "federation::inbound::tests::edges::pipelined_requests_are_answered_in_order",
            "federation::connection::tests::answers_that_are_too_large_late_or_of_two_lengths_are_errors",
        ],
    ),
    HeldBy(
        61,
        &[
            "rules::server_acl::tests::the_vectors_are_judged_as_everybody_does",
            "it::federation::doors::a_denied_server_is_refused_at_every_door_of_the_room",
            "it::federation::receiving::the_access_list_of_the_room_decides_by_who_sends",
        ],
    ),
    HeldBy(
        62,
        &[
            "it::federation::hostile::the_case_of_letters_tells_servers_apart",
            "it::federation::doors::who_does_not_prove_who_they_are_is_not_heard",
        ],
    ),
    HeldBy(
        63,
        &[
            "it::federation::hostile::ids_of_others_are_text_and_nothing_else",
            "federation::inbound::tests::door::errors_never_repeat_what_was_sent",
        ],
    ),
];

/// What is wrong with a table of so many cases.
fn complaints(table: &[Case], cases: u8) -> Vec<String> {
    let (mut complaints, mut missing): (Vec<String>, BTreeSet<u8>) = (Vec::new(), (1..=cases).collect());
    let known = named::tests();
    for case in table {
        let (number, named) = match case {
            HeldBy(number, tests) => {
                let words = |comment: &str| {
                    comment.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == number.to_string())
                };
                let says = |comment: &str| comment.contains("ard case") && words(comment);
                (number, (!tests.is_empty()).then(|| named::complaints(&known, *tests, says)))
            }
            Cannot(number, reason) => (number, (!reason.is_empty()).then(Vec::new)),
        };
        if !missing.remove(number) {
            complaints.push(format!("case {number} stands there twice, or is none"));
        }
        match named {
            Some(unknown) => complaints.extend(unknown.iter().map(|complaint| format!("case {number}: {complaint}"))),
            None => complaints.push(format!("case {number}: neither a test nor a reason")),
        }
    }
    complaints.extend(missing.iter().map(|number| format!("case {number} is missing")));
    complaints
}

#[test]
fn every_case_has_a_test_that_exists_or_a_reason() {
    let complaints = complaints(TABLE, CASES);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Says that it is hard case 1.
#[test]
fn a_case_that_is_missing_or_has_no_test_is_noticed() {
    const EXISTS: &[&str] = &["it::federation::hard_cases::a_case_that_is_missing_or_has_no_test_is_noticed"];
    assert!(complaints(&[HeldBy(1, EXISTS), Cannot(2, "a reason")], 2).is_empty());
    assert_eq!(complaints(&[HeldBy(1, EXISTS)], 2).len(), 1);
    assert_eq!(complaints(&[HeldBy(1, EXISTS), HeldBy(1, EXISTS)], 1).len(), 1);
    assert_eq!(complaints(&[HeldBy(1, &[])], 1).len(), 1);
    assert_eq!(complaints(&[HeldBy(1, &["it::federation::gone"])], 1).len(), 1);
    assert_eq!(complaints(&[Cannot(1, "")], 1).len(), 1);
}
