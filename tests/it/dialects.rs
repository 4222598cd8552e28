//! The APIs beside the native one: each test is a row of the contract of one, and carries its id.
#![cfg(test)]

mod mounts;
mod native;
mod ryos;
mod through;
