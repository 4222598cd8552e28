//! Who asks: from the token or cookie of a request to a [`Caller`] of one tenant.

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::{HeaderMap, Method, Uri, header, request::Parts, uri::Authority},
};

use super::{
    ApiState, Dialect, Secure,
    calls::Deed,
    error::{Problem, ProblemKind},
};
use crate::{
    actions::{ActionError, Actions, Caller, accounts, caller::RequestKey, sessions},
    tenants::NoTenant,
};

/// The name of the session cookie; outside of loopback it has the prefix that binds it to host and TLS.
const COOKIE: &str = "yurt";
const PREFIXED_COOKIE: &str = "__Host-yurt";

/// A request of somebody who is logged in.
pub(crate) struct Signed {
    /// The tenant's actions.
    pub(crate) actions: Actions,
    /// Who asks.
    pub(crate) caller: Caller,
    /// The caller is on this machine, so that a cookie needs no TLS.
    pub(crate) is_loopback: bool,
}

/// A request of an admin of the tenant: others are refused before their body is read.
pub(crate) struct Admin {
    /// The tenant's actions.
    pub(crate) actions: Actions,
    /// Who asks.
    pub(crate) caller: Caller,
}

impl<D: Dialect> FromRequestParts<D> for Admin {
    type Rejection = D::Refusal;

    async fn from_request_parts(parts: &mut Parts, dialect: &D) -> Result<Self, D::Refusal> {
        let Signed { actions, caller, .. } = Signed::from_request_parts(parts, dialect).await?;
        accounts::must_be_admin(&caller).map_err(Problem::from)?;
        Ok(Self { actions, caller })
    }
}

/// Put into a request whose caller was found already, so that it is counted once.
#[derive(Clone)]
pub(crate) struct Checked(pub(crate) Actions, pub(crate) Caller);

/// A request of whoever it is.
pub(crate) struct Anyone {
    /// The tenant's actions.
    pub(crate) actions: Actions,
    /// The request came to an address of this machine only, so that a cookie needs no TLS.
    pub(crate) is_loopback: bool,
}

impl<D: Dialect> FromRequestParts<D> for Signed {
    type Rejection = D::Refusal;

    async fn from_request_parts(parts: &mut Parts, dialect: &D) -> Result<Self, D::Refusal> {
        let state = dialect.state();
        let (actions, mut caller) = match parts.extensions.remove::<Checked>() {
            Some(Checked(actions, caller)) => (actions, caller),
            None => of_request(parts, dialect).await?,
        };
        caller.request = parts.extensions.get::<RequestKey>().cloned();
        Ok(Self { actions, caller, is_loopback: is_local(parts, state) })
    }
}

impl<D: Dialect> FromRequestParts<D> for Anyone {
    type Rejection = D::Refusal;

    async fn from_request_parts(parts: &mut Parts, dialect: &D) -> Result<Self, D::Refusal> {
        let state = dialect.state();
        let actions = tenant(state, None, host(parts, state)).await?;
        Ok(Self { actions, is_loopback: is_local(parts, state) })
    }
}

/// What a request brings to say who asks.
#[derive(Clone, Copy)]
pub(crate) enum Credential<'a> {
    /// A token in a header.
    Header(&'a str),
    /// A token in a cookie, which a browser sends by itself.
    Cookie(&'a str),
}

/// The token of `Authorization: Bearer`, else that of the session cookie.
pub(crate) fn bearer_or_cookie<'a>(parts: &'a Parts, state: &ApiState) -> Option<Credential<'a>> {
    let header = bearer(&parts.headers).map(Credential::Header);
    header.or_else(|| cookie(parts, state).map(Credential::Cookie))
}

/// The tenant and the caller of a request.
pub(crate) async fn of_request<D: Dialect>(parts: &Parts, dialect: &D) -> Result<(Actions, Caller), Problem> {
    let state = dialect.state();
    let credential = D::credential(parts, state);
    let token = credential.map(|(Credential::Header(token) | Credential::Cookie(token))| token);
    let actions = tenant(state, token, host(parts, state)).await?;
    let caller = match token {
        Some(token) => sessions::caller(&actions, token).await,
        None => Err(sessions::invalid()),
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(error) => {
            if let Some(address) = state.address_of(parts) {
                state.limits.request_from(address)?;
            }
            return Err(error.into());
        }
    };
    let only_reads = matches!(parts.method, Method::GET | Method::HEAD) && !is_upgrade(&parts.headers);
    if matches!(credential, Some(Credential::Cookie(_))) && !only_reads {
        check_origin(parts, state)?;
    }
    let span = tracing::Span::current();
    span.record("tenant", actions.tenant.as_str()).record("user.id", tracing::field::display(&caller.user_id));
    state.limits.request_of(&caller.user_id)?;
    let route = parts.extensions.get::<MatchedPath>();
    if let Some(deed) = route.and_then(|route| Deed::of(&parts.method, route.as_str())) {
        state.limits.deeds_of(&caller.user_id, deed, 1)?;
    }
    Ok((actions, caller))
}

