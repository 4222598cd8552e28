//! Sending a message, and redacting one.

use std::sync::Arc;

use rules::{
    draft::Draft,
    kind::{RoomKind, refused_message_type, refused_state_type},
    permission::{Act, Membership, Reason},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedUserId, UserId};
use serde_json::Value;

use super::{
    ActionError, Actions, Caller,
    creation::object,
    policy_servers, requests,
    rooms::{self, Entered},
    texts::give_reason,
    timeline,
};
use crate::storage::{
    Effect, Home, Place,
    keyspaces::{MEMBERS, MENTIONS, REDACTIONS, SENT_UNDER},
};

/// People that one message can mention.
pub const MENTIONS_MAX: usize = 20;

/// A message that somebody wants to send.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The event type; `m.room.message` for ordinary ones.
    pub event_type: String,
    /// The content.
    pub content: Value,
    /// The event it answers; it must be one that the sender may see.
    pub reply_to: Option<OwnedEventId>,
    /// The sender's name for the request: the same name gives the same event.
    pub transaction_id: Option<String>,
    /// SHA-256 of what was asked.
    pub fingerprint: [u8; 32],
}

/// A message that is on disk.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The event.
    pub event_id: OwnedEventId,
    /// Its place.
    pub place: Place,
}

/// Sends a message; it is on disk when this returns.
///
/// # Errors
/// Not a member, silenced, a level too low, frozen; a type or content that the room does not take; too large.
pub async fn send(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    message: NewMessage,
) -> Result<Sent, ActionError> {
    if let Some(call) = refused_message_type(&message.event_type) {
        let call = refused_state_type(&message.event_type, RoomKind::Group, false).unwrap_or(call);
        let refused = format!("`{}` is not sent as a message; use {call}", message.event_type);
        return Err(ActionError::type_invariant(refused));
    }
    let mut entered = rooms::enter(actions, caller, reference).await?;
    if let Some(sent) = sent_before(&entered, caller, &message).await? {
        entered.writer.commit().await?;
        return Ok(sent);
    }
    entered.writer.standing(caller, entered.member.as_ref())?.may_send(&message.event_type)?;
    check_content(&entered, &message)?;
    if let Some(target) = &message.reply_to {
        let rows = entered.writer.rows();
        timeline::visible(caller, &rows, entered.writer.view()?, entered.member.as_ref(), target).await?;
    }
    let is_text = message.event_type == "m.room.message";
    let named = if is_text { mentioned(actions, &message.content) } else { Vec::new() };
    let content = with_reply(object(message.content.clone())?, message.reply_to.as_deref());
    let draft = Draft::message(message.event_type.clone(), content);
    let event = match policy_servers::to_ask(actions, &mut entered.writer).await? {
        None => entered.writer.stage_as(&caller.user_id, draft, message.transaction_id.clone()).await?,
        Some(policy) => {
            let version = entered.writer.version()?;
            let event = entered.writer.build(&caller.user_id, draft).await?.0;
            // No lane is held while another server is asked.
            drop(entered);
            let event = policy_servers::signed(actions, &version, &policy, &event).await?;
            entered = rooms::enter(actions, caller, reference).await?;
            if let Some(sent) = sent_before(&entered, caller, &message).await? {
                entered.writer.commit().await?;
                return Ok(sent);
            }
            entered.writer.standing(caller, entered.member.as_ref())?.may_send(&message.event_type)?;
            entered.writer.stage_built(Arc::clone(&event), message.transaction_id.clone()).await?;
            event
        }
    };
    let place = entered.writer.last_place()?;
    if let Some(transaction_id) = message.transaction_id {
        entered.writer.answers(&event, transaction_id, message.fingerprint)?;
    }
    mention(&mut entered, caller, named, place).await?;
    entered.writer.commit().await?;
    Ok(Sent { event_id: event.event_id().clone(), place })
}

/// What the same transaction id became earlier.
async fn sent_before(entered: &Entered, caller: &Caller, message: &NewMessage) -> Result<Option<Sent>, ActionError> {
    let Some(transaction_id) = &message.transaction_id else { return Ok(None) };
    let key = (caller.user_id.clone(), transaction_id.clone());
    let Some(before) = entered.writer.get(&SENT_UNDER, &key).await? else { return Ok(None) };
    if before.fingerprint != message.fingerprint {
        return Err(requests::mismatch());
    }
    Ok(Some(Sent { event_id: before.event_id, place: before.place }))
}

