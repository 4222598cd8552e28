//! The state of a room as events: reading all of it or one entry, and setting what no named call stands for.

use std::sync::Arc;

use rules::{
    draft::Draft,
    event::Event,
    kind::{RoomKind, refused_state_type},
    permission::Act,
};
use ruma::{OwnedEventId, RoomId, events::room::server_acl::RoomServerAclEventContent};
use serde_json::Value;

use super::{
    ActionError, Actions, Caller, Page, Window, aliases,
    creation::object,
    media,
    members::membership,
    messages::names_media,
    policy_servers,
    rooms::{self, Opened},
    rows::Rows,
    texts::{NAME_CHARACTERS_MAX, TOPIC_CHARACTERS_MAX, at_most},
    timeline::EventView,
};
use crate::storage::{Place, StateTree, keyspaces::REDACTIONS};

/// State entries that are read at a time.
const ENTRIES_AT_A_TIME: usize = 1_000;

/// The state of a room, by type and key.
///
/// # Errors
/// A caller who is not in the room.
pub async fn list(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    window: Window,
) -> Result<Page<EventView>, ActionError> {
    let opened = readable(actions, caller, reference).await?;
    let rows = Rows::on_disk(&opened.room.store, &opened.room.home);
    let tree = StateTree::new(&opened.room.store, opened.room.home.clone());
    let root = opened.view.tip.state;
    let mut events = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from {
        let entries = tree.walk(root, start, ENTRIES_AT_A_TIME).await?;
        from = entries.last().filter(|_| entries.len() == ENTRIES_AT_A_TIME).and_then(|(last, _)| last.checked_add(1));
        for (_, arrival) in entries {
            events.push(rows.event(&opened.view.basis.version, arrival).await?);
        }
    }
    let key = |event: &Event| (event.type_str().to_owned(), event.state_key().unwrap_or_default().to_owned());
    events.sort_by_cached_key(|(_, event)| key(event));
    let page = Page::of(events, window);
    let mut entries = Vec::with_capacity(page.entries.len());
    for (stored, event) in page.entries {
        entries.push(shown(&opened, &rows, stored.place, event).await?);
    }
    Ok(Page { entries, total: page.total })
}

/// One entry of a room's state.
///
/// # Errors
/// [`ActionError::EventNotFound`] when the state has no such entry.
pub async fn get(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    event_type: &str,
    state_key: &str,
) -> Result<EventView, ActionError> {
    let opened = readable(actions, caller, reference).await?;
    let rows = Rows::on_disk(&opened.room.store, &opened.room.home);
    let (version, root) = (&opened.view.basis.version, opened.view.tip.state);
    let event = rows.state_event(version, root, event_type, state_key).await?.ok_or(ActionError::EventNotFound)?;
    let arrival = rows.arrival_of(event.event_id()).await?.ok_or(ActionError::EventNotFound)?;
    let (stored, event) = rows.event(version, arrival).await?;
    shown(&opened, &rows, stored.place, event).await
}

async fn readable(actions: &Actions, caller: &Caller, reference: &str) -> Result<Opened, ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    membership(opened.member.as_ref()).joined()?;
    Ok(opened)
}

async fn shown(
    opened: &Opened,
    rows: &Rows<'_>,
    place: Option<Place>,
    event: Arc<Event>,
) -> Result<EventView, ActionError> {
    let redaction = match opened.view.summary.redactions {
        0 => None,
        _ => rows.get(&REDACTIONS, event.event_id()).await?,
    };
    let event = match &redaction {
        Some(_) => Arc::new(event.redacted(&opened.view.basis.version).map_err(ActionError::internal)?),
        None => event,
    };
    // What another server told of the state when ours entered the room is not part of the timeline yet.
    let place = place.unwrap_or(Place::BEFORE_ALL);
    Ok(EventView { event, place, redacted_by: redaction.map(|redaction| redaction.sender), transaction_id: None })
}

