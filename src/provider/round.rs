//! What goes through a provider's batch API, and comes back: a round of requests, sent at once and answered within a day.

use std::time::SystemTime;

use super::Failure;
use crate::llm::{Answer, Request};

/// A request of a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name, by which its answer is known: up to 64 letters, digits, `-` and `_`.
    pub id: String,
    /// The request.
    pub request: Request,
}

/// What comes back for a request of a round.
#[derive(Debug)]
pub struct Returned {
    /// Its name.
    pub id: String,
    /// Its answer, or why there is none; that costs nothing.
    pub outcome: Result<Answer, Failure>,
}

/// How far a round is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The provider has not come to the end of it: how many of its requests are done, where it says so.
    Working(Option<u64>),
    /// What there will be is there to fetch.
    Ended,
    /// The provider knows nothing of it: what it says.
    Unknown(String),
    /// There is nothing of it, and will be nothing: why.
    Gone(String),
}

/// A round that may be at a provider, though nobody noted what it is called there.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    /// What genmake calls it.
    pub name: &'a str,
    /// How many requests it has.
    pub entries: u64,
    /// When it was about to be sent, by this machine's clock.
    pub since: SystemTime,
    /// What the provider calls rounds that are known to be others.
    pub not: &'a [String],
}
