//! Which other servers may take part in a room: a setting of this server, both ways. For the others the room does not exist.
//!
//! What it says of a room stands in [`RoomView::admits`]; every way in and out asks there. What is held back meanwhile is given back by
//! [`resume`](super::resume).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rules::{
    draft::Draft,
    kind::RoomKind,
    permission::{self, Membership},
};
use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedServerName, OwnedUserId, ServerName};
use serde_json::json;

use super::{
    ActionError, Actions, Caller,
    accounts::must_be_admin,
    append::Writer,
    audit::{self, Actor},
    creation::object,
    jobs,
    lane::Room,
    members::membership,
    outgoing::Patience,
    rooms::{self, Federation},
    view::RoomView,
};
use crate::storage::{
    Direction, Effect, Home, KeyRange, Limit,
    admin::JobKind,
    keyspaces::{JOBS, MEMBERS},
    room_settings::{FederationMode, RoomSettings},
};

/// Servers on the list of a room.
pub const LISTED_MAX: usize = 300;
/// People, and servers, that an answer names. How many there are, it counts.
pub const NAMED_MAX: usize = 1_000;
/// People that one call removes.
const EVICTED_MAX: usize = 10_000;
/// People that one commit removes.
const EVICTED_AT_A_TIME: usize = 50;
/// Members that are looked at together.
const MEMBERS_AT_A_TIME: usize = 500;
/// How long servers that are about to be kept out may take to learn that.
const TOLD_WITHIN: Patience = Patience { time_max: Duration::from_secs(10), failures_max: 2 };

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Switch {
    /// Who may take part from now on.
    pub mode: FederationMode,
    /// The people of servers that may not are removed from the room.
    pub evict: bool,
    /// The room's own list of servers (`m.room.server_acl`) says the same: for all servers in it.
    pub acl: bool,
    /// The local member who does both; none: the caller.
    pub as_member: Option<OwnedUserId>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// What happened, or would.
#[derive(Clone, Debug)]
pub struct Switched {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who may take part then.
    pub mode: FederationMode,
    /// Whom it keeps out, or lets in again.
    pub affected: Affected,
    /// Servers that have not learnt in time that they are kept out, or their people removed.
    pub untold: Vec<OwnedServerName>,
    /// The work that gives the servers that are let in again what they missed, and asks them for what they have.
    pub job_id: Option<String>,
}

/// People and servers whom a change concerns.
#[derive(Clone, Debug, Default)]
pub struct Affected {
    /// Members of those servers, invited ones included: the first of them.
    pub members: Vec<OwnedUserId>,
    /// How many there are.
    pub members_count: usize,
    /// The servers.
    pub servers: BTreeSet<OwnedServerName>,
}

/// Says which other servers may take part in a room from now on.
///
/// # Errors
/// A caller who is no admin; an unknown room; one that can never be federated; nobody who may send what is asked for.
pub async fn switch(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    switch: Switch,
) -> Result<Switched, ActionError> {
    must_be_admin(caller)?;
    check_list(actions, &switch.mode)?;
    let room = rooms::locate(actions, reference).await?;
    let _gate = actions.gates.enter("federate", room.id.as_str()).await?;
    let view = room.view().await?.ok_or(ActionError::RoomNotFound)?;
    check_room(&view)?;
    let foreign = foreign(actions, &room).await?;
    let is_kept_out = |server: &OwnedServerName| !switch.mode.admits(server);
    let is_affected = |server: &OwnedServerName| {
        let changes = is_kept_out(server) == view.admits(server);
        changes || (switch.evict && is_kept_out(server))
    };
    let affected = affected(&foreign, is_affected);
    let mut switched =
        Switched { room_id: room.id.clone(), mode: switch.mode.clone(), affected, untold: Vec::new(), job_id: None };
    if switch.dry_run {
        return Ok(switched);
    }
    let kept_out: Vec<OwnedServerName> = foreign.keys().filter(|server| is_kept_out(server)).cloned().collect();
    if switch.acl || switch.evict {
        let actor = actor(actions, caller, &room, switch.as_member.as_ref()).await?;
        let evicted: Vec<OwnedUserId> = match switch.evict {
            true => kept_out.iter().filter_map(|server| foreign.get(server)).flatten().cloned().collect(),
            false => Vec::new(),
        };
        announce(actions, &room, &actor, &switch, &evicted).await?;
        let told: Vec<OwnedServerName> = kept_out.iter().filter(|server| view.admits(server)).cloned().collect();
        switched.untold = actions.outgoing.settled(actions, &told, TOLD_WITHIN).await?;
    }
    switched.job_id = set(actions, caller, &room, &switch).await?;
    if let Some(sending) = actions.outgoing.sending() {
        sending.forget(kept_out);
    }
    Ok(switched)
}

fn check_list(actions: &Actions, mode: &FederationMode) -> Result<(), ActionError> {
    let FederationMode::Listed(servers) = mode else { return Ok(()) };
    if servers.is_empty() || servers.len() > LISTED_MAX {
        return Err(ActionError::invalid("servers", format!("must name 1 to {LISTED_MAX} servers; `off` is for none")));
    }
    if servers.contains(&actions.server_name) {
        return Err(ActionError::invalid("servers", "names this server, whose people are in the room anyway"));
    }
    Ok(())
}

fn check_room(view: &RoomView) -> Result<(), ActionError> {
    if view.summary.kind == RoomKind::Incognito {
        return Err(ActionError::type_invariant("an incognito room never leaves this server"));
    }
    if Federation::of(view) == Federation::Never {
        let message = "the room was made to stay on one server, which cannot be changed";
        return Err(ActionError::FederationDisabled(message.to_owned()));
    }
    Ok(())
}

/// The people of other servers, invited ones included.
async fn foreign(actions: &Actions, room: &Room) -> Result<BTreeMap<OwnedServerName, Vec<OwnedUserId>>, ActionError> {
    let mut people: BTreeMap<OwnedServerName, Vec<OwnedUserId>> = BTreeMap::new();
    let mut rest = KeyRange::all();
    loop {
        let limit = Limit::rows(MEMBERS_AT_A_TIME);
        let page = room.store.scan(&MEMBERS, &room.home, rest.clone(), Direction::Up, limit).await?;
        let last = page.rows.last().map(|(user_id, _)| user_id.clone());
        for (user_id, member) in page.rows {
            if !actions.is_local(&user_id) && member.membership.is_involved() {
                people.entry(user_id.server_name().to_owned()).or_default().push(user_id);
            }
        }
        match last {
            Some(last) if page.more => rest = rest.after(&last),
            _ => return Ok(people),
        }
    }
}

fn affected(
    foreign: &BTreeMap<OwnedServerName, Vec<OwnedUserId>>,
    is_affected: impl Fn(&OwnedServerName) -> bool,
) -> Affected {
    let mut affected = Affected::default();
    for (server, people) in foreign.iter().filter(|(server, _)| is_affected(server)) {
        affected.servers.insert(server.clone());
        affected.members_count += people.len();
        let room = NAMED_MAX.saturating_sub(affected.members.len());
        affected.members.extend(people.iter().take(room).cloned());
    }
    affected
}

/// Who sends what the room itself is told.
async fn actor(
    actions: &Actions,
    caller: &Caller,
    room: &Room,
    named: Option<&OwnedUserId>,
) -> Result<Caller, ActionError> {
    let user_id = named.unwrap_or(&caller.user_id);
    let member = room.store.get(&MEMBERS, &room.home, user_id).await?;
    if !actions.is_local(user_id) || membership(member.as_ref()) != Membership::Join {
        let problem = "must name a local member of the room who may do it; you are none";
        return Err(ActionError::invalid("as", problem));
    }
    Ok(Caller::local(user_id, false))
}

/// Says in the room itself who may take part, and removes who may not.
async fn announce(
    actions: &Actions,
    room: &Arc<Room>,
    actor: &Caller,
    switch: &Switch,
    evicted: &[OwnedUserId],
) -> Result<(), ActionError> {
    if evicted.len() > EVICTED_MAX {
        let problem = format!("{} people would be removed, at most {EVICTED_MAX} are in one call", evicted.len());
        return Err(ActionError::invalid("evict", problem));
    }
    let mut acl = match switch.acl {
        true => Some(acl(actions, &switch.mode)?),
        false => None,
    };
    let mut evicted = evicted.chunks(EVICTED_AT_A_TIME).peekable();
    while acl.is_some() || evicted.peek().is_some() {
        let mut writer = Writer::enter(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
        let member = writer.get(&MEMBERS, &actor.user_id).await?;
        if let Some(content) = acl.take() {
            writer.standing(actor, member.as_ref())?.may_set_state("m.room.server_acl")?;
            writer.stage(&actor.user_id, Draft::state("m.room.server_acl", "", content)).await?;
        }
        for user_id in evicted.next().unwrap_or_default() {
            let level = writer.view()?.level(user_id);
            let present = writer.get(&MEMBERS, user_id).await?;
            if membership(present.as_ref()).is_involved() {
                writer.standing(actor, member.as_ref())?.may_to(permission::Act::Kick, level)?;
                let kick = Draft::member(user_id, "leave", CanonicalJsonObject::new());
                writer.stage(&actor.user_id, kick).await?;
            }
        }
        writer.commit().await?;
    }
    Ok(())
}

/// The room's own list of servers. This one is always on it.
fn acl(actions: &Actions, mode: &FederationMode) -> Result<CanonicalJsonObject, ActionError> {
    let host = |server: &ServerName| server.host().to_owned();
    let allow: BTreeSet<String> = match mode {
        FederationMode::Open => BTreeSet::from(["*".to_owned()]),
        FederationMode::Off => BTreeSet::from([host(&actions.server_name)]),
        FederationMode::Listed(servers) => {
            servers.iter().map(|server| host(server)).chain([host(&actions.server_name)]).collect()
        }
    };
    object(json!({ "allow": allow, "deny": [], "allow_ip_literals": true }))
}

/// Puts the mode in force. Answers the job that goes on with the servers that are let in again.
async fn set(
    actions: &Actions,
    caller: &Caller,
    room: &Arc<Room>,
    switch: &Switch,
) -> Result<Option<String>, ActionError> {
    let (id, job) = jobs::new(actions, JobKind::Resume(room.id.clone()), &caller.user_id).await?;
    let mut writer = Writer::enter(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
    let present = RoomSettings::clone(&writer.view()?.settings);
    let is_wider = match (&present.federation, &switch.mode) {
        (FederationMode::Open, _) | (_, FederationMode::Off) => false,
        (FederationMode::Listed(before), FederationMode::Listed(now)) => {
            now.iter().any(|server| !before.contains(server))
        }
        (FederationMode::Off | FederationMode::Listed(_), FederationMode::Open | FederationMode::Listed(_)) => true,
    };
    let mut details = vec![("mode", switch.mode.as_str().to_owned())];
    if let FederationMode::Listed(servers) = &switch.mode {
        details.push(("servers", servers.iter().map(|server| server.as_str()).collect::<Vec<_>>().join(" ")));
    }
    details.extend([("evict", switch.evict.to_string()), ("acl", switch.acl.to_string())]);
    details.extend(switch.as_member.iter().map(|user_id| ("as", user_id.to_string())));
    let (actor, target) = (Actor::Admin(&caller.user_id), room.id.to_string());
    audit::Act { actor, action: "room.federate", target, details }.record(actions, writer.commit_mut());
    if is_wider {
        writer.commit_mut().effect(Effect::new(Home::server()).put(&JOBS, &id, &job));
    }
    if present.federation != switch.mode {
        writer.set_settings(RoomSettings { federation: switch.mode.clone(), ..present });
    }
    writer.commit().await?;
    if !is_wider {
        return Ok(None);
    }
    jobs::launch(actions, id.clone(), job);
    Ok(Some(id))
}
