//! The APIs beside the native one: each test is a row of the contract of one, and carries its id.
#![cfg(test)]

mod agora;
mod agora_elsewhere;
mod agora_owner;
mod agora_people;
mod agora_rooms;
mod mirage;
mod mounts;
mod native;
mod ryos;
mod through;
mod together;
mod virola;
