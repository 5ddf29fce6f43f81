//! Decides whether a task is up to date, and why not. A pure function of facts, so that every command reaches the same verdict.

use std::collections::{BTreeSet, HashMap};

use super::key::{Part, PartKind};
use crate::digest::Digest;
use crate::graph::TaskId;
use crate::lock::Entry;
use crate::manifest::OnEdit;
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
    /// A person changed these outputs, and what is to become of that is for a person to say; and why it would be made beside that.
    Edited(Vec<Reason>, Vec<RelPath>),
    /// A person changed these outputs, and that stays: nothing is to be made, only the lock is to say so.
    Kept(Vec<RelPath>),
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
    /// An output that a person changed, which stays as it is while others of its task are made.
    EditKept(RelPath),
    /// An output that a person changed, which is merged with what is made.
    EditMerged(RelPath),
    /// An accepted edit that a person took back: what was generated stands there again.
    EditUndone(RelPath),
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
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "run", derive(serde::Serialize, serde::Deserialize))]
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

/// A person's bytes in the place of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Where.
    pub path: RelPath,
    /// What stands there.
    pub content: Digest,
    /// The generated content that it was made on; `None` where nothing is known to have been generated there.
    pub base: Option<Digest>,
    /// Whether the lock has it as the output's content: an earlier `accept`, or a rule that keeps or merges.
    pub accepted: bool,
    /// What a build makes of it.
    pub fate: Fate,
}

/// What becomes of an edit when its task is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is accepted for what its task is made from now: nothing is written over it.
    Accepted,
    /// It is to be accepted.
    Kept,
    /// It is merged with what is generated.
    Merged,
    /// It is overwritten, and kept in the store.
    Discarded,
    /// It holds its task up until a person says what is to become of it.
    Held,
}

/// What a rule says of edits by hand, and what can be done about one.
pub(super) struct Means<'a> {
    /// The rule's word.
    pub on_edit: OnEdit,
    /// Whether what stands there and this generated content below it are at hand, and texts.
    pub can_merge: &'a dyn Fn(&RelPath, Digest) -> bool,
    /// Whether a merge left conflicts in what stands there, which nobody has resolved.
    pub is_conflicted: &'a dyn Fn(&RelPath) -> bool,
}

/// The base of what stood there before anything was generated: nothing.
pub fn no_base() -> Digest {
    Digest::of(b"")
}

/// Judges a task whose action key is `key`. `stored` is the store's result for this key, if it holds one. Gives the edits by
/// hand of its outputs, too.
pub(super) fn judge(
    key: Digest,
    outputs: &[OutputFacts],
    stored: Option<Vec<Digest>>,
    reasons: impl FnOnce() -> Vec<Reason>,
    wish: Wish,
    means: &Means,
) -> (Verdict, Vec<Edit>) {
    let restored = |at: usize| stored.as_ref().and_then(|stored| stored.get(at)).copied();
    let edits: Vec<Option<Edit>> =
        outputs.iter().enumerate().map(|(at, output)| edit(output, restored(at), key, wish, means)).collect();
    let with = |fate: Fate| -> Vec<RelPath> {
        edits.iter().flatten().filter(|edit| edit.fate == fate).map(|edit| edit.path.clone()).collect()
    };
    let held = with(Fate::Held);
    let kept = with(Fate::Kept);
    let is_settled = outputs.iter().zip(&edits).all(|(output, edit)| match edit {
        Some(edit) => matches!(edit.fate, Fate::Accepted | Fate::Kept),
        None => is_fresh(output, key) && !wish.rebuild,
    });
    let verdict = match (held.is_empty(), is_settled, kept.is_empty()) {
        (false, ..) => {
            let has_moved = outputs.iter().any(|output| last_key(output).is_some_and(|last| last != key));
            Verdict::Edited(if has_moved { reasons() } else { Vec::new() }, held)
        }
        (_, true, true) => Verdict::Fresh,
        (_, true, false) => Verdict::Kept(kept),
        _ => {
            let mut why: Vec<Reason> = with(Fate::Discarded).into_iter().map(Reason::EditDiscarded).collect();
            why.extend(with(Fate::Merged).into_iter().map(Reason::EditMerged));
            why.extend(kept.into_iter().map(Reason::EditKept));
            why.extend(why_made(key, outputs, reasons, wish, why.is_empty()));
            match stored {
                Some(stored) if !wish.rebuild => Verdict::Restorable(why, stored),
                _ => Verdict::Stale(why),
            }
        }
    };
    (verdict, edits.into_iter().flatten().collect())
}

