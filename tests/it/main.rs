//! Integration tests.

mod cli;
mod client;
mod config;
mod crash;
mod engine;
mod faults;
mod process;
mod schema;
mod tidy;
mod tour;
mod v1;
