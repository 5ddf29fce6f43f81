//! What requests will take, by what is known of their models and of results before.

use std::collections::BTreeMap;

use super::{Run, Shared};
use crate::digest::Framed;
use crate::error::{Code, Error};
use crate::estimate::{self, Estimate, Means, Room};
use crate::event::ToDo;
use crate::files::Files;
use crate::graph::{TaskId, Unit};
use crate::ledger::{Expected, Ledger, Refuses};
use crate::llm::{Ask, EmbedLimits, Request};
use crate::manifest::{self, Recipe};
use crate::models::Model;
use crate::path::RelPath;
use crate::plan::{self, Plan, Verdict, bug};
use crate::prompt::Role;
use crate::provider::{self, is_local};
use crate::store;
use crate::tokens::Counter;

impl plan::Experience for Shared {
    /// A list of prices that is none is said where the request is estimated.
    fn model(&self, id: TaskId, name: &str) -> Model {
        Shared::model(self, id, name).unwrap_or_default()
    }

    fn most_results(&self, id: TaskId, ask: &Ask) -> Option<usize> {
        let declared = self.graph.manifest.provider_of(self.graph.rule(id)).ok()?;
        provider::most_results(declared, &ask.model, &ask.result_schema())
    }

    fn embed_limits(&self, id: TaskId, model: &str) -> Option<EmbedLimits> {
        let rule = self.graph.rule(id);
        let limits = provider::embed_limits(self.graph.manifest.provider_of(rule).ok()?, model)?;
        // Whoever says how many knows the server.
        let said = rule.collection.as_ref().and_then(|of| of.window);
        Some(EmbedLimits { texts: said.unwrap_or(limits.texts), ..limits })
    }

    fn expected_output(&self, id: TaskId, ask: &Ask) -> u64 {
        self.expected(id, ask, &plan::Experience::model(self, id, &ask.model)).usual
    }
}

/// The name under which it is noted what a server refuses: nobody reads its address there.
pub(super) fn server(declared: &manifest::Provider) -> String {
    Framed::new("server-1").field(declared.api.name()).field(&declared.base_url).finish().short()
}

impl Run<'_> {
    /// What servers refused is for the next run to know.
    pub(super) fn note_refused(&mut self) {
        let providers = self.providers.iter().filter_map(|(name, pooled)| Some((name, pooled.provider.as_ref().ok()?)));
        for (name, provider) in providers {
            let Some(declared) = self.shared.graph.manifest.providers.get(name) else { continue };
            for (model, parts, most_output) in provider.refused() {
                let refuses = Refuses::new(parts, most_output);
                let ledger = self.ledger.get_or_insert_with(|| self.shared.ledger().clone());
                ledger.note_refused(&server(declared), &model, refuses, store::today());
            }
        }
    }
}

impl Shared {
    /// What requests took in earlier runs, read when it is first wanted.
    pub fn ledger(&self) -> &Ledger {
        self.ledger.get_or_init(|| store::read_ledger(&self.root.join(store::FOLDER)))
    }

    /// What models and commands are to do for a plan, rule by rule.
    pub fn to_do(&self, plan: &Plan) -> Vec<ToDo> {
        let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
        for (task, judged) in plan.tasks.iter().enumerate() {
            let rule = self.graph.rule(task);
            let is_to_do =
                matches!(judged, Some(Ok(judged)) if matches!(judged.verdict, Verdict::Stale(_) | Verdict::Waiting(_)));
            if is_to_do && !matches!(rule.recipe, Some(Recipe::Template(_))) {
                *rules.entry(&rule.name).or_default() += 1;
            }
        }
        let of =
            |(rule, tasks): (&str, usize)| ToDo { rule: rule.to_owned(), tasks, each: self.ledger().usual_time(rule) };
        rules.into_iter().map(of).collect()
    }

    /// How long a task's result will be: as those before it were, or else as those of its rule are that stand there.
    fn expected(&self, task: TaskId, ask: &Ask, model: &Model) -> Expected {
        let cap = ask.limit().into_iter().chain(model.max_output).min();
        let known = self.ledger().expected_output(&self.graph.rule(task).name, cap);
        if ask.piece.is_some() {
            // What stands there are all results together.
            let by_form = || estimate::by_form(ask.schema.as_ref().map(|schema| schema.value()));
            return known.unwrap_or_else(|| Expected::around(by_form(), cap));
        }
        let like_standing = || Expected::like(&self.standing(task), cap);
        known.or_else(like_standing).unwrap_or_else(|| Expected::guessed(cap))
    }

    /// Whether a task's provider is on this machine.
    pub fn is_local(&self, of: impl Into<Unit>) -> bool {
        let provider = self.graph.manifest.provider_of(self.graph.rule(of));
        provider.is_ok_and(is_local)
    }

