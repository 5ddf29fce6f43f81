//! A rule's checks, ready to be held against a result: those that only read.

use std::sync::{Arc, PoisonError};

use super::making::Recipes;
use crate::error::{Code, Error};
use crate::files::Files;
use crate::graph::{Graph, TaskId};
use crate::llm::Test;
use crate::manifest::Check;
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

/// The schema in a file; each content is compiled once.
fn schema(path: &RelPath, files: &dyn Files, recipes: &Recipes) -> Result<Arc<Schema>, Error> {
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
