//! Every bound of the wire between servers: what a peer may send, what we ask of one, and how long things are good.
//!
//! A limit says what happens beyond it and where it comes from. May import: nothing but core.

use std::time::Duration;

/// Bytes of a server name, port included. More: the name is refused. The specification recommends 230, which leaves room for
/// the local part of a user id (255 bytes in all).
/// Source: <https://spec.matrix.org/v1.19/appendices/#server-name>
pub const SERVER_NAME_BYTES_MAX: usize = 230;

/// `X-Matrix` headers on one request: one for each key of the server that sent it. More: 401.
pub const REQUEST_SIGNATURES_MAX: usize = 16;

/// Bytes of one event as canonical JSON. More: the event is dropped.
/// Source: <https://spec.matrix.org/v1.19/client-server-api/#size-limits>
pub const PDU_BYTES_MAX: usize = 65_536;

/// PDUs that one transaction may carry. More: the whole transaction is refused.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>
pub const TRANSACTION_PDUS_MAX: usize = 50;

/// EDUs that one transaction may carry. More: the whole transaction is refused.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>
pub const TRANSACTION_EDUS_MAX: usize = 100;

/// Bytes of a request body from a peer. More: 413 before it is read whole. Room for a full transaction and for answers of the
/// size that Synapse allows (200 events).
pub const REQUEST_BYTES_MAX: usize = 200 * PDU_BYTES_MAX;

/// Events that one answer to `get_missing_events` holds. A peer that asks for more gets this many.
/// Source: Synapse's cap; the default is 10, <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>
pub const MISSING_EVENTS_MAX: usize = 20;

/// Events that `get_missing_events` answers when the peer names no number.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>
pub const MISSING_EVENTS_DEFAULT: usize = 10;

/// Event ids in each list of a `get_missing_events` request. More: the rest is ignored, because a server whose room has many
/// ends names them all; the answer then holds less, or events that the peer has.
pub const GAP_ENDS_MAX: usize = 20;

/// Events that one answer to `backfill` holds. A peer that asks for more gets this many.
/// Source: Synapse's cap; the specification leaves it to the server.
pub const BACKFILL_EVENTS_MAX: usize = 100;

/// Event ids that one `backfill` request may begin from. More: 400.
pub const BACKFILL_FROM_MAX: usize = 20;

/// State events that an invite may carry for display. More: the rest is ignored.
pub const INVITE_STATE_EVENTS_MAX: usize = 100;

/// How long a published key document of ours is good.
/// Source: at least an hour by <https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>; a day as Synapse does.
pub const KEYS_PUBLISHED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The least time for which a document of ours must still be good when it is handed out; else a new one is signed.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>
pub const KEYS_VALID_FOR_MIN: Duration = Duration::from_secs(60 * 60);

/// The longest time for which another server's current key is believed after it was fetched, whatever the document says.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>
pub const KEYS_BELIEVED_FOR_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Signing keys in our own key file, and keys taken from one document of another server. More: the file, or the document, is
/// refused.
pub const KEYS_PER_SERVER_MAX: usize = 64;

/// Keys of one other server that are kept, for ever. It shows more of them: they are not taken in.
pub const KEYS_KEPT_MAX: usize = 1_024;

/// Servers, and keys of each, that one notary query may name. More: 400.
pub const KEY_QUERY_SERVERS_MAX: usize = 100;

/// Bytes of a notary query, which anybody may send. More: 413.
pub const KEY_QUERY_BYTES_MAX: usize = 128 * 1024;

/// Bytes of a `.well-known` answer. More: as if there were none.
/// Source: Synapse's bound.
pub const WELL_KNOWN_BYTES_MAX: usize = 50 * 1024;

/// Redirects followed for `.well-known`. More: as if there were none.
pub const WELL_KNOWN_REDIRECTS_MAX: usize = 5;

/// How long a `.well-known` answer without cache headers is kept.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>
pub const WELL_KNOWN_KEPT_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest time for which a `.well-known` answer is kept.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>
pub const WELL_KNOWN_KEPT_MAX: Duration = Duration::from_secs(48 * 60 * 60);

/// The shortest time for which a `.well-known` answer is kept.
/// Source: Synapse's bound.
pub const WELL_KNOWN_KEPT_MIN: Duration = Duration::from_secs(5 * 60);

/// The longest time for which a failure to get `.well-known` is remembered.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>
pub const WELL_KNOWN_FAILURE_KEPT_MAX: Duration = Duration::from_secs(60 * 60);

