//! When a client first sent a request, by what it says.

use std::time::UNIX_EPOCH;

use http::{HeaderMap, HeaderName};
use httpdate::{fmt_http_date, parse_http_date};

use crate::core::Timestamp;
use crate::telemetry::refusal::Refusal;

/// The time in the one line of this field.
pub(crate) fn first_sent(headers: &HeaderMap, name: &HeaderName) -> Result<Timestamp, Refusal> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().filter(|_| lines.next().is_none()).and_then(|line| line.to_str().ok());
    line.and_then(parsed).ok_or(Refusal::FirstSentInvalid)
}

/// IMF-fixdate and neither of the obsolete forms, which are read too (RFC 9110 §5.6.7).
fn parsed(text: &str) -> Option<Timestamp> {
    let time = parse_http_date(text).ok().filter(|time| fmt_http_date(*time) == text)?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(u64::try_from(since.as_millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_imf_fixdate() {
        assert_eq!(parsed("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Timestamp::from_millis(784_111_777_000)));
        assert_eq!(parsed("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Timestamp::from_millis(0)));
        for other in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "1994-11-06T08:49:37Z",
            "784111777",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            " Sun, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parsed(other), None, "{other:?}");
        }
    }
}
