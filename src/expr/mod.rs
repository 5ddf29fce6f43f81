//! Handlebars, strict: the one expression language of Genfile strings, templates and prompts.
//!
//! Pure: text and values in, text out. Every helper is registered in `helpers` or, for prompts, in `prompting`; what
//! `{{context}}` writes in a prompt is in `placed`.
//!
//! Unknown variables are errors, in `{{#if}}` too where the name is one that genmake gives (`vars.x`, `inputs.x`); below
//! `item.value`, `env` and other data a name may be missing in `{{#if}}` and `{{default}}`, because data has optional fields.
//!
//! A prompt file by itself is rendered with Dotprompt's own, lenient semantics: see [`Template::lenient`].

mod helpers;
mod lenient;
mod limits;
mod marks;
mod names;
mod placed;
mod prompting;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use handlebars::{Handlebars, RenderError, RenderErrorReason, Template as Compiled, TemplateErrorReason};
use serde_json::{Value, json};

use crate::error::{Code, Error, Place, Source, did_you_mean, line_column, offset};

pub use marks::{MARK, Mark, Piece, pieces};

/// The partials that ship with genmake. None names another.
const BUILTIN: [(&str, &str); 6] = [
    ("generated", include_str!("../../templates/partials/generated.hbs")),
    ("generated-pack", include_str!("../../templates/partials/generated-pack.hbs")),
    ("gitignore-go", include_str!("../../templates/partials/gitignore-go.hbs")),
    ("gitignore-node", include_str!("../../templates/partials/gitignore-node.hbs")),
    ("gitignore-python", include_str!("../../templates/partials/gitignore-python.hbs")),
    ("gitignore-rust", include_str!("../../templates/partials/gitignore-rust.hbs")),
];

/// Why an expression or template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExprError {
    /// What is wrong.
    pub why: Why,
    /// The partial in which it is wrong; `None` in the text itself.
    pub partial: Option<String>,
    /// Line and column, from 1, where known.
    pub at: Option<(usize, usize)>,
}

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It does not parse: what the parser says.
    Syntax(String),
    /// A variable that is not there.
    Variable(String),
    /// A helper that is not there.
    Helper(String),
    /// A partial that is not there.
    Partial(String),
    /// A helper was used wrongly: how.
    Use(String),
}

impl ExprError {
    /// What is wrong, in words.
    pub fn message(&self) -> String {
        match &self.why {
            Why::Syntax(what) => format!("not a Handlebars expression: {what}"),
            Why::Variable(name) => format!("unknown variable `{name}`"),
            Why::Helper(name) => format!("unknown helper `{name}`"),
            Why::Partial(name) => format!("unknown partial `{name}`"),
            Why::Use(what) => what.clone(),
        }
    }

    /// As an error, still without a place.
    pub fn to_error(&self) -> Error {
        let code = match self.why {
            Why::Syntax(_) | Why::Use(_) => Code::BadExpression,
            Why::Variable(_) | Why::Helper(_) | Why::Partial(_) => Code::Undefined,
        };
        let message = match &self.partial {
            Some(partial) => format!("in partial `{partial}`: {}", self.message()),
            None => self.message(),
        };
        let error = Error::new(code, message);
        match &self.why {
            Why::Helper(name) if prompting::NAMES.contains(&name.as_str()) => {
                error.hint(format!("`{name}` is a helper of prompt files"))
            }
            Why::Helper(name) => error.hint_if(did_you_mean(name, helpers::names())),
            Why::Partial(name) => {
                error.hint(format!("a partial is a file `{name}.hbs` beside this one, or `_{name}.prompt`"))
            }
            Why::Syntax(_) => {
                error.hint("an expression is `{{NAME}}` or `{{HELPER NAME}}`; a literal `{{` is written `\\{{`")
            }
            _ => error,
        }
    }

    /// As an error that points into the file or partial that it stands in. `lines_before` of the file come before the template.
    pub fn located(&self, file: &Arc<Source>, lines_before: usize, partials: &HashMap<String, Arc<Source>>) -> Error {
        let (source, lines) = match self.partial.as_ref().and_then(|name| partials.get(name)) {
            Some(partial) => (partial, 0),
            None => (file, lines_before),
        };
        let Some((line, column)) = self.at else { return self.to_error() };
        let start = source.offset(line + lines, column);
        let rest = &source.text[start.min(source.text.len())..];
        let end = rest.find("}}").map_or(0, |end| end + 2).min(rest.find('\n').unwrap_or(rest.len()));
        self.to_error().at(Place { source: Arc::clone(source), span: start..start + end })
    }
}

