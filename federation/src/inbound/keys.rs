//! Our keys, as they are published, and those of other servers, to who asks us as a notary: the documents that they signed, with our signature added.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, UInt, signatures::sign_json};
use serde_json::value::RawValue;

use super::{
    Door, OurServer, answer,
    authentication::RequestKeys,
    body,
    error::Failure,
    json::Json,
    request::{Path, Query},
};
use crate::{
    Refusal,
    key_document::key_document,
    limits::{KEY_QUERY_BYTES_MAX, KEY_QUERY_SERVERS_MAX, KEYS_PUBLISHED_FOR, KEYS_VALID_FOR_MIN, NOTARY_FETCHES_MAX},
    our_keys::{RetiredKeys, SigningKeys},
    request_signature::server_name,
};

/// The keys that a tenant publishes, and the document last signed with them. Clones share it.
#[derive(Clone)]
pub struct OurKeys(Arc<Published>);

struct Published {
    keys: SigningKeys,
    retired: RetiredKeys,
    /// The document, and until when it may be handed out.
    signed: Mutex<Option<(Arc<RawValue>, MilliSecondsSinceUnixEpoch)>>,
}

impl OurKeys {
    /// Keys that are published from now on.
    pub fn new(keys: SigningKeys, retired: RetiredKeys) -> Self {
        Self(Arc::new(Published { keys, retired, signed: Mutex::new(None) }))
    }

    /// The signed document, good for at least an hour.
    fn document(&self, us: &OurServer) -> Result<Arc<RawValue>, Refusal> {
        let now = (us.now)();
        let mut signed = self.0.signed.lock();
        if let Some((document, until)) = &*signed
            && now < *until
        {
            return Ok(Arc::clone(document));
        }
        let valid_until = later(now, KEYS_PUBLISHED_FOR);
        let document = key_document(&us.name, &self.0.keys, &self.0.retired, valid_until)
            .ok()
            .and_then(|document| serde_json::value::to_raw_value(&document).ok())
            .ok_or(Refusal::Unavailable)?;
        let document: Arc<RawValue> = Arc::from(document);
        *signed = Some((Arc::clone(&document), later(now, KEYS_PUBLISHED_FOR - KEYS_VALID_FOR_MIN)));
        Ok(document)
    }
}

fn later(at: MilliSecondsSinceUnixEpoch, by: std::time::Duration) -> MilliSecondsSinceUnixEpoch {
    let by = UInt::try_from(by.as_millis()).unwrap_or(UInt::MAX);
    MilliSecondsSinceUnixEpoch(at.0.saturating_add(by))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server>
pub(crate) async fn server(State(us): State<OurServer>, State(keys): State<OurKeys>) -> Result<Response, Failure> {
    Ok(answer::ok(&*keys.document(&us)?))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2queryservername>
pub(crate) async fn query<L, S, K: RequestKeys>(
    State(door): State<Door<L, S, K>>,
    Path((server,)): Path<(String,)>,
    query: Query,
) -> Result<Response, Failure> {
    let minimum = query.read::<UInt>("minimum_valid_until_ts")?.map(MilliSecondsSinceUnixEpoch);
    let server = server_name(&server).ok_or(Refusal::Invalid("server name"))?;
    Ok(tell(&door, vec![(server, minimum.unwrap_or_else(|| (door.us.now)()))]).await)
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixkeyv2query>
pub(crate) async fn query_batch<L, S, K: RequestKeys>(
    State(door): State<Door<L, S, K>>,
    mut request: Request,
) -> Response {
    match asked(&door, &mut request).await {
        Ok(questions) => tell(&door, questions).await,
        Err(failure) => failure.into_response(),
    }
}

/// Which servers' keys are asked for, and until when they are to be good.
async fn asked<L, S, K>(door: &Door<L, S, K>, request: &mut Request) -> Result<Vec<Question>, Failure> {
    body::check_head(request.headers(), KEY_QUERY_BYTES_MAX)?;
    let (content, _) = body::read(request, &door.bodies, KEY_QUERY_BYTES_MAX).await?;
    let (content, _) = content.ok_or(Failure::NotJson("the body is missing"))?;
    let servers = content.object("server_keys").ok_or(Failure::BadJson("`server_keys` is not an object"))?;
    let too_many = |length: usize| length > KEY_QUERY_SERVERS_MAX;
    if too_many(servers.len())
        || servers.iter().any(|(_, keys)| keys.as_object().is_some_and(|keys| too_many(keys.len())))
    {
        return Err(Refusal::Invalid("too many keys").into());
    }
    let questions = servers.iter().filter_map(|(server, keys)| {
        let minima = keys.as_object().into_iter().flat_map(|keys| keys.iter());
        let minima = minima.filter_map(|(_, criteria)| criteria.as_object()?.get("minimum_valid_until_ts"));
        let latest = minima.filter_map(Json::as_integer).max().and_then(|latest| UInt::try_from(latest).ok());
        Some((server_name(server)?, latest.map_or_else(|| (door.us.now)(), MilliSecondsSinceUnixEpoch)))
    });
    Ok(questions.collect())
}

/// A server, and until when its keys are to be good.
type Question = (OwnedServerName, MilliSecondsSinceUnixEpoch);

/// What is known of these servers' keys. Of who is not known, nothing is said.
async fn tell<L, S, K: RequestKeys>(door: &Door<L, S, K>, questions: Vec<Question>) -> Response {
    let documents = stream::iter(questions).map(|(server, minimum)| document(door, server, minimum));
    let documents: Vec<Arc<RawValue>> =
        documents.buffer_unordered(NOTARY_FETCHES_MAX).filter_map(std::future::ready).collect().await;
    let documents: Vec<&RawValue> = documents.iter().map(AsRef::as_ref).collect();
    answer::ok(&BTreeMap::from([("server_keys", documents)]))
}

async fn document<L, S, K: RequestKeys>(
    door: &Door<L, S, K>,
    server: OwnedServerName,
    minimum: MilliSecondsSinceUnixEpoch,
) -> Option<Arc<RawValue>> {
    if server == door.us.name {
        return door.our_keys.document(&door.us).ok();
    }
    if !door.policy.admits(&server) {
        return None;
    }
    let mut document = door.keys.document(&server, minimum).await?;
    sign_json(door.us.name.as_str(), door.our_keys.0.keys.current(), &mut document).ok()?;
    serde_json::value::to_raw_value(&document).ok().map(Arc::from)
}
