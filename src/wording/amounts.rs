//! What a run took, gave and lacks, in words.

use std::time::Duration;

use crate::llm::{Shortfall, Unkept};
use crate::plan::{Collected, Counts};

/// What came of a collection's items, in a line.
pub fn collected(of: &Collected) -> String {
    const NAMED: usize = 5;
    let count = |count: usize, thing: &str| format!("{count} {thing}{}", if count == 1 { "" } else { "s" });
    let mut line = format!("{} of {}", count(of.results, "result"), count(of.items, "item"));
    if !of.dropped.is_empty() {
        let named: Vec<&str> = of.dropped.iter().take(NAMED).map(String::as_str).collect();
        let more = if of.dropped.len() > NAMED { ", …" } else { "" };
        line += &format!("; {} dropped: {}{more}", count(of.dropped.len(), "double"), named.join(", "));
    }
    if of.failed > 0 {
        line += &format!("; {} without an answer", count(of.failed, "item"));
    }
    line
}

/// What came of texts that were to become vectors, in a line.
pub fn embedded(of: &Counts) -> String {
    let Counts { total, success, failed, cached, new } = of;
    format!("{success} of {total} items have a vector: {new} new, {cached} that were there; {failed} failed")
}

/// Why results are missing, as people read it.
pub fn shortfall(why: &Shortfall) -> String {
    match why {
        Shortfall::Truncated => "the answer was cut at the limit of output tokens".to_owned(),
        Shortfall::Malformed(what) => what.clone(),
        Shortfall::Refused(what) => format!("the model declined: {what}"),
        Shortfall::Broken(what) => format!("the answer broke off: {what}"),
    }
}

/// Why the prefix of a request, for `what` among others, is not in the provider's cache as it should be.
pub fn unkept(what: &str, why: Unkept) -> String {
    match why {
        Unkept::TooShort(tokens, minimum) => format!(
            "`keep_prefix` asks to keep the system part of `{what}` and its like, which has about {tokens} tokens, and its model keeps \
             none of fewer than {minimum}"
        ),
        Unkept::Unheeded => format!(
            "the provider kept nothing of the system part of `{what}` and its like: it is shorter than the model wants, or what \
             stands in between does not pass the mark on"
        ),
        Unkept::Again => format!(
            "the system part of `{what}` and its like was written to the provider's cache again, though it had been written before"
        ),
    }
}

/// An amount of USD, as short as it is exact enough.
pub fn usd(amount: f64) -> String {
    match amount {
        0.0 => "0".to_owned(),
        amount if amount < 0.01 => format!("{amount:.5}"),
        amount if amount < 1.0 => format!("{amount:.4}"),
        amount => format!("{amount:.2}"),
    }
}

/// A duration as people say it.
pub fn time(duration: Duration) -> String {
    match duration.as_secs_f64() {
        s if s < 1.0 => format!("{}ms", duration.as_millis()),
        s if s < 60.0 => format!("{s:.1}s"),
        _ => humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!([0.0, 0.0000123, 0.0421, 12.0].map(usd), ["0", "0.00001", "0.0421", "12.00"]);
    }
}
