//! Whether a peer's user may have what it wishes for: asked when the template is made, and again when the event comes.

use federation::{Refusal, local::Wish};
use rules::permission::Membership;
use ruma::{OwnedUserId, ServerName, UserId};

use super::restricted;
use crate::{
    actions::{
        Actions,
        append::Writer,
        incoming::guests::{self, Met, failed},
        members::membership,
    },
    storage::{
        Direction, KeyRange, Limit,
        keyspaces::{MEMBERS, SERVERS},
    },
};

/// Members that are looked at to find somebody of a server that is only invited. In a larger room such a server is not found.
const MEMBERS_LOOKED_AT_MAX: usize = 1_000;

/// The room, for a peer that wants something about its user's membership.
pub(super) async fn meet(actions: &Actions, origin: &ServerName, room_id: &ruma::RoomId) -> Result<Met, Refusal> {
    guests::meet(actions, origin, room_id).await
}

/// The user may have it. Answers the local member who vouches for the join, where the room's rules ask for one.
pub(super) async fn check(
    actions: &Actions,
    met: &Met,
    writer: &Writer,
    user_id: &UserId,
    wish: Wish,
) -> Result<Option<OwnedUserId>, Refusal> {
    let member = writer.get(&MEMBERS, &user_id.to_owned()).await.map_err(failed)?;
    let present = membership(member.as_ref());
    let summary = writer.summary().map_err(failed)?;
    match wish {
        Wish::Leave => {
            let may = present.is_in() || present == Membership::Knock;
            return if may { Ok(None) } else { Err(hidden_or_forbidden(met, user_id, present).await) };
        }
        // A frozen room takes nobody in.
        _ if summary.state.is_frozen() => return Err(Refusal::NotFound),
        _ => {}
    }
    let rules = &met.version().rules().authorization;
    let rule = summary.join_rule.as_str();
    if wish == Wish::Knock {
        let takes_knocks = match rule {
            "knock" => rules.knocking,
            "knock_restricted" => rules.knock_restricted_join_rule,
            _ => false,
        };
        let may = takes_knocks && matches!(present, Membership::None | Membership::Leave | Membership::Knock);
        return if may { Ok(None) } else { Err(hidden_or_forbidden(met, user_id, present).await) };
    }
    if present == Membership::Ban {
        return Err(Refusal::Forbidden);
    }
    let members_max = met.view.members_max(actions.settings.max_participants);
    if present != Membership::Join && summary.joined >= members_max {
        return Err(Refusal::Forbidden);
    }
    let is_restricted = match rule {
        "restricted" => rules.restricted_join_rule,
        "knock_restricted" => rules.knock_restricted_join_rule,
        _ => false,
    };
    match present {
        Membership::Join | Membership::Invite => Ok(None),
        _ if rule == "public" => Ok(None),
        _ if is_restricted => restricted::vouch(actions, met, writer, user_id).await.map(Some),
        _ => Err(hidden_or_forbidden(met, user_id, present).await),
    }
}

/// Who has nothing to do with a room learns nothing of it.
async fn hidden_or_forbidden(met: &Met, user_id: &UserId, present: Membership) -> Refusal {
    if present != Membership::None || met.view.summary.join_rule != "invite" {
        return Refusal::Forbidden;
    }
    match knows(met, user_id.server_name()).await {
        Ok(true) => Refusal::Forbidden,
        Ok(false) => Refusal::NotFound,
        Err(refusal) => refusal,
    }
}

/// Somebody of the server is in the room, or invited and among its first members: whoever may ask this, may ask it often.
pub(in crate::actions) async fn knows(met: &Met, server: &ServerName) -> Result<bool, Refusal> {
    if met.rows().get(&SERVERS, &server.to_owned()).await.map_err(failed)?.is_some() {
        return Ok(true);
    }
    let limit = Limit::rows(MEMBERS_LOOKED_AT_MAX);
    let page = met.room.store.scan(&MEMBERS, &met.room.home, KeyRange::all(), Direction::Up, limit).await;
    let page = page.map_err(|error| failed(error.into()))?;
    Ok(page.rows.iter().any(|(user_id, member)| user_id.server_name() == server && member.membership.is_in()))
}
