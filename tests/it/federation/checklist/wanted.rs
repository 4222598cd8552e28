//! Rows of the work list that came soon after the first version: what other servers are glad of, and what people see.

use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row(
        "2",
        "paths that end with a slash",
        &["it::federation::signing_keys::a_server_says_where_it_is_and_takes_paths_that_end_with_a_slash"],
    ),
    row(
        "3",
        "an expired answer is used for a time when no other is to be had",
        &[
            "federation::discovery::well_known::tests::an_old_answer_is_used_on_while_no_new_one_can_be_got_but_not_for_ever",
        ],
    ),
    row(
        "3",
        "well-known of our own",
        &[
            "it::federation::signing_keys::a_server_says_where_it_is_and_takes_paths_that_end_with_a_slash",
            "federation::inbound::tests::lookups::version_and_well_known_need_no_signature",
        ],
    ),
    row(
        "4",
        "notaries are asked",
        &[
            "it::federation::signing_keys::a_notary_vouches_for_the_keys_of_a_server_that_is_away",
            "federation::server_keys::notaries::tests::what_a_notary_tells_counts_only_with_both_signatures",
            "federation::server_keys::notaries::tests::a_notary_changes_no_key_that_is_known_and_revives_none",
        ],
    ),
    row(
        "4",
        "we are a notary",
        &[
            "federation::inbound::tests::lookups::as_a_notary_we_tell_documents_with_our_signature_added",
            "federation::server_keys::notaries::tests::as_a_notary_we_tell_nothing_that_contradicts_what_we_know",
        ],
    ),
    row("4", "a key is changed", &["it::federation::signing_keys::a_room_outlives_the_key_of_the_server_that_made_it"]),
    row(
        "4",
        "keys that everybody knows",
        &[
            "it::federation::signing_keys::who_signs_with_a_refused_key_is_nobody",
            "federation::server_keys::tests::published_keys_on_the_list_count_for_nothing",
        ],
    ),
    row(
        "5",
        "a valid request ends a back-off",
        &["federation::outbound::tests::a_server_that_comes_back_gets_everything_at_once"],
    ),
    row(
        "5",
        "only servers that are on a list",
        &["it::federation::toggles::servers_that_the_policy_keeps_out_neither_ask_nor_are_asked"],
    ),
    row(
        "9.2",
        "knocks",
        &[
            "it::federation::knocking::a_knock_of_another_server_is_taken_where_the_room_takes_knocks",
            "it::federation::knocking::who_knocks_at_another_server_is_let_in_or_sent_away_or_goes",
            "it::federation::knocking::what_a_resident_server_proposes_and_shows_is_looked_at",
        ],
    ),
    row(
        "9.4",
        "public rooms",
        &[
            "it::federation::finding::public_rooms_come_page_by_page_in_an_order_that_new_rooms_do_not_move",
            "it::federation::finding::public_rooms_are_filtered_and_shown_only_to_servers_that_may_know_of_them",
            "it::federation::finding::the_public_rooms_of_another_server_of_ours_are_found_and_entered",
        ],
    ),
    row(
        "9.4",
        "hierarchies",
        &[
            "it::federation::finding::a_space_shows_the_children_that_the_server_may_see_and_names_the_others",
            "it::federation::finding::spaces_in_each_other_and_huge_ones_are_answered_within_bounds",
        ],
    ),
    row(
        "10",
        "typing and receipts are told",
        &["it::federation::news::what_people_do_on_one_server_is_seen_on_the_other"],
    ),
    row("10", "what is for devices", &[]).but("no person of ours has devices before the Client-Server door is built"),
    row(
        "15",
        "restricted rooms",
        &[
            "it::federation::restricted::a_member_of_the_room_that_the_rule_names_is_let_in_with_our_signature",
            "it::federation::restricted::who_is_invited_needs_nobody_to_vouch",
            "it::federation::restricted::what_cannot_be_told_or_granted_is_said_so",
        ],
    ),
    row(
        "15",
        "partial-state answers",
        &["it::federation::large_rooms::who_can_do_without_members_gets_a_large_room_without_them"],
    ),
    row("16", "heads that pile up are joined", &[]).but("the next event that somebody sends joins up to 20 of them"),
    row(
        "19",
        "policy servers",
        &[
            "it::federation::policy::a_message_goes_out_with_the_signature_of_the_policy_server_or_not_at_all",
            "it::federation::policy::what_others_send_is_shown_when_the_policy_server_signs_it",
            "it::federation::policy::a_policy_server_that_is_silent_hides_what_it_would_have_signed_and_holds_up_nothing_else",
            "it::federation::policy::a_server_with_nobody_in_the_room_is_no_policy_server_of_it",
        ],
    ),
    row(
        "20",
        "media",
        &[
            "federation::inbound::tests::edges::media_come_in_two_parts",
            "federation::inbound::tests::edges::what_an_uploader_chose_adds_no_header",
            "federation::inbound::tests::edges::media_ids_lead_nowhere_else",
            "it::federation::media::a_file_that_an_event_names_is_fetched_once_for_the_members_of_its_room",
            "it::federation::media::what_breaks_off_or_is_too_large_leaves_no_file",
            "it::federation::media::a_peer_gets_a_medium_of_ours_that_counts_in_a_room_of_its_people_or_is_somebodys_picture",
        ],
    ),
];
