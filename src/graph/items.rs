//! What a rule runs over: the items of its foreach, one axis or the product of several.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Item;
use crate::error::{Code, Error, Place};
use crate::manifest::Expr;
use crate::path::{Pattern, RelPath};
use crate::selector::{Part, Selector};

/// One axis of a foreach.
pub(super) struct Axis {
    /// Its name, where the foreach is a map.
    pub name: Option<String>,
    pub over: AxisItems,
}

pub(super) enum AxisItems {
    /// Known before any output is.
    Known(Vec<AxisItem>),
    /// What these match, which may be what other rules declare.
    Globs(Globs),
}

/// An item of one axis.
#[derive(Clone)]
pub(super) struct AxisItem {
    value: Value,
    file: Option<RelPath>,
    label: String,
}

/// Patterns; what one with `!` matches is taken out, wherever it stands.
pub(super) struct Globs {
    pub wanted: Vec<Pattern>,
    pub unwanted: Vec<Pattern>,
    /// The file that is meant, and where it is named, where the only pattern has no wildcard.
    pub plain: Option<(RelPath, Place)>,
}

impl Globs {
    /// Compiles the patterns that `texts` render to.
    ///
    /// # Errors
    /// [`Code::BadGlob`], or what is wrong with an expression.
    pub fn new(texts: &[Expr], scope: &Value) -> Result<Globs, Error> {
        let mut globs = Globs { wanted: Vec::new(), unwanted: Vec::new(), plain: None };
        for expr in texts {
            let text = expr.render(scope)?;
            match text.strip_prefix('!') {
                Some(text) => globs.unwanted.push(pattern(text, &expr.place)?),
                None => globs.wanted.push(pattern(&text, &expr.place)?),
            }
        }
        match (&globs.wanted[..], texts.first()) {
            ([], Some(first)) => Err(Error::new(Code::BadGlob, "every pattern takes out, and none puts in")
                .at(first.place.clone())
                .hint("write one without `!` before it, such as `**/*`")),
            _ => Ok(globs),
        }
    }
}

/// Compiles a glob of the Genfile.
pub(super) fn pattern(text: &str, place: &Place) -> Result<Pattern, Error> {
    Pattern::new(text).map_err(|e| Error::new(Code::BadGlob, format!("`{text}` is no glob: {e}")).at(place.clone()))
}

impl AxisItem {
    /// An item of a literal list.
    pub fn literal(value: Value) -> AxisItem {
        let label = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        AxisItem { value, file: None, label }
    }

    /// An item that is known in full.
    pub fn known(value: Value, label: String) -> AxisItem {
        AxisItem { value, file: None, label }
    }

    /// A file, with what expressions see of it.
    pub fn file(path: RelPath, value: Value) -> AxisItem {
        AxisItem { value, label: path.to_string(), file: Some(path) }
    }

    /// A part of a file.
    pub fn part(path: &RelPath, selector: &Selector, part: &Part, index: usize) -> AxisItem {
        let mut value = part.names();
        value.insert("index".to_owned(), index.into());
        value.insert("path".to_owned(), path.as_str().into());
        AxisItem { value: value.into(), file: None, label: selector.label(path, &part.keys) }
    }
}

/// The most tasks that one rule can have.
const MAX_TASKS: usize = 1_000_000;

/// The items of all combinations, the last axis turning fastest: one without an item for no axis at all.
///
/// # Errors
/// [`Code::BadValue`], without a place, where there would be more than a machine can hold.
pub(super) fn product(axes: &[(Option<&str>, Cow<[AxisItem]>)]) -> Result<Vec<Option<Item>>, Error> {
    let count = axes.iter().try_fold(1, |count: usize, (_, items)| count.checked_mul(items.len()));
    if count.is_none_or(|count| count > MAX_TASKS) {
        return Err(Error::new(Code::BadValue, format!("its foreach has more than {MAX_TASKS} items"))
            .hint("run over less, or make several Genfiles of it"));
    }
    match axes {
        [] => return Ok(vec![None]),
        [(None, items)] => {
            let alone = |item: &AxisItem| Item {
                value: item.value.clone(),
                files: item.file.iter().map(|path| (None, path.clone())).collect(),
                label: item.label.clone(),
            };
            return Ok(items.iter().map(|item| Some(alone(item))).collect());
        }
        _ => {}
    }
    let mut combined = vec![Item { value: Map::new().into(), files: Vec::new(), label: String::new() }];
    for (name, items) in axes {
        let name = name.unwrap_or_default();
        let mut next = Vec::with_capacity(combined.len() * items.len());
        for before in &combined {
            next.extend(items.iter().map(|item| {
                let mut more = before.clone();
                more.value[name] = item.value.clone();
                more.files.extend(item.file.iter().map(|path| (Some(name.to_owned()), path.clone())));
                let between = if more.label.is_empty() { "" } else { ", " };
                more.label += &format!("{between}{name} {}", item.label);
                more
            }));
        }
        combined = next;
    }
    Ok(combined.into_iter().map(Some).collect())
}
