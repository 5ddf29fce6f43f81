//! What becomes of a person's edits when their task is made: they stay, are merged with what is generated, or are overwritten.
//!
//! Whatever it is, their bytes go into the store first.

use std::sync::Arc;

use super::Shared;
use super::making::Made;
use crate::digest::Digest;
use crate::error::{Code, Error, Errors};
use crate::event::Status;
use crate::files::Files;
use crate::graph::TaskId;
use crate::lock::Entry;
use crate::manifest::OnEdit;
use crate::merge::{self, Merged};
use crate::path::RelPath;
use crate::plan::{self, Edit, Fate, Judged, Making, Plan, Reason, Stored, Verdict, no_base};
use crate::store;
use crate::wording;

/// What is to stand in the place of an output.
pub(super) struct Place {
    /// The content that the lock is to name, and the generated one below it where that is a person's.
    pub content: Digest,
    pub base: Option<Digest>,
    /// What is to be written; `None` where what stands there stays.
    pub bytes: Option<Arc<[u8]>>,
    /// What of a person's stood there and is merged into it.
    pub stood: Option<Digest>,
    /// Whether a person is to resolve it.
    pub is_conflicted: bool,
}

/// What is to stand in an output's place, where `bytes` were generated for it.
///
/// # Errors
/// [`Code::Edited`] where it was edited since it was judged, or cannot be merged after all.
pub(super) fn place(
    shared: &Shared,
    task: TaskId,
    path: &RelPath,
    bytes: &Arc<[u8]>,
    edits: &[Edit],
) -> Result<Place, Error> {
    let generated = Digest::of(bytes);
    let written = |content, bytes| Place { content, base: None, bytes: Some(bytes), stood: None, is_conflicted: false };
    let edit = edits.iter().find(|edit| edit.path == *path);
    let Some(edit) = edit.filter(|edit| edit.fate != Fate::Discarded) else {
        return Ok(written(generated, Arc::clone(bytes)));
    };
    let mine = of_a_person(shared, task, edit)?;
    if edit.fate != Fate::Merged {
        let base = edit.base.or(Some(generated)).filter(|base| *base != edit.content);
        return Ok(Place { base, bytes: None, ..written(edit.content, Arc::clone(bytes)) });
    }
    let again = || edited(shared, task, &[], std::slice::from_ref(path));
    let base = edit.base.and_then(|base| shared.store.base(path, &base)).ok_or_else(again)?;
    // The base of the next merge.
    shared.store.put(bytes)?;
    let place = match merge::merge(&base, &mine, bytes).ok_or_else(again)? {
        Merged::Clean(merged) => {
            let content = Digest::of(&merged);
            Place { base: Some(generated).filter(|base| *base != content), ..written(content, merged.into()) }
        }
        // For the lock this is an edit of what is generated now, and one that nobody has accepted.
        Merged::Conflict(marked) => Place { is_conflicted: true, ..written(generated, marked.into()) },
    };
    Ok(Place { stood: Some(edit.content), ..place })
}

/// What a person wrote, which by now is in the store.
fn of_a_person(shared: &Shared, task: TaskId, edit: &Edit) -> Result<Vec<u8>, Error> {
    match shared.files.look(&edit.path)? {
        Some(bytes) if Digest::of(&bytes) == edit.content => {
            keep(shared, &bytes)?;
            Ok(bytes)
        }
        _ => Err(edited(shared, task, &[], std::slice::from_ref(&edit.path))),
    }
}

/// Accepts a task's edits as its content. `making` is what its recipe gives, where that is known.
///
/// # Errors
/// As [`place`].
pub(super) fn accept(shared: &Shared, task: TaskId, edits: &[Edit], making: Option<&Making>) -> Result<Made, Error> {
    let mut made = Made::new(Status::Accepted);
    for (at, output) in shared.graph.tasks[task].outputs.iter().enumerate() {
        let generated = match making {
            Some(Making::Bytes(contents)) => contents.get(at),
            _ => None,
        };
        let (content, base) = match edits.iter().find(|edit| edit.path == output.path) {
            Some(edit) => (edit.content, Some(accepted(shared, task, edit, generated)?)),
            None => {
                let content = shared.files.digest_now(&output.path);
                let content = content.ok_or_else(|| plan::bug("an output that is up to date is not there"))?;
                (content, None)
            }
        };
        made.bases.push(base.filter(|base| *base != content));
        made.content.push(content);
    }
    Ok(made)
}

