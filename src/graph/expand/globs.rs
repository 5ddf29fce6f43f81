//! What globs match, and what is missing.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::{Expander, INSIDE, Paths};
use crate::error::{Code, Error, Place};
use crate::graph::items::{Globs, pattern};
use crate::lock;
use crate::path::{Pattern, RelPath};
use crate::selector::Selector;

impl Expander<'_> {
    /// Whether a text is a glob. A file may have brackets and braces in its name: `pages/[id].tsx` is itself where it is there.
    pub(super) fn is_glob(&self, text: &str) -> bool {
        let is_file = |path: RelPath| self.declared.contains_key(&path) || self.files.exists(&path);
        Pattern::is_glob(text) && (text.contains(['*', '?']) || !RelPath::new(text).is_ok_and(is_file))
    }

    /// The files that match, as they will be when everything is built: what is on disk and no rule's, and what other rules
    /// declare.
    pub(super) fn glob(&self, rule: usize, pattern: &Pattern) -> Result<Vec<RelPath>, Error> {
        if self.is_outside(pattern.base()) {
            let message = format!("`{}` leads outside the root through a symlink", pattern.base());
            return Err(Error::new(Code::BadPath, message).hint(INSIDE));
        }
        let lock = lock::file_name(&self.manifest.source.name);
        let mut found: BTreeSet<RelPath> = self.files.list(pattern)?.into_iter().collect();
        found.retain(|path| !self.locked.contains(path) && !self.declared.contains_key(path) && path.as_str() != lock);
        let declared = self.declared_below(pattern.base());
        let others = declared.filter(|(path, maker)| **maker != rule && pattern.matches(path));
        found.extend(others.map(|(path, _)| path.clone()));
        Ok(found.into_iter().collect())
    }

    /// The outputs below a folder, and their rules: ten thousand tasks may each look for a folder of their own.
    fn declared_below(&self, folder: &str) -> impl Iterator<Item = (&RelPath, &usize)> {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let from = self.declared.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
        from.take_while(move |(path, _)| path.as_str().starts_with(&start))
    }

    /// As [`Expander::glob`], for several patterns.
    pub(in crate::graph) fn globs(&self, rule: usize, globs: &Globs) -> Result<Vec<RelPath>, Error> {
        let mut found = BTreeSet::new();
        for pattern in &globs.wanted {
            found.extend(self.glob(rule, pattern)?);
        }
        found.retain(|path| !globs.unwanted.iter().any(|pattern| pattern.matches(path)));
        Ok(found.into_iter().collect())
    }

    /// The files that an input's glob matches, once all outputs are known.
    pub(super) fn matched(&self, rule: usize, glob: &str, place: &Place) -> Result<Paths, Error> {
        let key = (rule, glob.to_owned());
        if let Some(files) = self.matched.borrow().get(&key) {
            return Ok(Arc::clone(files));
        }
        let files: Paths = self.glob(rule, &pattern(glob, place)?).map_err(|e| e.at(place.clone()))?.into();
        self.matched.borrow_mut().insert(key, Arc::clone(&files));
        Ok(files)
    }

    /// The files that a selector is of: those that match its glob, or the one that it names.
    pub(super) fn selected(&self, rule: usize, selector: &Selector, place: &Place) -> Result<Paths, Error> {
        match self.is_glob(&selector.file) {
            true => self.matched(rule, &selector.file, place),
            false => Ok(Arc::from([self.input_path(&selector.file, place)?])),
        }
    }

    /// The error for a file that is not there.
    pub(super) fn missing(&self, path: &RelPath, what: &str, place: &Place) -> Error {
        let below =
            Pattern::in_folder(path.as_str(), "**").and_then(|all| self.glob(usize::MAX, &all).map_err(|e| e.message));
        if below.is_ok_and(|files| !files.is_empty()) {
            return Error::new(Code::MissingInput, format!("{what} `{path}`, which is a folder"))
                .at(place.clone())
                .hint(format!("its files are `{path}/*`, and with all folders below `{path}/**`"));
        }
        Error::new(Code::MissingInput, format!("{what} `{path}`, which is not there and which no rule makes"))
            .at(place.clone())
            .hint("paths are relative to the Genfile's folder")
    }

    /// The same for an input, which may be declared as one that may be missing.
    pub(super) fn missing_input(&self, path: &RelPath, place: &Place) -> Error {
        let error = self.missing(path, "its input is", place);
        error.hint("an input that may be missing is written `{path: PATH, optional: true}`")
    }
}
