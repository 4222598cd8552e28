//! Files as answers: by range, cacheable, and never as something that a browser would run. Every dialect answers media through this.

use std::{convert::Infallible, ops::Range};

use axum::{
    body::Body,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::{Problem, ProblemKind};
use crate::actions::{
    Actions,
    media::{self, CONTENT_TYPE_DEFAULT, Found},
};

/// Types that a browser may show by itself: none of them holds anything that runs.
const SHOWN: [&str; 14] = [
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "text/plain",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "audio/mp4",
    "audio/webm",
    "audio/ogg",
    "audio/mpeg",
    "audio/wav",
    "audio/aac",
];
/// Further types that are named as they are, to be saved. Everything else is bytes.
const NAMED: [&str; 9] = [
    "application/pdf",
    "application/zip",
    "application/gzip",
    "application/x-tar",
    "application/json",
    "application/msword",
    "text/csv",
    "text/markdown",
    "text/calendar",
];
/// Whatever a file holds, a browser neither runs it nor loads anything for it.
const POLICY: &str = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'";
/// The bytes of a medium never change; who may read them does, so they are kept for a day only, and by the reader alone.
const CACHING: &str = "private, max-age=86400, immutable";
/// What stands under an address may be another picture tomorrow: the reader asks each time whether it still is the one that it has.
const CACHING_OF_PICTURES: &str = "private, no-cache";
/// What stands as it is in the name of a file in a header.
/// Source: <https://www.rfc-editor.org/rfc/rfc8187#section-3.2.1>
const NAME_KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How somebody wants a file.
pub(crate) struct Wanted {
    is_head: bool,
    known: Vec<String>,
    range: Option<String>,
    if_range: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Wanted {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let one = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let known = parts.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        Ok(Self {
            is_head: parts.method == Method::HEAD,
            known: known.flat_map(|list| list.split(',')).map(|tag| tag.trim().to_owned()).collect(),
            range: one(header::RANGE),
            if_range: one(header::IF_RANGE),
        })
    }
}

/// What is sent of a file.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Nothing,
    Whole,
    Some(Range<u64>),
    Behind,
}

impl Wanted {
    /// What of a file with this tag and so many bytes is sent. A range that is none, or of several parts, is passed over as the protocol has it.
    /// Source: <https://www.rfc-editor.org/rfc/rfc9110#section-14.2>
    fn of(&self, tag: &str, size: u64) -> Part {
        if self.known.iter().any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag) {
            return Part::Nothing;
        }
        if self.is_head || self.if_range.as_ref().is_some_and(|wanted| wanted != tag) {
            return Part::Whole;
        }
        self.range.as_deref().and_then(|range| part(range, size)).unwrap_or(Part::Whole)
    }
}

fn part(range: &str, size: u64) -> Option<Part> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let (start, end) = match (first, last) {
        ("", last) => (size.saturating_sub(number(last)?), if number(last)? == 0 { 0 } else { size }),
        (first, "") => (number(first)?, size),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(size))
        }
    };
    Some(if start < end { Part::Some(start..end) } else { Part::Behind })
}

/// Answers a file, as it is wanted.
pub(crate) async fn answer<R>(actions: &Actions, found: &Found, wanted: &Wanted) -> Result<Response, R>
where
    R: From<Problem> + IntoResponse,
{
    let size = found.info.size;
    let tag = format!("\"{}\"", found.tag);
    let caching = if found.is_fixed { CACHING } else { CACHING_OF_PICTURES };
    let (status, range) = match wanted.of(&tag, size) {
        Part::Nothing => {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            set(response.headers_mut(), [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, caching)]);
            return Ok(response);
        }
        Part::Behind => {
            let problem = Problem::new(ProblemKind::Range, format!("`Range`: the file has {size} bytes"));
            let mut response = R::from(problem).into_response();
            set(response.headers_mut(), [(header::CONTENT_RANGE, &format!("bytes */{size}"))]);
            return Ok(response);
        }
        Part::Whole => (StatusCode::OK, 0..size),
        Part::Some(range) => (StatusCode::PARTIAL_CONTENT, range),
    };
    let length = range.end - range.start;
    let body = if wanted.is_head {
        Body::empty()
    } else {
        Body::from_stream(media::read(actions, found, range.clone()).await.map_err(Problem::from)?)
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    let (content_type, is_shown) = served_type(&found.info.content_type);
    set(
        headers,
        [
            (header::CONTENT_TYPE, content_type.as_str()),
            (header::CONTENT_LENGTH, &length.to_string()),
            (header::CONTENT_DISPOSITION, &disposition(is_shown, found.info.name.as_deref())),
            (header::ETAG, &tag),
            (header::ACCEPT_RANGES, "bytes"),
            (header::CACHE_CONTROL, caching),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-site"),
        ],
    );
    if status == StatusCode::PARTIAL_CONTENT {
        set(headers, [(header::CONTENT_RANGE, &format!("bytes {}-{}/{size}", range.start, range.end - 1))]);
    }
    Ok(response)
}

