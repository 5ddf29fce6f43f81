//! One limit, how evenly it is used, and what the last minute took of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Counted, Reading, Ticket, Weight};

/// What requests and answers may be late by on their way.
pub(super) const LATE: Duration = Duration::from_secs(1);

/// A minute, and so much more that what was sent farther apart does not arrive within one.
pub(super) const WINDOW: Duration = Duration::from_secs(60 + LATE.as_secs());

/// How much of a limit is used where requests are spaced: what remains is for clocks and networks.
const SHARE: f64 = 0.98;

/// What a thread may be late by and still catch up. Who comes later does not: what nobody used is not saved up.
const SLACK: Duration = Duration::from_millis(500);

/// One limit, and what was used of it.
pub(super) struct Budget {
    pub(super) counted: Counted,
    limit: u64,
    /// Whether it is used evenly.
    is_even: bool,
    /// What was used in the last minute, in the order of time, and its sum.
    uses: VecDeque<Use>,
    used: u64,
    /// What others use of it, and until when that counts.
    others: Option<(Instant, u64)>,
    /// When the next may go, where it is used evenly.
    next: Option<Instant>,
}

struct Use {
    at: Instant,
    ticket: Ticket,
    amount: u64,
}

impl Budget {
    pub fn new(counted: Counted, limit: u64, is_even: bool) -> Budget {
        Budget { counted, limit, is_even, uses: VecDeque::new(), used: 0, others: None, next: None }
    }

    pub fn amount(&self, weight: Weight) -> u64 {
        match self.counted {
            Counted::Requests => 1,
            Counted::Tokens if self.is_even => weight.likely,
            // Providers that tell what is left count an answer as long as it may be, until it is there.
            Counted::Tokens => weight.most,
            Counted::Output => weight.output,
        }
    }

    /// Forgets what is over.
    pub fn forget(&mut self, now: Instant) {
        while self.uses.front().is_some_and(|first| first.at + WINDOW <= now) {
            self.used -= self.uses.pop_front().map_or(0, |first| first.amount);
        }
        self.others = self.others.filter(|(until, _)| *until > now);
    }

    /// How long so much has to wait. What is more than the limit waits until nothing else counts: then the provider may say.
    pub fn wait(&self, now: Instant, weight: Weight) -> Duration {
        let spaced = self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
        let room = self.limit.saturating_sub(self.amount(weight));
        let (mut until, mut others) = (now, self.others);
        let mut counts = self.used + others.map_or(0, |(_, amount)| amount);
        let mut uses = self.uses.iter().map(|used| (used.at + WINDOW, used.amount)).peekable();
        while counts > room {
            let is_others = others.is_some_and(|(end, _)| uses.peek().is_none_or(|(at, _)| end <= *at));
            let Some((end, amount)) = (if is_others { others.take() } else { uses.next() }) else { break };
            (until, counts) = (end, counts - amount);
        }
        spaced.max(until.saturating_duration_since(now))
    }

    pub fn take(&mut self, now: Instant, ticket: Ticket, weight: Weight) {
        let amount = self.amount(weight);
        self.uses.push_back(Use { at: now, ticket, amount });
        self.used += amount;
        if self.is_even {
            let due = self.next.filter(|next| now.saturating_duration_since(*next) <= SLACK).unwrap_or(now);
            self.next = Some(due + self.time(amount));
        }
    }

    /// How long so much takes, used evenly; a minute at most.
    fn time(&self, amount: u64) -> Duration {
        Duration::from_secs_f64(amount.min(self.limit) as f64 * 60.0 / (self.limit as f64 * SHARE))
    }

    /// What a request took is known.
    pub fn settle(&mut self, now: Instant, ticket: Ticket, weight: Weight) {
        if self.counted == Counted::Requests {
            return;
        }
        let amount = self.amount(weight);
        let Some(at) = self.uses.iter().rposition(|used| used.ticket == ticket) else { return };
        let before = std::mem::replace(&mut self.uses[at].amount, amount);
        self.used = self.used - before + amount;
        self.next = self.next.and_then(|next| (next + self.time(amount)).checked_sub(self.time(before)));
        // What comes back is counted as it does.
        if self.counted == Counted::Output
            && let Some(used) = self.uses.remove(at)
        {
            self.uses.push_back(Use { at: now, ..used });
        }
    }

    /// What is missing of the limit beyond what was sent from here, others use.
    pub fn read(&mut self, now: Instant, reading: &Reading) {
        self.forget(now);
        self.limit = reading.limit;
        let Some(remaining) = reading.remaining else { return };
        let missing = self.limit.saturating_sub(self.used).saturating_sub(remaining);
        self.others = (missing > 0).then(|| (now + reading.reset.map_or(WINDOW, |reset| reset + LATE), missing));
    }
}
