//! Decides whether a task is up to date, and why not. A pure function of facts, so that every command reaches the same verdict.

use std::collections::{BTreeSet, HashMap};

use super::key::{Part, PartKind};
use crate::digest::Digest;
use crate::graph::TaskId;
use crate::lock::Entry;
use crate::path::RelPath;

/// What a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Up to date.
    Fresh,
    /// To be made, and why.
    Stale(Vec<Reason>),
    /// Stale, but the store holds this result: the outputs' digests.
    Restorable(Vec<Reason>, Vec<Digest>),
    /// A person changed these outputs.
    Edited(Vec<RelPath>),
    /// Cannot be said before these tasks are made.
    Waiting(Vec<TaskId>),
}

/// Why a task is stale.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Nothing is known of it.
    New,
    /// An input, the item, a variable or a parameter is another than it was; `None` if no record says which.
    InputChanged(Option<String>),
    /// The recipe's file or a partial is another than it was.
    RecipeChanged(String),
    /// Another model.
    ModelChanged {
        /// The one that made it.
        from: String,
        /// The one that would.
        to: String,
    },
    /// An output is not there.
    OutputMissing(RelPath),
    /// An output is not what was made, and is made anew because that was asked for.
    EditDiscarded(RelPath),
    /// The result that is there does not pass a check that it was not judged by before: what the check says.
    CheckFailed(String),
    /// It was asked for.
    Forced,
    /// A file that it is made from is taken as changed, because that was asked for.
    Assumed(RelPath),
}

/// What the last runs on this machine left: a help, never the truth. Losing it costs time and words only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// For each output what genmake wrote there, newest last: content and action key.
    pub outputs: HashMap<RelPath, Vec<(Digest, Digest)>>,
    /// For each task, by its first output.
    pub tasks: HashMap<RelPath, Remembered>,
    /// Outputs that a command was writing when its run was killed: what stands there is nobody's result, and no edit either.
    pub half: BTreeSet<RelPath>,
}

/// What is remembered of a task.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Remembered {
    /// What it was made from.
    pub parts: Vec<Part>,
    /// The action key that this gave.
    pub key: Digest,
    /// Which checks its content passed, as a digest of both.
    pub checked: Option<Digest>,
}

/// What is known of one output.
#[derive(Debug, Clone)]
pub(super) struct OutputFacts<'a> {
    /// Where.
    pub path: &'a RelPath,
    /// What is on disk.
    pub on_disk: Option<Digest>,
    /// What the lock says.
    pub locked: Option<&'a Entry>,
    /// What genmake wrote there on this machine: content and key.
    pub written: &'a [(Digest, Digest)],
    /// Whether a killed run's command may have left it half-written.
    pub half: bool,
    /// What would be written, where that is known without asking anybody.
    pub would_be: Option<Digest>,
}

/// What a person asked for that changes verdicts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// `-B`: take everything for stale.
    pub rebuild: bool,
    /// `--force`: overwrite edits.
    pub force: bool,
}

/// Judges a task whose action key is `key`. `stored` is the store's result for this key, if it holds one.
pub(super) fn judge(
    key: Digest,
    outputs: &[OutputFacts],
    stored: Option<Vec<Digest>>,
    reasons: impl FnOnce() -> Vec<Reason>,
    wish: Wish,
) -> Verdict {
    let edited: Vec<RelPath> =
        outputs.iter().filter(|o| is_edited(o, stored.as_deref(), outputs)).map(|o| o.path.clone()).collect();
    if !edited.is_empty() && !wish.force {
        return Verdict::Edited(edited);
    }
    let fresh = outputs.iter().all(|o| {
        let Some(on_disk) = o.on_disk else { return false };
        let locked = o.locked.is_some_and(|entry| entry.key == key && entry.content == on_disk);
        // The journal's word counts where a run was cut before its lock was written, and only for the newest record.
        locked || o.written.last() == Some(&(on_disk, key))
    });
    if fresh && !wish.rebuild && edited.is_empty() {
        return Verdict::Fresh;
    }
    let mut why: Vec<Reason> = edited.into_iter().map(Reason::EditDiscarded).collect();
    why.extend(
        outputs.iter().filter(|o| o.on_disk.is_none() && is_known(o)).map(|o| Reason::OutputMissing(o.path.clone())),
    );
    let key_moved = outputs.iter().any(|o| last_key(o).is_some_and(|last| last != key));
    if outputs.iter().all(|o| !is_known(o)) {
        why.push(Reason::New);
    } else if key_moved {
        why.extend(reasons());
    }
    if why.is_empty() && wish.rebuild {
        why.push(Reason::Forced);
    }
    if why.is_empty() {
        why.push(Reason::New);
    }
    match stored {
        Some(stored) if !wish.rebuild => Verdict::Restorable(why, stored),
        _ => Verdict::Stale(why),
    }
}

