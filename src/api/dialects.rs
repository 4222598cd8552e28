//! Which API a request is for: that of its host and path, else the native one. Two that would answer the same request are refused when the server starts.

use std::sync::Arc;

use axum::{
    Router,
    extract::{OriginalUri, Request, State},
    http::{Uri, uri::PathAndQuery},
    response::{IntoResponse, Response},
};
use tower::ServiceExt as _;

use super::{ApiState, agora, caller, mirage, ryos, v1, virola};
use crate::config::{Config, Mount, Problem};

/// Method and path of a route.
type Route = (&'static str, &'static str);

/// The same, with the names of a tenant where a dialect has them in its paths.
type OwnedRoute = (&'static str, String);

/// A dialect at its place.
pub(super) struct Door {
    prefix: String,
    hosts: Vec<String>,
    /// The path, without the prefix, is one of this dialect, whether or not there is such a call.
    owns: fn(&str) -> bool,
    calls: Router,
}

impl Door {
    /// The dialect with this name, where the configuration mounts it.
    pub(super) fn new(config: &Config, name: &str, owns: fn(&str) -> bool, calls: Router) -> Self {
        let mount = config.dialects.mounts().into_iter().find(|(known, _)| *known == name);
        let (prefix, hosts) =
            mount.map(|(_, mount)| (mount.prefix.to_owned(), mount.hosts.to_vec())).unwrap_or_default();
        Self { prefix, hosts, owns, calls }
    }

    /// The same, without its prefix.
    pub(super) fn without_prefix(self) -> Self {
        Self { prefix: String::new(), ..self }
    }
}

struct Doors {
    state: ApiState,
    native: Router,
    dialects: Vec<Door>,
    have_hosts: bool,
}

/// The native API and these dialects as one.
pub(super) fn router(state: ApiState, native: Router, dialects: Vec<Door>) -> Router {
    if dialects.is_empty() {
        return native;
    }
    let have_hosts = dialects.iter().any(|door| !door.hosts.is_empty());
    Router::new().fallback(answer).with_state(Arc::new(Doors { state, native, dialects, have_hosts }))
}

async fn answer(State(doors): State<Arc<Doors>>, mut request: Request) -> Response {
    let calls = match doors.of(&request) {
        None => &doors.native,
        Some(door) => {
            if let Some(inner) = without_prefix(request.uri(), &door.prefix) {
                let outer = std::mem::replace(request.uri_mut(), inner);
                request.extensions_mut().insert(OriginalUri(outer));
            }
            &door.calls
        }
    };
    calls.clone().oneshot(request).await.into_response()
}

impl Doors {
    /// The dialect that answers a request; none: the native API.
    fn of(&self, request: &Request) -> Option<&Door> {
        let is_proxied = self.state.is_from_proxy(request.extensions());
        let host = if self.have_hosts { caller::host_of(request.headers(), request.uri(), is_proxied) } else { None };
        let names = |door: &Door| host.is_some_and(|host| door.hosts.iter().any(|named| is_host(named, host)));
        let is_taken = self.have_hosts && self.dialects.iter().any(names);
        let path = request.uri().path();
        self.dialects.iter().find(|door| {
            let is_here = if door.hosts.is_empty() { !is_taken } else { names(door) };
            is_here && path.strip_prefix(door.prefix.as_str()).is_some_and(door.owns)
        })
    }
}

/// The host of a request is the one that the configuration names: with its port, or whatever the port.
fn is_host(named: &str, host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((bare, port))
            if !named.ends_with(&format!(":{port}")) && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            bare
        }
        _ => host,
    };
    bare.eq_ignore_ascii_case(named)
}

fn without_prefix(uri: &Uri, prefix: &str) -> Option<Uri> {
    if prefix.is_empty() {
        return None;
    }
    let rest = uri.path_and_query()?.as_str().strip_prefix(prefix)?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(rest).ok()?);
    Uri::from_parts(parts).ok()
}

/// A dialect and its routes.
fn table() -> Vec<(&'static str, Vec<Route>)> {
    vec![
        ("ryos", ryos::routes()),
        ("virola", virola::routes()),
        ("mirage", mirage::routes()),
        ("agora", agora::routes()),
    ]
}

/// Method and path of every route of the APIs that are on, without prefixes.
pub(super) fn routes(config: &Config) -> Vec<Route> {
    let is_on = |name: &str| config.dialects.mounts().iter().any(|(known, mount)| *known == name && mount.enabled);
    let dialects = table().into_iter().filter(|(name, _)| is_on(name)).flat_map(|(_, routes)| routes);
    v1::routes().into_iter().chain(dialects).collect()
}