/// Why a task is made, beside the edits of its outputs; something where `needed`.
fn why_made(
    key: Digest,
    outputs: &[OutputFacts],
    reasons: impl FnOnce() -> Vec<Reason>,
    wish: Wish,
    needed: bool,
) -> Vec<Reason> {
    let path = |output: &OutputFacts| output.path.clone();
    let mut why: Vec<Reason> =
        outputs.iter().filter(|o| o.on_disk.is_none() && is_known(o)).map(path).map(Reason::OutputMissing).collect();
    why.extend(outputs.iter().filter(|o| is_undone(o)).map(path).map(Reason::EditUndone));
    let key_moved = outputs.iter().any(|o| last_key(o).is_some_and(|last| last != key));
    if outputs.iter().all(|o| !is_known(o)) {
        why.push(Reason::New);
    } else if key_moved {
        why.extend(reasons());
    }
    if why.is_empty() && needed {
        why.push(if wish.rebuild { Reason::Forced } else { Reason::New });
    }
    why
}

/// Whether an output holds what its task made with this key.
fn is_fresh(output: &OutputFacts, key: Digest) -> bool {
    let Some(on_disk) = output.on_disk else { return false };
    let locked = output.locked.is_some_and(|entry| entry.key == key && entry.content == on_disk);
    // The journal's word counts where a run was cut before its lock was written, and only for the newest record.
    locked || (output.written.last() == Some(&(on_disk, key)) && !is_undone(output))
}

/// Whether what stands there is the generated content below an edit that the lock has as accepted.
fn is_undone(output: &OutputFacts) -> bool {
    output.locked.is_some_and(|entry| entry.base.is_some() && entry.base == output.on_disk)
}

/// What of an output is a person's: neither the lock nor this machine's records know the bytes as generated, and they are not
/// what would be written anyway. `restored` is what the store has for this key.
fn edit(o: &OutputFacts, restored: Option<Digest>, key: Digest, wish: Wish, means: &Means) -> Option<Edit> {
    let content = o.on_disk?;
    let accepted = o.locked.filter(|entry| entry.base.is_some() && entry.content == content);
    let would_be = o.would_be == Some(content) || restored == Some(content);
    let is_ours = match accepted {
        // For this key the store's content is the accepted one.
        Some(entry) => entry.key != key && would_be,
        None => {
            let known = o.locked.is_some_and(|entry| entry.content == content);
            known || o.written.iter().any(|(written, _)| *written == content) || is_undone(o) || o.half || would_be
        }
    };
    if is_ours {
        return None;
    }
    let base = o.locked.map(|entry| entry.base.unwrap_or(entry.content)).or(o.would_be).or(restored);
    let has_moved = o.locked.is_none_or(|entry| entry.key != key) || wish.rebuild;
    let fate = match means.on_edit {
        _ if accepted.is_some() && !has_moved => Fate::Accepted,
        _ if wish.force => Fate::Discarded,
        OnEdit::Overwrite => Fate::Discarded,
        OnEdit::Stop => Fate::Held,
        _ if (means.is_conflicted)(o.path) => Fate::Held,
        // With -B, what is accepted for this key is what keeping it would come to.
        OnEdit::Keep if accepted.is_some_and(|entry| entry.key == key) => Fate::Accepted,
        OnEdit::Keep => Fate::Kept,
        // What is generated is what it was made on: nothing is there to merge.
        OnEdit::Merge if !has_moved => Fate::Kept,
        OnEdit::Merge => match o.locked.and(base) {
            Some(base) if base != no_base() && (means.can_merge)(o.path, base) => Fate::Merged,
            _ => Fate::Held,
        },
    };
    Some(Edit { path: o.path.clone(), content, base, accepted: accepted.is_some(), fate })
}

