//! The body of an answer, whichever way it came, read piece by piece within a bound. May import: http-body-util, bytes.

use bytes::Bytes;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};

use crate::error::FederationError;

/// A body that comes in pieces.
pub(crate) type Body = UnsyncBoxBody<Bytes, FederationError>;

/// Makes any body one of ours.
pub(crate) fn boxed<B, E>(body: B) -> Body
where
    B: http_body_util::BodyExt<Data = Bytes, Error = E> + Send + 'static,
    E: std::fmt::Display,
{
    UnsyncBoxBody::new(body.map_err(|error| FederationError::Broken(error.to_string())))
}

/// The next piece; `None` at the end.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn next(body: &mut Body) -> Result<Option<Bytes>, FederationError> {
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame?.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The whole body.
///
/// # Errors
/// [`FederationError::TooLarge`] as soon as there is more than `bytes_max`, or when the connection breaks.
pub(crate) async fn read(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, FederationError> {
    let mut whole = Vec::new();
    while let Some(bytes) = next(&mut body).await? {
        if bytes.len() > bytes_max.saturating_sub(whole.len()) {
            return Err(FederationError::TooLarge);
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole)
}
