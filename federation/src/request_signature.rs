//! The signature on a request between servers, the header `Authorization: X-Matrix ...`, both directions.
//!
//! Strict in what is sent, lenient in what is read. A signature carries no time: who answers must bear a repeated request.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>
//! May import: ruma, http, ed25519-dalek, `limits`, `our_keys`.

use ed25519_dalek::{Signature, VerifyingKey};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use ruma::{
    CanonicalJsonObject, OwnedServerName, OwnedServerSigningKeyId, ServerName, ServerSigningKeyId,
    serde::{Base64, base64::Standard},
    signatures::KeyPair as _,
};
use serde::Serialize;

use crate::{
    limits::{REQUEST_SIGNATURES_MAX, SERVER_NAME_BYTES_MAX},
    our_keys::{SigningKey, unpadded},
};

const SCHEME: &str = "X-Matrix";

/// One `X-Matrix` header as it was sent: who claims to have signed, for whom, with which key. Nothing in it is proven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XMatrix {
    /// Who says to have sent the request.
    pub origin: OwnedServerName,
    /// For whom it is; servers of before 2022 leave it out.
    pub destination: Option<String>,
    /// The key that it is signed with.
    pub key_id: OwnedServerSigningKeyId,
    /// The signature's bytes.
    pub signature: Vec<u8>,
}

/// Why the headers of a request say nothing about its sender. All are 401 `M_UNAUTHORIZED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No header of this scheme.
    #[error("the request is not signed")]
    Missing,
    /// More headers than a server has keys to sign with.
    #[error("the request has too many signatures")]
    TooMany,
    /// Not a list of `name=value`.
    #[error("the signature header cannot be read")]
    Syntax,
    /// A parameter stands twice in one header.
    #[error("the signature header has a parameter twice")]
    Twice,
    /// `origin`, `key` or `sig` is missing.
    #[error("the signature header lacks a parameter")]
    Incomplete,
    /// A parameter is not what it should be.
    #[error("the signature header has a bad {0}")]
    Value(&'static str),
    /// Two headers, two senders.
    #[error("the signature headers are of several servers")]
    SeveralOrigins,
}

/// Why a request is not shown to come from whom it says. All are 401 `M_UNAUTHORIZED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// It was signed for another server.
    #[error("the request is for another server")]
    OtherDestination,
    /// None of its keys is known and good for requests now.
    #[error("no known key signed the request")]
    NoKnownKey,
    /// A known key did not make the signature that stands under its id.
    #[error("the signature of the request is wrong")]
    BadSignature,
}

/// The request cannot be put into a header; names and keys of this crate's types never are the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be signed")]
pub struct Unsignable;

/// What is signed. The fields stand in the order of canonical JSON.
#[derive(Serialize)]
struct SignedObject<'a, Content: ?Sized> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a Content>,
    destination: &'a str,
    method: &'a str,
    origin: &'a str,
    uri: &'a str,
}

impl<Content: Serialize + ?Sized> SignedObject<'_, Content> {
    fn to_bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }
}

/// Reads a name of a server as it comes over the wire: the grammar of the specification, of at most
/// [`SERVER_NAME_BYTES_MAX`] bytes. Names are compared byte by byte: upper case makes another server.
/// Source: <https://spec.matrix.org/v1.19/appendices/#server-name>
pub fn server_name(text: &str) -> Option<OwnedServerName> {
    if text.len() > SERVER_NAME_BYTES_MAX {
        return None;
    }
    let name = ServerName::parse(text).ok()?;
    let port = text.strip_prefix(name.host()).unwrap_or_default();
    (port.is_empty() || (name.port().is_some() && port.len() <= 6)).then_some(name)
}

/// Reads all `X-Matrix` headers of a request, at least one. `Authorization` headers of other schemes are passed over.
///
/// # Errors
/// [`Malformed`].
pub fn parse(headers: &HeaderMap) -> Result<Vec<XMatrix>, Malformed> {
    let mut signatures: Vec<XMatrix> = Vec::new();
    for header in headers.get_all(AUTHORIZATION) {
        let Some(parameters) = header.to_str().ok().and_then(parameters_of) else { continue };
        if signatures.len() == REQUEST_SIGNATURES_MAX {
            return Err(Malformed::TooMany);
        }
        let signature = parse_parameters(parameters)?;
        if signatures.first().is_some_and(|first| first.origin != signature.origin) {
            return Err(Malformed::SeveralOrigins);
        }
        signatures.push(signature);
    }
    if signatures.is_empty() { Err(Malformed::Missing) } else { Ok(signatures) }
}

