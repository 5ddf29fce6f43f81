//! `prompt`: what would be sent for a target; a prompt file by itself is in `prompt_file`. Sends nothing.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::args::{Format, Prompt};
use super::{Context, Exit, prompt_file, targets};
use crate::batch::Batch;
use crate::context::Note;
use crate::error::{Code, Error, Errors};
use crate::graph::TaskId;
use crate::llm::{Ask, Request};
use crate::manifest::Recipe;
use crate::plan::{Judged, Making, Piece, Verdict};
use crate::project::{Planned, Project};
use crate::ui;

pub(super) fn run(context: &Context, args: &Prompt) -> Result<Exit, Errors> {
    let usage = |what: &str, hint: &str| Err(Error::new(Code::Usage, what).hint(hint).into());
    match (&context.options.file, args.targets.is_empty()) {
        (Some(file), true) if args.batch => {
            usage("a prompt file by itself has no batch", &format!("`genmake prompt --file {}`", file.display()))
        }
        (Some(file), true) => prompt_file::run(context, file, args.data.as_deref()),
        (None, true) => usage(
            "`prompt` takes a target, or a prompt file with `--file`",
            "`genmake plan -v` lists all targets; `genmake prompt --file F --data JSON` renders a file",
        ),
        (_, false) if args.data.is_some() => usage(
            "`--data` goes with a prompt file by itself",
            "leave the targets out: `genmake prompt --file F --data JSON`",
        ),
        (_, false) => of_targets(context, args),
    }
}

/// A request as it is shown.
struct Shown {
    /// The outputs' paths, task by task.
    outputs: Vec<Vec<String>>,
    rule: String,
    provider: String,
    request: Request,
    /// What the messages hold of a specification, of each task that has a context.
    contexts: Vec<Note>,
}

/// What is said of a target.
enum Said {
    Request(Box<Shown>),
    /// Why there is none: the outputs, the rule, in words, and a field for programs.
    Nothing {
        outputs: Vec<String>,
        rule: String,
        why: String,
        field: (&'static str, Value),
    },
}

fn of_targets(context: &Context, args: &Prompt) -> Result<Exit, Errors> {
    let location = context.location()?;
    let targets = targets(&args.targets, &location)?;
    let project = context.assume(Project::open_at(&location, &context.env)?, &location)?;
    let selected = project.graph().select(&targets).map_err(Errors)?;
    // A batch is what a build of everything would form.
    let planned = if args.batch { &[][..] } else { &targets[..] };
    let planned = project.plan_as(planned, context.wish(), &context.jobs)?;
    let together = args.batch && !context.options.no_batch;
    let mut said = Vec::new();
    let mut shown: HashSet<TaskId> = HashSet::new();
    let mut failed = false;
    for task in selected {
        if shown.contains(&task) {
            continue;
        }
        if let Some(pieces) = of_pieces(&planned, task, together) {
            match pieces {
                Ok(pieces) => said.extend(pieces),
                Err(error) => {
                    failed = true;
                    ui::complain(&error);
                }
            }
            continue;
        }
        let batch = planned.plan.batches.iter().find(|batch| together && batch.tasks.contains(&task.into()));
        let tasks = batch.map_or_else(|| vec![task], |batch| batch.tasks.iter().map(|unit| unit.task).collect());
        match say(&planned, &tasks) {
            Ok(one) => said.push(one),
            Err(error) => {
                failed = true;
                ui::complain(&error);
            }
        }
        shown.extend(tasks);
    }
    match context.options.format {
        Format::Json => {
            let all: Vec<Value> = said.iter().map(Said::to_json).collect();
            ui::out(&format!("{:#}\n", json!({"version": 1, "prompts": all})));
        }
        _ => {
            let all: Vec<String> = said.iter().map(Said::to_text).collect();
            ui::out(&ui::sanitize(&all.join("\n")));
        }
    }
    Ok(Exit(if failed { 2 } else { 0 }))
}

/// The requests for a collection's pieces: of those that would be asked for as they would travel, or else of each by itself; none
/// for what is no collection, or waits for others.
fn of_pieces(planned: &Planned, task: TaskId, together: bool) -> Option<Result<Vec<Said>, Error>> {
    let graph = planned.graph();
    let is_waiting = matches!(planned.plan.tasks[task], Some(Ok(Judged { verdict: Verdict::Waiting(_), .. }) | Err(_)));
    if graph.tasks[task].items.is_none() || is_waiting {
        return None;
    }
    let made = match planned.making(task) {
        Ok(Making::Collection(made)) => made,
        Ok(_) => return None,
        Err(error) => return Some(Err(error)),
    };
    let of_task = |batch: &Batch| batch.tasks.iter().any(|unit| unit.task == task);
    let batches = planned.plan.batches.iter().filter(|batch| (together || made.carry.is_some()) && of_task(batch));
    let mut requests: Vec<Vec<&Piece>> =
        batches.map(|batch| batch.tasks.iter().filter_map(|unit| made.pieces.get(unit.piece?)).collect()).collect();
    if requests.is_empty() {
        requests = match made.windows.is_empty() {
            true => made.pieces.iter().map(|piece| vec![piece]).collect(),
            false => made.windows.iter().map(|window| made.pieces[window.clone()].iter().collect()).collect(),
        };
    }
    let rule = graph.rule(task);
    let provider = graph.manifest.provider_of(rule).map(|provider| provider.name.clone()).unwrap_or_default();
    let said = requests.into_iter().map(|pieces| {
        let asks: Vec<&Ask> = pieces.iter().map(|piece| &*piece.ask).collect();
        let label = |ask: &&Ask| vec![format!("{}: {}", graph.name(task), ask.piece.as_deref().unwrap_or_default())];
        Said::Request(Box::new(Shown {
            outputs: asks.iter().map(label).collect(),
            rule: rule.name.clone(),
            provider: provider.clone(),
            request: Request::new(&asks),
            contexts: asks.iter().filter_map(|ask| ask.context.clone()).collect(),
        }))
    });
    Some(Ok(said.collect()))
}

fn say(planned: &Planned, tasks: &[TaskId]) -> Result<Said, Error> {
    let graph = planned.graph();
    let outputs = |task: &TaskId| -> Vec<String> {
        graph.tasks[*task].outputs.iter().map(|output| output.path.to_string()).collect()
    };
    let rule = tasks.first().map(|task| graph.rule(*task));
    let name = rule.map(|rule| rule.name.clone()).unwrap_or_default();
    let nothing =
        |task: &TaskId, why: String, field| Said::Nothing { outputs: outputs(task), rule: name.clone(), why, field };
    let mut asks: Vec<Ask> = Vec::with_capacity(tasks.len());
    for task in tasks {
        let judged = planned.plan.tasks[*task].as_ref();
        if !graph.rule(*task).is_prompt() {
            return match &graph.tasks[*task].recipe {
                _ if matches!(graph.rule(*task).recipe, Some(Recipe::Embed(_))) => {
                    let why = "no prompt: its texts become vectors".to_owned();
                    Ok(nothing(task, why, ("embed", true.into())))
                }
                Some(recipe) => {
                    let why = format!("no prompt: rendered from the template `{recipe}`, and no model is asked");
                    Ok(nothing(task, why, ("template", recipe.as_str().into())))
                }
                None => {
                    let why = "no prompt: a command makes it, and no model is asked".to_owned();
                    Ok(nothing(task, why, ("run", true.into())))
                }
            };
        }
        match judged {
            Some(Err(error)) => return Err(error.clone()),
            Some(Ok(judged)) => {
                if let Verdict::Waiting(on) = &judged.verdict {
                    let on: Vec<&str> = on.iter().map(|task| graph.name(*task).as_str()).collect();
                    let why = format!("no prompt yet: it waits for {}", on.join(", "));
                    return Ok(nothing(task, why, ("waits_for", on.into())));
                }
            }
            None => {}
        }
        match planned.making(*task)? {
            Making::Ask(ask) => asks.push(*ask),
            Making::Bytes(_)
            | Making::Unfiltered(_)
            | Making::Command(_)
            | Making::Collection(_)
            | Making::Embedding(_) => {}
        }
    }
    let provider = rule.and_then(|rule| graph.manifest.provider_of(rule).ok());
    Ok(Said::Request(Box::new(Shown {
        outputs: tasks.iter().map(outputs).collect(),
        rule: name,
        provider: provider.map(|provider| provider.name.clone()).unwrap_or_default(),
        request: Request::new(&asks.iter().collect::<Vec<_>>()),
        contexts: asks.into_iter().filter_map(|ask| ask.context).collect(),
    })))
}

impl Said {
    fn to_json(&self) -> Value {
        match self {
            Said::Request(shown) => shown.to_json(),
            Said::Nothing { outputs, rule, field: (name, value), .. } => {
                let mut json = json!({"rule": rule, "outputs": outputs, "messages": []});
                json[*name] = value.clone();
                json
            }
        }
    }