/// Bytes of a transaction id. More: 400. Ours and Synapse's are far shorter; each is kept with its answer.
pub const TRANSACTION_ID_BYTES_MAX: usize = 255;

/// Transactions of one origin that wait while another of it runs. More: 429.
/// Source: a server sends one at a time, <https://spec.matrix.org/v1.19/server-server-api/#transactions>
pub const TRANSACTIONS_WAITING_MAX: usize = 3;

/// How long a transaction waits for its origin's earlier one. Longer: 429.
pub const TRANSACTION_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a peer is kept waiting for the answer to a transaction. Longer: 503, the work goes on, and the peer's next try finds
/// the answer. Synapse gives up after 60 seconds.
pub const TRANSACTION_ANSWER_MAX: Duration = Duration::from_secs(120);

/// Rooms of one transaction that are worked on at the same time.
pub const TRANSACTION_ROOMS_PARALLEL_MAX: usize = 8;

/// Receipts that one transaction may carry. More: the rest is ignored.
pub const TRANSACTION_RECEIPTS_MAX: usize = 1000;

/// Previous events of an event that comes in a transaction or a handshake. More: the event is dropped.
/// Source: <https://spec.matrix.org/v1.19/rooms/v12/#event-format>
pub const PDU_PREV_EVENTS_MAX: usize = 20;

/// Auth events of an event that comes in a transaction or a handshake. More: the event is dropped.
/// Source: <https://spec.matrix.org/v1.19/rooms/v12/#event-format>
pub const PDU_AUTH_EVENTS_MAX: usize = 10;

/// Room versions that a peer may name in one request. More: 400. There are 12 of them.
pub const ROOM_VERSIONS_MAX: usize = 100;

/// Users of one question for device keys. More: 400.
pub const KEY_QUERY_USERS_MAX: usize = 500;

/// Rooms on one page of a directory, ours or a peer's. More is asked for, or 0, which means all: this many.
pub const PUBLIC_ROOMS_MAX: usize = 100;

/// Bytes of a text that public rooms are searched for, and of a place in the list. More: 400.
pub const SEARCH_BYTES_MAX: usize = 1024;

/// Types of rooms that one search names. More: 400.
pub const ROOM_TYPES_MAX: usize = 20;

/// Rooms below a space that one answer tells of; those behind them are left out.
/// Source: Synapse looks at 50.
pub const SPACE_CHILDREN_MAX: usize = 100;

/// Bytes of an id of a medium. More: 404.
pub const MEDIA_ID_BYTES_MAX: usize = 255;

/// Pixels of each side of a thumbnail. More is asked for: it is made this large.
pub const THUMBNAIL_PIXELS_MAX: u32 = 1600;

/// Bytes of a file name that is told to a peer. More: the name is left out.
pub const MEDIA_NAME_BYTES_MAX: usize = 255;

/// Levels of lists and objects in a request body. More: 400. Synapse reads some hundreds; an event beyond 127 levels is dropped
/// by the reader of events.
pub const JSON_DEPTH_MAX: usize = 400;

/// Values in a request body. More: 413. A transaction full of the smallest values has 1.6 million; each takes 24 bytes.
pub const JSON_VALUES_MAX: usize = 2_000_000;

/// Bytes of one number in a request body. More: 400.
/// Source: Python, and so Synapse, reads 4300 digits.
pub const JSON_NUMBER_BYTES_MAX: usize = 4300;

/// A body of more bytes is read on a thread of its own, so that other requests go on.
pub const JSON_INLINE_BYTES_MAX: usize = 128 * 1024;

/// Such bodies that are parsed at the same time. More wait for their turn.
pub const LARGE_PARSES_MAX: usize = 4;

/// How long the body of a request may take to arrive. Longer: 408.
pub const REQUEST_BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// Bytes of bodies that are being read at the same time, of all peers together: before a body is read nobody is known to have
/// sent it. More: 503.
pub const REQUEST_BYTES_IN_FLIGHT_MAX: usize = 16 * REQUEST_BYTES_MAX;

/// Bytes of each piece in which a large answer is written.
pub const ANSWER_PIECE_BYTES: usize = 64 * 1024;

/// Origins whose budgets are kept before those are forgotten that are full again.
pub const QUOTA_ORIGINS_KEPT: usize = 10_000;

/// Names in each list of a policy. More: the policy is refused.
pub const POLICY_NAMES_MAX: usize = 10_000;

