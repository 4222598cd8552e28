//! Sections 2 to 6: HTTP, finding servers, keys, signed requests, JSON.

use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row(
        "2",
        "HTTPS with a certificate for the right name",
        &[
            "federation::connection::tests::a_request_goes_out_as_it_was_signed_with_the_right_names",
            "federation::connection::tests::a_server_named_by_its_address_gets_no_name_in_the_handshake",
            "federation::connection::tests::a_certificate_for_another_name_is_no_certificate",
            "it::federation::network::two_servers_exchange_signed_requests",
        ],
    ),
    row(
        "2",
        "bodies are JSON objects, also without Content-Type; answers are application/json",
        &[
            "federation::inbound::body::tests::a_body_that_is_not_plain_json_is_refused_by_its_headers",
            "federation::inbound::tests::door::bodies_that_are_not_json_too_large_or_compressed_are_refused",
            "it::federation::doors::bodies_and_answers_are_json_and_unknown_paths_are_said_to_be",
        ],
    ),
    row(
        "2",
        "unknown path 404, wrong method 405",
        &[
            "federation::inbound::tests::door::unknown_paths_are_404_and_unknown_methods_405_on_every_prefix",
            "it::federation::doors::bodies_and_answers_are_json_and_unknown_paths_are_said_to_be",
        ],
    ),
    row(
        "2",
        "errors and 429",
        &[
            "federation::inbound::error::tests::every_refusal_has_its_status_and_code",
            "federation::inbound::error::tests::who_asks_too_much_is_told_when_to_come_back",
            "federation::inbound::tests::door::a_hostile_peer_exhausts_its_own_budget",
        ],
    ),
    row(
        "2",
        "bodies are bounded before they are read whole, both ways",
        &[
            "federation::inbound::tests::door::bodies_that_are_not_json_too_large_or_compressed_are_refused",
            "federation::inbound::body::tests::bodies_of_all_requests_together_are_bounded",
            "federation::connection::tests::answers_that_are_too_large_late_or_of_two_lengths_are_errors",
            "federation::peer::split::tests::what_is_no_object_or_too_much_is_refused",
        ],
    ),
    row(
        "2",
        "path parameters are decoded once",
        &[
            "federation::inbound::tests::door::the_target_is_verified_as_sent_and_decoded_once",
            "federation::peer::tests::targets_are_escaped_once_and_those_of_the_specification",
        ],
    ),
    row(
        "2",
        "time-outs, and a bound of calls at a time to one server",
        &[
            "federation::connection::tests::answers_that_are_too_large_late_or_of_two_lengths_are_errors",
            "federation::connection::tests::requests_to_one_server_at_the_same_time_are_bounded",
        ],
    ),
    row(
        "3",
        "the order of decisions",
        &[
            "federation::discovery::tests::the_vectors_of_the_specification_lead_where_it_says",
            "federation::request_signature::tests::server_names_are_those_of_the_specification",
        ],
    ),
    row("3", "a bad well-known answer is none", &["federation::discovery::tests::a_bad_well_known_document_is_none"]),
    row(
        "3",
        "redirects are followed within bounds",
        &[
            "federation::discovery::tests::a_well_known_document_is_fetched_through_redirects",
            "federation::discovery::tests::a_bad_well_known_document_is_none",
            "federation::outside::tests::redirects_lead_where_they_say",
        ],
    ),
    row(
        "3",
        "how long answers are kept",
        &[
            "federation::discovery::well_known::tests::an_answer_is_believed_as_long_as_it_says_within_bounds",
            "federation::discovery::well_known::tests::an_answer_is_asked_for_once_while_it_is_good",
            "federation::discovery::well_known::tests::failures_are_asked_about_less_and_less_often",
        ],
    ),
    row(
        "3",
        "SRV by priority and weight, the root, the next one when one does not answer",
        &[
            "federation::discovery::srv::tests::smaller_priorities_come_first",
            "federation::discovery::srv::tests::among_one_priority_the_lot_falls_by_weight",
            "federation::discovery::srv::tests::the_root_as_target_means_no_service",
            "federation::discovery::tests::targets_that_lead_nowhere_do_not_hide_others_and_the_root_hides_all",
            "federation::connection::tests::an_address_that_does_not_answer_is_passed_over_for_the_next",
        ],
    ),
    row(
        "3",
        "the address that is connected to is checked",
        &[
            "federation::addresses::tests::internal_addresses_are_refused",
            "federation::connection::tests::nobody_connects_to_internal_addresses_whatever_leads_there",
        ],
    ),
    row(
        "3",
        "delegation changes no name in signatures",
        &["federation::discovery::tests::a_delegated_server_is_still_signed_to_by_its_own_name"],
    ),
    row(
        "3",
        "version",
        &[
            "federation::inbound::tests::lookups::version_and_well_known_need_no_signature",
            "it::federation::network::anybody_may_ask_for_keys_and_version",
        ],
    ),
    row(
        "4",
        "the form of key ids and keys",
        &[
            "federation::server_keys::tests::a_document_is_taken_only_when_it_is_the_servers_own",
            "federation::our_keys::tests::two_new_keys_have_two_ids",
            "rules::it::drafts::a_key_version_has_only_letters_digits_and_underscores",
        ],
    ),
    row(
        "4",
        "our keys are published, signed by every one",
        &[
            "federation::inbound::tests::lookups::our_keys_are_published_signed",
            "federation::key_document::tests::every_current_key_signs_the_document",
            "federation::key_document::tests::a_key_is_never_published_as_current_and_as_old",
            "it::federation::network::anybody_may_ask_for_keys_and_version",
        ],
    ),
    row(
        "4",
        "what is checked of a document that was fetched",
        &["federation::server_keys::tests::a_document_is_taken_only_when_it_is_the_servers_own"],
    ),
    row(
        "4",
        "how long a key is good",
        &[
            "federation::server_keys::tests::a_key_is_believed_for_seven_days_whatever_the_document_says",
            "rules::it::pitfalls::pitfall_6_a_key_counts_only_for_its_time",
            "it::federation::receiving::an_event_signed_with_a_key_that_had_expired_is_dropped",
        ],
    ),
    row(
        "4",
        "requests are signed with a current key only",
        &[
            "federation::server_keys::tests::an_old_key_is_for_old_events_and_never_for_requests",
            "federation::server_keys::tests::a_key_is_believed_for_seven_days_whatever_the_document_says",
        ],
    ),
    row(
        "4",
        "keys are kept for ever and their bytes never change",
        &[
            "federation::server_keys::tests::a_key_is_fetched_once_and_kept",
            "federation::server_keys::tests::the_bytes_behind_a_key_id_never_change",
            "yurt::actions::peers::kept::tests::the_bytes_behind_a_key_id_never_change",
        ],
    ),
    row(
        "4",
        "keys are fetched only when needed, one fetch at a time, with pauses",
        &[
            "federation::server_keys::tests::an_unknown_key_asked_for_a_thousand_times_is_one_fetch",
            "federation::server_keys::tests::many_who_ask_together_cause_one_fetch",
            "federation::server_keys::tests::a_server_that_fails_is_asked_less_and_less_often",
            "federation::server_keys::tests::events_of_the_future_do_not_cause_a_fetch_each",
        ],
    ),
    row(
        "4",
        "the cache, then the server itself",
        &[
            "federation::server_keys::tests::a_key_is_fetched_once_and_kept",
            "it::federation::network::two_servers_exchange_signed_requests",
        ],
    ),
    row(
        "4",
        "a notary for our own keys",
        &["federation::inbound::tests::lookups::as_a_notary_we_tell_documents_with_our_signature_added"],
    ),
    row(
        "5",
        "the header that we send",
        &[
            "federation::request_signature::tests::our_header_is_the_one_of_the_vectors",
            "federation::connection::tests::a_request_goes_out_as_it_was_signed_with_the_right_names",
        ],
    ),
    row(
        "5",
        "the headers that we read",
        &[
            "federation::request_signature::tests::the_headers_of_the_vectors_are_all_good",
            "federation::request_signature::tests::what_the_vectors_say_must_be_refused_is_refused",
            "federation::request_signature::tests::malformed_headers_are_told_apart",
            "federation::request_signature::tests::quoted_values_read_as_they_were",
        ],
    ),
    row(
        "5",
        "several headers",
        &[
            "federation::request_signature::tests::several_headers_need_one_known_key_and_no_known_key_that_lies",
            "federation::inbound::tests::door::only_a_good_signature_of_a_current_key_lets_in",
        ],
    ),
    row(
        "5",
        "origin and destination",
        &[
            "federation::request_signature::tests::a_header_without_destination_is_for_us",
            "federation::inbound::tests::door::a_request_for_another_server_asks_for_no_keys",
            "federation::inbound::tests::door::the_destination_picks_the_tenant",
            "it::federation::doors::who_does_not_prove_who_they_are_is_not_heard",
        ],
    ),
    row(
        "5",
        "a missing, malformed or unverifiable header is 401",
        &[
            "federation::inbound::tests::door::every_signed_request_refuses_who_does_not_sign",
            "federation::inbound::tests::door::only_a_good_signature_of_a_current_key_lets_in",
            "it::federation::doors::who_does_not_prove_who_they_are_is_not_heard",
        ],
    ),
    row(
        "5",
        "verified before anything is done",
        &[
            "federation::inbound::tests::door::every_signed_request_refuses_who_does_not_sign",
            "federation::inbound::tests::door::bodies_that_are_not_json_too_large_or_compressed_are_refused",
        ],
    ),
    row(
        "5",
        "the handler sees the value that was verified",
        &[
            "federation::inbound::tests::door::odd_numbers_do_not_break_the_signature",
            "federation::inbound::json::parse::tests::what_could_be_read_in_two_ways_is_not_read",
            "federation::inbound::tests::transactions::minus_zero_is_zero_and_unsigned_is_taken_out",
        ],
    ),
    row(
        "5",
        "every request may be repeated",
        &[
            "federation::inbound::tests::transactions::the_same_transaction_again_gets_the_stored_answer_and_does_nothing",
            "it::federation::handshakes::an_event_between_template_and_join_is_named_by_the_next_one",
            "it::federation::doors::every_request_may_be_repeated",
        ],
    ),
    row(
        "5",
        "what needs no signature",
        &[
            "federation::inbound::tests::lookups::version_and_well_known_need_no_signature",
            "it::federation::network::anybody_may_ask_for_keys_and_version",
        ],
    ),
    row(
        "6",
        "canonical JSON",
        &[
            "rules::it::vectors::canonical_json_is_read_and_written_as_the_vectors_say",
            "rules::it::against_ruma::canonical_text_is_the_same_and_reads_back",
        ],
    ),
    row(
        "6",
        "an event with a value outside the limits is dropped",
        &[
            "it::federation::receiving::a_wrong_number_spoils_its_own_event_and_not_its_neighbours",
            "federation::inbound::pdu::tests::an_event_that_no_room_version_of_ours_allows_is_dropped",
            "it::federation::doors::an_event_outside_the_limits_is_bad_json_in_a_handshake",
        ],
    ),
    row(
        "6",
        "parsed once; a key that stands twice is read one way",
        &[
            "federation::inbound::json::parse::tests::what_could_be_read_in_two_ways_is_not_read",
            "rules::it::pitfalls::pitfall_7_minus_zero_is_zero_and_fractions_are_refused",
        ],
    ),
    row(
        "6",
        "no fractions, and minus zero is zero",
        &[
            "rules::it::pitfalls::pitfall_7_minus_zero_is_zero_and_fractions_are_refused",
            "federation::inbound::tests::transactions::minus_zero_is_zero_and_unsigned_is_taken_out",
        ],
    ),
    row(
        "6",
        "content hash and reference hash",
        &[
            "rules::it::vectors::events_are_hashed_and_signed_as_in_the_specification",
            "rules::it::vectors::hashes_and_signatures_follow_the_room_version",
            "rules::it::vectors::event_and_room_ids_are_those_of_the_vectors",
        ],
    ),
    row(
        "6",
        "signatures",
        &[
            "rules::it::vectors::json_is_signed_as_in_the_specification",
            "rules::it::vectors::the_bytes_that_are_signed_are_the_redacted_event_without_signatures",
            "rules::it::vectors::tampering_is_noticed_as_in_the_vectors",
        ],
    ),
    row(
        "6",
        "who has to have signed, and what a wrong hash does",
        &[
            "rules::it::pitfalls::pitfall_3_only_a_join_needs_the_signature_of_the_server_that_vouches",
            "rules::it::pitfalls::pitfall_6_one_good_signature_does_not_make_up_for_a_wrong_one",
            "it::federation::receiving::a_wrong_signature_is_dropped_and_a_wrong_hash_leaves_the_redacted_event",
        ],
    ),
];
