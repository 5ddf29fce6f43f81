//! Every helper of the expression language, in one table.

use std::collections::HashSet;

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext, RenderError, RenderErrorReason,
    Renderable, ScopedJson, StringOutput,
};
use heck::{ToKebabCase, ToLowerCamelCase, ToSnakeCase, ToUpperCamelCase};
use serde_json::Value;

use crate::path::RelPath;
use crate::yaml;

/// A helper that turns its parameters into a value.
type Function = fn(&Call) -> Result<Value, String>;

/// An English word as it stands with a number.
#[cfg(feature = "plural")]
fn for_so_many(word: &str, count: isize) -> Result<Value, String> {
    Ok(pluralizer::pluralize(word, count, false).into())
}

/// This build was made without the feature `plural`.
#[cfg(not(feature = "plural"))]
fn for_so_many(_: &str, _: isize) -> Result<Value, String> {
    Err("this build of genmake knows no plurals (the feature `plural` is off)".to_owned())
}

/// Name, how many parameters it takes at least and at most, and what it does.
const FUNCTIONS: &[(&str, usize, usize, Function)] = &[
    ("snake_case", 1, 1, |c| Ok(c.text(0)?.to_snake_case().into())),
    ("pascal_case", 1, 1, |c| Ok(c.text(0)?.to_upper_camel_case().into())),
    ("camel_case", 1, 1, |c| Ok(c.text(0)?.to_lower_camel_case().into())),
    ("kebab_case", 1, 1, |c| Ok(c.text(0)?.to_kebab_case().into())),
    ("upper", 1, 1, |c| Ok(c.text(0)?.to_uppercase().into())),
    ("lower", 1, 1, |c| Ok(c.text(0)?.to_lowercase().into())),
    ("plural", 1, 1, |c| for_so_many(&c.text(0)?, 2)),
    ("singular", 1, 1, |c| for_so_many(&c.text(0)?, 1)),
    ("json", 1, 1, json),
    ("yaml", 1, 1, |c| Ok(yaml::write(c.value(0)).trim_end().into())),
    ("indent", 2, 2, indent),
    ("join", 1, 2, join),
    ("default", 2, 2, |c| Ok(c.params[if c.is_empty(0) { 1 } else { 0 }].clone().unwrap_or_default())),
    ("len", 1, 1, len),
    ("dirname", 1, 1, |c| Ok(c.path(0)?.dir().into())),
    ("basename", 1, 1, |c| Ok(c.path(0)?.name().into())),
    ("stem", 1, 1, |c| Ok(c.path(0)?.stem().into())),
    ("relative", 1, 2, relative),
    ("contains", 2, 2, contains),
    ("fail", 1, 1, |c| Err(format!("says: {}", c.text(0)?))),
];

/// What takes a value of any type, also none.
const TAKES_ANYTHING: &[&str] = &["json", "yaml", "default"];

/// A block whose repeated lines are dropped.
const UNIQUE_LINES: &str = "unique_lines";

/// What the library brings along.
const BLOCKS_AND_TESTS: &[&str] =
    &["if", "unless", "each", "with", "lookup", "eq", "ne", "gt", "gte", "lt", "lte", "and", "or", "not"];

pub(super) fn names() -> Vec<&'static str> {
    let own = FUNCTIONS.iter().map(|f| f.0).chain([UNIQUE_LINES]);
    own.chain(super::prompting::NAMES.iter().copied()).chain(BLOCKS_AND_TESTS.iter().copied()).collect()
}

pub(super) fn register(registry: &mut Handlebars<'static>) {
    for &(name, least, most, function) in FUNCTIONS {
        registry.register_helper(name, Box::new(Registered { name, least, most, function }));
    }
    registry.register_helper(UNIQUE_LINES, Box::new(unique_lines_block));
    registry.unregister_helper("log");
}

/// One use of a helper.
struct Call<'a> {
    /// `None` where a variable is missing, which only `default` takes.
    params: Vec<Option<Value>>,
    indent: Option<usize>,
    output: &'a str,
}

impl Call<'_> {
    fn value(&self, at: usize) -> &Value {
        self.params.get(at).and_then(Option::as_ref).unwrap_or(&Value::Null)
    }

    fn text(&self, at: usize) -> Result<String, String> {
        match self.value(at) {
            Value::String(text) => Ok(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
            other => Err(format!("takes text, and got {}", type_name(other))),
        }
    }

    fn path(&self, at: usize) -> Result<RelPath, String> {
        let text = self.text(at)?;
        RelPath::new(&text).map_err(|why| format!("takes a path, and `{text}` {why}"))
    }

    fn is_empty(&self, at: usize) -> bool {
        match self.params.get(at).and_then(Option::as_ref) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// Compact, or over lines with `indent=N`, as Dotprompt's helper of that name.
fn json(c: &Call) -> Result<Value, String> {
    let Some(width) = c.indent else { return Ok(c.value(0).to_string().into()) };
    let spaces = " ".repeat(width.min(16));
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(c.value(0), &mut serializer).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(out).map_err(|e| e.to_string())?.into())
}

/// Every line but the first and the empty ones, moved right.
fn indent(c: &Call) -> Result<Value, String> {
    let width = c.value(1).as_u64().ok_or("takes a text and a number of spaces")?;
    let spaces = " ".repeat(usize::try_from(width.min(200)).unwrap_or(0));
    let text = c.text(0)?;
    let mut lines = text.split('\n');
    let mut out = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        out.push('\n');
        if !line.is_empty() {
            out.push_str(&spaces);
            out.push_str(line);
        }
    }
    Ok(out.into())
}

