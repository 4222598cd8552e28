//! What this dialect writes: rooms by their numbers as texts, people by bare names, times as milliseconds.

use axum::Json as Answer;
use ruma::UserId;
use serde::Serialize;

use crate::actions::{
    ActionError, Actions,
    agora_rooms::{AppRoom, people},
    numbers,
};

/// Members from which on a room is called large.
const LARGE_FROM: u64 = 1_001;

/// What an answer says beside its envelope.
#[derive(Serialize)]
pub(super) struct Said<T> {
    data: T,
    entities: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

impl<T> Said<T> {
    /// One thing.
    pub(super) fn one(data: T) -> Answer<Self> {
        Answer(Self { data, entities: [], count: None, cursor: None })
    }
}

impl<T> Said<Vec<T>> {
    /// A list, with how many it holds.
    pub(super) fn list(data: Vec<T>) -> Answer<Self> {
        Self::page(data, None)
    }

    /// A part of a list, and from where it goes on.
    pub(super) fn page(data: Vec<T>, cursor: Option<String>) -> Answer<Self> {
        let count = Some(data.len());
        Answer(Self { data, entities: [], count, cursor })
    }
}

/// The name of a person: bare if they are of this server, else the full id.
pub(super) fn username(actions: &Actions, user_id: &UserId) -> String {
    people::name(actions, user_id).to_owned()
}

/// The number of a room, as a text.
pub(super) async fn id(actions: &Actions, room: &AppRoom) -> Result<String, ActionError> {
    Ok(numbers::of_room(actions, &room.room.id).await?.to_string())
}

fn name(room: &AppRoom) -> String {
    room.view.summary.name.clone().unwrap_or_default()
}

/// A room of the list of all.
#[derive(Serialize)]
pub(super) struct Listed {
    id: String,
    name: String,
    owner: String,
    affiliations_count: u64,
}

impl Listed {
    pub(super) async fn of(actions: &Actions, room: &AppRoom) -> Result<Self, ActionError> {
        Ok(Self {
            id: id(actions, room).await?,
            name: name(room),
            owner: username(actions, room.owner()),
            affiliations_count: room.view.summary.joined,
        })
    }
}

/// A room of somebody's list.
#[derive(Serialize)]
pub(super) struct Joined {
    id: String,
    name: String,
}

impl Joined {
    pub(super) async fn of(actions: &Actions, room: &AppRoom) -> Result<Self, ActionError> {
        Ok(Self { id: id(actions, room).await?, name: name(room) })
    }
}

/// Who somebody is to a room.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Affiliation {
    Member(String),
    Owner(String),
}

impl Affiliation {
    pub(super) fn of(actions: &Actions, room: &AppRoom, user_id: &UserId) -> Self {
        let name = username(actions, user_id);
        if user_id == room.owner() { Self::Owner(name) } else { Self::Member(name) }
    }
}

/// A room in full.
#[derive(Serialize)]
pub(super) struct Details {
    id: String,
    name: String,
    description: String,
    membersonly: bool,
    allowinvites: bool,
    invite_need_confirm: bool,
    maxusers: u64,
    owner: String,
    created: u64,
    custom: String,
    mute: bool,
    scale: &'static str,
    affiliations_count: u64,
    affiliations: Vec<Affiliation>,
    public: bool,
}

impl Details {
    /// A room with its members, the owner last.
    pub(super) async fn of(actions: &Actions, room: &AppRoom) -> Result<Self, ActionError> {
        let (summary, owner, maxusers) = (&room.view.summary, room.owner(), room.members_max(actions));
        let members = room.members(actions).await?;
        let (last, others): (Vec<_>, Vec<_>) = members.iter().partition(|user_id| *user_id == owner);
        let affiliations = others.into_iter().chain(last).map(|user_id| Affiliation::of(actions, room, user_id));
        Ok(Self {
            id: id(actions, room).await?,
            name: name(room),
            description: summary.topic.clone().unwrap_or_default(),
            membersonly: room.is_members_only(),
            allowinvites: room.view.allows_invites(),
            invite_need_confirm: true,
            maxusers,
            owner: username(actions, owner),
            created: summary.created_at.0,
            custom: summary.custom.clone().unwrap_or_default(),
            mute: room.is_muted(),
            scale: if maxusers < LARGE_FROM { "normal" } else { "large" },
            affiliations_count: summary.joined,
            affiliations: affiliations.collect(),
            public: true,
        })
    }
}
