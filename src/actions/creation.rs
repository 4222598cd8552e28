//! Making rooms: the create event first, because it gives the room its id, then everything else as one commit.
//!
//! Making a room twice from the same create event makes it once: that is how promised rooms are finished after a crash.

use rules::{
    draft::{self, Around, Draft},
    event::Event,
    kind::{self, RoomKind, TYPE_FIELD},
    version::Version,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, OwnedRoomId, OwnedUserId, UserId, canonical_json::CanonicalJsonError,
    events::TimelineEventType,
};
use serde_json::json;

use super::{
    ActionError, Actions, Caller, accounts,
    caller::OnBehalf,
    capacity, chores, incognito, media, members, remote_invite, requests, room_passwords, settings,
    texts::{NAME_CHARACTERS_MAX, TOPIC_CHARACTERS_MAX, at_most},
    workspaces,
};
use crate::storage::{
    accounts::Reservation,
    room_settings::{FederationMode, MadeThrough, RoomSettings},
};

mod inherits;
mod writing;

pub(super) use inherits::Inherits;
pub(super) use writing::{write, write_hidden};

/// People that one call may invite: the whole room is one commit.
pub const INVITES_MAX: usize = 100;
/// Random characters that make every create event, and so every room id of version 12, another one.
const NONCE_CHARACTERS: usize = 26;

/// A room that somebody wants.
#[derive(Clone, Debug, Default)]
pub struct NewRoom {
    /// Group, public or incognito.
    pub kind: Option<RoomKind>,
    /// What it is called.
    pub name: Option<String>,
    /// What it is about.
    pub topic: Option<String>,
    /// An alias, exactly this one.
    pub alias: Option<String>,
    /// Listed and open to all.
    pub is_public: Option<bool>,
    /// The workspace it belongs to; none: the creator's personal one.
    pub workspace_id: Option<OwnedRoomId>,
    /// Leaves no trace.
    pub is_incognito: bool,
    /// Who is invited at once.
    pub invite: Vec<OwnedUserId>,
    /// People of this server who are brought in at once.
    pub members: Vec<OwnedUserId>,
    /// A word that lets people of this server in.
    pub password: Option<String>,
    /// Joined members at most.
    pub max_members: Option<u64>,
    /// Other servers may take part; none: as the configuration says.
    pub federate: Option<bool>,
    /// The room version; none: the default.
    pub version: Option<String>,
    /// Its picture, as an `mxc://` address.
    pub avatar_url: Option<String>,
    /// It is removed as soon as somebody leaves and at most one member remains.
    pub is_transient: bool,
    /// Which API it is made through.
    pub made_through: MadeThrough,
    /// Everybody may invite, or moderators only; none: everybody.
    pub allow_invites: Option<bool>,
    /// Who is not invited may knock.
    pub members_only: bool,
    /// A text that clients keep with the room.
    pub custom: Option<String>,
}

/// A room, ready to be written.
pub(super) struct Plan {
    pub(super) version: Version,
    pub(super) kind: RoomKind,
    pub(super) is_public: bool,
    pub(super) name: Option<String>,
    pub(super) topic: Option<String>,
    pub(super) avatar_url: Option<String>,
    pub(super) workspace_id: Option<OwnedRoomId>,
    pub(super) invite: Vec<OwnedUserId>,
    /// People of this server who are invited and joined at once.
    pub(super) members: Vec<OwnedUserId>,
    /// The other one of a direct message: invited, and joined at once when local.
    pub(super) partner: Option<OwnedUserId>,
    pub(super) settings: RoomSettings,
    /// Others than those of its type.
    pub(super) join_rule: Option<&'static str>,
    /// The level that inviting needs, if another one than in rooms of its type.
    pub(super) invite_level: Option<Int>,
    pub(super) custom: Option<String>,
    /// The server that makes it in the creator's name.
    pub(super) on_behalf: Option<OnBehalf>,
    /// The room follows another one.
    pub(super) inherits: Option<Inherits>,
}

impl Plan {
    /// A room of this type with the default version and nothing else.
    pub(super) fn of_kind(kind: RoomKind) -> Result<Self, ActionError> {
        let version = Version::parse(Version::DEFAULT).ok_or_else(|| ActionError::internal("no default version"))?;
        Ok(Self {
            version,
            kind,
            is_public: false,
            name: None,
            topic: None,
            avatar_url: None,
            workspace_id: None,
            invite: Vec::new(),
            members: Vec::new(),
            partner: None,
            settings: RoomSettings::default(),
            join_rule: None,
            invite_level: None,
            custom: None,
            on_behalf: None,
            inherits: None,
        })
    }
}