fn join(c: &Call) -> Result<Value, String> {
    let between = if c.params.len() > 1 { c.text(1)? } else { ", ".to_owned() };
    let one = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let parts: Vec<String> = match c.value(0) {
        Value::Array(list) => list.iter().map(one).collect(),
        Value::Object(map) => map.keys().cloned().collect(),
        other => return Err(format!("takes a list, and got {}", type_name(other))),
    };
    Ok(parts.join(&between).into())
}

/// How many entries a list or a map has, or characters a text; nothing has none.
fn len(c: &Call) -> Result<Value, String> {
    match c.value(0) {
        Value::Null => Ok(0.into()),
        Value::Array(list) => Ok(list.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        Value::String(text) => Ok(text.chars().count().into()),
        other => Err(format!("takes a list, a map or text, and got {}", type_name(other))),
    }
}

/// The first path as seen from the folder of the second; of the output, if there is no second.
fn relative(c: &Call) -> Result<Value, String> {
    let to = c.path(0)?;
    let from = if c.params.len() > 1 { c.path(1)? } else { RelPath::new(c.output).map_err(|e| e.to_string())? };
    let to: Vec<&str> = to.as_str().split('/').collect();
    let from: Vec<&str> = from.dir().split('/').filter(|part| !part.is_empty()).collect();
    let shared = to.iter().zip(&from).take_while(|(a, b)| a == b).count().min(to.len() - 1);
    let up = std::iter::repeat_n("..", from.len() - shared);
    Ok(up.chain(to[shared..].iter().copied()).collect::<Vec<_>>().join("/").into())
}

/// Whether a list holds a value, a map a key, or a text another.
fn contains(c: &Call) -> Result<Value, String> {
    match c.value(0) {
        Value::Array(list) => Ok(list.contains(c.value(1)).into()),
        Value::Object(map) => Ok(map.contains_key(&c.text(1)?).into()),
        Value::String(text) => Ok(text.contains(&c.text(1)?).into()),
        other => Err(format!("takes a list, a map or text, and got {}", type_name(other))),
    }
}

/// `{{#unique_lines}}…{{/unique_lines}}`: what is rendered inside, without the lines that stand above already.
fn unique_lines_block<'reg, 'rc>(
    h: &Helper<'rc>,
    r: &'reg Handlebars<'reg>,
    ctx: &'rc Context,
    rc: &mut RenderContext<'reg, 'rc>,
    out: &mut dyn Output,
) -> HelperResult {
    let Some(block) = h.template() else { return Ok(()) };
    let mut inside = StringOutput::new();
    block.render(r, ctx, rc, &mut inside)?;
    out.write(&unique_lines(&inside.into_string()?))?;
    Ok(())
}

/// Every line once. Blank lines and comments (`#`) part and explain the others: they may come again, but not twice in a row,
/// and no blank line is first or last. Spaces at a line's end, and how it ends, make no difference.
fn unique_lines(text: &str) -> String {
    let mut seen = HashSet::new();
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let parts = line.is_empty() || line.starts_with('#');
        let is_new = if parts { kept.last() != Some(&line) } else { seen.insert(line) };
        if is_new {
            kept.push(line);
        }
    }
    while kept.last().is_some_and(|line| line.is_empty()) {
        kept.pop();
    }
    kept.iter().skip_while(|line| line.is_empty()).flat_map(|line| [*line, "\n"]).collect()
}

struct Registered {
    name: &'static str,
    least: usize,
    most: usize,
    function: Function,
}

impl HelperDef for Registered {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let count = h.params().len();
        if !(self.least..=self.most).contains(&count) {
            let wanted = if self.least == self.most {
                self.least.to_string()
            } else {
                format!("{} to {}", self.least, self.most)
            };
            return Err(wrong_use(format!("`{}` takes {wanted} parameters, and got {count}", self.name)));
        }
        let mut params = Vec::with_capacity(count);
        for param in h.params() {
            let missing = param.is_value_missing();
            if missing && self.name != "default" && registry.strict_mode() {
                return Err(RenderError::strict_error(param.relative_path()));
            }
            // Where variables may be missing, they are empty.
            let empty = (!registry.strict_mode() && !TAKES_ANYTHING.contains(&self.name)).then(|| Value::from(""));
            params.push(if missing { empty } else { Some(param.value().clone()) });
        }
        let indent = h.hash_get("indent").and_then(|v| v.value().as_u64()).and_then(|n| usize::try_from(n).ok());
        let output = ctx.data().get("output").and_then(Value::as_str).unwrap_or_default();
        let value = (self.function)(&Call { params, indent, output });
        value.map(ScopedJson::Derived).map_err(|e| wrong_use(format!("`{}` {e}", self.name)))
    }
}

