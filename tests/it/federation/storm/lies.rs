//! What the one dishonest server makes of what it knows: it alters, withholds, invents and misattributes events, in what it sends and in what it answers.

use ::federation::{Pdu, local::StateBefore};
use rules::{
    UnixMs, Version,
    draft::{self, Around, Draft},
    signature::Signer,
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedUserId, ServerName, UserId};
use serde_json::{json, value::RawValue};
use yurt::actions::peers::{Errcode, PeerError};

use super::world::World;

/// How often it lies, in a hundred answers and transactions.
const LIES: u32 = 40;

pub(super) fn event(world: &World, pdu: &Pdu) -> Result<Pdu, PeerError> {
    if !world.chance(LIES) {
        return Ok(pdu.clone());
    }
    match world.below(4) {
        0 => Err(PeerError::Refused(Errcode::NOT_FOUND)),
        1 => Ok(altered(world, pdu)),
        2 => Ok(misattributed(world, pdu)),
        _ => Ok(invented(world, std::slice::from_ref(pdu)).unwrap_or_else(|| pdu.clone())),
    }
}

pub(super) fn events(world: &World, mut pdus: Vec<Pdu>) -> Result<Vec<Pdu>, PeerError> {
    if !world.chance(LIES) {
        return Ok(pdus);
    }
    if world.chance(20) {
        return Err(PeerError::Refused(Errcode::NOT_FOUND));
    }
    bend(world, &mut pdus);
    Ok(pdus)
}

pub(super) fn state_ids(
    world: &World,
    mut state: StateBefore<OwnedEventId>,
) -> Result<StateBefore<OwnedEventId>, PeerError> {
    if world.chance(LIES) {
        let others = world.seen.lock().1.clone();
        for _ in 0..=world.below(4) {
            match world.below(3) {
                0 if !state.state.is_empty() => drop(take(world, &mut state.state)),
                1 if !state.auth_chain.is_empty() => drop(take(world, &mut state.auth_chain)),
                _ if !others.is_empty() => state.state.push(world.pick(&others).clone()),
                _ => {}
            }
        }
    }
    Ok(state)
}

pub(super) fn state(world: &World, mut state: StateBefore<Pdu>) -> Result<StateBefore<Pdu>, PeerError> {
    if world.chance(LIES) {
        bend(world, &mut state.state);
        bend(world, &mut state.auth_chain);
    }
    Ok(state)
}

pub(super) fn transaction(world: &World, to: &ServerName, mut pdus: Vec<Pdu>) -> Vec<Pdu> {
    if world.chance(LIES) && !world.is_calm() {
        world.log(|| format!("a lie goes to {to}"));
        bend(world, &mut pdus);
    }
    pdus
}

fn take<T>(world: &World, all: &mut Vec<T>) -> T {
    let at = world.place(all.len());
    all.remove(at)
}

/// Changes a list in a few ways.
fn bend(world: &World, pdus: &mut Vec<Pdu>) {
    for _ in 0..=world.below(3) {
        if pdus.is_empty() {
            return;
        }
        let at = world.place(pdus.len());
        match world.below(4) {
            0 => drop(pdus.remove(at)),
            1 => pdus[at] = altered(world, &pdus[at]),
            2 => pdus[at] = misattributed(world, &pdus[at]),
            _ => pdus.extend(invented(world, pdus)),
        }
    }
}

fn object_of(pdu: &Pdu) -> CanonicalJsonObject {
    serde_json::from_str(pdu.get()).unwrap()
}

fn pdu_of(object: &CanonicalJsonObject) -> Pdu {
    RawValue::from_string(rules::canonical::to_string(object)).unwrap()
}

/// Another content, another time or other predecessors, under the signature that was there.
fn altered(world: &World, pdu: &Pdu) -> Pdu {
    let mut object = object_of(pdu);
    let other = match world.below(4) {
        0 => ("content", json!({ "body": "altered", "membership": "join" })),
        1 => ("origin_server_ts", json!(1)),
        2 => ("prev_events", json!([])),
        _ => ("signatures", json!({})),
    };
    object.insert(other.0.to_owned(), CanonicalJsonValue::try_from(other.1).unwrap());
    pdu_of(&object)
}

/// In somebody else's name, signed by the liar.
fn misattributed(world: &World, pdu: &Pdu) -> Pdu {
    let mut object = object_of(pdu);
    let victims: Vec<OwnedUserId> =
        world.signers.keys().map(|name| UserId::parse(format!("@{}0:{name}", &name.as_str()[..1])).unwrap()).collect();
    let victim = world.pick(&victims).to_string();
    object.insert("sender".to_owned(), CanonicalJsonValue::String(victim));
    let (signer, version) = signer(world);
    super::super::world::sign_anew(&mut object, signer, &version);
    pdu_of(&object)
}

fn signer(world: &World) -> (&Signer, Version) {
    (&world.signers[world.liar.as_ref().unwrap()], Version::parse(&world.version.lock()).unwrap())
}

/// An event of the liar's own person, signed as it should be: with predecessors that are old, made up or right, and with auth events of another event.
fn invented(world: &World, after: &[Pdu]) -> Option<Pdu> {
    let liar = world.liar.as_ref().unwrap();
    let sender = UserId::parse(format!("@{}0:{liar}", &liar.as_str()[..1])).unwrap();
    let model = object_of(world.pick(after));
    invent(world, &sender, &model)
}

fn ids_of(model: &CanonicalJsonObject, field: &str) -> Vec<OwnedEventId> {
    let Some(CanonicalJsonValue::Array(ids)) = model.get(field) else { return Vec::new() };
    ids.iter().filter_map(|id| OwnedEventId::try_from(id.as_str()?).ok()).collect()
}

fn invent(world: &World, sender: &OwnedUserId, model: &CanonicalJsonObject) -> Option<Pdu> {
    let seen = world.seen.lock().1.clone();
    let mut prev_events = match world.below(3) {
        0 => ids_of(model, "prev_events"),
        1 if !seen.is_empty() => vec![world.pick(&seen).clone()],
        _ => vec![OwnedEventId::try_from(format!("${:043}", world.below(1_000))).ok()?],
    };
    prev_events.truncate(20);
    let object = |content: serde_json::Value| match CanonicalJsonValue::try_from(content) {
        Ok(CanonicalJsonValue::Object(content)) => content,
        _ => CanonicalJsonObject::new(),
    };
    let draft = match world.below(5) {
        0 => Draft::state("m.room.power_levels", "", object(json!({ "users": { sender.as_str(): 100 } }))),
        1 => Draft::state("m.room.topic", "", object(json!({ "topic": "invented" }))),
        2 => Draft::member(sender, "leave", CanonicalJsonObject::new()),
        3 => Draft::state("com.example.note", "0", object(json!({ "number": "invented" }))),
        _ => Draft::message("m.room.message", object(json!({ "body": "invented", "msgtype": "m.text" }))),
    };
    let (signer, version) = signer(world);
    let room_id = world.room_id.lock().clone()?;
    let around = Around {
        room_id: Some(&room_id),
        sender,
        prev_events,
        auth_events: ids_of(model, "auth_events"),
        depth: world.below(60),
        now: UnixMs(world.now() + world.below(100_000)),
    };
    let event = draft::complete(draft, around, &version, signer).ok()?;
    RawValue::from_string(event.json().to_owned()).ok()
}
