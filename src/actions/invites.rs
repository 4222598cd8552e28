//! Rooms that nobody of this server is in, and to which somebody here is invited, or knocks at them. What is shown of them is what another server said with the
//! invite; nobody has checked it, so it decides nothing.

use std::sync::Arc;

use federation::Pdu;
use rules::{event::Event, event::RawPdu, kind::RoomKind, permission::Membership, version::Version};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    ActionError, Actions, NotificationMode,
    incoming::judging::{self, First, Purpose},
    personal::PersonalView,
    remote_join::promised,
    rooms::{Federation, RoomDetails},
    rows, summary,
    summary::Basis,
    view::RoomView,
};
use crate::storage::{
    Arrival, ChangeKind, Commit, Home, KeyRange, Place, StateRoot,
    history::Tip,
    keyspaces::{IN_ROOMS, INVITES},
    members::{InRoom, Invited, Shown},
};

/// Invites that one person has at the same time. More: the next one is refused.
const INVITES_MAX: usize = 500;
/// Those of them that one server brought.
const INVITES_OF_ONE_MAX: usize = 100;
/// Events that are looked at of what another server shows.
const SHOWN_LOOKED_AT_MAX: usize = 100;
/// Bytes of what is kept of them, in all.
const SHOWN_BYTES_MAX: usize = 24 * 1024;
/// What is kept of them.
const SHOWN_TYPES: [&str; 7] = [
    "m.room.create",
    "m.room.join_rules",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.encryption",
];

/// What another server shows of a room: the pieces that make sense, one of each type. Whatever else is in the list is passed over.
pub(super) fn shown(room_state: &[Box<RawValue>]) -> Vec<Shown> {
    #[derive(Deserialize)]
    struct Piece {
        #[serde(rename = "type")]
        event_type: String,
        state_key: String,
        sender: OwnedUserId,
        content: serde_json::Map<String, Value>,
    }
    let (mut shown, mut left): (Vec<Shown>, usize) = (Vec::new(), SHOWN_BYTES_MAX);
    for piece in room_state.iter().take(SHOWN_LOOKED_AT_MAX) {
        let Ok(piece) = serde_json::from_str::<Piece>(piece.get()) else { continue };
        let is_wanted = piece.state_key.is_empty() && SHOWN_TYPES.contains(&piece.event_type.as_str());
        if !is_wanted || shown.iter().any(|other| other.event_type == piece.event_type) {
            continue;
        }
        let content = Value::Object(piece.content).to_string();
        if let Some(rest) = left.checked_sub(content.len()) {
            left = rest;
            shown.push(Shown { event_type: piece.event_type, sender: piece.sender, content });
        }
    }
    shown
}

/// The invite or knock of a person, if nobody of this server is in the room.
///
/// # Errors
/// When storage cannot be read.
pub async fn find(actions: &Actions, user_id: &UserId, room_id: &RoomId) -> Result<Option<Invited>, ActionError> {
    let invited = actions.store.get(&INVITES, &Home::person(user_id), &room_id.to_owned()).await?;
    let Some(invited) = invited else { return Ok(None) };
    let is_here = actions.room(room_id).view().await?.is_some_and(|view| view.summary.local_joined() > 0);
    Ok((!is_here).then_some(invited))
}

/// Whether the person may get one more invite from this server.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn has_place_for(
    actions: &Actions,
    user_id: &UserId,
    room_id: &RoomId,
    origin: &ServerName,
) -> Result<bool, ActionError> {
    let all = rows::all(&actions.store, &INVITES, &Home::person(user_id), KeyRange::all()).await?;
    let of_origin = all.iter().filter(|(_, invited)| invited.origin == origin).count();
    let is_known = all.iter().any(|(known, _)| known == room_id);
    Ok(is_known || (all.len() < INVITES_MAX && of_origin < INVITES_OF_ONE_MAX))
}

