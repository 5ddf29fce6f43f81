//! Which of genmake's own names a template uses: `vars.x`, `inputs.x`, `item.x`, at any depth of blocks.
//!
//! The library finds a missing name only where it renders it, and `{{#if}}` takes it for false. A name that genmake gives
//! is either there or a mistake, whatever branch is taken; a field of data may be missing.

use std::collections::{HashMap, HashSet};

use handlebars::template::{HelperTemplate, Parameter, Template, TemplateElement};
use handlebars::{Handlebars, Path, PathSeg};
use serde_json::Value;

use super::Why;

/// A name as used in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use {
    /// As written.
    pub raw: String,
    /// Its parts, seen from the root.
    parts: Vec<String>,
    /// Line and column of the expression, from 1.
    pub at: (usize, usize),
    /// Whether it is only asked about, as in `{{#if x}}` and `{{default x "y"}}`, and may be empty.
    is_asked: bool,
    /// Whether its value is written as it is, in every rendering.
    is_written: bool,
}

/// What only asks about a value.
const ASKING: [&str; 8] = ["if", "unless", "default", "and", "or", "not", "eq", "ne"];

impl Use {
    /// Whether `scope` has it, as far as genmake gives names: data may lack fields.
    pub fn is_given(&self, scope: &Value) -> bool {
        let Some(first) = self.parts.first() else { return true };
        let Some(value) = scope.get(first) else { return false };
        let fixed = match first.as_str() {
            // Every variable that the rule lists is there, and null where the environment has none.
            "env" => {
                let variable = self.parts.get(1).and_then(|name| value.get(name));
                return variable.is_some_and(|variable| self.is_asked || !variable.is_null());
            }
            "vars" | "inputs" | "outputs" => true,
            // An item that stands for a file or a part of one; from a literal list it is data.
            "item" => value.get("path").is_some(),
            _ => false,
        };
        match self.parts.get(1) {
            Some(second) if fixed => match value {
                Value::Object(map) => map.contains_key(second),
                Value::Array(list) => second.parse::<usize>().is_ok_and(|i| i < list.len()),
                _ => true,
            },
            _ => true,
        }
    }
}

impl Use {
    /// Whether it would write a map, for which the library has no better word than `[object]`.
    pub fn writes_a_map(&self, scope: &Value) -> bool {
        let value = self.parts.iter().try_fold(scope, |value, part| value.get(part));
        // A prompt's context is written as JSON.
        self.is_written && self.parts != ["context"] && value.is_some_and(Value::is_object)
    }
}

/// All names that `template` looks up from the root.
pub(super) fn used(template: &Template, is_helper: &dyn Fn(&str) -> bool) -> Vec<Use> {
    let mut walk = Walk { found: Vec::new(), is_helper, at: (1, 1), is_asked: false, is_written: false, blocks: 0 };
    walk.template(template, 0);
    walk.found
}