fn set<const N: usize>(headers: &mut HeaderMap, values: [(HeaderName, &str); N]) {
    for (name, value) in values {
        // Types are ASCII since they were taken in, names are encoded.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

/// The type that a file is sent as, and whether a browser may show it by itself.
fn served_type(content_type: &str) -> (String, bool) {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "text/plain" {
        return ("text/plain; charset=utf-8".to_owned(), true);
    }
    let is_shown = SHOWN.contains(&essence.as_str());
    let is_still = ["image/", "audio/", "video/", "application/vnd."].iter().any(|kind| essence.starts_with(kind));
    let may_run = ["xml", "svg", "html", "script", "flash"].iter().any(|word| essence.contains(word));
    if is_shown || NAMED.contains(&essence.as_str()) || is_still && !may_run {
        return (essence, is_shown);
    }
    (CONTENT_TYPE_DEFAULT.to_owned(), false)
}

fn disposition(is_shown: bool, name: Option<&str>) -> String {
    let kind = if is_shown { "inline" } else { "attachment" };
    match name {
        Some(name) => format!("{kind}; filename*=UTF-8''{}", utf8_percent_encode(name, NAME_KEPT)),
        None => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_part_or_none() {
        let cases = [
            ("bytes=0-0", Some(Part::Some(0..1))),
            ("bytes=2-", Some(Part::Some(2..10))),
            ("bytes=2-4", Some(Part::Some(2..5))),
            ("bytes=2-400", Some(Part::Some(2..10))),
            ("bytes=-3", Some(Part::Some(7..10))),
            ("bytes=-30", Some(Part::Some(0..10))),
            ("bytes=10-", Some(Part::Behind)),
            ("bytes=10-12", Some(Part::Behind)),
            ("bytes=-0", Some(Part::Behind)),
            ("bytes=4-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=-", None),
            ("bytes=+1-2", None),
            ("bytes=a-b", None),
            ("pages=1-2", None),
            ("", None),
        ];
        for (range, expected) in cases {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Some(Part::Behind));
    }

    #[test]
    fn nothing_that_runs_is_served_as_what_it_is() {
        let bytes = (CONTENT_TYPE_DEFAULT.to_owned(), false);
        for active in [
            "text/html",
            "TEXT/HTML; charset=utf-8",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/xml",
            "application/javascript",
            "text/javascript",
            "text/css",
            "application/vnd.mozilla.xul+xml",
            "application/x-shockwave-flash",
            "multipart/related",
            "message/rfc822",
        ] {
            assert_eq!(served_type(active), bytes, "{active}");
        }
        assert_eq!(served_type("text/plain; charset=utf-16"), ("text/plain; charset=utf-8".to_owned(), true));
        assert_eq!(served_type("Image/PNG"), ("image/png".to_owned(), true));
        assert_eq!(served_type("application/pdf"), ("application/pdf".to_owned(), false));
        assert_eq!(served_type("image/tiff"), ("image/tiff".to_owned(), false));
    }

    #[test]
    fn a_name_breaks_no_header() {
        assert_eq!(disposition(false, Some("a\"b;c.png")), "attachment; filename*=UTF-8''a%22b%3Bc.png");
        assert_eq!(disposition(true, Some("毡.png")), "inline; filename*=UTF-8''%E6%AF%A1.png");
        assert_eq!(disposition(false, None), "attachment");
    }
}
