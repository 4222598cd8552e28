//! Yurt, a self-hosted, federated room server. Modules in reading order; each says what it may import.

pub mod clock;
pub mod random;
pub mod storage;
#[cfg(wip)]
pub mod actions;
pub mod config;
pub mod telemetry;
