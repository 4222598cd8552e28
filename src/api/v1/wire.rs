//! What answers look like on the wire.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rules::{kind::RoomKind, permission::Membership};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    actions::{
        ActionError, Mute, NotificationMode, Page, Silence,
        members::MemberView,
        presence::ActiveMember,
        rooms::{self, RoomDetails},
        seam::At,
        timeline::EventView,
    },
    api::{idempotency::InMemoryOnly, time},
};

/// A successful answer.
#[derive(Serialize)]
pub(super) struct Data<T> {
    data: T,
}

impl<T> Data<T> {
    pub(super) fn json(data: T) -> Json<Self> {
        Json(Self { data })
    }
}

/// An answer without a result.
#[derive(Serialize)]
pub(super) struct Nothing {}

/// One page of a list.
#[derive(Serialize)]
pub(super) struct List<T> {
    data: Vec<T>,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    total: usize,
}

impl<T> List<T> {
    pub(super) fn json(page: Page<impl Into<T>>) -> Json<Self> {
        let Page { entries, total } = page.map(Into::into);
        Json(Self { data: entries, meta: Meta { total } })
    }
}

/// A room, as the caller sees it.
#[derive(Serialize)]
pub(super) struct Room {
    id: OwnedRoomId,
    room_alias: Option<String>,
    room_type: &'static str,
    scope_kind: Option<&'static str>,
    name: Option<String>,
    topic: Option<String>,
    avatar_url: Option<String>,
    is_public: bool,
    workspace_id: Option<OwnedRoomId>,
    state: &'static str,
    creator_id: Option<OwnedUserId>,
    members_count: u64,
    max_members: Option<u64>,
    allow_invites: bool,
    members_only: bool,
    has_password: bool,
    custom: Option<String>,
    encrypted: bool,
    successor_id: Option<OwnedRoomId>,
    created_at: String,
    modified_at: String,
    room_version: Option<String>,
    transient: bool,
    made_through: &'static str,
    federation: Federation,
    me: Me,
}

#[derive(Serialize)]
pub(super) struct Federation {
    pub(super) mode: &'static str,
    pub(super) permanent: bool,
}

#[derive(Serialize)]
struct Me {
    membership: Option<&'static str>,
    power_level: i64,
    is_creator: bool,
    notification_mode: &'static str,
    muted_until: Option<String>,
    read_event_id: Option<OwnedEventId>,
    unread_count: u64,
    notify_count: u64,
    pinned: bool,
    join_job_id: Option<String>,
}

impl From<RoomDetails> for Room {
    fn from(room: RoomDetails) -> Self {
        let summary = &room.view.summary;
        let is_incognito = summary.kind == RoomKind::Incognito;
        let me = Me {
            membership: (room.membership != Membership::None).then(|| room.membership.as_str()),
            power_level: room.power_level,
            is_creator: room.is_creator,
            notification_mode: mode_word(room.personal.notification_mode),
            muted_until: room.personal.mute.map(|mute| match mute {
                Mute::Forever => time::NEVER.to_owned(),
                Mute::Until(until) => time::text(until),
            }),
            read_event_id: room.personal.read_event_id,
            unread_count: room.personal.unread,
            notify_count: room.personal.notify,
            pinned: room.personal.pinned,
            join_job_id: room.join_job_id,
        };
        Self {
            id: room.room_id,
            room_alias: summary.alias.clone(),
            room_type: summary.kind.as_str(),
            scope_kind: is_incognito.then_some("incognito"),
            name: summary.name.clone(),
            topic: summary.topic.clone(),
            avatar_url: summary.avatar_url.clone(),
            is_public: room.is_public,
            workspace_id: summary.workspace_id.clone(),
            state: summary.state.as_str(),
            creator_id: room.is_known.then(|| summary.creator.clone()),
            members_count: summary.joined,
            max_members: room.members_max,
            allow_invites: room.allow_invites,
            members_only: room.members_only,
            has_password: room.has_password,
            custom: summary.custom.clone(),
            encrypted: summary.encrypted,
            successor_id: summary.successor_id.clone(),
            created_at: time::text(summary.created_at),
            modified_at: time::text(summary.modified_at),
            room_version: room.is_known.then(|| summary.version.clone()),
            transient: room.view.settings.is_transient,
            made_through: room.view.settings.made_through.as_str(),
            federation: room.federation.into(),
            me,
        }
    }
}

impl From<rooms::Federation> for Federation {
    fn from(federation: rooms::Federation) -> Self {
        let (mode, permanent) = match federation {
            rooms::Federation::Open => ("open", false),
            rooms::Federation::Listed => ("allow_list", false),
            rooms::Federation::Off => ("off", false),
            rooms::Federation::Never => ("off", true),
        };
        Self { mode, permanent }
    }
}

