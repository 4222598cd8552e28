//! Integration tests.

mod bundle;
mod cli;
mod client;
mod config;
mod crash;
mod dialects;
mod edge;
mod engine;
mod faults;
mod federation;
mod interop;
mod process;
mod schema;
mod tidy;
mod tour;
mod v1;
