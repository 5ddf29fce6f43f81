//! Reasons and shortfalls in words: one wording each, for reports and for terminals.

#[cfg(feature = "run")]
mod amounts;

use crate::plan::{Judged, Orphan, Reason, Verdict};

#[cfg(feature = "run")]
pub use amounts::{collected, embedded, shortfall, time, unkept, usd};

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