/// A text with expressions, compiled once and rendered for each task.
pub struct Template {
    /// `None` where the text holds no expression at all.
    registry: Option<Handlebars<'static>>,
    text: String,
    /// The names that genmake must give, wherever the text uses them: also in a branch that is not taken.
    names: Vec<names::Use>,
    /// The first parts of all names that it or a partial of it uses.
    roots: HashSet<String>,
}

/// What a text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Template,
    Prompt,
    Lenient,
}

/// The name that a text goes by in its own registry; no partial can have it.
const MAIN: &str = "\u{0}main";

impl Template {
    /// Compiles `text` with the partials that stand beside it, as (name, text).
    ///
    /// # Errors
    /// The first place that does not parse.
    pub fn new(text: &str, partials: &[(String, String)]) -> Result<Template, ExprError> {
        Template::compile(text, partials, Mode::Template)
    }

    /// As [`Template::new`], for the body of a prompt in a rule, which also has the helpers of prompts. They leave marks, which
    /// [`pieces`] takes out.
    ///
    /// # Errors
    /// The first place that does not parse.
    pub fn prompt(text: &str, partials: &[(String, String)]) -> Result<Template, ExprError> {
        Template::compile(text, partials, Mode::Prompt)
    }

    /// As [`Template::new`], for a command: the values in it are quoted for the shell, `{{{x}}}` as it is.
    ///
    /// # Errors
    /// The first place that does not parse.
    pub fn command(text: &str) -> Result<Template, ExprError> {
        let mut template = Template::compile(text, &[], Mode::Template)?;
        if let Some(registry) = &mut template.registry {
            registry.register_escape_fn(quoted);
        }
        Ok(template)
    }

    /// As [`Template::prompt`], with the semantics of Dotprompt (<https://google.github.io/dotprompt/>): unknown variables are
    /// empty, `@x` is looked up in the context. For [`Template::render_lenient`].
    ///
    /// # Errors
    /// The first place that does not parse.
    pub fn lenient(text: &str, partials: &[(String, String)]) -> Result<Template, ExprError> {
        Template::compile(text, partials, Mode::Lenient)
    }

