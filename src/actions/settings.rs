//! What a room's owners set about the room as a whole: its name and topic, how many it holds, who may invite, whether it takes knocks, and a text that clients keep with it.

use rules::{
    draft::Draft,
    kind::{CUSTOM, refused_members_only},
    permission::{Act, Door},
};
use ruma::{CanonicalJsonValue, Int, int};
use serde_json::json;

use super::{
    ActionError, Actions, Caller,
    creation::object,
    incognito, levels,
    rooms::{self, Entered, RoomDetails},
    texts::{CUSTOM_BYTES_MAX, NAME_CHARACTERS_MAX, TOPIC_CHARACTERS_MAX, at_most},
};
use crate::storage::room_settings::RoomSettings;

/// The largest limit of members: the largest number that every JSON reader holds exactly.
pub const MAX_MEMBERS_MAX: u64 = (1 << 53) - 1;

/// What shall be otherwise; what is none stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// What it is called.
    pub name: Option<String>,
    /// What it is about; an empty one takes it away.
    pub topic: Option<String>,
    /// Joined members at most; the inner none: only the tenant's limit.
    pub max_members: Option<Option<u64>>,
    /// Everybody may invite, or moderators only.
    pub allow_invites: Option<bool>,
    /// Who is not invited may knock.
    pub members_only: Option<bool>,
    /// The text that clients keep with the room; the inner none, like an empty one, takes it away.
    pub custom: Option<Option<String>>,
}

/// Changes a room, all that was asked for or nothing.
///
/// # Errors
/// Values out of range; a level too low; a type that does not know the setting.
pub async fn change(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    changes: Changes,
) -> Result<RoomDetails, ActionError> {
    check_max_members(changes.max_members.flatten())?;
    at_most("name", changes.name.as_deref(), NAME_CHARACTERS_MAX)?;
    at_most("topic", changes.topic.as_deref(), TOPIC_CHARACTERS_MAX)?;
    let custom = changes.custom.map(Option::unwrap_or_default);
    custom.as_deref().map_or(Ok(()), check_custom)?;
    let has_settings = changes.max_members.is_some() || changes.allow_invites.is_some();
    let mut entered = rooms::enter(actions, caller, reference).await?;
    if has_settings || changes.members_only.is_some() || custom.is_some() {
        entered.may(caller, Act::Settings)?;
    }
    if let Some(name) = &changes.name {
        rooms::stage_name(&mut entered, caller, name).await?;
    }
    if let Some(topic) = &changes.topic {
        rooms::stage_topic(&mut entered, caller, topic).await?;
    }
    if let Some(max_members) = changes.max_members {
        limit(&mut entered, max_members)?;
    }
    if let Some(allow_invites) = changes.allow_invites {
        set_allow_invites(&mut entered, caller, allow_invites).await?;
    }
    if let Some(members_only) = changes.members_only {
        set_members_only(&mut entered, caller, members_only).await?;
    }
    if let Some(custom) = custom {
        let summary = entered.writer.summary()?;
        incognito::refuse_media(summary.kind, &custom)?;
        if summary.custom.as_deref().unwrap_or_default() != custom {
            let draft = Draft::state(CUSTOM, "", object(json!({ "custom": custom }))?);
            entered.writer.stage(&caller.user_id, draft).await?;
        }
    }
    entered.finish(actions, caller).await
}

/// The limit of a room's members is one.
///
/// # Errors
/// [`ActionError::RequestInvalid`].
pub fn check_max_members(max_members: Option<u64>) -> Result<(), ActionError> {
    if max_members.is_some_and(|max| !(1..=MAX_MEMBERS_MAX).contains(&max)) {
        return Err(ActionError::invalid("max_members", format!("must be from 1 to {MAX_MEMBERS_MAX}")));
    }
    Ok(())
}

/// The text for clients is no longer than it may be.
///
/// # Errors
/// [`ActionError::RequestInvalid`].
pub(super) fn check_custom(custom: &str) -> Result<(), ActionError> {
    if custom.len() > CUSTOM_BYTES_MAX {
        return Err(ActionError::invalid("custom", format!("at most {CUSTOM_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// The level that inviting needs where everybody may, or moderators only.
pub(super) fn invite_level(allow_invites: bool) -> Int {
    if allow_invites { int!(0) } else { int!(50) }
}

fn limit(entered: &mut Entered, max_members: Option<u64>) -> Result<(), ActionError> {
    let joined = entered.writer.summary()?.joined;
    if max_members.is_some_and(|max| max < joined) {
        let problem = format!("{joined} people are in the room; remove some first, or allow at least as many");
        return Err(ActionError::invalid("max_members", problem));
    }
    let present = RoomSettings::clone(&entered.writer.view()?.settings);
    if present.max_members != max_members {
        entered.writer.set_settings(RoomSettings { max_members, ..present });
    }
    Ok(())
}

async fn set_allow_invites(entered: &mut Entered, caller: &Caller, allow_invites: bool) -> Result<(), ActionError> {
    let view = entered.writer.view()?;
    if view.allows_invites() == allow_invites {
        return Ok(());
    }
    let mut content = view.basis.levels.content().clone();
    content.insert("invite".to_owned(), CanonicalJsonValue::Integer(invite_level(allow_invites)));
    levels::stage(&mut entered.writer, caller, content).await
}

async fn set_members_only(entered: &mut Entered, caller: &Caller, members_only: bool) -> Result<(), ActionError> {
    let (view, summary) = (entered.writer.view()?, entered.writer.summary()?);
    if members_only && let Some(refused) = refused_members_only(summary.kind, &summary.join_rule, view.has_password()) {
        return Err(ActionError::type_invariant(refused));
    }
    if (view.door() == Door::Knock) != members_only {
        let join_rule = if members_only { "knock" } else { "invite" };
        let draft = Draft::state("m.room.join_rules", "", object(json!({ "join_rule": join_rule }))?);
        entered.writer.stage(&caller.user_id, draft).await?;
    }
    Ok(())
}
