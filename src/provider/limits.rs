//! How many requests and tokens a provider takes in a minute, and whose turn it is to send. Pure: the time is handed in.
//!
//! A limit that the Genfile says is kept by sending evenly: some providers enforce 60 a minute as one a second, and a server that
//! counts in windows of a minute takes what comes evenly, too, wherever its windows begin. A limit that answers tell of is used up as
//! fast as they allow, since they say what is left. Both bounds hold for every minute, not only from one to the next.

mod budget;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Failure, FailureKind};
use crate::llm::Usage;
use budget::{Budget, WINDOW};

/// What is counted in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Requests.
    Requests,
    /// Tokens, as the wire format's maker counts them.
    Tokens,
    /// Tokens that come back.
    Output,
}

/// What an answer says of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Of what.
    pub counted: Counted,
    /// How many a minute.
    pub limit: u64,
    /// How many are left of them.
    pub remaining: Option<u64>,
    /// How long until all are there again.
    pub reset: Option<Duration>,
}

/// The tokens of a request: what it will probably take, and what it can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// What counts, in all likelihood.
    pub likely: u64,
    /// What counts if the answer is as long as it may be.
    pub most: u64,
    /// What comes back, in all likelihood.
    pub output: u64,
}

/// How many of an answer's tokens count in a minute.
pub(super) type Counts = fn(Usage) -> u64;

/// A request's place in the line. It keeps it when it is sent again.
pub(super) type Ticket = u64;

/// What a request that waits is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Turn {
    /// It may go.
    Go,
    /// Not before so long.
    After(Duration),
    /// When something else has happened.
    Later,
    /// Never: no request to this provider can succeed.
    Never(Failure),
}

/// The limits of one provider, and the requests to it.
pub(super) struct Limits {
    /// How many of an answer's tokens count.
    counts: Counts,
    /// What the Genfile says, for all models together.
    said: Vec<Budget>,
    /// What answers of each model said.
    learned: HashMap<String, Vec<Budget>>,
    /// What answers of each model took.
    seen: HashMap<String, Seen>,
    /// In the order of their tickets.
    waiting: Vec<Waiting>,
    under_way: HashMap<Ticket, UnderWay>,
    tickets: Ticket,
    /// How many may be under way, and how many of them it takes at present.
    in_flight: usize,
    most: usize,
    /// Answers since that last grew, and when it was last cut.
    good: usize,
    cut_at: Option<Instant>,
    /// The provider asked to be left alone until then.
    held_until: Option<Instant>,
    closed: Option<Failure>,
}

struct Waiting {
    ticket: Ticket,
    model: String,
    estimate: u64,
    longest: Option<u64>,
}

struct UnderWay {
    model: String,
    since: Instant,
    estimate: u64,
    weight: Weight,
}

/// What answers of a model took.
#[derive(Default)]
struct Seen {
    answers: u64,
    /// What prompts were thought to have, and what counted of them.
    estimated: u64,
    input: u64,
    output: u64,
}

impl Limits {
    pub fn new(in_flight: usize, requests: Option<u64>, tokens: Option<u64>, counts: Counts) -> Limits {
        let said = [(Counted::Requests, requests), (Counted::Tokens, tokens)];
        let said = said.into_iter().filter_map(|(counted, limit)| Some(Budget::new(counted, limit?, true)));
        Limits {
            counts,
            said: said.collect(),
            learned: HashMap::new(),
            seen: HashMap::new(),
            waiting: Vec::new(),
            under_way: HashMap::new(),
            tickets: 0,
            in_flight,
            most: in_flight,
            good: 0,
            cut_at: None,
            held_until: None,
            closed: None,
        }
    }

