//! Our keys, as they are published: directly, and to who asks us as a notary. About other servers we say nothing.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use parking_lot::Mutex;
use ruma::{MilliSecondsSinceUnixEpoch, ServerName};
use serde_json::value::RawValue;

use super::{Door, OurServer, answer, body, error::Failure, request::Path};
use crate::{
    Refusal,
    key_document::key_document,
    limits::{KEY_QUERY_SERVERS_MAX, KEYS_PUBLISHED_FOR, KEYS_VALID_FOR_MIN},
    our_keys::{RetiredKeys, SigningKeys},
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
    let by = ruma::UInt::try_from(by.as_millis()).unwrap_or(ruma::UInt::MAX);
    MilliSecondsSinceUnixEpoch(at.0.saturating_add(by))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server>
pub(crate) async fn server(State(us): State<OurServer>, State(keys): State<OurKeys>) -> Result<Response, Failure> {
    Ok(answer::ok(&*keys.document(&us)?))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2queryservername>
pub(crate) async fn query(
    State(us): State<OurServer>,
    State(keys): State<OurKeys>,
    Path((server,)): Path<(String,)>,
) -> Result<Response, Failure> {
    answer_for(&us, &keys, <&ServerName>::try_from(server.as_str()).is_ok_and(|server| server == us.name))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixkeyv2query>
pub(crate) async fn query_batch<L, S, K>(State(door): State<Door<L, S, K>>, mut request: Request) -> Response {
    match asked(&door, &mut request).await.and_then(|is_us| answer_for(&door.us, &door.our_keys, is_us)) {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

/// Whether our own keys are among those asked for.
async fn asked<L, S, K>(door: &Door<L, S, K>, request: &mut Request) -> Result<bool, Failure> {
    body::check_head(request.headers())?;
    let (content, _) = body::read(request, &door.bodies).await?;
    let (content, _) = content.ok_or(Failure::NotJson("the body is missing"))?;
    let servers = content.object("server_keys").ok_or(Failure::BadJson("`server_keys` is not an object"))?;
    let too_many = |length: usize| length > KEY_QUERY_SERVERS_MAX;
    if too_many(servers.len())
        || servers.iter().any(|(_, keys)| keys.as_object().is_some_and(|keys| too_many(keys.len())))
    {
        return Err(Refusal::Invalid("too many keys").into());
    }
    Ok(servers.get(door.us.name.as_str()).is_some())
}

fn answer_for(us: &OurServer, keys: &OurKeys, is_us: bool) -> Result<Response, Failure> {
    let document = is_us.then(|| keys.document(us)).transpose()?;
    let documents: Vec<&RawValue> = document.iter().map(AsRef::as_ref).collect();
    Ok(answer::ok(&BTreeMap::from([("server_keys", documents)])))
}
