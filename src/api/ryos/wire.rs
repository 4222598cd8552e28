//! What this dialect reads and writes: people as bare names, times as milliseconds.

use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde::Serialize;

use crate::{
    actions::{ActionError, Actions, Caller, presence, presence::ActiveMember, visitors::Sight},
    api::ryos::error::RyosError,
};

/// How long after they asked for anything somebody counts as active, in milliseconds: a day.
pub(super) const ACTIVE_MS: u64 = 24 * 60 * 60 * 1_000;

/// A list of rooms.
#[derive(Serialize)]
pub(super) struct Rooms {
    pub(super) rooms: Vec<Room>,
}

/// One room.
#[derive(Serialize)]
pub(super) struct OneRoom {
    pub(super) room: Room,
}

/// A room.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Room {
    id: OwnedRoomId,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<String>>,
    created_at: u64,
    user_count: u64,
}

impl Room {
    /// A room as a visitor sees it. Of a private one the members are counted, of a public one those who are active.
    pub(super) async fn of(actions: &Actions, sight: &Sight) -> Result<Self, ActionError> {
        let summary = &sight.view.summary;
        let (kind, members, user_count) = match sight.is_listed() {
            true => ("public", None, presence::count_within(actions, &sight.room, &sight.view, ACTIVE_MS).await?),
            false => {
                let mut members: Vec<_> =
                    sight.members(actions).await?.iter().map(|id| username(actions, id)).collect();
                members.sort();
                ("private", Some(members), summary.joined)
            }
        };
        let name = summary.name.clone().unwrap_or_else(|| private_name(members.as_deref().unwrap_or_default()));
        let id = sight.room.id.clone();
        Ok(Self { id, name, kind, members, created_at: summary.created_at.0, user_count })
    }
}

/// The active people of a room.
#[derive(Serialize)]
pub(super) struct Users {
    pub(super) users: Vec<User>,
}

/// An active member.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    username: String,
    joined_at: u64,
}

impl User {
    /// An active member.
    pub(super) fn of(actions: &Actions, member: &ActiveMember) -> Self {
        Self { username: username(actions, &member.user_id), joined_at: member.joined_at.0 }
    }
}

/// It was done.
#[derive(Serialize)]
pub(super) struct Success {
    pub(super) success: bool,
}

/// The name of a person: bare if they are of this server, else the full id.
pub(super) fn username(actions: &Actions, user_id: &UserId) -> String {
    match actions.is_local(user_id) {
        true => user_id.localpart().to_owned(),
        false => user_id.to_string(),
    }
}

/// The person of a name: bare, with an `@`, or a full id.
pub(super) fn person(actions: &Actions, field: &str, name: &str) -> Result<OwnedUserId, ActionError> {
    let is_full = name.starts_with('@') && name.contains(':');
    if is_full {
        return actions.parse_participant(field, name);
    }
    actions.parse_participant(field, &name.trim_start_matches('@').to_lowercase())
}

/// The name is the caller's.
pub(super) fn is_name_of(actions: &Actions, name: &str, caller: &Caller) -> bool {
    person(actions, "username", name).is_ok_and(|user_id| user_id == caller.user_id)
}

/// The caller speaks for nobody else.
pub(super) fn must_be(actions: &Actions, name: &str, caller: &Caller) -> Result<(), RyosError> {
    if is_name_of(actions, name, caller) {
        return Ok(());
    }
    let message = "Username does not match the authenticated user".to_owned();
    Err(ActionError::InsufficientPermission(message).into())
}

/// What a private room is called: its members, each with an `@`.
pub(super) fn private_name(members: &[String]) -> String {
    let with_at = |name: &String| if name.starts_with('@') { name.clone() } else { format!("@{name}") };
    members.iter().map(with_at).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_room_is_called_by_its_members() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(private_name(&names(&["alice", "bob"])), "@alice, @bob");
        assert_eq!(private_name(&names(&["@carol:far.example", "dan"])), "@carol:far.example, @dan");
    }
}
