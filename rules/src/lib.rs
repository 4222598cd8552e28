//! The rules of rooms: given an event and facts, what the Matrix specification says about it. No input, no output, no
//! clock, no randomness: times and random bytes are arguments, and the same arguments give the same answer.
//!
//! # An event from a peer
//!
//! [`intake::Intake`] takes it through the [checks on receipt] and asks for facts on the way. By hand they are:
//!
//! | step | function | when it fails |
//! |---|---|---|
//! | 1 size and shape | [`format::parse`] | **drop**: nothing is kept |
//! | 2 signatures | [`signature::verify`] | **drop**; where only a key is not known: **hold** |
//! | 3 content hash | [`signature::verify`] | go on with the **redacted** event |
//! | 4 its own auth events | [`authorization::check_auth_events`] | **reject**: kept as refused |
//! | 5 the state before it | [`authorization::check`] | **reject** |
//! | 6 the current state | [`authorization::check`] | **soft-fail**: kept, neither shown nor built upon |
//!
//! Before step 1 the caller knows that it takes part in the room, and of which version the room is by the create event
//! that it holds. An event whose auth events or state before cannot be found out is held, not rejected. Step 7, the
//! room's policy server, takes the network: the server asks it.
//!
//! # An event of this server
//!
//! 1. [`kind::refused_state_type`], [`kind::RoomState`], [`power::Levels`]: whether the wish is one.
//! 2. [`authorization::needed_state`], then [`authorization::select_auth_events`]: the auth events.
//! 3. [`draft::complete`]: hash, signature, id.
//! 4. [`authorization::check_auth_events`] and [`authorization::check`] against the current state.
//! 5. [`state::change_of`]: what it changes. Forks are merged by [`resolution::resolve_conflict`].
//!
//! # Files in reading order
//!
//! `limits`, `version`; `canonical`, `redaction`, `hash`: bytes; `event`, `format`, `keys`, `signature`: steps 1 to 3;
//! `state`, `authorization`, `precedents`, `resolution`: steps 4 to 6; `intake`: all of them; `draft`: our own events; `power`, `kind`,
//! `freeze`, `permission`, `visibility`, `server_acl`: what a room is, who may do what in it, who sees it and which servers it lets in.
//!
//! [checks on receipt]: https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu

pub mod authorization;
pub mod canonical;
pub mod draft;
pub mod event;
pub mod format;
pub mod freeze;
pub mod hash;
pub mod intake;
pub mod keys;
pub mod kind;
pub mod limits;
pub mod permission;
pub mod power;
pub mod precedents;
pub mod redaction;
pub mod resolution;
pub mod server_acl;
pub mod signature;
pub mod state;
pub mod version;
pub mod visibility;

pub use event::{Event, RawPdu, SignedPdu, UnixMs, WellFormedPdu};
pub use version::Version;
