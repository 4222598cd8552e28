//! Who may not speak in a room, and who is shut out of it.

use axum::Json as Answer;
use ruma::OwnedUserId;
use serde::Serialize;

use super::{
    app::{App, Named},
    error::AgoraError,
    fields::{Fields, PageOf, needed, not_too_many, username, usernames},
    members::OneOrSeveral,
    wire::{self, Said},
};
use crate::{
    actions::{
        ActionError, Actions,
        agora_rooms::{self, people},
        app_tokens,
    },
    api::body::Parameters,
};

/// What stands for a silence without an end.
const FOR_EVER: i64 = -1;

/// Somebody who may not speak, and until when.
#[derive(Serialize)]
pub(super) struct Silenced {
    expire: i64,
    user: String,
}

/// What was done about one person's silence.
#[derive(Serialize)]
pub(super) struct SilenceSet {
    result: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire: Option<i64>,
    user: String,
}

fn expire(until: Option<u64>) -> i64 {
    until.map_or(FOR_EVER, |until| i64::try_from(until).unwrap_or(i64::MAX))
}

/// `GET /{org_name}/{app_name}/chatrooms/{chatroom_id}/mute`
pub(super) async fn silenced(
    App { actions, .. }: App,
    named: Named,
    Parameters(page): Parameters<PageOf>,
) -> Result<Answer<Said<Vec<Silenced>>>, AgoraError> {
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let silenced = people::silenced(&actions, &room, page.window()?).await?;
    let one = |(user_id, until): (OwnedUserId, Option<u64>)| Silenced {
        expire: expire(until),
        user: wire::username(&actions, &user_id),
    };
    Ok(Said::list(silenced.map(one).entries))
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/mute`
pub(super) async fn silence(
    App { actions, app }: App,
    named: Named,
    body: Fields,
) -> Result<Answer<Said<Vec<SilenceSet>>>, AgoraError> {
    let people = not_too_many("usernames", needed("usernames", body.people(&actions, "usernames")?)?)?;
    let duration_ms = match needed("mute_duration", body.number("mute_duration")?)? {
        FOR_EVER => None,
        ms => Some(u64::try_from(ms).ok().filter(|ms| *ms > 0).ok_or_else(|| {
            ActionError::invalid("mute_duration", "must be milliseconds from 1 on, or -1 for no end")
        })?),
    };
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let mut done = Vec::with_capacity(people.len());
    for person in &people {
        let silenced = people::silence(&actions, &app, &room, person, duration_ms).await?;
        let expire = Some(expire(silenced.until.map(|until| until.0)));
        done.push(SilenceSet { result: true, expire, user: wire::username(&actions, person) });
    }
    Ok(Said::one(done))
}

/// `DELETE /{org_name}/{app_name}/chatrooms/{chatroom_id}/mute/{username}`
pub(super) async fn lift_silence(
    App { actions, app }: App,
    named: Named,
) -> Result<Answer<Said<Vec<SilenceSet>>>, AgoraError> {
    let people = usernames(&actions, &named.username)?;
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let mut done = Vec::with_capacity(people.len());
    for person in &people {
        people::lift_silence(&actions, &app, &room, person).await?;
        done.push(SilenceSet { result: true, expire: None, user: wire::username(&actions, person) });
    }
    Ok(Said::one(done))
}

/// Whether only the owner and the admins may speak.
#[derive(Serialize)]
pub(super) struct Muted {
    mute: bool,
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/ban`
pub(super) async fn silence_all(App { actions, app }: App, named: Named) -> Result<Answer<Said<Muted>>, AgoraError> {
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    people::silence_all(&actions, &app, &room, true).await?;
    Ok(Said::one(Muted { mute: true }))
}

/// `DELETE /{org_name}/{app_name}/chatrooms/{chatroom_id}/ban`
pub(super) async fn lift_silence_of_all(
    App { actions, app }: App,
    named: Named,
) -> Result<Answer<Said<Muted>>, AgoraError> {
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    people::silence_all(&actions, &app, &room, false).await?;
    Ok(Said::one(Muted { mute: false }))
}

/// `GET /{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users`
pub(super) async fn blocked(
    App { actions, .. }: App,
    named: Named,
    Parameters(page): Parameters<PageOf>,
) -> Result<Answer<Said<Vec<String>>>, AgoraError> {
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let blocked = people::blocked(&room, page.window()?).await?;
    Ok(Said::list(blocked.map(|user_id| wire::username(&actions, &user_id)).entries))
}

/// What was done about shutting somebody out.
#[derive(Serialize)]
pub(super) struct BlockSet {
    result: bool,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    user: String,
    chatroomid: String,
}

/// Shuts people out, or lifts that. A single one who cannot be is a failure of the call, of several it is told of each.
async fn set_blocked(
    actions: &Actions,
    app: &app_tokens::App,
    number: &str,
    people: &[OwnedUserId],
    is_blocked: bool,
) -> Result<Vec<BlockSet>, AgoraError> {
    let room = agora_rooms::find(actions, number).await?;
    let id = wire::id(actions, &room).await?;
    let action = if is_blocked { "add_blocks" } else { "remove_blocks" };
    let mut done = Vec::with_capacity(people.len());
    for person in people {
        let set = people::set_blocked(actions, app, &room, person, is_blocked).await.map_err(AgoraError::from);
        let reason = match set {
            Ok(()) => None,
            Err(error) if people.len() == 1 => return Err(error),
            Err(error) => Some(error.told_of_one()?),
        };
        let (user, chatroomid) = (wire::username(actions, person), id.clone());
        done.push(BlockSet { result: reason.is_none(), action, reason, user, chatroomid });
    }
    Ok(done)
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users`
pub(super) async fn block_all(
    App { actions, app }: App,
    named: Named,
    body: Fields,
) -> Result<Answer<Said<Vec<BlockSet>>>, AgoraError> {
    let people = not_too_many("usernames", needed("usernames", body.people(&actions, "usernames")?)?)?;
    Ok(Said::one(set_blocked(&actions, &app, &named.chatroom_id, &people, true).await?))
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users/{username}`
pub(super) async fn block(
    App { actions, app }: App,
    named: Named,
) -> Result<Answer<Said<OneOrSeveral<BlockSet>>>, AgoraError> {
    let people = [username(&actions, "username", &named.username)?];
    let done = set_blocked(&actions, &app, &named.chatroom_id, &people, true).await?;
    Ok(Said::one(OneOrSeveral::of(done)))
}

/// `DELETE /{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users/{username}`
pub(super) async fn unblock(
    App { actions, app }: App,
    named: Named,
) -> Result<Answer<Said<OneOrSeveral<BlockSet>>>, AgoraError> {
    let people = usernames(&actions, &named.username)?;
    let done = set_blocked(&actions, &app, &named.chatroom_id, &people, false).await?;
    Ok(Said::one(OneOrSeveral::of(done)))
}
