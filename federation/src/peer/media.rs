//! Files of other servers. The answer is in two parts: something about the file, then the file or where it lies.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#content-repository>
//!
//! May import: `connection`, `outside`, `limits`.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION},
};
use ruma::http_headers::ContentDisposition;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Peer, V1, escape, query};
use crate::{
    PeerStore, body,
    connection::{Answer, Call},
    error::FederationError,
    limits::{MEDIA_IDLE_TIMEOUT, MEDIA_PART_HEAD_BYTES_MAX, SLOW_REQUEST_TIMEOUT, WELL_KNOWN_REDIRECTS_MAX},
    local::ThumbnailSize,
};

/// Letters of a boundary.
/// Source: <https://www.rfc-editor.org/rfc/rfc2046#section-5.1.1>
const BOUNDARY_BYTES_MAX: usize = 70;

const BAD_PARTS: FederationError = FederationError::BadAnswer("not two parts");

/// A file on its way from another server. Nothing in it is checked; its name and type are what the server says.
pub struct RemoteMedium {
    /// The media type, if it is told.
    pub content_type: Option<String>,
    /// What its uploader called it.
    pub name: Option<String>,
    source: Source,
    /// What has come of the body.
    buffer: BytesMut,
    /// What ends the body; the end of the answer does when there is none.
    delimiter: Option<Vec<u8>>,
    left: u64,
}

enum Source {
    Answer(Answer),
    /// What lies elsewhere, and until when it has to be here.
    Outside(body::Body, Instant),
    Ended,
}

impl RemoteMedium {
    fn new(source: Source, headers: &HeaderMap, bytes_max: u64) -> Self {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let disposition = headers.get(CONTENT_DISPOSITION);
        let disposition = disposition.and_then(|value| ContentDisposition::try_from(value.as_bytes()).ok());
        let name = disposition.and_then(|disposition| disposition.filename);
        Self { content_type, name, source, buffer: BytesMut::new(), delimiter: None, left: bytes_max }
    }

    /// The next bytes of the file; `None` at its end.
    ///
    /// # Errors
    /// [`FederationError::TooLarge`] when it has more bytes than were allowed; when the connection breaks, stalls, or ends too early.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FederationError> {
        loop {
            let ready = self.ready()?;
            if let Some(bytes) = ready {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.left = self.left.checked_sub(length).ok_or(FederationError::TooLarge)?;
                return Ok(Some(bytes));
            }
            if matches!(self.source, Source::Ended) {
                return Ok(None);
            }
            match self.source.next().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None if self.delimiter.is_some() => {
                    return Err(FederationError::Broken("the file is cut off".to_owned()));
                }
                None => self.source = Source::Ended,
            }
        }
    }

    /// What of the buffer is certain to belong to the file.
    fn ready(&mut self) -> Result<Option<Bytes>, FederationError> {
        let certain = match &self.delimiter {
            None => self.buffer.len(),
            Some(delimiter) => match find(&self.buffer, delimiter) {
                Some(end) => {
                    self.buffer.truncate(end);
                    (self.delimiter, self.source) = (None, Source::Ended);
                    end
                }
                // The delimiter may have begun.
                None => self.buffer.len().saturating_sub(delimiter.len()),
            },
        };
        Ok((certain > 0).then(|| self.buffer.split_to(certain).freeze()))
    }
}

impl Source {
    async fn next(&mut self) -> Result<Option<Bytes>, FederationError> {
        let next = async {
            match self {
                Self::Answer(answer) => answer.next().await,
                Self::Outside(body, until) => {
                    timeout_at(*until, body::next(body)).await.unwrap_or(Err(FederationError::TimedOut))
                }
                Self::Ended => Ok(None),
            }
        };
        timeout(MEDIA_IDLE_TIMEOUT, next).await.unwrap_or(Err(FederationError::TimedOut))
    }
}

