//! Local work, as jobs: render, restore, finish. What is paid for is stored first; then journal, outputs.

use std::sync::Arc;

use serde_json::Value;

use super::running::{Unfit, checked, conclude};
use super::{Report, Shared};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::event::Status;
use crate::files::Files;
use crate::graph::TaskId;
use crate::llm::{Ask, Usage};
use crate::path::RelPath;
use crate::plan::{self, Making, Verdict};
use crate::store::{self, Action, Record};
use crate::tokens;

/// A task whose outputs are as they should be.
pub(super) struct Made {
    pub content: Vec<Digest>,
    pub status: Status,
    /// The outputs that were written; those that held these bytes already were not.
    pub written: Vec<RelPath>,
    /// Tokens that were not spent.
    pub saved: u64,
}

/// Writes what a template rendered. What filters made of it is kept in the store: no verdict runs a command.
pub(super) fn render(shared: &Shared, task: TaskId, key: Digest, contents: Vec<Arc<[u8]>>) -> Result<Made, Error> {
    let is_filtered = !shared.graph.rule(task).filters.is_empty();
    let contents = conclude(shared, task, None, contents).map_err(|unfit| unfit.into_error(shared, task))?;
    let saved = contents.iter().map(|bytes| tokens::estimate(&String::from_utf8_lossy(bytes))).sum();
    if is_filtered {
        let made = finish(shared, task, key, &contents, None, Usage::default())?;
        return Ok(Made { status: Status::Rendered, saved, ..made });
    }
    let (content, written) = write(shared, task, key, &contents)?;
    Ok(Made { content, status: Status::Rendered, written, saved })
}

/// Writes what the store holds for the task's key. What turns out to be damaged is a miss: a model is asked.
/// `unchecked` says that commands are still to judge it.
pub(super) fn restore(shared: &Shared, task: TaskId, key: Digest, digests: &[Digest], unchecked: bool) -> Report {
    let outputs = &shared.graph.tasks[task].outputs;
    let mut contents = Vec::with_capacity(digests.len());
    for (output, digest) in outputs.iter().zip(digests) {
        let on_disk = shared.files.digest(&output.path).ok().flatten() == Some(*digest);
        let bytes = if on_disk { shared.files.read(&output.path).ok().flatten() } else { shared.store.get(digest) };
        match bytes {
            Some(bytes) => contents.push(bytes),
            None => return Report::Lost(task),
        }
    }
    if unchecked {
        match checked(shared, task, &contents) {
            Ok(()) => {}
            Err(Unfit::Not(complaint)) => return Report::Unfit(task, Box::new(complaint)),
            Err(Unfit::Broken(error)) => return Report::Made(task, Err(error)),
        }
    }
    let action = shared.store.get_action(&key);
    let saved = action.as_ref().map_or(0, |action| action.input_tokens + action.output_tokens);
    let made = write(shared, task, key, &contents).map(|(content, written)| Made {
        content,
        status: Status::Restored,
        written,
        saved,
    });
    Report::Made(task, made)
}

/// Uses the reply that a killed run left, if there is one and it passes the checks.
pub(super) fn resume(shared: &Shared, task: TaskId, key: Digest, ask: &Ask) -> Report {
    let outputs = shared.graph.tasks[task].outputs.len();
    let Some(texts) = shared.store.last_reply(&key).filter(|texts| texts.len() == outputs) else {
        return Report::NeedsModel(task);
    };
    let contents = texts.iter().map(|text| Arc::from(text.as_bytes())).collect();
    let contents = match conclude(shared, task, ask.schema.as_deref(), contents) {
        Ok(contents) => contents,
        Err(Unfit::Not(_)) => return Report::NeedsModel(task),
        // Another reply would fare no better.
        Err(Unfit::Broken(error)) => return Report::Made(task, Err(error)),
    };
    let made = finish(shared, task, key, &contents, Some(ask.model.clone()), Usage::default());
    Report::Made(task, made.map(|made| Made { status: Status::Restored, ..made }))
}

/// Stores a good result under its key, then writes it.
pub(super) fn finish(
    shared: &Shared,
    task: TaskId,
    key: Digest,
    contents: &[Arc<[u8]>],
    model: Option<String>,
    usage: Usage,
) -> Result<Made, Error> {
    store::make_folder(&shared.root)?;
    let outputs = contents.iter().map(|bytes| shared.store.put(bytes)).collect::<Result<Vec<_>, _>>()?;
    let action = Action { outputs, model, input_tokens: usage.input, output_tokens: usage.output };
    shared.store.put_action(&key, &action)?;
    let (content, written) = write(shared, task, key, contents)?;
    Ok(Made { content, status: Status::Generated, written, saved: 0 })
}

/// Writes what the rule says that stands for a result where none could be had. It is not entered in the store: it is no
/// result of its key.
pub(super) fn default(shared: &Shared, task: TaskId, key: Digest, value: &Value) -> Result<Made, Error> {
    let contents = plan::defaults(&shared.graph, task, value);
    let (content, written) = write(shared, task, key, &contents)?;
    Ok(Made { content, status: Status::Defaulted, written, saved: 0 })
}

