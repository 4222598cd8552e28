//! What people say of themselves: a name and a picture. A change is carried into the member events of their rooms; it is remembered with the account that it has
//! to be, so that a crash does not lose it.

use futures_util::future::join_all;
use rules::{draft::Draft, kind::RoomKind, permission::Membership, visibility::membership_of};
use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedUserId, UserId};

use super::{
    ActionError, Actions, Caller,
    accounts::{self, AccountView, DISPLAY_NAME_CHARACTERS_MAX},
    append::Writer,
    media,
    members::profile_of,
    personal,
    texts::at_most,
};
use crate::storage::{
    Commit, Effect, Home, Limit,
    accounts::Account,
    keyspaces::{MEDIA_PEOPLE, PROFILE_CHANGED},
    media::home,
};

/// Rooms that are told at the same time.
const ROOMS_AT_A_TIME: usize = 16;

/// What of a profile shall change. The inner none takes it away.
#[derive(Clone, Debug, Default)]
pub struct NewProfile {
    /// The name that others see.
    pub display_name: Option<Option<String>>,
    /// The picture: a medium of this server that the person can read.
    pub avatar_url: Option<Option<String>>,
}

/// Changes the caller's profile, and what the caller's rooms say of them. A room that cannot be told now is told at the next start or change.
///
/// # Errors
/// A name too long, a picture that is not of this server or not for the caller to read.
pub async fn set(actions: &Actions, caller: &Caller, new: NewProfile) -> Result<AccountView, ActionError> {
    let user_id = &caller.user_id;
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let (name, url) = (new.display_name.map(given), new.avatar_url.map(given));
    at_most("display_name", name.iter().flatten().next().map(String::as_str), DISPLAY_NAME_CHARACTERS_MAX)?;
    let picture = match url.iter().flatten().next() {
        None => None,
        Some(url) => {
            let picture = media::must_read(actions, user_id, "avatar_url", url).await?;
            let foreign = "must be a medium of this server; upload it with POST /v1/media first";
            Some(picture.ok_or_else(|| ActionError::invalid("avatar_url", foreign))?)
        }
    };
    let _gate = actions.gates.enter("profile", user_id.as_str()).await?;
    let before = accounts::own(actions, caller).await?.account;
    let is_same = name.as_ref().is_none_or(|name| *name == before.display_name)
        && url.as_ref().is_none_or(|url| *url == before.avatar_url);
    if is_same {
        // A repeat after rooms could not be told tells them.
        if actions.store().get(&PROFILE_CHANGED, &Home::person(user_id), &()).await?.is_some() {
            try_carry(actions, user_id).await;
        }
        return accounts::own(actions, caller).await;
    }
    accounts::amend(actions, user_id, |account, commit| {
        if let Some(name) = &name {
            account.display_name.clone_from(name);
        }
        if let Some(url) = &url {
            forget_picture(actions, user_id, account, commit);
            if let Some((sha256, info)) = &picture {
                commit.effect(Effect::new(home(sha256)).put(&MEDIA_PEOPLE, user_id, info));
            }
            account.avatar_url.clone_from(url);
        }
        commit.put(&PROFILE_CHANGED, &(), &());
    })
    .await?;
    try_carry(actions, user_id).await;
    accounts::own(actions, caller).await
}

/// The medium that was the person's picture no longer is: others read it for that reason no more.
pub(super) fn forget_picture(actions: &Actions, user_id: &OwnedUserId, account: &Account, commit: &mut Commit) {
    let former = account.avatar_url.as_deref().and_then(|url| media::parse(actions, url));
    if let Some(media::Address::Ours(former)) = former {
        commit.effect(Effect::new(home(&former)).delete(&MEDIA_PEOPLE, user_id));
    }
}

/// Tells the rooms what a crash kept from them.
///
/// # Errors
/// When storage cannot be read.
pub async fn finish_all(actions: &Actions) -> Result<(), ActionError> {
    let mut after: Option<Home> = None;
    loop {
        let start = after.as_ref().map(|home| (home, &()));
        let page = actions.store().scan_homes(&PROFILE_CHANGED, start, Limit::max()).await?;
        for (home, (), ()) in &page.rows {
            if let Some(user_id) = home.as_person() {
                try_carry(actions, &user_id).await;
            }
        }
        match page.rows.last() {
            Some((home, (), ())) if page.more => after = Some(home.clone()),
            _ => return Ok(()),
        }
    }
}

async fn try_carry(actions: &Actions, user_id: &UserId) {
    if let Err(error) = carry(actions, user_id).await {
        tracing::warn!(user.id = %user_id, %error, "Not all rooms of `{user_id}` know of their new profile yet: {error}");
    }
}

/// Brings the member events of all rooms of a person up to date, and then forgets that they have to be.
async fn carry(actions: &Actions, user_id: &UserId) -> Result<(), ActionError> {
    let profile = profile_of(actions, user_id).await?;
    let rooms = personal::rooms_of(actions, user_id).await?;
    let joined: Vec<OwnedRoomId> =
        rooms.into_iter().filter(|(_, row)| row.membership == Membership::Join).map(|(room_id, _)| room_id).collect();
    let mut outcome = Ok(());
    for some in joined.chunks(ROOMS_AT_A_TIME) {
        let told = join_all(some.iter().map(|room_id| tell(actions, user_id, room_id, &profile))).await;
        outcome = told.into_iter().fold(outcome, Result::and);
    }
    outcome?;
    let mut commit = Commit::new(Home::person(user_id));
    commit.delete(&PROFILE_CHANGED, &());
    actions.store().commit(commit).await?;
    Ok(())
}

/// Brings the member event of a person in one room up to date. Frozen rooms keep what they have.
async fn tell(
    actions: &Actions,
    user_id: &UserId,
    room_id: &OwnedRoomId,
    profile: &CanonicalJsonObject,
) -> Result<(), ActionError> {
    let Some(mut writer) = Writer::enter(actions, &actions.room(room_id)).await? else { return Ok(()) };
    let present = writer.state_event("m.room.member", user_id.as_str()).await?;
    let (kind, state) = (writer.summary()?.kind, writer.summary()?.state);
    if state.is_frozen() || membership_of(present.as_deref()) != Membership::Join {
        return Ok(());
    }
    let mut profile = profile.clone();
    if kind == RoomKind::Incognito {
        profile.remove("avatar_url");
    }
    let present = present.and_then(|event| event.content_as::<CanonicalJsonObject>().ok()).unwrap_or_default();
    if ["displayname", "avatar_url"].iter().all(|field| present.get(*field) == profile.get(*field)) {
        return Ok(());
    }
    match writer.stage(user_id, Draft::member(user_id, "join", profile)).await {
        Ok(_) => writer.commit().await.map(drop),
        // Other servers may have made rules under which nobody can change it.
        Err(ActionError::RoomForbidden { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
