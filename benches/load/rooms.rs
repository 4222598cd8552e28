//! Rooms: making them, joining them whatever their size, reading their timelines, members and lists.

use tokio::runtime::Runtime;

use crate::{
    Scale,
    client::{Measured, drive, each, request, same},
    machine::{Machine, ms},
    program::Program,
    sends::send,
    town::Town,
};

/// Connections of the calls that are measured here beside a single one.
const CONNECTIONS: usize = 16;

pub(crate) fn run(client: &Runtime, program: &Program, town: &Town, machine: &Machine, scale: &Scale) {
    println!("### Rooms\n");
    println!("| call | connections | per second | p50 | p99 | server CPU per call | what limits now |");
    println!("|---|---|---|---|---|---|---|");
    let print = |call: &str, connections: usize, measured: &Measured| {
        let (rate, cpu, limit) = (measured.per_second(), measured.cpu_ms(), machine.limit_of(measured, connections));
        let (p50, p99) = (ms(measured.p50), ms(measured.p99));
        println!("| {call} | {connections} | {rate:.0} | {p50} | {p99} | {cpu:.3} ms | {limit} |");
    };
    for connections in [1, CONNECTIONS] {
        eprintln!("new rooms …");
        let body = r#"{"room_type": "group", "name": "Made by the dozen"}"#;
        // Another account for each connection: rooms of one person go into one workspace, one after the other.
        let create = |number: usize| same(request("POST", "/v1/rooms", "localhost", &town.tokens[number], body));
        let sources = (0..connections).map(create).collect();
        let measured = drive(client, Some(program), program.address, sources, Some(scale.measured));
        print("create a room (about 13 events)", connections, &measured);
    }
    for (room_id, members) in town.crowded.iter().zip(scale.members) {
        eprintln!("joins into a room of {members} …");
        let join = |token: &String| request("POST", &format!("/v1/rooms/{room_id}/join"), "localhost", token, "");
        let requests: Vec<_> = town.tokens.iter().skip(1).map(join).collect();
        let (alone, together) = requests.split_at(requests.len() / 4);
        for (requests, connections) in [(alone, 1), (together, CONNECTIONS)] {
            let sources = each(requests.to_vec(), connections);
            let measured = drive(client, Some(program), program.address, sources, None);
            print(&format!("join a room of {members}"), connections, &measured);
        }
    }
    let get = |call: &str, path: &str| {
        eprintln!("{call} …");
        for connections in [1, CONNECTIONS] {
            let sources = (0..connections).map(|_| same(request("GET", path, "localhost", town.token(), ""))).collect();
            let measured = drive(client, Some(program), program.address, sources, Some(scale.measured / 2));
            print(call, connections, &measured);
        }
    };
    send(client, program, town.token(), &town.rooms[..1], 64, scale.measured / 5);
    get("read 50 newest events", &format!("/v1/rooms/{}/messages", town.rooms[0]));
    let (crowded, members) = (&town.crowded[2], scale.members[2]);
    get(&format!("first page of {members} members"), &format!("/v1/rooms/{crowded}/members"));
    let deep = format!("/v1/rooms/{crowded}/members?offset={}", members - 100);
    get(&format!("last page of {members} members"), &deep);
    get("first page of the directory", "/v1/directory/rooms");
    get("search in the directory", "/v1/directory/rooms?q=room%2063");
    get("own rooms", "/v1/rooms?limit=20");
    println!();
}
