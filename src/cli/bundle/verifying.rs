//! `yurt bundle verify`: without a network, or with other servers asked about what only the bundle says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use rules::keys::{Key, KeyRing};
use ruma::{OwnedEventId, OwnedServerName};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use yurt::{
    bundle::{
        self, Archive, Fault, Verified,
        events::{self, Around},
        manifest::{self, SignedManifest, VerifyKeys},
        verify::Progress,
    },
    config::Config,
    server::Online,
};

use super::super::{CliError, environment, say};

/// States before holes that other servers are asked for. What is more, is not compared.
const STATES_ASKED_MAX: usize = 1_000;
/// Servers that are asked for one.
const SERVERS_ASKED_MAX: usize = 5;

/// How a bundle is to be checked.
pub(super) struct Wish<'a> {
    pub(super) keys: Option<&'a Path>,
    pub(super) online: Option<&'a Online>,
    pub(super) strict: bool,
    pub(super) json: bool,
}

/// Keys by their servers.
type Named = BTreeMap<String, Vec<String>>;

/// What is known beside what the bundle proves by itself.
#[derive(Default)]
struct Beside {
    /// The keys that only it vouches for.
    vouched: Named,
    /// The keys that their servers or notaries have told.
    confirmed: Named,
    states: States,
}

/// What other servers say of the states before holes.
#[derive(Default)]
struct States {
    same: u64,
    not_told: u64,
    /// The events before which they say another one.
    other: Vec<OwnedEventId>,
}

/// Other servers, by the configuration if there is one.
pub(in crate::cli) fn online(config: &Path, tenant: Option<&str>) -> Result<Online, CliError> {
    if !config.exists() {
        return Ok(Online::new(&Config::default(), None)?);
    }
    let config = Config::load(config, environment()?)?;
    let tenant = super::super::find_tenant(&config, tenant)?;
    Ok(Online::new(&config, Some(&tenant))?)
}

pub(super) async fn verify(file: &Path, wish: Wish<'_>) -> Result<(), CliError> {
    let (verified, beside) = match try_verify(file, &wish).await {
        Ok(checked) => checked,
        Err(CliError::Bundle(fault)) => {
            if wish.json {
                let Fault { entry, event, problem, .. } = &fault;
                say(&json!({ "holds": false, "entry": entry, "event": event, "problem": problem }).to_string())?;
            }
            return Err(fault.into());
        }
        Err(error) => return Err(error),
    };
    let unproven = wish.strict && !beside.vouched.is_empty();
    let holds = !unproven && beside.states.other.is_empty();
    if wish.json {
        say(&told(&verified, &beside, holds).to_string())?;
    } else {
        print(&verified, &beside)?;
    }
    if let Some(event_id) = beside.states.other.first() {
        let problem = "another server in the room says that the state before it was another one";
        return Err(Fault::of(bundle::STATES, problem).about(event_id).into());
    }
    if unproven {
        let problem = "keys that only the bundle vouches for are not enough with --strict; name others with --keys, or ask with --online";
        return Err(Fault::of(bundle::MANIFEST, problem).into());
    }
    Ok(())
}

fn print(verified: &Verified, beside: &Beside) -> Result<(), CliError> {
    super::describe(&verified.manifest)?;
    say("proven: content, id, signatures and right of every event, and the state behind the newest ones")?;
    let States { same, not_told, other } = &beside.states;
    if verified.claims > 0 {
        say(&format!("{} states before holes are what {} says", verified.claims, verified.manifest.server_name))?;
    }
    if *same > 0 || *not_told > 0 || !other.is_empty() {
        let other = other.len();
        say(&format!(
            "other servers in the room say the same of {same}, another one of {other}, and nothing of {not_told}"
        ))?;
    }
    for (event_id, reason) in &verified.refused {
        say(&format!("not shown, because the rules refuse it: {event_id}: {reason}"))?;
    }
    for (server, key_ids) in &beside.confirmed {
        say(&format!("{server} or a notary has confirmed its keys: {}", key_ids.join(", ")))?;
    }
    for (server, key_ids) in &beside.vouched {
        say(&format!("only the bundle vouches for the keys of {server}: {}", key_ids.join(", ")))?;
    }
    Ok(())
}

fn told(verified: &Verified, beside: &Beside, holds: bool) -> Value {
    let refused = verified.refused.iter().map(|(id, reason)| json!({ "event_id": id, "reason": reason }));
    let States { same, not_told, other } = &beside.states;
    json!({
        "holds": holds,
        "room_id": verified.manifest.room_id,
        "room_version": verified.manifest.room_version,
        "server_name": verified.manifest.server_name,
        "events": verified.events,
        "claimed_states": verified.claims,
        "compared_states": { "same": same, "other": other, "not_told": not_told },
        "refused": refused.collect::<Vec<_>>(),
        "confirmed_keys": beside.confirmed,
        "vouched_by_bundle": beside.vouched,
    })
}

