//! Reasons and shortfalls in words: one wording each, for reports and for terminals.

use std::time::Duration;

use crate::llm::{Shortfall, Unkept};
use crate::plan::{Collected, Counts, Judged, Orphan, Reason, Verdict};

/// A reason, as people read it.
pub fn reason(reason: &Reason) -> String {
    match reason {
        Reason::New => "new".to_owned(),
        Reason::InputChanged(Some(name)) => format!("input changed: {name}"),
        Reason::InputChanged(None) => "input changed".to_owned(),
        Reason::RecipeChanged(name) => format!("recipe changed: {name}"),
        Reason::ModelChanged { from, to } => format!("model changed: {from} to {to}"),
        Reason::OutputMissing(path) => format!("output missing: {path}"),
        Reason::EditDiscarded(path) => format!("edit discarded: {path}"),
        Reason::EditKept(path) => format!("edit kept: {path}"),
        Reason::EditMerged(path) => format!("edit merged: {path}"),
        Reason::EditUndone(path) => format!("edit taken back: {path}"),
        Reason::CheckFailed(what) => format!("check failed: {what}"),
        Reason::Forced => "asked for".to_owned(),
        Reason::Assumed(path) => format!("as if changed: {path}"),
    }
}

/// A verdict's stable name: `fresh`, `stale`, `restorable`, `edited` or `waiting`.
pub fn status(judged: &Judged) -> &'static str {
    match &judged.verdict {
        Verdict::Fresh => "fresh",
        Verdict::Stale(_) if judged.is_replied => "restorable",
        Verdict::Stale(_) => "stale",
        Verdict::Restorable(..) => "restorable",
        Verdict::Edited(..) | Verdict::Kept(_) => "edited",
        Verdict::Waiting(_) => "waiting",
    }
}

/// Why a task is not up to date, as people read it; `name` says what a task is called.
pub fn why(judged: &Judged, name: &dyn Fn(usize) -> String) -> Vec<String> {
    match &judged.verdict {
        Verdict::Fresh => Vec::new(),
        Verdict::Stale(reasons) | Verdict::Restorable(reasons, _) => reasons.iter().map(reason).collect(),
        Verdict::Edited(reasons, _) => {
            std::iter::once("edited by hand".to_owned()).chain(reasons.iter().map(reason)).collect()
        }
        Verdict::Kept(_) => vec!["edited by hand; a build accepts it".to_owned()],
        Verdict::Waiting(on) => {
            let on: Vec<String> = on.iter().map(|task| name(*task)).collect();
            vec![format!("waits for {}", on.join(", "))]
        }
    }
}

/// What becomes of a target that no rule makes, as people read it.
pub fn orphan(orphan: &Orphan) -> &'static str {
    match orphan.edited {
        Some(true) => "no rule makes it any more; edited by hand, so a build keeps it",
        Some(false) if orphan.rule_is_empty => "its rule has no items any more; a build deletes it with `--yes` only",
        Some(false) => "no rule makes it any more; a build deletes it",
        None => "no rule makes it any more; a build takes it out of the lock",
    }
}

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

/// A reason's stable name, as in JSON.
pub fn reason_name(reason: &Reason) -> &'static str {
    match reason {
        Reason::New => "new",
        Reason::InputChanged(_) => "input changed",
        Reason::RecipeChanged(_) => "recipe changed",
        Reason::ModelChanged { .. } => "model changed",
        Reason::OutputMissing(_) => "output missing",
        Reason::EditDiscarded(_) => "edit discarded",
        Reason::EditKept(_) => "edit kept",
        Reason::EditMerged(_) => "edit merged",
        Reason::EditUndone(_) => "edit taken back",
        Reason::CheckFailed(_) => "check failed",
        Reason::Forced => "forced",
        Reason::Assumed(_) => "assumed",
    }
}

/// What a reason is about, where it is about something.
pub fn reason_subject(reason: &Reason) -> Option<String> {
    match reason {
        Reason::InputChanged(name) => name.clone(),
        Reason::RecipeChanged(name) | Reason::CheckFailed(name) => Some(name.clone()),
        Reason::ModelChanged { from, to } => Some(format!("{from} to {to}")),
        Reason::OutputMissing(path)
        | Reason::EditDiscarded(path)
        | Reason::EditKept(path)
        | Reason::EditMerged(path)
        | Reason::EditUndone(path)
        | Reason::Assumed(path) => Some(path.to_string()),
        Reason::New | Reason::Forced => None,
    }
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
