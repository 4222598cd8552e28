//! A space and the rooms right below it, as other servers see them. Nothing is looked up further down, so a space that contains itself ends here.

use federation::{
    Pdu, Refusal,
    limits::SPACE_CHILDREN_MAX,
    local::{Child, Hierarchy, Parent},
};
use rules::{event::Event, visibility::HistoryVisibility};
use ruma::{OwnedRoomId, RoomId, ServerName};
use serde_json::{Value, json};

use super::published;
use crate::{
    actions::{
        ActionError, Actions,
        handshakes::{policy::knows, restricted},
        incoming::guests::{self, Met, failed, meet},
        summary,
    },
    storage::{
        Direction, KeyRange, Limit,
        keyspaces::{SERVERS, STATE_KEYS},
    },
};

/// Names of children that are looked at, the removed ones among them.
const NAMED_MAX: usize = 1_000;
/// Characters of the text that children are sorted by.
/// Source: <https://spec.matrix.org/v1.19/client-server-api/#ordering-of-children-within-a-space>
const ORDER_CHARACTERS_MAX: usize = 50;

/// A space and what is below it, as far as the peer may see it.
pub(super) async fn hierarchy(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    suggested_only: bool,
) -> Result<Hierarchy, Refusal> {
    let met = meet(actions, origin, room_id).await.map_err(|_hidden| Refusal::NotFound)?;
    if !may_see(actions, origin, &met).await? {
        return Err(Refusal::NotFound);
    }
    let named = children(&met, suggested_only).await.map_err(failed)?;
    let (mut below, mut hidden) = (Vec::new(), Vec::new());
    for (child_id, _) in named.iter().filter(|(child_id, _)| child_id != room_id) {
        // A room that is not here, or not for this peer to know of, is not spoken of.
        let Ok(child) = meet(actions, origin, child_id).await else { continue };
        if may_see(actions, origin, &child).await? {
            below.push(describe(&child).await.map_err(failed)?);
        } else {
            hidden.push(child_id.clone());
        }
    }
    let children_state = named.iter().map(|(_, event)| stripped(event)).collect::<Result<_, _>>();
    let room = describe(&met).await.map_err(failed)?;
    Ok(Hierarchy { room: Parent { room, children_state: children_state.map_err(failed)? }, children: below, hidden })
}

/// Somebody of the peer could enter the room, or read in it, or is invited.
async fn may_see(actions: &Actions, origin: &ServerName, met: &Met) -> Result<bool, Refusal> {
    let summary = &met.view.summary;
    if summary.state.is_frozen() {
        return knows(met, origin).await;
    }
    let is_open = matches!(summary.join_rule.as_str(), "public" | "knock" | "knock_restricted")
        || summary.history_visibility == HistoryVisibility::WorldReadable;
    if is_open || knows(met, origin).await? {
        return Ok(true);
    }
    if summary.join_rule != "restricted" {
        return Ok(false);
    }
    for room_id in restricted::allowed(met).await? {
        let Some(other) = guests::find(actions, &room_id).await.map_err(failed)? else { continue };
        if other.rows().get(&SERVERS, &origin.to_owned()).await.map_err(failed)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn describe(met: &Met) -> Result<Child, ActionError> {
    let encryption = met.rows().state_event(&met.version(), met.view.tip.state, "m.room.encryption", "").await?;
    let encryption = encryption.map(|event| summary::content(&event)).unwrap_or_default();
    let is_restricted = matches!(met.view.summary.join_rule.as_str(), "restricted" | "knock_restricted");
    let allowed = if is_restricted { restricted::allowed(met).await.unwrap_or_default() } else { Vec::new() };
    Ok(Child {
        room: published::describe(met).await?,
        allowed,
        room_version: met.version().id().clone(),
        encryption: encryption.get("algorithm").and_then(Value::as_str).map(str::to_owned),
    })
}

/// The events that name the rooms below a space, in the order of the space.
async fn children(met: &Met, suggested_only: bool) -> Result<Vec<(OwnedRoomId, std::sync::Arc<Event>)>, ActionError> {
    let (rows, version, state) = (met.rows(), met.version(), met.view.tip.state);
    let named = KeyRange::prefix(&"m.space.child".to_owned());
    let page = met.room.store.scan(&STATE_KEYS, &met.room.home, named, Direction::Up, Limit::rows(NAMED_MAX)).await?;
    let mut children = Vec::new();
    for ((event_type, state_key), _) in page.rows {
        let Ok(child_id) = RoomId::parse(&state_key) else { continue };
        let Some(event) = rows.state_event(&version, state, &event_type, &state_key).await? else { continue };
        let content = summary::content(&event);
        let has_servers = content.get("via").and_then(Value::as_array).is_some_and(|via| !via.is_empty());
        let is_suggested = content.get("suggested").and_then(Value::as_bool) == Some(true);
        if has_servers && (is_suggested || !suggested_only) {
            children.push((order(&content), event.origin_server_ts(), child_id, event));
        }
    }
    // Who has an order comes before who has none.
    children.sort_by(|a, b| (a.0.is_none(), &a.0, a.1, &a.2).cmp(&(b.0.is_none(), &b.0, b.1, &b.2)));
    children.truncate(SPACE_CHILDREN_MAX);
    Ok(children.into_iter().map(|(_, _, child_id, event)| (child_id, event)).collect())
}

fn order(content: &Value) -> Option<String> {
    let order = content.get("order").and_then(Value::as_str)?;
    let is_valid = order.len() <= ORDER_CHARACTERS_MAX && order.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    is_valid.then(|| order.to_owned())
}

/// The event without what only members need.
fn stripped(event: &Event) -> Result<Pdu, ActionError> {
    let stripped = json!({
        "type": event.type_str(), "state_key": event.state_key(), "content": summary::content(event),
        "sender": event.sender(), "origin_server_ts": event.origin_server_ts().0,
    });
    serde_json::value::to_raw_value(&stripped).map_err(ActionError::internal)
}
