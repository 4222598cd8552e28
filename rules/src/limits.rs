//! Sizes and counts of the specification, each with its source. Imports nothing.

/// Bytes of a signed event as canonical JSON, without `unsigned`. One more is refused.
/// Source: <https://spec.matrix.org/v1.19/client-server-api/#size-limits>
pub const EVENT_BYTES_MAX: usize = 65_536;

/// Bytes of `type`, `state_key`, `sender`, `room_id` and of an event id.
/// Source: <https://spec.matrix.org/v1.19/client-server-api/#size-limits>
pub const FIELD_BYTES_MAX: usize = 255;

/// Entries of `prev_events`. Not applied to history that a peer hands over, where older events may hold more.
/// Source: <https://spec.matrix.org/v1.19/rooms/v1/#event-format>
pub const PREV_EVENTS_MAX: usize = 20;

/// Entries of `auth_events`. Not applied to history that a peer hands over.
/// Source: <https://spec.matrix.org/v1.19/rooms/v1/#event-format>
pub const AUTH_EVENTS_MAX: usize = 10;

/// The largest integer of canonical JSON, 2^53 - 1.
/// Source: <https://spec.matrix.org/v1.19/appendices/#canonical-json>
pub const INTEGER_MAX: i64 = 9_007_199_254_740_991;

/// The largest `depth`. An event whose predecessors stand here stays here.
/// Source: <https://spec.matrix.org/v1.19/rooms/v6/#event-format>
pub const DEPTH_MAX: u64 = INTEGER_MAX.unsigned_abs();

/// Objects and lists inside one another. No number of the specification: it is what `serde_json` and with it other
/// Rust servers read, and it bounds the stack.
pub const NESTING_MAX: usize = 127;

/// Bytes of an Ed25519 public key and of the seed of a private one.
/// Source: <https://www.rfc-editor.org/rfc/rfc8032#section-5.1.5>
pub const KEY_BYTES: usize = 32;

/// How long after it was fetched a key counts, in milliseconds, whatever its server says: 7 days.
/// Source: <https://spec.matrix.org/v1.19/rooms/v5/#signing-key-validity-period>
pub const KEY_VALIDITY_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

const _: () = assert!(FIELD_BYTES_MAX < EVENT_BYTES_MAX);
