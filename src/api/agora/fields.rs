//! What this dialect reads: bodies field by field, names of people, pages.

use axum::extract::{FromRequest, Request};
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Agora, error::AgoraError};
use crate::{
    actions::{ActionError, Actions, Window},
    api::body::Json,
};

/// Characters of the name of a person.
const USERNAME_CHARACTERS_MAX: usize = 64;
/// People that one call names at most.
pub(super) const PEOPLE_MAX: usize = 60;
/// Entries of a page of people or of somebody's rooms; who asks for more gets so many.
const PAGE_MAX: u64 = 1_000;

/// How a name in a request becomes a person: [`username`] or [`person`].
type ReadName = fn(&Actions, &str, &str) -> Result<OwnedUserId, ActionError>;

/// The fields of a JSON body; what is null counts as missing.
pub(super) struct Fields(Map<String, Value>);

impl FromRequest<Agora> for Fields {
    type Rejection = AgoraError;

    async fn from_request(request: Request, dialect: &Agora) -> Result<Self, AgoraError> {
        let body = Json::<Map<String, Value>>::from_request(request, dialect).await;
        Ok(Self(body.map_err(AgoraError::of_body)?.value))
    }
}

impl Fields {
    /// No field has another name.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), ActionError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(other) => Err(ActionError::invalid(other, format!("cannot be set; only {} can", known.join(", ")))),
            None => Ok(()),
        }
    }

    /// The field is there, whatever its value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn present(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn read<'a, T>(
        &'a self,
        name: &str,
        what: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ActionError> {
        let value = self.present(name);
        value.map(|value| read(value).ok_or_else(|| ActionError::invalid(name, format!("must be {what}")))).transpose()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ActionError> {
        self.read(name, "a text", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ActionError> {
        self.read(name, "true or false", Value::as_bool)
    }

    pub(super) fn count(&self, name: &str) -> Result<Option<u64>, ActionError> {
        self.read(name, "a whole number from 1 on", |value| value.as_u64().filter(|count| *count > 0))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, ActionError> {
        self.read(name, "a whole number", Value::as_i64)
    }

    /// One person.
    pub(super) fn person(
        &self,
        actions: &Actions,
        name: &str,
        read: ReadName,
    ) -> Result<Option<OwnedUserId>, ActionError> {
        self.text(name)?.map(|text| read(actions, name, &text)).transpose()
    }

    /// The people whom a call is about: at least one, at most [`PEOPLE_MAX`], each once.
    pub(super) fn usernames(&self, actions: &Actions, read: ReadName) -> Result<Vec<OwnedUserId>, ActionError> {
        const FIELD: &str = "usernames";
        each_once(FIELD, needed(FIELD, self.people(actions, FIELD, read)?)?)
    }

    /// People, at least one.
    pub(super) fn people(
        &self,
        actions: &Actions,
        name: &str,
        read: ReadName,
    ) -> Result<Option<Vec<OwnedUserId>>, ActionError> {
        let what = "a list of at least one name";
        let names = self.read(name, what, |value| value.as_array().filter(|names| !names.is_empty()))?;
        let person = |value: &Value| {
            let text = value.as_str().ok_or_else(|| ActionError::invalid(name, format!("must be {what}")))?;
            read(actions, name, text)
        };
        names.map(|names| names.iter().map(person).collect()).transpose()
    }
}

/// A field that this call cannot do without.
pub(super) fn needed<T>(field: &str, value: Option<T>) -> Result<T, ActionError> {
    value.ok_or_else(|| ActionError::invalid(field, "is missing"))
}

/// The person of this server with a name, in whatever case.
pub(super) fn username(actions: &Actions, field: &str, name: &str) -> Result<OwnedUserId, ActionError> {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > USERNAME_CHARACTERS_MAX || !name.bytes().all(in_name) {
        let problem = format!("`{name}` is not 1 to {USERNAME_CHARACTERS_MAX} characters of a-z A-Z 0-9 _ - .");
        return Err(ActionError::invalid(field, problem));
    }
    actions.parse_participant(field, &name.to_ascii_lowercase())
}

/// Somebody by name, or anybody by the full id, as answers give it for people of other servers.
pub(super) fn person(actions: &Actions, field: &str, name: &str) -> Result<OwnedUserId, ActionError> {
    if name.starts_with('@') && name.contains(':') {
        return actions.parse_participant(field, name);
    }
    username(actions, field, name)
}

/// People, separated by commas: at most [`PEOPLE_MAX`], each once.
pub(super) fn people(actions: &Actions, names: &str) -> Result<Vec<OwnedUserId>, ActionError> {
    const FIELD: &str = "username";
    let people = split(names).iter().map(|name| person(actions, FIELD, name)).collect::<Result<Vec<_>, _>>()?;
    each_once(FIELD, people)
}

/// The parts between commas. A comma before the colon of a full id belongs to it: some old ids have one.
fn split(names: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in names.split(',') {
        match parts.last_mut().filter(|last| last.starts_with('@') && !last.contains(':')) {
            Some(begun) => begun.extend([",", part]),
            None => parts.push(part.to_owned()),
        }
    }
    parts
}

/// The people of one call.
fn each_once(field: &str, people: Vec<OwnedUserId>) -> Result<Vec<OwnedUserId>, ActionError> {
    if people.len() > PEOPLE_MAX {
        return Err(ActionError::invalid(field, format!("names more than {PEOPLE_MAX} people")));
    }
    let mut found = Vec::with_capacity(people.len());
    for person in people {
        if !found.contains(&person) {
            found.push(person);
        }
    }
    Ok(found)
}

/// A page, counted from 1.
#[derive(Deserialize)]
pub(super) struct PageOf {
    pagenum: Option<u64>,
    pagesize: Option<u64>,
}

impl PageOf {
    /// The part of a list that is wanted.
    pub(super) fn window(&self) -> Result<Window, ActionError> {
        let at_least_one = |field: &str, value: Option<u64>, default: u64| match value {
            Some(0) => Err(ActionError::invalid(field, "must be a whole number from 1 on")),
            value => Ok(value.unwrap_or(default)),
        };
        let size = at_least_one("pagesize", self.pagesize, PAGE_MAX)?.min(PAGE_MAX);
        let before = at_least_one("pagenum", self.pagenum, 1)? - 1;
        let offset = usize::try_from(before.saturating_mul(size)).unwrap_or(usize::MAX);
        Ok(Window { offset, limit: usize::try_from(size).map_err(ActionError::internal)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_split_at_commas_but_not_inside_of_an_id() {
        assert_eq!(split("alice,bob"), ["alice", "bob"]);
        assert_eq!(split("@a:b,c,@d,e:f:8448,g"), ["@a:b", "c", "@d,e:f:8448", "g"]);
        assert_eq!(split("@carol,dan"), ["@carol,dan"]);
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn pages_are_counted_from_one_and_hold_a_thousand_at_most() {
        let window =
            |pagenum, pagesize| PageOf { pagenum, pagesize }.window().map(|window| (window.offset, window.limit));
        assert_eq!(window(None, None).unwrap(), (0, 1_000));
        assert_eq!(window(Some(3), Some(20)).unwrap(), (40, 20));
        assert_eq!(window(Some(2), Some(5_000)).unwrap(), (1_000, 1_000));
        assert!(window(Some(0), None).is_err() && window(None, Some(0)).is_err());
        assert_eq!(window(Some(u64::MAX), Some(10)).unwrap().0, usize::MAX);
    }
}
