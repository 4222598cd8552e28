//! The tests of the crate from outside: vectors, pitfalls of the library underneath, scenes, and properties.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first failure, in its helpers too"
)]

mod against_ruma;
mod drafts;
mod hard_cases;
mod intake;
mod pitfalls;
mod policy_servers;
mod resolution;
mod rooms;
mod scenes;
mod vectors;
mod world;
