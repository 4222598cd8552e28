//! What holds of rooms as the API `/{org}/{app}/chatrooms` knows them: servers with app tokens see the rooms that were made with it and the public ones, nothing
//! else, and change them in the name of their owners.

use std::{cmp::Reverse, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use rules::{
    kind::RoomKind,
    permission::{Door, Membership, Reason},
    power::Level,
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{
    ActionError, Actions, Caller, MadeThrough, Page, Window, announcements,
    app_tokens::App,
    creation::{self, NewRoom},
    directory::{Position, Search, Start},
    lane::Room,
    members::{self, membership},
    numbers, personal, purge, settings,
    texts::at_most,
    view::RoomView,
    visitors::Sight,
};
use crate::storage::{
    Direction, Home, KeyRange, Limit,
    keyspaces::{AGORA_ROOMS, MEMBERS},
};

pub mod people;

/// Characters of the name of a room.
pub const NAME_CHARACTERS_MAX: usize = 128;
/// Characters of its description.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 512;
/// Members that are read at a time where an owner is looked for.
const MEMBERS_AT_A_TIME: usize = 1_000;

/// A room as servers with app tokens see it.
pub struct AppRoom {
    /// The room.
    pub room: Arc<Room>,
    /// As it stands.
    pub view: Arc<RoomView>,
    /// Who of this server is in it and does what a server with an app token asks for.
    acting: Option<OwnedUserId>,
}

impl AppRoom {
    /// The owner: in whose name things are done here, else who made the room.
    pub fn owner(&self) -> &UserId {
        self.acting.as_deref().unwrap_or(&self.view.summary.creator)
    }

    /// Its joined members by id, as many as are named with a room.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn members(&self, actions: &Actions) -> Result<Arc<Vec<OwnedUserId>>, ActionError> {
        let sight = Sight { room: Arc::clone(&self.room), view: Arc::clone(&self.view), member: None };
        sight.members(actions).await
    }

    /// Joined members at most.
    pub fn members_max(&self, actions: &Actions) -> u64 {
        self.view.members_max(actions.settings.max_participants)
    }

    /// Who is not invited has to be let in.
    pub fn is_members_only(&self) -> bool {
        self.view.door() != Door::Public
    }

    /// Only moderators may speak.
    pub fn is_muted(&self) -> bool {
        self.view.basis.levels.to_send("m.room.message", false) > self.view.basis.levels.users_default()
    }

    fn is_made_here(&self) -> bool {
        self.view.settings.made_through == MadeThrough::Agora
    }

    /// The server with an app token, in the name of the owner.
    fn caller(&self, app: &App, action: &'static str) -> Result<Caller, ActionError> {
        let nobody = "nobody of this server is in the room in whose name this could be done";
        let acting = self.acting.as_ref().ok_or_else(|| forbidden(nobody))?;
        Ok(app.as_person(acting, action))
    }

    async fn membership(&self, user_id: &UserId) -> Result<Membership, ActionError> {
        let member = self.room.store.get(&MEMBERS, &self.room.home, &user_id.to_owned()).await?;
        Ok(membership(member.as_ref()))
    }
}

fn forbidden(message: impl Into<String>) -> ActionError {
    ActionError::RoomForbidden { reason: Reason::Membership, message: message.into() }
}

/// The room with this number.
///
/// # Errors
/// [`ActionError::RoomNotFound`] alike for unknown and hidden rooms, and for what is no number.
pub async fn find(actions: &Actions, number: &str) -> Result<AppRoom, ActionError> {
    let digits = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok()).ok_or(ActionError::RoomNotFound)?;
    let room_id = numbers::room(actions, number).await?.ok_or(ActionError::RoomNotFound)?;
    of(actions, &room_id).await?.ok_or(ActionError::RoomNotFound)
}

/// The room; none: there is none, or not for servers with app tokens.
async fn of(actions: &Actions, room_id: &RoomId) -> Result<Option<AppRoom>, ActionError> {
    if actions.is_purging(room_id) {
        return Ok(None);
    }
    let room = actions.room(room_id);
    let Some(view) = room.view().await? else { return Ok(None) };
    let is_made_here = view.settings.made_through == MadeThrough::Agora && !view.tip.heads.is_empty();
    if !is_made_here && !view.is_visible_to(None) {
        return Ok(None);
    }
    let acting = acting(actions, &room, &view).await?;
    Ok(Some(AppRoom { room, view, acting }))
}

