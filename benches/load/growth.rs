//! A room that grows: the large room takes a million messages, and then costs what an empty one costs.

use std::{cell::Cell, rc::Rc, time::Duration};

use ruma::OwnedRoomId;
use tokio::runtime::Runtime;

use crate::{
    Scale,
    client::{Connection, Measured, Words, drive, messages, request, same},
    machine::{Machine, ms},
    program::Program,
    sends::send,
    town::{Town, messages_of},
};

/// Connections that fill the room.
const CONNECTIONS: usize = 64;
/// Pieces that the growth is cut into, to see whether it slows down.
const PIECES: usize = 10;
/// How long the server is left alone before its files are counted.
const QUIET: Duration = Duration::from_secs(5);
/// Rounds in which the full and the empty room take turns, so that both see the same machine.
const ROUNDS: u32 = 4;

/// What is looked at of a load.
type Value = fn(&Measured) -> f64;

/// Fills the large room; gives the server, which was started anew meanwhile.
pub(crate) fn run(client: &Runtime, program: Program, town: &Town, machine: &Machine, scale: &Scale) -> Program {
    let crowded = &town.crowded[2];
    let before = (program.held(), program.disk_bytes(), program.written_bytes());
    let pieces = fill(client, &program, town, crowded, scale.messages);
    std::thread::sleep(QUIET);
    let grown = program.held();
    let bytes = (program.disk_bytes() - before.1) as f64 / scale.messages as f64;
    let written = (program.written_bytes() - before.2) as f64 / scale.messages as f64;
    let folder = program.folder();
    program.stop();
    let program = Program::start(&folder);
    let anew = program.held();
    let (first, last) = (&pieces[0], &pieces[PIECES - 1]);
    println!("### A room of {} members takes {} messages\n", scale.members[2], scale.messages);
    println!("| | |\n|---|---|");
    println!("| sends/s, first tenth and last tenth | {:.0}, {:.0} |", first.per_second(), last.per_second());
    println!("| server CPU per send, first and last tenth | {:.3} ms, {:.3} ms |", first.cpu_ms(), last.cpu_ms());
    println!("| resident memory before and after | {:.0} MB, {:.0} MB |", before.0.resident_mb, grown.resident_mb);
    println!("| bytes on disk per message, and written for it | {bytes:.0}, {written:.0} |");
    println!("| start-up then, until it answers | {:.2} s |", program.ready_after.as_secs_f64());
    println!("| resident memory after that start | {:.0} MB |", anew.resident_mb);
    println!("| open files after that start | {} |\n", anew.files);
    compare(client, &program, town, crowded, scale);
    pages(client, &program, town, machine, scale);
    program
}

fn fill(client: &Runtime, program: &Program, town: &Town, room_id: &OwnedRoomId, count: usize) -> Vec<Measured> {
    let words = Words::new();
    let piece = |number: usize| {
        eprintln!("messages {} of {count} …", number * count / PIECES);
        let left = Rc::new(Cell::new(count / PIECES));
        let source = |_| messages(&words, &messages_of(room_id), town.token(), Some(Rc::clone(&left)));
        drive(client, Some(program), program.address, (0..CONNECTIONS).map(source).collect(), None)
    };
    (0..PIECES).map(piece).collect()
}

/// The full room and an empty one, in turns.
fn compare(client: &Runtime, program: &Program, town: &Town, full: &OwnedRoomId, scale: &Scale) {
    println!("| connections | | into the empty room | into the full room | ratio |\n|---|---|---|---|---|");
    for connections in [1, CONNECTIONS] {
        let (mut empty_runs, mut full_runs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for (room_id, runs) in [(&town.empty, &mut empty_runs), (full, &mut full_runs)] {
                let rooms = std::slice::from_ref(room_id);
                runs.push(send(client, program, town.token(), rooms, connections, scale.measured / ROUNDS));
            }
        }
        let p50: Value = |run| run.p50.as_secs_f64() * 1e3;
        let cpu: Value = Measured::cpu_ms;
        let rows = [("p50, ms", p50), ("server CPU per send, ms", cpu)];
        for (name, value) in rows {
            let mean = |runs: &[Measured]| runs.iter().map(value).sum::<f64>() / f64::from(ROUNDS);
            let (empty, full) = (mean(&empty_runs), mean(&full_runs));
            println!("| {connections} | {name} | {empty:.3} | {full:.3} | {:.2} |", full / empty);
        }
    }
    println!();
}

/// Pages of the full room, the newest and some far back.
fn pages(client: &Runtime, program: &Program, town: &Town, machine: &Machine, scale: &Scale) {
    println!(
        "| page of 50 events of the full room | connections | per second | p50 | p99 | server CPU per page | what limits now |"
    );
    println!("|---|---|---|---|---|---|---|");
    let path = messages_of(&town.crowded[2]);
    let oldest = client.block_on(async {
        let mut connection = Connection::open(program.address).await;
        let first = format!("{path}?direction=forward&limit=200");
        let page = connection.call(&request("GET", &first, "localhost", town.token(), "")).await;
        page["meta"]["next_cursor"].as_str().expect("a cursor").to_owned()
    });
    for (name, path) in [("newest", path.clone()), ("oldest", format!("{path}?direction=forward&from={oldest}"))] {
        for connections in [1, 16] {
            let get = request("GET", &path, "localhost", town.token(), "");
            let sources = (0..connections).map(|_| same(get.clone())).collect();
            let measured = drive(client, Some(program), program.address, sources, Some(scale.measured / 2));
            println!(
                "| {name} | {connections} | {:.0} | {} | {} | {:.3} ms | {} |",
                measured.per_second(),
                ms(measured.p50),
                ms(measured.p99),
                measured.cpu_ms(),
                machine.limit_of(&measured, connections),
            );
        }
    }
    println!();
}