/// Whether bytes on disk are a person's: neither the lock nor this machine's records know them, and they are not what would
/// be written anyway.
fn is_edited(output: &OutputFacts, stored: Option<&[Digest]>, all: &[OutputFacts]) -> bool {
    let Some(on_disk) = output.on_disk else { return false };
    let ours = output.locked.is_some_and(|entry| entry.content == on_disk)
        || output.written.iter().any(|(content, _)| *content == on_disk);
    let at = all.iter().position(|o| o.path == output.path);
    let restored = stored.zip(at).and_then(|(stored, at)| stored.get(at)).copied();
    !ours && !output.half && output.would_be != Some(on_disk) && restored != Some(on_disk)
}

fn is_known(output: &OutputFacts) -> bool {
    output.locked.is_some() || !output.written.is_empty()
}

/// The key that made what the lock or, without it, this machine knows.
fn last_key(output: &OutputFacts) -> Option<Digest> {
    output.locked.map(|entry| entry.key).or_else(|| output.written.last().map(|(_, key)| *key))
}

/// What changed between two sets of parts, in words' data. Empty if nothing did.
pub(super) fn changed(before: &[Part], now: &[Part]) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let find = |parts: &[Part], part: &Part| {
        parts.iter().find(|p| p.kind == part.kind && p.name == part.name).map(|p| p.digest)
    };
    let model = |parts: &[Part]| parts.iter().find(|p| p.kind == PartKind::Model).map(|p| p.name.clone());
    let mut add = |reason: Reason| {
        // An entity may be a task's item and in its context, too.
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    };
    for part in now.iter().filter(|part| find(before, part) != Some(part.digest)) {
        add(match part.kind {
            PartKind::Recipe => Reason::RecipeChanged(part.name.clone()),
            PartKind::Model => Reason::ModelChanged { from: model(before).unwrap_or_default(), to: part.name.clone() },
            _ => Reason::InputChanged(Some(part.name.clone())),
        });
    }
    for part in before.iter().filter(|part| part.kind != PartKind::Model && find(now, part).is_none()) {
        add(match part.kind {
            PartKind::Recipe => Reason::RecipeChanged(part.name.clone()),
            _ => Reason::InputChanged(Some(part.name.clone())),
        });
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Digest {
        Digest::of(text)
    }

    fn entry(content: &str, key: &str) -> Entry {
        Entry { content: d(content), key: d(key), rule: "r".into(), model: None, base: None }
    }

    struct Case<'a> {
        on_disk: Option<&'a str>,
        locked: Option<Entry>,
        written: Vec<(Digest, Digest)>,
        would_be: Option<&'a str>,
        half: bool,
        stored: Option<&'a str>,
        wish: Wish,
    }

    fn case() -> Case<'static> {
        Case {
            on_disk: Some("made"),
            locked: Some(entry("made", "key")),
            written: vec![],
            would_be: None,
            half: false,
            stored: None,
            wish: Wish::default(),
        }
    }

    fn verdict(case: &Case, key: &str) -> Verdict {
        let path = RelPath::new("a").unwrap();
        let facts = OutputFacts {
            half: case.half,
            path: &path,
            on_disk: case.on_disk.map(d),
            locked: case.locked.as_ref(),
            written: &case.written,
            would_be: case.would_be.map(d),
        };
        let changed = || vec![Reason::InputChanged(Some("i".into()))];
        judge(d(key), &[facts], case.stored.map(|s| vec![d(s)]), changed, case.wish)
    }

    fn changed_input() -> Vec<Reason> {
        vec![Reason::InputChanged(Some("i".into()))]
    }

    fn missing() -> Vec<Reason> {
        vec![Reason::OutputMissing(RelPath::new("a").unwrap())]
    }

    fn edited() -> Verdict {
        Verdict::Edited(vec![RelPath::new("a").unwrap()])
    }

    #[test]
    fn the_table_of_verdicts() {
        assert_eq!(verdict(&case(), "key"), Verdict::Fresh);
        assert_eq!(verdict(&case(), "other"), Verdict::Stale(changed_input()));
        assert_eq!(verdict(&Case { on_disk: None, ..case() }, "key"), Verdict::Stale(missing()));
        assert_eq!(
            verdict(&Case { on_disk: None, stored: Some("made"), ..case() }, "key"),
            Verdict::Restorable(missing(), vec![d("made")])
        );
        assert_eq!(
            verdict(&Case { stored: Some("before"), ..case() }, "other"),
            Verdict::Restorable(changed_input(), vec![d("before")])
        );
        assert_eq!(verdict(&Case { on_disk: None, locked: None, ..case() }, "key"), Verdict::Stale(vec![Reason::New]));
        // A person's bytes, whether the key moved or not, and where nothing is known of the file at all.
        assert_eq!(verdict(&Case { on_disk: Some("hand"), ..case() }, "key"), edited());
        assert_eq!(verdict(&Case { on_disk: Some("hand"), ..case() }, "other"), edited());
        assert_eq!(verdict(&Case { locked: None, ..case() }, "key"), edited());
        // What would be written anyway is adopted.
        assert_eq!(
            verdict(&Case { locked: None, would_be: Some("made"), ..case() }, "key"),
            Verdict::Stale(vec![Reason::New])
        );
        assert_eq!(
            verdict(&Case { locked: None, stored: Some("made"), ..case() }, "key"),
            Verdict::Restorable(vec![Reason::New], vec![d("made")])
        );
        // A run that was cut after the rename and before the lock.
        let cut = Case { locked: Some(entry("old", "k0")), written: vec![(d("made"), d("key"))], ..case() };
        assert_eq!(verdict(&cut, "key"), Verdict::Fresh);
        assert_eq!(verdict(&cut, "other"), Verdict::Stale(changed_input()));
        // Wishes.
        let wish = Wish { force: true, rebuild: false };
        assert_eq!(
            verdict(&Case { on_disk: Some("hand"), stored: Some("made"), wish, ..case() }, "key"),
            Verdict::Restorable(vec![Reason::EditDiscarded(RelPath::new("a").unwrap())], vec![d("made")])
        );
        let wish = Wish { rebuild: true, force: false };
        assert_eq!(
            verdict(&Case { stored: Some("made"), wish, ..case() }, "key"),
            Verdict::Stale(vec![Reason::Forced])
        );
        assert_eq!(verdict(&Case { on_disk: Some("hand"), wish, ..case() }, "key"), edited());
    }

    #[test]
    fn an_old_record_of_ours_is_not_fresh_and_not_edited() {
        let old = Case { written: vec![(d("made"), d("key")), (d("newer"), d("key2"))], locked: None, ..case() };
        assert_eq!(verdict(&old, "key"), Verdict::Stale(changed_input()));
    }

    #[test]
    fn what_changed_is_named() {
        let part = |kind, name: &str, text: &str| Part { kind, name: name.into(), digest: d(text) };
        let before = [
            part(PartKind::Recipe, "t.hbs", "1"),
            part(PartKind::Input, "a", "1"),
            part(PartKind::Input, "gone", "1"),
            part(PartKind::Model, "m1", "m1"),
        ];
        let now = [
            part(PartKind::Recipe, "t.hbs", "2"),
            part(PartKind::Input, "a", "1"),
            part(PartKind::Input, "b", "1"),
            part(PartKind::Context, "b", "1"),
            part(PartKind::Model, "m2", "m2"),
        ];
        assert_eq!(
            changed(&before, &now),
            [
                Reason::RecipeChanged("t.hbs".into()),
                Reason::InputChanged(Some("b".into())),
                Reason::ModelChanged { from: "m1".into(), to: "m2".into() },
                Reason::InputChanged(Some("gone".into())),
            ]
        );
    }
}
