//! What commands of the Genfile do in a run: they make outputs, filter content, and judge results.

use std::path::Path;
use std::sync::Arc;

use super::making::{self, Good, Made, Ready};
use super::{Report, Run, Shared, edits};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::event::Status;
use crate::files::Files;
use crate::graph::TaskId;
use crate::llm::{self, Complaint, Demand};
use crate::path::RelPath;
use crate::plan::{self, Edit, Fate, Judged, Reason, Verdict, bug};
use crate::schema::Schema;
use crate::shell::Failed;
use crate::store::{self, Record};

/// Contents on their way to outputs: held against the schema of a model's result, through the rule's filters, then before its checks.
///
/// # Errors
/// The first filter that fails, or check that a content does not pass.
pub(super) fn conclude(
    shared: &Shared,
    task: TaskId,
    schema: Option<&Schema>,
    contents: Vec<Arc<[u8]>>,
) -> Result<Vec<Arc<[u8]>>, Unfit> {
    if let Some(schema) = schema {
        for (output, bytes) in shared.graph.tasks[task].outputs.iter().zip(&contents) {
            llm::fits(&output.path, &String::from_utf8_lossy(bytes), schema).map_err(Unfit::Not)?;
        }
    }
    let contents = filtered(shared, task, contents)?;
    checked(shared, task, &contents)?;
    Ok(contents)
}

/// Why a content cannot be a result.
pub(super) enum Unfit {
    /// It is not good enough, which whoever made it may be told.
    Not(Complaint),
    /// Something else is wrong.
    Broken(Error),
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Unfit {
        Unfit::Broken(error)
    }
}

impl Unfit {
    /// As the failure of a task that nobody can be asked again for.
    pub fn into_error(self, shared: &Shared, task: TaskId) -> Error {
        match self {
            Unfit::Broken(error) => error,
            Unfit::Not(complaint) => Error::new(Code::CheckFailed, complaint.words())
                .in_rule(&shared.graph.rule(task).name)
                .hint(format!("it is made by {}", making::made_by(shared, task))),
        }
    }
}

fn filtered(shared: &Shared, task: TaskId, contents: Vec<Arc<[u8]>>) -> Result<Vec<Arc<[u8]>>, Unfit> {
    let rule = shared.graph.rule(task);
    if rule.filters.is_empty() {
        return Ok(contents);
    }
    let mut done = Vec::with_capacity(contents.len());
    for (output, mut bytes) in shared.graph.tasks[task].outputs.iter().zip(contents) {
        let path = &output.path;
        for line in plan::commands(&shared.graph, task, rule.filters.iter(), path.as_str(), &shared.files)? {
            bytes = match shared.shell.run(&line, Some(&bytes)) {
                Ok(bytes) => bytes.into(),
                Err(failed) => return Err(unfit(failed, Demand::Filter, &line, path)),
            };
        }
        done.push(bytes);
    }
    Ok(done)
}

fn unfit(failed: Failed, demand: Demand, line: &str, path: &RelPath) -> Unfit {
    match failed {
        Failed::Ended { status, said } => {
            let said = if said.is_empty() { "it said nothing".to_owned() } else { said };
            let message = format!("`{line}` ended with {status}: {said}");
            Unfit::Not(Complaint { demand, path: path.clone(), message })
        }
        other => Unfit::Broken(failure(other, line)),
    }
}

/// A command that brought nothing, as an error.
fn failure(failed: Failed, line: &str) -> Error {
    match failed {
        Failed::NotRun(why) => Error::new(Code::CommandFailed, format!("`{line}` cannot be run: {why}")),
        Failed::Interrupted => Error::new(Code::CommandFailed, format!("`{line}` was interrupted")),
        Failed::Ended { status, said } => {
            let error = Error::new(Code::CommandFailed, format!("`{line}` ended with {status}"));
            if said.is_empty() { error.hint("it said nothing") } else { error.hint(format!("it said:\n{said}")) }
        }
    }
}

/// The rule's checks on all outputs of a task that only read.
pub(super) fn checked_by_reading(shared: &Shared, task: TaskId, contents: &[Arc<[u8]>]) -> Result<(), Unfit> {
    let tests = plan::tests(&shared.graph, task, &shared.files, &shared.recipes)?;
    for (output, bytes) in shared.graph.tasks[task].outputs.iter().zip(contents) {
        let text = String::from_utf8_lossy(bytes);
        llm::verify(&output.path, &text, &tests).map_err(Unfit::Not)?;
    }
    Ok(())
}

