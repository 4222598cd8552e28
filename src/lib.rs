//! Yurt, a self-hosted, federated room server. Modules in reading order; each says what it may import.

pub mod actions;
pub mod api;
pub mod bundle;
pub mod clock;
pub mod config;
pub mod control;
pub mod data_folder;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod jobs;
pub mod live;
pub mod random;
pub mod server;
pub mod storage;
pub mod telemetry;
pub mod tenants;