    /// A place in the line, behind all others.
    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        self.tickets
    }

    /// Takes a place in the line, for a request whose prompt is thought to have `estimate` tokens, and whose answer may have `longest`.
    pub fn enter(&mut self, ticket: Ticket, model: &str, estimate: u64, longest: Option<u64>) {
        let at = self.waiting.partition_point(|waiting| waiting.ticket < ticket);
        self.waiting.insert(at, Waiting { ticket, model: model.to_owned(), estimate, longest });
    }

    /// What a request takes, by what others took.
    fn weight(&self, waiting: &Waiting) -> Weight {
        let Waiting { model, estimate, longest, .. } = waiting;
        let output = |output| (self.counts)(Usage { output, ..Usage::default() });
        let (input, likely) = match self.seen.get(model) {
            Some(seen) if seen.estimated > 0 => {
                let input = u128::from(*estimate) * u128::from(seen.input) / u128::from(seen.estimated);
                (u64::try_from(input).unwrap_or(*estimate), seen.output / seen.answers.max(1))
            }
            _ => ((self.counts)(Usage { input: *estimate, ..Usage::default() }), longest.unwrap_or(*estimate)),
        };
        let likely = longest.map_or(likely, |longest| longest.min(likely));
        let most = longest.unwrap_or(likely);
        Weight { likely: input + output(likely), most: input + output(most), output: likely }
    }

    /// Leaves the line.
    pub fn leave(&mut self, ticket: Ticket) {
        self.waiting.retain(|waiting| waiting.ticket != ticket);
    }

    /// Whatever became of it, it is neither waiting nor under way.
    pub fn abandon(&mut self, ticket: Ticket) {
        self.leave(ticket);
        self.under_way.remove(&ticket);
    }

    /// Whether a request that waits may go. Each goes in its turn, but one that waits for its model's limits alone holds up no other
    /// model.
    pub fn turn(&mut self, now: Instant, ticket: Ticket) -> Turn {
        if let Some(failure) = &self.closed {
            return Turn::Never(failure.clone());
        }
        let all = self.said.iter_mut().chain(self.learned.values_mut().flatten());
        all.for_each(|budget| budget.forget(now));
        let mut full: Vec<&str> = Vec::new();
        for (at, waiting) in self.waiting.iter().enumerate() {
            let is_it = waiting.ticket == ticket;
            if full.contains(&waiting.model.as_str()) {
                if is_it {
                    return Turn::Later;
                }
                continue;
            }
            if self.under_way.len() >= self.most {
                return Turn::Later;
            }
            let weight = self.weight(waiting);
            let held = self.held_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            let of_all = self.said.iter().map(|budget| budget.wait(now, weight)).fold(held, Duration::max);
            let of_model = self.learned.get(&waiting.model).into_iter().flatten();
            let of_model = of_model.map(|budget| budget.wait(now, weight)).max().unwrap_or_default();
            match (is_it, of_all.max(of_model)) {
                (true, Duration::ZERO) => {
                    let Waiting { model, estimate, .. } = self.waiting.remove(at);
                    let budgets = self.said.iter_mut().chain(self.learned.get_mut(&model).into_iter().flatten());
                    budgets.for_each(|budget| budget.take(now, ticket, weight));
                    self.under_way.insert(ticket, UnderWay { model, since: now, estimate, weight });
                    return Turn::Go;
                }
                (true, wait) => return Turn::After(wait),
                // Its own thread will see to it.
                (false, _) if of_model.is_zero() || !of_all.is_zero() => return Turn::Later,
                (false, _) => full.push(&waiting.model),
            }
        }
        Turn::Later
    }

    /// What an answer's headers say.
    pub fn heard(&mut self, now: Instant, model: &str, readings: &[Reading]) {
        for reading in readings.iter().filter(|reading| reading.is_of_a_minute()) {
            let budgets = self.learned.entry(model.to_owned()).or_default();
            let at = budgets.iter().position(|budget| budget.counted == reading.counted).unwrap_or_else(|| {
                let mut budget = Budget::new(reading.counted, reading.limit, false);
                // What was sent before anybody knew of the limit counts, too.
                let sent = self.under_way.iter().filter(|(_, request)| request.model == model);
                let mut sent: Vec<(&Ticket, &UnderWay)> = sent.collect();
                sent.sort_by_key(|(_, request)| request.since);
                sent.iter().for_each(|(ticket, request)| budget.take(request.since, **ticket, request.weight));
                budgets.push(budget);
                budgets.len() - 1
            });
            budgets[at].read(now, reading);
        }
    }

    /// An answer is there, and took so much; nothing where that was not said.
    pub fn answered(&mut self, now: Instant, ticket: Ticket, usage: Usage) {
        self.good += 1;
        if self.good >= self.most {
            self.good = 0;
            self.most = self.in_flight.min(self.most + 1);
        }
        let Some(request) = self.under_way.remove(&ticket) else { return };
        if usage.input == 0 {
            return;
        }
        let seen = self.seen.entry(request.model.clone()).or_default();
        seen.answers += 1;
        seen.estimated += request.estimate;
        seen.input += (self.counts)(Usage { output: 0, ..usage });
        seen.output += usage.output;
        let tokens = (self.counts)(usage);
        let weight = Weight { likely: tokens, most: tokens, output: usage.output };
        self.settle(now, ticket, &request.model, weight);
    }

    /// No answer came; the request is sent again after `delay`, if at all. What the provider asks of one request it asks of all, and
    /// that it limits them means that it takes fewer at once.
    pub fn failed(&mut self, now: Instant, ticket: Ticket, failure: &Failure, delay: Option<Duration>) {
        let busy = self.under_way.len();
        let Some(request) = self.under_way.remove(&ticket) else { return };
        let is_limit = failure.kind == FailureKind::Limited && !matches!(failure.status, Some(408 | 409));
        if is_limit && self.cut_at.is_none_or(|cut| request.since > cut) {
            (self.cut_at, self.good) = (Some(now), 0);
            self.most = (self.most.min(busy) / 2).max(1);
        }
        match delay {
            Some(delay) if is_limit || failure.retry_after.is_some() => {
                self.held_until = self.held_until.max(Some(now + delay));
            }
            None if failure.is_final() => self.closed = Some(failure.clone()),
            _ => {}
        }
        // What the provider did not work on took no tokens.
        if matches!(failure.kind, FailureKind::Unreachable | FailureKind::Refused | FailureKind::Rejected) {
            self.settle(now, ticket, &request.model, Weight::default());
        }
    }

    fn settle(&mut self, now: Instant, ticket: Ticket, model: &str, weight: Weight) {
        let of_model = self.learned.get_mut(model).into_iter().flatten();
        self.said.iter_mut().chain(of_model).for_each(|budget| budget.settle(now, ticket, weight));
    }
}

impl Reading {
    /// Whether it can be of a minute, and makes sense: some providers say under the same names what they take in a day.
    fn is_of_a_minute(&self) -> bool {
        let is_back_soon = self.reset.is_none_or(|reset| reset <= WINDOW);
        self.limit > 0 && self.remaining.is_none_or(|left| left <= self.limit) && is_back_soon
    }
}

#[cfg(test)]
mod tests;