/// The request wants to become a WebSocket, over which pages of every origin can read.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The request brings a token or a session cookie, whatever it is worth.
pub(crate) fn has_token(parts: &Parts, state: &ApiState) -> bool {
    parts.headers.contains_key(header::AUTHORIZATION) || cookie(parts, state).is_some()
}

/// Who a token speaks for that came otherwise than in a header, over a stream that this request opened.
pub(crate) async fn of_token(token: &str, parts: &Parts, state: &ApiState) -> Result<(Actions, Caller), Problem> {
    let actions = tenant(state, Some(token), host(parts, state)).await?;
    let caller = sessions::caller(&actions, token).await?;
    state.limits.request_of(&caller.user_id)?;
    state.limits.deeds_of(&caller.user_id, Deed::Stream, 1)?;
    Ok((actions, caller))
}

async fn tenant(state: &ApiState, token: Option<&str>, host: Option<&str>) -> Result<Actions, Problem> {
    let tenant = state.tenants.of_request(token, host).map_err(|reason| match reason {
        NoTenant::UnknownHost => Problem::new(ProblemKind::RouteNotFound, "no server of this name lives here"),
        NoTenant::ForeignToken => sessions::invalid().into(),
    })?;
    Ok(tenant.actions().await?)
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}

/// The caller is on this machine and speaks plain HTTP, so that a cookie needs no TLS.
fn is_local(parts: &Parts, state: &ApiState) -> bool {
    !is_secure(parts) && !state.is_proxied(parts) && host(parts, state).is_some_and(is_loopback)
}

fn is_secure(parts: &Parts) -> bool {
    parts.extensions.get::<Secure>().is_some()
}

/// The token of the session cookie, under the one name that this caller was given.
fn cookie<'a>(parts: &'a Parts, state: &ApiState) -> Option<&'a str> {
    cookie_named(parts, cookie_name(is_local(parts, state)))
}

/// The token of the session cookie that is bound to host and TLS, wherever the caller is.
pub(crate) fn secure_cookie(parts: &Parts) -> Option<&str> {
    cookie_named(parts, PREFIXED_COOKIE)
}

fn cookie_named<'a>(parts: &'a Parts, wanted: &str) -> Option<&'a str> {
    let pairs = parts.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, token)| token)
}

fn host<'a>(parts: &'a Parts, state: &ApiState) -> Option<&'a str> {
    host_of(&parts.headers, &parts.uri, state.is_proxied(parts))
}

/// The host that the caller asked for; what a proxy says counts only from a trusted one.
pub(crate) fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri, is_proxied: bool) -> Option<&'a str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = if is_proxied { text("x-forwarded-host") } else { None };
    forwarded.or_else(|| text("host")).or_else(|| uri.authority().map(Authority::as_str))
}

/// Scheme and host that the caller asked for, in lower case.
pub(crate) fn own_origin(parts: &Parts, state: &ApiState) -> Option<String> {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = match (state.is_proxied(parts), is_secure(parts)) {
        (true, _) => text("x-forwarded-proto").unwrap_or("https"),
        (false, true) => "https",
        (false, false) => "http",
    };
    host(parts, state).map(|host| format!("{scheme}://{host}").to_ascii_lowercase())
}

/// A browser sends the cookie with requests that other sites make: those are refused.
fn check_origin(parts: &Parts, state: &ApiState) -> Result<(), Problem> {
    let own = own_origin(parts, state);
    let origin = parts.headers.get(header::ORIGIN).and_then(|value| value.to_str().ok()).map(str::to_ascii_lowercase);
    let is_allowed =
        origin.as_ref().is_some_and(|origin| Some(origin) == own.as_ref() || state.origins.contains(origin));
    if is_allowed {
        return Ok(());
    }
    let refused = "a request with a cookie needs an `Origin` of this server, or one listed in `[cors] origins`";
    Err(ActionError::InsufficientPermission(refused.to_owned()).into())
}

fn is_loopback(host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.chars().all(|digit| digit.is_ascii_digit()) => bare,
        _ => host,
    };
    let address = bare.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    bare.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// What a client calls itself: the name of the session that it opens.
pub(crate) fn client(headers: &HeaderMap) -> &str {
    let name = headers.get(header::USER_AGENT).and_then(|name| name.to_str().ok()).map(str::trim);
    name.filter(|name| !name.is_empty()).unwrap_or("unnamed client")
}

/// The header that gives a browser its session.
pub(crate) fn set_cookie(token: &str, is_loopback: bool) -> String {
    let secure = if is_loopback { "" } else { " Secure;" };
    format!("{}={token}; Path=/;{secure} HttpOnly; SameSite=Lax", cookie_name(is_loopback))
}

/// The header that takes a browser's session away.
pub(crate) fn clear_cookie(is_loopback: bool) -> String {
    format!("{}; Max-Age=0", set_cookie("", is_loopback))
}

fn cookie_name(is_loopback: bool) -> &'static str {
    if is_loopback { COOKIE } else { PREFIXED_COOKIE }
}
