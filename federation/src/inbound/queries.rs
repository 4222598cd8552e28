//! What peers look up: aliases, profiles, devices. Only of this server: what we know of others is never told.

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, response::Response};
use ruma::{OwnedRoomAliasId, OwnedUserId};
use serde_json::json;

use super::{
    OurServer, answer,
    authentication::Peer,
    error::Failure,
    request::{Path, Query, id},
};
use crate::{Refusal, limits::KEY_QUERY_USERS_MAX, local::Local};

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory>
pub(crate) async fn directory<L: Local>(
    State(local): State<Arc<L>>,
    State(us): State<OurServer>,
    peer: Peer,
    query: Query,
) -> Result<Response, Failure> {
    let alias: OwnedRoomAliasId = id(query.required("room_alias")?, "room_alias")?;
    if alias.server_name() != us.name {
        return Err(Refusal::NotFound.into());
    }
    let found = local.alias(&peer.origin, &alias).await?;
    Ok(answer::ok(&json!({ "room_id": found.room_id, "servers": found.servers })))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile>
pub(crate) async fn profile<L: Local>(
    State(local): State<Arc<L>>,
    State(us): State<OurServer>,
    peer: Peer,
    query: Query,
) -> Result<Response, Failure> {
    let user_id: OwnedUserId = id(query.required("user_id")?, "user_id")?;
    if user_id.server_name() != us.name {
        return Err(Refusal::NotFound.into());
    }
    let mut profile = local.profile(&peer.origin, &user_id).await?;
    if let Some(field) = query.one("field") {
        profile.retain(|name, _| name == field);
    }
    Ok(answer::ok(&profile))
}

/// Our users have no devices of which other servers need to know.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1userdevicesuserid>
pub(crate) async fn devices<L: Local>(
    State(local): State<Arc<L>>,
    State(us): State<OurServer>,
    _peer: Peer,
    Path((user_id,)): Path<(OwnedUserId,)>,
) -> Result<Response, Failure> {
    if user_id.server_name() != us.name || !local.has_user(&user_id).await? {
        return Err(Refusal::NotFound.into());
    }
    Ok(answer::ok(&json!({ "user_id": user_id, "stream_id": 0, "devices": [] })))
}

/// Our users have no device keys. Users of other servers, and unknown ones, are left out.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysquery>
pub(crate) async fn device_keys<L: Local>(
    State(local): State<Arc<L>>,
    State(us): State<OurServer>,
    peer: Peer,
) -> Result<Response, Failure> {
    let content = peer.content()?;
    let asked = content.object("device_keys").ok_or(Failure::BadJson("`device_keys` is not an object"))?;
    if asked.len() > KEY_QUERY_USERS_MAX {
        return Err(Refusal::Invalid("device_keys").into());
    }
    let mut keys = BTreeMap::new();
    for (user_id, _) in asked.iter() {
        let user_id = OwnedUserId::try_from(user_id).ok().filter(|user_id| user_id.server_name() == us.name);
        if let Some(user_id) = user_id
            && local.has_user(&user_id).await?
        {
            keys.insert(user_id, json!({}));
        }
    }
    Ok(answer::ok(&json!({ "device_keys": keys })))
}

/// Our users have no keys that could be claimed: whoever is asked for is left out.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysclaim>
pub(crate) async fn claim_keys(peer: Peer) -> Result<Response, Failure> {
    let asked = peer.content()?.object("one_time_keys").ok_or(Failure::BadJson("`one_time_keys` is not an object"))?;
    if asked.len() > KEY_QUERY_USERS_MAX {
        return Err(Refusal::Invalid("one_time_keys").into());
    }
    Ok(answer::ok(&json!({ "one_time_keys": {} })))
}