/// The rule's checks on all outputs of a task: those that only read first.
pub(super) fn checked(shared: &Shared, task: TaskId, contents: &[Arc<[u8]>]) -> Result<(), Unfit> {
    let rule = shared.graph.rule(task);
    let outputs = || shared.graph.tasks[task].outputs.iter().zip(contents);
    checked_by_reading(shared, task, contents)?;
    if rule.check_commands().next().is_none() {
        return Ok(());
    }
    // What is not accepted yet is shown to commands in a folder of its own, with the paths that it will have.
    let stage = Stage::new(shared, task)?;
    for (output, bytes) in outputs() {
        stage.put(&output.path, bytes)?;
    }
    for (output, _) in outputs() {
        run_checks(shared, task, &output.path, &stage.path(&output.path))?;
    }
    Ok(())
}

/// The rule's commands on one output, which stands at `at`.
fn run_checks(shared: &Shared, task: TaskId, output: &RelPath, at: &str) -> Result<(), Unfit> {
    let commands = shared.graph.rule(task).check_commands();
    for line in plan::commands(&shared.graph, task, commands, at, &shared.files)? {
        if let Err(failed) = shared.shell.run(&line, None) {
            return Err(unfit(failed, Demand::Check("run"), &line, output));
        }
    }
    Ok(())
}

/// Judges the result that stands on disk by the rule's commands, which no verdict runs.
pub(super) fn judge_there(shared: &Shared, task: TaskId, key: Digest) -> Report {
    let mut content = Vec::new();
    for output in &shared.graph.tasks[task].outputs {
        match run_checks(shared, task, &output.path, output.path.as_str()) {
            Ok(()) => content.extend(shared.files.digest_now(&output.path)),
            Err(Unfit::Not(complaint)) => return Report::Unfit(task, Box::new(complaint)),
            Err(Unfit::Broken(error)) => return Report::Made(task, Err(error)),
        }
    }
    let bases = edits::bases(shared, task, key, &content);
    Report::Made(task, Ok(Made { content, bases, ..Made::new(Status::Fresh) }))
}

impl Run<'_> {
    /// A result that is there does not pass a command that judges it: the task is made anew.
    pub(super) fn unfit(&mut self, task: TaskId, complaint: Complaint) {
        let underway = self.underway.entry(task.into()).or_default();
        let (Some(key), parts) = (underway.key, std::mem::take(&mut underway.parts)) else {
            return self.fail(task, Status::Failed, bug("a result without a key"));
        };
        let edits = underway.edits.to_vec();
        let mut reasons = std::mem::take(&mut underway.reasons);
        reasons.push(Reason::CheckFailed(complaint.message));
        // What depends on it was judged by the result that is given up here.
        self.surprises.insert(task);
        let shared = Arc::clone(&self.shared);
        self.spawn_local(task, move || {
            let judged = plan::make(&shared.graph, task, &shared.files, &shared.recipes).map(|making| Judged {
                missing: Vec::new(),
                verdict: Verdict::Stale(reasons),
                key: Some(key),
                parts,
                making: Some(making),
                checked: None,
                unchecked: false,
                edits,
                is_replied: false,
                is_submitted: false,
            });
            Report::Judged(task, Box::new(judged))
        });
    }
}

/// A folder below `.genmake` that holds results before they are accepted.
struct Stage<'a> {
    root: &'a Path,
    folder: String,
}

impl<'a> Stage<'a> {
    fn new(shared: &'a Shared, task: TaskId) -> Result<Stage<'a>, Error> {
        store::make_folder(&shared.root)?;
        Ok(Stage { root: &shared.root, folder: format!("{}/{task}", store::STAGE) })
    }

    /// Where an output stands, relative to the root.
    fn path(&self, output: &RelPath) -> String {
        format!("{}/{output}", self.folder)
    }

    fn put(&self, output: &RelPath, bytes: &[u8]) -> Result<(), Error> {
        let path = RelPath::new(&self.path(output)).map_err(|why| bug(&format!("a stage {why}")))?;
        store::write_staged(self.root, &path, bytes)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.root.join(&self.folder));
    }
}

