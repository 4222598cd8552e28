//! Passwords of rooms: a word that lets people of this server in. It is no part of the room: the room stays one that is entered by invite, and this server
//! signs the invite together with the join.
//!
//! A guess costs the same whatever the room: a hidden, a missing and an open-hearted one are told apart neither by text nor by work. Who guesses wrong too
//! often has to wait. The counts are kept in memory: a restart forgets them.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use rules::{
    UnixMs,
    draft::Draft,
    kind::refused_password,
    permission::{Act, Membership, Reason, Standing},
    power::Level,
};
use ruma::{OwnedUserId, RoomId, UserId};
use sha2::{Digest, Sha256};

use super::{
    ActionError, Actions, Caller,
    append::Writer,
    lane::Room,
    members::{self, membership},
    passwords::PASSWORD_CHARACTERS_MAX,
    rooms::{self, Entered, RoomDetails},
};
use crate::storage::{Direction, KeyRange, Limit, keyspaces::MEMBERS, room_settings::RoomSettings};

/// Wrong guesses of one account at one room within [`TRIES_LIFETIME_MS`].
pub const TRIES_MAX: usize = 5;
/// How long a wrong guess counts.
pub const TRIES_LIFETIME_MS: u64 = 60 * 60 * 1_000;
/// Entries of one account, two for each wrong guess at whatever room. Further guesses have to wait.
const ENTRIES_OF_ACCOUNT_MAX: usize = 200;
/// Accounts with guesses from which those whose guesses count no longer are cleared away first.
const ACCOUNTS_SWEEP: usize = 1_024;
/// Members that are looked at together for one who may invite.
const MEMBERS_AT_A_TIME: usize = 500;

/// Sets the room's password, or takes it away.
///
/// # Errors
/// A level too low; a room that takes none; a password that is empty or too long.
pub async fn set(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    password: Option<String>,
) -> Result<RoomDetails, ActionError> {
    let password_hash = match password {
        Some(password) => {
            check(&password)?;
            let opened = rooms::open(actions, caller, reference).await?;
            opened.view.standing(actions, caller, opened.member.as_ref()).may(Act::Settings)?;
            Some(hash(actions, password).await?)
        }
        None => None,
    };
    let mut entered = rooms::enter(actions, caller, reference).await?;
    entered.may(caller, Act::Settings)?;
    let summary = entered.writer.summary()?;
    if password_hash.is_some()
        && let Some(refused) = refused_password(summary.kind, &summary.join_rule)
    {
        return Err(ActionError::type_invariant(refused));
    }
    let present = RoomSettings::clone(&entered.writer.view()?.settings);
    if present.password_hash != password_hash {
        entered.writer.set_settings(RoomSettings { password_hash, ..present });
    }
    entered.finish(actions, caller).await
}

/// A password is one.
///
/// # Errors
/// [`ActionError::RequestInvalid`].
pub fn check(password: &str) -> Result<(), ActionError> {
    if password.is_empty() {
        return Err(ActionError::invalid("password", "must not be empty; null stands for none"));
    }
    if password.chars().count() > PASSWORD_CHARACTERS_MAX {
        return Err(ActionError::invalid("password", format!("at most {PASSWORD_CHARACTERS_MAX} characters")));
    }
    Ok(())
}

/// What is kept of a password.
///
/// # Errors
/// [`ActionError::RateLimited`] when too many wait.
pub async fn hash(actions: &Actions, password: String) -> Result<String, ActionError> {
    actions.passwords.hash(password, crate::random::bytes(&*actions.random)).await
}