/// The partials that a template includes, wherever it does. Only names that stand there can be checked, so only those are
/// allowed: an inline partial or a computed name could include itself without end.
pub(super) fn partials(template: &Template) -> Result<Vec<String>, Why> {
    let mut found = Vec::new();
    let mut queue = vec![template];
    while let Some(template) = queue.pop() {
        for element in &template.elements {
            match element {
                TemplateElement::HelperBlock(helper) => queue.extend(helper.template.iter().chain(&helper.inverse)),
                TemplateElement::PartialExpression(partial) | TemplateElement::PartialBlock(partial) => {
                    match &partial.name {
                        Parameter::Name(name) | Parameter::Path(Path::Relative((_, name))) => found.push(name.clone()),
                        Parameter::Path(Path::Local((_, name, _))) if name == "partial-block" => {}
                        _ => return Err(Why::Use("a partial is included by its name".to_owned())),
                    }
                    queue.extend(&partial.template);
                }
                TemplateElement::DecoratorBlock(_) | TemplateElement::DecoratorExpression(_) => {
                    return Err(Why::Use("inline partials and decorators are not supported".to_owned()));
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// The first parts of all names that a template looks up from the root, or that a partial does which it includes.
pub(super) fn roots(registry: &Handlebars, main: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    let mut seen = HashSet::new();
    let mut queue = vec![main.to_owned()];
    while let Some(name) = queue.pop() {
        let Some(template) = registry.get_template(&name) else { continue };
        found.extend(used(template, &|_| false).into_iter().filter_map(|name| name.parts.into_iter().next()));
        // Partials that are no names have been refused.
        queue.extend(partials(template).unwrap_or_default().into_iter().filter(|name| seen.insert(name.clone())));
    }
    found
}

/// A partial that includes itself, by way of others or not.
pub(super) fn recursive(calls: &HashMap<String, Vec<String>>) -> Option<&str> {
    let includes_itself = |start: &&String| {
        let mut seen: Vec<&String> = Vec::new();
        let mut queue: Vec<&String> = calls.get(*start).into_iter().flatten().collect();
        while let Some(name) = queue.pop() {
            if name == *start {
                return true;
            }
            if !seen.contains(&name) {
                seen.push(name);
                queue.extend(calls.get(name).into_iter().flatten());
            }
        }
        false
    };
    calls.keys().filter(includes_itself).map(String::as_str).min()
}

struct Walk<'a> {
    found: Vec<Use>,
    is_helper: &'a dyn Fn(&str) -> bool,
    at: (usize, usize),
    is_asked: bool,
    is_written: bool,
    /// How many blocks stand around, whatever they do.
    blocks: usize,
}

impl Walk<'_> {
    /// `depth` counts the blocks around that change what a bare name means.
    fn template(&mut self, template: &Template, depth: usize) {
        for (i, element) in template.elements.iter().enumerate() {
            if let Some(mapping) = template.mapping.get(i) {
                self.at = (mapping.0, mapping.1);
            }
            self.element(element, depth);
        }
    }

    fn element(&mut self, element: &TemplateElement, depth: usize) {
        match element {
            TemplateElement::Expression(helper) | TemplateElement::HtmlExpression(helper) => self.helper(helper, depth),
            TemplateElement::HelperBlock(helper) => {
                self.helper(helper, depth);
                let moves = matches!(&helper.name, Parameter::Name(name) if name == "each" || name == "with");
                let at = self.at;
                self.blocks += 1;
                if let Some(inner) = &helper.template {
                    self.template(inner, depth + usize::from(moves));
                }
                if let Some(inverse) = &helper.inverse {
                    self.template(inverse, depth);
                }
                self.blocks -= 1;
                self.at = at;
            }
            TemplateElement::PartialExpression(partial) | TemplateElement::PartialBlock(partial) => {
                for param in partial.params.iter().chain(partial.hash.values()) {
                    self.parameter(param, depth);
                }
            }
            _ => {}
        }
    }

    fn helper(&mut self, helper: &HelperTemplate, depth: usize) {
        let before = self.is_asked;
        self.is_asked = matches!(&helper.name, Parameter::Name(name) if ASKING.contains(&name.as_str()));
        if helper.params.is_empty() && helper.hash.is_empty() && !helper.block {
            self.is_written = self.blocks == 0;
            self.parameter(&helper.name, depth);
            self.is_written = false;
        }
        for param in helper.params.iter().chain(helper.hash.values()) {
            self.parameter(param, depth);
        }
        self.is_asked = before;
    }

    fn parameter(&mut self, parameter: &Parameter, depth: usize) {
        match parameter {
            Parameter::Path(Path::Relative((segments, raw))) => self.path(raw, segments, depth),
            Parameter::Subexpression(inner) => self.element(inner.as_element(), depth),
            _ => {}
        }
    }

    fn path(&mut self, raw: &str, segments: &[PathSeg], depth: usize) {
        let rest = raw.strip_prefix("@root.").or_else(|| raw.strip_prefix("@root/"));
        let up = if rest.is_some() { depth } else { raw.matches("../").count() };
        let bare = rest.unwrap_or(raw).trim_start_matches("../");
        if up < depth || bare.starts_with("this") || bare.starts_with(['.', '@']) {
            return;
        }
        let parts: Vec<String> = segments
            .iter()
            .filter_map(|segment| match segment {
                PathSeg::Named(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        if !(parts.len() == 1 && (self.is_helper)(&parts[0])) {
            self.found.push(Use {
                raw: raw.to_owned(),
                parts,
                at: self.at,
                is_asked: self.is_asked,
                is_written: self.is_written,
            });
        }
    }
}