/// Runs the command that makes a task's outputs. What stood there before is taken away first, so that nothing old passes for
/// a result, and is put back if the command fails. A run that is killed meanwhile leaves word in the journal, so that what it
/// leaves half-written never counts. What of a person's is to stay, or to be merged, is put back before anything else is done with
/// the result, by the next run if need be.
pub(super) fn run(shared: &Shared, task: TaskId, key: Digest, line: &str, edits: &[Edit]) -> Result<Made, Error> {
    let outputs = &shared.graph.tasks[task].outputs;
    let mut before = Vec::with_capacity(outputs.len());
    for output in outputs {
        let path = &output.path;
        let now = shared.files.look(path)?;
        let digest = now.as_deref().map(Digest::of);
        if digest != shared.files.digest(path)? {
            return Err(edits::edited(shared, task, &[], std::slice::from_ref(path)));
        }
        let is_half = shared.memory.half.contains(path);
        if let (Some(bytes), Some(digest)) = (&now, digest)
            && (is_half || !edits::is_ours(shared, path, digest))
        {
            edits::keep(shared, bytes)?;
        }
        before.push(now.filter(|_| !is_half).map(|bytes| (bytes, store::mode(&shared.root, path))));
    }
    let stood = |path: &RelPath| {
        let of = |edit: &&Edit| edit.path == *path && edit.fate != Fate::Discarded;
        edits.iter().find(of).map(|edit| edit.content)
    };
    let record = |path: &RelPath| Record { path: path.clone(), content: None, key, stood: stood(path) };
    shared.announce(&outputs.iter().map(|output| record(&output.path)).collect::<Vec<_>>())?;
    let aside = |n: usize| {
        RelPath::new(&format!("{}/before-{task}/{n}", store::STAGE)).map_err(|why| bug(&format!("what is aside {why}")))
    };
    let mut taken = 0;
    let mut make = || {
        for (n, output) in outputs.iter().enumerate() {
            let path = &output.path;
            if !store::make_way(&shared.root, path, &aside(n)?, shared.files.digest_now(path))? {
                return Err(edits::edited(shared, task, &[], std::slice::from_ref(path)));
            }
            shared.files.removed(path);
            taken += 1;
        }
        let contents = made_by_command(shared, task, line)?;
        for (output, before) in outputs.iter().zip(&before) {
            if let (Some(_), Some((bytes, mode))) = (stood(&output.path), before) {
                let made = shared.files.digest_now(&output.path);
                let stamp = store::replace_output(&shared.root, &output.path, bytes, *mode, made)?;
                shared.files.wrote(&output.path, Digest::of(bytes), stamp);
            }
        }
        finish(shared, task, key, &contents, edits)
    };
    let made = make();
    if made.is_ok() {
        let _ = std::fs::remove_dir_all(shared.root.join(format!("{}/before-{task}", store::STAGE)));
    }
    made.map_err(|mut error| {
        for (n, (output, before)) in outputs.iter().zip(before.iter().cloned()).enumerate().take(taken) {
            let path = &output.path;
            match aside(n).and_then(|aside| put_back(shared, path, before, &aside)) {
                Ok(None) => {}
                Ok(Some(left)) => {
                    error =
                        error.hint(format!("what it, or somebody meanwhile, wrote to `{path}` is kept as `{left}`"));
                }
                Err(e) => {
                    error = error.hint(format!("what stood at `{path}` could not be put back: {}", e.message));
                }
            }
        }
        error
    })
}

/// What a command makes of its outputs, filtered and checked.
fn made_by_command(shared: &Shared, task: TaskId, line: &str) -> Result<Vec<Arc<[u8]>>, Error> {
    shared.shell.run(line, None).map_err(|failed| failure(failed, line).in_rule(&shared.graph.rule(task).name))?;
    stood_still(shared, task, line)?;
    let mut contents: Vec<Arc<[u8]>> = Vec::new();
    for output in &shared.graph.tasks[task].outputs {
        let path = &output.path;
        if let Some(what) = store::no_file(&shared.root, path) {
            let message = format!("`{line}` made `{path}` {what}, and an output is a file");
            return Err(Error::new(Code::NotMade, message).in_rule(&shared.graph.rule(task).name));
        }
        let Some(bytes) = shared.files.look(path)? else {
            let message = format!("`{line}` succeeded and did not make `{path}`");
            return Err(Error::new(Code::NotMade, message)
                .in_rule(&shared.graph.rule(task).name)
                .hint("a command writes each output that its rule declares; `{{output}}` stands for the path"));
        };
        shared.files.wrote(path, Digest::of(&bytes), None);
        contents.push(bytes.into());
    }
    conclude(shared, task, None, contents).map_err(|unfit| unfit.into_error(shared, task))
}