/// Enters a room, whether or not the caller sees it, with its password. Nothing else would let the caller in.
///
/// # Errors
/// A wrong password: as a missing room for who does not see it. Too many of them. Banned, full, frozen; nobody here who could invite.
pub(super) async fn join(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    via: &[String],
    password: &str,
) -> Result<RoomDetails, ActionError> {
    let room = match rooms::locate(actions, reference).await {
        Err(ActionError::RoomNotFound) => None,
        room => Some(room?),
    };
    let (hash, is_visible) = match &room {
        Some(room) => door(room, caller).await?,
        None => (None, false),
    };
    let guess =
        actions.room_guesses.take(actions.now(), &caller.user_id, reference, room.as_ref().map(|room| &*room.id))?;
    let hash = hash.filter(|_| guess.counts);
    let refused = || match is_visible {
        true => forbidden("this password does not open this room; ask a member for an invite"),
        false => members::elsewhere(actions, reference, via, "joining this room"),
    };
    let is_right = actions.passwords.verify(password.to_owned(), hash.clone()).await?;
    let Some(room) = room.filter(|_| is_right) else {
        guess.was_wrong();
        return Err(refused());
    };
    let Some(mut writer) = Writer::enter(actions, &room).await? else { return Err(refused()) };
    if writer.view()?.settings.password_hash != hash {
        return Err(refused());
    }
    let member = writer.get(&MEMBERS, &caller.user_id).await?;
    let is_outside = matches!(membership(member.as_ref()), Membership::None | Membership::Leave | Membership::Knock);
    let standing = writer.standing(caller, member.as_ref())?;
    let entitled = if is_outside { Membership::Invite } else { standing.membership };
    Standing { membership: entitled, ..standing }.may(Act::Join)?;
    let profile = members::profile_of(actions, &caller.user_id).await?;
    if is_outside {
        let nobody = "nobody of this server who is in the room may invite; ask a member of another server";
        let inviter = inviter(actions, &room, &writer).await?.ok_or_else(|| forbidden(nobody))?;
        writer.stage(&inviter, Draft::member(&caller.user_id, "invite", profile.clone())).await?;
    }
    if membership(member.as_ref()) != Membership::Join {
        writer.stage(&caller.user_id, Draft::member(&caller.user_id, "join", profile)).await?;
    }
    Entered { writer, member }.finish(actions, caller).await
}

fn forbidden(message: &str) -> ActionError {
    ActionError::RoomForbidden { reason: Reason::Membership, message: message.to_owned() }
}

/// The hash of the room's password, and whether the caller sees the room.
async fn door(room: &Room, caller: &Caller) -> Result<(Option<String>, bool), ActionError> {
    let Some(view) = room.view().await? else { return Ok((None, false)) };
    let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
    Ok((view.settings.password_hash.clone(), view.is_visible_to(member.as_ref())))
}

/// Who invites whoever knows the password: of the joined local members who may, the one of the highest level, creators above all; of several the one whose id
/// comes first.
pub(super) async fn inviter(
    actions: &Actions,
    room: &Room,
    writer: &Writer,
) -> Result<Option<OwnedUserId>, ActionError> {
    let levels = &writer.view()?.basis.levels;
    let usual = Level::Number(levels.users_default());
    let creators = levels.creators().map(|creator| (Reverse(Level::Creator), creator.clone()));
    let named = levels.users().map(|(user_id, level)| (Reverse(Level::Number(level)), user_id.clone()));
    let may = |(Reverse(level), user_id): &(Reverse<Level>, OwnedUserId)| {
        level.reaches(levels.invite()) && actions.is_local(user_id)
    };
    let mut able: Vec<_> = creators.chain(named).filter(may).collect();
    able.sort();
    let (above, below): (Vec<_>, Vec<_>) = able.into_iter().partition(|(Reverse(level), _)| *level > usual);
    for (_, user_id) in above {
        if is_joined(writer, &user_id).await? {
            return Ok(Some(user_id));
        }
    }
    if usual.reaches(levels.invite())
        && let Some(found) = first_of_level(actions, room, writer, usual).await?
    {
        return Ok(Some(found));
    }
    for (_, user_id) in below {
        if is_joined(writer, &user_id).await? {
            return Ok(Some(user_id));
        }
    }
    Ok(None)
}

