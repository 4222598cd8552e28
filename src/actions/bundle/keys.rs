//! Which keys count for a bundle: our own are the ones that we know, those of others what their servers say. What only the bundle says, counts if an admin says so.

use std::collections::{BTreeMap, BTreeSet};

use rules::{UnixMs, keys::KeyRing};
use ruma::OwnedServerName;

use crate::{
    actions::{ActionError, Actions, incoming::judging},
    bundle::manifest::{SignedManifest, ring},
    storage::admin::ImportWish,
};

/// Servers that are named in a refusal.
const NAMED_MAX: usize = 5;

/// The keys to check a bundle with.
///
/// # Errors
/// A key cannot be asked for, and the wish does not believe the bundle; a key that is none.
pub(super) async fn trusted(
    actions: &Actions,
    signed: &SignedManifest,
    wish: &ImportWish,
) -> Result<KeyRing, ActionError> {
    let bundled = ring(&signed.manifest.verify_keys)?;
    let mut needed: BTreeSet<(OwnedServerName, String)> = signed.signing_keys();
    for (server, keys) in &signed.manifest.verify_keys {
        needed.extend(keys.keys().map(|key_id| (server.clone(), key_id.clone())));
    }
    let mut keys = judging::keys(actions, needed.clone(), UnixMs(0)).await;
    let mut unknown: BTreeMap<OwnedServerName, Vec<String>> = BTreeMap::new();
    for (server, key_id) in needed {
        if server == actions.server_name || keys.get(&server, &key_id).is_some() {
            continue;
        }
        match bundled.get(&server, &key_id) {
            Some(key) if wish.accept_bundle_keys => keys.insert(server, &key_id, *key),
            _ => unknown.entry(server).or_default().push(key_id),
        }
    }
    if unknown.is_empty() {
        return Ok(keys);
    }
    let names: Vec<String> = unknown.keys().take(NAMED_MAX).map(|server| format!("`{server}`")).collect();
    let names = names.join(", ");
    Err(ActionError::ImportRefused(format!(
        "the keys of {names} cannot be asked for now, so nobody but the bundle says that they are theirs; try again when the servers answer, or have an \
         administrator import it with `accept_bundle_keys`"
    )))
}
