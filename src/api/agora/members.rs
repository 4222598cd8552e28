//! Members and admins of rooms.

use axum::Json as Answer;
use serde::Serialize;

use super::{
    app::{App, Named},
    error::AgoraError,
    fields::{self, Fields, PageOf, needed, person, username},
    results::Results,
    wire::{self, Affiliation, Said},
};
use crate::{
    actions::agora_rooms::{self, people},
    api::body::Parameters,
};

/// `GET /{org_name}/{app_name}/chatrooms/{chatroom_id}/users`
pub(super) async fn list(
    App { actions, .. }: App,
    named: Named,
    Parameters(page): Parameters<PageOf>,
) -> Result<Answer<Said<Vec<Affiliation>>>, AgoraError> {
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let members = people::members(&room, page.window()?).await?;
    Ok(Said::list(members.map(|user_id| Affiliation::of(&actions, &room, &user_id)).entries))
}

/// What was done about one person.
#[derive(Serialize)]
pub(super) struct Done {
    result: bool,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    user: String,
    id: String,
}

impl Done {
    fn well(action: &'static str, user: String, id: String) -> Self {
        Self { result: true, action, reason: None, user, id }
    }
}

/// What became of one person, or of several.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum OneOrSeveral<T> {
    One(T),
    Several(Vec<T>),
}

impl<T> OneOrSeveral<T> {
    /// A list of one is that one.
    pub(super) fn of(mut list: Vec<T>) -> Self {
        match (list.pop(), list.is_empty()) {
            (Some(only), true) => Self::One(only),
            (last, _) => {
                list.extend(last);
                Self::Several(list)
            }
        }
    }
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/users/{username}`
pub(super) async fn add(App { actions, app }: App, named: Named) -> Result<Answer<Said<Done>>, AgoraError> {
    let person = username(&actions, "username", &named.username)?;
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let id = wire::id(&actions, &room).await?;
    people::add(&actions, &app, &room, &person).await?;
    Ok(Said::one(Done::well("add_member", wire::username(&actions, &person), id)))
}

/// Who came.
#[derive(Serialize)]
pub(super) struct Added {
    newmembers: Vec<String>,
    action: &'static str,
    id: String,
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/users`
pub(super) async fn add_all(
    App { actions, app }: App,
    named: Named,
    body: Fields,
) -> Result<Answer<Said<Added>>, AgoraError> {
    let people = body.usernames(&actions, username)?;
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let id = wire::id(&actions, &room).await?;
    let came = people::add_all(&actions, &app, &room, &people).await?;
    let newmembers = came.iter().map(|user_id| wire::username(&actions, user_id)).collect();
    Ok(Said::one(Added { newmembers, action: "add_member", id }))
}

/// `DELETE /{org_name}/{app_name}/chatrooms/{chatroom_id}/users/{username}`
pub(super) async fn remove(
    App { actions, app }: App,
    named: Named,
) -> Result<Answer<Said<OneOrSeveral<Done>>>, AgoraError> {
    const ACTION: &str = "remove_member";
    let people = fields::people(&actions, &named.username)?;
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let id = wire::id(&actions, &room).await?;
    let mut results = Results::of(&people);
    for person in &people {
        if !results.take(people::remove(&actions, &app, &room, person).await)? {
            break;
        }
    }
    Ok(Said::one(OneOrSeveral::of(results.each(|person, told| Done {
        result: told.is_ok(),
        reason: told.err(),
        ..Done::well(ACTION, wire::username(&actions, person), id.clone())
    }))))
}

/// `GET /{org_name}/{app_name}/chatrooms/{chatroom_id}/admin`
pub(super) async fn admins(App { actions, .. }: App, named: Named) -> Result<Answer<Said<Vec<String>>>, AgoraError> {
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    let admins = people::admins(&room).await?;
    Ok(Said::list(admins.iter().map(|user_id| wire::username(&actions, user_id)).collect()))
}

/// Who is an admin now, or no longer.
#[derive(Serialize)]
pub(super) struct AdminSet {
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    newadmin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldadmin: Option<String>,
}

/// `POST /{org_name}/{app_name}/chatrooms/{chatroom_id}/admin`
pub(super) async fn add_admin(
    App { actions, app }: App,
    named: Named,
    body: Fields,
) -> Result<Answer<Said<AdminSet>>, AgoraError> {
    let person = needed("newadmin", body.person(&actions, "newadmin", person)?)?;
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    people::set_admin(&actions, &app, &room, &person, true).await?;
    let newadmin = Some(wire::username(&actions, &person));
    Ok(Said::one(AdminSet { result: "success", newadmin, oldadmin: None }))
}

/// `DELETE /{org_name}/{app_name}/chatrooms/{chatroom_id}/admin/{username}`
pub(super) async fn remove_admin(
    App { actions, app }: App,
    named: Named,
) -> Result<Answer<Said<AdminSet>>, AgoraError> {
    let person = person(&actions, "username", &named.username)?;
    let room = agora_rooms::find(&actions, &named.chatroom_id).await?;
    people::set_admin(&actions, &app, &room, &person, false).await?;
    let oldadmin = Some(wire::username(&actions, &person));
    Ok(Said::one(AdminSet { result: "success", newadmin: None, oldadmin }))
}
