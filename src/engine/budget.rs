//! What a run may spend, and what it has spent: checked before each request, with what is under way counted at the most that it can
//! come to.

use std::collections::HashMap;

use super::Shared;
use crate::error::{Code, Error};
use crate::estimate::{Estimate, Means, Room};
use crate::files::Files;
use crate::graph::TaskId;
use crate::ledger::Ledger;
use crate::llm::{Ask, Request};
use crate::models::Model;
use crate::path::RelPath;
use crate::plan::bug;
use crate::prompt::Role;
use crate::provider::is_loopback;
use crate::store;

/// What is left of what a run may spend.
#[derive(Debug, Default)]
pub(super) struct Budget {
    max_cost: Option<f64>,
    max_tokens: Option<u64>,
    spent: Spent,
    /// The most that requests under way can come to, by the first of their tasks.
    held: HashMap<TaskId, Spent>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    tokens: u64,
    cost: f64,
}

/// Whether a request may be sent.
pub(super) enum Verdict {
    /// It may.
    Yes,
    /// It may, if what is under way comes to less than it can.
    NotYet,
    /// It may not.
    No(Box<Error>),
}

impl Budget {
    pub fn new(max_cost: Option<f64>, max_tokens: Option<u64>) -> Budget {
        Budget { max_cost, max_tokens, ..Budget::default() }
    }

    /// Whether anything is bounded.
    pub fn is_set(&self) -> bool {
        self.max_cost.is_some() || self.max_tokens.is_some()
    }

    /// Whether a request for `what` may be sent; if so, the most that it can come to is held until it came back.
    pub fn admit(&mut self, first: TaskId, estimate: &Estimate, what: &RelPath) -> Verdict {
        let most = match (estimate.most_cost(), self.max_cost) {
            (None, Some(_)) => return Verdict::No(Box::new(unpriced(what))),
            (cost, _) => Spent { tokens: estimate.most_tokens(), cost: cost.unwrap_or_default() },
        };
        let held = self.held.values().fold(Spent::default(), |sum, one| sum.and(*one));
        if self.has_room(self.spent.and(held).and(most)) {
            self.held.insert(first, most);
            return Verdict::Yes;
        }
        if !self.held.is_empty() && self.has_room(self.spent.and(most)) {
            return Verdict::NotYet;
        }
        Verdict::No(Box::new(self.used_up(most, estimate, what)))
    }

    /// A request came back and took this; nothing, where nobody said.
    pub fn settle(&mut self, first: TaskId, tokens: u64, cost: f64) {
        if self.held.remove(&first).is_some() {
            self.spent = self.spent.and(Spent { tokens, cost });
        }
    }

    fn has_room(&self, spent: Spent) -> bool {
        // A sum of prices is not exact.
        let costs = self.max_cost.is_none_or(|most| spent.cost <= most + 1e-9);
        costs && self.max_tokens.is_none_or(|most| spent.tokens <= most)
    }

    fn used_up(&self, most: Spent, estimate: &Estimate, what: &RelPath) -> Error {
        let too_dear = self.max_cost.filter(|limit| self.spent.cost + most.cost > limit + 1e-9);
        let (message, hint) = match (too_dear, self.max_tokens) {
            (Some(limit), _) => (
                format!(
                    "the budget of {} USD has no room for the request for `{what}`: {} are spent, and it can cost {}",
                    usd(limit),
                    usd(self.spent.cost),
                    usd(most.cost)
                ),
                "raise `budget: {max_cost_usd: …}` or `--max-cost`; what is finished is not asked for again",
            ),
            (None, limit) => (
                format!(
                    "the budget of {} tokens has no room for the request for `{what}`: {} are used, and it can take {}",
                    limit.unwrap_or_default(),
                    self.spent.tokens,
                    most.tokens
                ),
                "raise `budget: {max_tokens: …}` or `--max-tokens`; what is finished is not asked for again",
            ),
        };
        let error = Error::new(Code::Budget, message).hint(hint);
        if estimate.is_bounded {
            return error;
        }
        let answer = estimate.most_output;
        error.hint(format!(
            "without `params: {{max_output_tokens: …}}` the answer is taken to have up to {answer} tokens"
        ))
    }
}

impl Spent {
    fn and(self, other: Spent) -> Spent {
        Spent { tokens: self.tokens + other.tokens, cost: self.cost + other.cost }
    }
}

/// An amount of USD, as short as it is exact enough.
pub fn usd(amount: f64) -> String {
    match amount {
        0.0 => "0".to_owned(),
        amount if amount < 0.01 => format!("{amount:.5}"),
        amount => format!("{amount:.2}"),
    }
}

fn unpriced(what: &RelPath) -> Error {
    Error::new(
        Code::Budget,
        format!("the price of the request for `{what}` is not known, so no budget in USD can be kept"),
    )
    .hint("say what its model costs: `prices: {input: …, output: …}` of its provider, in USD for a million tokens")
}