/// Makes a room.
///
/// # Errors
/// Fields that do not go together; limits of the tenant; a workspace that the caller may not edit; people who do not exist.
pub async fn create(actions: &Actions, caller: &Caller, new: NewRoom) -> Result<OwnedRoomId, ActionError> {
    let wished_alias = new.alias.clone();
    let plan = plan(actions, caller, new).await?;
    let promised = match &caller.request {
        Some(request) if plan.kind != RoomKind::Incognito => {
            requests::promised(actions, &caller.user_id, request).await?
        }
        _ => None,
    };
    if let Some(made) = made_before(actions, promised.as_ref()).await? {
        return Ok(made);
    }
    let place = match plan.kind {
        RoomKind::Incognito => None,
        _ => Some(capacity::room(actions).await?),
    };
    let create = match promised {
        Some(reservation) => read_create(&reservation, &plan.version)?,
        None => {
            let create = create_event(actions, &caller.user_id, &plan)?;
            if let Some(request) = caller.request.as_ref().filter(|_| plan.kind != RoomKind::Incognito) {
                let reservation = reservation(actions, &create, request.fingerprint);
                requests::promise(actions, &caller.user_id, request, &reservation).await?;
            }
            create
        }
    };
    let room_id = create.room_id().clone();
    if plan.kind == RoomKind::Incognito {
        actions.incognito_rooms.write().insert(room_id.clone());
    }
    let far: Vec<OwnedUserId> = plan.invite.iter().filter(|user_id| !actions.is_local(user_id)).cloned().collect();
    let writing = write(actions, &caller.user_id, create, plan, wished_alias.as_deref(), caller.is_admin);
    let made = Box::pin(writing).await;
    if made.is_err() && actions.room(&room_id).view().await?.is_none() {
        actions.incognito_rooms.write().remove(&room_id);
    }
    made?;
    place.into_iter().for_each(capacity::Place::keep);
    remote_invite::invite_all(actions, caller, &room_id, far).await;
    Ok(room_id)
}

/// The room of a promise, if an earlier try has made it.
pub(super) async fn made_before(
    actions: &Actions,
    promised: Option<&Reservation>,
) -> Result<Option<OwnedRoomId>, ActionError> {
    let Some(promised) = promised else { return Ok(None) };
    let Some(view) = actions.room(&promised.room_id).view().await? else { return Ok(None) };
    if let Some(space) = &view.summary.workspace_id {
        chores::try_finish(actions, &promised.room_id, space).await;
    }
    Ok(Some(promised.room_id.clone()))
}

/// Checks what was asked for and fills in what was not.
async fn plan(actions: &Actions, caller: &Caller, mut new: NewRoom) -> Result<Plan, ActionError> {
    at_most("name", new.name.as_deref(), NAME_CHARACTERS_MAX)?;
    at_most("topic", new.topic.as_deref(), TOPIC_CHARACTERS_MAX)?;
    settings::check_max_members(new.max_members)?;
    new.password.as_deref().map_or(Ok(()), room_passwords::check)?;
    let mut plan = Plan::of_kind(new.kind.unwrap_or(RoomKind::Group))?;
    if new.is_incognito {
        if plan.kind == RoomKind::Public {
            return Err(ActionError::type_invariant("a public room cannot be incognito; leave `scope_kind` out"));
        }
        plan.kind = RoomKind::Incognito;
    }
    check_kind(actions, &plan, &new)?;
    if let Some(version) = &new.version {
        plan.version = Version::parse(version).filter(Version::may_create).ok_or_else(|| {
            ActionError::invalid("room_version", format!("rooms are created in version 10, 11 or 12, not `{version}`"))
        })?;
    }
    plan.is_public = plan.kind == RoomKind::Public || new.is_public.unwrap_or(false);
    if new.password.is_some()
        && let Some(refused) = kind::refused_password(plan.kind, kind::join_rule(plan.kind, plan.is_public))
    {
        return Err(ActionError::type_invariant(refused));
    }
    set_settings(&mut plan, &mut new)?;
    plan.on_behalf.clone_from(&caller.on_behalf);
    plan.name = new.name.filter(|name| !name.trim().is_empty());
    if plan.kind == RoomKind::Incognito && plan.name.is_none() {
        plan.name = Some(format!("incognito-{}", actions.random_word(6)));
    }
    plan.topic = new.topic.filter(|topic| !topic.trim().is_empty());
    if let Some(url) = &new.avatar_url {
        media::must_read(actions, &caller.user_id, "avatar_url", url).await?;
    }
    plan.avatar_url = new.avatar_url;
    let federation = match new.federate {
        Some(true) => FederationMode::Open,
        Some(false) => FederationMode::Off,
        None => actions.settings.room_federation.clone(),
    };
    plan.settings = RoomSettings {
        max_members: new.max_members,
        federation,
        password_hash: None,
        made_through: new.made_through,
        is_transient: new.is_transient,
    };
    plan.invite = people(actions, caller, "invite", new.invite).await?;
    plan.members = members(actions, caller, &plan, new.members).await?;
    if plan.settings.federation == FederationMode::Off && plan.invite.iter().any(|user_id| !actions.is_local(user_id)) {
        let message = "without `federate: true` this server keeps the room to itself; invite local people only";
        return Err(ActionError::FederationDisabled(message.to_owned()));
    }
    if plan.kind != RoomKind::Incognito {
        plan.workspace_id = Some(match new.workspace_id {
            Some(workspace_id) => {
                workspaces::editable(actions, caller, &workspace_id).await?;
                workspace_id
            }
            None => accounts::personal_workspace(actions, &caller.user_id).await?,
        });
    }
    if let Some(password) = new.password {
        plan.settings.password_hash = Some(room_passwords::hash(actions, password).await?);
    }
    Ok(plan)
}