/// Writes a task's outputs: journal first, then each whole; what holds these bytes already is left alone.
fn write(
    shared: &Shared,
    task: TaskId,
    key: Digest,
    contents: &[Arc<[u8]>],
) -> Result<(Vec<Digest>, Vec<RelPath>), Error> {
    let outputs = &shared.graph.tasks[task].outputs;
    let mode = shared.graph.rule(task).file_mode;
    let mut content = Vec::with_capacity(contents.len());
    let mut records = Vec::new();
    let mut writes = Vec::new();
    for (output, bytes) in outputs.iter().zip(contents) {
        let path = &output.path;
        let digest = Digest::of(bytes);
        content.push(digest);
        let now = shared.files.look(path)?;
        let now_digest = now.as_deref().map(Digest::of);
        if now_digest == Some(digest) {
            if let Some(mode) = mode
                && store::set_mode(&shared.root, path, mode)?
            {
                shared.files.wrote(path, digest, None);
            }
            continue;
        }
        // Somebody may have changed it since it was judged, for instance while a model was writing.
        if now_digest != shared.files.digest(path)? {
            return Err(edited(shared, task, std::slice::from_ref(path)));
        }
        // Whatever made it be overwritten: bytes that genmake did not write are kept.
        if let (Some(bytes), Some(digest)) = (&now, now_digest)
            && !is_ours(shared, path, digest)
        {
            keep(shared, bytes)?;
        }
        records.push(Record { path: path.clone(), content: Some(digest), key });
        writes.push((path, bytes, now_digest));
    }
    shared.announce(&records)?;
    let mut written = Vec::with_capacity(writes.len());
    for (path, bytes, stood) in writes {
        // Somebody may save there this very moment.
        let stamp = store::replace_output(&shared.root, path, bytes, mode, stood).map_err(|e| match e.code {
            Code::Edited => edited(shared, task, std::slice::from_ref(path)),
            _ => e,
        })?;
        shared.files.wrote(path, Digest::of(bytes), stamp);
        written.push(path.clone());
    }
    Ok((content, written))
}

/// Keeps bytes that are about to be overwritten in the store.
pub(super) fn keep(shared: &Shared, bytes: &[u8]) -> Result<(), Error> {
    store::make_folder(&shared.root)?;
    shared.store.put(bytes).map(drop)
}

/// Whether the lock or this machine's records know these bytes as genmake's.
pub(super) fn is_ours(shared: &Shared, path: &RelPath, digest: Digest) -> bool {
    let locked = shared.lock.get(path, Some(digest)).is_some_and(|entry| entry.content == digest);
    let written = shared.memory.outputs.get(path).is_some_and(|all| all.iter().any(|(content, _)| *content == digest));
    locked || written
}

/// The error for outputs that a person changed.
pub(super) fn edited(shared: &Shared, task: TaskId, paths: &[RelPath]) -> Error {
    let names: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
    let known = paths.iter().any(|path| shared.lock.get(path, None).is_some());
    let what = if known { "edited by hand" } else { "there before genmake, and not what it would write" };
    let were = if paths.len() == 1 { "was" } else { "were" };
    let recipe = made_by(shared, task);
    Error::new(Code::Edited, format!("{} {were} {what}", names.join(", "))).hint(format!(
        "move the edit into {recipe} or its inputs, or overwrite it with `--force` (the edited text is kept in the store)"
    ))
}

/// What a task is made by: its recipe's file, or its rule's command.
pub(super) fn made_by(shared: &Shared, task: TaskId) -> String {
    match &shared.graph.tasks[task].recipe {
        Some(recipe) => format!("`{recipe}`"),
        None => format!("the command of rule `{}`", shared.graph.rule(task).name),
    }
}

/// That a task comes out as the lock says.
///
/// # Errors
/// [`Code::Frozen`], saying what differs.
pub(super) fn frozen(
    shared: &Shared,
    task: TaskId,
    key: Digest,
    verdict: &Verdict,
    making: Option<&Making>,
) -> Result<(), Error> {
    let rule = &shared.graph.rule(task).name;
    let refuse = |what: String| {
        Err(Error::new(Code::Frozen, what).in_rule(rule).hint("run `genmake` without `--frozen` and commit the lock"))
    };
    let rendered = match making {
        Some(Making::Bytes(contents)) => Some(contents),
        _ => None,
    };
    for (at, output) in shared.graph.tasks[task].outputs.iter().enumerate() {
        let path = &output.path;
        let on_disk = shared.files.digest(path)?;
        let Some(entry) = shared.lock.get(path, on_disk) else {
            return refuse(format!("`{path}` is not in `{}`", shared.lock_name));
        };
        if entry.key != key && !matches!(verdict, Verdict::Edited(_)) {
            return refuse(format!(
                "`{path}` comes out otherwise than `{}` says: what it is made from has changed",
                shared.lock_name
            ));
        }
        let comes_out = match verdict {
            Verdict::Fresh => on_disk,
            Verdict::Restorable(_, digests) => digests.get(at).copied(),
            _ => rendered.and_then(|contents| contents.get(at)).map(Digest::of),
        };
        match (verdict, comes_out) {
            (Verdict::Edited(_), _) => {}
            (_, Some(digest)) if digest == entry.content => {}
            (_, Some(_)) => return refuse(format!("`{path}` comes out otherwise than `{}` says", shared.lock_name)),
            (_, None) => {
                return refuse(format!(
                    "`{path}` is neither on disk nor in the store as `{}` names it",
                    shared.lock_name
                ));
            }
        }
    }
    Ok(())
}
