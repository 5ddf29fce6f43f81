//! A template with the format's own semantics, made out of what the library compiles.
//!
//! The library knows `@first` and its kin, but neither `@state.count` nor `list.length` nor a helper's name as a variable. So
//! paths are turned before rendering: the data is `{input, context}`, the template sees `input`, `@x` looks into `context`, and
//! every further step of a path is taken by a helper to which nothing is an error.

use std::collections::HashMap;

use handlebars::template::{HelperTemplate, Parameter, Subexpression, Template, TemplateElement};
use handlebars::{
    BlockContext, Context, Handlebars, Helper, HelperDef, HelperResult, Output, Path, PathSeg, RenderContext,
    RenderError, RenderErrorReason, Renderable, ScopedJson,
};
use serde_json::Value;

/// What the library itself keeps under `@`.
const LOCALS: &[&str] = &["first", "last", "index", "key", "partial-block"];

/// The names under which a name alone is a call; any other is a variable.
const CALLED: &[&str] = &["history"];

const INPUT: &str = "input";

/// The block around the template, in which `this` is the input.
const BLOCK: &str = "dotprompt-input";

/// Puts the main template into a block over the input.
pub(super) fn main(mut template: Template) -> Template {
    turn(&mut template);
    let mut outer = match Template::compile(&format!("{{{{#{BLOCK}}}}}{{{{/{BLOCK}}}}}")) {
        Ok(outer) => outer,
        Err(_) => Template::new(),
    };
    if let Some(TemplateElement::HelperBlock(block)) = outer.elements.first_mut() {
        block.template = Some(template);
    }
    outer
}

/// The helper that takes steps: a value, then names.
const STEPS: &str = "dotprompt-steps";

pub(super) fn register(registry: &mut Handlebars<'static>) {
    registry.register_helper(BLOCK, Box::new(over_input));
    registry.register_helper(STEPS, Box::new(Steps));
    registry.register_helper("blockHelperMissing", Box::new(bare_block));
}

/// Turns all paths of a template.
pub(super) fn turn(template: &mut Template) {
    template.elements.iter_mut().for_each(element);
}

fn element(at: &mut TemplateElement) {
    match at {
        TemplateElement::Expression(helper) | TemplateElement::HtmlExpression(helper) => {
            if is_name_only(helper) {
                variable(helper)
            } else {
                parts(helper)
            }
        }
        TemplateElement::HelperBlock(helper) => parts(helper),
        TemplateElement::PartialExpression(partial) | TemplateElement::PartialBlock(partial) => {
            partial.params.iter_mut().chain(partial.hash.values_mut()).for_each(parameter);
            partial.template.iter_mut().for_each(turn);
        }
        _ => {}
    }
}

fn is_name_only(helper: &HelperTemplate) -> bool {
    !helper.block && helper.params.is_empty() && helper.hash.is_empty()
}

/// An expression that is a name alone: a variable, whatever helper has that name.
fn variable(helper: &mut HelperTemplate) {
    let path = match &helper.name {
        Parameter::Name(name) if !CALLED.contains(&name.as_str()) => Path::parse(&format!("this.{name}")).ok(),
        Parameter::Path(Path::Relative((_, raw))) if CALLED.contains(&raw.as_str()) => None,
        Parameter::Path(path) => turned(path).map(|path| match path {
            // The raw text is what helpers are sought by.
            Path::Relative((segments, raw)) if !raw.starts_with('@') => {
                Path::Relative((segments, format!("this.{raw}")))
            }
            path => path,
        }),
        _ => None,
    };
    let Some(path) = path else { return };
    match steps(&path) {
        Some(params) => {
            helper.name = Parameter::Name(STEPS.to_owned());
            helper.params = params;
        }
        None => helper.name = Parameter::Path(path),
    }
}

/// Turns what a call is given, and what is within its block.
fn parts(helper: &mut HelperTemplate) {
    helper.params.iter_mut().chain(helper.hash.values_mut()).for_each(parameter);
    helper.template.iter_mut().chain(helper.inverse.iter_mut()).for_each(turn);
}

fn parameter(at: &mut Parameter) {
    match at {
        Parameter::Subexpression(inner) => {
            // A call inside of a call is one, even with a name alone.
            if let TemplateElement::Expression(helper) = &mut *inner.element {
                parts(helper);
            }
        }
        Parameter::Path(path) => {
            let Some(path) = turned(path) else { return };
            *at = match steps(&path) {
                Some(params) => {
                    let name = Parameter::Name(STEPS.to_owned());
                    Parameter::Subexpression(Subexpression::new(name, params, HashMap::new()))
                }
                None => Parameter::Path(path),
            };
        }
        _ => {}
    }
}