pub(super) fn wrong_use(what: String) -> RenderError {
    RenderErrorReason::Other(what).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::super::Template;
    use super::names;

    fn render(text: &str) -> String {
        let scope = json!({
            "s": "OrderLine item", "list": ["a", 1], "map": {"k": [1, {"x": "y"}]}, "text": "a\nb\n\nc", "word": "category",
            "output": "docs/models/a.md", "path": "docs/spec/shop.tar.gz", "empty": "", "n": 2
        });
        Template::new(text, &[]).unwrap().render(&scope).unwrap_or_else(|e| format!("error: {}", e.message()))
    }

    #[test]
    fn every_helper_is_in_the_reference() {
        let (_, after) = include_str!("../../docs/genfile.md").split_once("\n## Helpers\n").expect("the section");
        let section = after.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter_map(|row| row.strip_prefix("| ")?.split(" | ").next());
        let codes = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let named: HashSet<&str> = codes.filter_map(|code| code.trim_start_matches('#').split(' ').next()).collect();
        let missing: Vec<&str> = names().into_iter().filter(|name| !named.contains(name)).collect();
        assert!(missing.is_empty(), "docs/genfile.md lacks the helpers {missing:?}");
    }

    #[test]
    fn each_helper_does_what_the_reference_says() {
        for (text, want) in [
            ("{{snake_case s}}", "order_line_item"),
            ("{{pascal_case s}}", "OrderLineItem"),
            ("{{camel_case s}}", "orderLineItem"),
            ("{{kebab_case s}}", "order-line-item"),
            ("{{upper word}} {{lower s}}", "CATEGORY orderline item"),
            ("{{plural word}} {{singular \"boxes\"}}", "categories box"),
            ("{{json map}}", r#"{"k":[1,{"x":"y"}]}"#),
            ("{{json list indent=2}}", "[\n  \"a\",\n  1\n]"),
            ("{{yaml list}}", "- a\n- 1"),
            ("{{indent text 2}}", "a\n  b\n\n  c"),
            ("{{join list}} {{join list \"-\"}}", "a, 1 a-1"),
            ("{{default empty \"d\"}} {{default word \"d\"}} {{default map.nope \"d\"}}", "d category d"),
            ("{{dirname path}} {{basename path}} {{stem path}}", "docs/spec shop.tar.gz shop.tar"),
            ("{{relative path}}", "../spec/shop.tar.gz"),
            ("{{relative \"docs/models/b.md\"}}", "b.md"),
            ("{{relative \"a.txt\" \"x/y/z.txt\"}}", "../../a.txt"),
            ("{{#if (eq word \"category\")}}y{{/if}}{{#if (ne n 2)}}n{{/if}}", "y"),
            ("{{len list}} {{len map}} {{len \"ü€\"}} {{len empty}}", "2 1 2 0"),
            ("{{len n}}", "error: `len` takes a list, a map or text, and got a number"),
            ("{{contains list \"a\"}} {{contains list 1}} {{contains list \"1\"}}", "true true false"),
            ("{{contains map \"k\"}}{{#if (not (contains map \"x\"))}} no{{/if}}", "true no"),
            ("{{contains word \"cat\"}} {{contains word \"x\"}}", "true false"),
            ("{{contains n \"c\"}}", "error: `contains` takes a list, a map or text, and got a number"),
            ("{{#if (eq n 3)}}{{fail \"no\"}}{{/if}}fine", "fine"),
            ("{{fail \"two is too many\"}}", "error: `fail` says: two is too many"),
            ("{{#if (and word (not empty))}}y{{/if}}", "y"),
            ("{{upper list}}", "error: `upper` takes text, and got a list"),
            ("{{join word}}", "error: `join` takes a list, and got text"),
            ("{{upper}}", "error: `upper` takes 1 parameters, and got 0"),
            ("{{log word}}", "error: unknown helper `log`"),
        ] {
            assert_eq!(render(text), want, "{text}");
        }
    }

    #[test]
    fn a_line_that_came_before_is_dropped() {
        for (inside, want) in [
            ("", ""),
            ("a\nb\na\n", "a\nb\n"),
            ("a\r\na  \nb", "a\nb\n"),
            ("# x\na\n\n# x\nb\n", "# x\na\n\n# x\nb\n"),
            ("# x\n# x\n\n\na\n", "# x\n\na\n"),
            ("a\n\na\n\nb\n", "a\n\nb\n"),
            ("\na\n\n\n", "a\n"),
            ("{{#each list}}{{this}}\n{{/each}}{{word}}\na\n", "a\n1\ncategory\n"),
            ("{{#if nope}}x{{/if}}", "error: unknown variable `nope`"),
            ("{{nope}}", "error: unknown variable `nope`"),
        ] {
            assert_eq!(render(&format!("{{{{#unique_lines}}}}\n{inside}{{{{/unique_lines}}}}")), want, "{inside}");
        }
    }
}
