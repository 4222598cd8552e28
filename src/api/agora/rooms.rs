//! Making, listing, reading, changing and removing rooms, and their announcements.

use axum::Json as Answer;
use serde::{Deserialize, Serialize};

use super::{
    app::{App, Named},
    error::AgoraError,
    fields::{Fields, PageOf, needed, person, username},
    wire::{self, Details, Joined, Listed, Said},
};
use crate::{
    actions::{
        ActionError,
        agora_rooms::{self, Changes, Wish, people},
        numbers,
    },
    api::body::Parameters,
};

/// Rooms of one answer where no number is asked for.
const ROOMS_MAX: usize = 1_000;
/// Rooms that can be asked for, by number or by id.
const ROOMS_ASKED_MAX: usize = 100;

/// A room that was made.
#[derive(Serialize)]
pub(super) struct Made {
    id: String,
}

/// `POST /{org_name}/{app_name}/chatrooms`
pub(super) async fn create(App { actions, app }: App, body: Fields) -> Result<Answer<Said<Made>>, AgoraError> {
    let wish = Wish {
        name: needed("name", body.text("name")?)?,
        description: needed("description", body.text("description")?)?,
        max_users: body.count("maxusers")?,
        owner: needed("owner", body.person(&actions, "owner", username)?)?,
        members: body.people(&actions, "members", username)?.unwrap_or_default(),
        members_only: body.flag("membersonly")?.unwrap_or(false),
        allow_invites: body.flag("allowinvites")?.unwrap_or(false),
        custom: body.text("custom")?,
    };
    let room_id = agora_rooms::create(&actions, &app, wish).await?;
    Ok(Said::one(Made { id: numbers::of_room(&actions, &room_id).await?.to_string() }))
}

#[derive(Deserialize)]
pub(super) struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// `GET /{org_name}/{app_name}/chatrooms`
pub(super) async fn list(
    App { actions, .. }: App,
    Parameters(asked): Parameters<Listing>,
) -> Result<Answer<Said<Vec<Listed>>>, AgoraError> {
    let limit = asked.limit.unwrap_or(ROOMS_MAX);
    if asked.limit.is_some_and(|limit| !(1..=ROOMS_ASKED_MAX).contains(&limit)) {
        return Err(ActionError::invalid("limit", format!("must be from 1 to {ROOMS_ASKED_MAX}")).into());
    }
    let cursor = asked.cursor.as_deref().filter(|cursor| !cursor.is_empty());
    let (rooms, next) = agora_rooms::list(&actions, cursor, limit).await?;
    let mut listed = Vec::with_capacity(rooms.len());
    for room in &rooms {
        listed.push(Listed::of(&actions, room).await?);
    }
    Ok(Said::page(listed, next))
}

/// `GET /{org_name}/{app_name}/users/{username}/joined_chatrooms`
pub(super) async fn joined(
    App { actions, .. }: App,
    named: Named,
    Parameters(page): Parameters<PageOf>,
) -> Result<Answer<Said<Vec<Joined>>>, AgoraError> {
    let person = username(&actions, "username", &named.username)?;
    let mut listed = Vec::new();
    for room in &agora_rooms::joined(&actions, &person, page.window()?).await?.entries {
        listed.push(Joined::of(&actions, room).await?);
    }
    Ok(Said::list(listed))
}

/// The numbers that a path names, each once.
fn several(ids: &str) -> Result<Vec<&str>, ActionError> {
    let mut numbers: Vec<&str> = Vec::new();
    for number in ids.split(',').map(str::trim) {
        if !numbers.contains(&number) {
            numbers.push(number);
        }
        if numbers.len() > ROOMS_ASKED_MAX {
            return Err(ActionError::invalid("chatroom_id", format!("names more than {ROOMS_ASKED_MAX} rooms")));
        }
    }
    Ok(numbers)
}