/// How long an expired `.well-known` answer is used on while a new one cannot be got.
/// Source: ours; Synapse goes on for two hours.
pub const WELL_KNOWN_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the first failure to get `.well-known` is remembered; each further one twice as long, up to
/// [`WELL_KNOWN_FAILURE_KEPT_MAX`].
/// Source: Synapse's value.
pub const WELL_KNOWN_FAILURE_KEPT_MIN: Duration = Duration::from_secs(2 * 60);

/// How long all the redirects of one `.well-known` may take together. More: as if there were none.
pub const WELL_KNOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Servers of which delegation, keys or connections are held in memory. More: some are forgotten and asked for again.
pub const SERVERS_IN_MEMORY_MAX: usize = 10_000;

/// SRV records of one name that are looked at. More: the rest is ignored.
pub const SERVICES_MAX: usize = 16;

/// Addresses of one server that are tried, in turn. More: the rest is ignored.
pub const ENDPOINTS_MAX: usize = 16;

/// How long one address may take to accept a connection, and how long TLS may take on it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long all the addresses of a server may take together.
pub const CONNECT_ALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a look-up in the DNS may take, retries included.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one request to a peer may take in all, its answer included.
/// Source: Synapse's value.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a request may take that makes the peer work hard or send much: joining, state, a transaction, a file.
pub const SLOW_REQUEST_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Bytes of the head of an answer. More: the connection is closed.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a connection that nobody uses stays open.
pub const IDLE_CONNECTION_KEPT: Duration = Duration::from_secs(45);

/// Connections to one server that stay open unused.
pub const IDLE_CONNECTIONS_MAX: usize = 4;

/// Requests to one server that run at a time. More: they wait, at most [`REQUEST_QUEUE_TIMEOUT`].
pub const REQUESTS_PER_SERVER_MAX: usize = 16;

/// How long a request waits for its turn. Longer: it is not sent.
pub const REQUEST_QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest time for which a 429 makes us leave a server alone, whatever it asks for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// How long a server is left alone after its first failure; after each further one twice as long.
/// Source: ours. Synapse begins at ten minutes, which makes a restart of the peer felt for that long.
pub const BACK_OFF_MIN: Duration = Duration::from_secs(2);

/// The longest time for which a failing server is left alone.
/// Source: Synapse's value.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Bytes of an answer of few fields: a template, keys, a profile. More: an error.
pub const SMALL_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of an error answer that are read. More: it counts as one without a code.
pub const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Bytes of an answer with a page of events. More: an error.
pub const EVENTS_ANSWER_BYTES_MAX: usize = REQUEST_BYTES_MAX;

/// Bytes of an answer with the state of a room. More: an error. The largest public rooms of 2026 take about half of it.
pub const STATE_ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Events, or event ids, of one answer with the state of a room. More: an error.
pub const STATE_ANSWER_EVENTS_MAX: usize = 500_000;

/// Bytes of one event as it stands in an answer. More: an error. An event of [`PDU_BYTES_MAX`] bytes may be written with
/// blanks, escapes and `unsigned`.
pub const PDU_TEXT_BYTES_MAX: usize = 4 * PDU_BYTES_MAX;

/// Servers taken from one answer. More: the rest is ignored.
pub const SERVERS_IN_ANSWER_MAX: usize = 10_000;

/// Bytes of the head of one part of a media answer. More: an error.
pub const MEDIA_PART_HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long a file's next bytes may take. Longer: an error.
pub const MEDIA_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The shortest time between two fetches of one server's keys.
pub const KEY_FETCH_PAUSE_MIN: Duration = Duration::from_secs(60);

/// The longest time for which a failed fetch of keys, or a key that a server does not have, is remembered.
pub const KEY_FETCH_PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// Unknown key ids that are remembered of one server. More: the oldest memory goes.
pub const UNKNOWN_KEYS_MAX: usize = 64;

/// Key documents that are fetched at the same time for the sake of events; and as many for requests, which anybody may say to be of any server. More wait.
pub const KEY_FETCHES_MAX: usize = 32;

/// How long a fetch of keys may take, the wait for its turn included.
pub const KEY_FETCH_TIME_MAX: Duration = Duration::from_secs(30);

/// Servers that are asked for other servers' keys. More: the configuration is refused.
pub const NOTARIES_MAX: usize = 8;

/// Documents that are looked at in the answer of a notary. More: the rest is ignored.
pub const NOTARY_DOCUMENTS_MAX: usize = 16;

