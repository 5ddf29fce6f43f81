//! `search`: the items of an embed rule that are nearest to a text.

use serde_json::{Value, json};

use super::args::{Format, Search};
use super::{Context, Exit, targets};
use crate::engine::Near;
use crate::error::{Code, Error, Errors, did_you_mean};
use crate::manifest::Recipe;
use crate::plan::Verdict;
use crate::project::Project;
use crate::provider::Notice;
use crate::ui;

pub(super) fn run(context: &Context, args: &Search) -> Result<Exit, Errors> {
    if args.text.trim().is_empty() {
        let error = Error::new(Code::Usage, "there is nothing to look for");
        return Err(error.hint("`genmake search \"what it is about\" RULE`").into());
    }
    let location = context.location()?;
    let project = context.with_provider(Project::open_at(&location, &context.env)?)?;
    let graph = project.graph();
    let embeds = |recipe: &Option<Recipe>| matches!(recipe, Some(Recipe::Embed(_)));
    let named = graph.manifest.rules.iter().position(|rule| rule.name == args.rule && embeds(&rule.recipe));
    let Some(rule) = named else {
        let known = graph.manifest.rules.iter().filter(|rule| embeds(&rule.recipe)).map(|rule| rule.name.as_str());
        let known: Vec<&str> = known.collect();
        let error = Error::new(Code::UnknownRule, format!("no rule `{}` makes vectors", args.rule));
        let named = format!("those that do: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") });
        return Err(error.hint_if(did_you_mean(&args.rule, known.iter().copied())).hint(named).into());
    };
    let targets = targets(std::slice::from_ref(&args.rule), &location)?;
    let planned = project.plan_as(&targets, context.wish(), &context.jobs)?;
    let tasks: Vec<usize> =
        (0..planned.graph().tasks.len()).filter(|task| planned.graph().tasks[*task].rule == rule).collect();
    let is_fresh = |task: &usize| match planned.plan.tasks[*task].as_ref() {
        Some(Ok(judged)) => matches!(judged.verdict, Verdict::Fresh),
        _ => false,
    };
    let tell = |notice: Notice| match notice {
        Notice::Starting(command) => ui::say(&format!("starting `{command}`")),
        Notice::Said(line) => ui::say(&line),
        _ => {}
    };
    let near = planned.search(&tasks, &args.text, args.most, &context.run_options()?, &tell)?;
    if !tasks.iter().all(is_fresh) {
        ui::say(&format!("`{0}` is not up to date: `genmake {0}` brings it there", args.rule));
    }
    match context.options.format {
        Format::Json => {
            let results: Vec<Value> = near.iter().map(to_json).collect();
            ui::out(&format!(
                "{:#}\n",
                json!({"version": 1, "text": args.text, "rule": args.rule, "results": results})
            ));
        }
        _ => near.iter().for_each(|near| ui::out(&ui::sanitize(&to_text(near)))),
    }
    Ok(Exit(0))
}

fn to_json(near: &Near) -> Value {
    let mut columns = near.columns.clone();
    if let Some(columns) = columns.as_object_mut() {
        columns.retain(|name, _| !matches!(name.as_str(), "digest" | "model"));
        columns.insert("score".to_owned(), ((f64::from(near.score) * 10_000.0).round() / 10_000.0).into());
    }
    columns
}

fn to_text(near: &Near) -> String {
    let of = |name: &str| near.columns.get(name).and_then(Value::as_str);
    let line = near.columns.get("line").and_then(Value::as_u64).map(|line| format!(":{line}")).unwrap_or_default();
    let place = match of("path") {
        Some(path) => format!("{path}{line}"),
        None => of("id").unwrap_or_default().to_owned(),
    };
    let name = of("name").map(|name| format!("  {name}")).unwrap_or_default();
    let kind = of("kind").map(|kind| format!(" ({kind})")).unwrap_or_default();
    format!("{:>6.3}  {place}{name}{kind}\n", near.score)
}