/// Keeps an invite or a knock; it is on disk when this returns.
///
/// # Errors
/// When storage cannot be written.
pub(super) async fn keep(
    actions: &Actions,
    user_id: &UserId,
    room_id: &RoomId,
    invited: &Invited,
) -> Result<(), ActionError> {
    let (home, room_id) = (Home::person(user_id), room_id.to_owned());
    let _gate = actions.gates.enter("invites", user_id.as_str()).await?;
    let former = actions.store.get(&IN_ROOMS, &home, &room_id).await?;
    let row = InRoom {
        membership: invited.membership,
        arrival: former.as_ref().map_or(Arrival::FIRST, |former| former.arrival),
        is_workspace: preview(&room_id, invited)?.summary.kind == RoomKind::Workspace,
        was_joined: former.is_some_and(|former| former.was_joined),
    };
    let mut commit = Commit::new(home);
    commit.put(&INVITES, &room_id, invited).put(&IN_ROOMS, &room_id, &row);
    commit.change_about(ChangeKind::Rooms, Home::room(&room_id), 0);
    actions.store.commit(commit).await?;
    Ok(())
}

/// The person is invited no longer, or has declined.
///
/// # Errors
/// When storage cannot be written.
pub(super) async fn forget(actions: &Actions, user_id: &UserId, room_id: &RoomId) -> Result<(), ActionError> {
    let (home, room_id) = (Home::person(user_id), room_id.to_owned());
    let _gate = actions.gates.enter("invites", user_id.as_str()).await?;
    if actions.store.get(&INVITES, &home, &room_id).await?.is_none() {
        return Ok(());
    }
    let former = actions.store.get(&IN_ROOMS, &home, &room_id).await?;
    let mut commit = Commit::new(home);
    commit.delete(&INVITES, &room_id);
    if let Some(former) = former {
        commit.put(&IN_ROOMS, &room_id, &InRoom { membership: Membership::Leave, ..former });
    }
    commit.change_about(ChangeKind::Rooms, Home::room(&room_id), 0);
    actions.store.commit(commit).await?;
    Ok(())
}

/// The room as the person is shown it; none: it is here, or the person is not invited.
///
/// # Errors
/// When storage cannot be read.
pub async fn details(
    actions: &Actions,
    user_id: &UserId,
    room_id: &RoomId,
) -> Result<Option<RoomDetails>, ActionError> {
    let Some(invited) = find(actions, user_id, room_id).await? else { return Ok(None) };
    described(actions, user_id, room_id, &invited).map(Some)
}

/// What an invite answers, with the job that enters the room.
pub(super) fn described(
    actions: &Actions,
    user_id: &UserId,
    room_id: &RoomId,
    invited: &Invited,
) -> Result<RoomDetails, ActionError> {
    let join_job_id = promised::job_of(actions, user_id, room_id);
    Ok(RoomDetails { join_job_id, ..describe(room_id, invited)? })
}

/// What an invite answers.
pub(super) fn describe(room_id: &RoomId, invited: &Invited) -> Result<RoomDetails, ActionError> {
    let view = preview(room_id, invited)?;
    let default =
        if view.summary.kind == RoomKind::Direct { NotificationMode::All } else { NotificationMode::Mentions };
    Ok(RoomDetails {
        room_id: room_id.to_owned(),
        membership: invited.membership,
        power_level: 0,
        is_creator: false,
        personal: PersonalView {
            notification_mode: default,
            mute: None,
            read_event_id: None,
            unread: 0,
            notify: 0,
            pinned: false,
        },
        members_max: None,
        is_public: view.summary.join_rule == "public",
        allow_invites: false,
        members_only: matches!(view.summary.join_rule.as_str(), "knock" | "knock_restricted"),
        has_password: false,
        federation: Federation::Open,
        join_job_id: None,
        is_known: true,
        view: Arc::new(view),
    })
}

