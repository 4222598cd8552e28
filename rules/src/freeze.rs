//! What archiving and closing change in a room that other servers share: the levels and the join rule, there and back.
//! Pure functions on contents. May import `kind`, ruma's values.

use std::mem;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int};

use crate::kind::{ARCHIVED, CLOSED};

/// The level that an archive asks for everything.
pub const ARCHIVE_LEVEL: i64 = 50;

/// The most that closing asks for everything.
pub const CLOSE_LEVEL_MAX: i64 = 100;

/// The fields that are lifted, with what a missing one means.
const LIFTED: [(&str, i64); 3] = [("events_default", 0), ("invite", 0), ("state_default", 50)];

/// The entries of `events` that stay: those that undo the freeze or end the room.
const SPARED: [&str; 3] = [ARCHIVED, CLOSED, "m.room.power_levels"];

/// The join rule that gives way, and the one that replaces it.
const OPEN_RULE: &str = "public";
const SHUT_RULE: &str = "invite";

/// What to send to freeze or thaw a room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The new content of the power levels event, if it changes.
    pub power_levels: Option<CanonicalJsonObject>,
    /// The new join rule, if it changes.
    pub join_rule: Option<String>,
}

/// Lifts what is below `level`. The second part is what goes into `levels` of the archived event, so that [`thawed`]
/// finds it: former values, null for what was missing.
#[must_use]
pub fn frozen(
    power_levels: &CanonicalJsonObject,
    join_rule: Option<&str>,
    level: i64,
) -> (Change, CanonicalJsonObject) {
    let lifted = CanonicalJsonValue::Integer(Int::new_saturating(level));
    let mut content = power_levels.clone();
    let mut former = CanonicalJsonObject::new();
    for (field, default) in LIFTED {
        if content.get(field).and_then(level_of).unwrap_or(default) < level {
            let old = content.insert(field.to_owned(), lifted.clone());
            former.insert(field.to_owned(), old.unwrap_or_default());
        }
    }
    let mut former_events = CanonicalJsonObject::new();
    if let Some(CanonicalJsonValue::Object(events)) = content.get_mut("events") {
        for (event_type, value) in events.iter_mut().filter(|(event_type, _)| !SPARED.contains(&event_type.as_str())) {
            if level_of(value).is_some_and(|present| present < level) {
                former_events.insert(event_type.clone(), mem::replace(value, lifted.clone()));
            }
        }
    }
    if !former_events.is_empty() {
        former.insert("events".to_owned(), CanonicalJsonValue::Object(former_events));
    }
    let mut change = Change { power_levels: (!former.is_empty()).then_some(content), join_rule: None };
    if join_rule == Some(OPEN_RULE) {
        change.join_rule = Some(SHUT_RULE.to_owned());
        former.insert("join_rule".to_owned(), CanonicalJsonValue::String(OPEN_RULE.to_owned()));
    }
    (change, former)
}

/// Puts back what [`frozen`] noted, and nothing else: what it could not have noted is ignored, and an entry that is gone
/// by now stays gone.
#[must_use]
pub fn thawed(power_levels: &CanonicalJsonObject, former: &CanonicalJsonObject) -> Change {
    let mut content = power_levels.clone();
    for (field, _) in LIFTED {
        match former.get(field) {
            Some(value @ CanonicalJsonValue::Integer(_)) => {
                content.insert(field.to_owned(), value.clone());
            }
            Some(CanonicalJsonValue::Null) => {
                content.remove(field);
            }
            _ => {}
        }
    }
    let former_events = former.get("events").and_then(CanonicalJsonValue::as_object);
    if let Some(CanonicalJsonValue::Object(events)) = content.get_mut("events") {
        for (event_type, value) in former_events.into_iter().flatten() {
            let is_noted = value.is_integer() && !SPARED.contains(&event_type.as_str());
            if let Some(present) = events.get_mut(event_type).filter(|_| is_noted) {
                *present = value.clone();
            }
        }
    }
    let is_open = former.get("join_rule").and_then(CanonicalJsonValue::as_str) == Some(OPEN_RULE);
    Change {
        power_levels: (content != *power_levels).then_some(content),
        join_rule: is_open.then(|| OPEN_RULE.to_owned()),
    }
}

fn level_of(value: &CanonicalJsonValue) -> Option<i64> {
    value.as_integer().map(i64::from)
}