/// No two APIs of the configuration answer the same request.
///
/// # Errors
/// The first pair that does, and what to change.
pub fn check(config: &Config) -> Result<(), Problem> {
    let mounts = config.dialects.mounts();
    let mut mounted: Vec<(&str, Mount<'_>, Vec<OwnedRoute>)> = table()
        .into_iter()
        .filter_map(|(name, routes)| {
            let (_, mount) = mounts.iter().find(|(known, mount)| *known == name && mount.enabled)?;
            let routes = if name == "agora" { agora::routes_of(config) } else { owned(routes) };
            Some((name, *mount, routes))
        })
        .collect();
    if let Some(mount) = mounted.iter().find(|(name, ..)| *name == "mirage").map(|(_, mount, _)| *mount)
        && !mount.prefix.is_empty()
    {
        mounted.push(("mirage", Mount { prefix: "", ..mount }, owned(mirage::own_routes())));
    }
    let native = owned(v1::routes());
    for (number, (name, mount, routes)) in mounted.iter().enumerate() {
        let others = mounted.iter().take(number).filter(|(_, other, _)| meet(mount, other));
        let others = others.map(|(name, other, routes)| (*name, other.prefix, routes)).chain([("v1", "", &native)]);
        for (other, other_prefix, other_routes) in others {
            if let Some(route) = clash((mount.prefix, routes), (other_prefix, other_routes)) {
                let message = format!("`{route}` would be a call of `{other}` too; choose another prefix, or hosts");
                return Err(Problem::new(format!("dialects.{name}.prefix"), message));
            }
        }
    }
    Ok(())
}

fn owned(routes: Vec<Route>) -> Vec<OwnedRoute> {
    routes.into_iter().map(|(method, path)| (method, path.to_owned())).collect()
}

/// There is a host at which both are found.
fn meet(one: &Mount<'_>, other: &Mount<'_>) -> bool {
    let is_shared = |host: &String| other.hosts.iter().any(|named| is_host(named, host) || is_host(host, named));
    match (one.hosts.is_empty(), other.hosts.is_empty()) {
        (true, true) => true,
        (false, false) => one.hosts.iter().any(is_shared),
        _ => false,
    }
}

/// A route of the first that is one of the second as well.
fn clash(one: (&str, &[OwnedRoute]), other: (&str, &[OwnedRoute])) -> Option<String> {
    let routes = one.1.iter().map(|(method, path)| (*method, format!("{}{path}", one.0)));
    for (method, path) in routes {
        let is_same = |(other_method, other_path): &&OwnedRoute| {
            method == *other_method && overlap(&path, &format!("{}{other_path}", other.0))
        };
        if other.1.iter().any(|route| is_same(&route)) {
            return Some(format!("{method} {path}"));
        }
    }
    None
}

/// Some path fits both templates.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other): (Vec<&str>, Vec<&str>) = (one.split('/').collect(), other.split('/').collect());
    let fits = |(one, other): (&&str, &&str)| one == other || one.starts_with('{') || other.starts_with('{');
    one.len() == other.len() && one.iter().zip(&other).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_in_any_case_and_with_any_port_that_is_not_named() {
        let cases = [
            ("chat.example", "Chat.Example", true),
            ("chat.example", "chat.example:8080", true),
            ("chat.example:8080", "chat.example:8080", true),
            ("chat.example:8080", "chat.example", false),
            ("chat.example", "other.example", false),
            ("[::1]", "[::1]:80", true),
        ];
        for (named, host, is_it) in cases {
            assert_eq!(is_host(named, host), is_it, "{named} {host}");
        }
    }

    #[test]
    fn templates_that_a_path_fits_both_overlap() {
        assert!(overlap("/api/rooms/{id}", "/api/rooms/archived"));
        assert!(overlap("/{a}/b", "/a/{b}"));
        assert!(!overlap("/api/rooms", "/api/rooms/{id}"));
        assert!(!overlap("/api/rooms/{id}/join", "/api/rooms/{id}/leave"));
    }

    #[test]
    fn a_prefix_that_leads_into_the_native_api_is_refused() {
        // No dialect has such a path today: the check itself is held to it.
        let found = clash(("/v1", &[("GET", "/rooms/{id}".to_owned())]), ("", &owned(v1::routes())));
        assert_eq!(found.as_deref(), Some("GET /v1/rooms/{id}"));
        assert!(check(&Config::default()).is_ok());
    }
}
