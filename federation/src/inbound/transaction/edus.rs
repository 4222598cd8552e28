//! Short-lived news: who types, who has read what. Whatever is wrong with a piece of news, that piece is ignored.
//!
//! A server speaks for its own users only. Types that are not known here are ignored.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#edus>

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, ServerName, UInt, UserId,
};

use crate::{
    inbound::json::{Json, Object},
    limits::TRANSACTION_RECEIPTS_MAX,
    local::Local,
};

/// A piece of news about a user of its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edu {
    Typing { room_id: OwnedRoomId, user_id: OwnedUserId, is_typing: bool },
    Receipt { room_id: OwnedRoomId, user_id: OwnedUserId, read: Read },
}

/// How far somebody has read: in the room, or in the thread that hangs from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    event_id: OwnedEventId,
    thread: Option<OwnedEventId>,
    at: MilliSecondsSinceUnixEpoch,
}

/// The news of a transaction that can be used.
pub(super) fn read(edus: &[Json], origin: &ServerName) -> Vec<Edu> {
    let mut read = Vec::new();
    let mut receipts_left = TRANSACTION_RECEIPTS_MAX;
    for edu in edus.iter().filter_map(Json::as_object) {
        let Some(content) = edu.object("content") else { continue };
        match edu.text("edu_type") {
            Some("m.typing") => read.extend(typing(content, origin)),
            Some("m.receipt") => {
                let before = read.len();
                read.extend(receipts(content, origin).take(receipts_left));
                receipts_left -= read.len() - before;
            }
            _ => {}
        }
    }
    read
}

fn typing(content: &Object, origin: &ServerName) -> Option<Edu> {
    let room_id = RoomId::parse(content.text("room_id")?).ok()?;
    let user_id = user_of(content.text("user_id")?, origin)?;
    Some(Edu::Typing { room_id, user_id, is_typing: content.get("typing")?.as_bool()? })
}

/// Receipts of rooms and of threads. Private ones never travel between servers.
fn receipts<'a>(content: &'a Object, origin: &'a ServerName) -> impl Iterator<Item = Edu> + 'a {
    let rooms = content
        .iter()
        .filter_map(|(room_id, of_room)| Some((RoomId::parse(room_id).ok()?, of_room.as_object()?.object("m.read")?)));
    rooms.flat_map(move |(room_id, of_users)| {
        of_users.iter().filter_map(move |(user_id, receipt)| {
            let read = receipt_of(receipt.as_object()?)?;
            Some(Edu::Receipt { room_id: room_id.clone(), user_id: user_of(user_id, origin)?, read })
        })
    })
}

fn receipt_of(receipt: &Object) -> Option<Read> {
    let data = receipt.object("data")?;
    let thread = match data.get("thread_id").map(Json::as_text) {
        // What is said outside of threads is said of the room.
        None | Some(Some("main")) => None,
        Some(thread_id) => Some(EventId::parse(thread_id?).ok()?),
    };
    let at = UInt::try_from(data.get("ts")?.as_integer()?).ok()?;
    let event_id = EventId::parse(receipt.list("event_ids")?.first()?.as_text()?).ok()?;
    Some(Read { event_id, thread, at: MilliSecondsSinceUnixEpoch(at) })
}

fn user_of(user_id: &str, origin: &ServerName) -> Option<OwnedUserId> {
    UserId::parse(user_id).ok().filter(|user_id| user_id.server_name() == origin)
}

