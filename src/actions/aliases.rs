//! Room aliases: `#slug:server`, one room each, reserved before the room exists.

use ruma::{OwnedRoomId, RoomId};

use super::{ActionError, Actions, gate::Gate};
use crate::storage::{Commit, Home, Store, keyspaces::ALIASES};

/// Bytes of a whole alias. Source: <https://spec.matrix.org/v1.19/appendices/#room-aliases>
pub const ALIAS_BYTES_MAX: usize = 255;
/// Random characters behind the slug of a room that is not listed, or whose slug is taken.
const SUFFIX_CHARACTERS: usize = 6;
/// Characters that a generated slug takes of the room's name.
const SLUG_CHARACTERS_MAX: usize = 64;

/// An alias that is reserved for a room. Dropped too early, another room may take it.
pub struct Reserved {
    /// The whole alias.
    pub alias: String,
    _gate: Gate,
}

/// What alias a new room shall have.
pub enum Wish<'a> {
    /// This one and no other.
    Exactly(&'a str),
    /// One made from the name; listed rooms get the plain slug while it is free.
    From {
        /// The room's name.
        name: Option<&'a str>,
        /// The room is listed.
        is_listed: bool,
    },
}

/// Reserves an alias for a room that does not exist yet.
///
/// # Errors
/// [`ActionError::NameTaken`] for an exact wish; a malformed alias.
pub async fn reserve(
    actions: &Actions,
    store: &Store,
    wish: Wish<'_>,
    room_id: &RoomId,
    is_admin: bool,
) -> Result<Reserved, ActionError> {
    let slug = match wish {
        Wish::Exactly(alias) => {
            let local = local_part(actions, alias)?;
            let reserved = try_reserve(actions, store, &local, room_id, is_admin).await?;
            return reserved.ok_or_else(|| ActionError::NameTaken(format!("the alias `{alias}` is taken")));
        }
        Wish::From { name, is_listed } => {
            let slug = slug(name.unwrap_or_default());
            if is_listed && let Some(reserved) = try_reserve(actions, store, &slug, room_id, is_admin).await? {
                return Ok(reserved);
            }
            slug
        }
    };
    loop {
        let local = format!("{slug}-{}", actions.random_word(SUFFIX_CHARACTERS));
        if let Some(reserved) = try_reserve(actions, store, &local, room_id, is_admin).await? {
            return Ok(reserved);
        }
    }
}

/// The room of an alias of this server; none: no room has it.
///
/// # Errors
/// When storage cannot be read.
pub async fn resolve(actions: &Actions, alias: &str) -> Result<Option<OwnedRoomId>, ActionError> {
    if alias.len() > ALIAS_BYTES_MAX {
        return Ok(None);
    }
    for store in actions.stores() {
        if let Some(room_id) = store.get(&ALIASES, &Home::name(alias), &()).await? {
            return Ok(Some(room_id));
        }
    }
    Ok(None)
}

async fn try_reserve(
    actions: &Actions,
    store: &Store,
    local: &str,
    room_id: &RoomId,
    is_admin: bool,
) -> Result<Option<Reserved>, ActionError> {
    if !is_admin && actions.settings.reserved_aliases.iter().any(|reserved| reserved == local) {
        return Ok(None);
    }
    let alias = format!("#{local}:{}", actions.server_name);
    let gate = actions.gates.enter("alias", &alias).await?;
    if let Some(holder) = resolve(actions, &alias).await?
        && holder != *room_id
        && actions.room(&holder).view().await?.is_some()
    {
        return Ok(None);
    }
    let mut commit = Commit::new(Home::name(&alias));
    commit.put(&ALIASES, &(), &room_id.to_owned());
    store.commit(commit).await?;
    Ok(Some(Reserved { alias, _gate: gate }))
}

/// The local part of an alias that was asked for, whole or in part.
fn local_part(actions: &Actions, alias: &str) -> Result<String, ActionError> {
    let bare = alias.strip_prefix('#').unwrap_or(alias);
    let local = bare.strip_suffix(&format!(":{}", actions.server_name)).unwrap_or(bare);
    let whole_bytes = local.len() + actions.server_name.as_str().len() + 2;
    if local.is_empty() || !local.chars().all(|c| c.is_ascii_graphic() && !matches!(c, ':' | '#')) {
        let example = format!("an alias reads #name:{}, in ASCII and without blanks", actions.server_name);
        return Err(ActionError::invalid("alias", example));
    }
    if whole_bytes > ALIAS_BYTES_MAX {
        return Err(ActionError::invalid("alias", format!("at most {ALIAS_BYTES_MAX} bytes with the server's name")));
    }
    Ok(local.to_owned())
}

/// The name in lower-case ASCII, words joined by hyphens; `room` when nothing is left of it.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= SLUG_CHARACTERS_MAX {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "room".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_what_is_left_of_the_name_in_lower_case_ascii() {
        let cases = [
            ("Alpha Team", "alpha-team"),
            ("  Ünïcode & more ", "n-code-more"),
            ("Größe", "gr-e"),
            ("日本", "room"),
            ("---", "room"),
            ("", "room"),
        ];
        for (name, expected) in cases {
            assert_eq!(slug(name), expected, "{name}");
        }
    }
}