/// Enters what a command made, and makes it durable.
fn finish(shared: &Shared, task: TaskId, key: Digest, contents: &[Arc<[u8]>], edits: &[Edit]) -> Result<Made, Error> {
    let ready = Ready { task, key, contents: contents.to_vec(), edits: edits.into() };
    let made = making::finish(shared, Good { ready, model: None, usage: llm::Usage::default() })?;
    // What the command wrote stands there as it left it: made durable, as what genmake writes itself.
    let outputs = shared.graph.tasks[task].outputs.iter().map(|output| &output.path).zip(&made.content);
    let of_a_person = |path: &RelPath| edits.iter().find(|edit| edit.path == *path && edit.fate != Fate::Discarded);
    let kept = outputs.filter(|(path, _)| !made.written.contains(path));
    let record = |(path, content): (&RelPath, &Digest)| Record {
        path: path.clone(),
        content: Some(*content),
        key,
        stood: of_a_person(path).map(|edit| edit.content),
    };
    let records: Vec<Record> = kept.map(record).collect();
    for record in &records {
        let stamp = store::sync_output(&shared.root, &record.path)?;
        shared.files.wrote(&record.path, record.content.unwrap_or(key), stamp);
    }
    shared.announce(&records)?;
    let written = shared.graph.tasks[task].outputs.iter().map(|output| output.path.clone()).collect();
    let status = if made.status == Status::Merged { Status::Merged } else { Status::Ran };
    Ok(Made { status, written, ..made })
}

/// That what a command reads is what its key says. Else nobody knows which of the two it has read, and its result is nobody's.
fn stood_still(shared: &Shared, task: TaskId, line: &str) -> Result<(), Error> {
    for path in shared.graph.tasks[task].reads() {
        if shared.files.has_moved(path)? {
            let message = format!("`{path}` changed while `{line}` was running, which reads it");
            return Err(Error::new(Code::Moved, message)
                .in_rule(&shared.graph.rule(task).name)
                .hint("run genmake again; a command that changes what it reads is never up to date"));
        }
    }
    Ok(())
}

/// An output as it was before its command failed, unless a person has written there since the command ended. What stands there
/// instead may be a person's all the same, saved while the command ran: it is kept, and where is given.
fn put_back(
    shared: &Shared,
    path: &RelPath,
    before: Option<(Vec<u8>, Option<u32>)>,
    aside: &RelPath,
) -> Result<Option<String>, Error> {
    if store::no_file(&shared.root, path).is_some() {
        store::take_away(&shared.root, path)?;
    }
    let now = shared.files.look(path)?;
    let digest = now.as_deref().map(Digest::of);
    if shared.files.digest_now(path).is_some_and(|made| digest.is_some_and(|digest| digest != made)) {
        return Ok(None);
    }
    let is_another = |now: &&Vec<u8>| !now.is_empty() && before.as_ref().is_none_or(|(bytes, _)| *now != bytes);
    let left = now.as_ref().filter(is_another);
    // On a full disk it cannot be kept in the store. Then it stays aside, for the next run to keep.
    let kept = left.map(|bytes| edits::keep(shared, bytes).map(|()| store::blob_name(&Digest::of(bytes))));
    match before {
        Some((bytes, _)) if now.as_ref() == Some(&bytes) => shared.files.wrote(path, Digest::of(&bytes), None),
        Some((bytes, _)) if store::move_back(&shared.root, path, aside)? => {
            shared.files.wrote(path, Digest::of(&bytes), None);
        }
        Some((bytes, mode)) => {
            kept.clone().transpose()?;
            let stamp = store::replace_output(&shared.root, path, &bytes, mode, digest)?;
            shared.files.wrote(path, Digest::of(&bytes), stamp);
        }
        None => {
            store::move_aside(&shared.root, path, aside)?;
            shared.files.removed(path);
        }
    }
    Ok(kept.map(|kept| kept.unwrap_or_else(|_| aside.to_string())))
}
