//! `https://NAME/.well-known/matrix/server`: to which name a server hands its traffic, remembered within bounds.
//!
//! May import: http, httpdate, tokio's lock, `outside`, `limits`, `clock`.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use http::{
    HeaderMap,
    header::{CACHE_CONTROL, EXPIRES},
};
use parking_lot::Mutex;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName};
use tokio::time::timeout;

use crate::{
    body,
    clock::{Ambient, later},
    error::FederationError,
    limits::{
        SERVERS_IN_MEMORY_MAX, WELL_KNOWN_BYTES_MAX, WELL_KNOWN_FAILURE_KEPT_MAX, WELL_KNOWN_FAILURE_KEPT_MIN,
        WELL_KNOWN_GRACE, WELL_KNOWN_KEPT_DEFAULT, WELL_KNOWN_KEPT_MAX, WELL_KNOWN_KEPT_MIN, WELL_KNOWN_REDIRECTS_MAX,
        WELL_KNOWN_TIMEOUT,
    },
    outside::Outside,
    request_signature::server_name,
};

/// What a host says about the server of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// It is found under that name; believed for so long.
    Delegated(OwnedServerName, Duration),
    /// It says nothing of use.
    Nothing,
    /// It could not be asked.
    Failed,
}

pub(super) type Asking<'a> = Pin<Box<dyn Future<Output = Told> + Send + 'a>>;

/// Asks a host. A trait, so that the tests of what follows need no network.
pub(super) trait Ask: Send + Sync + 'static {
    fn ask<'a>(&'a self, host: &'a str, now: MilliSecondsSinceUnixEpoch) -> Asking<'a>;
}

impl Ask for Outside {
    fn ask<'a>(&'a self, host: &'a str, now: MilliSecondsSinceUnixEpoch) -> Asking<'a> {
        Box::pin(async move {
            let told = timeout(WELL_KNOWN_TIMEOUT, fetch(self, host, now)).await;
            told.unwrap_or(Ok(Told::Failed)).unwrap_or(Told::Failed)
        })
    }
}

async fn fetch(outside: &Outside, host: &str, now: MilliSecondsSinceUnixEpoch) -> Result<Told, FederationError> {
    let Ok(place) = format!("https://{host}/.well-known/matrix/server").parse() else { return Ok(Told::Nothing) };
    let answer = match outside.get(place, WELL_KNOWN_REDIRECTS_MAX).await {
        Err(FederationError::BadAnswer(_)) => return Ok(Told::Nothing),
        answer => answer?,
    };
    let status = answer.status();
    if status.is_server_error() || status.as_u16() == 429 {
        return Ok(Told::Failed);
    }
    if status.as_u16() != 200 {
        return Ok(Told::Nothing);
    }
    let kept = kept_for(answer.headers(), now);
    let text = match body::read(answer.into_body(), WELL_KNOWN_BYTES_MAX).await {
        Err(FederationError::TooLarge) => return Ok(Told::Nothing),
        text => text?,
    };
    Ok(delegated_by(&text).map_or(Told::Nothing, |server| Told::Delegated(server, kept)))
}

/// The server that a document names, if it is such a document.
pub(crate) fn delegated_by(text: &[u8]) -> Option<OwnedServerName> {
    let document: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).ok()?;
    document.get("m.server").and_then(|name| server_name(name.as_str()?))
}

/// How long the headers say that an answer is good, within our bounds.
pub(crate) fn kept_for(headers: &HeaderMap, now: MilliSecondsSinceUnixEpoch) -> Duration {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let control = text(CACHE_CONTROL).unwrap_or_default().to_ascii_lowercase();
    let mut directives = control.split(',').map(str::trim);
    let kept = if directives.clone().any(|directive| directive == "no-store" || directive == "no-cache") {
        Some(Duration::ZERO)
    } else if let Some(seconds) = directives.find_map(|directive| directive.strip_prefix("max-age=")) {
        seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
    } else {
        // A date that is none is past.
        text(EXPIRES).map(|date| {
            let expires = httpdate::parse_http_date(date).ok().zip(now.to_system_time());
            expires.and_then(|(expires, now)| expires.duration_since(now).ok()).unwrap_or_default()
        })
    };
    kept.unwrap_or(WELL_KNOWN_KEPT_DEFAULT).clamp(WELL_KNOWN_KEPT_MIN, WELL_KNOWN_KEPT_MAX)
}

/// What is remembered of one host.
#[derive(Default)]
struct Entry {
    delegated: Option<OwnedServerName>,
    /// After this nobody believes `delegated`, even if no better answer can be got.
    grace_ends: Option<MilliSecondsSinceUnixEpoch>,
    ask_again: Option<MilliSecondsSinceUnixEpoch>,
    failures: u32,
}

/// Asks hosts and remembers their answers.
pub(super) struct WellKnown {
    ask: Box<dyn Ask>,
    ambient: Ambient,
    hosts: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Entry>>>>,
}

impl WellKnown {
    pub(super) fn new(ask: Box<dyn Ask>, ambient: Ambient) -> Self {
        Self { ask, ambient, hosts: Mutex::default() }
    }

    /// The name to which the server of this name hands its traffic, if it does. Never fails: what is wrong with the answer, or
    /// the way to it, means that nothing is handed on.
    pub(super) async fn delegated(&self, host: &str) -> Option<OwnedServerName> {
        let entry = self.entry(host);
        // Who comes second waits for the answer that the first gets.
        let mut entry = entry.lock().await;
        if entry.ask_again.is_none_or(|ask_again| ask_again <= self.ambient.now()) {
            let told = self.ask.ask(host, self.ambient.now()).await;
            entry.take(told, &self.ambient);
        }
        entry.delegated.clone()
    }

    fn entry(&self, host: &str) -> Arc<tokio::sync::Mutex<Entry>> {
        let mut hosts = self.hosts.lock();
        if hosts.len() >= SERVERS_IN_MEMORY_MAX && !hosts.contains_key(host) {
            // Any other goes: it is asked for again when it is needed.
            let other = hosts.iter().find(|(_, entry)| Arc::strong_count(entry) == 1).map(|(host, _)| host.clone());
            other.and_then(|other| hosts.remove(&other));
        }
        Arc::clone(hosts.entry(host.to_owned()).or_default())
    }
}

impl Entry {
    fn take(&mut self, told: Told, ambient: &Ambient) {
        let now = ambient.now();
        let kept = match told {
            Told::Delegated(server, kept) => {
                self.delegated = Some(server);
                self.grace_ends = Some(later(now, kept + WELL_KNOWN_GRACE));
                self.failures = 0;
                // Earlier by up to a tenth, so that not all servers come at once.
                kept - kept / 1000 * u32::try_from(ambient.below(100)).unwrap_or(0)
            }
            Told::Nothing => {
                *self = Self::default();
                ambient.jittered(WELL_KNOWN_FAILURE_KEPT_MAX).min(WELL_KNOWN_FAILURE_KEPT_MAX)
            }
            Told::Failed => {
                if self.grace_ends.is_none_or(|end| end <= now) {
                    self.delegated = None;
                }
                let growth = 2_u32.saturating_pow(self.failures.min(16));
                self.failures = self.failures.saturating_add(1);
                ambient.jittered(WELL_KNOWN_FAILURE_KEPT_MIN.saturating_mul(growth)).min(WELL_KNOWN_FAILURE_KEPT_MAX)
            }
        };
        self.ask_again = Some(later(now, kept));
    }
}

#[cfg(test)]
mod tests;
