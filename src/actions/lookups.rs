//! What other servers look up here that is not part of a room. Implements [`Directory`] of the crate `federation`.

use std::collections::{BTreeMap, BTreeSet};

use federation::{
    Pdu, Refusal, StorageUnavailable,
    local::{Accepted, AliasAnswer, Directory, Handshakes, Invite, Medium, Template, ThumbnailSize, Wish},
};
use ruma::{EventId, OwnedServerName, RoomAliasId, RoomId, RoomVersionId, ServerName, UserId};

use super::{
    Actions, accounts, aliases,
    incoming::guests::{failed, find, meet},
    rows,
};
use crate::storage::{
    KeyRange,
    accounts::{Account, AccountState},
    keyspaces::SERVERS,
};

/// Servers that the answer about an alias names.
const SERVERS_MAX: usize = 100;

impl Directory for Actions {
    /// Who asks must be somebody whom the room lets in: a room that it keeps out looks like one that is not here.
    async fn alias(&self, origin: &ServerName, alias: &RoomAliasId) -> Result<AliasAnswer, Refusal> {
        if alias.server_name() != &*self.server_name {
            return Err(Refusal::NotFound);
        }
        let room_id = aliases::resolve(self, alias.as_str()).await.map_err(failed)?.ok_or(Refusal::NotFound)?;
        find(self, &room_id).await.map_err(failed)?.ok_or(Refusal::NotFound)?;
        let met = meet(self, origin, &room_id).await.map_err(|_refused| Refusal::NotFound)?;
        let others = rows::all(&met.room.store, &SERVERS, &met.room.home, KeyRange::all()).await.map_err(failed)?;
        let mut servers: Vec<OwnedServerName> = vec![self.server_name.clone()];
        let others: BTreeSet<OwnedServerName> = others.into_iter().map(|(server, _)| server).collect();
        servers.extend(others.into_iter().take(SERVERS_MAX));
        Ok(AliasAnswer { room_id, servers })
    }

    async fn profile(&self, _origin: &ServerName, user_id: &UserId) -> Result<BTreeMap<String, String>, Refusal> {
        let account = living(self, user_id).await.map_err(failed)?.ok_or(Refusal::NotFound)?;
        let fields = [("displayname", account.display_name), ("avatar_url", account.avatar_url)];
        Ok(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }

    async fn has_user(&self, user_id: &UserId) -> Result<bool, StorageUnavailable> {
        let account = living(self, user_id).await.map_err(|error| StorageUnavailable(error.to_string()))?;
        Ok(account.is_some())
    }

    /// Media are not given to other servers yet.
    async fn medium(&self, _origin: &ServerName, _media_id: &str) -> Result<Medium, Refusal> {
        Err(Refusal::NotFound)
    }

    async fn thumbnail(&self, _origin: &ServerName, _media_id: &str, _size: ThumbnailSize) -> Result<Medium, Refusal> {
        Err(Refusal::NotFound)
    }
}

/// The account of a person of this server who was not deactivated.
async fn living(actions: &Actions, user_id: &UserId) -> Result<Option<Account>, super::ActionError> {
    if !actions.is_local(user_id) {
        return Ok(None);
    }
    let account = accounts::get(actions, &user_id.to_owned()).await?;
    Ok(account.filter(|account| account.state != AccountState::Deactivated))
}

/// People of other servers cannot come in or be invited yet.
impl Handshakes for Actions {
    async fn membership_template(
        &self,
        _origin: &ServerName,
        _room_id: &RoomId,
        _user_id: &UserId,
        _wish: Wish,
        _versions: &[RoomVersionId],
    ) -> Result<Template, Refusal> {
        Err(Refusal::NotFound)
    }

    async fn accept_membership(
        &self,
        _origin: &ServerName,
        _room_id: &RoomId,
        _event_id: &EventId,
        _wish: Wish,
        _event: Pdu,
    ) -> Result<Accepted, Refusal> {
        Err(Refusal::NotFound)
    }

    async fn accept_invite(
        &self,
        _origin: &ServerName,
        _room_id: &RoomId,
        _event_id: &EventId,
        _invite: Invite,
    ) -> Result<Pdu, Refusal> {
        Err(Refusal::Forbidden)
    }
}
