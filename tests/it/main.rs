//! Integration tests.

mod cli;
mod config;
mod crash;
mod process;
mod tidy;
