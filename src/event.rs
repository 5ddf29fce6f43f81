//! What can happen in a run. The engine emits these; displays and reports only listen.

use std::time::Duration;

use crate::error::Error;
use crate::llm::{Shortfall, Unkept, Usage};
use crate::models::Price;
use crate::path::RelPath;
use crate::plan::{Collected, Counts, Orphan, Reason};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Another genmake runs in this root; this one waits for it.
    WaitsForOther,
    /// `.genmake/state` was damaged and is made anew.
    StateDamaged,
    /// What there is to do is known.
    Planned {
        /// How many tasks were asked for.
        tasks: usize,
        /// How many of them are not up to date.
        stale: usize,
        /// How many requests that takes, as far as can be said.
        requests: usize,
        /// The tasks among them that a model or a command is needed for, by rule.
        to_do: Vec<ToDo>,
    },
    /// A run that was cut short is gone on with.
    Resumed {
        /// Its targets, as typed; none for everything.
        targets: Vec<String>,
        /// How long ago it began.
        ago: Duration,
        /// How many tasks there were to do.
        tasks: usize,
        /// How many are left.
        left: usize,
        /// How many of these have a result that is kept already.
        kept: usize,
    },
    /// The run is to end before its time: nothing new is begun, and what is under way is waited for.
    Ending {
        /// How many requests are under way.
        requests: usize,
    },
    /// A provider's `start:` command is run.
    Starting {
        /// The provider.
        provider: String,
        /// The command.
        command: String,
    },
    /// What that command says.
    StartSaid {
        /// The provider.
        provider: String,
        /// One line.
        line: String,
    },
    /// The provider answers.
    Started {
        /// The provider.
        provider: String,
        /// How long it took.
        took: Duration,
    },
    /// A request is sent.
    Requested {
        /// Its number in this run, from 1.
        request: usize,
        /// The provider.
        provider: String,
        /// The model.
        model: String,
        /// Which outputs it is for.
        paths: Vec<RelPath>,
        /// How many tasks it carries.
        tasks: usize,
        /// Tokens that it would take to send its stable prefix once more for each task but the first: an estimate.
        prefix_saved: u64,
        /// Tokens that it would take more if contexts held everything that they select from: an estimate.
        context_saved: u64,
        /// Tokens that all requests of its kind begin with, up to what is their tasks' own: an estimate.
        prefix: u64,
        /// From how many tokens on the model's maker keeps what requests begin with, if that is known.
        cache_minimum: Option<u64>,
        /// What it costs, if that is known.
        price: Option<Price>,
        /// Whether it asks again for what an earlier request did not deliver.
        again: bool,
    },
    /// A request waits because of its provider's limits.
    WaitsForLimits {
        /// The request.
        request: usize,
        /// The provider.
        provider: String,
        /// For how long at least.
        wait: Duration,
    },
    /// A request failed and is sent again.
    Retrying {
        /// The request.
        request: usize,
        /// The provider.
        provider: String,
        /// How many tasks it carries.
        tasks: usize,
        /// Whether it reached the provider.
        was_sent: bool,
        /// Whether the provider may have taken tokens for it, and has not said how many.
        is_uncounted: bool,
        /// In how long.
        after: Duration,
        /// Why.
        why: String,
    },
    /// A result is whole and kept, while the answer to its batch still comes.
    Arrived {
        /// The output.
        path: RelPath,
    },
    /// An answer came.
    Answered {
        /// The request.
        request: usize,
        /// The provider.
        provider: String,
        /// How many tasks it carried.
        tasks: usize,
        /// How many results were good.
        good: usize,
        /// What it took.
        usage: Usage,
        /// Whether the provider did not say that, or not all of it.
        is_uncounted: bool,
        /// What its tasks would have taken in a request each, without the provider's cache: an estimate, where they are several.
        alone: Usage,
        /// What that costs, if it is known.
        price: Option<Price>,
        /// How long it took.
        took: Duration,
    },
    /// A request brought no answer at all.
    RequestFailed {
        /// The request.
        request: usize,
        /// As for [`Event::Retrying`].
        is_uncounted: bool,
        /// How long it took.
        took: Duration,
    },
    /// Something that a person should know, and that stops nothing.
    Warned {
        /// The output that it is about.
        path: RelPath,
        /// What.
        what: String,
    },
    /// A provider counted far fewer tokens than a prompt has: it may have read only a part of it.
    Unread {
        /// The request.
        request: usize,
        /// The provider.
        provider: String,
        /// The tokens that it counted.
        counted: u64,
        /// Those that were sent.
        sent: u64,
    },
    /// A prefix that the provider was to keep is not in its cache as it should be.
    Unkept {
        /// An output whose request began with it.
        path: RelPath,
        /// Why.
        why: Unkept,
        /// Whether this is the first time for what begins alike.
        is_first: bool,
    },
    /// A request of several tasks did not deliver these; they are asked for again, or fail.
    FellBack {
        /// The request.
        request: usize,
        /// What is missing.
        missing: Vec<RelPath>,
        /// Why.
        why: Shortfall,
        /// Whether it is asked for again.
        again: bool,
    },
    /// What came for a task of a batch is nearer to another task's item than to its own; it is asked for again alone, or the task
    /// fails.
    Strayed {
        /// The output.
        path: RelPath,
        /// The other task's.
        other: RelPath,
        /// Whether it is asked for again.
        again: bool,
    },
    /// A result did not pass a check and is asked for again.
    AskedToCorrect {
        /// The output.
        path: RelPath,
        /// What the check said.
        why: String,
    },
    /// A task failed, and its rule lets that pass: a default is written, or it is skipped.
    Excused {
        /// Its first output.
        path: RelPath,
        /// What went wrong.
        error: Error,
    },
    /// A task ended.
    Ended(TaskEnd),
    /// A target without a rule was dealt with.
    Orphaned {
        /// Which.
        orphan: Orphan,
        /// Whether it was deleted; its bytes are in the store.
        deleted: bool,
    },
    /// Requests were handed in to a provider's batch API.
    Submitted {
        /// The provider.
        provider: String,
        /// What it calls them.
        id: String,
        /// How many requests.
        requests: usize,
        /// How many tasks they are for.
        tasks: usize,
        /// What they will cost, as far as that can be said: an estimate in USD.
        cost: Option<f64>,
    },
    /// Requests that a provider's batch API was sent have not come back.
    Pending {
        /// The provider.
        provider: String,
        /// What it calls them.
        id: String,
        /// How many requests.
        requests: usize,
        /// How many of them are done, where the provider says so.
        done: Option<u64>,
    },
    /// Whether a provider has what a run that was killed was about to hand in is not known yet: it is asked for so long.
    Seeking {
        /// The provider.
        provider: String,
        /// How long at most.
        wait: Duration,
    },
    /// A provider could not be asked about what its batch API was sent; it will be asked again.
    Unreached {
        /// Why.
        error: Error,
    },
    /// What a provider's batch API was sent is fetched.
    Fetched {
        /// The provider.
        provider: String,
        /// What it calls it.
        id: String,
        /// How many results came.
        results: usize,
        /// How many did not.
        missing: usize,
    },
    /// A task needs a request that this run sends none of.
    Unasked {
        /// Its first output.
        path: RelPath,
    },
    /// Something failed that is no task's.
    Failed(Error),
}

