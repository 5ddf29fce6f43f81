//! What globs match.

use std::collections::BTreeSet;

use super::Expander;
use crate::error::{Error, Place};
use crate::graph::items::{Globs, pattern};
use crate::lock;
use crate::path::{Pattern, RelPath};

impl Expander<'_> {
    /// Whether a text is a glob. A file may have brackets and braces in its name: `pages/[id].tsx` is itself where it is there.
    pub(super) fn is_glob(&self, text: &str) -> bool {
        let is_file = |path: RelPath| self.declared.contains_key(&path) || self.files.exists(&path);
        Pattern::is_glob(text) && (text.contains(['*', '?']) || !RelPath::new(text).is_ok_and(is_file))
    }

    /// The files that match, as they will be when everything is built: what is on disk and no rule's, and what other rules
    /// declare.
    pub(super) fn glob(&self, rule: usize, pattern: &Pattern) -> Result<Vec<RelPath>, Error> {
        let lock = lock::file_name(&self.manifest.source.name);
        let mut found: BTreeSet<RelPath> = self.files.list(pattern)?.into_iter().collect();
        found.retain(|path| !self.locked.contains(path) && !self.declared.contains_key(path) && path.as_str() != lock);
        let others = self.declared.iter().filter(|(path, maker)| **maker != rule && pattern.matches(path));
        found.extend(others.map(|(path, _)| path.clone()));
        Ok(found.into_iter().collect())
    }

    /// As [`Expander::glob`], for several patterns.
    pub(super) fn globs(&self, rule: usize, globs: &Globs) -> Result<Vec<RelPath>, Error> {
        let mut found = BTreeSet::new();
        for pattern in &globs.wanted {
            found.extend(self.glob(rule, pattern)?);
        }
        found.retain(|path| !globs.unwanted.iter().any(|pattern| pattern.matches(path)));
        Ok(found.into_iter().collect())
    }

    /// The files that an input's glob matches, once all outputs are known.
    pub(super) fn matched(&self, rule: usize, glob: &str, place: &Place) -> Result<Vec<RelPath>, Error> {
        let key = (rule, glob.to_owned());
        if let Some(files) = self.matched.borrow().get(&key) {
            return Ok(files.clone());
        }
        let files = self.glob(rule, &pattern(glob, place)?)?;
        self.matched.borrow_mut().insert(key, files.clone());
        Ok(files)
    }
}