/// Puts what a person wrote into the store, and the generated content below it where that is at hand: its digest.
///
/// # Errors
/// As [`place`].
pub(super) fn accepted(
    shared: &Shared,
    task: TaskId,
    edit: &Edit,
    generated: Option<&Arc<[u8]>>,
) -> Result<Digest, Error> {
    of_a_person(shared, task, edit)?;
    let base = edit.base.unwrap_or_else(no_base);
    if let Some(bytes) = generated.filter(|bytes| Digest::of(bytes) == base) {
        keep(shared, bytes)?;
    }
    Ok(base)
}

/// Accepts the edits of the outputs that `wanted` names as their content until what they are made from changes, and writes that
/// into the lock: the outputs that were accepted. `anyway` takes them with unresolved conflicts, too. What depends on an accepted
/// output is judged again by it.
///
/// # Errors
/// What cannot be judged, is not resolved, or waits for what is to be made first; the lock cannot be written.
pub fn accept_by_hand(
    shared: &mut Shared,
    plan: &mut Plan,
    needed: &[bool],
    wanted: &[(TaskId, RelPath)],
    anyway: bool,
) -> Result<Vec<RelPath>, Errors> {
    let mut accepted: Vec<RelPath> = Vec::new();
    loop {
        let mut entries = Vec::new();
        for (task, path) in wanted {
            let judged = match &plan.tasks[*task] {
                Some(Ok(judged)) => judged,
                Some(Err(error)) => return Err(error.clone().into()),
                None => continue,
            };
            let edit = judged.edits.iter().find(|edit| edit.path == *path && edit.fate != Fate::Accepted);
            if let Some(edit) = edit {
                entries.push((path.clone(), entry(shared, *task, judged, edit, anyway)?));
            }
        }
        if entries.is_empty() {
            break;
        }
        for (path, entry) in entries {
            shared.lock.set(path.clone(), entry);
            // What waited for another that was accepted now is accepted for what that came to.
            if !accepted.contains(&path) {
                accepted.push(path);
            }
        }
        *plan = plan::plan(&shared.ground(), &*shared, needed, 0);
    }
    for (task, path) in wanted {
        if let Some(Ok(Judged { verdict: Verdict::Waiting(on), .. })) = &plan.tasks[*task]
            && shared.lock.get(path, None).is_none()
            && shared.files.look(path)?.is_some()
        {
            let on: Vec<String> = on.iter().map(|task| format!("`{}`", shared.graph.name(*task))).collect();
            let message = format!("`{path}` cannot be accepted before {} is made, which it waits for", on.join(", "));
            return Err(Error::new(Code::Edited, message).hint("run `genmake` first").into());
        }
    }
    let text = shared.lock.to_text();
    if !accepted.is_empty() && text != shared.lock_text {
        store::put(&shared.root.join(&shared.lock_name), text.as_bytes())?;
        store::sync_folder(&shared.root)?;
    }
    Ok(accepted)
}

/// What the lock says of an accepted edit, whose bytes are in the store by then.
fn entry(shared: &Shared, task: TaskId, judged: &Judged, edit: &Edit, anyway: bool) -> Result<Entry, Error> {
    let before = shared.lock.get(&edit.path, Some(edit.content));
    let written = || shared.memory.outputs.get(&edit.path).and_then(|written| written.last()).map(|(_, key)| *key);
    let key = judged.key.or(before.map(|entry| entry.key)).or_else(written);
    let key = key.ok_or_else(|| plan::bug("an edit without a key"))?;
    if !anyway && shared.files.look(&edit.path)?.is_some_and(|bytes| merge::is_conflicted(&bytes)) {
        return Err(unresolved(&edit.path, None));
    }
    let outputs = &shared.graph.tasks[task].outputs;
    let at = outputs.iter().position(|output| output.path == edit.path);
    let generated = match &judged.making {
        Some(Making::Bytes(contents)) => at.and_then(|at| contents.get(at)),
        _ => None,
    };
    let base = accepted(shared, task, edit, generated)?;
    let rule = shared.graph.rule(task);
    let model = before.and_then(|entry| entry.model.clone()).filter(|_| rule.is_asked());
    Ok(Entry { content: edit.content, key, rule: rule.name.clone(), model, base: Some(base), rows: None })
}