impl<S: PeerStore> Peer<'_, S> {
    /// A file of the peer, of at most `bytes_max` bytes.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid>
    ///
    /// # Errors
    /// [`FederationError`]. The id must be of the letters that ids of media have.
    pub async fn medium(&self, media_id: &str, bytes_max: u64) -> Result<RemoteMedium, FederationError> {
        self.file("download", media_id, &[], bytes_max).await
    }

    /// A small picture of a file of the peer.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediathumbnailmediaid>
    ///
    /// # Errors
    /// As [`Peer::medium`].
    pub async fn thumbnail(
        &self,
        media_id: &str,
        size: ThumbnailSize,
        bytes_max: u64,
    ) -> Result<RemoteMedium, FederationError> {
        let (width, height) = (size.width.to_string(), size.height.to_string());
        let method = if size.crop { "crop" } else { "scale" };
        self.file("thumbnail", media_id, &[("width", &width), ("height", &height), ("method", method)], bytes_max).await
    }

    async fn file(
        &self,
        what: &str,
        media_id: &str,
        parameters: &[(&str, &str)],
        bytes_max: u64,
    ) -> Result<RemoteMedium, FederationError> {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if media_id.is_empty() || media_id.len() > 255 || !media_id.bytes().all(is_id) {
            return Err(FederationError::Unsendable("no id of a medium"));
        }
        let asked = [parameters, &[("timeout_ms", "20000")]].concat();
        let target = format!("{V1}/media/{what}/{media_id}{}", query(&asked));
        match self.connections.open(self.server, Call::get(&target).slow()).await {
            Ok(answer) => self.second_part(answer, bytes_max).await,
            Err(error)
                if error.status() == Some(StatusCode::NOT_FOUND) && error.errcode() == Some("M_UNRECOGNIZED") =>
            {
                // A server of before authenticated media.
                let asked = [parameters, &[("allow_remote", "false")]].concat();
                let server = escape(self.server);
                let target = format!("/_matrix/media/v3/{what}/{server}/{media_id}{}", query(&asked));
                let call = Call { is_signed: false, ..Call::get(&target).slow() };
                let answer = self.connections.open(self.server, call).await?;
                let headers = answer.headers().clone();
                Ok(RemoteMedium::new(Source::Answer(answer), &headers, bytes_max))
            }
            Err(error) => Err(error),
        }
    }

    /// The file in the second part of an answer, or what its `Location` leads to.
    async fn second_part(&self, answer: Answer, bytes_max: u64) -> Result<RemoteMedium, FederationError> {
        let boundary = answer.headers().get(CONTENT_TYPE).and_then(boundary).ok_or(BAD_PARTS)?;
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        // A line end before the first delimiter need not be there: one is put in its place.
        let mut reader = Reader { source: Source::Answer(answer), buffer: BytesMut::from("\r\n") };
        reader.skip_past(&delimiter).await?;
        reader.skip_past(b"\r\n").await?;
        reader.skip_past(&delimiter).await?;
        let after = reader.until(b"\r\n").await?;
        if after.starts_with(b"--") {
            return Err(BAD_PARTS);
        }
        let headers = reader.headers().await?;
        if let Some(location) = headers.get(LOCATION) {
            let place = location.to_str().ok().and_then(|place| place.parse().ok());
            let place = place.ok_or(FederationError::BadAnswer("a file that lies nowhere"))?;
            let outside = self.connections.discovery().outside().clone();
            let got = timeout(MEDIA_IDLE_TIMEOUT, outside.get(place, WELL_KNOWN_REDIRECTS_MAX)).await;
            let answer = got.unwrap_or(Err(FederationError::TimedOut))?;
            if answer.status() != StatusCode::OK {
                return Err(FederationError::BadAnswer("a file that does not lie where it should"));
            }
            let (head, body) = answer.into_parts();
            let until = Instant::now() + SLOW_REQUEST_TIMEOUT;
            return Ok(RemoteMedium::new(Source::Outside(body, until), &head.headers, bytes_max));
        }
        let medium = RemoteMedium::new(reader.source, &headers, bytes_max);
        Ok(RemoteMedium { buffer: reader.buffer, delimiter: Some(delimiter), ..medium })
    }
}

/// Reads the heads of parts, each within a bound.
struct Reader {
    source: Source,
    buffer: BytesMut,
}

impl Reader {
    /// What comes before an end, which is taken too.
    async fn until(&mut self, end: &[u8]) -> Result<BytesMut, FederationError> {
        loop {
            if let Some(place) = find(&self.buffer, end) {
                let before = self.buffer.split_to(place);
                let _end = self.buffer.split_to(end.len());
                return Ok(before);
            }
            if self.buffer.len() > MEDIA_PART_HEAD_BYTES_MAX {
                return Err(FederationError::TooLarge);
            }
            let bytes = self.source.next().await?.ok_or(BAD_PARTS)?;
            self.buffer.extend_from_slice(&bytes);
        }
    }

    async fn skip_past(&mut self, end: &[u8]) -> Result<(), FederationError> {
        self.until(end).await.map(drop)
    }

    /// The headers of a part, up to the empty line. Lines that are no headers are passed over.
    async fn headers(&mut self) -> Result<HeaderMap, FederationError> {
        let mut headers = HeaderMap::new();
        let mut bytes = 0;
        loop {
            let line = self.until(b"\r\n").await?;
            bytes += line.len();
            if line.is_empty() {
                return Ok(headers);
            }
            if bytes > MEDIA_PART_HEAD_BYTES_MAX || headers.len() > 64 {
                return Err(FederationError::TooLarge);
            }
            let Some(colon) = find(&line, b":") else { continue };
            let (name, value) = line.split_at(colon);
            let value = value.trim_ascii_start().strip_prefix(b":").unwrap_or_default().trim_ascii();
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
    }
}

/// The boundary between the parts, from the answer's media type.
fn boundary(content_type: &HeaderValue) -> Option<String> {
    let text = content_type.to_str().ok()?;
    let mut parameters = text.split(';').map(str::trim);
    if !parameters.next()?.eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let boundary = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    })?;
    (!boundary.is_empty() && boundary.len() <= BOUNDARY_BYTES_MAX).then_some(boundary)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};

    use super::*;

    /// Hard case 58.
    #[tokio::test(start_paused = true)]
    async fn a_file_that_trickles_is_given_up() {
        let drops = stream::repeat(()).then(|()| async {
            tokio::time::sleep(MEDIA_IDLE_TIMEOUT / 2).await;
            Ok::<_, Infallible>(Bytes::from_static(b"x"))
        });
        let body = body::boxed(axum::body::Body::from_stream(drops));
        let until = Instant::now() + SLOW_REQUEST_TIMEOUT;
        let mut medium = RemoteMedium::new(Source::Outside(body, until), &HeaderMap::new(), u64::MAX);
        let mut bytes = 0;
        let end = loop {
            match medium.next().await {
                Ok(Some(some)) => bytes += some.len(),
                end => break end,
            }
            assert!(bytes < 100, "it goes on for ever");
        };
        assert!(matches!(end, Err(FederationError::TimedOut)), "{end:?}");
        assert!(bytes > 10);
    }
}
