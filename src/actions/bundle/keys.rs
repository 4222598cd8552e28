//! Which keys count for a bundle: our own are the ones that we know, those of others what their servers say. What only the bundle says, counts if an admin says so.

use std::collections::{BTreeMap, BTreeSet};

use rules::{
    UnixMs,
    keys::{Key, KeyRing, Validity},
};
use ruma::OwnedServerName;

use crate::{
    actions::{ActionError, Actions, incoming::judging, lane::Room, rows::Rows},
    bundle::manifest::{SignedManifest, ring},
    storage::{Commit, admin::ImportWish, keyspaces::BUNDLE_KEYS, peers::KnownKey},
};

/// Servers that are named in a refusal.
const NAMED_MAX: usize = 5;

/// Keys that only a bundle vouches for, and that an admin believes.
pub(super) type Believed = Vec<(OwnedServerName, String, Key)>;

/// The keys to check a bundle with, and which of them are believed.
///
/// # Errors
/// A key cannot be asked for, and the wish does not believe the bundle; a key that is none.
pub(super) async fn trusted(
    actions: &Actions,
    signed: &SignedManifest,
    wish: &ImportWish,
) -> Result<(KeyRing, Believed), ActionError> {
    let bundled = ring(&signed.manifest.verify_keys)?;
    let mut needed: BTreeSet<(OwnedServerName, String)> = signed.signing_keys();
    for (server, keys) in &signed.manifest.verify_keys {
        needed.extend(keys.keys().map(|key_id| (server.clone(), key_id.clone())));
    }
    let mut keys = judging::keys(actions, needed.clone(), UnixMs(0)).await;
    let room = actions.room(&signed.manifest.room_id);
    let rows = Rows::on_disk(&room.store, &room.home);
    let mut believed = Believed::new();
    let mut unknown: BTreeMap<OwnedServerName, Vec<String>> = BTreeMap::new();
    for (server, key_id) in needed {
        if server == actions.server_name || keys.get(&server, &key_id).is_some() {
            continue;
        }
        // What an admin has believed of this room once counts for it again.
        if let Some(kept) = kept(&rows, &server, &key_id).await? {
            keys.insert(server, &key_id, kept);
            continue;
        }
        match bundled.get(&server, &key_id) {
            Some(key) if wish.accept_bundle_keys => {
                keys.insert(server.clone(), &key_id, *key);
                believed.push((server, key_id, *key));
            }
            _ => unknown.entry(server).or_default().push(key_id),
        }
    }
    if unknown.is_empty() {
        return Ok((keys, believed));
    }
    let names: Vec<String> = unknown.keys().take(NAMED_MAX).map(|server| format!("`{server}`")).collect();
    let names = names.join(", ");
    Err(ActionError::ImportRefused(format!(
        "the keys of {names} cannot be asked for now, so nobody but the bundle says that they are theirs; try again when the servers answer, or have an \
         administrator import it with `accept_bundle_keys`"
    )))
}

/// A key that counts for this room alone, because an admin has believed its bundle.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn kept(rows: &Rows<'_>, server: &OwnedServerName, key_id: &str) -> Result<Option<Key>, ActionError> {
    let Some(row) = rows.get(&BUNDLE_KEYS, &(server.clone(), key_id.to_owned())).await? else { return Ok(None) };
    let KnownKey { key, is_expired, until } = row;
    let validity = if is_expired { Validity::Expired(until) } else { Validity::Until(until) };
    Ok(key.try_into().ok().map(|public| Key { public, validity }))
}

/// Keeps the keys that were believed with the room, for whoever exports it again.
///
/// # Errors
/// When storage cannot be written.
pub(super) async fn keep(room: &Room, believed: &Believed) -> Result<(), ActionError> {
    if believed.is_empty() {
        return Ok(());
    }
    let mut commit = Commit::new(room.home.clone());
    for (server, key_id, key) in believed {
        let (is_expired, until) = match key.validity {
            Validity::Expired(at) => (true, at),
            Validity::Until(until) => (false, until),
        };
        let row = KnownKey { key: key.public.to_vec(), is_expired, until };
        commit.put(&BUNDLE_KEYS, &(server.clone(), key_id.clone()), &row);
    }
    room.store.commit(commit).await?;
    Ok(())
}