/// What a new room has from its first moment on that could be set later too.
fn set_settings(plan: &mut Plan, new: &mut NewRoom) -> Result<(), ActionError> {
    if new.members_only {
        let refused =
            kind::refused_members_only(plan.kind, kind::join_rule(plan.kind, plan.is_public), new.password.is_some());
        refused.map_or(Ok(()), |refused| Err(ActionError::type_invariant(refused)))?;
        plan.join_rule = Some("knock");
    }
    if let Some(custom) = new.custom.take().filter(|custom| !custom.is_empty()) {
        settings::check_custom(&custom)?;
        incognito::refuse_media(plan.kind, &custom)?;
        plan.custom = Some(custom);
    }
    plan.invite_level = new.allow_invites.map(settings::invite_level);
    Ok(())
}

/// What the type of a new room does not go with.
fn check_kind(actions: &Actions, plan: &Plan, new: &NewRoom) -> Result<(), ActionError> {
    let has_name = new.name.as_ref().is_some_and(|name| !name.trim().is_empty());
    match plan.kind {
        RoomKind::Direct => return Err(ActionError::type_invariant("direct messages are made with POST /v1/rooms/dm")),
        RoomKind::Workspace => return Err(ActionError::type_invariant("workspaces are made with POST /v1/workspaces")),
        RoomKind::Public if new.is_public == Some(false) => {
            return Err(ActionError::invalid("is_public", "a public room is always public; make a group instead"));
        }
        RoomKind::Group | RoomKind::Public if !has_name => {
            return Err(ActionError::invalid("name", "a group or public room needs a name that is not blank"));
        }
        RoomKind::Group | RoomKind::Public => return Ok(()),
        RoomKind::Incognito => {}
    }
    let is_foreign = |user_id: &OwnedUserId| !actions.is_local(user_id);
    if new.workspace_id.is_some() {
        return Err(ActionError::type_invariant("an incognito room belongs to no workspace; leave `workspace_id` out"));
    }
    if new.is_public == Some(true) {
        return Err(ActionError::type_invariant("an incognito room is never listed; leave `is_public` out"));
    }
    if new.federate == Some(true) || new.invite.iter().any(is_foreign) {
        return Err(ActionError::type_invariant(
            "an incognito room never leaves this server; invite local people only",
        ));
    }
    if new.is_transient {
        return Err(ActionError::type_invariant("an incognito room ends with its creator; leave `transient` out"));
    }
    if new.avatar_url.is_some() {
        return Err(ActionError::type_invariant("an incognito room refers to no media; leave `avatar_url` out"));
    }
    Ok(())
}

/// The people to bring in at once: as [`people`], all of this server, as many as there is room for.
async fn members(
    actions: &Actions,
    caller: &Caller,
    plan: &Plan,
    named: Vec<OwnedUserId>,
) -> Result<Vec<OwnedUserId>, ActionError> {
    if let Some(foreign) = named.iter().find(|user_id| !actions.is_local(user_id)) {
        return Err(ActionError::invalid("members", format!("{foreign} is of another server and can only be invited")));
    }
    let mut members = people(actions, caller, "members", named).await?;
    members.retain(|user_id| !plan.invite.contains(user_id));
    let max = plan.settings.max_members.unwrap_or(u64::MAX).min(actions.settings.max_participants);
    if u64::try_from(members.len()).is_ok_and(|others| others >= max) {
        return Err(ActionError::invalid("members", format!("the room has room for {max} people, you included")));
    }
    Ok(members)
}

