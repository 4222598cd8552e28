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

/// Event ids in each list of a `get_missing_events` request. More: 400.
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

const _: () = {
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
