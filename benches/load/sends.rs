//! Durable messages: each is on disk when it is acknowledged.

use std::{rc::Rc, time::Duration};

use ruma::OwnedRoomId;
use tokio::runtime::Runtime;

use crate::{
    Scale,
    client::{Measured, Words, drive, messages},
    machine::{Machine, ms},
    program::Program,
    town::{Town, messages_of},
};

/// Connections that send at the same time.
pub(crate) const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];

pub(crate) fn run(client: &Runtime, program: &Program, town: &Town, machine: &Machine, scale: &Scale) {
    println!("### Durable messages of 256 bytes\n");
    println!(
        "| rooms | connections | sends/s | p50 | p99 | server CPU per send | of bare HTTP | of signatures | of synced writes | what limits now |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for rooms in [&town.rooms[..1], &town.rooms] {
        for connections in CONNECTIONS {
            eprintln!("sends of {connections} connections into {} rooms …", rooms.len());
            let measured = send(client, program, town.token(), rooms, connections, scale.measured);
            println!(
                "| {} | {connections} | {:.0} | {} | {} | {:.3} ms | {:.0} % | {:.0} % | {:.1} x | {} |",
                rooms.len(),
                measured.per_second(),
                ms(measured.p50),
                ms(measured.p99),
                measured.cpu_ms(),
                100.0 * measured.per_second() / machine.bare(connections),
                100.0 * measured.per_second() / machine.signatures,
                measured.per_second() / machine.syncs,
                machine.limit_of(&measured, connections),
            );
        }
    }
    println!();
}

/// Sends from so many connections, each into one of the rooms, for a while.
pub(crate) fn send(
    client: &Runtime,
    program: &Program,
    token: &str,
    rooms: &[OwnedRoomId],
    connections: usize,
    time: Duration,
) -> Measured {
    let words = Words::new();
    let into = |number: usize| messages(&Rc::clone(&words), &messages_of(&rooms[number % rooms.len()]), token, None);
    drive(client, Some(program), program.address, (0..connections).map(into).collect(), Some(time))
}
