//! The tests of the crate from outside: vectors, pitfalls of the library underneath, scenes, and properties.

mod against_ruma;
mod drafts;
mod intake;
mod pitfalls;
mod resolution;
mod rooms;
mod scenes;
mod vectors;
mod world;
