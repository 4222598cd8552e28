//! What the one dishonest server makes of what it knows.

use ::federation::{Pdu, local::StateBefore};
use ruma::{OwnedEventId, ServerName};
use yurt::actions::peers::PeerError;

use super::world::World;

pub(super) fn event(_world: &World, pdu: &Pdu) -> Result<Pdu, PeerError> {
    Ok(pdu.clone())
}

pub(super) fn events(_world: &World, pdus: Vec<Pdu>) -> Result<Vec<Pdu>, PeerError> {
    Ok(pdus)
}

pub(super) fn state_ids(
    _world: &World,
    state: StateBefore<OwnedEventId>,
) -> Result<StateBefore<OwnedEventId>, PeerError> {
    Ok(state)
}

pub(super) fn state(_world: &World, state: StateBefore<Pdu>) -> Result<StateBefore<Pdu>, PeerError> {
    Ok(state)
}

pub(super) fn transaction(_world: &World, _to: &ServerName, pdus: Vec<Pdu>) -> Vec<Pdu> {
    pdus
}
