//! Who is in a room: the list, and coming and going.

use axum::Json as Answer;
use rules::permission::Membership;
use ruma::ServerName;
use serde::Deserialize;

use super::{
    error::V1Error,
    path::Ids,
    rooms::answer,
    wire::{Data, List, Member, Nothing, RoomAnswer},
};
use crate::{
    actions::{ActionError, members},
    api::{
        body::{self, Json, OptionalJson, Parameters},
        caller::Signed,
        page,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Find {
    membership: Option<Word>,
    limit: Option<i64>,
    offset: Option<i64>,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Join,
    Invite,
    Knock,
    Leave,
    Ban,
}

impl From<Word> for Membership {
    fn from(word: Word) -> Self {
        match word {
            Word::Join => Self::Join,
            Word::Invite => Self::Invite,
            Word::Knock => Self::Knock,
            Word::Leave => Self::Leave,
            Word::Ban => Self::Ban,
        }
    }
}

/// `GET /v1/rooms/{room_id}/members`
pub(super) async fn list(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    Parameters(find): Parameters<Find>,
) -> Result<Answer<List<Member>>, V1Error> {
    let (offset, limit) = page::range(find.offset, find.limit)?;
    let page = members::list(&actions, &caller, &room, find.membership.map(Membership::from), offset, limit).await?;
    Ok(List::json(page.members.into_iter().map(Member::from).collect(), page.total))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Join {
    via: Option<Vec<String>>,
    password: Option<String>,
}

/// `POST /v1/rooms/{room_id}/join`
pub(super) async fn join(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    OptionalJson(body): OptionalJson<Join>,
) -> Result<RoomAnswer, V1Error> {
    if body.password.is_some() {
        return Err(ActionError::invalid("password", "rooms do not take passwords yet; leave it out").into());
    }
    members::join(&actions, &caller, &room, &servers(body.via)?).await?;
    answer(&actions, &caller, &room).await
}

/// Servers that may know a room.
const VIA_MAX: usize = 16;
/// Bytes of a server's name, so that ids with it fit into 255.
const SERVER_NAME_BYTES_MAX: usize = 230;

/// The names in `via`, checked.
pub(super) fn servers(via: Option<Vec<String>>) -> Result<Vec<String>, ActionError> {
    let via = via.unwrap_or_default();
    let is_name = |name: &String| name.len() <= SERVER_NAME_BYTES_MAX && ServerName::parse(name).is_ok();
    if via.len() > VIA_MAX || !via.iter().all(is_name) {
        let problem = format!("up to {VIA_MAX} names of servers, such as example.org");
        return Err(ActionError::invalid("via", problem));
    }
    Ok(via)
}

/// `POST /v1/rooms/{room_id}/leave`
pub(super) async fn leave(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    _: OptionalJson<super::accounts::Empty>,
) -> Result<Answer<Data<Nothing>>, V1Error> {
    members::leave(&actions, &caller, &room).await?;
    Ok(Data::json(Nothing {}))
}

/// Somebody, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    participant_id: String,
    #[serde(default, deserialize_with = "body::reason")]
    reason: Option<String>,
}

/// `POST /v1/rooms/{room_id}/invite`
pub(super) async fn invite(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Target>,
) -> Result<RoomAnswer, V1Error> {
    let target = actions.parse_participant("participant_id", &body.value.participant_id)?;
    members::invite(&actions, &caller, &room, &target, body.value.reason).await?;
    answer(&actions, &caller, &room).await
}

/// `POST /v1/rooms/{room_id}/kick`
pub(super) async fn kick(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Target>,
) -> Result<RoomAnswer, V1Error> {
    let target = actions.parse_participant("participant_id", &body.value.participant_id)?;
    members::kick(&actions, &caller, &room, &target, body.value.reason).await?;
    answer(&actions, &caller, &room).await
}

/// `POST /v1/rooms/{room_id}/ban`
pub(super) async fn ban(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Target>,
) -> Result<RoomAnswer, V1Error> {
    let target = actions.parse_participant("participant_id", &body.value.participant_id)?;
    members::ban(&actions, &caller, &room, &target, body.value.reason).await?;
    answer(&actions, &caller, &room).await
}

/// Somebody.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Person {
    participant_id: String,
}

/// `POST /v1/rooms/{room_id}/unban`
pub(super) async fn unban(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Person>,
) -> Result<RoomAnswer, V1Error> {
    let target = actions.parse_participant("participant_id", &body.value.participant_id)?;
    members::unban(&actions, &caller, &room, &target).await?;
    answer(&actions, &caller, &room).await
}
