//! The real router behind real sockets, asked by servers that really sign; behind it a server that records what it is asked.
//!
//! Rows of section 9 of the check list (`S2S-CHECKLIST.md`) and hard cases of its section 21 are named where they are tested.

mod door;
mod edges;
mod fake;
mod handshakes;
mod history;
mod lookups;
mod transactions;
mod world;
