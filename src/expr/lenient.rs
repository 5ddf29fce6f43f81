//! A template with the format's own semantics, made out of what the library compiles.
//!
//! The library knows `@first` and its kin, but neither `@state.count` nor a helper's name as a variable. So paths are turned
//! before rendering: the data is `{input, context}`, the template sees `input`, and `@x.y` looks into `context`.

use handlebars::template::{HelperTemplate, Parameter, Template, TemplateElement};
use handlebars::{
    BlockContext, Context, Handlebars, Helper, HelperDef, HelperResult, Output, Path, RenderContext, Renderable,
};

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

pub(super) fn register(registry: &mut Handlebars<'static>) {
    registry.register_helper(BLOCK, Box::new(OverInput));
}

/// Turns all paths of a template.
pub(super) fn turn(template: &mut Template) {
    template.elements.iter_mut().for_each(element);
}

fn element(at: &mut TemplateElement) {
    match at {
        TemplateElement::Expression(helper) | TemplateElement::HtmlExpression(helper) => {
            if let (true, Parameter::Name(name) | Parameter::Path(Path::Relative((_, name)))) =
                (is_name_only(helper), &helper.name)
                && !CALLED.contains(&name.as_str())
                && let Ok(path) = Path::parse(&format!("this.{name}"))
                && !name.contains(['.', '/', '@', '['])
                && name != "this"
            {
                helper.name = Parameter::Path(path);
            }
            parts(helper);
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

fn parts(helper: &mut HelperTemplate) {
    parameter(&mut helper.name);
    helper.params.iter_mut().chain(helper.hash.values_mut()).for_each(parameter);
    helper.template.iter_mut().chain(helper.inverse.iter_mut()).for_each(turn);
}

fn parameter(at: &mut Parameter) {
    let turned = match at {
        Parameter::Subexpression(inner) => return parts_of(&mut inner.element),
        Parameter::Path(Path::Local((_, name, _))) if LOCALS.contains(&name.as_str()) => return,
        Parameter::Path(Path::Local((_, name, _))) if name == "root" => format!("@root.{INPUT}"),
        Parameter::Path(Path::Local((0, _, raw))) => format!("@root.context.{}", raw.trim_start_matches('@')),
        Parameter::Path(Path::Relative((_, raw))) => match raw.strip_prefix("@root") {
            Some(rest) => format!("@root.{INPUT}{rest}"),
            None => return,
        },
        _ => return,
    };
    if let Ok(path) = Path::parse(&turned) {
        *at = Parameter::Path(path);
    }
}

/// A call inside of a call is one, even with a name alone.
fn parts_of(at: &mut TemplateElement) {
    if let TemplateElement::Expression(helper) = at {
        parts(helper);
    }
}

struct OverInput;

impl HelperDef for OverInput {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let Some(template) = h.template() else { return Ok(()) };
        let mut block = BlockContext::new();
        *block.base_path_mut() = vec![INPUT.to_owned()];
        rc.push_block(block);
        let result = template.render(registry, ctx, rc, out);
        rc.pop_block();
        result
    }
}
