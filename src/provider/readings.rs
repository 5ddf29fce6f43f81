//! What headers say of limits, whatever their names: numbers, and when all is there again. Pure: times are by the server's own clock.

use std::time::{Duration, SystemTime};

use super::http::Reply;
use super::limits::{Counted, Reading};

/// What is counted, and the names of the headers that say the limit, what is left, and when it is whole again.
pub(super) type Names = (Counted, [&'static str; 3]);

/// What headers of these names say. What makes no sense is left out.
pub(super) fn readings(reply: &Reply, names: &[Names]) -> Vec<Reading> {
    let number = |name: &str| reply.header(name)?.trim().parse().ok();
    let one = |(counted, [limit, remaining, reset]): &Names| {
        let reset = reply.header(reset).and_then(|text| self::reset(reply, text.trim()));
        Some(Reading { counted: *counted, limit: number(limit)?, remaining: number(remaining), reset })
    };
    names.iter().filter_map(one).collect()
}

/// A time to come: a duration, as `6m0s`; a number of seconds; or a date as in RFC 3339.
fn reset(reply: &Reply, text: &str) -> Option<Duration> {
    let seconds = || text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let date = || until(reply, humantime::parse_rfc3339(text).ok()?);
    humantime::parse_duration(text).ok().or_else(seconds).or_else(date)
}

/// How long until then. The header `date` says what time it is: clocks differ.
pub(super) fn until(reply: &Reply, then: SystemTime) -> Option<Duration> {
    let now = httpdate::parse_http_date(reply.header("date")?.trim()).ok()?;
    Some(then.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::wire::tests::reply;

    const NAMES: &[Names] = &[(Counted::Requests, ["limit", "left", "reset"])];

    fn said(limit: &'static str, left: &'static str, reset: &'static str) -> Option<(u64, Option<u64>, Option<u64>)> {
        let headers = [("limit", limit), ("left", left), ("reset", reset), ("date", "Sat, 21 Nov 2026 10:00:00 GMT")];
        let readings = readings(&reply(200, "", &headers), NAMES);
        assert!(readings.len() <= 1);
        let millis = |reset: Duration| u64::try_from(reset.as_millis()).unwrap();
        readings.first().map(|reading| (reading.limit, reading.remaining, reading.reset.map(millis)))
    }

    #[test]
    fn numbers_and_times_in_each_spelling() {
        for (reset, millis) in [
            ("4ms", 4),
            ("8.64s", 8_640),
            ("6m0s", 360_000),
            ("1m3.5s", 63_500),
            ("1h2m3s", 3_723_000),
            ("12", 12_000),
            ("0.25", 250),
            ("2026-11-21T10:00:07Z", 7_000),
            ("2026-11-21T10:01:00.5Z", 60_500),
            ("2026-11-21T09:59:00Z", 0),
        ] {
            assert_eq!(said("500", "499", reset), Some((500, Some(499), Some(millis))), "{reset}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_said() {
        for reset in ["", "soon", "-1", "NaN", "1e999", "2026-13-01T00:00:00Z"] {
            assert_eq!(said("500", "499", reset), Some((500, Some(499), None)), "{reset}");
        }
        assert_eq!(said("500", "many", "1s"), Some((500, None, Some(1000))));
        assert_eq!(said("", "1", "1s"), None);
        assert_eq!(said("-5", "1", "1s"), None);
        assert_eq!(said("99999999999999999999", "1", "1s"), None);
        assert_eq!(
            readings(&reply(200, "", &[("limit", "7"), ("reset", "2026-11-21T10:00:07Z")]), NAMES)[0].reset,
            None
        );
    }
}
