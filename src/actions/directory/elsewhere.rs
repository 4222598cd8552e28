//! The public rooms of another server, as that server tells them: nobody has checked it.

use std::time::Duration;

pub use federation::local::PublicRoom;
use federation::{local::PublicSearch, request_signature};

use crate::actions::{ActionError, Actions, Caller, quotas, remote_leave::told};

/// How long the other server may take.
const ASKING_MAX: Duration = Duration::from_secs(20);
/// Bytes of each text that is shown of a room. Longer ones are left out.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// A page of them.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// The rooms.
    pub rooms: Vec<PublicRoom>,
    /// Where the next page begins.
    pub next: Option<String>,
    /// About how many there are in all, if the server says so.
    pub total: Option<u64>,
}

/// Asks another server for its public rooms.
///
/// # Errors
/// What is no other server; federation is off; the server is not reached, or refuses; the caller has asked too much.
pub async fn of_server(
    actions: &Actions,
    caller: &Caller,
    server: &str,
    text: Option<String>,
    from: Option<String>,
    rooms_max: usize,
) -> Result<Elsewhere, ActionError> {
    let name = request_signature::server_name(server);
    let name = name.ok_or_else(|| ActionError::invalid("server", format!("`{server}` is no server name")))?;
    if name == actions.server_name {
        return Err(ActionError::invalid("server", "is this server; its rooms are at /v1/directory/rooms".to_owned()));
    }
    if !actions.is_connected() {
        return Err(ActionError::needs_federation(&format!("asking {name} for its rooms")));
    }
    quotas::count(actions, caller, &name)?;
    let search = PublicSearch { text: text.filter(|text| !text.is_empty()), room_types: None, since: from, rooms_max };
    let peers = actions.peers();
    let asked = tokio::time::timeout(ASKING_MAX, peers.public_rooms(&name, &search)).await;
    let page = asked.map_err(|_late| ActionError::unreachable())?.map_err(told)?;
    Ok(Elsewhere { rooms: page.rooms.into_iter().map(shown).collect(), next: page.next, total: page.total })
}

fn shown(room: PublicRoom) -> PublicRoom {
    let short = |text: Option<String>| text.filter(|text| text.len() <= TEXT_BYTES_MAX);
    PublicRoom {
        name: short(room.name),
        topic: short(room.topic),
        canonical_alias: short(room.canonical_alias),
        avatar_url: short(room.avatar_url),
        join_rule: short(room.join_rule),
        room_type: short(room.room_type),
        ..room
    }
}