/// Hands the news on, in their order.
pub(super) async fn tell<L: Local>(local: &L, origin: &ServerName, edus: Vec<Edu>) {
    for edu in edus {
        match edu {
            Edu::Typing { room_id, user_id, is_typing } => local.typing(origin, &room_id, &user_id, is_typing).await,
            Edu::Receipt { room_id, user_id, read: Read { event_id, thread, at } } => {
                local.read_receipt(origin, &room_id, &user_id, &event_id, thread.as_deref(), at).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::server_name;
    use serde_json::{Value, json};

    use super::*;
    use crate::inbound::json::parse;

    fn edus(value: &Value) -> Vec<Edu> {
        let object = parse(json!({ "edus": value }).to_string().as_bytes()).unwrap();
        read(object.list("edus").unwrap(), server_name!("a.example"))
    }

    fn typing_of(user: &str) -> Value {
        json!({ "edu_type": "m.typing", "content": { "room_id": "!r:a.example", "user_id": user, "typing": true } })
    }

    fn receipt(user: &str, rest: Value) -> Value {
        json!({ "edu_type": "m.receipt", "content": { "!r:a.example": { "m.read": { user: rest } } } })
    }

    /// Hard case 15. S2S 10 the envelope.
    #[test]
    fn a_server_speaks_for_its_own_users_only() {
        let good = json!({ "event_ids": ["$e"], "data": { "ts": 5 } });
        let news = json!([typing_of("@u:a.example"), receipt("@u:a.example", good.clone())]);
        assert_eq!(edus(&news).len(), 2);
        let news = json!([
            typing_of("@u:b.example"),
            typing_of("@u:A.example"),
            typing_of("@u:a.example:8448"),
            typing_of("u"),
            receipt("@u:b.example", good),
        ]);
        assert_eq!(edus(&news), []);
    }

    /// S2S 10 m.receipt.
    #[test]
    fn a_bad_receipt_drops_itself_only() {
        let bad = [
            json!(null),
            json!({}),
            json!({ "event_ids": [], "data": { "ts": 5 } }),
            json!({ "event_ids": "$e", "data": { "ts": 5 } }),
            json!({ "event_ids": [5], "data": { "ts": 5 } }),
            json!({ "event_ids": ["e"], "data": { "ts": 5 } }),
            json!({ "event_ids": ["$e"], "data": {} }),
            json!({ "event_ids": ["$e"], "data": { "ts": -5 } }),
            json!({ "event_ids": ["$e"], "data": { "ts": 5.5 } }),
            json!({ "event_ids": ["$e"], "data": { "ts": 5, "thread_id": "t" } }),
            json!({ "event_ids": ["$e"], "data": { "ts": 5, "thread_id": 5 } }),
        ];
        for bad in bad {
            let users = json!({ "@bad:a.example": bad, "@good:a.example": {
                "event_ids": ["$e"], "data": { "ts": 5, "thread_id": "main" } } });
            let news = json!([{ "edu_type": "m.receipt", "content": {
                "!r:a.example": { "m.read": users, "m.read.private": users }, "bad": { "m.read": users }, "!q": 5 } }]);
            let read = edus(&news);
            assert!(matches!(read.as_slice(), [Edu::Receipt { user_id, .. }] if user_id == "@good:a.example"), "{bad}");
        }
    }

    /// S2S 10 the envelope.
    #[test]
    fn a_receipt_of_a_thread_names_the_event_it_hangs_from() {
        for (thread_id, thread) in [(json!("$t"), Some("$t")), (json!("main"), None)] {
            let news = json!([receipt(
                "@u:a.example",
                json!({ "event_ids": ["$e"], "data": { "ts": 5, "thread_id": thread_id } })
            )]);
            let read = edus(&news);
            let [Edu::Receipt { read, .. }] = read.as_slice() else { panic!("{read:?}") };
            assert_eq!(read.thread.as_ref().map(|thread| thread.as_str()), thread);
        }
    }

    /// S2S 10 the envelope.
    #[test]
    fn unknown_and_misshapen_news_are_ignored() {
        let news = json!([5, null, [], {}, { "edu_type": "m.typing" }, { "edu_type": 5, "content": {} },
            { "edu_type": "m.presence", "content": { "push": [] } }, { "edu_type": "x", "content": { "a": 1.5 } },
            { "edu_type": "m.typing", "content": { "room_id": "!r", "user_id": "@u:a.example", "typing": 1 } }]);
        assert_eq!(edus(&news), []);
    }

    /// S2S 10 m.receipt.
    #[test]
    fn receipts_are_bounded() {
        let users: serde_json::Map<String, Value> = (0..TRANSACTION_RECEIPTS_MAX)
            .map(|number| (format!("@{number}:a.example"), json!({ "event_ids": ["$e"], "data": { "ts": 5 } })))
            .collect();
        let news = json!({ "edu_type": "m.receipt", "content": { "!r:a.example": { "m.read": users } } });
        assert_eq!(edus(&json!([news, news])).len(), TRANSACTION_RECEIPTS_MAX);
    }

    proptest! {
        #[test]
        fn no_news_panic(edu_type in "m\\.(typing|receipt)", room: String, user: String, event: String, ts: i64) {
            let receipt = json!({ "edu_type": edu_type, "content": { &room: { "m.read": { &user: {
                "event_ids": [event], "data": { "ts": ts } } } }, "room_id": room, "user_id": user, "typing": true } });
            let _ = edus(&json!([receipt]));
        }
    }
}