/// A picture of the room, made of what was shown of it.
fn preview(room_id: &RoomId, invited: &Invited) -> Result<RoomView, ActionError> {
    let version =
        Version::parse(&invited.version).ok_or_else(|| ActionError::internal("an invite without a version"))?;
    let event = |piece: &Shown| {
        let content: Value = serde_json::from_str(&piece.content).unwrap_or(Value::Null);
        let content = if content.is_object() { content } else { json!({}) };
        let text = json!({
            "type": piece.event_type, "state_key": "", "sender": piece.sender, "content": content, "depth": 0,
            "origin_server_ts": invited.received_at, "prev_events": [], "auth_events": [],
        });
        Event::from_stored(invited.event_id.clone(), room_id.to_owned(), &version, text.to_string(), false)
            .map_err(ActionError::internal)
    };
    let unknown =
        Shown { event_type: "m.room.create".to_owned(), sender: invited.sender.clone(), content: "{}".to_owned() };
    let create = invited.room_state.iter().find(|piece| piece.event_type == "m.room.create").unwrap_or(&unknown);
    let create = Arc::new(event(create)?);
    let basis = Basis::new(version, Arc::clone(&create));
    let mut summary = summary::of_create(&version, &create);
    if invited.is_direct && RoomKind::read(&create, true, None) == RoomKind::Direct {
        summary.kind = RoomKind::Direct;
    }
    for piece in invited.room_state.iter().filter(|piece| piece.event_type != "m.room.create") {
        summary::apply(&mut summary, &basis, (&piece.event_type, ""), Some(&event(piece)?), None);
    }
    Ok(RoomView {
        tip: Tip {
            heads: Vec::new(),
            state: StateRoot::EMPTY,
            next_arrival: Arrival::FIRST,
            next_place: Place::FIRST,
            messages: 0,
            state_keys: 0,
            state_rows: 1,
            last_activity: invited.received_at,
        },
        summary: Arc::new(summary),
        basis: Arc::new(basis),
        settings: Arc::default(),
    })
}

/// All rooms to which a person is invited, or at which they knock, and nobody of this server is in them.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn of(actions: &Actions, user_id: &UserId) -> Result<Vec<(OwnedRoomId, Invited)>, ActionError> {
    let mut invites = Vec::new();
    for (room_id, invited) in rows::all(&actions.store, &INVITES, &Home::person(user_id), KeyRange::all()).await? {
        if find(actions, user_id, &room_id).await?.is_some() {
            invites.push((room_id, invited));
        }
    }
    Ok(invites)
}

/// Events of a room that nobody of this server is in: among them may be one that takes an invite back. It counts if it is signed and of the server that brought
/// the invite, or of its sender's; more cannot be known.
pub(super) async fn withdrawn(actions: &Actions, origin: &ServerName, room_id: &RoomId, pdus: &[Pdu]) {
    for pdu in pdus {
        if let Err(error) = withdrawn_by(actions, origin, room_id, pdu).await {
            tracing::warn!(room.id = %room_id, peer = %origin, %error, "An invite was perhaps taken back: {error}");
        }
    }
}

async fn withdrawn_by(actions: &Actions, origin: &ServerName, room_id: &RoomId, pdu: &Pdu) -> Result<(), ActionError> {
    #[derive(Deserialize)]
    struct Member {
        #[serde(rename = "type")]
        event_type: String,
        state_key: OwnedUserId,
        sender: OwnedUserId,
        room_id: OwnedRoomId,
        content: serde_json::Map<String, Value>,
    }
    let Ok(member) = serde_json::from_str::<Member>(pdu.get()) else { return Ok(()) };
    let membership = member.content.get("membership").and_then(Value::as_str);
    let is_end = member.event_type == "m.room.member" && matches!(membership, Some("leave" | "ban"));
    if !is_end || member.room_id != room_id || !actions.is_local(&member.state_key) {
        return Ok(());
    }
    let Some(invited) = find(actions, &member.state_key, room_id).await? else { return Ok(()) };
    let is_of_theirs =
        member.sender.server_name() == origin && (*origin == *invited.origin || origin == invited.sender.server_name());
    let Some(version) = Version::parse(&invited.version).filter(|_| is_of_theirs) else { return Ok(()) };
    let checked = judging::check(actions, version, RawPdu(pdu.clone()), Purpose::Timeline).await;
    if matches!(checked, First::Checked(_)) {
        forget(actions, &member.state_key, room_id).await?;
    }
    Ok(())
}
