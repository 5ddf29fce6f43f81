//! `{{context}}` in a prompt: the value of that name as JSON, where Handlebars would write `[object]`.

use handlebars::{Context, Handlebars, Helper, HelperResult, Output, RenderContext, RenderError};
use serde_json::Value;

/// The name of what a prompt is shown of a specification.
const NAME: &str = "context";

/// The line that goes with it where something had to be left out, else empty.
const LEFT_OUT: &str = "context_left_out";

pub(super) fn register(registry: &mut Handlebars<'static>) {
    for name in [NAME.to_owned(), format!("@root.{NAME}")] {
        registry.register_helper(&name, Box::new(placed));
    }
}

/// Writes what a plain variable of this name is, seen from the block that it stands in.
fn placed<'reg, 'rc>(
    h: &Helper<'rc>,
    _: &'reg Handlebars<'reg>,
    ctx: &'rc Context,
    rc: &mut RenderContext<'reg, 'rc>,
    out: &mut dyn Output,
) -> HelperResult {
    let found = rc.evaluate(ctx, h.name())?;
    if found.is_missing() {
        return Err(RenderError::strict_error(Some(&h.name().to_owned())));
    }
    match found.as_json() {
        Value::String(text) => out.write(text)?,
        value => out.write(&value.to_string())?,
    }
    // A field of data may have the same name; the line goes with ours.
    let data = ctx.data();
    if let Some(Value::String(line)) = data.get(LEFT_OUT)
        && !line.is_empty()
        && data.get(NAME) == Some(found.as_json())
    {
        out.write("\n")?;
        out.write(line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Template, Why};
    use serde_json::{Value, json};

    fn render(text: &str, scope: &Value) -> Result<String, Why> {
        let part = ("part".to_owned(), "<{{context}}>".to_owned());
        Template::prompt(text, &[part]).and_then(|template| template.render(scope)).map_err(|e| e.why)
    }

    #[test]
    fn it_is_json_on_one_line() {
        let scope =
            json!({"context": {"B": {"x": [1, "<"]}, "A": null}, "list": [{"context": "own"}, {"context": [2]}]});
        let json = r#"{"B":{"x":[1,"<"]},"A":null}"#;
        assert_eq!(render("{{context}}", &scope).unwrap(), json);
        assert_eq!(render("{{> part}} {{{context}}}", &scope).unwrap(), format!("<{json}> {json}"));
        assert_eq!(render("{{#each context}}{{@key}};{{/each}}", &scope).unwrap(), "B;A;");
        assert_eq!(render("{{#each list}}{{context}} {{/each}}", &scope).unwrap(), "own [2] ");
        assert_eq!(render("{{#each list}}{{@root.context}}{{/each}}", &scope).unwrap(), json.repeat(2));
        assert_eq!(render("{{json context.B}}", &scope).unwrap(), r#"{"x":[1,"<"]}"#);
    }

    #[test]
    fn what_was_left_out_is_said_below() {
        let scope = json!({"context": {"A": 1}, "context_left_out": "Not shown: B.", "list": [{"context": 1}]});
        assert_eq!(render("{{context}}.", &scope).unwrap(), "{\"A\":1}\nNot shown: B..");
        assert_eq!(render("{{#each list}}{{context}}{{/each}}", &scope).unwrap(), "1");
    }

    #[test]
    fn without_it_the_name_is_unknown() {
        for text in ["{{context}}", "{{#each context}}x{{/each}}", "{{#if 1}}{{@root.context}}{{/if}}"] {
            assert!(matches!(render(text, &json!({"vars": {}})), Err(Why::Variable(_))), "{text}");
        }
        assert!(matches!(render("{{> part}}", &json!({})), Err(Why::Variable(_))));
    }

    #[test]
    fn a_template_knows_what_it_uses() {
        let uses = |text: &str| {
            let part = |name: &str, text: &str| (name.to_owned(), text.to_owned());
            let partials =
                [part("inner", "{{context}}"), part("outer", "{{> inner}}"), part("other", "{{vars.context}}")];
            Template::prompt(text, &partials).unwrap().uses("context")
        };
        for text in [
            "{{context}}",
            "{{#if (len context)}}x{{/if}}",
            "{{> outer}}",
            "{{#each item.list}}{{@root.context.A}}{{/each}}",
            "{{#if no}}{{json context}}{{/if}}",
        ] {
            assert!(uses(text), "{text}");
        }
        for text in
            ["context", "{{vars.context}}", "{{> other}}", "{{#each item.list}}{{context}}{{/each}}", "\\{{context}}"]
        {
            assert!(!uses(text), "{text}");
        }
    }
}