    fn compile(text: &str, partials: &[(String, String)], mode: Mode) -> Result<Template, ExprError> {
        if !text.contains("{{") && !text.contains('\\') {
            return Ok(Template { registry: None, text: text.to_owned(), names: Vec::new(), roots: HashSet::new() });
        }
        let mut registry = Handlebars::new();
        registry.register_escape_fn(handlebars::no_escape);
        registry.set_strict_mode(mode != Mode::Lenient);
        helpers::register(&mut registry);
        if mode != Mode::Template {
            prompting::register(&mut registry);
        }
        match mode {
            Mode::Template => {}
            Mode::Prompt => placed::register(&mut registry),
            Mode::Lenient => lenient::register(&mut registry),
        }
        let main = parse(text, None)?;
        register_partials(&mut registry, &main, partials, mode)?;
        let (main, names) = match mode {
            Mode::Lenient => (lenient::main(main), Vec::new()),
            _ => {
                let names = names::used(&main, &|name| helpers::names().contains(&name));
                (main, names)
            }
        };
        registry.register_template(MAIN, main);
        let roots = names::roots(&registry, MAIN);
        Ok(Template { registry: Some(registry), text: text.to_owned(), names, roots })
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it or a partial that it includes uses the name `root`, such as `item`, whatever branch is taken.
    pub fn uses(&self, root: &str) -> bool {
        self.roots.contains(root)
    }

    /// Renders with the names of `scope`, a map.
    ///
    /// # Errors
    /// The first expression that cannot be rendered.
    pub fn render(&self, scope: &Value) -> Result<String, ExprError> {
        let Some(registry) = &self.registry else { return Ok(self.text.clone()) };
        if let Some(missing) = self.names.iter().find(|name| !name.is_given(scope)) {
            return Err(ExprError { why: Why::Variable(missing.raw.clone()), partial: None, at: Some(missing.at) });
        }
        if let Some(map) = self.names.iter().find(|name| name.writes_a_map(scope)) {
            let what = format!("`{0}` is a map; `{{{{json {0}}}}}` and `{{{{yaml {0}}}}}` write it", map.raw);
            return Err(ExprError { why: Why::Use(what), partial: None, at: Some(map.at) });
        }
        registry.render(MAIN, scope).map_err(|e| render_error(&e))
    }

    /// Renders a [`Template::lenient`] with the variables of `input`, and with `@x` for what `context` has.
    ///
    /// # Errors
    /// The first expression that cannot be rendered, such as an unknown helper.
    pub fn render_lenient(&self, input: &Value, context: &Value) -> Result<String, ExprError> {
        self.render(&json!({"input": input, "context": context}))
    }
}

/// Registers the partials that `main` includes, directly or not. Only those must parse: other templates stand in the same folder.
fn register_partials(
    registry: &mut Handlebars<'static>,
    main: &Compiled,
    partials: &[(String, String)],
    mode: Mode,
) -> Result<(), ExprError> {
    let mut calls: HashMap<String, Vec<String>> = HashMap::new();
    let mut queue = names::partials(main).map_err(|why| ExprError { why, partial: None, at: None })?;
    while let Some(name) = queue.pop() {
        let of_project = partials.iter().find(|(other, _)| *other == name).map(|(_, text)| text.as_str());
        let builtin = || BUILTIN.iter().find(|(other, _)| *other == name).map(|(_, text)| *text);
        if calls.contains_key(&name) {
            continue;
        }
        // One of the project's own takes the place of one that ships; one that is not there is found when it is rendered.
        let Some(text) = of_project.or_else(builtin) else { continue };
        let mut compiled = parse(text, Some(&name))?;
        let called = names::partials(&compiled).map_err(|why| in_partial(why, &name))?;
        queue.extend(called.iter().cloned());
        if mode == Mode::Lenient {
            lenient::turn(&mut compiled);
        }
        registry.register_template(&name, compiled);
        calls.insert(name, called);
    }
    match names::recursive(&calls) {
        Some(name) => Err(in_partial(Why::Use(format!("partial `{name}` includes itself")), name)),
        None => Ok(()),
    }
}

/// A value as one word of a POSIX shell. What needs no quotes gets none, so that `"{{x}}"` is read as a person would.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', "'\\''"))
}

fn in_partial(why: Why, name: &str) -> ExprError {
    ExprError { why, partial: Some(name.to_owned()), at: None }
}

