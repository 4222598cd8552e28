//! What administrators see of other servers, and what they may do about one.

use std::collections::BTreeMap;

use rules::UnixMs;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};

use super::PeerError;
use crate::{
    actions::{
        ActionError, Actions, Caller, Page, Window,
        accounts::must_be_admin,
        audit::{Act, Actor},
    },
    storage::{
        Commit, Home, Limit,
        keyspaces::{PEER_FACTS, PEER_STATE},
        peers::PeerFacts,
    },
};

/// Another server, as administrators see it.
#[derive(Clone, Debug)]
pub struct KnownPeer {
    /// Its name.
    pub server: OwnedServerName,
    /// When it last answered, or asked us something.
    pub last_seen: Option<UnixMs>,
    /// What went wrong last, and when.
    pub last_error: Option<(UnixMs, String)>,
    /// Failures in a row.
    pub failures: u32,
    /// It is left alone until then.
    pub next_try: Option<UnixMs>,
    /// A transaction to it is running.
    pub is_sending: bool,
    /// Events of the transaction that it has not yet answered.
    pub pdus_in_flight: usize,
    /// Typing notices and read receipts that wait.
    pub edus_waiting: usize,
    /// Rows of the feed that may hold something for it.
    pub rows_behind: u64,
}

/// The servers that this one ever had to do with, by name.
///
/// # Errors
/// A caller who is no admin.
pub async fn list(
    actions: &Actions,
    caller: &Caller,
    text: Option<&str>,
    window: Window,
) -> Result<Page<KnownPeer>, ActionError> {
    must_be_admin(caller)?;
    let mut known = facts(actions).await?;
    for server in actions.outgoing.servers_behind() {
        known.entry(server).or_default();
    }
    let text = text.map(str::to_lowercase);
    known.retain(|server, _| text.as_ref().is_none_or(|text| server.as_str().to_lowercase().contains(text)));
    let Page { entries, total } = Page::of(known.into_iter().collect(), window);
    let mut peers = Vec::with_capacity(entries.len());
    for (server, facts) in entries {
        peers.push(describe(actions, server, facts).await?);
    }
    Ok(Page { entries: peers, total })
}

/// Tries a server again now that is left alone because it did not answer.
///
/// # Errors
/// A caller who is no admin; a name that is none; a server that does not talk to others.
pub async fn reset(actions: &Actions, caller: &Caller, name: &str) -> Result<KnownPeer, ActionError> {
    must_be_admin(caller)?;
    let unknown = || ActionError::NotFound("peer");
    let server = ServerName::parse(name).map_err(|_no_name| unknown())?;
    let sending = actions.outgoing.sending();
    let sending =
        sending.ok_or_else(|| ActionError::FederationDisabled("this server does not talk to others".to_owned()))?;
    let facts = actions.store.get(&PEER_FACTS, &Home::peer(&server), &()).await?;
    if facts.is_none() && !actions.outgoing.servers_behind().contains(&server) {
        return Err(unknown());
    }
    let mut commit = Commit::new(Home::server());
    let (action, target) = ("peer.reset", server.to_string());
    Act { actor: Actor::Admin(&caller.user_id), action, target, details: Vec::new() }.record(actions, &mut commit);
    actions.store.commit(commit).await?;
    sending.reset(&server).await.map_err(|error| match error {
        PeerError::Unreachable => ActionError::Busy,
        error => ActionError::internal(error),
    })?;
    describe(actions, server, facts.unwrap_or_default()).await
}

async fn facts(actions: &Actions) -> Result<BTreeMap<OwnedServerName, PeerFacts>, ActionError> {
    let mut known = BTreeMap::new();
    let mut after: Option<Home> = None;
    loop {
        let start = after.as_ref().map(|home| (home, &()));
        let page = actions.store.scan_homes(&PEER_FACTS, start, Limit::max()).await?;
        after = page.rows.last().map(|(home, ..)| home.clone()).filter(|_| page.more);
        known.extend(page.rows.into_iter().filter_map(|(home, (), facts)| Some((home.as_peer()?, facts))));
        if after.is_none() {
            return Ok(known);
        }
    }
}

/// A server as administrators see it, whether or not this one ever had to do with it.
///
/// # Errors
/// When storage cannot be read.
pub(in crate::actions) async fn known(actions: &Actions, server: OwnedServerName) -> Result<KnownPeer, ActionError> {
    let facts = actions.store.get(&PEER_FACTS, &Home::peer(&server), &()).await?.unwrap_or_default();
    describe(actions, server, facts).await
}

/// What is in memory is newer than what was written down.
async fn describe(actions: &Actions, server: OwnedServerName, facts: PeerFacts) -> Result<KnownPeer, ActionError> {
    let state = actions.store.get(&PEER_STATE, &Home::peer(&server), &()).await?.unwrap_or_default();
    let mut peer = KnownPeer {
        last_seen: facts.last_seen,
        last_error: facts.last_error,
        failures: state.failures,
        next_try: state.next_try,
        is_sending: false,
        pdus_in_flight: 0,
        edus_waiting: 0,
        rows_behind: actions.outgoing.rows_behind(&server),
        server,
    };
    if let Some(sending) = actions.outgoing.sending()
        && let Ok(status) = sending.status(&peer.server).await
    {
        let time = |at: MilliSecondsSinceUnixEpoch| UnixMs(at.0.into());
        peer.last_seen = status.standing.last_seen.map(time).or(peer.last_seen);
        peer.last_error = status.standing.last_error.map(|(at, text)| (time(at), text)).or(peer.last_error);
        peer.failures = status.standing.failures;
        peer.next_try = status.next_try.or(status.standing.next_try).map(time);
        (peer.is_sending, peer.pdus_in_flight) = (status.is_sending, status.pdus_in_flight);
        peer.edus_waiting = status.edus_waiting;
    }
    Ok(peer)
}