/// Who of this server acts for a room: of those who are in it the one of the highest level; of several the creator, else the one whose id comes first.
async fn acting(actions: &Actions, room: &Room, view: &RoomView) -> Result<Option<OwnedUserId>, ActionError> {
    let (levels, creator) = (&view.basis.levels, &view.summary.creator);
    let usual = Level::Number(levels.users_default());
    let named = levels.users().map(|(user_id, _)| user_id).chain(levels.creators()).chain([creator]);
    let ranked = named.map(|user_id| (Reverse(levels.of(user_id)), user_id != creator, user_id));
    let mut above: Vec<_> = ranked.filter(|(Reverse(level), ..)| *level > usual).collect();
    above.sort_unstable();
    // Like the creator nobody is at the level of all.
    let at_the_level_of_all = Some(creator).filter(|creator| levels.of(creator) == usual);
    for user_id in above.into_iter().map(|(.., user_id)| user_id).chain(at_the_level_of_all) {
        if actions.is_local(user_id) {
            let member = room.store.get(&MEMBERS, &room.home, user_id).await?;
            if membership(member.as_ref()) == Membership::Join {
                return Ok(Some(user_id.clone()));
            }
        }
    }
    let (mut best, mut rest) = (None, KeyRange::all());
    loop {
        let limit = Limit::rows(MEMBERS_AT_A_TIME);
        let page = room.store.scan(&MEMBERS, &room.home, rest.clone(), Direction::Up, limit).await?;
        let last = page.rows.last().map(|(last, _)| last.clone());
        let ours = |user_id: &OwnedUserId| actions.is_local(user_id);
        let joined = page.rows.into_iter().filter(|(id, member)| member.membership == Membership::Join && ours(id));
        best = joined.map(|(id, _)| (Reverse(view.level(&id)), id)).chain(best).min();
        // Whoever is above the level of all others was looked for by name.
        let is_found = best.as_ref().is_some_and(|(Reverse(level), _)| *level >= usual);
        match last {
            Some(last) if page.more && !is_found => rest = rest.after(&last),
            _ => return Ok(best.map(|(_, user_id)| user_id)),
        }
    }
}

/// A page of the rooms: those that were made with this API, then the other public ones by name; and from where to go on, if there are more.
///
/// # Errors
/// A cursor that is none of ours.
pub async fn list(
    actions: &Actions,
    cursor: Option<&str>,
    limit: usize,
) -> Result<(Vec<AppRoom>, Option<String>), ActionError> {
    let (mut found, mut passed) = (Vec::new(), cursor.map(str::to_owned));
    let wrong = || ActionError::invalid("cursor", "is none that this server gave");
    let start = cursor.map_or(Some(Place::Own(None)), read).ok_or_else(wrong)?;
    let mut listed = match start {
        Place::Listed(start) => start,
        Place::Own(after) => {
            let mut rest = after.map_or_else(KeyRange::all, |after| KeyRange::all().after(&after));
            loop {
                let page = actions
                    .store()
                    .scan(&AGORA_ROOMS, &Home::server(), rest.clone(), Direction::Up, Limit::rows(limit))
                    .await?;
                for (room_id, ()) in &page.rows {
                    if found.len() == limit {
                        return Ok((found, passed));
                    }
                    found.extend(of(actions, room_id).await?);
                    passed = write_own(room_id);
                }
                match page.rows.last() {
                    Some((last, ())) if page.more => rest = rest.after(last),
                    _ => break Start::Beginning,
                }
            }
        }
    };
    loop {
        let (rooms, _) = actions.directory.walk(actions, &Search::default(), &listed, limit + 1).await?;
        let is_end = rooms.len() <= limit;
        for position in rooms {
            if found.len() == limit {
                return Ok((found, passed));
            }
            found.extend(of(actions, &position.1).await?.filter(|room| !room.is_made_here()));
            passed = write_listed(&position);
            listed = Start::After(position);
        }
        if is_end {
            return Ok((found, None));
        }
    }
}

/// Where a list of rooms begins.
enum Place {
    /// Behind this one of those that were made with this API.
    Own(Option<OwnedRoomId>),
    /// Here in the directory.
    Listed(Start),
}

fn write_own(room_id: &RoomId) -> Option<String> {
    serde_json::to_string(&(room_id.as_str(),)).ok().map(|text| BASE64.encode(text))
}

fn write_listed((name, room_id): &Position) -> Option<String> {
    serde_json::to_string(&(room_id.as_str(), name)).ok().map(|text| BASE64.encode(text))
}

fn read(cursor: &str) -> Option<Place> {
    let parts: Vec<Box<str>> = serde_json::from_slice(&BASE64.decode(cursor).ok()?).ok()?;
    let room_id = RoomId::parse(parts.first()?.as_ref()).ok()?;
    match parts.as_slice() {
        [_] => Some(Place::Own(Some(room_id))),
        [_, name] => Some(Place::Listed(Start::After((name.clone(), room_id)))),
        _ => None,
    }
}

/// The rooms that a person of this server is in, as far as servers with app tokens see them.
///
/// # Errors
/// [`ActionError::ParticipantNotFound`].
pub async fn joined(actions: &Actions, user_id: &UserId, window: Window) -> Result<Page<AppRoom>, ActionError> {
    members::must_exist(actions, user_id).await?;
    let mut rooms = Vec::new();
    for (room_id, row) in personal::rooms_of(actions, user_id).await? {
        if row.membership == Membership::Join && !row.is_workspace {
            rooms.extend(of(actions, &room_id).await?);
        }
    }
    Ok(Page::of(rooms, window))
}

