//! The APIs of others beside the native one: the same work through both, in turns, and how much longer the other one takes.

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    Scale,
    client::{Connection, Measured, drive, request, same},
    machine::ms,
    program::Program,
    town::Town,
};

/// Turns that each of the two has. What disturbs the machine for a while disturbs both.
const TURNS: u32 = 6;

/// The same work, natively and otherwise.
struct Pair {
    work: &'static str,
    native: Vec<u8>,
    other: Vec<u8>,
}

pub(crate) fn run(client: &Runtime, program: &Program, town: &Town, scale: &Scale) {
    eprintln!("dialects …");
    println!("### Dialects\n");
    println!("One connection, in turns. A ratio above 1: the dialect takes longer.\n");
    println!("| work | native p50 | dialect p50 | ratio of p50 | ratio of server CPU |");
    println!("|---|---|---|---|---|");
    for pair in client.block_on(pairs(program, town)) {
        let (mut native, mut other) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            for (request, measured) in [(&pair.native, &mut native), (&pair.other, &mut other)] {
                let source = vec![same(request.clone())];
                measured.push(drive(client, Some(program), program.address, source, Some(scale.measured / TURNS)));
            }
        }
        let (native_p50, other_p50) = (middle(&native), middle(&other));
        let ratio = other_p50.as_secs_f64() / native_p50.as_secs_f64();
        let cpu = cpu(&other) / cpu(&native);
        println!("| {} | {} | {} | {ratio:.2} x | {cpu:.2} x |", pair.work, ms(native_p50), ms(other_p50));
    }
    println!();
}

/// The median of the medians.
fn middle(turns: &[Measured]) -> std::time::Duration {
    let mut all: Vec<_> = turns.iter().map(|turn| turn.p50).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

/// Processor time of the server for each answer, in milliseconds.
fn cpu(turns: &[Measured]) -> f64 {
    let (time, count) =
        turns.iter().fold((0.0, 0), |(time, count), turn| (time + turn.server_cpu.as_secs_f64(), count + turn.count));
    1e3 * time / f64::from(u32::try_from(count.max(1)).expect("fewer answers"))
}

async fn pairs(program: &Program, town: &Town) -> Vec<Pair> {
    let (token, room) = (town.token(), &town.empty);
    let mut connection = Connection::open(program.address).await;
    let number = connection.call(&request("GET", &format!("/v1/rooms/{room}/number"), "localhost", token, "")).await;
    let number = number["data"]["number"].as_u64().expect("a number");
    let native = |method: &str, path: &str, body: &str| request(method, path, "localhost", token, body);
    let named = |method: &str, path: &str, body: &str| {
        let text = String::from_utf8(native(method, path, body)).expect("ASCII");
        text.replacen("\r\n", "\r\nX-Username: person0\r\n", 1).into_bytes()
    };
    let group = r#"{"room_type": "group", "name": "Made by the dozen", "members": ["person1"]}"#;
    let made: Value = connection.call(&native("POST", "/v1/rooms", group)).await;
    let group_id = made["data"]["id"].as_str().expect("an id").to_owned();
    let issued: Value = connection.call(&native("POST", "/v1/admin/app-tokens", r#"{"name": "Bench"}"#)).await;
    let app = issued["data"]["access_token"].as_str().expect("a token").to_owned();
    let as_app = |method: &str, path: &str, body: &str| request(method, path, "localhost", &app, body);
    let public = r#"{"room_type": "public", "name": "Made by the dozen", "topic": "Felt", "members": ["person1"]}"#;
    let chatroom =
        r#"{"name": "Made by the dozen", "description": "Felt", "owner": "person0", "members": ["person1"]}"#;
    vec![
        Pair {
            work: "send a message (virola)",
            native: native("POST", &format!("/v1/rooms/{room}/messages"), r#"{"body": "Tea is ready"}"#),
            other: native("POST", &format!("/api/v1/rooms/{number}/text-messages"), r#"{"content": "Tea is ready"}"#),
        },
        Pair {
            work: "send a message (mirage)",
            native: native("POST", &format!("/v1/rooms/{room}/messages"), r#"{"body": "Tea is ready"}"#),
            other: native(
                "POST",
                "/mirage/api/send_room_message",
                &format!(r#"{{"room_id": {number}, "message": "Tea is ready"}}"#),
            ),
        },
        Pair {
            work: "look at a room (ryos)",
            native: native("GET", &format!("/v1/rooms/{group_id}"), ""),
            other: named("GET", &format!("/api/rooms/{group_id}"), ""),
        },
        Pair {
            work: "make a room of two (ryos)",
            native: native("POST", "/v1/rooms", group),
            other: named("POST", "/api/rooms", r#"{"type": "private", "members": ["person1"]}"#),
        },
        Pair {
            work: "enter a room that one is in (ryos)",
            native: native("POST", &format!("/v1/rooms/{room}/join"), ""),
            other: named("POST", &format!("/api/rooms/{room}/join"), r#"{"username": "person0"}"#),
        },
        Pair {
            work: "look at a room (agora)",
            native: native("GET", &format!("/v1/rooms/{room}"), ""),
            other: as_app("GET", &format!("/yurt/main/chatrooms/{number}"), ""),
        },
        Pair {
            work: "make a room of two (agora)",
            native: native("POST", "/v1/rooms", public),
            other: as_app("POST", "/yurt/main/chatrooms", chatroom),
        },
    ]
}