/// Sets an entry of the state. The same content again changes nothing and answers the event that stands.
///
/// # Errors
/// A type that has its own call; a level too low; content that the room does not take.
pub async fn set(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    event_type: &str,
    state_key: &str,
    content: Value,
) -> Result<OwnedEventId, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    let kind = entered.writer.summary()?.kind;
    let has_password = entered.writer.view()?.has_password();
    if let Some(call) = refused_state_type(event_type, kind, has_password) {
        return Err(ActionError::type_invariant(format!("`{event_type}` is not set directly; use {call}")));
    }
    let is_private = matches!(kind, RoomKind::Direct | RoomKind::Incognito);
    if is_private && event_type == "m.room.history_visibility" {
        let fixed = "who sees the past of a direct message or an incognito room follows from its type";
        return Err(ActionError::type_invariant(fixed));
    }
    let standing = entered.writer.standing(caller, entered.member.as_ref())?;
    match (event_type, state_key) {
        ("m.room.name", "") => standing.may(Act::Rename)?,
        ("m.room.topic", "") => standing.may(Act::Topic)?,
        ("m.room.avatar", "") => standing.may(Act::Avatar)?,
        _ => standing.may_set_state(event_type)?,
    }
    check_content(actions, kind, event_type, &content)?;
    if (event_type, state_key) == ("m.room.avatar", "") {
        check_picture(actions, caller, &content).await?;
    }
    if event_type == "m.room.canonical_alias" {
        check_aliases(actions, entered.writer.room_id(), &content).await?;
    }
    let content = object(content)?;
    let present = entered.writer.state_event(event_type, state_key).await?;
    let same = match &present {
        // What was redacted is there no more: the same content is news.
        Some(event) => {
            event.content_as::<ruma::CanonicalJsonObject>().is_ok_and(|present| present == content)
                && entered.writer.get(&REDACTIONS, event.event_id()).await?.is_none()
        }
        None => false,
    };
    let (entered, event) = match present.filter(|_| same) {
        Some(event) => (entered, event),
        None => {
            let draft = Draft::state(event_type, state_key, content);
            policy_servers::stage(actions, caller, entered, draft, None).await?
        }
    };
    entered.writer.commit().await?;
    Ok(event.event_id().clone())
}

/// A room's aliases are those that were reserved for it.
async fn check_aliases(actions: &Actions, room_id: &RoomId, content: &Value) -> Result<(), ActionError> {
    let others = match content.get("alt_aliases") {
        Some(Value::Array(others)) => others.as_slice(),
        Some(_) => return Err(ActionError::invalid("alt_aliases", "must be a list of aliases")),
        None => &[],
    };
    let main = ("alias", content.get("alias").unwrap_or(&Value::Null));
    for (field, alias) in std::iter::once(main).chain(others.iter().map(|alias| ("alt_aliases", alias))) {
        let holder = match alias.as_str() {
            Some(alias) => aliases::resolve(actions, alias).await?,
            None => None,
        };
        if holder.as_deref() != Some(room_id) {
            return Err(ActionError::invalid(field, "must be an alias of this room"));
        }
    }
    Ok(())
}

/// A room's picture is one that whoever sets it may read; none takes it away.
async fn check_picture(actions: &Actions, caller: &Caller, content: &Value) -> Result<(), ActionError> {
    match content.get("url") {
        None => Ok(()),
        Some(Value::String(url)) if url.is_empty() => Ok(()),
        Some(Value::String(url)) => media::must_read(actions, &caller.user_id, "url", url).await.map(drop),
        Some(_) => Err(ActionError::invalid("url", "must be the address of a medium, mxc://server/id")),
    }
}

fn check_content(actions: &Actions, kind: RoomKind, event_type: &str, content: &Value) -> Result<(), ActionError> {
    if kind == RoomKind::Incognito && names_media(content) {
        return Err(ActionError::type_invariant("an incognito room refers to no media"));
    }
    let field = match event_type {
        "m.room.name" => Some(("name", NAME_CHARACTERS_MAX)),
        "m.room.topic" => Some(("topic", TOPIC_CHARACTERS_MAX)),
        _ => None,
    };
    if let Some((field, characters_max)) = field {
        let text = content.get(field).and_then(Value::as_str);
        at_most(field, text, characters_max)?;
        if text.is_none_or(|text| field == "name" && text.trim().is_empty()) {
            return Err(ActionError::invalid(field, "must be a text that is not blank"));
        }
    }
    let words: Option<(&str, &[&str])> = match event_type {
        "m.room.history_visibility" => Some(("history_visibility", &["invited", "joined", "shared", "world_readable"])),
        "m.room.join_rules" => Some(("join_rule", &["public", "invite", "knock", "restricted", "knock_restricted"])),
        _ => None,
    };
    if let Some((field, words)) = words
        && !content.get(field).and_then(Value::as_str).is_some_and(|word| words.contains(&word))
    {
        return Err(ActionError::invalid(field, format!("must be one of {}", words.join(", "))));
    }
    if event_type == "m.room.server_acl" {
        let acl: RoomServerAclEventContent = serde_json::from_value(content.clone()).map_err(|_mistake| {
            ActionError::invalid("content", "is not a server ACL: send `allow` and `deny` as lists of texts")
        })?;
        if !acl.is_allowed(&actions.server_name) {
            return Err(ActionError::type_invariant("this ACL shuts out the server that you are on; allow it"));
        }
    }
    Ok(())
}
