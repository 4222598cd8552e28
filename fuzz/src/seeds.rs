//! What the fuzzer starts from beside the seeds that are kept in `fuzz/seeds`: the rows that a server has after a few calls, and
//! a request to every route.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{World, routes};

/// Rows of one keyspace that are taken.
const ROWS_MAX: usize = 4;

/// Ids for the parameters of paths, by name; others get a word.
const PARAMETERS: [(&str, &str); 6] = [
    ("{room_id}", "ROOM"),
    ("{event_id}", "EVENT"),
    ("{workspace_id}", "WORKSPACE"),
    ("{participant_id}", "bob"),
    ("{type}", "org.example.note"),
    ("{server}", "localhost"),
];

const QUERIES: [&str; 4] = ["", "limit=2&offset=1", "limit=2&from=8000000000000003&direction=forward", "q=a&room_type=group"];

const BODIES: [&str; 19] = [
    "",
    "{}",
    r#"{"body":"hello, @bob","msgtype":"m.text","reply_to":"EVENT","txn_id":"2"}"#,
    r#"{"type":"m.room.message","content":{"body":"x","m.mentions":{"user_ids":["@bob:localhost"]}}}"#,
    r#"{"room_type":"group","name":"Tents","topic":"Felt","alias":"tents","is_public":true,"invite":["bob"],"max_members":3}"#,
    r#"{"room_type":"incognito","room_version":"12","federate":false}"#,
    r#"{"participant_id":"bob","reason":"because"}"#,
    r#"{"name":"Coffee"}"#,
    r#"{"topic":""}"#,
    r#"{"workspace_id":"WORKSPACE"}"#,
    r#"{"mode":"mentions"}"#,
    r#"{"muted_until":"2027-01-01T00:00:00.000Z"}"#,
    r#"{"duration_ms":-1}"#,
    r#"{"event_id":"EVENT"}"#,
    r#"{"power_level":50}"#,
    r#"{"users":{"@bob:localhost":50},"events":{"m.room.name":0},"ban":10}"#,
    r#"{"role":"editor"}"#,
    r#"{"reason":"Wrong room","txn_id":"3"}"#,
    r#"{"max_members":5,"allow_invites":false,"custom":"x"}"#,
];

/// Writes them into a folder for each target.
pub fn write_all(corpus: &Path) {
    let mut taken: BTreeMap<u8, usize> = BTreeMap::new();
    for (key, value) in World::new().rows() {
        let keyspace = key[0];
        let number = taken.entry(keyspace).or_default();
        *number += 1;
        if *number <= ROWS_MAX {
            let length = u16::try_from(key.len()).expect("keys are short").to_be_bytes();
            let target = if keyspace == 0 { "feed" } else { "rows" };
            write(&corpus.join(target), &format!("{keyspace}-{number}"), &[&length, key.as_slice(), &value].concat());
        }
    }
    for (number, (method, template)) in routes().into_iter().enumerate() {
        let parameters: String = template
            .split('/')
            .filter(|part| part.starts_with('{'))
            .map(|part| PARAMETERS.iter().find(|(name, _)| *name == part).map_or("x", |(_, id)| id))
            .map(|id| format!("{id}\n"))
            .collect();
        let (queries, bodies) = if method == "GET" { (&QUERIES[..], &BODIES[..1]) } else { (&QUERIES[..1], &BODIES[..]) };
        for (which, (query, body)) in
            queries.iter().flat_map(|query| bodies.iter().map(move |body| (query, body))).enumerate()
        {
            let route = u8::try_from(number).expect("a byte is enough for all routes");
            let request = [&[route, 0], format!("{parameters}{query}\n{body}").as_bytes()].concat();
            write(&corpus.join("requests"), &format!("{number}-{which}"), &request);
        }
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join(format!("seed-{name}")), bytes).expect("a seed");
}