impl Shared {
    /// What requests took in earlier runs, read when it is first wanted.
    pub fn ledger(&self) -> &Ledger {
        self.ledger.get_or_init(|| store::read_ledger(&self.root.join(store::FOLDER)))
    }

    /// Whether a task's provider is on this machine.
    pub fn is_local(&self, task: TaskId) -> bool {
        let provider = self.graph.manifest.provider_of(self.graph.rule(task));
        provider.is_ok_and(|provider| is_loopback(&provider.base_url))
    }

    /// What is known of a model at a task's provider.
    ///
    /// # Errors
    /// The list of prices that the provider names is none.
    pub fn model(&self, task: TaskId, name: &str) -> Result<Model, Error> {
        let provider = self.graph.manifest.provider_of(self.graph.rule(task))?;
        self.models.of(provider, name, self.is_local(task), &self.files)
    }

    fn means(&self, task: TaskId, model: &str) -> Result<Means<'_>, Error> {
        let model = self.model(task, model)?;
        Ok(Means { model, ledger: self.ledger(), is_local: self.is_local(task) })
    }

    /// What a request for these tasks will take.
    ///
    /// # Errors
    /// As [`Shared::model`].
    pub fn estimate(&self, tasks: &[TaskId], asks: &[&Ask]) -> Result<Estimate, Error> {
        let Some(first) = tasks.first().copied().filter(|_| tasks.len() == asks.len()) else {
            return Err(bug("an estimate of a request for nothing"));
        };
        let request = Request::new(asks);
        let rules: Vec<&str> = tasks.iter().map(|task| self.graph.rule(*task).name.as_str()).collect();
        Ok(self.means(first, &request.model)?.of(&request, asks, &rules))
    }

    /// How a request for these tasks fits its model. Without a window that is known, and where it surely fits, nothing is counted.
    ///
    /// # Errors
    /// As [`Shared::model`].
    pub fn room(&self, tasks: &[TaskId], asks: &[&Ask]) -> Result<Room, Error> {
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
    pub fn fits(&self, task: TaskId, ask: &Ask) -> Result<Option<String>, Error> {
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
    fn parts(&self, task: TaskId, ask: &Ask, taken: u64) -> Result<String, Error> {
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
        let of = &self.graph.tasks[task];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Price;

    fn request(tokens: u64, price: Option<Price>) -> Estimate {
        let model = Model { price, ..Model::default() };
        Estimate { input: tokens / 2, output: 0, most_output: tokens - tokens / 2, is_bounded: true, model }
    }

    fn admit(budget: &mut Budget, first: TaskId, estimate: &Estimate) -> Result<bool, Error> {
        match budget.admit(first, estimate, &RelPath::new("a").unwrap()) {
            Verdict::Yes => Ok(true),
            Verdict::NotYet => Ok(false),
            Verdict::No(error) => Err(*error),
        }
    }

    #[test]
    fn what_is_under_way_counts_at_its_most_and_then_as_what_it_took() {
        let mut budget = Budget::new(None, Some(1000));
        let of_600 = request(600, None);
        assert_eq!(admit(&mut budget, 1, &of_600), Ok(true));
        assert_eq!(admit(&mut budget, 2, &of_600), Ok(false));
        assert_eq!(admit(&mut budget, 3, &request(400, None)), Ok(true));
        budget.settle(1, 100, 0.0);
        assert_eq!(admit(&mut budget, 2, &of_600), Ok(false));
        budget.settle(3, 0, 0.0);
        assert_eq!(admit(&mut budget, 2, &of_600), Ok(true));
        budget.settle(2, 500, 0.0);
        // 600 of 1000 are used: no waiting helps.
        let error = admit(&mut budget, 4, &of_600).unwrap_err();
        assert_eq!(error.code, Code::Budget);
        assert!(error.message.contains("600 are used, and it can take 600"), "{}", error.message);
        // What was never held is not settled.
        budget.settle(4, 1_000_000, 0.0);
        assert_eq!(admit(&mut budget, 5, &request(400, None)), Ok(true));
    }

    #[test]
    fn costs_are_bounded_and_unknown_ones_refused() {
        let price = Price { input: 1000.0, output: 1000.0, ..Price::FREE };
        let mut budget = Budget::new(Some(1.0), None);
        assert_eq!(admit(&mut budget, 1, &request(1000, Some(price))), Ok(true));
        budget.settle(1, 1000, 0.9);
        let error = admit(&mut budget, 2, &request(1000, Some(price))).unwrap_err();
        assert!(error.message.contains("0.90 are spent, and it can cost 1.00"), "{}", error.message);
        assert_eq!(admit(&mut budget, 2, &request(1000, Some(Price::FREE))), Ok(true));
        assert_eq!(admit(&mut budget, 3, &request(1, None)).unwrap_err().code, Code::Budget);
        assert_eq!(admit(&mut Budget::new(None, Some(10)), 3, &request(1, None)), Ok(true));
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!([0.0, 0.0000123, 0.0421, 12.0].map(usd), ["0", "0.00001", "0.04", "12.00"]);
    }
}