/// What is to be done for a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToDo {
    /// The rule.
    pub rule: String,
    /// How many of its tasks.
    pub tasks: usize,
    /// How long one takes by itself, as earlier runs had it.
    pub each: Option<Duration>,
}

/// How a task ended.
#[derive(Debug, Clone)]
pub struct TaskEnd {
    /// The rule.
    pub rule: String,
    /// The outputs.
    pub outputs: Vec<RelPath>,
    /// What became of it.
    pub status: Status,
    /// Why it was not up to date.
    pub reasons: Vec<Reason>,
    /// What went wrong.
    pub error: Option<Error>,
    /// The request that brought it.
    pub request: Option<usize>,
    /// How long it took, requests included, from when it was begun; it may have waited for its turn in that time.
    pub took: Duration,
    /// How long something was done for it: local jobs, and the requests that it travelled in.
    pub worked: Duration,
    /// What of its result is no word of its prompt, if a model wrote it just now: see [`crate::llm::outline`].
    pub outline: Option<u64>,
    /// Of the tasks that it waited for and that were not up to date, the last to end, the latest first: each by its first output.
    pub waited_for: Vec<RelPath>,
    /// Its share of what its requests took.
    pub usage: Usage,
    /// What that costs, in USD; `None` where a price is not known.
    pub cost: Option<f64>,
    /// Tokens that were not spent because of the store or of a template: an estimate.
    pub saved: u64,
    /// What they would have cost, in USD; `None` where the price is not known.
    pub saved_usd: Option<f64>,
    /// The entities that its context had no room for.
    pub left_out: Vec<String>,
    /// What came of a collection's items.
    pub collected: Option<Collected>,
    /// What came of the texts that were to become vectors.
    pub embedded: Option<Counts>,
}

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Nothing was to do.
    Fresh,
    /// A template was rendered.
    Rendered,
    /// A model wrote it.
    Generated,
    /// A command made it.
    Ran,
    /// It failed, and its rule's default was written.
    Defaulted,
    /// A provider's batch API was handed the request for it.
    Submitted,
    /// A model made its vectors.
    Embedded,
    /// It came out of the store.
    Restored,
    /// It failed.
    Failed,
    /// What it waits for failed, or nothing more was asked after a failure.
    Skipped,
    /// A person changed the output.
    Edited,
    /// A person changed the output, and that was accepted.
    Accepted,
    /// What was made was merged with what a person had changed.
    Merged,
}

impl Status {
    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Status::Fresh => "fresh",
            Status::Rendered => "rendered",
            Status::Generated => "generated",
            Status::Ran => "ran",
            Status::Defaulted => "defaulted",
            Status::Submitted => "submitted",
            Status::Embedded => "embedded",
            Status::Restored => "restored",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
            Status::Edited => "edited",
            Status::Accepted => "accepted",
            Status::Merged => "merged",
        }
    }
}

#[cfg(test)]
impl TaskEnd {
    /// For tests: so it ended, and nothing else is known of it.
    pub fn example(rule: &str, path: &str, status: Status) -> TaskEnd {
        TaskEnd {
            rule: rule.to_owned(),
            outputs: vec![RelPath::new(path).unwrap()],
            status,
            reasons: Vec::new(),
            error: None,
            request: None,
            took: Duration::ZERO,
            worked: Duration::ZERO,
            outline: None,
            waited_for: Vec::new(),
            usage: Usage::default(),
            cost: None,
            saved: 0,
            saved_usd: None,
            left_out: Vec::new(),
            collected: None,
            embedded: None,
        }
    }
}
