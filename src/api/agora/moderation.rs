//! Who may not speak in a room, who may speak always, and who is shut out of it.

use axum::Json as Answer;
use ruma::{OwnedUserId, UserId};
use serde::Serialize;

use super::{
    app::{App, Named},
    error::AgoraError,
    fields::{self, Fields, PageOf, needed, person},
    members::OneOrSeveral,
    results::Results,
    wire::{self, Said},
};
use crate::{
    actions::{
        ActionError, Actions,
        agora_rooms::{self, people},
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
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    user: String,
}

impl SilenceSet {
    fn of(actions: &Actions, person: &UserId, refused: Option<String>) -> Self {
        Self { result: refused.is_none(), expire: None, reason: refused, user: wire::username(actions, person) }
    }
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
    let people = body.usernames(&actions, person)?;
    let duration_ms = match needed("mute_duration", body.number("mute_duration")?)? {
        FOR_EVER => None,
        ms => Some(u64::try_from(ms).ok().filter(|ms| *ms > 0).ok_or_else(|| {
            ActionError::invalid("mute_duration", "must be milliseconds from 1 on, or -1 for no end")
        })?),
    };
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let mut results = Results::of(&people);
    for person in &people {
        if !results.take(people::silence(&actions, &app, &room, person, duration_ms).await)? {
            break;
        }
    }
    Ok(Said::one(results.each(|person, told| {
        let until = told.as_ref().ok().map(|silenced| expire(silenced.until.map(|until| until.0)));
        SilenceSet { expire: until, ..SilenceSet::of(&actions, person, told.err()) }
    })))
}

/// `DELETE /{org_name}/{app_name}/chatrooms/{chatroom_id}/mute/{username}`
pub(super) async fn lift_silence(
    App { actions, app }: App,
    named: Named,
) -> Result<Answer<Said<Vec<SilenceSet>>>, AgoraError> {
    let people = fields::people(&actions, &named.username)?;
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let mut results = Results::of(&people);
    for person in &people {
        if !results.take(people::lift_silence(&actions, &app, &room, person).await)? {
            break;
        }
    }
    Ok(Said::one(results.each(|person, told| SilenceSet::of(&actions, person, told.err()))))
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

/// A list that a room keeps of people, and what is done about somebody there.
#[derive(Clone, Copy)]
enum Listing {
    Blocked,
    Allowed,
}

impl Listing {
    /// The word of the API for putting somebody on it, or taking them off.
    fn action(self, is_on: bool) -> &'static str {
        match (self, is_on) {
            (Self::Blocked, true) => "add_blocks",
            (Self::Blocked, false) => "remove_blocks",
            (Self::Allowed, true) => "add_user_whitelist",
            (Self::Allowed, false) => "remove_user_whitelist",
        }
    }
}

/// What was done about somebody on a list.
#[derive(Serialize)]
pub(super) struct ListingSet {
    result: bool,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    user: String,
    chatroomid: String,
}

/// Puts people on a list, or takes them off it.
async fn set_listed(
    App { actions, app }: &App,
    number: &str,
    people: &[OwnedUserId],
    listing: Listing,
    is_on: bool,
) -> Result<Vec<ListingSet>, AgoraError> {
    let room = agora_rooms::find(actions, number).await?;
    let id = wire::id(actions, &room).await?;
    let mut results = Results::of(people);
    for person in people {
        let done = match listing {
            Listing::Blocked => people::set_blocked(actions, app, &room, person, is_on).await,
            Listing::Allowed => people::set_allowed(actions, app, &room, person, is_on).await,
        };
        if !results.take(done)? {
            break;
        }
    }
    Ok(results.each(|person, told| ListingSet {
        result: told.is_ok(),
        action: listing.action(is_on),
        reason: told.err(),
        user: wire::username(actions, person),
        chatroomid: id.clone(),
    }))
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users`
pub(super) async fn block_all(
    app: App,
    named: Named,
    body: Fields,
) -> Result<Answer<Said<Vec<ListingSet>>>, AgoraError> {
    let people = body.usernames(&app.actions, person)?;
    Ok(Said::one(set_listed(&app, &named.chatroom_id, &people, Listing::Blocked, true).await?))
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users/{username}`
pub(super) async fn block(app: App, named: Named) -> Result<Answer<Said<OneOrSeveral<ListingSet>>>, AgoraError> {
    let people = [person(&app.actions, "username", &named.username)?];
    let done = set_listed(&app, &named.chatroom_id, &people, Listing::Blocked, true).await?;
    Ok(Said::one(OneOrSeveral::of(done)))
}

/// `DELETE /{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users/{username}`
pub(super) async fn unblock(app: App, named: Named) -> Result<Answer<Said<OneOrSeveral<ListingSet>>>, AgoraError> {
    let people = fields::people(&app.actions, &named.username)?;
    let done = set_listed(&app, &named.chatroom_id, &people, Listing::Blocked, false).await?;
    Ok(Said::one(OneOrSeveral::of(done)))
}

/// `GET /{org_name}/{app_name}/chatrooms/{chatroom_id}/white/users`
pub(super) async fn allowed(
    App { actions, .. }: App,
    named: Named,
    Parameters(page): Parameters<PageOf>,
) -> Result<Answer<Said<Vec<String>>>, AgoraError> {
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let allowed = people::allowed(&room, page.window()?).await?;
    Ok(Said::list(allowed.map(|user_id| wire::username(&actions, &user_id)).entries))
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/white/users`
pub(super) async fn allow_all(
    app: App,
    named: Named,
    body: Fields,
) -> Result<Answer<Said<Vec<ListingSet>>>, AgoraError> {
    let people = body.usernames(&app.actions, person)?;
    Ok(Said::one(set_listed(&app, &named.chatroom_id, &people, Listing::Allowed, true).await?))
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/white/users/{username}`
pub(super) async fn allow(app: App, named: Named) -> Result<Answer<Said<OneOrSeveral<ListingSet>>>, AgoraError> {
    let people = [person(&app.actions, "username", &named.username)?];
    let done = set_listed(&app, &named.chatroom_id, &people, Listing::Allowed, true).await?;
    Ok(Said::one(OneOrSeveral::of(done)))
}

/// `DELETE /{org_name}/{app_name}/chatrooms/{chatroom_id}/white/users/{username}`
pub(super) async fn disallow(app: App, named: Named) -> Result<Answer<Said<Vec<ListingSet>>>, AgoraError> {
    let people = fields::people(&app.actions, &named.username)?;
    Ok(Said::one(set_listed(&app, &named.chatroom_id, &people, Listing::Allowed, false).await?))
}