    /// What is known of a model at a task's provider.
    ///
    /// # Errors
    /// The list of prices that the provider names is none.
    pub fn model(&self, of: impl Into<Unit>, name: &str) -> Result<Model, Error> {
        let task = of.into();
        let provider = self.graph.manifest.provider_of(self.graph.rule(task))?;
        self.models.of(provider, name, self.is_local(task), &self.files)
    }

    /// What the tokens of a task's model are counted by.
    pub(super) fn counter(&self, of: impl Into<Unit>) -> Counter {
        if self.is_local(of) { Counter::Length } else { Counter::Words }
    }

    fn means(&self, of: impl Into<Unit>, model: &str) -> Result<Means<'_>, Error> {
        let task = of.into();
        let model = self.model(task, model)?;
        Ok(Means { model, ledger: self.ledger(), counter: self.counter(task) })
    }

    /// What a request for these tasks will take.
    ///
    /// # Errors
    /// As [`Shared::model`].
    pub fn estimate(&self, tasks: &[Unit], asks: &[&Ask]) -> Result<Estimate, Error> {
        let Some(first) = tasks.first().copied().filter(|_| tasks.len() == asks.len()) else {
            return Err(bug("an estimate of a request for nothing"));
        };
        let request = Request::new(asks);
        let means = self.means(first, &request.model)?;
        let expected = tasks.iter().zip(asks).map(|(task, ask)| self.expected(task.task, ask, &means.model));
        Ok(means.of(&request, &expected.collect::<Vec<_>>()))
    }

    /// How a request for these tasks fits its model. Without a window that is known, and where it surely fits, nothing is counted.
    ///
    /// # Errors
    /// As [`Shared::model`].
    pub fn room(&self, tasks: &[Unit], asks: &[&Ask]) -> Result<Room, Error> {
        let (Some(first), Some(ask)) = (tasks.first(), asks.first()) else { return Ok(Room::Enough) };
        let means = self.means(*first, &ask.model)?;
        if means.model.context.is_none() {
            return Ok(Room::Enough);
        }
        Ok(means.room(&Request::new(asks)))
    }

    /// Whether a task alone fits its model: a warning where only just, an error where not.
    ///
    /// # Errors
    /// [`Code::TooLong`], with what takes the room; as [`Shared::model`].
    pub fn fits(&self, task: Unit, ask: &Ask) -> Result<Option<String>, Error> {
        let name = self.graph.name(task);
        let said = |taken: u64, window: u64| -> Result<String, Error> {
            let parts = self.parts(task, ask, taken)?;
            Ok(format!("{taken} of the {window} tokens that `{}` has room for: {parts}", ask.model))
        };
        match self.room(&[task], &[ask])? {
            Room::Enough => Ok(None),
            Room::Tight(taken, window) => Ok(Some(format!("the prompt for `{name}` takes {}", said(taken, window)?))),
            Room::TooLong(taken, window) => {
                let message = format!("the prompt for `{name}` would take {}", said(taken, window)?);
                let place = self.graph.rule(task).place.clone();
                Err(Error::new(Code::TooLong, message)
                    .in_rule(&self.graph.rule(task).name)
                    .at(place)
                    .hint("show it less: a selector in place of a file, `context` with `depth` or `max_share`")
                    .hint("if the model has more room, say so: `limits: {context: …}` of its provider"))
            }
        }
    }

    /// What takes the room of a prompt: system part, context, inputs whose text stands in it, the rest, and the answer.
    fn parts(&self, task: Unit, ask: &Ask, taken: u64) -> Result<String, Error> {
        let means = self.means(task, &ask.model)?;
        let count = |text: &str| means.tokens(&ask.model, text);
        let mut parts = vec![("system", count(ask.system()))];
        let rest = ask.messages.iter().filter(|message| message.role != Role::System);
        let rest: Vec<&str> = rest.map(|message| message.text.as_str()).collect();
        let context = ask.context.as_ref().map_or(0, |note| note.tokens_shown);
        if ask.context.as_ref().is_some_and(|note| note.is_shared) {
            parts[0].1 = parts[0].1.saturating_sub(context);
        }
        let answer = ask.limit().unwrap_or(0);
        let mut own = taken.saturating_sub(answer + parts[0].1 + context);
        parts.push(("context", context));
        let of = &self.graph.tasks[task.task];
        let mut sources: Vec<&RelPath> = of.reads().filter(|path| Some(*path) != of.recipe.as_ref()).collect();
        sources.sort();
        sources.dedup();
        for path in sources {
            let text = self.files.read(path).ok().flatten();
            let text = text.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::trim);
            let Some(text) = text.filter(|text| !text.is_empty() && rest.iter().any(|said| said.contains(text))) else {
                continue;
            };
            let tokens = count(text).min(own);
            own -= tokens;
            parts.push((path.as_str(), tokens));
        }
        parts.push(("own text", own));
        parts.push(("room for the answer", answer));
        let shown = parts.into_iter().filter(|(_, tokens)| *tokens > 0);
        Ok(shown.map(|(name, tokens)| format!("{name} {tokens}")).collect::<Vec<_>>().join(", "))
    }
}
