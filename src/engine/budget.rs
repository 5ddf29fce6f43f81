//! What a run may spend, and what it has spent: checked before each request, with what is under way counted at the most that it can
//! come to.

use std::collections::HashMap;

use crate::error::{Code, Error};
use crate::estimate::Estimate;
use crate::graph::Unit;
use crate::path::RelPath;
use crate::wording::usd;

/// What is left of what a run may spend.
#[derive(Debug, Default)]
pub(super) struct Budget {
    max_cost: Option<f64>,
    max_tokens: Option<u64>,
    spent: Spent,
    /// Requests under way, by the first of their tasks.
    held: HashMap<Unit, Held>,
    /// How many tokens of a model's provider come to one that is estimated; `None` while it is being asked.
    counts: HashMap<String, Option<f64>>,
}

/// A request under way.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// What it sends.
    sent: Spent,
    /// The most that it can come to.
    most: Spent,
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
    /// It may, if what is under way comes to less than it can; why not now.
    NotYet(Box<Error>),
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
    pub fn admit(&mut self, first: Unit, estimate: &Estimate, what: &RelPath) -> Verdict {
        let most = match (estimate.most_cost(), self.max_cost) {
            (None, Some(_)) => return Verdict::No(Box::new(unpriced(what))),
            (cost, _) => Spent { tokens: estimate.most_tokens(), cost: cost.unwrap_or_default() },
        };
        let held = self.held.values().fold(Spent::default(), |sum, one| sum.and(one.most));
        if self.has_room(self.spent.and(held).and(most)) {
            let sent = Spent { tokens: estimate.input, cost: estimate.sent_cost().unwrap_or_default() };
            self.held.insert(first, Held { sent, most });
            return Verdict::Yes;
        }
        if !self.held.is_empty() && self.has_room(self.spent.and(most)) {
            return Verdict::NotYet(Box::new(self.used_up(self.spent.and(held), most, estimate, what)));
        }
        Verdict::No(Box::new(self.used_up(self.spent, most, estimate, what)))
    }

    /// Whether it is known how a model's provider counts; `None` where nobody has asked yet.
    pub fn count_of(&self, model: &str) -> Option<bool> {
        self.counts.get(model).map(Option::is_some)
    }

    /// The provider is being asked how many tokens a request to a model has.
    pub fn awaits_count(&mut self, model: &str) {
        self.counts.insert(model.to_owned(), None);
    }

    /// So many of the provider's tokens come to one that is estimated.
    pub fn counts(&mut self, model: &str, ratio: f64) {
        self.counts.insert(model.to_owned(), Some(ratio));
    }

    /// Tokens that are estimated, as a model's provider counts them, if it said.
    pub fn as_counted(&self, tokens: u64, model: &str) -> u64 {
        let ratio = self.counts.get(model).copied().flatten();
        ratio.map_or(tokens, |ratio| (tokens as f64 * ratio).ceil() as u64)
    }

    /// A request came back and took this.
    pub fn settle(&mut self, first: Unit, tokens: u64, cost: f64) {
        if self.held.remove(&first).is_some() {
            self.spent = self.spent.and(Spent { tokens, cost });
        }
    }

    /// A request broke off, or its answer did not say all that it took: that is at least what was sent, and what was said.
    pub fn settle_unsaid(&mut self, first: Unit, tokens: u64, cost: f64) {
        if let Some(Held { sent, .. }) = self.held.remove(&first) {
            self.spent = self.spent.and(Spent { tokens: tokens.max(sent.tokens), cost: cost.max(sent.cost) });
        }
    }

    /// A request broke off, and is sent once more.
    pub fn sent_again(&mut self, first: Unit) {
        if let Some(Held { sent, .. }) = self.held.get(&first) {
            self.spent = self.spent.and(*sent);
        }
    }

    fn has_room(&self, spent: Spent) -> bool {
        // A sum of prices is not exact.
        let costs = self.max_cost.is_none_or(|most| spent.cost <= most + 1e-9);
        costs && self.max_tokens.is_none_or(|most| spent.tokens <= most)
    }

    fn used_up(&self, spent: Spent, most: Spent, estimate: &Estimate, what: &RelPath) -> Error {
        let too_dear = self.max_cost.filter(|limit| spent.cost + most.cost > limit + 1e-9);
        let (message, hint) = match (too_dear, self.max_tokens) {
            (Some(limit), _) => (
                format!(
                    "the budget of {} USD has no room for the request for `{what}`: {} are spent, and it can cost {}",
                    usd(limit),
                    usd(spent.cost),
                    usd(most.cost)
                ),
                "raise `budget: {max_cost_usd: …}` or `--max-cost`; what is finished is not asked for again",
            ),
            (None, limit) => (
                format!(
                    "the budget of {} tokens has no room for the request for `{what}`: {} are used, and it can take {}",
                    limit.unwrap_or_default(),
                    spent.tokens,
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
        Spent { tokens: self.tokens.saturating_add(other.tokens), cost: self.cost + other.cost }
    }
}

fn unpriced(what: &RelPath) -> Error {
    Error::new(
        Code::Budget,
        format!("the price of the request for `{what}` is not known, so no budget in USD can be kept"),
    )
    .hint("say what its model costs: `prices: {input: …, output: …}` of its provider, in USD for a million tokens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Model, Price};

    fn request(tokens: u64, price: Option<Price>) -> Estimate {
        let model = Model { price, ..Model::default() };
        Estimate { input: tokens / 2, output: 0, most_output: tokens - tokens / 2, is_bounded: true, model }
    }

    fn admit(budget: &mut Budget, first: usize, estimate: &Estimate) -> Result<bool, Error> {
        match budget.admit(first.into(), estimate, &RelPath::new("a").unwrap()) {
            Verdict::Yes => Ok(true),
            Verdict::NotYet(_) => Ok(false),
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
        budget.settle(1.into(), 100, 0.0);
        assert_eq!(admit(&mut budget, 2, &of_600), Ok(false));
        budget.settle(3.into(), 0, 0.0);
        assert_eq!(admit(&mut budget, 2, &of_600), Ok(true));
        budget.settle(2.into(), 500, 0.0);
        // 600 of 1000 are used: no waiting helps.
        let error = admit(&mut budget, 4, &of_600).unwrap_err();
        assert_eq!(error.code, Code::Budget);
        assert!(error.message.contains("600 are used, and it can take 600"), "{}", error.message);
        // What was never held is not settled.
        budget.settle_unsaid(4.into(), 9, 9.0);
        budget.settle(4.into(), 1_000_000, 0.0);
        assert_eq!(admit(&mut budget, 5, &request(400, None)), Ok(true));
    }

    #[test]
    fn what_nobody_counted_is_taken_to_be_what_was_sent() {
        let mut budget = Budget::new(None, Some(1000));
        assert_eq!(admit(&mut budget, 1, &request(600, None)), Ok(true));
        budget.settle_unsaid(1.into(), 0, 0.0);
        assert_eq!(admit(&mut budget, 2, &request(700, None)), Ok(true));
        budget.settle_unsaid(2.into(), 200, 0.0);
        assert!(admit(&mut budget, 3, &request(352, None)).unwrap_err().message.contains("650 are used"));
        assert_eq!(admit(&mut budget, 3, &request(100, None)), Ok(true));
        budget.sent_again(3.into());
        assert!(admit(&mut budget, 4, &request(252, None)).is_ok_and(|sent| !sent));
        budget.settle(3.into(), 0, 0.0);
        assert!(admit(&mut budget, 4, &request(302, None)).unwrap_err().message.contains("700 are used"));
        assert_eq!(admit(&mut budget, 4, &request(300, None)), Ok(true));
    }

    #[test]
    fn costs_are_bounded_and_unknown_ones_refused() {
        let price = Price { input: 1000.0, output: 1000.0, ..Price::FREE };
        let mut budget = Budget::new(Some(1.0), None);
        assert_eq!(admit(&mut budget, 1, &request(1000, Some(price))), Ok(true));
        budget.settle(1.into(), 1000, 0.9);
        let error = admit(&mut budget, 2, &request(1000, Some(price))).unwrap_err();
        assert!(error.message.contains("0.9000 are spent, and it can cost 1.00"), "{}", error.message);
        assert_eq!(admit(&mut budget, 2, &request(1000, Some(Price::FREE))), Ok(true));
        assert_eq!(admit(&mut budget, 3, &request(1, None)).unwrap_err().code, Code::Budget);
        assert_eq!(admit(&mut Budget::new(None, Some(10)), 3, &request(1, None)), Ok(true));
    }
}