/// The bundle with what is known beside it.
async fn try_verify(file: &Path, wish: &Wish<'_>) -> Result<(Verified, Beside), CliError> {
    let archive = Archive::open(file, super::limits())?;
    let signed = archive.manifest()?;
    let bundled = &signed.manifest.verify_keys;
    let mut ring = manifest::ring(bundled)?;
    let mut beside = Beside::default();
    let mut known = match wish.keys {
        Some(file) => listed(file)?,
        None => KeyRing::new(),
    };
    if let Some(online) = wish.online {
        known.extend(ask(online, &signed, &mut beside.confirmed).await?);
    }
    for (server, key_id) in needed(&signed) {
        if known.get(&server, &key_id).is_none() {
            beside.vouched.entry(server.to_string()).or_default().push(key_id);
        }
    }
    // What is known from elsewhere counts, whatever the bundle says.
    ring.extend(known);
    let bar = super::bar("verifying");
    let verified = bundle::verify(&archive, &ring, &std::env::temp_dir(), &mut |progress| {
        if let Progress::Checked(count, all) = progress {
            bar.set_length(all);
            bar.inc(count);
        }
        Ok(())
    });
    bar.finish_and_clear();
    let verified = verified?;
    if let Some(online) = wish.online.filter(|online| verified.claims > 0 && online.own().is_some()) {
        beside.states = compare(online, &archive, &verified).await?;
    }
    Ok((verified, beside))
}

/// Keys of a file.
fn listed(file: &Path) -> Result<KeyRing, CliError> {
    let text = fs::read(file).map_err(CliError::io(file.display().to_string()))?;
    let wrong = |error| CliError::Io { what: file.display().to_string(), error: io::Error::other(error) };
    let known: VerifyKeys = serde_json::from_slice(&text).map_err(|error: serde_json::Error| wrong(error))?;
    Ok(manifest::ring(&known)?)
}

/// The keys that the bundle names, and those that it is signed with.
fn needed(signed: &SignedManifest) -> BTreeSet<(OwnedServerName, String)> {
    let mut needed = signed.signing_keys();
    for (server, keys) in &signed.manifest.verify_keys {
        needed.extend(keys.keys().map(|key_id| (server.clone(), key_id.clone())));
    }
    needed
}

/// What other servers say about the keys. One that is another than the bundle says, is a lie of one of them.
async fn ask(online: &Online, signed: &SignedManifest, confirmed: &mut Named) -> Result<KeyRing, CliError> {
    let needed = needed(signed);
    let told = online.keys(&needed).await;
    let bundled = manifest::ring(&signed.manifest.verify_keys)?;
    let mut known = KeyRing::new();
    for (server, key_id) in needed {
        let Some(key): Option<&Key> = told.get(&server, &key_id) else { continue };
        if bundled.get(&server, &key_id).is_some_and(|bundled| bundled.public != key.public) {
            let problem =
                format!("`verify_keys`: the key `{key_id}` of `{server}` is another one than that server says");
            return Err(Fault::of(bundle::MANIFEST, problem).into());
        }
        known.insert(server.clone(), &key_id, *key);
        confirmed.entry(server.to_string()).or_default().push(key_id);
    }
    Ok(known)
}

/// Asks servers in the room for the states before holes.
async fn compare(online: &Online, archive: &Archive, verified: &Verified) -> Result<States, CliError> {
    let mut claimed = Vec::new();
    events::walk(archive, &verified.manifest, |event, around| {
        if let Around::Claimed(state) = around {
            claimed.push((event.event_id, digest(state)));
        }
        Ok(())
    })?;
    let joined = verified.members.iter().filter(|(_, membership)| *membership == "join");
    let mut servers: BTreeSet<OwnedServerName> = joined.map(|(user_id, _)| user_id.server_name().to_owned()).collect();
    // What made the bundle says what it says already.
    servers.remove(&verified.manifest.server_name);
    servers.retain(|server| online.own() != Some(&**server));
    let servers: Vec<OwnedServerName> = servers.into_iter().take(SERVERS_ASKED_MAX).collect();
    let mut states = States::default();
    for (number, (event_id, claimed)) in claimed.into_iter().enumerate() {
        let told = match number < STATES_ASKED_MAX {
            true => online.state_before(&servers, &verified.manifest.room_id, &event_id).await,
            false => None,
        };
        match told.map(digest) {
            None => states.not_told += 1,
            Some(told) if told == claimed => states.same += 1,
            Some(_) => states.other.push(event_id),
        }
    }
    Ok(states)
}

fn digest(mut state: Vec<OwnedEventId>) -> [u8; 32] {
    state.sort_unstable();
    let mut hasher = Sha256::new();
    for id in state {
        hasher.update(id.as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize().into()
}