/// `GET /{org_name}/{app_name}/chatrooms/{chatroom_id}`
pub(super) async fn details(App { actions, .. }: App, named: Named) -> Result<Answer<Said<Vec<Details>>>, AgoraError> {
    let mut rooms = Vec::new();
    for number in several(&named.chatroom_id)? {
        match agora_rooms::find(&actions, number).await {
            Err(ActionError::RoomNotFound) => {}
            room => rooms.push(Details::of(&actions, &room?).await?),
        }
    }
    if rooms.is_empty() {
        return Err(ActionError::RoomNotFound.into());
    }
    Ok(Said::list(rooms))
}

/// What was changed.
#[derive(Default, Serialize)]
pub(super) struct Changed {
    #[serde(skip_serializing_if = "Option::is_none")]
    groupname: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maxusers: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newowner: Option<bool>,
}

/// `PUT /{org_name}/{app_name}/chatrooms/{chatroom_id}`
pub(super) async fn change(
    App { actions, app }: App,
    named: Named,
    body: Fields,
) -> Result<Answer<Said<Changed>>, AgoraError> {
    const NEW_OWNER: &str = "newowner";
    if body.has(NEW_OWNER) {
        body.only(&[NEW_OWNER])?;
        let owner = needed(NEW_OWNER, body.person(&actions, NEW_OWNER, person)?)?;
        let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
        people::hand_over(&actions, &app, &room, &owner).await?;
        return Ok(Said::one(Changed { newowner: Some(true), ..Changed::default() }));
    }
    body.only(&["name", "description", "maxusers"])?;
    let changes = Changes {
        name: body.text("name")?,
        description: body.text("description")?,
        max_users: body.count("maxusers")?,
    };
    let changed = Changed {
        groupname: changes.name.as_ref().map(|_| true),
        description: changes.description.as_ref().map(|_| true),
        maxusers: changes.max_users.map(|_| true),
        newowner: None,
    };
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    agora_rooms::change(&actions, &app, &room, changes).await?;
    Ok(Said::one(changed))
}

/// A room that was removed.
#[derive(Serialize)]
pub(super) struct Removed {
    success: bool,
    id: String,
}

/// `DELETE /{org_name}/{app_name}/chatrooms/{chatroom_id}`
pub(super) async fn remove(App { actions, app }: App, named: Named) -> Result<Answer<Said<Removed>>, AgoraError> {
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let id = wire::id(&actions, &room).await?;
    agora_rooms::remove(&actions, &app, &room).await?;
    Ok(Said::one(Removed { success: true, id }))
}

/// An announcement; of several rooms with the number of each.
#[derive(Serialize)]
pub(super) struct Announcement {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    announcement: String,
}

/// The announcements that were asked for.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Announcements {
    One(Announcement),
    Several(Vec<Announcement>),
}

/// `GET /{org_name}/{app_name}/chatrooms/{chatroom_id}/announcement`
pub(super) async fn announcement(
    App { actions, .. }: App,
    named: Named,
) -> Result<Answer<Said<Announcements>>, AgoraError> {
    let numbers = several(&named.chatroom_id)?;
    if let [number] = numbers.as_slice() {
        let announcement = agora_rooms::announcement(&agora_rooms::find(&actions, number).await?).await?;
        return Ok(Said::one(Announcements::One(Announcement { id: None, announcement })));
    }
    let mut found = Vec::new();
    for number in numbers {
        let room = match agora_rooms::find(&actions, number).await {
            Err(ActionError::RoomNotFound) => continue,
            room => room?,
        };
        let announcement = agora_rooms::announcement(&room).await?;
        found.push(Announcement { id: Some(number.to_owned()), announcement });
    }
    if found.is_empty() {
        return Err(ActionError::RoomNotFound.into());
    }
    Ok(Said::one(Announcements::Several(found)))
}

/// An announcement that was put up.
#[derive(Serialize)]
pub(super) struct Announced {
    id: String,
    result: bool,
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/announcement`
pub(super) async fn announce(
    App { actions, app }: App,
    named: Named,
    body: Fields,
) -> Result<Answer<Said<Announced>>, AgoraError> {
    let text = needed("announcement", body.text("announcement")?)?;
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let id = wire::id(&actions, &room).await?;
    agora_rooms::announce(&actions, &app, &room, &text).await?;
    Ok(Said::one(Announced { id, result: true }))
}