    fn to_text(&self) -> String {
        match self {
            Said::Request(shown) => shown.to_text(),
            Said::Nothing { outputs, why, .. } => format!("{}: {why}\n", outputs.join(", ")),
        }
    }
}

impl Shown {
    /// All parameters, by our names.
    fn params(&self) -> Map<String, Value> {
        let mut params = self.request.params.clone();
        params.extend(self.request.max_output_tokens.map(|limit| ("max_output_tokens".to_owned(), limit.into())));
        params
    }

    fn to_json(&self) -> Value {
        let messages = self.request.messages.iter();
        let messages = messages.map(|message| json!({"role": message.role.name(), "content": message.text}));
        let mut json = json!({
            "rule": self.rule, "outputs": self.outputs.concat(), "provider": self.provider, "model": self.request.model,
            "params": self.params(), "schema": self.request.schema, "messages": messages.collect::<Vec<_>>(),
        });
        if !self.contexts.is_empty() {
            let of = |note: &Note| {
                json!({
                    "shown": note.shown, "unrelated": note.unrelated, "left_out": note.left_out,
                    "tokens": note.tokens_shown, "tokens_full": note.tokens_full,
                })
            };
            json["contexts"] = self.contexts.iter().map(of).collect::<Vec<_>>().into();
        }
        json
    }

    fn to_text(&self) -> String {
        let params: Vec<String> = self.params().iter().map(|(name, value)| format!("{name} {value}")).collect();
        let params = if params.is_empty() { String::new() } else { format!(", {}", params.join(", ")) };
        let mut text =
            format!("{}: {} ({}){params}\n", self.outputs.concat().join(", "), self.provider, self.request.model);
        for note in &self.contexts {
            let all = note.shown.len() + note.unrelated + note.left_out.len();
            text += &format!("context: {} of {all}: {}", note.shown.len(), note.shown.join(", "));
            if !note.left_out.is_empty() {
                text += &format!("; left out for lack of room: {}", note.left_out.join(", "));
            }
            text.push('\n');
        }
        for message in &self.request.messages {
            text += &heading(message.role.name(), &message.text);
        }
        if let Some(schema) = &self.request.schema {
            text += &heading("schema", &schema.to_string());
        }
        text
    }
}

/// A part under its name.
pub(super) fn heading(name: &str, text: &str) -> String {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    format!("--- {name} ---\n{text}{end}")
}
