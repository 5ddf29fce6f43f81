//! Whether a failed request is sent again, and when. A pure policy.

use std::time::Duration;

use super::{Failure, FailureKind, LONGEST};

/// How often a request is sent again at most.
const MAX_RETRIES: u32 = 4;

/// How long to wait before retry number `attempt` (from 0); `None` if it is not sent again. What the provider asks for is kept;
/// else full jitter (a random time up to a bound that doubles), from 0.5 s to 8 s. `random` is from 0 to 1.
pub(super) fn delay(attempt: u32, failure: &Failure, random: f64) -> Option<Duration> {
    let most = match failure.kind {
        FailureKind::Unreachable | FailureKind::Cut | FailureKind::Limited | FailureKind::Server => MAX_RETRIES,
        // What took too long once was perhaps paid for: once more, and no more.
        FailureKind::Timeout => 1,
        FailureKind::Refused
        | FailureKind::Key
        | FailureKind::Untrusted
        | FailureKind::Rejected
        | FailureKind::Failed
        | FailureKind::Cancelled => 0,
    };
    let asked = failure.retry_after.unwrap_or_default();
    if attempt >= most || asked > LONGEST {
        return None;
    }
    let bound = (0.5 * f64::from(1u32 << attempt.min(8))).min(8.0);
    Some(asked.max(Duration::from_secs_f64(bound * random.clamp(0.0, 1.0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind, retry_after: Option<u64>) -> Failure {
        Failure { retry_after: retry_after.map(Duration::from_secs), ..Failure::new(kind, "") }
    }

    #[test]
    fn waits_as_asked_and_gives_up_in_the_end() {
        let limited = failure(FailureKind::Limited, Some(7));
        assert_eq!(delay(0, &limited, 0.5), Some(Duration::from_secs(7)));
        assert_eq!(delay(4, &limited, 0.5), None);
        assert_eq!(delay(0, &failure(FailureKind::Limited, Some(3600)), 0.5), None);
        let server = failure(FailureKind::Server, None);
        let waits: Vec<f64> = (0..4).filter_map(|n| delay(n, &server, 1.0)).map(|d| d.as_secs_f64()).collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0]);
        // A provider that says "now" is still not hammered.
        assert_eq!(delay(0, &failure(FailureKind::Limited, Some(0)), 1.0), Some(Duration::from_millis(500)));
        assert_eq!(delay(0, &failure(FailureKind::Refused, Some(1)), 1.0), None);
        assert_eq!(delay(1, &failure(FailureKind::Timeout, None), 1.0), None);
    }
}