/// Servers whose keys are fetched at a time because somebody asks us as a notary: anybody may ask. More: what is known is answered.
pub const NOTARY_FETCHES_MAX: usize = 8;

/// How long somebody who asks us as a notary waits for the server in question. Longer: what is known is answered.
pub const NOTARY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Bytes of a key document that is kept, to be told as a notary. Longer ones are not told. Most have less than 1000.
pub const KEY_DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Destinations that are sent to at a time. More: they wait for their turn. Slow ones are not counted.
pub const WORKERS_MAX: usize = 64;

/// A destination that takes longer for a transaction is slow, until it takes less for another one.
pub const SLOW_TRANSACTION: Duration = Duration::from_secs(10);

/// Slow destinations that are sent to at a time: they have turns of their own, so that others do not wait for them.
pub const SLOW_WORKERS_MAX: usize = 32;

/// Destinations that are sent to at a time in all, those included that have become slow while they were.
pub const ALL_WORKERS_MAX: usize = 1024;

/// Destinations of which it is remembered that they are slow. More: all are forgotten.
pub const SLOW_DESTINATIONS_MAX: usize = 10_000;

/// Bytes of the events of one transaction, as canonical JSON. What goes beyond is in the next one. Full transactions fit.
pub const TRANSACTION_BYTES_MAX: usize = TRANSACTION_PDUS_MAX * PDU_BYTES_MAX;

/// EDUs that wait for one destination. More: the oldest go.
pub const EDUS_WAITING_MAX: usize = 1000;

/// Destinations for which EDUs may wait. More: those for further ones are dropped.
pub const EDU_DESTINATIONS_MAX: usize = 10_000;

/// Destinations whose unanswered transaction is kept in memory while they are left alone. More: it is made anew.
pub const IN_FLIGHT_DESTINATIONS_MAX: usize = 256;

/// Transactions that one destination gets before another one's turn comes.
pub const TRANSACTIONS_PER_TURN_MAX: usize = 20;

/// The longest pause before a transaction is sent again that a reachable server refused (401, 403, 404, 408).
pub const REFUSAL_PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// How often the outbox is looked through for destinations that nobody woke.
pub const OUTBOX_LOOK_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How long sending pauses when the outbox cannot be read.
pub const OUTBOX_PAUSE: Duration = Duration::from_secs(5);

const _: () = {
    assert!(REQUEST_BYTES_MAX <= REQUEST_BYTES_IN_FLIGHT_MAX, "the largest request can be read");
    assert!(TRANSACTION_WAIT_MAX.as_secs() < TRANSACTION_ANSWER_MAX.as_secs(), "who waits is told before it gives up");
    assert!(WELL_KNOWN_FAILURE_KEPT_MIN.as_secs() < WELL_KNOWN_FAILURE_KEPT_MAX.as_secs(), "failures grow to a bound");
    assert!(BACK_OFF_MIN.as_secs() < BACK_OFF_MAX.as_secs(), "back-off grows to a bound");
    assert!(KEY_FETCH_PAUSE_MIN.as_secs() < KEY_FETCH_PAUSE_MAX.as_secs(), "pauses grow to a bound");
    assert!(CONNECT_TIMEOUT.as_secs() < CONNECT_ALL_TIMEOUT.as_secs(), "more than one address can be tried");
    assert!(WORKERS_MAX + SLOW_WORKERS_MAX < ALL_WORKERS_MAX, "some may become slow");
    assert!(PDU_BYTES_MAX < PDU_TEXT_BYTES_MAX, "every event can be read");
    assert!(TRANSACTION_PDUS_MAX * PDU_BYTES_MAX < REQUEST_BYTES_MAX, "a full transaction fits into a request");
    assert!(MISSING_EVENTS_DEFAULT <= MISSING_EVENTS_MAX, "the default is within the cap");
    assert!(KEYS_VALID_FOR_MIN.as_secs() < KEYS_PUBLISHED_FOR.as_secs(), "a fresh document may be handed out");
    assert!(
        KEYS_PUBLISHED_FOR.as_secs() <= KEYS_BELIEVED_FOR_MAX.as_secs(),
        "peers believe our documents to their end"
    );
    assert!(WELL_KNOWN_KEPT_MIN.as_secs() < WELL_KNOWN_KEPT_DEFAULT.as_secs(), "the default is within the bounds");
    assert!(WELL_KNOWN_KEPT_DEFAULT.as_secs() <= WELL_KNOWN_KEPT_MAX.as_secs(), "the default is within the bounds");
};
