//! Texts that people write into rooms: how long they may be, and where a reason goes.

use ruma::{CanonicalJsonObject, CanonicalJsonValue};

use super::ActionError;

/// Characters of the name of a room or a workspace.
pub const NAME_CHARACTERS_MAX: usize = 255;
/// Characters of a topic.
pub const TOPIC_CHARACTERS_MAX: usize = 4_096;
/// Characters of an announcement.
pub const ANNOUNCEMENT_CHARACTERS_MAX: usize = 512;
/// Bytes of the text that clients keep with a room.
pub const CUSTOM_BYTES_MAX: usize = 8 * 1024;
/// Bytes of any text that a room's summary takes over from its events: the longest topic has as many.
pub const TEXT_BYTES_MAX: usize = 4 * TOPIC_CHARACTERS_MAX;
/// Characters of a reason.
pub const REASON_CHARACTERS_MAX: usize = 1_024;

/// The text is not too long.
///
/// # Errors
/// [`ActionError::RequestInvalid`], naming the field.
pub fn at_most(field: &str, text: Option<&str>, characters_max: usize) -> Result<(), ActionError> {
    if text.is_some_and(|text| text.chars().count() > characters_max) {
        return Err(ActionError::invalid(field, format!("at most {characters_max} characters")));
    }
    Ok(())
}

/// Writes a reason into the content of an event, if one was given.
///
/// # Errors
/// One that is too long.
pub fn give_reason(content: &mut CanonicalJsonObject, reason: Option<String>) -> Result<(), ActionError> {
    at_most("reason", reason.as_deref(), REASON_CHARACTERS_MAX)?;
    if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
        content.insert("reason".to_owned(), CanonicalJsonValue::String(reason));
    }
    Ok(())
}
