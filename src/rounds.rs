//! Rounds: what was sent through a provider's batch API and is not fetched yet, as it is kept meanwhile. Values only.
//!
//! What is kept is all that it takes to tell results apart and to store them under their keys, whatever becomes of the Genfile.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::models::Price;

/// Requests for one model that were handed in together, or were about to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// What genmake calls it; the provider is told, where it takes a name.
    pub name: String,
    /// The provider, by its name in the Genfile.
    pub provider: String,
    /// Its address then.
    pub at: String,
    /// The lock of the Genfile that it was handed in for: several Genfiles share a store.
    pub lock: String,
    /// The model.
    pub model: String,
    /// What the provider calls it; none where nobody knows whether it took it.
    pub id: Option<String>,
    /// Whether that was told by its looks alone, when nobody had noted it: it may be another's.
    pub is_likely: bool,
    /// What the provider calls others that were taken for it.
    pub not: Vec<String>,
    /// When it was about to be handed in, in seconds since 1970.
    pub begun: u64,
    /// What its tokens cost, at the price of batches; none where that is not known.
    pub price: Option<Price>,
    /// Its requests.
    pub requests: Vec<Posted>,
}

/// One of a round's requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Posted {
    /// Its name: the action key of its task; of several, a digest of theirs.
    pub id: String,
    /// What its tokens were counted by.
    pub counter: String,
    /// Its tokens as they were counted before it was sent.
    pub tokens: u64,
    /// The tokens that it would take to send its stable prefix once more for each task but the first.
    pub prefix_saved: u64,
    /// The tokens that its contexts left out.
    pub context_saved: u64,
    /// Its tasks, slot by slot.
    pub tasks: Vec<Wanted>,
}

/// What one task wants of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its action key.
    pub key: Digest,
    /// Its rule.
    pub rule: String,
    /// Its outputs: the name under `outputs`, if it has one, and the path.
    pub outputs: Vec<(Option<String>, String)>,
    /// What its own part of the request said, by which its result is told from its neighbours'.
    pub user: String,
    /// What the result must be like, if it is data.
    pub schema: Option<Value>,
    /// What people call the piece of a collection that it is, if it is one.
    #[serde(default)]
    pub piece: Option<String>,
}

impl Round {
    /// The action keys of its tasks.
    pub fn keys(&self) -> impl Iterator<Item = Digest> {
        self.requests.iter().flat_map(|posted| &posted.tasks).map(|wanted| wanted.key)
    }

    /// How many tasks it is for.
    pub fn tasks(&self) -> usize {
        self.requests.iter().map(|posted| posted.tasks.len()).sum()
    }
}