/// Where a path leads in `{input, context}`; `None` for what the library itself keeps.
fn turned(path: &Path) -> Option<Path> {
    match path {
        Path::Local((_, name, _)) if LOCALS.contains(&name.as_str()) => None,
        Path::Local((_, name, _)) if name == "root" => Path::parse(&format!("@root.{INPUT}")).ok(),
        Path::Local((_, _, raw)) => {
            Path::parse(&format!("@root.context.{}", raw.trim_start_matches(['@', '.', '/']))).ok()
        }
        Path::Relative((_, raw)) => match raw.strip_prefix("@root") {
            Some(rest) => Path::parse(&format!("@root.{INPUT}{rest}")).ok(),
            None => Some(path.clone()),
        },
    }
}

/// A path of several steps as the parameters of [`STEPS`].
fn steps(path: &Path) -> Option<Vec<Parameter>> {
    let Path::Relative((segments, raw)) = path else { return None };
    let is_name = |segment: &PathSeg| matches!(segment, PathSeg::Named(_));
    let first = segments.iter().position(is_name)?;
    // From the root the first name says which of the two, and is always there.
    let kept = first + if raw.starts_with("@root") { 2 } else { 1 };
    let names = segments.get(kept..).filter(|names| !names.is_empty())?;
    let start = Path::Relative((segments[..kept].to_vec(), raw.clone()));
    let names = names.iter().filter_map(|segment| match segment {
        PathSeg::Named(name) => Some(Parameter::Literal(name.clone().into())),
        _ => None,
    });
    Some(std::iter::once(Parameter::Path(start)).chain(names).collect())
}

struct Steps;

impl HelperDef for Steps {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let Some((start, names)) = h.params().split_first() else { return Ok(ScopedJson::Missing) };
        let mut here = start.value().clone();
        for name in names {
            let name = name.value().as_str().unwrap_or_default();
            let next = match &here {
                Value::Object(map) => map.get(name).cloned(),
                Value::Array(items) if name == "length" => Some(items.len().into()),
                Value::Array(items) => name.parse::<usize>().ok().and_then(|at| items.get(at)).cloned(),
                Value::String(text) if name == "length" => Some(text.encode_utf16().count().into()),
                _ => None,
            };
            let Some(next) = next else { return Ok(ScopedJson::Missing) };
            here = next;
        }
        Ok(ScopedJson::Derived(here))
    }
}

/// `{{#name}}` without a helper of that name: over a list, within a map, or if it is true.
fn bare_block<'reg, 'rc>(
    h: &Helper<'rc>,
    registry: &'reg Handlebars<'reg>,
    ctx: &'rc Context,
    rc: &mut RenderContext<'reg, 'rc>,
    out: &mut dyn Output,
) -> HelperResult {
    if !h.params().is_empty() || !h.hash().is_empty() {
        return Err(RenderErrorReason::HelperNotFound(h.name().to_owned()).into());
    }
    let value = rc.evaluate(ctx, h.name())?.as_json().clone();
    let branch = match &value {
        Value::Null | Value::Bool(false) => h.inverse(),
        Value::Array(items) if items.is_empty() => h.inverse(),
        _ => h.template(),
    };
    let Some(template) = branch else { return Ok(()) };
    let mut within = |value: Value, at: Option<(usize, usize)>| {
        let mut block = BlockContext::new();
        block.set_base_value(value);
        if let Some((index, last)) = at {
            block.set_local_var("index", index.into());
            block.set_local_var("first", (index == 0).into());
            block.set_local_var("last", (index == last).into());
        }
        in_block(block, template, registry, ctx, rc, out)
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            let last = items.len() - 1;
            items.into_iter().enumerate().try_for_each(|(index, item)| within(item, Some((index, last))))
        }
        value @ (Value::Object(_) | Value::String(_) | Value::Number(_)) => within(value, None),
        _ => template.render(registry, ctx, rc, out),
    }
}

/// The template itself, with the input as `this`.
fn over_input<'reg, 'rc>(
    h: &Helper<'rc>,
    registry: &'reg Handlebars<'reg>,
    ctx: &'rc Context,
    rc: &mut RenderContext<'reg, 'rc>,
    out: &mut dyn Output,
) -> HelperResult {
    let Some(template) = h.template() else { return Ok(()) };
    let mut block = BlockContext::new();
    *block.base_path_mut() = vec![INPUT.to_owned()];
    in_block(block, template, registry, ctx, rc, out)
}

/// Renders with a block around it that changes what names mean.
fn in_block<'reg, 'rc>(
    block: BlockContext<'rc>,
    template: &'rc Template,
    registry: &'reg Handlebars<'reg>,
    ctx: &'rc Context,
    rc: &mut RenderContext<'reg, 'rc>,
    out: &mut dyn Output,
) -> HelperResult {
    rc.push_block(block);
    let result = template.render(registry, ctx, rc, out);
    rc.pop_block();
    result
}
