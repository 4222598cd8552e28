//! What sort of call a route is, for rates and times: one table over methods and routes.

use axum::http::Method;

/// What somebody does with a request, where it has a rate of its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Says something, takes it back, or sets the state of a room.
    Message,
    /// Makes a room, a direct message or a workspace.
    Room,
    /// Joins, or asks to.
    Join,
    /// Invites somebody.
    Invite,
    /// Uploads a file.
    Upload,
    /// Opens a stream.
    Stream,
    /// Changes a password.
    Password,
}

/// The deeds of routes. Log-ins and registrations have rates too, but nobody has an account yet: their handlers ask.
const DEEDS: &[(Method, &str, Deed)] = &[
    (Method::POST, "/v1/rooms/{room_id}/messages", Deed::Message),
    (Method::POST, "/v1/rooms/{room_id}/events/{event_id}/redact", Deed::Message),
    (Method::PUT, "/v1/rooms/{room_id}/state/{type}", Deed::Message),
    (Method::PUT, "/v1/rooms/{room_id}/state/{type}/{key}", Deed::Message),
    (Method::PUT, "/v1/rooms/{room_id}/name", Deed::Message),
    (Method::PUT, "/v1/rooms/{room_id}/topic", Deed::Message),
    (Method::PUT, "/v1/rooms/{room_id}/announcement", Deed::Message),
    (Method::PUT, "/v1/rooms/{room_id}/workspace", Deed::Message),
    (Method::PUT, "/v1/rooms/{room_id}/power-levels", Deed::Message),
    (Method::PUT, "/v1/rooms/{room_id}/members/{participant_id}/power-level", Deed::Message),
    (Method::PUT, "/v1/rooms/{room_id}/members/{participant_id}/silence", Deed::Message),
    (Method::DELETE, "/v1/rooms/{room_id}/members/{participant_id}/silence", Deed::Message),
    (Method::DELETE, "/v1/rooms/{room_id}/avatar", Deed::Message),
    (Method::PATCH, "/v1/rooms/{room_id}", Deed::Message),
    (Method::POST, "/v1/rooms/{room_id}/kick", Deed::Message),
    (Method::POST, "/v1/rooms/{room_id}/ban", Deed::Message),
    (Method::POST, "/v1/rooms/{room_id}/unban", Deed::Message),
    (Method::POST, "/v1/rooms/{room_id}/archive", Deed::Message),
    (Method::POST, "/v1/rooms/{room_id}/rejoin", Deed::Message),
    (Method::POST, "/v1/rooms", Deed::Room),
    (Method::POST, "/v1/rooms/dm", Deed::Room),
    (Method::POST, "/v1/workspaces", Deed::Room),
    (Method::POST, "/v1/rooms/{room_id}/join", Deed::Join),
    (Method::POST, "/v1/rooms/{room_id}/knock", Deed::Join),
    (Method::POST, "/v1/rooms/{room_id}/invite", Deed::Invite),
    (Method::PUT, "/v1/rooms/{room_id}/members/{participant_id}", Deed::Invite),
    (Method::POST, "/v1/rooms/{room_id}/members/{participant_id}/approve", Deed::Invite),
    (Method::PUT, "/v1/workspaces/{workspace_id}/members/{participant_id}", Deed::Invite),
    (Method::POST, "/v1/media", Deed::Upload),
    (Method::PUT, "/v1/rooms/{room_id}/avatar", Deed::Upload),
    (Method::POST, "/v1/rooms/import", Deed::Upload),
    (Method::POST, "/api/rooms", Deed::Room),
    (Method::DELETE, "/api/rooms/{id}", Deed::Message),
    (Method::POST, "/api/rooms/{id}/join", Deed::Join),
    (Method::POST, "/api/v1/rooms/{roomId}/text-messages", Deed::Message),
    (Method::POST, "/api/create_room", Deed::Room),
    (Method::POST, "/api/join_room", Deed::Join),
    (Method::POST, "/api/send_room_message", Deed::Message),
    (Method::GET, "/v1/stream", Deed::Stream),
    (Method::PUT, "/v1/me/password", Deed::Password),
];

impl Deed {
    /// What a request does, if that has a rate of its own.
    pub(crate) fn of(method: &Method, route: &str) -> Option<Self> {
        DEEDS.iter().find(|(name, path, _)| *path == route && name == method).map(|(_, _, deed)| *deed)
    }

    /// The word for it in figures.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Room => "room",
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Upload => "upload",
            Self::Stream => "stream",
            Self::Password => "password",
        }
    }
}

/// Its body may take as long as it goes on arriving, and so may its answer.
pub(crate) fn is_upload(method: &Method, route: &str) -> bool {
    Deed::of(method, route) == Some(Deed::Upload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{agora, mirage, ryos, v1, virola};

    #[test]
    fn each_deed_is_done_on_a_route_that_exists() {
        let routes: Vec<_> =
            [v1::routes(), ryos::routes(), virola::routes(), mirage::routes(), agora::routes()].concat();
        for (method, path, _) in DEEDS {
            assert!(routes.contains(&(method.as_str(), path)), "{method} {path}");
        }
    }

    #[test]
    fn a_route_and_its_method_say_what_is_done() {
        assert_eq!(Deed::of(&Method::POST, "/v1/rooms"), Some(Deed::Room));
        assert_eq!(Deed::of(&Method::GET, "/v1/rooms"), None);
        assert_eq!(Deed::of(&Method::POST, "/v1/rooms/{room_id}/leave"), None);
        assert!(is_upload(&Method::POST, "/v1/media") && !is_upload(&Method::POST, "/v1/rooms"));
    }
}