fn check_content(entered: &Entered, message: &NewMessage) -> Result<(), ActionError> {
    let summary = entered.writer.summary()?;
    if summary.encrypted && message.event_type == "m.room.message" {
        let clear = "this room is encrypted; send `{\"type\": \"m.room.encrypted\", \"content\": …}`";
        return Err(ActionError::type_invariant(clear));
    }
    if summary.kind == RoomKind::Incognito && names_media(&message.content) {
        return Err(ActionError::type_invariant("an incognito room refers to no media"));
    }
    Ok(())
}

/// Some text in it is the address of a medium.
pub(super) fn names_media(content: &Value) -> bool {
    match content {
        Value::String(text) => text.contains("mxc://"),
        Value::Array(items) => items.iter().any(names_media),
        Value::Object(fields) => fields.values().any(names_media),
        _ => false,
    }
}

fn with_reply(mut content: CanonicalJsonObject, target: Option<&EventId>) -> CanonicalJsonObject {
    let Some(target) = target else { return content };
    let object = |key: &str, value| CanonicalJsonValue::Object(CanonicalJsonObject::from([(key.to_owned(), value)]));
    let target = CanonicalJsonValue::String(target.to_string());
    content.insert("m.relates_to".to_owned(), object("m.in_reply_to", object("event_id", target)));
    content
}

/// Remembers the message with those whom it names, if they are members.
async fn mention(
    entered: &mut Entered,
    caller: &Caller,
    named: Vec<OwnedUserId>,
    place: Place,
) -> Result<(), ActionError> {
    let room_id = entered.writer.room_id().clone();
    for user_id in named {
        let member = entered.writer.get(&MEMBERS, &user_id).await?;
        if user_id == caller.user_id || member.is_none_or(|member| member.membership != Membership::Join) {
            continue;
        }
        let effect = Effect::new(Home::person(&user_id)).put(&MENTIONS, &(room_id.clone(), place), &());
        entered.writer.commit_mut().effect(effect);
    }
    Ok(())
}

/// The local people that a message names: in `m.mentions`, or, without that field, as `@name` in the body.
fn mentioned(actions: &Actions, content: &Value) -> Vec<OwnedUserId> {
    let named: Vec<String> = match content.get("m.mentions") {
        Some(mentions) => {
            let ids = mentions.get("user_ids").and_then(Value::as_array);
            ids.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).take(MENTIONS_MAX).collect()
        }
        None => {
            let body = content.get("body").and_then(Value::as_str).unwrap_or_default();
            words(body).take(MENTIONS_MAX).map(|word| format!("@{word}:{}", actions.server_name)).collect()
        }
    };
    let mut people: Vec<OwnedUserId> = named.iter().filter_map(|name| UserId::parse(name).ok()).collect();
    people.retain(|user_id| actions.is_local(user_id));
    people.sort();
    people.dedup();
    people
}

/// The words of a text that begin with `@`, without it and without what ends a sentence.
fn words(body: &str) -> impl Iterator<Item = String> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_-.=/+".contains(letter);
    body.split_whitespace().filter_map(move |word| {
        let (_, name) = word.split_once('@')?;
        let name: String = name.chars().take_while(|letter| is_name(*letter)).collect();
        let name = name.trim_end_matches('.').to_lowercase();
        (!name.is_empty()).then_some(name)
    })
}

/// Redacts an event; what is left of it is what the specification keeps.
///
/// # Errors
/// Not the author and no moderator; no such event.
pub async fn redact(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    event_id: &str,
    reason: Option<String>,
    transaction_id: Option<String>,
) -> Result<OwnedEventId, ActionError> {
    let entered = rooms::enter(actions, caller, reference).await?;
    let event_id = &*timeline::parse_id(event_id)?;
    let view = entered.writer.view()?.clone();
    let rows = entered.writer.rows();
    let standing = view.standing(actions, caller, entered.member.as_ref());
    standing.joined()?;
    let target = timeline::visible(caller, &rows, &view, entered.member.as_ref(), event_id).await?;
    if let Some(before) = entered.writer.get(&REDACTIONS, &event_id.to_owned()).await? {
        entered.writer.commit().await?;
        return Ok(before.event_id);
    }
    standing.not_frozen()?;
    if target.event.type_str() == "m.room.create" {
        return Err(ActionError::RedactForbidden("the event that made the room is never redacted".to_owned()));
    }
    let is_author = *target.event.sender() == caller.user_id;
    if !is_author && let Err(denial) = standing.may(Act::Redact) {
        return Err(match denial.reason {
            Reason::Level => ActionError::RedactForbidden(denial.message),
            _ => denial.into(),
        });
    }
    let mut content = CanonicalJsonObject::new();
    give_reason(&mut content, reason)?;
    let draft = Draft::redaction(event_id.to_owned(), content);
    let (entered, event) = policy_servers::stage(actions, caller, entered, draft, transaction_id).await?;
    entered.writer.commit().await?;
    Ok(event.event_id().clone())
}