async fn first_of_level(
    actions: &Actions,
    room: &Room,
    writer: &Writer,
    level: Level,
) -> Result<Option<OwnedUserId>, ActionError> {
    let mut rest = KeyRange::all();
    loop {
        let limit = Limit::rows(MEMBERS_AT_A_TIME);
        let page = room.store.scan(&MEMBERS, &room.home, rest.clone(), Direction::Up, limit).await?;
        for (user_id, member) in &page.rows {
            let fits = member.membership == Membership::Join && writer.view()?.level(user_id) == level;
            if fits && actions.is_local(user_id) && is_joined(writer, user_id).await? {
                return Ok(Some(user_id.clone()));
            }
        }
        match page.rows.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => return Ok(None),
        }
    }
}

async fn is_joined(writer: &Writer, user_id: &OwnedUserId) -> Result<bool, ActionError> {
    Ok(membership(writer.get(&MEMBERS, user_id).await?.as_ref()) == Membership::Join)
}

/// The wrong guesses of the last hour, by account.
#[derive(Default)]
pub struct Guesses(Mutex<HashMap<OwnedUserId, VecDeque<(UnixMs, Target)>>>);

/// SHA-256 of what was guessed at: the id or alias as the caller wrote it, and the room.
type Target = [u8; 32];

/// A guess under way. It counts as a wrong one from the beginning, so that many at once are not more than many in a row; dropped without
/// [`Guess::was_wrong`] it was none.
struct Guess<'a> {
    guesses: &'a Guesses,
    user_id: OwnedUserId,
    entries: [(UnixMs, Target); 2],
    /// The room has not had too many yet under another name. Which names are of one room is told to nobody: the guess is made, and is wrong.
    counts: bool,
    is_wrong: bool,
}

impl Guesses {
    fn take(
        &self,
        now: UnixMs,
        user_id: &UserId,
        reference: &str,
        room_id: Option<&RoomId>,
    ) -> Result<Guess<'_>, ActionError> {
        let mut accounts = self.0.lock();
        if accounts.len() >= ACCOUNTS_SWEEP {
            accounts.retain(|_, past| past.back().is_some_and(|(at, _)| still_counts(*at, now)));
        }
        let past = accounts.entry(user_id.to_owned()).or_default();
        past.retain(|(at, _)| still_counts(*at, now));
        // A room that does not exist leaves as many entries as one that does.
        let named = target("name", reference);
        let meant = target("room", room_id.map_or(reference, RoomId::as_str));
        let first_of_many = |target: Target| {
            let of_target: Vec<UnixMs> = past.iter().filter(|(_, other)| *other == target).map(|(at, _)| *at).collect();
            of_target.first().copied().filter(|_| of_target.len() >= TRIES_MAX)
        };
        let first_of_all = past.front().filter(|_| past.len() >= ENTRIES_OF_ACCOUNT_MAX).map(|(at, _)| *at);
        if let Some(at) = first_of_many(named).or(first_of_all) {
            let wait_ms = at.0.saturating_add(TRIES_LIFETIME_MS).saturating_sub(now.0);
            return Err(ActionError::RateLimited { retry_after: Duration::from_millis(wait_ms) });
        }
        let counts = first_of_many(meant).is_none();
        let entries = [(now, named), (now, meant)];
        past.extend(entries);
        Ok(Guess { guesses: self, user_id: user_id.to_owned(), entries, counts, is_wrong: false })
    }
}

impl Guess<'_> {
    fn was_wrong(mut self) {
        self.is_wrong = true;
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        if self.is_wrong {
            return;
        }
        let mut accounts = self.guesses.0.lock();
        let Some(past) = accounts.get_mut(&self.user_id) else { return };
        for entry in &self.entries {
            if let Some(index) = past.iter().rposition(|past| past == entry) {
                past.remove(index);
            }
        }
    }
}

fn still_counts(at: UnixMs, now: UnixMs) -> bool {
    now.0 < at.0.saturating_add(TRIES_LIFETIME_MS)
}

fn target(sort: &str, name: &str) -> Target {
    Sha256::digest(format!("{sort} {name}")).into()
}
