//! A rule's checks: those that only read, ready to be held against a result, and which of them a result has passed.

use std::sync::{Arc, PoisonError};

use super::Ground;
use super::making::{Recipes, commands, defaults};
use super::stale::{Remembered, Verdict};
use crate::digest::{Digest, Framed};
use crate::error::{Code, Error};
use crate::files::Files;
use crate::graph::{Graph, TaskId};
use crate::llm::{self, Complaint, Test};
use crate::manifest::{Check, OnError};
use crate::path::RelPath;
use crate::schema::Schema;
use crate::selector::parse_data;

/// The checks of a task's rule that need no command, in the order written.
///
/// # Errors
/// A schema that cannot be read, or is none.
pub fn tests(graph: &Graph, id: TaskId, files: &dyn Files, recipes: &Recipes) -> Result<Vec<Test>, Error> {
    let mut schemas = graph.tasks[id].schemas.iter();
    let mut tests = Vec::new();
    for check in &graph.rule(id).checks {
        match check {
            Check::Json | Check::Yaml | Check::Toml => tests.push(Test::Data(check.name())),
            Check::Syntax => tests.push(Test::Syntax),
            Check::Schema(_) => {
                let Some(path) = schemas.next() else { return Err(super::bug("a check without its schema")) };
                tests.push(Test::Schema(schema(path, files, recipes)?));
            }
            Check::Run(_) => {}
        }
    }
    Ok(tests)
}

/// Which checks a content passed: what is remembered of a check, so that an unchanged result is not judged again.
///
/// # Errors
/// A schema that cannot be read, or a command whose values are not there.
pub fn passed(graph: &Graph, id: TaskId, content: &[Digest], files: &dyn Files) -> Result<Option<Digest>, Error> {
    let rule = graph.rule(id);
    if rule.checks.is_empty() {
        return Ok(None);
    }
    let mut framed = Framed::new("genmake-checked-2");
    for check in &rule.checks {
        framed = framed.field(check.name());
    }
    for output in &graph.tasks[id].outputs {
        for line in commands(graph, id, rule.check_commands(), output.path.as_str(), files)? {
            framed = framed.field(line);
        }
    }
    for schema in &graph.tasks[id].schemas {
        framed = framed.field(files.digest(schema)?.as_ref().map_or(&[][..], |digest| digest.bytes()));
    }
    Ok(Some(content.iter().fold(framed, |framed, digest| framed.field(digest.bytes())).finish()))
}

/// What the checks of its rule say of a result that is there.
#[derive(Default)]
pub(super) struct Checked {
    /// Which of them it passed, as a digest of both; none without checks.
    pub passed: Option<Digest>,
    /// Whether commands are still to judge it: deciding runs none.
    pub unchecked: bool,
}

/// Judges the result that is there by the rule's checks: they are in no key, so a changed check costs nothing.
///
/// # Errors
/// What cannot be read; inside, the first check that the result does not pass.
pub(super) fn judge(
    ground: &Ground,
    id: TaskId,
    verdict: &Verdict,
    there: &[Digest],
    remembered: Option<&Remembered>,
    files: &dyn Files,
) -> Result<Result<Checked, Complaint>, Error> {
    let passed = passed(ground.graph, id, there, files)?;
    // Checks are for results; what stands for one was chosen knowing them.
    let is_known = passed == remembered.and_then(|task| task.checked) || is_default(ground.graph, id, there);
    if is_known {
        return Ok(Ok(Checked { passed, unchecked: false }));
    }
    let unchecked = ground.graph.rule(id).check_commands().next().is_some();
    Ok(read_only(ground, id, verdict, there, files)?.map(|()| Checked { passed, unchecked }))
}

/// Whether a content is what the rule says that stands for a result.
fn is_default(graph: &Graph, id: TaskId, content: &[Digest]) -> bool {
    let OnError::Default(value) = &graph.rule(id).on_error else { return false };
    defaults(graph, id, value).iter().map(Digest::of).eq(content.iter().copied())
}

/// The checks that need no command, on the result that is there.
fn read_only(
    ground: &Ground,
    id: TaskId,
    verdict: &Verdict,
    there: &[Digest],
    files: &dyn Files,
) -> Result<Result<(), Complaint>, Error> {
    let tests = tests(ground.graph, id, files, ground.recipes)?;
    for (output, digest) in ground.graph.tasks[id].outputs.iter().zip(there) {
        let bytes = match verdict {
            Verdict::Fresh => ground.files.read(&output.path)?.unwrap_or_default(),
            // A blob that is damaged is found out, and made up for, when it is restored.
            _ => match ground.files.blob(digest) {
                Ok(bytes) => bytes,
                Err(_) => continue,
            },
        };
        let text = String::from_utf8_lossy(&bytes);
        if let Err(complaint) = llm::verify(&output.path, &text, &tests) {
            return Ok(Err(complaint));
        }
    }
    Ok(Ok(()))
}

/// The schema in a file; each content is compiled once.
pub(super) fn schema(path: &RelPath, files: &dyn Files, recipes: &Recipes) -> Result<Arc<Schema>, Error> {
    let missing = || Error::new(Code::MissingInput, format!("the schema `{path}` is not there"));
    let digest = files.digest(path)?.ok_or_else(missing)?;
    let known = || recipes.schemas.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(schema) = known().get(&digest) {
        return Ok(Arc::clone(schema));
    }
    let text = files.text(path)?.ok_or_else(missing)?;
    let value = parse_data(path, &text)?;
    let schema = Schema::new(value).map(Arc::new).map_err(|why| {
        Error::new(Code::BadValue, format!("`{path}` is no JSON Schema that can be used: {why}"))
            .hint("https://json-schema.org describes the format")
    })?;
    known().insert(digest, Arc::clone(&schema));
    Ok(schema)
}
