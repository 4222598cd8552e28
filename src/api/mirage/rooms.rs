//! Making, entering and listing rooms.

use axum::{
    Json as Answer,
    extract::{Path, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rules::permission::Membership;
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::MirageError;
use crate::{
    actions::{
        ActionError, Actions, MadeThrough, Window, mirage_rooms, numbers, rooms as room_actions,
        visitors::{self, Sight},
    },
    api::{body::Json, caller::Signed},
};

type Body = Result<Json<Map<String, Value>>, MirageError>;

/// What is said of a room that cannot be made as asked.
const INVALID: &str = "invalid fields received";

/// The room that somebody wants.
struct Wish {
    name: String,
    password: Option<String>,
}

impl Wish {
    fn read(fields: &Map<String, Value>) -> Result<Self, MirageError> {
        let invalid = || MirageError::invalid(INVALID);
        let name = match fields.get("room_name") {
            None | Some(Value::Null) => return Err(invalid()),
            Some(Value::String(name)) => name.trim(),
            Some(_) => return Err(MirageError::invalid("room_name must be a string")),
        };
        if name.is_empty() {
            return Err(invalid());
        }
        let is_private = match fields.get("is_private") {
            None | Some(Value::Null) => false,
            Some(number) => match number.as_u64() {
                Some(0) => false,
                Some(1) => true,
                _ => return Err(invalid()),
            },
        };
        let password = fields.get("password").and_then(Value::as_str).filter(|password| !password.trim().is_empty());
        let password = match is_private {
            true => Some(password.ok_or_else(invalid)?.to_owned()),
            false => None,
        };
        Ok(Self { name: name.to_owned(), password })
    }
}

/// A room that was made.
#[derive(Serialize)]
struct Created {
    message: String,
    room_id: u64,
}

/// `POST /api/create_room`
pub(super) async fn create(Signed { actions, caller, .. }: Signed, body: Body) -> Result<Response, MirageError> {
    let fields = body.map_err(|error| error.worded(INVALID))?.value;
    let Wish { name, password } = Wish::read(&fields)?;
    let made = mirage_rooms::create(&actions, &caller, &name, password).await?;
    let room_id = numbers::of_room(&actions, &made).await?;
    let created = Created { message: format!("room \"{name}\" created"), room_id };
    Ok((StatusCode::CREATED, Answer(created)).into_response())
}

/// A room that was entered.
#[derive(Serialize)]
pub(super) struct Joined {
    message: String,
    room_id: u64,
    room_name: String,
}

/// `POST /api/join_room`
pub(super) async fn join(Signed { actions, caller, .. }: Signed, body: Body) -> Result<Answer<Joined>, MirageError> {
    const MISSING: &str = "missing room name or token";
    let fields = body.map_err(|error| error.worded(MISSING))?.value;
    let name = fields.get("name").and_then(Value::as_str).map(str::trim).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| MirageError::invalid(MISSING))?;
    let password = fields.get("password").and_then(Value::as_str).filter(|password| !password.is_empty());
    let entered = mirage_rooms::join(&actions, &caller, name, password).await?;
    Ok(Answer(Joined {
        message: format!("{} joined room \"{name}\"", caller.user_id.localpart()),
        room_id: numbers::of_room(&actions, &entered).await?,
        room_name: name.to_owned(),
    }))
}

/// A list of rooms.
#[derive(Serialize)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
}

/// A room of a list.
#[derive(Serialize)]
struct Room {
    room_id: u64,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    joined: Option<bool>,
}

/// `GET /api/rooms`
pub(super) async fn list(Signed { actions, caller, .. }: Signed) -> Result<Answer<Rooms>, MirageError> {
    let mut rooms = Vec::new();
    for sight in visitors::list(&actions, Some(&caller)).await?.iter().filter(|sight| sight.is_listed()) {
        rooms.push(Room {
            room_id: numbers::of_room(&actions, &sight.room.id).await?,
            name: sight.view.summary.name.clone().unwrap_or_default(),
            joined: Some(sight.is_joined()),
        });
    }
    Ok(Answer(Rooms { rooms }))
}

/// `GET /api/user_rooms`
pub(super) async fn own(Signed { actions, caller, .. }: Signed) -> Result<Answer<Rooms>, MirageError> {
    let window = Window { offset: 0, limit: visitors::ROOMS_MAX };
    let own = room_actions::own(&actions, &caller, window).await?;
    let mut rooms = Vec::new();
    for room in own.entries.into_iter().filter(|room| room.membership == Membership::Join) {
        rooms.push(Room {
            room_id: numbers::of_room(&actions, &room.room_id).await?,
            name: room.view.summary.name.clone().unwrap_or_default(),
            joined: None,
        });
    }
    Ok(Answer(Rooms { rooms }))
}

/// The members of a room.
#[derive(Serialize)]
pub(super) struct Members {
    members: Vec<String>,
}

/// `GET /api/room_members/{room_id}`
pub(super) async fn members(
    Signed { actions, caller, .. }: Signed,
    room: Result<Path<u64>, PathRejection>,
) -> Result<Answer<Members>, MirageError> {
    let nobody = || MirageError::missing("no members in this room");
    let Ok(Path(number)) = room else { return Err(nobody()) };
    let sight = match visitors::look(&actions, Some(&caller), &number.to_string()).await {
        Err(ActionError::RoomNotFound) => return Err(nobody()),
        sight => sight?,
    };
    // Whose members are nobody's business but theirs looks as if there were none.
    if !sight.is_joined() && !is_made_here(&sight) {
        return Err(nobody());
    }
    let members = sight.members(&actions).await?;
    if members.is_empty() {
        return Err(nobody());
    }
    Ok(Answer(Members { members: members.iter().map(|user_id| username(&actions, user_id)).collect() }))
}

fn is_made_here(sight: &Sight) -> bool {
    sight.view.settings.made_through == MadeThrough::Mirage
}

/// The name of a person: bare if they are of this server, else the full id.
pub(super) fn username(actions: &Actions, user_id: &ruma::UserId) -> String {
    if actions.is_local(user_id) { user_id.localpart().to_owned() } else { user_id.to_string() }
}