/// Compiles a text alone, or a partial of that name.
fn parse(text: &str, partial: Option<&str>) -> Result<Compiled, ExprError> {
    limits::within(text).map_err(|(what, at)| {
        let at = Some(line_column(text, at));
        ExprError { why: Why::Use(what), partial: partial.map(str::to_owned), at }
    })?;
    Compiled::compile_with_name(text, partial.unwrap_or(MAIN).to_owned()).map_err(|e| {
        let what = match e.reason() {
            // It lists the rules of the library's grammar.
            TemplateErrorReason::InvalidSyntax(what) if what.contains("expected") => match is_end(text, e.pos()) {
                true => "the text ends inside of a tag, or of a block that is not closed".to_owned(),
                false => "this is no tag".to_owned(),
            },
            // The reason goes on with a drawing of its own place; ours is shown by the diagnostic.
            reason => reason.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        ExprError { why: Why::Syntax(what), partial: partial.map(str::to_owned), at: e.pos() }
    })
}

/// Whether nothing stands behind a line and column, counted from 1.
fn is_end(text: &str, at: Option<(usize, usize)>) -> bool {
    at.is_some_and(|(line, column)| text[offset(text, line, column).min(text.len())..].trim().is_empty())
}

fn render_error(error: &RenderError) -> ExprError {
    let why = match error.reason() {
        RenderErrorReason::MissingVariable(name) => match name.as_deref() {
            // What is computed has no name.
            None | Some("") => Why::Use("`lookup` finds nothing: there is no such key or index".to_owned()),
            Some(name) => Why::Variable(name.to_owned()),
        },
        RenderErrorReason::HelperNotFound(name) => Why::Helper(name.clone()),
        RenderErrorReason::PartialNotFound(name) => Why::Partial(name.clone()),
        RenderErrorReason::InvalidJsonIndex(name) => Why::Variable(name.clone()),
        RenderErrorReason::NestedError(inner) => Why::Use(inner.to_string()),
        other => Why::Use(other.to_string()),
    };
    ExprError {
        why,
        partial: error.template_name.clone().filter(|name| name != MAIN),
        at: error.line_no.zip(error.column_no),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(text: &str, scope: Value) -> Result<String, ExprError> {
        Template::new(text, &[("part".to_owned(), "<{{vars.a}}>".to_owned())])?.render(&scope)
    }

    fn fails(text: &str, scope: Value) -> Why {
        render(text, scope).unwrap_err().why
    }

    #[test]
    fn unknown_names_are_errors_with_their_place() {
        let scope = || json!({"vars": {"a": "x"}, "inputs": {}, "item": {"path": "a.md", "value": {"b": 1}}});
        assert_eq!(render("{{vars.a}} {{> part}}", scope()).unwrap(), "x <x>");
        let error = render("one\n  {{vars.nope}}", scope()).unwrap_err();
        assert_eq!((error.why, error.at), (Why::Variable("vars.nope".into()), Some((2, 3))));
        assert_eq!(fails("{{snake_cas vars.a}}", scope()), Why::Helper("snake_cas".into()));
        assert_eq!(fails("{{> nope}}", scope()), Why::Partial("nope".into()));
        assert!(matches!(fails("{{vars.a", scope()), Why::Syntax(_)));
        assert_eq!(fails("{{#if vars.nope}}x{{/if}}", scope()), Why::Variable("vars.nope".into()));
        assert_eq!(fails("{{#unless nope}}x{{/unless}}", scope()), Why::Variable("nope".into()));
        assert_eq!(fails("{{#if inputs.nope}}x{{/if}}", scope()), Why::Variable("inputs.nope".into()));
        assert_eq!(fails("{{#if item.nope}}x{{/if}}", scope()), Why::Variable("item.nope".into()));
        assert_eq!(fails("{{snake_case vars.nope}}", scope()), Why::Variable("vars.nope".into()));
        assert_eq!(fails("{{#each vars.nope}}x{{/each}}", scope()), Why::Variable("vars.nope".into()));
        assert_eq!(fails("{{#each vars.nope}}x{{else}}y{{/each}}", scope()), Why::Variable("vars.nope".into()));
        assert_eq!(fails("{{#with vars.nope}}x{{else}}y{{/with}}", scope()), Why::Variable("vars.nope".into()));
    }

    #[test]
    fn a_variable_that_is_not_set_may_be_asked_about() {
        let scope = || json!({"env": {"SET": "x", "UNSET": null}});
        assert_eq!(render("{{env.SET}} {{default env.UNSET \"d\"}}", scope()).unwrap(), "x d");
        assert_eq!(render("{{#if env.UNSET}}a{{else}}b{{/if}}", scope()).unwrap(), "b");
        assert_eq!(fails("{{env.UNSET}}", scope()), Why::Variable("env.UNSET".into()));
        assert_eq!(fails("{{upper env.UNSET}}", scope()), Why::Variable("env.UNSET".into()));
        assert_eq!(fails("{{#if env.TYPO}}a{{/if}}", scope()), Why::Variable("env.TYPO".into()));
    }

    #[test]
    fn what_does_not_parse_is_said_in_words() {
        let message = |text: &str| render(text, json!({"vars": {}})).unwrap_err().to_error();
        let ends = "not a Handlebars expression: the text ends inside of a tag, or of a block that is not closed";
        for text in ["{{#if x}}", "a\n{{#if x}}b\n", "{{x", "{{#if (eq a"] {
            assert_eq!(message(text).message, ends, "{text}");
        }
        for text in ["{{vars..x}} b", "{{/if}}", "{{else}}", "{{#if (eq vars.a}}x{{/if}}"] {
            assert_eq!(message(text).message, "not a Handlebars expression: this is no tag", "{text}");
        }
        let deep = format!("{}{}", "{{#if vars}}".repeat(3000), "{{/if}}".repeat(3000));
        assert!(message(&deep).message.contains("100 deep"), "{}", message(&deep).message);
        assert!(message("{{#if a}}{{/each}}").message.contains("\"each\" is closing"));
        assert_eq!(message("{{> nope}}").hints, ["a partial is a file `nope.hbs` beside this one, or `_nope.prompt`"]);
        assert_eq!(message("{{role \"user\"}}").hints, ["`role` is a helper of prompt files"]);
        assert_eq!(message("{{lookup vars \"x\"}}").message, "`lookup` finds nothing: there is no such key or index");
    }

    #[test]
    fn a_map_is_not_written_as_it_is() {
        let scope = || json!({"item": {"path": "a", "value": {"k": 1}}, "vars": {"list": [1]}});
        let why = fails("x {{item.value}}", scope());
        assert_eq!(
            why,
            Why::Use("`item.value` is a map; `{{json item.value}}` and `{{yaml item.value}}` write it".into())
        );
        assert_eq!(render("{{json item.value}}", scope()).unwrap(), r#"{"k":1}"#);
        assert_eq!(render("{{#if (eq 1 2)}}{{item.value}}{{/if}}", scope()).unwrap(), "");
    }

    #[test]
    fn data_may_lack_a_field_where_it_is_asked_about() {
        let scope = || json!({"item": {"path": "a", "value": {"list": [{"on": true}, {}]}}, "vars": {"v": 1}});
        assert_eq!(render("{{#if item.value.nope}}x{{else}}y{{/if}}", scope()).unwrap(), "y");
        assert_eq!(render("{{#each item.value.list}}{{#if on}}1{{else}}0{{/if}}{{/each}}", scope()).unwrap(), "10");
        assert_eq!(render("{{default item.value.nope \"d\"}}", scope()).unwrap(), "d");
        assert_eq!(render("{{#each item.value.list}}{{@root.vars.v}}{{/each}}", scope()).unwrap(), "11");
        assert_eq!(fails("{{item.value.nope}}", scope()), Why::Variable("item.value.nope".into()));
        assert_eq!(fails("{{#each item.value.list}}{{vars.v}}{{/each}}", scope()), Why::Variable("vars.v".into()));
    }

    #[test]
    fn the_partials_that_ship_render_and_can_be_replaced() {
        let scope = || json!({"rule": "r", "output": "a.txt", "vars": {}});
        for (name, _) in BUILTIN {
            let text = render(&format!("{{{{> {name} comment=\"#\" pack=\"p\"}}}}\n"), scope()).unwrap();
            assert!(text.ends_with('\n') && !text.contains("{{"), "{name}: {text}");
        }
        let own = [("generated".to_owned(), "own".to_owned())];
        assert_eq!(Template::new("{{> generated}}", &own).unwrap().render(&scope()).unwrap(), "own");
    }

    #[test]
    fn partials_that_never_end_are_refused() {
        let compile = |a: &str, b: &str| {
            let partials = [("a".to_owned(), a.to_owned()), ("b".to_owned(), b.to_owned())];
            Template::new("{{> a}}", &partials).map(drop).map_err(|e| e.message())
        };
        assert_eq!(compile("{{> b}}", "x"), Ok(()));
        assert!(compile("{{> b}}", "{{#if vars}}{{> a}}{{/if}}").unwrap_err().contains("includes itself"));
        assert!(compile("{{> a}}", "x").unwrap_err().contains("includes itself"));
        assert_eq!(compile("x", "{{> b}}"), Ok(()), "nobody includes it");
        assert!(compile("{{> (lookup vars \"x\")}}", "x").unwrap_err().contains("by its name"));
        assert!(compile("{{#*inline \"i\"}}{{> i}}{{/inline}}", "x").unwrap_err().contains("inline"));
    }

    #[test]
    fn values_in_commands_are_words() {
        let run = |value: &str| Template::command("cat {{v}}").unwrap().render(&json!({"v": value})).unwrap();
        assert_eq!(run("docs/a-b.md"), "cat docs/a-b.md");
        assert_eq!(run("a b; rm -rf $HOME"), "cat 'a b; rm -rf $HOME'");
        assert_eq!(run("it's"), r"cat 'it'\''s'");
        assert_eq!(run(""), "cat ''");
        assert_eq!(run("-n\nx"), "cat '-n\nx'");
        let raw = Template::command("{{{v}}} {{join l}}").unwrap().render(&json!({"v": "a b", "l": ["c", "d"]}));
        assert_eq!(raw.unwrap(), "a b 'c, d'");
    }

    #[test]
    fn nothing_is_escaped() {
        assert_eq!(render("{{vars.a}}", json!({"vars": {"a": "<&\"'>"}})).unwrap(), "<&\"'>");
    }
}