/// The header for a request of ours. `target` is path and query exactly as they are sent; `content` is the body.
///
/// # Errors
/// [`Unsignable`], for which names and keys of this crate give no reason.
pub fn sign(
    key: &SigningKey,
    origin: &ServerName,
    destination: &ServerName,
    method: &str,
    target: &str,
    content: Option<&CanonicalJsonObject>,
) -> Result<HeaderValue, Unsignable> {
    let object =
        SignedObject { content, destination: destination.as_str(), method, origin: origin.as_str(), uri: target };
    let bytes = object.to_bytes().ok_or(Unsignable)?;
    let signature = unpadded(key.sign(&bytes).as_bytes());
    let key_id = key.key_id();
    let header = format!(r#"{SCHEME} origin="{origin}",destination="{destination}",key="{key_id}",sig="{signature}""#);
    HeaderValue::try_from(header).ok().ok_or(Unsignable)
}

/// Checks that the server named in the headers made this request for `our_name`. `target` is path and query exactly as they
/// came; `content` is the parsed body, the same value that is then worked with, and writes itself as canonical JSON. `key` gives the public key behind a key id,
/// of those that the origin may sign requests with now.
///
/// # Errors
/// [`Unverified`]: no known key signed, or one of the known keys did not. A key that is not known proves nothing.
pub fn verify<Content: Serialize + ?Sized>(
    signatures: &[XMatrix],
    method: &str,
    target: &str,
    our_name: &ServerName,
    content: Option<&Content>,
    key: &impl Fn(&ServerSigningKeyId) -> Option<[u8; 32]>,
) -> Result<(), Unverified> {
    let mut is_signed = false;
    for signature in signatures {
        if signature.destination.as_deref().is_some_and(|destination| destination != our_name.as_str()) {
            return Err(Unverified::OtherDestination);
        }
        let Some(public) = key(&signature.key_id) else { continue };
        let origin = signature.origin.as_str();
        let object = SignedObject { content, destination: our_name.as_str(), method, origin, uri: target };
        let bytes = object.to_bytes().ok_or(Unverified::BadSignature)?;
        if !is_good(&public, &bytes, &signature.signature) {
            return Err(Unverified::BadSignature);
        }
        is_signed = true;
    }
    if is_signed { Ok(()) } else { Err(Unverified::NoKnownKey) }
}

/// Whether an Ed25519 key made a signature.
pub(crate) fn is_good(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(public), Signature::from_slice(signature)) else {
        return false;
    };
    key.verify_strict(message, &signature).is_ok()
}

/// What follows the scheme, when it is ours.
fn parameters_of(header: &str) -> Option<&str> {
    let header = header.trim_start_matches(is_blank);
    let scheme = header.get(..SCHEME.len())?;
    let rest = header.get(SCHEME.len()..)?;
    (scheme.eq_ignore_ascii_case(SCHEME) && (rest.is_empty() || rest.starts_with(is_blank))).then_some(rest)
}

fn parse_parameters(mut rest: &str) -> Result<XMatrix, Malformed> {
    let [mut origin, mut destination, mut key, mut signature] = [const { None::<String> }; 4];
    loop {
        rest = rest.trim_start_matches(|letter| is_blank(letter) || letter == ',');
        if rest.is_empty() {
            break;
        }
        let (name, value, after) = parameter(rest).ok_or(Malformed::Syntax)?;
        rest = after;
        let place = match name.to_ascii_lowercase().as_str() {
            "origin" => &mut origin,
            "destination" => &mut destination,
            "key" => &mut key,
            "sig" => &mut signature,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(Malformed::Twice);
        }
    }
    let (Some(origin), Some(key), Some(signature)) = (origin, key, signature) else {
        return Err(Malformed::Incomplete);
    };
    let signature = Base64::<Standard>::parse(signature).ok().ok_or(Malformed::Value("sig"))?;
    Ok(XMatrix {
        origin: server_name(&origin).ok_or(Malformed::Value("origin"))?,
        destination,
        key_id: key.as_str().try_into().ok().ok_or(Malformed::Value("key"))?,
        signature: signature.into_inner(),
    })
}

/// One `name=value` and what comes after it. A value is quoted, with backslash escapes, or goes on to a comma or blank: older
/// servers do not quote colons.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim_end_matches(is_blank);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
        return None;
    }
    let rest = rest.trim_start_matches(is_blank);
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let end = rest.find(|letter| is_blank(letter) || letter == ',').unwrap_or(rest.len());
            let (value, rest) = rest.split_at_checked(end)?;
            (!value.is_empty() && !value.contains('"')).then(|| (value.to_owned(), rest))?
        }
    };
    let rest = rest.trim_start_matches(is_blank);
    (rest.is_empty() || rest.starts_with(',')).then_some((name, value, rest))
}

/// The value up to the closing quote, and what comes after it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.chars();
    loop {
        match letters.next()? {
            '"' => return Some((value, letters.as_str())),
            '\\' => value.push(letters.next()?),
            letter => value.push(letter),
        }
    }
}

fn is_blank(letter: char) -> bool {
    letter == ' ' || letter == '\t'
}

#[cfg(test)]
mod tests;
