//! The parts of a request's target: path parameters, decoded once after routing, and the query.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use ruma::{OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedUserId};

use super::error::Failure;
use crate::Refusal;

/// The path parameters of a request, in the order of the path, decoded.
pub(crate) struct Path<T>(pub(crate) T);

/// What can stand in a path.
pub(crate) trait PathPart: Sized {
    fn read(decoded: &str) -> Result<Self, Refusal>;
}

impl PathPart for OwnedRoomId {
    fn read(decoded: &str) -> Result<Self, Refusal> {
        id(decoded, "room id")
    }
}

impl PathPart for OwnedEventId {
    fn read(decoded: &str) -> Result<Self, Refusal> {
        id(decoded, "event id")
    }
}

impl PathPart for OwnedUserId {
    fn read(decoded: &str) -> Result<Self, Refusal> {
        id(decoded, "user id")
    }
}

impl PathPart for OwnedRoomAliasId {
    fn read(decoded: &str) -> Result<Self, Refusal> {
        id(decoded, "room alias")
    }
}

impl PathPart for String {
    fn read(decoded: &str) -> Result<Self, Refusal> {
        Ok(decoded.to_owned())
    }
}

/// Reads an id of Matrix: at most 255 bytes, which its type checks.
pub(crate) fn id<Id: for<'a> TryFrom<&'a str>>(text: &str, what: &'static str) -> Result<Id, Refusal> {
    Id::try_from(text).map_err(|_not_an_id| Refusal::Invalid(what))
}

/// The next parameter, which axum has decoded. That one is missing would be a mistake in the URL table.
fn next<'a, T: PathPart>(params: &mut impl Iterator<Item = (&'a str, &'a str)>) -> Result<T, Failure> {
    let (_, text) = params.next().ok_or(Failure::UnknownPath)?;
    Ok(T::read(text)?)
}

async fn params<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<RawPathParams, Failure> {
    RawPathParams::from_request_parts(parts, state).await.map_err(|_not_utf8| Refusal::Invalid("path").into())
}

impl<S: Send + Sync, A: PathPart> FromRequestParts<S> for Path<(A,)> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let params = params(parts, state).await?;
        let mut params = params.iter();
        Ok(Self((next(&mut params)?,)))
    }
}

impl<S: Send + Sync, A: PathPart, B: PathPart> FromRequestParts<S> for Path<(A, B)> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let params = params(parts, state).await?;
        let mut params = params.iter();
        Ok(Self((next(&mut params)?, next(&mut params)?)))
    }
}

/// The query of a request: names and values, decoded, names may repeat.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// All values of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name.
    pub(crate) fn one(&self, name: &'static str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value of a name, read.
    pub(crate) fn read<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Failure> {
        self.one(name).map(|text| text.parse().map_err(|_malformed| Refusal::Invalid(name).into())).transpose()
    }

    /// The first value of a name, which has to be there.
    pub(crate) fn required(&self, name: &'static str) -> Result<&str, Failure> {
        self.one(name).ok_or(Failure::Missing(name))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_gives_all_values_of_a_name() {
        let query = Query::parse("ver=1&ver=org.example%2B&limit=5&limit=x&a+b=c+d&empty");
        assert_eq!(query.all("ver").collect::<Vec<_>>(), ["1", "org.example+"]);
        assert_eq!(query.read::<u8>("limit"), Ok(Some(5)));
        assert_eq!(query.one("a b"), Some("c d"));
        assert_eq!(query.one("empty"), Some(""));
        assert_eq!(query.read::<u8>("none"), Ok(None));
        assert_eq!(query.required("none"), Err(Failure::Missing("none")));
        assert_eq!(query.read::<u8>("ver"), Ok(Some(1)));
        assert!(Query::parse("limit=-1").read::<u8>("limit").is_err());
    }

    proptest! {
        #[test]
        fn no_query_panics(text: String) {
            let query = Query::parse(&text);
            let _ = (query.one("ver"), query.read::<u32>("limit"));
        }
    }
}
