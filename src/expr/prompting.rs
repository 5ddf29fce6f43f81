//! The helpers of prompts, as Dotprompt has them: marks, and two blocks that compare.

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, Output, PathAndJson, RenderContext, RenderError, Renderable,
    ScopedJson,
};
use serde_json::Value;

use super::helpers::wrong_use;
use super::marks::Mark;

/// Their names.
pub(super) const NAMES: &[&str] = &["role", "history", "section", "media", "ifEquals", "unlessEquals"];

type Marking = fn(&Helper) -> Result<Mark, String>;

const MARKING: &[(&str, Marking)] =
    &[("role", role), ("history", |_| Ok(Mark::History)), ("section", section), ("media", media)];

pub(super) fn register(registry: &mut Handlebars<'static>) {
    for &(name, mark) in MARKING {
        registry.register_helper(name, Box::new(Marks { name, mark }));
    }
    registry.register_helper("ifEquals", Box::new(Compares { wanted: true }));
    registry.register_helper("unlessEquals", Box::new(Compares { wanted: false }));
}

fn role(h: &Helper) -> Result<Mark, String> {
    let name = text(h.param(0)).ok_or("takes a name")?;
    if !matches!(name.as_str(), "system" | "user" | "model") {
        return Err(format!("is `system`, `user` or `model`, not `{name}`"));
    }
    let metadata = h.hash().iter().map(|(name, value)| ((*name).to_owned(), value.value().clone()));
    Ok(Mark::Role { name, metadata: metadata.collect() })
}

fn section(h: &Helper) -> Result<Mark, String> {
    text(h.param(0)).map(Mark::Section).ok_or_else(|| "takes a name".to_owned())
}

fn media(h: &Helper) -> Result<Mark, String> {
    let url = text(h.hash_get("url")).ok_or("takes `url=`")?;
    Ok(Mark::Media { url, content_type: text(h.hash_get("contentType")) })
}

fn text(param: Option<&PathAndJson>) -> Option<String> {
    param.and_then(|param| param.value().as_str()).filter(|text| !text.is_empty()).map(str::to_owned)
}

struct Marks {
    name: &'static str,
    mark: Marking,
}

impl HelperDef for Marks {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let given = h.params().iter().chain(h.hash().values());
        if let Some(missing) = given.into_iter().find(|param| registry.strict_mode() && param.is_value_missing()) {
            return Err(RenderError::strict_error(missing.relative_path()));
        }
        match (self.mark)(h) {
            Ok(mark) => Ok(ScopedJson::Derived(mark.write().into())),
            Err(what) => Err(wrong_use(format!("`{}` {what}", self.name))),
        }
    }
}

/// Strict equality: a number is never a text, and what is missing equals only what is missing.
struct Compares {
    wanted: bool,
}

impl HelperDef for Compares {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let [a, b] = h.params().as_slice() else {
            return Err(wrong_use(format!("`{}` takes two values", h.name())));
        };
        let equal = match (a.is_value_missing(), b.is_value_missing()) {
            (false, false) => equal(a.value(), b.value()),
            (a, b) => a == b,
        };
        let branch = if equal == self.wanted { h.template() } else { h.inverse() };
        branch.map_or(Ok(()), |branch| branch.render(registry, ctx, rc, out))
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // One kind of number: 5 is 5.0.
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}
