//! Who is in a room: the list, and coming and going.

use axum::Json as Answer;
use rules::permission::Membership;
use ruma::ServerName;
use serde::{Deserialize, Serialize};

use super::{
    error::V1Error,
    path::Ids,
    wire::{Data, JoinAnswer, List, Member, Nothing, RoomAnswer},
};
use crate::{
    actions::{
        ActionError, bringing, knocks,
        members::{self, Measure},
        silence,
    },
    api::{
        body::{self, Json, OptionalJson, Parameters},
        caller::Signed,
        page, time,
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
    let window = page::window(find.offset, find.limit)?;
    let wanted = find.membership.map(Membership::from);
    Ok(List::json(members::list(&actions, &caller, &room, wanted, window).await?))
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
) -> Result<JoinAnswer, V1Error> {
    let via = servers(body.via)?;
    Ok(JoinAnswer::of(members::join(&actions, &caller, &room, &via, body.password.as_deref()).await)?)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Knock {
    #[serde(default, deserialize_with = "body::reason")]
    reason: Option<String>,
    via: Option<Vec<String>>,
}

/// `POST /v1/rooms/{room_id}/knock`
pub(super) async fn knock(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    OptionalJson(body): OptionalJson<Knock>,
) -> Result<RoomAnswer, V1Error> {
    let via = servers(body.via)?;
    Ok(RoomAnswer::found(knocks::knock(&actions, &caller, &room, &via, body.reason).await?))
}

/// `POST /v1/rooms/{room_id}/members/{participant_id}/approve`
pub(super) async fn approve(
    Signed { actions, caller, .. }: Signed,
    Ids((room, participant)): Ids<(String, String)>,
    _: OptionalJson<super::accounts::Empty>,
) -> Result<RoomAnswer, V1Error> {
    let target = actions.parse_participant("participant_id", &participant)?;
    Ok(RoomAnswer::found(knocks::approve(&actions, &caller, &room, &target).await?))
}

/// `PUT /v1/rooms/{room_id}/members/{participant_id}`
pub(super) async fn bring_in(
    Signed { actions, caller, .. }: Signed,
    Ids((room, participant)): Ids<(String, String)>,
    _: OptionalJson<super::accounts::Empty>,
) -> Result<RoomAnswer, V1Error> {
    let target = actions.parse_participant("participant_id", &participant)?;
    Ok(RoomAnswer::found(bringing::bring_in(&actions, &caller, &room, &target).await?))
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
    Ok(RoomAnswer::found(members::invite(&actions, &caller, &room, &target, body.value.reason).await?))
}

/// `POST /v1/rooms/{room_id}/kick`
pub(super) async fn kick(signed: Signed, room: Ids<String>, body: Json<Target>) -> Result<RoomAnswer, V1Error> {
    take(signed, room, Measure::Kick, body.value).await
}

/// `POST /v1/rooms/{room_id}/ban`
pub(super) async fn ban(signed: Signed, room: Ids<String>, body: Json<Target>) -> Result<RoomAnswer, V1Error> {
    take(signed, room, Measure::Ban, body.value).await
}

/// Somebody.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Person {
    participant_id: String,
}

/// `POST /v1/rooms/{room_id}/unban`
pub(super) async fn unban(signed: Signed, room: Ids<String>, body: Json<Person>) -> Result<RoomAnswer, V1Error> {
    let Person { participant_id } = body.value;
    take(signed, room, Measure::Unban, Target { participant_id, reason: None }).await
}

async fn take(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    measure: Measure,
    on: Target,
) -> Result<RoomAnswer, V1Error> {
    let target = actions.parse_participant("participant_id", &on.participant_id)?;
    let taken = members::take_measure(&actions, &caller, &room, measure, &target, on.reason).await?;
    Ok(RoomAnswer::found(taken))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quiet {
    duration_ms: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct Silenced {
    until: Option<String>,
    enforced: bool,
}

/// `PUT /v1/rooms/{room_id}/members/{participant_id}/silence`
pub(super) async fn silence(
    Signed { actions, caller, .. }: Signed,
    Ids((room, participant)): Ids<(String, String)>,
    OptionalJson(body): OptionalJson<Quiet>,
) -> Result<Answer<Data<Silenced>>, V1Error> {
    let duration_ms = match body.duration_ms {
        None | Some(-1) => None,
        Some(duration) => match u64::try_from(duration) {
            Ok(duration) if duration > 0 => Some(duration),
            _ => return Err(ActionError::invalid("duration_ms", "must be positive, or -1 for no end").into()),
        },
    };
    let target = actions.parse_participant("participant_id", &participant)?;
    let silenced = silence::set(&actions, &caller, &room, &target, duration_ms).await?;
    Ok(Data::json(Silenced { until: silenced.until.map(time::text), enforced: silenced.is_enforced }))
}

/// `DELETE /v1/rooms/{room_id}/members/{participant_id}/silence`
pub(super) async fn lift_silence(
    Signed { actions, caller, .. }: Signed,
    Ids((room, participant)): Ids<(String, String)>,
) -> Result<RoomAnswer, V1Error> {
    let target = actions.parse_participant("participant_id", &participant)?;
    Ok(RoomAnswer::found(silence::lift(&actions, &caller, &room, &target).await?))
}
