//! The `context` of a rule for each of its tasks.

use serde_json::Value;

use super::super::TaskContext;
use super::{Expander, parse_selector};
use crate::error::Error;
use crate::manifest::Context;
use crate::path::RelPath;

impl Expander<'_> {
    /// What a task's prompt is shown, which is looked at where its files are there already.
    pub(super) fn context(&self, id: usize, context: &Context, scope: &Value) -> Result<TaskContext, Error> {
        let place = &context.select.place;
        let label = context.select.render(scope)?;
        let selector = parse_selector(&label, place)?;
        let files = self.selected(id, &selector, place)?;
        let related_to = context.related_to.as_ref().map(|expr| expr.render(scope)).transpose()?;
        let is_made = |path: &RelPath| self.declared.contains_key(path);
        if let Some(path) = files.iter().find(|path| !is_made(path) && !self.files.exists(path)) {
            return Err(self.missing(path, "its context is of", place));
        }
        let is_known = !files.iter().any(is_made);
        let of_task = TaskContext::new(context, label, files, selector, related_to);
        if is_known {
            // Looked at for what it lacks: how much of it there is room for is no matter here.
            of_task.choose(context, None, self.files, self.data, self.specs)?;
        }
        Ok(of_task)
    }
}
