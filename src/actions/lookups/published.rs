//! The public rooms of this server, page by page, as other servers find them.
//!
//! The order is by name in lower case, then by id; a place in it is a room's name and id, so that rooms which come and go move no others.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use federation::{
    Refusal,
    local::{PublicRoom, PublicRooms, PublicSearch},
};
use rules::visibility::HistoryVisibility;
use ruma::{RoomId, ServerName};
use serde_json::Value;

use super::listed;
use crate::actions::{
    ActionError, Actions,
    directory::{Position, Search, Start},
    incoming::guests::{Met, failed},
    summary,
};

/// Rooms that one question looks at. Of more, the next page tells.
const LOOKED_AT_MAX: usize = 500;

/// A page of the rooms that everybody may find.
pub(super) async fn page(actions: &Actions, origin: &ServerName, search: PublicSearch) -> Result<PublicRooms, Refusal> {
    let from = match &search.since {
        None => Start::Beginning,
        Some(since) => read(since).ok_or(Refusal::Invalid("since"))?,
    };
    let wanted = Search { text: search.text.clone(), kind: None };
    let walked = actions.directory.walk(actions, &wanted, &from, LOOKED_AT_MAX).await;
    let (positions, _) = walked.map_err(failed)?;
    let is_cut = positions.len() == LOOKED_AT_MAX;
    // How many there are is told where all of them are looked at: the number of those that the peer may not know of is not its business either.
    let mut total = (from == Start::Beginning && !is_cut).then_some(0_u64);
    let mut found: Vec<(Position, PublicRoom)> = Vec::new();
    let (mut is_full, mut last) = (false, None);
    for position in positions {
        let Ok(met) = listed(actions, origin, &position.1).await else {
            if !is_full {
                last = Some(position);
            }
            continue;
        };
        if let Some(total) = &mut total {
            *total += 1;
        }
        if is_full {
            match total {
                Some(_) => continue,
                None => break,
            }
        }
        let room = describe(&met).await.map_err(failed)?;
        if search.room_types.as_ref().is_none_or(|types| types.contains(&room.room_type)) {
            if found.len() == search.rooms_max {
                is_full = true;
                continue;
            }
            found.push((position.clone(), room));
        }
        last = Some(position);
    }
    let is_back = matches!(from, Start::Before(_));
    let goes_on = last.filter(|_| is_full || is_cut);
    let began = found.first().filter(|_| from != Start::Beginning).map(|(first, _)| first.clone());
    if is_back {
        found.reverse();
    }
    let (next, previous) = if is_back { (began, goes_on) } else { (goes_on, began) };
    Ok(PublicRooms {
        rooms: found.into_iter().map(|(_, room)| room).collect(),
        next: next.as_ref().and_then(|position| write('f', position)),
        previous: previous.as_ref().and_then(|position| write('b', position)),
        total,
    })
}

/// What is told of a room to who is not in it.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn describe(met: &Met) -> Result<PublicRoom, ActionError> {
    let (summary, create) = (&met.view.summary, summary::content(&met.view.basis.create));
    let guests = met.rows().state_event(&met.version(), met.view.tip.state, "m.room.guest_access", "").await?;
    let guests = guests.map(|event| summary::content(&event)).unwrap_or_default();
    Ok(PublicRoom {
        room_id: met.room.id.clone(),
        name: summary.name.clone(),
        topic: summary.topic.clone(),
        canonical_alias: summary.alias.clone(),
        avatar_url: summary.avatar_url.clone(),
        joined: summary.joined,
        world_readable: summary.history_visibility == HistoryVisibility::WorldReadable,
        guest_can_join: guests.get("guest_access").and_then(Value::as_str) == Some("can_join"),
        join_rule: Some(summary.join_rule.clone()),
        room_type: create.get("type").and_then(Value::as_str).map(str::to_owned),
    })
}

/// A place in the list as peers keep it: the direction, then the position.
fn write(direction: char, (name, room_id): &Position) -> Option<String> {
    let text = serde_json::to_string(&(name, room_id)).ok()?;
    Some(format!("{direction}{}", URL_SAFE_NO_PAD.encode(text)))
}

fn read(since: &str) -> Option<Start> {
    let position = since.get(1..)?;
    let (name, room_id): (Box<str>, Box<str>) = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(position).ok()?).ok()?;
    let position = (name, RoomId::parse(&*room_id).ok()?);
    match since.get(..1)? {
        "f" => Some(Start::After(position)),
        "b" => Some(Start::Before(position)),
        _ => None,
    }
}
