//! What a task's prompt is shown of a specification: from where, and about what.

use std::sync::Arc;

use crate::context::{Choice, Selected, Spec, Specs};
use crate::digest::Framed;
use crate::error::{Code, Error, did_you_mean};
use crate::files::Files;
use crate::manifest::Context;
use crate::path::RelPath;
use crate::selector::{DataCache, Selector, Step, What};

/// How many tokens a model takes, where nobody says so: small enough for most that people run themselves.
const WINDOW: u64 = 8192;

/// A rule's `context` for one of its tasks, with the expressions in it rendered.
#[derive(Debug)]
pub struct TaskContext {
    /// The selector: what people call it.
    pub label: String,
    /// The files that it selects from, in byte order.
    pub files: Arc<[RelPath]>,
    /// The entity that the prompt is about; without, all are shown.
    pub related_to: Option<String>,
    /// Whether all tasks of the rule are shown the same.
    pub is_shared: bool,
    pub(super) selector: Selector,
}

impl TaskContext {
    pub(super) fn new(
        of_rule: &Context,
        label: String,
        files: Arc<[RelPath]>,
        selector: Selector,
        related_to: Option<String>,
    ) -> TaskContext {
        let mut exprs = std::iter::once(&of_rule.select).chain(&of_rule.related_to);
        let is_shared = !exprs.any(|expr| expr.uses("item"));
        TaskContext { label, files, related_to, is_shared, selector }
    }

    /// What the prompt is shown of the files as they are. `window` is how many tokens the model takes, if that is known.
    ///
    /// # Errors
    /// A file that cannot be read; [`Code::BadSelector`] where nothing is selected, or what is no entity;
    /// [`Code::UnknownEntity`] where the prompt is about none.
    pub fn choose(
        &self,
        of_rule: &Context,
        window: Option<u64>,
        files: &dyn Files,
        data: &DataCache,
        specs: &Specs,
    ) -> Result<Choice, Error> {
        let spec = self.spec(of_rule, files, data, specs)?;
        let room = of_rule.max_share.map(|share| (share * window.unwrap_or(WINDOW) as f64) as u64);
        let about = self.related_to.as_deref();
        spec.choose(about, of_rule.depth, room).ok_or_else(|| {
            let name = about.unwrap_or_default();
            let place = of_rule.related_to.as_ref().unwrap_or(&of_rule.select).place.clone();
            let error = Error::new(Code::UnknownEntity, format!("`{}` has no entity `{name}`", self.label)).at(place);
            match did_you_mean(name, spec.keys()) {
                Some(hint) => error.hint(hint),
                None => error.hint(format!("it has {}", some(spec.keys()))),
            }
        })
    }

    /// The specification, taken apart once for all tasks.
    fn spec(&self, of_rule: &Context, files: &dyn Files, data: &DataCache, specs: &Specs) -> Result<Arc<Spec>, Error> {
        let place = &of_rule.select.place;
        let bad = |what: String| Error::new(Code::BadSelector, what).at(place.clone());
        let mut of = Framed::new("spec").field(&self.label);
        for path in self.files.iter() {
            let digest = files.digest(path)?;
            of = of.field(path.as_str()).field(digest.as_ref().map_or(&[][..], |digest| digest.bytes()));
        }
        let of = of.finish();
        if let Some(spec) = specs.get(&of) {
            return Ok(spec);
        }
        if self.files.is_empty() {
            return Err(bad(format!("`{}` finds nothing: no file matches `{}`", self.label, self.selector.file)));
        }
        let are_entities = match &self.selector.what {
            What::Pointer(steps) => steps.contains(&Step::Each),
            What::Sections(_) | What::Definitions(_) => true,
        };
        let mut selected = Vec::new();
        for path in self.files.iter() {
            let Some(parts) = data.select(files, path, &self.selector).map_err(|e| e.at(place.clone()))? else {
                return Err(Error::new(Code::MissingInput, format!("`{path}` is not there")).at(place.clone()));
            };
            selected.extend(parts.into_iter().map(|part| Selected {
                label: self.selector.label(path, &part.keys),
                key: are_entities.then(|| part.key().to_owned()),
                value: part.value,
            }));
        }
        Ok(specs.put(of, Spec::new(selected).map_err(bad)?))
    }
}

/// The first of several names, for a hint.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const NAMED: usize = 8;
    let mut names: Vec<String> = names.take(NAMED + 1).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "none".to_owned(),
        n if n > NAMED => {
            names.truncate(NAMED);
            format!("{} and more", names.join(", "))
        }
        _ => names.join(", "),
    }
}
