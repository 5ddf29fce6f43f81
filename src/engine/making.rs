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
use crate::plan::{self, Making, Verdict, bug};
use crate::store::{self, Action, Record, Write};
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

/// A task's result on its way to its outputs.
pub(super) struct Ready {
    pub task: TaskId,
    pub key: Digest,
    pub contents: Vec<Arc<[u8]>>,
}

/// Writes what templates rendered. What filters make of it is kept in the store: no verdict runs a command.
pub(super) fn render_all(shared: &Shared, group: Vec<Ready>) -> Vec<Result<Made, Error>> {
    let concluded = group.into_iter().map(|ready| {
        let Ready { task, key, contents } = ready;
        let contents = conclude(shared, task, None, contents).map_err(|unfit| unfit.into_error(shared, task))?;
        if !shared.graph.rule(task).filters.is_empty() {
            store(shared, key, &contents, None, Usage::default())?;
        }
        Ok(Ready { task, key, contents })
    });
    let concluded: Vec<Result<Ready, Error>> = concluded.collect();
    let ready: Vec<&Ready> = concluded.iter().flatten().collect();
    let mut written = write_all(shared, &ready).into_iter();
    let made = concluded.iter().map(|ready| {
        let contents = &ready.as_ref().map_err(Clone::clone)?.contents;
        let (content, written) = written.next().unwrap_or_else(|| Err(bug("a result is lost")))?;
        let saved = contents.iter().map(|bytes| tokens::estimate(&String::from_utf8_lossy(bytes))).sum();
        Ok(Made { content, status: Status::Rendered, written, saved })
    });
    made.collect()
}

/// As [`render_all`], for one task.
pub(super) fn render(shared: &Shared, ready: Ready) -> Result<Made, Error> {
    render_all(shared, vec![ready]).pop().unwrap_or_else(|| Err(bug("a result is lost")))
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
    store(shared, key, contents, model, usage)?;
    let (content, written) = write(shared, task, key, contents)?;
    Ok(Made { content, status: Status::Generated, written, saved: 0 })
}

/// Enters a good result in the store under its key.
fn store(
    shared: &Shared,
    key: Digest,
    contents: &[Arc<[u8]>],
    model: Option<String>,
    usage: Usage,
) -> Result<(), Error> {
    store::make_folder(&shared.root)?;
    let outputs = contents.iter().map(|bytes| shared.store.put(bytes)).collect::<Result<Vec<_>, _>>()?;
    let action = Action { outputs, model, input_tokens: usage.input, output_tokens: usage.output };
    shared.store.put_action(&key, &action)
}

/// Writes what the rule says that stands for a result where none could be had. It is not entered in the store: it is no
/// result of its key.
pub(super) fn default(shared: &Shared, task: TaskId, key: Digest, value: &Value) -> Result<Made, Error> {
    let contents = plan::defaults(&shared.graph, task, value);
    let (content, written) = write(shared, task, key, &contents)?;
    Ok(Made { content, status: Status::Defaulted, written, saved: 0 })
}

/// The outputs' digests, and those outputs that were written.
type Written = (Vec<Digest>, Vec<RelPath>);

/// Writes one task's outputs, as [`write_all`].
fn write(shared: &Shared, task: TaskId, key: Digest, contents: &[Arc<[u8]>]) -> Result<Written, Error> {
    let ready = Ready { task, key, contents: contents.to_vec() };
    write_all(shared, &[&ready]).pop().unwrap_or_else(|| Err(bug("a result is lost")))
}

/// Writes the outputs of tasks: journal first, then each whole; what holds these bytes already is left alone.
fn write_all(shared: &Shared, group: &[&Ready]) -> Vec<Result<Written, Error>> {
    let mut planned: Vec<Result<Planned, Error>> = group.iter().map(|ready| Planned::new(shared, ready)).collect();
    let records = planned.iter().flatten().flat_map(|planned| &planned.records).cloned().collect::<Vec<_>>();
    if let Err(error) = shared.announce(&records) {
        let is_to_write = |planned: &&mut Result<Planned, Error>| planned.as_ref().is_ok_and(|p| !p.records.is_empty());
        planned.iter_mut().filter(is_to_write).for_each(|planned| *planned = Err(error.clone()));
    }
    let writes: Vec<Write> = planned.iter().flatten().flat_map(|planned| &planned.writes).copied().collect();
    let mut stamps = store::write_outputs(&shared.root, &writes).into_iter();
    let written = planned.into_iter().map(|planned| {
        let planned = planned?;
        let mut failed = None;
        let mut written = Vec::with_capacity(planned.records.len());
        for (record, stamp) in planned.records.into_iter().zip(stamps.by_ref()) {
            match (stamp, record.content) {
                (Ok(stamp), Some(digest)) => {
                    shared.files.wrote(&record.path, digest, stamp);
                    written.push(record.path);
                }
                (Ok(_), None) => {}
                (Err(error), _) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok((planned.content, written)), Err)
    });
    written.collect()
}

/// What a task's outputs are to hold, and which of them are to be written for that.
struct Planned<'a> {
    content: Vec<Digest>,
    records: Vec<Record>,
    writes: Vec<Write<'a>>,
}

impl<'a> Planned<'a> {
    fn new(shared: &'a Shared, ready: &'a Ready) -> Result<Planned<'a>, Error> {
        let outputs = &shared.graph.tasks[ready.task].outputs;
        let mode = shared.graph.rule(ready.task).file_mode;
        let mut planned =
            Planned { content: Vec::with_capacity(outputs.len()), records: Vec::new(), writes: Vec::new() };
        for (output, bytes) in outputs.iter().zip(&ready.contents) {
            let path = &output.path;
            let digest = Digest::of(bytes);
            planned.content.push(digest);
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
                return Err(edited(shared, ready.task, std::slice::from_ref(path)));
            }
            // Whatever made it be overwritten: bytes that genmake did not write are kept.
            if let (Some(bytes), Some(digest)) = (&now, now_digest)
                && !is_ours(shared, path, digest)
            {
                keep(shared, bytes)?;
            }
            planned.records.push(Record { path: path.clone(), content: Some(digest), key: ready.key });
            planned.writes.push(Write { path, bytes, mode });
        }
        Ok(planned)
    }
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
