//! Counts by providers: under a budget, the first request to a model of which nothing is known is counted before it is sent, where its
//! provider does that free of charge. How it counts is then known for all of the run, and no request is let pass that only our own
//! estimate has room for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::asking::Told;
use super::{Report, Run};
use crate::batch::Batch;
use crate::estimate;
use crate::llm::{Ask, Request};
use crate::provider::Notice;

/// What came of a count.
pub(super) struct Counted {
    provider: String,
    model: String,
    /// How many tokens of the provider come to one that was estimated; none where it does not say.
    ratio: Option<f64>,
}

impl Run<'_> {
    /// Whether a request has to wait for a count, which is begun if it is the first.
    pub(super) fn is_counted_first(&mut self, batch: &Batch, name: &str) -> bool {
        let Some(task) = batch.tasks.first().copied().filter(|_| self.budget.is_set()) else { return false };
        let (asks, counter) = (self.asks(batch), self.shared.counter(task));
        let Some(ask) = asks.first() else { return false };
        if self.shared.ledger().knows(&ask.model, counter.name()) {
            return false;
        }
        match self.budget.count_of(&ask.model) {
            Some(is_there) => return !is_there,
            None => self.budget.awaits_count(&ask.model),
        }
        let Some(pooled) = self.providers.get_mut(name) else { return false };
        let Ok(provider) = pooled.provider.clone() else { return false };
        pooled.free -= 1;
        let (send, name, model) = (self.send.clone(), name.to_owned(), ask.model.clone());
        pooled.pool.spawn(move || {
            let up = |notice: Notice| {
                let told = Told::Notice { provider: name.clone(), request: 0, tasks: 0, first: None, notice };
                let _ = send.send(Report::Told(told));
            };
            let ratio = || {
                let request = Request::new(&asks.iter().collect::<Vec<&Ask>>());
                let counted = provider.count(&request, &up)?;
                Some(counted as f64 / estimate::sent(&request, counter).max(1) as f64)
            };
            // Without a count it is as without this.
            let ratio = catch_unwind(AssertUnwindSafe(ratio)).unwrap_or_default();
            let _ = send.send(Report::Counted(Counted { provider: name.clone(), model, ratio }));
        });
        true
    }

    /// A count came, or will not: what waited for it goes on.
    pub(super) fn counted(&mut self, counted: Counted) {
        let Counted { provider, model, ratio } = counted;
        self.budget.counts(&model, ratio.unwrap_or(1.0));
        self.next_request(&provider);
        self.next_held_back();
    }
}