/// What the lock has below each output that holds an edit accepted for this key.
pub(super) fn bases(shared: &Shared, task: TaskId, key: Digest, content: &[Digest]) -> Vec<Option<Digest>> {
    let of = |(path, content): (&RelPath, &Digest)| {
        let entry = shared.lock.get(path, Some(*content));
        entry.filter(|entry| entry.key == key && entry.content == *content).and_then(|entry| entry.base)
    };
    shared.graph.tasks[task].outputs.iter().map(|output| &output.path).zip(content).map(of).collect()
}

/// Keeps bytes that are about to be overwritten in the store.
pub(super) fn keep(shared: &Shared, bytes: &[u8]) -> Result<(), Error> {
    store::make_folder(&shared.root)?;
    shared.store.put(bytes).map(drop)
}

/// Whether the lock or this machine's records know these bytes as generated.
pub(super) fn is_ours(shared: &Shared, path: &RelPath, digest: Digest) -> bool {
    match shared.lock.get(path, Some(digest)) {
        Some(entry) if entry.content == digest || entry.base == Some(digest) => entry.is_generated(digest),
        _ => {
            let written = shared.memory.outputs.get(path);
            written.is_some_and(|all| all.iter().any(|(content, _)| *content == digest))
        }
    }
}

/// The error for outputs that a person changed, and what can be done.
pub(super) fn edited(shared: &Shared, task: TaskId, why: &[Reason], paths: &[RelPath]) -> Error {
    let is_conflicted = |path: &&RelPath| {
        let bytes = shared.files.look(path).ok().flatten();
        bytes.is_some_and(|bytes| merge::is_conflicted(&bytes))
    };
    let on_edit = shared.graph.rule(task).on_edit;
    if matches!(on_edit, OnEdit::Keep | OnEdit::Merge)
        && let Some(path) = paths.iter().find(is_conflicted)
    {
        return unresolved(path, None);
    }
    let names: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
    let known = paths.iter().any(|path| shared.lock.get(path, None).is_some());
    let is_accepted = |path: &&RelPath| {
        let entry = shared.lock.get(path, None).filter(|entry| entry.base.is_some());
        entry.is_some_and(|entry| shared.files.digest(path).ok().flatten() == Some(entry.content))
    };
    let was_accepted = !why.is_empty() && paths.iter().all(|path| is_accepted(&path));
    let what = match (known, was_accepted) {
        (true, true) => {
            let why: Vec<String> = why.iter().map(wording::reason).collect();
            format!("edited by hand and accepted, for what it was made from before: {}", why.join("; "))
        }
        (true, false) => "edited by hand".to_owned(),
        (false, _) => "there before genmake, and not what it would write".to_owned(),
    };
    let were = if paths.len() == 1 { "was" } else { "were" };
    let (recipe, on_line) = (super::making::made_by(shared, task), on_line(paths));
    let error = Error::new(Code::Edited, format!("{} {were} {what}", names.join(", "))).hint(format!(
        "`genmake diff {on_line}` shows the edit, `genmake accept {on_line}` keeps it until its inputs change, and \
         `genmake --force {on_line}` overwrites it (the edited text is kept in the store); or move it into {recipe} or its inputs"
    ));
    match on_edit {
        OnEdit::Merge => error.hint(
            "it is not merged: what was generated before the edit is neither in the store nor in git's history (a shallow clone has little of it), or is no text",
        ),
        _ => error,
    }
}

/// The error for a merge that a person is to resolve. `before` is what stood there before it.
pub(super) fn unresolved(path: &RelPath, before: Option<Digest>) -> Error {
    let message = format!("`{path}` holds conflicts: the edit and what is generated now change the same lines");
    let error = Error::new(Code::Unmerged, message).hint(format!(
        "resolve what stands between the markers, and run genmake again; as it stands, it is kept with \
         `genmake accept --force {}`",
        on_line(std::slice::from_ref(path))
    ));
    match before {
        Some(digest) => error.hint(format!("the text before the merge is kept as `{}`", store::blob_name(&digest))),
        None => error,
    }
}

/// Paths as arguments on a command line.
fn on_line(paths: &[RelPath]) -> String {
    let word = |path: &RelPath| {
        let plain = |c: char| c.is_alphanumeric() || "/._-+@%:,=".contains(c);
        if path.as_str().chars().all(plain) {
            path.to_string()
        } else {
            format!("'{}'", path.as_str().replace('\'', "'\\''"))
        }
    };
    paths.iter().map(word).collect::<Vec<_>>().join(" ")
}