/// The people that a new room begins with, each once, all of them existing.
async fn people(
    actions: &Actions,
    caller: &Caller,
    field: &str,
    named: Vec<OwnedUserId>,
) -> Result<Vec<OwnedUserId>, ActionError> {
    if named.len() > INVITES_MAX {
        return Err(ActionError::invalid(field, format!("at most {INVITES_MAX} people; invite the others afterwards")));
    }
    let mut people = Vec::with_capacity(named.len());
    for user_id in named {
        if user_id == caller.user_id {
            return Err(ActionError::invalid(field, "you are in the room that you create; leave yourself out"));
        }
        members::must_be_invitable(actions, &user_id).await?;
        if !people.contains(&user_id) {
            people.push(user_id);
        }
    }
    Ok(people)
}

/// Builds and signs the event that gives a room its id.
pub(super) fn create_event(actions: &Actions, creator: &UserId, plan: &Plan) -> Result<Event, ActionError> {
    let mut content = object(json!({
        "room_version": plan.version.as_str(),
        "io.yurt.nonce": actions.random_word(NONCE_CHARACTERS),
    }))?;
    let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
    if plan.kind == RoomKind::Workspace {
        content.insert("type".to_owned(), text("m.space"));
    } else {
        content.insert(TYPE_FIELD.to_owned(), text(plan.kind.as_str()));
    }
    if plan.kind == RoomKind::Incognito {
        content.insert("m.federate".to_owned(), CanonicalJsonValue::Bool(false));
    }
    if plan.version.creator_in_content() {
        content.insert("creator".to_owned(), text(creator.as_str()));
    }
    if let Some(partner) = plan.partner.as_ref().filter(|_| plan.version.creators_are_above_levels()) {
        content.insert("additional_creators".to_owned(), CanonicalJsonValue::Array(vec![text(partner.as_str())]));
    }
    if let Some(inherits) = &plan.inherits {
        content.insert("predecessor".to_owned(), inherits.predecessor(&plan.version));
    }
    let room_id = if plan.version.room_id_is_create_hash() {
        None
    } else {
        let local = actions.random_word(NONCE_CHARACTERS);
        Some(OwnedRoomId::try_from(format!("!{local}:{}", actions.server_name)).map_err(ActionError::internal)?)
    };
    let sender = creator.to_owned();
    let around = Around {
        room_id: room_id.as_ref(),
        sender: &sender,
        prev_events: Vec::new(),
        auth_events: Vec::new(),
        depth: 1,
        now: actions.now(),
    };
    Ok(draft::complete(
        Draft::state(TimelineEventType::RoomCreate, "", content),
        around,
        &plan.version,
        &actions.signer,
    )?)
}

/// What is kept of a create event until its room exists.
pub(super) fn reservation(actions: &Actions, create: &Event, fingerprint: [u8; 32]) -> Reservation {
    Reservation {
        room_id: create.room_id().clone(),
        create_event: create.json().to_owned(),
        fingerprint,
        at: actions.now(),
    }
}

/// The create event that a reservation keeps.
pub(super) fn read_create(reservation: &Reservation, version: &Version) -> Result<Event, ActionError> {
    let raw =
        serde_json::value::RawValue::from_string(reservation.create_event.clone()).map_err(ActionError::internal)?;
    let pdu = rules::format::parse(&rules::event::RawPdu(raw), version, rules::format::Caps::Enforced)
        .map_err(ActionError::internal)?;
    let room_id = reservation.room_id.clone();
    Event::from_stored(pdu.event_id().clone(), room_id, version, reservation.create_event.clone(), false)
        .map_err(ActionError::internal)
}

/// A JSON object as the canonical form that events are made of.
pub(super) fn object(content: serde_json::Value) -> Result<CanonicalJsonObject, ActionError> {
    match CanonicalJsonValue::try_from(content) {
        Ok(CanonicalJsonValue::Object(content)) => Ok(content),
        Ok(_) => Err(ActionError::invalid("content", "must be an object")),
        Err(CanonicalJsonError::IntegerOutOfRange) => {
            let problem = "holds an integer that is not from -9007199254740991 to 9007199254740991; send it as text";
            Err(ActionError::invalid("content", problem))
        }
        Err(_) => Err(ActionError::invalid("content", "holds a number that is no integer; send it as text")),
    }
}