/// A room that a server with an app token wants.
pub struct Wish {
    /// Its name, at most [`NAME_CHARACTERS_MAX`] characters.
    pub name: String,
    /// Its description, at most [`DESCRIPTION_CHARACTERS_MAX`] characters.
    pub description: String,
    /// Members at most, the owner included; none: as the configuration says.
    pub max_users: Option<u64>,
    /// Who owns it.
    pub owner: OwnedUserId,
    /// Who else is in it at once.
    pub members: Vec<OwnedUserId>,
    /// Who wants to join has to be let in.
    pub members_only: bool,
    /// Every member may invite.
    pub allow_invites: bool,
    /// A text that clients keep with it.
    pub custom: Option<String>,
}

/// Makes a room in the name of its owner: a public one, or a group that takes knocks.
///
/// # Errors
/// Texts that are too long; people who do not exist, or are too many; limits of the tenant.
pub async fn create(actions: &Actions, app: &App, wish: Wish) -> Result<OwnedRoomId, ActionError> {
    let Wish { name, description, max_users, owner, mut members, members_only, allow_invites, custom } = wish;
    check_texts(Some(&name), Some(&description))?;
    members::must_exist(actions, &owner).await?;
    members.retain(|user_id| *user_id != owner);
    let new = NewRoom {
        kind: Some(if members_only { RoomKind::Group } else { RoomKind::Public }),
        name: Some(name),
        topic: Some(description),
        members,
        max_members: Some(max_users.unwrap_or(actions.settings.dialects.agora_users_max)),
        allow_invites: Some(allow_invites),
        members_only,
        custom,
        version: actions.settings.dialects.agora_room_version.map(str::to_owned),
        made_through: MadeThrough::Agora,
        ..NewRoom::default()
    };
    creation::create(actions, &app.as_person(&owner, "room.create"), new).await
}

fn check_texts(name: Option<&str>, description: Option<&str>) -> Result<(), ActionError> {
    at_most("name", name, NAME_CHARACTERS_MAX)?;
    at_most("description", description, DESCRIPTION_CHARACTERS_MAX)
}

/// What shall be otherwise; what is none stays as it is.
#[derive(Default)]
pub struct Changes {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Members at most, the owner included.
    pub max_users: Option<u64>,
}

/// Changes a room, all that was asked for or nothing.
///
/// # Errors
/// Texts that are too long, or hold what the configuration refuses; fewer members than there are; an owner who may not.
pub async fn change(actions: &Actions, app: &App, room: &AppRoom, changes: Changes) -> Result<(), ActionError> {
    let Changes { name, description, max_users } = changes;
    check_texts(name.as_deref(), description.as_deref())?;
    if !actions.settings.dialects.agora_spaces_in_changes {
        for (field, text) in [("name", &name), ("description", &description)] {
            if text.as_ref().is_some_and(|text| text.contains(['/', ' '])) {
                return Err(ActionError::invalid(field, "holds a slash or a space; write `+` instead"));
            }
        }
    }
    let caller = room.caller(app, "room.update")?;
    let max_members = max_users.map(Some);
    let changes = settings::Changes { name, topic: description, max_members, ..settings::Changes::default() };
    settings::change(actions, &caller, room.room.id.as_str(), changes).await.map(drop).map_err(in_their_words)
}

/// Names a field as this API does.
fn in_their_words(error: ActionError) -> ActionError {
    match error {
        ActionError::RequestInvalid { field, problem } => {
            let field = match field.as_str() {
                "max_members" => "maxusers".to_owned(),
                "topic" => "description".to_owned(),
                _ => field,
            };
            ActionError::RequestInvalid { field, problem }
        }
        other => other,
    }
}

/// Removes a room that was made with this API, for good.
///
/// # Errors
/// [`ActionError::RoomNotFound`]; a room that was made otherwise: its owner could not remove it either.
pub async fn remove(actions: &Actions, app: &App, room: &AppRoom) -> Result<(), ActionError> {
    if !room.is_made_here() {
        return Err(forbidden("only rooms that were made with this API are removed with it"));
    }
    let caller = app.as_person(room.owner(), "room.purge");
    purge::begin(actions, &caller, room.room.id.as_str()).await.map(drop)
}

/// The announcement of a room; empty: there is none.
///
/// # Errors
/// When storage cannot be read.
pub async fn announcement(room: &AppRoom) -> Result<String, ActionError> {
    Ok(announcements::of(&room.room, &room.view).await?.unwrap_or_default())
}

/// Puts up another announcement; an empty one takes it down.
///
/// # Errors
/// A text that is too long; an owner who may not.
pub async fn announce(actions: &Actions, app: &App, room: &AppRoom, text: &str) -> Result<(), ActionError> {
    let caller = room.caller(app, "room.announce")?;
    announcements::set(actions, &caller, room.room.id.as_str(), text).await.map(drop)
}