fn mode_word(mode: NotificationMode) -> &'static str {
    match mode {
        NotificationMode::All => "all",
        NotificationMode::Mentions => "mentions",
        NotificationMode::None => "none",
        NotificationMode::Inherit => "inherit",
    }
}

/// A room as an answer; what concerns an incognito room says so to those who keep answers.
pub(super) struct RoomAnswer(pub(super) RoomDetails, pub(super) StatusCode);

impl RoomAnswer {
    /// A room that was there already.
    pub(super) fn found(room: RoomDetails) -> Self {
        Self(room, StatusCode::OK)
    }
}

impl IntoResponse for RoomAnswer {
    fn into_response(self) -> Response {
        let is_incognito = self.0.view.summary.kind == RoomKind::Incognito;
        let mut response = (self.1, Data::json(Room::from(self.0))).into_response();
        if is_incognito {
            response.extensions_mut().insert(InMemoryOnly);
        }
        response
    }
}

/// The answer to somebody who enters a room: the room, or the job that enters it.
pub(super) enum JoinAnswer {
    Room(RoomAnswer),
    Underway(Underway),
}

/// A room that is being entered, and the job that does it.
#[derive(Serialize)]
pub(super) struct Underway {
    job_id: String,
    room_id: OwnedRoomId,
}

impl JoinAnswer {
    pub(super) fn of(entered: Result<RoomDetails, ActionError>) -> Result<Self, ActionError> {
        match entered {
            Err(ActionError::Underway { job_id, room_id }) => Ok(Self::Underway(Underway { job_id, room_id })),
            entered => entered.map(RoomAnswer::found).map(Self::Room),
        }
    }
}

impl IntoResponse for JoinAnswer {
    fn into_response(self) -> Response {
        match self {
            Self::Room(room) => room.into_response(),
            Self::Underway(underway) => (StatusCode::ACCEPTED, Data::json(underway)).into_response(),
        }
    }
}

/// A member who is active now.
#[derive(Serialize)]
pub(super) struct Active {
    participant_id: OwnedUserId,
    display_name: Option<String>,
    joined_at: String,
}

impl From<ActiveMember> for Active {
    fn from(member: ActiveMember) -> Self {
        Self {
            participant_id: member.user_id,
            display_name: member.display_name,
            joined_at: time::text(member.joined_at),
        }
    }
}

/// A member of a room.
#[derive(Serialize)]
pub(super) struct Member {
    participant_id: OwnedUserId,
    display_name: Option<String>,
    membership: &'static str,
    power_level: i64,
    is_creator: bool,
    joined_at: Option<String>,
    silenced_until: Option<String>,
    server: String,
}

impl From<MemberView> for Member {
    fn from(view: MemberView) -> Self {
        Self {
            display_name: view.member.display_name,
            membership: view.member.membership.as_str(),
            power_level: view.power_level,
            is_creator: view.is_creator,
            joined_at: view.member.joined_at.map(time::text),
            silenced_until: view.silence.map(|silence| match silence {
                Silence::Forever => time::NEVER.to_owned(),
                Silence::Until(until) => time::text(until),
            }),
            server: view.user_id.server_name().to_string(),
            participant_id: view.user_id,
        }
    }
}

/// An event.
#[derive(Serialize)]
pub(super) struct Event {
    event_id: OwnedEventId,
    room_id: OwnedRoomId,
    #[serde(rename = "type")]
    event_type: String,
    sender: OwnedUserId,
    content: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<String>,
    created_at: String,
    position: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacted_by: Option<OwnedUserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<String>,
}

impl From<EventView> for Event {
    fn from(view: EventView) -> Self {
        let event = &view.event;
        Self {
            event_id: event.event_id().clone(),
            room_id: event.room_id().clone(),
            event_type: event.type_str().to_owned(),
            sender: event.sender().clone(),
            content: event.content().to_owned(),
            state_key: event.state_key().map(str::to_owned),
            created_at: time::text(event.origin_server_ts()),
            position: view.place.to_token(),
            redacted: view.redacted_by.is_some().then_some(true),
            redacted_by: view.redacted_by,
            transaction_id: view.transaction_id,
        }
    }
}

impl Event {
    /// The event at a place of a timeline that may go on into a former room.
    pub(super) fn at(at: At, view: EventView) -> Self {
        Self { position: at.to_token(), ..Self::from(view) }
    }
}

/// The event as it goes over federation.
pub(super) fn pdu(view: &EventView) -> Result<Box<RawValue>, ActionError> {
    RawValue::from_string(view.event.json().to_owned()).map_err(ActionError::internal)
}

/// The id of an event that a call stored.
#[derive(Serialize)]
pub(super) struct Stored {
    pub(super) event_id: OwnedEventId,
}
