//! Times as the API writes them: RFC 3339 in UTC with milliseconds.

use rules::UnixMs;
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// The latest time that can be written; stands for "no end".
pub(crate) const NEVER: &str = "9999-12-31T23:59:59.999Z";

/// A time as text.
pub(crate) fn text(at: UnixMs) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let nanoseconds = i128::from(at.0) * 1_000_000;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
    moment.and_then(|moment| moment.format(format).ok()).unwrap_or_else(|| NEVER.to_owned())
}

/// The time that a text names; none: it is no RFC 3339 time, or lies before 1970.
pub(crate) fn parse(text: &str) -> Option<UnixMs> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok().map(UnixMs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_and_read_back() {
        for (ms, expected) in [(0, "1970-01-01T00:00:00.000Z"), (1_700_000_000_007, "2023-11-14T22:13:20.007Z")] {
            assert_eq!(text(UnixMs(ms)), expected);
            assert_eq!(parse(expected), Some(UnixMs(ms)));
        }
        assert_eq!(text(UnixMs(u64::MAX)), NEVER);
        assert_eq!(parse("2023-11-14T23:13:20.007+01:00"), Some(UnixMs(1_700_000_000_007)));
        assert_eq!(parse("yesterday"), None);
    }
}
