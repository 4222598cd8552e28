//! Sections 15 to 19: entering rooms and letting others in, sending, history, access lists.

use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row(
        "15",
        "what is checked of a template",
        &["it::federation::handshakes::a_template_of_something_else_is_not_signed"],
    ),
    row(
        "15",
        "our event is hashed and signed",
        &[
            "it::federation::between::a_public_room_of_another_server_is_joined_by_its_id_and_by_its_alias",
            "it::federation::old_versions::rooms_of_all_older_versions_are_joined_spoken_in_and_left",
            "rules::it::drafts::a_draft_becomes_an_event_that_peers_take_in_unchanged",
        ],
    ),
    row(
        "15",
        "send_join goes to the server that gave the template",
        &["it::federation::handshakes::an_answer_that_is_no_room_is_not_entered_and_one_bad_event_does_no_harm"],
    ),
    row(
        "15",
        "what is checked of the answer",
        &["it::federation::handshakes::an_answer_that_is_no_room_is_not_entered_and_one_bad_event_does_no_harm"],
    ),
    row(
        "15",
        "one bad event does not fail the join",
        &["it::federation::handshakes::an_answer_that_is_no_room_is_not_entered_and_one_bad_event_does_no_harm"],
    ),
    row(
        "15",
        "the next server is asked when one cannot help",
        &["it::federation::between::the_next_server_is_asked_when_one_cannot_help"],
    ),
    row(
        "15",
        "events that come while a join runs wait for it",
        &["it::federation::between::somebody_else_of_the_server_joins_here_and_two_at_once_share_the_way"],
    ),
    row(
        "15",
        "restricted rooms: the rule",
        &[
            "rules::it::scenes::a_restricted_room_lets_in_whom_a_member_vouches_for",
            "rules::it::pitfalls::pitfall_3_a_vouched_join_without_the_second_signature_is_dropped",
        ],
    ),
    row(
        "15",
        "we invite: the same event comes back, signed by the invited server",
        &["it::federation::between::invite_join_leave_and_join_again_end_in_the_same_state"],
    ),
    row(
        "16",
        "who is sent an event",
        &[
            "it::federation::outgoing::servers_in_the_room_are_sent_our_events_and_nobody_elses",
            "it::federation::outgoing::who_is_removed_gets_that_and_nothing_behind_it",
        ],
    ),
    row(
        "16",
        "one transaction at a time, of 50 events and 100 pieces of news, repeated as it was",
        &[
            "federation::outbound::tests::what_is_owed_is_sent_in_order_in_transactions_of_fifty",
            "federation::outbound::tests::a_transaction_is_repeated_with_the_same_id_and_content_until_it_is_answered",
        ],
    ),
    row(
        "16",
        "ids of transactions are never used again",
        &["federation::outbound::tests::no_start_uses_the_ids_of_another"],
    ),
    row(
        "16",
        "what is owed is kept, and little of it after a long time",
        &[
            "it::federation::outgoing::what_is_owed_survives_a_restart",
            "it::federation::network::a_server_that_was_away_gets_what_it_missed",
        ],
    ),
    row(
        "16",
        "pauses that grow, shared by all calls, ended by a request of the server",
        &[
            "federation::connection::tests::a_failing_server_is_left_alone_for_longer_and_longer_over_a_restart_too",
            "federation::connection::tests::who_asks_us_something_is_no_longer_left_alone",
            "federation::connection::tests::requests_that_fail_together_count_as_one_failure",
        ],
    ),
    row(
        "16",
        "what each status means",
        &[
            "federation::outbound::tests::a_transaction_that_is_too_large_is_cut_until_it_fits",
            "federation::outbound::tests::a_bad_request_is_given_up_and_a_refusal_is_tried_again_later",
            "federation::connection::tests::a_refusal_is_no_failure_and_429_is_obeyed",
            "federation::peer::tests::refused_events_of_a_transaction_are_told_and_the_rest_is_delivered",
        ],
    ),
    row(
        "16",
        "nothing is sent to servers that left, and queues of dead ones are bounded",
        &[
            "it::federation::outgoing::who_is_removed_gets_that_and_nothing_behind_it",
            "federation::outbound::tests::what_waits_for_one_server_is_bounded",
        ],
    ),
    row(
        "16",
        "previous events of ours: all ends, at most 20, none that is not accepted",
        &[
            "it::engine::more_heads_than_an_event_can_name_are_joined_by_several",
            "it::federation::receiving::what_follows_only_what_is_not_shown_takes_the_place_of_what_is_before_that",
            "rules::it::drafts::depth_grows_up_to_its_limit",
        ],
    ),
    row(
        "17",
        "a hole is filled by get_missing_events, then by a state",
        &[
            "it::federation::gaps::a_small_hole_is_filled_by_the_server_that_brought_the_event",
            "it::federation::gaps::a_deep_hole_is_bridged_by_a_state_that_is_merged_with_ours",
        ],
    ),
    row("17", "a state of a peer is a claim", &["it::federation::gaps::a_claimed_state_never_replaces_ours"]),
    row(
        "17",
        "backfill, asked and served",
        &[
            "it::federation::history::a_hole_is_filled_in_order_and_nothing_of_it_is_news",
            "it::federation::history::forged_history_is_left_out",
            "it::federation::history::too_many_previous_events_are_refused_as_news_and_taken_as_history",
        ],
    ),
    row(
        "17",
        "who sees which history",
        &[
            "rules::visibility::tests::a_server_in_the_room_sees_what_its_users_could",
            "it::federation::serving::what_a_server_could_not_see_then_it_gets_without_its_content",
        ],
    ),
    row(
        "17",
        "redacted events are served redacted",
        &["it::federation::serving::what_was_redacted_is_given_to_nobody"],
    )
    .but("nobody can have all events of their account erased, so there are no erased users"),
    row(
        "17",
        "a page of rejected events does not end the walk",
        &["it::federation::serving::rejected_events_are_passed_by_and_do_not_end_the_walk_back"],
    ),
    row(
        "17",
        "what never arrives is not asked for for ever",
        &["it::federation::gaps::what_cannot_be_had_is_asked_for_in_growing_pauses_and_given_up_in_the_end"],
    ),
    row(
        "18",
        "how a list is read",
        &[
            "rules::server_acl::tests::the_vectors_are_judged_as_everybody_does",
            "rules::server_acl::tests::stars_and_question_marks_stand_for_what_they_say",
        ],
    ),
    row(
        "18",
        "what it protects",
        &[
            "it::federation::doors::a_denied_server_is_refused_at_every_door_of_the_room",
            "it::federation::receiving::the_access_list_of_the_room_decides_by_who_sends",
            "it::federation::serving::a_denied_server_reads_nothing_although_it_is_in_the_room",
        ],
    ),
    row(
        "18",
        "read once per event, in linear time",
        &["rules::server_acl::tests::thousands_of_patterns_full_of_stars_cost_little"],
    ),
    row(
        "18",
        "we make no list that denies ourselves",
        &[
            "it::v1::state::types_with_a_call_of_their_own_are_refused_and_the_call_is_named",
            "it::v1::state::a_list_of_servers_that_keeps_ours_passes",
        ],
    ),
    row(
        "19",
        "a policy server's key is no key of the ordinary check",
        &["rules::it::hard_cases::the_key_of_a_policy_server_is_no_key_of_the_ordinary_check"],
    ),
];