/// What of an output is a person's, as far as lock and records say: for tasks that cannot be judged yet.
pub(super) fn edit_by_record(o: &OutputFacts) -> Option<Edit> {
    let key = last_key(o)?;
    let means = Means { on_edit: OnEdit::Stop, can_merge: &|_, _| false, is_conflicted: &|_| false };
    edit(o, None, key, Wish::default(), &means)
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
        Entry { content: d(content), key: d(key), rule: "r".into(), model: None, base: None, rows: None }
    }

    struct Case<'a> {
        on_disk: Option<&'a str>,
        locked: Option<Entry>,
        written: Vec<(Digest, Digest)>,
        would_be: Option<&'a str>,
        half: bool,
        stored: Option<&'a str>,
        wish: Wish,
        on_edit: OnEdit,
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
            on_edit: OnEdit::Stop,
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
        let means = Means {
            on_edit: case.on_edit,
            can_merge: &|_, base| base == d("made") || base == d("generated"),
            is_conflicted: &|_| case.on_disk == Some("conflicted"),
        };
        judge(d(key), &[facts], case.stored.map(|s| vec![d(s)]), changed, case.wish, &means).0
    }

    fn changed_input() -> Vec<Reason> {
        vec![Reason::InputChanged(Some("i".into()))]
    }

    fn missing() -> Vec<Reason> {
        vec![Reason::OutputMissing(RelPath::new("a").unwrap())]
    }

    fn edited() -> Verdict {
        Verdict::Edited(vec![], vec![RelPath::new("a").unwrap()])
    }

    /// And it would be made anyway.
    fn edited_and_changed() -> Verdict {
        Verdict::Edited(changed_input(), vec![RelPath::new("a").unwrap()])
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
        assert_eq!(verdict(&Case { on_disk: Some("hand"), ..case() }, "other"), edited_and_changed());
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

    /// What stands there, on which key, under which rule: what an edit comes to.
    #[test]
    fn the_table_of_edits() {
        use OnEdit::{Keep, Merge, Overwrite, Stop};
        let path = || RelPath::new("a").unwrap();
        let merged = |mut why: Vec<Reason>| {
            why.insert(0, Reason::EditMerged(path()));
            Verdict::Stale(why)
        };
        let discarded = |mut why: Vec<Reason>| {
            why.insert(0, Reason::EditDiscarded(path()));
            Verdict::Stale(why)
        };
        let kept = || Verdict::Kept(vec![path()]);
        let accepted = || Some(Entry { base: Some(d("generated")), ..entry("mine", "key") });
        let edited_now = |on_edit| Case { on_disk: Some("mine"), on_edit, ..case() };
        let was_accepted = |on_edit| Case { locked: accepted(), ..edited_now(on_edit) };
        let edited_again = |on_edit| Case { on_disk: Some("more"), ..was_accepted(on_edit) };
        let was_there = |on_edit| Case { locked: None, ..edited_now(on_edit) };
        let conflicted = |on_edit| Case { on_disk: Some("conflicted"), ..case_of(on_edit) };
        for (on_edit, now, moved) in [
            (Stop, edited(), edited_and_changed()),
            (Keep, kept(), kept()),
            (Merge, kept(), merged(changed_input())),
            (Overwrite, discarded(vec![]), discarded(changed_input())),
        ] {
            assert_eq!(verdict(&edited_now(on_edit), "key"), now, "{on_edit:?}");
            assert_eq!(verdict(&edited_now(on_edit), "other"), moved, "{on_edit:?}");
            // Accepted, it is fresh until the key moves; then it is edited again.
            assert_eq!(verdict(&was_accepted(on_edit), "key"), Verdict::Fresh, "{on_edit:?}");
            assert_eq!(verdict(&was_accepted(on_edit), "other"), moved, "{on_edit:?}");
            // Further edits of an accepted output are edits.
            assert_eq!(verdict(&edited_again(on_edit), "key"), now, "{on_edit:?}");
            assert_eq!(verdict(&edited_again(on_edit), "other"), moved, "{on_edit:?}");
            // Taken back to what was generated, it is nobody's any more, and the lock is to learn of it.
            let undone = Case { on_disk: Some("generated"), ..was_accepted(on_edit) };
            assert_eq!(verdict(&undone, "key"), Verdict::Stale(vec![Reason::EditUndone(path())]), "{on_edit:?}");
            let known = Case { written: vec![(d("generated"), d("key"))], stored: Some("generated"), ..undone };
            let restorable = Verdict::Restorable(vec![Reason::EditUndone(path())], vec![d("generated")]);
            assert_eq!(verdict(&known, "key"), restorable, "{on_edit:?}");
            // What stood there before anything was generated cannot be merged.
            let there = if on_edit == Merge { edited() } else { now_where_new(on_edit, &path()) };
            assert_eq!(verdict(&was_there(on_edit), "key"), there, "{on_edit:?}");
            // Nobody has resolved what a merge left.
            if matches!(on_edit, Keep | Merge) {
                assert_eq!(verdict(&conflicted(on_edit), "key"), edited(), "{on_edit:?}");
                assert_eq!(verdict(&conflicted(on_edit), "other"), edited_and_changed(), "{on_edit:?}");
            }
            // `--force` overwrites edits, and what is accepted is none; `-B` takes it for one, too.
            let force = Wish { force: true, rebuild: false };
            assert_eq!(verdict(&Case { wish: force, ..edited_now(on_edit) }, "key"), discarded(vec![]));
            assert_eq!(verdict(&Case { wish: force, ..was_accepted(on_edit) }, "key"), Verdict::Fresh);
            let both = Wish { force: true, rebuild: true };
            assert_eq!(verdict(&Case { wish: both, ..was_accepted(on_edit) }, "key"), discarded(vec![]));
            let rebuild = Wish { force: false, rebuild: true };
            let again = match on_edit {
                Keep => Verdict::Fresh,
                Merge => merged(vec![]),
                _ => now,
            };
            assert_eq!(verdict(&Case { wish: rebuild, ..was_accepted(on_edit) }, "key"), again, "{on_edit:?}");
        }
        // Without its base, or where what stands there is no text, a merge is a stop.
        let lost = Case { locked: Some(entry("elsewhere", "key")), ..edited_now(Merge) };
        assert_eq!(verdict(&lost, "other"), edited_and_changed());
        let none = Case { locked: Some(Entry { base: Some(no_base()), ..entry("mine", "key") }), ..edited_now(Merge) };
        assert_eq!(verdict(&none, "other"), edited_and_changed());
        // An accepted edit that equals what would be made by now is no edit any more.
        let equal = Case { would_be: Some("mine"), ..was_accepted(Stop) };
        assert_eq!(verdict(&equal, "other"), Verdict::Stale(changed_input()));
        // A file that is gone is no edit; the store may have what was accepted.
        let gone = Case { on_disk: None, stored: Some("mine"), ..was_accepted(Stop) };
        assert_eq!(verdict(&gone, "key"), Verdict::Restorable(missing(), vec![d("mine")]));
    }

    fn case_of(on_edit: OnEdit) -> Case<'static> {
        Case { on_edit, ..case() }
    }

    /// What comes of a file that stood there before genmake.
    fn now_where_new(on_edit: OnEdit, path: &RelPath) -> Verdict {
        match on_edit {
            OnEdit::Keep => Verdict::Kept(vec![path.clone()]),
            OnEdit::Overwrite => Verdict::Stale(vec![Reason::EditDiscarded(path.clone()), Reason::New]),
            _ => edited(),
        }
    }

    /// Of a task's outputs each is judged by itself: what a person accepted stays while the others are made.
    #[test]
    fn several_outputs() {
        let paths = [RelPath::new("a").unwrap(), RelPath::new("b").unwrap()];
        let accepted = Entry { base: Some(d("a")), ..entry("mine", "key") };
        let made = entry("b", "key");
        let judged = |on_disk: [Option<&str>; 2], entries: [&Entry; 2], on_edit, rebuild| {
            let facts: Vec<OutputFacts> = (0..2)
                .map(|at| OutputFacts {
                    path: &paths[at],
                    on_disk: on_disk[at].map(d),
                    locked: Some(entries[at]),
                    written: &[],
                    half: false,
                    would_be: None,
                })
                .collect();
            let means = Means { on_edit, can_merge: &|_, _| true, is_conflicted: &|_| false };
            judge(d("key"), &facts, None, changed_input, Wish { rebuild, force: false }, &means)
        };
        let (verdict, edits) = judged([Some("mine"), None], [&accepted, &made], OnEdit::Stop, false);
        assert_eq!(verdict, Verdict::Stale(vec![Reason::OutputMissing(paths[1].clone())]));
        assert_eq!(edits.iter().map(|edit| edit.fate).collect::<Vec<_>>(), [Fate::Accepted]);
        let (verdict, _) = judged([Some("mine"), Some("more")], [&accepted, &made], OnEdit::Stop, false);
        assert_eq!(verdict, Verdict::Edited(vec![], vec![paths[1].clone()]));
        // One is edited and the other's key has moved: the one stays, the other is made.
        let (edit, old) = (entry("a", "key"), entry("b", "old"));
        let (verdict, edits) = judged([Some("mine"), Some("b")], [&edit, &old], OnEdit::Keep, false);
        assert_eq!(verdict, Verdict::Stale([vec![Reason::EditKept(paths[0].clone())], changed_input()].concat()));
        assert_eq!((edits.len(), edits[0].fate, edits[0].base), (1, Fate::Kept, Some(d("a"))));
        let (verdict, _) = judged([Some("mine"), Some("b")], [&edit, &made], OnEdit::Merge, false);
        assert_eq!(verdict, Verdict::Kept(vec![paths[0].clone()]));
        let (verdict, _) = judged([Some("mine"), Some("b")], [&accepted, &made], OnEdit::Keep, true);
        assert_eq!(verdict, Verdict::Stale(vec![Reason::Forced]));
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
