//! What Google says when it says no: in the status, in words, and in details beside them.

use std::time::Duration;

use serde_json::Value;

use crate::provider::http::Reply;
use crate::provider::wire;
use crate::provider::{Failure, FailureKind};

/// What is said with status 429 when no wait helps.
const OUT_OF_MONEY: &[&str] =
    &["prepayment credits are depleted", "spending cap", "limit: 0,", "limit: 0\n", "have a free quota tier"];

/// The error of a body, or of the first piece that is one.
pub(super) fn error(body: Option<&Value>) -> Option<&Value> {
    let of = |body: &'_ Value| body.get("error").is_some_and(|error| !error.is_null());
    match body? {
        Value::Array(pieces) => pieces.iter().find(|piece| of(piece))?.get("error"),
        body => Some(body).filter(|body| of(body))?.get("error"),
    }
}

/// What is wrong, from the status, the provider's words and what it says in detail.
pub(super) fn failure(reply: &Reply, error: Option<&Value>, request_id: Option<String>) -> Failure {
    let text = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str);
    // Where the status is a good one, the error names the true one.
    let named = error.and_then(|error| error.get("code")).and_then(Value::as_u64).and_then(|code| code.try_into().ok());
    let status = match reply.status {
        200..300 => named.filter(|code| (400..600).contains(code)).unwrap_or(reply.status),
        status => status,
    };
    let message = text("message").or_else(|| error.and_then(Value::as_str));
    let message = message.map_or_else(|| wire::unsaid(reply), str::to_owned);
    let lower = message.to_ascii_lowercase();
    let details = Details::of(error);
    let has_bad_key =
        details.reason.is_some_and(|reason| reason.starts_with("API_KEY_")) || lower.contains("api key not valid");
    let (kind, message) = match (status, details.daily) {
        (429, Some(quota)) => (FailureKind::Refused, format!("the day's quota is used up ({quota}): {message}")),
        (429, None) if OUT_OF_MONEY.iter().any(|words| lower.contains(words)) => (FailureKind::Refused, message),
        (400 | 401 | 403, _) if has_bad_key => (FailureKind::Key, message),
        // Of the account: where it is, or that nobody pays for it.
        (400, _) if text("status") == Some("FAILED_PRECONDITION") => (FailureKind::Refused, message),
        // The other side gave up.
        (499, _) => (FailureKind::Server, message),
        (status, _) => (wire::kind(status), message),
    };
    let retry_after = details.retry_delay.max(wire::retry_after(reply));
    Failure { kind, status: Some(reply.status), message, request_id, retry_after }
}

/// What an error says beside its words, as far as it says anything.
#[derive(Default)]
struct Details<'a> {
    reason: Option<&'a str>,
    /// The quota for a day that is used up.
    daily: Option<&'a str>,
    retry_delay: Option<Duration>,
}

impl<'a> Details<'a> {
    fn of(error: Option<&'a Value>) -> Details<'a> {
        let details = error.and_then(|error| error.get("details")).and_then(Value::as_array);
        let mut found = Details::default();
        for detail in details.into_iter().flatten() {
            let text = |name: &str| detail.get(name).and_then(Value::as_str);
            let kind = text("@type").unwrap_or_default();
            if kind.ends_with("google.rpc.ErrorInfo") {
                found.reason = found.reason.or(text("reason"));
            } else if kind.ends_with("google.rpc.QuotaFailure") {
                let violations = detail.get("violations").and_then(Value::as_array).into_iter().flatten();
                let mut quotas = violations.filter_map(|violation| violation.get("quotaId")?.as_str());
                found.daily = found.daily.or_else(|| quotas.find(|quota| quota.contains("PerDay")));
            } else if kind.ends_with("google.rpc.RetryInfo") {
                let seconds = text("retryDelay").and_then(|delay| delay.strip_suffix('s')?.parse::<f64>().ok());
                let seconds = seconds.filter(|seconds| (0.0..=86_400.0).contains(seconds));
                found.retry_delay = found.retry_delay.max(seconds.map(Duration::from_secs_f64));
            }
        }
        found
    }
}
