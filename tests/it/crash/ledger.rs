//! What the writers asked for, and what they were told: kept outside the server that is being killed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use rand::{RngExt as _, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::process::{Peer, segment};

/// Something that a writer wants.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// A message with a body that no other has.
    Message { room: String, body: String },
    /// A room with a name that no other has.
    Room { name: String },
    /// To be in the hall, or not.
    Hall { inside: bool },
    /// The direct message with another writer.
    Direct { partner: String },
}

/// A wish with who had it and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) writer: usize,
    pub(super) wish: Wish,
    /// The id that the server answered with: of the event, or of the room. `None`: no answer came.
    pub(super) answer: Option<String>,
}

/// What an answer means for who asked.
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// It is not done, and may be asked for again.
    Later,
}

/// All entries, in the order in which they were asked for.
pub(super) struct Ledger {
    writers: Vec<String>,
    shared: Vec<String>,
    entries: Mutex<Vec<Entry>>,
}

impl Ledger {
    pub(super) fn new(writers: Vec<String>, shared: Vec<String>) -> Self {
        Self { writers, shared, entries: Mutex::default() }
    }

    /// The next wish of a writer, with its number.
    pub(super) fn wish(&self, writer: usize, random: &mut StdRng) -> (usize, Wish) {
        let mut entries = self.lock();
        let number = entries.len();
        let wish = match random.random_range(0..100) {
            0..4 => Wish::Room { name: format!("room {number}") },
            4..10 => Wish::Hall { inside: random.random() },
            10..16 => {
                let step = random.random_range(1..self.writers.len());
                Wish::Direct { partner: self.writers[(writer + step) % self.writers.len()].clone() }
            }
            _ => {
                let own = entries.iter().filter(|entry| entry.writer == writer).filter_map(Entry::room_made);
                let rooms: Vec<String> = own.chain(&self.shared).cloned().collect();
                let room = rooms[random.random_range(0..rooms.len())].clone();
                Wish::Message { room, body: format!("message {number}") }
            }
        };
        entries.push(Entry { writer, wish: wish.clone(), answer: None });
        (number, wish)
    }

    /// Writes an answer down.
    pub(super) fn note(&self, number: usize, status: u16, body: &Value) -> Outcome {
        let mut entries = self.lock();
        let entry = &mut entries[number];
        let answer = match (status, &entry.wish) {
            (201, Wish::Message { .. }) => &body["data"]["event_id"],
            (201, Wish::Room { .. }) | (200 | 201, Wish::Direct { .. }) => &body["data"]["id"],
            (200, Wish::Hall { .. }) => &Value::Null,
            (503, _) => return Outcome::Later,
            _ => panic!("{entry:?} was answered with {status}: {body}"),
        };
        let answer = answer.as_str().unwrap_or_default().to_owned();
        if let Some(first) = &entry.answer {
            assert_eq!(&answer, first, "{entry:?} was answered twice, and differently");
        }
        entry.answer = Some(answer);
        Outcome::Done
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// How many have an answer, and how many have none.
    pub(super) fn counts(&self) -> (usize, usize) {
        let entries = self.lock();
        let answered = entries.iter().filter(|entry| entry.answer.is_some()).count();
        (answered, entries.len() - answered)
    }

    /// The messages of each room: body to event id.
    pub(super) fn messages(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut rooms: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for entry in self.entries() {
            if let (Wish::Message { room, body }, Some(event_id)) = (entry.wish, entry.answer) {
                rooms.entry(room).or_default().insert(body, event_id);
            }
        }
        rooms
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap()
    }
}

impl Entry {
    /// The room that this wish has made.
    fn room_made(&self) -> Option<&String> {
        match self.wish {
            Wish::Room { .. } => self.answer.as_ref(),
            _ => None,
        }
    }
}

impl Wish {
    /// Asks for it; asked again, it is the same request.
    pub(super) async fn ask(&self, peer: &Peer, hall: &str) -> reqwest::Result<(u16, Value)> {
        match self {
            Self::Message { room, body } => {
                let path = format!("/v1/rooms/{}/messages", segment(room));
                peer.post(&path, &json!({ "body": body, "txn_id": body })).await
            }
            Self::Room { name } => {
                let body = json!({ "room_type": "group", "name": name });
                peer.call(Method::POST, "/v1/rooms", Some(&body), Some(name)).await
            }
            Self::Hall { inside } => {
                let action = if *inside { "join" } else { "leave" };
                peer.post(&format!("/v1/rooms/{}/{action}", segment(hall)), &json!({})).await
            }
            Self::Direct { partner } => peer.post("/v1/rooms/dm", &json!({ "participant_id": partner })).await,
        }
    }
}
