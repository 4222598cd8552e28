//! Paging of lists: `limit` and `offset`, with one range for all of them.

use serde::Deserialize;

use crate::actions::{ActionError, Window};

/// Entries of a page when nothing is said.
const LIMIT_DEFAULT: usize = 50;
/// Entries of a page at most.
const LIMIT_MAX: usize = 200;
/// Characters of a text to look for.
const SEARCH_CHARACTERS_MAX: usize = 255;
/// The largest number that every JSON reader holds exactly.
const OFFSET_MAX: i64 = (1 << 53) - 1;

/// The paging of a list, as its query says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    limit: Option<i64>,
    offset: Option<i64>,
}

impl Paging {
    /// The part that is wanted, checked.
    pub(crate) fn read(&self) -> Result<Window, ActionError> {
        window(self.offset, self.limit)
    }
}

/// The part of a list that is wanted, checked.
pub(crate) fn window(offset: Option<i64>, limit: Option<i64>) -> Result<Window, ActionError> {
    let in_range = |offset: &i64| (0..=OFFSET_MAX).contains(offset);
    let offset = Some(offset.unwrap_or(0)).filter(in_range).and_then(|offset| usize::try_from(offset).ok());
    let offset = offset.ok_or_else(|| ActionError::invalid("offset", format!("must be from 0 to {OFFSET_MAX}")))?;
    Ok(Window { offset, limit: limit_of(limit)? })
}

/// A text to look for, checked.
pub(crate) fn search(q: Option<String>) -> Result<Option<String>, ActionError> {
    if q.as_ref().is_some_and(|q| q.chars().count() > SEARCH_CHARACTERS_MAX) {
        return Err(ActionError::invalid("q", format!("at most {SEARCH_CHARACTERS_MAX} characters")));
    }
    Ok(q)
}

/// A limit, checked.
pub(crate) fn limit_of(limit: Option<i64>) -> Result<usize, ActionError> {
    let Some(limit) = limit else { return Ok(LIMIT_DEFAULT) };
    let in_range = |limit: &usize| (1..=LIMIT_MAX).contains(limit);
    usize::try_from(limit)
        .ok()
        .filter(in_range)
        .ok_or_else(|| ActionError::invalid("limit", format!("must be from 1 to {LIMIT_MAX}")))
}
