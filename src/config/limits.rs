//! The section `[limits]`: how much one caller may ask for, and how long the server waits for one.
//!
//! May import: serde.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use super::Problem;

/// Bytes of the largest event: a request body must be able to carry it.
const EVENT_BYTES_MAX: usize = 65_536;

/// How much one caller may ask for. A rate is what may be done over time, its burst what may be done at once after a pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Whether the rates below hold. Sizes, times and numbers of connections always hold. Default: true.
    pub enabled: bool,
    /// Requests of one account, or of one address without an account, a second, over time. Default: 50.
    pub requests_per_second: NonZeroU32,
    /// Requests that may come at once after a pause. Default: 200.
    pub requests_burst: NonZeroU32,
    /// Requests of one app token a second, over time. Default: 100.
    pub app_requests_per_second: NonZeroU32,
    /// Requests of one app token that may come at once after a pause. Default: 400.
    pub app_requests_burst: NonZeroU32,
    /// Log-ins and registrations from one address, and password changes of one account, a minute, over time. Default: 20.
    pub logins_per_minute: NonZeroU32,
    /// Log-ins and registrations that may come at once after a pause. Default: 20.
    pub logins_burst: NonZeroU32,
    /// Log-ins with a wrong password under one name, from wherever, a minute, over time. Default: 5.
    pub failed_logins_per_minute: NonZeroU32,
    /// Wrong passwords under one name that may come at once after a pause. Default: 10.
    pub failed_logins_burst: NonZeroU32,
    /// Messages, redactions and state events of one account a second, over time. Default: 10.
    pub messages_per_second: NonZeroU32,
    /// Messages, redactions and state events that may come at once after a pause. Default: 100.
    pub messages_burst: NonZeroU32,
    /// Rooms, direct messages and workspaces that one account makes a minute, over time. Default: 30.
    pub rooms_per_minute: NonZeroU32,
    /// Rooms, direct messages and workspaces that may be made at once after a pause. Default: 30.
    pub rooms_burst: NonZeroU32,
    /// Joins and knocks of one account a minute, over time. Default: 60.
    pub joins_per_minute: NonZeroU32,
    /// Joins and knocks that may come at once after a pause. Default: 60.
    pub joins_burst: NonZeroU32,
    /// Invitations of one account a minute, over time. Default: 60.
    pub invites_per_minute: NonZeroU32,
    /// Invitations that may come at once after a pause. Default: 200.
    pub invites_burst: NonZeroU32,
    /// Files that one account uploads a minute, over time. Default: 60.
    pub uploads_per_minute: NonZeroU32,
    /// Files that may be uploaded at once after a pause. Default: 100.
    pub uploads_burst: NonZeroU32,
    /// Streams that one account opens a minute, over time. Default: 60.
    pub streams_per_minute: NonZeroU32,
    /// Streams that may be opened at once after a pause. Default: 60.
    pub streams_burst: NonZeroU32,
    /// Requests of another server a second, over time; heavy ones count several times. Default: 50.
    pub peer_requests_per_second: NonZeroU32,
    /// Requests of another server that may come at once after a pause. Default: 300.
    pub peer_requests_burst: NonZeroU32,
    /// Events that another server sends a second, over time. Default: 500.
    pub peer_events_per_second: NonZeroU32,
    /// Events that another server may send at once after a pause. Default: 5000.
    pub peer_events_burst: NonZeroU32,
    /// Bytes of a request's body. Default: 1048576.
    pub body_bytes_max: usize,
    /// Open connections. Default: 16000.
    pub connections_max: usize,
    /// Open connections of one address that is neither this machine's own nor a trusted proxy's. Default: 1000.
    pub connections_per_address_max: usize,
    /// Seconds in which a client has to send the head of a request, once begun, and to end a TLS handshake. Default: 10.
    pub head_timeout_s: u32,
    /// Seconds between two parts of a request's body. Default: 30.
    pub body_timeout_s: u32,
    /// Seconds until a call has to be answered; uploads and streams are no such calls. Default: 60.
    pub request_timeout_s: u32,
    /// Seconds that a connection may wait for its next request, or for the client to take what it asked for. Default: 75.
    pub idle_timeout_s: u32,
    /// Seconds that a WebSocket without a token in its head may take to send one. Default: 10.
    pub stream_token_timeout_s: u32,
    /// Seconds between two pings on a WebSocket; after two without an answer it is closed. Default: 30.
    pub stream_ping_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            enabled: true,
            requests_per_second: at_least_one(50),
            requests_burst: at_least_one(200),
            app_requests_per_second: at_least_one(100),
            app_requests_burst: at_least_one(400),
            logins_per_minute: at_least_one(20),
            logins_burst: at_least_one(20),
            failed_logins_per_minute: at_least_one(5),
            failed_logins_burst: at_least_one(10),
            messages_per_second: at_least_one(10),
            messages_burst: at_least_one(100),
            rooms_per_minute: at_least_one(30),
            rooms_burst: at_least_one(30),
            joins_per_minute: at_least_one(60),
            joins_burst: at_least_one(60),
            invites_per_minute: at_least_one(60),
            invites_burst: at_least_one(200),
            uploads_per_minute: at_least_one(60),
            uploads_burst: at_least_one(100),
            streams_per_minute: at_least_one(60),
            streams_burst: at_least_one(60),
            peer_requests_per_second: at_least_one(50),
            peer_requests_burst: at_least_one(300),
            peer_events_per_second: at_least_one(500),
            peer_events_burst: at_least_one(5_000),
            body_bytes_max: 1_048_576,
            connections_max: 16_000,
            connections_per_address_max: 1_000,
            head_timeout_s: 10,
            body_timeout_s: 30,
            request_timeout_s: 60,
            idle_timeout_s: 75,
            stream_token_timeout_s: 10,
            stream_ping_s: 30,
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), Problem> {
        if self.body_bytes_max < EVENT_BYTES_MAX {
            let message = format!("must be at least {EVENT_BYTES_MAX}, the size of the largest event");
            return Err(Problem::new("limits.body_bytes_max", message));
        }
        let positive = [
            ("connections_max", self.connections_max > 0),
            ("connections_per_address_max", self.connections_per_address_max > 0),
            ("head_timeout_s", self.head_timeout_s > 0),
            ("body_timeout_s", self.body_timeout_s > 0),
            ("request_timeout_s", self.request_timeout_s > 0),
            ("idle_timeout_s", self.idle_timeout_s > 0),
            ("stream_token_timeout_s", self.stream_token_timeout_s > 0),
            ("stream_ping_s", self.stream_ping_s > 0),
        ];
        match positive.iter().find(|(_, holds)| !holds) {
            Some((key, _)) => Err(Problem::new(format!("limits.{key}"), "must be at least 1")),
            None => Ok(()),
        }
    }

    /// [`Limits::head_timeout_s`].
    pub fn head_timeout(&self) -> Duration {
        Duration::from_secs(self.head_timeout_s.into())
    }

    /// [`Limits::body_timeout_s`].
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_s.into())
    }

    /// [`Limits::request_timeout_s`].
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_s.into())
    }

    /// [`Limits::idle_timeout_s`].
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s.into())
    }

    /// [`Limits::stream_token_timeout_s`].
    pub fn stream_token_timeout(&self) -> Duration {
        Duration::from_secs(self.stream_token_timeout_s.into())
    }

    /// [`Limits::stream_ping_s`].
    pub fn stream_ping(&self) -> Duration {
        Duration::from_secs(self.stream_ping_s.into())
    }
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}
