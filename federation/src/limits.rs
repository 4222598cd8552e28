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

/// Servers, and keys of each, that one notary query may name. More: 400.
pub const KEY_QUERY_SERVERS_MAX: usize = 100;

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

const _: () = {
    assert!(REQUEST_BYTES_MAX <= REQUEST_BYTES_IN_FLIGHT_MAX, "the largest request can be read");
    assert!(TRANSACTION_WAIT_MAX.as_secs() < TRANSACTION_ANSWER_MAX.as_secs(), "who waits is told before it gives up");
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
