//! What a redaction leaves of an event, by room version. May import `canonical` and ruma's rules.
//!
//! One selection of the kept fields serves both the redacted copy and the bytes that are signed and hashed, so that the
//! two cannot differ. Source: <https://spec.matrix.org/v1.19/rooms/v12/#redactions>

use ruma::{CanonicalJsonObject, CanonicalJsonValue, room_version_rules::RedactionRules};

use crate::canonical::{write_fields, write_value};

/// What of a value is kept: all of it, or some fields of an object.
enum Kept<'a> {
    Whole(&'a CanonicalJsonValue),
    Fields(Vec<(&'a str, Kept<'a>)>),
}

/// The redacted copy of an event.
#[must_use]
pub fn redact(event: &CanonicalJsonObject, rules: &RedactionRules) -> CanonicalJsonObject {
    kept_fields(event, rules).into_iter().map(|(key, kept)| (key.to_owned(), kept.into_value())).collect()
}

/// The bytes that are signed and that the reference hash is made over: the redacted event without `signatures`.
/// (`unsigned` is not kept by a redaction.)
#[must_use]
pub fn signed_bytes(event: &CanonicalJsonObject, rules: &RedactionRules) -> String {
    let mut out = String::with_capacity(1024);
    let fields = kept_fields(event, rules).into_iter().filter(|(key, _)| *key != "signatures");
    write_fields(&mut out, fields, |out, kept| kept.write(out));
    out
}

impl Kept<'_> {
    fn into_value(self) -> CanonicalJsonValue {
        match self {
            Self::Whole(value) => value.clone(),
            Self::Fields(fields) => CanonicalJsonValue::Object(
                fields.into_iter().map(|(key, kept)| (key.to_owned(), kept.into_value())).collect(),
            ),
        }
    }

    fn write(self, out: &mut String) {
        match self {
            Self::Whole(value) => write_value(out, value),
            Self::Fields(fields) => write_fields(out, fields.into_iter(), |out, kept| kept.write(out)),
        }
    }
}

fn kept_fields<'a>(event: &'a CanonicalJsonObject, rules: &RedactionRules) -> Vec<(&'a str, Kept<'a>)> {
    let kind = event.get("type").and_then(CanonicalJsonValue::as_str).unwrap_or_default();
    event
        .iter()
        .filter(|(key, _)| is_kept(key, rules))
        .map(|(key, value)| match value {
            CanonicalJsonValue::Object(content) if key == "content" => {
                (key.as_str(), kept_content(kind, content, value, rules))
            }
            _ => (key.as_str(), Kept::Whole(value)),
        })
        .collect()
}

fn is_kept(key: &str, rules: &RedactionRules) -> bool {
    match key {
        "event_id" | "type" | "room_id" | "sender" | "state_key" | "content" | "hashes" | "signatures" | "depth"
        | "prev_events" | "auth_events" | "origin_server_ts" => true,
        "origin" | "membership" | "prev_state" => rules.keep_origin_membership_prev_state,
        _ => false,
    }
}

fn kept_content<'a>(
    kind: &str,
    content: &'a CanonicalJsonObject,
    whole: &'a CanonicalJsonValue,
    rules: &RedactionRules,
) -> Kept<'a> {
    if kind == "m.room.create" && rules.keep_room_create_content {
        return Kept::Whole(whole);
    }
    let fields = content.iter().filter_map(|(key, value)| {
        let kept = if kind == "m.room.member" && key == "third_party_invite" {
            kept_invite(value, rules)?
        } else if is_content_kept(kind, key, rules) {
            Kept::Whole(value)
        } else {
            return None;
        };
        Some((key.as_str(), kept))
    });
    Kept::Fields(fields.collect())
}

fn is_content_kept(kind: &str, key: &str, rules: &RedactionRules) -> bool {
    match (kind, key) {
        ("m.room.member", "membership")
        | ("m.room.create", "creator")
        | ("m.room.join_rules", "join_rule")
        | ("m.room.history_visibility", "history_visibility")
        | (
            "m.room.power_levels",
            "ban" | "events" | "events_default" | "kick" | "redact" | "state_default" | "users" | "users_default",
        ) => true,
        ("m.room.member", "join_authorised_via_users_server") => {
            rules.keep_room_member_join_authorised_via_users_server
        }
        ("m.room.join_rules", "allow") => rules.keep_room_join_rules_allow,
        ("m.room.power_levels", "invite") => rules.keep_room_power_levels_invite,
        ("m.room.redaction", "redacts") => rules.keep_room_redaction_redacts,
        ("m.room.aliases", "aliases") => rules.keep_room_aliases_aliases,
        _ => false,
    }
}

/// Of a third-party invite `signed` is kept. One that is not an object is dropped, as the most deployed server does; it
/// decides event ids, so keeping it would split rooms.
fn kept_invite<'a>(invite: &'a CanonicalJsonValue, rules: &RedactionRules) -> Option<Kept<'a>> {
    if !rules.keep_room_member_third_party_invite_signed {
        return None;
    }
    let fields = invite.as_object()?.iter().filter(|(key, _)| *key == "signed");
    Some(Kept::Fields(fields.map(|(key, value)| (key.as_str(), Kept::Whole(value))).collect()))
}
